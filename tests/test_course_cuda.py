"""CUDA kernels of students: they are compiled and run in a separate process, which may do nothing else."""

import re
import subprocess
import sys

import numpy as np
import pytest

from minifcn import kernels
from minifcn.course import cuda
from minifcn.course.judge import Examiner
from minifcn.course.tasks import Assignment, folder
from minifcn.cuda_on_cpu.compiler import CompileError

pytestmark = pytest.mark.course
WHERE = (2, 2), (2, 2), (0, 0), (1, 1), False


@pytest.fixture(scope="module")
def assignment():
    return Assignment(folder() / "a7_cuda.py")


@pytest.fixture(scope="module")
def source(assignment):
    """The right source of max pooling."""
    return re.search('r"""(.*?)"""', next(c.source for c in assignment.cells if c.task == "7.1"), re.S)[1]


def graded(assignment, source, timeout=10):
    """The result of task 7.1 for a source."""
    cell = f"# Task 7.1\ndef max_pool2d_source():\n    return {source!r}"
    return Examiner(assignment, 0, timeout).grade([*assignment.solution(), cell], ["7.1"])[0]


def test_a_source_is_held_against_what_is_asked_for(source):
    for wrong, says in {
        source.replace("max_pool2d", "pool"): "no extern",
        source.replace("int total", "long total"): "parameters of max_pool2d should be",
        source.replace("const float* x", "const float x"): "parameters",
        "#include <cstdio>" + source: "#include",
        "#inc\\\nlude <cstdio>" + source: "#include",
        'asm(".incbin");' + source: "asm",
        "#inc\\ \nlude <cstdio>\n" + source: "#include",
        'const char* a = "/*";\n#include <cstdio>\nconst char* b = "*/";' + source: "#include",
        source.replace("if (e >=", "__syncthreads(); if (e >="): "no barrier, and may not use `__syncthreads`",
        source.replace("if (e >=", "__shfl_xor_sync(0u, e, 1); if (e >="): "__shfl_xor_sync",
        source.replace("if (e >=", "if (emulation::only < 0 && e >="): "may not use `emulation`",
        'extern "C" int cuda_run_only(int);' + source: "may not use `cuda_run_only`",
    }.items():
        with pytest.raises(CompileError, match=says):
            cuda.check("max_pool2d", wrong)
    for wrong in (None, "\ud800", " " * 30_000):
        with pytest.raises(CompileError, match="a str of at most"):
            cuda.check("max_pool2d", wrong)
    cuda.check("max_pool2d", source)


def test_without_a_compiler_the_task_is_not_graded(assignment, source, monkeypatch):
    monkeypatch.setattr(cuda, "available", lambda: False)
    result = graded(assignment, source)
    assert (result.points, result.out_of) == (0, 0)
    assert "not graded" in result.says[0]


@pytest.mark.host
def test_a_kernel_stands_in_for_the_librarys(source):
    kernel, x = cuda.Kernel("max_pool2d", source), np.random.default_rng(0).standard_normal((2, 3, 6, 8))
    for got, right in zip(kernel.in_every_order(x.astype("f4"), *WHERE), kernels.max_pool2d(x.astype("f4"), *WHERE)):
        assert (got == right).all()


@pytest.mark.host
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("if (e >= total) return;", "", "writes outside"),
        ("y[e] = best;", "y[e] = best; y[e + 200000] = 1;", "writes outside"),
        ("y[e] = best;", "y[e] = best; if (e == 0) index[-70000] = 1;", "writes outside"),
        ("y[e] = best;", "y[e] = best; ((float*)x)[total * 4 + e] = 1;", "writes outside"),
        ("y[e] = best;", "y[e] = best + (x[-1] > 0);", "memory outside the arrays"),
        ("y[e] = best;", "y[e] = best + (x[total * 90] > 0);", "memory outside the arrays"),
        (
            "y[e] = best;",
            "y[e] = best; if (e % 2 == 0 && e + 1 < total) y[e + 1] = 0;",
            "order of the threads|writes 2",
        ),
        ("blockDim.x", "256", "order of the threads, on the size of blocks"),
        ("y[e] = best;", "y[e] = best; y[0] = e;", "order of the threads"),
    ],
)
def test_what_depends_on_the_order_or_leaves_its_arrays_is_seen(source, old, new, says):
    kernel = cuda.Kernel("max_pool2d", source.replace(old, new))
    with pytest.raises(RuntimeError, match=says):
        kernel.in_every_order(np.ones((1, 1, 50, 50), "f4"), *WHERE)


@pytest.mark.host
def test_a_thread_that_writes_what_others_should_is_seen(source):
    """The results are right in every order."""
    loop = source.replace("if (e >= total) return;", "if (e) return;\n    for (; e < total; ++e) {")
    loop = loop.replace("index[e] = at;", "index[e] = at;\n    }")
    x = np.random.default_rng(0).standard_normal((1, 2, 12, 12)).astype("f4")
    with pytest.raises(RuntimeError, match="writes 72 of 72 elements"):
        cuda.Kernel("max_pool2d", loop).in_every_order(x, *WHERE)
    strided = "for (; e < total; e += gridDim.x * blockDim.x) {"
    for right in (source, loop.replace("if (e) return;\n    for (; e < total; ++e) {", strided)):
        y, _ = cuda.Kernel("max_pool2d", right).in_every_order(x, *WHERE)
        assert (y == kernels.max_pool2d(x, *WHERE)[0]).all()


@pytest.mark.host
def test_a_write_very_far_outside_ends_the_process(assignment, source):
    result = graded(assignment, source.replace("y[e] = best;", "y[e] = best; y[e + 10000000] = 1;"))
    assert result.points == 0
    assert "an access outside an array" in result.checks[0].says[0]


@pytest.mark.host
def test_a_compilers_error_is_one_line_of_feedback(assignment, source):
    result = graded(assignment, source.replace("float best = 0;", "float best = 0"))
    assert result.points == 0
    assert re.fullmatch(r"it does not compile: line \d+: expected .*", result.checks[0].says[0])


@pytest.mark.host
def test_native_code_computes_and_does_nothing_else(assignment, source, tmp_path):
    """Neither while it is loaded nor while it runs can it start a process or write a file; its result still counts."""
    mark = tmp_path / "mark"
    early = f'static int early = system("touch {mark}");'
    late = f'if (e == 0) system("touch {mark}"), fork();'
    result = graded(
        assignment, f'extern "C" int fork();{early}{source}'.replace("float best = 0;", late + "float best = 0;")
    )
    assert result.points == result.out_of
    assert not mark.exists()


@pytest.mark.host
def test_a_kernel_that_never_ends_is_ended(assignment, source):
    result = graded(assignment, source.replace("y[e] = best;", "while (true) y[e] += 1;"), timeout=3)
    assert result.points == 0
    assert "more than 3 seconds" in result.checks[0].says[0]


@pytest.mark.host
def test_a_confined_process_still_reads_until_it_may_not():
    code = """
from minifcn.course.confine import confine
def tried(act):
    try: act()
    except OSError as error: return error.errno
import os, socket
confine(True)
print(tried(lambda: open(os.devnull)), tried(lambda: open("x", "w")), tried(os.fork), tried(socket.socket))
confine(False)
print(tried(lambda: open(os.devnull)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["None", "1", "1", "1", "1"], done.stderr
