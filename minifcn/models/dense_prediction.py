"""The other ways to a dense output (§3.2): shift-and-stitch, filter rarefaction (à trous), and patch by patch.

A net with stride f gives one output every f pixels.  The paper upsamples them; here is what it weighs that against:

- *shift-and-stitch* runs the net on f² shifted images and interlaces the outputs;
- *rarefaction* takes the strides out and spreads the taps of every later filter by as much: the same numbers, once;
- *patch by patch* is what both replace: the window of each output, cut out and classified by itself (§3.1).
"""

from copy import copy
from fractions import Fraction
from itertools import product
from math import prod

from .. import nn
from ..arrays import backend
from ..engine.core import Tensor, no_grad
from ..engine.explain import shape
from ..errors import GeometryError
from ..geometry import receptive_field
from ..kernels import shapes_only
from ..kernels.shapes import pair, require_maps, stand_in
from ..nn.module import evaluating, in_mode, is_row

__all__ = ["macs", "patchwise", "rarefy", "shift_and_stitch"]


def shift_and_stitch(model, image):
    """The outputs of a net of stride f at every pixel, interlaced from f² shifted images (§3.2).

    ``Y[c::f] = N(x[c:])`` for c = 0 … f − 1 along each axis: the paper's shift, by cropping instead of padding.  Every
    prediction sits at the centre of its receptive field.

    Parameters
    ----------
    model : Module
        Of convolutions, poolings and pointwise layers; run in evaluation mode, without gradients.
    image : Tensor or array
        (N, C, H, W).

    Returns
    -------
    array
        (N, K, H + 2P − r + 1, W + 2P − r + 1), with the receptive field r and the effective padding P (0 for a net that
        never pads) derived from the model.  ``Y[t]`` belongs to pixel ``t + (r − 1)/2 − P``.

        It equals ``rarefy(model)(image)``: everywhere if no layer pads, else only away from the border (P + f − 1 cells
        on the top and left, P on the other sides), for padding lies elsewhere around a cropped image.

    Raises
    ------
    GeometryError
        If the outputs have no place in the image (flattened) or were upsampled: there is nothing to interlace.
    ValueError
        If the image is smaller than a receptive field.
    """
    x = _array("shift_and_stitch", image)
    units = _Units(model, x)
    sizes = [n - s + 1 for n, s in zip(x.shape[2:], units.seen)]
    if min(sizes) < 1:
        raise ValueError(
            f"shift_and_stitch needs an image of at least {shape(units.seen)}, what one output of this net "
            f"sees, got {shape(x.shape[2:])}"
        )
    stitched = None
    with evaluating(model), no_grad():
        for top, left in product(*(range(min(f, n)) for f, n in zip(units.jump, sizes))):
            y = model(x[:, :, top:, left:]).data
            if stitched is None:
                stitched = backend.of(y).empty((*y.shape[:2], *sizes), y.dtype)
            place = stitched[:, :, top :: units.jump[0], left :: units.jump[1]]
            place[...] = y[:, :, : place.shape[2], : place.shape[3]]  # ceil pooling: outputs of clipped windows follow
    return stitched


def rarefy(model):
    """The same net with stride 1: filter rarefaction, à trous, or dilation (§3.2).

    The paper's rule, layer by layer: take a stride s out, and give every later filter ``f'[i, j] = f[i/s, j/s]`` where
    s divides both, 0 elsewhere.  In the end layer l, pooling included, has stride 1, dilation ``D_l·d_l`` and padding
    ``D_l·p_l`` with ``D_l = Π_{m<l} s_m``.  Receptive fields stay, and every f-th output is the old
    one, where ceil-mode pooling clips no window.

    Parameters
    ----------
    model : Sequential
        Of Conv2d, MaxPool2d, AvgPool2d and pointwise layers (ReLU, Dropout, normalisations), nested as you like, in
        inception and residual blocks too.

    Returns
    -------
    Sequential
        With the same names and the same Parameters, shared, not copied: training one trains the other.

    Raises
    ------
    TypeError
        For any other layer, by name, and what to do about it.
    """
    if not is_row(model):
        raise TypeError(f"rarefy takes an nn.Sequential, whose layers it can see, not {type(model).__name__}")
    return _rarefied(model, (1, 1))[0]


