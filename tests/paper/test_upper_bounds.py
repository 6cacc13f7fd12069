"""Appendix A: the upper bound on mean IU for outputs of each coarseness, and what it says about the stride."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minifcn as mf
from minifcn.training.metrics import VOID, ConfusionMatrix, upper_bound

pytestmark = pytest.mark.paper

FACTORS = (1, 2, 4, 8, 16, 32, 64, 128)


def bounds(data):
    """The mean IU of the true labels after downsampling and upsampling by every factor, over a whole data set."""
    labels = [label for _, label in data]
    matrices = {f: ConfusionMatrix(data.num_classes) for f in FACTORS}
    for f, matrix in matrices.items():
        for label in labels:
            matrix.update(label, upper_bound(label, f))
    return [matrix.mean_iu for matrix in matrices.values()]


def assert_falls(values):
    assert values[0] == 1
    assert all(finer >= coarser for finer, coarser in pairwise(values))
    assert values[-1] < 0.5


def test_the_bound_falls_with_the_factor_on_generated_scenes():
    assert_falls(bounds(mf.data.Shapes(length=16, size=(128, 160))))


@pytest.mark.earth
def test_the_bound_falls_with_the_factor_on_earth():
    assert_falls(bounds(mf.data.Earth("val")))


@given(h=st.integers(1, 20), w=st.integers(1, 20), factor=st.integers(1, 24), seed=st.integers(0, 9))
def test_pixel_i_takes_the_label_at_the_centre_of_its_cell(h, w, factor, seed):
    """Pixel i takes the label at ``min(⌊i/f⌋·f + ⌊f/2⌋, H − 1)`` on each axis, also if f does not divide the size."""
    label = np.random.default_rng(seed).integers(0, 21, (h, w))
    i, j = np.mgrid[:h, :w]
    rows, columns = (np.minimum(k // factor * factor + factor // 2, n - 1) for k, n in ((i, h), (j, w)))
    np.testing.assert_array_equal(upper_bound(label, factor), label[rows, columns])


@given(factor=st.integers(1, 9), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_a_void_centre_takes_the_nearest_labelled_pixel_of_its_cell(factor, share, seed):
    """So every labelled pixel gets a class and can be scored; only a cell that is entirely void stays void."""
    rng = np.random.default_rng(seed)
    label = np.where(rng.random((13, 17)) < share, VOID, rng.integers(0, 4, (13, 17))).astype(np.uint8)
    y = upper_bound(label, factor)
    assert y.dtype == label.dtype
    for top in range(0, 13, factor):
        for left in range(0, 17, factor):
            cell = np.s_[top : top + factor, left : left + factor]
            labelled = label[cell][label[cell] != VOID]
            (chosen,) = np.unique(y[cell])
            assert chosen in labelled if labelled.size else chosen == VOID
    ConfusionMatrix(4).update(label, y)


def test_of_two_labelled_pixels_the_nearer_one():
    label = np.full((5, 5), VOID)
    label[0, 0], label[2, 3] = 1, 2
    assert (upper_bound(label, 5) == 2).all()


def test_refusals():
    with pytest.raises(ValueError, match="a factor of at least 1"):
        upper_bound(np.zeros((4, 4), int), 0)
    with pytest.raises(ValueError, match=r"one map \(H, W\)"):
        upper_bound(np.zeros((1, 4, 4), int), 2)
    with pytest.raises(ValueError, match="must be integers"):
        upper_bound(np.zeros((4, 4)), 2)
