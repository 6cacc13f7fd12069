"""HDF5 files: Keras's ``.h5``, ``.weights.h5`` and ``.keras``, and Caffe's ``.caffemodel.h5``.

An array is called by its path in the file.  h5py opens the file; only plain arrays whose numbers lie in the file are
read, no links to other files, no compression, and no attributes.
"""

import io
import os
import re
from pathlib import Path

from . import zips
from .caffe import add_layer
from .common import DEEPEST, Found, Unfit

WEIGHTS = "model.weights.h5"  # in a .keras file
OTHERS = {"optimizer", "optimizer_weights"}  # beside the weights in a file of a whole model


def read_keras(path: str | Path) -> Found:
    """The weights in a ``.keras`` file, a zip archive.

    Parameters
    ----------
    path : path-like
    """
    with zips.opened(path) as archive:
        data = zips.content(archive, WEIGHTS)
    return _read(io.BytesIO(data), len(data))


def read(path: str | Path) -> Found:
    """The arrays of an HDF5 file.  Those of Caffe get the names that :mod:`.caffe` gives them.

    Parameters
    ----------
    path : path-like
    """
    return _read(path, os.path.getsize(path))


def _read(file, size):
    try:
        import h5py
    except ImportError:
        raise Unfit("an HDF5 file is read with h5py; pip install 'minifcn[weights]'") from None
    found, seen = Found(), set()
    left = size

    def visit(group, path):
        nonlocal left
        address = h5py.h5o.get_info(group.id).addr
        if address in seen or len(path) > DEEPEST:
            raise Unfit("its groups hold each other, or are nested too deeply; give another file")
        seen.add(address)
        for name in group:
            inside = [*path, name]
            if not path and name in OTHERS:
                continue
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise Unfit(f"{_shown(inside)} is a link; save the weights alone")
            item = group[name]
            if isinstance(item, h5py.Group):
                visit(item, inside)
            elif isinstance(item, h5py.Dataset):
                _check(item, inside)
                left -= item.nbytes
                if left < 0:
                    raise Unfit("its arrays overlap, or it is cut short; give another file")
                found.add("/".join(inside), item[()])

    def _check(item, path):
        plan = item.id.get_create_plist()
        if item.dtype.kind not in "fiub":
            raise Unfit(f"{_shown(path)} is {item.dtype}; weights must be real numbers, such as float32")
        if plan.get_nfilters() or item.is_virtual or plan.get_external_count():
            raise Unfit(f"{_shown(path)} is compressed, or lies in another file; save it again, plain")
        if item.nbytes > item.id.get_storage_size():
            raise Unfit(f"the size of {_shown(path)} is not that of its data; give another file")

    with h5py.File(file, "r") as opened:
        visit(opened, [])
    if not found:
        raise Unfit("it holds no arrays; give another file")
    return _caffe(found) if any(re.fullmatch(r"data/.+/\d+", name) for name in found) else _keras(found)


def _shown(path):
    return repr("/".join(path)[:100])


def _keras(found):
    """A whole model holds its weights in the group model_weights, which is no part of the names."""
    return Found((name.removeprefix("model_weights/"), array) for name, array in found.items())


def _caffe(found):
    """``data/LAYER/NUMBER``; the group ``diff`` holds gradients."""
    layers, renamed = {}, Found()
    for name, array in found.items():
        match = re.fullmatch(r"data/(.+)/(\d+)", name)
        if match:
            layers.setdefault(match[1], {})[int(match[2])] = array
    for layer, blobs in layers.items():
        add_layer(renamed, layer, [blobs[i] for i in sorted(blobs)])
    return renamed
