"""The device suite runs on every array library that has a device: a strict double of CuPy always, CuPy where it can."""

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import strict_cupy

from minifcn.arrays import backend


@pytest.fixture(scope="module")
def strict():
    """The double in CuPy's place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", strict_cupy)
        yield strict_cupy


@pytest.fixture(
    scope="module",
    params=[pytest.param("strict", marks=pytest.mark.strict), pytest.param("cupy", marks=pytest.mark.cupy)],
)
def xp(request):
    """The array library of the device: what ``"cuda"`` means inside the test."""
    if request.param == "cupy":
        yield importlib.import_module("cupy")
    else:
        yield request.getfixturevalue("strict")


@pytest.fixture(scope="module")
def device(xp):
    """``device.put`` and ``device.get`` move arrays, also those inside tuples, lists and dicts."""
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
    """``equal(got, expected)``: arrays on the device, with the numbers, shape and dtype of arrays on the host."""

    def equal(got, expected, rtol=1e-12):
        got = got if isinstance(got, tuple | list) else (got,)
        expected = expected if isinstance(expected, tuple | list) else (expected,)
        assert len(got) == len(expected)
        for a, b in zip(got, expected):
            if b is None or a is None:
                assert a is b
                continue
            assert not isinstance(a, np.ndarray), "on the host"
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            scale = float(np.abs(b[np.isfinite(b)]).max()) if np.isfinite(b).any() else 1.0
            np.testing.assert_allclose(device.get(a), b, rtol=rtol, atol=rtol * max(scale, 1.0))

    return equal
