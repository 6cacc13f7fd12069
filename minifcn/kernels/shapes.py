"""Sizes without arithmetic: the output-size formulas, and kernels that return zero-stride arrays of the right shape.

The formulas are the paper's reference code's (Caffe), §2.2 of its conventions:

- convolution  ``n' = ⌊(n + 2p − k_d)/s⌋ + 1`` with ``k_d = d(k − 1) + 1``
- pooling      the same, or with ⌈·⌉ in ceil mode, less one if the last window would start outside ``n + p``
- transposed   ``n' = s(n − 1) + k_d − 2p + output_padding``

The kernels below stand in for the real ones inside ``mf.shapes_only()``: a model is run for its shapes, its
receptive fields and its crops, whatever its size, without a multiplication.
"""

import numpy as np

from ..arrays import backend
from ..errors import GeometryError


def require_maps(operation, *arrays):
    """Raise unless all are floating-point arrays with four axes."""
    for array in arrays:
        if array.ndim != 4:
            raise ValueError(
                f"{operation} takes arrays with 4 axes, (N, C, H, W), got {array.shape}; a single image is x[None]"
            )
        if array.dtype.kind != "f":
            raise TypeError(
                f"{operation} computes with floating-point numbers, got {array.dtype}: use .astype('float32')"
            )


def broadcast_shape(shapes):
    """The shape that `shapes` broadcast to, by NumPy's rule."""
    length = max(map(len, shapes))
    padded = [(1,) * (length - len(s)) + tuple(s) for s in shapes]
    for sizes in zip(*padded):
        if len(set(sizes) - {1}) > 1:
            raise ValueError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
    return tuple(max(sizes) if min(sizes) else 0 for sizes in zip(*padded))


def pair(value, least=0, name="value"):
    """`value` as a pair of ints (h, w): an int stands for both.  Raises ValueError below `least`."""
    both = (value, value) if hasattr(value, "__index__") else tuple(value)
    if len(both) != 2 or any(int(v) != v or v < least for v in both):
        raise ValueError(f"{name} must be an int of at least {least} or a pair (h, w) of them, got {value!r}")
    return int(both[0]), int(both[1])


def conv_size(n, kernel, stride, padding, dilation=1):
    """Output cells of a convolution over `n` cells.  Raises ValueError if the kernel does not fit."""
    extent = dilation * (kernel - 1) + 1
    if n + 2 * padding < extent:
        raise GeometryError(
            f"a kernel of {kernel} (dilation {dilation}: {extent} cells) does not fit into {n} cells "
            f"padded by {padding} on each side: give a larger input or more padding"
        )
    return (n + 2 * padding - extent) // stride + 1


def reach(sizes, out, kernel_size, stride, padding, dilation):
    """How far the image with its leading padding, and the windows over it, reach, [h, w]: the extent of both."""
    each = zip(sizes, out, kernel_size, stride, padding, dilation)
    return [max(p + n, (m - 1) * s + d * (k - 1) + 1) for n, m, k, s, p, d in each]


