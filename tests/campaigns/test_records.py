"""Wrong values in config.json and in a checkpoint's record: the command works, or reports an error in one sentence."""

import copy as copies
import json

import pytest
from campaign import campaign, command

from minifcn import evaluate, predict, train
from minifcn.io import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.campaign
VALUES = (
    None, True, False, 0, 1, -1, 3, 0.5, -0.5, 1e308, -1e308, 5e-324, 2**31, 2**63, -(2**70), "", "x", "0", "\x00",
    "é창", "x" * 5000, "../..", [], [1], [None, "x"], [[[[]]]], {}, {"a": {"b": []}}, {"": None},
)  # fmt: skip
GROWS = {"epochs", "count"}  # a large value is legal, but takes too long to test


def places(value, path=()):
    """Yield the paths of all fields in nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in items:
        yield (*path, key)
        yield from places(held, (*path, key))


def put(value, path, new):
    """A copy of nested dicts and lists with a new value at a path."""
    value = copies.deepcopy(value)
    held = value
    for key in path[:-1]:
        held = held[key]
    held[path[-1]] = new
    return value


def check_on(run, only=None):
    """A check that sets one field of a run to a wrong value and runs a command on it; `only` is one field of config."""
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    last = (run / "last.safetensors").read_bytes()
    arrays, record = load_checkpoint(run / "last.safetensors")
    fields = [("config", path) for path in places(config)] + [("record", path) for path in places(record)]
    fields = [("config", only)] if only else fields
    pairs = [(file, path, value) for value in VALUES for file, path in fields]
    commands = {
        "resume": lambda: command(train.main, "--resume", run),
        "evaluate": lambda: command(evaluate.main, run),
        "predict": lambda: command(predict.main, run, run / "samples.png", "--out", run / "predicted"),
    }

    def check(number, rng):
        file, path, value = pairs[number * 7919 % len(pairs)]
        if path[-1] in GROWS and isinstance(value, int | float) and value > 3:
            return 1
        (run / "config.json").write_text(json.dumps(put(config, path, value) if file == "config" else config))
        (run / "last.safetensors").write_bytes(last)
        if file == "record":
            save_checkpoint(run / "last.safetensors", arrays, put(record, path, value))
        name = str(rng.choice(list(commands)))
        try:
            commands[name]()
        except Exception as error:
            raise AssertionError(f"{name} with {file} {path} = {str(value)[:40]!r}: {error!r}") from error
        return 1

    return check


def test_wrong_values_in_records(copy, monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # a value may be taken as a relative path and written to
    campaign("wrong values in records", 60, 1200, check_on(copy), seconds=30)


def test_a_command_that_trusts_a_record_is_found(copy, monkeypatch, tmp_path):
    """The sabotage: a command uses a field of config.json without checking it."""
    main = evaluate.main

    def trusting(argv):
        json.loads((copy / "config.json").read_text())["batch_size"] + 1
        return main(argv)

    monkeypatch.setattr(evaluate, "main", trusting)
    with pytest.raises(AssertionError, match="TypeError"):
        campaign("sabotage of records", 25, 25, check_on(copy, ("batch_size",)), seconds=30)
