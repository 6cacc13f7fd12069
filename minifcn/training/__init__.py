"""Training: the loop and its callbacks, the run folder, the measures, and from settings to the parts of a run."""

from .loop import Callback, Diverged, Training, evaluate, fit

__all__ = ["Callback", "Diverged", "Training", "evaluate", "fit"]
