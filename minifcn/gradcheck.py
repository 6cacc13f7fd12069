"""Numerical gradients that can be trusted, and the adjoint identity.

The derivative of ``φ(x) = ⟨v, f(x)⟩`` along a random direction d is ``⟨∇φ, d⟩``.  backward() gives the left factor
exactly; differences of φ give the product numerically.  Random v and d matter: with v all ones the gradient of a
softmax is zero whatever backward returns, and with one element at a time a transposed gradient can hide.

Two step sizes are used, h and h/2.  For a smooth f the central differences D(h) and D(h/2) differ by O(h²), and
``(4 D(h/2) − D(h))/3`` is right to O(h⁴).  Across a kink (ReLU at 0, a tie in max pooling) they do not converge like
that, nor does the second difference shrink fourfold: then the point is at fault, not the gradient, and the error says
so.
"""

from itertools import combinations

import numpy as np

from . import backend
from .core import Tensor

STEP = 2e-4


class GradcheckError(AssertionError):
    """A gradient is wrong, or cannot be checked here.  The message says where, by how much, at which step."""


def gradcheck(fn, *tensors, draws=5, rtol=1e-6, elementwise=False, seed=0):
    """Check the gradients that backward() computes for `fn` against numerical ones.

    Parameters
    ----------
    fn : callable
        ``fn(*tensors) -> Tensor``.  It must be deterministic (seed dropout inside it).
    *tensors : Tensor or array
        float64.  Arrays, and tensors with ``requires_grad``, are checked; other tensors are constants.
    draws : int
        How many random cotangents v, each with one random direction per input.
    rtol : float
        Allowed difference, relative to the sum of the absolute terms of ⟨∇φ, d⟩ (so cancellation does not hide errors).
    elementwise : bool
        Instead of directions, compare every element of every gradient: slower, and good to look at.
    seed : int

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradcheckError
        If a gradient is wrong (which input, which element, both values, at which step), has another shape or dtype
        than its input; if the inputs or the upstream gradient were changed; if fn is not deterministic; if a repeated
        operand ``f(a, a)`` does not receive the sum of its two gradients; if the point is at a kink; or for float32
        input, because its rounding (1e-7 relative, 1e-3 after division by a small step) would drown a wrong gradient.
    """
    inputs = [t if isinstance(t, Tensor) else Tensor(t, requires_grad=True) for t in tensors]
    checked = [i for i, t in enumerate(inputs) if t.requires_grad]
    if not checked:
        raise GradcheckError("nothing to check: no input requires a gradient")
    for i in checked:
        if inputs[i].dtype != np.float64:
            raise GradcheckError(
                f"input {i} is {inputs[i].dtype}: gradients can only be checked in float64. In float32 a difference "
                "quotient is rounded to about three digits, and a wrong gradient would pass; use x.astype('float64')"
            )
    rng = np.random.default_rng(seed)
    arrays = [t.data.copy() for t in inputs]
    requires = [t.requires_grad for t in inputs]
    problem = _Problem(fn, arrays, requires)
    for _ in range(1 if elementwise else draws):
        y = problem.evaluate()
        v = backend.of(y).asarray(rng.standard_normal(y.shape))
        gradients = problem.gradients(v)
        for i in checked:
            if elementwise:
                problem.compare_elements(i, v, gradients[i], rtol)
            else:
                problem.compare_direction(i, v, gradients[i], rng, rtol)
    problem.check_repeated_operands(rng, rtol)
    return True


