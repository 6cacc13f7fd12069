"""Batches of a data set, in a reproducible order, prepared in advance by a worker thread.

Random numbers depend only on (seed, epoch, index), not on threads or on earlier draws, so a run that is resumed in the
middle of an epoch gets exactly the batches that an uninterrupted run gets.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..arrays import parallel
from ..arrays.types import Array
from ..errors import UserError
from .bands import bands_of
from .heads import heads_of
from .images import FILL, VOID
from .protocol import DataSet
from .samples import called, checked, require_dataset, sample

AHEAD = 3  # batches prepared in advance
GROUP = 8  # consecutive samples among which `Loader.alike` looks for images of one size
PIXELS = GROUP * 128 * 128  # most pixels in a batch of `Loader.alike` that has more than one image


class Loader:
    """Iterate over batches ``(images uint8 (N, H, W, 3), labels uint8 (N, H, W))``.

    If the data set has ``bands``, the images have one channel for each, and may be uint16.  If it has ``heads``, the
    labels are (N, H, W, heads).

    One ``for batch in loader`` is one epoch, or the rest of the current one: if a loop is left early, the next loop
    continues with the next batch.  Run only one loop over a loader at a time.

    Parameters
    ----------
    dataset : data set
        See `minifcn.data`.  If it has a method ``window(i, top, left, height, width)``, that is passed to `augment`.
    batch_size : int
        Images of different sizes are padded at the bottom and right to the largest of their batch.
    shuffle : bool
        Draw a new order each epoch, with ``default_rng([seed, epoch])``.
    seed : int
    augment : callable, optional
        ``augment(image, label, rng) -> (image, label)``, such as `Augment`; for each sample, `rng` is
        ``default_rng([seed, epoch, index])``.
    drop_last : bool
        Omit the last batch if it is not full.
    fill : ints, one for each band
        The colour of the padding; its label is void.

    Raises
    ------
    UserError
        If there is not a single batch, the seed is negative, or `dataset` is not a data set; in the loop, if a sample
        cannot be used (see `minifcn.data.samples.sample`).
    """

    def __init__(
        self, dataset: DataSet, batch_size: int, shuffle: bool = False, seed: int = 0, augment: Callable | None = None,
        drop_last: bool = False, fill: Sequence[int] = FILL,
    ) -> None:  # fmt: skip
        if batch_size < 1:
            raise UserError(f"the batch size is {batch_size}; it must be at least 1")
        if seed < 0:
            raise UserError(f"the seed is {seed}; it must not be negative")
        require_dataset(dataset)
        if len(dataset) < (batch_size if drop_last else 1):
            raise UserError(f"{called(dataset)} has too few images ({len(dataset)}) for one batch of {batch_size}")
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        self.augment, self.drop_last, self.fill = augment, drop_last, fill
        self.epoch = self.batch = 0  # the position of the next batch

    def __len__(self) -> int:
        """Batches per epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        return ((images, labels) for _, images, labels in self.parts(parallel.ALONE))

    def parts(self, ranks: Any) -> Iterator[tuple[parallel.Part, Array, Array]]:
        """Iterate over this rank's part of every batch: ``(part, images, labels)``.

        Put together, the parts of all ranks are the batches of a single process: the same images, order and sizes.
        All ranks must iterate in step, because at each batch they exchange sizes and errors; a rank that stops early
        would leave the others waiting.

        Parameters
        ----------
        ranks : parallel.MPI or parallel.Alone

        Yields
        ------
        part : parallel.Part
            Which images of the batch these are.  Empty on some ranks if a batch has fewer images than there are ranks.
        images, labels : ndarray of uint8, (n, H, W, C) and (n, H, W)
        """
        epoch, first, last = self.epoch, self.batch, len(self) - 1
        order = np.arange(len(self.dataset))
        if self.shuffle:
            np.random.default_rng([self.seed, epoch]).shuffle(order)
        batches = [order[k * self.batch_size :][: self.batch_size] for k in range(first, last + 1)]
        parts = [parallel.Part.of(len(indices), ranks) for indices in batches]
        loaded = prefetch(self._load(epoch, i[part.first : part.last]) for i, part in zip(batches, parts))
        for k, part in enumerate(parts, first):
            with parallel.together(ranks):
                images, labels = next(loaded)
            if ranks.size > 1:  # pad to the largest image on any rank
                size = parallel.gather(ranks, *labels.shape[1:3]).max(axis=0)
                if (size > labels.shape[1:3]).any():
                    images, labels = self._stacked(list(zip(images, labels)), *map(int, size))
            self.epoch, self.batch = (epoch, k + 1) if k < last else (epoch + 1, 0)
            yield part, images, labels

    def alike(self, ranks: Any) -> Iterator[tuple[tuple[int, ...], Array, Array]]:
        """Iterate over this rank's share of the data set, without augmentation, in batches of images of one size.

        For evaluation: images are not padded, and the grouping into batches depends on the data set alone, not on the
        batch size, the position of this loader or the number of ranks.  This makes the measures reproducible, because
        the scores of an image depend on its batch: in the last digits, and near padding in more than that.  All ranks
        must iterate in step.

        Parameters
        ----------
        ranks : parallel.MPI or parallel.Alone

        Yields
        ------
        indices : tuple of int
            The indices of the images of the batch.
        images, labels : ndarray of uint8, (n, H, W, C) and (n, H, W)
        """
        total, first = len(self.dataset), GROUP * ranks.rank
        indices = (i for i in range(total) if i // GROUP % ranks.size == ranks.rank)
        loaded = prefetch((sample(self.dataset, i) for i in indices), GROUP)
        for start in range(0, total, GROUP * ranks.size):
            waiting: dict = {}  # {size: samples}
            for i in range(start, min(start + GROUP, total)):  # rank 0's indices: no rank has more
                with parallel.together(ranks):
                    pair = next(loaded) if first + i < total else None
                if pair is None:
                    continue
                size = pair[1].shape
                waiting.setdefault(size, []).append((first + i, *pair))
                if (len(waiting[size]) + 1) * pair[1].size > PIXELS:
                    yield _stack(waiting.pop(size))
            yield from map(_stack, waiting.values())

    def _load(self, epoch, indices):
        samples = [self._sample(epoch, int(index)) for index in indices]
        height, width = np.max([(0, 0), *(label.shape[:2] for _, label in samples)], axis=0)
        return self._stacked(samples, height, width)

    def _stacked(self, samples, height, width):
        deep = any(image.dtype == np.uint16 for image, _ in samples)
        shape = (len(samples), height, width, len(bands_of(self.dataset)))
        images = np.empty(shape, np.uint16 if deep else np.uint8)
        images[...] = self.fill
        heads = heads_of(self.dataset)
        labels = np.full((len(samples), height, width, *([len(heads)] if heads else [])), VOID, np.uint8)
        for k, (image, label) in enumerate(samples):
            images[k, : image.shape[0], : image.shape[1]] = image
            labels[k, : label.shape[0], : label.shape[1]] = label
        return images, labels

    def _sample(self, epoch, index):
        image, label = sample(self.dataset, index)
        if self.augment is None:
            return image, label
        rng = np.random.default_rng([self.seed, epoch, index])
        if hasattr(self.dataset, "window"):
            return self.augment(image, label, rng, window=partial(self._window, index))
        return self.augment(image, label, rng)

    def begin_epoch(self) -> None:
        """Go to the start of the next epoch, if some batches of the current one have been used."""
        if self.batch:
            self.epoch, self.batch = self.epoch + 1, 0

    def _window(self, index, *place):
        return checked(self.dataset, index, self.dataset.window(index, *place))

    def state_dict(self) -> dict[str, int]:
        """The position of the next batch: ``{"epoch": int, "batch": int}``."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at a position that `state_dict` returned; UserError if this loader has no such batch."""
        epoch, batch = int(state["epoch"]), int(state["batch"])
        if epoch < 0 or not 0 <= batch < len(self):
            raise UserError(
                f"cannot resume at epoch {epoch}, batch {batch}: this loader has {len(self)} batches an epoch; "
                "resume with the same data set and batch size"
            )
        self.epoch, self.batch = epoch, batch

    def __repr__(self) -> str:
        return f"Loader({called(self.dataset)}, {len(self)} batches of {self.batch_size})"


def _stack(samples):
    indices, images, labels = zip(*samples)
    return indices, np.stack(images), np.stack(labels)


def prefetch(items, ahead=AHEAD):
    """Iterate over `items`, computing up to `ahead` of them in advance in a worker thread.

    An exception in `items` is raised in the calling thread.  The worker thread ends when the iteration ends, also if
    the caller leaves its loop early.

    Parameters
    ----------
    items : iterable
    ahead : int
    """
    ready, stop, end = queue.Queue(ahead), threading.Event(), object()

    def produce():
        last = (end, None)
        try:
            for item in items:
                ready.put((item, None))
                if stop.is_set():
                    return
        except BaseException as error:  # of any kind: the calling thread raises it again
            last = (end, error)
        ready.put(last)

    thread = threading.Thread(target=produce, name="minifcn-loader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stop.set()
        while not ready.empty():  # a worker blocked in put() gets room, and then sees `stop`; else it would never end
            ready.get_nowait()
