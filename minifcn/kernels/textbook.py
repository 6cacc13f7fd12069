"""Every kernel vectorised, in one source for NumPy and CuPy: the versions that the notebooks teach.

Convolution is im2col and one matrix product; its two gradients are the transposed products.  Average pooling, all
gradients of pooling, and col2im loop over the taps of the window and treat all windows at once; max pooling takes the
maximum over a view of all windows.  ``xp`` is the module that owns the input.
"""

from functools import lru_cache

import numpy as np

from ..arrays import backend
from .registry import KERNELS
from .shapes import conv_sizes, pool_sizes, reach


def wide(x):
    """x, in float32 if it has half precision: in float16 sums and squares overflow above 65504 and lose digits."""
    return x.astype("float32") if x.dtype.kind == "f" and x.dtype.itemsize < 4 else x


def narrowed(y, dtype):
    """y, rounded to `dtype` if that is half precision (y was then computed in float32); otherwise y as it is."""
    return y.astype(dtype) if y.dtype.kind == "f" and dtype.itemsize < 4 else y


def total(x, axis=None, keepdims=False):
    """Σ x over `axis`, in float32 at least, rounded to x's own type at the end."""
    if x.dtype.kind == "f" and x.dtype.itemsize < 4:
        return x.sum(axis=axis, keepdims=keepdims, dtype="float32").astype(x.dtype)
    return x.sum(axis=axis, keepdims=keepdims)


def sliding_windows(x, kernel_size, stride, dilation, out_size):
    """All windows of x as a view, without a copy: (N, C, H, W) -> (N, C, kh, kw, OH, OW)."""
    sn, sc, sh, sw = x.strides
    shape = (*x.shape[:2], *kernel_size, *out_size)
    strides = (sn, sc, sh * dilation[0], sw * dilation[1], sh * stride[0], sw * stride[1])
    return backend.of(x).lib.stride_tricks.as_strided(x, shape, strides)


def tap_slices(kernel_size, stride, dilation, out_size):
    """For each tap (u, v), in row-major order: the slices of the padded image that hold this tap of all windows."""
    for u in range(kernel_size[0]):
        for v in range(kernel_size[1]):
            top, left = u * dilation[0], v * dilation[1]
            yield (
                ...,
                slice(top, top + stride[0] * (out_size[0] - 1) + 1, stride[0]),
                slice(left, left + stride[1] * (out_size[1] - 1) + 1, stride[1]),
            )


def pad_to_windows(x, kernel_size, stride, padding, dilation, out_size, value=0):
    """x, padded before by `padding` and after by as much as the last window needs: (N, C, H', W')."""
    pads = [(0, 0), (0, 0)]
    for n, k, s, p, d, m in zip(x.shape[2:], kernel_size, stride, padding, dilation, out_size):
        pads.append((p, max((m - 1) * s + d * (k - 1) + 1 - n - p, 0)))
    if not any(map(any, pads)):
        return x
    return backend.of(x).pad(x, pads, constant_values=value)


def add_bias(y, b):
    y += b[:, None, None]
    return y


def bias_relu(y, b, most):
    y += b[:, None, None]
    return y.clip(0, most, out=y)


def bias_relu_grad(gy, y, most):
    xp = backend.of(gy)
    gx = xp.where((y == 0) | ((y == most) & xp.isfinite(y)), gy.dtype.type(0), gy)
    return gx, channel_sums(gx)


def channel_sums(x):
    return total(x, (0, 2, 3))


def word_sums(words):
    return words.sum(axis=0)  # of unsigned integers: an overflow wraps


def relu(x):
    return backend.of(x).maximum(x, 0)


def relu_grad(gy, y):
    return backend.of(gy).where(y != 0, gy, gy.dtype.type(0))


def relu6(x):
    xp = backend.of(x)
    return xp.minimum(xp.maximum(x, 0), 6)


def relu6_grad(gy, y):
    return backend.of(gy).where((y != 0) & (y != 6), gy, gy.dtype.type(0))


def sgd(w, g, velocity, rate, decay, momentum, form):
    if decay:
        g = g + decay * w
    velocity *= momentum
    if form == "caffe":
        velocity += rate * g
        w -= velocity
    else:
        velocity += g
        w -= rate * velocity


