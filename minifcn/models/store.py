"""A model as a file: its weights, how to build it, what its classes mean, and its preprocessing."""

from pathlib import Path

import numpy as np

from ..data.transforms import Preprocessing
from ..errors import UserError
from ..io import load_checkpoint, load_record, load_weights
from ..io.weights import require_finite
from ..kernels import shapes_only

SHIPPED = Path(__file__).parent / "weights"


def describe(model):
    """What is needed besides weights to make this model again: a JSON value."""
    return dict(
        model=model.recipe,
        classes=list(model.classes or [f"class {i}" for i in range(model.num_classes)]),
        palette=np.asarray(model.palette).tolist() if model.palette is not None else None,
        preprocessing=model.preprocessing.to_dict(),
    )


def load_model(path, build):
    """The model that a checkpoint holds, in evaluation mode, and the checkpoint's record.

    Parameters
    ----------
    path : path-like
    build : callable
        ``build(name, **options) -> model``.

    Raises
    ------
    UserError
        If the file is missing or damaged, holds none of the named nets, if its weights are not finite or do not fit the
        net it names, or if its record has anything of another type than it should have.
    """
    arrays, record = load_checkpoint(path)
    if isinstance(record, dict) and record.get("model", "") is None:
        raise UserError(
            f"{path}: holds none of the named nets, so it cannot say how to build it; build it yourself, and load the "
            "arrays whose names begin with 'model.' (mf.io.load_checkpoint)"
        )
    weights = weights_in(arrays)
    require_finite(path, weights)
    try:
        with shapes_only():  # no memory for a net that a damaged record makes too large
            model = build(record["model"]["name"], **record["model"]["options"])
        model.load_state_dict(weights)
        model.classes = _classes(record["classes"], model.num_classes)
        model.palette = _palette(record["palette"])
        model.preprocessing = Preprocessing.from_dict(record["preprocessing"])
    except Exception as error:  # a record that somebody else wrote may hold anything, and make building raise anything
        why = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: not a checkpoint of a model that this version can build ({why})") from None
    return model.eval(), record


def load_start(path):
    """What a training may start from: the arrays of a checkpoint's model or of any weight file, and the record.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    UserError
        If the file is missing or damaged, or holds weights that are not finite or classes that are no names.
    """
    arrays, record = load_weights(path), load_record(path)
    arrays = weights_in(arrays) or arrays
    require_finite(path, arrays)
    try:
        if record.get("classes") is not None:
            _classes(record["classes"])
        if "preprocessing" in record:
            Preprocessing.from_dict(record["preprocessing"])
    except ValueError as error:
        raise UserError(f"{path}: its record is damaged: {error}") from None
    return arrays, record


def _classes(names, count=None):
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"classes are {names!r}, expected a list of names")
    if count is not None and len(names) != count:
        raise ValueError(f"{len(names)} names for {count} classes")
    return tuple(names)


def _palette(colours):
    if colours is None:
        return None
    palette = np.array(colours)
    if palette.dtype.kind not in "iu" or palette.ndim != 2 or palette.shape[1] != 3:
        raise ValueError("the palette is no list of three whole numbers a colour")
    if palette.min() < 0 or palette.max() > 255:
        raise ValueError("the palette has colours outside 0 … 255")
    return palette.astype(np.uint8)


def weights_in(arrays):
    """The model's arrays among a checkpoint's, by their own names."""
    return {name.removeprefix("model."): a for name, a in arrays.items() if name.startswith("model.")}


def pretrained_path(name, weights):
    """The file of weights that the package ships for a model; UserError, naming what there is, if there is none."""
    path = SHIPPED / f"{name}-{weights}.safetensors"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors"))) or "none at all"
        raise UserError(
            f"the package has no weights {weights!r} for {name} (it ships {there}); give a model of your own"
        )
    return path
