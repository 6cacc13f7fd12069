"""The Lovász-softmax loss: a convex surrogate of 1 − IU, the paper's measure (§5), averaged over the classes."""

from ... import ops
from ...arrays import backend
from ...arrays.types import Array, Values
from ...engine.core import Tensor
from ...ops.loss import targets
from .dice import class_shares
from .loss import Loss


class Lovasz(Loss):
    """``L = Σ_c w_c · Σ_i e_ic · g_ic / Σ_c w_c`` over the classes in the batch's labels.

    The error of pixel i for class c is ``e_ic = 1 − p_ic`` if c is its label, else ``p_ic``.  The pixels are sorted by
    decreasing error, and ``g_i = Δ(1 … i) − Δ(1 … i − 1)``.  ``Δ(M) = 1 − |Y∖M| / |Y ∪ M|`` is the Jaccard loss if the
    pixels of the set M are wrong; Y are the pixels of class c.  If all probabilities are 0 or 1, the loss is 1 − IU.

    The sums Σ_i run over all labelled pixels of the batch, so the losses of parts of a batch do not add up to its loss.
    Without a labelled pixel, the loss is 0.  Source: Berman, Rannen Triki, Blaschko, "The Lovász-Softmax loss", CVPR
    2018, eq. (8), (9) and algorithm 1.

    Examples
    --------
    Two of the three pixels of class 1 are predicted as class 1, and so is one pixel of class 0: IU = 2/4.

    >>> import numpy as np, minifcn as mf
    >>> sure = np.array([[[[-99, -99, 99, -99, 99]], [[99, 99, -99, 99, -99]]]], float)
    >>> labels = np.array([[[1, 1, 1, 0, 0]]])
    >>> round(1 - mf.losses.Lovasz()(sure, labels, weight=[0, 1]).item(), 6)
    0.5
    """

    name = "lovasz"
    formula = "L = mean_c Σ_i e_ic · g_ic,   g: the gradient of the Lovász extension of 1 − IU"
    reductions = ("classes",)
    adds = False

    def __call__(
        self, scores: Tensor | Array, labels: Array, weight: Values | None = None, reduction: str | None = None
    ) -> Tensor:
        self.reduction(reduction)
        t = targets(scores, labels)
        xp, y = backend.of(t.labels), t.one_hot(scores.shape[1])  # (N, C, H, W)
        errors = y + ops.softmax(scores) * (1 - 2 * y)
        present = y.sum(axis=(0, 2, 3)) > 0
        shares, g = class_shares(xp, present, weight), xp.zeros_like(y)
        for c in map(int, xp.flatnonzero(present)):
            g[:, c][t.counted] = shares[c] * jaccard_gradient(errors.data[:, c][t.counted], y[:, c][t.counted])
        return (errors * g).sum()


def jaccard_gradient(errors: Array, truth: Array) -> Array:
    """How much the Jaccard loss grows at each pixel if pixels become wrong one by one, in order of decreasing error.

    Parameters
    ----------
    errors : array
        (n,).
    truth : array
        (n,): 1 for a pixel of the class, else 0.
    """
    xp = backend.of(errors)
    order = xp.argsort(-errors)
    truth = truth[order]
    left = truth.sum() - truth.cumsum()  # |Y∖M|
    union = truth.sum() + (1 - truth).cumsum()  # |Y ∪ M|
    loss = 1 - left / union
    g = xp.empty_like(loss)
    g[order] = xp.diff(loss, prepend=xp.zeros(1, loss.dtype))
    return g
