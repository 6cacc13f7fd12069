"""Net surgery (§3.1): make a classifier fully convolutional, copy weights between nets, fold batch norm."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..arrays import backend
from ..arrays.types import Array, Pair
from ..data.transforms import Preprocessing
from ..engine.core import Tensor, no_grad
from ..errors import on_one_line, shown
from ..kernels import shapes_only
from ..kernels.shapes import pair, stand_in
from .layers import AvgPool2d, BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Linear
from .module import Module, Parameter, Sequential, assign, evaluating, in_mode, is_row, modules_in

__all__ = ["Transplant", "convolutionalize", "fold_batchnorm", "fold_preprocessing", "transplant"]


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


class HasState(Protocol):
    """Anything with named arrays: a Module, or a file whose layout was recognised (`minifcn.models.Donor`)."""

    def state_dict(self) -> dict[str, Array]:
        """{name: array}."""


@dataclass
class Transplant:
    """The report of :func:`transplant`: for each outcome, {name of a tensor: its shape, and a reason if there is one}.

    Every tensor of the target is in `copied`, `reshaped`, `widened` or `left`.  Every array of the source is in one of
    the first three, by its name in the target, or in `dropped`, by its own.  ``str(report)`` has a line for each
    outcome, `lines` one for each tensor.
    """

    copied: dict[str, str] = field(default_factory=dict)
    reshaped: dict[str, str] = field(default_factory=dict)  # copied with another shape, from a Linear to a convolution
    widened: dict[str, str] = field(default_factory=dict)  # additional input channels have the mean over the source's
    dropped: dict[str, str] = field(default_factory=dict)  # arrays of the source that were not copied
    left: dict[str, str] = field(default_factory=dict)  # tensors of the target that did not change

    def lines(self) -> list[str]:
        """For each tensor: the outcome, the name, the shape, the reason."""
        rows = [(what, name, why) for what, told in vars(self).items() for name, why in told.items()]
        return [shown(f"{what:<9} {on_one_line(name)} {why}") for what, name, why in rows]

    def __str__(self) -> str:
        rows = [(what, list(told)) for what, told in vars(self).items() if told]
        return shown("\n".join(f"{what:<9} {len(names):>4}  {_few(names)}" for what, names in rows))


def transplant(
    source: HasState | Mapping[str, Array], target: Module, rename: Callable[[str], str | None] | None = None,
    widen: bool | str = False, dry: bool = False,
) -> Transplant:  # fmt: skip
    """Copy the arrays of `source` into the tensors of `target` with the same names, as far as they fit.

    A finer net starts from a coarser one this way (§4.2).  The rules are those of the reference code: an array of the
    same shape is copied; one of the same number of elements is copied in C order (a fully connected layer into a
    convolution).  All other tensors of `target` are unchanged.  The report lists every tensor of both.

    If the first kernel of `target` is copied, and both have a ``preprocessing``, `target` takes the source's, because
    the kernel expects images that were converted this way.  If it is widened, `target` takes the source's for the
    source's channels, and the kernel's BGR becomes RGB.

    Parameters
    ----------
    source : Module, Donor or dict of {str: array}
    target : Module
        Changed in place.
    rename : callable, optional
        ``rename(name in source) -> name in target``, or None for an array that must not be copied.
    widen : bool or str
        The convolution that may read more channels than the source's: its name, or True for the first one of `target`.
        Each additional channel gets the mean over the source's channels (RGB into RGBD, §5).
    dry : bool
        Only report; change nothing.

    Returns
    -------
    Transplant

    Raises
    ------
    ValueError
        If `widen` is not the name of a convolution of `target`.
    """
    arrays = source if isinstance(source, Mapping) else source.state_dict()
    tensors, report = dict(target.named_tensors()), Transplant()
    kernels = [name for name, tensor in tensors.items() if tensor.ndim == 4]
    wide = kernels[0] if widen is True and kernels else f"{widen}.weight"
    if widen and wide not in kernels:
        raise ValueError(f"widen is {widen!r}: give the name of a convolution of the target, or True for the first one")
    left = {name: f"{tensor.shape}: nothing of that name in the source" for name, tensor in tensors.items()}
    for theirs, array in arrays.items():
        name, shape = rename(theirs) if rename else theirs, tuple(array.shape)
        if name is None or name not in tensors:
            report.dropped[theirs] = f"{shape}: {'excluded' if name is None else 'no tensor of that name'}"
            continue
        tensor = tensors[name]
        outcome = _outcome(tensor.shape, shape, bool(widen) and name == wide)
        if outcome is None or name not in left:
            why = f"does not fit {tensor.shape}" if outcome is None else f"another array was copied into {name}"
            report.dropped[theirs] = f"{shape}: {why}"
            if name in left:
                left[name] = f"{tensor.shape}: the source's is {shape}"
            continue
        getattr(report, outcome)[name] = f"{shape}" if outcome == "copied" else f"{shape} → {tensor.shape}"
        del left[name]
        if not dry:
            assign(tensor, _fitted(array, tensor))
    report.left = left
    preprocessing = getattr(source, "preprocessing", None)
    if not dry and kernels and preprocessing and hasattr(target, "preprocessing"):
        if kernels[0] in report.copied and preprocessing.bits == target.preprocessing.bits:
            target.preprocessing = preprocessing
        elif kernels[0] in report.copied or kernels[0] in report.widened:
            target.preprocessing = _joined(tensors[kernels[0]], preprocessing, target.preprocessing)
    return report


def _joined(kernel, theirs, own):
    """The preprocessing `own` with `theirs` for the first channels; the kernel's channels are put in the order RGB.

    `own` stays as it is if its images are of 16 bits, theirs of 8, and the means say that the units differ, too.
    """
    turn, n = -1 if theirs.order == "BGR" else 1, theirs.channels
    if turn == -1:
        assign(kernel, backend.of(kernel.data).concatenate([kernel.data[:, n - 1 :: -1], kernel.data[:, n:]], axis=1))
    if theirs.bits != own.bits and max(own.mean[:n]) > 255:
        return own
    return replace(own, mean=theirs.mean[::turn] + own.mean[n:], scale=theirs.scale[::turn] + own.scale[n:])


def _outcome(target, source, widen):
    """What becomes of an array of shape `source` in a tensor of shape `target`: a list of a Transplant, or None."""
    if target == source:
        return "copied"
    if math.prod(target) == math.prod(source):
        return "reshaped"
    same = len(target) == len(source) == 4 and target[:1] + target[2:] == source[:1] + source[2:]
    return "widened" if widen and same and target[1] > source[1] else None


def _fitted(array, tensor):
    """An array in the shape of a tensor, with further input channels if the tensor has more elements."""
    xp = backend.of(tensor.data)
    array = xp.asarray(array, dtype=tensor.dtype)
    if array.size < tensor.size:
        mean = array.mean(axis=1, keepdims=True)
        array = xp.concatenate([array, *[mean] * (tensor.shape[1] - array.shape[1])], axis=1)
    return array.reshape(tensor.shape)


def fold_batchnorm(model: Module) -> Module:
    """A copy of `model` for inference, in which batch norms are merged into the convolutions before them.

    ``γ (w∗x + b − μ)/√(σ² + ε) + β = w'∗x + b'`` with ``w' = w · γ/√(σ² + ε)`` and ``b' = β + (b − μ) · γ/√(σ² + ε)``:
    the running statistics are constants in evaluation mode, so two affine maps can be combined into one.

    A batch norm is merged if it directly follows a convolution in a Sequential.  An empty Sequential takes its place
    and name, so that a head can still read the map after it; the convolution's output before normalisation no longer
    exists.  A convolution that is used in several places is not changed, because its batch norms may differ.

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
    uses = Counter(id(m) for holder in held for _, m in _inner(holder))
    for row in filter(is_row, held):
        before = None
        for name, layer in _inner(row):
            alone = isinstance(before, Conv2d) and uses[id(before)] == 1
            if isinstance(layer, BatchNorm2d) and alone:
                _fold(before, layer)
                setattr(row, name, Sequential())
            before = layer
    return model


