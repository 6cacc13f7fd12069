"""``python -m minifcn.predict [RUN] IMAGE...``: label every pixel of pictures of any size."""

import sys
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .cli import Parser, command
from .data.images import read_image
from .data.palette import save_mask
from .errors import UserError
from .evaluate import find
from .models import fcn8s_mini, load
from .viz import overlay


def parser():
    p = Parser(
        "predict", "Label every pixel of pictures of any size; writes a palette PNG and an overlay for each."
    )
    p.add_argument(
        "paths", nargs="+", metavar="[RUN] IMAGE",
        help="pictures; the first may be a run folder or a .safetensors checkpoint (default: the Earth model that the "
        "package ships)",
    )  # fmt: skip
    p.add_argument(
        "--weights", choices=("last", "best"), default="last", help="which of the run's checkpoints"
    )
    p.add_argument("--out", metavar="DIR", default="predictions", help="where to write")
    p.add_argument("--alpha", type=float, default=0.5, help="opacity of the labels in the overlay, 0 to 1")
    return p


@command
def main(argv=None):
    """Predict, from the command line."""
    args = parser().parse(argv)
    first, *rest = map(Path, args.paths)
    if first.is_dir() or first.suffix == ".safetensors":
        model, images = load(find(first, args.weights)[0]), rest
        if not images:
            raise UserError(f"{first} is a model; name the images to label after it")
    else:
        model, images = fcn8s_mini(pretrained="earth"), [first, *rest]
        print("no RUN given: using the Earth model that comes with minifcn", file=sys.stderr)
    if not 0 <= args.alpha <= 1:
        raise UserError(f"--alpha {args.alpha}: give an opacity from 0 to 1")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)

    failed = 0
    for path in tqdm(images, "predicting", disable=len(images) < 2, file=sys.stderr):
        try:
            image = read_image(path)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        label = model.predict(image)
        save_mask(out / f"{path.stem}-labels.png", label, model.palette)
        Image.fromarray(overlay(image, label, model.palette, args.alpha)).save(
            out / f"{path.stem}-overlay.png"
        )
        shares = [(float((label == i).mean()), name) for i, name in enumerate(model.classes)]
        seen = ", ".join(
            f"{name} {share:.0%}" for share, name in sorted(shares, reverse=True) if share >= 0.005
        )
        tqdm.write(f"{path}: {seen} -> {out / path.stem}-labels.png, -overlay.png")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
