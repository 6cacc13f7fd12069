"""The named nets, each a line over ``fcn(trunk, stride)``; and models by their names.

The first layer is padded by 100, as in the reference nets: every image down to 1×1 has scores for all its pixels.  Any
padding that fits will do (``pad=81``, or ``image_size=224`` for the smallest), for crops are derived.  ``width`` makes
a net that learns on a laptop.  Options are those of :func:`minifcn.models.fcn`.
"""

from ..errors import UserError
from . import store
from .fcn import CLASSIFIERS, fcn, fcn_conv, two_streams

AT_ONCE = dict(pool4=0.01, pool3=0.0001)  # the PAMI paper's: they about equalise the norms of the maps


def fcn32s_mini(**options):
    """FCN-32s over the small trunk: one score map, upsampled 32-fold."""
    return fcn("mini", stride=32, **options)


def fcn16s_mini(**options):
    """FCN-16s over the small trunk: fused with scores of pool4."""
    return fcn("mini", stride=16, **options)


def fcn8s_mini(pretrained=None, **options):
    """FCN-8s over the small trunk: fused with scores of pool4 and pool3.

    Parameters
    ----------
    pretrained : {None, "earth"}
        Load weights that the package ships: seven kinds of surface on NASA's Blue Marble.
    **options
        See :func:`fcn`: ``num_classes``, ``width``, ``batch_norm``, ``dropout``, ``learn_upsampling``.
    """
    if pretrained is not None:
        return load(store.pretrained_path("fcn8s_mini", pretrained))
    return fcn("mini", stride=8, **options)


def fcn4s_mini(**options):
    """One skip beyond the paper: fused down to scores of pool2."""
    return fcn("mini", stride=4, **options)


def fcn2s_mini(**options):
    """Two skips beyond the paper: fused down to scores of pool1."""
    return fcn("mini", stride=2, **options)


def fcn32s_vgg16(**options):
    """FCN-32s-VGG16 (§4.1), the paper's best coarse net: 134 million parameters."""
    return fcn("vgg16", stride=32, **options)


def fcn16s_vgg16(**options):
    """FCN-16s-VGG16 (§4.2): fused with scores of pool4."""
    return fcn("vgg16", stride=16, **options)


def fcn8s_vgg16(**options):
    """FCN-8s-VGG16 (§4.2): fused with scores of pool4 and pool3."""
    return fcn("vgg16", stride=8, **options)


def fcn8s_atonce_vgg16(**options):
    """FCN-8s-VGG16 for training all streams at once (PAMI §4.3): pool4 scaled by 0.01, pool3 by 0.0001."""
    return fcn("vgg16", stride=8, **dict(scales=AT_ONCE) | options)


def fcn4s_vgg16(**options):
    """One skip beyond the paper, which found no gain there: fused down to scores of pool2."""
    return fcn("vgg16", stride=4, **options)


def fcn2s_vgg16(**options):
    """Two skips beyond the paper: fused down to scores of pool1."""
    return fcn("vgg16", stride=2, **options)


def fcn32s_alexnet(**options):
    """FCN-AlexNet (§4.1), over CaffeNet: 57 million parameters."""
    return fcn("caffenet", stride=32, **options)


def fcn32s_googlenet(**options):
    """FCN-GoogLeNet (§4.1), without its average pooling: 6 million parameters.

    Never released by the authors; padded by 20 every image down to 1×1 has scores for all its pixels.
    """
    return fcn("googlenet", stride=32, **options)


def fcn_resnet50(**options):
    """torchvision's FCN-ResNet-50: stages 3 and 4 dilated (stride 8), an auxiliary head, clamped interpolation."""
    return fcn_conv("resnet50", **dict(output_stride=8) | options)


def fcn16s_siftflow(**options):
    """The two-headed net for SIFT Flow (§5): 33 semantic and 3 geometric classes over one trunk, losses added."""
    return fcn("vgg16", stride=16, **dict(num_classes=dict(sem=33, geo=3)) | options)


def fcn8s_siftflow(**options):
    """The two-headed net with scores of pool3 (PAMI §5)."""
    return fcn("vgg16", stride=8, **dict(num_classes=dict(sem=33, geo=3)) | options)


def fcn32s_nyud_rgbd(**options):
    """Early fusion for NYUDv2 (§5): colour and depth in four channels; ``transplant`` gives the fourth the mean."""
    return fcn("vgg16", stride=32, **dict(num_classes=40, in_channels=4, first="conv1_1_bgrd") | options)


def fcn32s_nyud_late(**options):
    """Late fusion for NYUDv2 (§5): a net for RGB, a net for HHA (channels 0–2, 3–5), the mean of their scores."""
    return _late(32, **options)


def fcn16s_nyud_late(**options):
    """Late fusion for NYUDv2 with scores of both pool4 (§5)."""
    return _late(16, **options)


def _late(stride, pad=None, width=1.0, num_classes=40, learn_upsampling=False, **trunk_options):
    trunk = two_streams("vgg16", ("color", "hha"), pad, width=width, **trunk_options)
    return fcn(trunk, stride, num_classes, learn_upsampling=learn_upsampling)


_PRESETS = (
    fcn32s_mini, fcn16s_mini, fcn8s_mini, fcn4s_mini, fcn2s_mini,
    fcn32s_vgg16, fcn16s_vgg16, fcn8s_vgg16, fcn8s_atonce_vgg16, fcn4s_vgg16, fcn2s_vgg16,
    fcn32s_alexnet, fcn32s_googlenet, fcn_resnet50,
    fcn16s_siftflow, fcn8s_siftflow, fcn32s_nyud_rgbd, fcn32s_nyud_late, fcn16s_nyud_late,
)  # fmt: skip

MODELS = {f.__name__: f for f in _PRESETS}
"""The named nets that segment."""

__all__ = [*MODELS, "MODELS", "build", "load"]


def build(name, **options):
    """The model called `name`, remembering how it was built.

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
        model = MODELS[name](**options)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{k} {v}" for k, v in options.items())
        raise UserError(f"model {name!r} cannot be built with {given}: {error}") from None
    model.recipe = dict(name=name, options=options)
    return model


def load(path):
    """The model that a checkpoint of a training run holds, ready to predict: see :mod:`minifcn.models.store`."""
    return store.load_model(path, build)[0]
