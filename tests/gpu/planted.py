"""Bugs of porting from NumPy to CuPy: ``python tests/gpu/planted.py`` prints which library finds each of them.

Each bug is a pair of functions: the right one, from or similar to minifcn's code, and a wrong one that works on NumPy.
Both run on NumPy and on the strict double.  The wrong one is "found" if it raises an exception, gives other numbers or
another dtype, or needs more transfers between host and device than the right one.
"""

import sys
import types
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
import strict_cupy

import minifcn as mf
from minifcn.arrays import backend
from minifcn.engine.tables import Table
from minifcn.kernels import textbook

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, (2, 4, 5))
VOID = np.where(LABELS == 2, 255, LABELS)
WINDOW = ((2, 2), (1, 1), (0, 0), (1, 1))
COLUMNS = textbook.im2col(X, *WINDOW)


@dataclass
class Bug:
    """A right and a wrong function of (xp, *arrays), and whether NumPy alone finds the wrong one."""

    name: str
    right: types.FunctionType
    wrong: types.FunctionType = field(default=None, repr=False)
    arrays: tuple = (X,)
    numpy_finds: bool = False


BUGS = []


def right(name, *arrays):
    """A decorator: the right function of a new bug."""

    def add(function):
        BUGS.append(Bug(name, function, arrays=arrays or (X,)))
        return function

    return add


def wrong(function=None, *, numpy_finds=False):
    """A decorator: the wrong function of the bug that was begun last."""
    if function is None:
        return lambda f: wrong(f, numpy_finds=numpy_finds)
    BUGS[-1].wrong, BUGS[-1].numpy_finds = function, numpy_finds
    return function


@right("a host buffer is filled from the device", COLUMNS)
def col2im(xp, cols):
    return textbook.col2im(cols, X.shape, *WINDOW)


@wrong
def col2im_on_the_host(xp, cols):
    cols = cols.reshape(2, 3, 4, 3, 4)
    x = np.zeros(X.shape, cols.dtype)
    for tap, cells in enumerate(textbook.tap_slices((2, 2), (1, 1), (1, 1), (3, 4))):
        x[cells] += cols[:, :, tap]
    return x


@right("dropout's mask stays on the host")
def dropout(xp, x):
    mf.manual_seed(3)
    return mf.ops.dropout(x, 0.5).data


@wrong
def dropout_with_a_host_mask(xp, x):
    mf.manual_seed(3)
    return x * (backend.rng().random(x.shape, dtype="float32") >= 0.5) * 2


@right("an array is whatever isinstance(x, np.ndarray) says")
def positive(xp, x):
    return xp.maximum(x if backend.is_array(x) else xp.asarray(x), 0)


@wrong
def positive_of_numpys_arrays(xp, x):
    if not isinstance(x, np.ndarray):
        raise TypeError("expected an array")
    return xp.maximum(x, 0)


@right("a list is an operand")
def scaled(xp, x):
    return x * xp.asarray([1, 2, 3, 4, 5], dtype=x.dtype)


@wrong
def scaled_by_a_list(xp, x):
    return (x * [1, 2, 3, 4, 5]).astype(x.dtype)


@right("saved state is copied back from the host")
def restored(xp, x):
    state = x * 0
    state[...] = xp.asarray(np.ones(state.shape, state.dtype))
    return state


@wrong
def restored_from_host_arrays(xp, x):
    state = x * 0
    state[...] = np.ones(state.shape, state.dtype)
    return state


@right("np.maximum in place of xp.maximum")
def relu(xp, x):
    return textbook.relu(x)


@wrong
def relu_by_numpy(xp, x):
    return np.maximum(x, 0)


@right("np.add.at in place of xp.add.at", LABELS)
def histogram(xp, labels):
    counts = xp.zeros(3, "int64")
    xp.add.at(counts, labels.reshape(-1), 1)
    return counts


