"""The order of the classes of a layout whose annotations name them."""

from ...errors import UserError
from ..colours import UNLABELLED
from ..manifest import some
from ..names import read_classes

LISTS = ("labels.txt", "classes.txt")


def order_of(folder, found, background, notes, listed=()):
    """{label: class id}, and the names of the classes, for the labels that annotations use.

    ``labels.txt`` or ``classes.txt`` gives the order; without them it is alphabetical, which a note says.  The
    background comes first, and labels such as ``__ignore__`` are void.

    Parameters
    ----------
    folder : Path
    found : iterable of str
        The labels of all shapes.
    background : (str, ...)
        Labels, in lower case, that mean the background; the first is its name if no label does.
    notes : list of str
        A sentence is added to it.
    listed : tuple of str
        All labels in their order, if the annotations say it.
    """
    found = set(found)
    listing = next((folder / name for name in LISTS if (folder / name).exists()), None)
    if listing:
        listed = read_classes(listing, least=1)
    elif not listed:
        listed = tuple(sorted(found))
        notes.append(f"{folder} has no {LISTS[0]}: the classes are the labels in alphabetical order")
    if unknown := sorted(found.difference(listed)):
        where = listing or f"the list of labels in {folder}"
        raise UserError(f"{where} does not name the labels {some(unknown)}, which annotations use; add them to it")
    unlabelled = [name for name in (*listed, *found) if name.lower() in UNLABELLED]
    ground = next((name for name in listed if name.lower() in background), background[0])
    classes = (ground, *(name for name in listed if name not in unlabelled and name != ground))
    return {name: k for k, name in enumerate(classes)} | dict.fromkeys(unlabelled, 255), classes
