"""A fully convolutional network from any trunk (§4): the trunk's maps, and one head a kind of label."""

from .. import nn
from ..arrays import backend
from ..data.transforms import Preprocessing
from ..engine.core import Tensor, no_grad
from ..geometry import minimal_padding
from ..kernels import shapes_only
from ..nn.module import evaluating
from .alexnet import alexnet, alexnet_torchvision, caffenet
from .classifier import Streams
from .googlenet import googlenet
from .heads import ConvHead, SkipHead
from .lenet import lenet, lenet_caffe
from .mini import mini
from .resnet import resnet18, resnet50
from .vgg import vgg11, vgg16, vgg19

CLASSIFIERS = {
    f.__name__: f
    for f in (
        lenet, lenet_caffe, caffenet, alexnet, alexnet_torchvision, vgg11, vgg16, vgg19, googlenet, resnet18, resnet50,
    )
}  # fmt: skip
"""The classifiers: each can be the trunk of an FCN."""

TRUNKS = ("mini", *CLASSIFIERS)


class FCN(nn.Module):
    """Scores for every pixel.  Built by :func:`fcn`.

    Parameters
    ----------
    trunk : Trunk or Streams
    heads : dict of {str: SkipHead or ConvHead}
        By the name of their kind of label; the first is the one that ``model(image)`` and ``predict`` answer with.

    Attributes
    ----------
    preprocessing : Preprocessing
        From raw RGB images to the input; saved with the weights.
    classes, palette
        What the classes are called and how they are drawn, once a data set has said so.
    """

    transparent = ("trunk", "heads")
    classes = palette = recipe = None

    def __init__(self, trunk, heads):
        self.trunk, self.heads, self.first = trunk, heads, next(iter(heads))
        self.num_classes, self.in_channels = heads[self.first].num_classes, trunk.in_channels
        self.preprocessing = Preprocessing()

    def _scores(self, image, heads):
        maps = self.trunk.features(image, [name for head in heads.values() for name in head.tapped()])
        return {name: head(maps, image) for name, head in heads.items()}

    def forward(self, image):
        """Scores (N, num_classes, H, W) of images (N, C, H, W): those of the first head."""
        return self._scores(image, {self.first: self.heads[self.first]})[self.first]

    def outputs(self, image):
        """{name of the head: its scores (N, C, H, W)}: all of them, for training."""
        return self._scores(image if isinstance(image, Tensor) else Tensor(image), self.heads)

    def predict(self, images):
        """The most probable class of every pixel.

        Parameters
        ----------
        images : ndarray of uint8
            (N, H, W, 3) or (H, W, 3), RGB, any size.

        Returns
        -------
        ndarray of uint8
            (N, H, W) or (H, W).
        """
        device = backend.device(self.parameters()[0].data)
        with evaluating(self), no_grad():
            scores = self(Tensor(backend.to_device(self.preprocessing(images), device)))
        labels = backend.asnumpy(scores.data.argmax(axis=1)).astype("uint8")
        return labels if images.ndim == 4 else labels[0]


def fcn(
    trunk, stride=8, num_classes=21, pad=None, width=1.0, learn_upsampling=False, scales=None, image_size=None,
    **trunk_options,
):  # fmt: skip
    """A fully convolutional network over a trunk, with the reference nets' learning rates.

    Score layers start at zero, so that the first prediction is uniform (a loss of ln C per pixel); interpolation layers
    start bilinear and, unless `learn_upsampling`, stay so; biases learn twice as fast as weights and do not decay
    (FCN-AlexNet's do as its weights), nor do the scales and shifts of batch norm.

    Parameters
    ----------
    trunk : str or Trunk
        One of ``mf.models.TRUNKS``: a classifier is decapitated and convolutionalized for it.
    stride : int
        Of the finest fused score: 32, 16, 8; 4 and 2 go beyond the paper.
    num_classes : int or dict of {str: int}
        A dict makes a head for each kind of label: ``{"sem": 33, "geo": 3}``.
    pad : int, optional
        Of the trunk's first layer; None: the reference net's, 100 for VGG and AlexNet.  Crops are derived, so any that
        leaves enough cells will do.
    width : float
        Factor on all numbers of channels of the trunk.
    learn_upsampling : bool
        Train the interpolation layers but the last.
    scales : dict of {str: float}, optional
        Frozen factors on maps before they are scored: ``{"pool4": 0.01, "pool3": 0.0001}`` for at-once training.
    image_size : int or (int, int), optional
        Take the smallest `pad` that suits images of this size: the reference nets' 100 suits all, at a price.
    **trunk_options
        For the trunk: ``batch_norm``, ``dropout``, ``in_channels``, ``output_stride`` …; ``streams``: see
        :func:`build_trunk`.

    Returns
    -------
    FCN
    """
    if image_size is not None:
        if pad is not None:
            raise ValueError("give pad, or the image_size that it shall suit, not both")
        pad = minimal_padding(lambda p: _outline(trunk, stride, num_classes, p, trunk_options), image_size)
    if isinstance(trunk, str):
        trunk = build_trunk(trunk, pad, width=width, **trunk_options)
    elif pad is not None or width != 1.0 or trunk_options:
        raise ValueError("a trunk that is built already has its padding and options: give them when building it")
    heads = {
        kind: SkipHead(trunk, stride, n, learn_upsampling, scales, suffix=kind and f"_{kind}")
        for kind, n in _kinds(num_classes).items()
    }
    return with_reference_rates(FCN(trunk, heads))


