"""The alternatives to upsampling (§3.2): shift-and-stitch, filter rarefaction (à trous), and patchwise evaluation.

A net with stride f gives one output every f pixels.  The paper upsamples these outputs, and compares that with:

- *shift-and-stitch*: run the net on f² shifted images and interlace the outputs;
- *rarefaction*: remove the strides and dilate every later filter by them, which gives the same outputs in one pass;
- *patchwise evaluation*, which both replace: cut out the window of each output and classify it alone (§3.1).
"""

from copy import copy
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any

from .. import nn
from ..arrays import backend
from ..arrays.types import Array, Pair
from ..engine.core import Tensor, no_grad
from ..engine.explain import shape
from ..errors import GeometryError
from ..geometry import receptive_field
from ..kernels import shapes_only
from ..kernels.shapes import pair, require_maps, stand_in
from ..nn.module import evaluating, in_mode, is_row

__all__ = ["macs", "patchwise", "rarefy", "shift_and_stitch"]


def shift_and_stitch(model: nn.Module, image: Tensor | Array) -> Array:
    """The outputs of a net of stride f at every pixel, interlaced from f² shifted images (§3.2).

    ``Y[c::f] = N(x[c:])`` for c = 0 … f − 1 along each axis: the paper shifts by padding, this function by cropping.
    Every prediction is at the centre of its receptive field.

    Parameters
    ----------
    model : Module
        It consists of convolutions, poolings and pointwise layers; run in evaluation mode, without gradients.
    image : Tensor or array
        (N, C, H, W).

    Returns
    -------
    array
        (N, K, H + 2P − r + 1, W + 2P − r + 1), with the receptive field r and the effective padding P (0 for a net that
        never pads) derived from the model.  ``Y[t]`` belongs to pixel ``t + (r − 1)/2 − P``.

        It equals ``rarefy(model)(image)`` everywhere if no layer pads.  If one does, the padding of a cropped image is
        at other pixels, and the two are equal only away from the border: P + f − 1 cells at the top and left, P cells
        on the other sides.

    Raises
    ------
    GeometryError
        If the outputs have no position in the image (flattened) or were upsampled, so that they cannot be interlaced.
    ValueError
        If the image is smaller than the window of one output.
    """
    x = _array("shift_and_stitch", image)
    units = _Units(model, x)
    sizes = [n - s + 1 for n, s in zip(x.shape[2:], units.seen)]
    if min(sizes) < 1:
        raise ValueError(
            f"shift_and_stitch needs an image of at least {shape(units.seen)}, the window of one output of this net, "
            f"got {shape(x.shape[2:])}"
        )
    stitched: Any = None
    with evaluating(model), no_grad():
        for top, left in product(*(range(min(f, n)) for f, n in zip(units.jump, sizes))):
            y = model(x[:, :, top:, left:]).data
            if stitched is None:
                stitched = backend.of(y).empty((*y.shape[:2], *sizes), y.dtype)
            place = stitched[:, :, top :: units.jump[0], left :: units.jump[1]]
            place[...] = y[:, :, : place.shape[2], : place.shape[3]]  # drop outputs of windows that ceil mode clipped
    return stitched


def rarefy(model: nn.Module) -> nn.Sequential:
    """The same net with stride 1: filter rarefaction, also called à trous or dilation (§3.2).

    The paper's rule, layer by layer: remove a stride s, and replace every later filter by ``f'[i, j] = f[i/s, j/s]`` if
    s divides i and j, 0 otherwise.  After all layers, layer l, pooling included, has stride 1, dilation ``D_l·d_l`` and
    padding ``D_l·p_l`` with ``D_l = Π_{m<l} s_m``.  Receptive fields do not change, and every f-th output equals an
    output of `model`, unless ceil mode clips the window of a pooling.

    Parameters
    ----------
    model : Sequential
        It consists of Conv2d, MaxPool2d, AvgPool2d and pointwise layers (ReLU, Dropout, normalisations), which may be
        nested in Sequentials, inception blocks and residual blocks.

    Returns
    -------
    Sequential
        It has the same names and shares the Parameters: training one net changes the other.

    Raises
    ------
    TypeError
        If there is any other layer; the message names it and says what to do.
    """
    if not is_row(model):
        raise TypeError(f"rarefy takes an nn.Sequential, not {type(model).__name__}, whose layers it cannot list")
    return _rarefied(model, (1, 1))[0]


