"""Lists of pairs: text files whose lines name an image and its mask."""

import re
from functools import partial
from pathlib import Path

from ...errors import UserError
from .base import SPLITS, Contents, Sample
from .files import beginning, find_image, read_text, relative, visible
from .masks import Masks, draw_mask

NAMES = {*SPLITS, "pairs", "list", "images"}


class Pairs(Masks):
    """Images and masks that lists name in pairs: ``train.txt`` and ``val.txt``, or one list such as ``pairs.csv``.

    On each line stand the paths of an image and of its mask, below the folder, with a comma, a tab, a semicolon or a
    blank between them.  A first line of titles, such as ``image,mask``, is skipped.  Several lists are splits.  Masks
    are as in `Masks`, and so are the options.
    """

    looks_for = "train.txt, val.txt or pairs.csv with an image and its mask on each line"

    @classmethod
    def recognise(cls, folder: Path) -> str:
        found = _files(folder)
        return f"{found[0].name} names an image and its mask on each line" if found else ""

    def read(self, folder: Path) -> Contents:
        found: dict[str, tuple[Path, Path]] = {}
        splits: dict[str, list[str]] = {}
        for path in _files(folder):
            for k, line in enumerate(line.strip() for line in read_text(path).splitlines()):
                if not line or (k == 0 and not _pair(line, folder)):
                    continue
                words = _words(line)
                if len(words) != 2:
                    raise UserError(f"{path}: line {k + 1} is {line[:80]!r}; expected an image and its mask")
                image, mask = (find_image(folder, word, [folder], path) for word in words)
                name = relative(image, folder)
                if found.setdefault(name, (image, mask)) != (image, mask):
                    raise UserError(f"{path}: line {k + 1} gives {name} another mask than a line before it")
                splits.setdefault(SPLITS.get(path.stem.lower(), path.stem), []).append(name)
        notes: list[str] = []
        classes, palette, read = self._classes(folder, [mask for _, mask in found.values()], notes)
        samples = [
            Sample(n, image, partial(draw_mask, read, mask), (mask,), mask) for n, (image, mask) in found.items()
        ]
        return Contents(samples, classes, splits if len(splits) > 1 else {}, palette, notes)


def _files(folder):
    """The lists in a folder, of which one of the first two lines names files that exist."""
    found = [path for path in visible(folder) if path.suffix in (".txt", ".csv", ".lst", ".tsv")]
    return [
        path for path in found
        if path.stem.lower() in NAMES and any(_pair(line, folder) for line in beginning(path).splitlines()[:2])
    ]  # fmt: skip


def _words(line):
    """The paths on a line: what stands between commas, tabs or semicolons, or else between blanks."""
    words = [word.strip().strip('"') for word in re.split(r"[,;\t]", line)]
    return words if len(words) > 1 else line.split()


def _pair(line, folder):
    """Whether a line names two files."""
    words = _words(line.lstrip("\ufeff"))
    try:
        return len(words) == 2 and all(find_image(folder, word, [folder], folder) for word in words)
    except UserError:
        return False
