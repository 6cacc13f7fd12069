"""The judge's side of the process that runs a submission: start it, ask it, time it, kill it."""

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

from . import texts, wire

MEMORY = 2 << 30  # bytes that a submission may allocate beyond what the framework uses
READING = 6  # all cells together may take this many times the limit for one answer
ROOM = 1 << 18  # array elements that a submission may pass to a judge's function: more could block the grader


class Ended(Exception):
    """The submission's process ended, or was ended, before it answered."""


class Process:
    """A process that runs a submission for one task.

    Parameters
    ----------
    order : dict
        The cells, the names of the library's functions to remove, and the library's answers to the other tasks.
    timeout : float
        Seconds for each cell, and for each answer.

    Raises
    ------
    Ended
        If a cell ended the process or ran too long; ``.cell`` is its index, or None before the first cell.
    """

    def __init__(self, order, timeout):
        self.timeout, self.functions, self.folder = timeout, {}, tempfile.TemporaryDirectory(prefix="grade-")
        answers, requests = os.pipe(), os.pipe()  # each (read end, write end)
        # Only these variables: the instructor's environment may hold passwords and tokens.
        environment = {
            "MINIFCN_COMPILED": "0",  # the child may not write Numba's cache, and every instructor gets the same times
            "PATH": os.environ.get("PATH", ""), "HOME": self.folder.name, "TMPDIR": self.folder.name,
            "MPLCONFIGDIR": self.folder.name,  # an existing folder: the confined process cannot create one
            "PYTHONPATH": str(Path(minifcn.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "agg",
            "MINIFCN_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.child", str(requests[0]), str(answers[1])],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder.name,
            env=environment, pass_fds=(requests[0], answers[1]),
            start_new_session=True,  # its own process group, so that killpg reaches all it may start
        )  # fmt: skip
        # Close the process's ends here: left open, they would hide its death (no end of file, no broken pipe).
        os.close(requests[0])
        os.close(answers[1])
        self.reader, self.writer = os.fdopen(answers[0], "rb"), os.fdopen(requests[1], "wb")
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
                raise Ended("it sent a message that is not an answer")
        except Ended as ended:
            ended.cell = cell
            raise
        self.problems = [(cell, texts.message(text)[:500]) for cell, text in reply["problems"] if cell < len(cells)]
        self.missing = [name for name in order["answers"] if name in reply["missing"]]

    def ask(self, probe, args, seconds=None):
        """Call a probe with the submission's answer, in its process: {"value", "changed"} or {"error", "kind"}."""
        self.functions = {f"function {i}": a for i, a in enumerate(args) if callable(a)}
        sent = [Named(f"function {i}") if callable(a) else a for i, a in enumerate(args)]
        reply = self._exchange({"probe": probe, "args": sent}, seconds)
        if _has(reply, error=str, kind=str):
            return {"error": texts.message(reply["error"])[:500], "kind": reply["kind"]}
        if not _has(reply, value=object, changed=list) or not all(type(i) is int for i in reply["changed"]):
            raise Ended("it sent a message that is not an answer")
        return reply

    def _exchange(self, message, seconds=None):
        """Send `message` (unless None) and return the reply; kill the process if it takes longer than `seconds`.

        Until it replies, the process may call the judge's functions any number of times.
        """
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
                raise ValueError(f"call this function with smaller arrays: all together at most {ROOM} numbers")
            return {"value": self.functions[request["call"]](*request["args"])}
        except Exception as error:  # the student's arguments are wrong: the child raises this as a ValueError
            # Python's message names the function, and that name would tell a right kernel from a broken one
            said = re.sub(r"[\w.<>]+\(\) (?=missing|takes|got)", "it ", str(error))
            return {"error": said if type(error) is ValueError else f"{type(error).__name__}: {said}"}

    def _how(self):
        """A sentence on how the process ended."""
        try:
            code = self.process.wait(2)
        except subprocess.TimeoutExpired:
            return "it closed its pipe to the grader"
        if code == -signal.SIGKILL or code == -signal.SIGSEGV:
            killed = "its process was killed by signal {number} (out of memory, or an access outside an array?)"
            return killed.format(number=-code)
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
        self.folder.cleanup()


def _has(message, **types):
    """Whether a message has exactly these fields, each of its type."""
    return message.keys() == types.keys() and all(isinstance(message[name], kind) for name, kind in types.items())


def _is_problem(value):
    """Whether `value` is a tuple (index of a cell, text)."""
    return type(value) is tuple and [type(v) for v in value] == [int, str] and value[0] >= 0


def _numbers(value):
    """The count of numbers in a value.

    An axis of length 0 counts as 1: an array of shape (0, 10**9) is empty, but a function may allocate for its axes.
    """
    if isinstance(value, np.ndarray):
        return math.prod(max(n, 1) for n in value.shape)
    if isinstance(value, tuple | list):
        return sum(map(_numbers, value))
    return len(value) if hasattr(value, "__len__") else 1


class Named:
    """Placeholder in a message for one of the judge's functions: the submission's process can only call it by name."""

    def __init__(self, name):
        self.wire_name = name
