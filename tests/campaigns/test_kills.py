"""SIGKILL at each change of the disk and at random moments: the resumed run equals an uninterrupted one bit by bit."""

import csv
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from campaign import campaign, command
from tiny_run import TINY, write_scenes

from minifcn import backend, train
from minifcn.io import load_checkpoint

pytestmark = pytest.mark.campaign

# The program counts changes of the disk: files opened for writing and other changes, from Python's audit events, and
# fsync.  It kills itself at the change number `at`, or after `seconds`, and prints the number of changes at the end.
CHILD = """
import os, signal, sys, threading, time
at, seconds, *argv = sys.argv[1:]
from minifcn import train
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
count = 0
def event(name, args):
    global count
    if name == "open" and type(args[0]) is str and "run" in args[0] and (args[2] or 0) & WRITING or name in EVENTS:
        count += 1
        if count == int(at):
            os.kill(os.getpid(), signal.SIGKILL)
EVENTS = {"os.rename", "os.mkdir", "os.chmod", "os.remove", "os.truncate", "os.link", "fsync"}
fsync = os.fsync
os.fsync = lambda fd: (event("fsync", ()), fsync(fd), event("fsync", ()))
sys.addaudithook(event)
if float(seconds):
    threading.Thread(target=lambda: (time.sleep(float(seconds)), os.kill(os.getpid(), signal.SIGKILL)), daemon=True).start()
begin = time.monotonic()
code = train.main(argv)
print("EVENTS", count, time.monotonic() - begin)
sys.exit(code)
"""  # noqa: E501


def contents(run):
    """The contents of a run folder to compare: the log without seconds, the weights, and the training's state."""
    with open(run / "log.csv", encoding="utf-8", newline="") as file:
        log = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    arrays, record = load_checkpoint(run / "last.safetensors")
    best, _ = load_checkpoint(run / "best.safetensors")
    state = {k: v for k, v in record["state"].items() if k != "rows"}
    bits = [{k: a.tobytes() for k, a in held.items()} for held in (arrays, best)]
    return log, bits, state, record["random"], record["loader"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The scenes; the contents of an uninterrupted run on them; its number of disk changes, and its seconds."""
    base = tmp_path_factory.mktemp("uninterrupted")
    scenes = write_scenes(base / "scenes")
    done = started(scenes, base / "run", 0, 0)
    assert done.returncode == 0, done.stderr
    _, events, seconds = done.stdout.splitlines()[-1].split()
    return scenes, contents(base / "run"), int(events), float(seconds)


def flags(scenes, run):
    return ["--dataset", "folder", "--root", str(scenes), *TINY, "--dropout", "0.5", "--out", str(run)]


def started(scenes, run, at, seconds):
    argv = [sys.executable, "-c", CHILD, str(at), str(seconds), *flags(scenes, run)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=100)


def check_with(uninterrupted, run):
    scenes, right, events, seconds = uninterrupted

    def check(number, rng):
        shutil.rmtree(run, ignore_errors=True)
        at = 1 + number * 37 % events if number % 4 else 0  # all changes in turn; in a sample they are far apart
        done = started(scenes, run, at, 0 if at else rng.uniform(0.01, seconds))
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        code, error = command(train.main, "--resume", run)
        if code:  # killed before there was anything to resume: start the training again
            code, again = command(train.main, *flags(scenes, run))
            assert code == 0, f"killed at {at}: {error} {again}"
        for ours, theirs in zip(contents(run), right):
            assert ours == theirs, f"killed at {at}"
        left = [name for name in os.listdir(run) if "tmp" in name or "partial" in name]
        assert not left, f"killed at {at}: the files {left} remain"

    return check


def test_killed_and_resumed(uninterrupted, tmp_path):
    campaign("kill and resume", 5, 220, check_with(uninterrupted, tmp_path / "run"))


def test_a_state_that_is_not_restored_is_seen(uninterrupted, tmp_path, monkeypatch):
    """The sabotage: resuming does not restore the random state."""
    restore = train.Run.restore

    def sabotaged(run, t):
        state = np.random.default_rng(7).bit_generator.state
        restore(run, t)
        backend.rng().bit_generator.state = state

    monkeypatch.setattr(train.Run, "restore", sabotaged)
    with pytest.raises(AssertionError, match=r"killed at \d+\n"):
        campaign("sabotage of kill and resume", 4, 4, check_with(uninterrupted, tmp_path / "run"))
