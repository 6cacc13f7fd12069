"""What the environment sets for the kernels: ``MINIFCN_THREADS``, ``MINIFCN_COMPILED``,
``MINIFCN_BAND_MB`` and ``MINIFCN_WORKSPACE_MB``.

Each variable is read once, when a kernel first needs it.
"""

import os
from functools import cache

from ..errors import UserError

MOST_THREADS = 1024
LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE")
"""The variables in which MPI launchers give the number of ranks on this machine: Open MPI, MPICH (Hydra), older PMI,
Slurm."""


@cache
def threads():
    """The number of worker threads: ``MINIFCN_THREADS`` if it is set, else this rank's share of the cores.

    Raises
    ------
    UserError
        If ``MINIFCN_THREADS`` is not a whole number from 1 to ``MOST_THREADS``.
    """
    given = os.environ.get("MINIFCN_THREADS")
    if given is None:
        available = cores()
        if available < cores(os.getppid()):  # the launcher has already bound this process to its share of the cores
            return available
        return max(1, available // local_ranks())
    number = _whole_number(given) or 0
    if not 1 <= number <= MOST_THREADS:
        raise UserError(f"MINIFCN_THREADS={given[:20]!r}: give a whole number of threads, 1 to {MOST_THREADS}")
    return number


@cache
def compiled():
    """Whether compiled kernels may be used: ``MINIFCN_COMPILED`` is not 0."""
    given = os.environ.get("MINIFCN_COMPILED", "1")
    if given not in ("0", "1"):
        raise UserError(f"MINIFCN_COMPILED={given[:20]!r}: give 0, for NumPy's kernels, or 1")
    return given == "1"


def cores(process=0):
    """The number of cores that a process may use; process 0 is this one."""
    try:
        return len(os.sched_getaffinity(process))
    except (AttributeError, OSError):  # the system has no such call, or the process has ended
        return os.cpu_count() or 1


def local_ranks():
    """The number of MPI ranks on this machine, as the launcher gives it; 1 without a launcher."""
    given = (_whole_number(os.environ.get(name, "")) for name in LOCAL_RANKS)
    return max(next((number for number in given if number is not None), 1), 1)


def _whole_number(text):
    """The whole number that `text` gives in ASCII digits, else None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None


@cache
def band_bytes(default):
    """How many bytes one band of a CPU convolution may take: ``MINIFCN_BAND_MB``, else the algorithm's `default`."""
    return _bytes_of("MINIFCN_BAND_MB", default)


@cache
def workspace_bytes(default):
    """How many bytes of columns a GPU convolution makes at a time: ``MINIFCN_WORKSPACE_MB``, else `default`."""
    return _bytes_of("MINIFCN_WORKSPACE_MB", default)


def _bytes_of(variable, default):
    """The bytes that an environment variable gives in megabytes, or `default` if the variable is not set.

    Raises
    ------
    UserError
        If the variable is not a number above 0.
    """
    given = os.environ.get(variable)
    if given is None:
        return default
    try:
        size = float(given) * 2**20 if given.isascii() else 0
    except ValueError:
        size = 0
    if not 0 < size < 2**40:
        raise UserError(f"{variable}={given[:20]!r}: give a number of megabytes above 0")
    return max(1, int(size))
