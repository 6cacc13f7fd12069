"""The statistics of an evaluation have the values of their definitions: calibration, intervals, paired tests, bands."""

from itertools import product

import numpy as np
import pytest

from minifcn.training.calibration import BINS, calibration_counts, expected_calibration_error, reliability
from minifcn.training.metrics import VOID, ConfusionMatrix, boundary_band, counts, scores_from
from minifcn.training.resampling import bootstrap, compare, holm, interval, intervals, permutation_test


def image_counts(n, classes=3, seed=0, skill=0.7):
    """Labels and predictions of n small images, as counts."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (n, 50))
    wrong = rng.random(labels.shape) > skill
    predictions = np.where(wrong, rng.integers(0, classes, labels.shape), labels)
    return np.stack([counts(a, b, classes) for a, b in zip(labels, predictions)]), labels, predictions


def test_measures_from_counts_are_the_confusion_matrixs():
    each, labels, predictions = image_counts(6, classes=5)
    labels[:, :10] = VOID
    labels[labels == 3] = 0  # predicted, but in no label
    each = np.stack([counts(a, b, 5) for a, b in zip(labels, predictions)])
    for part in (each, each[:1], each[2:2]):
        chosen = slice(None) if len(part) == 6 else slice(0, 1) if len(part) else slice(0, 0)
        matrix = ConfusionMatrix(5).update(labels[chosen], predictions[chosen])
        found = scores_from(part.sum(0))
        for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu"):
            np.testing.assert_allclose(found[name], getattr(matrix, name), rtol=1e-12)
        np.testing.assert_allclose(found["iu"], matrix.per_class()[1])
        matrix.present_only = True
        np.testing.assert_allclose(found["mean_iu_present"], matrix.mean_iu)
    assert scores_from(each.reshape(2, 3, 3, 5))["iu"].shape == (2, 3, 5)


def test_calibration_by_hand():
    """Four pixels in the bin [.8, .867), of which three are right; two in the last one, of which one is right."""
    found = calibration_counts([0.81, 0.83, 0.85, 0.85, 1.0, 0.95], [1, 1, 1, 0, 1, 0])
    assert found.shape == (BINS, 3) and found[:, 0].tolist() == [0] * 12 + [4, 0, 2]
    confidence, accuracy = reliability(found)
    assert confidence[12] == pytest.approx(0.835) and accuracy[12] == 0.75 and np.isnan(confidence[0])
    assert expected_calibration_error(found) == pytest.approx(4 / 6 * 0.085 + 2 / 6 * (0.975 - 0.5))
    assert np.isnan(expected_calibration_error(calibration_counts([], [])))


@pytest.mark.oracles
def test_the_bins_are_scikit_learns():
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(0)
    confidence = rng.random(5000) ** 0.5
    right = rng.random(5000) < confidence**2
    accuracy, mean = calibration_curve(right, confidence, n_bins=BINS)
    ours = reliability(calibration_counts(confidence, right))
    np.testing.assert_allclose(ours[0], mean, rtol=1e-12)
    np.testing.assert_allclose(ours[1], accuracy, rtol=1e-12)


@pytest.mark.oracles
@pytest.mark.parametrize("width", [1, 2, 5])
def test_the_band_is_where_scipys_chessboard_distance_to_another_class_is_at_most_the_width(width):
    from scipy.ndimage import distance_transform_cdt

    rng = np.random.default_rng(1)
    label = np.kron(rng.integers(0, 4, (6, 7)), np.ones((9, 9), int)).astype(np.uint8)
    label[rng.random(label.shape) < 0.05] = VOID
    expected = np.full_like(label, VOID)
    for c in range(4):
        others = (label != c) & (label != VOID)
        near = distance_transform_cdt(~others, "chessboard") <= width
        expected[(label == c) & near] = c
    assert (boundary_band(label, width) == expected).all()


def test_the_bootstrap_draws_images_with_replacement():
    each, *_ = image_counts(4)
    drawn = bootstrap(each)
    assert (drawn == bootstrap(each)).all() and not (drawn == bootstrap(each, seed=1)).all()
    sums = {each[list(chosen)].sum(0).tobytes() for chosen in product(range(4), repeat=4)}
    assert {draw.astype(np.int64).tobytes() for draw in drawn} <= sums
    np.testing.assert_allclose(drawn.mean(0), each.sum(0), rtol=0.03)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    """The mean of n numbers: its standard error is known, and the interval is 1.96 of it on both sides."""
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = interval(bootstrap(values[:, None])[:, 0] / 400)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_the_interval_of_equal_images_is_a_point_and_an_absent_class_has_none():
    each = np.repeat(counts([0, 0, 1, 1], [0, 1, 1, 1], 3)[None], 5, axis=0)
    found = intervals(each)
    assert [float(bound) for bound in found["mean_iu"]] == pytest.approx([(1 / 2 + 2 / 3) / 2] * 2)
    assert np.isnan(found["iu"][0]).tolist() == [False, False, True]


def test_with_few_images_intervals_are_wide_and_with_many_narrow():
    widths = [np.subtract(*intervals(image_counts(n)[0])["mean_iu"][::-1]) for n in (10, 90)]
    assert widths[0] == pytest.approx(3 * widths[1], rel=0.5)


def mean_iu(each):
    hit, true, predicted = each.sum(0)
    return (hit / (true + predicted - hit)).mean()


def exact_p(a, b):
    """The share of all exchanges whose absolute difference is at least that of `a` and `b`."""
    difference, as_large = abs(mean_iu(a) - mean_iu(b)), 0
    for swap in product([False, True], repeat=len(a)):
        chosen = np.array(swap)[:, None, None]
        as_large += abs(mean_iu(np.where(chosen, b, a)) - mean_iu(np.where(chosen, a, b))) >= difference - 1e-9
    return as_large / 2 ** len(a)


def test_the_permutation_test_of_few_images_tries_all_exchanges():
    a, b = image_counts(7, seed=0)[0], image_counts(7, seed=1, skill=0.6)[0]
    difference, p = permutation_test(a, b)
    assert difference == pytest.approx(mean_iu(a) - mean_iu(b))
    assert p == exact_p(a, b)


def test_the_permutation_test_of_more_images_samples_the_exchanges():
    a, b = image_counts(14, seed=0)[0], image_counts(14, seed=3, skill=0.65)[0]
    p, exact = permutation_test(a, b)[1], exact_p(a, b)
    assert p != exact and p == pytest.approx(exact, abs=0.015)
    assert permutation_test(a, a) == (0.0, 1.0)
    better = image_counts(24, seed=2, skill=0.95)[0]
    worse = image_counts(24, seed=0)[0]
    assert permutation_test(worse, better)[0] < 0 and permutation_test(worse, better)[1] == 1 / 10_001


def test_under_the_null_hypothesis_p_is_uniform():
    """Two models of equal skill: about 5 % of the tests find a difference at .05, and about half are below .5."""
    p = [permutation_test(image_counts(9, seed=2 * k)[0], image_counts(9, seed=2 * k + 1)[0])[1] for k in range(300)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09
    assert 0.42 < np.mean(np.array(p) <= 0.5) < 0.58


def test_holms_correction_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1] and holm([0.02]) == [0.02] and holm([]) == []


def test_every_two_runs_are_compared():
    runs = {
        name: image_counts(12, seed=k, skill=s)[0] for k, (name, s) in enumerate((("a", 0.6), ("b", 0.62), ("c", 0.95)))
    }
    rows = compare(runs)
    assert [(row["first"], row["second"]) for row in rows] == [("a", "b"), ("a", "c"), ("b", "c")]
    for row in rows:
        difference, p = permutation_test(runs[row["first"]], runs[row["second"]])
        assert row["difference"] == difference and row["p"] == p
        assert row["low"] < difference < row["high"]
    assert [row["p_corrected"] for row in rows] == holm([row["p"] for row in rows])
    assert rows[0]["p_corrected"] > 0.05 > rows[1]["p_corrected"] and rows[1]["high"] < 0
