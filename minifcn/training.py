"""The training loop, readable aloud: forward, loss, backward, step; and a short list of named callbacks."""

import math
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from . import backend, ops
from .coords import GeometryError
from .core import Tensor, no_grad
from .data import Loader
from .data.images import VOID
from .errors import UserError
from .metrics import ConfusionMatrix
from .nn.module import evaluating
from .optim import SGD, constant, reduction_factor


@dataclass
class Training:
    """A run in progress: what the callbacks see, and what a checkpoint saves."""

    model: object
    train: Loader
    val: Loader | None
    optimizer: object
    epochs: int
    reduction: str = "sum"
    base_lr: float = 0.0
    epoch: int = 0  # epochs finished, validation included
    step: int = 0  # batches done
    trained: bool = False  # all batches of this epoch are done, its validation is not
    loss: float = 0.0  # of the last batch, per labelled pixel
    gathered: int = 0  # batches whose gradients wait for a step
    running: dict = field(default_factory=lambda: dict(EMPTY))  # sums over the batches of this epoch
    rows: list = field(default_factory=list)  # one dict an epoch: the log
    stopping: bool = False  # set by a callback: stop as soon as what is saved can be continued exactly
    clock: float = 0.0  # when the last step ended

    @property
    def total_steps(self):
        """Batches in the whole run."""
        return self.epochs * len(self.train)

    @property
    def device(self):
        """Where the model is, and the batches go."""
        return backend.device(self.model.parameters()[0].data)


EMPTY = dict(loss=0.0, pixels=0, seconds=0.0)


class Callback:
    """Something done at named moments of a run.  Override what you need; `t` is the :class:`Training`."""

    def started(self, t):
        """Before the first step."""

    def stepped(self, t):
        """After each batch."""

    def epoch_trained(self, t):
        """After the last batch of each epoch, before its validation."""

    def epoch_ended(self, t):
        """After each epoch's validation; ``t.rows[-1]`` is its row of the log."""

    def stopped(self, t):
        """When the run ends early, between two steps: it was asked to, or the data set has an error."""

    def finished(self, t):
        """After the last epoch."""

    def closed(self, t):
        """Last of all, whatever happened: give back what was taken."""


def fit(
    model, train, val=None, optimizer=None, epochs=1, reduction="sum", weight=None, accumulate=1, schedule=constant,
    sampling=1.0, callbacks=(), resume=None,
):  # fmt: skip
    """Train a model for segmentation.

    Parameters
    ----------
    model : Module
        With ``preprocessing`` (images to input) and scores of the image's size; an auxiliary head is trained along.
    train, val : Loader or data set
        A bare data set is loaded in shuffled batches of 8.
    optimizer : Optimizer, optional
        By default SGD with momentum 0.9 and a step that suits a summed loss.
    epochs : int
    reduction : {"sum", "valid", "batch"}
        Of the loss, see :func:`minifcn.ops.cross_entropy`.
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

    Returns
    -------
    Training
        ``.rows`` holds loss and metrics of every epoch.

    Raises
    ------
    Diverged
        (a UserError) if the loss is no longer a number.
    UserError
        If the model and the data have different classes, or an image cannot be had.
    """
    train, val = _loader(train, shuffle=True), _loader(val)
    for loader in filter(None, (train, val)):
        require_same_classes(model, loader.dataset)
    optimizer = optimizer or SGD(model.parameters(), lr=1e-7, momentum=0.9)
    t = Training(model, train, val, optimizer, epochs, reduction, base_lr=optimizer.lr)
    weight = None if weight is None else backend.to_device(np.asarray(weight), t.device)
    if resume:
        resume(t)

    def tell(moment):
        for callback in callbacks:
            getattr(callback, moment)(t)

    try:
        tell("started")
        while t.epoch < t.epochs and not t.stopping:
            if not t.trained:
                train_epoch(t, weight, accumulate, schedule, sampling, tell)
            if t.trained and not t.stopping:
                finish_epoch(t, weight)
                tell("epoch_ended")
        tell("finished" if t.epoch == t.epochs else "stopped")
    except (UserError, GeometryError) as error:  # of the data: what was learned before it is sound
        if not isinstance(error, Diverged) and not t.gathered:
            tell("stopped")
        raise
    finally:
        tell("closed")
    return t


