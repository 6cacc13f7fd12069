"""Conformance: every implementation of every kernel equals the reference loops, over ugly shapes."""

import os

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import Convolution, Pooling, convolutions, distinct, normal, poolings

import minifcn as mf
from minifcn import kernels as K
from minifcn import ops
from minifcn.kernels import shapes
from minifcn.kernels.cpu import banded, workers

# the clipped, the dropped and the lonely: cases random drawing may miss
STRIDE_BEYOND_KERNEL = Convolution((1, 1, 7, 9), (1, 1, 2, 1), (5, 3), (0, 0), (1, 1), 1)
ALL_PADDING = Convolution((2, 2, 1, 1), (2, 1, 3, 4), (1, 2), (3, 3), (1, 1), 2)
CEIL_CLIPS = Pooling((1, 1, 5, 6), (2, 3), (2, 2), (0, 0), (1, 1), True)
CEIL_DROPS = Pooling((1, 1, 4, 4), (2, 2), (3, 3), (1, 1), (1, 1), True)


def others(kernel):
    """Every implementation but the definition itself."""
    table = K.KERNELS[kernel].implementations("numpy")
    return [(name, f) for name, f in table.items() if name != "reference"]


def agree(got, expected, dtype):
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    got = got if isinstance(got, tuple) else (got,)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * 10)


def conform(kernel, *args, dtype=np.float64):
    expected = K.KERNELS[kernel].everywhere["reference"](*args)
    for _, implementation in others(kernel):
        agree(implementation(*args), expected, dtype)
    return expected


@given(convolutions(), st.sampled_from([np.float64, np.float32]))
@example(STRIDE_BEYOND_KERNEL, np.float64)
@example(ALL_PADDING, np.float64)
def test_convolution_and_its_two_adjoints_equal_the_loops(c, dtype):
    x, w, gy = normal(c.x, 1, dtype), normal(c.w, 2, dtype), normal(c.y, 3, dtype)
    conform("conv2d", x, w, *c.parameters, dtype=dtype)
    conform("conv2d_grad_input", gy, w, c.x, *c.parameters, dtype=dtype)
    conform("conv2d_grad_weight", gy, x, c.w, *c.parameters, dtype=dtype)


@given(convolutions())
def test_im2col_and_col2im_equal_the_loops(c):
    x = normal(c.x, 1)
    window = (c.w[2:], c.stride, c.padding, c.dilation)
    cols = conform("im2col", x, *window)
    conform("col2im", normal(cols.shape, 2), c.x, *window)


@given(poolings(), st.booleans())
@example(CEIL_CLIPS, False)
@example(CEIL_DROPS, False)
def test_max_pooling_equals_the_loops_also_where_everything_is_negative(p, negative):
    x = distinct(p.x, 1)
    if negative:
        x = x - x.max() - 1
    window = (p.kernel, p.stride, p.padding, p.dilation, p.ceil_mode)
    y, index = conform("max_pool2d", x, *window)
    assert np.isfinite(y).all() or p.dilation != (1, 1)  # only a dilated window can miss the image altogether
    assert index.dtype == np.uint8
    conform("max_pool2d_grad", normal(y.shape, 2), index, p.x, *window)


@given(poolings())
def test_of_equal_maxima_the_first_wins_in_every_implementation(p):
    x = np.random.default_rng(0).integers(0, 2, p.x).astype(np.float64)
    conform("max_pool2d", x, p.kernel, p.stride, p.padding, p.dilation, p.ceil_mode)


@given(poolings(), st.booleans())
@example(CEIL_CLIPS, True)
@example(CEIL_DROPS, True)
def test_average_pooling_equals_the_loops(p, count_include_pad):
    window = (p.kernel, p.stride, p.padding, p.ceil_mode, count_include_pad, p.dilation)
    conform("avg_pool2d", normal(p.x, 1), *window)
    conform("avg_pool2d_grad", normal(p.y, 2), p.x, *window)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.0, 0.5, 1.0]))
def test_softmax_loss_equals_the_loops_also_with_everything_void(n, c, h, w, void):
    rng = np.random.default_rng(n + c + h + w)
    scores, labels = 30 * rng.standard_normal((n, c, h, w)), rng.integers(0, c, (n, h, w))
    weights = rng.random((n, h, w)) * (rng.random((n, h, w)) >= void)
    loss, prob = conform("softmax_loss", scores, labels, weights)
    assert (loss[weights == 0] == 0).all()
    conform("softmax_loss_grad", prob, labels, weights)


@given(st.integers(1, 7), st.integers(1, 6))
def test_local_response_norm_equals_the_loops(channels, size):
    x = normal((2, channels, 3, 2), 1)
    y, _ = conform_first("local_response_norm", x, size, 0.5, 0.75, 2.0)
    conform_grad("local_response_norm", normal(y.shape, 2), x, size, 0.5, 0.75, 2.0)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
def test_batch_norm_equals_the_loops(n, channels, size):
    x, gamma, beta = normal((n, channels, size, size + 1), 1), normal(channels, 2), normal(channels, 3)
    y, saved = conform_first("batch_norm", x, gamma, beta, 1e-3)
    agree(saved[0], x.mean(axis=(0, 2, 3)), np.float64)
    agree(saved[1], x.var(axis=(0, 2, 3)), np.float64)
    conform_grad("batch_norm", normal(y.shape, 4), x, gamma, beta, 1e-3)


