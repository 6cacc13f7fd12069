"""The definition of every kernel: nested loops straight from the formula, slow on purpose.

Another implementation is right if it equals these.  Sums are kept in float64 and rounded to the input's type at the
end.  Arrays are NumPy arrays of shape (N, C, H, W).
"""

from itertools import product

import numpy as np

from .shapes import conv_sizes, pool_sizes


def _conv_terms(x_shape, w_shape, stride, padding, dilation, groups):
    """The terms of a convolution: for each product that is summed, its indices in y, x and w.

    y[n, o, i, j] = Σ x[n, c, s·i − p + d·u, s·j − p + d·v] · w[o, c', u, v], over the channels c of o's group and the
    taps (u, v) that fall on the image; outside it x is zero.  This is eq. (1) of the paper with a dot product as f.
    """
    (N, _, H, W), (O, Cg, kh, kw) = x_shape, w_shape
    OH, OW = conv_sizes(x_shape, (kh, kw), stride, padding, dilation)
    for n, o, i, j, c, u, v in product(*map(range, (N, O, OH, OW, Cg, kh, kw))):
        p = stride[0] * i - padding[0] + dilation[0] * u
        q = stride[1] * j - padding[1] + dilation[1] * v
        if 0 <= p < H and 0 <= q < W:
            group = o // (O // groups)
            yield (n, o, i, j), (n, group * Cg + c, p, q), (o, c, u, v)


def conv2d(x, w, stride, padding, dilation, groups):
    """y[n, o, i, j] = Σ_{c,u,v} x[n, c, s·i − p + d·u, s·j − p + d·v] · w[o, c, u, v]   (cross-correlation)"""
    y = np.zeros((len(x), len(w), *conv_sizes(x.shape, w.shape[2:], stride, padding, dilation)))
    for at_y, at_x, at_w in _conv_terms(x.shape, w.shape, stride, padding, dilation, groups):
        y[at_y] += float(x[at_x]) * float(w[at_w])
    return y.astype(x.dtype)


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    """The gradient of conv2d for x, its adjoint: the same terms, summed for each element of x.

    Used forward, it is the transposed convolution (§3.3)."""
    gx = np.zeros(x_shape)
    for at_y, at_x, at_w in _conv_terms(x_shape, w.shape, stride, padding, dilation, groups):
        gx[at_x] += float(gy[at_y]) * float(w[at_w])
    return gx.astype(gy.dtype)


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    """The gradient of conv2d for w: the same terms, summed for each element of w."""
    gw = np.zeros(w_shape)
    for at_y, at_x, at_w in _conv_terms(x.shape, w_shape, stride, padding, dilation, groups):
        gw[at_w] += float(gy[at_y]) * float(x[at_x])
    return gw.astype(gy.dtype)


def _column_terms(x_shape, kernel_size, stride, padding, dilation):
    """The index pairs (in the columns, in x): row (c, u, v) of column (i, j) is x[c, s·i − p + d·u, s·j − p + d·v]."""
    N, C, H, W = x_shape
    OH, OW = conv_sizes(x_shape, kernel_size, stride, padding, dilation)
    for n, c, u, v, i, j in product(*map(range, (N, C, *kernel_size, OH, OW))):
        p = stride[0] * i - padding[0] + dilation[0] * u
        q = stride[1] * j - padding[1] + dilation[1] * v
        if 0 <= p < H and 0 <= q < W:
            yield (n, (c * kernel_size[0] + u) * kernel_size[1] + v, i * OW + j), (n, c, p, q)


def matmul(a, b):
    """``y[…, i, j] = Σ_k a[…, i, k] · b[…, k, j]``; leading axes broadcast.  A vector is a row as a, a column as b."""
    rows, columns = np.atleast_2d(a), b[:, None] if b.ndim == 1 else b
    lead = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    m, n = rows.shape[-2], columns.shape[-1]
    rows, columns = (np.broadcast_to(x, lead + x.shape[-2:]) for x in (rows, columns))
    y = np.zeros((*lead, m, n), np.result_type(a, b))
    for i in np.ndindex(lead):
        for j, k in np.ndindex(m, n):
            y[(*i, j, k)] = sum(float(p) * float(q) for p, q in zip(rows[(*i, j)], columns[(*i, slice(None), k)]))
    return y.reshape(lead + (m,) * (a.ndim > 1) + (n,) * (b.ndim > 1))