def adam(w, g, mean, square, rate, decay, b1, b2, eps, steps):
    mean += (1 - b1) * (g - mean)
    square += (1 - b2) * (g * g - square)
    unbiased, scale = mean / (1 - b1**steps), (square / (1 - b2**steps)) ** 0.5
    w -= rate * unbiased / (scale + eps) + rate * decay * w


def matmul(a, b):
    return a @ b


def im2col(x, kernel_size, stride, padding, dilation):
    out = conv_sizes(x.shape, kernel_size, stride, padding, dilation)
    x = pad_to_windows(x, kernel_size, stride, padding, dilation, out)
    windows = sliding_windows(x, kernel_size, stride, dilation, out)  # (N, C, kh, kw, OH, OW)
    return windows.reshape(
        len(x), x.shape[1] * kernel_size[0] * kernel_size[1], out[0] * out[1]
    )  # (N, C·kh·kw, OH·OW), the one copy


def col2im(cols, x_shape, kernel_size, stride, padding, dilation):
    N, C, H, W = x_shape
    out = conv_sizes(x_shape, kernel_size, stride, padding, dilation)
    cols, dtype = wide(cols.reshape(N, C, kernel_size[0] * kernel_size[1], *out)), cols.dtype
    x = backend.of(cols).zeros((N, C, H + 2 * padding[0], W + 2 * padding[1]), cols.dtype)
    for tap, cells in enumerate(tap_slices(kernel_size, stride, dilation, out)):
        x[cells] += cols[:, :, tap]
    return narrowed(x[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W], dtype)


