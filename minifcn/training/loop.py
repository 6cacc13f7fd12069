"""The training loop: forward, loss, backward, step; and the callbacks that it calls at named moments."""

import math
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np

from .. import nn
from ..arrays import backend, parallel
from ..arrays.types import Values
from ..data import Loader
from ..data.heads import by_head
from ..data.images import VOID
from ..data.protocol import DataSet
from ..data.samples import called, sample
from ..data.statistics import class_weights, pixels_per_batch, typical_pixels  # noqa: F401  other code imports it from here
from ..data.views import first_head
from ..engine.core import Tensor
from ..errors import GeometryError, UserError
from ..nn.average import WeightAverage
from ..nn.losses import CrossEntropy, Loss
from ..nn.losses.loss import divisor
from ..nn.module import Module, require_module
from ..nn.optim import (
    MEAN_RATE,
    SGD,
    Optimizer,
    clip_gradients,
    constant,
    poly,
    reduction_factor,
    require_learnable,
    require_range,
    step_factor,
)
from .evaluation import as_loader, by_kind, estimate_norms, evaluate, require_same_classes, scores_of
from .state import EMPTY, Callback, Diverged, Training, columns


def fit(
    model: Module, train: Loader | DataSet, val: Loader | DataSet | None = None, optimizer: Optimizer | None = None,
    epochs: int = 1, reduction: str | None = None, weight: Values | Mapping[str, Values] | None = None,
    accumulate: int = 1, schedule: Callable[[float], float] | None = None, sampling: float = 1.0,
    callbacks: Sequence[Callback] = (), resume: Callable[[Training], Any] | bool | None = None,
    loss: Loss | None = None, ema: float = 0.0, clip: float | None = None, patience: int | None = None,
    out: str | PathLike | None = None, progress: bool | None = None,
) -> Training:  # fmt: skip
    """Train a model for segmentation.

    Under ``mpiexec``, all ranks must call it with the same arguments.  Each computes on its part of every batch, and
    the steps are those of one process (:mod:`minifcn.arrays.parallel`).

    Parameters
    ----------
    model : Module
        It has ``preprocessing`` (from images to its input) and gives scores of the image's size.  Auxiliary heads are
        trained, too.  The loss of a net with several kinds of labels is the sum over its heads, and each is validated
        by itself; the mean IU of the first decides which epoch is best.
    train, val : Loader or data set
        A data set without a loader is loaded in batches of 8; `train` is shuffled.  Training starts with a complete
        epoch, even if `train` is in the middle of one.  Validation uses the whole data set of `val`; before it, the
        statistics of batch norm are estimated from images of `train` (`estimate_norms`).  For a net with several kinds
        of labels, both have ``heads`` (`minifcn.data.heads`).
    optimizer : Optimizer, optional
        By default SGD with momentum 0.9 and a learning rate that suits `reduction` and the images
        (:func:`default_rate`).  After training, its ``lr`` no longer has the schedule's factor.
    epochs : int
    reduction : str, optional
        One of ``loss.reductions``; by default the first, the paper's "sum" for cross-entropy.
    weight : array, optional
        (C,) class weights; {kind of label: such weights} for a net with several.
    accumulate : int
        A step uses the gradients of this many batches: their sum if `reduction` is "sum", else their mean.
    schedule : callable, optional
        Factor on the learning rate as a function of progress, 0 … 1 (``mf.optim.SCHEDULES``).  By default ``poly``, so
        the rate decays; but the rate of an `optimizer` that is given stays constant.
    sampling : float
        The probability with which the loss of each pixel counts, drawn anew for each batch (§3.4: training on random
        patches).
    callbacks : sequence of Callback
    resume : callable, optional
        Called with the :class:`Training` before it starts, to restore a saved state.  True: continue the run in `out`.
    loss : Loss, optional
        By default ``mf.losses.CrossEntropy()``.  With a loss whose ``adds`` is False, training on several ranks and
        `accumulate` are errors.
    ema : float
        If above 0, the decay of an average of the weights (`minifcn.nn.average.WeightAverage`).  It is validated, and
        the model has it after training.
    clip : float, optional
        Shorten a step's gradient to this norm if it is longer.  The norm is that of the mean loss over pixels, with any
        `reduction`.
    patience : int, optional
        End the training when the mean IU on `val` has not improved for this many epochs.
    out : path-like, optional
        A new or empty folder for the log and the checkpoints of the run, after every epoch: ``mf.models.load(out)``.
    progress : bool, optional
        Show progress.  By default, in a terminal or a notebook, unless there are `callbacks`.

    Returns
    -------
    Training
        ``.rows`` has the loss and the metrics of every epoch.

    Raises
    ------
    Diverged
        (a UserError) If the loss is NaN or infinite.
    UserError
        If the model and the data have different classes, an image cannot be loaded, or no pixel is labelled.
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
    require_range("ema", ema, below=1)
    if patience is not None and (patience < 1 or val is None):
        raise ValueError(f"patience is {patience!r}: it needs a number of at least 1, and validation data (val)")
    schedule = schedule or (poly if optimizer is None else constant)
    optimizer = optimizer or SGD(model.parameters(), default_rate(train, reduction, accumulate), momentum=0.9)
    require_learnable(model, optimizer)
    if lone := lonely_batch_norm(model, train):
        warnings.warn(lone, RuntimeWarning, stacklevel=2)
    train.begin_epoch()
    optimizer.zero_grad()  # an interrupted run can leave gradients behind
    t = Training(model, train, val, optimizer, epochs, loss, reduction, base_lr=optimizer.lr, ranks=ranks)
    t.average, t.clip, t.patience = WeightAverage(model, ema) if ema else None, clip, patience
    weight = placed(weight, model, t.device)
    callbacks, restore = watched(callbacks, out, progress, resume)
    if restore:
        restore(t)
    require_same_start(t)
    t.rate = optimizer.lr

    def tell(moment):
        for callback in callbacks:
            getattr(callback, moment)(t)

    try:
        tell("started")
        while not t.complete and not t.stops():
            if not t.trained:
                train_epoch(t, weight, accumulate, schedule, sampling, tell)
            if t.trained and not t.stops():
                with t.averaged():
                    finish_epoch(t, weight)
                    tell("epoch_ended")
        tell("finished" if t.complete else "stopped")
        if t.average:
            t.average.swap()
    except (UserError, GeometryError) as error:
        if not isinstance(error, Diverged):  # an error of the data: the weights are good and can be saved
            t.trouble = str(error)
            if not t.gathered:
                tell("stopped")
        raise
    finally:
        optimizer.lr = t.base_lr
        tell("closed")
    return t


def watched(
    callbacks: Sequence[Callback], out: str | PathLike | None, progress: bool | None, resume: Any
) -> tuple[list[Callback], Any]:
    """The callbacks, with those that `out` and `progress` ask for, and the function that restores a saved state."""
    from .callbacks import watcher  # imported here, because tqdm slows `import minifcn`
    from .run_folder import Recorder, Run

    shown = watcher(False if callbacks and progress is None else progress)
    if out is None:
        if resume is True:
            raise ValueError("resume is True: give out, the folder of the run to continue")
        return [*callbacks, *shown], resume
    run = Run.open(out) if resume is True else Run.create(out, {})
    return [Recorder(run), *callbacks, *shown], run.restore if resume is True else resume


def require_arguments(
    epochs: int, loss: Loss, reduction: str | None, accumulate: int, sampling: float, ranks: Any
) -> str:
    """Check arguments of :func:`fit` and return the reduction; ValueError or TypeError for a wrong argument."""
    if not isinstance(loss, Loss):
        kind = loss.__name__ if isinstance(loss, type) else type(loss).__name__
        raise TypeError(f"loss is a {kind}: give an instance of a subclass of mf.losses.Loss, such as mf.losses.Dice()")
    reduction = loss.reduction(reduction)
    for name, number, least in (("epochs", epochs, 0), ("accumulate", accumulate, 1)):
        if not isinstance(number, Integral) or number < least:
            raise ValueError(f"{name} is {number!r}: it must be a whole number, at least {least}")
    if not 0 < sampling <= 1:
        raise ValueError(f"sampling is {sampling!r}: it must be a probability above 0, at most 1")
    loss.require_parts(accumulate, ranks.size)
    return reduction


def placed(weight: Any, model: Module, device: str) -> Any:
    """Class weights on a device; ValueError unless they are a dict if the model has several kinds of labels."""
    kinds = getattr(model, "kinds", ())
    if isinstance(weight, Mapping) and set(weight) <= set(kinds):
        return {kind: backend.to_device(np.asarray(values), device) for kind, values in weight.items()}
    if weight is not None and (kinds or isinstance(weight, Mapping)):
        form = f"a dict with an array for each of {', '.join(kinds)}" if kinds else "an array"
        raise ValueError(f"weight is {weight!r:.80}: this model needs {form}")
    return None if weight is None else backend.to_device(np.asarray(weight), device)


def lonely_batch_norm(model: Module, loader: Loader) -> str | None:
    """A warning if batch norm would compute its statistics from single images, else None."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and not m.frozen]
    if not norms or min(loader.batch_size, len(loader.dataset)) > 1:
        return None
    return (
        "a batch is one image, so batch norm takes its statistics from that image alone, but predictions will use "
        "averages over all of training; use larger batches, or a model without batch norm"
    )


