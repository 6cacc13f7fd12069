"""The snapshot of CuPy's names and keywords, which the double obeys, is what CuPy has."""

import json

import pytest
import snapshot


def test_the_snapshot_is_cupys():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda12x (no GPU needed)")
    saved, taken = json.loads(snapshot.FILE.read_text()), snapshot.take(cupy)
    if saved["cupy"] == taken["cupy"]:
        assert saved == taken, "python tests/gpu/snapshot.py"
    for kind in ("functions", "methods"):  # of another version: nothing the double offers may be missing there
        for name, parameters in saved[kind].items():
            assert set(parameters.split()) <= set(taken[kind][name].split()), name
    assert set(saved["ufuncs"]) <= set(taken["ufuncs"])


def test_the_snapshot_reads_signatures_and_docstrings():
    def compiled():
        """compiled(self, ndarray a, axis=None, *, int32 dtype=None) -> ndarray"""

    compiled.__signature__ = "none"
    assert snapshot.parameters(compiled) == "a axis dtype"
    assert snapshot.parameters(lambda self, a, axis=None, *args, **kwargs: 0) == "a axis *args **kwargs"
