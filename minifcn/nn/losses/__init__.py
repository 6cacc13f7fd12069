"""Losses for dense prediction, for ``mf.fit(..., loss=...)`` and ``--loss``.

To add one, write a file with a subclass of :class:`Loss` and name the class in `LOSSES`.
"""

from .cross_entropy import CrossEntropy
from .dice import Dice
from .focal import Focal
from .loss import Loss
from .lovasz import Lovasz

__all__ = ["LOSSES", "CrossEntropy", "Dice", "Focal", "Loss", "Lovasz"]

LOSSES: dict[str, type[Loss]] = {loss.name: loss for loss in (CrossEntropy, Focal, Dice, Lovasz)}
"""The losses by their names for ``--loss``."""
