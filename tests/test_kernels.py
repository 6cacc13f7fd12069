"""Conformance: every implementation of every kernel equals the reference loops, for irregular shapes."""

import os

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import Convolution, Pooling, convolutions, distinct, normal, poolings, strided, three_by_three

import minifcn as mf
from minifcn import kernels as K
from minifcn import ops
from minifcn.kernels import environment, shapes
from minifcn.kernels.cpu import blas, elementwise, norm, products, workers
from minifcn.kernels.cpu.conv import (
    banded,
    choice,
    depthwise,
    few_tiles,
    planes,
    tiles,
    toom_cook,
    winograd,
    winograd_rows,
)  # fmt: skip
from minifcn.kernels.cpu.conv.window import Window

# special cases that random drawing may miss
STRIDE_BEYOND_KERNEL = Convolution((1, 1, 7, 9), (1, 1, 2, 1), (5, 3), (0, 0), (1, 1), 1)
ALL_PADDING = Convolution((2, 2, 1, 1), (2, 1, 3, 4), (1, 2), (3, 3), (1, 1), 2)
CEIL_CLIPS = Pooling((1, 1, 5, 6), (2, 3), (2, 2), (0, 0), (1, 1), True)
CEIL_DROPS = Pooling((1, 1, 4, 4), (2, 2), (3, 3), (1, 1), (1, 1), True)


def others(kernel):
    """Every implementation except the reference."""
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


