"""Net surgery (§3.1): a classifier becomes fully convolutional, weights move from net to net, batch norm is folded."""

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field

from ..arrays import backend
from ..engine.core import Tensor, no_grad
from ..errors import shown
from ..kernels import shapes_only
from ..kernels.shapes import pair, stand_in
from .layers import AvgPool2d, BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Linear
from .module import Module, Parameter, Sequential, assign, evaluating, in_mode, is_row, modules_in

__all__ = ["Transplant", "convolutionalize", "fold_batchnorm", "transplant"]


def convolutionalize(classifier, input_size=None, channels=None):
    """The fully convolutional net that computes what a classifier does, at every place of an image of any size.

    A fully connected layer is a convolution whose kernel covers its whole input (§3.1): with h×w the size of the maps
    it flattens, its weight (O, C·h·w) is the kernel (O, C, h, w), reshaped in C order; those after it are 1×1
    convolutions.  A mean over whole maps becomes an average pooling of their size, at stride 1.

    Parameters
    ----------
    classifier : Sequential
        Layers in a row, with Flatten before the first Linear; rows in it are looked into.
    input_size : int or (int, int), optional
        Height and width of the images it was made for; None: the classifier's own ``input_size``.
    channels : int, optional
        Of the images; None: the classifier's own ``in_channels``, else 3.

    Returns
    -------
    Sequential
        The same layers under the same names.  (N, C, H, W) -> (N, O, h, w), where h = w = 1 at `input_size`.  Arrays
        are shared, not copied, and layers that stay are the classifier's own: ``train()`` or ``to()`` on either net
        changes both.  Give a ``deepcopy`` to have two.

    Raises
    ------
    ValueError
        If the classifier does not take images of that size, or something else than Linear reads flattened maps.

    Examples
    --------
    >>> import minifcn as mf
    >>> with mf.shapes_only():
    ...     net = mf.nn.surgery.convolutionalize(mf.models.lenet())
    ...     net.c5.weight.shape, net.summary(64, channels=1)[-1]["output"]
    ((120, 16, 5, 5), (1, 10, 9, 9))
    """
    if not classifier.parameters():
        raise ValueError("a net without parameters has no fully connected layer to convolutionalize")
    size = getattr(classifier, "input_size", None) if input_size is None else input_size
    if size is None:
        raise ValueError("this net does not say what images it was made for: give input_size")
    size = pair(size, 1, "input_size")
    channels = getattr(classifier, "in_channels", 3) if channels is None else channels
    with evaluating(classifier), no_grad(), shapes_only():
        x = Tensor(stand_in(classifier.parameters()[0].data, (1, channels, *size)))
        return _convolutional(classifier, x, None)[0]


def _convolutional(row, x, kernel):
    """The same for a row that reads `x`, flattened from maps of size `kernel` if that is not None; and after it."""
    layers = {}
    for name, layer in row.children():
        if is_row(layer) and any(isinstance(m, Flatten | Linear | GlobalAvgPool2d) for m in layer.modules()):
            layers[name], x, kernel = _convolutional(layer, x, kernel)
            continue
        if isinstance(layer, Flatten):
            kernel = x.shape[2:]
        elif isinstance(layer, Linear):
            layers[name] = _as_convolution(name, layer, kernel, x.shape)
            kernel = (1, 1)
        elif isinstance(layer, GlobalAvgPool2d):
            layers[name] = in_mode(AvgPool2d(x.shape[2:], stride=1), layer)
        elif kernel in (None, (1, 1)) or not layer.parameters():
            layers[name] = layer
        else:
            raise ValueError(f"{name} is a {type(layer).__name__} on flattened maps: only Linear becomes a kernel")
        x = layer(x)
    return in_mode(Sequential(**layers), row), x, kernel


