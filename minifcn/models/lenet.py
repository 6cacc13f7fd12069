"""LeNet-5 (LeCun et al. 1998) and Caffe's LeNet: the smallest classifiers that become fully convolutional."""

from .. import nn
from .classifier import Classifier, scaled


def lenet(num_classes: int = 10, width: float = 1.0, in_channels: int = 1) -> Classifier:
    """LeNet-5 for 32×32 digits, with ReLU in place of the scaled tanh, and a mean in place of trained subsampling.

    Parameters
    ----------
    num_classes : int
    width : float
        Factor on every number of channels.
    in_channels : int

    Returns
    -------
    Classifier
    """
    c1, c3, c5, f6 = map(scaled(width), (6, 16, 120, 84))
    layers = dict(
        c1=nn.Conv2d(in_channels, c1, 5), relu1=nn.ReLU(), s2=nn.AvgPool2d(2),
        c3=nn.Conv2d(c1, c3, 5), relu3=nn.ReLU(), s4=nn.AvgPool2d(2), flatten=nn.Flatten(),
        c5=nn.Linear(c3 * 25, c5), relu5=nn.ReLU(), f6=nn.Linear(c5, f6), relu6=nn.ReLU(),
        output=nn.Linear(f6, num_classes),
    )  # fmt: skip
    return Classifier(layers, 32, "output", {2: "s2"}, in_channels)


def lenet_caffe(num_classes: int = 10, width: float = 1.0, in_channels: int = 1) -> Classifier:
    """Caffe's LeNet for 28×28 digits: only one ReLU, max pooling, more channels; see :func:`lenet`."""
    conv1, conv2, ip1 = map(scaled(width), (20, 50, 500))
    layers = dict(
        conv1=nn.Conv2d(in_channels, conv1, 5), pool1=nn.MaxPool2d(2, ceil_mode=True),
        conv2=nn.Conv2d(conv1, conv2, 5), pool2=nn.MaxPool2d(2, ceil_mode=True), flatten=nn.Flatten(),
        ip1=nn.Linear(conv2 * 16, ip1), relu1=nn.ReLU(), ip2=nn.Linear(ip1, num_classes),
    )  # fmt: skip
    return Classifier(layers, 28, "ip2", {2: "pool1"}, in_channels)
