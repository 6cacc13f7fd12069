"""Reading arrays from weight files: safetensors and npz."""

import zipfile
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ..errors import UserError


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
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except (SafetensorError, zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError) as error:
        raise UserError(f"{path}: damaged, or not the {path.suffix} file its name says ({error})") from None
    raise UserError(f"{path}: cannot read {path.suffix or 'a file without a suffix'}; give .safetensors or .npz")
