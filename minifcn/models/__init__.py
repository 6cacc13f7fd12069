"""The networks: classifiers, one FCN builder over any of them, and a short preset for each named net."""

from .classifier import Classifier, Trunk
from .fcn import CLASSIFIERS, FCN, TRUNKS, fcn
from .heads import fuse
from .names import torchvision_names
from .presets import MODELS, build, load

globals().update(CLASSIFIERS | MODELS)

__all__ = [
    "CLASSIFIERS", "FCN", "MODELS", "TRUNKS", "Classifier", "Trunk", "build", "fcn", "fuse", "load",
    "torchvision_names", *CLASSIFIERS, *MODELS,
]  # fmt: skip
