"""Fixtures of the device suite, which runs on a strict double of CuPy and, if there is a device, on CuPy itself."""

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import strict_cupy

from minifcn.arrays import backend


@pytest.fixture(scope="module")
def strict():
    """The strict double, imported under the name ``cupy``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", strict_cupy)
        yield strict_cupy


@pytest.fixture(
    scope="module",
    params=[pytest.param("strict", marks=pytest.mark.strict), pytest.param("cupy", marks=pytest.mark.cupy)],
)
def xp(request):
    """The array library behind the device ``"cuda"`` in a test: the strict double, or CuPy."""
    if request.param == "cupy":
        yield importlib.import_module("cupy")
    else:
        yield request.getfixturevalue("strict")


@pytest.fixture(scope="module")
def device(xp):
    """An object whose ``put`` and ``get`` move arrays to the device and back, also inside tuples, lists and dicts."""
    return SimpleNamespace(put=lambda v: _moved(v, xp.asarray), get=lambda v: _moved(v, backend.asnumpy))


def _moved(value, move):
    if backend.is_array(value):
        return move(value)
    if isinstance(value, tuple | list):
        return type(value)(_moved(v, move) for v in value)
    if isinstance(value, dict):
        return {k: _moved(v, move) for k, v in value.items()}
    return value


@pytest.fixture(scope="module")
def equal(device):
    """A function ``equal(got, expected)``: device arrays must have the values, shape and dtype of host arrays."""

    def equal(got, expected, rtol=1e-12):
        got = got if isinstance(got, tuple | list) else (got,)
        expected = expected if isinstance(expected, tuple | list) else (expected,)
        assert len(got) == len(expected)
        for a, b in zip(got, expected):
            if b is None or a is None:
                assert a is b
                continue
            assert not isinstance(a, np.ndarray), "the result is on the host, not on the device"
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            scale = float(np.abs(b[np.isfinite(b)]).max()) if np.isfinite(b).any() else 1.0
            np.testing.assert_allclose(device.get(a), b, rtol=rtol, atol=rtol * max(scale, 1.0))

    return equal
