"""Read MATLAB files, of version 5 with scipy and of version 7.3, which is HDF5, with h5py (extra ``mat``)."""

import zlib

import numpy as np

from ...errors import UserError
from ...io.files import require_file
from ..names import read_lines

LARGEST = 1 << 28  # bytes of one variable; a small file can be compressed from any size
COMPRESSED = 15  # the type of an element in a file of version 5


def read_mat(path, *fields):
    """The array in a file of version 5: a variable, then the fields of structures inside it.

    Parameters
    ----------
    path : Path
    *fields : str
        The name of the variable, and those of the fields, such as "GTcls", "Segmentation".

    Raises
    ------
    UserError
        If scipy is missing, if the file is damaged or unreasonably large, or has no such variable.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError(f"{path} is read with scipy, which is not installed: pip install 'minifcn[mat]'") from None
    require_file(path)
    _require_small(path)
    try:
        value = loadmat(path, variable_names=[fields[0]])[fields[0]]
        for field in fields[1:]:
            value = value[0, 0][field]
        return np.asarray(value)
    except (KeyError, IndexError):
        raise UserError(f"{path} has no {'.'.join(fields)}; is it of another data set?") from None
    except Exception as error:  # scipy raises many kinds of exception for a damaged file
        raise UserError(f"{path} is damaged, or no MATLAB file of version 5 ({error})") from None


def _require_small(path):
    """Raise UserError if a compressed element of a file of version 5 expands to more than `LARGEST` bytes."""
    with open(path, "rb") as file:
        order = "little" if file.read(128)[126:] == b"IM" else "big"
        while len(tag := file.read(8)) == 8:
            kind, length = (int.from_bytes(tag[k : k + 4], order) for k in (0, 4))
            place, expanded, unpacker = file.tell(), 0, zlib.decompressobj()
            while kind == COMPRESSED and file.tell() < place + length:
                data = file.read(min(1 << 16, place + length - file.tell()))
                if not data:
                    return  # cut off: scipy says so
                while data:
                    try:
                        expanded += len(unpacker.decompress(data, 1 << 24))
                    except zlib.error:
                        return  # scipy says so
                    data = unpacker.unconsumed_tail
                    if expanded > LARGEST:
                        raise UserError(f"{path} expands to more than {LARGEST:,} bytes; it is damaged or unsafe")
            file.seek(place + length)


def label_of_mat(path, size, *fields):
    """The matrix in a file as integers of the (height, width) `size`; UserError if it is something else."""
    label = read_mat(path, *fields)
    if label.shape != tuple(size) or label.dtype.kind not in "iuf":
        raise UserError(f"{path} holds an array of {label.shape}, but the image is {tuple(size)} (height, width)")
    return label.astype(np.int64)


def names_of(path):
    """{number: name} in a text file with lines such as ``12: wall``."""
    pairs = [line.partition(":") for line in read_lines(path) if line]
    if not all(number.strip().isdigit() for number, _, _ in pairs):
        raise UserError(f"{path} has a line that is not a number and a name, such as 12: wall")
    return {int(number): name.strip() for number, _, name in pairs}
