"""A strict double of CuPy, made of NumPy: it refuses what CuPy refuses, and calls that CuPy silently does wrongly.

With ``sys.modules["cupy"] = strict_cupy`` (the fixture ``xp`` does this), ``tensor.to("cuda")`` gives its arrays.  It
computes with NumPy.  So it proves that CuPy accepts our calls and understands them as we mean them; it does not prove
that CuPy computes the same numbers.

Like CuPy it refuses: host arrays and lists as operands, implicit conversion, names and keywords that CuPy lacks
(cupy_api.json is a snapshot of those it has), 0-d arrays as integers.

CuPy accepts the following, but the double does not, or makes it visible:

- NumPy's functions on device arrays;
- reading ``empty``: the double fills it with NaN;
- index arrays out of bounds: CuPy wraps them around;
- assignment through repeated indices: CuPy assigns in undefined order;
- writing through ``as_strided`` and ``broadcast_to``;
- random numbers: CuPy's differ from the host's.

The double records every transfer between host and device: see :func:`counted`.
"""

import json
import operator
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np

API = json.loads(Path(__file__).with_name("cupy_api.json").read_text())
__version__ = f"{API['cupy']}, a double on NumPy {np.__version__}"
SCALARS = (bool, int, float, complex, np.generic)
# in every function, parameters with these names are arrays
OPERANDS = {"a", "b", "x", "y", "x1", "x2", "m", "ary", "arr", "array", "condition", "prototype", "v"}
SEQUENCES = {"tup", "arrays"}  # parameters with these names are sequences of arrays
INTEGERS = {"shape", "newshape", "axis", "axes", "pad_width"}  # parameters with these names are Python integers

_transfers = []  # ("up" | "down", shape): every transfer between host and device


@contextmanager
def counted():
    """Yield a list that receives the transfers inside at the end: ("up", shape) to the device, ("down", shape) back."""
    first, transfers = len(_transfers), []
    try:
        yield transfers
    finally:
        transfers += _transfers[first:]


def _transferred(direction, value):
    _transfers.append((direction, np.shape(value)))
    return value


def _host(value, call):
    """The arguments for NumPy: device arrays are unwrapped at any depth, host arrays are refused.

    `call` is the name of the called function, for messages.
    """
    if isinstance(value, ndarray):
        return value._values
    if isinstance(value, np.ndarray):
        raise TypeError(f"{call}: Unsupported type {type(value)}: a host array among device arrays")
    if isinstance(value, tuple | list):
        return type(value)(_host(v, call) for v in value)
    return value


def _device(value):
    """NumPy's result as device arrays; a scalar becomes a 0-d array, as in CuPy."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(value)
    if isinstance(value, tuple | list) and any(isinstance(v, np.ndarray | np.generic) for v in value):
        return type(value)(map(_device, value))
    return value


def _require_call(call, parameters, args, options):
    """Refuse arguments for which CuPy's function has no parameter, and arguments of a wrong kind."""
    names = parameters.split()
    star = next((i for i, name in enumerate(names) if name[0] == "*"), len(names))
    if "**kwargs" not in names and (unknown := options.keys() - set(names)):
        raise TypeError(f"{call}() got an unexpected keyword argument {unknown.pop()!r}; CuPy's takes ({parameters})")
    if len(args) > len(names) and star == len(names):
        raise TypeError(f"{call}() takes {len(names)} arguments, got {len(args)}; CuPy's takes ({parameters})")
    for name, value in (*((names[min(i, star)], v) for i, v in enumerate(args)), *options.items()):
        name = name.lstrip("*")
        if name in OPERANDS and value is not None:
            _require_operand(call, value)
        elif name in SEQUENCES:
            for v in value:
                _require_operand(call, v)
        elif name in INTEGERS and any(isinstance(v, ndarray) for v in np.atleast_1d(np.array(value, object)).flat):
            raise TypeError(f"{call}: 'ndarray' object cannot be interpreted as an integer")


def _require_operand(call, value):
    if not isinstance(value, (ndarray, *SCALARS)):
        raise TypeError(f"{call}: Unsupported type {type(value)}")


class Flags:
    """The flags of an array in CuPy, which has no read-only flag."""

    __slots__ = ("c_contiguous", "f_contiguous", "owndata")

    def __init__(self, flags):
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.f_contiguous, flags.owndata

    def __getitem__(self, name):
        return getattr(self, name.lower())


