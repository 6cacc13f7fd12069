"""``python -m minifcn.dojo``: find the wrong line of a backward pass, in six levels."""

import sys

from .course.dojo import LEVELS, play
from .io.cli import Parser, at_least, command


def parser():
    """The flags of this command."""
    p = Parser("dojo", "Six backward passes with one wrong line each: find it from the report of gradcheck.")
    p.add_argument("--level", type=int, choices=range(1, LEVELS + 1), metavar="N", help="play only level N, 1 to 6")
    p.add_argument("--seed", type=at_least(0), default=0, help="chooses the mistakes; the same seed, the same game")
    return p


@command
def main(argv=None):
    """Play the bug dojo from the command line."""
    args = parser().parse(argv)
    play([args.level] if args.level else range(1, LEVELS + 1), args.seed, input, print)


if __name__ == "__main__":
    sys.exit(main())
