"""The focal loss: cross-entropy with small weights for pixels that are already predicted with confidence."""

from ... import ops
from ...arrays.types import Array, Values
from ...engine.core import Tensor
from ...ops.loss import targets
from .loss import Loss


class Focal(Loss):
    """``L = Σ_i w_{y_i} · (1 − p_i)^γ · (−log p_i)``, where p_i is the probability of the label of pixel i.

    With γ = 0 it is cross-entropy.  With γ = 2, a pixel with p = 0.9 counts a hundredth as much as in cross-entropy.
    Source: Lin, Goyal, Girshick, He, Dollár, "Focal Loss for Dense Object Detection", ICCV 2017, eq. (5).

    Parameters
    ----------
    gamma : float
        γ, 0 or at least 1.  Between 0 and 1, the gradient at p = 1 would be infinite.

    Raises
    ------
    ValueError
        If `gamma` is anything else.

    Examples
    --------
    >>> import math, numpy as np, minifcn as mf
    >>> scores = np.log(np.array([0.9, 0.1])).reshape(1, 2, 1, 1)
    >>> loss = mf.losses.Focal(gamma=2)(scores, np.zeros((1, 1, 1), int))
    >>> round(loss.item() / -math.log(0.9), 6)
    0.01
    """

    name = "focal"
    formula = "L = Σ_i −w_{y_i} · (1 − p_{y_i})^γ · log p_{y_i}"

    def __init__(self, gamma: float = 2.0) -> None:
        if not (gamma == 0 or 1 <= gamma < float("inf")):
            raise ValueError(f"gamma is {gamma!r}: it must be 0, or a number of at least 1")
        self.gamma = gamma

    def __call__(
        self, scores: Tensor | Array, labels: Array, weight: Values | None = None, reduction: str | None = None
    ) -> Tensor:
        reduction, t = self.reduction(reduction), targets(scores, labels, weight)
        nll = ops.cross_entropy(scores, labels, reduction="none")  # −log p, (N, H, W); 0 at void pixels
        return ((1 - ops.exp(-nll)) ** self.gamma * nll * t.weights).sum() / t.divisor(reduction)
