"""Several ranks (the processes that ``mpiexec`` starts) train one model: each computes on its part of every batch.

The loss is a sum, so the gradients of the parts add up to the gradient of the batch.  A group of ranks has ``rank``,
``size`` and ``all_reduce(array)``, which adds a contiguous array over all ranks in place and returns it.
:func:`world` returns the group; mpi4py is imported only if it has several ranks.
"""

import os
import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from ..errors import UserError
from . import backend

LAUNCHERS = (("PMI_RANK", "PMI_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"))
"""The variables in which a launcher gives the rank and their number: MPICH (Hydra) and its relatives, Open MPI."""

PATIENCE = 5.0  # seconds that a rank with an error waits for the other ranks to end with the same error


class Alone:
    """The group of a single process: its arrays already are the sums."""

    rank, size = 0, 1

    def all_reduce(self, array):
        """The array itself: there is nothing to add."""
        return array


ALONE = Alone()


class MPI:
    """The ranks of MPI_COMM_WORLD.

    MPI adds host arrays.  NCCL adds device arrays if every rank has its own GPU; otherwise they are copied to the host
    and added there.  The path through NCCL has never run on GPUs.

    After this, an uncaught exception ends the processes of all ranks; otherwise the others would wait for this one for
    ever.
    """

    def __init__(self):
        from mpi4py import MPI

        self.mpi, self.comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        # all_leave() has its own communicator: its barrier must not match an operation of a rank that still computes
        self.leaving = self.comm.Dup()
        sys.excepthook = self._end_all

    def all_reduce(self, array):
        """Add an array over all ranks in place, and return it."""
        if isinstance(array, np.ndarray):
            self.comm.Allreduce(self.mpi.IN_PLACE, array)
        elif self.nccl:
            self.nccl.all_reduce(array, array)
        else:
            host = backend.asnumpy(array)
            self.comm.Allreduce(self.mpi.IN_PLACE, host)
            array.set(host)
        return array

    @cached_property
    def nccl(self):
        """NCCL's communicator; None if NCCL is missing on some rank or two ranks share a GPU."""
        cuda = backend.cupy().cuda
        mine = (self.mpi.Get_processor_name(), cuda.Device().pci_bus_id) if cuda.nccl.available else None
        gpus = self.comm.allgather(mine)
        if None in gpus or len(set(gpus)) < self.size:
            return None
        from cupyx.distributed import NCCLBackend

        return NCCLBackend(self.size, self.rank, use_mpi=True)

    def all_leave(self):
        """Whether all other ranks call this within PATIENCE seconds."""
        request, deadline = self.leaving.Ibarrier(), time.monotonic() + PATIENCE
        while not request.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def abort(self, code):
        """End the processes of all ranks at once."""
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(0.5)  # time for the launcher to pass on the output; the rest is lost when the processes end
        self.comm.Abort(code)

    def _end_all(self, kind, error, trace):
        sys.__excepthook__(kind, error, trace)
        self.abort(1)


def launched():
    """(rank, size) from the launcher's variables, without MPI; (0, 1) without a launcher."""
    if "mpi4py.MPI" in sys.modules:  # MPI knows more launchers than LAUNCHERS lists
        comm = sys.modules["mpi4py.MPI"].COMM_WORLD
        return comm.rank, comm.size
    for names in LAUNCHERS:
        if all(os.environ.get(name, "").isdecimal() for name in names):
            rank, size = (int(os.environ[name]) for name in names)
            return rank, size
    return 0, 1


@cache
def world():
    """The group of this process's ranks: :class:`MPI` if a launcher started several, else :class:`Alone`.

    Raises
    ------
    UserError
        If there are several ranks and mpi4py is missing: each rank would train a model of its own.
    """
    size = launched()[1]
    if size == 1:
        return ALONE
    try:
        return MPI()
    except ImportError as error:
        raise UserError(
            f"{size} ranks were started, but mpi4py is missing: pip install 'minifcn[mpi]' ({error})"
        ) from None


