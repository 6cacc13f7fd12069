"""The networks: classifiers, a builder that makes an FCN from any of them, and a function for each named net."""

from .alexnet import alexnet, alexnet_torchvision, caffenet
from .classifier import Classifier, Trunk
from .donors import Donor, recognise
from .efficientnet import efficientnet_lite0
from .fcn import CLASSIFIERS, FCN, TRUNKS, build_trunk, fcn, with_reference_rates
from .googlenet import googlenet
from .heads import SkipHead, fuse
from .lenet import lenet, lenet_caffe
from .names import torchvision_names
from .presets import *  # noqa: F403  the named nets: its __all__
from .presets import MODELS, UNNAMED, build, load
from .resnet import resnet18, resnet50
from .vgg import vgg11, vgg16, vgg19

__all__ = [
    "CLASSIFIERS", "FCN", "MODELS", "TRUNKS", "UNNAMED", "Classifier", "Donor", "SkipHead", "Trunk", "alexnet",
    "alexnet_torchvision", "build", "build_trunk", "caffenet", "efficientnet_lite0", "fcn", "fuse", "googlenet",
    "lenet", "lenet_caffe", "load", "recognise", "resnet18", "resnet50", "torchvision_names", "vgg11", "vgg16",
    "vgg19", "with_reference_rates", *MODELS,
]  # fmt: skip
