"""The training loop, readable aloud: forward, loss, backward, step; and a short list of named callbacks."""

import math
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np

from .. import nn
from ..arrays import backend, parallel
from ..arrays.types import Array, Values
from ..data import Loader
from ..data.images import VOID
from ..data.protocol import DataSet
from ..data.samples import called, sample
from ..data.statistics import class_weights, pixels_per_batch, typical_pixels  # noqa: F401  some look for weights here
from ..engine.core import Tensor
from ..errors import GeometryError, UserError
from ..nn.losses import CrossEntropy, Loss
from ..nn.losses.loss import divisor
from ..nn.module import Module, require_module
from ..nn.optim import (
    MEAN_RATE,
    SGD,
    Optimizer,
    constant,
    effective_step,
    reduction_factor,
    require_learnable,
    step_factor,
)
from .evaluation import as_loader, evaluate, require_same_classes, scores_of


@dataclass
class Training:
    """A run in progress: what the callbacks see, and what a checkpoint saves."""

    model: Module
    train: Loader
    val: Loader | None
    optimizer: Optimizer
    epochs: int
    criterion: Loss = CrossEntropy()  # noqa: RUF009  it has no state
    reduction: str = "sum"
    base_lr: float = 0.0  # what the schedule is a factor on; a callback may change it, or the optimiser's lr
    rate: float = 0.0  # what the schedule has made of it
    epoch: int = 0  # epochs finished, validation included
    step: int = 0  # batches done
    trained: bool = False  # all batches of this epoch are done, its validation is not
    loss: float = 0.0  # of the last batch, per labelled pixel
    gathered: int = 0  # batches whose gradients wait for a step
    running: dict = field(default_factory=lambda: dict(EMPTY))  # sums over the batches of this epoch
    rows: list = field(default_factory=list)  # one dict an epoch: the log
    stopping: bool = False  # set by a callback: stop as soon as what is saved can be continued exactly
    clock: float = 0.0  # when the last step ended
    trouble: str = ""  # the sentence of the data set that stopped the run
    ranks: Any = parallel.ALONE  # who trains along

    @property
    def total_steps(self) -> int:
        """Batches in the whole run."""
        return self.epochs * len(self.train)

    @property
    def device(self) -> str:
        """Where the model is, and the batches go."""
        return backend.device(self.model.parameters()[0].data)

    def stops(self) -> bool:
        """Whether any rank was asked to stop: then all do, at the same place."""
        self.stopping = bool(parallel.gather(self.ranks, self.stopping).any())
        return self.stopping


EMPTY: dict[str, float] = dict(loss=0.0, pixels=0, seconds=0.0)


class Callback:
    """Something done at named moments of a run.  Override what you need; `t` is the :class:`Training`."""

    def started(self, t: Training) -> None:
        """Before the first step."""

    def stepped(self, t: Training) -> None:
        """After each batch."""

    def epoch_trained(self, t: Training) -> None:
        """After the last batch of each epoch, before its validation."""

    def epoch_ended(self, t: Training) -> None:
        """After each epoch's validation; ``t.rows[-1]`` is its row of the log."""

    def stopped(self, t: Training) -> None:
        """When the run ends early, between two steps: it was asked to, or the data set has an error."""

    def finished(self, t: Training) -> None:
        """After the last epoch."""

    def closed(self, t: Training) -> None:
        """Last of all, whatever happened: give back what was taken."""


