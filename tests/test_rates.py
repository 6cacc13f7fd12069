"""The learning-rate finder: rates that rise by a constant factor, and the rate that it suggests."""

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY

from minifcn import train
from minifcn.training import rates


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([3, 3, 2, 1, 5], 0.1), ([3, 1, 2], 0.001), ([1, 2, 3], None), ([2, 2], None), ([], None)],
)
def test_a_tenth_of_the_rate_with_the_least_loss_is_suggested(losses, expected):
    found = rates.suggested([10.0 ** (i - 3) for i in range(len(losses))], losses)
    assert found is None if expected is None else found == pytest.approx(expected)


def test_the_rate_rises_by_a_constant_factor_over_six_decades():
    factors = [rates.rising(i / 12) for i in range(13)]
    np.testing.assert_allclose(factors, np.logspace(-3, 3, 13))


def test_the_command_draws_the_losses_and_suggests_a_rate_that_lies_below_the_best(scenes, tmp_path, capfd):
    argv = ["--dataset", "folder", "--root", str(scenes), *TINY, "--optimizer", "adam"]
    assert train.main([*argv, "--find-lr", str(tmp_path / "rates.png"), "--out", str(tmp_path / "run")]) == 0
    said = capfd.readouterr().out.splitlines()[-1]
    assert said.startswith("rate        try --lr ") and said.endswith("rates.png")
    assert 1e-6 < float(said.split()[3].rstrip(",")) < 1
    with Image.open(tmp_path / "rates.png") as picture:
        assert picture.size[0] > 500
    assert not (tmp_path / "run").exists()  # nothing was trained


def test_the_search_ends_when_the_loss_has_grown():
    class Run:
        rate, stopping = 1e-3, False

    finder, t = rates.RateFinder(), Run()
    for step, loss in enumerate([2.0] * 5 + [1.0] * 20 + [1000.0]):
        t.loss, t.rate = loss, 1e-3 * 2**step
        finder.stepped(t)
    assert t.stopping and len(finder.rates) == 25
    assert finder.rates[0] == 1e-3  # the loss of the second batch is that after the first step
    best = min(range(25), key=finder.losses.__getitem__)
    assert finder.suggested == pytest.approx(finder.rates[best] / 10)
    assert best == 23  # the last one before the loss grew
