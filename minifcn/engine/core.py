"""The engine in one reading: Tensor, Function, backward(), no_grad.

A Function instance *is* the graph node: hyper-parameters in ``__init__``, raw arrays in and out of ``forward`` and
``backward``.  Calling it on tensors runs ``forward`` and, if a gradient will be wanted, remembers its inputs.
``backward()`` walks the nodes from the newest to the oldest, each once, and frees what each saved as it passes.
"""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from itertools import count
from math import prod
from time import perf_counter
from typing import Any, Self

from ..arrays import backend, buffers, frozen
from ..arrays.types import Array, DType, Gradients, Shape, Values
from ..errors import shown
from ..kernels import registry
from ..kernels.shapes import broadcast_shape, stand_in
from . import places
from .axis_maps import AxisMap, Root
from .explain import Described
from .operators import Attached, Operand

_grad_enabled = ContextVar("grad_enabled", default=True)
_scope = ContextVar("scope", default="")
_watchers: ContextVar[tuple] = ContextVar("watchers", default=())
_birth = count()  # nodes are numbered as they are made, so a node's inputs always have smaller numbers


def is_recording() -> bool:
    """Whether operations are recorded for ``backward()``: False inside :func:`no_grad`."""
    return _grad_enabled.get()


@contextmanager
def _setting(variable, value):
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def no_grad() -> AbstractContextManager[None]:
    """Inside ``with no_grad():`` nothing is remembered for a backward pass.  Positions are still known."""
    return _setting(_grad_enabled, False)


def scope(name: str) -> AbstractContextManager[None]:
    """Inside, nodes are called `name`: a layer gives its operations its own name (``score_pool4``)."""
    return _setting(_scope, name)


def watch(forward: Callable | None = None, backward: Callable | None = None) -> AbstractContextManager[None]:
    """Inside, ``forward(node, inputs, output)`` is called after every operation, and ``backward(node, gy, gradients)``
    after its gradients, before what it saved is dropped."""
    return _setting(_watchers, (*_watchers.get(), (forward, backward)))


def newest_first(last: "Function") -> "list[Function]":
    """All nodes that node `last` was computed from, and `last`, each once, after all that use its output: only then is
    its gradient whole.  With ``b = a + a; c = b + b`` a naive recursion would pass b's on twice, half finished."""
    found, waiting = {last}, [last]
    while waiting:
        for x in waiting.pop().inputs:
            if x.creator is not None and x.creator not in found:
                found.add(x.creator)
                waiting.append(x.creator)
    return sorted(found, key=lambda node: node.born, reverse=True)  # what uses a node's output is younger