def _fold(convolution, norm):
    factor = norm.weight.data / (norm.running_var.data + norm.eps) ** 0.5  # (O,)
    bias = 0 if convolution.bias is None else convolution.bias.data
    # a new Parameter: another layer, such as a transposed convolution, may share the old one
    convolution.weight = Parameter(convolution.weight.data * factor[:, None, None, None])
    convolution.bias = Parameter(norm.bias.data + (bias - norm.running_mean.data) * factor)


def fold_preprocessing(model: Module, new: Preprocessing, old: Preprocessing | None = None) -> None:
    """Change the first convolution so that the model takes images converted by `new`, and computes the same from them.

    ``w ∗ ((x − m) · s) = (w · s/s') ∗ ((x − m') · s') + Σ w · (m' − m) · s``; the channels are reversed if the orders
    differ.  This is exact only in the interior.  Padding is zero *after* the conversion, so it has the colour m before
    and m' afterwards: where the kernel reads padding, the results differ, unless the means are equal.

    Parameters
    ----------
    model : Module
        Changed in place; its attribute ``preprocessing`` becomes `new`.
    new : Preprocessing
    old : Preprocessing, optional
        The conversion that the weights expect; None: the model's ``preprocessing``.

    Raises
    ------
    ValueError
        If the first convolution does not read three channels; if the means differ, and it has no bias.
    """
    old = model.preprocessing if old is None else old
    convolution = next(m for m in model.modules() if isinstance(m, Conv2d))
    w, b = convolution.weight, convolution.bias
    if (w.shape[1], getattr(model, "in_channels", 3)) != (3, 3):
        raise ValueError(f"the first convolution reads {w.shape[1]} channels; a preprocessing is for three")
    xp, turn = backend.of(w.data), -1 if new.order != old.order else 1
    s, m, s2, m2 = (xp.asarray(v) for v in (old.scale, old.mean, new.scale[::turn], new.mean[::turn]))  # old's order
    shift = (w.data.sum(axis=(2, 3)) * ((m2 - m) * s)).sum(axis=1)
    if b is not None:
        assign(b, b.data + shift)
    elif shift.any():
        raise ValueError(
            "the means differ, and the first convolution has no bias: fold_batchnorm gives it one, or give "
            f"a preprocessing with the mean {old.mean}"
        )
    assign(w, (w.data * (s / s2)[:, None, None])[:, ::turn])
    if hasattr(model, "preprocessing"):
        model.preprocessing = new


def _inner(module):
    """(name, module) of the modules in a module's attributes; unlike `children`, it does not skip transparent ones."""
    return [pair for key, value in vars(module).items() for pair in modules_in(key, value)]


def _held(module):
    """`module` and every module inside it, including those in transparent attributes."""
    yield module
    for _, inner in _inner(module):
        yield from _held(inner)


def _few(names, shown=4):
    return ", ".join(map(on_one_line, names[:shown])) + (f", … {len(names) - shown} more" if len(names) > shown else "")
