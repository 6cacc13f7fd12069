"""Where tensors lie: sizes, receptive fields and crops derived from live operations, against the published numbers."""

from contextlib import ExitStack
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minifcn as mf
from minifcn import ops
from minifcn.coords import AxisMap
from minifcn.core import _grad_enabled, _setting
from minifcn.geometry import crop_offset, minimal_padding, receptive_field
from minifcn.kernels.shapes import stand_in
from minifcn.kernels.table import _shapes_only


def image(h, w=None, channels=1):
    return mf.Tensor(stand_in(np.zeros(1), (1, channels, h, w or h)), name="image")


def conv(x, k, s=1, p=0, d=1):
    return ops.conv2d(x, stand_in(np.zeros(1), (1, 1, k, k)), stride=s, padding=p, dilation=d)


def deconv(x, k, s, p=0):
    return ops.conv_transpose2d(x, stand_in(np.zeros(1), (1, 1, k, k)), stride=s, padding=p)


def pool(x, k, s, p=0):
    return ops.max_pool2d(x, k, s, p, ceil_mode=True)


def vgg(x, pad):
    """VGG16's trunk in the reference net's padding; pool3, pool4 and the score on fc7 (Table 2.A of the reference)."""
    for stage, count in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(count):
            x = conv(x, 3, p=pad if (stage, i) == (1, 0) else 1)
        x = pool(x, 2, 2)
        if stage == 3:
            pool3 = x
        if stage == 4:
            pool4 = x
    return pool3, pool4, conv(x, 7)


@pytest.fixture(autouse=True)
def shapes():
    with mf.shapes_only(), mf.no_grad():
        yield


def one(pair):
    assert pair[0] == pair[1]
    return pair[0]


# a network as published, its layers (kernel, stride, padding, pooling?) and, per layer, n, jump, field, start
ALEXNET = [(11, 4, 0, 0), (3, 2, 0, 1), (5, 1, 2, 0), (3, 2, 0, 1), (3, 1, 1, 0), (3, 1, 1, 0), (3, 1, 1, 0),
           (3, 2, 0, 1), (6, 1, 0, 0), (1, 1, 0, 0)]  # fmt: skip
ALEXNET_AT_227 = [(55, 4, 11, 5), (27, 8, 19, 9), (27, 8, 51, 9), (13, 16, 67, 17), (13, 16, 99, 17), (13, 16, 131, 17),
                  (13, 16, 163, 17), (6, 32, 195, 33), (1, 32, 355, 113), (1, 32, 355, 113)]  # fmt: skip


def test_alexnet_at_227_as_the_guides_print_it():
    x = y = image(227)
    for (k, s, p, is_pool), (n, jump, field, start) in zip(ALEXNET, ALEXNET_AT_227):
        y = pool(y, k, s, p) if is_pool else conv(y, k, s, p)
        r = receptive_field(y, x)
        assert (y.shape[2], one(r.jump), one(r.size), one(r.start)) == (n, jump, field, start)
        assert one(r.start) == Fraction(one(r.size) - 1, 2) - one(r.padding)


@pytest.mark.parametrize("h, n", [(1, 1), (224, 8), (256, 9), (375, 12), (500, 16), (640, 21)])
def test_fcn_vgg16_padded_by_100(h, n):
    x = image(h)
    pool3, pool4, score = vgg(x, 100)
    r = receptive_field(score, x)
    assert score.shape[2] == n
    assert (one(r.size), one(r.jump), one(r.start), one(r.padding)) == (404, 32, Fraction(25, 2), 189)
    up = deconv(score, 64, 32)
    assert crop_offset(up, x, inside=True) == (19, 19)

    upscore2 = deconv(score, 4, 2)
    assert crop_offset(pool4, upscore2, inside=True) == (5, 5)
    fuse_pool4 = upscore2 + ops.crop(pool4, like=upscore2)
    assert crop_offset(deconv(fuse_pool4, 32, 16), x, inside=True) == (27, 27)

    upscore_pool4 = deconv(fuse_pool4, 4, 2)
    assert crop_offset(pool3, upscore_pool4, inside=True) == (9, 9)
    fuse_pool3 = upscore_pool4 + ops.crop(pool3, like=upscore_pool4)
    assert crop_offset(deconv(fuse_pool3, 16, 8), x, inside=True) == (31, 31)


