"""One run, one folder: config, log, checkpoints, pictures, report; and how to go on after an interruption.

``runs/NAME/{config.json, splits.json, log.csv, last.safetensors, best.safetensors, metrics.json, curves.png,
samples.png, confusion.png, report.html}``.  ``last`` holds everything that continuing exactly needs: weights,
optimiser, position in the data, random state, log.  ``best`` holds the weights of the epoch with the best mean IU on
the validation split.  ``splits`` names the pictures of both splits (`minifcn.data.manifest`).
"""

import csv
import io
import json
import math
import re
import shlex
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from . import backend, parallel
from .cli import read_settings
from .data import manifest
from .errors import UserError
from .io import atomic, load_checkpoint, save_checkpoint
from .io.lock import locked
from .models.store import describe, weights_in
from .training import EMPTY, Callback, Diverged, evaluate, scores_of

FIELDS = ("epoch", "loss", "val_loss", "pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu", "lr", "seconds")
FILES = (
    "config.json", "splits.json", "log.csv", "last.safetensors", "best.safetensors", "metrics.json", "curves.png",
    "samples.png", "confusion.png", "report.html",
)  # fmt: skip
LEFT = re.compile(rf"lock|({'|'.join(map(re.escape, FILES))})\.partial|\.tmp\w{{6}}")
"""Names of what a killed process leaves in the folder; the last are safetensors' own while it writes."""
TEXTS = ("dataset", "root", "train_split", "val_split")  # settings of a run that other commands read
STATE = ("epoch", "step", "trained", "running", "rows")  # of a Training, besides what its parts know themselves


