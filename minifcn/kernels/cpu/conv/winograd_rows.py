"""Winograd's algorithm along the rows of a wide kernel: F(4, 7) for fc6 of VGG16, whose kernels are 7×7.

A tile of m outputs of a row is computed from the 10 inputs d under it and one row g of the kernel, of r = 11 − m taps
(Lavin & Gray 2016, section 4.1)::

    y = Aᵀ [(G g) ⊙ (Bᵀ d)]

These are 10 products; for r = 7 the definition takes 4 · 7 = 28.  The rows are added as the definition says.  So a
convolution is im2col with windows of kh×10 cells that lie m cells apart, and 10 matrix products U V instead of one::

    U = G w,   V = Bᵀ im2col(x),   y = Aᵀ (U V),   gx = col2im(B (Uᵀ A gy)),   gw = Gᵀ ((A gy) Vᵀ)

Tiles along both axes, as in ``winograd.py``, would save more products, but have more rounding errors, and make 100
numbers of the 49 of a kernel.  Here they become 70, for some output channels at a time, in scratch memory.

The cost is rounding: up to 1e-5 of the largest value in float32, about fifteen times that of the definition.  The error
spreads over a tile: an output depends a little on inputs beside its kw columns, and one infinite input makes up to all
m outputs of a tile NaN or infinite.  To see exact receptive fields, compute in float64, for which this algorithm is
never chosen by default.
"""

import numpy as np

from ....arrays import buffers
from ... import environment
from ...textbook import sliding_windows, tap_slices
from .. import scratch, workers
from ..products import deep_product, product
from . import stationary
from .banded import padded
from .toom_cook import matrices

POINTS = "0", "1/2", "-1/2", "3/4", "-3/4", "4/3", "-4/3", "2", "-2"
"""The finite points; ∞ is the tenth.  Of the sets of small fractions, this has nearly the smallest rounding errors."""
PLACES = len(POINTS) + 1  # inputs of a tile
NARROWEST, WIDEST = 5, 7  # columns of a kernel: for fewer, winograd.py saves more; for more, a tile has few outputs
BAND_BYTES = 10 << 20  # V for the outputs that are computed together
PART = 32  # output channels whose kernels are transformed at a time
SHARE = 128  # input channels whose gradient is computed at a time
HUGE = 1e16  # the products of numbers below it, and their sums, are far below the largest float32
# The costs of transforming a row of a kernel and the outputs of a place, and what it costs other algorithms to bring a
# row of a kernel into the order of BLAS; see choice.py.
ROW, OUTPUT, ORDER = 450, 200, 130
FORWARD, BACK, WEIGHTS = 48, 160, 90  # of transforming a number of V, or of its gradient, in each of the three kernels
MARGIN = 1.15  # the costs of small layers are estimates, and the other algorithms are more exact


def applies(window, w_shape):
    """Whether the algorithm can compute such a convolution: 5 to 7 columns, stride 1, no dilation or groups."""
    plain = (*window.stride, *window.dilation, window.groups) == (1, 1, 1, 1, 1)
    return plain and NARROWEST <= window.kernel_size[1] <= WIDEST


