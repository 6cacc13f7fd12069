"""Evaluates a model on a data set: the confusion matrix and the loss, which do not depend on the batch size."""

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from ..arrays import backend, memory, parallel
from ..arrays.types import Array, Values
from ..data import Augment, Loader
from ..data.bands import bands_of, require_same_bands
from ..data.heads import heads_of
from ..data.manifest import require_same_names
from ..data.protocol import DataSet
from ..data.samples import called
from ..data.views import OneHead
from ..engine.core import Tensor, no_grad
from ..errors import UserError
from ..models.inference import each
from ..nn import BatchNorm2d
from ..nn.losses import CrossEntropy, Loss
from ..nn.losses.loss import divisor
from ..nn.module import Module
from ..nn.statistics import estimate_statistics
from .metrics import ConfusionMatrix

SEEN = 100  # images from which batch norm's statistics are estimated
LIMIT = 10**9  # bytes of maps on a CPU: images that need more are measured in tiles


def as_loader(data: Loader | DataSet, **options: Any) -> Loader:
    """`data` if it is a loader or None, else a loader of the data set `data` with batches of 8."""
    return data if data is None or isinstance(data, Loader) else Loader(data, batch_size=8, **options)


def require_same_classes(model: Module, data: Any) -> None:
    """Raise UserError unless the data set has the bands and as many classes as the model, with the same names.

    Names are compared only if both have names.  Of a net with several kinds of labels, each head is compared.

    Parameters
    ----------
    model : Module
    data : data set
    """
    bands, count = getattr(model, "bands", None), getattr(model, "in_channels", None)
    if bands is not None:
        require_same_bands(bands, bands_of(data), "the model was trained on", f"{called(data)} has")
    elif count not in (None, len(bands_of(data))):
        has = ", ".join(bands_of(data))
        raise UserError(f"the model takes {count} channels, but {called(data)} has the bands {has}")
    kinds, heads = getattr(model, "kinds", ()), heads_of(data)
    if set(kinds) != set(heads):
        ours, theirs = (", ".join(names) or "no names of heads" for names in (kinds, heads))
        raise UserError(
            f"the model has {ours}, but the labels of {called(data)} have {theirs}: build the model with "
            "num_classes={name: number of classes} for the heads of the data set, and open SIFT Flow with "
            "heads='sem,geo' (--heads)"
        )
    for kind in kinds:
        require_same_classes(model.only(kind), OneHead(data, kind))
    if kinds:
        return
    if data.num_classes != model.num_classes:
        raise UserError(f"the model has {model.num_classes} classes, but {called(data)} has {data.num_classes}")
    names = getattr(model, "classes", None)
    if names is not None and hasattr(data, "classes"):
        remedy = "restore the old names or, to use the new ones, set model.classes in Python"
        require_same_names(names, data.classes, "the model was trained", f"{called(data)} has", remedy)


def by_kind(model: Any, data: Loader | DataSet) -> dict[str, tuple[Any, Loader]]:
    """{kind of label: (the net with its head alone, a loader of its labels)}; a net with one kind has ``""``.

    Parameters
    ----------
    model : Module
    data : Loader or data set
        With the heads of the model.
    """
    data = as_loader(data)
    parts = {kind: as_loader(OneHead(data.dataset, kind)) for kind in getattr(model, "kinds", ())}
    return {kind: (model.only(kind), part) for kind, part in parts.items()} or {"": (model, data)}


