"""The named nets, each a line over ``fcn(trunk, stride)``; and models by their names.

The first layer is padded by 100, as in the reference nets: every image down to 1×1 has scores for all its pixels.  Any
padding that fits will do (``pad=81``, or ``image_size=224`` for the smallest), for crops are derived.  ``width`` makes
a net that learns on a laptop.  Options are those of :func:`minifcn.models.fcn`.
"""

from functools import wraps

from ..errors import UserError
from . import store
from .fcn import CLASSIFIERS, fcn, fcn_conv

MODELS = {}
"""The named nets that segment."""

AT_ONCE = dict(pool4=0.01, pool3=0.0001)  # the PAMI paper's: they about equalise the norms of the maps
TWO_STREAMS = dict(num_classes=40, streams=("color", "hha"))


def _named(function):
    """Enter a net among the named ones; what it builds remembers how, and so can be saved and built again."""

    @wraps(function)
    def build(*args, **options):
        model = function(*args, **options)
        model.recipe = model.recipe or dict(name=function.__name__, options=options)
        return model

    MODELS[function.__name__] = build
    return build


@_named
def fcn32s_mini(**options):
    """FCN-32s over the small trunk: one score map, upsampled 32-fold."""
    return fcn("mini", stride=32, **options)


@_named
def fcn16s_mini(**options):
    """FCN-16s over the small trunk: fused with scores of pool4."""
    return fcn("mini", stride=16, **options)


@_named
def fcn8s_mini(pretrained=None, **options):
    """FCN-8s over the small trunk: fused with scores of pool4 and pool3.

    Parameters
    ----------
    pretrained : {None, "earth"}
        Load weights that the package ships: seven kinds of surface on NASA's Blue Marble.
    **options
        See :func:`fcn`: ``num_classes``, ``width``, ``batch_norm``, ``dropout``, ``learn_upsampling``; not beside
        `pretrained`.
    """
    if pretrained is not None:
        if options:
            raise ValueError(f"pretrained weights come with their own net: leave out {', '.join(options)}")
        return load(store.pretrained_path("fcn8s_mini", pretrained))
    return fcn("mini", stride=8, **options)


@_named
def fcn4s_mini(**options):
    """One skip beyond the paper: fused down to scores of pool2."""
    return fcn("mini", stride=4, **options)


@_named
def fcn2s_mini(**options):
    """Two skips beyond the paper: fused down to scores of pool1."""
    return fcn("mini", stride=2, **options)


@_named
def fcn32s_vgg16(**options):
    """FCN-32s-VGG16 (§4.1), the paper's best coarse net: 134 million parameters."""
    return fcn("vgg16", stride=32, **options)


@_named
def fcn16s_vgg16(**options):
    """FCN-16s-VGG16 (§4.2): fused with scores of pool4."""
    return fcn("vgg16", stride=16, **options)


@_named
def fcn8s_vgg16(**options):
    """FCN-8s-VGG16 (§4.2): fused with scores of pool4 and pool3."""
    return fcn("vgg16", stride=8, **options)


@_named
def fcn8s_atonce_vgg16(**options):
    """FCN-8s-VGG16 for training all streams at once (PAMI §4.3): pool4 scaled by 0.01, pool3 by 0.0001."""
    return fcn("vgg16", stride=8, **dict(scales=AT_ONCE) | options)


@_named
def fcn4s_vgg16(**options):
    """One skip beyond the paper, which found no gain there: fused down to scores of pool2."""
    return fcn("vgg16", stride=4, **options)


@_named
def fcn2s_vgg16(**options):
    """Two skips beyond the paper: fused down to scores of pool1."""
    return fcn("vgg16", stride=2, **options)


@_named
def fcn32s_alexnet(**options):
    """FCN-AlexNet (§4.1), over CaffeNet: 57 million parameters."""
    return fcn("caffenet", stride=32, **options)


@_named
def fcn32s_googlenet(**options):
    """FCN-GoogLeNet (§4.1), without its average pooling: 6 million parameters.

    Never released by the authors; padded by 20 every image down to 1×1 has scores for all its pixels.

    Parameters
    ----------
    **options
        As :func:`minifcn.models.fcn` takes them.
    """
    return fcn("googlenet", stride=32, **options)


@_named
def fcn_resnet50(**options):
    """torchvision's FCN-ResNet-50: stages 3 and 4 dilated (stride 8), an auxiliary head, clamped interpolation."""
    return fcn_conv("resnet50", **dict(output_stride=8) | options)


@_named
def fcn16s_siftflow(**options):
    """The two-headed net for SIFT Flow (§5): 33 semantic and 3 geometric classes over one trunk, losses added."""
    return _two_heads(16, **options)


@_named
def fcn8s_siftflow(**options):
    """The two-headed net with scores of pool3 (PAMI §5)."""
    return _two_heads(8, **options)


def _two_heads(stride, num_classes=None, **options):
    num_classes = dict(sem=33, geo=3) if num_classes is None else num_classes
    if not isinstance(num_classes, dict):
        raise ValueError(
            "it has a head for each of two kinds of label, and num_classes says so: dict(sem=33, geo=3); for labels of "
            f"one kind there is fcn{stride}s_vgg16"
        )
    return fcn("vgg16", stride=stride, num_classes=num_classes, **options)


@_named
def fcn32s_nyud_rgbd(**options):
    """Early fusion for NYUDv2 (§5): colour and depth in four channels; ``transplant`` gives the fourth the mean."""
    return fcn("vgg16", stride=32, **dict(num_classes=40, in_channels=4, first="conv1_1_bgrd") | options)


@_named
def fcn32s_nyud_late(**options):
    """Late fusion for NYUDv2 (§5): a net for RGB, a net for HHA (channels 0–2, 3–5), the mean of their scores."""
    return fcn("vgg16", stride=32, **TWO_STREAMS | options)


@_named
def fcn16s_nyud_late(**options):
    """Late fusion for NYUDv2 with scores of both pool4 (§5)."""
    return fcn("vgg16", stride=16, **TWO_STREAMS | options)


__all__ = [*MODELS, "MODELS", "build", "load"]


def build(name, **options):
    """The model called `name`.

    Parameters
    ----------
    name : str
        One of `MODELS`.
    **options
        As :func:`minifcn.models.fcn` takes them.

    Returns
    -------
    FCN

    Raises
    ------
    UserError
        For an unknown name, a classifier's (it says nothing of pixels), or options that do not fit.
    """
    if name in CLASSIFIERS:
        raise UserError(f"{name} is a classifier, it says nothing of pixels; choose an FCN: {', '.join(MODELS)}")
    if name not in MODELS:
        raise UserError(f"there is no model {name!r}; choose one of {', '.join(MODELS)}")
    try:
        return MODELS[name](**options)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{k} {v}" for k, v in options.items())
        raise UserError(f"model {name!r} cannot be built with {given}: {error}") from None


def load(path):
    """The model that a checkpoint of a training run holds, ready to predict: see :mod:`minifcn.models.store`."""
    return store.load_model(path, build)[0]
