"""Weights that others trained: recognise the layout of a file by its names and shapes, and translate it to minifcn's.

torchvision numbers its layers; the numbers follow from the nets (`torchvision_names`).  Most other files have the
layers of Caffe's nets, whose names minifcn uses, too, and each framework spells them in its own way (`SPELLINGS`).
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..arrays.types import Array
from ..data.transforms import CAFFE, Preprocessing
from ..kernels import shapes_only
from . import efficientnet
from .efficientnet import renamed
from .fcn import CLASSIFIERS
from .names import torchvision_names
from .presets import MODELS

VGG = Preprocessing("BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))  # the classifiers of the VGG group, and Keras'
SIFT_FLOW = Preprocessing("BGR", (114.578, 115.294, 108.353), (1.0, 1.0, 1.0))
TORCHVISION = Preprocessing("RGB", (123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375))
TORCHVISION_GOOGLENET = Preprocessing("RGB", (127.5, 127.5, 127.5), (1 / 127.5, 1 / 127.5, 1 / 127.5))
PREPROCESSINGS = {"caffe": CAFFE, "torchvision": TORCHVISION, "imagenet": efficientnet.PREPROCESSING}
"""The preprocessings by their names on the command line; "imagenet" is that of the weights of ``--init imagenet``."""

CAFFE_NETS = r"lenet_caffe|caffenet|vgg\d+|googlenet|fcn\d+s_(vgg16|atonce_vgg16|alexnet|siftflow|nyud_\w+)"
SPELLINGS = {
    "Keras": r"(?:.*/)?(block\d_conv\d|fc\d|predictions)[/_](?:vars/)?(?:(kernel|W|0)|bias|b|1)(?:_\d+)?(?::0)?",
    "Chainer": r"(.+)/(?:(W)|b)",
    "caffe-tensorflow": r"(.+)\.(?:(weights)|biases)",
    "Caffe": r"(.+)\.(?:(weight)|bias)",
}
"""Each framework's name of an array: group 1 is the layer, and group 2 is None for the bias."""

