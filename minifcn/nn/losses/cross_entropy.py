"""The paper's loss: softmax cross-entropy, summed over all pixels (§3.4)."""

from ...arrays.types import Array, Values
from ...engine.core import Tensor
from ...ops import cross_entropy
from .loss import Loss


class CrossEntropy(Loss):
    """Softmax cross-entropy at every pixel: :func:`minifcn.ops.cross_entropy`."""

    name = "cross_entropy"
    formula = "L = Σ_i −w_{y_i} · log p_{y_i}"

    def __call__(
        self, scores: Tensor | Array, labels: Array, weight: Values | None = None, reduction: str | None = None
    ) -> Tensor:
        return cross_entropy(scores, labels, weight, reduction=self.reduction(reduction))
