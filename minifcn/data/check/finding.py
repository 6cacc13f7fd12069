"""What a check found: one suspicious thing, the files that show it, why it matters, and how to cure it."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from subprocess import list2cmdline

SHOWN = 3  # at most so many files or values in a message

ERROR, WARNING, NOTE = "error", "warning", "note"
"""Training cannot work; it works, but not as intended or measured wrongly; nothing is lost by it."""


@dataclass(frozen=True)
class Finding:
    """One suspicious thing in a data set."""

    level: str  # ERROR, WARNING or NOTE
    what: str  # what there is, one sentence without the files
    why: str  # what it does to a training
    files: tuple = ()  # all files that show it
    flags: tuple = ()  # of ``minifcn.data convert``, which cures it
    advice: str = ""  # what to do, if `convert` cannot do it

    def cure(self, root):
        """How to cure it: a command for the data set in the folder `root`, or a sentence."""
        return self.advice or command(root, self.flags)

    def sentence(self, root):
        """Everything in one line."""
        where = f" ({self.where(root)})" if self.files else ""
        return f"{self.what}{where}: {self.why}; {self.cure(root)}"

    def where(self, root):
        """The names of the first files, relative to the folder `root`, and the number of the others."""
        return some([_relative(path, root) for path in self.files])

    def as_dict(self, root):
        """The finding as a JSON value, with all its files."""
        files = [_relative(path, root) for path in self.files]
        return dict(level=self.level, what=self.what, why=self.why, files=files, cure=self.cure(root))


def command(root, flags):
    """The command that converts the data set in the folder `root` into a new folder beside it."""
    root = Path(root) if Path(root).name not in ("", "..") else Path(root).resolve()
    join = list2cmdline if os.name == "nt" else shlex.join
    return join(
        ["python", "-m", "minifcn.data", "convert", str(root), str(root.with_name(f"{root.name}-converted")), *flags]
    )


def flag_values(flags):
    """The flags of a command as pairs: ("--ids", "0,1"), ("--skip", "")."""
    return [
        (f, "" if after.startswith("--") else after) for f, after in zip(flags, (*flags[1:], "--")) if f[:2] == "--"
    ]


def number(n, noun):
    """A number with its noun: ``1 image``, ``3 images``."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def some(names):
    """The first names, and the number of the others."""
    return ", ".join(map(str, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _relative(path, root):
    path = Path(path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
