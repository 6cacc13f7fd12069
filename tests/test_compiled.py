"""The kernels in compiled loops: chosen by default, equal to the definition, and never required."""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import normal

import minifcn as mf
from minifcn import kernels as K
from minifcn.arrays import buffers
from minifcn.engine.core import newest_first, watch
from minifcn.errors import UserError
from minifcn.kernels import compiled, environment, reference, textbook
from minifcn.kernels.compiled import compiler, depthwise, direct, few_tiles, many_tiles, spinning, winograd_rows
from minifcn.kernels.cpu import scratch, workers
from minifcn.kernels.cpu.conv import choice, tiles, toom_cook, winograd
from minifcn.kernels.cpu.conv import few_tiles as numpys_few_tiles
from minifcn.kernels.cpu.conv.window import Window
from minifcn.training import header

pytestmark = pytest.mark.compiled


def test_a_compiled_version_is_the_default_where_there_is_one():
    for name in compiled.KERNELS:
        assert K.implementations(name)[0] == "compiled"
    with mf.override(relu="numpy"):
        x = np.ones(3)
        assert K.relu.choose(x) is K.KERNELS["relu"].special["numpy"]["pieces"]
        assert K.relu_grad.choose(x) is K.KERNELS["relu_grad"].special["numpy"]["pieces"]
    assert K.relu.choose(x) is K.KERNELS["relu"].special["numpy"]["compiled"]


def python(code, **variables):
    environ = {**os.environ, **variables}
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=120)


def test_a_variable_turns_them_off_and_import_does_not_import_numba():
    code = "import sys, minifcn as mf; print('numba' in sys.modules, mf.kernels.implementations('relu')[0])"
    assert python(code, MINIFCN_COMPILED="1").stdout.split() == ["False", "compiled"]
    assert python(code, MINIFCN_COMPILED="0").stdout.split() == ["False", "pieces"]
    assert "MINIFCN_COMPILED='yes': give 0" in python(code, MINIFCN_COMPILED="yes").stderr


def test_without_a_numba_that_can_be_imported_a_note_says_so_and_numpy_computes(tmp_path):
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 2.2 or less')")
    code = "import minifcn as mf; print(mf.ops.relu([-1.0, 2.0]).numpy(), mf.ops.relu([-1.0, 2.0]).numpy())"
    ran = python(code, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert ran.stdout.split() == ["[0.", "2.]"] * 2
    assert ran.stderr.splitlines() == [
        "note: NumPy's kernels run, because Numba cannot be used: Numba needs NumPy 2.2 or less"
    ]


def test_the_header_of_a_run_is_the_same_however_long_compiling_took(monkeypatch, capsys):
    for seconds, said in ((0.2, ""), (8.9, "compiling   took 8.9 s")):
        monkeypatch.setattr(compiler, "warm_up", lambda seconds=seconds: seconds)
        assert header._loops(np) == ", compiled loops"
        assert capsys.readouterr().err.startswith(said) and bool(said) == (seconds > 1)


def test_a_place_that_cannot_be_written_costs_time_not_the_run(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("cannot cache function: no locator available")

    import numba

    real = numba.njit
    monkeypatch.setattr(numba, "njit", lambda *a, **options: refuse() if options.get("cache") else real(*a, **options))
    double = compiler.Loops(_double)
    x, y = np.arange(3.0), np.empty(3)
    double(x, y)
    np.testing.assert_array_equal(y, [0, 2, 4])


def test_a_damaged_file_of_machine_code_is_no_reason_to_stop(tmp_path):
    code = "import minifcn as mf; print(mf.ops.relu([-1.0, 2.0]).numpy())"
    assert python(code, NUMBA_CACHE_DIR=str(tmp_path)).stdout == "[0. 2.]\n"
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".nbi", ".nbc"}
    for path in kept:
        path.write_bytes(path.read_bytes()[:20])
    ran = python(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert (ran.returncode, ran.stdout) == (0, "[0. 2.]\n"), ran.stderr


def _double(x: compiler.Read[1], y: compiler.Write[1]):
    for i in range(len(x)):
        y[i] = 2 * x[i]


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


@given(SHAPES, *[st.integers(1, 4)] * 2, *[st.integers(1, 3)] * 2, *[st.integers(0, 3)] * 2, *[st.integers(1, 2)] * 2,
       st.sampled_from([16, 64, 1 << 13]))  # fmt: skip
@settings(max_examples=60)
def test_depthwise_convolution_equals_the_loops_in_blocks_of_any_size(x_shape, kh, kw, sh, sw, ph, pw, dh, dw, cells):
    (N, C, H, W), window = x_shape, Window((kh, kw), (sh, sw), (ph, pw), (dh, dw), x_shape[1])
    if H + 2 * ph < dh * (kh - 1) + 1 or W + 2 * pw < dw * (kw - 1) + 1:
        return
    x, w = normal(x_shape, 1), normal((C, 1, kh, kw), 2)
    gy = normal((N, C, *window.out_size(x_shape)), 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(depthwise, "CELLS", cells)
        got = [
            depthwise.conv2d(x, w, window), depthwise.conv2d_grad_input(gy, w, x.shape, window),
            depthwise.conv2d_grad_weight(gy, x, w.shape, window),
        ]  # fmt: skip
    rest = (*window[1:4], C)
    expected = [
        reference.conv2d(x, w, *rest), reference.conv2d_grad_input(gy, w, x.shape, *rest),
        reference.conv2d_grad_weight(gy, x, w.shape, *rest),
    ]  # fmt: skip
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    x_shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 19), st.integers(1, 19)),
    O=st.integers(1, 3), ph=st.integers(0, 2), pw=st.integers(0, 2), band=st.sampled_from([700, 4 << 20]),
    worth=st.sampled_from([1, workers.WORTH]),
)  # fmt: skip
def test_winograds_tiles_in_loops_equal_the_definition_in_bands_of_any_size(x_shape, O, ph, pw, band, worth):
    (N, C, H, W), window = x_shape, Window((3, 3), (1, 1), (ph, pw), (1, 1), 1)
    cells = H + 2 * ph - 2, W + 2 * pw - 2
    if min(cells) < 1:
        return
    x, w, gy = normal(x_shape, 1), normal((O, C, 3, 3), 2), normal((N, O, *cells), 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "BAND_BYTES", band)
        patch.setattr(winograd, "FEWEST", 3)
        patch.setattr(workers, "WORTH", worth)  # with 1, the workers share the transforms of few tiles
        patch.setattr(numpys_few_tiles, "PART", 36 * 3)
        patch.setattr(numpys_few_tiles, "GROUP", 2)
        forms = [
            (form.conv2d(x, w, window), form.conv2d_grad_input(gy, w, x_shape, window),
             form.conv2d_grad_weight(gy, x, w.shape, window))
            for form in (many_tiles, few_tiles)
        ]  # fmt: skip
    rest = (*window[1:4], 1)
    expected = [
        reference.conv2d(x, w, *rest), reference.conv2d_grad_input(gy, w, x.shape, *rest),
        reference.conv2d_grad_weight(gy, x, w.shape, *rest),
    ]  # fmt: skip
    for got in forms:
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_the_formulas_of_winograds_transforms_are_his_matrices():
    loops = compiled.winograd
    numbers = loops.constants(float)

    def matrix(function, size, *constants):
        return np.transpose([function(*unit, *constants) for unit in np.eye(size)])

    np.testing.assert_array_equal(matrix(loops.input_values, 6), tiles.BT)
    np.testing.assert_array_equal(matrix(loops.gradient_values, 4), tiles.AT.T)
    np.testing.assert_array_equal(matrix(loops.output_cells, 6), tiles.AT)
    np.testing.assert_allclose(matrix(loops.kernel_values, 3, numbers), tiles.G, rtol=1e-15)
    np.testing.assert_allclose(matrix(loops.kernel_gradient, 6, numbers), tiles.G.T, rtol=1e-15)


