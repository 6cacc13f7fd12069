"""EfficientNet-Lite0 (Tan and Le 2019; the variant without squeeze-and-excitation and with ReLU6, for small devices).

Blocks are inverted residuals: 1×1 convolution to more channels, depthwise k×k convolution, 1×1 convolution to fewer.
Strided convolutions have TensorFlow's SAME padding for maps of even size: k − 2 in total, the larger half below and to
the right.  So the cells of a map do not lie at the centres of the pixels they stand for: at stride s, cell i lies on
pixel s·i + s − 1.  The positions that minifcn derives include this, and upsampling kernels become 2f − 1 wide.
"""

from .. import nn
from .classifier import Classifier, scaled

STAGES = (  # blocks, kernel, stride of the first block, expansion, output channels
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
EPS, MOMENTUM = 1e-3, 0.01  # of batch norm


def efficientnet_lite0(
    num_classes: int = 1000, width: float = 1.0, in_channels: int = 3, dropout: float = 0.2
) -> Classifier:
    """Sixteen inverted residuals; 224×224 images, 4.7 million parameters.

    Parameters
    ----------
    num_classes : int
    width : float
        Factor on every number of channels.
    in_channels : int
    dropout : float
        Probability, before the fully connected layer.

    Returns
    -------
    Classifier
    """
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
