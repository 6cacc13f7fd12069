"""Conformance on the device: every implementation of every kernel equals the reference loops on the host.

The reference itself is not tested on the device, because its loops are written for host arrays.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import Convolution, Pooling, convolutions, distinct, normal, poolings, strided, three_by_three

from minifcn import kernels as K

SYNC = ("sync_batch_norm", "sync_batch_norm_grad")
DTYPES = st.sampled_from([np.float64, np.float32])

STRIDE_BEYOND_KERNEL = Convolution((1, 1, 7, 9), (1, 1, 2, 1), (5, 3), (0, 0), (1, 1), 1)
ALL_PADDING = Convolution((2, 2, 1, 1), (2, 1, 3, 4), (1, 2), (3, 3), (1, 1), 2)
CEIL_CLIPS = Pooling((1, 1, 5, 6), (2, 3), (2, 2), (0, 0), (1, 1), True)
CEIL_DROPS = Pooling((1, 1, 4, 4), (2, 2), (3, 3), (1, 1), (1, 1), True)


def implementations_of(kernel, xp):
    """The implementations of a kernel for this library's arrays by name, without the reference."""
    return {k: f for k, f in K.KERNELS[kernel].implementations(xp.__name__).items() if k != "reference"}


@pytest.fixture(scope="module")
def conform(xp, device, equal):
    """A function that compares all implementations of a kernel with the reference loops and returns their result."""

    def conform(kernel, *args, first=None):
        rtol = 2e-5 if args[0].dtype == np.float32 else 1e-12
        expected = K.KERNELS[kernel].everywhere["reference"](
            *(a.copy() if isinstance(a, np.ndarray) else a for a in args)
        )
        for name, implementation in implementations_of(kernel, xp).items():
            given = device.put(args)
            got = implementation(*given)
            try:
                equal(got if first is None else got[:first], expected if first is None else expected[:first], rtol)
                if kernel not in ("add_bias", "bias_relu"):  # which may write into its first argument
                    equal([a for a in given if hasattr(a, "get")], [a for a in args if hasattr(a, "shape")], 0)
            except AssertionError as error:
                raise AssertionError(f"{kernel}, {name}: {error}") from None
        return expected

    return conform


@pytest.fixture(scope="module")
def conform_grad(xp, device, equal):
    """The same for a gradient kernel that reads what the forward kernel of its implementation saved."""

    def conform_grad(kernel, gy, *args):
        forward, grad = K.KERNELS[kernel], K.KERNELS[kernel + "_grad"]
        expected = grad.everywhere["reference"](gy, forward.everywhere["reference"](*args)[1])
        for name, implementation in implementations_of(kernel + "_grad", xp).items():
            matching = forward.implementations(xp.__name__).get(name, forward.textbook)
            saved = matching(*device.put(args))[1]
            equal(implementation(device.put(gy), saved), expected, 5e-5 if gy.dtype == np.float32 else 1e-11)

    return conform_grad


@given(c=convolutions() | three_by_three() | strided(), dtype=DTYPES)
@example(STRIDE_BEYOND_KERNEL, np.float64)
@example(ALL_PADDING, np.float32)
def test_convolution_and_its_two_adjoints(conform, c, dtype):
    x, w, gy = normal(c.x, 1, dtype), normal(c.w, 2, dtype), normal(c.y, 3, dtype)
    conform("conv2d", x, w, *c.parameters)
    conform("conv2d_grad_input", gy, w, c.x, *c.parameters)
    conform("conv2d_grad_weight", gy, x, c.w, *c.parameters)


@given(c=convolutions(), dtype=DTYPES)
def test_im2col_and_col2im(conform, c, dtype):
    window = (c.w[2:], c.stride, c.padding, c.dilation)
    cols = conform("im2col", normal(c.x, 1, dtype), *window)
    conform("col2im", normal(cols.shape, 2, dtype), c.x, *window)


@given(p=poolings(), negative=st.booleans(), dtype=DTYPES)
@example(CEIL_CLIPS, True, np.float32)
@example(CEIL_DROPS, False, np.float64)
def test_max_pooling_also_where_everything_is_negative(conform, p, negative, dtype):
    x = distinct(p.x, 1).astype(dtype)
    window = (p.kernel, p.stride, p.padding, p.dilation, p.ceil_mode)
    y, index = conform("max_pool2d", x - x.max() - 1 if negative else x, *window)
    conform("max_pool2d_grad", normal(y.shape, 2, dtype), index, p.x, *window)


@given(p=poolings())
def test_of_equal_maxima_the_first_wins(conform, p):
    x = np.random.default_rng(0).integers(0, 2, p.x).astype(np.float32)
    conform("max_pool2d", x, p.kernel, p.stride, p.padding, p.dilation, p.ceil_mode)


@given(p=poolings(), count_include_pad=st.booleans(), dtype=DTYPES)
@example(CEIL_CLIPS, True, np.float32)
@example(CEIL_DROPS, True, np.float64)
def test_average_pooling(conform, p, count_include_pad, dtype):
    window = (p.kernel, p.stride, p.padding, p.ceil_mode, count_include_pad, p.dilation)
    conform("avg_pool2d", normal(p.x, 1, dtype), *window)
    conform("avg_pool2d_grad", normal(p.y, 2, dtype), p.x, *window)