class ndarray:
    """A device array.  It is no subclass of numpy.ndarray, so that no method of NumPy works on it by accident."""

    __slots__ = ("_values",)
    __hash__ = None

    def __init__(self, values):
        values = np.asarray(values)
        if values.dtype.kind not in "biufc":
            raise ValueError(f"Unsupported dtype {values.dtype}")
        self._values = values

    # conversions that Python or NumPy would do implicitly

    def __array__(self, *args, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method == "__call__" and len(inputs) == 2 and isinstance(inputs[0], np.generic) and not options:
            return ndarray(ufunc(inputs[0], self._values))  # np.float32(2) * x
        raise TypeError(f"numpy.{ufunc.__name__} was given a device array: call xp.{ufunc.__name__}, on device arrays")

    def __array_function__(self, function, types, args, options):
        raise TypeError(f"numpy.{function.__name__} was given a device array: call xp.{function.__name__}")

    def __contains__(self, value):
        raise TypeError("`in` would compare on the host: use (x == value).any()")

    # transfers to the host; on a GPU each waits for the device

    def get(self, stream=None, order="C", out=None, blocking=True):
        return _transferred("down", self._values).copy(order=order)

    def item(self):
        return _transferred("down", self._values).item()

    def tolist(self):
        return _transferred("down", self._values).tolist()

    def tobytes(self):
        return _transferred("down", self._values).tobytes()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __bool__(self):
        return bool(_transferred("down", self._values))

    def __repr__(self):
        return repr(_transferred("down", self._values))

    def __format__(self, spec):
        return format(self.item() if spec else self.get(), spec)

    # attributes that need no transfer

    shape = property(lambda self: self._values.shape)
    strides = property(lambda self: self._values.strides)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    itemsize = property(lambda self: self._values.itemsize)
    nbytes = property(lambda self: self._values.nbytes)
    T = property(lambda self: ndarray(self._values.T))
    base = property(lambda self: None if self._values.base is None else ndarray(self._values.base))
    flags = property(lambda self: Flags(self._values.flags))
    device = property(lambda self: SimpleNamespace(id=0))

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return (_device(row) for row in self._values)

    # indexing

    def __getitem__(self, index):
        index = _index(index)
        if any(isinstance(i, np.ndarray) and i.dtype == bool for i in index):
            _transferred("down", ())  # the shape depends on the number of chosen elements: CuPy waits for it
        return _device(self._values[index])

    def __setitem__(self, index, value):
        if isinstance(value, np.ndarray | list | tuple):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        index = _index(index)
        if getattr(value, "size", 1) > 1 and any(isinstance(i, np.ndarray) and i.dtype != bool for i in index):
            chosen = np.arange(self.size).reshape(self.shape)[index]
            if np.unique(chosen).size != chosen.size:
                raise ValueError("assignment through repeated indices: CuPy's result is undefined; add with xp.add.at")
        self._values[index] = _host(value, "assignment")

    def __getattr__(self, name):
        """Any other method of CuPy's arrays, with CuPy's parameters."""
        if name.startswith("__") or name not in API["methods"]:
            raise AttributeError(f"'ndarray' object has no attribute {name!r} in CuPy {API['cupy']}")

        def method(*args, **options):
            _require_call(f"ndarray.{name}", API["methods"][name], args, options)
            options = {k: _host(v, name) for k, v in options.items()}
            return _device(getattr(self._values, name)(*_host(args, name), **options))

        return method


def _index(index):
    """An index as a tuple for NumPy, which raises IndexError if an index array is out of bounds."""
    return tuple(map(_part, index if isinstance(index, tuple) else (index,)))


def _part(part):
    if isinstance(part, ndarray):
        return part._values
    if isinstance(part, list | np.ndarray):  # CuPy copies it to the device at every use
        return _transferred("up", np.asarray(part))
    return part


def _unary(function):
    return lambda self: _device(function(self._values))


def _binary(function, reflected=False):
    def operation(self, other):
        if isinstance(other, np.ndarray):
            raise TypeError(f"Unsupported type {type(other)}: a host array beside a device array")
        if not isinstance(other, (ndarray, *SCALARS)):
            return NotImplemented
        a, b = self._values, _host(other, "operator")
        return _device(function(b, a) if reflected else function(a, b))

    return operation


def _in_place(function):
    def operation(self, other):
        if not isinstance(other, (ndarray, *SCALARS)):
            raise TypeError(f"Unsupported type {type(other)} in an operation in place")
        function(self._values, _host(other, "operator"))  # NumPy has the same rules as CuPy: same kind, same shape
        return self

    return operation


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor"):
    _bare, _function = _name.rstrip("_"), getattr(operator, _name)
    setattr(ndarray, f"__{_bare}__", _binary(_function))
    setattr(ndarray, f"__r{_bare}__", _binary(_function, reflected=True))
    if _name != "matmul":
        setattr(ndarray, f"__i{_bare}__", _in_place(getattr(operator, f"i{_bare}")))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _binary(getattr(operator, _name)))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", _unary(getattr(operator, _name)))


