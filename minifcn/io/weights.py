"""Read arrays from weight files: safetensors and npz."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..arrays.types import Array
from ..errors import UserError
from . import tensors


def load_weights(path: str | Path) -> dict[str, Array]:
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
        If the file is missing, damaged or of another kind, or contains pickled objects.  They are never loaded, because
        loading a pickle can execute code from the file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such weight file; check the path")
    if path.suffix.lower() not in (".safetensors", ".npz"):
        raise UserError(f"{path}: cannot read {path.suffix or 'a file without a suffix'}; give .safetensors or .npz")
    if path.suffix.lower() == ".npz":
        arrays = _npz(path)
    else:
        arrays, _ = tensors.read(path, "a .safetensors file")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise UserError(f"{path}: {name} is {array.dtype}; weights must be real numbers, such as float32")
    return arrays


def _npz(path):
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except Exception as error:  # for a damaged file zipfile, zlib, NumPy and ast raise many kinds of exception
        raise UserError(f"{path}: the file is damaged, or not a .npz file ({error}); give another file") from None


def require_finite(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Raise UserError if a weight is NaN or infinite.

    Parameters
    ----------
    path : path-like
    arrays : dict of {str: ndarray}
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds NaN or infinite numbers; give another file")
