"""Checks of gradients against numerical differences, and of adjoints by their defining identity.

The derivative of ``φ(x) = ⟨v, f(x)⟩`` along a direction d is ``⟨∇φ, d⟩``.  ``backward()`` computes ∇φ; differences of
φ give the derivative numerically.  Both v and d are random, because special choices hide errors: if v is all ones the
true gradient of a softmax is zero, and single elements may not show a transposed gradient.

Two steps are used, h and h/2.  For a smooth f the central differences D(h) and D(h/2) differ by O(h²), and
``(4 D(h/2) − D(h))/3`` has an error of O(h⁴).  The fourth difference of the same five values is O(h⁴) too.  A kink
(ReLU at 0, a tie in max pooling) makes it O(h), even if the central differences happen to agree with the gradient.  The
contribution of rounding to it is the same at every h; if rounding hides the derivative, larger steps are tried.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..arrays import backend
from ..arrays.types import Array, Shape, Values
from ..errors import shown
from .core import Tensor

STEP = 2e-4
EPS = np.finfo(np.float64).eps
CLOSER = (STEP / 16, STEP / 256)  # steps small enough to stay on one side of a kink nearby
KINK = 1e-4  # a fourth difference above this share of the derivative means a kink
HIDDEN = 30  # if the error of the differences exceeds this many times rtol, nothing can be compared


class GradcheckError(AssertionError):
    """A gradient is wrong or cannot be checked; the message says which element, by how much, at which step."""

    def __str__(self) -> str:
        return shown(super().__str__())


def gradcheck(
    fn: Callable[..., Tensor], *tensors: Tensor | Values, draws: int = 5, rtol: float = 1e-6, elementwise: bool = False,
    seed: int = 0,
) -> bool:  # fmt: skip
    """Check the gradients that backward() computes for `fn` against numerical ones.

    Parameters
    ----------
    fn : callable
        ``fn(*tensors) -> Tensor``.  It must be deterministic (seed dropout inside it).
    *tensors : Tensor or array
        The inputs, in float64.  Arrays and tensors with ``requires_grad`` are checked; other tensors are constants.
    draws : int
        The number of random cotangents v, each with one random direction for each input.
    rtol : float
        The allowed relative error of an element of the gradient.  Along a direction d, in ⟨∇φ, d⟩ with
        ``φ(x) = ⟨v, f(x)⟩``, independent errors partly cancel: allowed is `rtol` times the root of the sum of the
        squared terms, plus the error of the numerical derivative, mainly the rounding of φ.
    elementwise : bool
        Whether to compare every element of every gradient instead of directions.  This is slower, but sees more.
    seed : int

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradcheckError
        If a gradient is wrong (the message names the input, the element, both values and the step), or has another
        shape or dtype than its input; if `fn` changed an input or the upstream gradient, or is not deterministic; if
        ``f(a, a)`` does not give its repeated operand the sum of two gradients; if the point is at a kink; if the
        rounding of φ hides its derivative; if an input is float32, whose rounding (1e-7 relative, 1e-3 after division
        by a small step) would hide a wrong gradient.

    Notes
    -----
    A direction does not show one wrong element among n of similar size if its error is less than a few √n·`rtol` (for
    10,000 elements, about a thousandth), nor an element that is smaller than `rtol` times the others.
    ``elementwise=True`` shows both.

    Differences cannot show a gradient that would change φ by less than the rounding error of φ if every x changed by
    its own size (such a gradient counts as zero), nor a kink that is less than 1e-4 as steep as the function or lies a
    little farther away than the step.
    """
    inputs = [t if isinstance(t, Tensor) else Tensor(t, requires_grad=True) for t in tensors]
    checked = [i for i, t in enumerate(inputs) if t.requires_grad]
    if not checked:
        raise GradcheckError("nothing to check: no input requires a gradient")
    for i in checked:
        if inputs[i].dtype != np.float64:
            raise GradcheckError(
                f"input {i} is {inputs[i].dtype}, but gradients can only be checked in float64 (in float32 a "
                "difference has about three digits, and a wrong gradient would pass): use x.astype('float64')"
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
    noise: float  # the rounding error of φ, divided by the step
    kink: float  # the fourth difference, divided by the step: large if the function is not smooth
    bend: float  # the difference of D(h) and D(h/2)

    def error(self, scale):
        """The possible error of `value`: rounding, and the O(h⁴) of (4 D(h/2) − D(h))/3."""
        return self.noise + (self.bend * (self.bend / scale) if scale else 0.0)


class _Problem:
    """The function at one point: its values, its gradients, and their comparison."""

    def __init__(self, fn, arrays, requires):
        self.fn, self.arrays, self.requires = fn, arrays, requires
        self.value = self.evaluate()

    def tensors(self):
        return [Tensor(a.copy(), requires_grad=r) for a, r in zip(self.arrays, self.requires)]

    def evaluate(self, i=None, array=None):
        """The value of the function, with input i replaced by `array`."""
        values = [array if j == i else a for j, a in enumerate(self.arrays)]
        return self.call([Tensor(a.copy()) for a in values]).data

    def call(self, tensors):
        out = self.fn(*tensors)
        if not isinstance(out, Tensor):
            raise GradcheckError(f"the function must return a Tensor, but it returned {type(out).__name__}")
        return out

    def gradients(self, v):
        """The gradients of backward(), after checks of all requirements other than their values."""
        runs = []
        for _ in range(2):
            tensors = self.tensors()
            out = self.call(tensors)
            gy = v.copy()
            out.backward(gy)
            for i, (t, a) in enumerate(zip(tensors, self.arrays)):
                if not _same(t.data, a):
                    raise GradcheckError(f"input {i} was changed in place: compute on a copy")
                if t.grad is not None and (t.grad.shape != a.shape or t.grad.dtype != a.dtype):
                    raise GradcheckError(
                        f"the gradient of input {i} is {t.grad.dtype} {t.grad.shape}, the input {a.dtype} {a.shape}: "
                        "they must be alike"
                    )
            if not _same(gy, v):
                raise GradcheckError("the upstream gradient was changed in place: compute on a copy")
            runs.append((out.data, [t.grad for t in tensors]))
        (y1, g1), (y2, g2) = runs
        if not _same(y1, y2) or not all(_same(a, b) for a, b in zip(g1, g2)):
            raise GradcheckError("two runs on the same input differ: seed the random numbers inside the function")
        for what, array in [("value", y1), *((f"gradient of input {i}", g) for i, g in enumerate(g1) if g is not None)]:
            if not bool(backend.of(array).isfinite(array).all()):
                raise GradcheckError(f"the {what} is not finite everywhere: choose another point")
        if not _same(y1, self.value):
            raise GradcheckError("the function gives another value if its inputs require no gradient")
        xp = backend.of(v)
        return [xp.zeros_like(a) if g is None else g for a, g in zip(self.arrays, g1)]

    def differences(self, i, v, direction, h):
        """The slope of φ along `direction` at the step h; None if the function is not finite there."""
        x = self.arrays[i]
        # The value is subtracted before the sum over v, so that large values that do not change add no rounding error.
        with np.errstate(all="ignore"):  # a large step may leave the function's domain
            up, down, near_up, near_down = (
                v * (self.evaluate(i, x + t * direction) - self.value) for t in (h, -h, h / 2, -h / 2)
            )
        coarse, fine = float((up - down).sum()) / (2 * h), float((near_up - near_down).sum()) / h
        fourth = _norm(up + down - 4 * (near_up + near_down)) / h
        if not np.isfinite([coarse, fine, fourth]).all():
            return None
        moved = (up != 0) | (down != 0)  # only values that change have a rounding error
        noise = 8 * EPS * _norm(v * self.value * (moved | ~moved.any())) / h
        return _Slope(h, (4 * fine - coarse) / 3, noise, fourth, abs(coarse - fine))

    def compare(self, checked, i, v, direction, gradient, rtol, closer=CLOSER):
        """(analytic, numeric, step) if backward() and the differences disagree along a direction, None if they agree.

        Steps are tried until one gives the derivative to `rtol`.  Smaller steps avoid a kink nearby.  Larger steps, up
        to one that moves every x by its own size, make the change of φ larger than its rounding error.
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
            raise GradcheckError(f"{checked}: the function is not finite at a step of {STEP:g}: choose another point")
        slope, error, scale = best
        allowed, off = rtol * scale + error, abs(analytic - slope.value)
        if slope.kink > KINK * scale + 10 * slope.noise or allowed < off <= allowed + slope.kink:
            raise _refusal(checked, tried, scale)
        if size <= 16 * EPS * _norm(v * self.value) / max(reach, 1) and abs(slope.value) <= error:
            return None  # the change of φ is not above its rounding error at any step
        if error > HIDDEN * rtol * scale:
            raise GradcheckError(
                f"{checked}: cannot be checked here: the value is so large that the rounding error of its differences "
                f"is {error:.1g}, for a derivative of {scale:.1g}"
            )
        return None if off <= allowed else (analytic, slope.value, slope.step)

    def compare_direction(self, i, v, gradient, rng, rtol):
        x = self.arrays[i]
        d = rng.standard_normal(x.shape)
        d = np.where(d < 0, -1, 1) * np.maximum(abs(d), 0.1)  # every element moves, some only a little
        d = backend.of(x).asarray(d / max(np.linalg.norm(d), 1)) * _sizes(x)
        checked = f"input {i}, shape {x.shape}, along a random direction"
        if wrong := self.compare(checked, i, v, d, gradient, rtol):
            named = None
            with suppress(GradcheckError):  # a single element may be too small to compare
                _, named = self.compare_element(i, v, gradient, self.suspect(i, v, gradient, d), rtol)
            raise GradcheckError(named or _verdict(checked, *wrong))

    def suspect(self, i, v, gradient, direction):
        """The element that causes the error along a direction, found by keeping the half with the larger error."""
        shape, xp = direction.shape, backend.of(direction)
        part = np.arange(direction.size)

        def off(half):
            mask = np.zeros(direction.size)
            mask[half] = (direction.size / half.size) ** 0.5  # fewer elements take larger steps, against rounding
            d = direction * xp.asarray(mask.reshape(shape))
            slope = self.differences(i, v, d, STEP)
            return abs(float((gradient * d).sum()) - slope.value) / mask[half[0]] if slope else 0.0

        while part.size > 1:
            part = max(np.array_split(part, 2), key=off)
        return tuple(int(k) for k in np.unravel_index(part[0], shape))

    def compare_element(self, i, v, gradient, index, rtol):
        """The error of an element's gradient and a sentence about it; (0, None) if the gradient is right."""
        x = self.arrays[i]
        d = backend.of(x).zeros_like(x)
        d[index] = size = max(1.0, abs(float(x[index])))
        checked = f"input {i}, shape {x.shape}, element {index}"
        wrong = self.compare(checked, i, v, d, gradient, rtol, closer=())
        if wrong is None:
            return 0.0, None
        analytic, numeric, step = wrong
        return abs(analytic - numeric), _verdict(checked, analytic / size, numeric / size, step)

    def compare_elements(self, i, v, gradient, rtol):
        verdicts = (self.compare_element(i, v, gradient, index, rtol) for index in np.ndindex(self.arrays[i].shape))
        _, worst = max(verdicts, key=lambda verdict: verdict[0], default=(0.0, None))
        if worst:
            raise GradcheckError(worst)

    def check_repeated_operands(self, rng, rtol):
        """Check that in f(a, a) the gradient of a is the sum of the two gradients of f(a, b) at b = a."""
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
    """Whether two arrays have the same bits (so NaN equals NaN)."""
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and backend.asnumpy(a).tobytes() == backend.asnumpy(b).tobytes()