def fit(
    model: Module, train: Loader | DataSet, val: Loader | DataSet | None = None, optimizer: Optimizer | None = None,
    epochs: int = 1, reduction: str | None = None, weight: Values | None = None, accumulate: int = 1,
    schedule: Callable[[float], float] = constant, sampling: float = 1.0, callbacks: Sequence[Callback] = (),
    resume: Callable[[Training], Any] | None = None, loss: Loss | None = None,
) -> Training:  # fmt: skip
    """Train a model for segmentation.

    Under ``mpiexec`` all ranks call it alike, and each computes on its part of every batch: the steps are those of one
    process (:mod:`minifcn.arrays.parallel`).

    Parameters
    ----------
    model : Module
        With ``preprocessing`` (images to input) and scores of the image's size; an auxiliary head is trained along.
    train, val : Loader or data set
        A bare data set is loaded in shuffled batches of 8.  An epoch of `train` that was broken off is not finished:
        the first epoch is a whole one.  Of `val` the whole data set is measured, whatever loads it.
    optimizer : Optimizer, optional
        By default SGD with momentum 0.9 and a rate that suits `reduction` and the pictures (:func:`default_rate`).
        Afterwards its ``lr`` is what it was before, not what the schedule made of it.
    epochs : int
    reduction : str, optional
        One of ``loss.reductions``; by default the first, the paper's "sum" for cross-entropy.
    weight : array, optional
        (C,) class weights.
    accumulate : int
        Add up the gradients of this many batches before a step.  Sums add exactly; means are averaged.
    schedule : callable
        Factor on the learning rate as a function of progress, 0 … 1 (``mf.optim.SCHEDULES``).
    sampling : float
        Keep each pixel's loss with this probability, drawn anew for each batch (§3.4: training on random patches).
    callbacks : sequence of Callback
    resume : callable, optional
        Called with the :class:`Training` before it starts, to put back a saved state.
    loss : Loss, optional
        By default ``mf.losses.CrossEntropy()``.  A loss whose parts do not add refuses several ranks and `accumulate`.

    Returns
    -------
    Training
        ``.rows`` holds loss and metrics of every epoch.

    Raises
    ------
    Diverged
        (a UserError) if the loss is no longer a number.
    UserError
        If the model and the data have different classes, an image cannot be had, or no pixel is labelled.
    ValueError
        If an argument is out of range, or the optimiser has none of the model's parameters.
    RuntimeError
        Inside ``no_grad``.
    """
    require_module(model)
    train, val = as_loader(train, shuffle=True), None if val is None else as_loader(val)
    for loader in filter(None, (train, val)):
        require_same_classes(model, loader.dataset)
    loss, ranks = CrossEntropy() if loss is None else loss, parallel.world()
    reduction = require_arguments(epochs, loss, reduction, accumulate, sampling, ranks)
    optimizer = optimizer or SGD(model.parameters(), default_rate(train, reduction, accumulate), momentum=0.9)
    require_learnable(model, optimizer)
    if lone := lonely_batch_norm(model, train):
        warnings.warn(lone, RuntimeWarning, stacklevel=2)
    train.begin_epoch()
    optimizer.zero_grad()  # of a run that was broken off before its step
    t = Training(model, train, val, optimizer, epochs, loss, reduction, base_lr=optimizer.lr, ranks=ranks)
    weight = None if weight is None else backend.to_device(np.asarray(weight), t.device)
    if resume:
        resume(t)
    require_same_start(t)
    t.rate = optimizer.lr

    def tell(moment):
        for callback in callbacks:
            getattr(callback, moment)(t)

    try:
        tell("started")
        while t.epoch < t.epochs and not t.stops():
            if not t.trained:
                train_epoch(t, weight, accumulate, schedule, sampling, tell)
            if t.trained and not t.stops():
                finish_epoch(t, weight)
                tell("epoch_ended")
        tell("finished" if t.epoch == t.epochs else "stopped")
    except (UserError, GeometryError) as error:  # of the data: what was learned before it is sound
        if not isinstance(error, Diverged):
            t.trouble = str(error)
            if not t.gathered:
                tell("stopped")
        raise
    finally:
        optimizer.lr = t.base_lr
        tell("closed")
    return t


def require_arguments(
    epochs: int, loss: Loss, reduction: str | None, accumulate: int, sampling: float, ranks: Any
) -> str:
    """The reduction; ValueError for what `fit` cannot train with, TypeError for what is no loss."""
    if not isinstance(loss, Loss):
        kind = loss.__name__ if isinstance(loss, type) else type(loss).__name__
        raise TypeError(f"loss is a {kind}: give an instance of a subclass of mf.losses.Loss, mf.losses.Dice() say")
    reduction = loss.reduction(reduction)
    for name, number, least in (("epochs", epochs, 0), ("accumulate", accumulate, 1)):
        if not isinstance(number, Integral) or number < least:
            raise ValueError(f"{name} is {number!r}: it must be a whole number, at least {least}")
    if not 0 < sampling <= 1:
        raise ValueError(f"sampling is {sampling!r}: it must be a probability above 0, at most 1")
    loss.require_parts(accumulate, ranks.size)
    return reduction


