"""Read the arrays in a pickle without running it.

A pickle is a program: its instructions can import any function and call it.  This interpreter has no instruction that
imports, creates an object of a class, or sets an attribute.  It knows the few instructions that write plain data; the
name of a function is a text, and a "call" looks it up in `CALLS`, which holds functions of this file only.
"""

import math
import re
from collections.abc import Callable
from pickletools import genops
from typing import Any, NamedTuple

import numpy as np

from ...arrays.types import Array
from .common import DEEPEST, MOST, Found, Unfit, check_total, widened

INSTRUCTIONS = 300_000  # a network has some 30 for each tensor
VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
KINDS = {
    "Float": "<f4", "Double": "<f8", "Half": "<f2", "BFloat16": "<u2", "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip
WRAPPINGS = ("state_dict", "model_state_dict", "model")


class Name(str):
    """The name of a function or class that a pickle refers to.  It is not imported."""


class Storage(NamedTuple):
    """The numbers of one or several tensors, which lie outside the pickle; `dtype` is a name of PyTorch."""

    dtype: str
    key: str
    length: int

    @property
    def kind(self) -> np.dtype[Any]:
        """The dtype of the numbers as they lie in the file; bfloat16 as its bits."""
        return np.dtype(KINDS[self.dtype])


class Tensor(NamedTuple):
    """A view of a storage: element (i, j, ...) is number ``offset + i strides[0] + j strides[1] + ...``."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * max(self.storage.kind.itemsize, 4 * (self.storage.dtype == "BFloat16"))

    def array(self, numbers: Array) -> Array:
        """The tensor, copied from the `numbers` of its storage."""
        steps = [self.storage.kind.itemsize * stride for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, steps)
        return (
            widened(view) if self.storage.dtype == "BFloat16" else view.astype(view.dtype.newbyteorder("="), order="C")
        )


class Type:
    """A dtype of NumPy: its letter and size, then its byte order."""

    def __init__(self, code, *_):
        self.code, self.order = code, "="
        if not (isinstance(code, str) and re.fullmatch(r"[fiub][1248]|O8?", code)):
            raise Unfit("it holds NumPy arrays of other things than real numbers; save the weights alone")

    def build(self, state):
        self.order = {"<": "<", ">": ">", "|": "=", "=": "="}[_of(str, state[1])]


class Packed:
    """An array of NumPy, of which nothing is computed before its size is known."""

    def __init__(self, shape=(), kind=None, raw=b"", fortran=False):
        self.build((shape, kind or Type("f4"), fortran, raw))

    def build(self, state):
        self.shape, self.kind, self.fortran, self.raw = state[-4:]
        raw = isinstance(self.raw, bytes | bytearray | str | list)
        if not (raw and is_shape(self.shape) and isinstance(self.kind, Type)):
            raise Unfit("the parts of a NumPy array in it do not fit together; give another file")

    @property
    def nbytes(self) -> int:
        return len(self.raw)

    def array(self) -> Array:
        """The array, copied."""
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
        flat = np.frombuffer(raw, np.dtype(self.kind.code).newbyteorder(self.kind.order))
        return flat.reshape(self.shape, order="F" if self.fortran else "C").astype(
            flat.dtype.newbyteorder("="), order="C"
        )


def is_shape(value: Any) -> bool:
    """Whether `value` is a tuple of at most 32 sizes."""
    return isinstance(value, tuple) and len(value) <= 32 and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _tensor(storage, offset, shape, strides, *_):
    if not (isinstance(storage, Storage) and is_shape((offset,)) and is_shape(shape) and is_shape(strides)):
        raise Unfit("the parts of a tensor in it do not fit together; give another file")
    if len(shape) != len(strides):
        raise Unfit(f"a tensor in it has {len(shape)} sizes and {len(strides)} strides; give another file")
    if math.prod(shape) and offset + sum((n - 1) * s for n, s in zip(shape, strides)) >= storage.length:
        raise Unfit("a tensor in it does not lie within its storage; give another file")
    return Tensor(storage, offset, shape, strides)


def _scalar(kind, raw=b""):
    return Packed((), kind, raw)


def _from_buffer(raw, kind, shape, order):
    return Packed(shape, kind, raw, order == "F")


CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda pairs=(): dict(_pairs(pairs)),
    "collections defaultdict": lambda *_: {},
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
    "torch Size": lambda shape: shape,
    "numpy dtype": Type,
    "numpy.core.multiarray _reconstruct": lambda *_: Packed(),
    "numpy.core.multiarray scalar": _scalar,
    "numpy.core.numeric _frombuffer": _from_buffer,
    "_codecs encode": lambda text, _: text,  # Python 3's bytes in protocol 2; a Packed encodes them when it is needed
}
CLASSES = {"numpy ndarray", "builtins dict", "__builtin__ dict"}  # named in arguments only


def _pairs(pairs):
    for pair in pairs:
        key, value = pair
        yield _key(key), value


def _key(key):
    """A key of a dict.  The hash of a nested tuple takes a time that grows exponentially with its depth."""
    if type(key) not in (str, bytes, int):
        raise Unfit("a dict in it has a key that is neither a text nor a number; save the weights alone")
    return key


def _name(name):
    name = name.replace("numpy._core", "numpy.core")
    if name in CALLS or name in CLASSES or name.removeprefix("torch ").removesuffix("Storage") in KINDS:
        return Name(name)
    raise Unfit(f"it asks for {name[:100].replace(' ', '.')!r}, which minifcn does not run; save the state_dict alone")


def unpickle(stream: Any, storage: Callable[[Any], Storage] | None = None) -> Any:
    """The value of a pickle: None, booleans, numbers, texts, bytes, lists, tuples, dicts, `Tensor` and `Packed`.

    Parameters
    ----------
    stream : mmap or BytesIO
        Read up to the end of the pickle.
    storage : function, optional
        From a persistent id to the `Storage` that it stands for; without it, a persistent id is refused.

    Raises
    ------
    Unfit
        If the pickle has an instruction or a name that weights do not need, or is too long.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    spent = 0

    def since_mark():
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    def put_all(target, items):
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def call(name, arguments):
        nonlocal spent
        if not (isinstance(name, Name) and name in CALLS and isinstance(arguments, tuple)):
            raise Unfit("it calls what is no function; give another file")
        spent += sum(len(a) for a in arguments if isinstance(a, list))
        if spent > INSTRUCTIONS:
            raise Unfit("its dicts are too large; give another file")
        return CALLS[name](*arguments)

    for number, (instruction, argument, _) in enumerate(genops(stream)):
        if number > INSTRUCTIONS:
            raise Unfit(f"its pickle has more than {INSTRUCTIONS:,} instructions; save the state_dict alone")
        kind = instruction.name
        if kind in VALUES:
            if isinstance(argument, int) and argument.bit_length() > 128:
                raise Unfit("it holds an integer of more than 128 bits; give another file")
            stack.append(argument)
            continue
        match kind:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(CONSTANT[kind])
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "LIST":
                stack.append(since_mark())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                marks.append(len(stack) - int(kind[-1]))
                stack.append(tuple(since_mark()))
            case "DICT":
                items = since_mark()
                stack.append({})
                put_all(stack[-1], items)
            case "APPEND":
                value = stack.pop()
                _of(list, stack[-1]).append(value)
            case "APPENDS":
                items = since_mark()
                _of(list, stack[-1]).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                put_all(_of(dict, stack[-1]), [key, value])
            case "SETITEMS":
                items = since_mark()
                put_all(_of(dict, stack[-1]), items)
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[_of(int, argument)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[_of(int, argument)])
            case "GLOBAL":
                stack.append(_name(argument))
            case "STACK_GLOBAL":
                name, module = _of(str, stack.pop()), _of(str, stack.pop())
                stack.append(_name(f"{module} {name}"))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(call(stack.pop(), arguments))
            case "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], dict):  # a dict's attributes, such as the _metadata of a state_dict
                    _of(Type | Packed, stack[-1]).build(state)
            case "PERSID" | "BINPERSID" if storage:
                stack.append(storage(argument if kind == "PERSID" else stack.pop()))
            case "STOP":
                return stack.pop()
            case _:
                raise Unfit(f"its pickle has the instruction {kind}, which weights do not need; save them alone")


def _of(kind, value):
    if not isinstance(value, kind):
        raise Unfit("its pickle is damaged, or was not written by a pickler; give another file")
    return value


def arrays(tree: Any, size: int, numbers: Any = None, parts: Any = ()) -> Found:
    """The arrays in the value of a pickle, without the usual wrappings and without the prefix ``module.``.

    Parameters
    ----------
    tree : value of :func:`unpickle`
    size : int
        Bytes of the file, which limit those of all arrays.
    numbers : function, optional
        The numbers of a `Storage`, flat.  Only one storage is in memory at a time.
    parts : sequence of str
        The names of the arrays in a list; without them, the names are 0, 1, 2, ...
    """
    for _ in WRAPPINGS:
        inner = [tree[key] for key in WRAPPINGS if isinstance(tree, dict) and isinstance(tree.get(key), dict)]
        tree = inner[0] if inner else tree
    leaves, found = Found(), {}
    tensors: dict[Storage, list[str]] = {}
    for name, leaf in _leaves(tree, parts):
        leaves.add(name, leaf)
    if not leaves:
        raise Unfit("it holds no arrays; give another file")
    if "" in leaves:
        raise Unfit("it holds one array without a name; save a dict of names and arrays")
    check_total(sum(leaf.nbytes for leaf in leaves.values()), size)
    for name, leaf in leaves.items():
        if isinstance(leaf, Packed):
            found[name] = leaf.array()
        else:
            tensors.setdefault(leaf.storage, []).append(name)
    for storage, names in tensors.items():
        data = numbers(storage)
        found.update((name, leaves[name].array(data)) for name in names)
    start = len("module.") if all(name.startswith("module.") for name in leaves) else 0
    return Found((name[start:], found[name]) for name in leaves)


def _leaves(tree, parts):
    """The (name, Tensor or Packed) of nested dicts and lists; names are joined by dots.

    A dict or list that occurs at many places of a file is visited as often, so the visits are counted.
    """
    visits = 0

    def visit(value, name, depth):
        nonlocal visits
        visits += 1
        if visits > 5 * MOST or depth > DEEPEST:
            raise Unfit("its dicts and lists are nested too deeply, or too many; give another file")
        if isinstance(value, Packed) and isinstance(value.raw, list):  # an array of objects
            value = value.raw if value.shape or len(value.raw) != 1 else value.raw[0]
        if isinstance(value, Tensor | Packed):
            yield ".".join(name), value
        elif isinstance(value, dict):
            for key, inner in value.items():
                yield from visit(
                    inner, [*name, key.decode("latin1") if isinstance(key, bytes) else str(key)], depth + 1
                )
        elif isinstance(value, list | tuple):
            names = parts if len(value) <= len(parts) else range(len(value))
            for part, inner in zip(names, value):
                yield from visit(inner, [*name, str(part)], depth + 1)

    return visit(tree, [], 0)