class _Problem:
    """fn at one point: values, gradients, and the comparison of the two."""

    def __init__(self, fn, arrays, requires):
        self.fn, self.arrays, self.requires = fn, arrays, requires

    def tensors(self):
        return [Tensor(a.copy(), requires_grad=r) for a, r in zip(self.arrays, self.requires)]

    def evaluate(self, i=None, array=None):
        """fn's value, with input i replaced by `array`."""
        values = [array if j == i else a for j, a in enumerate(self.arrays)]
        return self.call([Tensor(a.copy()) for a in values]).data

    def call(self, tensors):
        out = self.fn(*tensors)
        if not isinstance(out, Tensor):
            raise GradcheckError(f"the function must return a Tensor, it returned {type(out).__name__}")
        return out

    def gradients(self, v):
        """backward()'s gradients, after everything that must hold besides their values."""
        runs = []
        for _ in range(2):
            tensors = self.tensors()
            out = self.call(tensors)
            gy = v.copy()
            out.backward(gy)
            for i, (t, a) in enumerate(zip(tensors, self.arrays)):
                if not _same(t.data, a):
                    raise GradcheckError(f"input {i} was changed in place")
                if t.grad is not None and (t.grad.shape != a.shape or t.grad.dtype != a.dtype):
                    raise GradcheckError(
                        f"the gradient of input {i} is {t.grad.dtype} {t.grad.shape}, the input {a.dtype} {a.shape}"
                    )
            if not _same(gy, v):
                raise GradcheckError("the upstream gradient was changed in place")
            runs.append((out.data, [t.grad for t in tensors]))
        (y1, g1), (y2, g2) = runs
        if not _same(y1, y2) or not all(_same(a, b) for a, b in zip(g1, g2)):
            raise GradcheckError("two runs on the same input differ: seed whatever is random inside the function")
        for what, array in [("value", y1), *((f"gradient of input {i}", g) for i, g in enumerate(g1) if g is not None)]:
            if not np.isfinite(float(abs(array).sum())):
                raise GradcheckError(f"the {what} is not finite everywhere here")
        if not _same(y1, self.evaluate()):
            raise GradcheckError("the function gives another value when no gradient is wanted")
        xp = backend.of(v)
        return [xp.zeros_like(a) if g is None else g for a, g in zip(self.arrays, g1)]

    def differences(self, i, v, direction):
        """The numerical derivative along `direction`, its rounding noise, and how far the two steps disagree."""

        def phi(t):
            return float((v * self.evaluate(i, self.arrays[i] + t * direction)).sum())

        centre, h = phi(0), STEP
        coarse, fine = (phi(h), phi(-h)), (phi(h / 2), phi(-h / 2))
        d_coarse, d_fine = (coarse[0] - coarse[1]) / (2 * h), (fine[0] - fine[1]) / h
        bend_coarse, bend_fine = sum(coarse) - 2 * centre, sum(fine) - 2 * centre
        noise = 8 * np.finfo(np.float64).eps * float(abs(v * self.evaluate()).sum()) / h
        kink = max(abs(d_coarse - d_fine), abs(bend_coarse - 4 * bend_fine) / h)
        return (4 * d_fine - d_coarse) / 3, noise, kink

    def compare_direction(self, i, v, gradient, rng, rtol):
        x = self.arrays[i]
        d = rng.standard_normal(x.shape)
        d = np.where(d < 0, -1, 1) * np.maximum(abs(d), 0.1)  # every element moves, some of them little
        d *= max(1.0, float((x * x).mean()) ** 0.5 if x.size else 1.0) / max(np.linalg.norm(d), 1)
        d = backend.of(x).asarray(d)
        numeric, noise, kink = self.differences(i, v, d)
        terms = gradient * d
        analytic, scale = float(terms.sum()), max(float(abs(terms).sum()), abs(numeric))
        if noise > 1e-3 * max(scale, float((v * v).sum()) ** 0.5 * float((d * d).sum()) ** 0.5):
            raise GradcheckError(
                f"cannot be checked here: the value is so large that differences are rounding ({noise:.1g})"
            )
        if abs(analytic - numeric) <= rtol * scale + noise:
            return
        where = f"input {i}, shape {x.shape}, along a random direction"
        self.refuse_kink(where, kink, scale, noise)
        self.compare_elements(i, v, gradient, rtol)  # names the element, if one can be named
        raise GradcheckError(_verdict(where, analytic, numeric))

    def compare_elements(self, i, v, gradient, rtol):
        x = self.arrays[i]
        worst = None
        for index in np.ndindex(x.shape):
            d = backend.of(x).zeros_like(x)
            d[index] = max(1.0, abs(float(x[index])))
            numeric, noise, kink = self.differences(i, v, d)
            analytic = float(gradient[index]) * float(d[index])
            scale = max(abs(analytic), abs(numeric))
            excess = abs(analytic - numeric) - rtol * scale - noise
            if excess > 0 and (worst is None or excess > worst[0]):
                where = f"input {i}, shape {x.shape}, element {index}"
                self.refuse_kink(where, kink, scale, noise)
                worst = excess, _verdict(where, analytic / float(d[index]), numeric / float(d[index]))
        if worst:
            raise GradcheckError(worst[1])

    def refuse_kink(self, where, kink, scale, noise):
        if kink > 1e-4 * scale + 10 * noise:
            raise GradcheckError(
                f"{where}: the function has a kink here: between steps {STEP:g} and {STEP / 2:g} the differences do "
                f"not converge (they disagree by {kink:.3g} of {scale:.3g}). No numerical gradient exists there: "
                "choose inputs away from ties and from zero"
            )

    def check_repeated_operands(self, rng, rtol):
        """f(a, a) must receive the sum of what f(a, b) gives each, at b = a."""
        for i, j in combinations([k for k, r in enumerate(self.requires) if r], 2):
            if self.arrays[i].shape != self.arrays[j].shape:
                continue
            same = _Problem(self.fn, list(self.arrays), self.requires)
            same.arrays[j] = same.arrays[i]
            apart = same.tensors()
            out = self.fn(*apart)
            v = backend.of(out.data).asarray(rng.standard_normal(out.shape))
            out.backward(v)
            together = same.tensors()
            together[j] = together[i]
            self.fn(*together).backward(v)
            xp = backend.of(v)
            parts = [xp.zeros_like(t.data) if t.grad is None else t.grad for t in (apart[i], apart[j])]
            got = xp.zeros_like(parts[0]) if together[i].grad is None else together[i].grad
            if float(abs(got - sum(parts)).sum()) > rtol * float(abs(parts[0]).sum() + abs(parts[1]).sum()):
                raise GradcheckError(f"f(a, a) with one tensor as inputs {i} and {j} does not add its two gradients")


