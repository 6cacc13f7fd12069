"""The paper's experiments, repeated on data that is there: each reports what it measured, whatever that is.

An experiment is a module with ``run(lab) -> results`` and ``draw(results) -> Figure``, and perhaps ``CONSTANTS``, on
which its numbers depend; a `Lab` keeps what is finished, so that one that was interrupted goes on where it was.
"""

from . import fields, patches, sampling, skips, upper_bounds

EXPERIMENTS = {m.__name__.rpartition(".")[2]: m for m in (skips, sampling, patches, upper_bounds, fields)}
"""The experiments by name."""
