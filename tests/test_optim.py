"""Optimisers: pieces of arrays give what whole arrays give, and an optimiser of one's own is given whole arrays."""

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn import optim
from minifcn.kernels.cpu import elementwise


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
