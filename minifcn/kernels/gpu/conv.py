"""Convolution on CuPy: windows gathered into columns by a CUDA kernel, then one 2-D matrix product for each band.

A band is so many images, or rows of one image, as their columns fit ``WORKSPACE``.  The products are 2-D because cuBLAS
takes a transposed matrix by a flag there, where CuPy would copy it for a stack of products.  An image large enough for
a product of its own is a band: its maps *are* the matrix, (channels, cells), nothing is rearranged.  Small images
share a product; then their maps are copied once, a small part of what their columns take.
"""

import os
from math import prod

from ... import backend
from ...errors import UserError
from ..shapes import conv_sizes
from .launch import launch

WORKSPACE = 1 << 28  # bytes of columns at once; MINIFCN_WORKSPACE_MB sets another limit
WIDE = 1 << 12  # cells of an image from which on it has a product of its own


def im2col(x, kernel_size, stride, padding, dilation):
    rows, width = conv_sizes(x.shape, kernel_size, stride, padding, dilation)
    cols = backend.of(x).empty((len(x), x.shape[1] * prod(kernel_size), rows * width), x.dtype)
    where = (kernel_size, stride, padding, dilation)
    _im2col(x, cols, rows * width, cols[0].size, 0, x.shape[1], (0, rows), width, *where)
    return cols


def col2im(cols, x_shape, kernel_size, stride, padding, dilation):
    cols = backend.of(cols).ascontiguousarray(cols)
    rows, width = conv_sizes(x_shape, kernel_size, stride, padding, dilation)
    x = backend.of(cols).empty(x_shape, cols.dtype)
    where = (kernel_size, stride, padding, dilation)
    _col2im(cols, x, rows * width, cols[0].size, 0, x_shape[1], (0, rows), width, *where, add=False)
    return x


def _im2col(x, cols, tap_stride, image_stride, c0, channels, band, width, kernel_size, stride, padding, dilation):
    """The columns of the window rows first … last − 1, of the channels from c0 on."""
    x, (first, last) = backend.of(x).ascontiguousarray(x), band
    total = channels * prod(kernel_size) * len(x) * (last - first) * width
    launch(
        "conv.cu", "im2col", total, x, cols, tap_stride, image_stride, *x.shape, c0, *kernel_size, width, first,
        last - first, *stride, *padding, *dilation,
    )  # fmt: skip


def _col2im(cols, x, tap_stride, image_stride, c0, channels, band, width, kernel_size, stride, padding, dilation, add):
    """What those columns hold, added to x, or written into it."""
    (N, C, H, W), (first, last) = x.shape, band
    top, bottom = 0, H
    if add:  # only the rows that the band's windows see
        top = max(0, stride[0] * first - padding[0])
        bottom = min(H, stride[0] * (last - 1) - padding[0] + dilation[0] * (kernel_size[0] - 1) + 1)
    height = max(bottom - top, 0)
    launch(
        "conv.cu", "col2im", N * channels * height * W, cols, x, tap_stride, image_stride, C, H, W, c0, channels, top,
        height, *kernel_size, width, first, last - first, *stride, *padding, *dilation, add,
    )  # fmt: skip


