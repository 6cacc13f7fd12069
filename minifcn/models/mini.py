"""A small VGG-like trunk for a laptop: five stages of 3×3 convolutions, each with a max pooling by 2 in ceil mode."""

from .. import nn
from .classifier import Trunk, conv_relu, scaled

STAGES = ((16,), (32,), (64, 64), (96, 96), (96, 96))  # few convolutions on large maps, because those take most time
TOP = 128  # channels of fc7


def mini(width=1.0, batch_norm=True, dropout=0.3, in_channels=3, pad=1):
    """The paper's trunk at a tenth of its size: conv1_1 … pool5, fc7; 3×3 convolutions keep the size of a map.

    Parameters
    ----------
    width : float
        Factor on every number of channels.
    batch_norm : bool
        Normalise after every convolution.
    dropout : float
        Probability, after fc7.
    in_channels : int
    pad : int
        Padding of conv1_1; 1 keeps the image's size.

    Returns
    -------
    Trunk
    """
    wide, layers, channels = scaled(width), {}, in_channels
    for stage, widths in enumerate(STAGES, start=1):
        for i, outputs in enumerate(map(wide, widths), start=1):
            padding = pad if (stage, i) == (1, 1) else 1
            convolution = nn.Conv2d(channels, outputs, 3, padding=padding, bias=not batch_norm)
            conv_relu(layers, f"conv{stage}_{i}", convolution, f"relu{stage}_{i}", batch_norm)
            channels = outputs
        layers[f"pool{stage}"] = nn.MaxPool2d(2, ceil_mode=True)
    conv_relu(layers, "fc7", nn.Conv2d(channels, wide(TOP), 3, padding=1, bias=not batch_norm), "relu7", batch_norm)
    layers["drop7"] = nn.Dropout(dropout)
    return Trunk(layers, {2**i: f"pool{i}" for i in (1, 2, 3, 4)}, in_channels)