def _norm(a):
    """√Σa², without overflow or underflow of the squares."""
    largest = float(abs(a).max()) if a.size else 0.0
    if not 0 < largest < np.inf:
        return largest
    a = a / largest
    return largest * float((a * a).sum()) ** 0.5


def _sizes(x):
    """The scale of each element's step: its absolute value, but at least 1."""
    return backend.of(x).maximum(abs(x), 1.0)


def _refusal(checked, tried, scale):
    """The error if no step gives the derivative, because of rounding or a kink.

    The fourth difference of a kink grows with the step; that of rounding does not.
    """
    near, *farther = sorted(tried, key=lambda slope: slope.step)
    if farther and farther[0].kink * farther[0].step < 8 * near.kink * near.step:
        return GradcheckError(
            f"{checked}: cannot be checked here: the differences are only rounding ({tried[0].kink:.1g})"
        )
    return GradcheckError(
        f"{checked}: the function has a kink here: within a step of {tried[0].step:g} its slope changes by "
        f"{tried[0].kink:.3g}, for a derivative of {scale:.3g}, so no numerical gradient exists: choose inputs away "
        "from ties and from zero"
    )


def _verdict(checked, analytic, numeric, step):
    return (
        f"{checked}: backward() gives {analytic:.10g}, differences give {numeric:.10g} "
        f"(off by {abs(analytic - numeric):.3g}), at steps {step:g} and {step / 2:g}, which agree with each other"
    )


