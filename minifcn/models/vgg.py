"""VGG-11, 16 and 19 (Simonyan & Zisserman 2015), with Caffe's layer names; the paper's best nets use VGG-16."""

from .. import nn
from .classifier import Classifier, conv_relu, scaled

WIDTHS = (64, 128, 256, 512, 512)  # channels of conv1_* … conv5_*
DEPTHS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions a stage


def _vgg(depth, num_classes, width, batch_norm, dropout, in_channels, first):
    wide, layers, channels = scaled(width), {}, in_channels
    for stage, (outputs, count) in enumerate(zip(map(wide, WIDTHS), DEPTHS[depth]), start=1):
        for i in range(1, count + 1):
            name = first if (stage, i) == (1, 1) else f"conv{stage}_{i}"
            convolution = nn.Conv2d(channels, outputs, 3, padding=1, bias=not batch_norm)
            conv_relu(layers, name, convolution, f"relu{stage}_{i}", batch_norm)
            channels = outputs
        layers[f"pool{stage}"] = nn.MaxPool2d(2, ceil_mode=True)
    layers |= fully_connected(channels, 7, wide(4096), num_classes, dropout)
    return Classifier(layers, 224, "fc8", {2**i: f"pool{i}" for i in (1, 2, 3, 4)}, in_channels, pad=100)


def fully_connected(channels, size, width, num_classes, dropout):
    """The last layers of VGG and AlexNet: fc6 and fc7 with ReLU and dropout, fc8; for maps of `size`×`size` cells."""
    return dict(
        flatten=nn.Flatten(),
        fc6=nn.Linear(channels * size**2, width), relu6=nn.ReLU(), drop6=nn.Dropout(dropout),
        fc7=nn.Linear(width, width), relu7=nn.ReLU(), drop7=nn.Dropout(dropout),
        fc8=nn.Linear(width, num_classes),
    )  # fmt: skip


def vgg16(
    num_classes: int = 1000, width: float = 1.0, batch_norm: bool = False, dropout: float = 0.5, in_channels: int = 3,
    first: str = "conv1_1",
) -> Classifier:  # fmt: skip
    """Thirteen 3×3 convolutions in five stages, three fully connected layers; 224×224 images.

    Parameters
    ----------
    num_classes : int
    width : float
        Factor on every number of channels.
    batch_norm : bool
        Normalise after every convolution (VGG16-BN).
    dropout : float
        Probability, after relu6 and relu7.
    in_channels : int
    first : str
        Name of the first layer: ``conv1_1_bgrd`` in the net for RGB and depth.

    Returns
    -------
    Classifier
    """
    return _vgg(16, num_classes, width, batch_norm, dropout, in_channels, first)


def vgg11(
    num_classes: int = 1000, width: float = 1.0, batch_norm: bool = False, dropout: float = 0.5, in_channels: int = 3,
    first: str = "conv1_1",
) -> Classifier:  # fmt: skip
    """VGG with eight convolutions; see :func:`vgg16`."""
    return _vgg(11, num_classes, width, batch_norm, dropout, in_channels, first)


def vgg19(
    num_classes: int = 1000, width: float = 1.0, batch_norm: bool = False, dropout: float = 0.5, in_channels: int = 3,
    first: str = "conv1_1",
) -> Classifier:  # fmt: skip
    """VGG with sixteen convolutions; see :func:`vgg16`."""
    return _vgg(19, num_classes, width, batch_norm, dropout, in_channels, first)
