"""The paper's experiments, repeated on data that minifcn provides; each reports its results, also unexpected ones.

An experiment is a module with ``run(lab) -> results``, ``summary(results) -> lines`` and ``draw(results) -> Figure``.
Its optional ``CONSTANTS`` are the settings on which its numbers depend.  A `Lab` keeps finished results on disk, so
that an interrupted experiment continues where it stopped.
"""

from . import fields, fusion, patches, sampling, skips, transfer, upper_bounds

EXPERIMENTS = {
    m.__name__.rpartition(".")[2]: m for m in (skips, transfer, fusion, sampling, patches, upper_bounds, fields)
}
"""The experiments by name."""
