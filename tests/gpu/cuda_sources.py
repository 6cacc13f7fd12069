"""Run the ``.cu`` files on the CPU, thread by thread, and compare with the textbook; mistakes can be planted in them.

``python cuda_sources.py MISTAKE FILE`` runs every kernel once, with a planted mistake, under the sanitizer that must
find it.  MISTAKE may also be the name of a sanitizer; then nothing is planted.  test_cuda_sources.py starts this
program, because a sanitizer's library must be preloaded.
"""

import sys
from dataclasses import dataclass

import numpy as np
from strategies import Convolution, Pooling, distinct, normal

from minifcn import kernels as K
from minifcn.cuda_on_cpu import host
from minifcn.kernels.gpu import launch

SANITIZERS = {
    "numbers": (),
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
    "thread": ("-fsanitize=thread",),
}


@dataclass(frozen=True)
class Mistake:
    """A replacement in the text of a source, and the name of the check that must notice it."""

    old: str
    new: str
    caught_by: str


MISTAKES = {
    "one thread too many": Mistake("i < n;", "i <= n;", "address"),
    "a bound off by one": Mistake("p < H && q >= 0", "p <= H && q >= 0", "numbers"),
    "a stride of the other axis": Mistake("sw * j - pw + dw * v", "sh * j - pw + dw * v", "numbers"),
    "rows of the wrong length": Mistake("* H + p) * W + q] :", "* W + p) * W + q] :", "numbers"),
    "an index that int cannot hold": Mistake("x[(((MF_INDEX)n * C + c) * H + p) * W + q]",
                                             "x[((n * C + c) * H + p) * W + q]", "address"),
    "a barrier forgotten": Mistake(
        "part[threadIdx.x] = value;\n    __syncthreads();", "part[threadIdx.x] = value;", "thread"
    ),
    "a barrier that some threads do not reach": Mistake(
        "if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];\n        __syncthreads();",
        "if (threadIdx.x < half) { part[threadIdx.x] += part[threadIdx.x + half]; __syncthreads(); }", "numbers",
    ),
    "adding without an atomic": Mistake("gx[e] = sum;", "gx[e / 2] += sum;", "thread"),
    "the last maximum instead of the first": Mistake("value > best ||", "value >= best ||", "numbers"),
    "a void label's weight ignored": Mistake("weight != 0 ? weight * (prob", "true ? (prob", "numbers"),
    "the window of the adjoint not mirrored": Mistake(
        "int d = size / 2 - size + 1; d <= size / 2;", "int d = -(size / 2); d < size - size / 2;", "numbers"
    ),
}  # fmt: skip


def agree(name, *args):
    """Assert that the CUDA version of a kernel equals the textbook; its result."""
    expected, got = K.KERNELS[name].textbook(*args), K.KERNELS[name].implementations("cupy")["cuda"](*args)
    pairs = zip(expected, got) if isinstance(expected, tuple) else [(expected, got)]
    for a, b in pairs:
        if isinstance(a, np.ndarray):
            tolerance = 1e-12 if a.dtype == np.float64 else 2e-5
            assert a.shape == b.shape and a.dtype == b.dtype, name
            np.testing.assert_allclose(b, a, rtol=tolerance, atol=10 * tolerance, err_msg=name)
    return got


def convolve(c, dtype):
    """Check all kernels of conv.cu on one convolution of strategies.py; their results."""
    x, w, gy = normal(c.x, 1, dtype), normal(c.w, 2, dtype), normal(c.y, 3, dtype)
    window = (c.w[2:], c.stride, c.padding, c.dilation)
    cols = agree("im2col", x, *window)
    return [
        cols,
        agree("col2im", normal(cols.shape, 4, dtype), c.x, *window),
        agree("conv2d", x, w, *c.parameters),
        agree("conv2d_grad_input", gy, w, c.x, *c.parameters),
        agree("conv2d_grad_weight", gy, x, c.w, *c.parameters),
    ]


def depthwise(c, dtype):
    """Check all kernels of depthwise.cu on a convolution with one filter for each channel; their results."""
    x, w, gy = normal(c.x, 1, dtype), normal(c.w, 2, dtype), normal(c.y, 3, dtype)
    y, gx, gw = (np.full(shape, np.nan, dtype) for shape in (c.y, c.x, c.w))
    sizes = (*c.y[2:], *c.w[2:], *c.stride, *c.padding, *c.dilation)
    launch.launch("depthwise.cu", "depthwise", y.size, x, w, y, *c.x[1:], *sizes)
    launch.launch("depthwise.cu", "depthwise_grad_input", gx.size, gy, w, gx, *c.x[1:], *sizes)
    launch.launch_blocks("depthwise.cu", "depthwise_grad_weight", gw.size, gy, x, gw, *c.x, *sizes)
    tolerance = 1e-12 if x.dtype == np.float64 else 2e-5
    for got, expected in (
        (y, K.conv2d.textbook(x, w, *c.parameters)),
        (gx, K.conv2d_grad_input.textbook(gy, w, c.x, *c.parameters)),
        (gw, K.conv2d_grad_weight.textbook(gy, x, c.w, *c.parameters)),
    ):
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=10 * tolerance)
    return [y, gx, gw]


