"""The heads of a data set: its kinds of labels, which a net with one head for each learns at the same time (§5).

A data set with the attribute ``heads``, ``{name: names of the classes}``, has labels (H, W, len(heads)) of uint8.  Its
``classes``, ``num_classes`` and ``palette`` are those of the first head.  Without ``heads``, labels are (H, W).
"""

from typing import Any

import numpy as np

from ..arrays.types import Array
from ..errors import UserError


def heads_of(dataset: Any) -> dict[str, tuple[str, ...]]:
    """{name of a head: the names of its classes}; empty for a data set with one kind of labels."""
    return {name: tuple(classes) for name, classes in getattr(dataset, "heads", {}).items()}


def require_heads(value: Any, name: str) -> None:
    """Raise UserError unless `value` gives heads and their classes; `name` is the data set's in the message."""
    proper = isinstance(value, dict) and all(
        isinstance(head, str) and head.isidentifier() and isinstance(names, tuple | list) and 1 <= len(names) <= 255
        for head, names in value.items()
    )
    if not proper or not value:
        raise UserError(
            f"{name} has heads {value!r:.80}; it must be a dict of the names of the classes, 1 to 255, by the name of "
            "the head: {'sem': ('road', 'sky'), 'geo': ('flat', 'upright')}"
        )


def by_head(dataset: Any, labels: Array) -> Any:
    """Labels (N, H, W, heads) as {name of a head: (N, H, W)}; the `labels` of a data set without heads as they are."""
    heads = heads_of(dataset)
    return {name: np.ascontiguousarray(labels[..., k]) for k, name in enumerate(heads)} if heads else labels
