"""``python -m minifcn``: lists the commands."""

import sys
from importlib.resources import files

from . import __version__
from .cli import command

COMMANDS = (
    "train", "evaluate", "predict", "geometry", "experiments", "bench", "cuda_on_cpu", "gpucheck", "course", "grade",
)  # fmt: skip


@command
def main(argv=None):
    """Print each command with the first line of its page."""
    print(f"minifcn {__version__}: Fully Convolutional Networks for Semantic Segmentation, from scratch\n")
    for name in COMMANDS:
        package = files(__package__) / name  # a command is a file, or a package that can be run
        file = package / "__main__.py" if package.is_dir() else files(__package__) / f"{name}.py"
        first = file.read_text(encoding="utf-8").split("\n", 1)[0]
        usage, _, purpose = first.strip('"').partition("``: ")
        print(f"  {usage.strip('`'):<46} {purpose}")
    print("\nEach takes --help, and --config FILE with the names of its flags.")


if __name__ == "__main__":
    sys.exit(main())
