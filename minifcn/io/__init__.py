"""Weight files and checkpoints.  Nothing here can run what a file says."""

from .checkpoint import load_checkpoint, save_checkpoint
from .weights import load_weights

__all__ = ["load_checkpoint", "load_weights", "save_checkpoint"]
