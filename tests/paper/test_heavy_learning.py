"""Image-to-image learning (§4.3, PAMI §4.2, §6.2): summed loss, tiny rates, heavy momentum, zero scores at first."""

import numpy as np
import pytest
from paper.nets import double
from strategies import normal

import minifcn as mf
from minifcn import nn, ops
from minifcn.nn.optim import SGD, convert_lr, effective_step, equivalent_momentum
from minifcn.training.metrics import ConfusionMatrix

pytestmark = pytest.mark.paper


def coefficients(momentum, batch, examples):
    """The coefficient of each example's gradient in SGD's last step, the most recent example first.

    Example t has the loss w[t], so its gradient is 1 for element t and 0 elsewhere, whatever the value of w.
    """
    w = nn.Parameter(np.zeros(examples))
    sgd = SGD([w], lr=0.25, momentum=momentum)
    for t in range(examples):
        w[t].backward()
        if (t + 1) % batch == 0:
            before = w.data.copy()
            sgd.step()
    return ((before - w.data) / 0.25)[::-1]


@pytest.mark.parametrize("momentum, batch", [(0.9, 20), (0.99, 1), (0.9, 1), (0.5, 3)])
def test_the_jth_most_recent_example_has_coefficient_p_to_the_j_over_k(momentum, batch):
    j = np.arange(20 * batch)
    np.testing.assert_allclose(coefficients(momentum, batch, 20 * batch), momentum ** (j // batch), rtol=1e-12)


def test_a_large_batch_is_a_heavy_momentum():
    """Momentum 0.9 with 20 images corresponds to 0.99475 with one image, and 0.99 with one image to 0.8179 with 20.

    Coefficients are p^⌊j/k⌋, so they agree at the start of each batch and differ within it because of the floor.
    """
    heavy = equivalent_momentum(0.9, 20, 1)
    assert heavy == pytest.approx(0.99475, abs=5e-6)
    assert equivalent_momentum(0.99, 1, 20) == pytest.approx(0.8179, abs=5e-5)
    assert equivalent_momentum(heavy, 1, 20) == pytest.approx(0.9, rel=1e-12)
    accumulated, online = coefficients(0.9, 20, 400), coefficients(heavy, 1, 400)
    np.testing.assert_allclose(online[::20], accumulated[::20], rtol=1e-10)
    assert (online <= accumulated * (1 + 1e-10)).all() and (online >= 0.9 * accumulated).all()


@pytest.mark.parametrize("momentum, batch, mass", [(0.9, 20, 200), (0.9 ** (1 / 20), 1, 190.32), (0.99, 1, 100)])
def test_the_total_mass_of_the_coefficients(momentum, batch, mass):
    """With a constant gradient of 1 per example, a step grows to rate · k/(1 − p)."""
    w = nn.Parameter(np.zeros(1))
    sgd = SGD([w], lr=1.0, momentum=momentum)
    for _ in range(4000 // batch):
        w.grad, before = np.array([float(batch)]), w.data.copy()
        sgd.step()
    assert before[0] - w.data[0] == pytest.approx(mass, abs=5e-3)


@pytest.mark.parametrize("curvature, exact", [(0.0, True), (1.0, False)])
def test_the_equivalence_is_not_exact_because_the_weights_move(curvature, exact):
    """Old gradients were computed at old weights, so if the loss is curved, they differ from the newest gradient."""
    w = nn.Parameter(np.ones(1))
    sgd = SGD([w], lr=0.01, momentum=0.9)
    for _ in range(20):
        before = w.data[0]
        (w * w * (curvature / 2) + w * (1 - curvature)).sum().backward()
        gradient = w.grad[0]
        sgd.step()
    expected = 0.01 * gradient * (0.9 ** np.arange(20)).sum()  # the step if all 20 gradients equalled the last one
    assert (abs(before - w.data[0] - expected) < 1e-10) == exact
    assert exact or abs(before - w.data[0]) > 2 * expected


PER_PIXEL = 500 * 375


@pytest.mark.parametrize("lr, momentum, reduction, step", [
    (1e-10, 0.99, "sum", 1.9e-3), (1e-12, 0.99, "sum", 1.9e-5), (1e-14, 0.99, "sum", 1.9e-7),
    (1e-4, 0.9, "valid", 1e-3),
])  # fmt: skip
def test_the_absurd_rates_of_the_reference_code_are_ordinary_steps(lr, momentum, reduction, step):
    """The step that SGD makes for a gradient of 1 per pixel, with the rates of FCN-32s, 16s, 8s and a mean loss."""
    w = nn.Parameter(np.zeros(1))
    sgd = SGD([w], lr, momentum)
    for _ in range(2500):
        w.grad, before = np.array([float(PER_PIXEL if reduction == "sum" else 1)]), w.data.copy()
        sgd.step()
    moved = before[0] - w.data[0]
    assert moved == pytest.approx(step, rel=0.02)
    assert effective_step(sgd, reduction, PER_PIXEL, 1) == pytest.approx(moved, rel=1e-6)


@pytest.mark.parametrize("source", ["sum", "valid", "batch"])
@pytest.mark.parametrize("target", ["sum", "valid", "batch"])
def test_steps_coincide_when_the_rate_is_converted_with_the_reduction(source, target):
    """Five steps with momentum and decay are the same for lr_sum·N = lr_valid = lr_batch·N/B, and differ otherwise."""
    x, labels = normal((3, 2, 4, 5)), np.random.default_rng(0).integers(0, 3, (3, 4, 5))
    labels[0, 0] = 255
    n = int((labels != 255).sum())

    def trained(reduction, lr, decay):
        net = double(nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)))
        sgd = SGD(net.parameters(), lr, 0.9, weight_decay=decay)
        for _ in range(5):
            ops.cross_entropy(net(x), labels, reduction=reduction).backward()
            sgd.step()
        return np.concatenate([p.data.ravel() for p in net.parameters()])

    lr = convert_lr(0.1, "valid", source, n, 3)
    assert lr == pytest.approx({"sum": 0.1 / n, "valid": 0.1, "batch": 0.1 / n * 3}[source])
    converted = convert_lr(lr, source, target, n, 3)
    before, after = trained(source, lr, 0.01), trained(target, converted, 0.01 * lr / converted)
    np.testing.assert_allclose(after, before, rtol=1e-10)
    assert source == target or np.abs(trained(target, lr, 0.01) - before).max() > 1e-3


def test_the_papers_rate_of_a_sum_as_one_of_a_mean():
    assert convert_lr(1e-10, "sum", "valid", PER_PIXEL, 1) == pytest.approx(1.875e-5)
    with pytest.raises(ValueError, match="choose from sum, batch, valid"):
        convert_lr(1e-3, "sum", "mean", 10, 1)


def test_caffes_solver_by_hand_through_a_real_gradient():
    """w=1, ℓ=2w, λ=.1, lr=.5, lr_mult=2, μ=.9, V=.3 give g'=2.1, V=.27+.5·2·2.1=2.37 and w=−1.37."""
    w = nn.Parameter(np.array([1.0]), lr_mult=2.0)
    sgd = SGD([w], lr=0.5, momentum=0.9, weight_decay=0.1)
    sgd.state[0]["velocity"][...] = 0.3
    (2 * w).sum().backward()
    sgd.step()
    assert (sgd.state[0]["velocity"][0], w.data[0]) == (pytest.approx(2.37), pytest.approx(-1.37))


def zero_score_net(trunk=nn.init.he):
    """A small FCN: a trunk of stride 2, a score layer that starts at zero, and frozen bilinear upsampling."""
    mf.manual_seed(0)
    net = nn.Sequential(
        conv1=nn.Conv2d(3, 4, 3, padding=1, weight_init=trunk), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(4, 6, 3, padding=1, weight_init=trunk), relu2=nn.ReLU(),
        score=nn.Conv2d(6, 21, 1, weight_init=nn.init.zero),
        up=nn.ConvTranspose2d(21, 21, 4, 2, 1, groups=21, bias=False, weight_init=nn.init.bilinear),
    )  # fmt: skip
    net.up.weight.freeze()
    return net


def background_mostly(h, w):
    """Labels of 21 classes, all of which occur; about three quarters are background."""
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((1, h, w)) < 0.73, 0, rng.integers(0, 21, (1, h, w)))
    labels[0, 0, :21] = np.arange(21)
    return labels


