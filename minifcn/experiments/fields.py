"""Effective receptive fields (Luo et al. 2016): which pixels a score depends on, before and after training.

The derived field contains all pixels that a unit *can* see.  The mean absolute gradient over many images shows how much
each of them contributes, and most of it is close to the unit.  Luo et al. find that training enlarges the effective
field.  A net with skips may differ, because its finer streams have smaller fields.
"""

import numpy as np

from .. import models
from ..arrays import backend
from ..data import Earth, Shapes
from ..geometry import effective_receptive_field, extent
from ..nn import init
from ..viz.experiments import effective_fields

SIZE = 384  # pixels; larger than the derived field of 278


def run(lab):
    """Compare the net that the package ships with the same net untrained, on crops around validation tiles."""
    images = _pictures(lab)
    trained = models.fcn8s_mini(pretrained="earth")
    backend.manual_seed(0)
    untrained = models.fcn8s_mini(num_classes=trained.num_classes)
    for name, parameter in untrained.named_parameters():
        if name.startswith("score") and name.endswith("weight"):
            parameter.data[...] = init.he(parameter.shape)  # zero, as initialised, would give no gradient
    rows, maps = [], {}
    for state, model in (("untrained", untrained), ("trained", trained)):
        inputs = trained.preprocessing(images)
        model.eval()
        field = np.mean([effective_receptive_field(lambda x, m=model: _winner(m(x)), i[None]) for i in inputs], axis=0)
        middle = field.shape[0] // 2
        shares = {f"within_{d}": _around(field, middle, d) for d in (8, 16, 32, 64)}
        rows.append(dict(state=state, sigma=extent(field).sigma[1], **shares))
        maps[state] = _coarser(field / field.max()).round(4).tolist()
    return dict(images=len(images), size=len(field), rows=rows, maps=maps)


def _pictures(lab):
    if lab.short:
        return np.stack([image for image, _ in Shapes("val", length=2, size=(64, 64))])
    data, around = Earth("val"), (SIZE - 128) // 2
    pictures = (data.window(i, -around, -around, SIZE, SIZE)[0] for i in range(0, len(data), 2))
    return np.stack([p for p in pictures if p.shape[:2] == (SIZE, SIZE)])  # crops at the edge of the map are smaller


def _winner(scores):
    """The largest score of every pixel; not the sum, because softmax gradients cancel in a sum over classes."""
    return scores.max(axis=1, keepdims=True)


def _coarser(field, by=4):
    """The field at a lower resolution: the means of `by` × `by` squares."""
    n = len(field) // by
    return field[: n * by, : n * by].reshape(n, by, n, by).mean(axis=(1, 3))


def _around(field, middle, distance):
    """The share of the gradient inside a square around the unit."""
    inside = slice(max(middle - distance, 0), middle + distance + 1)
    return float(field[inside, inside].sum() / field.sum())


def summary(results):
    """One line per state: σ, and the share of the gradient inside squares around the pixel."""
    for row in results["rows"]:
        shares = ", ".join(f"{v:.0%} within {k.partition('_')[2]} px" for k, v in row.items() if k.startswith("within"))
        yield f"{row['state']:<10} σ {row['sigma']:.0f} px; {shares}"


def draw(results):
    """Draw both maps on one colour scale, and their profiles."""
    return effective_fields({state: np.array(values) for state, values in results["maps"].items()}, results["size"])