@given(convolutions() | three_by_three() | strided(), st.sampled_from([np.float64, np.float32]))
@example(STRIDE_BEYOND_KERNEL, np.float64)
@example(ALL_PADDING, np.float64)
@settings(max_examples=75)
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
    assert np.isfinite(y).all() or p.dilation != (1, 1)  # only a dilated window can lie entirely in the padding
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


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_relu_and_the_bias_equal_the_loops(n, c, h, w):
    x, gy, b = normal((n, c, h, w), 1), normal((n, c, h, w), 2), normal(c, 3)
    y = conform("relu", x)
    conform("relu_grad", gy, y)
    conform("relu6_grad", gy, conform("relu6", 6 * x))
    conform("channel_sums", gy)
    for _, implementation in others("add_bias"):
        agree(implementation(x.copy(), b), K.add_bias.everywhere["reference"](x.copy(), b), np.float64)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.5, 6.0, np.inf]),
    st.sampled_from([3, 1 << 18]), st.integers(1, 3),
)  # fmt: skip
def test_a_bias_and_the_relu_after_it_equal_the_loops_in_pieces_of_any_size(n, c, h, w, most, piece, threads):
    x, gy, b = normal((n, c, h, w), 1), normal((n, c, h, w), 2), normal(c, 3)
    x[0, 0, 0, 0], x[-1, -1, -1, -1] = np.inf, np.nan
    gy[0, 0, 0, 0] = -np.inf  # passes if the output is infinite because there is no limit
    y = K.bias_relu.everywhere["reference"](x.copy(), b, most)
    assert y[0, 0, 0, 0] == most or x.size == 1
    expected = K.bias_relu_grad.everywhere["reference"](gy, y, most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elementwise, "PIECE", piece)
        patch.setattr(workers, "WORTH", 1)
        patch.setattr(workers, "threads", lambda: threads)
        for name, implementation in others("bias_relu"):
            np.testing.assert_allclose(implementation(x.copy(), b, most), y, rtol=1e-12, err_msg=name)
            given = np.asfortranarray(x)
            np.testing.assert_allclose(implementation(given, b, most), y, rtol=1e-12, err_msg=name)
        for name, implementation in others("bias_relu_grad"):
            for got, value in zip(implementation(gy, y, most), expected, strict=True):
                np.testing.assert_allclose(got, value, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kernel", ["sgd caffe", "sgd torch", "adam"])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_steps_of_the_optimisers_equal_the_loops(kernel, decay):
    kernel, *form = kernel.split()
    rest = (0.1, decay, 0.9, *form) if form else (0.1, decay, 0.9, 0.99, 1e-8, 3)
    buffers = ["velocity"] if form else ["mean", "square"]

    def after(step):
        arrays = [normal((3, 5), 1), normal((3, 5), 2), *(np.abs(normal((3, 5), 3)) for _ in buffers)]
        assert step(*arrays, *rest) is None
        return tuple(arrays)

    expected = after(K.KERNELS[kernel].everywhere["reference"])
    for _, implementation in others(kernel):
        agree(after(implementation), expected, np.float64)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)), ((3,), (3, 5)), ((4, 3), (3,)), ((4, 3), (3, 150)), ((2, 1, 4, 3), (5, 3, 130)), ((0, 3), (3, 2)),
        ((2, 0), (0, 140)), ((3,), (2, 3, 4)), ((2, 4, 3), (3,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_matrix_products_equal_the_loops_and_numpys(monkeypatch, a, b, dtype):
    monkeypatch.setattr(environment, "threads", lambda: 2)
    monkeypatch.setattr(products, "NARROWEST", 32)
    a, b = normal(a, 1, dtype), normal(b, 2, dtype)
    expected = conform("matmul", a, b, dtype=dtype)
    agree(np.asarray(a @ b), expected, dtype)
    with mf.shapes_only():
        assert K.matmul(a, b).shape == expected.shape


@pytest.mark.parametrize("shapes", [((500, 1), (1, 400)), ((2, 500, 1), (1, 400)), ((3, 1, 300, 1), (2, 1, 300))])
def test_products_of_a_column_and_a_row_are_those_of_their_numbers(monkeypatch, shapes):
    monkeypatch.setattr(environment, "threads", lambda: 2)
    a, b = (normal(shape, i, np.float32) for i, shape in enumerate(shapes))
    np.testing.assert_array_equal(K.matmul(a, b), np.einsum("...ik,...kj->...ij", a, b))
    assert not K.matmul(a[..., :0], b[..., :0, :]).any()  # sums of nothing


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


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.sampled_from([np.inf, 6.0, 0.5]))
def test_batch_norm_with_the_relu_after_it_equals_the_loops(n, channels, size, most):
    x, gamma, beta = normal((n, channels, size, size + 1), 1), normal(channels, 2), normal(channels, 3)
    y, saved = conform_first("batch_norm_relu", x, gamma, beta, 1e-3, most)
    agree(y, np.minimum(np.maximum(K.batch_norm(x, gamma, beta, 1e-3)[0], 0), most), np.float64)
    conform("batch_norm_relu_grad", normal(y.shape, 4), y, saved, most)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
def test_scaled_channels_equal_the_loops(n, channels, size):
    conform("scale_channels", normal((n, channels, size, size + 1), 1), normal(channels, 2), normal(channels, 3))


def conform_first(kernel, *args):
    expected = K.KERNELS[kernel].everywhere["reference"](*args)
    for _, implementation in others(kernel):
        agree(implementation(*args)[0], expected[0], np.float64)
    return expected


def conform_grad(kernel, gy, *args):
    """The gradients of all implementations agree; each gets what the forward pass of the same implementation saved."""
    forward, grad = K.KERNELS[kernel], K.KERNELS[kernel + "_grad"]
    expected = grad.everywhere["reference"](gy, forward.everywhere["reference"](*args)[1])
    for name, implementation in others(kernel + "_grad"):
        agree(implementation(gy, forward.implementations("numpy")[name](*args)[1]), expected, np.float64)


def test_every_kernel_has_its_definition_and_its_textbook_version():
    for name, kernel in K.KERNELS.items():
        assert K.implementations(name)[-2:] == ["textbook", "reference"]
        assert kernel.shapes.__module__ == "minifcn.kernels.shapes"


@given(st.integers(0, 9), st.integers(1, 4), st.integers(1, 3))
def test_word_sums_equal_the_loops_modulo_2_to_the_64_for_any_number_of_workers(rows, columns, threads):
    words = np.random.default_rng(rows).integers(0, 2**64, (rows, columns), np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elementwise, "WORDS", columns)
        patch.setattr(workers, "WORTH", 1)
        patch.setattr(workers, "threads", lambda: threads)
        sums = conform("word_sums", words)
    assert sums.tolist() == [sum(column) % 2**64 for column in words.T.tolist()]


def test_the_gradient_of_a_bias_and_its_relu_has_its_shapes_and_all_digits():
    gy, y = normal((2, 3, 4, 5), 1), np.ones((2, 3, 4, 5))
    with mf.shapes_only():
        gx, sums = K.bias_relu_grad(gy, y, np.inf)
    assert gx.shape == gy.shape and sums.shape == (3,)
    gy = gy.astype(np.longdouble) + np.finfo(np.float64).eps / 64
    for name in K.bias_relu_grad.implementations("numpy"):
        if name not in ("reference", "compiled"):  # in float64
            gx, sums = K.bias_relu_grad.implementations("numpy")[name](gy, y.astype(np.longdouble), np.inf)
            np.testing.assert_array_equal(gx, gy)
            np.testing.assert_allclose(sums, gy.sum(axis=(0, 2, 3)), rtol=1e-18, atol=1e-18)


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


ALGORITHMS = {  # for each algorithm, a convolution that it can compute
    "banded": Convolution((2, 4, 23, 17), (6, 2, 3, 3), (2, 2), (1, 1), (1, 1), 2),
    "channels_last": Convolution((7, 5, 9, 8), (6, 5, 3, 3), (1, 2), (2, 1), (2, 1), 1),
    "pointwise": Convolution((3, 40, 23, 17), (30, 40, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    "winograd": Convolution((3, 5, 23, 17), (6, 5, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    "stationary": Convolution((2, 6, 9, 8), (40, 3, 5, 5), (1, 1), (1, 1), (1, 1), 2),
    "phases": Convolution((7, 6, 11, 9), (6, 1, 7, 5), (3, 2), (2, 1), (1, 1), 6),
    "depthwise": Convolution((3, 40, 23, 17), (40, 1, 3, 5), (2, 1), (1, 3), (2, 1), 40),
    "planes": Convolution((3, 40, 23, 17), (40, 1, 3, 5), (2, 1), (1, 3), (1, 1), 40),
    "winograd_rows": Convolution((3, 4, 13, 17), (37, 4, 3, 7), (1, 1), (2, 1), (1, 1), 1),
}


def three_kernels(c, dtype=np.float64):
    """Each kernel of a convolution with its arguments."""
    x, w, gy = normal(c.x, 1, dtype), normal(c.w, 2, dtype), normal(c.y, 3, dtype)
    return {
        "conv2d": (x, w, *c.parameters),
        "conv2d_grad_input": (gy, w, x.shape, *c.parameters),
        "conv2d_grad_weight": (gy, x, w.shape, *c.parameters),
    }


@pytest.mark.parametrize("room", [700, 20000])  # bytes of a band: a few rows, or a few small samples
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_right_and_repeatable_for_any_number_of_threads_and_bands(monkeypatch, threads, name, room):
    monkeypatch.setattr(environment, "threads", lambda: threads)
    monkeypatch.setattr(workers, "_queue", None)
    for module in (banded, winograd, winograd_rows):
        monkeypatch.setattr(module, "BAND_BYTES", room)
    for module in (depthwise, planes):
        monkeypatch.setattr(module, "BLOCK_BYTES", room)
    monkeypatch.setattr(winograd, "FEWEST", 3)
    monkeypatch.setattr(products, "SMALL", 7000)  # so that products are cut into pieces
    for kernel, args in three_kernels(ALGORITHMS[name]).items():
        expected = K.KERNELS[kernel].textbook(*args)
        implementation = K.KERNELS[kernel].implementations("numpy")[name]
        agree(implementation(*args), expected, np.float64)
        assert implementation(*args).tobytes() == implementation(*args).tobytes()


@settings(max_examples=80, deadline=None)
@given(three_by_three(), st.integers(1, 3), st.booleans())
def test_few_tiles_are_right_and_repeatable_in_parts_of_any_size(c, threads, small):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_tiles, "pays", lambda *sizes: True)
        patch.setattr(workers, "threads", lambda: threads)
        if small:
            for name, value in dict(PIECE=200, PART=36 * 3, LARGE=36 * 5, GROUP=2).items():
                patch.setattr(few_tiles, name, value)
            patch.setattr(products, "SMALL", 300)
            patch.setattr(workers, "WORTH", 1)
        for kernel, args in three_kernels(c).items():
            implementation = K.KERNELS[kernel].implementations("numpy")["winograd"]
            agree(implementation(*args), K.KERNELS[kernel].textbook(*args), np.float64)
            assert implementation(*args).tobytes() == implementation(*args).tobytes()


@st.composite
def wide_kernels(draw):
    """Convolutions that ``winograd_rows`` can compute."""
    N, C, O, kh, H = (draw(st.integers(1, most)) for most in (3, 3, 5, 7, 12))
    kw, (ph, pw) = draw(st.integers(5, 7)), draw(st.tuples(st.integers(0, 3), st.integers(0, 8)))
    return Convolution(
        (N, C, max(H, kh - 2 * ph), max(draw(st.integers(1, 20)), kw - 2 * pw)), (O, C, kh, kw),
        (1, 1), (ph, pw), (1, 1), 1,
    )  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(wide_kernels(), st.integers(1, 3), st.booleans())
def test_rows_of_tiles_are_right_and_repeatable_in_bands_and_parts_of_any_size(c, threads, small):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "threads", lambda: threads)
        if small:
            patch.setattr(winograd_rows, "BAND_BYTES", 3000)
            patch.setattr(winograd_rows, "PART", 2)
            patch.setattr(winograd_rows, "SHARE", 1)
            patch.setattr(products, "SMALL", 300)
            patch.setattr(workers, "WORTH", 1)
        for kernel, args in three_kernels(c).items():
            implementation = K.KERNELS[kernel].implementations("numpy")["winograd_rows"]
            agree(implementation(*args), K.KERNELS[kernel].textbook(*args), np.float64)
            assert implementation(*args).tobytes() == implementation(*args).tobytes()


def test_toom_and_cooks_matrices_compute_convolutions_and_are_those_that_winograds_algorithm_is_published_with():
    for points, taps in (
        (winograd_rows.POINTS, 7),
        (winograd_rows.POINTS, 5),
        (("0", "1", "-1", "2", "-2"), 3),
        ("01", 2),
    ):
        G, BT, A = toom_cook.matrices(tuple(points), taps, np.float64)
        d, g = normal(len(points) + 1, 1), normal(taps, 2)
        np.testing.assert_allclose(A.T @ ((G @ g) * (BT @ d)), np.correlate(d, g, "valid"), rtol=1e-12, atol=1e-12)
    G, BT, A = toom_cook.matrices(("0", "1", "-1", "2", "-2"), 3, np.float64)
    scale = np.array([4, -6, -6, 24, 24, 1])[:, None]  # in print, the denominators stand in G and not in B
    np.testing.assert_allclose(BT * scale, tiles.BT, atol=1e-14)
    np.testing.assert_allclose(G / scale, tiles.G, atol=1e-14)
    np.testing.assert_array_equal(A.T, tiles.AT)


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e37])
def test_rows_of_tiles_spread_infinity_and_nan_to_no_weight_that_does_not_meet_them(value):
    x, gy, options = (
        normal((1, 2, 9, 12), 1, np.float32),
        normal((1, 3, 3, 6), 2, np.float32),
        ((1, 1), (0, 0), (1, 1), 1),
    )
    weights = K.conv2d_grad_weight.implementations("numpy")["winograd_rows"]
    x[0, 1, 0, 0] = value  # under the first tap of the first output alone
    with np.errstate(invalid="ignore"):
        got = weights(gy, x, (3, 2, 7, 7), *options)
        expected = K.conv2d_grad_weight.textbook(gy, x, (3, 2, 7, 7), *options)
    met = [[o, 1, 0, 0] for o in range(3)]
    assert np.argwhere(~np.isfinite(got)).tolist() == ([] if np.isfinite(value) else met)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    x[0, 1, 0, 0], gy[0, 2, 1, 3] = 1, value
    with np.errstate(invalid="ignore"):
        got = weights(gy, x, (3, 2, 7, 7), *options)
    assert np.isfinite(got[:2]).all() and np.isfinite(got[2]).all() == np.isfinite(value)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_named_passes_the_gradient_check(name):
    c = ALGORITHMS[name]
    small = (1, c.x[1], 6, 6)
    x, w = mf.Tensor(normal(small, 1), requires_grad=True), mf.Tensor(normal(c.w, 2), requires_grad=True)
    stride, padding, dilation, groups = c.parameters
    with mf.override(conv2d=name):
        assert mf.gradcheck(
            lambda x, w: ops.conv2d(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups), x, w
        )


def test_algorithms_do_not_change_what_they_are_given_and_take_any_layout():
    for name, c in ALGORITHMS.items():
        for kernel, args in three_kernels(c).items():
            implementation = K.KERNELS[kernel].implementations("numpy")[name]
            arrays = [a for a in args if isinstance(a, np.ndarray)]
            before, expected = [a.copy() for a in arrays], implementation(*args)
            assert all((a == b).all() for a, b in zip(arrays, before))
            awkward = [np.asfortranarray(a) if isinstance(a, np.ndarray) else a for a in args]
            agree(implementation(*awkward), expected, np.float64)
            reversed_ = [a[..., ::-1].copy()[..., ::-1] if isinstance(a, np.ndarray) else a for a in args]
            agree(implementation(*reversed_), expected, np.float64)


@pytest.mark.parametrize(
    ("x", "w", "parameters", "algorithm"),
    [
        ((1, 64, 224, 224), (64, 64, 3, 3), ((1, 1), (1, 1), (1, 1), 1), "winograd"),
        ((1, 3, 224, 224), (64, 3, 3, 3), ((1, 1), (1, 1), (1, 1), 1), "banded"),  # too few channels
        ((1, 512, 28, 28), (512, 512, 3, 3), ((1, 1), (1, 1), (1, 1), 1), "winograd"),
        ((1, 512, 14, 14), (4096, 512, 7, 7), ((1, 1), (0, 0), (1, 1), 1), "stationary"),  # fc6
        ((1, 512, 22, 22), (4096, 512, 7, 7), ((1, 1), (0, 0), (1, 1), 1), "winograd_rows"),
        ((1, 256, 28, 28), (256, 256, 5, 5), ((1, 1), (2, 2), (1, 1), 1), "winograd_rows"),
        # too few channels to repay transforms
        ((1, 64, 55, 55), (4, 64, 7, 7), ((1, 1), (3, 3), (1, 1), 1), "banded"),
        ((1, 3, 224, 224), (64, 3, 7, 7), ((1, 1), (3, 3), (1, 1), 1), "banded"),
        ((1, 3, 224, 224), (64, 3, 1, 7), ((1, 1), (0, 3), (1, 1), 1), "banded"),
        ((1, 16, 112, 112), (16, 16, 7, 7), ((1, 1), (3, 3), (1, 1), 1), "banded"),
        ((1, 4096, 8, 8), (4096, 4096, 1, 1), ((1, 1), (0, 0), (1, 1), 1), "stationary"),  # fc7
        ((1, 512, 28, 28), (21, 512, 1, 1), ((1, 1), (0, 0), (1, 1), 1), "pointwise"),
        ((8, 96, 8, 8), (96, 96, 3, 3), ((1, 1), (1, 1), (1, 1), 1), "channels_last"),  # conv5_2 of the small net
        ((1, 64, 55, 55), (64, 64, 3, 3), ((1, 1), (2, 2), (2, 2), 1), "banded"),  # dilated
        ((1, 64, 55, 55), (64, 64, 3, 3), ((2, 2), (1, 1), (1, 1), 1), "banded"),
        ((1, 64, 55, 55), (64, 1, 3, 3), ((1, 1), (1, 1), (1, 1), 64), "planes"),
        ((1, 64, 14, 14), (64, 1, 3, 3), ((1, 1), (1, 1), (1, 1), 64), "depthwise"),
        ((1, 21, 55, 55), (21, 1, 3, 3), ((1, 1), (1, 1), (1, 1), 21), "banded"),  # too few channels
    ],
)
def test_the_cost_rule_chooses_as_the_docs_say_and_only_float32_takes_winograd(
    monkeypatch, x, w, parameters, algorithm
):
    monkeypatch.setattr(
        environment, "threads", lambda: 2
    )  # with more threads than samples, small maps are divided in another way
    (_, _, *cells), window = Convolution(x, w, *parameters).y, Window(w[2:], *parameters)
    assert choice._cheapest(w, np.dtype("f4"), (x[0], *cells), window, winograd_rows.FORWARD).__name__.endswith(
        algorithm
    )
    exact = choice._cheapest(w, np.dtype("f8"), (x[0], *cells), window, winograd_rows.FORWARD).__name__
    assert exact.endswith(
        {"winograd": "banded", "winograd_rows": "stationary" if w[0] > 1000 else "banded"}.get(algorithm, algorithm)
    )


@pytest.mark.parametrize(
    ("channels", "kernels"),
    [(16, []), (64, ["conv2d"]), (256, ["conv2d", "conv2d_grad_input", "conv2d_grad_weight"])],
)
def test_rows_of_tiles_are_chosen_for_each_of_the_three_kernels_by_its_own_cost(monkeypatch, channels, kernels):
    """With 64 channels only the forward pass gains clearly; the gradient of the input takes as long either way."""
    called = []
    for name in ("conv2d", "conv2d_grad_input", "conv2d_grad_weight"):
        original = getattr(winograd_rows, name)
        monkeypatch.setattr(winograd_rows, name, lambda *args, f=original, name=name: called.append(name) or f(*args))
    x, w = normal((1, channels, 28, 28), 1, np.float32), normal((channels, channels, 7, 7), 2, np.float32)
    options = (1, 1), (3, 3), (1, 1), 1
    with mf.override(conv2d="numpy"):
        K.conv2d(x, w, *options)
        K.conv2d_grad_input(x, w, x.shape, *options)
        K.conv2d_grad_weight(x, x, w.shape, *options)
    assert called == kernels


def test_rows_of_tiles_are_not_chosen_where_many_small_bands_would_transform_the_kernels_again(monkeypatch):
    fc6 = Window((7, 7), (1, 1), (0, 0), (1, 1), 1), (4096, 512, 7, 7), (1, 16, 16), np.dtype("f4")
    assert winograd_rows.pays(*fc6)
    monkeypatch.setattr(winograd_rows, "BAND_BYTES", 1 << 20)  # as MINIFCN_BAND_MB=1
    assert not winograd_rows.pays(*fc6)


@pytest.mark.parametrize(("name", "k"), [("winograd", 3), ("winograd_rows", 5), ("winograd_rows", 7)])
def test_winograd_in_float32_is_within_2e5_of_exact_numbers(name, k):
    c = Convolution((2, 64, 30, 30), (64, 64, k, k), (1, 1), (1, 1), (1, 1), 1)
    for kernel, args in three_kernels(c, np.float32).items():
        exact = K.KERNELS[kernel].textbook(*(a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in args))
        got = K.KERNELS[kernel].implementations("numpy")[name](*args)
        assert got.dtype == np.float32
        assert np.abs(got - exact).max() < 2e-5 * np.abs(exact).max()


def test_sums_over_large_maps_keep_their_digits_and_half_precision_does_not_overflow():
    x = np.full((1, 2, 1000, 1000), 0.1, np.float32)
    np.testing.assert_allclose(K.channel_sums(x), 1e6 * np.float64(np.float32(0.1)), rtol=1e-6)
    half = normal((2, 3, 256, 256), 1, np.float16)
    y, _ = K.batch_norm(half, np.ones(3, np.float16), np.zeros(3, np.float16), 1e-5)
    assert y.dtype == np.float16 and np.isfinite(y).all()


def test_an_infinite_gradient_from_above_leaves_zero_where_nothing_passes():
    gy = np.full((1, 1, 2, 2), np.inf, np.float32)
    y = np.array([[[[0, 1], [2, 0]]]], np.float32)
    np.testing.assert_array_equal(K.relu_grad(gy, y), [[[[0, np.inf], [np.inf, 0]]]])
    window = ((2, 2), (2, 2), (0, 0), (1, 1), False)
    _, index = K.max_pool2d(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), *window)
    gx = K.max_pool2d_grad(gy, index, (1, 1, 4, 4), *window)
    assert np.isinf(gx[0, 0, 1::2, 1::2]).all()
    assert (gx[0, 0, ::2] == 0).all()