def im2col(x, kernel_size, stride, padding, dilation):
    """Copy every window into a column: (N, C, H, W) -> (N, C·kh·kw, OH·OW)."""
    OH, OW = conv_sizes(x.shape, kernel_size, stride, padding, dilation)
    cols = np.zeros((len(x), x.shape[1] * kernel_size[0] * kernel_size[1], OH * OW), x.dtype)
    for at_cols, at_x in _column_terms(x.shape, kernel_size, stride, padding, dilation):
        cols[at_cols] = x[at_x]
    return cols


def col2im(cols, x_shape, kernel_size, stride, padding, dilation):
    """Add every column back to its window's place in the image: the adjoint of :func:`im2col`, not its inverse."""
    x = np.zeros(x_shape)
    for at_cols, at_x in _column_terms(x_shape, kernel_size, stride, padding, dilation):
        x[at_x] += float(cols[at_cols])
    return x.astype(cols.dtype)


def _windows(x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    """For each pooling window: the index of its output, and its taps on the image as [(tap number, index in x)]."""
    N, C, H, W = x_shape
    for n, c, i, j in product(
        *map(range, (N, C, *pool_sizes(x_shape, kernel_size, stride, padding, dilation, ceil_mode)))
    ):
        taps = []
        for u, v in product(*map(range, kernel_size)):
            p = stride[0] * i - padding[0] + dilation[0] * u
            q = stride[1] * j - padding[1] + dilation[1] * v
            if 0 <= p < H and 0 <= q < W:
                taps.append((u * kernel_size[1] + v, (n, c, p, q)))
        yield (n, c, i, j), taps


def add_bias(y, b):
    """y[n, c, i, j] + b[c].  An implementation may add in place and return y itself."""
    for n, c, i, j in product(*map(range, y.shape)):
        y[n, c, i, j] += b[c]
    return y


def bias_relu(y, b, most):
    """min(max(y[n, c, i, j] + b[c], 0), most), a bias and the ReLU (`most` is ∞) or ReLU6 (6) after it; NaN stays NaN.

    An implementation may compute in place and return y itself.
    """
    y = add_bias(y, b)
    return np.minimum(np.maximum(y, 0), most, dtype=y.dtype)


def bias_relu_grad(gy, y, most):
    """(gx, s): gx is gy where y is neither 0 nor a finite `most`, and 0 elsewhere; s[c] = Σ_{n,i,j} gx[n, c, i, j]."""
    gx = np.where((y == 0) | ((y == most) & np.isfinite(y)), 0, gy).astype(gy.dtype)
    return gx, channel_sums(gx)


def channel_sums(x):
    """s[c] = Σ_{n,i,j} x[n, c, i, j]: the gradient of a bias."""
    sums = np.zeros(x.shape[1])
    for n, c, i, j in product(*map(range, x.shape)):
        sums[c] += x[n, c, i, j]
    return sums.astype(x.dtype)


def word_sums(words):
    """s[k] = Σ_r words[r, k] modulo 2⁶⁴, for 64-bit words (R, K): the checksum that shows the edit of an array."""
    sums = [sum(int(words[r, k]) for r in range(words.shape[0])) % 2**64 for k in range(words.shape[1])]
    return np.array(sums, np.uint64)


def relu(x):
    """y = max(x, 0), elementwise."""
    return np.array([max(v, 0) for v in x.flat], x.dtype).reshape(x.shape)


def relu_grad(gy, y):
    """gx = gy where y ≠ 0, else 0.  y is relu's output: positive, 0 or NaN; where it is NaN the gradient passes."""
    return np.array([g if v != 0 else 0 for g, v in zip(gy.flat, y.flat)], gy.dtype).reshape(gy.shape)


def relu6(x):
    """y = min(max(x, 0), 6), elementwise."""
    return np.array([min(max(v, 0), 6) for v in x.flat], x.dtype).reshape(x.shape)


def relu6_grad(gy, y):
    """gx = gy where y ≠ 0 and y ≠ 6, else 0.  y is relu6's output; where it is NaN the gradient passes."""
    return np.array([g if v not in (0, 6) else 0 for g, v in zip(gy.flat, y.flat)], gy.dtype).reshape(gy.shape)


def sgd(w, g, velocity, rate, decay, momentum, form):
    """One step of SGD in place, with g ← g + decay·w.

    Form "caffe": V ← μV + rate·g, w ← w − V;  form "torch": V ← μV + g, w ← w − rate·V."""
    for at in np.ndindex(w.shape):
        step = g[at] + decay * w[at]
        velocity[at] = momentum * velocity[at] + (rate * step if form == "caffe" else step)
        w[at] -= velocity[at] if form == "caffe" else rate * velocity[at]


def adam(w, g, mean, square, rate, decay, b1, b2, eps, steps):
    """Step t of Adam (AdamW) in place: m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²,
    w ← w − rate·m̂/(√v̂ + ε) − rate·decay·w, with m̂ = m/(1 − β₁ᵗ) and v̂ = v/(1 − β₂ᵗ)."""
    for at in np.ndindex(w.shape):
        mean[at] = b1 * mean[at] + (1 - b1) * g[at]
        square[at] = b2 * square[at] + (1 - b2) * g[at] ** 2
        unbiased, scale = mean[at] / (1 - b1**steps), np.sqrt(square[at] / (1 - b2**steps))
        w[at] -= rate * unbiased / (scale + eps) + rate * decay * w[at]


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    """y = max over the window; outside the image x is −∞.  Returns (y, index).

    The index is the tap number u·kw + v of the *first* maximum, in row-major order (uint8; uint16 for windows of more
    than 256 taps).  If a window holds a NaN, its maximum is NaN and the index is that of its last NaN."""
    shape = (*x.shape[:2], *pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode))
    y = np.full(shape, -np.inf, x.dtype)
    index = np.zeros(shape, "uint8" if kernel_size[0] * kernel_size[1] <= 256 else "uint16")
    for at_y, taps in _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode):
        index[at_y] = taps[0][0] if taps else 0  # it stays if all are −∞
        for tap, at_x in taps:
            if x[at_x] > y[at_y] or np.isnan(x[at_x]):
                y[at_y], index[at_y] = x[at_x], tap
    return y, index