def patchwise(model: nn.Module, image: Tensor | Array, size: Pair | None = None, batch: int = 32) -> Array:
    """The outputs of ``model(image)`` computed one by one, each from a window that is cut out of the image (§3.1).

    Parameters
    ----------
    model : Module
        It must be fully convolutional; it is run in evaluation mode, without gradients.
    image : Tensor or array
        (N, C, H, W).
    size : int or (h, w), optional
        Size of a window.  By default the part of the image that one output depends on, its receptive field less the
        padding (224 for VGG16, 227 for CaffeNet); for an image of this size the net has exactly one output.
    batch : int
        Number of windows in a batch.

    Returns
    -------
    array
        (N, K, n, m), like ``model(image)``.  The values are equal if no layer pads; otherwise they differ, because the
        padding of a window replaces pixels of the image by zeros.  A window that extends beyond the image (the last
        row, with ceil pooling) is filled with zeros there.

    Raises
    ------
    GeometryError
        If the outputs have no position in the image, or were upsampled.
    ValueError
        If a window of `size` cannot have the same centre as an output, or gives more than one output.
    """
    x = _array("patchwise", image)
    units = _Units(model, x)
    size = units.seen if size is None else pair(size, 1, "size")
    corners = [s - Fraction(n - 1, 2) for s, n in zip(units.start, size)]  # first pixel of the window of output (0, 0)
    if any(c.denominator != 1 for c in corners):
        raise ValueError(
            f"a window of {shape(size)} cannot be centred on an output, because the first output is at pixel "
            f"{float(units.start[0]):g}, {float(units.start[1]):g}: give a size that is one larger or smaller"
        )
    xp = backend.of(x)
    before = [max(0, -int(c)) for c in corners]
    ends = [int(c) + j * (n - 1) + s for c, j, n, s in zip(corners, units.jump, units.grid, size)]
    after = [max(0, end - n) for end, n in zip(ends, x.shape[2:])]
    x = xp.pad(x, ((0, 0), (0, 0), *zip(before, after)))
    places = [
        (n, *(int(c) + b + j * i for c, b, j, i in zip(corners, before, units.jump, at)))
        for n in range(len(x))
        for at in product(*map(range, units.grid))
    ]
    outputs = []
    with evaluating(model), no_grad():
        for first in range(0, len(places), batch):
            chunk = places[first : first + batch]
            windows = xp.stack([x[n, :, top : top + size[0], left : left + size[1]] for n, top, left in chunk])
            y = model(windows).data
            if y.shape[2:] != (1, 1):
                raise ValueError(
                    f"a window of {shape(size)} gives {shape(y.shape[2:])} outputs instead of one: "
                    f"give the size {shape(units.seen)}, which one output of this net depends on"
                )
            outputs.append(y[:, :, 0, 0])
    y = xp.concatenate(outputs)  # (N·n·m, K)
    return y.reshape(len(x), *units.grid, -1).transpose(0, 3, 1, 2)


def macs(model: nn.Module, image_size: Pair, size: Pair | None = None, channels: int | None = None) -> tuple[int, int]:
    """Multiply-adds for one image: in one pass, and patch by patch (§3.1, footnote 1).

    One pass takes ``Σ_l n_l(H)²·c_l``, and N patches take ``N·Σ_l n_l(size)²·c_l``, where ``n_l`` is the side of layer
    l's map and ``c_l`` the multiply-adds of one of its cells.  With the jump ``j_l`` of layer l and the stride S of the
    net, patches compute each cell of layer l about ``(n_l(size)·j_l/S)²`` times.

    Parameters
    ----------
    model : Module
    image_size : int or (h, w)
    size : int or (h, w), optional
        Size of a patch, as for :func:`patchwise`.
    channels : int, optional
        Channels of the image; None: the model's ``in_channels``, or 3 if it has none.

    Returns
    -------
    whole, patches : int
    """
    image_size = pair(image_size, 1, "image_size")
    channels = getattr(model, "in_channels", 3) if channels is None else channels
    units = _Units(model, stand_in(model.parameters()[0].data, (1, channels, *image_size)))
    size = units.seen if size is None else pair(size, 1, "size")
    whole, one = (nn.summary(model, s, channels).macs for s in (image_size, size))
    return whole, prod(units.grid) * one


