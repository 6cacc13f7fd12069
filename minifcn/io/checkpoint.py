"""Checkpoints: arrays and a small JSON record in one safetensors file, written atomically."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .. import backend
from ..errors import UserError
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
        If it cannot be written (no such folder, no space).  What was there stays.
    """
    arrays = {name: np.ascontiguousarray(backend.asnumpy(a)) for name, a in arrays.items()}
    try:
        with atomic(path) as partial:
            save_file(arrays, partial, metadata={"minifcn": json.dumps(record)})
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
        If it is missing, damaged (cut off, say), or was not written by :func:`save_checkpoint`.
    """
    with _opened(path) as file:
        record = _record(file)
        if record is None:
            raise UserError(f"{path}: holds weights, but is not a checkpoint of minifcn")
        return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118  not a dict


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
    with _opened(path) as file:
        record = _record(file)
    return record if isinstance(record, dict) else {}


@contextmanager
def _opened(path):
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: damaged, or not a checkpoint at all ({error}); give another one") from None


def _record(file):
    text = (file.metadata() or {}).get("minifcn")
    return None if text is None else json.loads(text)