def lonely_batch_norm(model: Module, loader: Loader) -> str | None:
    """A sentence, if batch norm has to take its statistics from single images."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and not m.frozen]
    if not norms or min(loader.batch_size, len(loader.dataset)) > 1:
        return None
    return (
        "a batch is one image, so batch norm takes its statistics from that image alone, and predictions will use "
        "others, averaged over training; larger batches are better, or a model without batch norm"
    )


def default_rate(loader: Loader, reduction: str = "sum", accumulate: int = 1) -> float:
    """The learning rate whose steps are those of a mean loss at `MEAN_RATE`; it looks at 100 images at most."""
    chosen = np.unique(np.linspace(0, len(loader.dataset) - 1, 100).astype(int))
    labels = [sample(loader.dataset, int(i))[1] for i in chosen]
    labelled = [int((label != VOID).sum()) for label in labels]
    pixels = typical_pixels([label.size for label in labels], loader.batch_size, labelled)
    batch_size = min(loader.batch_size, len(loader.dataset))
    return MEAN_RATE / step_factor(reduction, pixels, batch_size, accumulate)


def train_epoch(
    t: Training, weight: Values | None, accumulate: int, schedule: Callable, sampling: float, tell: Callable
) -> None:
    """What is left of one pass over the training data: forward, loss, backward, step."""
    t.model.train()
    t.clock = time.perf_counter()
    for part, images, labels in t.train.parts(t.ranks):
        with parallel.computing(part):
            if sampling < 1:
                labels = np.where(parallel.uniform(labels.shape) < sampling, labels, VOID)
            inputs = Tensor(backend.to_device(t.model.preprocessing(images), t.device))
            losses = losses_of(t.model, inputs, labels, weight, t.reduction, t.criterion)
        share = record_step(t, [loss.item() for loss in losses], labels)
        loss = sum(losses[1:], losses[0])
        loss.backward(None if share == 1 else backend.of(loss.data).asarray(share, loss.dtype))
        if t.gathered == accumulate or t.train.batch == 0:  # `batch` is the number of the next one
            if t.optimizer.lr != t.rate:  # somebody changed it: it stays changed by that factor
                t.base_lr = t.base_lr * t.optimizer.lr / t.rate if t.rate else t.optimizer.lr
            t.rate = t.optimizer.lr = t.base_lr * schedule(min((t.step - 1) / t.total_steps, 1))
            parallel.sum_gradients(t.ranks, t.optimizer.params)
            t.optimizer.step(1 if t.reduction == "sum" else 1 / t.gathered)
            t.gathered = 0
        tell("stepped")
        if t.stops() and not t.gathered:
            break
    t.trained = t.train.batch == 0
    if t.trained and not t.running["pixels"]:
        raise UserError(
            f"not one pixel counted in epoch {t.epoch + 1}: every label of {called(t.train.dataset)} is void ({VOID}), "
            "or became so by jitter or sampling"
        )
    if t.trained:
        tell("epoch_trained")


def losses_of(
    model: Module, inputs: Tensor, labels: Any, weight: Any = None, reduction: str | None = None,
    criterion: Loss | None = None,
) -> list[Tensor]:  # fmt: skip
    """The loss of every head of a model, times the head's weight; a model that is no FCN has one.

    Parameters
    ----------
    model : Module
    inputs : Tensor
    labels : array or dict of {str: array}
        (N, H, W); a dict has one for each head.
    weight, reduction
        What the loss is called with.
    criterion : Loss, optional
        By default cross-entropy.

    Returns
    -------
    list of Tensor
    """
    criterion = criterion or CrossEntropy()
    if not hasattr(model, "outputs"):
        return [criterion(model(inputs), labels, weight, reduction)]
    losses = []
    for name, scores in model.outputs(inputs).items():
        own = labels[name] if isinstance(labels, dict) else labels
        loss, factor = criterion(scores, own, weight, reduction), model.heads[name].loss_weight
        losses.append(loss if factor == 1 else loss * factor)
    return losses


def record_step(t: Training, losses: list[float], labels: Array) -> float:
    """Book one batch: the first head's loss per labelled pixel, whatever the reduction; the epoch's running sums.

    Returns the share in the batch's loss that the loss of this rank's part has: 1 of a sum, and of a mean what the part
    has of all that it is over.

    Parameters
    ----------
    t : Training
    losses : list of float
        Of the heads, reduced as the training does.
    labels : array
        (n, H, W) of this rank's part.
    """
    labelled, images = int((labels < t.model.num_classes).sum()), len(labels)
    own = divisor(t.reduction, labelled, images)
    *totals, labelled, images = t.ranks.all_reduce(
        np.array([*(loss * own for loss in losses), labelled, images])
    ).tolist()
    if broken := [total for total in totals if not math.isfinite(total)]:
        raise Diverged(t, f"the loss became {broken[0]} at step {t.step + 1}")
    total, labelled = totals[0], int(labelled)
    now = time.perf_counter()
    t.step += 1
    t.gathered += 1
    t.loss = total / max(labelled, 1)
    for name, value in dict(loss=total, pixels=labelled, seconds=now - t.clock).items():
        t.running[name] += value
    t.clock = now
    return own / max(divisor(t.reduction, labelled, images), 1)


def require_same_start(t: Training) -> None:
    """Raise UserError on all ranks unless they start from the same: they would drift apart, or wait for each other."""
    if t.ranks.size == 1:
        return
    data = (len(t.train.dataset), t.train.batch_size, t.train.seed, t.train.state_dict())
    start = zlib.crc32(repr((data, t.epoch, t.step, backend.rng().bit_generator.state)).encode())
    for array in (*t.model.state_dict().values(), *t.optimizer.state_dict().values()):
        start = zlib.crc32(np.ascontiguousarray(backend.asnumpy(array)), start)  # type: ignore[arg-type]
    if np.ptp(parallel.gather(t.ranks, start)):
        raise UserError(
            "the ranks do not start alike: give all of them the same files, and the same seed (mf.manual_seed) before "
            "the model is made"
        )


def finish_epoch(t: Training, weight: Values | None = None) -> None:
    """Validate, and write the epoch's row."""
    sums = t.running
    row = dict(
        epoch=t.epoch + 1, loss=sums["loss"] / max(sums["pixels"], 1), lr=t.optimizer.lr,
        seconds=round(sums["seconds"], 3),
    )  # fmt: skip
    if t.val is not None:
        confusion, val_loss = evaluate(t.model, t.val, weight, loss=t.criterion)
        row |= dict(val_loss=val_loss, **scores_of(confusion))
    t.rows.append(row)
    t.epoch, t.trained, t.running = t.epoch + 1, False, dict(EMPTY)


class Diverged(UserError):
    """The loss, or a weight, is no longer a finite number.

    Parameters
    ----------
    t : Training
    what : str
        What was seen, and when.
    """

    def __init__(self, t: Training, what: str) -> None:
        pixels = pixels_per_batch(t.train)
        step = effective_step(t.optimizer, t.reduction, pixels, t.train.batch_size)
        factor = reduction_factor(t.reduction, pixels, t.train.batch_size)
        if factor > 1 and t.base_lr * factor > 0.05:
            cause = (
                f"a learning rate meant for a mean loss: with reduction '{t.reduction}', {t.base_lr:g} is like "
                f"{t.base_lr * factor:g} for a mean; try --lr {0.01 / factor:.1g}"
            )
        else:
            cause = f"too large a learning rate ({t.base_lr:g}); try a tenth of it"
        super().__init__(f"{what} (epoch {t.epoch + 1}, effective step {step:.2g}); the likely cause is {cause}")
