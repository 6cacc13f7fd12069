"""Toom and Cook's fast product of two polynomials, from which the matrices of Winograd's algorithms come.

The product of a polynomial of r coefficients and one of m has r + m − 1 coefficients, so as many values determine it.
Both polynomials are evaluated at points and at ∞ (G and A), the values are multiplied, and the coefficients of the
product are interpolated from them (B).  A convolution of m outputs with r taps is the transpose of such a product::

    y = Aᵀ [(G g) ⊙ (Bᵀ d)]

Source: Lavin & Gray 2016, "Fast algorithms for convolutional neural networks".
"""

from fractions import Fraction
from functools import cache

import numpy as np


@cache
def matrices(points, taps, dtype):
    """G, Bᵀ and A for kernels of `taps` taps: (n, taps), (n, n), (n, n + 1 − taps), where n = len(points) + 1.

    Computed exactly, and rounded once.  `points` are the finite ones, as fractions or their text.
    """
    points = [Fraction(point) for point in points]
    n = len(points) + 1
    weights, inputs, outputs = [], [], []
    for point in points:
        others = [other for other in points if other != point]
        basis = _coefficients(others)  # Lagrange's: it vanishes at the other points
        weights.append([point**k for k in range(taps)])
        inputs.append([c / _value(basis, point) for c in basis] + [0])
        outputs.append([point**k for k in range(n + 1 - taps)])
    weights.append([0] * (taps - 1) + [1])  # the value at ∞ is the highest coefficient
    inputs.append(_coefficients(points))
    outputs.append([0] * (n - taps) + [1])
    return tuple(np.array([[float(v) for v in row] for row in rows], dtype) for rows in (weights, inputs, outputs))


def _coefficients(roots):
    """The coefficients of Π (t − root), the constant one first."""
    result = [Fraction(1)]
    for root in roots:
        result = [low - root * high for low, high in zip([0, *result], [*result, 0])]
    return result


def _value(coefficients, t):
    """The polynomial's value at t."""
    return sum(c * t**k for k, c in enumerate(coefficients))
