"""Build a fully convolutional network from any trunk (§4): the trunk's maps, and one head for each kind of label."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from .. import nn
from ..arrays import backend
from ..arrays.types import Array, Pair
from ..data.transforms import Preprocessing
from ..engine.core import Tensor
from ..geometry import minimal_padding
from ..kernels import shapes_only
from ..ops import softmax
from .alexnet import alexnet, alexnet_torchvision, caffenet
from .classifier import Classifier, Streams, Trunk
from .efficientnet import efficientnet_lite0
from .googlenet import googlenet
from .heads import ConvHead, SkipHead
from .inference import Memory, each, image_of
from .lenet import lenet, lenet_caffe
from .mini import mini
from .resnet import resnet18, resnet50
from .vgg import vgg11, vgg16, vgg19

CLASSIFIERS: dict[str, Callable[..., Classifier]] = {
    f.__name__: f
    for f in (
        lenet, lenet_caffe, caffenet, alexnet, alexnet_torchvision, vgg11, vgg16, vgg19, googlenet, resnet18, resnet50,
        efficientnet_lite0,
    )
}  # fmt: skip
"""The classifiers by name: each can become the trunk of an FCN."""


def _of_classifier(name):
    def build(pad=None, **options):
        return CLASSIFIERS[name](num_classes=1, **options).trunk(pad)

    return build


TRUNKS = {"mini": mini} | {name: _of_classifier(name) for name in CLASSIFIERS}
"""The builders of the trunks by name.  Each takes ``pad`` and options such as ``width`` and ``in_channels``."""


class FCN(nn.Module):
    """Scores for every pixel.  Built by :func:`fcn`.

    Parameters
    ----------
    trunk : Trunk or Streams
    heads : dict of {str: SkipHead or ConvHead}
        {kind of label: head}; ``model(image)`` and ``predict`` return the scores of the first head, and so do those of
        :meth:`only` for another.

    Attributes
    ----------
    preprocessing : Preprocessing
        Converts raw images to the model's input; saved with the weights.
    classes, palette, bands
        Names and colours of the classes, names of the image's channels; None until they are taken from a data set or a
        checkpoint.
    side : int or None
        The shorter side in pixels of a typical picture of the training; None if that is not known, or if the pictures
        were pieces of a map, whose scale does not depend on their size.
    kinds : tuple of str
        The names of the heads of a net that learns several kinds of labels; empty for a net with one kind.  ``classes``
        and ``palette`` are those of the first.
    build_arguments : dict or None
        How to build this model again, ``{"name": name in MODELS, "options": keyword arguments}``; None if it was not
        built by a named net's function.  A checkpoint stores it under the key ``model`` of its record.
    """

    transparent = ("trunk", "heads")
    classes: Sequence[str] | None = None
    palette: Array | None = None
    bands: Sequence[str] | None = None
    side: int | None = None
    kinds: tuple[str, ...] = ()
    build_arguments: dict[str, Any] | None = None

    def __init__(self, trunk: Trunk | Streams, heads: dict[str, Any]) -> None:
        self.trunk, self.heads, self.first = trunk, heads, next(iter(heads))
        self.num_classes, self.in_channels = heads[self.first].num_classes, trunk.in_channels
        default = Preprocessing()
        self.preprocessing = Preprocessing(
            mean=default.mean[:1] * self.in_channels, scale=default.scale[:1] * self.in_channels
        )

    def _scores(self, image, heads):
        maps = self.trunk.features(image, [name for head in heads.values() for name in head.tapped()])
        return {name: head(maps, image) for name, head in heads.items()}

    def forward(self, image: Tensor) -> Tensor:
        """Scores (N, num_classes, H, W) of the first head, for images (N, C, H, W)."""
        return self._scores(image, {self.first: self.heads[self.first]})[self.first]

    def outputs(self, image: Tensor | Array) -> dict[str, Tensor]:
        """{name of a head: its scores (N, C, H, W)}, of all heads, for training."""
        return self._scores(image if isinstance(image, Tensor) else Tensor(image), self.heads)

    def only(self, kind: str) -> "FCN":
        """The net with one head alone, for one kind of label; it shares its weights with this net.

        Parameters
        ----------
        kind : str
            One of ``kinds``.

        Returns
        -------
        FCN
            ``model.only("geo").predict(image)``.

        Raises
        ------
        ValueError
            If there is no such head.
        """
        if kind not in self.kinds:
            has = f"the heads {', '.join(self.kinds)}" if self.kinds else "one kind of labels"
            raise ValueError(f"there is no head {kind!r}: the net has {has}")
        one = FCN(self.trunk, {kind: self.heads[kind]})
        one.preprocessing, one.bands, one.side = self.preprocessing, self.bands, self.side
        one.training = self.training
        one.classes, one.palette = self.heads[kind].classes, None
        if kind == self.first:
            one.classes, one.palette = self.classes, self.palette
        return one

    def predict(self, images: Array | str | PathLike, tta: bool = False, memory: Memory = None) -> Array:
        """The most probable class of every pixel.

        An image that is too large for the memory is computed in tiles.  They overlap so far that the scores of each
        pixel are those of the whole image, apart from rounding: see :mod:`minifcn.models.tiles`.

        Parameters
        ----------
        images : ndarray of uint8, or of uint16 if the model was trained on 16 bits; or a path
            (N, H, W, C) or (H, W, C), any size; RGB, or the bands that the model was trained on.  Or the file of one
            image.
        tta : bool
            Average over sizes and mirror images: see :func:`minifcn.models.inference.scores`.
        memory : str or number, optional
            The most memory that the process may take: ``"2GB"``, or bytes.  None: half of the machine's; on a GPU, no
            limit.

        Returns
        -------
        ndarray of uint8
            (N, H, W), or (H, W) for one image.

        Raises
        ------
        UserError
            If the file cannot be read, the image has other channels than the model, or `memory` is too little for the
            smallest tile.
        """
        images = image_of(self, images)
        labels = np.empty(images.shape[:-1] if images.ndim == 4 else (1, *images.shape[:2]), np.uint8)

        def keep(part, region, scores):
            labels[part][region.index] = backend.asnumpy(scores.argmax(axis=1))

        each(self, images, keep, tta, memory, labels.nbytes)
        return labels if images.ndim == 4 else labels[0]

    def predict_proba(self, images: Array | str | PathLike, tta: bool = False, memory: Memory = None) -> Array:
        """The probability of every class at every pixel: the softmax of the scores.

        Parameters
        ----------
        images : ndarray or path
            As in :meth:`predict`.
        tta, memory
            As in :meth:`predict`.

        Returns
        -------
        ndarray of float32
            (N, num_classes, H, W), or (num_classes, H, W) for one image.  :meth:`predict` gives the most probable.

        Raises
        ------
        UserError
            As :meth:`predict`.
        """
        images = image_of(self, images)
        batch = images.shape[0] if images.ndim == 4 else 1
        probabilities = np.empty((batch, self.num_classes, *images.shape[-3:-1]), np.float32)

        def keep(part, region, scores):
            probabilities[part][region.index] = backend.asnumpy(softmax(Tensor(scores)).data)

        each(self, images, keep, tta, memory, probabilities.nbytes)
        return probabilities if images.ndim == 4 else probabilities[0]


def fcn(
    trunk: str | Trunk | Streams, stride: int = 8, num_classes: int | dict[str, int] = 21, pad: int | None = None,
    width: float = 1.0, learn_upsampling: bool = False, scales: Mapping[str, float] | None = None,
    image_size: Pair | None = None, auxiliary: float = 0.0, **trunk_options: Any,
) -> FCN:  # fmt: skip
    """A fully convolutional network over a trunk, with the reference nets' learning rates.

    Score layers start at zero, so that the first prediction is uniform (a loss of ln C per pixel).  Interpolation
    layers start as bilinear interpolation, and are frozen unless `learn_upsampling`.  Biases have twice the learning
    rate of weights and no weight decay, except FCN-AlexNet's, which have both of the weights.  The scales and shifts of
    batch norm have no weight decay.

    Parameters
    ----------
    trunk : str or Trunk
        A trunk, or the name of one in ``mf.models.TRUNKS``; a classifier's head is removed, and its fully connected
        layers become convolutions.
    stride : int
        Stride of the finest fused scores: 32, 16 or 8; 4 and 2 go beyond the paper.
    num_classes : int or dict of {str: int}
        A dict makes a head for each kind of label: ``{"sem": 33, "geo": 3}``.
    pad : int, optional
        Padding of the trunk's first layer; None: the reference net's, 100 for VGG and AlexNet.  Crops are derived from
        it, so any padding works that gives the coarsest map enough cells.
    width : float
        Factor on all numbers of channels of the trunk.
    learn_upsampling : bool
        Train the interpolation layers except the last.
    scales : dict of {str: float}, optional
        Frozen factors on maps before they are scored: ``{"pool4": 0.01, "pool3": 0.0001}`` for at-once training.
    image_size : int or (int, int), optional
        Use the smallest `pad` that works for images of this size.  The reference nets' 100 works for all sizes, but
        costs time and memory.
    auxiliary : float
        If above 0, the weight of a second loss in training: that of scores of the coarsest map alone, upsampled
        without skips.  It reaches the trunk on a shorter way.  ``predict`` does not compute these scores.
    **trunk_options
        For the trunk: ``batch_norm``, ``dropout``, ``in_channels``, ``output_stride`` …; ``streams``: see
        :func:`build_trunk`.

    Returns
    -------
    FCN
    """
    if image_size is not None:
        if pad is not None:
            raise ValueError("give either pad or image_size, from which pad is computed, not both")
        pad = minimal_padding(lambda p: _outline(trunk, stride, num_classes, p, trunk_options), image_size)
    if isinstance(trunk, str):
        trunk = build_trunk(trunk, pad, width=width, **trunk_options)
    elif pad is not None or width != 1.0 or trunk_options:
        raise ValueError(
            "pad, width and other options cannot change a trunk that is already built: give a trunk's name"
        )
    heads = {
        kind: SkipHead(trunk, stride, n, learn_upsampling, scales, suffix=kind and f"_{kind}")
        for kind, n in _kinds(num_classes).items()
    }
    if auxiliary:
        if isinstance(num_classes, dict):
            raise ValueError("auxiliary adds a head to a net with one: leave it out, or give one number of classes")
        heads["aux"] = SkipHead(trunk, None, num_classes, suffix="_aux")
        heads["aux"].loss_weight = auxiliary
    model = FCN(trunk, heads)
    model.kinds = tuple(num_classes) if isinstance(num_classes, dict) else ()
    return with_reference_rates(model)


def _kinds(num_classes):
    """{name of a head: its number of classes}."""
    kinds = num_classes if isinstance(num_classes, dict) else {"": num_classes}
    proper = all(isinstance(kind, str) and kind.isidentifier() and f"_{kind}"[-4:] != "_val" for kind in kinds)
    if isinstance(num_classes, dict) and not proper:
        raise ValueError(  # the names are parts of names of files and of columns such as val_loss
            f"num_classes is a dict with the keys {list(kinds)!r}; a head's name must have letters, digits and _ only, "
            "and not be val or end in _val"
        )
    if not kinds or min(kinds.values()) < 1:
        raise ValueError(
            f"num_classes must be at least 1, or a dict of a number for each head, at least 1 each, got {num_classes!r}"
        )
    return kinds


def _outline(trunk, stride, num_classes, pad, trunk_options):
    """The net without values, which is enough to compute sizes."""
    with shapes_only():
        return fcn(trunk, stride, num_classes, pad, **trunk_options)


def fcn_conv(
    trunk: Any, num_classes: int = 21, auxiliary: float = 0.5, image_size: None = None, **trunk_options: Any
) -> FCN:  # fmt: skip
    """torchvision's FCN: a dilated trunk, a small convolutional head, and interpolation to the image's size.

    Parameters
    ----------
    trunk : str
    num_classes : int
    auxiliary : float
        The weight of the loss of a second head in training, on the next finer stage; 0: no such head.
    image_size : None
        Must be None: interpolation works for every size, so there is no padding to choose.
    **trunk_options
        For the trunk: ``output_stride``, ``width`` …

    Returns
    -------
    FCN
    """
    if image_size is not None:
        raise ValueError("image_size is not an option of this net, which takes images of any size: leave it out")
    if isinstance(num_classes, dict) or num_classes < 1:
        raise ValueError(f"num_classes must be one number, at least 1, for this net, got {num_classes!r}")
    trunk = build_trunk(trunk, **trunk_options)
    heads = {"out": ConvHead(trunk, num_classes, trunk.top, "classifier")}
    if auxiliary:
        heads["aux"] = ConvHead(trunk, num_classes, "layer3", "aux_classifier", loss_weight=auxiliary)
    return FCN(trunk, heads)


def build_trunk(
    name: str, pad: int | None = None, streams: Sequence[str] | Mapping[str, int] | None = None, **options: Any
) -> Trunk | Streams:
    """Build the trunk called `name`.

    If `name` is a classifier, the trunk has its layers below the scores, and its fully connected layers become
    convolutions.

    Parameters
    ----------
    name : str
        One of `TRUNKS`.
    pad : int, optional
        Padding of the first layer; None: the net's default.
    streams : sequence of str or dict of {str: int}, optional
        Build one trunk for each of these suffixes of layer names, for late fusion (§5).  The first reads the first
        ``in_channels`` channels of the image, the second the next ones, and so on; a dict gives each its own number.
    **options
        Options of the trunk: ``width``, ``in_channels`` …
    """
    if isinstance(streams, Mapping):
        each = {suffix: build_trunk(name, pad, in_channels=count, **options) for suffix, count in streams.items()}
        return Streams(each)  # type: ignore[arg-type]
    if streams:
        return Streams({suffix: build_trunk(name, pad, **options) for suffix in streams})  # type: ignore[misc]
    if name not in TRUNKS:
        raise ValueError(f"there is no trunk {name!r}: choose one of {', '.join(TRUNKS)}")
    return TRUNKS[name](**options) if pad is None else TRUNKS[name](pad=pad, **options)


def with_reference_rates(model: FCN) -> FCN:
    """Set each parameter's ``lr_mult`` and ``decay_mult`` to the reference nets' values, and return the model."""
    norms = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in (m.weight, m.bias)}
    scores = {id(p) for head in model.heads.values() for p in head.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) in norms:
            parameter.decay_mult = 0.0
        elif name.endswith(".bias"):
            mults = (2.0, 0.0) if id(parameter) in scores else model.trunk.bias_mults
            parameter.lr_mult, parameter.decay_mult = mults
    return model
