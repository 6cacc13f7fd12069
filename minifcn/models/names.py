"""The names that torchvision uses for the same arrays."""

from .. import nn
from .classifier import Classifier
from .fcn import FCN


def torchvision_names(model: Classifier | FCN) -> dict[str, str]:
    """{torchvision's name: minifcn's} for every parameter and buffer of a classifier, or of ``fcn_resnet50``.

    torchvision numbers the layers of VGG and AlexNet, including ReLU, pooling and dropout: ``features.0`` … before the
    flattening, ``classifier.0`` … after it; the names follow from the positions.  ResNets have the same names in both
    libraries, with the prefix ``backbone.`` in torchvision's FCN.

    Parameters
    ----------
    model : Classifier or FCN
        VGG, ``alexnet_torchvision``, a ResNet, or ``fcn_resnet50``.

    Returns
    -------
    dict of {str: str}
        For ``mf.nn.surgery.transplant(state_dict, model, rename=names.get)``.

    Raises
    ------
    ValueError
        For any other net.  torchvision's nets of the same name, such as AlexNet, have other layers.
    """
    ours, layers = list(model.state_dict()), dict(model.children())
    if isinstance(model, FCN) and "classifier" in layers:
        return {n if "classifier." in n else f"backbone.{n}": n for n in ours}
    if "layer1" in layers and "fc" in layers:
        return {n: n for n in ours}
    norms = any(isinstance(layer, nn.LocalResponseNorm) for layer in layers.values())
    if norms or getattr(model, "head", None) != "fc8":
        raise ValueError(
            "torchvision has no net with these layers: give a VGG, alexnet_torchvision, a ResNet or fcn_resnet50"
        )
    theirs, part, position = {}, "features", 0
    for name, layer in layers.items():
        if isinstance(layer, nn.Flatten):
            part, position = "classifier", 0
            continue
        theirs[name] = f"{part}.{position}"
        position += 1
    return {f"{theirs[n.partition('.')[0]]}.{n.partition('.')[2]}": n for n in ours}
