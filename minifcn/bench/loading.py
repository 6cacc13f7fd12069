"""Steps of the default command, loading and augmentation included, and the same steps on a batch that is at hand."""

from itertools import islice

from ..data.earth import MissingExtra
from ..engine.core import Tensor
from ..training.flags import settings
from ..training.loop import losses_of
from ..training.parts import assemble

CASE, STEPS = "default_command", 10


def ways():
    """Two functions: steps on batches from the loader, and as many on one batch; or a sentence on what is missing."""
    try:
        parts = assemble(settings(["--dataset", "earth"])[0])
    except MissingExtra as error:
        return str(error)
    parts.model.train()
    held = next(iter(parts.train))

    def loaded():
        parts.train.begin_epoch()
        for images, labels in islice(parts.train, STEPS):
            step(parts, images, labels)

    def at_hand():
        for _ in range(STEPS):
            step(parts, *held)

    return loaded, at_hand


def step(parts, images, labels):
    """One step of a training: forward, loss, backward, update."""
    inputs = Tensor(parts.model.preprocessing(images))
    for loss in losses_of(parts.model, inputs, labels, parts.weight, parts.settings.reduction, parts.loss):
        loss.backward()
    parts.optimizer.step()
