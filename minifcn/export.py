"""``python -m minifcn.export RUN FILE.onnx``: write the model of a run as an ONNX graph, and compare the two."""

import importlib.util
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from .errors import GeometryError, UserError
from .io import atomic
from .io.cli import Parser, command
from .models import load
from .models.onnx_graph import SIZES, difference, required, to_onnx
from .training.run_folder import find_checkpoint

TOLERANCE = 1e-3  # of the largest score; rounding alone stays below 1e-5


def parser():
    """The flags of this command."""
    p = Parser("export", "Write the model of a run as an ONNX graph for images of any size, preprocessing included.")
    p.add_argument("run", metavar="RUN", help="a run folder or a .safetensors checkpoint")
    p.add_argument("file", metavar="FILE.onnx", help="the file to write")
    p.add_argument("--weights", choices=("last", "best"), default="last", help="which checkpoint of the run to use")
    p.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    return p


@command
def main(argv=None):
    """Run the command ``export``."""
    args = parser().parse(argv)
    file, onnx = Path(args.file), required("onnx")
    if file.suffix.lower() != ".onnx":
        raise UserError(f"{file} must end in .onnx, so that programs recognise it: give another name")
    if not file.parent.is_dir() or (file.exists() and not file.is_file()):
        raise UserError(f"{file} is not a file in an existing folder: give another path")
    if file.exists() and not args.overwrite:
        raise UserError(f"{file} already exists: give another name, or replace it (--overwrite)")
    model = load(find_checkpoint(args.run, args.weights)[0])
    proto = to_onnx(model)
    if proto.ByteSize() > 2**31 - 1:
        raise UserError("the model has more than 2 GB, which one ONNX file cannot hold")
    with atomic(file) as partial:
        onnx.save_model(proto, str(partial))
    print(f"{file}: image (N, H, W, {model.in_channels}) of uint{model.preprocessing.bits} -> labels, scores")
    if model.preprocessing.size is not None:
        print(
            f"note: the model was trained on images whose shorter side has {model.preprocessing.size} pixels; resize "
            "images to that before the graph, because it does not"
        )
    if model.kinds[1:]:
        print(
            f"note: the graph has the head {model.first} alone; in Python, to_onnx(model.only({model.kinds[1]!r})) of "
            "minifcn.models.onnx_graph gives that of another"
        )
    if importlib.util.find_spec("onnxruntime") is None:
        print("note: onnxruntime is not installed, so the graph was not compared with the model")
        return 0
    shape, rng = (model.in_channels,), np.random.default_rng(0)
    for size in SIZES:
        with suppress(GeometryError):  # its first layer is padded for images of another size
            images = rng.integers(0, 2**model.preprocessing.bits, (1, *size, *shape))
            off = difference(model, file, images.astype(f"uint{model.preprocessing.bits}"))
            print(f"onnxruntime's scores of a random image of {size[0]}x{size[1]} differ by {off:.1e} of the largest")
            if not off < TOLERANCE:
                raise UserError(f"{file} does not compute what the model computes; do not use it, and report this")
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
