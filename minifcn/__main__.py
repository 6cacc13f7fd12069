"""``python -m minifcn COMMAND ...``: run a command, or list them all; ``minifcn COMMAND ...`` does the same."""

import sys
from importlib import import_module
from importlib.resources import files

from .errors import UserError
from .io.cli import command

COMMANDS = {
    "train": "train", "evaluate": "evaluate", "predict": "predict", "weights": "weights",
    "export": "export",
    "data": "data.command", "geometry": "viz.geometry", "experiments": "experiments.__main__",
    "bench": "bench.__main__", "cuda_on_cpu": "cuda_on_cpu.__main__", "gpucheck": "gpucheck",
    "course": "course.__main__", "grade": "grade", "dojo": "dojo",
}  # fmt: skip
"""The module of each command.  Only the module of the command that runs is imported."""


def main(argv=None):
    """Run the command that the first word names; without a word, list the commands."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in COMMANDS:
        return import_module(f"{__package__}.{COMMANDS[name]}").main(rest)
    return list_commands([name])


@command
def list_commands(argv):
    """Print each command with the first line of its module's docstring."""
    version = import_module(__package__).__version__
    if argv[0] == "--version":
        print(version)
        return
    if argv[0] not in ("-h", "--help"):
        raise UserError(f"unknown command {argv[0]!r}: choose from {', '.join(COMMANDS)}")
    print(f"minifcn {version}: Fully Convolutional Networks for Semantic Segmentation, from scratch\n")
    for module in COMMANDS.values():
        file = files(__package__).joinpath(*module.split(".")[:-1], f"{module.split('.')[-1]}.py")
        first = file.read_text(encoding="utf-8").split("\n", 1)[0]
        usage, _, purpose = first.strip('"').partition("``: ")
        print(f"  {usage.strip('`'):<46} {purpose}")
    print("\nEach takes --help, and --config FILE with the names of its flags.")


if __name__ == "__main__":
    sys.exit(main())
