"""ONNX models: the initialisers of the graph, from the wire format.  The graph itself is not read."""

import math
from pathlib import Path

import numpy as np

from . import wire
from .common import Found, Unfit, beside, check_total, mapped, widened

GRAPH, INITIALISER, SPARSE = 7, 5, 15  # in ModelProto; in GraphProto
DIMS, DTYPE, NAME, RAW, EXTERNAL, LOCATION = 1, 2, 8, 9, 13, 14  # in TensorProto
FIXED, VARINTS = {4: "<f4", 10: "<f8"}, (5, 7, 11)  # in TensorProto, numbers that are not raw
BFLOAT16 = 16
DTYPES = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4",
    13: "<u8", BFLOAT16: "<u2",
}  # fmt: skip


def read(path: str | Path) -> Found:
    """The initialisers of an ONNX model, also those in files beside it.

    Parameters
    ----------
    path : path-like
    """
    found, outside = Found(), _Outside(path)
    for number, kind, graph in wire.fields(memoryview(mapped(path))):
        if number == GRAPH and kind == wire.BYTES:
            for inner, inner_kind, value in wire.fields(graph):
                if inner == SPARSE:
                    raise Unfit("it holds sparse tensors; save them as dense ones")
                if inner == INITIALISER and inner_kind == wire.BYTES:
                    found.add(*_tensor(wire.message(value), outside))
    if not found:
        raise Unfit("it holds no initialiser, or is no ONNX model; give another file")
    return found


class _Outside:
    """The numbers that lie in files beside the model."""

    def __init__(self, path):
        self.path, self.files, self.taken = path, {}, 0

    def bytes(self, entries, needed):
        """`needed` bytes, from the place that the entries of a tensor say."""
        entry = {}
        for part in entries:
            message = wire.message(part)
            entry[b"".join(message[1]).decode()] = b"".join(message[2]).decode()
        name, start = entry.get("location", ""), int(entry.get("offset", 0))
        if name not in self.files:
            self.files[name] = memoryview(mapped(beside(self.path, name)))
        self.taken += needed
        check_total(self.taken, sum(map(len, self.files.values())))
        if start < 0 or start + needed > len(self.files[name]) or int(entry.get("length", needed)) != needed:
            raise Unfit(f"a tensor of it does not lie within the file {name[:100]!r}; give another file")
        return self.files[name][start : start + needed]


def _tensor(tensor, outside):
    """The name and the array of a TensorProto."""
    name = b"".join(tensor[NAME]).decode()
    kind = wire.sizes(tensor[DTYPE])
    if len(kind) != 1 or kind[0] not in DTYPES:
        raise Unfit(f"{name[:100]!r} is of type {kind}, which NumPy lacks or is no number; save it in float32")
    dtype, shape = np.dtype(DTYPES[kind[0]]), wire.sizes(tensor[DIMS])
    count = math.prod(shape)
    if tensor[LOCATION] and wire.sizes(tensor[LOCATION]) != [0]:
        parts = [outside.bytes(tensor[EXTERNAL], count * dtype.itemsize)]
    else:
        parts = tensor[RAW]
    if parts:
        flat = wire.numbers(parts, dtype)
    else:
        half = dtype.kind == "f" and dtype.itemsize == 2
        bits = np.dtype("<u2") if half else np.dtype("<i8") if dtype == np.uint64 else dtype  # what a varint holds
        listed = [np.fromiter(wire.varints(part), bits).view(dtype) for field in VARINTS for part in tensor[field]]
        fixed = [wire.numbers(tensor[field], like).astype(dtype) for field, like in FIXED.items() if tensor[field]]
        flat = np.concatenate([*fixed, *listed]) if fixed or listed else np.zeros(0)
    if flat.size != count:
        raise Unfit(f"{name[:100]!r} holds {flat.size:,} numbers, which is not what its shape says; give another file")
    return name, (widened(flat) if kind[0] == BFLOAT16 else flat).reshape(shape)
