"""Batch norm's running statistics, computed anew from a set of images.

The averages that training keeps belong to augmented images and to weights that have changed since.  They differ from
the statistics of the images that the net will see by enough to move mean IU by several points.
"""

from collections.abc import Iterable

import numpy as np

from ..arrays import backend
from ..engine.core import Tensor, no_grad, watch
from ..ops.norm import BatchNorm2d as BatchNormFunction
from .layers import BatchNorm2d
from .module import Module, evaluating


def estimate_statistics(model: Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of every batch norm to the mean of the statistics of `batches`.

    The variance is the mean of the batches' variances, not the variance over all images: in training, each batch is
    divided by its own deviation, which is smaller.  Only the batch norms run as in training; dropout is off.  A batch
    norm is changed only if it is in training mode and not ``frozen``.

    Parameters
    ----------
    model : Module
    batches : iterable of Tensor
        Inputs of the model.
    """
    norms = {id(m.weight): m for m in model.modules() if isinstance(m, BatchNorm2d) and m.training and not m.frozen}
    sums: dict = dict.fromkeys(norms, 0)  # of n·μ and n·σ², (2, C), for batches of n pixels
    pixels = dict.fromkeys(norms, 0)

    def add(node, inputs, output):
        if isinstance(node, BatchNormFunction) and node.pixels > 1:
            key, n = id(inputs[1]), node.pixels
            both = backend.of(node.batch_mean).stack([node.batch_mean, node.batch_var * (n / (n - 1))])
            sums[key] = sums[key] + n * both.astype(np.float64)
            pixels[key] += n

    with evaluating(model, but=norms.values()), no_grad(), watch(add):
        for batch in batches:
            model(batch)
    for key, norm in norms.items():
        if pixels[key]:
            for buffer, value in zip((norm.running_mean, norm.running_var), sums[key] / pixels[key]):
                buffer.data[...] = value