class Tensor(Attached):
    """An array with a history.

    Parameters
    ----------
    data : array_like
        A NumPy or CuPy array is kept as it is (not copied); lists and Python numbers become float32 arrays.
    requires_grad : bool
        Whether ``backward()`` shall leave a gradient in ``.grad``.
    name : str

    Attributes
    ----------
    shape, ndim, size, dtype, device
        Those of the array; ``device`` is ``"cpu"`` or ``"cuda:i"``.
    data, grad : array
        Raw arrays.  ``grad`` has the shape and dtype of ``data``, or is None.  ``data`` of a result on the host is
        read-only while a graph waits for ``backward()``: an edit would make the gradient wrong.
    creator : Function or None
        The node that made this tensor; None for a leaf.
    where : dict of {Root: (AxisMap, AxisMap)}
        Where the tensor lies, along h and w, on every image it came from (see ``axis_maps.py``).  Composed as
        operations are applied, with or without gradients; a 4-D leaf is its own root.
    """

    __slots__ = ("__weakref__", "_root", "_where", "creator", "data", "grad", "name", "requires_grad")

    def __init__(self, data: "Tensor | Values", requires_grad: bool = False, name: str | None = None) -> None:
        if isinstance(data, Tensor):
            data = data.data
        if not backend.is_array(data):
            data = backend.from_python(data)
        if requires_grad and data.dtype.kind != "f":
            raise TypeError(f"only floating-point tensors can require gradients, not {data.dtype}")
        self.data, self.grad, self.creator = data, None, None
        self.requires_grad, self.name = requires_grad, name
        self._where = self._root = None

    shape: Shape = property(lambda self: self.data.shape)  # type: ignore[assignment]
    ndim: int = property(lambda self: self.data.ndim)  # type: ignore[assignment]
    size: int = property(lambda self: self.data.size)  # type: ignore[assignment]
    dtype: DType = property(lambda self: self.data.dtype)  # type: ignore[assignment]
    device: str = property(lambda self: backend.device(self.data))  # type: ignore[assignment]

    @property
    def where(self) -> dict[Root, tuple[AxisMap, AxisMap]]:
        if self._where is None:
            self._where = {}
            if self.ndim == 4 and self.creator is None:
                self.mark()
        return self._where

    def mark(self) -> "Tensor":
        """Make this tensor a root: positions of what comes after it can be asked for relative to it."""
        if self._root is None:
            self._root = Root(self.name, self.shape[2:])
            self._where = {**(self._where or {}), self._root: (AxisMap(), AxisMap())}
        return self

    def numpy(self) -> Array:
        """The values as a NumPy array (copied if they are on a device)."""
        return backend.asnumpy(self.data)

    def item(self) -> float:
        """The value of a one-element tensor, as a Python number."""
        return self.data.item()

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        name, sizes = f"{self.name}: " if self.name else "", "×".join(map(str, self.shape)) or "scalar"
        made = f", from {type(self.creator).__name__}" if self.creator else ""
        return shown(f"Tensor({name}{sizes} {self.dtype}, {self.device}{made})")

    def detach(self) -> "Tensor":
        """The same values at the same place, without the history."""
        out = Tensor(self.data, name=self.name)
        out._where, out._root = self._where, self._root
        return out

    def to(self, device: str) -> "Tensor":
        """A leaf with these values on `device`: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` (RuntimeError without CuPy)."""
        return Tensor(backend.to_device(self.data, device), self.requires_grad, self.name)

    def backward(self, gy: Array | None = None, create_graph: bool = False, order: Callable | None = None) -> None:
        """Add ∂(self)/∂(leaf), weighted by `gy`, to ``.grad`` of every leaf that requires it.

        Parameters
        ----------
        gy : array, optional
            The gradient arriving from above, of this tensor's shape; needed unless the tensor is a scalar.
        order : callable, optional
            From the last node to the nodes in the order in which they are visited; None: :func:`newest_first`.

        Raises
        ------
        RuntimeError
            If there is nothing to differentiate, if the graph was freed by an earlier backward, if a saved array was
            changed in place since, if `order` is no such order, or for ``create_graph=True`` (no double backward).
        ValueError
            If `gy` is missing for a non-scalar, or has another shape.
        """
        if create_graph:
            raise RuntimeError("create_graph=True is not supported: backward works on raw arrays, once")
        if not self.requires_grad:
            raise RuntimeError("nothing to differentiate: no tensor this one was computed from requires a gradient")
        xp = backend.of(self.data)
        if gy is None:
            if self.size != 1:
                raise ValueError(
                    f"backward() of a tensor of shape {self.shape} needs a gradient of that shape: pass "
                    "gy=..., or reduce to a scalar first (for a loss: its sum over space)"
                )
            gy = xp.ones(self.shape, self.dtype)
        backend.of(gy, self.data)
        if gy.shape != self.shape:
            raise ValueError(f"gy has shape {gy.shape}, the tensor {self.shape}")
        _propagate(self, gy.astype(self.dtype, copy=False), order or newest_first)


def _propagate(tensor, gy, order):
    arrived = {tensor.creator: gy}  # per node: the gradient of its output, as far as it has arrived
    if tensor.creator is None:
        return _accumulate(tensor, gy.copy())
    nodes = [*order(tensor.creator)]  # all of it first: a visited node forgets its inputs
    for node in nodes:
        if node not in arrived:
            continue  # its output's users had no gradient to give
        gy, inputs = arrived.pop(node), node.inputs  # read once: another thread that walks this graph clears them
        gradients = node.gradients(gy)
        held = (gy, *node.saved, *gradients)
        for x, gx in zip(inputs, gradients):
            if gx is None or not x.requires_grad:
                continue
            if x.creator is None:
                # an operation may hand out one array, or a view of it, twice: a leaf owns its gradient
                shared = not buffers.is_whole(gx) or sum(a is gx for a in held) > 1
                _accumulate(x, gx.copy() if shared else gx)
            elif x.creator in arrived:
                arrived[x.creator] = arrived[x.creator] + gx
            else:
                arrived[x.creator] = gx
        for _, told in _watchers.get():
            if told:
                told(node, gy, gradients)
        node.free()
    frozen.thaw(*(node._frozen for node in reversed(nodes) if node))  # views after what they look into
    if arrived:
        raise RuntimeError("`order` left a gradient behind: it must give each node once, after all that use its output")


