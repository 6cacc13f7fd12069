"""Depthwise convolution: one filter per channel, computed tap by tap with the channels last.

An output needs only kh·kw multiply-adds, so columns and matrix products would move far more numbers than they multiply.
Each tap instead adds ``w[u, v] · x`` for a whole block of outputs that stays in the cache.  In the order (H, W, C) the
inner loop runs over the channels, as one vector operation even on a map of 4×4 cells.  Taps that fall on the padding
are left out, so no padded copy of the image is made.
"""

import numpy as np

from ....arrays import buffers
from ... import environment
from .. import scratch, workers

BLOCK_BYTES = 1 << 18  # the outputs of one block
CHANNELS = 32  # the fewest channels of a block: a shorter inner loop is slow
MOST_TAPS = 49  # of a kernel for which two passes over the outputs per tap are cheaper than columns


def applies(window, w_shape):
    """Whether the algorithm can compute such a convolution: each channel has one filter."""
    return window.groups == w_shape[0] and w_shape[1] == 1


def pays(w_shape, window):
    """Whether the algorithm is faster than ``banded``: the kernel has few cells, and the inner loop many channels."""
    return applies(window, w_shape) and window.taps <= MOST_TAPS and w_shape[0] >= CHANNELS


def conv2d(x, w, window):
    y = buffers.empty((*x.shape[:2], *window.out_size(x.shape)), x.dtype)
    return _tap_by_tap(x, y, w, window, x.shape[2:], y.shape[2:], adjoint=False)


def conv2d_grad_input(gy, w, x_shape, window):
    return _tap_by_tap(gy, buffers.empty(x_shape, gy.dtype), w, window, x_shape[2:], gy.shape[2:], adjoint=True)


def _tap_by_tap(source, target, w, window, size, out_size, adjoint):
    """Fill `target`: each tap adds its products with `source`, from inputs to outputs, or back if `adjoint`."""
    filters = _channels_last(w, out_size[1])

    def block_of_target(block):
        samples, channels, band = block
        taps, (first, last) = _taps(window, size, out_size, **{"inputs" if adjoint else "outputs": band})
        cells = source[samples, channels, first:last].transpose(0, 2, 3, 1)
        sums = target[samples, channels, slice(*band)].transpose(0, 2, 3, 1)
        read, total, product = _scratch(source.dtype, cells.shape, sums.shape, (cells if adjoint else sums).shape)
        np.copyto(read, cells)
        total.fill(0)
        for u, v, outer, inner in taps:
            (i, j), (r, q) = (outer, inner) if adjoint else (inner, outer)  # of the source, of the target
            rows, columns = outer
            part = product[:, : rows.stop - rows.start, : columns.stop - columns.start]
            np.multiply(read[:, _moved(i, first), j], filters[u, v, columns, channels], out=part)
            total[:, _moved(r, band[0]), q] += part
        sums[...] = total

    N, C, *cells = target.shape
    moved = target.size + source.size * window.taps
    workers.run(block_of_target, _blocks(N, C, *cells, target.itemsize), moved=moved)
    return target


def conv2d_grad_weight(gy, x, w_shape, window):
    (N, C, H, W), (OH, OW) = x.shape, gy.shape[2:]
    blocks = _blocks(N, C, OH, OW, x.itemsize)

    def share_of_sum(share):
        total = np.zeros((*w_shape[2:], C), x.dtype)
        for samples, channels, (top, bottom) in blocks[slice(*share)]:
            taps, (first, last) = _taps(window, (H, W), (OH, OW), outputs=(top, bottom))
            cells = x[samples, channels, first:last].transpose(0, 2, 3, 1)
            outer = gy[samples, channels, top:bottom].transpose(0, 2, 3, 1)
            image, gradient = _scratch(x.dtype, cells.shape, outer.shape)
            np.copyto(image, cells)
            np.copyto(gradient, outer)
            for u, v, (i, j), (r, q) in taps:
                pair = image[:, _moved(r, first), q], gradient[:, _moved(i, top), j]
                total[u, v, channels] += np.einsum("nijc,nijc->c", *pair)  # multiplies and adds in one pass
        return total

    total, *others = workers.run(share_of_sum, workers.shares(len(blocks)), moved=x.size + gy.size * window.taps)
    for other in others:
        total += other
    return np.ascontiguousarray(total.transpose(2, 0, 1)).reshape(w_shape)


def _channels_last(w, columns):
    """w, (C, 1, kh, kw), as (kh, kw, columns, C): repeated along a row, whose cells and channels are one inner loop."""
    w = w[:, 0].transpose(1, 2, 0)[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(w, (*w.shape[:2], columns, w.shape[3])))


def _scratch(dtype, *shapes):
    return scratch.arrays(*((dtype, shape) for shape in shapes))


def _blocks(N, C, rows, columns, itemsize):
    """The blocks (samples, channels, (first row, last + 1)) that cover an array (N, C, rows, columns)."""
    cells = environment.band_bytes(BLOCK_BYTES) // itemsize
    wide = min(C, max(cells // (rows * columns), CHANNELS))
    high = min(rows, max(cells // (wide * columns), 1))
    deep = min(N, max(cells // (wide * rows * columns), 1))
    return [
        (slice(n, min(n + deep, N)), slice(c, min(c + wide, C)), (top, min(top + high, rows)))
        for n in range(0, N, deep)
        for c in range(0, C, wide)
        for top in range(0, rows, high)
    ]


def _taps(window, size, out_size, outputs=None, inputs=None):
    """The taps that join a band of output rows, or of input rows, to the other map; and the rows used of that map.

    Returns
    -------
    taps : list of (u, v, (rows, columns) of the output, (rows, columns) of the input)
        Slices: the tap (u, v) joins the cells of the first two, one by one, to those of the last two.
    used : (int, int)
        The first row, and the last + 1.
    """
    kernel, stride, padding, dilation, _ = window
    (kh, kw), (H, W), (OH, OW) = kernel, size, out_size
    rows = [_joined(stride[0], dilation[0] * u - padding[0], outputs or (0, OH), inputs or (0, H)) for u in range(kh)]
    columns = [_joined(stride[1], dilation[1] * v - padding[1], (0, OW), (0, W)) for v in range(kw)]
    taps = [
        (u, v, (i, j), (r, q))
        for u, (i, r) in enumerate(rows)
        for v, (j, q) in enumerate(columns)
        if i.start < i.stop and j.start < j.stop
    ]
    other = [pair[1 if outputs else 0] for pair in rows if pair[0].start < pair[0].stop]
    return taps, (min((s.start for s in other), default=0), max((s.stop for s in other), default=0))


def _joined(stride, offset, outputs, inputs):
    """The outputs i and the inputs stride·i + offset, as two slices: those of which both lie in their range."""
    first = max(outputs[0], -((offset - inputs[0]) // stride))
    last = max(first, min(outputs[1], (inputs[1] - 1 - offset) // stride + 1))
    return slice(first, last), slice(stride * first + offset, max(stride * (last - 1) + offset + 1, 0), stride)


def _moved(rows, by):
    return slice(rows.start - by, rows.stop - by, rows.step)
