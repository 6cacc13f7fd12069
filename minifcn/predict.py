"""``python -m minifcn.predict [RUN] IMAGE...``: label every pixel of pictures of any size."""

import sys
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .cli import Parser, at_least, command, device
from .coords import GeometryError
from .data.images import read_image
from .data.palette import save_mask
from .errors import UserError
from .models import fcn8s_mini, load
from .runs import find_checkpoint
from .viz import overlay


def parser():
    """The flags of this command."""
    p = Parser("predict", "Label every pixel of pictures of any size; writes a palette PNG and an overlay for each.")
    p.add_argument(
        "paths", nargs="+", metavar="[RUN] IMAGE",
        help="pictures; the first may be a run folder or a .safetensors checkpoint (default: the Earth model that the "
        "package ships)",
    )  # fmt: skip
    p.add_argument("--weights", choices=("last", "best"), default="last", help="which of the run's checkpoints")
    p.add_argument("--out", metavar="DIR", default="predictions", help="where to write")
    p.add_argument("--alpha", type=at_least(0, float), default=0.5, help="opacity of the labels in the overlay, 0 to 1")
    p.add_argument("--device", type=device, default="cpu", help="cpu, cuda or cuda:1")
    return p


@command
def main(argv=None):
    """Predict, from the command line."""
    args = parser().parse(argv)
    if args.alpha > 1:
        raise UserError(f"--alpha is {args.alpha:g}; an opacity lies from 0 to 1")
    model, images = model_and_images(args)
    model.to(args.device)
    out = Path(args.out)
    names = names_for(images)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be a folder to write to ({error.strerror}): give another --out") from None

    failed = 0
    for path in tqdm(images, "predicting", disable=None if len(images) > 1 else True, leave=False, file=sys.stderr):
        try:
            image = read_image(path)
            label = model.predict(image)
        except (UserError, GeometryError, MemoryError) as error:  # the other images are not to blame
            tqdm.write(f"error: {error or f'{path} is too large for the memory'}", file=sys.stderr)
            failed += 1
            continue
        save_mask(out / f"{names[path]}-labels.png", label, model.palette)
        picture = Image.fromarray(overlay(image, label, model.palette, args.alpha))
        picture.save(out / f"{names[path]}-overlay.png")
        tqdm.write(f"{path}: {shares(label, model.classes)} -> {out / names[path]}-labels.png, -overlay.png")
    return 2 if failed else 0


def model_and_images(args):
    """The model, of the run that comes first or of the package, and the paths of the images."""
    first, *rest = paths = [Path(path) for path in args.paths]
    if first.is_dir() or first.suffix == ".safetensors":
        if not rest:
            raise UserError(f"{first} is a model; name the images to label after it")
        return load(find_checkpoint(first, args.weights)[0]), list(dict.fromkeys(rest))
    if not first.suffix and not first.exists():
        raise UserError(f"there is no run, and no image, {first}; check the path")
    print("note: no RUN given, using the Earth model that comes with minifcn", file=sys.stderr)
    return fcn8s_mini(pretrained="earth"), list(dict.fromkeys(paths))


def names_for(images):
    """{path: what its results are called}.  Raises UserError if two images would be written to the same files."""
    taken = {}
    for path in images:
        other = taken.setdefault(path.stem, path)
        if other != path:
            raise UserError(
                f"{other} and {path} would both be written as {path.stem}-labels.png: label them one by one, with "
                "different --out"
            )
    return {path: stem for stem, path in taken.items()}


def shares(label, classes):
    """What fills how much of a picture, the largest first."""
    found = sorted((((label == i).mean(), name) for i, name in enumerate(classes)), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in found if share >= 0.005)


if __name__ == "__main__":
    sys.exit(main())
