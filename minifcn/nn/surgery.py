"""Net surgery (§3.1): make a classifier fully convolutional, copy weights between nets, fold batch norm."""

from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field

from ..arrays import backend
from ..arrays.types import Array, Pair
from ..engine.core import Tensor, no_grad
from ..errors import shown
from ..kernels import shapes_only
from ..kernels.shapes import pair, stand_in
from .layers import AvgPool2d, BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Linear
from .module import Module, Parameter, Sequential, assign, evaluating, in_mode, is_row, modules_in

__all__ = ["Transplant", "convolutionalize", "fold_batchnorm", "transplant"]


def convolutionalize(classifier: Sequential, input_size: Pair | None = None, channels: int | None = None) -> Sequential:
    """A fully convolutional net that applies a classifier at every position of an image of any size.

    A fully connected layer is a convolution whose kernel covers its whole input (§3.1).  If the flattened maps have the
    size h×w, its weight (O, C·h·w) becomes the kernel (O, C, h, w), reshaped in C order; later fully connected layers
    become 1×1 convolutions.  A mean over whole maps becomes an average pooling of their size, at stride 1.

    Parameters
    ----------
    classifier : Sequential
        It has a Flatten before the first Linear; Sequentials inside it are converted, too.
    input_size : int or (int, int), optional
        Height and width of the classifier's images; None: its attribute ``input_size``.
    channels : int, optional
        Channels of the images; None: the classifier's ``in_channels``, or 3 if it has none.

    Returns
    -------
    Sequential
        The layers have the classifier's names; Flatten is removed.  (N, C, H, W) -> (N, O, h, w), with h = w = 1 at
        `input_size`.  Arrays are shared, not copied, and unchanged layers are the classifier's layer objects, so
        ``train()`` or ``to()`` on one net changes the other.  For independent nets, pass a ``deepcopy``.

    Raises
    ------
    ValueError
        If the classifier does not accept images of that size, or a layer other than Linear reads flattened maps.

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
        raise ValueError("the size of this net's images is not known: give input_size")
    size = pair(size, 1, "input_size")
    channels = getattr(classifier, "in_channels", 3) if channels is None else channels
    with evaluating(classifier), no_grad(), shapes_only():
        x = Tensor(stand_in(classifier.parameters()[0].data, (1, channels, *size)))
        return _convolutional(classifier, x, None)[0]


def _convolutional(row, x, kernel):
    """Convert the Sequential `row` to convolutions; return the new layers, and `x` and `kernel` behind them.

    `x` is the input of the first layer.  `kernel` is the size of the maps before the last Flatten, None without one.
    """
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
            raise ValueError(
                f"{name} is a {type(layer).__name__} that reads flattened maps: only a Linear can become a convolution"
            )
        x = layer(x)
    return in_mode(Sequential(**layers), row), x, kernel


def _as_convolution(name, linear, kernel, given):
    outputs, inputs = linear.weight.shape
    if kernel is None:
        raise ValueError(f"{name} reads maps of {given[2:]} that are not flattened: put a Flatten before it")
    if given[1] != inputs:
        raise ValueError(
            f"{name} reads {inputs} features, but images of input_size give {given[1]}: give as input_size the size of "
            "the images that the classifier was made for (the new net takes any size)"
        )
    weight = linear.weight.data.reshape(outputs, inputs // (kernel[0] * kernel[1]), *kernel)
    layer = Conv2d(*weight.shape[1::-1], kernel, bias=False, weight_init=lambda _: weight)
    for attribute in ("lr_mult", "decay_mult", "requires_grad"):
        setattr(layer.weight, attribute, getattr(linear.weight, attribute))
    layer.bias = linear.bias
    return in_mode(layer, linear)


@dataclass
class Transplant:
    """The report of :func:`transplant`: for each outcome, the names of the arrays."""

    copied: list = field(default_factory=list)
    reshaped: list = field(default_factory=list)  # copied with another shape, from a Linear to a convolution
    widened: list = field(default_factory=list)  # additional input channels have the mean over the source's channels
    kept: list = field(default_factory=list)  # arrays of the target that did not change
    unused: list = field(default_factory=list)  # arrays of the source that were not copied

    def __str__(self) -> str:
        rows = [(what, names) for what, names in vars(self).items() if names]
        return shown("\n".join(f"{what:<9} {len(names):>4}  {_few(names)}" for what, names in rows))


def transplant(
    source: Module | Mapping[str, Array], target: Module, rename: Callable[[str], str | None] | None = None
) -> Transplant:
    """Copy the arrays of `source` into the tensors of `target` with the same names, as far as they fit.

    A finer net starts from a coarser one this way (§4.2).  The rules are those of the reference code: an array of the
    same shape is copied; one of the same number of elements is copied in C order (a fully connected layer into a
    convolution).  If only the number of input channels is larger in the first convolution of `target`, each additional
    channel gets the mean over the source's channels (RGB into RGBD, §5); this applies to no other layer, because only
    the image can have additional channels.  All other tensors of `target` are unchanged, and listed in the report.

    Parameters
    ----------
    source : Module or dict of {str: array}
    target : Module
        Changed in place.
    rename : callable, optional
        ``rename(name in source) -> name in target``, or None for an array that must not be copied.

    Returns
    -------
    Transplant
    """
    arrays = source.state_dict() if isinstance(source, Module) else dict(source)
    tensors, report = dict(target.named_tensors()), Transplant()
    first = next((name for name, tensor in tensors.items() if tensor.ndim == 4), None)  # it reads the image
    for source_name, array in arrays.items():
        name = rename(source_name) if rename else source_name
        tensor = tensors.get(name)  # type: ignore[arg-type]
        if tensor is None:
            report.unused.append(source_name)
            continue
        values = backend.of(tensor.data).asarray(array, dtype=tensor.dtype)
        if tensor.shape == values.shape:
            report.copied.append(name)
        elif tensor.size == values.size:
            values = values.reshape(tensor.shape)
            report.reshaped.append(name)
        elif name == first and _reads_more_channels(tensor.shape, values.shape):
            extra = tensor.shape[1] - values.shape[1]
            mean = values.mean(axis=1, keepdims=True)
            values = backend.of(tensor.data).concatenate([values, *[mean] * extra], axis=1)
            report.widened.append(name)
        else:
            report.unused.append(source_name)
            continue
        assign(tensor, values)
    changed = {*report.copied, *report.reshaped, *report.widened}
    report.kept = [name for name in tensors if name not in changed]
    return report


def _reads_more_channels(target, source):
    """Whether two weight shapes (O, C, kh, kw) differ only in C, which is larger in `target`."""
    same = target[:1] + target[2:] == source[:1] + source[2:]
    return len(target) == len(source) == 4 and same and target[1] > source[1]


def fold_batchnorm(model: Module) -> Module:
    """A copy of `model` for inference, in which batch norms are merged into the convolutions before them.

    ``γ (w∗x + b − μ)/√(σ² + ε) + β = w'∗x + b'`` with ``w' = w · γ/√(σ² + ε)`` and ``b' = β + (b − μ) · γ/√(σ² + ε)``:
    the running statistics are constants in evaluation mode, so two affine maps can be combined into one.

    A batch norm is merged if it directly follows a convolution in a Sequential.  An empty Sequential takes its place
    and name, so that a head can still read the map after it; the convolution's output before normalisation no longer
    exists.  A convolution whose weight is used in several places is not changed, because its batch norms may differ.

    Parameters
    ----------
    model : Module
        It is not changed.

    Returns
    -------
    Module
        In evaluation mode; its outputs equal `model`'s in evaluation mode, up to rounding.
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
    """(name, module) of the modules in a module's attributes; unlike `children`, it does not skip transparent ones."""
    return [pair for key, value in vars(module).items() for pair in modules_in(key, value)]


def _held(module):
    """`module` and every module inside it, including those in transparent attributes."""
    yield module
    for _, inner in _inner(module):
        yield from _held(inner)


def _few(names, shown=4):
    return ", ".join(names[:shown]) + (f", … {len(names) - shown} more" if len(names) > shown else "")
