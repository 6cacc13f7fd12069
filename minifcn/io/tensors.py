"""Read safetensors files: the arrays and the text stored with them, verified by a checksum."""

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import UserError

RECORD, CHECKSUM = "minifcn", "minifcn.sha256"  # keys in the metadata of the file


def checksum(arrays, text):
    """The SHA-256 of a record's text and of every array's name, type, shape and bytes."""
    total = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        total.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        total.update(array.reshape(-1).view(np.uint8))
    return total.hexdigest()


def read(path, kind="a checkpoint"):
    """The arrays of a safetensors file, and the text of its record, or None if there is no record.

    Parameters
    ----------
    path : path-like
    kind : str
        The expected kind of file, for the error message.

    Raises
    ------
    UserError
        If the file is damaged, does not match the checksum in it, or holds numbers of a type that NumPy lacks.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  not a dict
            arrays = {n: _widened(path, n) if kind == "BF16" else file.get_tensor(n) for n, kind in kinds.items()}
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{path}: the file is damaged, or not {kind} ({error}); give another file") from None
    except (TypeError, AttributeError, KeyError):  # safetensors raises these for a type that NumPy lacks
        raise UserError(
            f"{path}: holds numbers of the types {', '.join(sorted(set(kinds.values())))}, not all of which NumPy has; "
            "save it again in float32"
        ) from None
    text = metadata.get(RECORD)
    if CHECKSUM in metadata and metadata[CHECKSUM] != checksum(arrays, text or ""):
        raise UserError(f"{path}: the file is damaged: its contents do not match its checksum; give another file")
    return arrays, text


def _widened(path, name):
    """A bfloat16 array as float32.  NumPy lacks bfloat16, whose 16 bits are the upper half of a float32."""
    with Path(path).open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        first, last = entry["data_offsets"]
        file.seek(8 + size + first)
        bits = np.frombuffer(file.read(last - first), "<u2")
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