class Run:
    """A run folder.  Of several ranks only rank 0 writes into it.

    Parameters
    ----------
    folder : str or Path
    config : dict
        The settings, a JSON value: what ``--resume`` starts from.
    """

    def __init__(self, folder, config):
        self.folder, self.config = Path(folder), config

    @classmethod
    def create(cls, folder, config, held=None):
        """A new folder, locked as by :meth:`lock` if `held` is given.

        Raises UserError if there is something in it, or it cannot be written.
        """
        run = cls(folder, config)
        if parallel.world().rank:
            return run
        require_vacant(folder)
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            if held is not None:
                run.lock(held)
                require_vacant(folder)  # another process may have come in between
            run.write_json("config.json", config)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}): give another --out") from None
        return run

    @classmethod
    def open(cls, folder):
        """An existing folder.  Raises UserError if it is none, or its config is damaged."""
        path = Path(folder) / "config.json"
        if not path.exists():
            raise UserError(f"{folder} is not a run: there is no config.json in it")
        config = read_settings(path)
        if wrong := [name for name, value in config.items() if isinstance(value, list | dict)]:
            raise UserError(f"{path}: {wrong[0]} is {config[wrong[0]]!r}; it must be one number or text")
        if wrong := [name for name in TEXTS if not isinstance(config.get(name), str | None)]:
            raise UserError(f"{path}: {wrong[0]} is {config[wrong[0]]!r}; it must be text")
        return cls(folder, config)

    def lock(self, held):
        """Keep other processes out until `held` (an ExitStack) ends, and remove what a killed one left.

        Raises
        ------
        UserError
            If another process trains in the folder, or it cannot be written.
        """
        if parallel.world().rank:
            return
        try:
            held.enter_context(locked(self.folder))
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written ({error.strerror}): give another folder") from None
        for file in self.folder.iterdir():
            if LEFT.fullmatch(file.name) and file.name != "lock":
                with suppress(OSError):
                    file.unlink()

    @property
    def splits(self):
        """What :func:`minifcn.data.manifest.splits` said when the run began; None of a run that did not keep it."""
        path = self.folder / "splits.json"
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read ({error})") from None
        if not manifest.is_splits(kept):
            raise UserError(f"{path} is damaged: it does not name classes and pictures")
        return kept

    def require_same_data(self, train, val):
        """Raise UserError, saying what changed, unless pictures and classes are those that the run began with."""
        if (kept := self.splits) is not None:
            manifest.require_same_splits(kept, manifest.splits(train, val), self.folder)

    @property
    def last(self):
        return self.folder / "last.safetensors"

    @property
    def best(self):
        return self.folder / "best.safetensors"

    @property
    def resume_command(self):
        return f"python -m minifcn.train --resume {shlex.quote(str(self.folder))}"

    def write(self, name, text):
        """Write a text file of the folder, all or nothing."""
        if parallel.world().rank:
            return
        with atomic(self.folder / name) as partial:
            partial.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")  # a path of the C locale

    def write_json(self, name, value):
        self.write(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def write_log(self, rows):
        """The whole log.csv: what was logged after the checkpoint that a run continues from is gone, as it should."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, FIELDS, restval="")
        writer.writeheader()
        writer.writerows(rows)
        self.write("log.csv", text.getvalue())

    def save(self, t):
        """Write the state of a training to last.safetensors.

        Raises
        ------
        Diverged
            If a weight is not finite.  A checkpoint that was good stays.
        """
        arrays = _weights(t.model)
        if broken := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
            raise Diverged(t, f"{broken[0].removeprefix('model.')} is no longer finite after step {t.step}")
        if parallel.world().rank:
            return
        arrays |= {f"optimizer.{k}": backend.asnumpy(v) for k, v in t.optimizer.state_dict().items()}
        record = describe(t.model) | dict(
            config=self.config,
            state={name: getattr(t, name) for name in STATE},
            optimizer=dict(steps=t.optimizer.steps, lr=t.optimizer.lr),
            loader=t.train.state_dict(),
            random=backend.rng().bit_generator.state,
        )
        save_checkpoint(self.last, arrays, record)

    def save_best(self, t):
        """Write the weights alone to best.safetensors."""
        if parallel.world().rank == 0:
            save_checkpoint(self.best, _weights(t.model), describe(t.model) | dict(epoch=t.epoch, scores=t.rows[-1]))

    def restore(self, t):
        """Put the state of last.safetensors back into a training, to go on exactly where it was.

        A run that was killed before it saved anything starts from its beginning, which comes to the same.
        """
        self.require_same_data(t.train.dataset, t.val and t.val.dataset)
        if not self.last.is_file():
            return
        arrays, record = load_checkpoint(self.last)
        if isinstance(record, dict) and isinstance(record.get("classes"), list):  # a run that kept no splits.json
            names = map(str, record["classes"])
            manifest.require_same_names(names, t.train.dataset.classes, f"{self.last} was trained", "its data now have")
        buffers = {k.removeprefix("optimizer."): a for k, a in arrays.items() if k.startswith("optimizer.")}
        try:
            t.model.load_state_dict(weights_in(arrays))
            t.optimizer.load_state_dict(buffers, record["optimizer"]["steps"])
            t.optimizer.lr = _number_of(record["optimizer"], "lr")
            t.train.load_state_dict(record["loader"])
            backend.rng().bit_generator.state = record["random"]
            for name, value in _state(record).items():
                setattr(t, name, value)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise UserError(f"{self.last}: cannot be continued with the settings of this run ({error})") from None
        if t.epoch > t.epochs:
            raise UserError(
                f"{self.folder} has {t.epoch} epochs already; give a larger number than --epochs {t.epochs}"
            )


def _state(record):
    """The state of a training that a record holds.  ValueError if a value cannot be one."""
    state = {name: record["state"][name] for name in STATE}
    for name in ("epoch", "step"):
        if type(state[name]) is not int or state[name] < 0:
            raise ValueError(f"{name} is {state[name]!r}")
    if type(state["trained"]) is not bool or type(state["rows"]) is not list or len(state["rows"]) != state["epoch"]:
        raise ValueError(f"its log has no row for each of {state['epoch']} epochs")
    for name in {**EMPTY, **state["running"]}:
        _number_of(state["running"], name)
    for row in state["rows"]:
        for name in {"epoch", "loss", "lr", "seconds", *row}:
            _number_of(row, name)
    return state


def _number_of(record, name):
    """A number that a record holds under a name.  ValueError for anything else."""
    value = record[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        raise ValueError(f"{name} is {value!r:.60}")
    return value


def require_vacant(folder):
    """Raise UserError if there is anything in a folder, or something else in its place."""
    folder = Path(folder)
    if folder.is_dir() and not all(LEFT.fullmatch(file.name) for file in folder.iterdir()):
        raise UserError(f"{folder} is not empty: give another --out, or continue the run in it with --resume {folder}")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder: give another --out")


def find_checkpoint(path, weights="last"):
    """The checkpoint file that `path` (a run folder, or a file) means, and the settings of its run, if it has one."""
    path = Path(path)
    if path.is_dir():
        run = Run.open(path)
        return (run.last if weights == "last" else run.best), run.config
    return path, Run.open(path.parent).config if (path.parent / "config.json").is_file() else {}


def _weights(model):
    return {f"model.{name}": backend.asnumpy(array) for name, array in model.state_dict().items()}


class Recorder(Callback):
    """Keeps the run folder up to date: log and checkpoints every epoch, and when the run is stopped.

    Attributes
    ----------
    saved : bool
        Whether last.safetensors holds a state of this run.
    began_at : int
        Epochs that were finished when this part of the run began.
    """

    def __init__(self, run):
        self.run, self.saved, self.began_at = run, False, 0

    def started(self, t):
        self.saved, self.began_at = self.run.last.is_file(), t.epoch
        self.run.write_json("config.json", self.run.config)
        self.write_splits(t)
        self.run.write_log(t.rows)

    def write_splits(self, t):
        self.run.write_json("splits.json", manifest.splits(t.train.dataset, t.val and t.val.dataset, t.trouble))

    def save(self, t):
        self.run.save(t)
        self.saved = True

    epoch_trained = stopped = save

    def closed(self, t):
        if t.trouble:
            self.write_splits(t)

    def epoch_ended(self, t):
        if _mean_iu(t.rows[-1]) >= max(map(_mean_iu, t.rows)):
            self.run.save_best(t)
        self.save(t)
        self.run.write_log(t.rows)


def _mean_iu(row):
    """What makes one epoch better than another; without a labelled validation pixel, every later one is."""
    value = row.get("mean_iu", math.nan)
    return -1 if math.isnan(value) else value


def illustrate(run, model, val, rows, header=None):
    """Evaluate a trained model on its validation split, and write metrics, pictures and the report.

    Parameters
    ----------
    run : Run
    model : FCN
    val : Loader
    rows : list of dict
        The log.
    header : dict of {str: str}, optional
        What the report says above everything else.

    Returns
    -------
    dict
        What metrics.json holds: see :func:`measures`.
    """
    from .report import write_report  # pictures are made at the end, and only then is matplotlib wanted
    from .viz import confusion as confusion_figure
    from .viz import curves, samples

    confusion, loss = evaluate(model, val, progress=True)
    data = val.dataset
    metrics = measures(confusion, data.classes) | about(data, loss)
    if parallel.world().rank:
        return metrics
    images, labels = zip(*(data[i] for i in telling(model, data, 4)))
    predictions = [model.predict(image) for image in images]
    figures = {
        "curves.png": curves(rows),
        "samples.png": samples(images, labels, predictions, data.classes, data.palette),
        "confusion.png": confusion_figure(confusion.matrix, data.classes),
    }
    run.write_json("metrics.json", metrics | dict(header=header or {}))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the report has the names of the classes as text
        for name, figure in figures.items():
            with atomic(run.folder / name) as partial:
                figure.savefig(partial, format="png")
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


def about(data, loss):
    """What stands beside the measures: on which data, the loss per pixel, and the figures to beat there."""
    return dict(split=getattr(data, "split", None), loss=_number(loss), floors=list(getattr(data, "floors", ())))


def outcome(metrics):
    """The final measures as lines of text, beside the figures to beat."""
    rows = [dict(metrics, name="this run"), *metrics["floors"]]
    wide = max(24, *(len(row["name"]) for row in rows))
    yield f"{'on split ' + str(metrics['split']):<{wide}}  pixel acc  mean IU"
    for row in rows:
        yield f"{row['name']:<{wide}}  {_text(row['pixel_accuracy'], '9.3f')}  {_text(row['mean_iu'], '7.3f')}"
    yield "IU by class: " + ", ".join(f"{c['name']} {_text(c['iu'], '.2f')}" for c in metrics["per_class"])


def _text(value, form):
    return "–" if value is None else format(value, form)


def _number(value):
    return None if np.isnan(value) else float(value)


def telling(model, data, count, tried=100):
    """Examples from good to poor: evenly spaced ranks of accuracy, among up to `tried` images spread over the data set.

    Images of a single class are left out, where others are to be had.

    Returns
    -------
    list of int
    """
    candidates = np.unique(np.linspace(0, len(data) - 1, min(tried, len(data))).astype(int))
    examples = {int(i): data[int(i)] for i in candidates}
    varied = [i for i, (_, label) in examples.items() if len(np.unique(label[label < model.num_classes])) > 1]
    accuracy = {}
    for i in varied or examples:
        image, label = examples[i]
        known = label < model.num_classes
        accuracy[i] = float((model.predict(image) == label)[known].mean()) if known.any() else 0.0
    ranked = sorted(accuracy, key=accuracy.get, reverse=True)
    return [ranked[int((k + 0.5) / count * len(ranked))] for k in range(min(count, len(ranked)))]
