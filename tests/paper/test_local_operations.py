"""Eq. (1): every layer of an FCN is a local operation f_ks, and so is every composition of them (§3)."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper.nets import field_of, scene, valid_net
from strategies import distinct, normal

import minifcn as mf
from minifcn import nn, ops
from minifcn.kernels.shapes import stand_in

pytestmark = pytest.mark.paper

WEIGHT, BIAS = normal((4, 2, 3, 3), 1), normal(4, 2)


def local_op(x, k, s, f):
    """``y_ij = f({x_{si+δi, sj+δj}}, 0 ≤ δi, δj < k)`` for x (C, H, W), in loops; f gets the window (C, k, k)."""
    rows, columns = ((n - k) // s + 1 for n in x.shape[1:])
    y = [[f(x[:, s * i : s * i + k, s * j : s * j + k]) for j in range(columns)] for i in range(rows)]
    return np.array(y).transpose(2, 0, 1)


F = {  # k, f, and the operation
    "convolution": (3, lambda v: WEIGHT.reshape(4, -1) @ v.ravel() + BIAS, partial(ops.conv2d, w=WEIGHT, b=BIAS)),
    "average pooling": (3, lambda v: v.mean(axis=(1, 2)), partial(ops.avg_pool2d, kernel_size=3)),
    "max pooling": (3, lambda v: v.max(axis=(1, 2)), partial(ops.max_pool2d, kernel_size=3)),
    "activation": (1, lambda v: np.maximum(v[:, 0, 0], 0), lambda x, stride: ops.relu(x)),
}


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kind", F)
def test_layers_are_the_generic_local_operation_with_their_own_f(kind, stride):
    k, f, operation = F[kind]
    stride = 1 if kind == "activation" else stride
    x = normal((2, 8, 11), 3)
    np.testing.assert_allclose(operation(x[None], stride=stride).numpy()[0], local_op(x, k, stride, f), rtol=1e-12)


@given(k=st.integers(1, 3), s=st.integers(1, 3), inner_k=st.integers(1, 3), inner_s=st.integers(1, 3))
def test_composing_two_local_operations_is_one(k, s, inner_k, inner_s):
    """``f_ks ∘ g_k's' = (f∘g)_{k' + (k−1)s', s·s'}``: for values, and for the derived receptive field."""
    x = distinct((1, 12, 13))

    def f(v):
        return v.max(axis=(1, 2))

    def g(v):
        return (v**3).sum(axis=(1, 2))

    folded_k, folded_s = inner_k + (k - 1) * inner_s, s * inner_s
    composed = local_op(local_op(x, inner_k, inner_s, g), k, s, f)
    at_once = local_op(x, folded_k, folded_s, lambda window: local_op(window, inner_k, inner_s, g).max(axis=(1, 2)))
    np.testing.assert_allclose(composed, at_once)
    net = nn.Sequential(nn.AvgPool2d(inner_k, inner_s), nn.MaxPool2d(k, s))
    field = field_of(net, x[None])
    assert (field.size, field.jump) == ((folded_k, folded_k), (folded_s, folded_s))


def test_shifting_the_image_by_the_stride_shifts_the_output_by_one():
    net, x = valid_net(), scene(22, 25)
    f = int(field_of(net, x).jump[0])
    y = net(x).numpy()
    np.testing.assert_allclose(net(x[:, :, f:]).numpy(), y[:, :, 1:], rtol=1e-12)
    np.testing.assert_allclose(net(x[..., 3 * f :]).numpy(), y[..., 3:], rtol=1e-12)
    assert (
        np.abs(net(x[:, :, 1:]).numpy()[:, :, :-1] - y[:, :, 1 : y.shape[2] - 1]).max() > 0.1
    )  # a shift by less than a stride


def test_padding_breaks_equivariance_at_the_border():
    net, x = valid_net(padding=1), scene(22, 25)
    y, shifted = net(x).numpy(), net(x[:, :, 2:]).numpy()
    assert np.abs(shifted[:, :, 0] - y[:, :, 1]).max() > 1e-3
    np.testing.assert_allclose(shifted[:, :, 3:-3], y[:, :, 4:-3], rtol=1e-12)


def sizes(net_rule, n):
    for k, s, p in net_rule:
        n = (n + 2 * p - k) // s + 1
    return n


def test_a_deep_filter_takes_any_size_and_contains_what_it_gives_for_a_smaller_one():
    net = valid_net()
    (r, _), (f, _) = field_of(net, scene()).size, field_of(net, scene()).jump
    large = scene(r + 3 * int(f) + 4, r + 4)
    whole = net(large).numpy()
    for h in range(r, r + 3 * int(f) + 1):
        y = net(large[:, :, :h]).numpy()
        assert y.shape[2] == sizes([(3, 1, 0), (2, 2, 0), (3, 1, 0), (2, 1, 0)], h) == (h - r) // f + 1
        np.testing.assert_allclose(y, whole[:, :, : y.shape[2]], rtol=1e-12)
    with pytest.raises(ValueError, match="does not fit"):
        net(large[:, :, : r - 1])


def test_ceil_pooling_breaks_containment_where_a_window_is_clipped():
    pool, large = nn.MaxPool2d(2, ceil_mode=True), np.arange(16.0).reshape(1, 1, 4, 4)
    whole, small = pool(large).numpy(), pool(large[:, :, :3]).numpy()
    assert small.shape == (1, 1, 2, 2)
    assert (small[:, :, 0] == whole[:, :, 0]).all()
    assert (small[:, :, 1] < whole[:, :, 1]).all()


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_a_larger_input_gives_one_more_output_every_stride(ceil_mode):
    """With the stride 32 of VGG16, the coarse map has one more cell for 32 more pixels, for every size (§4.1)."""
    stages = [nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2, ceil_mode=ceil_mode)) for _ in range(5)]
    net = nn.Sequential(*stages, nn.Conv2d(1, 1, 7))
    with mf.no_grad(), mf.shapes_only():
        n = {h: net(stand_in(np.float32(0), (1, 1, h, 224))).shape[2] for h in range(224, 224 + 97)}
    assert field_of(net, np.zeros((1, 1, 224, 224), np.float32)).jump == (32, 32)
    assert n[224] == 1
    assert all(n[h + 32] == n[h] + 1 for h in range(224, 224 + 65))
    assert sum(n[h + 1] != n[h] for h in range(224, 224 + 32)) == 1
