"""The names of types in signatures: an array, a shape, a pair of numbers.

CuPy has no type hints, so for a type checker a CuPy array is ``Any``, which it accepts in place of an ``Array``.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray
"""A NumPy or CuPy array."""
Values: TypeAlias = np.ndarray | np.generic | float | list[Any] | tuple[Any, ...]
"""What a tensor can be made of."""
Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = int | Sequence[int]
"""An int, or (h, w).  To a type checker a part of a shape, ``y.shape[2:]``, is a sequence of unknown length."""
Axis: TypeAlias = int | tuple[int, ...] | None
DType: TypeAlias = np.dtype[Any]
DTypeLike: TypeAlias = str | type | np.dtype[Any]
Gradients: TypeAlias = Array | list[Array | None] | tuple[Array | None, ...] | None
"""What the backward of an operation returns: one array, or one for each input; None for an input that has none."""
