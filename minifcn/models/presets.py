"""The named nets, each a call of ``fcn(trunk, stride)``, and functions to build or load a model by name.

The first layer of the VGG and AlexNet nets is padded by 100, as in the reference nets, so that even a 1×1 image has
scores for all pixels.  Crops are derived from the padding, so other values work too (``pad=81``, or ``image_size=224``
for the smallest one).  A small ``width`` makes a net that learns on a laptop.  Options are those of
:func:`minifcn.models.fcn`.
"""

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from . import store
from .fcn import CLASSIFIERS, FCN, TRUNKS, fcn, fcn_conv

MODELS: dict[str, Callable[..., FCN]] = {}
"""The functions that build the named segmentation nets."""

AT_ONCE = dict(pool4=0.01, pool3=0.0001)  # from the PAMI paper: they make the norms of the maps about equal
SIFT_FLOW = dict(sem=33, geo=3)
HEADS = {"fcn16s_siftflow": SIFT_FLOW, "fcn8s_siftflow": SIFT_FLOW}
"""{net with several heads: the number of classes of each}."""
TWO_STREAMS: dict[str, Any] = dict(num_classes=40, streams=("color", "hha"))


def _recorded(name: str, function: Callable[..., FCN]) -> Callable[..., FCN]:
    """`function`, whose models record their `build_arguments`, for their checkpoints."""

    @wraps(function)
    def build(*args, **options):
        model = function(*args, **options)
        model.build_arguments = model.build_arguments or dict(name=name, options=options)
        return model

    return build


def _named(function: Callable[..., FCN]) -> Callable[..., FCN]:
    """Add a function to `MODELS`."""
    MODELS[function.__name__] = _recorded(function.__name__, function)
    return MODELS[function.__name__]


@_named
def fcn32s_mini(**options: Any) -> FCN:
    """FCN-32s over the small trunk: one score map, upsampled 32-fold."""
    return fcn("mini", stride=32, **options)


@_named
def fcn16s_mini(**options: Any) -> FCN:
    """FCN-16s over the small trunk: fused with scores of pool4."""
    return fcn("mini", stride=16, **options)


@_named
def fcn8s_mini(pretrained: str | None = None, **options: Any) -> FCN:
    """FCN-8s over the small trunk: fused with scores of pool4 and pool3.

    Parameters
    ----------
    pretrained : {None, "earth"}
        Load weights that come with the package: they segment NASA's Blue Marble into seven classes.
    **options
        See :func:`fcn`: ``num_classes``, ``width``, ``batch_norm``, ``dropout``, ``learn_upsampling``; they cannot be
        combined with `pretrained`.
    """
    if pretrained is not None:
        if options:
            raise ValueError(f"pretrained weights determine the net's options: leave out {', '.join(options)}")
        return load(store.pretrained_path("fcn8s_mini", pretrained))
    return fcn("mini", stride=8, **options)


@_named
def fcn4s_mini(**options: Any) -> FCN:
    """One skip beyond the paper: fused down to scores of pool2."""
    return fcn("mini", stride=4, **options)


@_named
def fcn2s_mini(**options: Any) -> FCN:
    """Two skips beyond the paper: fused down to scores of pool1."""
    return fcn("mini", stride=2, **options)


@_named
def fcn32s_vgg16(**options: Any) -> FCN:
    """FCN-32s-VGG16 (§4.1), the paper's best coarse net: 134 million parameters."""
    return fcn("vgg16", stride=32, **options)


@_named
def fcn16s_vgg16(**options: Any) -> FCN:
    """FCN-16s-VGG16 (§4.2): fused with scores of pool4."""
    return fcn("vgg16", stride=16, **options)


@_named
def fcn8s_vgg16(**options: Any) -> FCN:
    """FCN-8s-VGG16 (§4.2): fused with scores of pool4 and pool3."""
    return fcn("vgg16", stride=8, **options)


@_named
def fcn8s_atonce_vgg16(**options: Any) -> FCN:
    """FCN-8s-VGG16 for training all streams at once (PAMI §4.3): pool4 scaled by 0.01, pool3 by 0.0001."""
    return fcn("vgg16", stride=8, **dict(scales=AT_ONCE) | options)


@_named
def fcn4s_vgg16(**options: Any) -> FCN:
    """One skip beyond the paper, which found no gain there: fused down to scores of pool2."""
    return fcn("vgg16", stride=4, **options)


@_named
def fcn2s_vgg16(**options: Any) -> FCN:
    """Two skips beyond the paper: fused down to scores of pool1."""
    return fcn("vgg16", stride=2, **options)


@_named
def fcn32s_alexnet(**options: Any) -> FCN:
    """FCN-AlexNet (§4.1), over CaffeNet: 57 million parameters."""
    return fcn("caffenet", stride=32, **options)


@_named
def fcn32s_googlenet(**options: Any) -> FCN:
    """FCN-GoogLeNet (§4.1), without its average pooling: 6 million parameters.

    The authors never released it.  With the padding of 20, even a 1×1 image has scores for all pixels.

    Parameters
    ----------
    **options
        Options of :func:`minifcn.models.fcn`.
    """
    return fcn("googlenet", stride=32, **options)


@_named
def fcn32s_efficientnet_lite0(**options: Any) -> FCN:
    """FCN-32s over EfficientNet-Lite0: 3.4 million parameters; ``--init imagenet`` starts from weights of ImageNet."""
    return fcn("efficientnet_lite0", stride=32, **options)