def default_rate(loader: Loader, reduction: str = "sum", accumulate: int = 1) -> float:
    """The learning rate whose steps are those of a mean loss with `MEAN_RATE`, from the labels of up to 100 images."""
    chosen = np.unique(np.linspace(0, len(loader.dataset) - 1, 100).astype(int))
    labels = [sample(first_head(loader.dataset), int(i))[1] for i in chosen]
    labelled = [int((label != VOID).sum()) for label in labels]
    pixels = typical_pixels([label.size for label in labels], loader.batch_size, labelled)
    batch_size = min(loader.batch_size, len(loader.dataset))
    return MEAN_RATE / step_factor(reduction, pixels, batch_size, accumulate)


def train_epoch(t: Training, weight: Any, accumulate: int, schedule: Callable, sampling: float, tell: Callable) -> None:
    """Train on the remaining batches of this epoch: forward, loss, backward, step."""
    t.model.train()
    t.clock = time.perf_counter()
    for part, images, labels in t.train.parts(t.ranks):
        with parallel.computing(part):
            if sampling < 1:
                drawn = parallel.uniform(labels.shape[:3]) < sampling  # the same pixels for every head
                labels = np.where(drawn if labels.ndim == 3 else drawn[..., None], labels, VOID)
            labels = by_head(t.train.dataset, labels)
            inputs = Tensor(backend.to_device(t.model.preprocessing(images), t.device))
            losses = losses_of(t.model, inputs, labels, weight, t.reduction, t.criterion)
        shares = record_step(t, [loss.item() for loss in losses], labels)
        losses = [loss if share == 1 else loss * share for loss, share in zip(losses, shares)]
        sum(losses[1:], losses[0]).backward()
        if t.gathered == accumulate or t.train.batch == 0:  # 0: the next batch is the first of the next epoch
            if t.optimizer.lr != t.rate:  # a callback changed lr: apply the same factor to the rest of the run
                t.base_lr = t.base_lr * t.optimizer.lr / t.rate if t.rate else t.optimizer.lr
            t.rate = t.optimizer.lr = t.base_lr * schedule(min((t.step - 1) / t.total_steps, 1))
            parallel.sum_gradients(t.ranks, t.optimizer.params)
            scale = 1 if t.reduction == "sum" else 1 / t.gathered
            if t.clip is not None:
                clip_gradients(t.optimizer.params, t.clip * reduction_factor(t.reduction, *t.counted) / scale)
            t.optimizer.step(scale)
            if t.average:
                t.average.update()
            t.gathered, t.counted = 0, (0, 0)
        tell("stepped")
        if t.stops() and not t.gathered:
            break
    t.trained = t.train.batch == 0
    without = [kind for kind, begin in columns(t.model).items() if not t.running.get(f"{begin}pixels")]
    if t.trained and without:
        which = f"label of {without[0]}" if without[0] else "label"
        raise UserError(
            f"not one pixel counted in epoch {t.epoch + 1}, because every {which} of {called(t.train.dataset)} is void "
            f"({VOID}) or became void by jitter or sampling: label some pixels, or reduce the jitter of "
            "mf.data.Augment (--jitter)"
        )
    if t.trained:
        tell("epoch_trained")


