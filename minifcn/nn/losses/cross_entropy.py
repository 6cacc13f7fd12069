"""The paper's loss: softmax cross-entropy, summed over all pixels (§3.4)."""

from ...ops import cross_entropy
from .loss import Loss


class CrossEntropy(Loss):
    """Softmax cross-entropy at every pixel: :func:`minifcn.ops.cross_entropy`."""

    name = "cross_entropy"
    formula = "L = Σ_i −w_{y_i} · log p_{y_i}"

    def __call__(self, scores, labels, weight=None, reduction=None):
        return cross_entropy(scores, labels, weight, reduction=self.reduction(reduction))
