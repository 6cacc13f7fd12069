"""What other libraries call the same arrays."""

from .. import nn
from .fcn import FCN


def torchvision_names(model):
    """{torchvision's name: ours} for every parameter and buffer of a classifier, or of ``fcn_resnet50``.

    torchvision numbers the layers of VGG and AlexNet: ``features.0`` … up to the flattening, ``classifier.0`` … after
    it, each ReLU, pooling and dropout counted.  So do we, by position.  Its ResNets carry the names we took; in its FCN
    they stand under ``backbone``.

    Parameters
    ----------
    model : Classifier or FCN

    Returns
    -------
    dict of {str: str}
        For ``mf.nn.surgery.transplant(state_dict, model, rename=names.get)``.
    """
    ours = list(model.state_dict())
    if isinstance(model, FCN):
        return {n if "classifier." in n else f"backbone.{n}": n for n in ours}
    if "layer1" in vars(model):
        return {n: n for n in ours}
    theirs, part, position = {}, "features", 0
    for name, layer in model.children():
        if isinstance(layer, nn.Flatten):
            part, position = "classifier", 0
            continue
        theirs[name] = f"{part}.{position}"
        position += 1
    return {f"{theirs[n.partition('.')[0]]}.{n.partition('.')[2]}": n for n in ours}