def test_after_upsampling_what_a_pixel_sees_depends_on_its_phase():
    """FCN-32s: 436 pixels for all; 16s: 436 and 468 half and half; 8s: 468 for three quarters (reference §2.4)."""
    x = image(500)
    pool3, pool4, score = vgg(x, 100)
    fuse4 = deconv(score, 4, 2)
    fuse4 = fuse4 + ops.crop(pool4, like=fuse4)
    fuse3 = deconv(fuse4, 4, 2)
    fuse3 = fuse3 + ops.crop(pool3, like=fuse3)
    sizes = []
    for y in (deconv(score, 64, 32), deconv(fuse4, 32, 16), deconv(fuse3, 16, 8)):
        (m, _), *_ = y.where.values()
        seen = [m.interval(i) for i in range(32)]
        sizes.append(sorted(hi - lo + 1 for lo, hi in seen))
    assert sizes == [[436] * 32, [436] * 16 + [468] * 16, [436] * 8 + [468] * 24]


def test_fcn_alexnet_needs_an_odd_upsampling_kernel():
    x = y = image(500)
    for i, (k, s, p, is_pool) in enumerate(ALEXNET):
        y = pool(y, k, s, p) if is_pool else conv(y, k, s, 100 if i == 0 else p)
    assert y.shape[2] == 16
    assert crop_offset(deconv(y, 63, 32), x, inside=True) == (18, 18)
    with pytest.raises(mf.GeometryError, match="63, not 64"):
        crop_offset(deconv(y, 64, 32), x)


def test_caffes_own_examples_of_composition():
    x = image(40)
    y = pool(conv(x, 3), 2, 2)
    assert crop_offset(deconv(y, 4, 2), x) == (0, 0)
    assert crop_offset(deconv(pool(conv(x, 3), 4, 4), 8, 4), x) == (1, 1)
    for p in (1, 2, 5):
        assert crop_offset(conv(x, 3, p=p), conv(x, 3)) == (p, p)
        assert crop_offset(deconv(x, 3, 1), deconv(x, 3, 1, p)) == (p, p)


def test_misaligned_paths_are_told_with_both_maps():
    x = image(16)
    y = conv(x, 3, p=1) + ops.crop(conv(x, 2, p=1), offset=(0, 0), size=(16, 16))
    with pytest.raises(mf.GeometryError, match=r"1·i \+ 0, the other at 1·i \+ -1/2"):
        receptive_field(y, x)


def test_tensors_that_lost_their_place_say_so():
    x = image(8)
    for y in (ops.reshape(x, 1, 1, 4, 16), x.mean(axis=(2, 3), keepdims=True), ops.transpose(x, 0, 1, 3, 2)):
        with pytest.raises(mf.GeometryError, match="no position"):
            receptive_field(y, x)
    with pytest.raises(mf.GeometryError, match="not a root"):
        receptive_field(conv(conv(x, 3), 3), conv(x, 3))
    with pytest.raises(mf.GeometryError, match="no common image"):
        crop_offset(x, image(8))


def test_positions_do_not_grow_with_constants_or_irregular_sizes():
    x = y = image(27)
    for _ in range(50):
        y = y + np.zeros((1, 1, 27, 27))
    assert len(y.where) == 1
    for size in (53, 107, 211, 423):  # each to an odd size: what cells see would repeat after millions
        y = conv(ops.interpolate(y, (size, size)), 3)
    assert crop_offset(ops.pad(y, (1, 1, 1, 1)), y) == (1, 1)
    with pytest.raises(mf.GeometryError, match="not kept"):
        receptive_field(y, x)
    assert len(x.mark().mark().where) == 1


def test_an_inner_tensor_can_be_marked():
    x = image(64)
    inner = pool(conv(x, 3, p=1), 2, 2).mark()
    y = conv(inner, 5)
    assert one(receptive_field(y, inner).size) == 5
    assert one(receptive_field(y, x).size) == 12


@pytest.mark.parametrize("wide_first", [False, True])
def test_what_two_paths_see_is_what_either_sees(wide_first):
    x = image(16)
    a, b = conv(x, 3, p=1), conv(x, 7, p=3)
    a, b = (b, a) if wide_first else (a, b)
    for y in (a + b, ops.concat([a, b])):
        assert one(receptive_field(y, x).size) == 7


def test_centres_move_by_half_of_what_dilation_adds():
    x = image(20)
    assert one(receptive_field(conv(x, 3, d=4), x).start) == 4
    assert one(receptive_field(ops.max_pool2d(x, 3, 1, dilation=3), x).start) == 3
    w = stand_in(np.zeros(1), (1, 1, 3, 3))
    assert crop_offset(ops.conv_transpose2d(x, w, dilation=2), x) == (2, 2)


