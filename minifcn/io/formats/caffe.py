"""Caffe's ``.caffemodel`` files: the blobs of each layer, from the wire format.

A blob is called by its part in the layer: ``conv1_1.weight``, ``conv1_1.bias``.  The three blobs of BatchNorm, two
sums over a number of batches and that number, become ``running_mean`` and ``running_var``.
"""

import math
from pathlib import Path

import numpy as np

from ...arrays.types import Array
from . import wire
from .common import Found, Unfit, mapped

LAYERS = {2: (4, 5, 6), 100: (1, 2, 7)}  # in NetParameter, V1 and today's; in a layer: its name, type and blobs
MOST_LAYERS = 10_000
V1_TYPES = {b"\x04": "Convolution", b"\x0e": "InnerProduct", b"\x27": "Deconvolution"}


def read(path: str | Path) -> Found:
    """The blobs of a caffemodel.

    Parameters
    ----------
    path : path-like
    """
    found, layers = Found(), 0
    for number, kind, layer in wire.fields(memoryview(mapped(path))):
        if number in LAYERS and kind == wire.BYTES:
            layers += 1
            if layers > MOST_LAYERS:
                raise Unfit(f"it has more than {MOST_LAYERS:,} layers; give another file")
            add_layer(found, *_layer(layer, *LAYERS[number]))
    if not found:
        raise Unfit("it holds no layer with weights, or is no caffemodel; give another file")
    return found


def _layer(data, name_field, type_field, blobs_field):
    """The name, the blobs and the type of a layer."""
    layer = wire.message(data)
    if name_field != 1 and layer[1]:
        raise Unfit("it has the format of Caffe in 2013; convert it with Caffe's upgrade_net_proto_binary")
    kind = b"".join(layer[type_field][-1:])
    blobs = [_blob(wire.message(blob)) for blob in layer[blobs_field]]
    return b"".join(layer[name_field][-1:]).decode(), blobs, V1_TYPES.get(kind) or kind.decode("latin1")


def _blob(blob):
    """An array from its numbers, in the fields 5 or 8, and its shape, in the field 7 or, in old files, 1 to 4."""
    array = wire.numbers(blob[8], "<f8") if blob[8] else wire.numbers(blob[5], "<f4")
    if blob[7]:
        shape = wire.sizes([dims for part in blob[7] for dims in wire.message(part)[1]])
    else:
        shape = [*wire.sizes(blob[1]), *wire.sizes(blob[2]), *wire.sizes(blob[3]), *wire.sizes(blob[4])]
    if math.prod(shape) != array.size:
        raise Unfit(f"a blob in it holds {array.size:,} numbers, which is not what its shape says; give another file")
    return array.reshape(shape)


def add_layer(found: Found, layer: str, blobs: list[Array], kind: str = "") -> None:
    """Add the blobs of one layer to `found`, under the names that minifcn gives them.

    Parameters
    ----------
    found : Found
    layer : str
    blobs : list of ndarray
    kind : str
        Caffe's type of the layer, where it is known.
    """
    if kind == "BatchNorm" or (not kind and len(blobs) == 3 and blobs[2].size == 1):
        if len(blobs) != 3 or blobs[2].size != 1:
            raise Unfit(f"the layer {layer[:100]!r} must have a mean, a variance and their number; give another file")
        factor = blobs[2].item()
        for name, total in zip(("running_mean", "running_var"), blobs):
            with np.errstate(all="ignore"):
                found.add(f"{layer}.{name}", total.reshape(-1) / factor if factor else np.zeros_like(total.reshape(-1)))
        return
    parts = ["bias"] if kind == "Bias" else ["weight", "bias", *map(str, range(2, len(blobs)))]
    for part, blob in zip(parts, blobs):
        if blob.ndim == 4 and part == "bias" and blob.shape[:3] == (1, 1, 1):  # as files of before 2015 have it
            blob = blob.reshape(-1)
        elif blob.ndim == 4 and kind == "InnerProduct" and blob.shape[:2] == (1, 1):
            blob = blob[0, 0]
        found.add(f"{layer}.{part}", blob)