def numerical_gradient(f: Callable[[Array], Array], x: Array, v: Array, h: float = 1e-5) -> Array:
    """The gradient of φ(x) = ⟨v, f(x)⟩, element by element: (φ(x + h·e) − φ(x − h·e)) / 2h.

    Parameters
    ----------
    f : callable
        A function of one array that returns an array.
    x, v : array
        The point, in float64; the cotangent, of the shape of f(x).
    h : float
        The step.  It is enlarged to 1e-10 of an element's size, below which rounding would lose it.  The error of the
        quotient is O(h²) for the curvature of f, plus O(ε/h) for rounding.

    Returns
    -------
    array
        The gradient, of the shape of `x`.

    Raises
    ------
    GradcheckError
        If x is not float64: rounding would lose the step in a smaller type.
    """
    if x.dtype != np.float64:
        raise GradcheckError(f"x is {x.dtype}, but differences need float64: use x.astype('float64')")
    xp = backend.of(x)
    gradient = xp.empty(x.shape, x.dtype)
    for index in np.ndindex(x.shape):
        step = xp.zeros(x.shape, x.dtype)
        step[index] = size = max(h, 1e-10 * abs(float(x[index])))
        gradient[index] = (v * (f(x + step) - f(x - step))).sum() / (2 * size)
    return gradient


def adjoint_check(
    fn: Callable, adjoint: Callable, *shapes: Shape, draws: int = 3, rtol: float = 1e-12, seed: int = 0
) -> bool:
    """Check ⟨Ax, y⟩ = ⟨x, Aᵀy⟩ for a linear `fn` and its `adjoint`, to twelve digits because no differences are taken.

    Parameters
    ----------
    fn, adjoint : callable
        A and Aᵀ, functions of one float64 array; they may return arrays or tensors.
    *shapes : tuple
        The shape of x and, optionally, the expected shape of ``fn(x)``.
    draws, rtol, seed
        The number of random pairs (x, y); the allowed difference relative to ‖Ax‖·‖y‖; the seed of the pairs.

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradcheckError
        If the two inner products differ or shapes do not match.
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
