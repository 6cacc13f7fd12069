"""The spatial loss: which pixels count, its reductions, and that its gradients add up."""

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn import ops

SCORES = normal((2, 3, 4, 5), 1)
LABELS = np.random.default_rng(0).integers(0, 3, (2, 4, 5))
LABELS[0, :, 0] = 255
MASK = np.random.default_rng(1).random((2, 4, 5)) < 0.6


def per_location(weight=(1, 1, 1), mask=None):
    """The loss of each location, computed with NumPy independently of the kernels."""
    shifted = SCORES - SCORES.max(axis=1, keepdims=True)
    log_prob = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = np.zeros(LABELS.shape)
    for at in np.ndindex(LABELS.shape):
        label = LABELS[at]
        if label != 255 and (mask is None or mask[at]):
            loss[at] = -weight[label] * log_prob[at[0], label, at[1], at[2]]
    return loss


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("weight", [(1, 1, 1), (0.5, 2.0, 0.0)])
def test_each_reduction_is_a_rescaling_of_the_same_map(weight, mask):
    expected = per_location(weight, mask)
    counted = (LABELS != 255) & (True if mask is None else mask)
    for reduction, value in {
        "none": expected,
        "sum": expected.sum(),
        "valid": expected.sum() / counted.sum(),
        "batch": expected.sum() / 2,
    }.items():
        loss = ops.cross_entropy(SCORES, LABELS, weight=weight, mask=mask, reduction=reduction)
        np.testing.assert_allclose(loss.numpy(), value, rtol=1e-12)


def test_gradients_of_locations_add_up_to_the_gradient_of_the_whole():
    """∇Σℓ' = Σ∇ℓ' (§3): a mask selects the locations one by one."""

    def gradient(mask=None):
        s = mf.Tensor(SCORES, requires_grad=True)
        ops.cross_entropy(s, LABELS, mask=mask).backward()
        return s.grad

    total = np.zeros_like(SCORES)
    for at in np.ndindex(LABELS.shape):
        mask = np.zeros(LABELS.shape, bool)
        mask[at] = True
        total += gradient(mask)
    np.testing.assert_allclose(total, gradient(), atol=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "valid", "batch"])
def test_all_void_is_zero_with_zero_gradients(reduction):
    s = mf.Tensor(SCORES, requires_grad=True)
    loss = ops.cross_entropy(s, np.full_like(LABELS, 255), reduction=reduction)
    loss.backward()
    assert loss.item() == 0
    assert (s.grad == 0).all()


def test_infinite_scores_at_void_locations_do_not_matter():
    scores = SCORES.copy()
    scores[0, 1, :, 0] = np.inf  # the labels of these locations are void
    s = mf.Tensor(scores, requires_grad=True)
    with np.errstate(invalid="ignore"):
        loss = ops.cross_entropy(s, LABELS)
        loss.backward()
    assert loss.item() == pytest.approx(per_location().sum())
    assert (s.grad[0, :, :, 0] == 0).all()


def test_large_scores_neither_overflow_nor_vanish():
    s = mf.Tensor(np.array([[[[1e4]], [[0.0]]]], np.float32), requires_grad=True)
    loss = ops.cross_entropy(s, np.array([[[1]]]))
    loss.backward()
    assert loss.item() == 1e4
    assert s.grad.ravel().tolist() == [1, -1]


def test_half_precision_is_reduced_in_float32():
    """The first loss of the paper's training, 570,848 = 187,500 · ln 21, is too large for float16."""
    scores = mf.Tensor(np.zeros((1, 21, 375, 500), np.float16), requires_grad=True)
    loss = ops.cross_entropy(scores, np.zeros((1, 375, 500), np.uint8))
    loss.backward()
    assert loss.item() == pytest.approx(570_848, rel=1e-5)
    assert scores.grad.dtype == np.float16


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(labels=LABELS + 1), r"labels \[3\] are outside 0 … 2"),
        (dict(labels=LABELS.astype(float)), "must be integers"),
        (dict(labels=LABELS[0]), "expected"),
        (dict(mask=MASK[:1]), "mask of shape"),
        (dict(weight=[1.0]), r"give \(3,\)"),
        (dict(weight=np.ones((3, 2))), r"give \(3,\)"),
        (dict(reduction="mean"), "choose from sum, valid, batch, none"),
        (dict(scores=SCORES[0]), "4 axes"),
    ],
)
def test_refusals(change, said):
    arguments = dict(scores=SCORES, labels=LABELS) | change
    if "labels" in change and change["labels"].shape == LABELS.shape and LABELS.dtype == change["labels"].dtype:
        arguments["labels"] = np.where(LABELS == 255, 255, change["labels"])
    with pytest.raises(ValueError, match=said):
        ops.cross_entropy(arguments.pop("scores"), arguments.pop("labels"), **arguments)
