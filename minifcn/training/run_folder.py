"""The run folder: settings, log, checkpoints, figures and report of one run, and resuming after an interruption.

``runs/NAME/{config.json, splits.json, log.csv, last.safetensors, best.safetensors, metrics.json, curves.png,
samples.png, confusion.png, report.html}``.  ``last`` holds the complete state for an exact continuation: weights,
optimiser, position in the data, random state, log.  ``best`` holds the weights of the epoch with the best mean IU on
the validation split.  ``splits`` lists the samples of both splits (`minifcn.data.manifest`).  A run that began with
``--init`` has ``init.txt``, too: what became of each tensor.  A net with several kinds of labels has figures for each
further head: ``curves-geo.png``.
"""

import csv
import io
import json
import re
import shlex
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..arrays import backend, parallel
from ..data import manifest
from ..data.bands import bands_of, require_same_bands
from ..data.heads import heads_of
from ..errors import UserError
from ..io import atomic, load_checkpoint, save_checkpoint
from ..io.cli import is_pair
from ..io.lock import locked
from ..io.settings import read_settings
from ..models.store import describe, weights_in
from .state import EMPTY, Callback, Diverged, mean_iu

FIELDS = ("epoch", "loss", "val_loss", "pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu", "lr", "seconds")
FILES = (
    "config.json", "splits.json", "log.csv", "last.safetensors", "best.safetensors", "metrics.json", "curves.png",
    "samples.png", "confusion.png", "report.html", "init.txt",
)  # fmt: skip
_NAMES = "|".join(map(re.escape, FILES)).replace(r"\.png", r"(-\w+)?\.png")  # also curves-geo.png
LEFTOVERS = re.compile(rf"lock|({_NAMES})\.partial|\.tmp\w{{6}}")
"""The names of files that a killed process leaves in the folder; ``.tmp`` files are safetensors' while it writes."""
TEXTS = ("dataset", "root", "train_split", "val_split", "bands", "heads")
"""Settings, read by other commands, that must be text."""
STATE = ("epoch", "step", "trained", "running", "rows")  # attributes of a Training in a checkpoint


