"""The learning-rate finder: the loss of each step while the rate rises from far too small to far too large.

L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, §3.3: as long as the rate is too small,
the loss stays; then it falls; beyond some rate it grows.  A good rate is about a tenth of the one with the least loss.
"""

import warnings
from contextlib import suppress

from .loop import fit
from .state import Callback, Diverged

STEPS = 100  # at least; whole epochs
LOWEST, HIGHEST = 1e-3, 1e3  # factors on the rate that suits the settings
SMOOTHING = 0.9  # the losses are averaged over about the last ten steps
FAR = 4.0  # the search ends when this average is as many times its least value
BELOW = 10  # the suggested rate is the one of the least loss, divided by this


class RateFinder(Callback):
    """A callback that records the rates and the averaged losses, and stops the run when the loss has grown.

    Attributes
    ----------
    rates, losses : list of float
        The rate of each step, and the averaged loss after it.
    """

    def __init__(self):
        self.rates, self.losses = [], []
        self._rate, self._mean, self._steps = None, 0.0, 0

    def stepped(self, t):
        self._steps += 1
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * t.loss
        if self._rate is not None:  # t.loss is the loss before this step, and after the one before
            self.rates.append(self._rate)
            self.losses.append(self._mean / (1 - SMOOTHING**self._steps))
            t.stopping = self.losses[-1] > FAR * min(self.losses)
        self._rate = t.rate

    @property
    def suggested(self):
        """A tenth of the rate with the least loss; None if the loss did not fall."""
        return suggested(self.rates, self.losses)


def suggested(rates, losses):
    """A tenth of the rate with the least loss; None if no loss is below the first one.

    Parameters
    ----------
    rates, losses : sequences of float
    """
    if not losses or min(losses) >= losses[0]:
        return None
    return rates[losses.index(min(losses))] / BELOW


def find_rate(parts, progress=False):
    """Train the parts of a run for about `STEPS` steps at rising rates.  The model has learned nothing useful then.

    Parameters
    ----------
    parts : Parts
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    RateFinder
    """
    s, finder = parts.settings, RateFinder()
    with suppress(Diverged), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fit(
            parts.model, parts.train, None, parts.optimizer, -(-STEPS // len(parts.train)), s.reduction, parts.weight,
            s.accumulate, rising, s.sampling, [finder], loss=parts.loss, clip=s.clip, progress=progress,
        )  # fmt: skip
    return finder


def rising(progress):
    """The factor on the learning rate, which grows by the same ratio in every step, from `LOWEST` to `HIGHEST`."""
    return LOWEST * (HIGHEST / LOWEST) ** progress