DEPTHWISE = Convolution((2, 3, 7, 6), (3, 1, 3, 2), (2, 1), (1, 2), (1, 2), 3)


def pool(p, dtype):
    """Check all kernels of pool.cu on one pooling of strategies.py; their results."""
    x, ties = distinct(p.x, 1).astype(dtype), np.random.default_rng(0).integers(0, 2, p.x).astype(dtype)
    window = (p.kernel, p.stride, p.padding, p.dilation, p.ceil_mode)
    y, index = agree("max_pool2d", x, *window)
    gy, results = normal(y.shape, 2, dtype), [y, index, *agree("max_pool2d", ties, *window)]
    edges = np.random.default_rng(1).choice(
        np.array([np.nan, np.inf, -np.inf, 0, 1], dtype), p.x, p=[0.1, 0.1, 0.6, 0.1, 0.1]
    )
    results += agree("max_pool2d", edges, *window)
    results.append(agree("max_pool2d_grad", gy, index, p.x, *window))
    for margins in (True, False):
        mean = (p.kernel, p.stride, p.padding, p.ceil_mode, margins, p.dilation)
        results += [agree("avg_pool2d", x, *mean), agree("avg_pool2d_grad", gy, p.x, *mean)]
    return results


def loss_and_norms(shape, dtype):
    """Check the loss, local response norm and the sums of batch norm on maps of one shape; their results."""
    N, C, H, W = shape
    x, gy = normal(shape, 1, dtype), normal(shape, 2, dtype)
    labels = np.random.default_rng(0).integers(0, C, (N, H, W))
    weights = np.random.default_rng(1).random((N, H, W)).astype(dtype) * (labels > 0)
    loss, prob = agree("softmax_loss", 9 * x, labels, weights)
    results = [loss, prob, agree("softmax_loss_grad", prob, labels, weights)]
    for size in (1, 4, 5):
        y, saved = agree("local_response_norm", x, size, 0.5, 0.75, 2.0)
        results += [y, agree("local_response_norm_grad", gy, saved)]
    mean, var, ggamma, gbeta = np.full((4, C), np.nan, dtype)
    launch.launch_blocks("batch_norm.cu", "channel_moments", C, x, mean, var, N, C, H * W)
    saved = (mean, var, x, np.ones(C, dtype), 1e-3)
    launch.launch_blocks("batch_norm.cu", "channel_gradients", C, gy, x, mean, var, ggamma, gbeta, N, C, H * W, 1e-3)
    expected = (x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3)), *K.batch_norm_grad.textbook(gy, saved)[1:])
    for got, right in zip((mean, var, ggamma, gbeta), expected):
        np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-4)
    return [*results, mean, var, ggamma, gbeta]


def far_away(file):
    """Check im2col at the end of an image of 2.3 · 10⁹ numbers (9 GB), which is a sparse file."""
    x = np.memmap(file, np.float32, "w+", shape=(1, 1, 24000, 96000))
    x[0, 0, -1, -3:] = 1, 2, 3
    for row in (23998, 23999):  # rows of windows, three rows high with a padding of one
        cols = np.full((3, 96000), np.nan, np.float32)
        sizes = (96000, 96000, *x.shape, 3, 1, 96000, row, 1, 1, 1, 1, 0, 1, 1)
        launch.launch("conv.cu", "im2col", cols.size, x, cols, *sizes)
        expected = np.zeros((3, 3))
        expected[23999 - row + 1] = 1, 2, 3
        assert cols[:, -3:].tolist() == expected.tolist()


def main(mistake, file):
    """Run every kernel once, with a planted mistake or under a sanitizer."""

    planted = MISTAKES.get(mistake)
    caught_by = planted.caught_by if planted else mistake
    change = planted and (lambda source: source.replace(planted.old, planted.new))
    with host.on_numpy(777, SANITIZERS[caught_by], change):
        if caught_by == "address":
            far_away(file)
        convolve(Convolution((2, 4, 5, 6), (2, 2, 3, 2), (2, 1), (1, 1), (1, 2), 2), "f4")
        depthwise(DEPTHWISE, "f4")
        pool(Pooling((1, 2, 5, 6), (2, 3), (2, 2), (0, 1), (1, 1), True), "f4")
        loss_and_norms((2, 6, 3, 4), "f4")
    print("nothing noticed")


if __name__ == "__main__":
    main(*sys.argv[1:])
