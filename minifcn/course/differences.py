"""Describe in a sentence how a result differs from the right one: transposed, shifted, its sign wrong, …"""

import itertools

import numpy as np

from .wire import Other

AXES = {2: ("rows", "columns"), 3: ("samples", "rows", "columns"), 4: ("samples", "channels", "H", "W")}


def difference(got, right, rtol, least=0.0):
    """A sentence on how `got` differs from `right`, and the two arrays that differ; None if they agree.

    Parameters
    ----------
    got, right
        Arrays, numbers or None, or tuples or dicts of them.
    rtol : float
        Allowed difference, relative to the largest absolute value of `right`.
    least : float
        Least allowed difference in absolute terms, for arrays that are 0 up to rounding.  For a tuple or a dict the
        default comes from its largest value.

    Returns
    -------
    None or (str, got, right)
    """
    if isinstance(right, tuple | list):
        if not isinstance(got, tuple | list):
            return f"it returns {called(got)}, but should return {len(right)} values", None, None
        if len(got) != len(right):
            return f"it returns {len(got)} values, but should return {len(right)}", None, None
        least = least or 1e-12 * _largest(right)
        for number, (a, b) in enumerate(zip(got, right), 1):
            if found := difference(a, b, rtol, least):
                return f"value {number} of {len(right)}: {found[0]}", *found[1:]
        return None
    if isinstance(right, dict):
        least = least or 1e-12 * _largest(list(right.values()))
        for name, b in right.items():
            if found := difference(got.get(name) if isinstance(got, dict) else None, b, rtol, least):
                return f"{name}: {found[0]}", *found[1:]
        return None
    if right is None or isinstance(right, str | bool):
        return (
            None
            if type(got) is type(right) and got == right
            else (f"it returns {called(got)}, but should return {right}", None, None)
        )
    if isinstance(got, dict) and "tensor" in got:
        return "it returns a Tensor; return its array", None, None
    if not isinstance(got, np.ndarray | int | float):
        return f"it returns {called(got)}, but should return {called(right)}", None, None
    a, b = np.asarray(got), np.asarray(right)
    if a.dtype.kind == "O":
        return "it is an integer of more than 64 bits", None, None
    if a.shape != b.shape:
        return f"its shape is {a.shape}, but should be {b.shape}{_permuted(a, b, rtol)}", a, b
    if isinstance(right, np.ndarray) and a.dtype != b.dtype:
        return f"its dtype is {a.dtype}, but should be {b.dtype}", a, b
    if close(a, b, rtol, least):
        return None
    with np.errstate(all="ignore"):  # infinite values would warn
        return _values(a, b, rtol), a, b


def close(a, b, rtol, least=0.0):
    """Whether two arrays of the same shape agree, relative to the largest absolute value of `b`, the right one."""
    if a.dtype.kind in "bui" and b.dtype.kind in "bui":
        return bool((a == b).all())
    if b.dtype == np.float32:
        rtol = max(rtol, 1e-4)
    allowed = max(rtol * _largest(b), least)
    with np.errstate(invalid="ignore"):
        return bool(((abs(a - b) <= allowed) | (a == b) | ((a != a) & (b != b))).all())


def _largest(value):
    """The largest finite absolute value in an array, or in several."""
    if isinstance(value, tuple | list):
        return max(map(_largest, value), default=0.0)
    if not isinstance(value, np.ndarray | int | float):
        return 0.0
    array = abs(np.asarray(value, dtype=float))
    return float(array[np.isfinite(array)].max(initial=0.0))


def called(value):
    """The kind of a result, in words."""
    if value is None:
        return "nothing (is a `return` missing?)"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, Other):
        return f"something of type {value.name}"
    if isinstance(value, dict):
        return "a Tensor" if "tensor" in value else "a dict"
    return f"a {type(value).__name__}"


