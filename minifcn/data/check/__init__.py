"""What is in a folder of images and masks, and what is suspicious about it, each with its cure.

`check` reads every file once and refuses nothing; `minifcn.data.Folder` raises an error at the first file that cannot
be used.  The command ``python -m minifcn.data check`` prints and draws the result.
"""

from .finding import ERROR, NOTE, WARNING, Finding
from .report import Report, check
from .training import before_training

__all__ = ["ERROR", "NOTE", "WARNING", "Finding", "Report", "before_training", "check"]