@wrong
def histogram_by_numpy(xp, labels):
    counts = xp.zeros(3, "int64")
    np.add.at(counts, labels.reshape(-1), 1)
    return counts


@right("sum(where=)")
def labelled_sum(xp, x):
    return (x * (x > 0)).sum(axis=(0, 1))


@wrong
def sum_where(xp, x):
    return x.sum(axis=(0, 1), where=x > 0)


@right("einsum(out=)")
def product(xp, x):
    return xp.einsum("nchw,ndhw->cd", x, x)


@wrong
def product_into_a_buffer(xp, x):
    return xp.einsum("nchw,ndhw->cd", x, x, out=xp.zeros((3, 3), x.dtype))


@right("windows that may be written through")
def windows(xp, x):
    return xp.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3)).sum(axis=(-1, -2))


@wrong
def writeable_windows(xp, x):
    return xp.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3), writeable=True).sum(axis=(-1, -2))


@right("a ufunc's reduce that CuPy has not")
def channel_maximum(xp, x):
    return x.max(axis=1)


@wrong
def maximum_reduce(xp, x):
    return xp.maximum.reduce(x, axis=1)


@right("errstate around a division")
def divided(xp, x):
    return x / xp.where(x == 0, 1, x)


@wrong
def divided_with_errstate(xp, x):
    with xp.errstate(divide="ignore"):
        return x / xp.where(x == 0, 1, x)


@right("round(loss)")
def reported(xp, x):
    return round(float(x.sum()), 4)


@wrong
def reported_from_the_device(xp, x):
    return float(round(x.sum(), 4))


@right("range(labels.max())", LABELS)
def one_hot(xp, labels):
    return xp.stack([labels == c for c in range(int(labels.max()) + 1)])


@wrong
def one_hot_over_a_device_range(xp, labels):
    return xp.stack([labels == c for c in range(labels.max() + 1)])


@right("empty is taken for zeros")
def gathered(xp, x):
    y = xp.zeros(x.shape, x.dtype)
    y += x
    return y


@wrong(numpy_finds=None)  # NumPy finds it by chance: it depends on the previous content of the memory
def gathered_in_empty(xp, x):
    y = xp.empty(x.shape, x.dtype)
    y += x
    return y


@right("a broadcast gradient is written into")
def spread(xp, x):
    g = xp.broadcast_to(x.sum(axis=1, keepdims=True), x.shape).copy()
    g *= 2
    return g


@wrong(numpy_finds=True)
def spread_in_place(xp, x):
    g = xp.broadcast_to(x.sum(axis=1, keepdims=True), x.shape)
    g *= 2
    return g


@right("overlapping windows are written through as_strided", COLUMNS)
def gathered_columns(xp, cols):
    return textbook.col2im(cols, X.shape, *WINDOW)


@wrong(numpy_finds=True)  # NumPy adds to an overlapping cell only once
def scattered_columns(xp, cols):
    gx = xp.zeros(X.shape, cols.dtype)
    view = textbook.sliding_windows(gx, (2, 2), (1, 1), (1, 1), (3, 4))
    view += cols.reshape(view.shape)
    return gx


@right("an array is made read-only")
def protected(xp, x):
    return x * 1


@wrong
def protected_by_a_flag(xp, x):
    y = x * 1
    y.flags.writeable = False
    return y


@right("a gradient is assigned through repeated indices", LABELS)
def last_of_each(xp, labels):
    y = xp.zeros(3, "int64")
    xp.maximum.at(y, labels.reshape(-1), xp.arange(labels.size))
    return y


@wrong
def last_written_wins(xp, labels):
    y = xp.zeros(3, "int64")
    y[labels.reshape(-1)] = xp.arange(labels.size)
    return y


@right("the void label is used as an index", X, VOID)
def loss(xp, scores, labels):
    return mf.ops.cross_entropy(scores, labels).data


