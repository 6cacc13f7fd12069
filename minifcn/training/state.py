"""The state of a training, and the callbacks that the loop calls at named moments."""

import math
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from ..arrays import backend, parallel
from ..data import Loader
from ..data.statistics import pixels_per_batch
from ..errors import UserError
from ..nn.average import WeightAverage
from ..nn.losses import CrossEntropy, Loss
from ..nn.module import Module
from ..nn.optim import Optimizer, effective_step, reduction_factor


@dataclass
class Training:
    """The state of a run in progress.  Callbacks get it, and a checkpoint saves part of it."""

    model: Module
    train: Loader
    val: Loader | None
    optimizer: Optimizer
    epochs: int
    criterion: Loss = CrossEntropy()  # noqa: RUF009  it has no state
    reduction: str = "sum"
    base_lr: float = 0.0  # lr without the schedule's factor; a callback may change it or the optimiser's lr
    rate: float = 0.0  # base_lr times the schedule's factor: the optimiser's lr as the loop last set it
    epoch: int = 0  # epochs finished, validation included
    step: int = 0  # batches done
    trained: bool = False  # all batches of this epoch are done, but its validation is not
    loss: float = 0.0  # of the last batch, per labelled pixel
    gathered: int = 0  # batches whose gradients are added up and not yet applied by a step
    running: dict = field(default_factory=lambda: dict(EMPTY))  # sums over the batches of this epoch
    rows: list = field(default_factory=list)  # the log: one dict per epoch
    stopping: bool = False  # a callback sets it to stop the run at the next state that can be resumed exactly
    clock: float = 0.0  # when the last batch ended
    trouble: str = ""  # the message of the error in the data set that stopped the run
    ranks: Any = parallel.ALONE  # the ranks that train this model together
    average: WeightAverage | None = None  # of the weights, which is validated and kept
    clip: float | None = None  # the norm to which longer gradients of the mean loss are shortened
    patience: int | None = None  # epochs without a better mean IU after which the run ends
    counted: Any = (0, 0)  # labelled pixels and images of the batches in `gathered`

    @property
    def total_steps(self) -> int:
        """Batches in the whole run."""
        return self.epochs * len(self.train)

    @property
    def device(self) -> str:
        """The device of the model; batches are copied to it."""
        return backend.device(self.model.parameters()[0].data)

    @property
    def complete(self) -> bool:
        """Whether all epochs are done, or the best of them is at least `patience` epochs old."""
        scores = [mean_iu(row) for row in self.rows]
        settled = self.patience and scores and len(scores) - 1 - scores.index(max(scores)) >= self.patience
        return self.epoch >= self.epochs or bool(settled)

    def averaged(self) -> Any:
        """A context in which the model has the average as its weights, if there is one."""
        return self.average.installed() if self.average else nullcontext()

    def stops(self) -> bool:
        """Whether any rank was asked to stop.  All ranks must call this, and all stop after the same batch."""
        self.stopping = bool(parallel.gather(self.ranks, self.stopping).any())
        return self.stopping


def mean_iu(row: dict[str, float]) -> float:
    """The score of an epoch; -1 without one (NaN), so without labelled pixels the last epoch is best."""
    value = row.get("mean_iu", math.nan)
    return -1 if math.isnan(value) else value


def columns(model: Any) -> dict[str, str]:
    """{kind of label: what its columns in the log begin with}: nothing for the first, or only, kind."""
    return {kind: f"{kind}_" * (k > 0) for k, kind in enumerate(getattr(model, "kinds", ()) or ("",))}


def of_head(row: dict[str, Any], begin: str) -> dict[str, Any]:
    """A row of the log whose usual columns are those of the head whose columns begin with `begin`."""
    own = {name.removeprefix(begin): value for name, value in row.items() if name.startswith(begin)}
    return row | own if begin else row


EMPTY: dict[str, float] = dict(loss=0.0, pixels=0, seconds=0.0)


class Callback:
    """Base class of callbacks, whose methods :func:`fit` calls at named moments; `t` is the :class:`Training`."""

    def started(self, t: Training) -> None:
        """Before the first step."""

    def stepped(self, t: Training) -> None:
        """After each batch."""

    def epoch_trained(self, t: Training) -> None:
        """After the last batch of each epoch, before its validation."""

    def epoch_ended(self, t: Training) -> None:
        """After each epoch's validation; ``t.rows[-1]`` is its row of the log."""

    def stopped(self, t: Training) -> None:
        """When the run ends early, between two steps, because of a request or an error in the data set."""

    def finished(self, t: Training) -> None:
        """After the last epoch."""

    def closed(self, t: Training) -> None:
        """At the very end, also after an error: release what the callback holds."""


class Diverged(UserError):
    """The error of a run whose loss, or a weight, became NaN or infinite; the message names the likely cause.

    Parameters
    ----------
    t : Training
    what : str
        What was found, and at which step.
    """

    def __init__(self, t: Training, what: str) -> None:
        pixels = pixels_per_batch(t.train)
        step = effective_step(t.optimizer, t.reduction, pixels, t.train.batch_size)
        factor = reduction_factor(t.reduction, pixels, t.train.batch_size)
        if factor > 1 and t.base_lr * factor > 0.05:
            cause = (
                f"a learning rate meant for a mean loss: with reduction '{t.reduction}', {t.base_lr:g} is like "
                f"{t.base_lr * factor:g} for a mean; try a learning rate (--lr) of about {0.01 / factor:.1g}"
            )
        else:
            cause = f"a learning rate (--lr) that is too large ({t.base_lr:g}); try a tenth of it"
        super().__init__(f"{what} (epoch {t.epoch + 1}, effective step {step:.2g}); the likely cause is {cause}")