def pays(window, w_shape, cells, dtype, column=FORWARD, row=ROW):
    """Whether the algorithm is the fastest for (N, OH, OW) outputs, by its cost for a row of a kernel: `column` is that
    of transforming a number of V, and `row` that of transforming the row, which every band does."""
    if not applies(window, w_shape) or dtype != np.float32:
        return False
    (O, C, kh, kw), (N, OH, OW) = w_shape, cells
    T = N * OH * -(-OW // outputs_of_a_tile(kw))
    bands = max(1, PLACES * T * C * kh * dtype.itemsize / environment.band_bytes(BAND_BYTES))
    cost = PLACES * T * (1 + column / O + OUTPUT / (C * kh)) + row * bands
    return MARGIN * cost < kw * N * OH * OW + ORDER


def conv2d(x, w, window, kernels=None):
    tiles, kernels = _Tiles(w.shape, len(x), window.out_size(x.shape), w.dtype), kernels or transform_kernels
    y = buffers.empty((len(x), len(w), *tiles.cells), x.dtype)
    image = padded(x, window.padding, tiles.extent)
    for band in tiles.bands():
        v = tiles.inputs(image, band)

        def channels(part, v=v, band=band):
            U, spare, _ = tiles.scratch((part[1] - part[0], *w.shape[1:]))
            kernels(w[slice(*part)], tiles.G, U, spare)
            tiles.write(deep_product(U, v), y[:, slice(*part)], band)

        workers.run(channels, tiles.parts, moved=w.size)
    return y


def conv2d_grad_input(gy, w, x_shape, window, kernels=None):
    tiles, kernels = _Tiles(w.shape, len(gy), gy.shape[2:], w.dtype), kernels or transform_kernels
    image = buffers.zeros((*x_shape[:2], *tiles.extent), gy.dtype)
    for band in tiles.bands():
        g = tiles.gradients(gy, band)

        def channels(c, g=g, band=band):
            c, total = slice(*c), 0  # (10, T, c·kh)
            for part in tiles.parts:
                some = np.ascontiguousarray(w[slice(*part), c])
                U, spare, M = tiles.scratch(some.shape, g.shape[2])
                kernels(some, tiles.G, U, spare)
                total += product(g[:, slice(*part)].swapaxes(1, 2), U, M)
            tiles.add(total, image[:, c], band)

        workers.run(channels, tiles.shares, moved=w.size)
    (H, W), (top, left) = x_shape[2:], window.padding
    return image[:, :, top : top + H, left : left + W]


def conv2d_grad_weight(gy, x, w_shape, window, kernels_back=None):
    # ∞ and NaN would spread to weights that do not meet them, and the transforms of huge numbers would overflow
    if not all(some.min() > -HUGE and some.max() < HUGE for some in (x, gy)):
        return stationary.conv2d_grad_weight(gy, x, w_shape, window)
    tiles, kernels_back = _Tiles(w_shape, len(gy), gy.shape[2:], gy.dtype), kernels_back or transform_back
    gw = buffers.empty(w_shape, gy.dtype)
    image = padded(x, window.padding, tiles.extent)
    for i, band in enumerate(tiles.bands()):
        v, g = tiles.inputs(image, band), tiles.gradients(gy, band)
        v = np.ascontiguousarray(v.swapaxes(1, 2))  # (10, T, C·kh): BLAS is faster so

        def channels(part, v=v, g=g, first=i == 0):
            some = gw[slice(*part)]
            U, *_ = tiles.scratch(some.shape)
            target = some if first else np.empty_like(some)
            kernels_back(product(g[:, slice(*part)], v, U), tiles.G, target)
            if not first:
                some += target

        workers.run(channels, tiles.parts, moved=gw.size)
    return gw


def transform_kernels(w, G, U, spare):
    """U = G w for kernels w of (o, C, kh, kw); U is (10, o, C·kh), and `spare` is scratch memory of w's size."""
    taps = spare[: w.size].reshape(w.shape[3], -1)
    np.copyto(taps, w.reshape(-1, w.shape[3]).T)
    product(G, taps, U.reshape(PLACES, -1))


def transform_back(U, G, gw):
    """gw = Gᵀ U for kernels gw."""
    np.matmul(U.reshape(PLACES, -1).T, G, out=gw.reshape(-1, gw.shape[3]))


def outputs_of_a_tile(kw):
    """m, for kernels of `kw` columns."""
    return PLACES + 1 - kw


class _Tiles:
    """The tiles of N maps of `cells` outputs under kernels of shape `w_shape`.

    A band is (samples, rows), two slices; T is the number of its tiles.
    """

    def __init__(self, w_shape, N, cells, dtype):
        (O, self.C, kh, kw), self.N, self.cells, self.dtype = w_shape, N, cells, dtype
        self.taps, self.m = kw, outputs_of_a_tile(kw)
        self.columns = -(-cells[1] // self.m)  # of tiles
        self.window = kh, PLACES
        self.extent = cells[0] + kh - 1, self.m * self.columns + kw - 1  # of the image that all tiles see
        self.G, self.BT, self.A = matrices(POINTS, kw, dtype)
        self.parts = workers.ranges(O, -(-O // PART))
        count = -(-self.C // (SHARE * workers.threads())) * workers.threads()
        self.shares = workers.ranges(self.C, min(self.C, count))

    def bands(self):
        """The bands, such that V has about BAND_BYTES."""
        (OH, _), (kh, _) = self.cells, self.window
        rows = max(1, environment.band_bytes(BAND_BYTES) // (self.C * kh * PLACES * self.columns * self.dtype.itemsize))
        if rows < OH:
            ranges = workers.ranges(OH, -(-OH // rows))
            return [(slice(n, n + 1), slice(*some)) for n in range(self.N) for some in ranges]
        return [(slice(*some), slice(0, OH)) for some in workers.ranges(self.N, -(-self.N // (rows // OH)))]

    def scratch(self, shape, T=0):
        """Scratch memory for kernels of `shape`, (o, c, kh, kw): (10, o, c·kh), and as many numbers as they have; and
        for (10, T, c·kh)."""
        o, rows = shape[0], shape[1] * shape[2]
        shapes = (PLACES, o, rows), (o * rows * self.taps,), (PLACES, T, rows)
        return scratch.arrays(*((self.dtype, shape) for shape in shapes))

    def inputs(self, image, band):
        """V = Bᵀ im2col(x) for the tiles of a band of the padded image: (10, C·kh, T)."""
        windows = self._windows(image, band)  # (n, C, kh, 10, rows, columns)
        n, C, kh, _, *grid = windows.shape
        v = buffers.empty((PLACES, C, kh, n, *grid), self.dtype)

        def channels(share):
            (cols,) = scratch.arrays((self.dtype, (PLACES, share[1] - share[0], kh, n, *grid)))
            np.copyto(cols, windows[:, slice(*share)].transpose(3, 1, 2, 0, 4, 5))
            product(self.BT, cols.reshape(PLACES, -1), v[:, slice(*share)].reshape(PLACES, -1))

        workers.run(channels, workers.shares(C), moved=v.size)
        return v.reshape(PLACES, C * kh, -1)

    def add(self, gradient, image, band):
        """Add col2im(B gradient), for gradients of (10, T, c·kh), to c channels of the padded image."""
        n, c, kh, _, *grid = self._windows(image, band).shape
        part, B = image[band[0], :, band[1].start :], np.ascontiguousarray(self.BT.T)
        some = np.ascontiguousarray(gradient.reshape(PLACES, -1, c, kh).transpose(0, 3, 2, 1))  # (10, kh, c, T)
        (cols,) = scratch.arrays((self.dtype, some.shape))
        product(B, some.reshape(PLACES, -1), cols.reshape(PLACES, -1))
        taps = cols.swapaxes(0, 1).reshape(-1, c, n, *grid).swapaxes(1, 2)
        for tap, cells in zip(taps, tap_slices(self.window, (1, self.m), (1, 1), grid)):
            part[cells] += tap

    def gradients(self, gy, band):
        """A gy for the tiles of a band: (10, O, T)."""
        gy = gy[band[0], :, band[1]]
        n, O, rows, _ = gy.shape
        g = buffers.empty((PLACES, O, n * rows * self.columns), self.dtype)

        def channels(share):
            (cells,) = scratch.arrays((self.dtype, (self.m, share[1] - share[0], n, rows, self.columns)))
            for j in range(self.m):
                some = gy[:, slice(*share), :, j :: self.m].swapaxes(0, 1)
                cells[j, ..., : some.shape[3]], cells[j, ..., some.shape[3] :] = some, 0
            product(self.A, cells.reshape(self.m, -1), g[:, slice(*share)].reshape(PLACES, -1))

        workers.run(channels, workers.shares(O), moved=g.size)
        return g

    def write(self, products, y, band):
        """y = Aᵀ products for the tiles of a band and some channels; products are (10, o, T)."""
        y = y[band[0], :, band[1]]
        n, o, rows, _ = y.shape
        cells = (self.A.T @ products.reshape(PLACES, -1)).reshape(self.m, o, n, rows, self.columns)
        for j in range(self.m):
            some = y[..., j :: self.m]
            some[...] = cells[j, ..., : some.shape[3]].swapaxes(0, 1)

    def _windows(self, image, band):
        """The windows that the tiles of a band see: (n, C, kh, 10, rows, columns), a view."""
        part, grid = image[band[0], :, band[1].start :], (band[1].stop - band[1].start, self.columns)
        return sliding_windows(part, self.window, (1, self.m), (1, 1), grid)