@given(shape=st.tuples(*[st.integers(1, 4)] * 4), void=st.sampled_from([0.0, 0.5, 1.0]), dtype=DTYPES)
def test_softmax_loss_also_with_everything_void(conform, shape, void, dtype):
    n, c, h, w = shape
    rng = np.random.default_rng(sum(shape))
    scores, labels = (30 * rng.standard_normal(shape)).astype(dtype), rng.integers(0, c, (n, h, w))
    weights = (rng.random((n, h, w)) * (rng.random((n, h, w)) >= void)).astype(dtype)
    _, prob = conform("softmax_loss", scores, labels, weights)
    conform("softmax_loss_grad", prob, labels, weights)


@given(shape=st.tuples(*[st.integers(1, 5)] * 4), dtype=DTYPES)
def test_relu_and_the_bias(conform, shape, dtype):
    x, gy, b = normal(shape, 1, dtype), normal(shape, 2, dtype), normal(shape[1], 3, dtype)
    y = conform("relu", x)
    conform("relu_grad", gy, y)
    conform("relu6_grad", gy, conform("relu6", 6 * x))
    conform("channel_sums", gy)
    conform("word_sums", np.random.default_rng(0).integers(0, 2**64, shape[2:], np.uint64))
    conform("add_bias", x, b)
    conform("bias_relu_grad", gy, conform("bias_relu", x, b, 0.5), 0.5)
    conform("matmul", x, normal((shape[3], 3), 4, dtype))


@given(channels=st.integers(1, 7), size=st.integers(1, 6), dtype=DTYPES)
def test_local_response_norm(conform, conform_grad, channels, size, dtype):
    x = normal((2, channels, 3, 2), 1, dtype)
    y, _ = conform("local_response_norm", x, size, 0.5, 0.75, 2.0, first=1)
    conform_grad("local_response_norm", normal(y.shape, 2, dtype), x, size, 0.5, 0.75, 2.0)


@given(n=st.integers(1, 3), channels=st.integers(1, 4), size=st.integers(2, 4), dtype=DTYPES)
def test_batch_norm(conform, conform_grad, equal, n, channels, size, dtype):
    shape = (n, channels, size, size + 1)
    arrays = normal(shape, 1, dtype), normal(channels, 2, dtype), normal(channels, 3, dtype)
    conform("batch_norm", *arrays, 1e-3, first=1)
    conform("scale_channels", *arrays)
    conform_grad("batch_norm", normal(shape, 4, dtype), *arrays, 1e-3)
    y, saved = conform("batch_norm_relu", *arrays, 1e-3, 0.5, first=1)
    conform("batch_norm_relu_grad", normal(shape, 5, dtype), y, saved, 0.5)


@pytest.mark.parametrize(
    ("kernel", "buffers", "rest"),
    [
        ("sgd", 1, (0.1, 0.01, 0.9, "caffe")), ("sgd", 1, (0.1, 0.0, 0.9, "torch")),
        ("adam", 2, (0.1, 0.01, 0.9, 0.99, 1e-8, 3)),
    ],
)  # fmt: skip
def test_steps_of_the_optimisers_in_place(xp, device, equal, kernel, buffers, rest):
    for dtype in (np.float64, np.float32):
        arrays = [np.abs(normal((3, 5), i, dtype)) for i in range(2 + buffers)]
        expected = [a.copy() for a in arrays]
        K.KERNELS[kernel].everywhere["reference"](*expected, *rest)
        for implementation in implementations_of(kernel, xp).values():
            there = device.put(arrays)
            assert implementation(*there, *rest) is None
            equal(there, expected, 1e-5 if dtype == np.float32 else 1e-12)


@given(n=st.integers(1, 3), channels=st.integers(1, 4), size=st.integers(2, 4), dtype=DTYPES)
def test_batch_norm_over_one_rank_is_batch_norm(xp, device, equal, n, channels, size, dtype):
    shape, tolerance = (n, channels, size, size + 1), 5e-5 if dtype == np.float32 else 1e-11
    x, gamma, beta, gy = (normal(s, i, dtype) for i, s in enumerate((shape, channels, channels, shape)))
    y, saved = K.batch_norm.textbook(x, gamma, beta, 1e-3)
    grads = K.batch_norm_grad.textbook(gy, saved)
    for name in implementations_of("sync_batch_norm", xp):
        forward, backward = (K.KERNELS[k].implementations(xp.__name__)[name] for k in SYNC)
        got, kept = forward(*device.put((x, gamma, beta)), 1e-3, lambda sums: sums)
        equal(got, y, tolerance)
        equal(backward(device.put(gy), kept, lambda sums: sums), grads, tolerance)


def test_no_kernel_was_left_out():
    calls = re.findall(r'(conform\w*)\("(\w+)"', Path(__file__).read_text())
    tested = {kernel + "_grad" * (function == "conform_grad") for function, kernel in calls}
    assert tested | {"sgd", "adam", *SYNC} == set(K.KERNELS)
