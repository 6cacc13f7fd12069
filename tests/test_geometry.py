"""Positions of tensors: sizes, receptive fields and crops derived from operations equal the published numbers."""

from contextlib import ExitStack
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minifcn as mf
from minifcn import nn, ops
from minifcn.arrays.setting import Setting
from minifcn.engine.axis_maps import AxisMap
from minifcn.engine.core import _grad_enabled, scope
from minifcn.geometry import (
    Filter,
    Region,
    crop_offset,
    effective_receptive_field,
    extent,
    fields_by_phase,
    minimal_padding,
    receptive_field,
    region,
)
from minifcn.kernels.registry import _shapes_only
from minifcn.kernels.shapes import stand_in


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
    """All pixels of FCN-32s see 436 pixels; half of 16s see 436 and half 468; three quarters of 8s see 468 (§2.4)."""
    x = image(500)
    pool3, pool4, score = vgg(x, 100)
    fuse4 = deconv(score, 4, 2)
    fuse4 = fuse4 + ops.crop(pool4, like=fuse4)
    fuse3 = deconv(fuse4, 4, 2)
    fuse3 = fuse3 + ops.crop(pool3, like=fuse3)
    for y, shares in (
        (deconv(score, 64, 32), {436: 32}),
        (deconv(fuse4, 32, 16), {436: 16, 468: 16}),
        (deconv(fuse3, 16, 8), {436: 8, 468: 24}),
    ):
        rows, columns = fields_by_phase(y, x)
        assert rows == columns and len(rows) == (1 if len(shares) == 1 else 32)
        assert {size: 32 // len(rows) * rows.count(size) for size in set(rows)} == shares
        assert all(region(y, x, (i, 40), clip=False).size[0] == rows[i % len(rows)] for i in range(64))
        assert one(receptive_field(y, x).size) == max(rows)


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


def test_misaligned_paths_are_told_with_both_names_and_both_maps():
    """The skip of FCN-16s with a crop that is wrong by one cell.  Positions keep names, but no graph."""
    x = image(500)
    _, pool4, score = vgg(x, 100)
    with scope("upscore2"):
        up = deconv(score, 4, 2)
    with scope("score_pool4"):
        skip = conv(pool4, 1)
    with scope("score_pool4c"):
        cropped = ops.crop(skip, offset=(5, 4), size=up.shape[2:])
    with scope("fuse_pool4"):
        y = up + cropped
    for _ in range(50):
        y = conv(y, 1) + 1
    message = (
        r"^upscore2 and score_pool4c meet in fuse_pool4 .* along w of image \(500×500\), "
        r"cell i of upscore2 lies at 16·i − 23/2, cell i of score_pool4c at 16·i − 55/2$"
    )
    for question in (receptive_field, fields_by_phase, crop_offset, lambda y, x: region(y, x, (0, 0))):
        with pytest.raises(mf.GeometryError, match=message):
            question(y, x)


def test_the_misaligned_one_of_many_is_named():
    x = image(16)
    paths = []
    for name, k in (("1x1", 1), ("3x3", 3), ("4x4", 4), ("5x5", 5)):
        with scope(name):
            paths.append(conv(ops.pad(x, ((k - 1) // 2, k // 2, (k - 1) // 2, k // 2)), k))
    with pytest.raises(mf.GeometryError, match=r"^1x1 and 4x4 meet in Concat .* along h .*1·i \+ 0.*1·i \+ 1/2$"):
        receptive_field(ops.concat(paths), x)


def test_the_names_are_the_same_with_and_without_gradients():
    def meet():
        x = mf.Tensor(np.ones((1, 1, 9, 9)), requires_grad=True, name="x")
        layers = nn.Sequential(a=nn.Conv2d(1, 1, 3), b=nn.Conv2d(1, 1, 2))
        a, b = (layer(x) for _, layer in layers.children())
        with pytest.raises(mf.GeometryError, match=r"^a and Crop meet in Add ") as error:
            receptive_field(a + ops.crop(b, offset=(0, 0), size=(7, 7)), x)
        return str(error.value)

    without = meet()
    with real_arithmetic():
        assert meet() == without


def test_a_refused_crop_names_both_maps():
    x = image(20)
    with scope("pool1"):
        small = pool(x, 2, 2)
    for other, why in ((x, "different step"), (conv(small, 2), "whole cells")):
        with pytest.raises(mf.GeometryError, match=rf"{why}.* cell i of pool1 lies at 2·i \+ 1/2, cell i of "):
            crop_offset(small, other)
    with pytest.raises(mf.GeometryError, match=r"crop pool1, 10×10, to Pad, 12×12, .*\(-1, -1\)"):
        ops.crop(small, like=ops.pad(small, (1, 1, 1, 1)))


def test_tensors_that_lost_their_place_say_so():
    x = image(8)
    lost = [ops.reshape(x, 1, 1, 4, 16), x.mean(axis=(2, 3), keepdims=True), ops.transpose(x, 0, 1, 3, 2)]
    assert one(receptive_field(ops.softmax(conv(x, 3)), x).size) == 3
    for y in (*lost, ops.softmax(x, axis=3), ops.log_softmax(x, axis=-2)):
        with pytest.raises(mf.GeometryError, match="no position"):
            receptive_field(y, x)
    flat = ops.reshape(x, 1, -1)
    later = ops.relu(ops.linear(flat, np.ones((4, 64)))).reshape(1, 1, 2, 2)
    assert "Reshape" in flat.where[x._root][0].fault  # the first that lost it is named
    assert flat.where == later.where == ops.transpose(later, 0, 1, 3, 2).where == later.sum(axis=(2, 3)).where
    with pytest.raises(mf.GeometryError, match="not a root"):
        receptive_field(conv(conv(x, 3), 3), conv(x, 3))
    with pytest.raises(mf.GeometryError, match="no common image"):
        crop_offset(x, image(8))


def test_positions_do_not_grow_with_constants_or_irregular_sizes():
    x = y = image(27)
    for _ in range(50):
        y = y + np.zeros((1, 1, 27, 27))
    assert len(y.where) == 1
    for size in (53, 107, 211, 423):  # odd sizes, so the pattern of fields would repeat only after millions of cells
        y = conv(ops.interpolate(y, (size, size)), 3)
    assert crop_offset(ops.pad(y, (1, 1, 1, 1)), y) == (1, 1)
    with pytest.raises(mf.GeometryError, match="not stored"):
        receptive_field(y, x)
    assert len(x.mark().mark().where) == 1


def test_filters_compose_by_the_rule_of_the_paper():
    """f_ks ∘ g_k's' = (f∘g)_{k' + (k−1)s', s·s'}."""
    assert Filter(7, 3) @ Filter(5, 2) == Filter(5 + 6 * 2, 6)
    for k, s in ((0, 1), (3, 0), (2.5, 1), (3, -1)):
        with pytest.raises(ValueError, match="at least 1"):
            Filter(k, s)
    with pytest.raises(ValueError, match="does not fit"):
        Filter(3).outputs(2)
    with pytest.raises(TypeError):
        Filter(3) @ 3


@given(st.lists(st.builds(Filter, st.integers(1, 6), st.integers(1, 4)), min_size=3, max_size=3), st.integers(0, 40))
def test_one_filter_does_what_its_parts_do(parts, more):
    f, g, h = parts
    assert (f @ g) @ h == f @ (g @ h)
    whole = f @ g @ h
    n = whole.k + more
    assert whole.outputs(n) == f.outputs(g.outputs(h.outputs(n)))
    x = y = image(n)
    for part in (h, g, f):
        y = conv(y, part.k, part.s)
    place = receptive_field(y, x)
    assert (one(place.size), one(place.jump), y.shape[2]) == (whole.k, whole.s, whole.outputs(n))


def test_the_region_that_a_unit_sees():
    x = image(20, 30)
    y = conv(pool(x, 2, 2), 3, p=1)  # 10×15
    assert region(y, x, (0, 14), clip=False) == (-2, 4, 26, 32)
    assert region(y, x, (0, 14)) == Region(top=0, bottom=4, left=26, right=30)
    assert region(y, x, (0, 14)).size == x.data[region(y, x, (0, 14)).index].shape[2:] == (4, 4)
    for unit in ((10, 0), (0, -1), (0, 15), (3,)):
        with pytest.raises(ValueError, match="rows are 0 … 9, columns 0 … 14"):
            region(y, x, unit)
    far = ops.pad(x, (5, 0, 0, 7))
    assert region(far, x, (0, 36)) == (0, 0, 30, 30) and region(far, x, (0, 36), clip=False) == (-5, -4, 36, 37)
    gaps = deconv(x, 1, 3)  # stride 3 with a kernel of 1: two of three cells see nothing
    assert fields_by_phase(gaps, x) == ((1, 0, 0), (1, 0, 0))
    assert region(gaps, x, (7, 6)).size == (0, 1)


def test_an_inner_tensor_can_be_marked():
    x = image(64)
    inner = pool(conv(x, 3, p=1), 2, 2).mark()
    y = conv(inner, 5)
    assert one(receptive_field(y, inner).size) == 5
    assert one(receptive_field(y, x).size) == 12
    skip = conv(inner, 1).mark()  # another tensor, with the position of `inner`
    both = skip + conv(inner, 3, p=1)
    assert one(receptive_field(both, skip).size) == 1 and one(receptive_field(both, inner).size) == 3


@pytest.mark.parametrize("wide_first", [False, True])
def test_what_two_paths_see_is_what_either_sees(wide_first):
    x = image(16)
    a, b = conv(x, 3, p=1), conv(x, 7, p=3)
    a, b = (b, a) if wide_first else (a, b)
    for y in (a + b, ops.concat([a, b])):
        assert one(receptive_field(y, x).size) == 7
    up = deconv(pool(x, 4, 4), 4, 4)  # four neighbouring pixels see the same window
    near = conv(x, 3, p=1)
    assert fields_by_phase(near + up if wide_first else up + near, x) == ((5, 4, 4, 5),) * 2


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
    """Positive weights and average pooling: the gradient of a unit is non-zero exactly in the derived field.

    Only units in the interior are compared: near the border the padding of an inner layer makes the gradient zero in
    parts of the field.
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
    """One layer along h of an image one column wide; the image itself if the layer does not fit."""
    kernel = (k, 1)
    options = dict(stride=(s, 1), padding=(min(p, k // 2), 0), dilation=(d, 1))
    if kind == "up":
        return ops.conv_transpose2d(x, np.ones((1, 1, *kernel)), **options)
    if x.shape[2] < d * (k - 1) + 1:
        return x
    if kind == "pool":
        return ops.avg_pool2d(x, kernel, **options)
    return ops.conv2d(x, np.ones((1, 1, *kernel)), **options)


def real_arithmetic():
    """Leave the fixture's shapes_only and no_grad: this test computes."""
    stack = ExitStack()
    for variable, value in ((_shapes_only, False), (_grad_enabled, True)):
        stack.enter_context(Setting(variable, value))
    return stack


NODES = st.tuples(
    st.sampled_from(["conv", "pool", "up", "pad", "crop", "block", "skip"]),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),  # kernel
    st.tuples(st.integers(1, 2), st.integers(1, 2)),  # stride
    st.tuples(*[st.integers(0, 2)] * 4),  # padding top, bottom, left, right; a block's second kernel is wider by these
    st.integers(1, 2),  # dilation
    st.booleans(),  # whether paths are concatenated or added
)


@settings(max_examples=100)
@given(st.lists(NODES, min_size=2, max_size=7))
def test_fields_of_networks_with_several_paths_are_those_the_gradient_reaches(nodes):
    """The same in two dimensions: blocks, skips, sums, concatenations, dilation, uneven padding, upsampling, crops.

    Outside the derived region the gradient is zero.  Inside it is non-zero everywhere, unless an inner map ends in it.
    """
    x = mf.Tensor(np.ones((1, 1, 48, 52)), requires_grad=True)
    outputs = [x]
    with real_arithmetic():
        for node in nodes:
            outputs.append(_node(outputs, *node))
        y = ops.relu(outputs[-1])
        unit = tuple(n // 2 for n in y.shape[2:])
        seen = region(y, x, unit, clip=False)
        gy = np.zeros(y.shape)
        gy[:, :, unit[0], unit[1]] = 1
        y.backward(gy)
        reached = [np.flatnonzero(x.grad[0, 0].any(1 - axis)) for axis in (0, 1)]
        if all(_holds(t, x, seen) for t in outputs):
            assert [(r[0], r[-1] + 1) for r in reached] == [tuple(seen[:2]), tuple(seen[2:])]
        for r, first, end in zip(reached, seen[::2], seen[1::2]):
            assert not len(r) or (first <= r[0] and r[-1] < end)


def _node(outputs, kind, kernel, stride, pads, dilation, concatenate):
    """A new tensor computed from the last one; the last one itself if no layer fits."""
    x = outputs[-1]
    if min(x.shape[2:]) < 12:
        return x
    padding = pads[0] // 2, pads[1] // 2
    if kind == "conv":
        return _sum_of_windows(x, kernel, stride, padding, dilation)
    if kind == "pool":
        return ops.avg_pool2d(x, kernel, stride, [min(p, k // 2) for p, k in zip(padding, kernel)], ceil_mode=True)
    if kind == "up":
        kernel = [max(k, s) for k, s in zip(kernel, stride)]  # with a smaller kernel some cells would see nothing
        return ops.conv_transpose2d(x, np.ones((x.shape[1], 1, *kernel)), stride=stride, padding=padding)
    if kind == "pad":
        return ops.pad(x, pads)
    if kind == "crop":
        return ops.crop(x, offset=pads[::2], size=[n - sum(p) for n, p in zip(x.shape[2:], (pads[:2], pads[2:]))])
    if kind == "block":  # two kernels with one centre
        wider = [k + 2 * more for k, more in zip(kernel, pads)]
        paths = [_sum_of_windows(x, k, stride, (0, 0), 1) for k in (kernel, wider)]
        return _joined(*(paths if pads[2] else reversed(paths)), concatenate)
    return _joined(x, outputs[max(0, len(outputs) - 2 - pads[0])], concatenate)


def _sum_of_windows(x, kernel, stride, padding, dilation):
    return ops.conv2d(x, np.ones((2, x.shape[1], *kernel)), stride=stride, padding=padding, dilation=dilation)


def _joined(a, b, concatenate):
    """Two paths, cropped to their common extent and joined; the first alone if they cannot be aligned."""
    try:
        offset = crop_offset(a, b)
    except mf.GeometryError:
        return a
    size = [min(m - max(o, 0), n - max(-o, 0)) for m, n, o in zip(a.shape[2:], b.shape[2:], offset)]
    if min(size) < 1:
        return a
    a = ops.crop(a, offset=[max(o, 0) for o in offset], size=size)
    b = ops.crop(b, offset=[max(-o, 0) for o in offset], size=size)
    return ops.concat([a, b]) if concatenate else a.sum(1, keepdims=True) + b.sum(1, keepdims=True)


def _holds(t, x, seen):
    """Whether an inner map covers a region: a unit beyond either end of the map would see pixels outside the region."""
    (place,) = (maps for root, maps in t.where.items() if root in x.where)
    return all(
        m.interval(-1)[0] < first and m.interval(n)[1] >= end
        for m, n, first, end in zip(place, t.shape[2:], seen[::2], seen[1::2])
    )


def test_the_effective_field_of_one_convolution_is_its_kernel():
    """For a linear layer ∂y/∂x is the kernel; absolute values are averaged over the batch and summed over channels."""
    w = np.random.default_rng(0).normal(size=(3, 2, 3, 5))
    images = np.random.default_rng(1).normal(size=(4, 2, 9, 11))
    with real_arithmetic():
        field = effective_receptive_field(lambda x: ops.conv2d(x, w), images, unit=(2, 4))
        assert field.shape == (9, 11) and np.allclose(field[2:5, 4:9], np.abs(w.sum(0)).sum(0))
        assert np.count_nonzero(field) == 15
        centre = effective_receptive_field(lambda x: ops.conv2d(x, w), mf.Tensor(images))
        assert np.allclose(centre[3:6, 3:8], field[2:5, 4:9])
        weights = np.array([1.0, -3.0, 0.0]).reshape(3, 1, 1, 1)
        scaled = effective_receptive_field(lambda x: (x * weights).sum(0, keepdims=True), images[:3], unit=(4, 5))
        assert np.allclose(scaled[4, 5], 2 * 4 / 3)
        with pytest.raises(ValueError, match=r"no unit \(7, 0\) in an output of \(7, 7\)"):
            effective_receptive_field(lambda x: ops.conv2d(x, w), images, unit=(7, 0))


def test_the_effective_field_leaves_the_model_as_it_was():
    with real_arithmetic():
        model = nn.Sequential(conv=nn.Conv2d(1, 2, 3), frozen=nn.Conv2d(2, 1, 3)).eval()
        for p in model.frozen.parameters():
            p.freeze()
        before = np.ones_like(model.conv.weight.data)
        model.conv.weight.grad = before
        for function in (model, lambda x: model(x)[:, :, 1:, 1:]):
            field = effective_receptive_field(function, np.ones((1, 1, 9, 9), "float32"))
            assert np.count_nonzero(field) == 25
        assert model.conv.weight.grad is before and model.conv.bias.grad is None
        assert [p.requires_grad for p in model.parameters()] == [True, True, False, False]
        with pytest.raises(ValueError, match="channels"):
            effective_receptive_field(model, np.ones((1, 3, 9, 9), "float32"))
        assert model.conv.weight.requires_grad


def test_the_extent_of_a_field():
    across, down = np.array([0.04, 0.5, 1, 0.5, 0.04]), np.array([0.25, 1, 0.25])
    found = extent(np.outer(down, across))
    assert found.width == (3, 3) and found.pixels == 9
    assert found.sigma == pytest.approx((np.sqrt(0.5 / 1.5), np.sqrt((8 * 0.04 + 1) / 2.08)))
    with pytest.raises(ValueError, match="zero everywhere"):
        extent(np.zeros((3, 5)))


def test_minimal_padding_finds_the_least_that_fits():
    """A 7×7 layer on a map of stride 4: without padding, a small image is too small for it."""

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

    def only_wide(pad):
        if pad < found + 3:
            raise mf.GeometryError("this net has a wide first layer")
        return Net(pad)

    assert minimal_padding(only_wide, 8) == found + 3
    with pytest.raises(mf.GeometryError, match=r"no padding up to 2 .*wide first layer"):
        minimal_padding(only_wide, 8, largest=2)
    tried = []
    with pytest.raises(ValueError, match="no such net"):  # an error that has nothing to do with padding
        minimal_padding(lambda pad: tried.append(pad) or build("no such net"), 8)
    assert tried == [0]


def build(name):
    raise ValueError(name)


@pytest.mark.parametrize("name", [name for name in mf.models.MODELS if name.endswith("_mini")])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (37, 41), (128, 128), (255, 257)])
def test_the_mini_networks_take_any_size(name, size):
    model = mf.models.build(name, num_classes=5, width=0.1)
    assert model(image(*size, channels=3)).shape == (1, 5, *size)


def test_a_receptive_field_prints_plain_numbers():
    x = mf.Tensor(np.zeros((1, 1, 9, 9)), name="image")
    field = mf.geometry.receptive_field(ops.max_pool2d(ops.conv2d(x, np.ones((1, 1, 3, 1))), 2), x)
    assert repr(field) == "ReceptiveField(size=(4, 2), jump=(2, 2), start=(1.5, 0.5), padding=(0, 0))"
    assert field.jump == (Fraction(2), Fraction(2))


class Doubled(mf.Function):
    """Nearest-neighbour upsampling by two that does not define the position of its output."""

    def forward(self, x):
        return x.repeat(2, axis=2).repeat(2, axis=3)

    def backward(self, gy):
        return gy[:, :, ::2, ::2] + gy[:, :, 1::2, ::2] + gy[:, :, ::2, 1::2] + gy[:, :, 1::2, 1::2]


def test_an_operation_that_says_nothing_has_no_place_and_the_error_names_it():
    image = mf.Tensor(np.ones((1, 2, 8, 8)))
    y = Doubled.apply(image)
    after = mf.ops.conv2d(y, np.ones((1, 2, 3, 3)))
    for ask in (lambda: mf.geometry.receptive_field(after, image), lambda: mf.geometry.crop_offset(y, image)):
        with pytest.raises(mf.GeometryError, match=r"Doubled.* does not keep rows and columns"):
            ask()
    with pytest.raises(mf.GeometryError, match="Doubled"):
        mf.ops.crop(y, like=image)


def test_an_operation_can_say_in_one_word_that_it_keeps_its_place():
    class Swish(mf.Function):
        keeps_place = True

        def forward(self, x):
            return x / (1 + np.exp(-x))

    image = mf.Tensor(np.ones((1, 2, 8, 8)))
    y = Swish.apply(mf.ops.max_pool2d(image, 2))
    assert mf.geometry.receptive_field(y, image) == mf.geometry.receptive_field(mf.ops.max_pool2d(image, 2), image)


@pytest.mark.parametrize(
    ("compute", "culprit"),
    [
        (lambda x: x / x.max(axis=(2, 3), keepdims=True), "Max"),
        (lambda x: x * x.mean(axis=(2, 3)).reshape(1, 2, 1, 1), "Reshape"),
        (lambda x: x - x.sum(axis=2, keepdims=True), "Sum"),
        (lambda x: mf.ops.softmax(x, axis=2), "Softmax"),
        (lambda x: mf.ops.log_softmax(x, axis=3), "LogSoftmax"),
        (lambda x: mf.ops.transpose(x, 0, 1, 3, 2), "Transpose"),
        (lambda x: mf.ops.conv2d(x, x.mean(axis=(0, 2, 3)).reshape(1, 2, 1, 1)), "Reshape"),
        (lambda x: mf.ops.conv2d(q := mf.ops.concat([mf.ops.relu(x), x], axis=0), q, padding=4), "Concat"),
        (lambda x: mf.ops.batch_norm(x, np.ones(2), np.zeros(2)), "BatchNorm2d"),
    ],
)
def test_a_cell_that_depends_on_the_whole_image_has_no_field(compute, culprit):
    image = mf.Tensor(np.arange(128.0).reshape(1, 2, 8, 8) % 7 + 1)
    y = compute(image)
    with pytest.raises(mf.GeometryError, match=culprit):
        mf.geometry.receptive_field(y, image)


def test_batch_statistics_leave_the_place_and_so_the_crops():
    image = mf.Tensor(np.ones((1, 2, 8, 8)))
    y = mf.ops.batch_norm(mf.ops.pad(image, (2, 2, 2, 2)), np.ones(2), np.zeros(2))
    assert mf.geometry.crop_offset(y, image) == (2, 2)
    frozen = mf.nn.BatchNorm2d(2).eval()
    assert mf.geometry.receptive_field(frozen(image), image).size == (1, 1)


def test_an_operation_that_stands_in_for_another_lies_where_that_one_would():
    class MyAdd(mf.Function):
        def forward(self, a, b):
            return a + b

        def backward(self, gy):
            return gy, gy

    class MyReLU(mf.Function):
        def forward(self, x):
            return x * (x > 0)

        def backward(self, gy):
            return gy

    image = mf.Tensor(np.ones((1, 2, 8, 8)))
    with mf.override(Add=MyAdd, ReLU=MyReLU):
        y = mf.ops.relu(image) + image
        assert mf.geometry.receptive_field(y, image).size == (1, 1)
        with pytest.raises(mf.GeometryError, match="do not coincide"):
            mf.geometry.receptive_field(y + mf.ops.pad(image, (1, 0, 0, 0))[:, :, :8], image)


def test_a_crop_takes_an_array_and_either_of_its_two_forms():
    image = mf.Tensor(np.arange(16.0).reshape(1, 1, 4, 4))
    with pytest.raises(mf.GeometryError, match="no common image"):
        mf.ops.crop(np.ones((1, 1, 6, 6)), like=image)
    for extra in (dict(offset=(0, 0)), dict(size=(2, 2)), dict(offset=(0, 0), size=(2, 2))):
        with pytest.raises(ValueError, match="give crop either like=z"):
            mf.ops.crop(image, like=image, **extra)