def _as_convolution(name, linear, kernel, given):
    outputs, inputs = linear.weight.shape
    if kernel is None:
        raise ValueError(f"{name} reads maps of {given[2:]} that nothing has flattened: put Flatten before")
    if given[1] != inputs:
        raise ValueError(
            f"{name} reads {inputs} features, and images of input_size give {given[1]}: input_size is the size of the "
            "images that the classifier was made for; the net that comes of it takes any"
        )
    weight = linear.weight.data.reshape(outputs, inputs // (kernel[0] * kernel[1]), *kernel)
    layer = Conv2d(*weight.shape[1::-1], kernel, bias=False, weight_init=lambda _: weight)
    for attribute in ("lr_mult", "decay_mult", "requires_grad"):
        setattr(layer.weight, attribute, getattr(linear.weight, attribute))
    layer.bias = linear.bias
    return in_mode(layer, linear)


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
        return shown("\n".join(f"{what:<9} {len(names):>4}  {_few(names)}" for what, names in rows))


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
    own, report = dict(target.named_tensors()), Transplant()
    first = next((name for name, tensor in own.items() if tensor.ndim == 4), None)  # the image's
    for given, array in arrays.items():
        name = rename(given) if rename else given
        there = own.get(name)
        if there is None:
            report.unused.append(given)
            continue
        values = backend.of(there.data).asarray(array, dtype=there.dtype)
        if there.shape == values.shape:
            report.copied.append(name)
        elif there.size == values.size:
            values = values.reshape(there.shape)
            report.reshaped.append(name)
        elif name == first and _reads_more_channels(there.shape, values.shape):
            extra = there.shape[1] - values.shape[1]
            mean = values.mean(axis=1, keepdims=True)
            values = backend.of(there.data).concatenate([values, *[mean] * extra], axis=1)
            report.widened.append(name)
        else:
            report.unused.append(given)
            continue
        assign(there, values)
    taken = {*report.copied, *report.reshaped, *report.widened}
    report.kept = [name for name in own if name not in taken]
    return report


def _reads_more_channels(there, given):
    same = there[:1] + there[2:] == given[:1] + given[2:]
    return len(there) == len(given) == 4 and same and there[1] > given[1]


def fold_batchnorm(model):
    """A copy of `model` for inference in which batch norms are part of the convolutions before them.

    ``γ (w∗x + b − μ)/√(σ² + ε) + β = w'∗x + b'`` with ``w' = w · γ/√(σ² + ε)`` and ``b' = β + (b − μ) · γ/√(σ² + ε)``:
    the running statistics are constants, so two affine maps become one.

    Folded is what follows a convolution directly in a Sequential; it leaves an empty place under its name, where a head
    reads the same map as before (the convolution's own map is no longer there to be read).  A convolution that is used
    in several places keeps its batch norms: they differ.

    Parameters
    ----------
    model : Module
        It stays as it is.

    Returns
    -------
    Module
        In evaluation mode; its outputs are `model`'s own in evaluation mode.
    """
    model = deepcopy(model).eval()
    held = list({id(m): m for m in _held(model)}.values())
    uses = Counter(id(m.weight) for holder in held for _, m in _inner(holder) if isinstance(m, Conv2d))
    for row in filter(is_row, held):
        before = None
        for name, layer in _inner(row):
            alone = isinstance(before, Conv2d) and uses[id(before.weight)] == 1
            if isinstance(layer, BatchNorm2d) and alone:
                _fold(before, layer)
                setattr(row, name, Sequential())
            before = layer
    return model


def _fold(convolution, norm):
    factor = norm.weight.data / (norm.running_var.data + norm.eps) ** 0.5  # (O,)
    bias = 0 if convolution.bias is None else convolution.bias.data
    convolution.weight.data = convolution.weight.data * factor[:, None, None, None]
    convolution.bias = Parameter(norm.bias.data + (bias - norm.running_mean.data) * factor)


def _inner(module):
    """(name, module) of what it holds, under the attributes' own names."""
    return [pair for key, value in vars(module).items() for pair in modules_in(key, value)]


def _held(module):
    """`module` and every module it holds, those that its names leave out included."""
    yield module
    for _, inner in _inner(module):
        yield from _held(inner)


def _few(names, shown=4):
    return ", ".join(names[:shown]) + (f", … {len(names) - shown} more" if len(names) > shown else "")
