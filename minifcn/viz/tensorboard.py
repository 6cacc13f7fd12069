"""TensorBoard: the scalars, example predictions and histograms of weights of a run, after every epoch."""

import numpy as np

from ..arrays import backend
from ..data.bands import bands_of, false_colour
from ..training.evaluation import by_kind
from ..training.state import Callback
from .figures import colour, overlay

EXAMPLES = 3
SIDE = 512  # most pixels of a side of an example


class TensorBoard(Callback):
    """Writes a run for TensorBoard (``tensorboard --logdir FOLDER``); the step of every value is the epoch.

    Parameters
    ----------
    folder : path-like
    """

    def __init__(self, folder):
        self.folder, self.writer = folder, None

    def started(self, t):
        if not t.ranks.rank:
            from tensorboardX import SummaryWriter

            # a run that is resumed replaces what a killed process wrote after the checkpoint
            self.writer = SummaryWriter(str(self.folder), purge_step=t.epoch + 1 if t.epoch else None)

    def epoch_ended(self, t):
        if self.writer is None:
            return
        for name, value in t.rows[-1].items():
            if name != "epoch":
                self.writer.add_scalar(name, value, t.epoch)
        for name, p in t.model.named_parameters():
            if p.requires_grad:
                self.writer.add_histogram(name, backend.asnumpy(p.data), t.epoch)
        for head, (model, val) in by_kind(t.model, t.val).items() if t.val else ():
            for i in np.unique(np.linspace(0, len(val.dataset) - 1, EXAMPLES).astype(int)).tolist():
                name = "/".join(filter(None, ["example", head, str(i)]))
                self.writer.add_image(name, example(model, val.dataset, i), t.epoch, dataformats="HWC")
        self.writer.flush()

    def closed(self, t):
        if self.writer is not None:
            self.writer.close()


def example(model, data, i):
    """One picture of sample `i`: the image, its true labels and the predicted labels, laid over the image."""
    image, label = data[i]
    every = -(-max(label.shape) // SIDE)
    truth, prediction = label[::every, ::every], model.predict(image)[::every, ::every]
    image = false_colour(image, bands_of(data))[::every, ::every]
    return np.concatenate([image, colour(truth, data.palette), overlay(image, prediction, data.palette)], axis=1)