CHANNELS_LAST = ("Keras", "caffe-tensorflow")  # kernels (h, w, C, O), matrices (inputs, O), maps flattened as (h, w, C)
KERAS_3 = r"(?:.*/)?layers/(conv2d|dense)(?:_(\d+))?/vars/([01])"  # layers are numbered in their order
KERAS = {"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}
FIRST_RELEASE = {"score2": "upscore2", "score4": "upscore_pool4"}  # the FCNs of 2014, whose last layer is bigscore
LAST = {64: "upscore", 63: "upscore", 32: "upscore16", 16: "upscore8"}  # by the size of its kernel


@dataclass(frozen=True, eq=False)
class Donor:
    """The weights of a file whose layout was recognised; a source for :func:`minifcn.nn.surgery.transplant`.

    Parameters
    ----------
    net : str
        The net of ``mf.models`` that has these layers.
    origin : str
        The framework that names them so.
    arrays : dict of {str: array}
        With minifcn's names and axes; arrays that belong to no layer of the net keep their names.
    preprocessing : Preprocessing or None
        The conversion of images that these weights expect, by the framework's convention; None if it is not known.
    """

    net: str
    origin: str
    arrays: dict[str, Array]
    preprocessing: Preprocessing | None

    def state_dict(self) -> dict[str, Array]:
        """`arrays`, as a Module returns its own."""
        return self.arrays

    def __str__(self) -> str:
        return f"{self.net}, named as in {self.origin}"


def recognise(arrays: Mapping[str, Array]) -> Donor | None:
    """The net, and its weights under minifcn's names, if the names and shapes are those of a known layout.

    Known are VGG, AlexNet, GoogLeNet, ResNet-18, ResNet-50 and ``fcn_resnet50`` of torchvision; Caffe's classifiers and
    the paper's FCNs, as files of Caffe, pytorch-fcn, Chainer and caffe-tensorflow; Keras' VGG.  The numbers of channels
    may differ from the original's.

    Parameters
    ----------
    arrays : dict of {str: array}
        The result of :func:`minifcn.io.load_weights`.

    Returns
    -------
    Donor or None
        Its arrays share memory with `arrays` where they need no calculation.  Counters of batches are left out.
    """
    arrays = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    for read in (_torchvision, _torchvision_googlenet, _efficientnet, _caffe):
        # these are raised if the names are those of a layout, but the shapes are not
        with suppress(KeyError, IndexError, TypeError, ValueError):
            if donor := read(arrays):
                return donor
    return None


def _kernels(arrays):
    """{name: size of the kernel} of the convolutions, without those that a file may lack."""
    return {
        n: a.shape[2:] for n, a in arrays.items() if a.ndim == 4 and not n.startswith(("aux_classifier", "upscore"))
    }


@cache
def _torchvision_nets():
    """{name of a net: ({torchvision's name: minifcn's}, kernels under torchvision's names)}."""
    vggs = ("vgg11", "vgg16", "vgg19")
    with shapes_only():
        nets = {name: CLASSIFIERS[name]() for name in (*vggs, "alexnet_torchvision", "resnet18", "resnet50")}
        nets |= {f"{name} with batch norm": CLASSIFIERS[name](batch_norm=True) for name in vggs}
        nets["fcn_resnet50"] = MODELS["fcn_resnet50"]()  # type: ignore[assignment]
    found = {}
    for title, net in nets.items():
        names, own = torchvision_names(net), net.state_dict()
        found[title] = names, _kernels({theirs: own[ours] for theirs, ours in names.items()})
    return found


def _torchvision(arrays):
    for net, (names, kernels) in _torchvision_nets().items():
        if _kernels(arrays) != kernels:
            continue
        ours = {names.get(name, name): array for name, array in arrays.items()}
        for name in arrays.keys() - names.keys():
            if kernel := names.get(re.sub(r"\.bias$", ".weight", name)):
                # torchvision's VGG has a bias before each batch norm, minifcn's has none: the running mean takes it
                mean = kernel.replace(".weight", "_bn.running_mean")
                ours[mean] = ours[mean] - ours.pop(name)
        return Donor(net, "torchvision", ours, TORCHVISION)
    return None


def _efficientnet(arrays):
    """The PyTorch port of EfficientNet-Lite0."""
    if "_conv_stem.weight" not in arrays:
        return None
    return Donor("efficientnet_lite0", "efficientnet_lite_pytorch", renamed(arrays), efficientnet.PREPROCESSING)


STEM = {"conv1": "conv1/7x7_s2", "conv2": "conv2/3x3_reduce", "conv3": "conv2/3x3"}
BRANCHES = {
    "branch1": "1x1", "branch2.0": "3x3_reduce", "branch2.1": "3x3", "branch3.0": "5x5_reduce", "branch3.1": "5x5",
    "branch4.1": "pool_proj",
}  # fmt: skip


def _torchvision_googlenet(arrays):
    """torchvision's GoogLeNet has batch norm in place of local response norm, and 3×3 kernels in place of 5×5.

    Its batch norms (ε = 0.001) are folded into the convolutions, and its kernels are padded with zeros to 5×5.
    """
    if "inception3a.branch1.conv.weight" not in arrays:
        return None
    ours = {re.sub(r"^fc\.", "loss3/classifier.", name): array for name, array in arrays.items()}
    for name in arrays:
        layer = name.removesuffix(".conv.weight")
        block, _, branch = layer.partition(".")
        new = STEM.get(layer) or f"{block.replace('inception', 'inception_')}.{BRANCHES.get(branch)}"
        if layer == name or new.endswith("None"):
            continue
        norm = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (ours.pop(f"{layer}.bn.{n}") for n in norm)
        factor = gamma / np.sqrt(variance + 1e-3)
        kernel = ours.pop(name) * factor[:, None, None, None]
        ours[f"{new}.weight"] = np.pad(kernel, [(0, 0), (0, 0), (1, 1), (1, 1)]) if new.endswith("5x5") else kernel
        ours[f"{new}.bias"] = beta - mean * factor
    return Donor("googlenet", "torchvision", ours, TORCHVISION_GOOGLENET)


@cache
def _caffe_nets():
    """{name of a net: its arrays} of the nets whose layers have Caffe's names."""
    with shapes_only():
        return {n: f().state_dict() for n, f in (CLASSIFIERS | MODELS).items() if re.fullmatch(CAFFE_NETS, n)}


def _caffe(arrays):
    if any(map(_only_in_minifcn, arrays, arrays.values())):
        return None
    arrays = _named_by_keras_1(arrays)
    for origin, spelling in SPELLINGS.items():
        ours = _translated(arrays, origin, spelling)
        shared = {n: len(net.keys() & ours) for n, net in _caffe_nets().items() if _fits(net, ours)}
        if not shared:
            continue
        net = max(shared, key=lambda n: (shared[n], -len(_caffe_nets()[n])))
        if net in ("caffenet", "fcn32s_alexnet") and len(ours["conv1.weight"]) == ours["conv2.weight"].shape[1]:
            return None  # without groups, these are the layers of minifcn's alexnet_torchvision
        return Donor(net, origin, ours, _preprocessing(net, ours))
    return None


def _fits(net, arrays):
    """Whether most arrays of a net are there, among them all of its kernels, and no other convolution of a trunk."""
    its, kernels = _kernels(net), _kernels(arrays)
    others = [name for name in kernels.keys() - its.keys() if name.startswith("conv")]
    return its.items() <= kernels.items() and not others and 2 * len(net.keys() & arrays) > len(net)


def _only_in_minifcn(name, array):
    """Whether an array belongs to a batch norm, or to an interpolation with a group for each class."""
    return "_bn." in name or (name.startswith("upscore") and array.ndim == 4 and array.shape[1] == 1 < len(array))


def _named_by_keras_1(arrays):
    """The arrays, with the names of Keras 1 and 2 if they are those of a VGG by Keras 3: block1_conv1, not conv2d."""
    matches = {name: match for name in arrays if (match := re.fullmatch(KERAS_3, name))}
    wide = {int(m[2] or 0): arrays[n].shape[-1] for n, m in matches.items() if (m[1], m[3]) == ("conv2d", "0")}
    for net in ("vgg11", "vgg16", "vgg19"):
        kernels = {name: len(array) for name, array in _caffe_nets()[net].items() if array.ndim == 4}
        if [wide[i] * 64 for i in sorted(wide)] == [wide.get(0, 0) * n for n in kernels.values()]:
            layers = dict(conv2d=[f"block{n[4]}_conv{n[6]}" for n in kernels], dense=list(KERAS))
            new = {name: f"{layers[m[1]][int(m[2] or 0)]}/vars/{m[3]}" for name, m in matches.items()}
            return {new.get(name, name): array for name, array in arrays.items()}
    return arrays


def _preprocessing(net, arrays):
    """What the published weights of a net expect; None for greys and for NYUDv2, where HHA and colour look alike."""
    if net.startswith("lenet") or "nyud" in net or len(arrays.get("score_fr.weight", ())) == 40:
        return None
    if "siftflow" in net:
        return SIFT_FLOW
    return VGG if net.startswith("vgg") else CAFFE


def _translated(arrays, origin, spelling):
    """The arrays under minifcn's names and with its axes, those that `spelling` does not fit unchanged; or {}."""
    matches = {name: re.fullmatch(spelling, name) for name in arrays}
    ours = {_name(match, origin, arrays[n]) if match else n: arrays[n] for n, match in matches.items()}
    if not any(matches.values()) or len(ours) < len(arrays):  # two arrays would have the same name
        return {}
    kernels = sorted(name for name in ours if re.fullmatch(r"conv\d.*\.weight", name))
    channels = ours[kernels[-1]].shape[-1] if kernels and origin in CHANNELS_LAST else None
    return {name: _rearranged(name, a, ours.get(name.replace("weight", "bias")), channels) for name, a in ours.items()}


def _name(match, origin, array):
    layer = KERAS.get(match[1], match[1]) if origin == "Keras" else match[1].replace("-", "_")
    layer = re.sub(r"^block(\d)_conv(\d)$", r"conv\1_\2", layer)
    layer = re.sub(r"^(inception_\w+)/", r"\1.", layer)
    if layer in ("bigscore", "upsample"):
        layer = LAST.get(array.shape[-1], layer)
    return f"{FIRST_RELEASE.get(layer, layer)}.{'weight' if match[2] else 'bias'}"


def _rearranged(name, array, bias, channels):
    """An array with minifcn's axes; `channels` is None, or, in files with channels last, the number that fc6 reads."""
    if name.endswith(".bias"):
        return array.reshape(-1)  # (1, 1, 1, O) in Caffe's first format
    if not name.endswith(".weight"):
        return array
    if channels and array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if channels and array.ndim == 2:
        if name == "fc6.weight":
            array = array.reshape(-1, channels, array.shape[1]).transpose(1, 0, 2).reshape(array.shape)
        return array.T
    if array.ndim == 4 and array.shape[:2] == (1, 1) and bias is not None and 1 < bias.size == array.shape[2]:
        return array[0, 0]  # (1, 1, O, inputs) in Caffe's first format
    if name.startswith("upscore") and array.ndim == 4 and array.shape[0] == array.shape[1]:
        diagonal = array[range(len(array)), range(len(array)), None]
        if np.count_nonzero(diagonal) == np.count_nonzero(array):  # no class is interpolated from another
            return diagonal
    return array
