"""Skips (§4.2) equal a score of concatenated maps, start as upsampling in two steps, and add gradients."""

import numpy as np
import pytest
from paper.nets import double
from strategies import normal

import minifcn as mf
from minifcn import nn, ops
from minifcn.nn import init

pytestmark = pytest.mark.paper


def up(x, f):
    """x (N, C, h, w), bilinearly upsampled f times by the reference nets' kernel of 2f, cropped to f times its size."""
    w = np.tile(init.bilinear((1, 1, 2 * f, 2 * f)).astype(float), (x.shape[1], 1, 1, 1))
    return ops.conv_transpose2d(x, w, stride=f, padding=f // 2, groups=x.shape[1]).numpy()


def delta(dimensions):
    """A map of zeros with one cell of 1; with `dimensions` = 1, a column of ones."""
    x = np.zeros((1, 1, 9, 9))
    x[..., slice(None) if dimensions == 1 else 4, 4] = 1
    return x


def test_scoring_concatenated_maps_is_the_sum_of_scoring_each():
    """Scoring is linear, so scoring concatenated maps is the sum of scoring each: a skip adds scores (PAMI §4.3)."""
    a, b = normal((2, 3, 5, 6), 1), normal((2, 4, 5, 6), 2)
    w, bias = normal((7, 7, 1, 1), 3), normal(7, 4)
    together = ops.conv2d(ops.concat([mf.Tensor(a), mf.Tensor(b)]), w, bias).numpy()
    separate = ops.conv2d(a, w[:, :3].copy(), bias) + ops.conv2d(b, w[:, 3:].copy())
    np.testing.assert_allclose(separate.numpy(), together, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dimensions, once, twice, apart", [(1, 0.984, 0.75, 0.234), (2, 0.969, 0.5625, 0.4065)])
def test_upsampling_in_two_steps_is_not_upsampling_in_one(dimensions, once, twice, apart):
    """The reference's figures for one cell, upsampled 32 times: a zero-initialised skip does not start as FCN-32s."""
    x = delta(dimensions)
    inside = np.s_[..., 96:-96, 96:-96]
    one_step, two_steps = up(x, 32)[inside], up(up(x, 2), 16)[inside]
    assert one_step.max() == pytest.approx(once, abs=5e-4)
    assert two_steps.max() == pytest.approx(twice, abs=1e-6)
    assert np.abs(one_step - two_steps).max() == pytest.approx(apart, abs=5e-4)


def test_both_ways_of_upsampling_keep_an_affine_map():
    i, j = np.mgrid[:9, :9]
    x = (2.0 * i - 3 * j + 5)[None, None]
    inside = np.s_[..., 32:-32, 32:-32]
    one_step = up(x, 32)[inside]
    np.testing.assert_allclose(up(up(x, 2), 16)[inside], one_step, rtol=1e-6)
    place = (np.arange(9 * 32) + 0.5) / 32 - 0.5
    np.testing.assert_allclose(one_step[0, 0], (2 * place[:, None] - 3 * place + 5)[32:-32, 32:-32], rtol=1e-6)


def nets():
    """An FCN-32s that has learned something, and the FCN-16s that starts from it; both in evaluation mode."""
    coarse = mf.models.fcn("mini", stride=32, num_classes=4, width=0.2, pad=60)
    fine = mf.models.fcn("mini", stride=16, num_classes=4, width=0.2, pad=60)
    for net in (coarse, fine):
        net.to(dtype="float64").eval()
    double(coarse.trunk)
    double(coarse.score_fr)
    nn.surgery.transplant(coarse, fine)
    return coarse, fine


def test_a_zero_skip_starts_from_the_coarser_nets_scores_upsampled_in_two_steps():
    coarse, fine = nets()
    assert (fine.score_pool4.weight.data == 0).all()
    x = mf.Tensor(normal((1, 3, 96, 96)), name="image")
    score = fine.score_fr(fine.trunk.features(x, ["drop7"])["drop7"])
    np.testing.assert_allclose(score.numpy(), coarse.score_fr(coarse.trunk.features(x, ["drop7"])["drop7"]).numpy())
    two_steps = ops.crop(fine.upscore16(fine.upscore2(score)), like=x).numpy()
    np.testing.assert_allclose(fine(x).numpy(), two_steps, rtol=1e-10)
    assert np.abs(coarse(x).numpy() - two_steps).max() > 0.01 * np.abs(two_steps).max()
    one_step = ops.crop(coarse.upscore(score), like=x).numpy()
    np.testing.assert_allclose(coarse(x).numpy(), one_step, rtol=1e-10)


def gradients(fuse, a, b, gy):
    """The gradients of ⟨gy, fuse(a, b)⟩ with respect to both streams."""
    a, b = mf.Tensor(a, requires_grad=True), mf.Tensor(b, requires_grad=True)
    fuse(a, b).backward(gy)
    return a.grad, b.grad


def maximum(a, b):
    return ops.max(ops.concat([a, b]), axis=1, keepdims=True)


def test_max_fusion_switches_gradients_and_sum_fusion_does_not():
    """Max fusion "made learning difficult": at each location only the stream with the maximum gets a gradient."""
    a, b, gy = (normal((1, 1, 5, 6), seed) for seed in range(3))
    for ga, gb, wins in ((*gradients(maximum, a, b, gy), a > b), (*gradients(maximum, a, b + 1, gy), a > b + 1)):
        np.testing.assert_array_equal(ga, np.where(wins, gy, 0))
        np.testing.assert_array_equal(gb, np.where(wins, 0, gy))
    assert ((a > b) != (a > b + 1)).any()  # at some locations the gradient now goes to the other stream
    for g in gradients(lambda a, b: a + b, a, b, gy):
        np.testing.assert_array_equal(g, gy)
