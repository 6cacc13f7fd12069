"""The folder of an experiment with its finished results, and a description of the machine."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from .. import models, train
from ..data import Loader, Shapes, open_dataset
from ..data.earth import BANDS
from ..data.palette import save_mask
from ..errors import UserError
from ..io import atomic
from ..kernels.compiled import compiler
from ..kernels.cpu import blas, workers
from ..training.metrics import ConfusionMatrix, boundary_band

BAND = 3  # pixels on either side of a border between two classes; there a finer net should be better


class Lab:
    """The folder of one experiment.

    Parameters
    ----------
    folder : path-like
        Created if it does not exist.
    name : str
        The name of the experiment.
    seeds : int
        Every training is repeated with the seeds 0 … seeds − 1.
    short : bool
        Run the same steps at a size that is fast enough for a test; the numbers mean nothing.
    constants : dict, optional
        The other settings on which the numbers depend, such as epochs or steps; a JSON value.

    Raises
    ------
    UserError
        If the folder holds an experiment with other settings, or other files.
    """

    def __init__(self, folder, name, seeds=3, short=False, constants=None):
        self.folder, self.seeds, self.short = Path(folder), range(seeds), short
        settings = dict(experiment=name, seeds=seeds, short=short, **constants or {})
        kept = self.recall("settings")
        if kept not in (None, settings):
            raise UserError(f"{folder} holds an experiment with other settings ({kept}); give another folder (--out)")
        if kept is None and self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(f"{folder} holds files but no experiment; give another folder (--out)")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.keep("settings", settings)

    def keep(self, name, value):
        """Write a JSON value to NAME.json atomically, and return it."""
        with atomic(self.folder / f"{name}.json") as partial:
            partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        return value

    def recall(self, name):
        """The JSON value in NAME.json; None if there is no such file.  Raises UserError if the file is damaged."""
        file = self.folder / f"{name}.json"
        try:
            return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        except ValueError as error:
            raise UserError(f"{file} is damaged ({error}); remove it and run the same command again") from None

    def once(self, name, compute):
        """The kept value of `name`; if there is none, ``compute()``, which is then kept."""
        kept = self.recall(name)
        return self.keep(name, compute()) if kept is None else kept

    def data(self, bands=None):
        """The training split, the validation split, and the flags of ``minifcn.train`` for them.

        The data set is Earth; for a short experiment it is a folder of 40 generated scenes.  `bands` names some of red,
        green, blue and height, with commas; the height of a generated scene is its class.
        """
        chosen, flags = ({"bands": bands}, ["--bands", bands]) if bands else ({}, [])
        if not self.short:
            splits = (open_dataset("earth", split, **chosen) for split in ("train", "val"))
            return *splits, ["--dataset", "earth", *flags]
        root = self.folder / "scenes"
        if not root.is_dir():
            partial = root.with_name("scenes.partial")  # renamed only when complete
            for name in ("images", "masks"):
                (partial / name).mkdir(parents=True, exist_ok=True)
            if bands:
                (partial / "bands.txt").write_text("\n".join(BANDS) + "\n", encoding="utf-8")
            for i, (image, label) in enumerate(Shapes(length=40, size=(48, 64))):
                image = np.dstack([image, label]) if bands else image
                Image.fromarray(image).save(partial / "images" / f"{i:02}.png")
                save_mask(partial / "masks" / f"{i:02}.png", label)
            partial.rename(root)
        small = ["--dataset", "folder", "--root", root, "--width", 0.25, *flags]
        return (*(open_dataset("folder", split, root, **chosen) for split in ("train", "val")), small)

    def train(self, name, *flags):
        """Train with ``minifcn.train`` in the run folder `name`; resume an unfinished run, keep a finished one.

        Returns
        -------
        Path
            The run folder.

        Raises
        ------
        KeyboardInterrupt
            If the training was interrupted.
        UserError
            If the training failed.
        """
        folder = self.folder / name
        if (folder / "metrics.json").is_file():
            return folder
        print(f"\n== {name}", flush=True)
        begun = (folder / "config.json").is_file()
        code = train.main(["--resume", str(folder)] if begun else [*map(str, flags), "--out", str(folder)])
        if code > 128:  # stopped by a signal: Ctrl-C, SIGTERM or SIGHUP
            raise KeyboardInterrupt
        if code:
            raise UserError(f"the training {name} failed; correct the error above and run the same command again")
        return folder

    def judge(self, folder, data):
        """Evaluate a run's last weights on a data set: on all pixels, and only in a band along class borders.

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

        return self.once(f"{folder.name}/judged", measure)  # in the run folder: it is deleted with the weights


def machine():
    """The machine of the measurements: processor, cores, threads, versions, BLAS."""
    found = blas.description()
    return dict(
        processor=_processor(), cores=os.cpu_count(), threads=workers.threads(), python=platform.python_version(),
        numpy=np.__version__, blas=" ".join(str(found.get(k, "")) for k in ("internal_api", "version", "architecture")),
        loops=f"loops compiled by Numba {version('numba')}" if compiler.available() else "NumPy's loops",
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