def estimate_norms(model: Module, train: Loader) -> None:
    """Set batch norm's running statistics to those of about `SEEN` training images, without augmentation.

    The images come in batches as in training, because the net is used to the statistics of batches.  Every call takes
    the same images; under ``mpiexec``, every rank computes the same.

    Parameters
    ----------
    model : Module
        With its ``preprocessing``.
    train : Loader
        Its position does not change.
    """
    if not any(isinstance(m, BatchNorm2d) and not m.frozen for m in model.modules()):
        return
    device, size = backend.device(model.parameters()[0].data), train.batch_size
    crop = getattr(train.augment, "crop", None)  # large pictures do not fit into memory as a batch
    augment = Augment(False, 0.0, crop=crop, fill=tuple(train.fill)) if crop else None
    plain = Loader(
        train.dataset, size, shuffle=True, seed=train.seed, augment=augment, drop_last=train.drop_last, fill=train.fill
    )
    images = (images for images, _ in islice(plain, -(-SEEN // size)))
    model.train()
    estimate_statistics(model, (Tensor(backend.to_device(model.preprocessing(x), device)) for x in images))


def scores_of(confusion: ConfusionMatrix) -> dict[str, float]:
    """The paper's four measures, as {name: value}."""
    return {name: getattr(confusion, name) for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")}


def evaluate(
    model: Module, data: Loader | DataSet, weight: Values | None = None, progress: bool = False,
    loss: Loss | None = None,
) -> tuple[ConfusionMatrix, float]:  # fmt: skip
    """The confusion matrix over a whole data set, and the loss per labelled pixel.

    Under ``mpiexec``, all ranks must call it with the same arguments; all get the result for the whole data set.

    Parameters
    ----------
    model : FCN
    data : Loader or data set
    weight : array, optional
        (C,) class weights of the loss; the confusion matrix does not use them.
    progress : bool
        Whether to show a progress bar if stderr is a terminal.
    loss : Loss, optional
        By default cross-entropy.

    Returns
    -------
    confusion : ConfusionMatrix
    loss : float
        The loss per labelled pixel.  A loss that does not add up is computed for each image and averaged, weighted by
        labelled pixels.  NaN without a labelled pixel.
    """
    data, loss = as_loader(data), loss or CrossEntropy()
    confusion, losses = ConfusionMatrix(model.num_classes), np.zeros(len(data.dataset))
    for indices, labels, scores in scored(model, data, progress):
        with no_grad():
            value = summed(loss, scores, labels, weight)
        losses[indices[0]] = value  # by batch: so their sum has the same value for any number of ranks
        confusion.update(labels, backend.asnumpy(scores.data.argmax(axis=1)))
    ranks = parallel.world()
    ranks.all_reduce(losses)
    ranks.all_reduce(confusion.matrix)
    labelled = int(confusion.matrix.sum())
    return confusion, float(losses.sum()) / labelled if labelled else float("nan")


def scored(
    model: Module, data: Loader, progress: bool = False, tta: bool = False
) -> Iterator[tuple[tuple[int, ...], Array, Tensor]]:
    """Iterate over this rank's share of a data set, in batches of images of one size.

    Parameters
    ----------
    model : FCN
    data : Loader
    progress : bool
        Whether to show a progress bar if stderr is a terminal.
    tta : bool
        Whether to use test-time augmentation: see :func:`minifcn.models.inference.scores`.

    Yields
    ------
    indices : tuple of int
        The images of the batch.
    labels : ndarray of uint8, (n, H, W)
    scores : Tensor, (n, C, H, W)
    """
    from tqdm import tqdm  # imported here, because it reads its version from the disk, which slows `import minifcn`

    require_same_classes(model, data.dataset)
    if heads := heads_of(data.dataset):
        raise UserError(
            f"{called(data.dataset)} has the heads {', '.join(heads)}: measure them one by one (model.only, "
            "minifcn.data.views.OneHead)"
        )
    total, ranks = len(data.dataset), parallel.world()
    bar = tqdm(total=total, desc="evaluating", leave=False, disable=None if progress else True, file=sys.stderr)
    with bar:
        for indices, images, labels in data.alike(ranks):
            yield indices, labels, whole_scores(model, images, tta)
            bar.update(len(labels))


def whole_scores(model: Any, images: Array, tta: bool = False) -> Tensor:
    """The scores of raw images (N, H, W, C), computed in tiles if the maps of whole images need too much memory."""
    cpu = backend.device(model.parameters()[0].data) == "cpu"
    size = images.shape[1:3]
    found: list[Array] = []
    more = 12 * model.num_classes * images[..., 0].size  # the scores, and as much twice for the loss

    def put(of, pixels, values):
        if values.shape[2:] == size:
            found[:] = [values]
            return
        if not found:
            found.append(backend.of(values).empty((len(images), values.shape[1], *size), values.dtype))
        found[0][of, :, *pixels.index[1:]] = values

    if not cpu:
        each(model, images, put, tta)
    else:
        least = LIMIT + images.nbytes + sum(p.data.nbytes for p in model.parameters())
        try:
            each(model, images, put, tta, least + more, more)
        except UserError:  # large nets need more for one tile, and test-time augmentation for its sum
            each(model, images, put, tta, max(memory.allowed(), least) + more, more)
    return Tensor(found[0])


def summed(loss: Loss, scores: Tensor, labels: Array, weight: Values | None = None) -> float:
    """The sum of the losses of single images, each multiplied by its number of labelled pixels if it is a mean.

    A loss with ``adds`` is computed on all images at once, which is faster and gives the same sum.

    Parameters
    ----------
    loss : Loss
    scores : Tensor
        (n, C, H, W).
    labels : array
        (n, H, W).
    weight : array, optional
        (C,) class weights.

    Returns
    -------
    float
    """
    if loss.adds:
        return loss(scores, labels, weight, "sum").item()
    reduction, classes = loss.reduction(), scores.shape[1]
    return sum(
        loss(scores[i : i + 1], labels[i : i + 1], weight).item()
        * divisor(reduction, int((labels[i] < classes).sum()), 1)
        for i in range(len(labels))
    )
