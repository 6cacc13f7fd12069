"""Callbacks for training at a terminal: they print its progress, and stop it on a signal."""

import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from tqdm import tqdm

from ..arrays import parallel
from .state import Callback, Training, columns, of_head

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
"""Ctrl-C; the request of a cluster or container to end; a closed terminal; Ctrl-Break on Windows."""


@contextmanager
def _best_effort():
    """Ignore errors of writing output (a full disk, a closed terminal) in the ``with`` block: training must go on."""
    try:
        yield
    except BrokenPipeError:  # the reader closed the pipe (as `head` does), which must end the command
        raise
    except OSError:
        pass


class Progress(Callback):
    """Prints the loss and the four metrics of each epoch, and shows a progress bar on stderr if it is a terminal."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stdout

    def started(self, t: Training) -> None:
        self.bar = tqdm(
            total=t.total_steps, initial=t.step, desc="training", unit="step", file=sys.stderr, dynamic_ncols=True,
            mininterval=0.2, disable=None, leave=False,
        )  # fmt: skip
        names = ("epoch", "loss", "val loss", "pixel acc", "mean acc", "mean IU", "f.w. IU", "s")
        self.say("  ".join(f"{n:>9}" for n in names))
        for row in t.rows:
            self.say_row(t, row)

    def say(self, text: str) -> None:
        """Print `text` as a line above the bar."""
        with _best_effort():
            self.bar.clear()
            print(text, file=self.out, flush=True)
            self.bar.refresh()

    def say_row(self, t: Training, row: dict[str, Any]) -> None:
        """Print a row of the log, and below it a line for each further head."""
        for head, begin in columns(t.model).items():
            self.say(self.line(of_head(row, begin), head if begin else ""))

    @staticmethod
    def line(row: dict[str, Any], head: str = "") -> str:
        """A row of the log, formatted in columns; with a head's name instead of the epoch."""
        keys = ("loss", "val_loss", "pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")
        numbers = "  ".join(f"{row[k]:9.4f}" if k in row else " " * 9 for k in keys)
        return f"{head:>9}  {numbers}" if head else f"{row['epoch']:>9}  {numbers}  {row['seconds']:9.1f}"

    def stepped(self, t: Training) -> None:
        with _best_effort():
            self.bar.set_postfix_str(f"epoch {t.epoch + 1} of {t.epochs}, loss {t.loss:.4f}", refresh=False)
            self.bar.update()

    def epoch_trained(self, t: Training) -> None:
        if t.val is not None and not t.stopping:
            with _best_effort():
                self.bar.set_postfix_str(f"validating epoch {t.epoch + 1}")

    def epoch_ended(self, t: Training) -> None:
        self.say_row(t, t.rows[-1])

    def closed(self, t: Training) -> None:
        if hasattr(self, "bar"):
            with _best_effort():
                self.bar.close()


class NotebookProgress(Callback):
    """Shows a progress bar in a notebook, with the last loss and mean IU; it disappears when the training has ended."""

    def started(self, t: Training) -> None:
        from tqdm.auto import tqdm as bar  # a widget if ipywidgets is installed, else text

        self.bar = bar(total=t.total_steps, initial=t.step, unit="step", leave=False, disable=False)
        self.score = ""

    def stepped(self, t: Training) -> None:
        self.bar.set_postfix_str(f"epoch {t.epoch + 1} of {t.epochs}, loss {t.loss:.4f}{self.score}", refresh=False)
        self.bar.update()

    def epoch_ended(self, t: Training) -> None:
        if "mean_iu" in t.rows[-1]:
            self.score = f", mean IU {t.rows[-1]['mean_iu']:.3f}"
        # shown at once: steps may be faster than the bar is drawn
        self.bar.set_postfix_str(f"epoch {len(t.rows)} of {t.epochs}, loss {t.loss:.4f}{self.score}")

    def closed(self, t: Training) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


def watcher(shown: bool | None = None) -> list[Callback]:
    """The callback that shows progress here: in a notebook or a terminal; none elsewhere, unless `shown` is True.

    Parameters
    ----------
    shown : bool, optional
        False: none, wherever this is.

    Returns
    -------
    list of Callback
    """
    if shown is False or parallel.world().rank:
        return []
    if "ipykernel" in sys.modules and not sys.stdout.isatty():
        return [NotebookProgress()]
    return [Progress()] if shown or sys.stdout.isatty() else []


class StopOnSignal(Callback):
    """Stops after the step in progress on Ctrl-C, SIGTERM or SIGHUP, so that the saved run can be resumed exactly.

    A second signal stops at once.  A signal that the process ignores (a background job, ``nohup``) stays ignored.

    Attributes
    ----------
    number : int
        The last signal; SIGINT if there was none.
    """

    def __init__(self) -> None:
        self.previous: dict[int, Any] = {}
        self.number: int = signal.SIGINT

    def started(self, t: Training) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: a handler that Python cannot restore
                    self.previous[number] = signal.signal(number, lambda number, _: self.ask(t, number))

    def ask(self, t: Training, number: int = signal.SIGINT) -> None:
        """Request a stop after the step in progress; a second call raises KeyboardInterrupt to stop at once."""
        self.number = number
        if t.stopping:
            raise KeyboardInterrupt
        t.stopping = True
        if t.ranks.rank == 0:
            again = "Ctrl-C again" if number == signal.SIGINT else f"{signal.Signals(number).name}; again"
            with suppress(OSError):  # not print(): it is not reentrant, and may be what the signal interrupted
                os.write(2, f"\nstopping after this step ({again}: at once)\n".encode())

    def closed(self, t: Training) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
