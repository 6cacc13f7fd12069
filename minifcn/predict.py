"""``python -m minifcn.predict [RUN] IMAGE...``: label every pixel of images of any size."""

import sys
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .data.palette import save_mask
from .errors import GeometryError, UserError
from .io import atomic
from .io.cli import Parser, at_least, command, device
from .models import fcn8s_mini, load
from .training.prediction import labelled, names_and_colours, run_and_images, shares, targets_for
from .training.run_folder import find_checkpoint
from .viz import overlay


def parser():
    """The flags of this command."""
    p = Parser(
        "predict", "Label every pixel of images of any size; writes a palette PNG and an overlay for each image."
    )
    p.add_argument(
        "paths", nargs="+", metavar="[RUN] IMAGE",
        help="images, or folders of images; the first path may be a run folder or a .safetensors checkpoint (default: "
        "the Earth model that comes with the package)",
    )  # fmt: skip
    p.add_argument("--weights", choices=("last", "best"), default="last", help="which checkpoint of the run to use")
    p.add_argument("--out", metavar="DIR", default="predictions", help="the folder for the results")
    p.add_argument("--overwrite", action="store_true", help="replace existing results, but never an input image")
    p.add_argument("--alpha", type=at_least(0, float), default=0.5, help="opacity of the labels in the overlay, 0 to 1")
    p.add_argument("--device", type=device, default="cpu", help="cpu, cuda or cuda:1")
    return p


@command
def main(argv=None):
    """Run the command ``predict``."""
    args = parser().parse(argv)
    if args.alpha > 1:
        raise UserError(f"--alpha is {args.alpha:g}; it must be an opacity from 0 to 1")
    run, images = run_and_images(args.paths)
    out = Path(args.out)
    targets = targets_for(images, out, args.overwrite)
    if run is None:
        print("note: no RUN given, using the Earth model that comes with minifcn", file=sys.stderr)
    model = fcn8s_mini(pretrained="earth") if run is None else load(find_checkpoint(run, args.weights)[0])
    classes, palette = names_and_colours(model.to(args.device))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {out} cannot be created ({error.strerror}): give another --out") from None

    failed = 0
    for path in tqdm(images, "predicting", disable=None if len(images) > 1 else True, leave=False, file=sys.stderr):
        labels_file, overlay_file = targets[path]
        try:
            picture, label = labelled(model, path, note=partial(tqdm.write, file=sys.stderr))
            picture = overlay(picture, label, palette, args.alpha)
        except (UserError, GeometryError, MemoryError) as error:  # continue with the other images
            tqdm.write(f"error: {error or f'{path} is too large for the memory'}", file=sys.stderr)
            failed += 1
            continue
        with atomic(labels_file) as file:
            save_mask(file, label, palette)
        with atomic(overlay_file) as file:
            Image.fromarray(picture).save(file, format="PNG")
        tqdm.write(f"{path}: {shares(label, classes)} -> {labels_file}, -overlay.png")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