def leave():
    """Whether all ranks end as this one does; true without MPI."""
    try:
        return world().all_leave()
    except UserError:
        return True


@dataclass(frozen=True)
class Part:
    """This rank's part of a batch of `total` images: the images first … last − 1."""

    first: int
    last: int
    total: int
    ranks: object = ALONE

    @classmethod
    def of(cls, total, ranks):
        """This rank's even part: sizes differ by one at most, and some are 0 if there are more ranks than images."""
        first, last = (total * k // ranks.size for k in (ranks.rank, ranks.rank + 1))
        return cls(first, last, total, ranks)


_part = ContextVar("part", default=None)


@contextmanager
def computing(part):
    """Compute a part of a batch inside a ``with`` block; layers that depend on the whole batch ask :func:`part`.

    Parameters
    ----------
    part : Part
    """
    token = _part.set(part if part.ranks.size > 1 else None)
    try:
        yield
    finally:
        _part.reset(token)


def part():
    """The part that is being computed, or None if this process computes the whole batch."""
    return _part.get()


def uniform(shape, dtype="float64"):
    """Random numbers in [0, 1) from ``backend.rng()`` for the images of this rank's part.

    Each rank draws the numbers of the whole batch and keeps those of its part.  So several ranks use the same numbers
    as one process would, and their generators stay in the same state.

    Parameters
    ----------
    shape : tuple of int
        (n, …) for the n images of the part.
    dtype : dtype
    """
    mine = part()
    if mine is None:
        return backend.rng().random(shape, dtype=dtype)
    if shape[0] != mine.last - mine.first:
        raise ValueError(
            f"random numbers of shape {shape} were requested, but the first axis must be the "
            f"{mine.last - mine.first} images of this rank's part"
        )
    return backend.rng().random((mine.total, *shape[1:]), dtype=dtype)[mine.first : mine.last]


def sum_gradients(ranks, parameters):
    """Replace the gradients on every rank by their sums over all ranks, in one message.

    A parameter without a gradient on any rank has none afterwards.  If only some ranks have one, the others add zeros.

    Parameters
    ----------
    ranks : Alone or MPI
    parameters : list of Parameter
    """
    if ranks.size == 1:
        return
    xp = backend.of(*(p.data for p in parameters))
    has_gradient = xp.asarray([p.grad is not None for p in parameters], parameters[0].dtype)
    gradients = [xp.zeros_like(p.data) if p.grad is None else p.grad for p in parameters]
    flat = ranks.all_reduce(xp.concatenate([has_gradient, *(g.ravel() for g in gradients)]))
    first = len(parameters)
    for p, count in zip(parameters, flat[:first].tolist()):  # the number of ranks that have a gradient of p
        total = flat[first : first + p.size].reshape(p.shape).astype(p.dtype, copy=False)
        p.grad, first = total if count else None, first + p.size


def gather(ranks, *numbers):
    """The `numbers` of all ranks as an array (size, n) of float64."""
    table = np.zeros((ranks.size, len(numbers)))
    table[ranks.rank] = numbers
    return ranks.all_reduce(table)


@contextmanager
def together(ranks):
    """A ``with`` block that ends in the same way on all ranks: a UserError on one rank is raised on all of them."""
    if ranks.size == 1:
        yield
        return
    error = None
    try:
        yield
    except UserError as raised:
        error = raised
    failed = gather(ranks, error is not None)[:, 0]
    if failed.any():
        message = np.zeros(1 << 12, np.uint8)  # the message of the first rank that failed; the other ranks add zeros
        if ranks.rank == failed.argmax():
            text = np.frombuffer(str(error).encode()[: message.size], np.uint8)
            message[: text.size] = text
        ranks.all_reduce(message)
        raise error or UserError(message.tobytes().rstrip(b"\0").decode(errors="replace"))
