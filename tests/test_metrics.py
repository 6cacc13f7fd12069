"""The paper's four measures equal values computed by hand; the band along boundaries; errors."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.training.metrics import VOID, ConfusionMatrix, boundary_band

LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 255], np.uint8)
PREDICTIONS = np.array([0, 0, 0, 1, 2, 1, 1, 0, 2, 1], np.uint8)


@pytest.mark.paper
def test_hand_oracle():
    cm = ConfusionMatrix(4).update(LABELS, PREDICTIONS)
    np.testing.assert_array_equal(cm.matrix, [[3, 1, 1, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    assert cm.pixel_accuracy == pytest.approx(6 / 9)
    assert cm.mean_accuracy == pytest.approx((3 / 5 + 2 / 3 + 1) / 3)
    assert cm.mean_iu == pytest.approx(0.5)
    assert cm.fw_iu == pytest.approx(0.5)


@pytest.mark.paper
def test_constant_prediction_of_21_classes_scores_one_21st():
    labels = np.random.default_rng(0).integers(0, 21, 5000).astype(np.uint8)
    labels[:21] = np.arange(21)
    cm = ConfusionMatrix(21).update(labels, np.full_like(labels, 7))
    assert cm.mean_accuracy == pytest.approx(1 / 21)
    assert cm.mean_iu == pytest.approx((labels == 7).mean() / 21)


def test_many_classes_in_uint8_do_not_overflow():
    labels = np.arange(200, dtype=np.uint8)
    np.testing.assert_array_equal(ConfusionMatrix(200).update(labels, labels).matrix, np.eye(200))


def test_per_class_is_nan_only_where_a_class_does_not_occur():
    accuracy, iu = ConfusionMatrix(4).update(LABELS, PREDICTIONS).per_class()
    np.testing.assert_allclose(accuracy, [3 / 5, 2 / 3, 1, np.nan])
    np.testing.assert_allclose(iu, [3 / 6, 2 / 4, 1 / 2, np.nan])


def test_present_only_leaves_out_a_class_that_is_merely_predicted():
    labels, predictions = [0, 0, 1, 1], [0, 2, 1, 1]  # class 2 is predicted but never true
    assert ConfusionMatrix(3).update(labels, predictions).mean_iu == pytest.approx((0.5 + 1 + 0) / 3)
    assert ConfusionMatrix(3, present_only=True).update(labels, predictions).mean_iu == pytest.approx(0.75)


@pytest.mark.parametrize("void", [-1, 4, 255])
def test_pixels_with_any_other_label_do_not_count(void):
    labels = np.where(LABELS == 255, void, LABELS.astype(int))
    assert ConfusionMatrix(4).update(labels, PREDICTIONS).matrix.sum() == 9


def test_predictions_on_void_pixels_may_be_anything():
    assert ConfusionMatrix(2).update([255, 1], [99, 1]).matrix.sum() == 1


def test_one_matrix_over_the_set_whatever_the_shapes_and_parts():
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 5, (2, 3, 8, 6))
    whole = ConfusionMatrix(5).update(labels, predictions)
    added, updated = ConfusionMatrix(5), ConfusionMatrix(5)
    for a, b in zip(labels, predictions):
        added += ConfusionMatrix(5).update(a, b)
        updated.update(a, b)
    np.testing.assert_array_equal(added.matrix, whole.matrix)
    np.testing.assert_array_equal(updated.matrix, whole.matrix)


def test_adding_keeps_the_switch_and_changes_neither_operand():
    a, b = ConfusionMatrix(2, present_only=True).update([0], [0]), ConfusionMatrix(2).update([1], [1])
    assert (a + b).present_only and (a + b).matrix.sum() == 2
    assert a.matrix.sum() == b.matrix.sum() == 1
    with pytest.raises(ValueError, match="2 and 3 classes"):
        a + ConfusionMatrix(3)


def test_nothing_counted_is_nan_without_a_warning():
    cm = ConfusionMatrix(3).update([255], [0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan([cm.pixel_accuracy, cm.mean_accuracy, cm.mean_iu, cm.fw_iu]).all()
        repr(cm)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 1], [0, 2], "from 0 to 2"),
        ([0, 1], [0, -1], "from -1 to 0"),
        ([0, 1], [[0, 1]], "shape"),
        ([0, 1], [0.0, 1.0], "predictions must be integers"),
        ([0.0, 1.0], [0, 1], "labels must be integers"),
    ],
)
def test_what_cannot_be_counted_is_refused(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(2).update(labels, predictions)


@given(h=st.integers(1, 12), w=st.integers(1, 12), width=st.integers(1, 14), seed=st.integers(0, 9))
def test_the_boundary_band_is_what_lies_near_another_class(h, w, width, seed):
    rng = np.random.default_rng(seed)
    label = rng.choice(np.array([0, 1, 20, VOID], np.uint8), (h, w), p=(0.8, 0.08, 0.02, 0.1))
    expected = np.full_like(label, VOID)
    for i, j in np.argwhere(label != VOID):
        near = label[max(0, i - width) : i + width + 1, max(0, j - width) : j + width + 1]
        if set(near.flat) - {VOID, label[i, j]}:
            expected[i, j] = label[i, j]
    band = boundary_band(label, width)
    assert band.dtype == label.dtype
    np.testing.assert_array_equal(band, expected)
    np.testing.assert_array_equal(boundary_band(np.stack([label, label.T[::-1].T]), width)[0], expected)


def test_a_void_border_takes_up_the_width_of_the_band():
    label = np.repeat([[0] * 10 + [VOID] * 3 + [1] * 10], 2, axis=0)
    assert (boundary_band(label, 3) == VOID).all()
    assert (boundary_band(label, 5)[0] == [VOID] * 8 + [0] * 2 + [VOID] * 3 + [1] * 2 + [VOID] * 8).all()


def test_measures_along_the_boundary_see_a_blurred_outline_more_than_measures_everywhere():
    label = np.zeros((40, 40), int)
    label[:, 20:] = 1
    shifted = np.roll(label, 1, axis=1)
    everywhere, band = (ConfusionMatrix(2).update(t, shifted).mean_iu for t in (label, boundary_band(label, 2)))
    assert band < 0.7 < 0.9 < everywhere
    with pytest.raises(ValueError, match="width is 0"):
        boundary_band(label, 0)
    with pytest.raises(ValueError, match="must be integers"):
        boundary_band(label / 2, 1)
    with pytest.raises(ValueError, match="labels of int8 cannot be 255"):
        boundary_band(label.astype(np.int8), 1)
    with pytest.raises(ValueError, match=r"label has shape \(40,\)"):
        boundary_band(label[0], 1)
