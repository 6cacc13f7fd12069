"""Convolution on CuPy: a CUDA kernel gathers windows into columns, then each band is multiplied by the weights.

A band is a number of whole samples, or of rows of one sample, whose columns together fit into ``WORKSPACE`` bytes.  It
takes one 2-D matrix product if there is one group: cuBLAS can then read a transposed matrix if a flag is set, whereas
CuPy would copy such a matrix in a stack of products.

A sample of at least ``WIDE`` output cells has bands of its own.  If it is one band, its maps already are the matrix
(channels, cells) of the product and are not copied.  Smaller samples are multiplied together.  Their maps are copied
into one matrix for this, which costs little compared with writing their columns.

A convolution with one filter for each channel needs no columns: see ``depthwise.py``.
"""

from math import prod

from ...arrays import backend
from .. import environment
from ..shapes import conv_sizes
from . import depthwise
from .launch import launch

WORKSPACE = 1 << 28  # bytes of columns at a time; MINIFCN_WORKSPACE_MB sets another limit
WIDE = 1 << 12  # output cells from which on a sample has a product of its own


def im2col(x, kernel_size, stride, padding, dilation):
    rows, width = conv_sizes(x.shape, kernel_size, stride, padding, dilation)
    cols = backend.of(x).empty((len(x), x.shape[1] * prod(kernel_size), rows * width), x.dtype)
    _im2col(x, cols, rows * width, cols[0].size, slice(0, rows), width, kernel_size, stride, padding, dilation)
    return cols


def col2im(cols, x_shape, kernel_size, stride, padding, dilation):
    xp = backend.of(cols)
    rows, width = conv_sizes(x_shape, kernel_size, stride, padding, dilation)
    x, band = xp.empty(x_shape, cols.dtype), slice(0, rows)
    cols = xp.ascontiguousarray(cols)
    _col2im(cols, x, rows * width, cols[0].size, band, width, kernel_size, stride, padding, dilation, add=False)
    return x


def _im2col(x, cols, tap_stride, image_stride, band, width, kernel_size, stride, padding, dilation):
    """Write the columns of a band's windows into `cols`."""
    x, rows = backend.of(x).ascontiguousarray(x), band.stop - band.start
    launch(
        "conv.cu", "im2col", x.shape[1] * prod(kernel_size) * len(x) * rows * width, x, cols, tap_stride, image_stride,
        *x.shape, *kernel_size, width, band.start, rows, *stride, *padding, *dilation,
    )  # fmt: skip


def _col2im(cols, x, tap_stride, image_stride, band, width, kernel_size, stride, padding, dilation, add):
    """Sum the columns of a band's windows, and add the sums to x or write them into it."""
    N, C, H, W = x.shape
    top, bottom = 0, H
    if add:  # only the rows under the band's windows
        top = max(0, stride[0] * band.start - padding[0])
        bottom = min(H, stride[0] * (band.stop - 1) - padding[0] + dilation[0] * (kernel_size[0] - 1) + 1)
    height = max(bottom - top, 0)
    launch(
        "conv.cu", "col2im", N * C * height * W, cols, x, tap_stride, image_stride, C, H, W, top, height, *kernel_size,
        width, band.start, band.stop - band.start, *stride, *padding, *dilation, add,
    )  # fmt: skip


