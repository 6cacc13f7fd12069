"""``python -m minifcn.geometry MODEL``: the command is in ``viz/geometry.py``, because it builds models and draws."""

import sys

from ..__main__ import main

if __name__ == "__main__":
    sys.exit(main(["geometry", *sys.argv[1:]]))
