"""Convolution with a 1×1 kernel: a matrix product of the weights and the image, without columns or padding."""

from ....arrays import buffers
from .. import workers
from ..products import product


def applies(window, w_shape):
    """Whether the algorithm can compute such a convolution: 1×1, stride 1, ungrouped, not padded."""
    return (*window.kernel_size, *window.stride, *window.padding, window.groups) == (1, 1, 1, 1, 0, 0, 1)


def conv2d(x, w, window):
    return _mix(w[:, :, 0, 0], x)


def conv2d_grad_input(gy, w, x_shape, window):
    return _mix(w[:, :, 0, 0].T, gy)


def conv2d_grad_weight(gy, x, w_shape, window):
    (N, C), O = x.shape[:2], gy.shape[1]
    x, gy, gw = x.reshape(N, C, -1), gy.reshape(N, O, -1), buffers.zeros(w_shape, gy.dtype)

    def outputs(share):
        rows = gw[slice(*share), :, 0, 0]
        for n in range(N):
            rows += gy[n, slice(*share)] @ x[n].T

    workers.run(outputs, workers.shares(O, 8), moved=x.size + gy.size + gw.size)
    return gw


def _mix(w, x):
    """The products w·x[n] at every cell: (O, C) by (N, C, H, W)."""
    (N, C, H, W), O = x.shape, len(w)
    x, y = x.reshape(N, C, H * W), buffers.empty((N, O, H, W), x.dtype)
    out = y.reshape(N, O, H * W)

    def share_of_samples(share):
        product(w, x[slice(*share)], out[slice(*share)])

    def share_of_cells(share):
        cells = slice(*share)
        product(w, x[:, :, cells], out[:, :, cells])

    if workers.threads() <= N:
        workers.run(share_of_samples, workers.shares(N), moved=x.size + y.size + w.size)
    else:
        workers.run(share_of_cells, workers.shares(H * W, 16), moved=x.size + y.size + w.size)
    return y
