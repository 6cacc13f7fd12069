"""The strict double refuses what CuPy refuses (also tested on CuPy, if it runs), and what CuPy should refuse."""

import copy
import operator
import pickle

import numpy as np
import pytest

HOST = np.ones(3, np.float32)

REFUSED = {
    "host array on the right": lambda xp, x: x + HOST,
    "host array on the left": lambda xp, x: HOST * x,
    "host array with no axes": lambda xp, x: x * np.array(2.0),
    "host array in place": lambda xp, x: operator.iadd(x, HOST),
    "list on the right": lambda xp, x: operator.add(x, [1.0, 2.0, 3.0]),
    "list given to a ufunc": lambda xp, x: xp.exp([1.0, 2.0]),
    "host array given to a ufunc": lambda xp, x: xp.maximum(x, HOST),
    "host array given to where": lambda xp, x: xp.where(x > 0, HOST, x),
    "list given to where": lambda xp, x: xp.where(x > 0, [1, 2, 3], x),
    "host array among others": lambda xp, x: xp.concatenate([x, HOST[None]]),
    "list given to ascontiguousarray": lambda xp, x: xp.ascontiguousarray([1.0]),
    "host buffer for the result": lambda xp, x: xp.exp(x, out=np.empty((2, 3), np.float32)),
    "host array assigned": lambda xp, x: operator.setitem(x, 0, HOST),
    "list assigned": lambda xp, x: operator.setitem(x, 0, [1, 2, 3]),
    "device array assigned to a host array": lambda xp, x: operator.setitem(HOST.copy(), ..., x[0]),
    "conversion": lambda xp, x: np.asarray(x),
    "testing": lambda xp, x: np.testing.assert_allclose(x, x),
    "buffer": lambda xp, x: memoryview(x),
    "range": lambda xp, x: range(xp.asarray(3)),
    "index of a list": lambda xp, x: [1, 2, 3][xp.asarray(1)],
    "shape": lambda xp, x: xp.zeros((xp.asarray(3), 2)),
    "reshape": lambda xp, x: x.reshape(xp.asarray(3), 2),
    "round": lambda xp, x: round(x.sum()),
    "hash": lambda xp, x: {x: 1},
    "in": lambda xp, x: 3 in x,
    "truth of many": lambda xp, x: bool(x > 0),
    "sum(where=)": lambda xp, x: x.sum(where=x > 0),
    "xp.sum(where=)": lambda xp, x: xp.sum(x, where=x > 0),
    "xp.max(initial=)": lambda xp, x: xp.max(x, initial=0),
    "exp(where=)": lambda xp, x: xp.exp(x, where=x > 0),
    "einsum(out=)": lambda xp, x: xp.einsum("ij,kj->ik", x, x, out=xp.zeros((2, 2), "f4")),
    "too many arguments": lambda xp, x: x.mean(0, None, None, False, 1),
    "integers += fractions": lambda xp, x: operator.iadd(xp.arange(3), 0.5),
    "+= of a larger shape": lambda xp, x: operator.iadd(x[0], x),
    "maximum.reduce": lambda xp, x: xp.maximum.reduce(x),
    "multiply.at": lambda xp, x: xp.multiply.at(x, xp.asarray([0]), 2.0),
    "add.at of bytes": lambda xp, x: xp.add.at(xp.zeros(3, "int8"), xp.asarray([0]), 1),
    "writeable windows": lambda xp, x: xp.lib.stride_tricks.sliding_window_view(x[0], 2, writeable=True),
    "errstate": lambda xp, x: xp.errstate(),
    "block": lambda xp, x: xp.block([x, x]),
    "flags.writeable": lambda xp, x: x.flags.writeable,
    "contains objects": lambda xp, x: xp.asarray([object()]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_cupy_too(xp, what):
    x = xp.arange(6, dtype="f4").reshape(2, 3)
    with pytest.raises((TypeError, ValueError, AttributeError, NotImplementedError)):
        REFUSED[what](xp, x)


BEYOND = {
    "NumPy's ufunc": lambda xp, x: np.exp(x),
    "NumPy's function": lambda xp, x: np.sum(x),
    "NumPy's at": lambda xp, x: np.add.at(x, 0, 1.0),
    "index out of bounds": lambda xp, x: x[xp.asarray([255])],
    "take_along_axis out of bounds": lambda xp, x: xp.take_along_axis(x, xp.asarray([[255]]), 1),
    "repeated indices": lambda xp, x: operator.setitem(x, (0, xp.asarray([1, 1])), xp.asarray([1.0, 2.0])),
    "written through as_strided": lambda xp, x: operator.iadd(
        xp.lib.stride_tricks.as_strided(x, (2, 2, 2), (12, 4, 4)), 1
    ),
    "written through broadcast_to": lambda xp, x: operator.setitem(xp.broadcast_to(x, (2, 2, 3)), 0, 1.0),
    "read-only flag": lambda xp, x: setattr(x.flags, "writeable", False),
    "random numbers": lambda xp, x: xp.random,
}


@pytest.mark.strict
@pytest.mark.parametrize("what", BEYOND)
def test_refused_beyond_cupy(strict, what):
    x = strict.arange(6, dtype="f4").reshape(2, 3)
    with pytest.raises((TypeError, ValueError, AttributeError, IndexError)):
        BEYOND[what](strict, x)


def test_accepted_calls_give_numpys_numbers(xp, device, equal):
    host = np.arange(6, dtype="f4").reshape(2, 3)
    x = xp.asarray(host)
    pairs = {
        "scalars on either side": (2 * x + np.float32(1), 2 * host + np.float32(1)),
        "scalar of NumPy on the left": (np.float32(2) * x, np.float32(2) * host),
        "power": (x**2, host**2),
        "matrix product": (x @ x.T, host @ host.T),
        "comparison and mask": (x[x > 2], host[host > 2]),
        "index from the host": (x[:, [2, 0, 2]], host[:, [2, 0, 2]]),
        "reductions": ([x.sum(), x.max(axis=1), x.argmax(0)], [host.sum(), host.max(1), host.argmax(0)]),
        "where with numbers": (xp.where(x > 2, x, 0), np.where(host > 2, host, 0)),
        "padding": (xp.pad(x, 1, constant_values=-xp.inf), np.pad(host, 1, constant_values=-np.inf)),
        "stack": (xp.stack([x, x]), np.stack([host, host])),
        "einsum": (xp.einsum("ij,kj->ik", x, x), np.einsum("ij,kj->ik", host, host)),
        "rows": (list(x), list(host)),
        "cast": (x.astype("int64"), host.astype("int64")),
        "pickled": (pickle.loads(pickle.dumps(x)), host),
        "copied": (copy.deepcopy(x), host),
    }  # fmt: skip
    for got, expected in pairs.values():
        equal(got, [np.asarray(e) for e in expected] if isinstance(expected, list) else expected, 0)
    assert x.sum().shape == () and not isinstance(x.sum(), float)
    assert (float(x.sum()), int(x.max()), x.min().item(), f"{x.sum():.1f}") == (15.0, 5, 0.0, "15.0")
    assert xp.asarray(x) is x and xp.get_array_module(x) is xp and xp.get_array_module(host) is np
    same = x
    same += 1
    assert same is x and xp.exp(x, out=x) is x


@pytest.mark.strict
def test_empty_memory_is_not_zeros(strict):
    assert np.isnan(strict.empty((2, 3), "f4").get()).all()
    assert (strict.empty_like(strict.zeros(3, "uint8")).get() == 255).all()


@pytest.mark.strict
def test_every_transfer_is_counted(strict):
    x = strict.ones((2, 3), "f4")
    ways = {
        "up": [lambda: strict.asarray(HOST), lambda: strict.array([1, 2]), lambda: strict.asarray(2.0), lambda: x[[0]]],
        "down": [
            x.get, x.tolist, x.tobytes, x.sum().item, lambda: float(x.sum()), lambda: bool(x.any()), lambda: repr(x),
            lambda: f"{x.sum():.3f}", lambda: x[x > 0], lambda: strict.nonzero(x), lambda: strict.asnumpy(x),
        ],
    }  # fmt: skip
    for direction, actions in ways.items():
        for action in actions:
            with strict.counted() as transfers:
                action()
            assert [way for way, _ in transfers] == [direction]
    with strict.counted() as transfers:
        (x * 2 + strict.zeros((2, 3), "f4")).sum(axis=0)[1:].reshape(-1)
        strict.asarray(x)
    assert transfers == []
