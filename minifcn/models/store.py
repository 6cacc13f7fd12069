"""Models in checkpoint files: weights, arguments to build the model, classes, colours, bands, preprocessing."""

from pathlib import Path

import numpy as np

from ..data.bands import RGB, require_bands
from ..data.transforms import Preprocessing
from ..errors import UserError
from ..io import load_checkpoint, load_record, load_weights
from ..io.weights import require_finite
from ..kernels import shapes_only

SHIPPED = Path(__file__).parent / "weights"


def describe(model):
    """The record from which, with the weights, `load_model` makes this model again: a JSON value."""
    return dict(
        model=model.build_arguments,
        classes=names_of(model),
        palette=np.asarray(model.palette).tolist() if model.palette is not None else None,
        heads={kind: names_of(model.only(kind)) for kind in model.kinds},
        preprocessing=model.preprocessing.to_dict(),
        bands=list(model.bands) if model.bands else None,
        side=model.side,
    )


def names_of(model):
    """The names of a model's classes; "class 0" … if it has none."""
    return list(model.classes or [f"class {i}" for i in range(model.num_classes)])


def load_model(path, build):
    """The model in a checkpoint, in evaluation mode, and the checkpoint's record.

    Parameters
    ----------
    path : path-like
    build : callable
        ``build(name, **options) -> model``.

    Raises
    ------
    UserError
        If the file is missing or damaged, or its model is not one of the named nets; if the weights are not finite or
        do not fit the net; if a value in the record has the wrong type.
    """
    arrays, record = load_checkpoint(path)
    if isinstance(record, dict) and record.get("model", "") is None:
        raise UserError(
            f"{path}: its model is none of the named nets, so the file does not say how to build it; build it yourself "
            "and load the arrays whose names begin with 'model.' (mf.io.load_checkpoint)"
        )
    weights = weights_in(arrays)
    require_finite(path, weights)
    try:
        with shapes_only():  # allocates no weights: a damaged or hostile record could name a net that fills the memory
            model = build(record["model"]["name"], **record["model"]["options"])
        model.load_state_dict(weights)
        model.classes = _classes(record["classes"], model.num_classes)
        model.palette = _palette(record["palette"])
        heads = record.get("heads") or {}  # none in a checkpoint of an earlier version
        for kind in model.kinds:
            names = heads.get(kind, names_of(model.only(kind)))
            model.heads[kind].classes = _classes(names, model.heads[kind].num_classes)
        model.preprocessing = Preprocessing.from_dict(record["preprocessing"])
        model.bands = _bands(record.get("bands"), model.in_channels)
        model.side = _side(record.get("side"))
        if model.preprocessing.channels != model.in_channels:
            raise ValueError(f"its preprocessing is for {model.preprocessing.channels} channels")
    except Exception as error:  # the record is untrusted: with wrong values the builder may raise any exception
        why = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: not a checkpoint of a model that this version can build ({why})") from None
    return model.eval(), record


def load_start(path):
    """The start of a training: the model's arrays in a checkpoint, or all arrays of a weight file; and the record.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    UserError
        If the file is missing or damaged, its weights are not finite, or its record is not valid.
    """
    arrays, record = load_weights(path), load_record(path)
    arrays = weights_in(arrays) or arrays
    require_finite(path, arrays)
    try:
        if record.get("classes") is not None:
            _classes(record["classes"])
        if "preprocessing" in record:
            Preprocessing.from_dict(record["preprocessing"])
        _bands(record.get("bands"))
    except ValueError as error:
        raise UserError(f"{path}: its record is damaged: {error}") from None
    return arrays, record


def _classes(names, count=None):
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"classes are {names!r}, expected a list of names")
    if count is not None and len(names) != count:
        raise ValueError(f"it has {len(names)} names for {count} classes")
    return tuple(names)


def _bands(names, count=None):
    if names is None:  # a checkpoint of an earlier version
        return RGB if count == len(RGB) else None
    require_bands(names, "it")
    if count is not None and len(names) != count:
        raise ValueError(f"it has {len(names)} bands for {count} channels")
    return tuple(names)


def _side(pixels):
    if pixels is not None and not (type(pixels) is int and pixels > 0):
        raise ValueError(f"the side of its training pictures is {pixels!r}")
    return pixels


def _palette(colours):
    if colours is None:
        return None
    palette = np.array(colours)
    if palette.dtype.kind not in "iu" or palette.ndim != 2 or palette.shape[1] != 3:
        raise ValueError("the palette is not a list of colours of three whole numbers")
    if palette.min() < 0 or palette.max() > 255:
        raise ValueError("the palette has colours outside 0 … 255")
    return palette.astype(np.uint8)


def weights_in(arrays):
    """The model's arrays in a checkpoint, named without the prefix ``model.``."""
    return {name.removeprefix("model."): a for name, a in arrays.items() if name.startswith("model.")}


def pretrained_path(name, weights):
    """The path of a weight file that comes with the package; UserError if there is no such file."""
    path = SHIPPED / f"{name}-{weights}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors"))) or "no weights"
        raise UserError(
            f"the package has no weights {weights!r} for {name} (it ships {shipped}); use those, or train a model"
        )
    return path
