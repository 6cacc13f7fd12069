"""The networks: trunks, one FCN builder over any of them, and a short preset for each named net."""

from ..errors import UserError
from . import store
from .fcn import FCN, TRUNKS, fcn, fuse

__all__ = [
    "FCN", "MODELS", "TRUNKS", "build", "fcn", "fcn2s_mini", "fcn4s_mini", "fcn8s_mini", "fcn16s_mini", "fcn32s_mini",
    "fuse", "load",
]  # fmt: skip


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


MODELS = {f.__name__: f for f in (fcn32s_mini, fcn16s_mini, fcn8s_mini, fcn4s_mini, fcn2s_mini)}
"""The named nets."""


def build(name, **options):
    """The model called `name`, remembering how it was built.  Raises UserError for an unknown name or option."""
    if name not in MODELS:
        raise UserError(f"there is no model {name!r}; choose one of {', '.join(MODELS)}")
    try:
        model = MODELS[name](**options)
    except TypeError as error:
        raise UserError(f"model {name!r} cannot be built with {options}: {error}") from None
    model.recipe = dict(name=name, options=options)
    return model


def load(path):
    """The model that a checkpoint of a training run holds, ready to predict: see :mod:`minifcn.models.store`."""
    return store.load_model(path, build)[0]
