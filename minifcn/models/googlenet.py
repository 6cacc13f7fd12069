"""GoogLeNet (Szegedy et al. 2015): the main tower of Caffe's bvlc_googlenet, with its layer names."""

from .. import nn
from .classifier import Classifier, conv_relu, name_by_path, scaled

# channels: 1×1 | 3×3 reduce, 3×3 | 5×5 reduce, 5×5 | pool projection
BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip


def inception(channels, c1, r3, c3, r5, c5, projection):
    """Four parallel branches: 1×1 | 1×1 → 3×3 | 1×1 → 5×5 | max pooling → 1×1, all centred on the same cell."""

    def branch(*convolutions, pool=None):
        layers, inputs = {} if pool is None else {"pool": pool}, channels
        for name, outputs, kernel in convolutions:
            conv_relu(layers, name, nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), f"relu_{name}")
            inputs = outputs
        return nn.Sequential(**layers)

    return nn.Branches(
        branch(("1x1", c1, 1)),
        branch(("3x3_reduce", r3, 1), ("3x3", c3, 3)),
        branch(("5x5_reduce", r5, 1), ("5x5", c5, 5)),
        branch(("pool_proj", projection, 1), pool=nn.MaxPool2d(3, 1, padding=1, ceil_mode=True)),
    )


def googlenet(num_classes: int = 1000, width: float = 1.0, dropout: float = 0.4, in_channels: int = 3) -> Classifier:
    """Nine inception blocks between five poolings; 224×224 images; no auxiliary classifiers.

    Parameters
    ----------
    num_classes : int
    width : float
        Factor on every number of channels.
    dropout : float
        Probability, before the last layer.
    in_channels : int

    Returns
    -------
    Classifier
        Its trunk ends before the 7×7 average pooling (§4.1).
    """
    wide, layers = scaled(width), dict[str, nn.Module]()
    stem, channels = wide(64), wide(192)

    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    conv_relu(layers, "conv1/7x7_s2", nn.Conv2d(in_channels, stem, 7, stride=2, padding=3), "conv1/relu_7x7")
    layers |= {"pool1/3x3_s2": pool(), "pool1/norm1": nn.LocalResponseNorm()}
    conv_relu(layers, "conv2/3x3_reduce", nn.Conv2d(stem, stem, 1), "conv2/relu_3x3_reduce")
    conv_relu(layers, "conv2/3x3", nn.Conv2d(stem, channels, 3, padding=1), "conv2/relu_3x3")
    layers |= {"conv2/norm2": nn.LocalResponseNorm(), "pool2/3x3_s2": pool()}
    for name, widths in BLOCKS.items():
        c1, r3, c3, r5, c5, projection = map(wide, widths)
        layers[f"inception_{name}"] = inception(channels, c1, r3, c3, r5, c5, projection)
        channels = c1 + c3 + c5 + projection
        if name in ("3b", "4e"):
            layers[f"pool{name[0]}/3x3_s2"] = pool()
    layers |= {
        "pool5/7x7_s1": nn.AvgPool2d(7, stride=1), "pool5/drop_7x7_s1": nn.Dropout(dropout), "flatten": nn.Flatten(),
        "loss3/classifier": nn.Linear(channels, num_classes),
    }  # fmt: skip
    taps = {4: "pool1/3x3_s2", 8: "pool2/3x3_s2", 16: "pool3/3x3_s2"}
    # no reference for pad=20: the authors never released their FCN-GoogLeNet
    classifier = Classifier(layers, 224, "pool5/7x7_s1", taps, in_channels, pad=20)
    return name_by_path(classifier, "/")  # inception_3a/1x1
