"""Numerical gradients that can be trusted, and the adjoint identity.

The derivative of ``φ(x) = ⟨v, f(x)⟩`` along a random direction d is ``⟨∇φ, d⟩``.  backward() gives the left factor
exactly; differences of φ give the product numerically.  Random v and d matter: with v all ones the gradient of a
softmax is zero whatever backward returns, and with one element at a time a transposed gradient can hide.

Two step sizes are used, h and h/2.  For a smooth f the central differences D(h) and D(h/2) differ by O(h²), and
``(4 D(h/2) − D(h))/3`` is right to O(h⁴).  The fourth difference of the same five values is O(h⁴) as well.  A kink
(ReLU at 0, a tie in max pooling) leaves O(h) in it, even where the central differences happen to agree with the
gradient.  Rounding leaves the same amount at every h: where it hides the derivative, larger steps are tried.
"""

from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..arrays import backend
from ..errors import shown
from .core import Tensor

STEP = 2e-4
EPS = np.finfo(np.float64).eps
CLOSER = (STEP / 16, STEP / 256)  # steps that pass by a kink nearby
KINK = 1e-4  # a fourth difference of more than this share of the derivative is no smooth function's
HIDDEN = 30  # rounding that hides more than this many times rtol leaves nothing to compare


class GradcheckError(AssertionError):
    """A gradient is wrong, or cannot be checked here.  The message says where, by how much, at which step."""

    def __str__(self):
        return shown(super().__str__())


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
        Allowed relative error of an element of the gradient.  Along a direction the errors of many elements add like
        random numbers, so the allowed difference is `rtol` times the root of the summed squares of the terms of
        ⟨∇φ, d⟩, plus the rounding of φ itself.
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
        operand ``f(a, a)`` does not receive the sum of its two gradients; if the point is at a kink; if the rounding of
        φ hides its derivative; or for float32 input, because its rounding (1e-7 relative, 1e-3 after division by a
        small step) would drown a wrong gradient.

    Notes
    -----
    What a direction cannot show: one wrong element among n of similar size if it is wrong by less than a few √n·`rtol`
    (one of 10,000: by less than about a thousandth), or an element that is itself smaller than `rtol` of the others;
    ``elementwise=True`` sees these.  What no difference can show: a gradient that would change φ by less than φ's own
    rounding if every x moved by its own size (such a gradient is taken for zero), and a kink far less steep than the
    function itself (less than 1e-4 of it), or one that lies a little farther away than the step.
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
        v = backend.of(problem.value).asarray(rng.standard_normal(problem.value.shape))
        gradients = problem.gradients(v)
        for i in checked:
            if elementwise:
                problem.compare_elements(i, v, gradients[i], rtol)
            else:
                problem.compare_direction(i, v, gradients[i], rng, rtol)
    problem.check_repeated_operands(rng, rtol)
    return True


@dataclass(frozen=True)
class _Slope:
    """The derivative of φ along a direction, from differences at one step."""

    step: float
    value: float
    noise: float  # the rounding of φ, divided by the step
    kink: float  # the fourth difference, divided by the step: what is neither smooth nor linear
    bend: float  # by how much D(h) and D(h/2) differ

    def error(self, scale):
        """By how much `value` may be wrong: its rounding, and the h⁴ that (4 D(h/2) − D(h))/3 leaves."""
        return self.noise + (self.bend * (self.bend / scale) if scale else 0.0)


