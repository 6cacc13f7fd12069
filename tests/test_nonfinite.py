"""Special numbers and shapes: infinity, NaN, overflow of half precision, empty batches, vectors, odd geometries.

The expected values are those of the definition, or of PyTorch.
"""

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn import kernels as K
from minifcn import nn, ops

INF, NAN = np.inf, np.nan


def gradient(fn, x, gy=None):
    t = mf.Tensor(np.asarray(x, dtype=None if hasattr(x, "dtype") else np.float64), requires_grad=True)
    y = fn(t)
    y.backward(np.ones(y.shape, y.dtype) if gy is None else gy)
    return t.grad


# --- an infinite or NaN cell must not change cells that do not depend on it ---


@pytest.mark.parametrize("value", [INF, -INF, NAN])
def test_interpolation_spreads_a_cell_over_those_that_look_at_it(value):
    x = normal((1, 1, 8, 8))
    expected = ops.interpolate(x, (16, 16)).numpy().copy()
    x[0, 0, 3, 5] = value
    y = ops.interpolate(x, (16, 16)).numpy()
    touched = np.zeros((16, 16), bool)
    touched[5:9, 9:13] = True  # cells whose centre is less than one cell away from (3, 5), as in PyTorch
    assert (np.isnan(y[0, 0, touched]) if np.isnan(value) else y[0, 0, touched] == value).all()
    np.testing.assert_allclose(y[0, 0, ~touched], expected[0, 0, ~touched], rtol=1e-12)

    gy = normal((1, 1, 16, 16), 2)
    gy[0, 0, 7, 2] = value  # its centre is (3.25, 0.75), so it depends on rows 3, 4 and columns 0, 1
    got = ~np.isfinite(gradient(lambda t: ops.interpolate(t, (16, 16)), normal((1, 1, 8, 8)), gy)[0, 0])
    assert np.argwhere(got).tolist() == [[3, 0], [3, 1], [4, 0], [4, 1]]


def test_infinities_of_both_signs_meet_as_nan_and_the_same_size_changes_nothing():
    x = np.array([[[[INF, -INF, 1.0]]]])
    y = ops.interpolate(x, (1, 6)).numpy().ravel()
    np.testing.assert_array_equal(y, [INF, NAN, NAN, -INF, -INF, 1.0])
    np.testing.assert_array_equal(ops.interpolate(x, (1, 3)).numpy(), x)


def test_slopes_and_masks_choose_and_do_not_multiply_by_zero():
    x = np.array([[[[INF, 2.0, -3.0, -INF]]]])
    a = mf.Tensor(np.full((1, 1, 1), 0.5), requires_grad=True)
    ops.prelu(x[..., :3], a).backward(np.ones((1, 1, 1, 3)))
    assert a.grad.item() == -3  # only −3 is not positive
    np.testing.assert_array_equal(ops.leaky_relu(x[..., :3], 0.0).numpy(), [[[[INF, 2, 0]]]])
    np.testing.assert_array_equal(gradient(ops.relu, [1.0, -1.0], np.array([INF, INF])), [INF, 0])
    np.testing.assert_array_equal(
        gradient(lambda t: ops.leaky_relu(t, 0.5), [1.0, -1.0], np.array([1.0, INF])), [1, INF]
    )
    np.testing.assert_array_equal(gradient(lambda t: t.max(), [1.0, 3.0, 3.0], np.array(INF)), [0, INF, INF])


@pytest.mark.parametrize("kernel", ["auto", "textbook", "reference"])
def test_void_pixels_have_no_gradient_whatever_arrives(kernel):
    scores = normal((1, 3, 1, 3))
    scores[0, 1, 0, 2] = INF
    labels = np.array([[[0, 2, 255]]])
    with mf.override(**({} if kernel == "auto" else dict(softmax_loss=kernel))), np.errstate(invalid="ignore"):
        got = gradient(lambda s: ops.cross_entropy(s, labels, reduction="none"), scores, np.array([[[1.0, 2.0, INF]]]))
        loss = ops.cross_entropy(scores, labels, weight=[1.0, 1.0, 0.0])
    assert np.isfinite(got).all() and (got[..., 2] == 0).all() and np.isfinite(loss.item())


