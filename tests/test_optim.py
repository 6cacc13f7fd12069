"""Optimisers: updating arrays in pieces gives the same result, and a user's optimiser gets whole arrays."""

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn.kernels.cpu import elementwise
from minifcn.nn import optim


def parameters(shape=(40, 30)):
    weights = [mf.Tensor(normal(shape, i, np.float32), requires_grad=True) for i in range(2)]
    for i, p in enumerate(weights):
        p.grad = normal(shape, 10 + i, np.float32)
    return weights


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, form="torch"),
        lambda p: optim.Adam(p, lr=0.1, weight_decay=0.01),
    ],
    ids=["caffe", "torch", "adam"],
)
def test_a_step_in_pieces_is_bit_for_bit_a_step_on_whole_arrays(make, monkeypatch):
    results = []
    monkeypatch.setattr(elementwise, "PIECE", 7)
    for version in ("textbook", "pieces"):
        weights = parameters()
        with mf.override(sgd=version, adam=version):
            make(weights).step(scale=0.5)
        results.append(np.concatenate([p.data for p in weights]).tobytes())
    assert results[0] == results[1]


def test_an_optimiser_of_ones_own_is_given_whole_arrays_and_its_own_state(monkeypatch):
    class Normalised(optim.Optimizer):
        def start(self, p):
            return {"last": p.data * 0}

        def update(self, w, g, state, rate, decay):
            state["last"] = g / np.linalg.norm(g)  # bound anew
            w -= rate * state["last"]

    monkeypatch.setattr(elementwise, "PIECE", 7)
    weights = parameters()
    before = [p.data.copy() for p in weights]
    optimizer = Normalised(weights, lr=1.0)
    optimizer.step()
    for p, w, state in zip(weights, before, optimizer.state):
        assert np.linalg.norm(p.data - w) == pytest.approx(1, rel=1e-5)
        assert state["last"].shape == p.shape and state["last"].any()


def test_a_gradient_of_another_shape_is_refused():
    (p, _) = parameters()
    p.grad = p.grad.T.copy()
    with pytest.raises(ValueError, match="shape"):
        optim.SGD([p], lr=0.1).step()


def test_schedules_stay_real_and_do_not_rise_again_past_the_end():
    for schedule in optim.SCHEDULES.values():
        factors = [schedule(progress) for progress in (0.0, 0.5, 1.0, 1.0001, 7.0)]
        assert all(isinstance(f, float | int) and 0 <= f <= 1 for f in factors)
        assert factors == sorted(factors, reverse=True)


def test_adam_corrects_the_bias_by_the_steps_of_each_parameter():
    """A weight that gets its first gradient in step 10 still moves by lr, because its bias correction has t = 1."""
    late, early = (mf.Tensor(np.zeros(3), requires_grad=True) for _ in range(2))
    adam = optim.Adam([early, late], lr=0.01)
    for _ in range(9):
        early.grad = np.ones(3)
        adam.step()
    late.grad = np.full(3, 5.0)
    adam.step()
    np.testing.assert_allclose(late.data, -0.01, rtol=1e-6)
    np.testing.assert_allclose(early.data, -0.09, rtol=1e-6)


def test_adam_goes_on_from_its_saved_steps_and_from_those_of_older_checkpoints():
    def after(interrupted, forget):
        p, q = (mf.Tensor(np.zeros(2), requires_grad=True) for _ in range(2))
        adam = optim.Adam([p, q], lr=0.01)
        for step in range(6):
            if interrupted and step == 4:
                saved, steps = {k: v.copy() for k, v in adam.state_dict().items()}, adam.steps
                adam = optim.Adam([p, q], lr=0.01)
                saved = {k: v for k, v in saved.items() if not (forget and k.endswith("steps"))}
                adam.load_state_dict(saved, steps)
            p.grad, q.grad = np.array([step + 1.0, -2.0]), np.array([1.0, step]) if step > 2 and not forget else None
            adam.step()
        return np.concatenate([p.data, q.data])

    for forget in (False, True):  # without saved steps: exact if every parameter took part in all of the optimiser's
        assert after(True, forget).tobytes() == after(False, forget).tobytes()


@pytest.mark.parametrize(
    ("params", "error", "said"),
    [
        (lambda p, q: p, TypeError, r"one tensor: give a list of parameters, \[p\]"),
        (lambda p, q: mf.nn.Conv2d(1, 1, 3), TypeError, r"a Conv2d: give its parameters, model\.parameters\(\)"),
        (lambda p, q: mf.nn.Conv2d(1, 1, 3).named_parameters(), TypeError, r"params\[0\] is a tuple: .* without their"),
        (lambda p, q: {"p": p}, TypeError, "a dict"),
        (lambda p, q: 3, TypeError, "a int"),
        (lambda p, q: [p, q.data], TypeError, r"params\[1\] is a ndarray"),
        (lambda p, q: [p, None], TypeError, r"params\[1\] is a NoneType"),
        (lambda p, q: [p, q * 2], ValueError, r"params\[1\] was computed \(by Mul\)"),
        (lambda p, q: [p, q, p], ValueError, r"params\[2\] is params\[0\] again"),
        (lambda p, q: (x for x in ()), ValueError, "params is empty: .* only once"),
        (lambda p, q: [mf.Tensor([1.0])], ValueError, "no parameter requires a gradient"),
    ],
)
def test_what_is_no_list_of_parameters_is_refused(params, error, said):
    for optimizer in (optim.SGD, optim.Adam):
        with pytest.raises(error, match=said):
            optimizer(params(*parameters()), lr=0.1)
    optim.SGD((p for p in parameters()), lr=0.1)  # a generator is accepted


@pytest.mark.parametrize(
    "options",
    [
        dict(lr=-1), dict(lr=float("nan")), dict(lr="0.1"), dict(lr=None), dict(lr=float("inf")),
        dict(lr=0.1, weight_decay=-1), dict(lr=0.1, momentum=1), dict(lr=0.1, momentum=-0.1),
    ],
)  # fmt: skip
def test_rates_that_are_none_are_refused(options):
    with pytest.raises(ValueError, match=r"must be a finite number, at least 0"):
        optim.SGD(parameters(), **options)
    with pytest.raises(ValueError, match="beta is 1"):
        optim.Adam(parameters(), betas=(0.9, 1))
