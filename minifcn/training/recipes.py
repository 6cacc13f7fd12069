"""The paper's two ways of training (§1.8, §1.9 of its two versions), as settings of ``minifcn.train``.

- ``cvpr``: 20 images a step, momentum 0.9, a mean over pixels, interpolation learned but for the last layer (CVPR 2015)
- ``heavy``: one image a step, momentum 0.99, the plain sum over pixels and so a tiny rate, interpolation frozen
  (PAMI 2017 and the reference code)

They are for fine-tuning a classifier's weights on inputs of Caffe's scale: from scratch such rates learn next to
nothing.  ``minifcn.train --recipe`` makes such inputs (``mf.data.transforms.CAFFE``), unless ``--init RUN`` brings its
own.  Each skip takes a hundredth of the rate of the net it starts from (``--init``).
"""

from ..errors import UserError

PLAIN = dict(
    optimizer="sgd", schedule="constant", weight_decay=5e-4, balance=0.0, mirror=False, jitter=0, zoom=0.0, dropout=0.5,
)  # fmt: skip

CVPR = PLAIN | dict(batch_size=20, momentum=0.9, reduction="valid", learn_upsampling=True)
HEAVY = PLAIN | dict(batch_size=1, momentum=0.99, reduction="sum", learn_upsampling=False)

RECIPES = {
    "cvpr": {
        "fcn32s_alexnet": CVPR | dict(lr=1e-3),
        "fcn32s_vgg16": CVPR | dict(lr=1e-4),
        "fcn16s_vgg16": CVPR | dict(lr=1e-6),
        "fcn8s_vgg16": CVPR | dict(lr=1e-8),
        "fcn32s_googlenet": CVPR | dict(lr=5e-5, dropout=0.4),
    },
    "heavy": {
        # the one net of the reference code that is not trained on a sum: 20 images of batch 1, momentum 0.9
        "fcn32s_alexnet": HEAVY | dict(lr=1e-4, momentum=0.9, reduction="valid", accumulate=20),
        "fcn32s_vgg16": HEAVY | dict(lr=1e-10),
        "fcn16s_vgg16": HEAVY | dict(lr=1e-12),
        "fcn8s_vgg16": HEAVY | dict(lr=1e-14),
        "fcn8s_atonce_vgg16": HEAVY | dict(lr=1e-10),
    },
}
"""{recipe: {net: settings}}."""


def recipe(name, model):
    """The settings by which the paper trains the net called `model`.

    Parameters
    ----------
    name : str
        One of `RECIPES`.
    model : str

    Returns
    -------
    dict
        Under the names of the flags of ``minifcn.train``.

    Raises
    ------
    UserError
        If the paper does not train that net so.
    """
    if model not in RECIPES[name]:
        raise UserError(f"the paper has no recipe {name!r} for {model}; it has for {', '.join(RECIPES[name])}")
    return dict(RECIPES[name][model])
