"""Reading arrays from weight files: safetensors and npz."""

from pathlib import Path

import numpy as np

from ..errors import UserError
from . import tensors


def load_weights(path):
    """The arrays of a weight file.

    Parameters
    ----------
    path : str or Path
        ``.safetensors`` or ``.npz``.

    Returns
    -------
    dict of {str: ndarray}

    Raises
    ------
    UserError
        If the file is missing, damaged, of another kind, or needs pickle (which could run code, and is never read).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such weight file")
    if path.suffix.lower() not in (".safetensors", ".npz"):
        raise UserError(f"{path}: cannot read {path.suffix or 'a file without a suffix'}; give .safetensors or .npz")
    if path.suffix.lower() == ".npz":
        arrays = _npz(path)
    else:
        arrays, _ = tensors.read(path, "the .safetensors file its name says")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise UserError(f"{path}: {name} is {array.dtype}; weights are real numbers, such as float32")
    return arrays


def _npz(path):
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except Exception as error:  # damage makes zipfile, zlib, NumPy and ast raise nearly everything there is
        raise UserError(f"{path}: damaged, or not the .npz file its name says ({error})") from None


def require_finite(path, arrays):
    """Raise UserError, naming the file and the array, if a weight is NaN or infinite.

    Parameters
    ----------
    path : path-like
    arrays : dict of {str: ndarray}
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds NaN or infinite numbers; give another one")
