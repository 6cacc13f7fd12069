"""Checks a folder: the facts of all files in one pass, the numbers of all classes, and the findings."""

import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..bands import RGB
from ..images import VOID
from ..layouts import Recognised, recognise
from ..palette import voc_colour_map
from .colours import about_colours
from .files import contents
from .finding import ERROR, NOTE, WARNING, Finding, command, flag_values
from .names import about_bands, about_ignored, about_names, about_table
from .pairs import about_files
from .splits import about_classes, about_splits
from .survey import survey
from .values import about_values

LEVELS = (ERROR, WARNING, NOTE)


@dataclass
class Report:
    """What a check found in a folder.

    Attributes
    ----------
    root : Path
    layout : str
        The layout of the folder, and what says so.
    facts : list of Facts
        Of each sample, what is kept of its image and mask.
    classes : tuple of str
        The names of the classes; if the folder has none, "class 0" and so on; () if the masks do not hold class ids.
    bands : tuple of str
        The names of the images' channels.
    palette : ndarray of uint8, (256, 3)
        A colour for each value in the masks.
    void : ndarray of uint8, (n, 3)
        The colours that mean void in masks in colours.
    findings : list of Finding
        The most serious ones first.
    """

    root: Path
    layout: str
    facts: list
    classes: tuple
    bands: tuple
    palette: np.ndarray = field(default_factory=voc_colour_map)
    findings: list = field(default_factory=list)
    void: np.ndarray = field(default_factory=lambda: np.empty((0, 3), np.uint8))

    @property
    def works(self):
        """Whether a training can start."""
        return not any(finding.level == ERROR for finding in self.findings)

    @property
    def cure(self):
        """The command with which `convert` cures all that it can; empty if there is an error that it cannot cure."""
        if any(finding.level == ERROR and finding.advice for finding in self.findings):
            return ""
        flags = {}
        for finding in self.findings:
            for flag, value in flag_values(() if finding.advice else finding.flags):
                flags.setdefault(flag, value)
        return command(self.root, [word for pair in flags.items() for word in pair if word]) if flags else ""

    @cached_property
    def splits(self):
        """The names of the splits."""
        found = {f.sample.split for f in self.facts}
        return [*(s for s in ("train", "val") if s in found), *sorted(found - {"train", "val"})]

    @cached_property
    def counts(self):
        """{split: pixels of each value 0..255 in its masks, (256,)}."""
        counts = {split: np.zeros(VOID + 1, int) for split in self.splits}
        for f in self.facts:
            if f.mask and f.mask.counts is not None:
                counts[f.sample.split] += f.mask.counts
        return counts

    @cached_property
    def frequencies(self):
        """The share of each class in the labelled pixels of the training split, (C,)."""
        counts = self._training_counts()
        return counts.sum(axis=0) / max(counts.sum(), 1)

    @cached_property
    def weights(self):
        """Median-frequency weights of the classes in the training split, (C,); 0 for a class that never occurs.

        The frequency of a class is its share in the labelled pixels of the images that contain it.  Its weight is the
        median of all frequencies, divided by its own (Eigen and Fergus 2015).
        """
        counts = self._training_counts()
        labelled = counts.sum(axis=1, keepdims=True)  # (n, 1)
        pixels, around = counts.sum(axis=0), (labelled * (counts > 0)).sum(axis=0)
        frequency = pixels[pixels > 0] / around[pixels > 0]
        weights = np.zeros(len(pixels))
        weights[pixels > 0] = np.median(frequency) / frequency if len(frequency) else 0
        return weights

    def _training_counts(self):
        """Pixels of each class in each training mask, (n, C)."""
        training = [
            f.mask.counts for f in self.facts if f.sample.split == "train" and f.mask and f.mask.counts is not None
        ]
        return np.array(training, int).reshape(len(training), VOID + 1)[:, : len(self.classes)]

    @cached_property
    def mean(self):
        """The mean of each band over the training images, each image counting the same, (bands,)."""
        means = [
            f.picture.mean for f in self.facts if f.sample.split == "train" and f.picture and f.picture.mean is not None
        ]
        return np.mean(means, axis=0) if means else np.full(len(self.bands), np.nan)

    def kinds(self, what):
        """{"640x480 PNG RGB": number of files} of "picture" or "mask", the most frequent first."""
        headers = [getattr(f, what).header for f in self.facts if getattr(f, what) and getattr(f, what).header]
        return Counter(
            f"{h.size[0]}x{h.size[1]} {h.format} {h.mode}{f' {h.bits} bits' * (h.bits != 8)}" for h in headers
        )

    def as_dict(self):
        """The report as a JSON value."""
        number = {
            split: sum(1 for f in self.facts if f.sample.split == split and f.sample.whole) for split in self.splits
        }
        return dict(
            root=str(self.root), cure=self.cure, layout=self.layout, works=self.works, samples=number,
            images=dict(self.kinds("picture").most_common()), masks=dict(self.kinds("mask").most_common()),
            classes=list(self.classes), bands=list(self.bands),
            pixels={s: {str(v): int(c[v]) for v in c.nonzero()[0]} for s, c in self.counts.items()},
            frequencies=self.frequencies.tolist(), median_frequency_weights=self.weights.tolist(),
            mean=[None if np.isnan(m) else round(float(m), 2) for m in self.mean],
            findings=[finding.as_dict(self.root) for finding in self.findings],
        )  # fmt: skip