class _Problem:
    """fn at one point: values, gradients, and the comparison of the two."""

    def __init__(self, fn, arrays, requires):
        self.fn, self.arrays, self.requires = fn, arrays, requires
        self.value = self.evaluate()

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
            if not bool(backend.of(array).isfinite(array).all()):
                raise GradcheckError(f"the {what} is not finite everywhere here")
        if not _same(y1, self.value):
            raise GradcheckError("the function gives another value when no gradient is wanted")
        xp = backend.of(v)
        return [xp.zeros_like(a) if g is None else g for a, g in zip(self.arrays, g1)]

    def differences(self, i, v, direction, h):
        """The slope of φ along `direction` at the step h; None where fn is not finite so far away."""
        x = self.arrays[i]
        # subtracted before they are summed over v: what is large and does not change leaves no rounding
        with np.errstate(all="ignore"):  # a large step may leave the function's domain
            up, down, near_up, near_down = (
                v * (self.evaluate(i, x + t * direction) - self.value) for t in (h, -h, h / 2, -h / 2)
            )
        coarse, fine = float((up - down).sum()) / (2 * h), float((near_up - near_down).sum()) / h
        fourth = _norm(up + down - 4 * (near_up + near_down)) / h
        if not np.isfinite([coarse, fine, fourth]).all():
            return None
        moved = (up != 0) | (down != 0)  # what does not change at all has no rounding
        noise = 8 * EPS * _norm(v * self.value * (moved | ~moved.any())) / h
        return _Slope(h, (4 * fine - coarse) / 3, noise, fourth, abs(coarse - fine))

    def compare(self, where, i, v, direction, gradient, rtol, closer=CLOSER):
        """(analytic, numeric, step) where backward() and differences disagree along a direction, None where they agree.

        Steps are tried until one shows the derivative to `rtol`: closer ones pass by a kink nearby, farther ones, until
        every x has moved by its own size, rise above rounding.
        """
        terms = gradient * direction
        analytic, size, reach = float(terms.sum()), _norm(terms), float((direction != 0).sum()) ** 0.5
        tried, best, clear = [], None, False
        farther = dict.fromkeys(min(STEP * 16**k, reach) for k in range(1, 8))
        for h in (STEP, *closer, *farther):
            slope = self.differences(i, v, direction, h)
            if slope is None:
                continue
            tried.append(slope)
            scale = max(size, abs(slope.value))
            error = slope.error(scale)
            if error + slope.kink <= rtol * scale and abs(analytic - slope.value) <= rtol * scale + error:
                return None
            if best is None or (not clear and error + slope.kink < best[1] + best[0].kink):
                best, clear = (slope, error, scale), error + slope.kink <= rtol * scale
        if best is None:
            raise GradcheckError(f"{where}: the function is not finite at a step of {STEP:g}: choose another point")
        slope, error, scale = best
        allowed, off = rtol * scale + error, abs(analytic - slope.value)
        if slope.kink > KINK * scale + 10 * slope.noise or allowed < off <= allowed + slope.kink:
            raise _refusal(where, tried, scale)
        if size <= 16 * EPS * _norm(v * self.value) / max(reach, 1) and abs(slope.value) <= error:
            return None  # no more than the rounding of φ at any step
        if error > HIDDEN * rtol * scale:
            raise GradcheckError(
                f"{where}: cannot be checked here: the value is so large that differences are rounding ({error:.1g} "
                f"beside a derivative of {scale:.1g})"
            )
        return None if off <= allowed else (analytic, slope.value, slope.step)

    def compare_direction(self, i, v, gradient, rng, rtol):
        x = self.arrays[i]
        d = rng.standard_normal(x.shape)
        d = np.where(d < 0, -1, 1) * np.maximum(abs(d), 0.1)  # every element moves, some of them little
        d = backend.of(x).asarray(d / max(np.linalg.norm(d), 1)) * _sizes(x)
        where = f"input {i}, shape {x.shape}, along a random direction"
        if wrong := self.compare(where, i, v, d, gradient, rtol):
            named = None
            with suppress(GradcheckError):  # one element by itself may be too small to compare
                _, named = self.compare_element(i, v, gradient, self.suspect(i, v, gradient, d), rtol)
            raise GradcheckError(named or _verdict(where, *wrong))

    def suspect(self, i, v, gradient, direction):
        """The element to blame for what a direction shows: the half that is farther off is halved, down to one."""
        shape, xp = direction.shape, backend.of(direction)
        part = np.arange(direction.size)

        def off(half):
            mask = np.zeros(direction.size)
            mask[half] = (direction.size / half.size) ** 0.5  # few elements move farther: less rounding
            d = direction * xp.asarray(mask.reshape(shape))
            slope = self.differences(i, v, d, STEP)
            return abs(float((gradient * d).sum()) - slope.value) / mask[half[0]] if slope else 0.0

        while part.size > 1:
            part = max(np.array_split(part, 2), key=off)
        return tuple(int(k) for k in np.unravel_index(part[0], shape))

    def compare_element(self, i, v, gradient, index, rtol):
        """By how much one element is off, and the verdict; (0, None) if it is not."""
        x = self.arrays[i]
        d = backend.of(x).zeros_like(x)
        d[index] = size = max(1.0, abs(float(x[index])))
        where = f"input {i}, shape {x.shape}, element {index}"
        wrong = self.compare(where, i, v, d, gradient, rtol, closer=())
        if wrong is None:
            return 0.0, None
        analytic, numeric, step = wrong
        return abs(analytic - numeric), _verdict(where, analytic / size, numeric / size, step)

    def compare_elements(self, i, v, gradient, rtol):
        verdicts = (self.compare_element(i, v, gradient, index, rtol) for index in np.ndindex(self.arrays[i].shape))
        _, worst = max(verdicts, key=lambda verdict: verdict[0], default=(0.0, None))
        if worst:
            raise GradcheckError(worst)

    def check_repeated_operands(self, rng, rtol):
        """f(a, a) must receive the sum of what f(a, b) gives each, at b = a."""
        for i, j in combinations([k for k, r in enumerate(self.requires) if r], 2):
            if self.arrays[i].shape != self.arrays[j].shape:
                continue
            same = list(self.arrays)
            same[j] = same[i]
            apart = [Tensor(a.copy(), requires_grad=r) for a, r in zip(same, self.requires)]
            out = self.fn(*apart)
            v = backend.of(out.data).asarray(rng.standard_normal(out.shape))
            out.backward(v)
            together = [Tensor(a.copy(), requires_grad=r) for a, r in zip(same, self.requires)]
            together[j] = together[i]
            self.fn(*together).backward(v)
            xp = backend.of(v)
            parts = [xp.zeros_like(t.data) if t.grad is None else t.grad for t in (apart[i], apart[j])]
            got = xp.zeros_like(parts[0]) if together[i].grad is None else together[i].grad
            if not _norm(got - sum(parts)) <= rtol * _norm(abs(parts[0]) + abs(parts[1])):
                raise GradcheckError(f"f(a, a) with one tensor as inputs {i} and {j} does not add its two gradients")