def _same(a, b):
    """Bitwise equality (NaN equals NaN)."""
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and backend.asnumpy(a).tobytes() == backend.asnumpy(b).tobytes()


def _verdict(where, analytic, numeric):
    return (
        f"{where}: backward() gives {analytic:.10g}, differences give {numeric:.10g} "
        f"(off by {abs(analytic - numeric):.3g}), at steps {STEP:g} and {STEP / 2:g}, which agree with each other"
    )


def numerical_gradient(f, x, v, h=1e-5):
    """The gradient of φ(x) = ⟨v, f(x)⟩, element by element: (φ(x + h·e) − φ(x − h·e)) / 2h.

    Parameters
    ----------
    f : callable
        Of one array; it returns an array.
    x, v : array
        The point, float64; the cotangent, of the shape of f(x).
    h : float
        The step.  The quotient is wrong by O(h²) for the bend of f, and by O(ε/h) for rounding.

    Returns
    -------
    array
        Of the shape of `x`.
    """
    xp = backend.of(x)
    gradient = xp.empty_like(x)
    for index in np.ndindex(x.shape):
        step = xp.zeros_like(x)
        step[index] = h
        gradient[index] = (v * (f(x + step) - f(x - step))).sum() / (2 * h)
    return gradient


def adjoint_check(fn, adjoint, *shapes, draws=3, rtol=1e-12, seed=0):
    """Check ⟨Ax, y⟩ = ⟨x, Aᵀy⟩ for a linear `fn` and its `adjoint`: no differences, so twelve digits.

    Parameters
    ----------
    fn, adjoint : callable
        A and Aᵀ, of one float64 array each; they may return arrays or tensors.
    *shapes : tuple
        The shape of x, and, if wanted, the shape of y (otherwise that of ``fn(x)``).
    draws, rtol, seed
        Random pairs tried; the difference allowed, relative to ‖Ax‖·‖y‖.

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradcheckError
        If the two inner products differ, or shapes do not match.
    """
    rng = np.random.default_rng(seed)
    for draw in range(draws):
        x = rng.standard_normal(shapes[0])
        ax = _array(fn(x))
        if len(shapes) > 1 and ax.shape != tuple(shapes[1]):
            raise GradcheckError(f"fn maps {x.shape} to {ax.shape}, not to {tuple(shapes[1])}")
        y = rng.standard_normal(ax.shape)
        aty = _array(adjoint(y))
        if aty.shape != x.shape:
            raise GradcheckError(f"fn maps {x.shape} to {ax.shape}, but the adjoint maps back to {aty.shape}")
        left, right = float((ax * y).sum()), float((x * aty).sum())
        scale = max(np.linalg.norm(ax) * np.linalg.norm(y), np.linalg.norm(x) * np.linalg.norm(aty))
        if not abs(left - right) <= rtol * scale:
            raise GradcheckError(
                f"not adjoint: ⟨Ax, y⟩ = {left:.15g} but ⟨x, Aᵀy⟩ = {right:.15g} on draw {draw}, a difference of "
                f"{abs(left - right) / max(scale, 1e-300):.3g} of ‖Ax‖·‖y‖ (allowed {rtol:g})"
            )
    return True


def _array(value):
    return value.numpy() if isinstance(value, Tensor) else backend.asnumpy(value)
