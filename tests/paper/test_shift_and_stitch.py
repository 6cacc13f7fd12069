"""Shift-and-stitch equals filter rarefaction (§3.2): the interlaced outputs are exactly those of the dilated net."""

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from paper.nets import double, field_of, scene, valid_net
from strategies import normal

from minifcn import nn
from minifcn.models.dense_prediction import rarefy, shift_and_stitch

pytestmark = pytest.mark.paper


@st.composite
def nets(draw, line=False):
    """Random valid nets of convolutions, max and average poolings with strides, along one axis or both."""

    def size(low, high):
        return (1 if line else draw(st.integers(low, high)), draw(st.integers(low, high)))

    layers, channels = [], 2
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "max", "average"]))
        if kind == "conv":
            layers += [nn.Conv2d(channels, 3, size(1, 3), size(1, 2), dilation=size(1, 2)), nn.ReLU()]
            channels = 3
        elif kind == "max":
            layers.append(nn.MaxPool2d(size(1, 3), size(1, 3), ceil_mode=draw(st.booleans())))
        else:
            layers.append(nn.AvgPool2d(size(1, 3), size(1, 3), ceil_mode=draw(st.booleans())))
    layers.append(nn.Conv2d(channels, 2, 1))
    cut = draw(st.integers(0, len(layers)))
    return double(nn.Sequential(nn.Sequential(*layers[:cut]), *layers[cut:]), draw(st.integers(0, 99)))


def stitched_by_padding(net, x):
    """The paper's form: padding shifts the image right and down, and ``Y[f·o − s] = N(pad(x, s))[o]``."""
    field = field_of(net, x)
    f = tuple(map(int, field.jump))
    sizes = [n - r + 1 for n, r in zip(x.shape[2:], field.size)]
    stitched = None
    for shift in product(*map(range, f)):
        y = net(np.pad(x, ((0, 0), (0, 0), (shift[0], 0), (shift[1], 0)))).numpy()
        stitched = np.full((*y.shape[:2], *sizes), np.nan) if stitched is None else stitched
        for o in np.ndindex(y.shape[2:]):
            t = [fi * oi - si for fi, oi, si in zip(f, o, shift)]
            if all(0 <= ti < n for ti, n in zip(t, sizes)):  # otherwise the window contains padding
                stitched[:, :, *t] = y[:, :, *o]
    return stitched


