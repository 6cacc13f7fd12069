"""Level 3 of docs/gpu.md: the CUDA sources run on the CPU, with several orders of threads, and under sanitizers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gpu import cuda_sources
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import Convolution, Pooling, convolutions, normal, poolings, strided, three_by_three

from minifcn.cuda_on_cpu import host
from minifcn.kernels.gpu import conv, launch

pytestmark = pytest.mark.host
TESTS = Path(__file__).parent.parent
ORDERS = {"ascending": 0, "descending": 1, "shuffled": 777}


@pytest.fixture(scope="module", params=ORDERS)
def order(request):
    with host.on_numpy(ORDERS[request.param]):
        yield


@given(convolutions() | three_by_three() | strided(), st.sampled_from(["f4", "f8"]))
@settings(max_examples=75)
def test_convolutions_equal_the_textbook_in_every_order_of_the_threads(order, c, dtype):
    cuda_sources.convolve(c, dtype)


@given(convolutions(), st.integers(1, 2000))
def test_convolutions_in_bands_of_any_workspace_equal_the_textbook(order, c, workspace):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "WORKSPACE", workspace)
        patch.setattr(conv, "WIDE", 6)
        cuda_sources.convolve(c, "f8")


@given(poolings(), st.sampled_from(["f4", "f8"]))
@example(Pooling((1, 1, 4, 4), (2, 2), (3, 3), (1, 1), (1, 1), True), "f4")
def test_poolings_equal_the_textbook_in_every_order_of_the_threads(order, p, dtype):
    cuda_sources.pool(p, dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 21, 9, 7), (3, 1, 20, 30)])
def test_loss_and_normalisations_equal_the_textbook_in_every_order_of_the_threads(order, shape, dtype):
    cuda_sources.loss_and_norms(shape, dtype)


def test_blocks_and_threads_run_in_the_order_that_is_asked_for():
    code = r"""extern "C" __global__ void who(int* turn, int* next) {
        turn[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(next, 1);
    }"""
    turns = {}
    for name, order in ORDERS.items():
        turn, following = np.empty(32, np.int32), np.zeros(1, np.int32)
        host.Module(code, order=order).get_function("who")((4,), (8,), (turn, following))
        turns[name] = turn.tolist()
    assert turns["ascending"] == [*range(32)]
    assert turns["descending"] == [*range(31, -1, -1)]
    assert sorted(turns["shuffled"]) == turns["ascending"] not in (turns["shuffled"], turns["shuffled"][::-1])


def test_any_order_of_the_threads_gives_the_same_bits():
    c, p = (
        Convolution((2, 4, 9, 7), (4, 2, 3, 3), (2, 1), (1, 2), (1, 1), 2),
        Pooling((2, 3, 9, 8), (3, 2), (2, 1), (1, 0), (1, 1), True),
    )
    bits = set()
    for order in (0, 1, 5, 777):
        with host.on_numpy(order):
            results = [*cuda_sources.convolve(c, "f4"), *cuda_sources.pool(p, "f4")]
            results += cuda_sources.loss_and_norms((2, 5, 30, 20), "f4")
            results += cuda_sources.depthwise(cuda_sources.DEPTHWISE, "f4")
        bits.add(b"".join(a.tobytes() for a in results))
    assert len(bits) == 1


def test_sources_that_count_in_64_bits_give_the_same(monkeypatch):
    monkeypatch.setattr(launch, "LARGEST", 3)
    with host.on_numpy():
        cuda_sources.convolve(Convolution((2, 2, 5, 6), (3, 2, 2, 3), (1, 2), (1, 0), (1, 1), 1), "f4")
        cuda_sources.pool(Pooling((1, 2, 5, 6), (2, 2), (2, 2), (0, 0), (1, 1), False), "f4")
        cuda_sources.loss_and_norms((2, 3, 4, 5), "f4")
        cuda_sources.depthwise(cuda_sources.DEPTHWISE, "f4")


# ---- sanitizers, and planted mistakes ----


def sanitized(what, tmp_path):
    """Run cuda_sources.py with a mistake under its sanitizer; (exit code, output)."""
    mistake = cuda_sources.MISTAKES.get(what)
    sanitizer = mistake.caught_by if mistake else what
    library = {"address": "libasan.so", "thread": "libtsan.so"}.get(sanitizer)
    path = subprocess.run(["g++", f"-print-file-name={library}"], capture_output=True, text=True).stdout.strip()
    # ThreadSanitizer needs a fixed address layout, so switch off its randomisation.
    fixed = ["setarch", "-R"] if sanitizer == "thread" else []
    environment = os.environ | {
        "LD_PRELOAD": path if library else "", "ASAN_OPTIONS": "detect_leaks=0",
        "TSAN_OPTIONS": "halt_on_error=1 exitcode=66",
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]),
        "MINIFCN_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
    result = subprocess.run(
        [*fixed, sys.executable, cuda_sources.__file__, what, str(tmp_path / "sparse")],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_the_sanitizers_find_nothing_in_the_sources(sanitizer, tmp_path):
    code, output = sanitized(sanitizer, tmp_path)
    assert code == 0, output
    assert "nothing noticed" in output


@pytest.mark.parametrize("what", cuda_sources.MISTAKES)
def test_a_planted_mistake_is_caught(what, tmp_path):
    mistake = cuda_sources.MISTAKES[what]
    assert sum(mistake.old in launch.source(file) for file in FILES), "no source contains the text to replace"
    code, output = sanitized(what, tmp_path)
    assert code != 0 and "nothing noticed" not in output
    assert re.search(OUTPUTS[mistake.caught_by], output), output


OUTPUTS = {
    "numbers": "AssertionError|RuntimeError",
    "address": "signed integer overflow|AddressSanitizer",
    "thread": "data race",
}
FILES = [path.name for path in launch.FOLDER.glob("*.cu")]


def test_every_kernel_of_every_file_is_run_here():
    names = {name for file in FILES for name in launch.kernels(file)}
    text = Path(cuda_sources.__file__).read_text(encoding="utf-8")
    assert {name for name in names if f'"{name}"' not in text} == set()


def test_a_launch_refuses_arguments_that_cupy_would_misread():
    x, y, taps = normal((1, 1, 4, 4), dtype="f4"), np.empty((1, 1, 2, 2), "f4"), np.empty((1, 1, 2, 2), "u1")
    window = (4, 4, 2, 2, 2, 2, 2, 2, 0, 0, 1, 1)
    with host.on_numpy():
        launch.launch("pool.cu", "max_pool2d", 4, x, y, taps, *window)
        with pytest.raises(TypeError, match="y is float"):
            launch.launch("pool.cu", "max_pool2d", 4, x, y.astype("f8"), taps, *window)
        with pytest.raises(TypeError, match="x is not C-contiguous"):
            launch.launch("pool.cu", "max_pool2d", 4, x.transpose(0, 1, 3, 2), y, taps, *window)
        with pytest.raises(TypeError, match="takes 16 arguments, got 15"):
            launch.launch("pool.cu", "max_pool2d", 4, x, y, taps, *window[1:])
        with pytest.raises(OverflowError):
            launch.launch("pool.cu", "max_pool2d", 4, x, y, taps, 1 << 40, *window[1:])
        with pytest.raises(TypeError, match="float32 and float64"):
            launch.launch("pool.cu", "max_pool2d", 4, x.astype("f2"), y, taps, *window)
