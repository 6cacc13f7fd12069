"""Damaged weight files of every kind: arrays, or one sentence; in a child, so that a crash and the memory are seen."""

import io
import json
import os
import resource
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import weight_files as files
from campaign import DONE, campaign, damaged
from test_hostile_pickles import calls

from minifcn.errors import UserError
from minifcn.io import load_weights

pytestmark = [pytest.mark.campaign, pytest.mark.hdf5]
MEMORY, SECONDS = 1 << 26, 10  # bytes and seconds that reading one of these files, of a few KB, may take
EXTREMES = [0, 1, 127, 128, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def npz_of(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w.npy", data)
    return file.getvalue()


def array():
    file = io.BytesIO()
    np.save(file, files.WEIGHT)
    return file.getvalue()


INSIDE = {  # contents that are damaged before they get into an archive, whose checksum is then right
    "pickle in pth": ("w.pth", lambda: files.mapping(files.STATE), files.pth),
    "pickle in legacy pth": ("w.pth", lambda: files.mapping(files.STATE), files.legacy),
    "h5 in keras": ("w.keras", lambda: files.h5({"layers/conv/vars/0": files.WEIGHT}), files.keras),
    "npy in npz": ("w.npz", array, npz_of),
}
KINDS = [*files.FILES, *INSIDE, "calls"]


def spoilt(data, rng):
    """One to three damages; half of them an extreme integer, where a size may stand."""
    for _ in range(rng.integers(1, 4)):
        if rng.integers(2) or not data:
            data = damaged(data or b"\0", rng)
            continue
        size, at = int(rng.choice([1, 2, 4, 8])), int(rng.integers(len(data)))
        value = EXTREMES[rng.integers(len(EXTREMES))] % 256**size
        data = data[:at] + value.to_bytes(size, str(rng.choice(["little", "big"]))) + data[at + size :]
    return data


def write_spoilt(folder, kind, rng):
    """The path of a damaged file."""
    if kind == "calls":
        bodies = [body for body, _ in calls(folder / "canary").values()]
        path, data = folder / "w.pth", spoilt(bodies[rng.integers(len(bodies))], rng)
        path.write_bytes(data if rng.integers(2) else files.pth(data))
    elif kind in INSIDE:
        name, make, wrap = INSIDE[kind]
        path = folder / name
        path.write_bytes(wrap(spoilt(make(), rng)))
    else:
        path = files.write(folder, kind)
        path.write_bytes(spoilt(path.read_bytes(), rng))
    return path


def in_a_child(read, path):
    """What ``read(path)`` does in a process of its own: a dict with the outcome, the peak of memory and the seconds."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        tracemalloc.start()
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            outcome = "read" if all(a.dtype.kind in "fiub" for a in read(path).values()) else "no numbers"
        except UserError as error:
            outcome = "refused" if str(error).startswith(f"{path.parent}") and "\n" not in str(error) else str(error)
        except BaseException as error:
            outcome = repr(error)[:200]
        memory = max(
            tracemalloc.get_traced_memory()[1], 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        )
        os.write(
            outlet, json.dumps({"outcome": outcome, "memory": memory, "seconds": time.monotonic() - start}).encode()
        )
        os._exit(0)
    os.close(outlet)
    with os.fdopen(inlet, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(answer) if answer else {"outcome": f"crash {status}", "memory": 0, "seconds": 0}


def check_on(folder, read, results):
    """A check that damages a file, reads it, and appends what happened to `results`."""

    def check(number, rng):
        path = write_spoilt(folder, KINDS[number % len(KINDS)], rng)
        result = in_a_child(read, path)
        results.append(result)
        assert not (folder / "canary").exists(), "the file has run a command"
        assert result["outcome"] in ("read", "refused") and result["memory"] < MEMORY and result["seconds"] < SECONDS, (
            result
        )

    return check


def test_damaged_weight_files(tmp_path):
    results = []
    for kind in files.FILES:
        assert files.same(load_weights(files.write(tmp_path, kind)), files.expected(kind))
    try:
        campaign("damaged weight files", 10 * len(KINDS), 250 * len(KINDS), check_on(tmp_path, load_weights, results))
    finally:
        outcomes = [result["outcome"] for result in results]
        peak = max((result["memory"] for result in results), default=0)
        DONE.append(
            f"damaged weight files: {outcomes.count('refused')} refused, {outcomes.count('read')} read, at most "
            f"{peak / 2**20:.1f} MB and {max((result['seconds'] for result in results), default=0):.1f} s for one"
        )


@pytest.mark.parametrize("sabotage", ["errors", "memory", "crash"])
def test_a_reader_that_trusts_a_file_is_found(tmp_path, sabotage):
    """The sabotage: a reader lets NumPy's error through, reserves what a header says, or crashes."""

    def trusting(path):
        if sabotage == "crash":
            os._exit(9)
        if sabotage == "memory":
            np.ones(2**24)
        return dict(np.load(path))

    match = {"errors": "Error", "memory": r"'memory': 1\d{8}", "crash": "crash"}[sabotage]
    with pytest.raises(AssertionError, match=match):
        campaign("sabotage of weight files", 25, 25, check_on(tmp_path, trusting, []))
