"""Training: the loop and its callbacks, the run folder, the measures, and from settings to the parts of a run."""

from .evaluation import evaluate
from .loop import Callback, Diverged, Training, fit

__all__ = ["Callback", "Diverged", "Training", "evaluate", "fit"]
