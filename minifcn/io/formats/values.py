"""What stands in a pickle for an array, and the arrays in the value of a pickle, with their names.

Nothing is computed before the sizes of all arrays are known.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...arrays.types import Array
from .common import DEEPEST, MOST, Found, Unfit, check_total, widened

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
        return widened(view) if self.storage.dtype == "BFloat16" else native(view)


class Type:
    """A dtype of NumPy: its letter and size, then its byte order."""

    def __init__(self, code, *_):
        self.code, self.order = code, "="
        if not (isinstance(code, str) and re.fullmatch(r"[fiub][1248]|O8?", code)):
            raise Unfit("it holds NumPy arrays of other things than real numbers; save the weights alone")

    def build(self, state):
        self.order = {"<": "<", ">": ">", "|": "=", "=": "="}[of_kind(str, state[1])]


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
        return native(flat.reshape(self.shape, order="F" if self.fortran else "C"))


def native(array: Array) -> Array:
    """A copy in C order and in the byte order of this machine."""
    return array.astype(array.dtype.newbyteorder("="), order="C")


def is_shape(value: Any) -> bool:
    """Whether `value` is a tuple of at most 32 sizes."""
    return isinstance(value, tuple) and len(value) <= 32 and all(type(n) is int and 0 <= n < 2**63 for n in value)


def of_kind(kind: Any, value: Any) -> Any:
    """`value`, if it is a `kind`; otherwise Unfit."""
    if not isinstance(value, kind):
        raise Unfit("its pickle is damaged, or was not written by a pickler; give another file")
    return value


def arrays(tree: Any, size: int, numbers: Any = None, parts: Sequence[str] = ()) -> Found:
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
                part = key.decode("latin1") if isinstance(key, bytes) else str(key)
                yield from visit(inner, [*name, part], depth + 1)
        elif isinstance(value, list | tuple):
            names = parts if len(value) <= len(parts) else range(len(value))
            for part, inner in zip(names, value):
                yield from visit(inner, [*name, str(part)], depth + 1)

    return visit(tree, [], 0)
