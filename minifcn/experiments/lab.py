"""Where an experiment works: one folder, the runs that are finished in it, and what machine it is."""

import json
import os
import platform
from pathlib import Path

import numpy as np
from PIL import Image

from .. import models, train
from ..data import Loader, Shapes, open_dataset
from ..data.palette import save_mask
from ..errors import UserError
from ..io import atomic
from ..kernels.cpu import blas, workers
from ..training.metrics import ConfusionMatrix, boundary_band

BAND = 3  # pixels on either side of a border between two classes: where a finer net should be better


class Lab:
    """The folder of one experiment.

    Parameters
    ----------
    folder : path-like
    seeds : int
        Every training is repeated with the seeds 0 … seeds − 1.
    short : bool
        The same steps at a size that a test can afford; its numbers mean nothing.
    constants : dict, optional
        What else its numbers depend on, a JSON value: epochs, steps.

    Raises
    ------
    UserError
        If the folder holds an experiment with other settings.
    """

    def __init__(self, folder, name, seeds=3, short=False, constants=None):
        self.folder, self.seeds, self.short = Path(folder), range(seeds), short
        settings = dict(experiment=name, seeds=seeds, short=short, **constants or {})
        there = self.recall("settings")
        if there not in (None, settings):
            raise UserError(f"{folder} holds another experiment ({there}); give another --out")
        if there is None and self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(f"{folder} is not empty, and holds no experiment; give another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.keep("settings", settings)

    def keep(self, name, value):
        """Write a JSON value, all or nothing."""
        with atomic(self.folder / f"{name}.json") as partial:
            partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        return value

    def recall(self, name):
        """A JSON value that was kept; None if there is none.  Raises UserError if its file is damaged."""
        file = self.folder / f"{name}.json"
        try:
            return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        except ValueError as error:
            raise UserError(f"{file} is damaged ({error}); remove it, and the same command makes it anew") from None

    def once(self, name, compute):
        """``compute()``, or what it gave before."""
        there = self.recall(name)
        return self.keep(name, compute()) if there is None else there

    def data(self):
        """Training split, validation split, and their flags of ``minifcn.train``: Earth; if short, a few scenes."""
        if not self.short:
            return (*(open_dataset("earth", split) for split in ("train", "val")), ["--dataset", "earth"])
        root = self.folder / "scenes"
        if not root.is_dir():
            partial = root.with_name("scenes.partial")  # all or nothing: one that was interrupted is written anew
            for name in ("images", "masks"):
                (partial / name).mkdir(parents=True, exist_ok=True)
            for i, (image, label) in enumerate(Shapes(length=40, size=(48, 64))):
                Image.fromarray(image).save(partial / "images" / f"{i:02}.png")
                save_mask(partial / "masks" / f"{i:02}.png", label)
            partial.rename(root)
        small = ["--dataset", "folder", "--root", root, "--width", 0.25]
        return (*(open_dataset("folder", split, root) for split in ("train", "val")), small)

    def train(self, name, *flags):
        """Train by ``minifcn.train`` into the run folder `name`; one that is finished is left, one begun goes on.

        Returns
        -------
        Path
        """
        folder = self.folder / name
        if (folder / "metrics.json").is_file():
            return folder
        print(f"\n== {name}", flush=True)
        begun = (folder / "config.json").is_file()
        code = train.main(["--resume", str(folder)] if begun else [*map(str, flags), "--out", str(folder)])
        if code == 130:
            raise KeyboardInterrupt
        if code:
            raise UserError(f"the training {name} failed; mend that, then give the same command to go on")
        return folder

    def judge(self, folder, data):
        """The measures of a run's last weights on a data set: over all pixels, and in a band along borders alone.

        Returns
        -------
        dict
            pixel_accuracy, mean_iu, boundary_accuracy, boundary_iu.
        """

        def measure():
            model = models.load(folder / "last.safetensors")
            everywhere, band = ConfusionMatrix(model.num_classes), ConfusionMatrix(model.num_classes)
            for images, labels in Loader(data, 8, fill=model.preprocessing.fill):
                predictions = model.predict(images)
                everywhere.update(labels, predictions)
                band.update(np.stack([boundary_band(label, BAND) for label in labels]), predictions)
            return dict(
                pixel_accuracy=everywhere.pixel_accuracy, mean_iu=everywhere.mean_iu,
                boundary_accuracy=band.pixel_accuracy, boundary_iu=band.mean_iu,
            )  # fmt: skip

        return self.once(f"{folder.name}/judged", measure)  # it goes when the run's weights do


def machine():
    """What the numbers were measured on: processor, cores, versions, BLAS."""
    found = blas.description()
    return dict(
        processor=_processor(), cores=os.cpu_count(), threads=workers.threads(), python=platform.python_version(),
        numpy=np.__version__, blas=" ".join(str(found.get(k, "")) for k in ("internal_api", "version", "architecture")),
    )  # fmt: skip


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def mean_and_spread(values):
    """``(mean, standard deviation)`` over seeds; the deviation of one value is 0."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