def patchwise(model, image, size=None, batch=32):
    """The outputs of the whole-image pass, one by one: each from its own window, cut out of the image (§3.1).

    Parameters
    ----------
    model : Module
        Fully convolutional; run in evaluation mode, without gradients.
    image : Tensor or array
        (N, C, H, W).
    size : int or (h, w), optional
        Of the window.  By default what one output sees of the image, the size at which the net gives just that output:
        its receptive field less the padding (224 for VGG16, 227 for CaffeNet).
    batch : int
        Windows a minibatch.

    Returns
    -------
    array
        (N, K, n, m), as ``model(image)``.  Equal to it if no layer pads, otherwise not: a window sees zeros where the
        whole image has pixels.  What reaches beyond the image (the last row, with ceil pooling) is filled with zeros.

    Raises
    ------
    GeometryError
        If the outputs have no place in the image, or were upsampled.
    ValueError
        If a window of `size` has not its centre where an output has, or gives more than one output.
    """
    x = _array("patchwise", image)
    units = _Units(model, x)
    size = units.seen if size is None else pair(size, 1, "size")
    corners = [s - Fraction(n - 1, 2) for s, n in zip(units.start, size)]  # of the window of output (0, 0)
    if any(c.denominator != 1 for c in corners):
        raise ValueError(
            f"a window of {shape(size)} is half a pixel beside the outputs, whose centres lie at "
            f"{float(units.start[0]):g}, {float(units.start[1]):g}: give a size of the other parity"
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
                    f"a window of {shape(size)} gives {shape(y.shape[2:])} outputs, not one: "
                    f"one output of this net sees {shape(units.seen)} pixels"
                )
            outputs.append(y[:, :, 0, 0])
    y = xp.concatenate(outputs)  # (N·n·m, K)
    return y.reshape(len(x), *units.grid, -1).transpose(0, 3, 1, 2)


def macs(model, image_size, size=None, channels=None):
    """Multiply-adds of one image: in one pass, and patch by patch (§3.1, footnote 1).

    ``Σ_l n_l(H)²·c_l`` against ``N·Σ_l n_l(size)²·c_l`` for N outputs, with ``n_l`` the side of layer l's map and
    ``c_l`` the multiply-adds of one of its cells.  Layer l is computed about ``(n_l(size)·j_l/S)²`` times over.

    Parameters
    ----------
    model : Module
    image_size : int or (h, w)
    size : int or (h, w), optional
        Of a patch, as for :func:`patchwise`.
    channels : int, optional
        Of the image; None: the model's ``in_channels``, else 3.

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
    """Where the outputs of a model lie on an image, from a run for shapes alone; everything a pair (h, w).

    Attributes
    ----------
    grid : how many there are
    jump : pixels from one to the next, f
    start : the centre of output (0, 0)
    seen : pixels of the image that one output sees, its receptive field less the padding, ``r − 2P``
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
                f"the outputs of {type(model).__name__} were upsampled: neighbours see the same windows, so there is "
                "none to cut out or to shift for each; give the net below its upsampling layers"
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
    """A copy of `module` whose taps lie `spread` apart (h, w), and how far apart those of the layers after it must."""
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
    layer = copy(module)  # its own options and mode; the Parameters are the same objects
    if isinstance(module, POINTWISE):
        return layer, spread
    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        raise TypeError(f"cannot rarefy {module.name or 'a layer'} ({type(module).__name__}): {_advice(module)}")
    options = dict(module.options)
    stride = options["stride"]
    stride = pair(module.kernel_size if stride is None else stride, 1, "stride")
    padding, dilation = pair(options["padding"]), pair(options["dilation"])
    options |= dict(  # with stride 1, ceil_mode has nothing left to round up
        stride=1,
        padding=tuple(p * d for p, d in zip(padding, spread)),
        dilation=tuple(k * d for k, d in zip(dilation, spread)),
    )
    layer.options = options
    return layer, tuple(d * s for d, s in zip(spread, stride))


def _advice(module):
    if isinstance(module, nn.Flatten | nn.Linear):
        return "a fully connected layer sees one size only; make it a convolution first (nn.surgery.convolutionalize)"
    if isinstance(module, nn.ConvTranspose2d):
        return "it upsamples what rarefaction would compute densely; rarefy the net below it"
    return "only convolutions, poolings and pointwise layers can be, in rows, branches or residual blocks; rarefy those"