class _Units:
    """The positions of a model's outputs on an image, found by running only the shapes; all values are pairs (h, w).

    Attributes
    ----------
    grid : number of outputs
    jump : distance of neighbouring outputs in pixels, f
    start : centre of output (0, 0)
    seen : size of the part of the image that one output depends on: its receptive field less the padding, ``r − 2P``
    """

    def __init__(self, model, x):
        image = Tensor(x, name="image")
        try:
            with evaluating(model), no_grad(), shapes_only():
                y = model(image)
        except ValueError as error:
            raise ValueError(f"the net has no output for images of shape {x.shape}: {error}") from error
        field = receptive_field(y, image)
        (root,) = image.where
        if any(len(m.sees) > 1 for m in y.where[root]) or any(j.denominator > 1 for j in field.jump):
            raise GeometryError(
                f"the outputs of {type(model).__name__} were upsampled, so neighbouring outputs depend on the same "
                "window of the image; give the part of the net below its upsampling layers"
            )
        self.grid, self.start = y.shape[2:], field.start
        self.jump = tuple(map(int, field.jump))
        self.seen = tuple(r - 2 * p for r, p in zip(field.size, field.padding))


def _array(name, image):
    x = image.data if isinstance(image, Tensor) else image
    require_maps(name, x)
    return x


POINTWISE = (nn.ReLU, nn.Dropout, nn.LocalResponseNorm, nn.BatchNorm2d, nn.Scale)


def _rarefied(module, spread):
    """A copy of `module` with stride 1 and its dilation multiplied by `spread` (h, w); the spread of later layers."""
    if is_row(module):
        layers = {}
        for name, child in module.children():
            layers[name], spread = _rarefied(child, spread)
        return in_mode(nn.Sequential(**layers), module), spread
    if isinstance(module, nn.Branches):
        branches, (after, *_) = zip(*(_rarefied(branch, spread) for branch in module.branches))
        return in_mode(nn.Branches(*branches), module), after
    if isinstance(module, nn.Residual):
        branch, after = _rarefied(module.branch, spread)
        downsample = module.downsample and _rarefied(module.downsample, spread)[0]
        return in_mode(nn.Residual(branch, downsample), module), after
    layer = copy(module)  # a shallow copy: options and mode can differ, the Parameters are shared
    if isinstance(module, POINTWISE):
        return layer, spread
    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        raise TypeError(f"cannot rarefy {module.name or 'a layer'} ({type(module).__name__}): {_advice(module)}")
    options = dict(module.options)
    stride = options["stride"]
    stride = pair(module.kernel_size if stride is None else stride, 1, "stride")
    padding, dilation = pair(options["padding"]), pair(options["dilation"])
    options |= dict(  # ceil_mode can stay: it has no effect at stride 1
        stride=1,
        padding=tuple(p * d for p, d in zip(padding, spread)),
        dilation=tuple(k * d for k, d in zip(dilation, spread)),
    )
    layer.options = options
    return layer, tuple(d * s for d, s in zip(spread, stride))


def _advice(module):
    if isinstance(module, nn.Flatten | nn.Linear):
        return "a fully connected layer has one input size; make it a convolution first (nn.surgery.convolutionalize)"
    if isinstance(module, nn.ConvTranspose2d):
        return "rarefaction replaces upsampling; rarefy the net below this layer"
    return (
        "give a net of convolutions, poolings and pointwise layers, which may be nested in nn.Sequential, nn.Branches "
        "and nn.Residual"
    )
