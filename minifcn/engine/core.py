"""The automatic differentiation engine: Tensor, Function, backward(), no_grad.

A Function instance is a node of the graph.  ``__init__`` takes the hyper-parameters; ``forward`` and ``backward`` take
and return raw arrays.  Calling the node on tensors runs ``forward`` and, if an input requires a gradient, keeps its
inputs.  ``Tensor.backward()`` visits each node once, from the newest to the oldest, and then frees what the node saved.
"""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from itertools import count
from math import prod
from operator import attrgetter
from time import perf_counter
from typing import Any, Self

from ..arrays import backend, buffers
from ..arrays.setting import Setting
from ..arrays.types import Array, DType, Gradients, Shape
from ..errors import shown
from ..kernels import registry
from ..kernels.shapes import broadcast_shape, stand_in
from . import frozen, places
from .axis_maps import HERE, AxisMap, Root
from .explain import Described
from .operators import Attached, Operand

_grad_enabled = ContextVar("grad_enabled", default=True)
layer_name = ContextVar("layer_name", default="")  # of the layer that runs; see scope()
watchers: ContextVar[tuple] = ContextVar("watchers", default=())  # of the current thread or task; see watch()
_birth = count()  # numbers the nodes in the order of creation: the nodes that made a node's inputs have smaller numbers


def is_recording() -> bool:
    """Whether operations are recorded for ``backward()``; False inside :func:`no_grad`."""
    return _grad_enabled.get()


def no_grad() -> AbstractContextManager[None]:
    """Record no operations for ``backward()`` inside ``with no_grad():``.  Positions (``Tensor.where``) are kept."""
    return Setting(_grad_enabled, False)


def scope(name: str) -> AbstractContextManager[None]:
    """Name the nodes made inside the ``with`` block `name`; a layer gives its operations its name (``score_pool4``)."""
    return Setting(layer_name, name)


def watch(forward: Callable | None = None, backward: Callable | None = None) -> AbstractContextManager[None]:
    """Inside the ``with`` block, call ``forward(node, inputs, output)`` after each operation, and
    ``backward(node, gy, gradients)`` after its gradients are computed and before its saved arrays are freed."""
    return Setting(watchers, (*watchers.get(), (forward, backward)))


def newest_first(last: "Function") -> "list[Function]":
    """List `last` and all nodes it was computed from, each after all nodes that use its output: so its gradient is
    complete when it is visited.  With ``b = a + a; c = b + b``, a recursion would visit b's node twice."""
    found, waiting = {last}, [last]
    while waiting:
        for x in waiting.pop().inputs:
            if x.creator is not None and x.creator not in found:
                found.add(x.creator)
                waiting.append(x.creator)
    return sorted(found, key=attrgetter("born"), reverse=True)  # a node is newer than the nodes of its inputs