def _permuted(a, b, rtol):
    """A note that the values are right but the axes have another order, or another shape; "" otherwise."""
    if a.ndim == b.ndim <= 5 and a.size == b.size:
        for axes in itertools.permutations(range(b.ndim)):
            if b.transpose(axes).shape == a.shape and close(a, b.transpose(axes), rtol):
                return f": its axes are in the order {axes}"
    if a.size == b.size and close(a.ravel(), b.ravel(), rtol):
        return ": its values are right, only the shape is not"
    return ""


def _values(a, b, rtol):
    """A sentence on how two arrays of the same shape differ."""
    if a.dtype.kind == "f" and not np.isfinite(a).all() and np.isfinite(b).all():
        return f"{_share(~np.isfinite(a))} not finite"
    if a.ndim == 0:
        return "it is {}, but should be {}".format(*_apart(a.item(), b.item()))
    if not a.any():
        return "it is zero everywhere"
    for what, right in _relatives(b):
        if right.shape == b.shape and close(a, right, rtol) and not close(b, right, rtol):
            return what
    if b.any() and a.dtype.kind == "f":
        factor = float((a * b).sum() / (b * b).sum())
        if close(a, factor * b, rtol):
            return (
                "its sign is wrong everywhere"
                if abs(factor + 1) < 1e-6
                else f"it is {_number(factor)} times the right result"
            )
        if a.size > 1 and close(a, b + (a - b).mean(), rtol):
            return f"it is the right result plus {_number(float((a - b).mean()))} everywhere"
    return f"{_wrong_values(a, b, rtol)}{_worst(a, b)}"


def _relatives(b):
    """Common wrong versions of the right result `b`, as pairs (sentence, array)."""
    if b.ndim >= 2:
        yield (
            "it is transposed: it equals the right result with its last two axes, H and W, swapped",
            b.swapaxes(-1, -2),
        )
        yield "its first two axes are swapped", b.swapaxes(0, 1)
        yield "it is turned by 180 degrees: it equals the right result with H and W flipped", b[..., ::-1, ::-1]
        yield "it is upside down: H is flipped", b[..., ::-1, :]
    if b.ndim >= 1:
        yield "it is mirrored: its last axis is flipped", b[..., ::-1]
        yield "it is shifted by one along its last axis", np.roll(b, 1, -1)
        yield "it is shifted by one along its last axis", np.roll(b, -1, -1)


def _wrong_values(a, b, rtol):
    """How many values are wrong, and where, if they are at the border or outside the first sample or channel."""
    scale = rtol * float(abs(np.where(np.isfinite(b), b, 0)).max())
    with np.errstate(invalid="ignore"):
        wrong = ~((abs(a - b) <= scale) | (a == b))
    share = f"{_share(wrong)} wrong"
    if a.ndim == 4 and min(a.shape[2:]) > 2 and not wrong[:, :, 1:-1, 1:-1].any():
        return f"{share}, all of them at the border"
    for axis, name in enumerate(AXES.get(a.ndim, ())):
        right = ~wrong.any(axis=tuple(i for i in range(a.ndim) if i != axis))
        most = 2 * wrong.sum() > a.size - a.size // a.shape[axis]  # most values outside the first are wrong
        if a.shape[axis] > 1 and right[0] and right.sum() == 1 and most and name in ("samples", "channels"):
            return f"{share}: only the first of the {name} is right"
    return share


def _worst(a, b):
    with np.errstate(invalid="ignore"):
        error = np.nan_to_num(abs(a.astype(float) - b), nan=np.inf, posinf=np.inf)
    at = np.unravel_index(error.argmax(), a.shape)
    place = ", ".join(map(str, map(int, at)))
    return "; the worst, at [{}], is {}, but should be {}".format(place, *_apart(a[at].item(), b[at].item()))


def _share(which):
    """The beginning of a sentence on the values of a mask: "3 of its 9 values are"."""
    count = int(which.sum())
    return f"{count} of its {which.size} values {'is' if count == 1 else 'are'}"


def _apart(value, other):
    """Two numbers as text, with enough digits to show that they differ."""
    digits = next((d for d in range(4, 17) if f"{value:.{d}g}" != f"{other:.{d}g}"), 17)
    return _number(value, digits), _number(other, digits)


def _number(value, digits=4):
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
