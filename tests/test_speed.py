"""Times of the kernels with pytest-benchmark: ``pytest -m speed``.  Not run by default; no time is asserted."""

import pytest

from minifcn.bench.cases import FORWARD, KERNELS

pytestmark = pytest.mark.speed


@pytest.mark.parametrize("case", [*KERNELS, *FORWARD])
def test_kernel(case, benchmark):
    work = {**KERNELS, **FORWARD}[case]()
    benchmark(work.ours)
