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
    """Set the running statistics of every batch norm to the mean and variance over all pixels of `batches`.

    Only the batch norms run as in training; dropout is off.  A batch norm is changed only if it is in training mode and
    not ``frozen``.

    Parameters
    ----------
    model : Module
    batches : iterable of Tensor
        Inputs of the model.
    """
    norms = {id(m.weight): m for m in model.modules() if isinstance(m, BatchNorm2d) and m.training and not m.frozen}
    sums = {key: np.zeros((2, m.weight.size)) for key, m in norms.items()}  # Σ n·μ and Σ n·(σ² + μ²) over the batches
    pixels = dict.fromkeys(norms, 0)

    def add(node, inputs, output):
        if isinstance(node, BatchNormFunction):
            key, mean = id(inputs[1]), backend.asnumpy(node.batch_mean).astype(float)
            sums[key] += node.pixels * np.stack([mean, backend.asnumpy(node.batch_var) + mean**2])
            pixels[key] += node.pixels

    with evaluating(model, but=norms.values()), no_grad(), watch(add):
        for batch in batches:
            model(batch)
    for key, norm in norms.items():
        if pixels[key] > 1:
            mean, square = sums[key] / pixels[key]
            unbiased = (square - mean**2) * (pixels[key] / (pixels[key] - 1))
            for buffer, value in ((norm.running_mean, mean), (norm.running_var, unbiased)):
                buffer.data[...] = backend.of(buffer.data).asarray(value, buffer.dtype)
