"""The average of the weights over the last steps of training, which scores better than the last weights themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..arrays import backend
from ..arrays.types import Array
from ..engine.core import no_grad
from .module import Module


class WeightAverage:
    """Exponential moving average of a model's learned parameters (Polyak averaging).

    ``a ← a + (1 − d)·(w − a)`` after every step, with ``d = min(decay, (1 + t)/(10 + t))`` at step t: the small d at
    the start lets the average forget the initial weights.

    Parameters
    ----------
    model : Module
    decay : float
        Of the influence of a step, from one step to the next; below 1.

    Attributes
    ----------
    values : dict of {str: array}
        The average by parameter; while `inside`, the weights that training goes on with.
    inside : bool
        Whether the model has the average as its weights now.
    """

    def __init__(self, model: Module, decay: float) -> None:
        self.decay, self.steps, self.inside = decay, 0, False
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.values: dict[str, Array] = {name: p.data.copy() for name, p in self.parameters.items()}

    def update(self) -> None:
        """Take the weights after a step into the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, p in self.parameters.items():
            self.values[name] += (1 - decay) * (p.data - self.values[name])

    def swap(self) -> None:
        """Exchange the model's weights and `values`."""
        self.inside = not self.inside
        with no_grad():
            for name, p in self.parameters.items():
                weights = p.data.copy()
                p.data[...] = self.values[name]
                self.values[name][...] = weights

    def state_dict(self) -> dict[str, Array]:
        """The average as ``model.NAME``, as predictions use it, and the weights to train on as ``raw.NAME``."""
        weights = {name: p.data for name, p in self.parameters.items()}
        raw, mean = (self.values, weights) if self.inside else (weights, self.values)
        return {f"raw.{name}": a for name, a in raw.items()} | {f"model.{name}": a for name, a in mean.items()}

    def load_state_dict(self, arrays: Mapping[str, Array], steps: int) -> None:
        """Continue from a saved state after `steps` steps, into a model that has the average as its weights."""
        if type(steps) is not int or steps < 0:
            raise ValueError(f"the number of averaged steps is {steps!r}")
        for name, p in self.parameters.items():
            self.values[name][...] = p.data
            p.data[...] = backend.of(p.data).asarray(arrays[f"raw.{name}"])
        self.steps, self.inside = steps, False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """In the ``with`` block, the model has the average as its weights."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