class _Bands:
    """A convolution cut into bands: what its three kernels share.  Iterating gives (images, rows, group)."""

    def __init__(self, x, x_shape, w_shape, stride, padding, dilation, groups):
        self.xp, self.dtype = backend.of(x), x.dtype
        self.where = (w_shape[2:], stride, padding, dilation)
        self.N, self.groups = x_shape[0], groups
        self.inputs, self.outputs = w_shape[1], w_shape[0] // groups  # channels of a group
        self.rows, self.width = conv_sizes(x_shape, *self.where)
        self.is_pointwise = w_shape[2:] == stride == (1, 1) and padding == (0, 0)
        self.cells = self.rows * self.width
        limit = max(1, _workspace() // (self.inputs * prod(w_shape[2:]) * self.width * x.dtype.itemsize))  # rows
        self.images = 1 if self.cells >= WIDE else max(1, min(self.N, limit // self.rows))
        self.height = self.rows if self.is_pointwise else min(self.rows, limit)
        self.is_one = self.images >= self.N and self.height == self.rows

    def __iter__(self):
        for n in range(0, self.N, self.images):
            for first in range(0, self.rows, self.height):
                for group in range(self.groups):
                    yield slice(n, n + self.images), slice(first, min(first + self.height, self.rows)), group

    def columns(self, x, images, rows, group):
        """The windows of a band as (C/G·kh·kw, cells)."""
        x, c0 = x[images], group * self.inputs
        if self.is_pointwise:
            return _matrix(x[:, c0 : c0 + self.inputs])
        cells = (rows.stop - rows.start) * self.width
        cols = self.xp.empty((self.inputs * prod(self.where[0]), len(x) * cells), self.dtype)
        band = (rows.start, rows.stop)
        _im2col(x, cols, len(x) * cells, cells, c0, self.inputs, band, self.width, *self.where)
        return cols

    def add_columns(self, cols, x, images, rows, group):
        """The adjoint: what (C/G·kh·kw, cells) hold goes where the windows lie on x."""
        x, c0 = x[images], group * self.inputs
        cells = (rows.stop - rows.start) * self.width
        band = (rows.start, rows.stop)
        _col2im(
            cols, x, len(x) * cells, cells, c0, self.inputs, band, self.width, *self.where, add=self.height < self.rows
        )

    def maps(self, y, images, rows, group):
        """A band of y, of one group."""
        return y[images, group * self.outputs : (group + 1) * self.outputs, rows]


def _workspace():
    given = os.environ.get("MINIFCN_WORKSPACE_MB")
    if given is None:
        return WORKSPACE
    try:
        return max(1, int(float(given) * 2**20))
    except (ValueError, OverflowError):
        raise UserError(f"MINIFCN_WORKSPACE_MB={given!r} is not a number of megabytes") from None


def _together(a, b):
    """Both without gaps, and of the wider of their types."""
    xp = backend.of(a, b)
    dtype = xp.result_type(a.dtype, b.dtype)
    return xp.ascontiguousarray(a, dtype=dtype), xp.ascontiguousarray(b, dtype=dtype)


def _matrix(maps):
    """(n, C, rows, width) as (C, n·rows·width); of a whole single image it is a view."""
    return maps.swapaxes(0, 1).reshape(maps.shape[1], -1)


def _product(a, b, maps):
    """maps ← a·b, with (n, O, rows, width) for (O, n·rows·width)."""
    if len(maps) == 1 and maps[0].flags.c_contiguous:
        a.dot(b, out=maps[0].reshape(len(a), -1))
    else:
        n, outputs, *cells = maps.shape
        maps[...] = a.dot(b).reshape(outputs, n, *cells).swapaxes(0, 1)


def _of_group(w, group, groups):
    """The weights of a group as (O/G, C/G·kh·kw)."""
    outputs = len(w) // groups
    return w[group * outputs : (group + 1) * outputs].reshape(outputs, -1)


def conv2d(x, w, stride, padding, dilation, groups):
    x, w = _together(x, w)
    bands = _Bands(x, x.shape, w.shape, stride, padding, dilation, groups)
    y = bands.xp.empty((len(x), len(w), bands.rows, bands.width), x.dtype)
    for band in bands:
        _product(_of_group(w, band[-1], groups), bands.columns(x, *band), bands.maps(y, *band))
    return y


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    gy, w = _together(gy, w)
    bands = _Bands(gy, x_shape, w.shape, stride, padding, dilation, groups)
    gx = (bands.xp.zeros if bands.height < bands.rows else bands.xp.empty)(x_shape, gy.dtype)
    for band in bands:
        images, _, group = band
        weights, gradients = _of_group(w, group, groups).T, _matrix(bands.maps(gy, *band))
        if bands.is_pointwise:
            _product(weights, gradients, gx[images, group * bands.inputs : (group + 1) * bands.inputs])
        else:
            bands.add_columns(weights.dot(gradients), gx, *band)
    return gx


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    gy, x = _together(gy, x)
    bands = _Bands(x, x.shape, w_shape, stride, padding, dilation, groups)
    gw = (bands.xp.empty if bands.is_one else bands.xp.zeros)(w_shape, gy.dtype)
    for band in bands:
        gradients, columns = _matrix(bands.maps(gy, *band)), bands.columns(x, *band)
        if bands.is_one:
            gradients.dot(columns.T, out=_of_group(gw, band[-1], groups))
        else:
            part = _of_group(gw, band[-1], groups)
            part += gradients.dot(columns.T)
    return gw
