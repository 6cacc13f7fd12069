"""Checkpoints: arrays and a small JSON record in one safetensors file, with a checksum, written atomically."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from ..arrays import backend
from ..errors import UserError
from . import tensors
from .atomic import atomic


def save_checkpoint(path, arrays, record):
    """Write `arrays` ({name: array}) and `record` (a JSON value) to `path`, all or nothing.

    Parameters
    ----------
    path : path-like
    arrays : dict of {str: array}
    record : JSON value
        dicts, lists, strings, numbers, booleans, None.

    Raises
    ------
    UserError
        If it cannot be written (no such folder, no space, an array that is not of numbers).  What was there stays.
    """
    arrays = {name: _plain(path, name, backend.asnumpy(a)) for name, a in arrays.items()}
    text = json.dumps(record)
    try:
        with atomic(path) as partial:
            metadata = {tensors.RECORD: text, tensors.CHECKSUM: tensors.checksum(arrays, text)}
            save_file(arrays, partial, metadata=metadata)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be written ({error})") from None


def load_checkpoint(path):
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
        If it is missing, damaged (cut off, or a single bit changed), or was not written by :func:`save_checkpoint`.
    """
    arrays, text = _read(path)
    if text is None:
        raise UserError(f"{path}: holds weights, but is not a checkpoint of minifcn")
    return arrays, _parsed(path, text)


def load_record(path):
    """What a checkpoint says beside its arrays: a dict, empty for a file of weights alone.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    if Path(path).suffix != ".safetensors":
        return {}
    _, text = _read(path)
    record = None if text is None else _parsed(path, text)
    return record if isinstance(record, dict) else {}


def _read(path):
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    return tensors.read(path)


def _parsed(path, text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged, its record cannot be read ({error}); give another one") from None


def _plain(path, name, array):
    """The array in C order and this machine's byte order; a 0-d array stays one."""
    if array.dtype.kind not in "fiub":
        raise UserError(f"{path} cannot be written: {name} is {array.dtype}, and a checkpoint holds real numbers")
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")