@pytest.mark.parametrize("mean", [0, 30, 3000])
def test_batch_norm_keeps_its_digits_where_the_mean_is_far_from_zero(mean):
    x, gy = normal((4, 3, 9, 9), 1) + mean, normal((4, 3, 9, 9), 2)
    gamma, beta = normal(3, 3), normal(3, 4)
    x = x.astype(np.float32)
    exact, saved = K.batch_norm.textbook(x.astype(np.float64), gamma, beta, 1e-5)
    y, saved = norm.batch_norm(x, gamma.astype(np.float32), beta.astype(np.float32), 1e-5)
    np.testing.assert_allclose(y, exact, atol=2e-6 * max(mean, 3))
    grads = norm.batch_norm_grad(gy.astype(np.float32), saved)
    for got, expected in zip(grads, K.batch_norm_grad.textbook(gy, saved)):
        np.testing.assert_allclose(got, expected, atol=1e-5 * max(mean, 3))


def test_the_workspace_of_a_convolution_is_bounded():
    """The columns of this image would take 59 MB; the band of a worker thread takes 2 MB."""
    import tracemalloc

    x, w = normal((1, 16, 320, 320), dtype=np.float32), normal((8, 16, 3, 3), dtype=np.float32)
    K.conv2d(x, w, (1, 1), (1, 1), (1, 1), 1)
    tracemalloc.start()
    y = K.conv2d(x, w, (1, 1), (1, 1), (1, 1), 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes * 1.1 + y.nbytes + workers.threads() * 2 * banded.BAND_BYTES


def test_blas_threads_are_put_back_after_parallel_work():
    def threads():  # not of a BLAS that was loaded later: SciPy's own, which Numba loads
        return [library.get() for library in blas.libraries()]

    before = threads()
    assert before
    seen = workers.run(lambda _: threads(), range(4))
    assert threads() == before
    if workers.threads() > 1:
        assert all(n == 1 for inside in seen for n in inside)


def test_blas_stays_limited_until_the_last_of_several_users_has_left():
    def threads():
        return max(library.get() for library in blas.libraries())

    limit, before = blas.SingleThread(), threads()
    first, second = (workers._Job(None, [1]) for _ in range(2))
    limit.begin(first)
    limit.begin(second)
    limit.end(first)
    assert threads() == 1
    limit.end(second)
    assert threads() == before


def test_a_job_that_was_interrupted_between_two_steps_does_not_hold_blas_for_ever():
    limit, before = blas.SingleThread(), blas.libraries()[0].get()
    limit.begin(workers._Job(None, [1]))  # this job is never ended, and no variable holds it
    last = workers._Job(None, [1])
    limit.begin(last)
    limit.end(last)
    assert blas.libraries()[0].get() == before


def test_helpers_see_the_callers_context():
    def divide(i):
        with pytest.raises(FloatingPointError):
            np.ones(1) / 0
        return mf.engine.core._grad_enabled.get()

    with np.errstate(divide="raise"), mf.no_grad():
        assert workers.run(divide, range(50)) == [False] * 50


@pytest.mark.parametrize("error", [IndexError, KeyboardInterrupt])
def test_an_error_in_one_item_reaches_the_caller_and_leaves_the_workers_fit(error):
    def task(i):
        if i == 3:
            raise error("item 3")
        return i

    with pytest.raises(error, match="item 3"):
        workers.run(task, range(8))
    assert workers.run(lambda i: i, range(8)) == list(range(8))


def test_several_python_threads_may_compute_at_once():
    from concurrent.futures import ThreadPoolExecutor

    (x, w, *options) = three_kernels(ALGORITHMS["winograd"])["conv2d"]
    expected = K.conv2d.implementations("numpy")["winograd"](x, w, *options)
    with ThreadPoolExecutor(4) as callers:
        results = callers.map(lambda _: K.conv2d.implementations("numpy")["winograd"](x, w, *options), range(40))
    assert all(y.tobytes() == expected.tobytes() for y in results)


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"MINIFCN_THREADS": "3"}, 3),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1000"}, 1),
        ({"MPI_LOCALNRANKS": "1", "MINIFCN_THREADS": "2"}, 2),
    ],
)
def test_threads_are_a_share_of_the_machine(monkeypatch, variables, threads):
    monkeypatch.delenv("MINIFCN_THREADS", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment.threads.__wrapped__() == threads


def test_the_size_of_a_band_can_be_set_and_a_wrong_one_is_one_sentence(monkeypatch):
    c = Convolution((1, 4, 64, 64), (4, 4, 5, 5), (1, 1), (2, 2), (1, 1), 1)
    few = len(banded.tasks(1, 64, 4 * 25 * 64 * 4))
    monkeypatch.setenv("MINIFCN_BAND_MB", "0.05")
    environment.band_bytes.cache_clear()
    assert len(banded.tasks(1, 64, 4 * 25 * 64 * 4)) > few
    for kernel, args in three_kernels(c).items():
        agree(K.KERNELS[kernel](*args), K.KERNELS[kernel].textbook(*args), np.float64)
    monkeypatch.setenv("MINIFCN_BAND_MB", "much")
    environment.band_bytes.cache_clear()
    with pytest.raises(mf.errors.UserError, match="MINIFCN_BAND_MB='much'"):
        environment.band_bytes(1)
    monkeypatch.undo()
    environment.band_bytes.cache_clear()


@pytest.mark.parametrize(("given", "size"), [("1.5", 3 << 19), (None, 7), ("0", None), ("inf", None), ("many", None)])
def test_the_workspace_of_a_gpu_can_be_set_and_a_wrong_one_is_one_sentence(monkeypatch, given, size):
    monkeypatch.delenv("MINIFCN_WORKSPACE_MB", raising=False)
    if given is not None:
        monkeypatch.setenv("MINIFCN_WORKSPACE_MB", given)
    read = environment.workspace_bytes.__wrapped__
    if size is not None:
        assert read(7) == size
    else:
        with pytest.raises(mf.errors.UserError, match=f"MINIFCN_WORKSPACE_MB='{given}'"):
            read(7)


def test_alone_nothing_is_handed_over():
    import threading

    with workers.alone():
        assert set(workers.run(lambda _: threading.get_ident(), range(5))) == {threading.get_ident()}


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
    options = dict(stride=2, dilation=2)
    assert ops.conv2d(np.zeros((0, 2, 9, 9)), w, **options).shape == (0, 3, 3, 3)
    assert ops.conv_transpose2d(np.zeros((0, 3, 4, 4)), w, **options).shape == (0, 2, 11, 11)
    assert ops.im2col(np.zeros((0, 2, 9, 9)), np.int64(3)).shape == (0, 18, 49)
    for name, c in ALGORITHMS.items():
        for kernel, (first, second, *rest) in three_kernels(Convolution((0, *c.x[1:]), c.w, *c.parameters)).items():
            assert K.KERNELS[kernel].implementations("numpy")[name](first, second, *rest).dtype == np.float64
    with pytest.warns(RuntimeWarning):  # NumPy warns of the mean of an empty array
        y, _ = K.batch_norm(np.zeros((0, 3, 4, 4), np.float32), *np.ones((2, 3), np.float32), 1e-5)
    assert y.shape == (0, 3, 4, 4)


@pytest.mark.parametrize("name", ["auto", *ALGORITHMS])
@pytest.mark.parametrize("dtypes", [("f4", "f8"), ("f8", "f4"), ("f2", "f4"), (">f4", "<f4")])
def test_operands_of_two_dtypes_are_computed_in_the_wider(name, dtypes):
    for kernel, (first, second, *rest) in three_kernels(ALGORITHMS["winograd" if name == "auto" else name]).items():
        first, second = first.astype(dtypes[0]), second.astype(dtypes[1])
        got = K.KERNELS[kernel].implementations("numpy")[name](first, second, *rest)
        expected = K.KERNELS[kernel].textbook(first.astype("f8"), second.astype("f8"), *rest)
        assert got.dtype == np.result_type(*dtypes) and got.dtype.isnative
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max(initial=0))


