"""The paper's two ways of training, and fine-tuning from ImageNet, as settings of ``minifcn.train``.

- ``cvpr``: 20 images a step, momentum 0.9, the mean loss over pixels, interpolation layers learned except the last
  (CVPR §4.3)
- ``heavy``: one image a step, momentum 0.99, the sum of the loss over pixels and therefore a very small learning rate,
  interpolation layers frozen (PAMI §4.2, and the reference code)

These learning rates are for fine-tuning a classifier's weights on inputs of Caffe's scale; from scratch they learn
almost nothing.  ``minifcn.train --recipe`` uses Caffe's preprocessing (``mf.data.transforms.CAFFE``), unless
``--init RUN`` provides one.  A net with one more skip has a hundredth of the learning rate of the net it starts from
(``--init``).

`FROM_IMAGENET` is what ``minifcn.train`` does if no net is asked for and the weights are installed, and
`ON_EARTH` how it then trains on the main example.  A wide range of scales, and the average of weights that learn at a
constant rate, keep it from overfitting.
"""

from ..data.packaged import packaged
from ..data.statistics import suitable_crop
from ..errors import UserError
from ..models.efficientnet import IMAGENET

FROM_IMAGENET = dict(model="fcn4s_efficientnet_lite0", init="imagenet", optimizer="adam")
ON_EARTH = dict(epochs=20, scale=[0.6, 1.6], ema=0.99, schedule="constant")

PLAIN = dict(
    optimizer="sgd", schedule="constant", weight_decay=5e-4, balance=0.0, mirror=False, jitter=0.0, scale=[1.0, 1.0],
    colour=0.0, repeat=1, ema=0.0, dropout=0.5,
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
        # the only net of the reference code that is not trained on the sum: 20 batches of one image, momentum 0.9
        "fcn32s_alexnet": HEAVY | dict(lr=1e-4, momentum=0.9, reduction="valid", accumulate=20),
        "fcn32s_vgg16": HEAVY | dict(lr=1e-10),
        "fcn16s_vgg16": HEAVY | dict(lr=1e-12),
        "fcn8s_vgg16": HEAVY | dict(lr=1e-14),
        "fcn8s_atonce_vgg16": HEAVY | dict(lr=1e-10),
        "fcn16s_siftflow": HEAVY | dict(lr=1e-12),
        "fcn8s_siftflow": HEAVY | dict(lr=1e-12),
    },
}
"""{recipe: {net: settings}}."""


STEPS = 25  # least steps of an epoch on own pictures
EPOCHS, OWN_EPOCHS = 60, 20  # OWN_EPOCHS on own pictures

TILES = dict(jitter=0.5, scale=[1 / 1.2, 1.2], colour=0.0, ema=0.0, repeat=1)
PICTURES = dict(jitter=0.0, scale=[0.5, 2.0], colour=0.2, ema=0.98)


def suited_to(data):
    """The augmentation and averaging that suit a data set.

    `TILES` are for pieces of a map, whose scale is fixed and whose surroundings are known; `PICTURES` for photographs,
    of which large ones are cut into crops.

    Parameters
    ----------
    data : data set

    Returns
    -------
    dict
        {flag of ``minifcn.train``: value}.
    """
    return dict(TILES) if hasattr(data, "window") else PICTURES | dict(crop=suitable_crop(data))


def default_start(own=False):
    """The settings for a run that asks for no net: `FROM_IMAGENET` if the weights are installed, else fcn8s_mini.

    Parameters
    ----------
    own : bool
        Whether the pictures are the user's, for which :func:`suited_to` has the settings.

    Returns
    -------
    dict
        {flag of ``minifcn.train``: value}.
    """
    if packaged(*IMAGENET):
        return FROM_IMAGENET | ({} if own else ON_EARTH)
    return dict(model="fcn8s_mini") | (dict(optimizer="adam") if own else {})


def recipe(name, model):
    """The paper's settings for training the net called `model`.

    Parameters
    ----------
    name : str
        One of `RECIPES`.
    model : str

    Returns
    -------
    dict
        {flag of ``minifcn.train``: value}.

    Raises
    ------
    UserError
        If the paper does not train that net in this way.
    """
    if model not in RECIPES[name]:
        raise UserError(f"the paper has no recipe {name!r} for {model}; choose one of {', '.join(RECIPES[name])}")
    return dict(RECIPES[name][model])
