"""Read matrices from MATLAB files of version 5, and from structures in them.

This reader is our own because a damaged file can crash `scipy.io.loadmat`, and with it Python.  The format is level 5
of MathWorks' "MAT-File Format": elements with a tag of type and length.  The parts of a matrix are elements, too.
"""

import math
import re
import zlib

import numpy as np

from ...errors import UserError
from ...io.files import require_file
from ..names import read_lines

LARGEST = 1 << 28  # bytes of a file, and of a variable; a small file can be compressed from any size
NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
"""NumPy's names of the types of numbers."""
MATRIX, COMPRESSED = 14, 15  # types of elements
STRUCTURE, NUMERIC = 2, range(6, 16)  # classes of matrices


def read_mat(path, *names):
    """The matrix of numbers that a file holds as a variable, or as a field of a structure.

    Parameters
    ----------
    path : Path
    *names : str
        The name of the variable, and those of fields in it, such as "GTcls", "Segmentation".

    Raises
    ------
    UserError
        If the file is damaged, unreasonably large or of another version, or has no such matrix.
    """
    require_file(path)
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} has more than {LARGEST:,} bytes; it is not a file of labels")
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or content.startswith(b"MATLAB 7.3"):
        raise UserError(f"{path} is damaged, or no MATLAB file of version 5")
    try:
        for kind, body in _elements(content[128:], order):
            if kind == COMPRESSED:
                kind, body = next(_elements(_unpacked(path, body), order))
            if kind == MATRIX and (found := _find(body, order, names)) is not None:
                return found
    except (ValueError, IndexError, KeyError, StopIteration, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error or 'it ends too early'})") from None
    raise UserError(f"{path} has no matrix of numbers {'.'.join(names)}; is it of another data set?")


def _elements(data, order):
    """The (type, content) of the elements that follow one another in `data`."""
    place = 0
    while place + 8 <= len(data):
        kind, length = np.frombuffer(data, f"{order}u4", 2, place).tolist()
        start = place + 8
        if kind >> 16:  # a small element: type and length in four bytes, the content in the next four
            kind, length, start = kind & 0xFFFF, kind >> 16, place + 4
            place += 8
        else:
            place = start + length + (-length % 8 if kind != COMPRESSED else 0)
        if start + length > len(data):
            raise ValueError("an element is longer than the file")
        yield kind, data[start : start + length]


def _unpacked(path, data):
    """The content of a compressed element; UserError if it has more than `LARGEST` bytes."""
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(data, LARGEST)
    if unpacker.unconsumed_tail:
        raise UserError(f"{path} expands to more than {LARGEST:,} bytes; it is damaged or unsafe")
    return content


def _find(body, order, names):
    """The matrix that `names` lead to, if the matrix in `body` has the first of them as its name; else None."""
    (_, flags), (_, sizes), (_, name), *parts = _elements(body, order)
    if names[:1] and name.rstrip(b"\0").decode("latin-1") != names[0]:
        return None
    kind = np.frombuffer(flags, f"{order}u4")[0] & 0xFF
    shape = np.frombuffer(sizes, f"{order}i4").tolist()
    if kind == STRUCTURE and len(names) > 1:
        length = int(np.frombuffer(parts[0][1], f"{order}i4")[0])
        fields = [
            parts[1][1][k : k + length].rstrip(b"\0").decode("latin-1") for k in range(0, len(parts[1][1]), length)
        ]
        if names[1] not in fields or math.prod(shape) != 1:
            return None
        # a field has no name of its own
        return _find(parts[2 + fields.index(names[1])][1], order, ("", *names[2:]))
    if kind not in NUMERIC or len(names) > 1:
        return None
    numbers = np.frombuffer(parts[0][1], order + NUMBERS[parts[0][0]])
    return numbers.reshape(shape, order="F")


def label_of_mat(path, size, *names):
    """The matrix in a file as integers of the (height, width) `size`; UserError if it is something else."""
    label = read_mat(path, *names)
    if not np.isfinite(label).all() or (label != np.rint(label)).any():
        raise UserError(f"{path} holds fractions or infinite values; expected class ids")
    if label.shape != tuple(size):
        raise UserError(f"{path} holds an array of {label.shape}, but the image is {tuple(size)} (height, width)")
    return label.astype(np.int64)


def names_of(path):
    """{number: name} in a text file with lines such as ``12: wall``."""
    pairs = [line.partition(":") for line in read_lines(path) if line]
    if not pairs or not all(re.fullmatch(r"\d{1,5}", number.strip()) for number, _, _ in pairs):
        raise UserError(f"{path} has a line that is not a number and a name, such as 12: wall")
    return {int(number): name.strip() for number, _, name in pairs}
