"""The snapshot of CuPy's names and parameters, on which the strict double relies, is true of CuPy."""

import json

import pytest
import snapshot


def test_the_snapshot_is_cupys():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda12x (no GPU needed)")
    saved, taken = json.loads(snapshot.FILE.read_text()), snapshot.take(cupy)
    if saved["cupy"] == taken["cupy"]:
        assert saved == taken, "the snapshot is out of date: run python tests/gpu/snapshot.py"
    for kind in ("functions", "methods"):  # another version of CuPy must have everything that the double offers
        for name, parameters in saved[kind].items():
            assert set(parameters.split()) <= set(taken[kind][name].split()), name
    assert set(saved["ufuncs"]) <= set(taken["ufuncs"])


def test_the_snapshot_reads_signatures_and_docstrings():
    def compiled():
        """compiled(self, ndarray a, axis=None, *, int32 dtype=None) -> ndarray"""

    compiled.__signature__ = "none"
    assert snapshot.parameters(compiled) == "a axis dtype"
    assert snapshot.parameters(lambda self, a, axis=None, *args, **kwargs: 0) == "a axis *args **kwargs"