class Run:
    """A run folder.  With several ranks, only rank 0 writes to it.

    Parameters
    ----------
    folder : str or Path
    config : dict
        The settings, a JSON value, from which ``--resume`` starts.
    """

    def __init__(self, folder, config):
        self.folder, self.config = Path(folder), config

    @classmethod
    def create(cls, folder, config, held=None):
        """Create a run folder, and :meth:`lock` it if `held` is given; UserError if it is not empty or not writable."""
        run = cls(folder, config)
        if parallel.world().rank:
            return run
        require_vacant(folder)
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            if held is not None:
                run.lock(held)
                require_vacant(folder)  # again: another process may have used the folder before the lock was taken
            run.write_json("config.json", config)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}): give another folder (--out)") from None
        return run

    @classmethod
    def open(cls, folder):
        """Open an existing run folder; UserError if it is not one, or its config.json is damaged."""
        path = Path(folder) / "config.json"
        if not path.exists():
            raise UserError(f"{folder} is not a run folder, because it has no config.json; check the path")
        config = read_settings(path)
        if wrong := [name for name, value in config.items() if isinstance(value, list | dict) and not is_pair(value)]:
            raise UserError(f"{path}: {wrong[0]} is {config[wrong[0]]!r}; it must be numbers or text")
        if wrong := [name for name in TEXTS if not isinstance(config.get(name), str | None)]:
            raise UserError(f"{path}: {wrong[0]} is {config[wrong[0]]!r}; it must be text")
        return cls(folder, config)

    def lock(self, held):
        """Lock the folder until the ExitStack `held` closes, and remove files that a killed process left.

        Raises
        ------
        UserError
            If another process has locked the folder, or it cannot be written.
        """
        if parallel.world().rank:
            return
        try:
            held.enter_context(locked(self.folder))
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written ({error.strerror}): give another folder") from None
        for file in self.folder.iterdir():
            if LEFTOVERS.fullmatch(file.name) and file.name != "lock":
                with suppress(OSError):
                    file.unlink()

    @property
    def splits(self):
        """The result of :func:`minifcn.data.manifest.splits` when the run began; None if it was not recorded."""
        path = self.folder / "splits.json"
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read ({error}); restore it, or start a new run") from None
        if not manifest.is_splits(kept):
            raise UserError(f"{path} is damaged: it does not list classes and images; restore it, or start a new run")
        return kept

    def require_same_data(self, train, val):
        """Raise UserError, naming the changes, if samples or classes are not those that the run began with."""
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
        """Write a text file in the folder, atomically."""
        if parallel.world().rank:
            return
        with atomic(self.folder / name) as partial:
            # surrogateescape: the text may contain a path with bytes that the C locale cannot decode
            partial.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")

    def write_json(self, name, value):
        self.write(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def write_log(self, rows):
        """Write log.csv anew, so that a resumed run drops the rows of epochs after its checkpoint."""
        text = io.StringIO(newline="")
        fields = dict.fromkeys([*FIELDS, *(name for row in rows for name in row)])  # and those of further heads
        writer = csv.DictWriter(text, list(fields), restval="")
        writer.writeheader()
        writer.writerows(rows)
        self.write("log.csv", text.getvalue())

    def save(self, t):
        """Write the state of a training to last.safetensors.

        Raises
        ------
        Diverged
            If a weight is not finite.  The existing checkpoint is then not replaced.
        """
        arrays = _weights(t.model)
        if broken := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
            raise Diverged(t, f"{broken[0].removeprefix('model.')} is no longer finite after step {t.step}")
        if parallel.world().rank:
            return
        if t.average:
            arrays |= {name: backend.asnumpy(a) for name, a in t.average.state_dict().items()}
        arrays |= {f"optimizer.{k}": backend.asnumpy(v) for k, v in t.optimizer.state_dict().items()}
        record = describe(t.model) | dict(
            config=self.config,
            state={name: getattr(t, name) for name in STATE},
            averaged=t.average.steps if t.average else 0,
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
        """Load the state of last.safetensors into a training, which then continues exactly where it stopped.

        Without last.safetensors the run was stopped before its first checkpoint, and starts again from the beginning.
        """
        self.require_same_data(t.train.dataset, t.val and t.val.dataset)
        if not self.last.is_file():
            return
        arrays, record = load_checkpoint(self.last)
        kept, heads = (record.get(what) if isinstance(record, dict) else None for what in ("classes", "heads"))
        now = {"": t.train.dataset.classes} | heads_of(t.train.dataset)
        for head, names in (heads if isinstance(heads, dict) and heads else {"": kept}).items():
            if isinstance(names, list):  # also if there is no splits.json
                names = map(str, names)
                manifest.require_same_names(names, now.get(head, ()), f"{self.last} was trained", "its data now have")
        if isinstance(record, dict) and isinstance(record.get("bands"), list):
            bands = list(map(str, record["bands"]))
            require_same_bands(bands, bands_of(t.train.dataset), f"{self.last} was trained on", "its data now have")
        buffers = {k.removeprefix("optimizer."): a for k, a in arrays.items() if k.startswith("optimizer.")}
        try:
            t.model.load_state_dict(weights_in(arrays))
            if t.average:
                t.average.load_state_dict(arrays, record["averaged"])
            t.optimizer.load_state_dict(buffers, record["optimizer"]["steps"])
            t.optimizer.lr = _number_of(record["optimizer"], "lr")
            t.train.load_state_dict(record["loader"])
            backend.rng().bit_generator.state = record["random"]
            for name, value in _state(record).items():
                setattr(t, name, value)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.last} cannot be continued with the settings of this run ({error}); restore the settings of the "
                "run, or start a new run"
            ) from None
        if t.epoch > t.epochs:
            raise UserError(
                f"{self.folder} already has {t.epoch} epochs; give a larger number of epochs (--epochs) than {t.epochs}"
            )


def _state(record):
    """The attributes `STATE` of a training from a checkpoint's record; ValueError if a value is not valid."""
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
    """The number `record[name]`; ValueError if the value is not a number."""
    value = record[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        raise ValueError(f"{name} is {value!r:.60}")
    return value


def require_vacant(folder, resumable=True):
    """Raise UserError if a folder has other files than those of `LEFTOVERS`, or if the path is a file.

    Parameters
    ----------
    folder : path-like
    resumable : bool
        Whether the message shall say how to continue a run in the folder.
    """
    folder = Path(folder)
    if folder.is_dir() and not all(LEFTOVERS.fullmatch(file.name) for file in folder.iterdir()):
        resume = f", or resume its run with --resume {folder}" if resumable else ""
        raise UserError(f"{folder} is not empty: give another folder (--out){resume}")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder: give another path (--out)")


def find_checkpoint(path, weights="last"):
    """The checkpoint at `path`, a run folder or a file, and the settings of its run ({} if it is in no run folder)."""
    path = Path(path)
    if path.is_dir():
        run = Run.open(path)
        return (run.last if weights == "last" else run.best), run.config
    return path, Run.open(path.parent).config if (path.parent / "config.json").is_file() else {}


def _weights(model):
    return {f"model.{name}": backend.asnumpy(array) for name, array in model.state_dict().items()}


class Recorder(Callback):
    """A callback that writes the log and the checkpoints into the run folder, after every epoch and at a stop.

    Attributes
    ----------
    saved : bool
        Whether last.safetensors holds a state of this run.
    began_at : int
        Number of epochs that were finished when this process started or resumed the run.
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
        if mean_iu(t.rows[-1]) >= max(map(mean_iu, t.rows)):
            self.run.save_best(t)
        self.save(t)
        self.run.write_log(t.rows)