class Tensor(Attached):
    """An array that knows the operation that computed it.

    Parameters
    ----------
    data : array_like
        A NumPy or CuPy array is kept as it is (not copied); lists and Python numbers become float32 arrays.
    requires_grad : bool
        Whether ``backward()`` stores a gradient in ``.grad``.
    name : str

    Attributes
    ----------
    shape, ndim, size, dtype, device
        As for the array; ``device`` is ``"cpu"`` or ``"cuda:i"``.
    data, grad : array
        Raw arrays.  ``grad`` has the shape and dtype of ``data``, or is None.  On the host, ``data`` of a recorded
        result is read-only until ``backward()`` has used it, because an edit would make the gradient wrong.
    creator : Function or None
        The node that made this tensor; None for a leaf.
    where : dict of {Root: (AxisMap, AxisMap)}
        The tensor's position, along h and w, on every image that it was computed from (see ``axis_maps.py``).  Each
        operation updates it, with or without gradients.  A 4-D leaf is its own root.
    """

    __slots__ = ("__weakref__", "_root", "_where", "creator", "data", "grad", "name", "requires_grad")

    def __init__(self, data: Operand, requires_grad: bool = False, name: str | None = None) -> None:
        data = data.data if isinstance(data, Tensor) else data
        data = data if backend.is_array(data) else backend.from_python(data)
        if requires_grad and data.dtype.kind != "f":
            raise TypeError(f"only floating-point tensors can require gradients, not {data.dtype}")
        self.data: Array = data
        self.requires_grad, self.name = requires_grad, name
        self.grad: Array | None = None
        self.creator: Function | None = None
        self._root: Root | None = None
        self._where: dict[Root, tuple[AxisMap, AxisMap]] | None = None

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
        """Make this tensor a root: tensors computed from it know their positions on it."""
        if self._root is None:
            self._root = Root(self.name, self.shape[2:])
            self._where = {**(self._where or {}), self._root: (HERE, HERE)}
        return self

    def numpy(self) -> Array:
        """The values as a NumPy array; values on a device are copied to the host."""
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
        """A leaf with the same values and position, from which no gradient flows back."""
        out = Tensor(self.data, name=self.name)
        out._where, out._root = self._where, self._root
        return out

    def to(self, device: str) -> "Tensor":
        """A leaf with these values on `device`: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` (RuntimeError without CuPy)."""
        return Tensor(backend.to_device(self.data, device), self.requires_grad, self.name)

    def backward(self, gy: Array | None = None, create_graph: bool = False, order: Callable | None = None) -> None:
        """Add ∂(self)/∂(leaf), weighted by `gy`, to ``.grad`` of every leaf that requires a gradient.

        Parameters
        ----------
        gy : array, optional
            The gradient with respect to this tensor, of its shape; required unless the tensor has one element.
        order : callable, optional
            Takes the last node and returns all nodes in the order of the visits; by default :func:`newest_first`.

        Raises
        ------
        RuntimeError
            If no leaf requires a gradient, an earlier ``backward()`` freed the graph, a saved array was changed in
            place, `order` visits a node before one that uses its output, or ``create_graph=True``.
        ValueError
            If `gy` is missing for a tensor of several elements, or has another shape.
        """
        if create_graph:
            raise RuntimeError("create_graph=True is not supported: backward works on raw arrays and records no graph")
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
    arrived = {tensor.creator: gy}  # {node: the sum of the gradients of its output that have arrived so far}
    if tensor.creator is None:
        return _accumulate(tensor, gy.copy())
    nodes = [*order(tensor.creator)]  # the complete list before the first visit, because free() drops a node's inputs
    for node in nodes:
        if node not in arrived:
            continue  # the nodes that use its output returned None for it
        gy, inputs = arrived.pop(node), node.inputs  # read once: another thread that visits this graph may clear them
        gradients = node.gradients(gy)
        held = (gy, *node.saved, *gradients)
        for x, gx in zip(inputs, gradients):
            if gx is None or not x.requires_grad:
                continue
            if x.creator is None:
                # copy a gradient that shares memory: a later edit of leaf.grad would change the other array, too
                shared = not buffers.is_whole(gx) or len([a for a in held if a is gx]) > 1
                _accumulate(x, gx.copy() if shared else gx)
            elif x.creator in arrived:
                arrived[x.creator] = arrived[x.creator] + gx
            else:
                arrived[x.creator] = gx
        for _, watcher in watchers.get():
            if watcher:
                watcher(node, gy, gradients)
        node.free()
    for node in reversed(nodes):  # a view was visited before its base, and could not be thawed then
        if node and node._frozen:
            node._frozen = frozen.thaw(node._frozen)
    if arrived:
        raise RuntimeError("`order` left a gradient behind: it must give each node once, after all that use its output")


_accumulating = threading.RLock()  # reentrant: a finalizer may call backward() on the thread that holds the lock


def _accumulate(leaf, gx):
    with _accumulating:  # without it, two threads that add to the same leaf could lose a gradient
        leaf.grad = gx if leaf.grad is None else leaf.grad + gx


if hasattr(os, "register_at_fork"):  # a forked child would wait for ever for a lock that another thread held
    os.register_at_fork(after_in_child=lambda: globals().update(_accumulating=threading.RLock()))


