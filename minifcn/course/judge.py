"""The judge: draws inputs, has them computed in a process of the submission's own, compares, and gives points.

A process lives for one task.  It is given the submission's cells and, one by one, the arrays of a case; it answers with
arrays.  What they should be is worked out here, by the library's own answer, and never leaves this process.
"""

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
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import minifcn

from ..cuda_on_cpu.compiler import CompileError
from . import cuda, probes, wire
from .child import attempt, run_cells
from .differences import called, difference
from .guard import resolve

MEMORY = 2 << 30  # bytes that a submission may take beyond what the framework takes
TIMEOUT = 10.0  # seconds for one answer
ONE_AT_A_TIME = threading.RLock()  # of all examiners: the seed of random weights is one for the whole process
READING = 6  # of them for all the cells
LEFT_OUT = 4  # cells that may end the process, before a check is given up
ROOM = 1 << 18  # numbers that a function of the judge's is called with


@dataclass
class CheckResult:
    """What became of one check; `picture` is (label, got, right) of a result that is wrong."""

    title: str
    points: int
    out_of: int
    says: list = field(default_factory=list)
    picture: tuple | None = None


@dataclass
class TaskResult:
    """What became of one task."""

    number: str
    title: str
    checks: list
    says: list = field(default_factory=list)

    points = property(lambda self: sum(c.points for c in self.checks))
    out_of = property(lambda self: sum(c.out_of for c in self.checks))


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
            if not _has(reply, problems=list, missing=list):
                raise Ended("it sent something that is no answer")
        except Ended as ended:
            ended.cell = cell
            raise
        self.problems = [str(problem)[:500] for problem in reply["problems"][: len(order["cells"])]]
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
            said = re.sub(
                r"[\w.<>]+\(\) (?=missing|takes|got)", "it ", str(error)
            )  # a name could tell right from wrong
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


def _numbers(value):
    """How many numbers there are in a value: at least so many as its axes are long, without the empty ones."""
    if isinstance(value, np.ndarray):
        return math.prod(max(n, 1) for n in value.shape)
    return (
        sum(map(_numbers, value)) if isinstance(value, tuple | list) else len(value) if hasattr(value, "__len__") else 1
    )


class Named:
    """A function of the judge's on its way to where it can only be called by name."""

    def __init__(self, name):
        self.wire_name = name