def test_the_gradient_of_a_maximum_that_is_nan_goes_to_the_nan():
    np.testing.assert_array_equal(gradient(lambda t: t.max(axis=1), [[1.0, NAN], [4.0, 3.0]]), [[0, 1], [1, 0]])


POOLS = ["taps", "textbook", "reference"]


@pytest.mark.parametrize("kernel", POOLS)
def test_max_pooling_passes_a_nan_on_and_its_gradient_to_the_last(kernel):
    """PyTorch's CPU and CUDA kernels do the same."""
    x = normal((2, 3, 6, 7))
    x[0, 1, 2, 3] = x[0, 1, 3, 2] = x[1, 2, 0, 0] = NAN
    x[1, 0] = -INF
    pool = K.KERNELS["max_pool2d"].implementations("numpy")[kernel]
    y, index = pool(x, (3, 3), (2, 2), (1, 1), (1, 1), False)
    assert np.isnan(y).sum() == 4 and np.isnan(y[0, 1]).sum() == 3 and np.isnan(y[1, 2, 0, 0])
    # window (1, 1) begins at (1, 1): (2, 3) is its tap 5, (3, 2) its tap 7
    assert index[0, 1, 1, 1] == 7 and index[1, 2, 0, 0] == 4
    assert (
        index[1, 0, 0, 0] == 4 and index[1, 0, 1, 1] == 0
    )  # all are −∞: the index of the first cell of the image in the window
    want, at = K.KERNELS["max_pool2d"].implementations("numpy")["reference"](x, (3, 3), (2, 2), (1, 1), (1, 1), False)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(index, at)


@pytest.mark.parametrize("kernel", ["taps", "textbook"])
def test_an_infinite_gradient_reaches_the_maximum_alone(kernel):
    with mf.override(max_pool2d=kernel):
        got = gradient(lambda t: ops.max_pool2d(t, 2), [[[[1.0, 2.0], [3.0, 4.0]]]], np.full((1, 1, 1, 1), INF))
    np.testing.assert_array_equal(got, [[[[0, 0], [0, INF]]]])


# --- powers and logarithms ---


def test_gradients_of_powers_at_their_edges():
    """PyTorch's values: da is 0 if the exponent is 0, and db is NaN if the base is negative."""
    a = mf.Tensor(np.array([0.0, INF, 0.0, 0.0, -2.0]), requires_grad=True)
    b = mf.Tensor(np.array([0.0, 0.0, 1.0, 2.0, 3.0]), requires_grad=True)
    with np.errstate(invalid="ignore"):
        ops.pow(a, b).backward(np.ones(5))
    np.testing.assert_array_equal(a.grad, [0, 0, 1, 0, 12])
    np.testing.assert_array_equal(b.grad, [0, INF, 0, 0, NAN])


# --- half precision: sums and squares in float32, rounded at the end ---


def half(*shape, value=None):
    x = np.random.default_rng(0).standard_normal(shape) if value is None else np.full(shape, value)
    return x.astype(np.float16)


def test_a_sum_of_float16_is_right_where_its_result_is_a_float16():
    x = np.concatenate([half(90_000, value=1), half(90_000, value=-1), half(3, value=1)])
    assert x.sum(dtype=np.float64) == 3
    assert ops.sum(x).item() == 3 and ops.mean(half(90_000, value=1)).item() == 1
    assert ops.sum(half(90_000, value=0.5)).item() == np.float16(45_000)
    both = ops.sum(half(300, 300, value=0.5), axis=(0, 1)).numpy()
    assert both.dtype == np.float16 and both == np.float16(45_000)
    assert gradient(
        lambda t: t + np.zeros((90_000, 1), np.float16), half(1, value=1), half(90_000, 1, value=0.5)
    ) == np.float16(45_000)


@pytest.mark.parametrize("kernel", ["pieces", "textbook", "reference"])
def test_a_bias_gradient_over_ninety_thousand_pixels_of_float16(kernel):
    gy = np.concatenate([half(1, 2, 300, 150, value=1), half(1, 2, 300, 150, value=-0.5)], axis=3)
    got = K.KERNELS["channel_sums"].implementations("numpy")[kernel](gy)
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got, np.float16([22_500, 22_500]))


