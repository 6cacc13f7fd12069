"""Output sizes, and stand-ins for the kernels that return zero-stride arrays of the right shape.

The formulas are those of Caffe, in which the paper's code is written:

- convolution  ``n' = ⌊(n + 2p − k_d)/s⌋ + 1`` with ``k_d = d(k − 1) + 1``
- pooling      the same, or with ⌈·⌉ in ceil mode, minus 1 if the last window would start outside ``n + p``
- transposed   ``n' = s(n − 1) + k_d − 2p + output_padding``

The stand-ins replace the kernels inside ``mf.shapes_only()``.  A model of any size then runs for its shapes, receptive
fields and crops without a multiplication.
"""

import numpy as np

from ..arrays import backend
from ..arrays.types import Pair
from ..errors import GeometryError


def require_maps(operation, *arrays):
    """Raise ValueError unless all `arrays` have four axes, and TypeError unless they are floating-point."""
    for array in arrays:
        if array.ndim != 4:
            raise ValueError(
                f"{operation} takes arrays with 4 axes, (N, C, H, W), got {array.shape}; a single image is x[None]"
            )
        if array.dtype.kind != "f":
            raise TypeError(
                f"{operation} computes with floating-point numbers, got {array.dtype}: use .astype('float32')"
            )


def require_channels(operation, x, *arrays):
    """:func:`require_maps` of x, (N, C, H, W), and ValueError unless all other `arrays` have the shape (C,)."""
    require_maps(operation, x)
    for array in arrays:
        if array.shape != x.shape[1:2]:
            raise ValueError(
                f"{operation} of maps with {x.shape[1]} channels takes one number for each channel, ({x.shape[1]},), "
                f"got {array.shape}"
            )


def broadcast_shape(shapes):
    """The shape that `shapes` broadcast to, by NumPy's rule.  Raises ValueError if they do not."""
    length = max(map(len, shapes))
    padded = [(1,) * (length - len(s)) + tuple(s) for s in shapes]
    for sizes in zip(*padded):
        if len(set(sizes) - {1}) > 1:
            raise ValueError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
    return tuple(max(sizes) if min(sizes) else 0 for sizes in zip(*padded))


def pair(value: Pair, least: int = 0, name: str = "value") -> tuple[int, int]:
    """`value`, an int or a pair, as a pair of ints (h, w).  Raises ValueError for anything else or below `least`."""
    if type(value) is int and value >= least:
        return value, value
    both = (value, value) if hasattr(value, "__index__") else tuple(value)  # type: ignore[arg-type]
    if len(both) != 2 or any(int(v) != v or v < least for v in both):
        raise ValueError(f"{name} must be an int of at least {least} or a pair (h, w) of them, got {value!r}")
    return int(both[0]), int(both[1])


def conv_size(n, kernel, stride, padding, dilation=1):
    """The output size of a convolution over `n` cells.  Raises GeometryError if the kernel does not fit."""
    extent = dilation * (kernel - 1) + 1
    if n + 2 * padding < extent:
        raise GeometryError(
            f"a kernel of {kernel} (dilation {dilation}: {extent} cells) does not fit into {n} cells "
            f"padded by {padding} on each side: give a larger input or more padding"
        )
    return (n + 2 * padding - extent) // stride + 1


def reach(sizes, out, kernel_size, stride, padding, dilation):
    """The extent [h, w] of a map that holds the image, its leading padding, and all windows."""
    each = zip(sizes, out, kernel_size, stride, padding, dilation)
    return [max(p + n, (m - 1) * s + d * (k - 1) + 1) for n, m, k, s, p, d in each]


def pool_size(n, kernel, stride, padding, dilation=1, ceil_mode=False):
    """The output size of a pooling over `n` cells.  Raises GeometryError if no window fits or the padding is wide."""
    extent = dilation * (kernel - 1) + 1
    if 2 * padding > extent:
        raise GeometryError(f"pooling padding {padding} is more than half of the window of {extent} cells: give less")
    if not ceil_mode:
        return conv_size(n, kernel, stride, padding, dilation)
    size = -(-(n + 2 * padding - extent) // stride) + 1
    if size < 1:
        raise GeometryError(
            f"a window of {extent} does not fit into {n} cells padded by {padding}, even clipped: give a larger input"
        )
    return size - 1 if (size - 1) * stride >= n + padding else size


def require_taps(x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    """Raise GeometryError if a pooling window has no tap on the image: it would have no maximum and no mean."""
    if tuple(dilation) == (1, 1):
        return  # pool_size allows a padding of half a window at most, so every window reaches the image
    out = pool_sizes(x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    for n, m, k, s, p, d in zip(x_shape[2:], out, kernel_size, stride, padding, dilation):
        for start in range(-p, s * m - p, s):
            if not any(0 <= start + d * u < n for u in range(k)):
                raise GeometryError(
                    f"a pooling window of {k} cells, dilation {d}, that starts at cell {start} has none of its cells "
                    f"on the {n} of the image: give less padding or dilation, or a larger input"
                )


def deconv_size(n, kernel, stride, padding, output_padding=0, dilation=1):
    """The output size of a transposed convolution over `n` cells.  Raises GeometryError if no cell is left."""
    size = stride * (n - 1) + dilation * (kernel - 1) + 1 - 2 * padding + output_padding
    if size < 1:
        raise GeometryError(f"a transposed convolution of {n} cells padded by {padding} has no output: pad less")
    if output_padding >= max(stride, dilation):
        raise GeometryError(
            f"output_padding {output_padding} must be smaller than the stride {stride} or the dilation {dilation}: it "
            "only chooses one of the sizes that a convolution of the same stride maps to one size"
        )
    return size


def conv_sizes(x_shape, kernel_size, stride, padding, dilation):
    """:func:`conv_size` along h and w of an (N, C, H, W) shape."""
    return tuple(map(conv_size, x_shape[2:], kernel_size, stride, padding, dilation))


def pool_sizes(x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    """:func:`pool_size` along h and w of an (N, C, H, W) shape."""
    return tuple(map(pool_size, x_shape[2:], kernel_size, stride, padding, dilation, (ceil_mode, ceil_mode)))


def stand_in(like, shape, dtype=None):
    """An array of zeros of `shape` that takes the memory of one number: its strides are 0."""
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


def bias_relu(y, b, most):
    return y


def bias_relu_grad(gy, y, most):
    return stand_in(gy, gy.shape), channel_sums(gy)


def channel_sums(x):
    return stand_in(x, x.shape[1:2])


def word_sums(words):
    return words.sum(axis=0)  # no stand-in: backward() may check the array after shapes_only() has ended


def relu(x):
    return stand_in(x, x.shape)


def relu_grad(gy, y):
    return stand_in(gy, gy.shape)


relu6, relu6_grad = relu, relu_grad


def sgd(w, *_):
    """Do nothing: inside ``shapes_only()`` no weight changes."""


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


def scale_channels(x, scale, shift):
    return stand_in(x, x.shape)


def batch_norm_grad(gy, saved):
    channel = stand_in(gy, (gy.shape[1],))
    return stand_in(gy, gy.shape), channel, channel


def batch_norm_relu(x, gamma, beta, eps, most):
    return batch_norm(x, gamma, beta, eps)


def batch_norm_relu_grad(gy, y, saved, most):
    return batch_norm_grad(gy, saved)


def sync_batch_norm(x, gamma, beta, eps, total):
    return batch_norm(x, gamma, beta, eps)


def sync_batch_norm_grad(gy, saved, total):
    return batch_norm_grad(gy, saved)
