"""The callbacks of a training at a terminal: what it says, and how it is stopped."""

import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from tqdm import tqdm

from .loop import Callback, Training

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
"""Ctrl-C; what a cluster or a container sends; the end of a terminal; Ctrl-Break of Windows."""


@contextmanager
def _best_effort():
    """Inside, output that cannot be written (a full disk, a terminal that is gone) is given up; training goes on."""
    try:
        yield
    except BrokenPipeError:  # nobody wants to read it: that is a way to end a command
        raise
    except OSError:
        pass


class Progress(Callback):
    """A line of the four metrics an epoch, and on a terminal a bar with the loss and the time left (on stderr)."""

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
            self.say(self.line(row))

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        with _best_effort():
            self.bar.clear()
            print(text, file=self.out, flush=True)
            self.bar.refresh()

    @staticmethod
    def line(row: dict[str, Any]) -> str:
        """A row of the log, in columns."""
        keys = ("loss", "val_loss", "pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")
        numbers = "  ".join(f"{row[k]:9.4f}" if k in row else " " * 9 for k in keys)
        return f"{row['epoch']:>9}  {numbers}  {row['seconds']:9.1f}"

    def stepped(self, t: Training) -> None:
        with _best_effort():
            self.bar.set_postfix_str(f"epoch {t.epoch + 1} of {t.epochs}, loss {t.loss:.4f}", refresh=False)
            self.bar.update()

    def epoch_trained(self, t: Training) -> None:
        if t.val is not None and not t.stopping:
            with _best_effort():
                self.bar.set_postfix_str(f"validating epoch {t.epoch + 1}")

    def epoch_ended(self, t: Training) -> None:
        self.say(self.line(t.rows[-1]))

    def closed(self, t: Training) -> None:
        if hasattr(self, "bar"):
            with _best_effort():
                self.bar.close()


class StopOnSignal(Callback):
    """Ctrl-C, SIGTERM or SIGHUP stops after the step in progress, so that what is saved can be continued exactly.

    A second one stops at once.  A signal that is ignored (a job in the background, ``nohup``) stays ignored.

    Attributes
    ----------
    number : int
        The signal that came last; SIGINT before any.
    """

    def __init__(self) -> None:
        self.previous: dict[int, Any] = {}
        self.number: int = signal.SIGINT

    def started(self, t: Training) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: not Python's
                    self.previous[number] = signal.signal(number, lambda number, _: self.ask(t, number))

    def ask(self, t: Training, number: int = signal.SIGINT) -> None:
        """Stop after the step in progress; asked again, at once."""
        self.number = number
        if t.stopping:
            raise KeyboardInterrupt
        t.stopping = True
        if t.ranks.rank == 0:
            again = "Ctrl-C again" if number == signal.SIGINT else f"{signal.Signals(number).name}; again"
            with suppress(OSError):  # print() may be what the signal has interrupted, and is not reentrant
                os.write(2, f"\nstopping after this step ({again}: at once)\n".encode())

    def closed(self, t: Training) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
