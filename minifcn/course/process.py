"""A process that runs a submission, as seen from the judge: started, asked, timed, ended."""

import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

import minifcn

from . import wire

MEMORY = 2 << 30  # bytes that a submission may take beyond what the framework takes
READING = 6  # times an answer's seconds, for all the cells
ROOM = 1 << 18  # numbers that a function of the judge's is called with


class Ended(Exception):
    """The submission's process ended, or was ended, before it answered."""


class Process:
    """A process that runs a submission for one task.

    Parameters
    ----------
    order : dict
        The cells, what is forbidden, what stands in for other tasks' answers.
    timeout : float
        Seconds for reading the submission, and for each answer.

    Raises
    ------
    Ended
        With ``.cell``, the number of the cell that was running, if it did not get through them.
    """

    def __init__(self, order, timeout):
        self.timeout, self.functions, self.room = timeout, {}, tempfile.TemporaryDirectory(prefix="grade-")
        ours, theirs = os.pipe(), os.pipe()  # (read, write) of what it answers, and of what it is asked
        environment = {
            "PATH": os.environ.get("PATH", ""), "HOME": self.room.name, "TMPDIR": self.room.name,
            "MPLCONFIGDIR": self.room.name,  # it is there: Matplotlib cannot make one
            "PYTHONPATH": str(Path(minifcn.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "agg",
            "MINIFCN_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.child", str(theirs[0]), str(ours[1])],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.room.name,
            env=environment, pass_fds=(theirs[0], ours[1]), start_new_session=True,
        )  # fmt: skip
        os.close(theirs[0])
        os.close(ours[1])
        self.reader, self.writer = os.fdopen(ours[0], "rb"), os.fdopen(theirs[1], "wb")
        try:
            self._begin(order)
        except Ended:
            self.close()
            raise

    def _begin(self, order):
        cell, cells = None, order["cells"]
        try:
            reply = self._exchange({**order, "memory": MEMORY})
            end = time.monotonic() + READING * self.timeout
            while _has(reply, cell=int) and (cell is None or cell < reply["cell"]) and reply["cell"] < len(cells):
                cell = reply["cell"]
                reply = self._exchange(None, min(self.timeout, max(end - time.monotonic(), 0.01)))
            if not _has(reply, problems=list, missing=list) or not all(map(_is_problem, reply["problems"])):
                raise Ended("it sent something that is no answer")
        except Ended as ended:
            ended.cell = cell
            raise
        self.problems = [(cell, text[:500]) for cell, text in reply["problems"] if cell < len(cells)]
        self.missing = [name for name in order["answers"] if name in reply["missing"]]

    def ask(self, probe, args, seconds=None):
        """What becomes of the probe with the submission's answer: {"value", "changed"} or {"error", "kind"}."""
        self.functions = {f"function {i}": a for i, a in enumerate(args) if callable(a)}
        sent = [Named(f"function {i}") if callable(a) else a for i, a in enumerate(args)]
        reply = self._exchange({"probe": probe, "args": sent}, seconds)
        if _has(reply, error=str, kind=str):
            return {"error": reply["error"][:500], "kind": reply["kind"]}
        if not _has(reply, value=object, changed=list) or not all(type(i) is int for i in reply["changed"]):
            raise Ended("it sent something that is no answer")
        return reply

    def _exchange(self, message, seconds=None):
        """Send (unless None) and receive; calls of the judge's own functions are answered on the way."""
        late, seconds = threading.Event(), seconds or self.timeout
        timer = threading.Timer(seconds, lambda: (late.set(), self._kill()))
        timer.start()
        try:
            while True:
                if message is not None:
                    wire.send(self.writer, message)
                reply = wire.receive(self.reader)
                if not isinstance(reply, dict):
                    raise Ended(self._how())
                if not _has(reply, call=str, args=tuple):
                    return reply
                message = self._called(reply)
        except BrokenPipeError:
            raise Ended(self._how()) from None
        except wire.WireError as error:
            raise Ended(f"it sent {error}") from None
        except Ended:
            if late.is_set():
                raise Ended(f"it took more than {seconds:g} seconds and was stopped") from None
            raise
        finally:
            timer.cancel()

    def _called(self, request):
        try:
            if _numbers(request["args"]) > ROOM:
                raise ValueError("the grader calls its functions with small arrays only")
            return {"value": self.functions[request["call"]](*request["args"])}
        except Exception as error:  # what a student calls it with is theirs; they are told, by a ValueError
            # a name could tell right from wrong
            said = re.sub(r"[\w.<>]+\(\) (?=missing|takes|got)", "it ", str(error))
            return {"error": said if type(error) is ValueError else f"{type(error).__name__}: {said}"}

    def _how(self):
        """How the process ended, in words."""
        try:
            code = self.process.wait(2)
        except subprocess.TimeoutExpired:
            return "it closed the line to the grader"
        if code == -signal.SIGKILL or code == -signal.SIGSEGV:
            return f"it was ended by the system (signal {-code}; out of memory, or outside an array?)"
        return f"its process ended, with exit code {code}, before it answered"

    def _kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self):
        self._kill()
        self.process.wait()
        for file in (self.reader, self.writer):
            with suppress(BrokenPipeError):
                file.close()
        self.room.cleanup()


def _has(message, **types):
    """Whether a message has just these fields."""
    return message.keys() == types.keys() and all(isinstance(message[name], kind) for name, kind in types.items())


def _is_problem(value):
    """Whether it is (number of a cell, text)."""
    return type(value) is tuple and [type(v) for v in value] == [int, str] and value[0] >= 0


def _numbers(value):
    """How many numbers there are in a value: at least so many as its axes are long, without the empty ones."""
    if isinstance(value, np.ndarray):
        return math.prod(max(n, 1) for n in value.shape)
    if isinstance(value, tuple | list):
        return sum(map(_numbers, value))
    return len(value) if hasattr(value, "__len__") else 1


class Named:
    """A function of the judge's on its way to where it can only be called by name."""

    def __init__(self, name):
        self.wire_name = name