@pytest.mark.parametrize("form", [many_tiles, few_tiles])
@pytest.mark.parametrize(("C", "O", "columns"), [(300, 33, 15), (33, 701, 9)])
def test_a_line_of_tiles_is_transformed_in_pieces_that_fit_the_cache(form, C, O, columns):
    assert max(C, O) * columns > compiled.winograd.PIECE
    window, size = Window((3, 3), (1, 1), (2, 1), (1, 1), 1), (9, 4 * columns - 1)
    x, w, gy = normal((2, C, *size), 1), normal((O, C, 3, 3), 2), normal((2, O, 11, size[1]), 3)
    rest = (*window[1:4], 1)
    for got, expected in (
        (form.conv2d(x, w, window), textbook.conv2d(x, w, *rest)),
        (form.conv2d_grad_input(gy, w, x.shape, window), textbook.conv2d_grad_input(gy, w, x.shape, *rest)),
        (form.conv2d_grad_weight(gy, x, w.shape, window), textbook.conv2d_grad_weight(gy, x, w.shape, *rest)),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", [many_tiles, few_tiles])
def test_winograd_in_loops_in_float32_is_within_1e5_of_exact_numbers(form):
    window, rest = Window((3, 3), (1, 1), (1, 1), (1, 1), 1), ((1, 1), (1, 1), (1, 1), 1)
    x, w, gy = normal((2, 16, 21, 19), 1), normal((8, 16, 3, 3), 2), normal((2, 8, 21, 19), 3)
    single = [a.astype(np.float32) for a in (x, w, gy)]
    for kernel, (first, second, *shape) in dict(
        conv2d=(0, 1), conv2d_grad_input=(2, 1, x.shape), conv2d_grad_weight=(2, 0, w.shape)
    ).items():
        exact = getattr(textbook, kernel)((x, w, gy)[first], (x, w, gy)[second], *shape, *rest)
        got = getattr(form, kernel)(single[first], single[second], *shape, window)
        assert abs(got - exact).max() <= 1e-5 * abs(exact).max()


@pytest.mark.parametrize(("form", "worth"), [(many_tiles, 1 << 17), (few_tiles, 1 << 17), (few_tiles, 1 << 20)])
def test_winograds_results_do_not_depend_on_what_was_in_the_memory_before(form, worth, monkeypatch):
    shapes, window = ((2, 9, 65, 65), (2, 10, 65, 65), (10, 9, 3, 3)), Window((3, 3), (1, 1), (1, 1), (1, 1), 1)
    x, gy, w = (normal(shape, 1).astype("f4") for shape in shapes)

    def results():
        return (
            form.conv2d(x, w, window),
            form.conv2d_grad_input(gy, w, x.shape, window),
            form.conv2d_grad_weight(gy, x, w.shape, window),
        )

    def filled(empty, value):
        def made(*args):
            arrays = empty(*args)
            for a in arrays if isinstance(arrays, list) else [arrays]:
                a.fill(value)
            return arrays

        return made

    monkeypatch.setattr(workers, "WORTH", worth)
    monkeypatch.setattr(environment, "threads", lambda: 3)
    monkeypatch.setattr(workers, "_queue", None)
    clean, empty, arrays = results(), buffers.empty, scratch.arrays
    for value in (3e38, np.nan, np.inf):
        with monkeypatch.context() as patch, np.errstate(all="raise", under="ignore"):
            patch.setattr(buffers, "empty", filled(empty, value))
            patch.setattr(scratch, "arrays", filled(arrays, value))
            for a, b in zip(results(), clean, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("sizes", [(1, 1), (8, 32), (16, 512), (64, 33)])
def test_the_36_matrices_of_tiles_do_not_compete_for_one_place_in_the_cache(sizes):
    memory = np.zeros(compiled.winograd.Matrices.size(*sizes), np.float32)
    made = compiled.winograd.Matrices(memory, *sizes)
    assert made.matrices.shape == (36, *sizes) and np.shares_memory(made.matrices, memory)
    assert made.all.strides[0] % 256 == 128  # an odd number of blocks of 128 bytes


def test_scratch_memory_begins_at_lines_of_the_cache():
    for size in (3, 5000, 1 << 20):
        assert all(a.ctypes.data % 64 == 0 for a in scratch.arrays(("f4", (size,)), ("u1", (7,)), ("f8", (size,))))


def chosen(shape, cells, dtype="f4", kernel=3, stride=1, padding=1, column=compiled.conv.COLUMN):
    """The algorithm for a convolution of (O, C) channels with (N, OH, OW) output cells."""
    window, (O, C) = Window((kernel, kernel), (stride, stride), (padding, padding), (1, 1), 1), shape
    return compiled.conv._form(window, (O, C, kernel, kernel), window, C, O, np.dtype(dtype), cells, 2, column)


def three_gradients(form, x, w, gy, *window):
    return (
        form.conv2d(x, w, *window),
        form.conv2d_grad_input(gy, w, x.shape, *window),
        form.conv2d_grad_weight(gy, x, w.shape, *window),
    )


@settings(max_examples=40, deadline=None)
@given(
    x_shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(3, 9), st.integers(7, 19)),
    O=st.integers(1, 5), kh=st.integers(1, 3), padding=st.tuples(st.integers(0, 2), st.integers(0, 7)),
    band=st.sampled_from([3000, 10 << 20]), worth=st.sampled_from([1, workers.WORTH]),
)  # fmt: skip
def test_rows_of_tiles_in_loops_equal_the_definition_in_bands_of_any_size(x_shape, O, kh, padding, band, worth):
    window = Window((kh, 7), (1, 1), padding, (1, 1), 1)
    x, w = normal(x_shape, 1), normal((O, x_shape[1], kh, 7), 2)
    gy = normal((len(x), O, *window.out_size(x.shape)), 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd_rows.numpys, "BAND_BYTES", band)
        patch.setattr(winograd_rows.numpys, "PART", 2)
        patch.setattr(winograd_rows.numpys, "SHARE", 1)
        patch.setattr(workers, "WORTH", worth)
        got = three_gradients(winograd_rows, x, w, gy, window)
    for a, b in zip(got, three_gradients(textbook, x, w, gy, *window[1:4], 1), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_rows_of_kernels_are_transformed_by_toom_and_cooks_matrices(kind):
    w, u = normal((3, 5, 2, 7), 1, kind), normal((10, 3, 10), 2, kind)
    G = toom_cook.matrices(winograd_rows.POINTS, 7, np.float64)[0]
    got, back = np.empty_like(u), np.empty_like(w)
    winograd_rows.transform_kernels(w, None, got, None)
    winograd_rows.transform_back(u, None, back)
    digits = 1e-6 if kind == "f4" else 1e-14
    np.testing.assert_allclose(got, np.einsum("pk,ocik->poci", G, w).reshape(u.shape), rtol=digits, atol=100 * digits)
    np.testing.assert_allclose(back, np.einsum("pk,poj->ojk", G, u).reshape(w.shape), rtol=digits, atol=100 * digits)


def test_rows_of_tiles_are_chosen_for_kernels_of_seven_columns_and_enough_outputs_in_float32_only():
    window, w_shape = Window((7, 7), (1, 1), (0, 0), (1, 1), 1), (4096, 512, 7, 7)
    for size, dtype, pays in (
        (14, "f4", True),
        (22, "f4", True),
        (10, "f4", False),
        (7, "f4", False),
        (22, "f8", False),
    ):
        x_shape, y_shape = (1, 512, size, size), (1, 4096, size - 6, size - 6)
        for form in (
            compiled.conv._forward(window, x_shape, w_shape, np.dtype(dtype), 2),
            compiled.conv._for_input(window, y_shape, w_shape, x_shape, np.dtype(dtype), 2),
            compiled.conv._for_weight(window, y_shape, x_shape, w_shape, np.dtype(dtype), 2),
        ):
            assert (form is winograd_rows) == pays


def test_winograd_in_loops_is_chosen_for_eight_channels_or_more_in_float32_only():
    assert chosen((64, 64), (1, 224, 224)) is many_tiles
    assert chosen((16, 8), (8, 64, 64)) is many_tiles
    assert chosen((32, 32), (4, 32, 32)) is many_tiles
    for dtype, shape in (("f8", (64, 64)), ("f4", (64, 7)), ("f4", (7, 64))):
        assert chosen(shape, (1, 224, 224), dtype) not in (many_tiles, few_tiles)
    for shape, cells in (((512, 512), (1, 28, 28)), ((512, 512), (1, 14, 14)), ((96, 96), (8, 8, 8))):
        assert chosen(shape, cells) is few_tiles
    assert chosen((96, 96), (8, 16, 16)) is many_tiles
    for shape, cells in (((512, 512), (1, 7, 7)), ((128, 128), (8, 2, 2))):
        assert chosen(shape, cells) is None  # too few tiles


def test_few_channels_are_convolved_as_the_definition_has_it():
    for dtype in "f4", "f8":
        assert chosen((16, 3), (8, 128, 128), dtype) is direct  # the first layer of fcn8s_mini
        assert chosen((20, 1), (64, 24, 24), dtype, kernel=5, padding=0) is direct  # LeNet's
    assert chosen((64, 3), (1, 224, 224)) is None  # VGG16's: columns are cheap beside products for 64 outputs ...
    assert chosen((64, 3), (1, 224, 224), column=compiled.conv.GRADIENT) is direct  # ... but not for the gradient
    assert chosen((50, 20), (64, 8, 8), kernel=5, padding=0) is None
    assert chosen((16, 3), (8, 128, 128), kernel=1, padding=0) is None


WINDOWS = dict(
    kh=st.integers(1, 4), kw=st.integers(1, 4), sh=st.integers(1, 3), sw=st.integers(1, 3),
    ph=st.integers(0, 3), pw=st.integers(0, 3), dh=st.integers(1, 2), dw=st.integers(1, 2),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    x_shape=SHAPES, O=st.integers(1, 9), cells=st.sampled_from([8, 300, 1 << 16]), threads=st.integers(1, 3), **WINDOWS
)
def test_direct_convolution_equals_the_definition_in_blocks_of_any_size(
    x_shape, O, cells, threads, kh, kw, sh, sw, ph, pw, dh, dw
):
    (N, C, H, W), window = x_shape, Window((kh, kw), (sh, sw), (ph, pw), (dh, dw), 1)
    if H + 2 * ph < dh * (kh - 1) + 1 or W + 2 * pw < dw * (kw - 1) + 1:
        return
    x, w = normal(x_shape, 1), normal((O, C, kh, kw), 2)
    gy, rest = normal((N, O, *window.out_size(x_shape)), 3), (*window[1:4], 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "CELLS", cells)
        patch.setattr(workers, "threads", lambda: threads)
        direct._blocks.cache_clear(), direct._plan.cache_clear()
        y, gw = direct.conv2d(x, w, window), direct.conv2d_grad_weight(gy, x, w.shape, window)
        gx = direct.conv2d_grad_input(gy, w, x.shape, window) if window.adjoint() else None
        assert direct.cost(window, C, O, (N, *gy.shape[2:]), threads) > 0
    direct._blocks.cache_clear(), direct._plan.cache_clear()
    np.testing.assert_allclose(y, reference.conv2d(x, w, *rest), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gw, reference.conv2d_grad_weight(gy, x, w.shape, *rest), rtol=1e-12, atol=1e-11)
    if gx is not None:
        np.testing.assert_allclose(gx, reference.conv2d_grad_input(gy, w, x.shape, *rest), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("channels", "groups", "dtype"), [(2, 1, "f8"), (2, 2, "f8"), (3, 1, "f4"), (32, 1, "f4")])
def test_an_infinite_cell_of_an_image_reaches_only_the_weights_that_meet_it(value, channels, groups, dtype):
    x, gy = np.ones((2, 1, channels, 24, 24), dtype)
    w, rest = np.ones((channels, channels // groups, 3, 3), dtype), ((1, 1), (1, 1), (1, 1), groups)
    x[0, 0, 23, 23] = value
    with np.errstate(invalid="ignore"):
        expected = reference.conv2d_grad_weight(gy, x, w.shape, *rest)
        got = compiled.conv.conv2d_grad_weight(gy, x, w.shape, *rest)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert np.isfinite(expected).any() and not np.isfinite(expected).all()


def test_large_strides_and_large_rows_are_left_to_numpy():
    assert chosen((21, 21), (1, 8, 8), kernel=64, stride=32, padding=16) is None
    assert chosen((64, 3), (1, 7, 7), kernel=32, stride=32, padding=0) is None
    assert chosen((4, 2048), (1, 8, 4000)) is not direct  # its buffers would take 94 MB per thread
    assert chosen((32, 3), (8, 64, 64), stride=2) is direct


def test_the_input_gradient_of_few_outputs_is_fast_everywhere():
    """64 channels to one: Winograd, which the forward pass takes, would be ten times as slow."""
    w, gy, rest = normal((1, 64, 3, 3), 1, "f4"), normal((1, 1, 56, 56), 2, "f4"), ((1, 1), (1, 1), (1, 1), 1)
    called = []
    with pytest.MonkeyPatch.context() as patch:
        for name, algorithm in choice.ALGORITHMS.items():
            original = algorithm.conv2d_grad_input
            patch.setattr(
                algorithm, "conv2d_grad_input", lambda *a, f=original, name=name: called.append(name) or f(*a)
            )
        gx = choice.conv2d_grad_input(gy, w, (1, 64, 56, 56), *rest, None)
    assert "winograd" not in called and called
    expected = textbook.conv2d_grad_input(gy.astype("f8"), w.astype("f8"), (1, 64, 56, 56), *rest)
    np.testing.assert_allclose(gx, expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)), st.sampled_from([9, 500]),
    st.sampled_from([0, 1 << 12]),
)  # fmt: skip
def test_the_loss_pixel_by_pixel_and_in_pieces_of_any_size_is_the_definitions(shape, piece, few):
    random = np.random.default_rng(0)
    labels = random.integers(0, shape[1], (shape[0], *shape[2:]))
    scores, weights = normal(shape, 1), random.integers(0, 3, labels.shape) * 0.5
    scores[0, :, 0, 0], weights[0, 0, 0] = np.inf, 0  # a void pixel may have any scores
    with pytest.MonkeyPatch.context() as patch, np.errstate(invalid="ignore"):
        patch.setattr(compiled.loss, "PIECE", piece)
        patch.setattr(compiled.loss, "FEW", few)
        loss, prob = compiled.loss.softmax_loss(scores, labels, weights)
        gs = compiled.loss.softmax_loss_grad(prob, labels, weights)
        expected, probabilities = reference.softmax_loss(scores, labels, weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(prob, probabilities, rtol=1e-12)
    np.testing.assert_allclose(gs, reference.softmax_loss_grad(prob, labels, weights), rtol=1e-12, atol=1e-15)
    wide = np.zeros((*shape[:2], shape[2] + 3, shape[3] + 5), np.float32)
    wide[:, :, 1 : 1 + shape[2], 2 : 2 + shape[3]] = scores
    crop = wide[:, :, 1 : 1 + shape[2], 2 : 2 + shape[3]]  # which is not contiguous
    with np.errstate(invalid="ignore"), mock.patch.object(compiled.loss, "FEW", few):
        of_crop = K.softmax_loss(crop, labels, weights.astype(np.float32))[0]
    np.testing.assert_allclose(of_crop, expected, rtol=1e-4, atol=1e-5)
    assert loss[0, 0, 0] == 0 and (gs[0, :, 0, 0] == 0).all()


def one_step(dtype, context):
    """The names of the operations of a small net in training, its output, all gradients and its running statistics."""
    mf.manual_seed(0)
    row = dict(c=mf.nn.Conv2d(3, 8, 3, padding=1), b=mf.nn.BatchNorm2d(8), r=mf.nn.ReLU(), d=mf.nn.Conv2d(8, 4, 1))
    model = mf.nn.Sequential(**row, b2=mf.nn.BatchNorm2d(4), r2=mf.nn.ReLU6())
    for p in model.parameters():
        p.data = p.data.astype(dtype)
    model.b2.weight.data *= 5  # some values exceed 6
    with context:
        x = mf.Tensor(normal((2, 3, 9, 7), 1, dtype), requires_grad=True)
        y = model(x)
        names = [type(node).__name__ for node in newest_first(y.creator)]
        y.backward(normal(y.shape, 2, dtype))
    return names, [y.data, x.grad, *(p.grad for p in model.parameters()), *(b.data for _, b in model.named_buffers())]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_and_relu_run_as_one_unless_somebody_looks_and_give_the_same_bits(dtype):
    names, fused = one_step(dtype, contextlib.nullcontext())
    assert names == ["BatchNormReLU2d", "Conv2d", "BatchNormReLU2d", "Conv2d"]
    for context in (mf.trace(), watch(lambda *_: None), mf.override(max_pool2d="numpy")):
        names, plain = one_step(dtype, context)
        assert names == ["ReLU6", "BatchNorm2d", "Conv2d", "ReLU", "BatchNorm2d", "Conv2d"]
        for a, b in zip(fused, plain, strict=True):
            np.testing.assert_array_equal(a, b)
    assert (fused[0] == 6).any() and (fused[0] == 0).any()


def test_a_layer_with_a_forward_of_its_own_is_not_passed_over():
    class Doubled(mf.nn.ReLU):
        def forward(self, x):
            return 2 * super().forward(x)

    x, seen = normal((2, 3, 4, 4), 1, np.float32), []
    plain = mf.nn.Sequential(mf.nn.BatchNorm2d(3), mf.nn.ReLU())
    expected = plain(x).numpy()
    np.testing.assert_array_equal(mf.nn.Sequential(mf.nn.BatchNorm2d(3), Doubled())(x).numpy(), 2 * expected)
    relu = getattr(plain, "1")
    relu.forward = lambda x: seen.append(x.shape) or mf.ops.relu(x)
    np.testing.assert_array_equal(plain(x).numpy(), expected)
    assert seen == [x.shape]
    for dtype in (np.float16, np.float64):  # compiled loops take neither, beside float32 weights
        y = mf.nn.Sequential(mf.nn.BatchNorm2d(3), mf.nn.ReLU())(x.astype(dtype))
        assert type(y.creator).__name__ == "ReLU"
    frozen = mf.nn.Sequential(mf.nn.BatchNorm2d(3, frozen=True), mf.nn.ReLU())
    np.testing.assert_allclose(frozen(x).numpy(), np.maximum(x, 0), rtol=1e-4)


def test_what_a_user_replaced_for_all_layers_is_used(monkeypatch):
    x, model = normal((2, 3, 4, 4), 1, np.float32), mf.nn.Sequential(n=mf.nn.BatchNorm2d(3), r=mf.nn.ReLU())
    expected = mf.nn.Sequential(mf.nn.BatchNorm2d(3))(x).numpy()
    assert model(x).name == "r" and (model(x).numpy() >= 0).all()
    assert isinstance(model.forward(x), mf.Tensor)  # a raw array, without __call__
    called, original = [], mf.nn.Module.__call__
    with monkeypatch.context() as patch:
        patch.setattr(mf.nn.ReLU, "forward", lambda self, x: x)
        np.testing.assert_array_equal(model(x).numpy(), expected)
    with monkeypatch.context() as patch:
        patch.setattr(mf.ops, "relu", lambda x: x)
        np.testing.assert_array_equal(model(x).numpy(), expected)
    with monkeypatch.context() as patch:
        patch.setattr(mf.nn.Module, "__call__", lambda self, x: called.append(self.name) or original(self, x))
        model(x)
    assert called == ["", "n", "r"]


def test_an_output_that_overflows_has_the_gradient_of_the_two_operations():
    grads = []
    for context in (contextlib.nullcontext(), mf.trace()):
        model = mf.nn.Sequential(n=mf.nn.BatchNorm2d(1), r=mf.nn.ReLU())
        model.n.weight.data[:] = 3e38
        with context:
            y = model(mf.Tensor(np.float32([0, 1, 2, 30]).reshape(1, 1, 2, 2), requires_grad=True))
            y.backward(np.ones(y.shape, np.float32))
        grads.append((model.n.bias.grad, model.n.weight.grad))
    assert np.isinf(y.data).any() and grads[0] == grads[1] and grads[0][0] == 1


@pytest.mark.parametrize("kinds", [("f8", "f4"), ("f4", "f8")])
def test_batch_norm_of_two_types_has_a_gradient(kinds):
    x, weights = normal((2, 3, 4, 5), 1, kinds[0]), [normal(3, i, kinds[1]) for i in (2, 3)]
    y, saved = K.batch_norm(x, *weights, 1e-5)
    gy = normal(y.shape, 4, y.dtype)
    expected = reference.batch_norm_grad(gy, reference.batch_norm(x, *weights, 1e-5)[1])
    for a, b in zip(K.batch_norm_grad(gy, saved), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    tensor, gamma, beta = (mf.Tensor(a, requires_grad=True) for a in (x, *weights))
    mf.ops.relu(mf.ops.batch_norm(tensor, gamma, beta)).backward(gy)
    assert tensor.grad.dtype == x.dtype and gamma.grad.shape == beta.grad.shape == (3,)


def test_arrays_of_the_wrong_shape_are_refused_and_not_read_beyond_their_end():
    x, three = normal((1, 8, 4, 4), 1, np.float32), np.ones(3, np.float32)
    for norm in (lambda: mf.ops.batch_norm(x, three, three), lambda: mf.nn.BatchNorm2d(3).eval()(x)):
        with pytest.raises(ValueError, match=r"8 channels takes one number for each channel, \(8,\), got \(3,\)"):
            norm()
    for kernel in (lambda: K.batch_norm(x, three, three, 1e-5), lambda: K.scale_channels(x, three, three)):
        with pytest.raises(ValueError, match=r"must be of shape \(8,\)"):
            kernel()
    with pytest.raises(ValueError, match=r"must be of shape \(1, 4, 4\)"):
        K.softmax_loss(x, np.zeros((1, 4, 3), int), np.ones((1, 4, 4), np.float32))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_of_arrays_that_do_not_belong_together_is_refused(dtype, groups):
    window, right = ((1, 1), (1, 1), (1, 1), groups), dict(x=(2, 2, 8, 8), w=(4, 2 // groups, 3, 3), gy=(2, 4, 8, 8))
    wrong = [
        dict(x=(2, 3, 8, 8)), dict(x=(1, 2, 8, 8)), dict(x=(2, 2, 8, 9)), dict(gy=(3, 4, 8, 8)), dict(gy=(2, 60, 8, 8)),
        dict(gy=(2, 4, 9, 8)), dict(w=(4, 4, 3, 3)), dict(w=(5, 2, 3, 3)), dict(w=(4, 2, 5, 3)),
    ]  # fmt: skip
    for change in wrong:
        x, w, gy = (np.ones(shape, dtype) for shape in (right | change).values())
        if not change.keys() & {"gy"} and x.shape[1] != w.shape[1] * groups:
            with pytest.raises(ValueError, match="convolution of"):
                K.conv2d(x, w, *window)
        with pytest.raises(ValueError, match="does not give"):
            K.conv2d_grad_weight(gy, x, w.shape, *window)
        with pytest.raises(ValueError, match="does not give"):
            K.conv2d_grad_input(gy, w, x.shape, *window)


@pytest.mark.parametrize(
    ("shape", "cells", "most"),
    [
        ((512, 512), (1, 28, 28), 12e6), ((96, 96), (8, 16, 16), 12e6),
        ((512, 512), (1, 53, 53), 72e6), ((1024, 256), (1, 112, 112), 72e6), ((128, 128), (1, 112, 112), 72e6),
    ],
)  # fmt: skip
def test_the_scratch_memory_of_few_tiles_is_bounded(shape, cells, most, monkeypatch):
    C, wanted, arrays = shape[1], [], scratch.arrays
    monkeypatch.setattr(
        scratch, "arrays", lambda *a: wanted.append(sum(4 * np.prod(shape) for _, shape in a)) or arrays(*a)
    )
    x, w = np.zeros((cells[0], C, *cells[1:]), np.float32), np.zeros((*shape, 3, 3), np.float32)
    window = Window((3, 3), (1, 1), (1, 1), (1, 1), 1)
    gy = few_tiles.conv2d(x, w, window)
    few_tiles.conv2d_grad_weight(gy, x, w.shape, window)
    assert 0 < max(wanted) <= most


def test_few_tiles_are_not_chosen_where_they_are_more_memory_than_the_kernels():
    for shape in ((512, 16), (256, 32), (1024, 8)):
        assert chosen(shape, (1, 128, 128)) is many_tiles


@pytest.mark.parametrize("mean", [0.0, 1e4, -3e5])
def test_batch_norm_keeps_its_digits_far_from_zero(mean):
    x = (np.random.default_rng(0).standard_normal((4, 2, 9, 7)) + mean).astype(np.float32)
    gamma, beta = np.float32([1.5, 1]), np.float32([0.5, -1])
    y, saved = compiled.norm.batch_norm(x, gamma, beta, 1e-5)
    expected, definition = reference.batch_norm(x, gamma, beta, 1e-5)
    np.testing.assert_allclose(y, expected, atol=2e-6)
    np.testing.assert_allclose(saved[1], definition[1], rtol=1e-6)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-9)])
def test_batch_norm_of_a_channel_whose_first_value_is_far_from_all_others(dtype, tolerance):
    x = np.random.default_rng(0).standard_normal((4, 2, 9, 7)).astype(dtype)
    x[0, 0, 0, 0] = 1e8
    x[:, 1] += 5e7
    x[0, 1, 0, 0] = 0
    y, saved = compiled.norm.batch_norm(x, np.ones(2, dtype), np.zeros(2, dtype), 1e-5)
    expected, definition = reference.batch_norm(x, np.ones(2, dtype), np.zeros(2, dtype), 1e-5)
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(saved[1], definition[1], rtol=tolerance)


def test_a_window_of_more_than_256_cells_has_indices_of_two_bytes():
    x = np.zeros((1, 1, 20, 20), np.float32)
    x[0, 0, 17, 13] = 1  # tap 17 · 20 + 13 = 353
    y, index = K.max_pool2d(x, (20, 20), (20, 20), (0, 0), (1, 1), False)
    assert (y.item(), index.item(), index.dtype) == (1, 353, np.uint16)
    gx = K.max_pool2d_grad(np.float32([[[[2]]]]), index, x.shape, (20, 20), (20, 20), (0, 0), (1, 1), False)
    assert gx[0, 0, 17, 13] == 2 and gx.sum() == 2


@pytest.mark.parametrize("size, ceil_mode", [
    ((7, 64), False), ((6, 71), False), ((7, 71), False), ((8, 130), False),
    ((7, 64), True), ((6, 71), True), ((7, 71), True), ((1, 65), True), ((65, 1), True),
])  # fmt: skip
def test_pooling_of_two_by_two_is_that_of_the_definition_also_where_a_window_ends_outside(size, ceil_mode):
    x, window = normal((2, 3, *size), 1, np.float32), ((2, 2), (2, 2), (0, 0), (1, 1), ceil_mode)
    y, index = compiled.pooling.max_pool2d(x, *window)
    expected, taps = reference.max_pool2d(x, *window)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(index, taps)
    gy = normal(y.shape, 2, np.float32)
    gx = compiled.pooling.max_pool2d_grad(gy, index, x.shape, *window)
    np.testing.assert_array_equal(gx, reference.max_pool2d_grad(gy, index, x.shape, *window))


@pytest.mark.parametrize("size", [(5, 7), (6, 6), (1, 4), (9, 2), (4, 43)])
@pytest.mark.parametrize("kernel, stride, padding, dilation", [
    ((2, 2), (2, 2), (0, 0), (1, 1)), ((3, 3), (2, 2), (1, 1), (1, 1)), ((3, 2), (1, 3), (1, 0), (1, 1)),
    ((2, 3), (3, 4), (1, 1), (2, 1)), ((3, 3), (1, 1), (1, 1), (1, 1)), ((1, 1), (2, 5), (0, 0), (1, 1)),
    ((2, 4), (2, 3), (1, 2), (2, 1)), ((2, 3), (1, 2), (1, 1), (1, 2)), ((1, 5), (1, 4), (0, 2), (1, 1)),
])  # fmt: skip
@pytest.mark.parametrize("finite", [True, False])
@pytest.mark.parametrize("row", [1, 1000])  # largest_in_rows, wherever the stride allows it, and largest
def test_max_pooling_in_loops_is_that_of_the_definition(
    size, kernel, stride, padding, dilation, finite, row, monkeypatch
):
    monkeypatch.setattr(compiled.pooling, "ROW", row)
    values = np.float32([-3, -2, -1, 2] if finite else [np.nan, np.inf, -np.inf, -1, 2])
    x, window = np.random.default_rng(0).choice(values, (2, 9, *size)), (kernel, stride, padding, dilation, True)
    y, index = compiled.pooling.max_pool2d(x, *window)
    expected, taps = reference.max_pool2d(x, *window)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(index, taps)
    gy = np.random.default_rng(1).integers(-9, 9, y.shape).astype(np.float32)  # sums of integers are exact in any order
    gx = compiled.pooling.max_pool2d_grad(gy, index, x.shape, *window)
    np.testing.assert_array_equal(gx, reference.max_pool2d_grad(gy, index, x.shape, *window))


@pytest.mark.parametrize("shape", [(1, 2, 3, 35), (1, 2, 4, 34), (1, 3, 4, 35), (2, 2, 4, 35), (1, 2, 5, 35)])
def test_gradients_of_pooling_refuse_arrays_of_another_shape(shape):
    x_shape, y_shape, window = (1, 2, 7, 70), (1, 2, 4, 35), ((2, 2), (2, 2), (0, 0))
    right, wrong = np.zeros(y_shape, np.float32), np.zeros(shape, np.float32)
    for gy, index in ((wrong, right), (right, wrong), (wrong, wrong)):
        with pytest.raises(ValueError, match=r"has outputs of \(1, 2, 4, 35\), and not of"):
            K.max_pool2d_grad(gy, index.astype(np.uint8), x_shape, *window, (1, 1), True)
    with pytest.raises(ValueError, match=r"has outputs of \(1, 2, 4, 35\), and not of"):
        K.avg_pool2d_grad(wrong, x_shape, *window, True, True, (1, 1))


def test_nan_and_infinity_keep_their_meaning():
    x = np.float32([[np.nan, np.inf, -np.inf, -0.0, 7]])
    np.testing.assert_array_equal(K.relu(x), [[np.nan, np.inf, 0, 0, 7]])
    np.testing.assert_array_equal(K.relu6(x), [[np.nan, 6, 0, 0, 6]])
    gy = np.float32([[1, np.inf, np.inf, np.nan, np.nan]])
    np.testing.assert_array_equal(K.relu_grad(gy, K.relu(x)), [[1, np.inf, 0, 0, np.nan]])
    np.testing.assert_array_equal(K.relu6_grad(gy, K.relu6(x)), [[1, 0, 0, 0, 0]])
    image = np.full((1, 1, 2, 2), -np.inf, np.float32)
    for window in (((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1))):
        y, index = K.max_pool2d(image, *window, (1, 1), False)
        assert (y.item(), index.item()) == (-np.inf, 0 if window[0] == (2, 2) else 4)


def test_other_arrays_take_the_other_versions():
    half, empty = np.float16([[-1, 2]]), np.zeros((2, 0), np.float32)
    assert K.relu(half).dtype == np.float16
    assert K.relu(empty).shape == (2, 0)
    strided = np.arange(12.0).reshape(3, 4)[:, ::2] - 3
    np.testing.assert_array_equal(K.relu(strided), np.maximum(strided, 0))
    frozen = np.array([-1.0, 1.0])
    frozen.flags.writeable = False
    np.testing.assert_array_equal(K.relu(frozen), [0, 1])
    big = np.array([-1.0, 1.0], ">f8")
    np.testing.assert_array_equal(K.relu(big), [0, 1])
    w = np.zeros((2, 3, 4), np.float32).transpose(1, 0, 2)  # written in place, through its strides
    K.sgd(w, np.ones(w.shape, np.float32), np.zeros(w.shape, np.float32), 0.5, 0.0, 0.0, "torch")
    assert (w == -0.5).all()


def test_threads_and_a_forked_child_compute_the_same_bits(monkeypatch):
    monkeypatch.setattr(environment, "threads", lambda: 2)
    x = normal((8, 16, 64, 64), 1, np.float32)
    expected, results = compiled.norm.batch_norm(x, x[0, :, 0, 0].copy(), x[1, :, 0, 0].copy(), 1e-5)[0], []

    def compute():
        results.append(K.batch_norm(x, x[0, :, 0, 0].copy(), x[1, :, 0, 0].copy(), 1e-5)[0])

    several = [threading.Thread(target=compute) for _ in range(3)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join(60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork with threads
        with multiprocessing.get_context("fork").Pool(1) as pool:
            results.append(pool.apply(_relu_sum))
    assert len(results) == 4
    assert all((y == expected).all() for y in results[:3])
    assert results[3] == _relu_sum()


def _relu_sum():
    return float(K.relu(normal((8, 16, 64, 64), 1, np.float32)).sum())


def six_loops(x, w, stride, padding, dilation, groups):
    """Convolution as the definition has it, without groups."""
    N, C, H, W = x.shape
    O, _, kh, kw = w.shape
    OH = (H + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    OW = (W + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((N, O, OH, OW), x.dtype)
    for n in range(N):
        for o in range(O):
            for i in range(OH):
                for j in range(OW):
                    for c in range(C):
                        for u in range(kh):
                            for v in range(kw):
                                p = stride[0] * i + dilation[0] * u - padding[0]
                                q = stride[1] * j + dilation[1] * v - padding[1]
                                if 0 <= p < H and 0 <= q < W:
                                    y[n, o, i, j] += w[o, c, u, v] * x[n, c, p, q]
    return y


def test_loops_of_a_student_run_a_whole_network():
    mf.manual_seed(0)
    model = mf.models.fcn8s_mini(num_classes=3, width=0.25).eval()
    image = normal((1, 3, 48, 40), 0, np.float32)
    with mf.no_grad():
        expected = model(image).numpy()
        calls = []
        fast = mf.compiled(six_loops)
        with mf.override(conv2d=lambda *args: (calls.append(1), fast(*args))[1]):
            got = model(image).numpy()
    assert len(calls) > 10
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_what_numba_refuses_is_said_in_one_sentence():
    def shouts(x):
        return open(x)

    with pytest.raises(UserError, match=r"^shouts cannot be compiled \(.*open.*\): use numbers, tuples") as caught:
        mf.compiled(shouts)(np.zeros(3))
    assert "\n" not in str(caught.value)


def test_without_numba_a_student_is_told_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(UserError, match=r"pip install 'minifcn\[compiled\]'"):
        mf.compiled(six_loops)


def test_a_thread_that_spins_notices_a_change_and_does_not_hold_pythons_lock():
    number, spare, turns = np.zeros(1, np.int64), np.empty(1, np.float32), 10**10  # ten seconds or more
    seconds = []

    def watch():
        began = time.perf_counter()
        spinning.until_changed(number, 0, turns, 1000, spare)
        seconds.append(time.perf_counter() - began)

    thread = threading.Thread(target=watch)
    thread.start()
    time.sleep(0.05)
    number[0] = 1  # this thread could not get here if the other held the lock
    thread.join()
    assert seconds[0] < 5
    began = time.perf_counter()
    spinning.spin(number, 1)  # nothing changes
    assert time.perf_counter() - began < 1


def test_threads_spin_only_where_each_has_a_core(monkeypatch):
    for threads, cores, may in ((2, 2, True), (3, 2, False), (1, 4, True)):
        monkeypatch.setattr(environment, "threads", lambda threads=threads: threads)
        monkeypatch.setattr(environment, "cores", lambda cores=cores: cores)
        workers._may_spin.cache_clear()
        assert workers._may_spin() == may
    workers._may_spin.cache_clear()


def test_helper_threads_never_import_numba():
    """Else a process that is forked meanwhile would wait for ever for the lock of the import."""
    program = (
        "import sys, time\n"
        "from minifcn.kernels.cpu import workers\n"
        "assert workers.run(lambda i: i, range(4)) == [0, 1, 2, 3]\n"
        "time.sleep(0.3)\n"
        "assert 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "MINIFCN_THREADS": "2"}, check=True)


VIEWS = dict(
    whole=lambda a: a,
    every_second=lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    backwards=lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    of_a_wide_matrix=lambda a: np.pad(a, ((0, 0), (1, 2)))[:, 1:-2],
    broadcast=lambda a: np.broadcast_to(a[:1, :1], a.shape),
    by_columns=lambda a: np.asfortranarray(a),
)
"""The same numbers (or one of them), with other distances in memory."""


@settings(max_examples=150, deadline=None)
@given(
    C=st.integers(1, 9), O=st.integers(1, 40), threads=st.integers(1, 3), dtype=st.sampled_from(["f4", "f8"]),
    views=st.tuples(*[st.sampled_from([*VIEWS])] * 3),
)  # fmt: skip
def test_products_with_a_vector_equal_the_definition_for_any_layout_and_number_of_workers(C, O, threads, dtype, views):
    row, column, matrix = (normal(shape, i, dtype) for i, shape in enumerate([(1, C), (O, 1), (O, C)]))
    row, column, matrix = (VIEWS[view](a) for view, a in zip(views, (row, column, matrix)))
    pairs = [(row, matrix.T), (row, np.ascontiguousarray(matrix.T)), (column, row), (matrix, row.T), (column.T, matrix)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "WORTH", 1)
        patch.setattr(workers, "threads", lambda: threads)
        got = [K.matmul(a, b) for a, b in pairs]
    for y, (a, b) in zip(got, pairs, strict=True):
        assert y.dtype == dtype
        np.testing.assert_allclose(y, reference.matmul(a, b), rtol=1e-12 if dtype == "f8" else 1e-5, atol=1e-5)


def test_a_linear_layer_learns_from_one_row_and_from_the_gradient_of_a_sum():
    """That gradient is one number in all places."""
    for n, inputs, outputs in ((1, 3, 4), (5, 3, 1), (1, 1, 1)):
        layer, x = mf.nn.Linear(inputs, outputs), mf.Tensor(normal((n, inputs), 1, "f4"), requires_grad=True)
        layer(x).sum().backward()
        np.testing.assert_allclose(x.grad, np.tile(layer.weight.data.sum(axis=0), (n, 1)), rtol=1e-5)
        np.testing.assert_allclose(layer.weight.grad, np.tile(x.data.sum(axis=0), (outputs, 1)), rtol=1e-5)
        np.testing.assert_array_equal(layer.bias.grad, n)


@pytest.mark.parametrize(
    ("kernel", "shapes"),
    [
        ("add_bias", [(1, 8, 4, 4), (3,)]),
        ("bias_relu", [(1, 8, 4, 4), (3,)]),
        ("sgd", [(9,), (4,), (9,)]),
        ("relu_grad", [(2, 8), (2, 7)]),
        ("bias_relu_grad", [(1, 8, 4, 4), (1, 8, 4, 3)]),
    ],
)
def test_loops_do_not_read_beyond_shorter_arrays(kernel, shapes):
    more = dict(sgd=(0.1, 0.0, 0.9, "torch"), bias_relu=(np.inf,), bias_relu_grad=(np.inf,)).get(kernel, ())
    with pytest.raises(ValueError, match="shape"):
        K.KERNELS[kernel](*(normal(shape, i, "f4") for i, shape in enumerate(shapes)), *more)


def test_products_that_do_not_fit_are_refused():
    for a, b in (((1, 3), (4, 5)), ((1, 3), (2, 5)), ((4, 2), (1, 5)), ((4, 1), (2, 5))):
        with pytest.raises(ValueError, match="matmul"):
            compiled.products.matmul(normal(a, 1), normal(b, 2))