def train_epoch(t, weight, accumulate, schedule, sampling, tell):
    """What is left of one pass over the training data: forward, loss, backward, step."""
    t.model.train()
    t.clock = time.perf_counter()
    for images, labels in t.train:
        if sampling < 1:
            labels = np.where(backend.rng().random(labels.shape) < sampling, labels, VOID)
        inputs = Tensor(backend.to_device(t.model.preprocessing(images), t.device))
        losses = losses_of(t.model, inputs, backend.to_device(labels, t.device), weight, t.reduction)
        record_step(t, [loss.item() for loss in losses], labels)
        sum(losses[1:], losses[0]).backward()
        if t.gathered == accumulate or t.train.batch == 0:  # `batch` is the number of the next one
            t.optimizer.lr = t.base_lr * schedule((t.step - 1) / t.total_steps)
            t.optimizer.step(1 if t.reduction == "sum" else 1 / t.gathered)
            t.gathered = 0
        tell("stepped")
        if t.stopping and not t.gathered:
            break
    t.trained = t.train.batch == 0
    if t.trained:
        tell("epoch_trained")


def losses_of(model, inputs, labels, weight=None, reduction="sum"):
    """The loss of every head of a model, times the head's weight; a model that is no FCN has one.

    Parameters
    ----------
    model : Module
    inputs : Tensor
    labels : array or dict of {str: array}
        (N, H, W); a dict has one for each head.

    Returns
    -------
    list of Tensor
    """
    if not hasattr(model, "outputs"):
        return [ops.cross_entropy(model(inputs), labels, weight, reduction=reduction)]
    losses = []
    for name, scores in model.outputs(inputs).items():
        own = labels[name] if isinstance(labels, dict) else labels
        loss, factor = ops.cross_entropy(scores, own, weight, reduction=reduction), model.heads[name].loss_weight
        losses.append(loss if factor == 1 else loss * factor)
    return losses


def _loader(data, **options):
    return data if data is None or isinstance(data, Loader) else Loader(data, batch_size=8, **options)


def require_same_classes(model, data):
    """Raise UserError unless the data set has as many classes as the model has scores."""
    if data.num_classes != model.num_classes:
        raise UserError(f"the model knows {model.num_classes} classes, but {data!r} has {data.num_classes}")


def record_step(t, losses, labels):
    """Book one batch: the first head's loss per labelled pixel, whatever the reduction; the epoch's running sums."""
    if broken := [loss for loss in losses if not math.isfinite(loss)]:
        raise Diverged(t, f"the loss became {broken[0]} at step {t.step + 1}")
    labelled = int((labels < t.model.num_classes).sum())
    total = losses[0] * {"sum": 1, "valid": labelled, "batch": len(labels)}[t.reduction]
    now = time.perf_counter()
    t.step += 1
    t.gathered += 1
    t.loss = total / max(labelled, 1)
    for name, value in dict(loss=total, pixels=labelled, seconds=now - t.clock).items():
        t.running[name] += value
    t.clock = now


def finish_epoch(t, weight=None):
    """Validate, and write the epoch's row."""
    sums = t.running
    row = dict(
        epoch=t.epoch + 1, loss=sums["loss"] / max(sums["pixels"], 1), lr=t.optimizer.lr,
        seconds=round(sums["seconds"], 3),
    )  # fmt: skip
    if t.val is not None:
        confusion, val_loss = evaluate(t.model, t.val, weight)
        row |= dict(val_loss=val_loss, **scores_of(confusion))
    t.rows.append(row)
    t.epoch, t.trained, t.running = t.epoch + 1, False, dict(EMPTY)


