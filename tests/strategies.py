"""Generators for property tests: irregular shapes, and inputs away from kinks."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from minifcn.kernels.shapes import conv_size, pool_size


def normal(shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def distinct(shape, seed=0):
    """Values that differ by at least 0.1 and are at least 0.05 from zero: no ties for a maximum, no kink of ReLU."""
    n = int(np.prod(shape))
    return (np.random.default_rng(seed).permutation(n) - n // 2 + 0.5).reshape(shape) / 10


@dataclass(frozen=True)
class Convolution:
    """One convolution: shapes and hyper-parameters, pairs (h, w)."""

    x: tuple
    w: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int

    @property
    def parameters(self):
        return self.stride, self.padding, self.dilation, self.groups

    @property
    def y(self):
        sizes = zip(self.x[2:], self.w[2:], self.stride, self.padding, self.dilation)
        return (self.x[0], self.w[0], *(conv_size(*s) for s in sizes))


def _pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convolutions(draw):
    """Also H ≠ W, even and 1×1 kernels, strides larger than the kernel, padding, dilation, groups, N = 1, C = 1."""
    groups = draw(st.integers(1, 3))
    channels, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel, stride, dilation = draw(_pairs(1, 4)), draw(_pairs(1, 5)), draw(_pairs(1, 3))
    padding = draw(_pairs(0, 3))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding)]
    size = tuple(m + draw(st.integers(0, 5)) for m in least)
    return Convolution(
        (draw(st.integers(1, 2)), channels, *size),
        (outputs, channels // groups, *kernel),
        stride,
        padding,
        dilation,
        groups,
    )


@st.composite
def three_by_three(draw):
    """Convolutions for Winograd's algorithm: 3×3, stride 1, one group, padding 0 … 2; sizes of all remainders mod 4."""
    padding = draw(_pairs(0, 2))
    size = tuple(max(1, 3 - 2 * p) + draw(st.integers(0, 9)) for p in padding)
    channels, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return Convolution(
        (draw(st.integers(1, 5)), channels, *size), (outputs, channels, 3, 3), (1, 1), padding, (1, 1), 1
    )


@st.composite
def strided(draw):
    """Kernels at least as large as the stride, as in upsampling layers; groups, and cells after the last window."""
    groups, stride = draw(st.integers(1, 3)), draw(_pairs(1, 4))
    kernel = tuple(s + draw(st.integers(0, 5)) for s in stride)
    channels, outputs, padding = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)), draw(_pairs(0, 3))
    size = tuple(max(1, k - 2 * p) + draw(st.integers(0, 9)) for k, p in zip(kernel, padding))
    x = (draw(st.integers(1, 3)), channels, *size)
    return Convolution(x, (outputs, channels // groups, *kernel), stride, padding, (1, 1), groups)


@dataclass(frozen=True)
class Pooling:
    """One pooling: input shape and window."""

    x: tuple
    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    ceil_mode: bool

    @property
    def y(self):
        sizes = zip(self.x[2:], self.kernel, self.stride, self.padding, self.dilation)
        return (*self.x[:2], *(pool_size(*s, self.ceil_mode) for s in sizes))


@st.composite
def poolings(draw):
    """Windows that overlap or leave gaps; padding up to half a window; dilation; left-over cells; clipped windows."""
    kernel, stride, dilation = draw(_pairs(1, 4)), draw(_pairs(1, 4)), draw(_pairs(1, 2))
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(max(1, e - 2 * p) + draw(st.integers(0, 6)) for e, p in zip(extents, padding))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *size)
    return Pooling(shape, kernel, stride, padding, dilation, draw(st.booleans()))