@pytest.mark.parametrize("size", [1, 300])
def test_batch_norm_of_float16_has_the_digits_of_float16(size):
    x, gamma, beta = size * half(2, 3, 8, 8), half(3, value=1), half(3, value=0)
    wide = [a.astype(np.float64) for a in (x, gamma, beta)]
    tensors = [mf.Tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    exact = [mf.Tensor(a, requires_grad=True) for a in wide]
    y, z = ops.batch_norm(*tensors), ops.batch_norm(*exact)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.numpy(), z.numpy(), atol=4e-3)
    gy = half(*x.shape)
    y.backward(gy), z.backward(gy.astype(np.float64))
    for p, q in zip(tensors, exact):
        assert p.grad.dtype == np.float16
        np.testing.assert_allclose(p.grad, q.grad, rtol=4e-3, atol=4e-3 / size)


OPERATIONS = {
    "lrn": (lambda x: ops.local_response_norm(x, 3, 0.5), 300 * half(1, 4, 3, 3)),
    "avg pool": (lambda x: ops.avg_pool2d(x, 3), half(1, 1, 6, 6, value=30_000)),
    "softmax": (lambda x: ops.softmax(x, axis=0), half(70_000, value=1)),
    "log softmax": (lambda x: ops.log_softmax(x, axis=0), half(70_000, value=1)),
    "interpolate": (lambda x: ops.interpolate(x, (5, 7)), half(1, 1, 3, 3)),
    "conv": (lambda x: ops.conv2d(x, half(1, 700, 3, 3, value=1)), half(1, 700, 4, 4, value=8)),
    "conv transpose": (lambda x: ops.conv_transpose2d(x, half(1, 1, 3, 3, value=1)), half(1, 1, 4, 4, value=7_000)),
    "matmul": (lambda x: ops.matmul(x, half(5_000, 2, value=1)), half(2, 5_000, value=8)),
    "bilinear": (lambda x: ops.cross_entropy(x, np.zeros((1, 200, 200), int)), half(1, 2, 200, 200)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_float16_is_computed_in_float32_and_rounded_at_the_end(name):
    fn, x = OPERATIONS[name]
    got = fn(x).numpy().astype(np.float64)
    with np.errstate(over="ignore"):
        expected = fn(x.astype(np.float64)).numpy().astype(fn(x).dtype).astype(np.float64)
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-3)


# --- empty batches, and single values ---


def test_an_empty_batch_and_a_single_value_leave_the_running_statistics_finite():
    layer = nn.BatchNorm2d(2)
    layer.running_mean.data[...], layer.running_var.data[...] = [1, 2], [3, 4]
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        assert layer(mf.Tensor(np.zeros((0, 2, 4, 4), np.float32))).shape == (0, 2, 4, 4)
    assert layer.running_mean.numpy().tolist() == [1, 2] and layer.running_var.numpy().tolist() == [3, 4]
    layer(mf.Tensor(np.array([5.0, 6.0], np.float32).reshape(1, 2, 1, 1)))
    np.testing.assert_allclose(layer.running_mean.numpy(), [1.4, 2.4], rtol=1e-6)  # 0.9 · old + 0.1 · new
    assert layer.running_var.numpy().tolist() == [3, 4]  # one value has no variance (n − 1 = 0)
    layer(mf.Tensor(np.array([1.0, 1.0, 3.0, 3.0], np.float32).reshape(2, 2, 1, 1)))
    np.testing.assert_allclose(layer.running_var.numpy(), [0.9 * 3 + 0.1 * 2, 0.9 * 4 + 0.1 * 2], rtol=1e-6)


@pytest.mark.parametrize("kernel", POOLS)
def test_pooling_of_nothing(kernel):
    with mf.override(max_pool2d=kernel):
        for shape in ((0, 2, 6, 7), (2, 0, 6, 7)):
            x = mf.Tensor(np.zeros(shape), requires_grad=True)
            y = ops.max_pool2d(x, 2)
            y.backward(np.zeros(y.shape))
            assert y.shape == (*shape[:2], 3, 3) and x.grad.shape == shape


def test_softmax_and_sums_of_nothing_and_of_a_number():
    assert ops.softmax(np.zeros((0,)), axis=0).shape == (0,) and ops.log_softmax(np.zeros((2, 0))).shape == (2, 0)
    for fn in (ops.sum, ops.mean, ops.max):
        assert gradient(fn, np.array(2.0)) == 1


# --- vectors ---


@pytest.mark.parametrize(
    "shapes",
    [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((5, 2, 3), (3, 4)),
     ((2, 1, 2, 3), (5, 3, 4)), ((3,), (2, 1, 3, 4))],
    ids=str,
)  # fmt: skip
def test_matrix_products_of_vectors_are_numpys_and_have_their_gradients(shapes):
    a, b = normal(shapes[0], 1), normal(shapes[1], 2)
    np.testing.assert_array_equal(ops.matmul(a, b).numpy(), np.matmul(a, b))
    assert mf.gradcheck(ops.matmul, a, b, draws=2)


# --- geometries ---


@pytest.mark.parametrize(
    ("shape", "window"),
    [((1, 1), dict(kernel_size=2, padding=1, dilation=2)), ((3, 9), dict(kernel_size=2, padding=1, dilation=(4, 1))),
     ((4, 1), dict(kernel_size=(1, 2), stride=3, padding=(0, 1), dilation=(1, 2), ceil_mode=True))],
    ids=str,
)  # fmt: skip
def test_a_window_that_misses_the_image_is_refused(shape, window):
    x = np.ones((1, 1, *shape))
    with pytest.raises(mf.GeometryError, match="has none of its cells on the"):
        ops.max_pool2d(x, **window)
    with pytest.raises(mf.GeometryError, match="has none of its cells on the"):
        ops.avg_pool2d(x, **window, count_include_pad=False)
    assert np.isfinite(ops.avg_pool2d(x, **window).numpy()).all()  # the average includes the padding
    with pytest.raises(mf.GeometryError, match="has none"), mf.shapes_only():
        ops.max_pool2d(x, **window)


def test_padding_of_more_than_half_a_window_is_refused():
    for pool in (ops.max_pool2d, ops.avg_pool2d):
        with pytest.raises(mf.GeometryError, match="more than half"):
            pool(np.ones((1, 1, 5, 5)), 2, padding=2)


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2)])
def test_output_padding_below_the_dilation(stride, padding):
    """y[s·i − p + d·u] += w[u] x[i] for all i and u; y has s(n − 1) + d(k − 1) + 1 − 2p + o cells."""
    dilation, extra = (3, 4), (2, 3)
    x, w = normal((1, 2, 3, 4), 1), normal((2, 1, 3, 2), 2)
    size = [s * (n - 1) + d * (k - 1) + 1 - 2 * p + o
            for n, k, s, d, p, o in zip((3, 4), (3, 2), stride, dilation, padding, extra)]  # fmt: skip
    expected = np.zeros((1, 1, *size))
    for c, i, j, u, v in np.ndindex(2, 3, 4, 3, 2):
        p, q = (s * a - m + d * b for s, a, m, d, b in zip(stride, (i, j), padding, dilation, (u, v)))
        if 0 <= p < size[0] and 0 <= q < size[1]:
            expected[0, 0, p, q] += w[c, 0, u, v] * x[0, c, i, j]
    options = dict(stride=stride, padding=padding, dilation=dilation, output_padding=extra)
    for kernel in ("auto", "textbook", "reference", "banded", "phases"):
        with mf.override(conv2d_grad_input=kernel, conv2d=kernel):
            np.testing.assert_allclose(ops.conv_transpose2d(x, w, **options).numpy(), expected, atol=1e-12)
            assert mf.gradcheck(lambda *t: ops.conv_transpose2d(*t, **options), x, w, normal(1, 3), draws=1)
    with mf.shapes_only():
        assert ops.conv_transpose2d(x, w, **options).shape == expected.shape
    with pytest.raises(mf.GeometryError, match="smaller than the stride"):
        ops.conv_transpose2d(x, w, **options | dict(output_padding=(3, 0)))
