"""AlexNet (Krizhevsky et al. 2012) three times: CaffeNet, which the paper uses; bvlc_alexnet; and torchvision's."""

from .. import nn
from .classifier import Classifier, conv_relu, scaled
from .vgg import fully_connected


def _caffe(num_classes, width, dropout, in_channels, norm_first):
    # an even number of channels, because conv2, conv4 and conv5 have two groups
    wide, layers = scaled(width / 2), {}
    a, b, c = (2 * wide(n) for n in (96, 256, 384))

    def reduce(i):
        norm, pool = {f"norm{i}": nn.LocalResponseNorm()}, {f"pool{i}": nn.MaxPool2d(3, 2, ceil_mode=True)}
        layers.update(norm | pool if norm_first else pool | norm)

    conv_relu(layers, "conv1", nn.Conv2d(in_channels, a, 11, stride=4), "relu1")
    reduce(1)
    conv_relu(layers, "conv2", nn.Conv2d(a, b, 5, padding=2, groups=2), "relu2")
    reduce(2)
    conv_relu(layers, "conv3", nn.Conv2d(b, c, 3, padding=1), "relu3")
    conv_relu(layers, "conv4", nn.Conv2d(c, c, 3, padding=1, groups=2), "relu4")
    conv_relu(layers, "conv5", nn.Conv2d(c, b, 3, padding=1, groups=2), "relu5")
    layers["pool5"] = nn.MaxPool2d(3, 2, ceil_mode=True)
    layers |= fully_connected(b, 6, scaled(width)(4096), num_classes, dropout)
    # unlike in FCN-VGG16, biases have the learning rate and decay of the weights
    return Classifier(layers, 227, "fc8", {8: "pool1", 16: "pool2"}, in_channels, pad=100, bias_mults=(1.0, 1.0))


def caffenet(num_classes: int = 1000, width: float = 1.0, dropout: float = 0.5, in_channels: int = 3) -> Classifier:
    """CaffeNet, a variant of AlexNet: convolution, ReLU, *pooling, normalisation*; 227×227 images.

    Parameters
    ----------
    num_classes : int
    width : float
        Factor on every number of channels.
    dropout : float
        Probability, after relu6 and relu7.
    in_channels : int

    Returns
    -------
    Classifier
    """
    return _caffe(num_classes, width, dropout, in_channels, norm_first=False)


def alexnet(num_classes: int = 1000, width: float = 1.0, dropout: float = 0.5, in_channels: int = 3) -> Classifier:
    """AlexNet as published (bvlc_alexnet): convolution, ReLU, *normalisation, pooling*; see :func:`caffenet`."""
    return _caffe(num_classes, width, dropout, in_channels, norm_first=True)


def alexnet_torchvision(
    num_classes: int = 1000, width: float = 1.0, dropout: float = 0.5, in_channels: int = 3
) -> Classifier:
    """The "one weird trick" AlexNet of torchvision: no groups, no normalisation, floor pooling; 224×224 images."""
    wide, layers, channels = scaled(width), dict[str, nn.Module](), in_channels
    shapes = [(64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)]
    for i, (outputs, kernel, stride, padding) in enumerate(shapes, start=1):
        convolution = nn.Conv2d(channels, wide(outputs), kernel, stride=stride, padding=padding)
        conv_relu(layers, f"conv{i}", convolution, f"relu{i}")
        channels = wide(outputs)
        if i in (1, 2, 5):
            layers[f"pool{i}"] = nn.MaxPool2d(3, 2)
    top = fully_connected(channels, 6, wide(4096), num_classes, dropout)
    layers |= {name: top[name] for name in ("flatten", "drop6", "fc6", "relu6", "drop7", "fc7", "relu7", "fc8")}
    return Classifier(layers, 224, "fc8", {8: "pool1", 16: "pool2"}, in_channels, pad=100)
