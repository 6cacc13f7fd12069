"""Ordinary and extreme combinations of flags are parsed or refused in one sentence; some run a tiny training."""

import argparse
import importlib

import pytest
from campaign import campaign, command, right_or_refused
from tiny_run import TINY

from minifcn import train
from minifcn.io import cli
from minifcn.nn.losses import LOSSES
from minifcn.training import flags as train_flags

pytestmark = pytest.mark.campaign
COMMANDS = ("training.flags", "evaluate", "predict", "viz.geometry", "bench.__main__", "experiments.__main__", "grade",
            "course.__main__", "weights")  # fmt: skip
VALUES = ("0", "1", "2", "3", "-1", "0.5", "-0.5", "1e-300", "1e300", "inf", "nan", "1e10", "3000000000", "9" * 5000,
          "", " ", "x", "é창", "²", "1,2", "a=b", ".", "/", "/nowhere/x", "-", "\x00", "\ud800", "[1]", "none",
          "True")  # fmt: skip
# flags and values with which a tiny training takes about a second
LEGAL = {
    "--lr": ("1e-7", "1e-3"), "--momentum": ("0", "0.9"), "--schedule": ("poly", "step", "constant"),
    "--optimizer": ("sgd", "adam"), "--reduction": ("sum", "valid", "batch", "classes"), "--dropout": ("0", "0.5"),
    "--accumulate": ("1", "3"), "--ema": ("0", "0.9"), "--clip": ("0", "1"),
    "--sampling": ("1", "0.5", "1e-6"), "--seed": ("0", "9"),
    "--loss": tuple(LOSSES), "--balance": ("0.5", "1000"),
    "--weight-decay": ("0", "1e300"),
}  # fmt: skip


def some_flags(parser, rng):
    """Up to four flags of a parser, each with one of its choices or one of VALUES; sometimes an extra word."""
    argv, actions = [], [a for a in parser._actions if a.option_strings and a.dest != "help"]
    for action in rng.choice(actions, int(rng.integers(1, 5))):
        argv.append(str(rng.choice(action.option_strings)))
        if action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction):
            usual = [str(c) for c in action.choices or ()] or ["1"]
            argv.append(str(rng.choice(usual)) if rng.random() < 0.3 else VALUES[rng.integers(len(VALUES))])
    return argv + ["word"] * int(rng.integers(2))


def check(number, rng):
    parser = importlib.import_module(f"minifcn.{COMMANDS[number % len(COMMANDS)]}").parser()
    argv = some_flags(parser, rng)
    try:
        right_or_refused(parser.parse, argv)
    except OSError:  # for example a file name that is too long; every command reports it in one sentence
        return
    except Exception as error:
        raise AssertionError(f"{parser.prog} {str(argv)[:200]}: {error!r}") from error


def test_flags():
    campaign("flags, parsed", 200, 2000, check)


def test_trainings(scenes, tmp_path):
    known = {flag for action in train_flags.parser()._actions for flag in action.option_strings}

    def trained(number, rng):
        argv = ["--dataset", "folder", "--root", scenes, *TINY, "--epochs", "1", "--out", tmp_path / str(number)]
        for flag in rng.choice(sorted(known & set(LEGAL)), 3, replace=False):
            argv += [flag, str(rng.choice(LEGAL[flag]))]
        try:
            command(train.main, *argv)
        except Exception as error:
            raise AssertionError(f"{argv[-6:]}: {error!r}") from error

    campaign("flags, trained", 6, 150, trained)


def test_a_flag_without_a_check_is_found(monkeypatch):
    """The sabotage: the parser does not convert argparse's error to a sentence."""
    monkeypatch.setattr(cli.Parser, "error", lambda self, message: 1 / 0)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        campaign("sabotage of flags", 40, 40, check)