def test_the_first_loss_and_the_first_measures_are_those_of_guessing():
    """The loss is ln 21 per pixel, 570,848 for 500×375.  All pixels are predicted as class 0, the background.

    So the mean accuracy is 1/21, and the mean IU the share of the background / 21.
    """
    net, labels = zero_score_net(), background_mostly(376, 500)[:, :375]
    scores = net(normal((1, 3, 376, 500), dtype=np.float32))[:, :, :375]
    loss = ops.cross_entropy(scores, labels).item()
    assert loss == pytest.approx(570_848, rel=1e-6)
    assert loss / labels.size == pytest.approx(3.0445, abs=5e-5)
    measures = ConfusionMatrix(21).update(labels, scores.numpy().argmax(axis=1))
    background = (labels == 0).mean()
    assert 0.7 < background < 0.8
    assert measures.pixel_accuracy == pytest.approx(background)
    assert measures.mean_accuracy == pytest.approx(1 / 21)
    assert measures.mean_iu == pytest.approx(background / 21)


def train(net, steps):
    """Make `steps` steps on one image; a list of {name: the largest gradient} with a dict for each step."""
    x, labels = normal((1, 3, 16, 18), dtype=np.float32), background_mostly(16, 22)[:, :, :18]
    sgd, seen = SGD(net.parameters(), 1e-3, 0.9), []
    for _ in range(steps):
        ops.cross_entropy(net(x), labels).backward()
        seen.append({name: np.abs(p.grad).max() for name, p in net.named_parameters() if p.grad is not None})
        sgd.step()
    return seen


def test_below_a_zero_score_layer_gradients_are_zero_on_the_first_step_only():
    first, second = train(zero_score_net(), 2)
    scores = {"score.weight", "score.bias"}
    assert {name for name, g in first.items() if g > 0} == scores
    assert {name for name, g in second.items() if g > 0} == set(first) == scores | {
        "conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias",
    }  # fmt: skip


def test_a_trunk_of_zeros_stays_zero_and_only_the_score_bias_learns():
    """A problem from the FAQ of the reference code: if all weights start at zero, the trunk never has a gradient."""
    net = zero_score_net(trunk=nn.init.zero)
    train(net, 4)
    assert {name for name, p in net.named_parameters() if name != "up.weight" and p.data.any()} == {"score.bias"}
