"""Every operation's gradient, in float64 at 1e-6 relative; every linear operation's adjoint, at 1e-12."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operations import OPERATIONS
from strategies import convolutions, distinct, normal, poolings

import minifcn as mf
from minifcn import ops


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradient_of(name):
    fn, arrays, *_ = OPERATIONS[name]
    assert mf.gradcheck(fn, *arrays, draws=3)


@pytest.mark.parametrize("name", OPERATIONS)
def test_float32_stays_float32_forward_and_backward_in(name):
    fn, arrays, *_ = OPERATIONS[name]
    tensors = [mf.Tensor(a.astype(np.float32), requires_grad=True) for a in arrays]
    y = fn(*tensors)
    assert y.dtype == np.float32
    node = y.creator
    gxs = node.backward(np.ones(y.shape, np.float32))
    for gx in gxs if isinstance(gxs, tuple) else (gxs,):
        assert gx is None or gx.dtype == np.float32


@pytest.mark.parametrize("name", ["mul", "batch norm", "cross entropy, valid", "sigmoid", "im2col"])
def test_gradient_element_by_element_of(name):
    fn, arrays, *_ = OPERATIONS[name]
    assert mf.gradcheck(fn, *arrays, elementwise=True)


@given(convolutions(), st.booleans())
def test_gradient_of_convolution_over_ugly_shapes(c, with_bias):
    stride, padding, dilation, groups = c.parameters
    arrays = [normal(c.x, 1), normal(c.w, 2)] + ([normal(c.w[0], 3)] if with_bias else [])
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    assert mf.gradcheck(lambda *t: ops.conv2d(*t, **options), *arrays, draws=2)


@given(convolutions(), st.data())
def test_gradient_of_transposed_convolution_over_ugly_shapes(c, data):
    """The convolution c, backwards: from its output to an input of one of the sizes it could have had."""
    stride, padding, dilation, groups = c.parameters
    extra = [data.draw(st.integers(0, s - 1)) for s in stride]
    least = [
        s * (n - 1) + d * (k - 1) + 1 - 2 * p for s, n, d, k, p in zip(stride, c.y[2:], dilation, c.w[2:], padding)
    ]
    if min(least) < 1:
        return
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, output_padding=tuple(extra))
    b = normal(c.x[1], 3)
    assert mf.gradcheck(lambda *t: ops.conv_transpose2d(*t, **options), normal(c.y, 1), normal(c.w, 2), b, draws=2)


@given(poolings())
def test_gradient_of_pooling_over_ugly_shapes(p):
    options = dict(stride=p.stride, padding=p.padding, dilation=p.dilation, ceil_mode=p.ceil_mode)
    y, _ = mf.kernels.max_pool2d(distinct(p.x), p.kernel, p.stride, p.padding, p.dilation, p.ceil_mode)
    if np.isfinite(y).all():
        assert mf.gradcheck(lambda x: ops.max_pool2d(x, p.kernel, **options), distinct(p.x), draws=2)
    assert mf.gradcheck(lambda x: ops.avg_pool2d(x, p.kernel, **options), normal(p.x), draws=2)


@given(convolutions())
def test_transposed_convolution_is_the_adjoint_of_convolution(c):
    """⟨conv(a), b⟩ = ⟨a, deconv(b)⟩ with the same weight: §3.3's "backwards convolution" as an identity."""
    w = normal(c.w, 2)
    stride, padding, dilation, groups = c.parameters
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, c.w[2:])]
    left = [(n + 2 * p - e) % s for n, p, e, s in zip(c.x[2:], padding, extent, stride)]
    where = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    assert mf.adjoint_check(
        lambda x: ops.conv2d(x, w, **where),
        lambda y: ops.conv_transpose2d(y, w, output_padding=tuple(left), **where),
        c.x,
        c.y,
    )


@given(convolutions())
def test_col2im_is_the_adjoint_of_im2col(c):
    window = (c.w[2:], c.stride, c.padding, c.dilation)
    assert mf.adjoint_check(lambda x: ops.im2col(x, *window), lambda g: ops.col2im(g, c.x[2:], *window), c.x)


def test_crop_and_interpolation_are_the_adjoints_of_their_gradients():
    assert mf.adjoint_check(
        lambda x: ops.crop(x, offset=(1, 2), size=(3, 3)), lambda y: ops.pad(y, (1, 1, 2, 1)), (2, 3, 5, 6)
    )

    def back(y):
        x = mf.Tensor(np.zeros((2, 3, 5, 6)), requires_grad=True)
        ops.interpolate(x, (9, 4)).backward(y)
        return x.grad

    assert mf.adjoint_check(lambda x: ops.interpolate(x, (9, 4)), back, (2, 3, 5, 6))


def test_gradient_of_a_whole_network_with_skips():
    """fcn4s over a narrow trunk, in float64: what passes through pooling, crops, sums and batch norm."""
    mf.manual_seed(0)
    model = mf.models.fcn4s_mini(num_classes=3, width=0.1, dropout=0.0, learn_upsampling=True).to(dtype="float64")
    rng = np.random.default_rng(0)
    image = rng.standard_normal((2, 3, 13, 10))
    labels = rng.integers(0, 3, (2, 13, 10))
    parameters = dict(model.named_parameters())
    for name, p in parameters.items():
        p.data = rng.standard_normal(p.shape) * (0.3 if "score" in name else 1.0)
    names = ["conv1_1.weight", "conv3_2_bn.weight", "score_fr.bias", "score_pool4.weight", "upscore2.weight"]

    def loss(*tensors):
        for name, t in zip(names, tensors):
            owner, attribute = name.split(".")
            setattr(getattr(model, owner), attribute, t)
        return ops.cross_entropy(model(image), labels, reduction="valid")

    assert mf.gradcheck(loss, *(parameters[n].data for n in names), draws=2, rtol=1e-5)


@pytest.mark.parametrize(
    "x, w", [((3, 0), (4, 0)), ((0, 5), (4, 5)), ((5,), (4, 5)), ((2, 0, 5), (4, 5)), ((3, 5), (0, 5))]
)
def test_linear_takes_arrays_of_any_number_of_axes_and_empty_ones(x, w):
    x, w, b = (mf.Tensor(np.ones(shape), requires_grad=True) for shape in (x, w, w[:1]))
    y = ops.linear(x, w, b)
    np.testing.assert_array_equal(y.numpy(), np.full((*x.shape[:-1], len(w)), 1.0 + w.shape[1]))
    y.backward(np.ones(y.shape))
    rows = int(np.prod(x.shape[:-1]))
    for tensor, slope in ((x, len(w)), (w, rows), (b, rows)):
        np.testing.assert_array_equal(tensor.grad, np.full(tensor.shape, float(slope)))


def test_linear_says_which_shapes_do_not_fit():
    with pytest.raises(
        ValueError, match=r"x \(…, C\), w \(O, C\) and b \(O,\), not arrays of shapes \[\(3, 4\), \(4, 5\)\]"
    ):
        ops.linear(np.ones((3, 4)), np.ones((4, 5)))
    with pytest.raises(ValueError, match="not arrays of shapes"):
        ops.linear(np.ones((3, 5)), np.ones((4, 5)), np.ones(5))
