"""Pictures of label maps, training runs and confusion matrices, drawn from plain NumPy arrays.

Nothing here is imported by the rest of minifcn until a picture is wanted, and matplotlib only when a
*figure* is: `colour`, `errors` and `overlay` need NumPy alone.
"""

from .figures import colour, confusion, curves, errors, overlay, samples
from .style import styled

__all__ = ["colour", "confusion", "curves", "errors", "overlay", "samples", "styled"]
