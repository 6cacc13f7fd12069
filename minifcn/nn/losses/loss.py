"""The base class of losses: a function of scores and labels with a name, its reductions, and whether it adds up."""

from ...arrays.types import Array, Values
from ...engine.core import Tensor
from ...errors import UserError


class Loss:
    """A loss for dense prediction.  A subclass defines ``__call__``.

    Attributes
    ----------
    name : str
        The name for ``--loss``.
    formula : str
    reductions : tuple of str
        The possible values of ``reduction``; the first is the default.  "sum": the sum over all labelled pixels;
        "valid": that sum divided by their number; "batch": that sum divided by the number of images; "classes": a
        mean over the classes of the whole batch, which does not grow with the number of pixels.
    adds : bool
        Whether the "sum" of a batch is the sum of the losses of its parts.  Training on several ranks, and accumulating
        batches, require this.
    """

    name = formula = ""
    reductions: tuple[str, ...] = ("sum", "batch", "valid")
    adds = True

    def __call__(
        self, scores: Tensor, labels: Array, weight: Values | None = None, reduction: str | None = None
    ) -> Tensor:
        """The loss of a batch.

        Parameters
        ----------
        scores : Tensor
            (N, C, H, W).
        labels : array
            (N, H, W) of integers: a class 0 … C − 1, or 255 (void).  Void pixels have neither loss nor gradient.
        weight : array, optional
            (C,) a weight for each class.
        reduction : str, optional
            One of `reductions`; the first by default.

        Returns
        -------
        Tensor
            A scalar.
        """
        raise TypeError(f"{type(self).__name__} must define __call__(scores, labels, weight=None, reduction=None)")

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"

    def reduction(self, given: str | None = None) -> str:
        """`given`, or the default if it is None; ValueError if it is none of `reductions`."""
        if given is None:
            return self.reductions[0]
        if given not in self.reductions:
            raise ValueError(
                f"unknown reduction {given!r}: choose from {', '.join(self.reductions)} for the {self.name} loss"
            )
        return given

    def require_parts(self, accumulate: int, ranks: int) -> None:
        """Raise UserError if a step would add up the losses of several parts, and this loss does not add up."""
        if not self.adds and (accumulate > 1 or ranks > 1):
            parts = "accumulated batches" if accumulate > 1 else "the parts of several ranks"
            raise UserError(
                f"the {self.name} loss is one value for a whole batch, and the losses of {parts} do not add up to it: "
                "train on one rank with accumulate=1 (no --accumulate), or choose another loss"
            )


def divisor(reduction: str, labelled: int, images: int) -> int:
    """The number by which `reduction` divides the sum over labelled pixels: 1, their number, or that of images."""
    divisors = {"sum": 1, "batch": images, "valid": labelled, "classes": labelled}
    if reduction not in divisors:
        raise ValueError(f"unknown reduction {reduction!r}: choose from {', '.join(divisors)}")
    return divisors[reduction]