def check(root, progress=lambda items, total: items, dataset=None):
    """Check a folder of images and masks.

    Parameters
    ----------
    root : path-like
    progress : callable
        ``progress(items, total)`` returns an iterator over `items`, which may draw a progress bar.
    dataset : str, optional
        The name of the layout, "folder" or one of `LAYOUTS`; by default it is recognised.

    Returns
    -------
    Report

    Raises
    ------
    UserError
        If there is no such folder, or nothing in it is recognised.
    """
    if dataset and not Path(root).is_dir():
        raise UserError(f"there is no folder {root}; give the folder of a data set")
    there = contents(Recognised(dataset, "it was chosen", Path(root)) if dataset else recognise(root))
    folder = there.folder
    bands, of_bands = about_bands(folder / "bands.txt")
    facts = list(progress(survey(there.samples, bands), len(there.samples)))
    coloured, findings = about_colours(facts, folder)
    names, of_names = there.classes, []
    if names is None:
        names, of_names = about_names(folder / "classes.txt")
    table = coloured
    if there.name == "folder" and not coloured:
        table, of_table = about_table(folder / "colours.txt")
        of_names += of_table
    names, palette = (coloured and coloured.classes) or names or (table and table.classes), there.palette
    if table and table.classes == names:
        palette = table.palette
    values = about_values(facts, names)
    sound = not any(finding.level == ERROR for finding in values)
    ids = [f.mask.counts[:VOID].nonzero()[0].max(initial=0) for f in facts if f.mask and f.mask.counts is not None]
    of_names += about_ignored(names, folder / "classes.txt", max(ids, default=0) if sound else 0)
    findings += [
        *there.findings,
        *of_names,
        *of_bands,
        *about_files(there, facts),
        *values,
        *about_splits(facts, there.divided),
    ]
    report = Report(there.root, f"{there.name}: {there.why}", facts, (names or ()) if sound else (), bands or RGB)
    if coloured:
        report.void = coloured.void
    if palette is not None:
        report.palette[: len(palette)] = palette
    if not names and sound:
        largest = max((counts[:VOID].nonzero()[0].max(initial=-1) for counts in report.counts.values()), default=-1)
        report.classes = tuple(f"class {k}" for k in range(int(largest) + 1))
    if not any(finding.level == ERROR for finding in findings):
        labelled = [f for f in facts if f.sample.image and f.mask and f.mask.counts is not None]
        findings += about_classes([(f.sample.name, f.sample.split, f.mask.counts) for f in labelled], report.classes)
        findings += _opens(there)
    findings = _without_vain_cures(findings, there.samples)
    if dataset:
        findings = [replace(f, flags=("--dataset", dataset, *f.flags)) if f.flags else f for f in findings]
    report.findings = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    return report


def _without_vain_cures(findings, samples):
    """The findings; ``--skip`` is no cure if it would not leave a sample to train on, and one to measure with."""
    left_out = {path for finding in findings if "--skip" in finding.flags for path in finding.files}
    if sum(sample.whole and not left_out & {sample.image, sample.mask} for sample in samples) > 1:
        return findings
    advice = "hardly a sample can be used as it is: export or collect the files again"
    return [replace(f, flags=(), advice=advice) if "--skip" in f.flags else f for f in findings]


def _opens(there):
    """What the data set refuses although nothing else was found."""
    for split in ("train", "val"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                Recognised(there.name, there.why, there.root).open(split)
        except UserError as error:
            return [Finding(ERROR, f"training refuses split {split!r}", str(error), advice="see the reason")]
    return []
