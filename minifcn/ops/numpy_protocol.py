"""What NumPy functions and Python syntax do with a Tensor: ``np.exp(t)``, ``t == a``, ``f"{t:.3f}"``, ``for row in t``.

A NumPy function that has a corresponding operation returns a Tensor and is recorded for ``backward()``.  Every other
NumPy function computes with the values and returns what NumPy returns; it raises TypeError if that would lose a
required gradient.  Comparisons return arrays of booleans, as NumPy's do.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.core import Tensor, is_recording
from . import arithmetic, shape

UFUNCS: dict[Any, Callable] = {
    np.add: arithmetic.add, np.subtract: arithmetic.sub, np.multiply: arithmetic.mul, np.true_divide: arithmetic.div,
    np.negative: arithmetic.neg, np.positive: lambda x: x, np.absolute: arithmetic.abs, np.power: arithmetic.pow,
    np.exp: arithmetic.exp, np.log: arithmetic.log, np.matmul: arithmetic.matmul,
}  # fmt: skip
FUNCTIONS: dict[Any, Callable] = {
    np.sum: arithmetic.sum, np.mean: arithmetic.mean, np.max: arithmetic.max, np.amax: arithmetic.max,
    np.min: arithmetic.min, np.amin: arithmetic.min,
    np.concatenate: lambda tensors, axis=0: shape.concat(tensors, axis),
    np.reshape: lambda x, shape_: shape.reshape(x, shape_),
    np.transpose: lambda x, axes=(): shape.transpose(x, *(axes or ())),
}  # fmt: skip


def array_ufunc(self, ufunc, method, *inputs, **options):
    """Implement NumPy's protocol for ``np.exp(t)``, ``array + t``, ``np.add.reduce(t)``, ``array += t``."""
    if method == "__call__" and ufunc in UFUNCS and not options:
        return UFUNCS[ufunc](*inputs)
    if any(isinstance(out, Tensor) for out in options.get("out", ())):
        raise TypeError(f"np.{ufunc.__name__}(out=...) cannot write into a Tensor: give out=t.data")
    return _plain(getattr(ufunc, method), ufunc.__name__, inputs, options)


def array_function(self, function, types, inputs, options):
    """Implement NumPy's protocol for ``np.mean(t)``, ``np.concatenate([t, u])``, ``np.allclose(t, a)``."""
    if function in FUNCTIONS and options.keys() <= {"axis", "keepdims", "axes"}:
        return FUNCTIONS[function](*inputs, **options)
    return _plain(function, function.__name__, inputs, options)


def _plain(function, name, inputs, options):
    """The result of a NumPy function for the values; TypeError if a required gradient would be lost."""
    tensors = []
    inputs, options = _values(inputs, tensors), _values(options, tensors)
    wanted = any(t.requires_grad for t in tensors) and is_recording()
    # with out=, raise below before anything is written into it
    result = None if wanted and "out" in options else function(*inputs, **options)
    if wanted and (result is None or _has_numbers(result)):
        raise TypeError(
            f"np.{name} of a Tensor that requires a gradient would lose it: give np.{name} the values, t.data, or "
            "compute with mf.ops"
        )
    return result


def _has_numbers(result):
    """Whether a result has floating-point values, which would have a gradient."""
    if isinstance(result, tuple | list):
        return any(map(_has_numbers, result))
    return isinstance(result, float) or getattr(result, "dtype", np.dtype(bool)).kind == "f"


def _values(x, found):
    """`x` with each Tensor in it, at any depth, replaced by its array; the tensors are appended to `found`."""
    if isinstance(x, Tensor):
        found.append(x)
        return x.data
    if isinstance(x, tuple | list):
        return type(x)(_values(item, found) for item in x) if type(x) in (tuple, list) else x
    if isinstance(x, dict):
        return {key: _values(item, found) for key, item in x.items()}
    return x


def array(self, dtype=None, copy=None):
    """The values for ``np.asarray(t)``.  TypeError if they lie on a device."""
    if not isinstance(self.data, np.ndarray):
        raise TypeError(f"the values lie on {self.device}: t.numpy() copies them to the host")
    return np.array(self.data, dtype=dtype, copy=copy)


def _compared(compare):
    return lambda self, other: compare(self.data, other.data if isinstance(other, Tensor) else other)


def _method(name):
    """A method of Tensor that calls the method `name` of its array, without a gradient."""

    def method(self, *args, **options):
        return getattr(self.data, name)(*args, **options)

    method.__name__, method.__doc__ = name, f"The result of NumPy's ``{name}`` for the values, without a gradient."
    return method


def to_bool(self):
    """The truth value of a one-element tensor; ValueError for several elements."""
    return bool(self.data)


def to_text(self, form):
    """Implement ``f"{t:.3f}"`` for a tensor of one element."""
    if not form:
        return str(self)
    if self.size != 1:
        raise TypeError(f"{form!r} formats one number, but the tensor has the shape {self.shape}: format t.tolist()")
    return format(self.item(), form)


def rows(self):
    """The tensors along the first axis."""
    if self.ndim == 0:
        raise TypeError("a tensor without axes cannot be iterated over: use t.item()")
    return (self[i] for i in range(len(self)))


def refuse_assignment(self, index, value):
    """Raise TypeError for ``t[i] = v``, which has no gradient."""
    raise TypeError(
        "a Tensor's elements cannot be assigned: compute the values before making the tensor, or write into t.data of "
        "a tensor that no operation has used yet"
    )


def missing(self, name):
    """Raise AttributeError; for an attribute of NumPy's arrays, the message recommends ``t.data``."""
    if not name.startswith("_") and hasattr(np.ndarray, name):
        raise AttributeError(f"a Tensor has no {name!r}; its array has: t.data.{name}")
    raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def state(self):
    """The state for ``copy`` and ``pickle``: values and position.  A copy of a result is a leaf without gradient."""
    attributes, slots = object.__getstate__(self)
    return attributes, slots | dict(creator=None, requires_grad=self.requires_grad and self.creator is None)


def attach():
    """Add these methods to Tensor."""
    Tensor.__array_ufunc__, Tensor.__array_function__, Tensor.__array__ = array_ufunc, array_function, array
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(Tensor, f"__{name}__", _compared(getattr(operator, name)))
    Tensor.__hash__ = object.__hash__  # by identity, because == compares elements; sets and dicts can hold tensors
    Tensor.__bool__, Tensor.__format__, Tensor.__iter__, Tensor.__setitem__ = to_bool, to_text, rows, refuse_assignment
    Tensor.__contains__ = lambda self, x: bool((self == x).any())
    Tensor.__int__, Tensor.__float__ = lambda self: int(self.item()), lambda self: float(self.item())
    Tensor.__index__ = lambda self: operator.index(self.data)
    Tensor.__complex__ = lambda self: complex(self.item())
    Tensor.__round__ = lambda self, digits=None: round(self.item(), digits)
    Tensor.__abs__, Tensor.__pos__, Tensor.min = arithmetic.abs, lambda self: self, arithmetic.min
    for name in ("argmax", "argmin", "tolist", "any", "all"):
        setattr(Tensor, name, _method(name))
    Tensor.__getattr__, Tensor.__getstate__ = missing, state
