"""Weight files and checkpoints.  Security: reading a file never executes code from it, because pickle is never used."""

from .atomic import atomic
from .checkpoint import load_checkpoint, load_record, save_checkpoint
from .files import require_file
from .weights import load_weights

__all__ = ["atomic", "load_checkpoint", "load_record", "load_weights", "require_file", "save_checkpoint"]
