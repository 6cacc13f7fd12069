"""The soft Dice loss: 1 minus the overlap of the predicted and the true region, averaged over the classes."""

from types import ModuleType

from ... import ops
from ...arrays import backend
from ...arrays.types import Array, Values
from ...engine.core import Tensor
from ...ops.loss import targets
from .loss import Loss


class Dice(Loss):
    """``L = 1 − Σ_c w_c · 2 Σ_i p_ic y_ic / (Σ_i p_ic + Σ_i y_ic) / Σ_c w_c`` over the classes in the batch's labels.

    The sums Σ_i run over all labelled pixels of the batch, so the losses of parts of a batch do not add up to its loss.
    Without a labelled pixel, the loss is 0.  Source: Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, eq. (3), with the
    denominator of Sudre et al., "Generalised Dice overlap", DLMIA 2017.

    Examples
    --------
    Two of the three pixels of class 1 are predicted as class 1, and no other pixel is: 2 · 2 / (2 + 3).

    >>> import numpy as np, minifcn as mf
    >>> sure = np.array([[[[-99, -99, 99, 99]], [[99, 99, -99, -99]]]], float)
    >>> labels = np.array([[[1, 1, 1, 0]]])
    >>> round(1 - mf.losses.Dice()(sure, labels, weight=[0, 1]).item(), 6)
    0.8
    """

    name = "dice"
    formula = "L = 1 − mean_c 2 Σ_i p_ic · y_ic / (Σ_i p_ic + Σ_i y_ic)"
    reductions = ("classes",)
    adds = False

    def __call__(
        self, scores: Tensor | Array, labels: Array, weight: Values | None = None, reduction: str | None = None
    ) -> Tensor:
        self.reduction(reduction)
        t = targets(scores, labels)
        classes = scores.shape[1]
        xp, y = backend.of(t.labels), t.one_hot(classes)  # (N, C, H, W)
        p = ops.softmax(scores) * t.counted[:, None].astype(y.dtype)
        pixels = y.sum(axis=(0, 2, 3))  # (C,)
        share = class_shares(xp, pixels > 0, weight).astype(y.dtype)
        overlap = 2 * (p * y).sum(axis=(0, 2, 3)) / (p.sum(axis=(0, 2, 3)) + xp.maximum(pixels, 1e-7))
        return (share * (1 - overlap)).sum()


def class_shares(xp: ModuleType, present: Array, weight: Values | None = None) -> Array:
    """(C,) the weights of the classes that are `present`, scaled to a sum of 1; 0 for the other classes."""
    shares = present.astype(xp.float64) if weight is None else xp.where(present, xp.asarray(weight, xp.float64), 0)
    return shares / xp.maximum(shares.sum(), 1e-30)