@_named
def fcn16s_efficientnet_lite0(**options: Any) -> FCN:
    """FCN-16s over EfficientNet-Lite0: fused with scores of block10."""
    return fcn("efficientnet_lite0", stride=16, **options)


@_named
def fcn8s_efficientnet_lite0(**options: Any) -> FCN:
    """FCN-8s over EfficientNet-Lite0: fused with scores of block10 and block4."""
    return fcn("efficientnet_lite0", stride=8, **options)


@_named
def fcn4s_efficientnet_lite0(**options: Any) -> FCN:
    """FCN-4s over EfficientNet-Lite0: fused down to scores of block2."""
    return fcn("efficientnet_lite0", stride=4, **options)


@_named
def fcn_resnet50(**options: Any) -> FCN:
    """torchvision's FCN-ResNet-50: stages 3 and 4 dilated (stride 8), an auxiliary head, clamped interpolation."""
    return fcn_conv("resnet50", **dict(output_stride=8) | options)


@_named
def fcn16s_siftflow(**options: Any) -> FCN:
    """The net with two heads for SIFT Flow (§5): 33 semantic and 3 geometric classes, one trunk, the sum of losses."""
    return _two_heads(16, **options)


@_named
def fcn8s_siftflow(**options: Any) -> FCN:
    """The net with two heads for SIFT Flow, fused with scores of pool3, too (PAMI §5)."""
    return _two_heads(8, **options)


def _two_heads(stride, num_classes=None, **options):
    num_classes = SIFT_FLOW if num_classes is None else num_classes
    if not isinstance(num_classes, dict):
        raise ValueError(
            f"num_classes must have a number for each head, such as dict(sem=33, geo=3), got {num_classes!r}; for "
            f"one kind of label use fcn{stride}s_vgg16"
        )
    return fcn("vgg16", stride=stride, num_classes=num_classes, **options)


@_named
def fcn32s_nyud_rgbd(**options: Any) -> FCN:
    """Early fusion for NYUDv2 (§5): RGB and depth in four channels.

    ``mf.nn.surgery.transplant(vgg16, model, rename, widen="conv1_1_bgrd")``, where `rename` turns ``conv1_1`` into
    ``conv1_1_bgrd``, starts the weights of depth at the mean of the colours'.

    Parameters
    ----------
    **options
        Options of :func:`minifcn.models.fcn`.
    """
    return fcn("vgg16", stride=32, **dict(num_classes=40, in_channels=4, first="conv1_1_bgrd") | options)  # type: ignore[arg-type]


@_named
def fcn32s_nyud_late(**options: Any) -> FCN:
    """Late fusion for NYUDv2 (§5): the mean of the scores of a net for RGB (channels 0–2) and one for HHA (3–5)."""
    return fcn("vgg16", stride=32, **TWO_STREAMS | options)


@_named
def fcn16s_nyud_late(**options: Any) -> FCN:
    """Late fusion for NYUDv2 (§5), fused with scores of pool4 of both nets."""
    return fcn("vgg16", stride=16, **TWO_STREAMS | options)


UNNAMED: dict[str, Callable[..., FCN]] = {
    name: _recorded(name, partial(fcn, trunk, stride))
    for trunk in TRUNKS
    if trunk != "alexnet"  # the paper's fcn32s_alexnet is over CaffeNet, and fcn16s_alexnet would be over AlexNet
    for stride in (32, 16, 8, 4, 2)
    if (name := f"fcn{stride}s_{trunk}") not in MODELS
}
"""The nets of any other stride and trunk: ``fcn16s_vgg11`` calls ``fcn("vgg11", stride=16)``."""

if not TYPE_CHECKING:  # a type checker cannot read this list, and takes all public names without one
    __all__ = [*MODELS, "MODELS", "build", "load"]


def build(name: str, **options: Any) -> FCN:
    """The model called `name`.

    Parameters
    ----------
    name : str
        One of `MODELS`, or another stride and trunk, ``fcn16s_vgg11``.
    **options
        Options of :func:`minifcn.models.fcn`.

    Returns
    -------
    FCN

    Raises
    ------
    UserError
        If the name is unknown or a classifier's (it has no scores for pixels), or the options do not fit the model.
    """
    if name in CLASSIFIERS:
        raise UserError(f"{name} is a classifier, which has no scores for pixels; choose an FCN: {', '.join(MODELS)}")
    if name not in MODELS and name not in UNNAMED:
        raise UserError(
            f"there is no model {name!r}; choose one of {', '.join(MODELS)}, or another stride and trunk, "
            "such as fcn16s_vgg11"
        )
    try:
        return (MODELS | UNNAMED)[name](**options)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{k} {v}" for k, v in options.items())
        raise UserError(f"model {name!r} cannot be built with {given}: {error}") from None


def load(path: str | Path, weights: str = "last") -> FCN:
    """The model of a run, in evaluation mode: see :mod:`minifcn.models.store`.

    Parameters
    ----------
    path : path-like
        The run's folder, or a checkpoint.
    weights : {"last", "best"}
        Which checkpoint of a folder.

    Raises
    ------
    UserError
        If the folder has no such checkpoint, or it cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        path, folder = path / f"{weights}.safetensors", path
        if not path.is_file():
            raise UserError(
                f"{folder} has no {path.name}; give the folder of a run that has trained an epoch, or a file"
            )
    return store.load_model(path, build)[0]
