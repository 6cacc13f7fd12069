"""Classifiers, and the trunks that FCNs use (§4.1).

A `Classifier` is a sequence of layers with the reference nets' names.  Its `Trunk` lacks the scoring layer, and its
fully connected layers have become convolutions.
"""

from collections.abc import Mapping, Sequence
from copy import copy

from .. import nn
from ..engine.core import Tensor, no_grad
from ..kernels import shapes_only
from ..kernels.shapes import stand_in
from ..nn.module import evaluating, in_mode, outputs
from ..nn.surgery import convolutionalize


class Classifier(nn.Sequential):
    """An image classifier: (N, C, input_size, input_size) -> (N, num_classes).

    Parameters
    ----------
    layers : dict of {str: Module}
        In the order they run.
    input_size : int
        Height and width of the images.
    head : str
        The first layer that is not part of the trunk.
    taps : dict of {int: str}
        {stride: name} of the layers from whose maps a skip can compute scores.
    in_channels : int
        Channels of the images.
    pad : int, optional
        Padding of the first layer in the reference FCN, which lets small images have scores; None: the classifier's.
    bias_mults : (float, float)
        ``lr_mult`` and ``decay_mult`` of the reference FCN's biases.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], input_size: int, head: str, taps: dict[int, str], in_channels: int = 3,
        pad: int | None = None, bias_mults: tuple[float, float] = (2.0, 0.0),
    ) -> None:  # fmt: skip
        super().__init__(**layers)
        self.input_size, self.in_channels = input_size, in_channels
        self.head, self.taps, self.pad, self.bias_mults = head, taps, pad, bias_mults
        name_by_path(self)

    def trunk(self, pad: int | None = None) -> "Trunk":
        """The fully convolutional net up to the last feature map; it shares the classifier's arrays.

        Parameters
        ----------
        pad : int, optional
            Padding of the first layer; None: the reference FCN's.
        """
        pad = self.pad if pad is None else pad
        layers = dict(convolutionalize(self).children())
        names = list(layers)
        kept = {name: layers[name] for name in names[: names.index(self.head)]}
        if pad is not None:
            kept[names[0]] = first = copy(kept[names[0]])
            first.options = first.options | dict(padding=pad)
        return in_mode(Trunk(kept, self.taps, self.in_channels, self.input_size, self.bias_mults), self)


class Trunk(nn.Sequential):
    """The fully convolutional part below the scores; `features` returns its inner maps.

    Attributes
    ----------
    top : str
        The layer of the coarsest map, the last one.
    taps : dict of {int: str}
        {stride: name} of the layers whose maps a skip can score.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], taps: dict[int, str], in_channels: int = 3, input_size: int = 128,
        bias_mults: tuple[float, float] = (2.0, 0.0),
    ) -> None:  # fmt: skip
        super().__init__(**layers)
        self.taps, self.in_channels, self.input_size, self.bias_mults = taps, in_channels, input_size, bias_mults
        self.top = list(layers)[-1]

    def features(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """{name: map} of the layers called `names`, for a batch of images (N, C, H, W)."""
        return {name: y for name, y in outputs(self.children(), x, names) if name in names}

    def probe(self, names: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """({name: map}, image), with shapes and positions but no values, for an image of twice `input_size`."""
        size = 2 * self.input_size
        with evaluating(self), no_grad(), shapes_only():
            image = Tensor(stand_in(self.parameters()[0].data, (1, self.in_channels, size, size)), name="image")
            return self.features(image, names), image


class Streams(nn.Module):
    """Several trunks, each of which reads some of the image's channels: RGB and HHA (§5, late fusion).

    Parameters
    ----------
    trunks : dict of {str: Trunk}
        {suffix of the layers' names: trunk}: ``{"color": …, "hha": …}`` gives conv1_1color, conv1_1hha.
    """

    def __init__(self, trunks: "dict[str, Trunk]") -> None:
        self.trunks, first = trunks, next(iter(trunks.values()))
        self.taps, self.top, self.bias_mults, self.input_size = (
            first.taps,
            first.top,
            first.bias_mults,
            first.input_size,
        )
        self.in_channels = sum(t.in_channels for t in trunks.values())
        for suffix, trunk in trunks.items():
            for name, layer in trunk.children():
                layer.name = name + suffix

    def children(self):
        for suffix, trunk in self.trunks.items():
            for name, layer in trunk.children():
                yield name + suffix, layer

    def features(self, x, names):
        """{name: map} of the layers called `names`, which may be in any of the streams."""
        if x.shape[1] != self.in_channels:
            each = " + ".join(str(trunk.in_channels) for trunk in self.trunks.values())
            raise ValueError(f"the streams read {each} channels of the image, which has {x.shape[1]}")
        maps, first = {}, 0
        for suffix, trunk in self.trunks.items():
            channels = x[:, first : first + trunk.in_channels]
            first += trunk.in_channels
            inner = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
            maps |= {name + suffix: m for name, m in trunk.features(channels, inner).items()}
        return maps

    probe = Trunk.probe


def name_by_path(model, separator="."):
    """Set the name of every inner layer, and so of its operations, to its full path: ``layer1.0.conv1``."""
    for path, module in model.named_modules():
        module.name = path.replace(".", separator)
    return model


def conv_relu(layers, name, convolution, relu, batch_norm=False):
    """Add a convolution, an optional batch norm, and a ReLU to the dict `layers`."""
    layers[name] = convolution
    if batch_norm:
        layers[name + "_bn"] = nn.BatchNorm2d(convolution.weight.shape[0])
    layers[relu] = nn.ReLU()


def scaled(width):
    """A function that multiplies a number of channels by `width` and rounds the result to an integer, at least 1."""
    if not width > 0:
        raise ValueError(f"width, the factor on all numbers of channels, must be above 0, got {width!r}")
    return lambda channels: max(1, round(channels * width))