class _Bands:
    """The bands of a convolution, for all three of its kernels.  Iterating gives (images, rows) as slices."""

    def __init__(self, x, x_shape, w_shape, stride, padding, dilation, groups):
        self.xp, self.dtype, self.groups = backend.of(x), x.dtype, groups
        self.window = (w_shape[2:], stride, padding, dilation)
        self.N, self.taps = x_shape[0], x_shape[1] * prod(w_shape[2:])
        self.rows, self.width = conv_sizes(x_shape, *self.window)
        self.is_pointwise = w_shape[2:] == stride == (1, 1) and padding == (0, 0)
        row_bytes = self.taps * self.width * x.dtype.itemsize  # the columns of one row of windows
        limit = max(1, environment.workspace_bytes(WORKSPACE) // row_bytes)  # rows
        self.images = 1 if self.rows * self.width >= WIDE else max(1, min(self.N, limit // self.rows))
        self.height = self.rows if self.is_pointwise else min(self.rows, limit)
        self.is_one = self.images >= self.N and self.height == self.rows

    def __iter__(self):
        for n in range(0, self.N, self.images):
            for first in range(0, self.rows, self.height):
                yield slice(n, n + self.images), slice(first, min(first + self.height, self.rows))

    def columns(self, x, images, rows):
        """The columns of a band: (G, C/G·kh·kw, cells)."""
        x = x[images]
        if self.is_pointwise:
            return self.matrix(x)
        cells = (rows.stop - rows.start) * self.width
        cols = self.xp.empty((self.groups, self.taps // self.groups, len(x) * cells), self.dtype)
        _im2col(x, cols, len(x) * cells, cells, rows, self.width, *self.window)
        return cols

    def add_columns(self, cols, x, images, rows):
        """Add the columns (G, C/G·kh·kw, cells) of a band back to x where its windows lie: the adjoint of `columns`."""
        cells, n = (rows.stop - rows.start) * self.width, len(x[images])
        add = self.height < self.rows
        _col2im(cols, x[images], n * cells, cells, rows, self.width, *self.window, add=add)

    def matrix(self, maps):
        """(n, C, rows, width) as (G, C/G, n·rows·width): a view if n = 1, else a copy."""
        return maps.swapaxes(0, 1).reshape(self.groups, maps.shape[1] // self.groups, -1)

    def weights(self, w):
        """(O, C/G, kh, kw) as (G, O/G, C/G·kh·kw)."""
        return w.reshape(self.groups, len(w) // self.groups, -1)


def _together(a, b):
    """Both arrays as C-contiguous ones of the wider of their types."""
    xp = backend.of(a, b)
    dtype = xp.result_type(a.dtype, b.dtype)
    return xp.ascontiguousarray(a, dtype=dtype), xp.ascontiguousarray(b, dtype=dtype)


def _times(a, b, out=None):
    """a·b for stacks of matrices.  A stack of one is a 2-D product, in which cuBLAS transposes by a flag."""
    if len(a) > 1:
        return backend.of(a).matmul(a, b, out=out)
    return a[0].dot(b[0], out=None if out is None else out[0])[None]


def _product(a, b, maps):
    """maps ← a·b: (n, O, rows, width) ← (G, O/G, k)·(G, k, n·rows·width)."""
    if len(maps) == 1 and maps.flags.c_contiguous:
        _times(a, b, out=maps.reshape(*a.shape[:2], -1))
    else:
        n, outputs, *cells = maps.shape
        maps[...] = _times(a, b).reshape(outputs, n, *cells).swapaxes(0, 1)


def conv2d(x, w, stride, padding, dilation, groups):
    x, w = _together(x, w)
    if depthwise.applies(w.shape, groups):
        return depthwise.conv2d(x, w, stride, padding, dilation)
    bands = _Bands(x, x.shape, w.shape, stride, padding, dilation, groups)
    y = bands.xp.empty((len(x), len(w), bands.rows, bands.width), x.dtype)
    for images, rows in bands:
        _product(bands.weights(w), bands.columns(x, images, rows), y[images, :, rows])
    return y


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    gy, w = _together(gy, w)
    if depthwise.applies(w.shape, groups):
        return depthwise.conv2d_grad_input(gy, w, x_shape, stride, padding, dilation)
    bands = _Bands(gy, x_shape, w.shape, stride, padding, dilation, groups)
    gx = (bands.xp.zeros if bands.height < bands.rows else bands.xp.empty)(x_shape, gy.dtype)
    weights = bands.weights(w).swapaxes(1, 2)
    for images, rows in bands:
        gradients = bands.matrix(gy[images, :, rows])
        if bands.is_pointwise:
            _product(weights, gradients, gx[images])
        else:
            bands.add_columns(_times(weights, gradients), gx, images, rows)
    return gx


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    gy, x = _together(gy, x)
    if depthwise.applies(w_shape, groups):
        return depthwise.conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation)
    bands = _Bands(x, x.shape, w_shape, stride, padding, dilation, groups)
    gw = (bands.xp.empty if bands.is_one else bands.xp.zeros)(w_shape, gy.dtype)
    sums = bands.weights(gw)
    for images, rows in bands:
        gradients, columns = bands.matrix(gy[images, :, rows]), bands.columns(x, images, rows)
        if groups > 1:  # CuPy copies a transposed operand of a stack: the gradients are smaller than the columns
            part = _times(columns, gradients.swapaxes(1, 2)).swapaxes(1, 2)
        else:
            part = _times(gradients, columns.swapaxes(1, 2), out=sums if bands.is_one else None)
        if not bands.is_one:
            sums += part
        elif groups > 1:
            sums[...] = part
    return gw
