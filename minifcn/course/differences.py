"""Describe in a sentence how a result differs from the right one: transposed, shifted, its sign wrong, …"""

import itertools

import numpy as np

from .wire import Other

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
ONLY_FIRST = {0: "only the first sample is right", 1: "only the first channel is right"}  # by the axis of maps


RETURNS = "it returns {got}, but should return {right}"
RETURNS_ONE = "it returns {got}, but should return {count} values"
RETURNS_MANY = "it returns {got} values, but should return {count}"


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
            return RETURNS_ONE.format(got=called(got), count=len(right)), None, None
        if len(got) != len(right):
            return RETURNS_MANY.format(got=len(got), count=len(right)), None, None
        least = least or 1e-12 * _largest(right)
        for number, (a, b) in enumerate(zip(got, right), 1):
            if found := difference(a, b, rtol, least):
                return _part(number, len(right), found[0]), *found[1:]
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
            else (RETURNS.format(got=called(got), right=right), None, None)
        )
    if isinstance(got, dict) and "tensor" in got:
        return "it returns a Tensor; return its array", None, None
    if not isinstance(got, np.ndarray | int | float):
        return RETURNS.format(got=called(got), right=called(right)), None, None
    a, b = np.asarray(got), np.asarray(right)
    if a.dtype.kind == "O":
        return "it is an integer of more than 64 bits", None, None
    if a.shape != b.shape:
        clauses = ["its shape is {got}, but should be {right}".format(got=a.shape, right=b.shape)]
        return ": ".join(clauses + _permuted(a, b, rtol)), a, b
    if isinstance(right, np.ndarray) and a.dtype != b.dtype:
        return f"its dtype is {a.dtype}, but should be {b.dtype}", a, b
    if close(a, b, rtol, least):
        return None
    with np.errstate(all="ignore"):  # infinite values would warn
        return _values(a, b, rtol), a, b


def _part(number, count, what):
    """A sentence on one of the `count` results of an answer; `what` says how it differs."""
    if count == 1:
        return "the only value that it returns is wrong: {what}".format(what=what)
    if number <= len(ORDINALS):
        sentence = "the {ordinal} of the {count} values that it returns is wrong: {what}"
        return sentence.format(ordinal=ORDINALS[number - 1], count=count, what=what)
    sentence = "value number {number} of the {count} values that it returns is wrong: {what}"
    return sentence.format(number=number, count=count, what=what)


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
    """A clause that the values are right but the axes have another order, or another shape, in a list; else none."""
    if a.ndim == b.ndim <= 5 and a.size == b.size:
        for axes in itertools.permutations(range(b.ndim)):
            if b.transpose(axes).shape == a.shape and close(a, b.transpose(axes), rtol):
                return ["its axes are in the order {axes}".format(axes=axes)]
    if a.size == b.size and close(a.ravel(), b.ravel(), rtol):
        return ["its values are right, only the shape is not"]
    return []


def _values(a, b, rtol):
    """A sentence on how two arrays of the same shape differ."""
    if a.dtype.kind == "f" and not np.isfinite(a).all() and np.isfinite(b).all():
        count = int((~np.isfinite(a)).sum())
        one, many = "one of its {size} values is not finite", "{count} of its {size} values are not finite"
        return (one if count == 1 else many).format(count=count, size=a.size)
    if a.ndim == 0:
        got, right = _apart(a.item(), b.item())
        return "it is {got}, but should be {right}".format(got=got, right=right)
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
    return "; ".join([*_wrong_values(a, b, rtol), _worst(a, b)])


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
    """Clauses on how many values are wrong, and where: at the border, or outside the first sample or channel."""
    scale = rtol * float(abs(np.where(np.isfinite(b), b, 0)).max())
    with np.errstate(invalid="ignore"):
        wrong = ~((abs(a - b) <= scale) | (a == b))
    count = int(wrong.sum())
    one, many = "one of its {size} values is wrong", "{count} of its {size} values are wrong"
    yield (one if count == 1 else many).format(count=count, size=a.size)
    if a.ndim == 4 and min(a.shape[2:]) > 2 and not wrong[:, :, 1:-1, 1:-1].any():
        yield "all of them are at the border"
        return
    for axis, clause in list(ONLY_FIRST.items())[: max(a.ndim - 2, 0)]:
        right = ~wrong.any(axis=tuple(i for i in range(a.ndim) if i != axis))
        most = 2 * wrong.sum() > a.size - a.size // a.shape[axis]  # most values outside the first are wrong
        if a.shape[axis] > 1 and right[0] and right.sum() == 1 and most:
            yield clause
            return


def _worst(a, b):
    with np.errstate(invalid="ignore"):
        error = np.nan_to_num(abs(a.astype(float) - b), nan=np.inf, posinf=np.inf)
    at = np.unravel_index(error.argmax(), a.shape)
    got, right = _apart(a[at].item(), b[at].item())
    place = ", ".join(map(str, map(int, at)))
    return "the worst, at [{place}], is {got}, but should be {right}".format(place=place, got=got, right=right)


def _apart(value, other):
    """Two numbers as text, with enough digits to show that they differ."""
    digits = next((d for d in range(4, 17) if f"{value:.{d}g}" != f"{other:.{d}g}"), 17)
    return _number(value, digits), _number(other, digits)


def _number(value, digits=4):
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