class ufunc:
    """A ufunc without ``where=``, and with ``at`` and ``reduce`` only if CuPy has them."""

    AT = ("add", "subtract", "maximum", "minimum")

    def __init__(self, name):
        self.name, self._function = name, getattr(np, name)

    def __call__(self, *args, **options):
        known = "out dtype casting" + " axes axis keepdims order" * (self.name == "matmul")
        _require_call(self.name, known, (), options)
        for value in args:
            _require_operand(f"xp.{self.name}", value)
        out = options.get("out")
        options = {k: _host(v, self.name) for k, v in options.items()}
        result = self._function(*_host(args, self.name), **options)
        return _device(result) if out is None else out

    def at(self, x, index, value):
        if self.name not in self.AT:
            raise NotImplementedError(f"`cupy_{self.name}.at` is not supported yet")
        if x.dtype.kind in "biu" and x.itemsize < 4:
            raise TypeError(f"cupy.{self.name}.at does not support {x.dtype}")
        _require_operand(f"xp.{self.name}.at", x)
        self._function.at(x._values, _index(index), _host(value, f"xp.{self.name}.at"))

    def reduce(self, x, axis=0):
        if self.name not in ("add", "multiply"):
            raise NotImplementedError(f"`cupy_{self.name}.reduce` is not supported yet")
        _require_operand(f"xp.{self.name}.reduce", x)
        return _device(self._function.reduce(x._values, axis))


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    """An array on the device; a host array, list or number counts as a transfer."""
    if isinstance(a, ndarray):
        return a if dtype in (None, a.dtype) and not copy else ndarray(np.array(a._values, dtype))
    if isinstance(a, list | tuple) and any(isinstance(v, ndarray) for v in a):
        return ndarray(np.array(_host(a, "asarray"), dtype))
    return ndarray(_transferred("up", np.array(a, dtype, order=order or "K")))


def array(a, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    """A copy on the device, see :func:`asarray`."""
    return asarray(a, dtype, order, copy=copy)


def ascontiguousarray(a, dtype=None):
    """A device array in C order; a host array is refused, as in CuPy."""
    _require_operand("ascontiguousarray", a)
    return a if a.flags.c_contiguous and dtype in (None, a.dtype) else ndarray(np.ascontiguousarray(a._values, dtype))


def empty(shape, dtype=float, order="C"):
    """New memory, filled with NaN, the largest integer or True, so that reading it shows."""
    dtype = np.dtype(dtype)
    value = np.nan if dtype.kind in "fc" else True if dtype.kind == "b" else np.iinfo(dtype).max
    return ndarray(np.full(shape, value, dtype, order))


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    """:func:`empty` with another array's shape and dtype."""
    return empty(prototype.shape if shape is None else shape, dtype or prototype.dtype)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    """The array on the host."""
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def is_available():
    """Return True, as if there were a GPU."""
    return True


def get_array_module(*arrays):
    """This module if any array is a device array, else NumPy."""
    return sys.modules[__name__] if any(isinstance(a, ndarray) for a in arrays) else np


def as_strided(x, shape=None, strides=None):
    """A read-only view; CuPy's is writeable, and writes to overlapping windows have an undefined result."""
    return ndarray(np.lib.stride_tricks.as_strided(x._values, shape, strides, writeable=False))


def sliding_window_view(x, window_shape, axis=None, *, subok=False, writeable=False):
    """A read-only view of all windows."""
    if writeable:
        raise NotImplementedError("Writeable views are not supported.")
    return ndarray(np.lib.stride_tricks.sliding_window_view(x._values, window_shape, axis))


lib = SimpleNamespace(
    stride_tricks=SimpleNamespace(as_strided=as_strided, sliding_window_view=sliding_window_view),
)
cuda = SimpleNamespace(Device=lambda index=0: nullcontext(), runtime=SimpleNamespace(getDeviceCount=lambda: 1))


def __getattr__(name):
    """Any other name that both CuPy and NumPy have."""
    if name == "random":
        raise AttributeError("draw on the host (backend.rng()): CuPy's random numbers are not NumPy's")
    if hasattr(np, name):
        if name in API["ufuncs"]:
            return ufunc(name)
        if name in API["functions"]:
            return _function(name)
        if name in API["names"]:
            return getattr(np, name)
    raise AttributeError(f"module 'cupy' has no attribute {name!r} (CuPy {API['cupy']}), or the double does not")


def _function(name):
    parameters = API["functions"][name]

    def function(*args, **options):
        call = f"xp.{name}"
        _require_call(call, parameters, args, options)
        if name == "einsum" and options.keys() - {"optimize", "dtype"}:
            raise TypeError(f"Did not understand the following kwargs: {list(options)}")
        if name in ("nonzero", "flatnonzero", "argwhere", "unique") or (name == "where" and len(args) == 1):
            _transferred("down", ())  # the shape depends on the number of results: CuPy waits for it
        options = {k: _host(v, call) for k, v in options.items()}
        result = getattr(np, name)(*_host(args, call), **options)
        return _device(np.bool_(result) if name in ("allclose", "array_equal") else result)

    return function
