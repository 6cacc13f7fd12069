"""Stepping through a real graph, one operation at a time: forward, then backward."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..engine.trace import Step, Trace
from .maps import show_array
from .stepper import Stepper
from .style import CYCLE, GREY


class GraphStepper(Stepper):
    """The operations of a :func:`minifcn.engine.trace`: first in forward order, then in backward order.

    A forward step shows an operation's inputs and its output as pictures.  A backward step shows the gradient that
    arrives at the output and the gradients of the inputs.

    Parameters
    ----------
    trace : Trace
    layers : sequence of str, optional
        Names of the operations to show; all by default.

    Raises
    ------
    ValueError
        If there is no operation to show.
    """

    size = (9.6, 4.4)

    def __init__(self, trace: Trace, layers: Sequence[str] | None = None) -> None:
        chosen = [s for s in trace if layers is None or s.name in layers]
        if not chosen:
            names = ", ".join(s.name for s in trace)
            raise ValueError(
                f"the trace has none of these layers; choose from {names}" if names else "the trace is empty"
            )
        self.forward = chosen
        self.backward = sorted((s for s in chosen if s.order), key=lambda s: s.order)

    def __len__(self) -> int:
        return len(self.forward) + len(self.backward)

    def at(self, step: int) -> tuple[Step, bool]:
        """The operation of a step, and whether the step shows its backward pass."""
        n = len(self.forward)
        return (self.forward[step], False) if step < n else (self.backward[step - n], True)

    def title(self, step: int) -> str:
        s, back = self.at(step)
        explained = s.explain()
        numbers = ", ".join(f"{k}={_one(v)}" for k, v in explained.symbols.items())
        formula = explained.formula.split("   ")[0]
        return f"{'∂' if back else ''}{s.name}: {formula}" + (f"   ({numbers})" if numbers else "")

    def draw(self, figure: Any, step: int) -> None:
        s, back = self.at(step)
        here = step - len(self.forward) if back else step
        self._draw_path(figure, self.backward if back else self.forward, here, back)
        if back:
            shown: list[Any] = [("gradient that arrives", s.gy)]
            shown += [
                (f"gradient for {_called(x, k)}", g) for k, (x, g) in enumerate(zip(s.inputs, s.gx)) if g is not None
            ]
        else:
            shown = [(_called(x, k), x.data) for k, x in enumerate(s.inputs)] + [("output", s.y)]
        shown = shown[:4]
        for k, (name, array) in enumerate(shown):
            axes = figure.add_axes((0.02 + 0.25 * k, 0.06, 0.22, 0.62))
            if prod(array.shape) == 1:
                axes.text(0.5, 0.5, f"{float(array):.4g}", ha="center", va="center", fontsize=15)
                axes.set_axis_off()
                axes.set_title(name, fontsize=8, fontweight="normal")
            else:
                show_array(axes, array, f"{name}   {'×'.join(map(str, array.shape))}", signed=True if back else None)

    def _draw_path(self, figure, steps, here, back):
        """Draw this operation between the three before and the three after it."""
        axes = figure.add_axes((0.0, 0.8, 1.0, 0.12))
        axes.set_axis_off()
        axes.set(xlim=(-3.6, 3.6), ylim=(-0.5, 0.5))
        for place in range(-3, 4):
            if not 0 <= here + place < len(steps):
                continue
            name = ("∂" if back else "") + steps[here + place].name
            box = dict(fc=CYCLE[1], ec=CYCLE[1]) if place == 0 else dict(fc="#eef0f2", ec=GREY)
            text = axes.text(
                place, 0, name, ha="center", va="center", fontsize=8, bbox=dict(box, boxstyle="round", lw=0.8)
            )
            text.set_color("white" if place == 0 else "black")


def _called(x, k):
    """The name of the k-th input: the tensor's name, or the input's usual symbol in the operation."""
    return x.name or {0: "x", 1: "w", 2: "b"}.get(k, f"input {k}")


def _one(value):
    return value[0] if isinstance(value, tuple) and value[0] == value[-1] else value