def conform_first(kernel, *args):
    expected = K.KERNELS[kernel].everywhere["reference"](*args)
    for _, implementation in others(kernel):
        agree(implementation(*args)[0], expected[0], np.float64)
    return expected


def conform_grad(kernel, gy, *args):
    """Each implementation's gradient, from what its own forward saved."""
    forward, grad = K.KERNELS[kernel], K.KERNELS[kernel + "_grad"]
    expected = grad.everywhere["reference"](gy, forward.everywhere["reference"](*args)[1])
    for name, implementation in others(kernel + "_grad"):
        agree(implementation(gy, forward.implementations("numpy")[name](*args)[1]), expected, np.float64)


def test_every_kernel_has_its_definition_and_its_textbook_version():
    for name, kernel in K.KERNELS.items():
        assert K.implementations(name)[-2:] == ["textbook", "reference"]
        assert kernel.shapes.__module__ == "minifcn.kernels.shapes"


@given(convolutions())
def test_shapes_only_gives_the_shapes_and_holds_one_number(c):
    x, w = normal(c.x), normal(c.w)
    with mf.shapes_only():
        y = K.conv2d(x, w, *c.parameters)
    assert y.shape == c.y
    assert y.strides == (0, 0, 0, 0)


def test_sizes_are_caffes_and_pytorchs():
    assert [shapes.pool_size(n, 3, 2, 0, 1, True) for n in (55, 27, 13, 15)] == [27, 13, 6, 7]
    assert [shapes.pool_size(n, 2, 2, 0, 1, False) for n in (5, 4)] == [2, 2]
    assert shapes.pool_size(4, 2, 3, 1, 1, True) == 2  # a third window would start outside n + p
    assert shapes.conv_size(698, 3, 1, 1) == 698
    assert shapes.deconv_size(16, 64, 32, 0) == 544


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_banded_is_right_and_repeatable_for_any_number_of_threads_and_bands(monkeypatch, threads):
    monkeypatch.setattr(workers, "threads", lambda: threads)
    monkeypatch.setattr(banded, "BAND_BYTES", 700)  # a few rows a band
    x, w, gy = normal((2, 4, 23, 17), 1), normal((6, 2, 3, 3), 2), normal((2, 6, 12, 9), 3)
    where = ((2, 2), (1, 1), (1, 1), 2)
    for kernel, args in {
        "conv2d": (x, w, *where),
        "conv2d_grad_input": (gy, w, x.shape, *where),
        "conv2d_grad_weight": (gy, x, w.shape, *where),
    }.items():
        expected = K.KERNELS[kernel].textbook(*args)
        implementation = K.KERNELS[kernel].implementations("numpy")["banded"]
        agree(implementation(*args), expected, np.float64)
        assert implementation(*args).tobytes() == implementation(*args).tobytes()


def test_the_workspace_of_a_convolution_is_bounded():
    """The columns of this image would take 59 MB; a worker's band takes 2."""
    import tracemalloc

    x, w = normal((1, 16, 320, 320), dtype=np.float32), normal((8, 16, 3, 3), dtype=np.float32)
    K.conv2d(x, w, (1, 1), (1, 1), (1, 1), 1)
    tracemalloc.start()
    y = K.conv2d(x, w, (1, 1), (1, 1), (1, 1), 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes * 1.1 + y.nbytes + workers.threads() * 2 * banded.BAND_BYTES


def test_blas_threads_are_put_back_after_parallel_work():
    from threadpoolctl import threadpool_info

    def blas():
        return [b["num_threads"] for b in threadpool_info() if b["user_api"] == "blas"]

    before = blas()
    seen = workers.run(lambda _: blas(), range(4))
    assert blas() == before
    if workers.threads() > 1:
        assert all(n == 1 for inside in seen for n in inside)


def test_blas_stays_limited_until_the_last_of_several_users_has_left():
    from threadpoolctl import threadpool_info

    def blas():
        return max(b["num_threads"] for b in threadpool_info() if b["user_api"] == "blas")

    limit, before = workers._SingleThreadedBlas(), blas()
    with limit:
        with limit:
            pass
        assert blas() == 1
    assert blas() == before


def test_work_inside_work_does_not_wait_for_itself():
    def outer(i):
        return sum(workers.run(lambda j: i * j, range(4)))

    assert workers.run(outer, range(6)) == [6 * i for i in range(6)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_can_compute():
    import multiprocessing

    x, w = normal((4, 2, 8, 8)), normal((3, 2, 3, 3))
    K.conv2d(x, w, (1, 1), (1, 1), (1, 1), 1)  # the pool exists before the fork
    child = multiprocessing.get_context("fork").Process(target=K.conv2d, args=(x, w, (1, 1), (1, 1), (1, 1), 1))
    child.start()
    child.join(20)
    hung = child.is_alive()
    child.kill()
    assert not hung


def test_an_empty_batch_goes_through():
    w = normal((3, 2, 3, 3))
    where = dict(stride=2, dilation=2)
    assert ops.conv2d(np.zeros((0, 2, 9, 9)), w, **where).shape == (0, 3, 3, 3)
    assert ops.conv_transpose2d(np.zeros((0, 3, 4, 4)), w, **where).shape == (0, 2, 11, 11)
    assert ops.im2col(np.zeros((0, 2, 9, 9)), np.int64(3)).shape == (0, 18, 49)


def test_padding_never_wins_a_maximum():
    y, _ = K.max_pool2d(np.full((1, 1, 3, 3), -5.0), (3, 3), (2, 2), (1, 1), (1, 1), False)
    assert (y == -5).all()