class Function(Described):
    """One operation, and one node of the graph.

    A subclass keeps its hyper-parameters in ``__init__``, and defines

    - ``forward(*arrays) -> array``, which passes what the gradient needs to ``self.save(...)``, and
    - ``backward(gy) -> array or tuple``, which reads ``self.saved`` and returns one gradient per input, or None.

    ``self.needs`` says which inputs require a gradient, so that ``backward`` can skip expensive ones.

    Attributes
    ----------
    formula : str
        The operation in one line (a class attribute).
    name : str
        The name of the layer that ran it, else the name of the class.
    inputs : tuple of Tensor
        Empty under ``no_grad`` and after ``backward()``.
    saved : tuple
        What ``forward`` saved; raises RuntimeError after ``backward()`` has freed it.
    parameters : dict
        The hyper-parameters of this call.
    seconds : float
        The time of the forward pass.
    saved_bytes, macs, flops : int
        Memory held for the backward pass; the forward pass's multiply-adds and operations (two per multiply-add).
    """

    formula = ""
    located_by: int | None = 1  # how many leading inputs give the output its position; None: all inputs of its h and w
    pointwise = False  # the inputs are broadcast, and each output cell depends only on the input cells at its index
    keeps_place = False  # each output cell has the position of the input cell at its index; the values may mix channels
    # defaults for a direct call of forward() and backward(), without tensors: save everything, compute every gradient
    inputs: tuple[Tensor, ...] = ()
    _saved: tuple | None = ()
    recording, needs, name, _marks, _frozen = True, (True,) * 16, "", (), None

    def __init_subclass__(cls):
        super().__init_subclass__()
        registry.FUNCTIONS.add(cls.__name__)

    @classmethod
    def make(cls, **parameters: Any) -> Self:
        """A node of this class or of its override; an override without ``locate`` gets this class's positions."""
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
        """The gradients of the inputs, given the gradient `gy` of the output."""
        raise TypeError(f"{type(self).__name__} must define backward(gy) -> array or tuple of arrays")

    def infer(self, *shapes: Any) -> Shape | None:
        """The output's shape, if it follows from the inputs' shapes; None if ``forward`` must run to find it."""
        return broadcast_shape(shapes) if self.pointwise else None

    def locate(self, axis: int, *maps: Any) -> AxisMap | None:
        """The output's map along `axis` (0: h, 1: w), given the inputs' maps; None: the output has no position.  Define
        it for an operation that is neither ``pointwise`` nor ``keeps_place``."""
        if not (self.pointwise or self.keeps_place):
            return None
        place = maps[0]
        for other in maps[1:]:
            place = place.union(other)
        return place

    def count_macs(self, out_shape: Shape, *in_shapes: Any) -> int:
        """The multiply-adds of one forward pass; only convolutions and matrix products have any."""
        return 0

    def count(self, out_shape: Shape, *in_shapes: Any) -> int:
        """Floating-point operations of one forward pass besides multiply-adds; by default one per output element."""
        return prod(out_shape)

    def __call__(self, *operands: Operand) -> Tensor:
        start, inputs = perf_counter(), _as_tensors(operands)
        arrays = [x.data for x in inputs]
        backend.of(*arrays)
        self.needs = tuple([x.requires_grad for x in inputs])
        self.recording = any(self.needs) and _grad_enabled.get()
        self.name = layer_name.get() or type(self).__name__
        self.inputs, self._saved = inputs, ()
        shape = self.infer(*(a.shape for a in arrays)) if registry.is_shapes_only() else None
        out = Tensor(self.forward(*arrays) if shape is None else stand_in(arrays[0], shape))
        self.in_shapes, self.out_shape = [a.shape for a in arrays], out.shape
        out.name, out._where = self.name, places.of_output(self, inputs, out)
        self.seconds = perf_counter() - start
        for watcher, _ in watchers.get():
            if watcher:
                watcher(self, inputs, out)
        if self.recording:
            out.data, self._frozen = frozen.freeze(out.data, arrays)
            self._marks = frozen.checksums(self._saved, [x.data for x in inputs if not frozen.is_frozen(x)])
            self.born = next(_birth)
            out.creator, out.requires_grad = self, True
        else:
            self.inputs, self._saved = (), ()
            self.recording, self.needs = Function.recording, Function.needs  # the defaults for direct calls
        return out

    def save(self, *arrays: Any) -> None:
        """Keep what ``backward`` needs (arrays or plain values) until it has run."""
        if self.recording:
            self._saved = arrays

    @property
    def saved(self) -> tuple[Any, ...]:
        if self._saved is None:
            raise RuntimeError(
                f"what {self.name} saved was freed by backward(): one graph allows one backward(); run forward again"
            )
        return self._saved

    def gradients(self, gy: Array) -> list[Array | None]:
        """Run ``backward(gy)`` and check that it returns one gradient per input, each of its input's shape."""
        self._frozen = frozen.thaw(self._frozen)  # all nodes that use the output are done: backward may write into it
        if frozen.changed(self.saved, self._marks):
            raise RuntimeError(
                f"an array that {self.name} saved was changed in place between forward and backward: "
                "its gradient would be wrong; compute out of place, or copy first"
            )
        gxs = self.backward(gy)
        gxs = gxs if isinstance(gxs, (tuple, list)) else (gxs,)
        returned = f"{type(self).__name__}.backward returned"
        if len(gxs) != len(self.inputs):
            raise ValueError(f"{returned} {len(gxs)} gradients for {len(self.inputs)} inputs")
        each = enumerate(zip(self.inputs, gxs))
        return [gx if gx is None else _checked(gx, i, x.data, returned) for i, (x, gx) in each]

    def __del__(self):
        if self._frozen:
            frozen.thaw(self._frozen)  # without this node, no gradient can use the array any more

    def free(self) -> None:
        """Drop the saved arrays and the inputs; the name, parameters and sizes stay."""
        self._saved, self.inputs, self._marks = None, (), ()


def _as_tensors(inputs):
    """Make tensors of `inputs`; numbers, lists and integer arrays take the library and dtype of the first tensor."""
    if all([isinstance(x, Tensor) for x in inputs]):
        return inputs
    tensors = [x.data for x in inputs if isinstance(x, Tensor)]
    like = next((a for a in (*tensors, *inputs) if backend.is_array(a)), None)
    return tuple(x if isinstance(x, Tensor) else _constant(_like(x, like), bool(tensors)) for x in inputs)


def _constant(value, beside_tensors):
    """A tensor for an operand that is not a tensor; beside tensors it is a constant and no root for positions."""
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


def _checked(gx, i, x, returned):
    """`gx`, if it can be the gradient of the array `x` of input `i`, in x's dtype if that is narrower: beside a float64
    operand, a float32 input gets float64."""
    if not hasattr(gx, "shape"):
        raise TypeError(f"{returned} a {type(gx).__name__}, not an array")
    if gx.shape != x.shape:
        raise ValueError(f"{returned} a gradient of shape {gx.shape} for input {i} of shape {x.shape}")
    return gx.astype(x.dtype) if gx.dtype.itemsize > x.dtype.itemsize else gx