def test_slices_pads_and_interpolation_keep_their_place():
    x = image(32)
    assert one(receptive_field(x[:, :, 3::2, 3::2], x).jump) == 2
    assert one(receptive_field(x[:, :, 3::2, 3::2], x).start) == 3
    assert one(receptive_field(ops.pad(x, (4, 1, 4, 2)), x).start) == -4
    up = receptive_field(ops.interpolate(pool(x, 2, 2), (32, 32)), x)
    assert (one(up.jump), one(up.start), one(up.size)) == (1, 0, 4)


def test_where_is_constant_in_depth_and_the_same_after_backward():
    x = mf.Tensor(np.zeros((1, 1, 9, 9)), requires_grad=True)
    y = x
    for _ in range(300):
        y = ops.relu(y)
    with mf.override():
        assert len(y.where) == 1
        ((h, _),) = y.where.values()
    assert h == AxisMap()


LAYERS = st.tuples(
    st.sampled_from(["conv", "pool", "up"]),
    st.integers(1, 4),  # kernel
    st.integers(1, 3),  # stride
    st.integers(0, 2),  # padding
    st.integers(1, 2),  # dilation
)


@given(st.lists(LAYERS, min_size=1, max_size=4))
def test_the_derived_field_is_the_one_the_gradient_reaches(layers):
    """Positive weights, average pooling: the gradient of one unit is non-zero exactly where the unit looks.

    In the interior, that is: near the border an inner layer's padding hides what an endless grid would see.
    """
    x = mf.Tensor(np.ones((1, 1, 90, 1)), requires_grad=True)

    def network():
        y = x
        for layer in layers:
            y = _layer(y, *layer)
        return y

    with real_arithmetic():
        y = network()
        derived = next(iter(y.where.values()))[0]
        for i in range(y.shape[2] // 2, min(y.shape[2] // 2 + 4, y.shape[2])):
            seen = derived.interval(i)
            if seen is not None and not (seen[0] >= 20 and seen[1] < 70):
                continue
            gy = np.zeros(y.shape)
            gy[0, 0, i] = 1
            x.grad = None
            network().backward(gy)
            reached = np.flatnonzero(x.grad[0, 0, :, 0])
            assert (None if len(reached) == 0 else (reached[0], reached[-1])) == seen


def _layer(x, kind, k, s, p, d):
    """One layer along h of a picture one column wide; the identity where it does not fit."""
    kernel = (k, 1)
    where = dict(stride=(s, 1), padding=(min(p, k // 2), 0), dilation=(d, 1))
    if kind == "up":
        return ops.conv_transpose2d(x, np.ones((1, 1, *kernel)), **where)
    if x.shape[2] < d * (k - 1) + 1:
        return x
    if kind == "pool":
        return ops.avg_pool2d(x, kernel, **where)
    return ops.conv2d(x, np.ones((1, 1, *kernel)), **where)


def real_arithmetic():
    """Leave the fixture's shapes_only and no_grad: this test computes."""
    stack = ExitStack()
    for variable, value in ((_shapes_only, False), (_grad_enabled, True)):
        stack.enter_context(_setting(variable, value))
    return stack


def test_minimal_padding_finds_the_least_that_fits():
    """A 7×7 layer at stride 4 over a small picture: without padding nothing is left of it."""

    class Net(mf.nn.Module):
        def __init__(self, pad):
            self.conv1 = mf.nn.Conv2d(3, 2, 3, padding=pad)
            self.fc = mf.nn.Conv2d(2, 2, 7)
            self.up = mf.nn.ConvTranspose2d(2, 2, 8, stride=4)

        def forward(self, x):
            y = ops.max_pool2d(ops.max_pool2d(self.conv1(x), 2, ceil_mode=True), 2, ceil_mode=True)
            return ops.crop(self.up(self.fc(y)), like=x)

    found = minimal_padding(Net, 8)
    assert found == minimal_padding(Net, (8, 8))
    with pytest.raises((ValueError, mf.GeometryError)):
        Net(found - 1)(image(8, channels=3))
    assert Net(found)(image(8, channels=3)).shape == (1, 2, 8, 8)
    with pytest.raises(mf.GeometryError, match="no padding up to 2"):
        minimal_padding(Net, 8, largest=2)


@pytest.mark.parametrize("name", mf.models.MODELS)
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (37, 41), (128, 128), (255, 257)])
def test_the_mini_networks_take_any_size(name, size):
    model = mf.models.build(name, num_classes=5, width=0.1)
    assert model(image(*size, channels=3)).shape == (1, 5, *size)