def check(net, extra):
    field = field_of(net, np.zeros((1, 2, 99, 99)))
    assume(max(field.size) <= 40 and max(field.jump) <= 9)
    x = normal((1, 2, *(r + e for r, e in zip(field.size, extra))), 1)
    dense = rarefy(net)(x).numpy()
    assert dense.shape[2:] == tuple(e + 1 for e in extra)
    np.testing.assert_allclose(shift_and_stitch(net, x), dense, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(stitched_by_padding(net, x), dense, rtol=1e-10, atol=1e-12)
    f = tuple(map(int, field.jump))
    y = net(x).numpy()
    coarse = dense[:, :, :: f[0], :: f[1]]
    np.testing.assert_allclose(y[:, :, : coarse.shape[2], : coarse.shape[3]], coarse, rtol=1e-10, atol=1e-12)


@given(net=nets(), extra=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_stitched_outputs_are_those_of_the_rarefied_net(net, extra):
    check(net, extra)


@given(net=nets(line=True), extra=st.integers(0, 20))
def test_stitched_signals_are_those_of_the_rarefied_net(net, extra):
    check(net, (0, extra))


@given(net=nets())
def test_rarefaction_keeps_the_receptive_field_and_takes_the_stride_out(net):
    before, after = (field_of(n, np.zeros((1, 2, 199, 199))) for n in (net, rarefy(net)))
    assert (after.size, after.start, after.jump) == (before.size, before.start, (1, 1))


def line_net():
    """The reference's example, along w: conv3 – ReLU – pool2/2 – conv3 – ReLU – pool2/2 – conv2."""
    return double(
        nn.Sequential(
            conv1=nn.Conv2d(2, 4, (1, 3)), relu1=nn.ReLU(), pool1=nn.MaxPool2d((1, 2)),
            conv2=nn.Conv2d(4, 4, (1, 3)), relu2=nn.ReLU(), pool2=nn.MaxPool2d((1, 2)), score=nn.Conv2d(4, 3, (1, 2)),
        )
    )  # fmt: skip


def test_removing_strides_without_rarefaction_shrinks_the_receptive_field():
    """The field is 14 pixels with stride 4 or rarefied; if strides are only removed, it is 8 and the outputs differ."""
    net, x = line_net(), normal((1, 2, 1, 40))
    assert (field_of(net, x).size[1], field_of(net, x).jump[1]) == (14, 4)
    dense = rarefy(net)
    assert (field_of(dense, x).size[1], field_of(dense, x).jump[1]) == (14, 1)
    assert [m.options["dilation"][1] for m in dense.modules() if hasattr(m, "options")] == [1, 1, 2, 2, 4]

    finer = line_net()
    for pool in (finer.pool1, finer.pool2):
        pool.options["stride"] = 1
    assert (field_of(finer, x).size[1], field_of(finer, x).jump[1]) == (8, 1)
    assert np.abs(finer(x).numpy()[..., :27] - dense(x).numpy()).max() > 0.1


def test_a_prediction_sits_at_the_centre_of_its_receptive_field():
    """Y[t] belongs to pixel t + (r − 1)/2, because exactly the pixels t … t + r − 1 change it."""
    net, x = line_net(), normal((1, 2, 1, 40))
    y = shift_and_stitch(net, x)
    assert y.shape[3] == 40 - 14 + 1
    for t in (0, 7, 26):
        sees = []
        for pixel in range(40):
            moved = x.copy()
            moved[..., pixel] += 100
            sees.append((shift_and_stitch(net, moved)[..., t] != y[..., t]).any())
        seen = np.flatnonzero(sees)
        assert t <= seen[0] and seen[-1] < t + 14
        assert (seen[0], seen[-1]) == (t, t + 13)


def test_rarefaction_is_the_papers_filter_with_zeros_between_its_taps():
    """The paper's filter ``f'_ij = f_{i/s, j/s}`` (0 unless s divides i and j) gives the same output as a dilation."""
    net, x = nn.Sequential(nn.MaxPool2d(2, 3), nn.Conv2d(2, 3, 3)), scene()
    double(net)
    (_, pool), (_, conv) = rarefy(net).children()
    enlarged = np.zeros((3, 2, 7, 7))  # k' = s(k − 1) + 1
    enlarged[:, :, ::3, ::3] = net.state_dict()["1.weight"]
    written_out = nn.Conv2d(2, 3, 7, weight_init=lambda _: enlarged)
    written_out.bias = conv.bias
    np.testing.assert_allclose(written_out(pool(x)).numpy(), conv(pool(x)).numpy(), rtol=1e-12)
    np.testing.assert_allclose(written_out(pool(x)).numpy(), shift_and_stitch(net, x), rtol=1e-12)


def test_with_padding_inside_the_two_agree_away_from_the_border_only():
    net, x = valid_net(padding=1), scene(24, 26)
    stitched, dense = shift_and_stitch(net, x), rarefy(net)(x).numpy()
    assert stitched.shape == dense.shape
    field = field_of(net, x)
    last = field.padding[0]
    first = last + int(field.jump[0]) - 1  # shifting has cropped up to f − 1 pixels there
    inside = np.s_[:, :, first:-last, first:-last]
    np.testing.assert_allclose(stitched[inside], dense[inside], rtol=1e-10)
    assert np.abs(stitched - dense)[:, :, first - 1].max() > 1e-3
    assert np.abs(stitched - dense)[..., -last].max() > 1e-3


def test_training_one_trains_the_other():
    """The rarefied net and the net share their parameters."""
    net = valid_net(norm=True)
    dense = rarefy(net)
    assert [id(p) for p in dense.parameters()] == [id(p) for p in net.parameters()]
    assert dense.state_dict().keys() == net.state_dict().keys()
    assert net.pool1.options["stride"] is None  # the old net is unchanged
