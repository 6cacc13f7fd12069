"""Effective receptive fields (Luo et al. 2016): what a score really depends on, before training and after.

The derived field says what a unit *can* see; the mean size of its gradient over many images says what it looks at:
a bell that fills a part of the field, and grows by training.
"""

import numpy as np

from .. import backend, models
from ..data import open_dataset
from ..geometry import effective_receptive_field
from ..viz.experiments import effective_fields


def run(lab):
    """The net that the package ships, against the same net untrained, on validation images of Earth."""
    name = "shapes" if lab.short else "earth"
    data = open_dataset(name, "val")
    images = np.stack([data[i][0] for i in range(4 if lab.short else 64)])
    trained = models.fcn8s_mini(pretrained="earth").eval()
    backend.manual_seed(0)
    untrained = models.fcn8s_mini(num_classes=trained.num_classes).eval()
    for parameter in untrained.score_fr.parameters():
        parameter.data[...] = backend.rng().standard_normal(parameter.shape)  # zero scores would see nothing
    maps = {}
    for state, model in (("untrained", untrained), ("trained", trained)):
        inputs = trained.preprocessing(images)
        maps[state] = _relative(effective_receptive_field(lambda x, m=model: _winner(m(x)), inputs))
    return dict(dataset=name, images=len(images), maps=maps)


def _winner(scores):
    """The largest score of every pixel: the sum of all would not do, softmax's gradients cancel in it."""
    return scores.max(axis=1, keepdims=True)


def _relative(values):
    return (values / values.max()).round(5).tolist()


def summary(results):
    """One line a state: the part of the gradient inside squares around the pixel."""
    for state, values in results["maps"].items():
        total = np.array(values)
        centre = [n // 2 for n in total.shape]
        shares = []
        for half in (8, 16, 32):
            box = total[centre[0] - half : centre[0] + half + 1, centre[1] - half : centre[1] + half + 1]
            shares.append(f"{box.sum() / total.sum():.0%} within {half} px")
        yield f"{state:<10} {', '.join(shares)}"


def draw(results):
    """Both maps as pictures, on one scale."""
    return effective_fields({state: np.array(values) for state, values in results["maps"].items()})