@wrong(numpy_finds=True)  # NumPy raises; CuPy wraps the index around and reads another class
def loss_with_void_as_an_index(xp, scores, labels):
    return textbook.softmax_loss(scores, labels, (labels != 255).astype(scores.dtype))[0].sum()


@right("the device's own random numbers")
def shuffled(xp, x):
    return x[xp.asarray(np.random.default_rng(0).permutation(len(x)))]


@wrong
def shuffled_on_the_device(xp, x):
    return x[xp.random.default_rng(0).permutation(len(x))]


@right("a float64 scalar makes everything float64")
def normalised(xp, x):
    return textbook.local_response_norm(x, 3, 0.5, 0.75, 1.0)[0]


@wrong(numpy_finds=True)
def normalised_by_numpys_scalar(xp, x):
    return textbook.local_response_norm(x, 3, np.float64(0.5), 0.75, 1.0)[0]


@right("a loop over elements waits for each")
def total(xp, x):
    return float(x.sum(dtype="float64"))


@wrong
def total_element_by_element(xp, x):
    return float(sum(float(v) for v in x.reshape(-1)))


@right("labels are checked one by one", X, LABELS)
def checked(xp, x, labels):
    if int(labels.max()) >= 3:
        raise ValueError("labels out of range")
    return x


@wrong
def checked_one_by_one(xp, x, labels):
    if any(v >= 3 for v in labels.reshape(-1)):
        raise ValueError("labels out of range")
    return x


@right("constants are sent up in every call of a loop")
def polynomial(xp, x):
    factor = xp.asarray(np.float32(2))
    for _ in range(8):
        x = x * factor
    return x


@wrong
def polynomial_with_constants(xp, x):
    for _ in range(8):
        x = x * xp.asarray(np.float32(2))
    return x


@right("every read goes through an index from the host")
def rows(xp, x):
    index = xp.asarray(np.array([1, 0, 1]))
    return sum(x[:, c][index] for c in range(3))


@wrong
def rows_by_a_host_index(xp, x):
    return sum(x[:, c][np.array([1, 0, 1])] for c in range(3))


@dataclass
class Answer:
    """The result of a run: its value, copied to the host, and the transfers between host and device."""

    value: np.ndarray
    transfers: list


def run(function, xp, arrays):
    """Run `function` on arrays of the library `xp`."""
    arrays = [xp.array(a) for a in arrays]
    cupy = {"cupy": strict_cupy} if xp is strict_cupy else {}
    with mock.patch.dict(sys.modules, cupy), strict_cupy.counted() as transfers:
        value = function(xp, *arrays)
    if isinstance(value, np.ndarray) and xp is not np:
        raise TypeError("the result is on the host")
    return Answer(backend.asnumpy(value), transfers)


def found(bug, xp):
    """The way in which a library reveals the wrong function (error, value or transfers); None if it does not."""
    expected = run(bug.right, xp, bug.arrays)
    try:
        got = run(bug.wrong, xp, bug.arrays)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    a, b = got.value, expected.value
    if a.dtype != b.dtype:
        return f"dtype {a.dtype}, not {b.dtype}"
    if a.shape != b.shape or not np.allclose(a, b, rtol=1e-5, atol=1e-5):
        return "wrong numbers"
    if len(got.transfers) > len(expected.transfers):
        return f"{len(got.transfers)} transfers, not {len(expected.transfers)}"
    return None


def main():
    """Print the table of bugs; with a column for CuPy itself if there is a GPU."""
    libraries = {"NumPy": np, "double": strict_cupy}
    if backend.gpu_available():
        import cupy

        libraries["CuPy"] = cupy
    rows = Table()
    for bug in BUGS:
        how = {name: found(bug, xp) for name, xp in libraries.items()}
        marks = {name: "found" if reason else "-" for name, reason in how.items()}
        rows.append({"planted bug": bug.name, **marks, "how the double finds it": (how["double"] or "")[:75]})
    print(rows)


if __name__ == "__main__":
    main()
