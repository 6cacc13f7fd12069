"""Weight files and checkpoints.  Reading a file never runs anything that the file says; pickles are read as data."""

from .atomic import atomic
from .checkpoint import load_checkpoint, load_record, save_checkpoint
from .files import require_file
from .weights import describe, load_weights

__all__ = ["atomic", "describe", "load_checkpoint", "load_record", "load_weights", "require_file", "save_checkpoint"]
