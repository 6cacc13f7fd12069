"""Net surgery (§3.1): a classifier becomes fully convolutional, weights move from net to net, batch norm is folded."""

from copy import deepcopy
from dataclasses import dataclass, field

from .. import backend
from ..core import Tensor, no_grad
from ..kernels import shapes_only
from ..kernels.shapes import pair, stand_in
from .layers import AvgPool2d, BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Linear
from .module import Module, Parameter, Sequential, evaluating, modules_in

__all__ = ["Transplant", "convolutionalize", "fold_batchnorm", "transplant"]


def convolutionalize(classifier, input_size=None, channels=3):
    """The fully convolutional net that computes what a classifier does, at every place of an image of any size.

    A fully connected layer is a convolution whose kernel covers its whole input (§3.1): with h×w the size of the maps
    it flattens, its weight (O, C·h·w) is the kernel (O, C, h, w), reshaped in C order; those after it are 1×1
    convolutions.  A mean over whole maps becomes an average pooling of their size, at stride 1.

    Parameters
    ----------
    classifier : Sequential
        Layers in a row, with Flatten before the first Linear.
    input_size : int or (int, int), optional
        Height and width of the images it was made for; None: the classifier's own ``input_size``.
    channels : int
        Of the images.

    Returns
    -------
    Sequential
        The same layers under the same names; arrays are shared, not copied.  (N, C, H, W) -> (N, O, h, w), where
        h = w = 1 at `input_size`.

    Raises
    ------
    ValueError
        If the classifier does not take images of that size, or something else than Linear reads flattened maps.
    """
    if not classifier.parameters():
        raise ValueError("a net without parameters has no fully connected layer to convolutionalize")
    size = pair(classifier.input_size if input_size is None else input_size, 1, "input_size")
    layers, kernel = {}, None
    with evaluating(classifier), no_grad(), shapes_only():
        x = Tensor(stand_in(classifier.parameters()[0].data, (1, channels, *size)))
        for name, layer in classifier.children():
            if isinstance(layer, Flatten):
                kernel = x.shape[2:]
            elif isinstance(layer, Linear):
                if kernel is None:
                    raise ValueError(
                        f"{name} reads maps of {x.shape[2:]} that nothing has flattened: put Flatten before"
                    )
                layers[name] = _as_convolution(layer, kernel)
                kernel = (1, 1)
            elif isinstance(layer, GlobalAvgPool2d):
                layers[name] = AvgPool2d(x.shape[2:], stride=1)
            elif kernel in (None, (1, 1)) or not layer.parameters():
                layers[name] = layer
            else:
                raise ValueError(f"{name} is a {type(layer).__name__} on flattened maps: only Linear becomes a kernel")
            x = layer(x)
    net = Sequential(**layers)
    return net.train(classifier.training)


def _as_convolution(linear, kernel):
    outputs, inputs = linear.weight.shape
    shape = (outputs, inputs // (kernel[0] * kernel[1]), *kernel)
    weight = linear.weight.data.reshape(shape)
    layer = Conv2d(*shape[1::-1], kernel, bias=False, weight_init=lambda _: weight)
    layer.weight.lr_mult, layer.weight.decay_mult = linear.weight.lr_mult, linear.weight.decay_mult
    layer.bias = linear.bias
    return layer


@dataclass
class Transplant:
    """What became of every array: lists of names."""

    copied: list = field(default_factory=list)
    reshaped: list = field(default_factory=list)  # the same numbers in another shape: a Linear's in a convolution
    widened: list = field(default_factory=list)  # further input channels took the mean over the given ones
    kept: list = field(default_factory=list)  # of the receiver: nothing came for them
    unused: list = field(default_factory=list)  # of the donor: nothing took them

    def __str__(self):
        rows = [(what, names) for what, names in vars(self).items() if names]
        return "\n".join(f"{what:<9} {len(names):>4}  {_few(names)}" for what, names in rows)


def transplant(source, target, rename=None):
    """Give `target` the arrays of `source` that fit, by name: how a finer net starts from a coarser one (§4.2).

    The rules of the reference code: the same name and shape is copied; the same name and number of elements is copied
    in C order (a fully connected layer into a convolution).  The first convolution of `target`, if it reads more
    channels than the donor's, gets the mean over the donor's for each further one (RGB into RGBD, §5): an image has
    more channels, where any other layer would be another layer.  Everything else stays as it was; the report says so.

    Parameters
    ----------
    source : Module or dict of {str: array}
    target : Module
        Changed in place.
    rename : callable, optional
        ``rename(name in source) -> name in target``, or None for what shall not be used.

    Returns
    -------
    Transplant
    """
    arrays = source.state_dict() if isinstance(source, Module) else dict(source)
    own, report = target.state_dict(), Transplant()
    first = next((name for name, array in own.items() if array.ndim == 4), None)  # the image's
    for given, array in arrays.items():
        name = rename(given) if rename else given
        there = own.get(name)
        if there is None:
            report.unused.append(given)
            continue
        values = backend.of(there).asarray(array, dtype=there.dtype)
        if there.shape == values.shape:
            report.copied.append(name)
        elif there.size == values.size:
            values = values.reshape(there.shape)
            report.reshaped.append(name)
        elif name == first and _reads_more_channels(there.shape, values.shape):
            extra = there.shape[1] - values.shape[1]
            mean = values.mean(axis=1, keepdims=True)
            values = backend.of(there).concatenate([values, *[mean] * extra], axis=1)
            report.widened.append(name)
        else:
            report.unused.append(given)
            continue
        there[...] = values
    taken = {*report.copied, *report.reshaped, *report.widened}
    report.kept = [name for name in own if name not in taken]
    return report


def _reads_more_channels(there, given):
    same = there[:1] + there[2:] == given[:1] + given[2:]
    return len(there) == len(given) == 4 and same and there[1] > given[1]


def fold_batchnorm(model):
    """A copy of `model` for inference in which every batch norm that follows a convolution is part of it.

    ``γ (w∗x + b − μ)/√(σ² + ε) + β = w'∗x + b'`` with ``w' = w · γ/√(σ² + ε)`` and ``b' = β + (b − μ) · γ/√(σ² + ε)``:
    the running statistics are constants, so two affine maps become one.

    Returns
    -------
    Module
        In evaluation mode; its outputs are `model`'s own in evaluation mode.
    """
    model = deepcopy(model).eval()
    for row in [m for m in _held(model) if isinstance(m, Sequential)]:
        before = None
        for name, layer in list(vars(row).items()):
            if isinstance(layer, BatchNorm2d) and isinstance(before, Conv2d):
                _fold(before, layer)
                delattr(row, name)
            elif isinstance(layer, Module):
                before = layer
    return model


def _fold(convolution, norm):
    factor = norm.weight.data / (norm.running_var.data + norm.eps) ** 0.5  # (O,)
    bias = 0 if convolution.bias is None else convolution.bias.data
    convolution.weight.data = convolution.weight.data * factor[:, None, None, None]
    convolution.bias = Parameter(norm.bias.data + (bias - norm.running_mean.data) * factor)


def _held(module):
    """`module` and every module it holds, those that its names leave out included."""
    yield module
    for key, value in vars(module).items():
        for _, inner in modules_in(key, value):
            yield from _held(inner)


def _few(names, shown=4):
    return ", ".join(names[:shown]) + (f", … {len(names) - shown} more" if len(names) > shown else "")
