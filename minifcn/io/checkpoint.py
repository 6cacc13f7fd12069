"""Checkpoints: arrays and a small JSON record in one safetensors file, written atomically."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..errors import UserError
from .atomic import atomic


def save_checkpoint(path, arrays, record):
    """Write `arrays` ({name: array}) and `record` (a JSON value) to `path`, all or nothing.

    Raises
    ------
    UserError
        If it cannot be written (no such folder, no space).  What was there stays.
    """
    arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    try:
        with atomic(path) as partial:
            save_file(arrays, partial, metadata={"minifcn": json.dumps(record)})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be written ({error})") from None


def load_checkpoint(path):
    """The arrays and the record of a checkpoint.

    Raises
    ------
    UserError
        If it is missing, damaged (cut off, say), or was not written by :func:`save_checkpoint`.
    """
    with _opened(path) as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        return arrays, _record(path, file)


def load_record(path):
    """The record of a checkpoint alone, without its arrays.  Raises as :func:`load_checkpoint`."""
    with _opened(path) as file:
        return _record(path, file)


@contextmanager
def _opened(path):
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: damaged, or not a checkpoint at all ({error}); give another one") from None


def _record(path, file):
    record = (file.metadata() or {}).get("minifcn")
    if record is None:
        raise UserError(f"{path}: holds weights, but is not a checkpoint of minifcn")
    return json.loads(record)
