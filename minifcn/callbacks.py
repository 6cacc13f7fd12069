"""The callbacks of a training at a terminal: what it says, and how it is stopped."""

import os
import signal
import sys
import threading

from tqdm import tqdm

from .training import Callback


class Progress(Callback):
    """A line of the four metrics an epoch, and on a terminal a bar with the loss and the time left (on stderr)."""

    def __init__(self, out=None):
        self.out = out or sys.stdout

    def started(self, t):
        self.bar = tqdm(
            total=t.total_steps, initial=t.step, desc="training", unit="step", file=sys.stderr, dynamic_ncols=True,
            mininterval=0.2, disable=None, leave=False,
        )  # fmt: skip
        names = ("epoch", "loss", "val loss", "pixel acc", "mean acc", "mean IU", "f.w. IU", "s")
        self.say("  ".join(f"{n:>9}" for n in names))
        for row in t.rows:
            self.say(self.line(row))

    def say(self, text):
        """Print a line above the bar."""
        self.bar.clear()
        print(text, file=self.out, flush=True)
        self.bar.refresh()

    @staticmethod
    def line(row):
        """A row of the log, in columns."""
        keys = ("loss", "val_loss", "pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")
        numbers = "  ".join(f"{row[k]:9.4f}" if k in row else " " * 9 for k in keys)
        return f"{row['epoch']:>9}  {numbers}  {row['seconds']:9.1f}"

    def stepped(self, t):
        self.bar.set_postfix_str(f"epoch {t.epoch + 1} of {t.epochs}, loss {t.loss:.4f}", refresh=False)
        self.bar.update()

    def epoch_trained(self, t):
        if t.val is not None and not t.stopping:
            self.bar.set_postfix_str(f"validating epoch {t.epoch + 1}")

    def epoch_ended(self, t):
        self.say(self.line(t.rows[-1]))

    def closed(self, t):
        if hasattr(self, "bar"):
            self.bar.close()


class StopOnSignal(Callback):
    """Ctrl-C stops after the step in progress, so that what is saved can be continued exactly; twice stops at once."""

    previous = None

    def started(self, t):
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, lambda *_: self.ask(t))

    def ask(self, t):
        """Stop after the step in progress; asked again, at once."""
        if t.stopping:
            raise KeyboardInterrupt
        t.stopping = True
        if t.ranks.rank == 0:  # print() may be what the signal has interrupted, and is not reentrant
            os.write(2, b"\nstopping after this step (Ctrl-C again: at once)\n")

    def closed(self, t):
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
