"""Computing whole images and patch by patch (§3.1): the outputs are the same, the multiply-adds far fewer."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper.nets import field_of, scene, valid_net
from strategies import normal

import minifcn as mf
from minifcn import nn
from minifcn.models.dense_prediction import macs, patchwise

pytestmark = pytest.mark.paper


@given(h=st.integers(10, 19), w=st.integers(10, 19), n=st.integers(1, 2), batch=st.integers(1, 9))
def test_every_output_of_the_whole_image_is_its_own_patch(h, w, n, batch):
    net, x = valid_net(), scene(h, w, n)
    np.testing.assert_allclose(patchwise(net, x, batch=batch), net(x).numpy(), rtol=1e-10, atol=1e-12)


def test_a_net_that_pads_agrees_only_at_its_own_input_size():
    """A condition that the paper does not state: padding surrounds a patch with zeros, not with the image's pixels."""
    net = valid_net(padding=1)
    field = field_of(net, scene())
    r = field.size[0] - 2 * field.padding[0]
    assert r == 4
    np.testing.assert_allclose(patchwise(net, scene(r, r)), net(scene(r, r)).numpy(), rtol=1e-10)
    apart = np.abs(patchwise(net, scene()) - net(scene()).numpy())
    assert (apart.max(axis=1) > 1e-3).all()


# The reference's Tables 2.B and 2.D: (kernel, stride, padding, channels out, groups), None channels: pooling
CAFFENET = [(11, 4, 0, 96, 1), (3, 2, 0, None, 1), (5, 1, 2, 256, 2), (3, 2, 0, None, 1), (3, 1, 1, 384, 1),
            (3, 1, 1, 384, 2), (3, 1, 1, 256, 2), (3, 2, 0, None, 1), (6, 1, 0, 4096, 1), (1, 1, 0, 4096, 1),
            (1, 1, 0, 1000, 1)]  # fmt: skip
VGG16 = []
for count, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
    VGG16 += [(3, 1, 1, channels, 1)] * count + [(2, 2, 0, None, 1)]
VGG16 += [(7, 1, 0, 4096, 1), (1, 1, 0, 4096, 1), (1, 1, 0, 1000, 1)]


def network(table):
    """The convolutionalized classifier with the layers of a table; its weights take no memory."""
    layers, before = [], 3
    for k, s, p, channels, groups in table:
        if channels is None:
            layers.append(nn.MaxPool2d(k, s, p, ceil_mode=True))
        else:
            empty = dict(bias=False, weight_init=lambda shape: np.broadcast_to(np.float32(0), shape))
            layers.append(nn.Conv2d(before, channels, k, s, p, groups=groups, **empty))
            before = channels
    return nn.Sequential(*layers)


def by_formula(table, size):
    """The multiply-adds of each layer, ``n_l² · k²·C/groups·O``, with the sizes of the reference's §2.2."""
    shares, n, before = [], size, 3
    for k, s, p, channels, groups in table:
        n = (n + 2 * p - k) // s + 1 if channels else -(-(n + 2 * p - k) // s) + 1
        if channels:
            shares.append(n * n * k * k * before // groups * channels)
            before = channels
    return np.array(shares)


PUBLISHED = {  # layers, input size, 10⁹ multiply-adds for this size and for 500×500, cost of patches / whole image
    "CaffeNet": (CAFFENET, 227, 0.7244, 9.324, 7.77),
    "VGG16": (VGG16, 224, 15.470, 89.53, 17.28),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_multiply_adds_of_one_image_and_of_its_hundred_patches(name):
    """The patches take 100·Σ n_l(size)²·c_l, 7.77 and 17.28 times as many as the whole image's Σ n_l(500)²·c_l."""
    table, size, one, large, ratio = PUBLISHED[name]
    net = network(table)
    whole, patches = macs(net, 500)
    assert (whole, patches) == (by_formula(table, 500).sum(), 100 * by_formula(table, size).sum())
    assert patches == macs(net, 500, size=size)[1]  # the classifier's input size is the field of one output
    assert patches / 100e9 == pytest.approx(one, abs=5e-4)
    assert whole / 1e9 == pytest.approx(large, abs=5e-3)
    assert patches / whole == pytest.approx(ratio, abs=5e-3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_layer_is_computed_as_often_as_its_maps_overlap(name):
    """Patches compute layer l about ``(n_l(rf)·j_l/S)²`` times: VGG16's first layers 49 times, the last one once."""
    table, size, *_ = PUBLISHED[name]
    net, h = network(table), size + 32 * 1000
    rows = [row for row in nn.summary(net, size) if row["macs"]]
    patches = (1001 + (h - size) % 32) ** 2
    often = [(row["output"][2] * row["jump"][0] / Fraction(32)) ** 2 for row in rows]
    counted = patches * by_formula(table, size) / by_formula(table, h)
    np.testing.assert_allclose(counted, np.array(often, float), rtol=0.02)
    assert often[-1] == 1
    if name == "VGG16":
        assert often[0] == 49


def test_the_papers_timings_say_more_than_five_times_faster():
    """AlexNet's times in ms: 22 forward and 37 backward for 500×500; for a patch in a batch 1.2 and 2.4, alone 5.4."""
    with mf.no_grad(), mf.shapes_only():
        n, m = network(CAFFENET)(np.broadcast_to(np.float32(0), (1, 3, 500, 500))).shape[2:]
    assert n * m * 1.2 / 22 == pytest.approx(5.45, abs=0.005)
    assert n * m * 2.4 / 37 == pytest.approx(6.49, abs=0.005)
    assert n * m * 5.4 / 22 == pytest.approx(24.5, abs=0.05)
    assert 22 / (n * m * 1.2) == pytest.approx(
        0.183, abs=5e-4
    )  # if a smaller share of patches is kept, patches are cheaper


def test_on_a_padded_or_clipped_border_patches_are_filled_with_zeros():
    """With ceil pooling the last window reaches beyond the image; a patch has zeros there, and the grids are equal."""
    net = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(2, 3, 2)).to(dtype="float64")
    x = normal((1, 2, 7, 8)) + 5
    y, whole = patchwise(net, x), net(x).numpy()
    assert y.shape == whole.shape == (1, 3, 3, 3)
    np.testing.assert_allclose(y, whole)  # all pixels are positive, so zeros do not change a maximum
    assert np.abs(patchwise(net, x - 10) - net(x - 10).numpy())[:, :, -1].max() > 0.1