class Examiner:
    """Grades submissions to one assignment.

    Parameters
    ----------
    assignment : Assignment
    seed : int
        Of all that is drawn: the same for everybody, and not known before the submissions were read.
    timeout : float
        Seconds for one answer.
    """

    def __init__(self, assignment, seed, timeout=TIMEOUT):
        self.assignment, self.seed, self.timeout = assignment, seed, timeout
        self._right, self._mistaken = {}, {}

    def grade(self, sources, tasks=None):
        """The results of the tasks (all, or those numbers) for a submission's code cells."""
        cells = self.assignment.to_run(sources)
        return [self.grade_task(cells, t) for t in self.assignment.tasks if tasks is None or t.number in tasks]

    def grade_task(self, cells, task):
        """The result of one task; cells that end the process are left out from then on."""
        title = self.assignment.headings[task.number]
        if task.cuda and not cuda.available():
            return TaskResult(task.number, title, [], ["not graded: it takes g++, and Linux on x86-64"])
        result = TaskResult(task.number, title, [CheckResult(c.title, 0, c.points) for c in task.checks])
        process = None
        ends = 0
        try:
            for check, outcome in zip(task.checks, result.checks):
                if ends > 1:
                    outcome.says.append("not tried any more")
                    continue
                try:
                    process = process or self._start(cells, task, result)
                    if process.missing:
                        outcome.says.append(f"the submission has no {' and no '.join(process.missing)}")
                        continue
                    self._judge(process, task, check, outcome, result)
                except Ended as ended:
                    outcome.says.append(f"{ended}{getattr(ended, 'label', '')}")
                    ends, process = ends + 1, process and process.close()
        finally:  # whatever cannot be had for a case: the maps of the Earth, say
            if process:
                process.close()
        return result

    def _start(self, cells, task, result):
        """A process that has read the cells; what ends it is left out."""
        given = {
            name: other.library
            for other in self.assignment.tasks
            if other is not task and isinstance(other.library, str)
            for name in other.answers
        }
        for left in range(LEFT_OUT, -1, -1):
            order = {"cells": cells, "forbidden": list(task.forbidden), "answers": list(task.answers), "given": given}
            try:
                process = Process(order, self.timeout)
            except Ended as ended:
                if ended.cell is None or not cells[ended.cell] or not left:  # it was left out, and does not help
                    raise
                result.says.append(
                    f"a cell was left out, because {ended}: `{cells[ended.cell].strip().split(chr(10))[0][:100]}` …"
                )
                cells[ended.cell] = ""
            else:
                result.says += [p for p in process.problems if p not in result.says]
                return self._compiled(process, task, order) if task.cuda and not process.missing else process

    def _compiled(self, process, task, order):
        """A process that has the kernel whose source the submission gives in `process`, and nothing else of it."""
        try:
            reply = process.ask("call", [])
        finally:
            process.close()
        if "error" in reply:
            raise Ended(f"it raises {reply['error']}")
        with tempfile.TemporaryDirectory(prefix="grade-") as room:
            library = Path(room, "kernel.so")
            try:
                cuda.build(task.library, reply["value"], library)
            except CompileError as error:
                raise Ended(f"it does not compile: {error}") from None
            return Process({**order, "cells": [], "given": {}, "kernel": [task.library, str(library)]}, self.timeout)

    def _judge(self, process, task, check, outcome, result):
        """Try the cases of a check; its points are for all of them."""
        wrong, right = [], []
        rng = np.random.default_rng([self.seed, *map(ord, task.number + check.title)])
        with ONE_AT_A_TIME:
            cases = list(check.cases(rng))
        for number, case in enumerate(cases):
            try:
                reply = process.ask(case.probe, list(case.args), case.seconds)
            except Ended as ended:
                ended.label = f" (at: {case.label})"
                raise
            says, *arrays = self._verdict(task, check, number, case, reply)
            if says:
                wrong.append((number, case, reply, says, arrays))
            else:
                right.append((number, case))
        if not wrong:
            outcome.points = outcome.out_of
            return
        known = self._known(task, check, wrong, right, result.says)
        if known and known not in result.says:
            result.says.append(known)
        number, case, reply, says, arrays = wrong[0]
        outcome.says.append(f"{case.label}: {says}")
        if len(wrong) > 1:
            outcome.says.append(f"wrong, too: {'; '.join(w[1].label for w in wrong[1:])}")
        if len(arrays) == 2 and all(isinstance(a, np.ndarray) and a.ndim and a.size for a in arrays):
            outcome.picture = (case.label, *arrays)

    def _verdict(self, task, check, number, case, reply):
        """(what is wrong, or None; got; right)."""
        if "error" in reply:
            meant = reply["kind"] == case.raises or (case.raises is True and reply["kind"] != "NotImplementedError")
            return (None if meant else f"it raises {reply['error']}",)
        if case.raises:
            return (f"it raises {'nothing' if case.raises is True else f'no {case.raises}'}, where it should",)
        if reply["changed"]:
            return (f"it changes its argument number {reply['changed'][0]} in place",)
        if case.judge:
            try:
                with ONE_AT_A_TIME:
                    return (case.judge(reply["value"]),)
            except Exception:  # what came is not what was asked for, and nothing that the judge counts with
                return (f"it returns {called(reply['value'])}, which is not what it should return",)
        return difference(reply["value"], self._value(task, check, number, case), case.rtol) or (None,)

    def _value(self, task, check, number, case):
        """What is right: the probe with the library's own answer."""
        key = task.number, check.title, number
        with ONE_AT_A_TIME:
            if key not in self._right:
                own = resolve(task.library) if isinstance(task.library, str) else task.library
                own = None if case.probe == "network" else own
                self._right[key] = getattr(probes, case.probe)(own, *_copies(list(case.args)))
            return self._right[key]

    def _known(self, task, check, wrong, right, said):
        """The sentence of the mistake that does just what the submission did; None.  One `said` already comes first."""
        for variant in sorted(task.mistakes, key=lambda variant: variant.what not in said):
            if (
                check.title in variant.loses
                and all(self._same(task, variant, check, number, case, reply) for number, case, reply, *_ in wrong)
                and not any(self._is_wrong(task, variant, check, number, case) for number, case in right)
            ):
                return variant.what
        return None

    def _same(self, task, variant, check, number, case, reply):
        """Whether a mistake gives the reply that the submission gave."""
        own = self._of(task, variant, check, number, case)
        if "error" in own or "error" in reply:
            said = reply.get("error", "").partition(", at `")[0]  # less the line it was on
            return own.get("kind") == reply.get("kind") and (
                own["kind"] == "AssertionError" or said == own["error"][:500]
            )
        return own["changed"] == reply["changed"] and difference(reply["value"], own["value"], case.rtol) is None

    def _is_wrong(self, task, variant, check, number, case):
        return bool(self._verdict(task, check, number, case, self._of(task, variant, check, number, case))[0])

    def _of(self, task, variant, check, number, case):
        """What becomes of a case with a mistake."""
        key = task.number, variant.what, check.title, number
        with ONE_AT_A_TIME:
            if key not in self._mistaken:
                cells, _ = run_cells(self.assignment.solution(task.number, variant.change))
                answer = cells[task.answers[0]] if len(task.answers) == 1 else {n: cells[n] for n in task.answers}
                answer = cuda.Kernel(task.library, answer()) if task.cuda else answer
                textbook = dict.fromkeys(minifcn.kernels.KERNELS, "textbook")  # as where students' run
                with minifcn.override(**textbook), np.errstate(all="ignore"):
                    self._mistaken[key] = attempt(getattr(probes, case.probe), answer, _copies(list(case.args)), [])
            return self._mistaken[key]


def points(name, number, sources):
    """What nbgrader's cell of points evaluates to: the points of one task, for the cells that ran before it.

    What the feedback says is printed.
    """
    from .tasks import Assignment, folder

    examiner = Examiner(Assignment(folder() / f"{name}.py"), seed=0)
    (result,) = examiner.grade([s for s in sources if not s.startswith("# Points of task")], [number])
    print(*result.says, *(f"{c.title}: {c.points} of {c.out_of}. {' '.join(c.says)}" for c in result.checks), sep="\n")
    return result.points


def _copies(args):
    """Arguments as a submission's process would get them."""
    if isinstance(args, tuple | list):
        return type(args)(map(_copies, args))
    if not isinstance(args, np.ndarray):
        return args
    return args.copy() if args.flags.c_contiguous else wire.hollow(args)
