"""The table of a model's layers: output size, parameters, multiply-adds, receptive field, jump.

Only the shapes are computed, so the table of VGG16 on a large image takes milliseconds.
"""

from fractions import Fraction

from ..arrays.types import Pair
from ..engine.core import Tensor, no_grad, watch
from ..errors import GeometryError, shown
from ..geometry import receptive_field
from ..kernels import shapes_only
from ..kernels.shapes import stand_in
from .module import Module, Parameter, evaluating


class Summary(list):
    """Rows of ``dict(layer, op, output, parameters, macs, field, jump)``, in the order they run; prints as a table."""

    @property
    def parameters(self):
        """Number of parameters of all layers together."""
        return sum(row["parameters"] for row in self)

    @property
    def macs(self):
        """Multiply-adds of all layers together."""
        return sum(row["macs"] for row in self)

    def __str__(self):
        head = ("layer", "operation", "output", "parameters", "MACs", "field", "jump")
        rows = [
            (
                row["layer"], row["op"], "×".join(map(str, row["output"])),
                _count(row["parameters"]), _count(row["macs"]), _pair(row["field"]), _pair(row["jump"]),
            )
            for row in self
        ]  # fmt: skip
        rows.append(("total", "", "", _count(self.parameters), _count(self.macs), "", ""))
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = []
        for row in [head, *rows]:
            cells = [c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
            lines.append("  ".join(cells).rstrip())
        return shown("\n".join(lines))

    __repr__ = __str__


def summary(model: Module, input_size: Pair = (224, 224), channels: int | None = None) -> Summary:
    """The table of a model's operations, one row each, for an image of `input_size` (h, w).

    Parameters
    ----------
    model : Module
    input_size : int or (int, int)
    channels : int, optional
        Channels of the image; None: the model's ``in_channels``, or 3 if it has none.

    Returns
    -------
    Summary
        Multiply-adds (MACs) are counted for convolutions, transposed convolutions and matrix products.  Receptive field
        and jump are (h, w) pairs in pixels, or None if the output has no position in the image, as after flattening.
    """
    h, w = (input_size, input_size) if isinstance(input_size, int) else input_size
    like = next(iter(model.parameters())).data
    channels = getattr(model, "in_channels", 3) if channels is None else channels
    rows, seen = Summary(), set()

    def add(node, inputs, output):
        new = [t for t in inputs if isinstance(t, Parameter) and id(t) not in seen]  # count a shared one only once
        seen.update(map(id, new))
        try:
            place = receptive_field(output, image)
        except GeometryError:
            place = None
        rows.append(
            dict(
                layer=node.name,
                op=type(node).__name__,
                output=tuple(output.shape),
                parameters=sum(t.size for t in new),
                macs=node.macs,
                field=place and place.size,
                jump=place and place.jump,
            )
        )

    image = Tensor(stand_in(like, (1, channels, h, w)), name="image")
    with evaluating(model), no_grad(), shapes_only(), watch(add):
        model(image)
    return rows


def _count(n):
    return f"{n:,}" if n else ""


def _pair(values):
    if values is None:
        return ""
    texts = [str(v) if Fraction(v).denominator == 1 else f"{float(v):g}" for v in values]
    return texts[0] if texts[0] == texts[1] else "×".join(texts)