def losses_of(
    model: Module, inputs: Tensor, labels: Any, weight: Any = None, reduction: str | None = None,
    criterion: Loss | None = None,
) -> list[Tensor]:  # fmt: skip
    """The loss of every head of a model, times the head's ``loss_weight``; a model without heads has one loss.

    Parameters
    ----------
    model : Module
    inputs : Tensor
    labels : array or dict of {str: array}
        (N, H, W), or a dict of such arrays by the name of the head.
    weight : array or dict of {str: array}, optional
        (C,) class weights, or such arrays by the name of the head.
    reduction : str, optional
        An argument of the loss.
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
        head_labels = labels[name] if isinstance(labels, dict) else labels
        loss = criterion(scores, head_labels, of_kind(weight, name), reduction)
        factor = model.heads[name].loss_weight
        losses.append(loss if factor == 1 else loss * factor)
    return losses


def of_kind(weight: Any, kind: str) -> Any:
    """The class weights for one kind of label, if `weight` is a dict of them; else `weight`."""
    return weight.get(kind) if isinstance(weight, Mapping) else weight


def record_step(t: Training, losses: list[float], labels: Any) -> list[float]:
    """Add one batch to the counts and running sums of `t`; ``t.loss`` is the first head's loss per labelled pixel.

    Returns the weight of each of this rank's losses in that of the whole batch: 1 for a sum.  For a mean over pixels or
    images, it is the number in this rank's part, divided by the number in the batch.

    Parameters
    ----------
    t : Training
    losses : list of float
        The losses of the heads on this rank's part, with the reduction of `t`.
    labels : array or dict of {str: array}
        (n, H, W), the labels of this rank's part, or such arrays by the name of the head.

    Raises
    ------
    Diverged
        If a loss is NaN or infinite.
    """
    parts = [labels[head] for head in t.model.heads] if isinstance(labels, dict) else [labels] * len(losses)
    here, images = [int((part != VOID).sum()) for part in parts], len(parts[0])
    counts = [divisor(t.reduction, labelled, images) for labelled in here]
    n, sums = len(losses), [loss * count for loss, count in zip(losses, counts)]
    found = t.ranks.all_reduce(np.array([*sums, *here, images])).tolist()
    totals, (*pixels, images) = found[:n], map(int, found[n:])
    if broken := [total for total in totals if not math.isfinite(total)]:
        raise Diverged(t, f"the loss became {broken[0]} at step {t.step + 1}")
    now = time.perf_counter()
    t.step += 1
    t.gathered, t.counted = t.gathered + 1, (t.counted[0] + pixels[0], t.counted[1] + images)
    t.loss = totals[0] / max(pixels[0], 1)
    t.running["seconds"] += now - t.clock
    for begin, total, labelled in zip(columns(t.model).values(), totals, pixels):
        for name, value in ((f"{begin}loss", total), (f"{begin}pixels", labelled)):
            t.running[name] = t.running.get(name, 0) + value
    t.clock = now
    return [count / max(divisor(t.reduction, labelled, images), 1) for count, labelled in zip(counts, pixels)]


def require_same_start(t: Training) -> None:
    """Raise UserError on all ranks unless all have the same data, weights, optimiser and random state: otherwise their
    weights would differ, or one rank would wait for ever for another.
    """
    if t.ranks.size == 1:
        return
    data = (len(t.train.dataset), t.train.batch_size, t.train.seed, t.train.state_dict())
    start = zlib.crc32(repr((data, t.epoch, t.step, backend.rng().bit_generator.state)).encode())
    for array in (*t.model.state_dict().values(), *t.optimizer.state_dict().values()):
        start = zlib.crc32(np.ascontiguousarray(backend.asnumpy(array)), start)  # type: ignore[arg-type]
    if np.ptp(parallel.gather(t.ranks, start)):
        raise UserError(
            "the ranks do not start with the same data, weights and random state: give all of them the same files, and "
            "call mf.manual_seed with the same seed before the model is made"
        )


def finish_epoch(t: Training, weight: Any = None) -> None:
    """Validate each head, append the epoch's row to ``t.rows``, and begin the next epoch."""
    sums = t.running
    row = dict(epoch=t.epoch + 1, lr=t.optimizer.lr, seconds=round(sums["seconds"], 3))
    for begin in columns(t.model).values():
        row[f"{begin}loss"] = sums[f"{begin}loss"] / max(sums[f"{begin}pixels"], 1)
    if t.val is not None or t.average:
        estimate_norms(t.model, t.train)
    if t.val is not None:
        for (kind, (model, val)), begin in zip(by_kind(t.model, t.val).items(), columns(t.model).values()):
            confusion, val_loss = evaluate(model, val, of_kind(weight, kind), loss=t.criterion)
            measured = dict(val_loss=val_loss, **scores_of(confusion))
            row |= {f"{begin}{name}": value for name, value in measured.items()}
    t.rows.append(row)
    t.epoch, t.trained, t.running = t.epoch + 1, False, dict(EMPTY)
