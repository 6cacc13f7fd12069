"""Winograd's algorithm along the rows of 7×7 kernels, with the transforms of the kernels in one pass.

``cpu/conv/winograd_rows.py`` has the algorithm and does the rest.  A row of a kernel is a polynomial of seven
coefficients, which is evaluated at pairs of points ±p: the even and the odd powers are added, or subtracted.
"""

from fractions import Fraction

import numpy as np

from ..cpu.conv import winograd_rows as numpys
from ..cpu.conv.winograd_rows import PLACES, POINTS
from .compiler import Read, Write, helper, loops

TAPS = 7
ROW = 210  # the cost of transforming a row of a kernel; see cpu/conv/winograd_rows.py
PAIRS = [float(Fraction(point)) for point in POINTS[1::2]]  # p of each pair ±p


def pays(window, w_shape, cells, dtype, column=numpys.FORWARD):
    """Whether the algorithm is the fastest for an output of (N, OH, OW) cells."""
    return w_shape[3] == TAPS and numpys.pays(window, w_shape, cells, dtype, column, ROW)


def conv2d(x, w, window):
    return numpys.conv2d(x, w, window, transform_kernels)


def conv2d_grad_input(gy, w, x_shape, window):
    return numpys.conv2d_grad_input(gy, w, x_shape, window, transform_kernels)


def conv2d_grad_weight(gy, x, w_shape, window):
    return numpys.conv2d_grad_weight(gy, x, w_shape, window, transform_back)


def transform_kernels(w, G, U, spare):
    """U = G w for kernels w of (o, C, kh, 7); U is (10, o, C·kh)."""
    evaluate(np.ascontiguousarray(w).reshape(-1), U.reshape(PLACES, -1), np.array(PAIRS, w.dtype))


def transform_back(U, G, gw):
    """gw = Gᵀ U."""
    evaluate_back(U.reshape(PLACES, -1), gw.reshape(-1), np.array(PAIRS, gw.dtype))


@helper
def values(p, w0, w1, w2, w3, w4, w5, w6):
    """The polynomial's values at p and −p."""
    q = p * p
    even, odd = w0 + q * (w2 + q * (w4 + q * w6)), p * (w1 + q * (w3 + q * w5))
    return even + odd, even - odd


@loops
def evaluate(w: Read[1], u: Write[2], pairs: Read[1]):
    """u[:, j] are the values of the polynomial w[7j : 7j + 7] at 0, at ±p for all pairs, and at ∞."""
    p0, p1, p2, p3 = pairs[0], pairs[1], pairs[2], pairs[3]
    u0, u1, u2, u3, u4, u5, u6, u7, u8, u9 = u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9]
    # unsigned numbers: an index that could be negative counts from the end, and such a loop is not turned into vectors
    for j in range(np.uint64(u.shape[1])):
        i = np.uint64(TAPS) * j
        w0, w1, w2, w3 = w[i], w[i + np.uint64(1)], w[i + np.uint64(2)], w[i + np.uint64(3)]
        w4, w5, w6 = w[i + np.uint64(4)], w[i + np.uint64(5)], w[i + np.uint64(6)]
        u0[j], u9[j] = w0, w6
        u1[j], u2[j] = values(p0, w0, w1, w2, w3, w4, w5, w6)
        u3[j], u4[j] = values(p1, w0, w1, w2, w3, w4, w5, w6)
        u5[j], u6[j] = values(p2, w0, w1, w2, w3, w4, w5, w6)
        u7[j], u8[j] = values(p3, w0, w1, w2, w3, w4, w5, w6)


@loops
def evaluate_back(u: Read[2], w: Write[1], pairs: Read[1]):
    """w[7j + k] = Σ_p p^k u[p, j]: the transpose of ``evaluate``."""
    p0, p1, p2, p3 = pairs[0], pairs[1], pairs[2], pairs[3]
    q0, q1, q2, q3 = p0 * p0, p1 * p1, p2 * p2, p3 * p3
    u0, u1, u2, u3, u4, u5, u6, u7, u8, u9 = u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9]
    for j in range(np.uint64(u.shape[1])):
        i = np.uint64(TAPS) * j
        e0, e1, e2, e3 = u1[j] + u2[j], u3[j] + u4[j], u5[j] + u6[j], u7[j] + u8[j]
        o0, o1, o2, o3 = p0 * (u1[j] - u2[j]), p1 * (u3[j] - u4[j]), p2 * (u5[j] - u6[j]), p3 * (u7[j] - u8[j])
        w[i] = u0[j] + e0 + e1 + e2 + e3
        w[i + np.uint64(1)] = o0 + o1 + o2 + o3
        e0, e1, e2, e3, o0, o1, o2, o3 = q0 * e0, q1 * e1, q2 * e2, q3 * e3, q0 * o0, q1 * o1, q2 * o2, q3 * o3
        w[i + np.uint64(2)] = e0 + e1 + e2 + e3
        w[i + np.uint64(3)] = o0 + o1 + o2 + o3
        e0, e1, e2, e3, o0, o1, o2, o3 = q0 * e0, q1 * e1, q2 * e2, q3 * e3, q0 * o0, q1 * o1, q2 * o2, q3 * o3
        w[i + np.uint64(4)] = e0 + e1 + e2 + e3
        w[i + np.uint64(5)] = o0 + o1 + o2 + o3
        w[i + np.uint64(6)] = q0 * e0 + q1 * e1 + q2 * e2 + q3 * e3 + u9[j]