def scores_of(confusion):
    """The paper's four measures, by name."""
    return {name: getattr(confusion, name) for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")}


def evaluate(model, data, weight=None, progress=False):
    """The confusion matrix over a whole data set, and the loss per labelled pixel.

    Parameters
    ----------
    model : FCN
    data : Loader or data set
    weight : array, optional
        (C,) class weights of the loss; the matrix counts pixels.
    progress : bool
        Show a bar, if stderr is a terminal.

    Returns
    -------
    confusion : ConfusionMatrix
    loss : float
        Cross-entropy per labelled pixel; NaN if there are none.
    """
    data = _loader(data)
    require_same_classes(model, data.dataset)
    confusion, total, labelled = ConfusionMatrix(model.num_classes), 0.0, 0
    device = backend.device(model.parameters()[0].data)
    with evaluating(model), no_grad():
        for images, labels in tqdm(
            data, "evaluating", leave=False, disable=None if progress else True, file=sys.stderr
        ):
            labelled += int((labels < model.num_classes).sum())
            scores = model(Tensor(backend.to_device(model.preprocessing(images), device)))
            total += ops.cross_entropy(scores, backend.to_device(labels, device), weight).item()
            confusion.update(labels, backend.asnumpy(scores.data.argmax(axis=1)))
    return confusion, total / labelled if labelled else float("nan")


def class_weights(dataset, power):
    """Weights ∝ frequency^−power for each class, scaled so that an average pixel weighs 1.

    0: all 1.  ½: between natural and balanced.  1: every class contributes alike.  A class that never occurs weighs 0.

    Returns
    -------
    ndarray of float32, (C,)
    """
    counts = np.zeros(dataset.num_classes)
    for i in range(len(dataset)):
        label = dataset[i][1]
        counts += np.bincount(label[label < dataset.num_classes], minlength=dataset.num_classes)
    frequency = counts / max(counts.sum(), 1)
    weights = np.where(counts > 0, np.maximum(frequency, 1e-12) ** -float(power), 0)
    return (weights / max((frequency * weights).sum(), 1e-12)).astype(np.float32)


def pixels_per_batch(loader):
    """Pixels of a batch, taking the first image for all."""
    return loader.dataset[0][1].size * min(loader.batch_size, len(loader.dataset))


def effective_step(optimizer, reduction, pixels, batch_size):
    """How far a constant per-pixel gradient of 1 moves a weight per step, momentum included: lr · N / (1 − μ).

    N is what the reduction multiplies a mean over pixels by: the labelled pixels of a batch for "sum" (the paper's
    1e-10 · 187,500 / (1 − 0.99) = 1.9e-3), those of one image for "batch", 1 for "valid".
    """
    factor = 1 if optimizer.memory == 1 else reduction_factor(reduction, pixels, batch_size)
    return optimizer.lr * optimizer.memory * factor


class Diverged(UserError):
    """The loss, or a weight, is no longer a finite number.

    Parameters
    ----------
    t : Training
    what : str
        What was seen, and when.
    """

    def __init__(self, t, what):
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


class Progress(Callback):
    """A line of the four metrics an epoch, and on a terminal a bar with the loss and the time left (on stderr)."""

    def __init__(self, out=None):
        self.out = out or sys.stdout

    def started(self, t):
        self.bar = tqdm(
            total=t.total_steps, initial=t.step, desc="training", unit="step", file=sys.stderr, dynamic_ncols=True,
            mininterval=0.2, disable=None, leave=False,
        )  # fmt: skip
        names = ("epoch", "loss", "val loss", "pixel acc", "mean acc", "mean IU", "f.w. IU", "s")
        self.say("  ".join(f"{n:>9}" for n in names))
        for row in t.rows:
            self.say(self.line(row))

    def say(self, text):
        self.bar.clear()
        print(text, file=self.out, flush=True)
        self.bar.refresh()

    @staticmethod
    def line(row):
        keys = ("loss", "val_loss", "pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")
        numbers = "  ".join(f"{row[k]:9.4f}" if k in row else " " * 9 for k in keys)
        return f"{row['epoch']:>9}  {numbers}  {row['seconds']:9.1f}"

    def stepped(self, t):
        self.bar.set_postfix_str(f"epoch {t.epoch + 1} of {t.epochs}, loss {t.loss:.4f}", refresh=False)
        self.bar.update()

    def epoch_trained(self, t):
        if t.val is not None and not t.stopping:
            self.bar.set_postfix_str(f"validating epoch {t.epoch + 1}")

    def epoch_ended(self, t):
        self.say(self.line(t.rows[-1]))

    def closed(self, t):
        if hasattr(self, "bar"):
            self.bar.close()


class StopOnSignal(Callback):
    """Ctrl-C stops after the step in progress, so that what is saved can be continued exactly; twice stops at once."""

    previous = None

    def started(self, t):
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, lambda *_: self.ask(t))

    def ask(self, t):
        if t.stopping:
            raise KeyboardInterrupt
        t.stopping = True
        # print() may be what the signal has interrupted, and is not reentrant
        os.write(2, b"\nstopping after this step (Ctrl-C again: at once)\n")

    def closed(self, t):
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
