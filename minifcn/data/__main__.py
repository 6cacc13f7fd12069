"""``python -m minifcn.data``: the command is in ``data/command.py``."""

import sys

from ..__main__ import main

if __name__ == "__main__":
    sys.exit(main(["data", *sys.argv[1:]]))
