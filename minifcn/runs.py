"""One run, one folder: config, log, checkpoints, pictures, report; and how to go on after an interruption.

``runs/NAME/{config.json, log.csv, last.safetensors, best.safetensors, metrics.json, curves.png, samples.png,
confusion.png, report.html}``.  ``last`` holds everything that continuing exactly needs: weights, optimiser, position in
the data, random state, log.  ``best`` holds the weights of the epoch with the best mean IU on the validation split.
"""

import csv
import json
import os
from pathlib import Path

import numpy as np

from . import backend
from .errors import UserError
from .io import load_checkpoint, save_checkpoint
from .models.store import describe, weights_in
from .training import Callback, evaluate, scores_of

FIELDS = ("epoch", "loss", "val_loss", "pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu", "lr", "seconds")


class Run:
    """A run folder.

    Parameters
    ----------
    folder : str or Path
    config : dict
        The settings, a JSON value: what ``--resume`` starts from.
    """

    def __init__(self, folder, config):
        self.folder, self.config = Path(folder), config

    @classmethod
    def create(cls, folder, config):
        """A new folder.  Raises UserError if there is something in it, or it cannot be written."""
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(
                f"{folder} is not empty: give another --out, or continue it with --resume {folder}"
            )
        run = cls(folder, config)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            run.write_json("config.json", config)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}): give another --out") from None
        return run

    @classmethod
    def open(cls, folder):
        """An existing folder.  Raises UserError if it is none, or its config is damaged."""
        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{folder} is not a run: there is no config.json in it") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / 'config.json'} cannot be read ({error})") from None
        return cls(folder, config)

    @property
    def last(self):
        return self.folder / "last.safetensors"

    @property
    def best(self):
        return self.folder / "best.safetensors"

    def write(self, name, text):
        """Write a text file of the folder, all or nothing."""
        partial = self.folder / (name + ".partial")
        partial.write_text(text, encoding="utf-8", newline="")
        os.replace(partial, self.folder / name)

    def write_json(self, name, value):
        self.write(name, json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")

    def write_log(self, rows):
        """The whole log.csv: what was logged after the checkpoint that a run continues from is gone, as it should."""
        lines = [dict.fromkeys(FIELDS, "") | row for row in rows]
        with open(self.folder / "log.csv.partial", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(lines)
        os.replace(self.folder / "log.csv.partial", self.folder / "log.csv")

    def save(self, t):
        """Write the state of a training to last.safetensors."""
        arrays = {f"model.{k}": backend.asnumpy(v) for k, v in t.model.state_dict().items()}
        arrays |= {f"optimizer.{k}": backend.asnumpy(v) for k, v in t.optimizer.state_dict().items()}
        record = describe(t.model) | dict(
            config=self.config,
            epoch=t.epoch,
            step=t.step,
            running=t.running,
            rows=t.rows,
            optimizer_steps=t.optimizer.steps,
            loader=t.train.state_dict(),
            random=backend.rng().bit_generator.state,
        )
        save_checkpoint(self.last, arrays, record)

    def save_best(self, t):
        """Write the weights alone to best.safetensors."""
        arrays = {f"model.{k}": backend.asnumpy(v) for k, v in t.model.state_dict().items()}
        save_checkpoint(self.best, arrays, describe(t.model) | dict(epoch=t.epoch, scores=t.rows[-1]))

    def restore(self, t):
        """Put the state of last.safetensors back into a training, to go on exactly where it was."""
        arrays, record = load_checkpoint(self.last)
        optimizer = {k.removeprefix("optimizer."): a for k, a in arrays.items() if k.startswith("optimizer.")}
        try:
            t.model.load_state_dict(weights_in(arrays))
            t.optimizer.load_state_dict(optimizer, record["optimizer_steps"])
            t.train.load_state_dict(record["loader"])
            t.epoch, t.step, t.running, t.rows = (record[k] for k in ("epoch", "step", "running", "rows"))
            backend.rng().bit_generator.state = record["random"]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.last}: cannot be continued with these settings ({error})") from None


class Recorder(Callback):
    """Keeps the run folder up to date: log and checkpoints every epoch, and when the run is stopped."""

    def __init__(self, run):
        self.run = run

    def started(self, t):
        self.run.write_log(t.rows)

    def epoch_ended(self, t):
        if t.val is None or t.rows[-1]["mean_iu"] >= max(row["mean_iu"] for row in t.rows):
            self.run.save_best(t)
        self.run.save(t)
        self.run.write_log(t.rows)

    def stopped(self, t):
        self.run.save(t)


def illustrate(run, model, val, rows, floors=()):
    """Evaluate a trained model on its validation split, and write metrics, pictures and the report.

    Returns
    -------
    dict
        The four measures, and per class, as in metrics.json.
    """
    from .report import write_report  # pictures are made at the end, and only then is matplotlib wanted
    from .viz import confusion as confusion_figure
    from .viz import curves, samples

    figures = {"curves.png": curves(rows)}
    metrics = {}
    if val is not None:
        confusion, loss = evaluate(model, val)
        metrics = measures(confusion, val.classes) | dict(loss=loss, split=getattr(val, "split", "val"))
        chosen = telling(val, 4)
        images, labels = zip(*(val[i] for i in chosen))
        predictions = [model.predict(image) for image in images]
        figures["samples.png"] = samples(images, labels, predictions, val.classes, val.palette)
        figures["confusion.png"] = confusion_figure(confusion.matrix, val.classes)
        run.write_json("metrics.json", metrics)
    for name, figure in figures.items():
        figure.savefig(run.folder / name)
    run.write_json("config.json", run.config | dict(floors=list(floors)))
    write_report(run.folder)
    return metrics


def measures(confusion, classes):
    """The four measures and the two of each class as a JSON value; None where a class does not occur."""
    per_class = [
        dict(name=name, accuracy=_number(accuracy), iu=_number(iu))
        for name, accuracy, iu in zip(classes, *confusion.per_class())
    ]
    scores = {name: _number(value) for name, value in scores_of(confusion).items()}
    return scores | dict(per_class=per_class, pixels=int(confusion.matrix.sum()))


def _number(value):
    return None if np.isnan(value) else float(value)


def telling(data, count):
    """The examples with the most classes, spread over the data set: those worth looking at."""
    found = np.array([len(np.unique(data[i][1])) for i in range(len(data))])
    parts = np.array_split(np.arange(len(data)), min(count, len(data)))
    return [int(part[found[part].argmax()]) for part in parts]
