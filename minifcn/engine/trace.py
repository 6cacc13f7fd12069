"""A record of every operation on request: its arrays, gradients, bytes and milliseconds.

``with mf.trace() as t:`` keeps the arrays that ``backward()`` would drop.  ``t.bytes`` is the memory that this takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from ..arrays import backend, buffers
from ..arrays.types import Array
from ..errors import shown
from .core import Function, Tensor, watch
from .explain import Explanation, amount, shape, widest
from .graphs import Graph
from .tables import Table


@dataclass
class Step:
    """One operation that was run.

    Attributes
    ----------
    name : str
        The name of the layer that ran it; the second operation of a layer is ``name:2``.
    node : Function
    inputs : tuple of Tensor
    y : array
        The output.
    gy : array or None
        The gradient of the output; None before ``backward()``, or if the output has none.
    gx : tuple of (array or None)
        The gradients of the inputs.
    saved : tuple of array
        The arrays that the operation kept for the backward pass.
    seconds, backward_seconds : float
        The time of the forward and of the backward computation.
    """

    name: str
    node: Function
    inputs: tuple[Tensor, ...]
    output: Tensor
    saved: tuple[Array, ...]
    gy: Array | None = None
    gx: tuple[Array | None, ...] = ()
    backward_seconds: float = 0.0
    order: int = 0  # the number of the step in the backward pass, from 1; 0: not part of it

    y = property(lambda self: self.output.data)
    seconds = property(lambda self: self.node.seconds)

    @property
    def arrays(self) -> list[Array]:
        """All arrays that this step holds, including its inputs."""
        held = (*(x.data for x in self.inputs), self.y, *self.saved, self.gy, *self.gx)
        return [a for a in held if backend.is_array(a)]

    def explain(self) -> Explanation:
        """The operation's formula with the numbers of this call, and what a unit of its output sees of the image."""
        explanation = self.node.explain()
        facts = explanation.facts | {"kept for backward": amount(total_bytes(self.saved), "B")}
        for root, maps in self.output.where.items():
            what = f"a unit sees of {root.name or 'the image'}"
            if any(m.everything for m in maps):
                facts[what] = "all of it"
            elif not any(m.fault for m in maps):
                facts[what] = " and ".join(
                    f"{widest(m).replace('row', word)}" for m, word in zip(maps, ("row", "column"))
                )
        return replace(explanation, name=self.name, facts=facts)


