"""Put a data set into the classes of a model: the same names in another order, or some of them, are mapped by name."""

from collections.abc import Sequence
from typing import Any

from ..arrays.types import Array
from ..errors import UserError
from .samples import called
from .views import ByName


def numbered(names: Sequence[str]) -> bool:
    """Whether names are those of classes without names: class 0, class 1 …"""
    return list(names) == [f"class {k}" for k in range(len(names))]


def in_classes(dataset: Any, classes: Sequence[str], palette: Array | None = None) -> tuple[Any, str]:
    """A data set in the classes of a model, and a sentence that says what was done; empty if nothing.

    Classes without names ("class 0") are the model's of the same ids.

    Parameters
    ----------
    dataset : data set
    classes : sequence of str
    palette : array (n, 3), optional
        The colours of `classes`.

    Raises
    ------
    UserError
        If a class of the data set is none of the model's.
    """
    theirs, ours = list(dataset.classes), list(classes)
    if theirs == ours or (len(theirs) == len(ours) and (numbered(theirs) or numbered(ours))):
        return dataset, ""
    if numbered(theirs) and len(theirs) < len(ours):
        return ByName(dataset, ours, palette, ours[: len(theirs)]), ""
    if len(theirs) != len(ours) and (numbered(theirs) or numbered(ours)):
        raise UserError(f"the model has {len(ours)} classes, but {called(dataset)} has {len(theirs)}")
    if unknown := [name for name in theirs if name not in ours]:
        raise UserError(
            f"the model was trained with the classes {', '.join(ours)}, but {called(dataset)} has others: "
            f"{', '.join(unknown)}; give its classes the names that the model has"
        )
    which = "in another order" if sorted(theirs) == sorted(ours) else f"({len(theirs)} of {len(ours)})"
    return ByName(dataset, ours, palette), f"{called(dataset)} has the model's classes {which}; mapped by name"
