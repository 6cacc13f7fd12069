"""Every operation's gradient, in float64 at 1e-6 relative; every linear operation's adjoint, at 1e-12."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import convolutions, distinct, normal, poolings

import minifcn as mf
from minifcn import ops
from minifcn.arrays import backend

X = normal((2, 4, 5, 6), 1)
LABELS = np.random.default_rng(0).integers(0, 4, (2, 5, 6))
LABELS[0, 0] = 255


def beside(t, constant):
    """A constant array where tensor t is; fractions in t's precision."""
    return backend.of(t.data).asarray(constant, dtype=t.dtype if constant.dtype.kind == "f" else None)


def seeded_dropout(x):
    mf.manual_seed(3)
    return ops.dropout(x, 0.4)


OPERATIONS = {
    "add": (ops.add, X, normal((4, 1, 6), 2)),
    "sub": (ops.sub, X, normal((5, 6), 2)),
    "mul": (ops.mul, X, normal((4, 1, 1), 2)),
    "mul of equal shapes": (ops.mul, X, normal(X.shape, 2)),
    "div": (ops.div, X, distinct((2, 1, 5, 6))),
    "neg": (ops.neg, X),
    "pow": (ops.pow, np.abs(X) + 0.5, normal((5, 6), 2)),
    "square": (lambda x: x**2, X),
    "scalar on the left": (lambda x: 2 - 3 / (x + 9), X),
    "exp": (ops.exp, X),
    "log": (ops.log, np.abs(X) + 0.5),
    "sum": (ops.sum, X),
    "sum over axes": (lambda x: x.sum(axis=(0, -1)), X),
    "mean": (lambda x: x.mean(axis=1, keepdims=True), X),
    "min": (lambda x: x.min(axis=(2, 3)), distinct(X.shape)),
    "abs": (abs, distinct(X.shape) - 0.5),
    "max": (lambda x: x.max(axis=(2, 3)), distinct(X.shape)),
    "matmul": (ops.matmul, normal((3, 5), 1), normal((5, 4), 2)),
    "matmul, batched and broadcast": (ops.matmul, normal((2, 3, 5), 1), normal((5, 4), 2)),
    "reshape": (lambda x: ops.reshape(x, 4, -1), X),
    "transpose": (lambda x: ops.transpose(x, 2, 0, 3, 1), X),
    "slice": (lambda x: x[:, 1:3, ::2, 1], X),
    "index array with repeats": (lambda x: x[:, np.array([0, 2, 0])], X),
    "crop": (lambda x: ops.crop(x, offset=(1, 2), size=(3, 3)), X),
    "pad": (lambda x: ops.pad(x, (1, 0, 2, 3)), X),
    "concat": (lambda a, b: ops.concat([a, b]), X, normal((2, 3, 5, 6), 2)),
    "relu": (ops.relu, distinct(X.shape)),
    "leaky relu": (lambda x: ops.leaky_relu(x, 0.2), distinct(X.shape)),
    "prelu": (ops.prelu, distinct(X.shape), normal((4, 1, 1), 2)),
    "sigmoid": (ops.sigmoid, 5 * X),
    "softmax": (ops.softmax, X),
    "log_softmax": (lambda x: ops.log_softmax(x, axis=3), X),
    "dropout": (seeded_dropout, X),
    "interpolate up": (lambda x: ops.interpolate(x, (11, 12)), X),
    "interpolate down": (lambda x: ops.interpolate(x, (3, 4)), X),
    "local response norm": (lambda x: ops.local_response_norm(x, 3, 0.5), X),
    "local response norm, even": (lambda x: ops.local_response_norm(x, 4, 0.5), X),
    "batch norm": (ops.batch_norm, X, normal(4, 2), normal(4, 3)),
    "batch norm, frozen": (
        lambda x, g, b: ops.batch_norm(x, g, b, beside(x, np.arange(4.0)), beside(x, np.arange(4.0) + 1)),
        X,
        normal(4, 2),
        normal(4, 3),
    ),
    "batch norm of all ranks": (ops.norm.SyncBatchNorm2d.apply, X, normal(4, 2), normal(4, 3)),
    "conv2d": (lambda *t: ops.conv2d(*t, padding=1, groups=2), X, normal((4, 2, 3, 3), 2), normal(4, 3)),
    "conv2d, strided and dilated": (lambda *t: ops.conv2d(*t, stride=2, dilation=2), X, normal((3, 4, 2, 3), 2)),
    "conv_transpose2d": (lambda *t: ops.conv_transpose2d(*t, stride=2), X, normal((4, 2, 4, 4), 2), normal(2, 3)),
    "max_pool2d": (lambda x: ops.max_pool2d(x, 3, 2, 1, ceil_mode=True), distinct(X.shape)),
    "avg_pool2d": (lambda x: ops.avg_pool2d(x, 3, 2, 1, ceil_mode=True), X),
    "im2col": (lambda x: ops.im2col(x, (3, 2), 2, 1), X),
    "col2im": (lambda c: ops.col2im(c, (5, 6), (3, 2), 2, 1), normal((2, 12, 12), 1)),
    "cross entropy, sum": (lambda s: ops.cross_entropy(s, beside(s, LABELS)), X),
    "cross entropy, valid": (
        lambda s: ops.cross_entropy(s, beside(s, LABELS), reduction="valid", mask=beside(s, LABELS > 0)),
        X,
    ),
    "cross entropy, batch": (
        lambda s: ops.cross_entropy(s, beside(s, LABELS), reduction="batch", weight=[1, 2, 3, 0]),
        X,
    ),
    "cross entropy, map": (lambda s: ops.cross_entropy(s, beside(s, LABELS), reduction="none"), X),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradient_of(name):
    fn, *arrays = OPERATIONS[name]
    assert mf.gradcheck(fn, *arrays, draws=3)


@pytest.mark.parametrize("name", OPERATIONS)
def test_float32_stays_float32_forward_and_backward_in(name):
    fn, *arrays = OPERATIONS[name]
    tensors = [mf.Tensor(a.astype(np.float32), requires_grad=True) for a in arrays]
    y = fn(*tensors)
    assert y.dtype == np.float32
    node = y.creator
    gxs = node.backward(np.ones(y.shape, np.float32))
    for gx in gxs if isinstance(gxs, tuple) else (gxs,):
        assert gx is None or gx.dtype == np.float32


@pytest.mark.parametrize("name", ["mul", "batch norm", "cross entropy, valid", "sigmoid", "im2col"])
def test_gradient_element_by_element_of(name):
    fn, *arrays = OPERATIONS[name]
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
