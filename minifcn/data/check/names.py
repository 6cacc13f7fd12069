"""Findings about the files with the names of the classes and of the bands."""

from ...errors import UserError
from ..colours import read_table
from ..names import read_classes
from .finding import ERROR, Finding


def about_names(path):
    """The names in a ``classes.txt``, or None without a file that can be used; and findings about it."""
    if not path.exists():
        return None, []
    try:
        return read_classes(path), []
    except UserError as error:
        what = f"the names in {path.name} cannot be used"
        return None, [Finding(ERROR, what, str(error), (path,), advice="correct the file in an editor")]


def about_table(path):
    """The :class:`Colours` in a ``colours.txt`` beside masks of class ids, or None; and findings about it."""
    if not path.exists():
        return None, []
    try:
        return read_table(path), []
    except UserError as error:
        what = "the table of colours cannot be used"
        return None, [Finding(ERROR, what, str(error), (path,), advice="correct the file in an editor")]


def about_ignored(names, path, largest):
    """What is to be done about ``__ignore__`` as the first name, if the masks hold ids up to `largest`."""
    if not names or names[0] != "__ignore__":
        return []
    what = "the first name is __ignore__, with which labelme marks pixels without a class"
    if largest < len(names) - 1:
        why = "labelme counts the ids from the second name on, so every class would have the name of another one"
        return [Finding(ERROR, what, why, (path,), ("--names", ",".join(names[1:])))]
    why = "such pixels would be trained and measured as a class"
    ids = ",".join(map(str, range(1, len(names))))
    return [Finding(ERROR, what, why, (path,), ("--void", "0", "--ids", ids))]


def about_bands(path):
    """The names in a ``bands.txt``, or None without a file that can be used; and findings about it."""
    if not path.exists():
        return None, []
    try:
        return read_classes(path, ("band", "bands"), least=1), []
    except UserError as error:
        return None, [
            Finding(ERROR, "the names of the bands cannot be used", str(error), (path,), advice="correct them")
        ]