def _same(a, b):
    """Bitwise equality (NaN equals NaN)."""
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and backend.asnumpy(a).tobytes() == backend.asnumpy(b).tobytes()


def _norm(a):
    """√Σa², of numbers whose squares may overflow or vanish."""
    largest = float(abs(a).max()) if a.size else 0.0
    if not 0 < largest < np.inf:
        return largest
    a = a / largest
    return largest * float((a * a).sum()) ** 0.5


def _sizes(x):
    """What a step of each element is relative to: its own size, 1 at least."""
    return backend.of(x).maximum(abs(x), 1.0)


def _refusal(where, tried, scale):
    """The error where no step shows the derivative: what a kink adds grows with the step, rounding does not."""
    near, *farther = sorted(tried, key=lambda slope: slope.step)
    if farther and farther[0].kink * farther[0].step < 8 * near.kink * near.step:
        return GradcheckError(f"{where}: cannot be checked here: differences are rounding ({tried[0].kink:.1g})")
    return GradcheckError(
        f"{where}: the function has a kink here: within a step of {tried[0].step:g} its slope changes by "
        f"{tried[0].kink:.3g} beside {scale:.3g}. No numerical gradient exists there: choose inputs away from ties and "
        "from zero"
    )


def _verdict(where, analytic, numeric, step):
    return (
        f"{where}: backward() gives {analytic:.10g}, differences give {numeric:.10g} "
        f"(off by {abs(analytic - numeric):.3g}), at steps {step:g} and {step / 2:g}, which agree with each other"
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
        The step, 1e-10 of an element at least: a smaller one would be lost in its rounding.  The quotient is wrong by
        O(h²) for the bend of f, and by O(ε/h) for rounding.

    Returns
    -------
    array
        Of the shape of `x`.

    Raises
    ------
    GradcheckError
        If x is not float64: a smaller type would round the step away.
    """
    if x.dtype != np.float64:
        raise GradcheckError(f"x is {x.dtype}: differences need float64; use x.astype('float64')")
    xp = backend.of(x)
    gradient = xp.empty(x.shape, x.dtype)
    for index in np.ndindex(x.shape):
        step = xp.zeros(x.shape, x.dtype)
        step[index] = size = max(h, 1e-10 * abs(float(x[index])))
        gradient[index] = (v * (f(x + step) - f(x - step))).sum() / (2 * size)
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
        ax = _array(fn(x.copy()))
        if len(shapes) > 1 and ax.shape != tuple(shapes[1]):
            raise GradcheckError(f"fn maps {x.shape} to {ax.shape}, not to {tuple(shapes[1])}")
        y = rng.standard_normal(ax.shape)
        aty = _array(adjoint(y.copy()))
        if aty.shape != x.shape:
            raise GradcheckError(f"fn maps {x.shape} to {ax.shape}, but the adjoint maps back to {aty.shape}")
        left, right = float((ax * y).sum()), float((x * aty).sum())
        scale = max(_norm(ax) * _norm(y), _norm(x) * _norm(aty))
        if not abs(left - right) <= rtol * scale:
            raise GradcheckError(
                f"not adjoint: ⟨Ax, y⟩ = {left:.15g} but ⟨x, Aᵀy⟩ = {right:.15g} on draw {draw}, a difference of "
                f"{abs(left - right) / scale if scale else np.inf:.3g} of ‖Ax‖·‖y‖ (allowed {rtol:g})"
            )
    return True


def _array(value):
    return value.numpy() if isinstance(value, Tensor) else backend.asnumpy(value)