def _kinds(num_classes):
    """{name of a head: its number of classes}."""
    kinds = num_classes if isinstance(num_classes, dict) else {"": num_classes}
    if not kinds or min(kinds.values()) < 1:
        raise ValueError(f"num_classes is at least 1, or names heads of at least 1 class each, got {num_classes!r}")
    return kinds


def _outline(trunk, stride, num_classes, pad, trunk_options):
    """The same net without its numbers: enough to ask for sizes."""
    with shapes_only():
        return fcn(trunk, stride, num_classes, pad, **trunk_options)


def fcn_conv(trunk, num_classes=21, aux=True, image_size=None, **trunk_options):
    """torchvision's FCN: a dilated trunk, a small convolutional head, interpolation to the image's size.

    Parameters
    ----------
    trunk : str
    num_classes : int
    aux : bool
        A second head on the next finer stage, whose loss counts half: only for training.
    image_size : None
        There is no padding to choose: interpolation gives every size its scores.
    **trunk_options
        For the trunk: ``output_stride``, ``width`` …

    Returns
    -------
    FCN
    """
    if image_size is not None:
        raise ValueError("it takes images of any size with the padding it has: there is no least one to look for")
    if isinstance(num_classes, dict) or num_classes < 1:
        raise ValueError(f"num_classes is at least 1, a number for its one kind of label, got {num_classes!r}")
    trunk = build_trunk(trunk, **trunk_options)
    heads = {"out": ConvHead(trunk, num_classes, trunk.top, "classifier")}
    if aux:
        heads["aux"] = ConvHead(trunk, num_classes, "layer3", "aux_classifier", loss_weight=0.5)
    return FCN(trunk, heads)


def build_trunk(name, pad=None, streams=None, **options):
    """The trunk called `name`; a classifier's is what it has below its scores, as a fully convolutional net.

    Parameters
    ----------
    name : str
        One of `TRUNKS`.
    pad : int, optional
        Of the first layer; None: the net's own.
    streams : sequence of str, optional
        Suffixes of the layers' names: as many trunks side by side, each on channels of its own (late fusion, §5).
    **options
        Of the trunk: ``width``, ``in_channels`` …
    """
    if streams:
        return Streams({suffix: build_trunk(name, pad, **options) for suffix in streams})
    if name not in TRUNKS:
        raise ValueError(f"no trunk is called {name!r}: choose from {', '.join(TRUNKS)}")
    if name == "mini":
        return mini(**options) if pad is None else mini(pad=pad, **options)
    return CLASSIFIERS[name](num_classes=1, **options).trunk(pad)


def with_reference_rates(model):
    """Set each parameter's ``lr_mult`` and ``decay_mult`` to those of the reference nets."""
    norms = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in (m.weight, m.bias)}
    scores = {id(p) for head in model.heads.values() for p in head.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) in norms:
            parameter.decay_mult = 0.0
        elif name.endswith(".bias"):
            mults = (2.0, 0.0) if id(parameter) in scores else model.trunk.bias_mults
            parameter.lr_mult, parameter.decay_mult = mults
    return model
