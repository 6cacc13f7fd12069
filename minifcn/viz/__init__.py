"""Pictures of label maps, training runs, confusion matrices and receptive fields, drawn from plain arrays and numbers.

Nothing here is imported by the rest of minifcn until a picture is wanted, and matplotlib only when a
*figure* is: `colour`, `errors` and `overlay` need NumPy alone.
"""

from .arrays import arrays
from .convolution import ConvStepper
from .fields import receptive_fields
from .figures import colour, confusion, curves, errors, overlay, samples
from .style import styled

__all__ = [
    "ConvStepper", "arrays", "colour", "confusion", "curves", "errors", "overlay", "receptive_fields", "samples",
    "styled",
]  # fmt: skip
