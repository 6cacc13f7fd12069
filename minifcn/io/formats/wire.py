"""Protobuf's wire format, as much as the files of Caffe and ONNX need."""

import re
from collections.abc import Iterator

import numpy as np

from ...arrays.types import Array
from .common import Unfit

VARINT, LONG, BYTES, SHORT = 0, 1, 2, 5  # the kinds of fields
SIZES = {LONG: 8, SHORT: 4}
Field = tuple[int, int, memoryview]


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The integer at `at`, seven bits a byte, of at most ten bytes; and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise Unfit("it is cut short; give another file")
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value & (1 << 64) - 1, at
    raise Unfit("it holds an integer of more than ten bytes; give another file")


def fields(data: memoryview) -> Iterator[Field]:
    """The fields of a message: (number, kind, bytes).  Fields of one number and a fixed size that follow each other are
    given as one; so millions of numbers that are not packed cost one step.

    Parameters
    ----------
    data : memoryview
    """
    at = 0
    while at < len(data):
        key, after = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            start, (_, at) = after, varint(data, after)
            yield number, kind, data[start:at]
        elif kind == BYTES:
            size, start = varint(data, after)
            at = start + size
            if at > len(data):
                raise Unfit("it is cut short; give another file")
            yield number, kind, data[start:at]
        elif kind in SIZES:
            size, head = SIZES[kind], bytes(data[at:after])
            run = re.compile(b"(?:%s.{%d})++" % (re.escape(head), size), re.DOTALL).match(data, at)
            if run is None:
                raise Unfit("it is cut short; give another file")
            rows = np.frombuffer(data[at : run.end()], np.uint8).reshape(-1, len(head) + size)
            at = run.end()
            yield number, kind, memoryview(rows[:, len(head) :].tobytes())
        else:
            raise Unfit(f"it holds a field of kind {kind}, which neither Caffe nor ONNX writes; give another file")


def varints(data: memoryview) -> Iterator[int]:
    """The signed integers of a packed field; also of a field of one integer."""
    at = 0
    while at < len(data):
        value, at = varint(data, at)
        yield value - (1 << 64) * (value >> 63)


def sizes(parts: list[memoryview]) -> list[int]:
    """The sizes of an array, of at most 32 dimensions."""
    found: list[int] = []
    for part in parts:
        for size in varints(part):
            if size < 0 or len(found) == 32:
                raise Unfit("it holds an array of negative size, or of more than 32 dimensions; give another file")
            found.append(size)
    return found


class Repeated(dict[int, list[memoryview]]):
    """The parts of each repeated field {number: parts}.  A writer makes one part, or two at the edge of a buffer."""

    MOST = 1000

    def __missing__(self, number: int) -> list[memoryview]:
        return []

    def add(self, number: int, part: memoryview) -> None:
        if sum(map(len, self.values())) == self.MOST:
            raise Unfit(f"an array in it has more than {self.MOST:,} parts; give another file")
        self[number] = [*self[number], part]


def message(data: memoryview) -> Repeated:
    """All fields of a small message."""
    found = Repeated()
    for number, _, part in fields(data):
        found.add(number, part)
    return found


def numbers(parts: list[memoryview], dtype: str) -> Array:
    """The numbers of fixed size in all parts of a repeated field, copied."""
    if len(parts) == 1:
        return np.frombuffer(parts[0], dtype).copy()
    return np.concatenate([np.frombuffer(part, dtype) for part in parts] or [np.zeros(0, dtype)])
