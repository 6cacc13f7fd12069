"""Level 2 of docs/gpu.md: NVIDIA's compiler accepts every CUDA source, minifcn's and those that CuPy generates.

It needs no GPU and no driver.  The source that CuPy generates for an ElementwiseKernel comes from private functions of
CuPy, so CuPy must have the version for which the emulation is built.
"""

import re
from itertools import product

import numpy as np
import pytest

from minifcn.kernels.gpu import elementwise, launch

pytestmark = pytest.mark.nvrtc
ARCHITECTURES = (75, 80, 90, 120)  # Turing, Ampere, Hopper, Blackwell
REGISTERS = 64  # a multiprocessor has 65,536 registers: with 64 each, 1024 threads can run on it
FILES = sorted(path.name for path in launch.FOLDER.glob("*.cu"))


def compile_cuda(source, architecture, options):
    """{kernel: (bytes spilled, registers)} from the compiler's log; AssertionError with the log if it fails."""
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(source, "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, (f"-arch=sm_{architecture}", "-Xptxas=-v", *options))
        assert nvrtc.getCUBIN(program)
        log = nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None
    finally:
        nvrtc.destroyProgram(program)
    found = re.findall(
        r"entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers", log, re.S
    )
    return {name: (int(stores) + int(loads), int(registers)) for name, stores, loads, registers in found}


def generated(name, dtype):
    """The source and the options that CuPy passes to NVRTC for an ElementwiseKernel."""
    import cupy
    from cupy._core import _carray, _kernel, _scalar, core

    kernel = elementwise.elementwise(name)
    scalars = {"rate", "decay", "momentum", "b1", "b2", "eps", "of_mean", "of_square", "m"}
    given = [None if p.name in scalars else dtype for p in kernel.in_params]
    ins, outs, types = kernel._decide_params_type(tuple(given), (dtype,) * kernel.nout)
    arguments = []
    for parameter, kind, of_array in zip((*kernel.in_params, *kernel.out_params), (*ins, *outs), (*given, *outs)):
        if of_array is None:
            arguments.append(_kernel._ArgInfo(3, _scalar.CScalar, np.dtype(kind), 0, True, True))
        else:
            arguments.append(_kernel._ArgInfo(1, cupy.ndarray, np.dtype(kind), 1, True, True))
        assert parameter.name not in scalars or of_array is None
    arguments.append(_kernel._ArgInfo(2, _carray.Indexer, None, 1, True, True))
    code = _kernel._get_elementwise_kernel_code(
        tuple(arguments), types, kernel.params, kernel.operation, kernel.name, kernel.preamble
    )
    headers = "".join(f"#include <{header}>\n" for header in core._cupy_header_list)
    options = (*core.assemble_cupy_compiler_options(()), "-ftz=true", "--device-as-default-execution-space")
    return headers + code, options


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_nvidias_compiler_takes_the_source_and_spills_no_register(file, architecture):
    for real, index in product(("float", "double"), ("int", "long long")):
        usage = compile_cuda(launch.source(file), architecture, (*launch.options(real, index), "-ftz=true"))
        assert usage.keys() == set(launch.kernels(file))
        for name, (spilled, registers) in usage.items():
            assert spilled == 0, f"{name} of {real} and {index}"
            assert registers <= REGISTERS, f"{name} of {real} and {index} takes {registers} registers"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", elementwise.SOURCES)
def test_nvidias_compiler_takes_what_cupy_generates(name, architecture):
    for dtype in (np.float32, np.float64):
        source, options = generated(name, dtype)
        for spilled, registers in compile_cuda(source, architecture, options).values():
            assert spilled == 0 and registers <= REGISTERS


def test_a_mistake_in_a_source_is_refused():
    with pytest.raises(AssertionError, match="undefined"):
        compile_cuda(
            launch.source("loss.cu") + "\n__device__ int f() { return undefined; }", 80, launch.options("float", "int")
        )