_accumulating = threading.RLock()  # reentrant: garbage collection may run a backward pass while it is held


def _accumulate(leaf, gx):
    with _accumulating:  # several threads may walk graphs that share this leaf: no gradient may be lost
        leaf.grad = gx if leaf.grad is None else leaf.grad + gx


if hasattr(os, "register_at_fork"):  # in a forked child, the thread that held the lock does not exist
    os.register_at_fork(after_in_child=lambda: globals().update(_accumulating=threading.RLock()))


class Function(Described):
    """One operation, and one node of the graph.

    A subclass keeps its hyper-parameters in ``__init__``, and states its mathematics in

    - ``forward(*arrays) -> array``, which may ``self.save(...)`` what the gradient needs, and
    - ``backward(gy) -> array or tuple``, one gradient an input (None for what has none), reading ``self.saved``.

    ``self.needs`` says which inputs want a gradient, so that backward can leave out expensive ones.

    Attributes
    ----------
    formula : str
        The operation in one line (a class attribute).
    name : str
        The layer that ran it, or the operation's own name.
    inputs : tuple of Tensor
        Empty under ``no_grad`` and after ``backward()``.
    saved : tuple
        What ``forward`` saved; raises RuntimeError after ``backward()`` has freed it.
    parameters : dict
        The hyper-parameters of this call.
    seconds : float
        What the forward pass took.
    saved_bytes, macs, flops : int
        Memory held for the backward pass; multiply-adds, and floating-point operations (two a multiply-add) of the
        forward pass.
    """

    formula = ""
    located_by: int | None = 1  # how many of the leading inputs say where the output lies; None: all that have its size
    pointwise = False  # the output's shape is the inputs' broadcast shape, and each cell comes from those at its place
    keeps_place = False  # each output cell lies where its input cell does, though the operation is not pointwise
    # a node called by hand, forward() then backward(), saves everything and wants every gradient
    inputs: tuple[Tensor, ...] = ()
    _saved: tuple | None = ()
    recording, needs, name, _marks, _frozen = True, (True,) * 16, "", (), None

    def __init_subclass__(cls):
        super().__init_subclass__()
        registry.FUNCTIONS.add(cls.__name__)

    @classmethod
    def make(cls, **parameters: Any) -> Self:
        """A node of this class, or of the class that overrides it, whose output then lies where this class's would."""
        chosen = registry.overridden(cls.__name__, cls)
        node = chosen(**parameters)
        if chosen is not cls and chosen.locate is Function.locate:
            node.located_by, node.keeps_place = cls.located_by, cls.pointwise or cls.keeps_place
        return node

    @classmethod
    def apply(cls, *inputs: Operand, **parameters: Any) -> Tensor:
        """Make a node and call it."""
        return cls.make(**parameters)(*inputs)

    def forward(self, *arrays: Any) -> Array:
        """The output's array."""
        raise TypeError(f"{type(self).__name__} must define forward(*arrays) -> array")

    def backward(self, gy: Array) -> Gradients:
        """The inputs' gradients, given the output's."""
        raise TypeError(f"{type(self).__name__} must define backward(gy) -> array or tuple of arrays")

    def infer(self, *shapes: Any) -> Shape | None:
        """The output's shape, where it can be told without arithmetic; None: let forward tell."""
        return broadcast_shape(shapes) if self.pointwise else None

    def locate(self, axis: int, *maps: Any) -> AxisMap | None:
        """Where the output lies along `axis` (0: h, 1: w), given where the inputs lie; None: it has no place.

        An operation that is neither pointwise nor keeps the place must say it.
        """
        if not (self.pointwise or self.keeps_place):
            return None
        place = maps[0]
        for other in maps[1:]:
            place = place.union(other)
        return place

    def count_macs(self, out_shape: Shape, *in_shapes: Any) -> int:
        """Multiply-adds of one forward pass: those of convolutions and matrix products."""
        return 0

    def count(self, out_shape: Shape, *in_shapes: Any) -> int:
        """Floating-point operations of one forward pass besides its multiply-adds; here one an output element."""
        return prod(out_shape)

    def __call__(self, *operands: Operand) -> Tensor:
        start, inputs = perf_counter(), _as_tensors(operands)
        arrays = [x.data for x in inputs]
        backend.of(*arrays)
        self.needs = tuple(x.requires_grad for x in inputs)
        self.recording = any(self.needs) and _grad_enabled.get()
        self.name = _scope.get() or type(self).__name__
        self.inputs, self._saved = inputs, ()
        shape = self.infer(*(a.shape for a in arrays)) if registry.is_shapes_only() else None
        out = Tensor(self.forward(*arrays) if shape is None else stand_in(arrays[0], shape))
        self.in_shapes, self.out_shape = [a.shape for a in arrays], out.shape
        out.name, out._where = self.name, places.of_output(self, inputs, out)
        self.seconds = perf_counter() - start
        for told, _ in _watchers.get():
            if told:
                told(self, inputs, out)
        if self.recording:
            out.data, self._frozen = frozen.freeze(out.data, arrays)
            self._marks = frozen.checksums(self._saved, [x.data for x in inputs if not frozen.is_frozen(x)])
            self.born = next(_birth)
            out.creator, out.requires_grad = self, True
        else:
            self.inputs, self._saved = (), ()
            self.recording, self.needs = Function.recording, Function.needs  # as before the call, for use by hand
        return out

    def save(self, *arrays: Any) -> None:
        """Keep what ``backward`` will need (arrays, or plain values) until it has run."""
        if self.recording:
            self._saved = arrays

    @property
    def saved(self) -> tuple[Any, ...]:
        if self._saved is None:
            raise RuntimeError(
                f"what {self.name} saved was freed by backward(): a graph can be walked once; run forward again"
            )
        return self._saved

    def gradients(self, gy: Array) -> list[Array | None]:
        """``backward(gy)``, checked: one gradient an input, each of its input's shape."""
        frozen.thaw(self._frozen)  # all that use the output have their gradients: backward may write into it
        if frozen.changed(self.saved, self._marks):
            raise RuntimeError(
                f"an array that {self.name} saved was changed in place between forward and backward: "
                "its gradient would be wrong; compute out of place, or copy first"
            )
        gxs, returned = self.backward(gy), f"{type(self).__name__}.backward returned"
        gxs = tuple(gxs) if isinstance(gxs, tuple | list) else (gxs,)
        if len(gxs) != len(self.inputs):
            raise ValueError(f"{returned} {len(gxs)} gradients for {len(self.inputs)} inputs")
        for i, (x, gx) in enumerate(zip(self.inputs, gxs)):
            if gx is not None and not hasattr(gx, "shape"):
                raise TypeError(f"{returned} a {type(gx).__name__}, not an array")
            if gx is not None and gx.shape != x.shape:
                raise ValueError(f"{returned} a gradient of shape {gx.shape} for input {i} of shape {x.shape}")
        return [_narrowed(gx, x.dtype) for x, gx in zip(self.inputs, gxs)]

    def __del__(self):
        frozen.thaw(self._frozen)  # nobody can ask for its gradient any more

    def free(self) -> None:
        """Drop the saved arrays and the links to the inputs; name, parameters and sizes stay."""
        self._saved, self.inputs = None, ()


def _as_tensors(inputs):
    """Tensors of `inputs`; numbers, lists and integer arrays take the library and dtype of the first tensor."""
    tensors = [x.data for x in inputs if isinstance(x, Tensor)]
    like = next((a for a in (*tensors, *inputs) if backend.is_array(a)), None)
    return tuple(x if isinstance(x, Tensor) else _constant(_like(x, like), bool(tensors)) for x in inputs)


def _constant(value, beside_tensors):
    """A tensor for a bare operand; beside tensors it is a constant, and no picture to measure positions on."""
    out = Tensor(value)
    if beside_tensors:
        out._where = {}
    return out


def _like(value, array):
    if value is None:
        raise TypeError("an operand is None: give a tensor, an array or a number")
    is_map = backend.is_array(value) and value.dtype.kind == "f" and value.ndim > 0  # a 0-d array is a number
    if array is None or array.dtype.kind != "f" or is_map:
        return value
    return backend.of(array, *([value] if backend.is_array(value) else [])).asarray(value, dtype=array.dtype)


def _narrowed(gx, dtype):
    """A float64 operand beside a float32 one must not leave it a float64 gradient."""
    return gx.astype(dtype) if gx is not None and gx.dtype.itemsize > dtype.itemsize else gx
