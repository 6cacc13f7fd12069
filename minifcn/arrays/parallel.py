"""Several ranks, the processes that ``mpiexec`` starts, train as one would: each computes on its part of every batch.

The loss is a sum, so the gradients of the parts add up to that of the batch.  All that ranks need for it is who they
are and one sum: ``rank``, ``size`` and ``all_reduce(array)``, which adds a contiguous array over all ranks, in place,
and gives it back.  :func:`world` says which ranks there are; mpi4py is imported only if there are several.
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
"""Where a launcher says which rank this is, of how many: MPICH (Hydra) and its kin, Open MPI."""

PATIENCE = 5.0  # seconds that a rank with an error waits whether the others come to the same end


class Alone:
    """One process: what it has is the sum already."""

    rank, size = 0, 1

    def all_reduce(self, array):
        """The array itself."""
        return array


ALONE = Alone()


class MPI:
    """The ranks of MPI_COMM_WORLD.

    Host arrays are added by MPI.  Device arrays are by NCCL, if every rank has a GPU of its own; else by way of the
    host.  The way of NCCL has not been run on GPUs by us.

    From now on an exception that nobody catches ends all ranks: the others would wait for this one for ever.
    """

    def __init__(self):
        from mpi4py import MPI

        self.mpi, self.comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        self.leaving = self.comm.Dup()  # of its own: who waits here meets nobody who still computes
        sys.excepthook = self._end_all

    def all_reduce(self, array):
        """Add an array over all ranks, in place; the array."""
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
        """NCCL's own all-reduce; None where it is missing on some rank, or ranks share a GPU."""
        cuda = backend.cupy().cuda
        mine = (self.mpi.Get_processor_name(), cuda.Device().pci_bus_id) if cuda.nccl.available else None
        gpus = self.comm.allgather(mine)
        if None in gpus or len(set(gpus)) < self.size:
            return None
        from cupyx.distributed import NCCLBackend

        return NCCLBackend(self.size, self.rank, use_mpi=True)

    def all_leave(self):
        """Whether all ranks come here, within PATIENCE of this one."""
        request, deadline = self.leaving.Ibarrier(), time.monotonic() + PATIENCE
        while not request.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def abort(self, code):
        """End the processes of all ranks, now."""
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(0.5)  # the launcher passes on what was printed; what it has not when all end is lost
        self.comm.Abort(code)

    def _end_all(self, kind, error, trace):
        sys.__excepthook__(kind, error, trace)
        self.abort(1)


def launched():
    """(rank, size) as the launcher says, without MPI: (0, 1) where there is none."""
    if "mpi4py.MPI" in sys.modules:  # it knows of more launchers than we do
        comm = sys.modules["mpi4py.MPI"].COMM_WORLD
        return comm.rank, comm.size
    for names in LAUNCHERS:
        if all(os.environ.get(name, "").isdecimal() for name in names):
            rank, size = (int(os.environ[name]) for name in names)
            return rank, size
    return 0, 1


@cache
def world():
    """The ranks there are: :class:`MPI` if a launcher started several, else :class:`Alone`.

    Raises
    ------
    UserError
        If mpi4py is missing: every rank would train by itself.
    """
    size = launched()[1]
    if size == 1:
        return ALONE
    try:
        return MPI()
    except ImportError as error:
        raise UserError(
            f"{size} ranks were started, which needs mpi4py: pip install 'minifcn[mpi]' ({error})"
        ) from None


def leave():
    """Whether all ranks come to their end, as this one does; without MPI nobody waits for anybody."""
    try:
        return world().all_leave()
    except UserError:
        return True


@dataclass(frozen=True)
class Part:
    """This rank's part of a batch: of its `total` images, those from `first` to before `last`."""

    first: int
    last: int
    total: int
    ranks: object = ALONE

    @classmethod
    def of(cls, total, ranks):
        """An even part: sizes differ by one at most, and are 0 where there are more ranks than images."""
        first, last = (total * k // ranks.size for k in (ranks.rank, ranks.rank + 1))
        return cls(first, last, total, ranks)


_part = ContextVar("part", default=None)


@contextmanager
def computing(part):
    """Inside, a forward pass is that of a :class:`Part`: what looks at a whole batch asks the other ranks."""
    token = _part.set(part if part.ranks.size > 1 else None)
    try:
        yield
    finally:
        _part.reset(token)


def part():
    """The part that is being computed, or None: everything is here."""
    return _part.get()


def uniform(shape, dtype="float64"):
    """Random numbers in [0, 1) from ``backend.rng()``, (n, …) for the n images that are here.

    They are drawn for the whole batch, and the part's are kept: N ranks have those of one, and go on alike.

    Parameters
    ----------
    shape : tuple of int
        (n, …).
    dtype : dtype
    """
    own = part()
    if own is None:
        return backend.rng().random(shape, dtype=dtype)
    if shape[0] != own.last - own.first:
        raise ValueError(f"random numbers of shape {shape}: the batch has {own.last - own.first} images on this rank")
    return backend.rng().random((own.total, *shape[1:]), dtype=dtype)[own.first : own.last]


def sum_gradients(ranks, parameters):
    """Replace the gradients of every rank by their sum: one buffer, one message.

    Where no rank has a gradient there is none afterwards; a rank that has none beside others adds zeros.

    Parameters
    ----------
    ranks : Alone or MPI
    parameters : list of Parameter
    """
    if ranks.size == 1:
        return
    xp = backend.of(*(p.data for p in parameters))
    given = xp.asarray([p.grad is not None for p in parameters], parameters[0].dtype)
    gradients = [xp.zeros_like(p.data) if p.grad is None else p.grad for p in parameters]
    flat = ranks.all_reduce(xp.concatenate([given, *(g.ravel() for g in gradients)]))
    first = len(parameters)
    for p, having in zip(parameters, flat[:first].tolist()):
        own = flat[first : first + p.size].reshape(p.shape).astype(p.dtype, copy=False)
        p.grad, first = own if having else None, first + p.size


def gather(ranks, *numbers):
    """The numbers of every rank, (size, n) in float64."""
    table = np.zeros((ranks.size, len(numbers)))
    table[ranks.rank] = numbers
    return ranks.all_reduce(table)


@contextmanager
def together(ranks):
    """Leave the block on all ranks in the same way: a UserError of one is raised on all."""
    if ranks.size == 1:
        yield
        return
    error = None
    try:
        yield
    except UserError as own:
        error = own
    failed = gather(ranks, error is not None)[:, 0]
    if failed.any():
        told = np.zeros(1 << 12, np.uint8)  # the sentence of the first that has one, as bytes
        if ranks.rank == failed.argmax():
            said = np.frombuffer(str(error).encode()[: told.size], np.uint8)
            told[: said.size] = said
        ranks.all_reduce(told)
        raise error or UserError(told.tobytes().rstrip(b"\0").decode(errors="replace"))
