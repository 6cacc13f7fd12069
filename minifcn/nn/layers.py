"""The layers: each holds hyper-parameters and parameters, and calls one operation."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from .. import ops
from ..arrays import parallel
from ..arrays.types import Array, Pair
from ..engine.core import Tensor, scope
from ..kernels import is_shapes_only
from ..kernels.shapes import pair
from ..ops import activation, conv, norm
from . import init
from .module import Buffer, Module, Parameter

Initialiser = Callable[[Any], Array]


class Conv2d(Module):
    """Convolution, ``ops.conv2d``: a weight (O, C/groups, kh, kw), He-initialised by default, and a bias, zero.

    `stride`, `padding`, `dilation` and `groups` are those of :func:`minifcn.ops.conv2d`; `weight_init` is a function of
    the shape of the weight (``nn.init``).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Pair, stride: Pair = 1, padding: Pair = 0,
        dilation: Pair = 1, groups: int = 1, bias: bool = True, weight_init: Initialiser = init.he,
    ) -> None:  # fmt: skip
        self.options: dict[str, Any] = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        self.weight = Parameter(
            weight_init((out_channels, in_channels // groups, *pair(kernel_size, 1, "kernel_size")))
        )
        self.bias = Parameter(init.zero(out_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, **self.options)

    def _joined(self, following: Module, x: Tensor) -> Callable[[Tensor], Tensor] | None:
        most = _limit(self, following, x, Conv2d)
        if most is None or self.bias is None or not conv.fuses(x, self.weight, self.bias):
            return None
        node = conv.ConvReLU2d(**self.options, most=most)
        return _as_both(self, following, lambda x: node(x, self.weight, self.bias))

    def describe(self) -> str:
        o, c, kh, kw = self.weight.shape
        return f"{c * self.options['groups']}→{o}, {kh}×{kw}" + _unusual(self.options)


class ConvTranspose2d(Module):
    """Transposed convolution, ``ops.conv_transpose2d``: a weight (C, O/groups, kh, kw) and a bias, initially zero."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Pair, stride: Pair = 1, padding: Pair = 0,
        output_padding: Pair = 0, groups: int = 1, bias: bool = True, dilation: Pair = 1,
        weight_init: Initialiser = init.he,
    ) -> None:  # fmt: skip
        self.options: dict[str, Any] = dict(
            stride=stride, padding=padding, output_padding=output_padding, groups=groups, dilation=dilation
        )
        self.weight = Parameter(
            weight_init((in_channels, out_channels // groups, *pair(kernel_size, 1, "kernel_size")))
        )
        self.bias = Parameter(init.zero(out_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv_transpose2d(x, self.weight, self.bias, **self.options)

    def describe(self) -> str:
        c, o, kh, kw = self.weight.shape
        return f"{c}→{o * self.options['groups']}, {kh}×{kw}" + _unusual(self.options)


class MaxPool2d(Module):
    """Max pooling, ``ops.max_pool2d``."""

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1,
        ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        self.kernel_size = kernel_size
        self.options: dict[str, Any] = dict(stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.kernel_size, **self.options)

    def describe(self) -> str:
        return f"{self.kernel_size}" + _unusual(self.options)


class AvgPool2d(Module):
    """Average pooling, ``ops.avg_pool2d``."""

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, dilation: Pair = 1,
    ) -> None:  # fmt: skip
        self.kernel_size = kernel_size
        self.options: dict[str, Any] = dict(
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            dilation=dilation,
        )

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, self.kernel_size, **self.options)

    def describe(self) -> str:
        return f"{self.kernel_size}" + _unusual(self.options)


class GlobalAvgPool2d(Module):
    """The mean over the whole map: (N, C, H, W) -> (N, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.mean(x, axis=(2, 3), keepdims=True)


class Scale(Module):
    """y_c = γ_c · x_c, with every γ_c initially `value`; at-once training uses it to equalise the streams."""

    def __init__(self, channels: int, value: float = 1.0) -> None:
        self.weight = Parameter(init.zero(channels) + np.float32(value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.reshape(-1, 1, 1)


class ReLU(Module):
    """max(0, x), ``ops.relu``."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class ReLU6(Module):
    """min(max(0, x), 6), ``ops.relu6``."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu6(x)


MOST = {ReLU: np.inf, ReLU6: 6.0}
"""The upper limits of the layers that may run with the layer before them."""


class Pad(Module):
    """Zeros around the maps, ``ops.pad``: (top, bottom, left, right), or one number for all sides.

    A convolution pads both sides alike.  Before one, this layer makes TensorFlow's SAME padding, which has an odd total
    at stride 2 and puts the larger half below and to the right.
    """

    def __init__(self, padding: int | tuple[int, int, int, int]) -> None:
        self.options: dict[str, Any] = dict(padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        padding = self.options["padding"]
        return ops.pad(x, (padding,) * 4 if isinstance(padding, int) else padding)

    def describe(self) -> str:
        return f"{self.options['padding']}"


class Dropout(Module):
    """Elementwise dropout, ``ops.dropout``, in training mode; the identity in evaluation mode."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, self.training)

    def describe(self) -> str:
        return f"{self.p}"


class LocalResponseNorm(Module):
    """Normalisation across neighbouring channels, ``ops.local_response_norm``."""

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.options: dict[str, Any] = dict(size=size, alpha=alpha, beta=beta, k=k)

    def forward(self, x: Tensor) -> Tensor:
        return ops.local_response_norm(x, **self.options)


class BatchNorm2d(Module):
    """Batch normalisation with running statistics.

    In training mode it normalises with the batch's statistics, and updates the running statistics:
    ``running ← (1 − m)·running + m·batch`` (with the unbiased variance).  In evaluation mode, or with ``frozen`` set,
    which suits batches of one image, it normalises with the running statistics and does not update them.  If several
    ranks share a batch (:func:`minifcn.arrays.parallel.computing`), the statistics are those of the whole batch.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1, frozen: bool = False) -> None:
        self.weight, self.bias = Parameter(init.zero(channels) + 1), Parameter(init.zero(channels))
        self.running_mean, self.running_var = Buffer(init.zero(channels)), Buffer(init.zero(channels) + 1)
        self.eps, self.momentum, self.frozen = eps, momentum, frozen

    def forward(self, x: Tensor) -> Tensor:
        if self.frozen or not self.training:
            return ops.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, self.eps)
        if part := parallel.part():
            node: norm.SyncBatchNorm2d | norm.BatchNorm2d
            node = norm.SyncBatchNorm2d.make(eps=self.eps, all_reduce=part.ranks.all_reduce)
        else:
            node = norm.BatchNorm2d.make(eps=self.eps)
        return self._normalised(node, x)

    def _joined(self, following: Module, x: Tensor) -> Callable[[Tensor], Tensor] | None:
        most = _limit(self, following, x, BatchNorm2d)
        if most is None or self.frozen or not self.training or parallel.part():
            return None
        if not norm.fuses(x, self.weight, self.bias):
            return None
        return _as_both(self, following, lambda x: self._normalised(norm.BatchNormReLU2d(self.eps, most), x))

    def _normalised(self, node, x):
        y = node(x, self.weight, self.bias)
        if not is_shapes_only():
            if node.pixels > 0:  # an empty batch has no mean
                self._update(self.running_mean, node.batch_mean)
            if node.pixels > 1:  # a single value has no unbiased variance
                self._update(self.running_var, node.batch_var * (node.pixels / (node.pixels - 1)))
        return y

    def _update(self, running, batch):
        running.data += self.momentum * (batch - running.data)

    def describe(self) -> str:
        return f"{self.weight.size}"


def _limit(layer, following, x, kind):
    """The upper limit of the ReLU `following`, if the layer and the ReLU may run as one operation; else None."""
    most = MOST.get(type(following))
    if most is None or type(layer) is not kind or "forward" in {**vars(layer), **vars(following)}:
        return None  # a class or an instance with a forward of its own computes something else
    if not all([isinstance(operand, Tensor) for operand in (x, layer.weight, layer.bias)]):
        return None  # two separate operations take plain arrays, too
    return most if _in_use() == AS_DEFINED else None


def _as_both(layer, following, function):
    """`function`, which does the work of both layers, with the names that they give."""

    def both(x):
        with scope(layer.name):
            y = function(x)
        y.name = following.name or type(following).__name__
        return y

    return both


def _in_use():
    """What a layer and the ReLU after it run if they run as two; a user may have replaced some of it."""
    return [getattr(owner, name) for owner, name in REPLACEABLE]


REPLACEABLE = [
    (Module, "__call__"),
    *[(layer, "forward") for layer in (Conv2d, BatchNorm2d, ReLU, ReLU6)],
    *[(ops, name) for name in ("conv2d", "relu", "relu6")],
    *[(conv, "Conv2d"), (norm, "BatchNorm2d"), (activation, "ReLU"), (activation, "ReLU6")],
    *product((conv.Conv2d, norm.BatchNorm2d, activation.ReLU, activation.ReLU6), ("forward", "backward")),
]
AS_DEFINED = _in_use()


class Linear(Module):
    """A fully connected layer, y = x Wᵀ + b, with W (O, C) by default He-initialised."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, weight_init: Initialiser = init.he
    ) -> None:
        self.weight = Parameter(weight_init((out_features, in_features)))
        self.bias = Parameter(init.zero(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.weight.shape[1]:
            raise ValueError(
                f"{self.name or 'a fully connected layer'} reads {self.weight.shape[1]} features, got {x.shape[-1]}: "
                "give images of the net's size, or make a net for any size with nn.surgery.convolutionalize"
            )
        return ops.linear(x, self.weight, self.bias)

    def describe(self) -> str:
        return f"{self.weight.shape[1]}→{self.weight.shape[0]}"


class Flatten(Module):
    """Reshape (N, C, H, W) -> (N, C·H·W), in C order."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.reshape(x, len(x), -1)


def _unusual(options):
    """The options that differ from the defaults, as text for `describe`."""
    plain = dict(stride=(None, 1), padding=(0,), dilation=(1,), groups=(1,), output_padding=(0,), ceil_mode=(False,))
    return "".join(f", {k} {v}" for k, v in options.items() if v not in plain.get(k, (True,)))