@dataclass
class Trace:
    """The steps that :func:`trace` recorded, in the order they ran; ``t[0]`` or ``t["name"]`` is one of them."""

    steps: list[Step] = field(default_factory=list)
    names: dict[str, Step] = field(default_factory=dict)
    nodes: dict[int, Step] = field(default_factory=dict)  # steps by the id of their node, which they keep alive
    passed: int = 0  # the steps of the backward pass so far
    clock: float = 0.0  # the time when the last step of either pass ended

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __getitem__(self, key: int | str) -> Step:
        if not isinstance(key, str):
            return self.steps[key]
        if key not in self.names:
            near = [name for name in self.names if key.lower() in name.lower()] or list(self.names)
            raise KeyError(
                f"no operation is called {key!r}; there are {', '.join(near[:12])}{' ...' * (len(near) > 12)}"
            )
        return self.names[key]

    @property
    def bytes(self) -> int:
        """The bytes of all arrays in the record."""
        return total_bytes(array for step in self.steps for array in step.arrays)

    def _forward(self, node, inputs, output):
        name, number = node.name, 1
        while name in self.names:
            number += 1
            name = f"{node.name}:{number}"
        saved = tuple(a for a in node.saved if backend.is_array(a))
        step = self.names[name] = self.nodes[id(node)] = Step(name, node, tuple(inputs), output, saved)
        self.steps.append(step)
        self.clock = perf_counter()

    def _backward(self, node, gy, gradients):
        now, step = perf_counter(), self.nodes.get(id(node))
        if step is not None:
            self.passed += 1
            step.gy, step.gx, step.order, step.backward_seconds = gy, tuple(gradients), self.passed, now - self.clock
        self.clock = now

    def table(self) -> Table:
        """A table with one row for each operation: output, bytes, arithmetic, times, ranges of values and gradients."""
        rows = []
        for s in self.steps:
            forward, backward = 1e3 * s.seconds, 1e3 * s.backward_seconds
            rows.append(
                dict(
                    layer=s.name, operation=type(s.node).__name__, output=shape(s.y.shape),
                    MB=s.y.nbytes / 1e6, saved=total_bytes(s.saved) / 1e6, MFLOP=s.node.flops / 1e6, forward_ms=forward,
                    backward_ms=backward if s.order else None, values=extremes(s.y),
                    gradient=None if s.gy is None else extremes(s.gy),
                )
            )  # fmt: skip
        return Table(rows)

    def graph(self) -> Graph:
        """A drawing of the operations and the tensors between them (Mermaid in JupyterLab, SVG elsewhere)."""
        made = {id(s.output): s.name for s in self.steps}
        graph = Graph()
        for s in self.steps:
            operation, sizes = type(s.node).__name__, shape(s.y.shape)
            named = s.name.partition(":")[0] != operation
            graph.node(s.name, f"{operation}  {sizes}" if named else sizes)
        for s in self.steps:
            for x in s.inputs:
                if id(x) in made:
                    graph.edge(made[id(x)], s.name)
                elif x.ndim == 4 and not hasattr(x, "lr_mult"):
                    graph.node(f"{x.name or 'input'} {shape(x.shape)}", "")
                    graph.edge(f"{x.name or 'input'} {shape(x.shape)}", s.name)
        return graph

    def ledger(self) -> list[dict[str, Any]]:
        """The bytes that a run *without* a trace holds after each operation, forward and then backward.

        Returns
        -------
        list of dict
            ``event``: the name, with ``∂`` for the backward pass; ``saved``: the arrays kept for the backward pass and
            the newest output; ``gradients``: those of outputs still to be passed on, and those of the leaves.
        """
        rows, alive = [], {}
        for s in self.steps:
            alive[s.name] = s.saved
            rows.append(dict(event=s.name, saved=total_bytes([*sum(alive.values(), ()), s.y]), gradients=0))
        made = {id(s.output): s for s in self.steps}
        arrived: dict = {}
        leaves: dict = {}
        for s in sorted((s for s in self.steps if s.order), key=lambda s: s.order):
            arrived.pop(s.name, None)
            for x, gx in zip(s.inputs, s.gx):
                if gx is None or not x.requires_grad:
                    continue
                (arrived if id(x) in made else leaves)[made[id(x)].name if id(x) in made else id(x)] = gx
            del alive[s.name]
            gradients = [*arrived.values(), *leaves.values()]
            event, saved = shown(f"∂{s.name}"), total_bytes(sum(alive.values(), ()))
            rows.append(dict(event=event, saved=saved, gradients=total_bytes(gradients)))
        return rows


def total_bytes(arrays):
    """The bytes of `arrays`; a view counts as the whole array it belongs to, and no array counts twice."""
    owners = {}
    for array in arrays:
        while not buffers.is_whole(array):
            array = array.base
        owners[id(array)] = array.nbytes
    return sum(owners.values())


def extremes(array):
    """The least and the greatest value as Python floats; None for an empty array."""
    return (float(array.min()), float(array.max())) if array.size else None


@contextmanager
def trace() -> Iterator[Trace]:
    """Record every operation, and its backward pass, inside a ``with`` block.

    Returns
    -------
    Trace
        For example ``t["upscore2"].gy``, ``t.table()``, ``t.graph()``, ``t.ledger()``.  ``t.bytes`` is its memory.

    Examples
    --------
    >>> import numpy as np, minifcn as mf
    >>> x = mf.Tensor(np.ones((1, 1, 4, 4)), requires_grad=True)
    >>> with mf.trace() as t:
    ...     mf.ops.relu(x * 2).sum().backward()
    >>> [step.name for step in t]
    ['Mul', 'ReLU', 'Sum']
    >>> t["ReLU"].gy.shape
    (1, 1, 4, 4)
    """
    record = Trace()
    with watch(record._forward, record._backward):
        yield record