def pool_size(n, kernel, stride, padding, dilation=1, ceil_mode=False):
    """Output cells of a pooling over `n` cells.  Raises ValueError if no window fits or the padding is too wide."""
    extent = dilation * (kernel - 1) + 1
    if 2 * padding > extent:
        raise GeometryError(f"pooling padding {padding} is more than half of its window of {extent}")
    if not ceil_mode:
        return conv_size(n, kernel, stride, padding, dilation)
    size = -(-(n + 2 * padding - extent) // stride) + 1
    if size < 1:
        raise GeometryError(f"a window of {extent} does not fit into {n} cells padded by {padding}, even clipped")
    return size - 1 if (size - 1) * stride >= n + padding else size


def require_taps(x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    """Raise GeometryError if a window of a pooling has no tap on the image: it has no maximum, and no mean."""
    if tuple(dilation) == (1, 1):
        return  # the padding is half a window at most, so every window reaches the image
    out = pool_sizes(x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    for n, m, k, s, p, d in zip(x_shape[2:], out, kernel_size, stride, padding, dilation):
        for start in range(-p, s * m - p, s):
            if not any(0 <= start + d * u < n for u in range(k)):
                raise GeometryError(
                    f"a pooling window of {k} cells, dilation {d}, that starts at cell {start} has none of its cells "
                    f"on the {n} of the image: give less padding or dilation, or a larger input"
                )


def deconv_size(n, kernel, stride, padding, output_padding=0, dilation=1):
    """Output cells of a transposed convolution over `n` cells.  Raises ValueError if nothing is left."""
    size = stride * (n - 1) + dilation * (kernel - 1) + 1 - 2 * padding + output_padding
    if size < 1:
        raise GeometryError(f"a transposed convolution of {n} cells padded by {padding} leaves nothing: pad less")
    if output_padding >= max(stride, dilation):
        raise GeometryError(
            f"output_padding {output_padding} must be smaller than the stride {stride} or the dilation {dilation}: it "
            "chooses among the output sizes that the convolution maps to one input size"
        )
    return size


def conv_sizes(x_shape, kernel_size, stride, padding, dilation):
    """:func:`conv_size` along h and w of an (N, C, H, W) shape."""
    return tuple(map(conv_size, x_shape[2:], kernel_size, stride, padding, dilation))


def pool_sizes(x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    """:func:`pool_size` along h and w of an (N, C, H, W) shape."""
    return tuple(map(pool_size, x_shape[2:], kernel_size, stride, padding, dilation, (ceil_mode, ceil_mode)))


def stand_in(like, shape, dtype=None):
    """An array of `shape` that holds one zero: its strides are 0, its memory one number."""
    xp = backend.of(like)
    return xp.broadcast_to(xp.zeros((), dtype or like.dtype), shape)


def conv2d(x, w, stride, padding, dilation, groups):
    return stand_in(x, (x.shape[0], w.shape[0], *conv_sizes(x.shape, w.shape[2:], stride, padding, dilation)))


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    return stand_in(gy, x_shape)


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    return stand_in(gy, w_shape)


def matmul(a, b):
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return stand_in(a, (*lead, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())))


def im2col(x, kernel_size, stride, padding, dilation):
    oh, ow = conv_sizes(x.shape, kernel_size, stride, padding, dilation)
    return stand_in(x, (x.shape[0], x.shape[1] * kernel_size[0] * kernel_size[1], oh * ow))


def col2im(cols, x_shape, kernel_size, stride, padding, dilation):
    return stand_in(cols, x_shape)


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    shape = (*x.shape[:2], *pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode))
    return stand_in(x, shape), stand_in(x, shape, "uint8")


def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    return stand_in(gy, x_shape)


def avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    return stand_in(x, (*x.shape[:2], *pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)))


def avg_pool2d_grad(gy, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    return stand_in(gy, x_shape)


def add_bias(y, b):
    return y


def channel_sums(x):
    return stand_in(x, x.shape[1:2])


def relu(x):
    return stand_in(x, x.shape)


def relu_grad(gy, y):
    return stand_in(gy, gy.shape)


def sgd(w, *_):
    """Nothing is learned here."""


adam = sgd


def softmax_loss(scores, labels, weights):
    return stand_in(scores, labels.shape), stand_in(scores, scores.shape)


def softmax_loss_grad(prob, labels, weights):
    return stand_in(prob, prob.shape)


def local_response_norm(x, size, alpha, beta, k):
    return stand_in(x, x.shape), ()


def local_response_norm_grad(gy, saved):
    return stand_in(gy, gy.shape)


def batch_norm(x, gamma, beta, eps):
    channel = stand_in(x, gamma.shape)
    return stand_in(x, x.shape), (channel, channel)


def batch_norm_grad(gy, saved):
    channel = stand_in(gy, (gy.shape[1],))
    return stand_in(gy, gy.shape), channel, channel


def sync_batch_norm(x, gamma, beta, eps, total):
    return batch_norm(x, gamma, beta, eps)


def sync_batch_norm_grad(gy, saved, total):
    return batch_norm_grad(gy, saved)
