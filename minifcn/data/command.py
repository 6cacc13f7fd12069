"""``python -m minifcn.data check|convert|download``: what is in a folder of images; write it anew; fetch a data set."""

import sys
from importlib import import_module
from importlib.resources import files

from ..errors import UserError
from ..io.cli import command

ACTIONS = {"check": "viz.check", "convert": "data.convert", "download": "data.download"}
"""The module of each word after the command.  Only the module of the word that was given is imported."""


def main(argv=None):
    """Run what the first word names; without a word, list the words."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ACTIONS:
        return import_module(f"minifcn.{ACTIONS[name]}").main(rest)
    return list_actions([name])


@command
def list_actions(argv):
    """Print each word with the first line of its module's docstring."""
    if argv[0] not in ("-h", "--help"):
        raise UserError(f"unknown word {argv[0]!r} after data: choose from {', '.join(ACTIONS)}")
    for module in ACTIONS.values():
        file = files("minifcn").joinpath(*module.split(".")[:-1], f"{module.split('.')[-1]}.py")
        usage, _, purpose = file.read_text(encoding="utf-8").split("\n", 1)[0].strip('"').partition("``: ")
        print(f"  {usage.strip('`'):<46} {purpose}")
    print("\nEach takes --help, and --config FILE with the names of its flags.")
