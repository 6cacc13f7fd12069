"""Loss objects: their values by definition, their gradients, and training with them."""

from itertools import product

import numpy as np
import pytest
from strategies import normal
from tiny_run import TINY

import minifcn as mf
from minifcn import evaluate, ops, train
from minifcn.errors import UserError
from minifcn.io import load_record
from minifcn.nn.losses import LOSSES

SCORES = normal((2, 3, 4, 5), 1)
LABELS = np.random.default_rng(0).integers(0, 3, (2, 4, 5))
LABELS[0, 0] = 255
EACH = [loss() for loss in LOSSES.values()]


def probabilities(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def pixels(scores=SCORES, labels=LABELS):
    """A list with (probabilities, class) of every labelled pixel."""
    p = probabilities(scores)
    return [(p[n, :, i, j], labels[n, i, j]) for n, i, j in np.ndindex(labels.shape) if labels[n, i, j] != 255]


def sure(predicted, classes=2):
    """Scores (1, C, 1, n) whose probabilities are 0 and 1."""
    return np.where(np.arange(classes)[:, None] == np.asarray(predicted), 99.0, -99.0)[None, :, None]


def jaccard(mistakes, truth):
    """The Jaccard loss 1 − |Y∖M| / |Y ∪ M|, where M is the set of wrong pixels and Y that of the class's pixels."""
    return 1 - len(truth - mistakes) / len(truth | mistakes)


def dice(found, weight):
    """1 − Σ_c w_c 2 Σ p y / (Σ p + Σ y) / Σ_c w_c."""
    total = 0
    for c, w in enumerate(weight):
        both = sum(2 * p[c] * (y == c) for p, y in found)
        total += w * both / sum(p[c] + (y == c) for p, y in found)
    return 1 - total / sum(weight)


def lovasz(found, weight):
    """The Lovász extension of Δ at e is ∫ Δ({i: e_i > t}) dt over t from 0 to 1, which needs no sorted sum."""
    total = 0
    for c, w in enumerate(weight):
        errors = np.array([1 - p[c] if y == c else p[c] for p, y in found])
        truth = {i for i, (_, y) in enumerate(found) if y == c}
        steps = np.concatenate([[0], np.sort(errors)])
        middles = (steps[1:] + steps[:-1]) / 2
        total += w * sum(jaccard(set(np.flatnonzero(errors > t)), truth) * d for t, d in zip(middles, np.diff(steps)))
    return total / sum(weight)


VALUES = {
    "cross_entropy": lambda found, weight: sum(-weight[y] * np.log(p[y]) for p, y in found),
    "focal": lambda found, weight: sum(-weight[y] * (1 - p[y]) ** 2 * np.log(p[y]) for p, y in found),
    "dice": dice,
    "lovasz": lovasz,
}
"""For each loss, its value by definition, from `pixels()` and a weight for each class: the sum over the pixels, or the
mean over the classes."""


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5]], ids=str)
def test_the_value_is_the_definitions(name, weight):
    assert name in VALUES, f"tests/test_losses.py: enter the value of the loss {name!r} by definition in VALUES"
    expected, loss = VALUES[name](pixels(), weight or [1, 1, 1]), LOSSES[name]()
    divisors = {"sum": 1, "valid": len(pixels()), "batch": len(SCORES), "classes": 1}
    for reduction in loss.reductions:
        got = loss(SCORES, LABELS, weight, reduction).item()
        assert got == pytest.approx(expected / divisors[reduction], rel=1e-12), reduction


@pytest.mark.parametrize("loss", EACH, ids=lambda loss: loss.name)
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5], [0.0, 1.0, 0.0]], ids=str)
def test_every_gradient_is_right(loss, weight):
    for reduction in loss.reductions:
        assert mf.gradcheck(lambda s, r=reduction: loss(s, LABELS, weight, r), SCORES)


@pytest.mark.parametrize("loss", EACH, ids=lambda loss: loss.name)
def test_void_pixels_and_batches_without_labels_have_no_gradient(loss):
    scores = mf.Tensor(SCORES, requires_grad=True)
    loss(scores, LABELS).backward()
    assert (scores.grad[0, :, 0] == 0).all() and (scores.grad[1] != 0).any()
    scores = mf.Tensor(SCORES, requires_grad=True)
    value = loss(scores, np.full_like(LABELS, 255))
    value.backward()
    assert value.item() == 0 and (scores.grad == 0).all()


@pytest.mark.parametrize("loss", EACH, ids=lambda loss: loss.name)
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5]], ids=str)
def test_float32_stays_float32(loss, weight):
    scores = mf.Tensor(SCORES.astype(np.float32), requires_grad=True)
    value = loss(scores, LABELS, weight)
    value.backward()
    assert value.dtype == scores.grad.dtype == np.float32


@pytest.mark.parametrize("gamma", [0, 1, 2, 3.5])
def test_focal_is_its_formula(gamma):
    weight = [1.0, 2.0, 0.5]
    expected = sum(-weight[y] * (1 - p[y]) ** gamma * np.log(p[y]) for p, y in pixels())
    focal = mf.losses.Focal(gamma)
    assert focal(SCORES, LABELS, weight).item() == pytest.approx(expected, rel=1e-12)
    assert focal(SCORES, LABELS, weight, "valid").item() == pytest.approx(expected / len(pixels()), rel=1e-12)
    assert focal(SCORES, LABELS, weight, "batch").item() == pytest.approx(expected / 2, rel=1e-12)


def test_focal_without_gamma_is_cross_entropy():
    got, expected = mf.losses.Focal(0)(SCORES, LABELS), ops.cross_entropy(SCORES, LABELS)
    np.testing.assert_allclose(got.item(), expected.item(), rtol=1e-12)