def conv2d(x, w, stride, padding, dilation, groups):
    out = conv_sizes(x.shape, w.shape[2:], stride, padding, dilation)
    cols = KERNELS["im2col"](x, w.shape[2:], stride, padding, dilation)
    cols = cols.reshape(len(x), groups, -1, out[0] * out[1])  # (N, G, C/G·kh·kw, OH·OW)
    w = w.reshape(groups, w.shape[0] // groups, -1)  # (G, O/G, C/G·kh·kw)
    return (w @ cols).reshape(len(x), -1, *out)


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    gy = gy.reshape(len(gy), groups, w.shape[0] // groups, -1)  # (N, G, O/G, OH·OW)
    cols = w.reshape(groups, w.shape[0] // groups, -1).swapaxes(1, 2) @ gy  # (N, G, C/G·kh·kw, OH·OW)
    cols = cols.reshape(len(gy), -1, gy.shape[-1])
    return KERNELS["col2im"](cols, x_shape, w.shape[2:], stride, padding, dilation)


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    cols = KERNELS["im2col"](x, w_shape[2:], stride, padding, dilation)
    cols = cols.reshape(len(x), groups, -1, cols.shape[-1])  # (N, G, C/G·kh·kw, OH·OW)
    gy = gy.reshape(len(gy), groups, w_shape[0] // groups, -1)  # (N, G, O/G, OH·OW)
    return total(gy @ cols.swapaxes(2, 3), 0).reshape(w_shape)


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    xp = backend.of(x)
    out = pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    first = first_taps(xp, x.shape[2:], kernel_size, stride, padding, dilation, out)
    x = pad_to_windows(x, kernel_size, stride, padding, dilation, out, value=-xp.inf)
    windows = sliding_windows(x, kernel_size, stride, dilation, out)
    windows = windows.reshape(*x.shape[:2], kernel_size[0] * kernel_size[1], *out)  # (N, C, kh·kw, OH, OW)
    index = windows.argmax(axis=2)  # the first maximum, row-major
    y = xp.take_along_axis(windows, index[:, :, None], axis=2)[:, :, 0]
    index = xp.where(y == -xp.inf, first, index)  # if all are −∞, the first maximum may lie in the padding
    last = windows.shape[2] - 1 - xp.isnan(windows[:, :, ::-1]).argmax(axis=2)
    index = xp.where(xp.isnan(y), last, index)  # the last NaN
    return y, index.astype(index_type(kernel_size))


def first_taps(xp, sizes, kernel_size, stride, padding, dilation, out_size):
    """The number of each window's first tap on the image, (OH, OW); 0 if it has none."""
    each = []
    for n, s, m, p, d in zip(sizes, stride, out_size, padding, dilation):
        start = s * xp.arange(m) - p
        tap = xp.maximum(-(start // d), 0)
        each.append((tap, start + d * tap < n))
    (u, rows), (v, columns) = each
    return (u[:, None] * kernel_size[1] + v[None, :]) * (rows[:, None] & columns[None, :])


def index_type(kernel_size):
    """The smallest integer type that holds a tap's number: one byte, or two for windows of more than 256 taps."""
    return "uint8" if kernel_size[0] * kernel_size[1] <= 256 else "uint16"


def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    xp, out = backend.of(gy), gy.shape[2:]
    gx = zeros_under_windows(gy, x_shape, kernel_size, stride, padding, dilation)
    for tap, cells in enumerate(tap_slices(kernel_size, stride, dilation, out)):
        gx[cells] += xp.where(index == tap, gy, gy.dtype.type(0))  # a product would make ∞ · 0 = NaN
    return gx[:, :, padding[0] : padding[0] + x_shape[2], padding[1] : padding[1] + x_shape[3]]


def zeros_under_windows(gy, x_shape, kernel_size, stride, padding, dilation):
    """Zeros on a map that holds the image, its padding and all windows, the clipped last one included."""
    size = reach(x_shape[2:], gy.shape[2:], kernel_size, stride, padding, dilation)
    return backend.of(gy).zeros((*x_shape[:2], *size), gy.dtype)


def window_areas(size, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    """The divisors of average pooling, (OH, OW), on the host: products of the counts along h and w."""
    pairs = (tuple(pair) for pair in (size, kernel_size, stride, padding, dilation))
    return _areas(*pairs, ceil_mode, count_include_pad)


@lru_cache(maxsize=256)
def _areas(size, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad):
    counts = []
    out = pool_sizes((0, 0, *size), kernel_size, stride, padding, dilation, ceil_mode)
    for n, k, s, p, d, m in zip(size, kernel_size, stride, padding, dilation, out):
        taps = s * np.arange(m)[:, None] - p + d * np.arange(k)[None, :]  # (m, k): the cell each tap falls on
        margin = p if count_include_pad else 0
        counts.append(((taps >= -margin) & (taps < n + margin)).sum(axis=1))
    return np.maximum(counts[0][:, None] * counts[1][None, :], 1)


def avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    out = pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    areas = window_areas(x.shape[2:], kernel_size, stride, padding, ceil_mode, count_include_pad, dilation)
    x, dtype = wide(pad_to_windows(x, kernel_size, stride, padding, dilation, out)), x.dtype
    y = sum(x[cells] for cells in tap_slices(kernel_size, stride, dilation, out))
    return narrowed(y / backend.of(x).asarray(areas, x.dtype), dtype)


def avg_pool2d_grad(gy, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    areas = window_areas(x_shape[2:], kernel_size, stride, padding, ceil_mode, count_include_pad, dilation)
    gy, dtype = wide(gy), gy.dtype
    share = gy / backend.of(gy).asarray(areas, gy.dtype)
    gx = zeros_under_windows(gy, x_shape, kernel_size, stride, padding, dilation)
    for cells in tap_slices(kernel_size, stride, dilation, gy.shape[2:]):
        gx[cells] += share
    gx = gx[:, :, padding[0] : padding[0] + x_shape[2], padding[1] : padding[1] + x_shape[3]]
    return narrowed(gx, dtype)


def softmax_loss(scores, labels, weights):
    xp = backend.of(scores)
    s = scores.astype(xp.result_type(scores.dtype, xp.float32), copy=False)
    s = s - s.max(axis=1, keepdims=True)  # the largest exponent is 0: no overflow
    e = xp.exp(s)
    total = e.sum(axis=1, keepdims=True)
    picked = xp.take_along_axis(s, labels[:, None], axis=1)  # (N, 1, H, W)
    loss = xp.where(weights != 0, (xp.log(total) - picked)[:, 0] * weights, 0)  # 0 even where a void score is infinite
    return loss.astype(s.dtype, copy=False), e / total


def softmax_loss_grad(prob, labels, weights):
    xp = backend.of(prob)
    one_hot = xp.arange(prob.shape[1])[:, None, None] == labels[:, None]  # (N, C, H, W)
    weights = weights[:, None].astype(prob.dtype, copy=False)
    return xp.where(weights != 0, (prob - one_hot) * weights, 0)


def _channel_windows(v, before, after):
    """For each channel c, the sum of v over the channels c − before … c + after."""
    xp = backend.of(v)
    padded = xp.pad(v, [(0, 0), (before, after), (0, 0), (0, 0)])
    return sum(padded[:, i : i + v.shape[1]] for i in range(before + after + 1))


def local_response_norm(x, size, alpha, beta, k):
    before, values = size // 2, wide(x)
    s = k + alpha / size * _channel_windows(values * values, before, size - 1 - before)
    return narrowed(values * s**-beta, x.dtype), (x, s, size, alpha, beta)


def local_response_norm_grad(gy, saved):
    x, s, size, alpha, beta = saved
    after, x, dtype = size // 2, wide(x), gy.dtype  # the window of the adjoint is the mirrored one
    reached = _channel_windows(gy * x * s ** (-beta - 1), size - 1 - after, after)
    return narrowed(gy * s**-beta - (2 * alpha * beta / size) * x * reached, dtype)


def _per_channel(v):
    return v[:, None, None]  # (C,) -> (C, 1, 1)


def batch_norm(x, gamma, beta, eps):
    values = wide(x)
    mean = values.mean(axis=(0, 2, 3))
    centred = values - _per_channel(mean)
    var = (centred * centred).mean(axis=(0, 2, 3))
    scale = gamma / backend.of(x).sqrt(var + eps)
    y = centred * _per_channel(scale) + _per_channel(beta)
    return narrowed(y, x.dtype), (mean, var, x, gamma, eps)


def scale_channels(x, scale, shift):
    return x * _per_channel(scale) + _per_channel(shift)


def batch_norm_grad(gy, saved):
    mean, var, x, gamma, eps = saved
    rstd = 1 / backend.of(x).sqrt(var + eps)  # (C,)
    xhat = (x - _per_channel(mean)) * _per_channel(rstd)
    gy, dtype = wide(gy), gy.dtype
    gbeta, ggamma = gy.sum(axis=(0, 2, 3)), (gy * xhat).sum(axis=(0, 2, 3))
    m = max(gy.size // max(gy.shape[1], 1), 1)
    gx = _per_channel(gamma * rstd) * (gy - _per_channel(gbeta / m) - xhat * _per_channel(ggamma / m))
    return tuple(narrowed(g, dtype) for g in (gx, ggamma, gbeta))


def batch_norm_relu(x, gamma, beta, eps, most):
    y, saved = batch_norm(x, gamma, beta, eps)
    return y.clip(0, most).astype(y.dtype, copy=False), saved


def batch_norm_relu_grad(gy, y, saved, most):
    xp = backend.of(gy)
    return batch_norm_grad(xp.where((y == 0) | ((y == most) & xp.isfinite(y)), gy.dtype.type(0), gy), saved)


def sync_batch_norm(x, gamma, beta, eps, total):
    xp = backend.of(x)
    values = wide(x)
    sums = total(xp.append(values.sum(axis=(0, 2, 3), dtype="float64"), x.size // max(x.shape[1], 1)))  # (C + 1,)
    m = float(sums[-1])
    mean = (sums[:-1] / max(m, 1)).astype(values.dtype)
    centred = values - _per_channel(mean)
    var = (total((centred * centred).sum(axis=(0, 2, 3), dtype="float64")) / max(m, 1)).astype(values.dtype)
    scale = gamma / xp.sqrt(var + eps)
    y = centred * _per_channel(scale) + _per_channel(beta)
    return narrowed(y, x.dtype), (mean, var, x, gamma, eps, m)


def sync_batch_norm_grad(gy, saved, total):
    mean, var, x, gamma, eps, m = saved
    xp = backend.of(x)
    rstd = 1 / xp.sqrt(var + eps)
    xhat = (x - _per_channel(mean)) * _per_channel(rstd)
    gy, dtype = wide(gy), gy.dtype
    # gβ and gγ of this rank's part; the gradients of all ranks are added later
    gbeta, ggamma = gy.sum(axis=(0, 2, 3)), (gy * xhat).sum(axis=(0, 2, 3))
    of_beta, of_gamma = (total(xp.stack([gbeta, ggamma]).astype("float64")) / max(m, 1)).astype(gy.dtype)
    gx = _per_channel(gamma * rstd) * (gy - _per_channel(of_beta) - xhat * _per_channel(of_gamma))
    return tuple(narrowed(g, dtype) for g in (gx, ggamma, gbeta))
