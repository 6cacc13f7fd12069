"""ResNet-18 and ResNet-50 (He et al. 2016), with torchvision's structure and layer names."""

from .. import nn
from .classifier import Classifier, scaled

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}  # blocks of layer1 … layer4


def _convolution(inputs, outputs, kernel, stride=1, dilation=1):
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)


def _branch(*convolutions):
    """conv1, bn1, relu1, conv2, bn2 …, without a ReLU at the end, because the block adds the shortcut first."""
    layers = {}
    for i, convolution in enumerate(convolutions, start=1):
        if i > 1:
            layers[f"relu{i - 1}"] = nn.ReLU()
        layers |= {f"conv{i}": convolution, f"bn{i}": nn.BatchNorm2d(convolution.weight.shape[0])}
    return nn.Sequential(**layers)


def _basic(inputs, width, stride, dilation):
    branch = _branch(_convolution(inputs, width, 3, stride, dilation), _convolution(width, width, 3, 1, dilation))
    return branch, width


def _bottleneck(inputs, width, stride, dilation):
    # the stride is on the 3×3 convolution, as in torchvision ("ResNet v1.5")
    branch = _branch(
        _convolution(inputs, width, 1),
        _convolution(width, width, 3, stride, dilation),
        _convolution(width, 4 * width, 1),
    )
    return branch, 4 * width


def _resnet(depth, block, num_classes, width, output_stride, in_channels):
    if output_stride not in (32, 16, 8):
        raise ValueError(f"output_stride must be 32, 16 or 8, got {output_stride!r}")
    wide = scaled(width)
    channels = wide(64)
    layers = dict(
        conv1=nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False), bn1=nn.BatchNorm2d(channels),
        relu=nn.ReLU(), maxpool=nn.MaxPool2d(3, 2, padding=1),
    )  # fmt: skip
    jump, dilation, taps = 4, 1, {}
    for stage, count in enumerate(BLOCKS[depth]):
        blocks, stride = [], 1 if stage == 0 else 2
        before = dilation  # as in torchvision, the first block of a stage has the dilation of the stage before
        if stride * jump > output_stride:
            stride, dilation = 1, dilation * stride
        for i in range(count):
            first = i == 0
            branch, outputs = block(
                channels, wide(64 * 2**stage), stride if first else 1, before if first else dilation
            )
            downsample = None
            if first and (stride > 1 or outputs != channels):
                downsample = nn.Sequential(_convolution(channels, outputs, 1, stride), nn.BatchNorm2d(outputs))
            blocks.append(nn.Residual(branch, downsample))
            channels = outputs
        layers[f"layer{stage + 1}"] = nn.Sequential(*blocks)
        jump *= stride
        taps[jump] = f"layer{stage + 1}"
    layers |= dict(avgpool=nn.GlobalAvgPool2d(), flatten=nn.Flatten(), fc=nn.Linear(channels, num_classes))
    del taps[jump]  # the coarsest map is the trunk's top, not a tap
    return Classifier(layers, 224, "avgpool", taps, in_channels)


def resnet50(num_classes: int = 1000, width: float = 1.0, output_stride: int = 32, in_channels: int = 3) -> Classifier:
    """Sixteen bottleneck blocks, 1×1 → 3×3 → 1×1; 224×224 images.

    Parameters
    ----------
    num_classes : int
    width : float
        Factor on every number of channels.
    output_stride : {32, 16, 8}
        Stages that would exceed this stride are dilated instead: the filter rarefaction of §3.2, in training too.
    in_channels : int

    Returns
    -------
    Classifier
    """
    return _resnet(50, _bottleneck, num_classes, width, output_stride, in_channels)


def resnet18(num_classes: int = 1000, width: float = 1.0, output_stride: int = 32, in_channels: int = 3) -> Classifier:
    """Eight blocks of two 3×3 convolutions; see :func:`resnet50`."""
    return _resnet(18, _basic, num_classes, width, output_stride, in_channels)
