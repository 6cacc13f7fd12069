"""A model as a file: its weights, how to build it, what its classes mean, and its preprocessing."""

from pathlib import Path

import numpy as np

from ..data.transforms import Preprocessing
from ..errors import UserError
from ..io import load_checkpoint

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
        If the file is missing or damaged, holds none of the named nets, or its weights do not fit the one it names.
    """
    arrays, record = load_checkpoint(path)
    if isinstance(record, dict) and record.get("model", "") is None:
        raise UserError(
            f"{path}: holds none of the named nets, so it cannot say how to build it; build it yourself, and load the "
            "arrays whose names begin with 'model.' (mf.io.load_checkpoint)"
        )
    try:
        model = build(record["model"]["name"], **record["model"]["options"])
        model.load_state_dict(weights_in(arrays))
        model.classes = tuple(record["classes"])
        model.palette = None if record["palette"] is None else np.array(record["palette"], np.uint8)
        model.preprocessing = Preprocessing.from_dict(record["preprocessing"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a checkpoint of a model that this version can build ({error})") from None
    return model.eval(), record


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