def test_winograd_sees_a_little_outside_its_cells_and_float64_does_not():
    """Winograd's rounding errors spread over a tile of 4×4, so receptive fields are measured in float64."""
    seen = {}
    for dtype in (np.float32, np.float64):
        w = normal((64, 64, 3, 3), 1, dtype)
        gy = np.zeros((1, 64, 12, 12), dtype)
        gy[0, 0, 5, 5] = 1
        gx = K.conv2d_grad_input(gy, w, gy.shape, (1, 1), (1, 1), (1, 1), 1)[0, 0]
        assert np.abs(gx).max() == np.abs(gx[4:7, 4:7]).max()
        gx[4:7, 4:7] = 0
        seen[dtype] = np.abs(gx).max()
    assert seen[np.float64] == 0 and seen[np.float32] < 1e-5


def test_padding_never_wins_a_maximum():
    y, _ = K.max_pool2d(np.full((1, 1, 3, 3), -5.0), (3, 3), (2, 2), (1, 1), (1, 1), False)
    assert (y == -5).all()


def test_relu_of_a_number_goes_back():
    x = mf.Tensor(np.array(1.5), requires_grad=True)
    mf.ops.relu(x).backward()
    assert x.grad.shape == () and x.grad == 1


def test_pixels_outside_the_field_have_no_influence_whichever_algorithm_is_the_default():
    net = mf.nn.Sequential(*[mf.nn.Conv2d(c, 64, 3, padding=1) for c in (3, 64)])  # 64 channels: Winograd's algorithm
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    influence = mf.geometry.effective_receptive_field(net, image, (30, 33))
    field = influence[28:33, 31:36].copy()
    influence[28:33, 31:36] = 0
    assert (field > 0).all() and (influence == 0).all()