def test_classes_that_are_not_there_do_not_count():
    labels = np.where(LABELS == 2, 255, LABELS)
    for loss in (mf.losses.Dice(), mf.losses.Lovasz()):
        assert loss(SCORES, labels).item() == pytest.approx(loss(SCORES, labels, [1, 1, 0]).item(), rel=1e-12)


@pytest.mark.parametrize("predicted", list(product((0, 1), repeat=4)))
def test_lovasz_of_sure_predictions_is_one_minus_iu(predicted):
    truth = np.array([1, 1, 0, 1])
    right = {i for i in range(4) if predicted[i] == truth[i] == 1}
    either = {i for i in range(4) if predicted[i] == 1 or truth[i] == 1}
    loss = mf.losses.Lovasz()(sure(predicted), truth[None, None], weight=[0, 1])
    assert loss.item() == pytest.approx(1 - len(right) / len(either), abs=1e-12)


@pytest.mark.parametrize("loss", EACH, ids=lambda loss: loss.name)
def test_what_a_loss_says_of_its_parts_is_true(loss):
    """`adds` is True exactly if the sum of the losses of the images is the loss of the batch."""
    whole = loss(SCORES, LABELS).item()
    parts = sum(loss(SCORES[i : i + 1], LABELS[i : i + 1]).item() for i in range(2))
    assert (abs(whole - parts) < 1e-9) == loss.adds


@pytest.mark.parametrize("name", LOSSES)
def test_a_training_makes_each_loss_smaller_and_evaluate_repeats_it(name, scenes, tmp_path, capfd):
    argv = ["--dataset", "folder", "--root", str(scenes), *TINY, "--loss", name, "--dropout", "0"]
    argv += ["--epochs", "15", "--batch-size", "8"]
    argv += [
        "--no-mirror",
        "--jitter",
        "0",
        "--scale",
        "1",
        "1",
        "--colour",
        "0",
    ]  # so that all epochs have equal images
    assert train.main([*argv, "--out", str(tmp_path / "run")]) == 0
    out = capfd.readouterr().out
    assert f"loss        {name.replace('_', '-')}, reduction {LOSSES[name].reductions[0]}" in out
    rows = load_record(tmp_path / "run/last.safetensors")["state"]["rows"]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert evaluate.main([str(tmp_path / "run"), "--json", str(tmp_path / "e.json")]) == 0
    assert (tmp_path / "e.json").read_text() and "nan" not in (tmp_path / "e.json").read_text().lower()


def test_what_does_not_add_refuses_parts(refused, tmp_path, scenes):
    data, model = mf.data.Shapes(length=4, size=(24, 24), num_classes=3), mf.models.fcn8s_mini(num_classes=3, width=0.1)
    with pytest.raises(
        UserError, match="dice loss is one value for a whole batch, and the losses of accumulated batches"
    ):
        mf.fit(model, data, loss=mf.losses.Dice(), accumulate=2)
    argv = ["--dataset", "folder", "--root", scenes, "--out", tmp_path / "run", *TINY]
    refused(
        train.main,
        *argv,
        "--loss",
        "lovasz",
        "--reduction",
        "sum",
        match="unknown reduction 'sum': choose from classes",
    )
    refused(train.main, *argv, "--loss", "lovasz", "--accumulate", "2", match="accumulated batches")
    refused(train.main, *argv, "--loss", "iou", match="invalid choice: 'iou'")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wrong", [lambda s, y: s.sum(), mf.losses.Dice, "dice", 1], ids=["function", "class", "name", "number"]
)
def test_what_is_no_loss_is_one_sentence(wrong):
    data, model = mf.data.Shapes(length=4, size=(24, 24), num_classes=3), mf.models.fcn8s_mini(num_classes=3, width=0.1)
    with pytest.raises(TypeError, match=r"give an instance of a subclass of mf\.losses\.Loss"):
        mf.fit(model, data, loss=wrong)


def test_a_loss_of_ones_own_trains():
    class Brier(mf.losses.Loss):
        """Σ_i Σ_c (p_ic − y_ic)²."""

        name, reductions = "brier", ("sum",)

        def __call__(self, scores, labels, weight=None, reduction=None):
            t = ops.loss.targets(scores, labels)
            off = (ops.softmax(scores) - t.one_hot(scores.shape[1])) * t.counted[:, None]
            return (off * off).sum()

    assert mf.gradcheck(lambda s: Brier()(s, LABELS), SCORES)
    mf.manual_seed(0)
    data, model = mf.data.Shapes(length=8, size=(24, 24), num_classes=3), mf.models.fcn8s_mini(num_classes=3, width=0.1)
    t = mf.fit(model, data, epochs=6, loss=Brier())
    assert t.rows[-1]["loss"] < t.rows[0]["loss"]


@pytest.mark.parametrize("gamma", [-1, 0.5, float("nan"), float("inf")])
def test_a_focal_exponent_without_a_gradient_is_refused(gamma):
    with pytest.raises(ValueError, match="0, or a number of at least 1"):
        mf.losses.Focal(gamma)


def test_the_effective_step_asks_the_optimiser():
    p = [mf.nn.Parameter(np.ones(2))]
    sgd, adam = mf.optim.SGD(p, lr=1e-3, momentum=0), mf.optim.Adam(p, lr=1e-3)
    assert mf.optim.effective_step(sgd, "sum", 1000, 4) == 1.0  # lr · N
    assert mf.optim.effective_step(adam, "sum", 1000, 4) == 1e-3
