"""Checkpoints: arrays and a small JSON record in one safetensors file, with a checksum, written atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from ..arrays import backend
from ..arrays.types import Array
from ..errors import UserError
from . import tensors
from .atomic import atomic


def save_checkpoint(path: str | Path, arrays: Mapping[str, Array], record: Any) -> None:
    """Write `arrays` ({name: array}) and `record` (a JSON value) to `path`, atomically.

    Parameters
    ----------
    path : path-like
    arrays : dict of {str: array}
    record : JSON value
        dicts, lists, strings, numbers, booleans, None.

    Raises
    ------
    UserError
        If the file cannot be written (no such folder, no space, an array that does not hold real numbers).  An
        existing file is then unchanged.
    """
    arrays = {name: _plain(path, name, backend.asnumpy(a)) for name, a in arrays.items()}
    text = json.dumps(record)
    try:
        with atomic(path) as partial:
            metadata = {tensors.RECORD: text, tensors.CHECKSUM: tensors.checksum(arrays, text)}
            save_file(arrays, partial, metadata=metadata)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be written ({error})") from None


def load_checkpoint(path: str | Path) -> tuple[dict[str, Array], Any]:
    """The arrays and the record of a checkpoint.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    arrays : dict of {str: ndarray}
    record : JSON value

    Raises
    ------
    UserError
        If the file is missing, damaged (cut short, or even one bit changed), or not written by :func:`save_checkpoint`.
    """
    arrays, text = _read(path)
    if text is None:
        raise UserError(f"{path}: holds weights, but is not a checkpoint of minifcn; give a checkpoint")
    return arrays, _parsed(path, text)


def load_record(path: str | Path) -> dict[str, Any]:
    """The record of a checkpoint, a dict; empty if the file holds only weights.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    if Path(path).suffix.lower() != ".safetensors":
        return {}
    _, text = _read(path)
    record = None if text is None else _parsed(path, text)
    return record if isinstance(record, dict) else {}


def _read(path):
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such checkpoint; check the path")
    return tensors.read(path)


def _parsed(path, text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: the file is damaged: its record cannot be read ({error}); give another file"
        ) from None


def _plain(path, name, array):
    """The array in C order and this machine's byte order; a 0-d array stays 0-d."""
    if array.dtype.kind not in "fiub":
        raise UserError(f"{path} cannot be written: {name} is {array.dtype}; a checkpoint can hold only real numbers")
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")