def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    """The gradient of max_pool2d for x: each output's gradient is added to the cell that its maximum came from."""
    gx = np.zeros(x_shape)
    for at_y, taps in _windows(x_shape, kernel_size, stride, padding, dilation, ceil_mode):
        for tap, at_x in taps:
            if tap == index[at_y]:
                gx[at_x] += gy[at_y]
    return gx.astype(gy.dtype)


def window_areas(x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    """The divisors of average pooling, (OH, OW): each window's taps inside the padded image, or inside the image."""
    OH, OW = pool_sizes(x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    areas = np.zeros((OH, OW))
    margin = padding if count_include_pad else (0, 0)
    for i, j, u, v in product(*map(range, (OH, OW, *kernel_size))):
        p = stride[0] * i - padding[0] + dilation[0] * u
        q = stride[1] * j - padding[1] + dilation[1] * v
        areas[i, j] += -margin[0] <= p < x_shape[2] + margin[0] and -margin[1] <= q < x_shape[3] + margin[1]
    return np.maximum(areas, 1)


def avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    """y = (sum over the window) / (its area, clipped to the padded image, as in Caffe, or to the image alone)"""
    areas = window_areas(x.shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation)
    y = np.zeros((*x.shape[:2], *areas.shape))
    for at_y, taps in _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode):
        y[at_y] = sum(float(x[at_x]) for _, at_x in taps) / areas[at_y[2:]]
    return y.astype(x.dtype)


def avg_pool2d_grad(gy, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    """The gradient of avg_pool2d for x: each output's gradient / area is added to every cell of its window."""
    areas = window_areas(x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation)
    gx = np.zeros(x_shape)
    for at_y, taps in _windows(x_shape, kernel_size, stride, padding, dilation, ceil_mode):
        for _, at_x in taps:
            gx[at_x] += gy[at_y] / areas[at_y[2:]]
    return gx.astype(gy.dtype)


def softmax_loss(scores, labels, weights):
    """ℓ[n, i, j] = −weights[n, i, j] · log softmax(scores[n, :, i, j])[label]     (the loss of §3.4 at each pixel)

    scores (N, C, H, W); labels (N, H, W), integers in 0 … C − 1; weights (N, H, W), 0 where a pixel does not count.
    Returns (ℓ (N, H, W), prob (N, C, H, W)), in float32 or float64.
    """
    prob = np.zeros(scores.shape)
    loss = np.zeros(labels.shape)
    for n, i, j in product(*map(range, labels.shape)):
        s = scores[n, :, i, j].astype(np.float64)
        e = np.exp(s - s.max())
        prob[n, :, i, j] = e / e.sum()
        if weights[n, i, j] != 0:
            loss[n, i, j] = weights[n, i, j] * (np.log(e.sum()) - (s - s.max())[labels[n, i, j]])
    dtype = np.result_type(scores.dtype, np.float32)
    return loss.astype(dtype), prob.astype(dtype)


def softmax_loss_grad(prob, labels, weights):
    """∂ℓ/∂scores = weights · (prob − one-hot(label))"""
    gs = np.zeros(prob.shape)
    for n, c, i, j in product(*map(range, prob.shape)):
        if weights[n, i, j] != 0:
            gs[n, c, i, j] = weights[n, i, j] * (prob[n, c, i, j] - (c == labels[n, i, j]))
    return gs.astype(prob.dtype)


def _neighbours(channel, size, channels):
    """The channels whose squares are summed for `channel`: a window of `size` around it."""
    first = channel - size // 2
    return range(max(first, 0), min(first + size, channels))


def local_response_norm(x, size, alpha, beta, k):
    """y_c = x_c / (k + α/n · Σ_{c' near c} x_{c'}²)^β, across the n channels near c.  Returns (y, saved)."""
    s = np.full(x.shape, float(k))
    for c in range(x.shape[1]):
        for near in _neighbours(c, size, x.shape[1]):
            s[:, c] += alpha / size * x[:, near].astype(np.float64) ** 2
    return (x * s**-beta).astype(x.dtype), (x, s.astype(x.dtype), size, alpha, beta)


def local_response_norm_grad(gy, saved):
    """gx_c = gy_c · s_c^−β − 2αβ/n · x_c · Σ_{c': c near c'} gy_{c'} x_{c'} s_{c'}^{−β−1}"""
    x, s, size, alpha, beta = saved
    gx = gy * s.astype(np.float64) ** -beta
    for c in range(x.shape[1]):
        for near in _neighbours(c, size, x.shape[1]):
            term = gy[:, c] * x[:, c] * s[:, c].astype(np.float64) ** (-beta - 1)
            gx[:, near] -= 2 * alpha * beta / size * x[:, near] * term
    return gx.astype(gy.dtype)


def batch_norm(x, gamma, beta, eps):
    """y = γ (x − μ)/√(σ² + ε) + β with μ, σ² over (N, H, W) of each channel.  Returns (y, (μ, σ², ...))."""
    y = np.empty(x.shape, x.dtype)
    mean, var = np.empty(x.shape[1]), np.empty(x.shape[1])
    for c in range(x.shape[1]):
        values = x[:, c].astype(np.float64)
        mean[c] = values.sum() / values.size
        var[c] = ((values - mean[c]) ** 2).sum() / values.size
        y[:, c] = gamma[c] * (values - mean[c]) / np.sqrt(var[c] + eps) + beta[c]
    return y, (mean.astype(x.dtype), var.astype(x.dtype), x, gamma, eps)


def scale_channels(x, scale, shift):
    """y[:, c] = x[:, c] · scale[c] + shift[c]: batch norm with fixed statistics."""
    y = np.empty(x.shape, x.dtype)
    for c in range(x.shape[1]):
        y[:, c] = x[:, c] * float(scale[c]) + float(shift[c])
    return y


def batch_norm_grad(gy, saved):
    """With x̂ = (x − μ)/√(σ² + ε) and m values in each channel:  gβ = Σ gy,  gγ = Σ gy·x̂,
    gx = γ/√(σ² + ε) · (gy − gβ/m − x̂·gγ/m).  Returns (gx, gγ, gβ)."""
    mean, var, x, gamma, eps = saved
    gx = np.empty(x.shape, gy.dtype)
    ggamma, gbeta = np.empty(gamma.shape), np.empty(gamma.shape)
    for c in range(x.shape[1]):
        g = gy[:, c].astype(np.float64)
        xhat = (x[:, c] - float(mean[c])) / np.sqrt(float(var[c]) + eps)
        gbeta[c], ggamma[c] = g.sum(), (g * xhat).sum()
        gx[:, c] = gamma[c] / np.sqrt(float(var[c]) + eps) * (g - (gbeta[c] + xhat * ggamma[c]) / g.size)
    return gx, ggamma.astype(gy.dtype), gbeta.astype(gy.dtype)


def batch_norm_relu(x, gamma, beta, eps, most):
    """y = min(max(batch_norm(x), 0), most): batch norm and the ReLU (`most` is ∞) or ReLU6 (6) after it."""
    y, saved = batch_norm(x, gamma, beta, eps)
    return np.minimum(np.maximum(y, 0), most, dtype=y.dtype), saved


def batch_norm_relu_grad(gy, y, saved, most):
    """batch_norm_grad of gy where y is neither 0 nor a finite `most`, and of 0 elsewhere."""
    return batch_norm_grad(np.where((y == 0) | ((y == most) & np.isfinite(y)), 0, gy), saved)


def sync_batch_norm(x, gamma, beta, eps, total):
    """batch_norm of a batch that is spread over several ranks; x is this rank's part.

    ``total(v)`` adds an array over all parts, in place, and returns it.  Returns (y, (μ, σ², ..., m)); a channel has m
    values in all parts together."""
    y = np.empty(x.shape, x.dtype)
    mean, var = np.empty(x.shape[1]), np.empty(x.shape[1])
    for c in range(x.shape[1]):
        values = x[:, c].astype(np.float64)
        m, added = total(np.array([values.size, values.sum()]))
        mean[c] = added / m
        var[c] = total(((values - mean[c]) ** 2).sum(keepdims=True).ravel())[0] / m
        y[:, c] = gamma[c] * (values - mean[c]) / np.sqrt(var[c] + eps) + beta[c]
    return y, (mean.astype(x.dtype), var.astype(x.dtype), x, gamma, eps, m)


def sync_batch_norm_grad(gy, saved, total):
    """As batch_norm_grad; the gβ and gγ in the formula of gx are sums over all parts.

    Returns (gx, gγ, gβ); the returned gγ and gβ are those of this part alone."""
    mean, var, x, gamma, eps, m = saved
    gx = np.empty(x.shape, gy.dtype)
    ggamma, gbeta = np.empty(gamma.shape), np.empty(gamma.shape)
    for c in range(x.shape[1]):
        g = gy[:, c].astype(np.float64)
        xhat = (x[:, c] - float(mean[c])) / np.sqrt(float(var[c]) + eps)
        gbeta[c], ggamma[c] = g.sum(), (g * xhat).sum()
        of_beta, of_gamma = total(np.array([gbeta[c], ggamma[c]])) / m
        gx[:, c] = gamma[c] / np.sqrt(float(var[c]) + eps) * (g - of_beta - xhat * of_gamma)
    return gx, ggamma.astype(gy.dtype), gbeta.astype(gy.dtype)
