"""The judge: draws inputs, has the submission's process compute with them, compares the results, and gives points.

Each task gets a new process, because a submission may damage the process it runs in.  That process receives the cells
of the submission and, for each case, input arrays; it returns arrays.  The right results are computed here, with the
library's answer, and never leave this process: a submission cannot find them.
"""

import tempfile
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import minifcn

from ..cuda_on_cpu.compiler import CompileError
from . import cuda, examples, probes, wire
from .cells import Cell
from .child import attempt, run_cells
from .differences import called, difference
from .guard import resolve
from .process import Ended, Process
from .texts import message

TIMEOUT = 10.0  # seconds for one answer
ONE_AT_A_TIME = threading.RLock()  # for all examiners: they share minifcn's random generator, and must not interleave
ANY_TEXT = {"AssertionError", "RecursionError"}  # their messages depend on the student or the stack: not compared
DIRECT = {"call", "in_every_order"}  # probes that pass their arguments unchanged to the answer
BLANK, GIVEN_UP = "not answered", "not tried, because two checks of this task ended the process"
RAISES = "it raises {error}"
LEFT_OUT = 4  # at most so many cells that end the process are left out; with one more, the check fails


@dataclass
class CheckResult:
    """The outcome of one check.

    Attributes
    ----------
    title : str
        The name of the property that it tests.
    points, out_of : int
    says : list of str
    code : str
        The call that fails, on the smallest input that was found, to run in the student's notebook; or "".
    picture : tuple or None
        (label, got, right): the wrong result of that call, and the right one, as arrays.
    """

    title: str
    points: int
    out_of: int
    says: list = field(default_factory=list)
    code: str = ""
    picture: tuple | None = None


@dataclass
class TaskResult:
    """The outcome of one task; `says` is about the task, `notes` about cells that answer no task."""

    number: str
    title: str
    checks: list
    says: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    points = property(lambda self: sum(c.points for c in self.checks))
    out_of = property(lambda self: sum(c.out_of for c in self.checks))


class Examiner:
    """Grades submissions to one assignment.

    Parameters
    ----------
    assignment : Assignment
    seed : int
        Seed of the random inputs.  It is the same for the whole class.  Students must not know it before they hand in.
    timeout : float
        Seconds for one answer.
    """

    def __init__(self, assignment, seed, timeout=TIMEOUT):
        self.assignment, self.seed, self.timeout = assignment, seed, timeout
        self._right, self._mistaken = {}, {}

    def grade(self, sources, tasks=None, stop=None):
        """Grade a submission's code cells: a list of TaskResult, for all tasks or for the numbers in `tasks`.

        If the event `stop` is set, the next task raises CancelledError.
        """
        cells, results = self.assignment.to_run(sources), []
        for task in self.assignment.tasks:
            if stop and stop.is_set():
                raise CancelledError
            if tasks is None or task.number in tasks:
                results.append(self.grade_task(cells, task))
        return results

    def grade_task(self, cells, task):
        """Grade one task; a cell that ends the process is replaced by "" in `cells`, for the later tasks, too."""
        title = self.assignment.headings[task.number]
        if task.cuda and not cuda.available():
            return TaskResult(task.number, title, [], ["not graded: this task needs g++ on Linux on x86-64"])
        result = TaskResult(task.number, title, [CheckResult(c.title, 0, c.points) for c in task.checks])
        process = None
        ends, failed = 0, []
        try:
            for check, outcome in zip(task.checks, result.checks):
                if ends > 1:
                    outcome.says.append(GIVEN_UP)
                    continue
                try:
                    process = process or self._start(cells, task, result)
                    if process.missing:
                        result.says.append(self._absent(process.missing, cells, task, result))
                        break
                    if wrong := self._judge(process, task, check, outcome, result):
                        failed.append((check, outcome, wrong))
                except Ended as ended:
                    says = "{what} (in the case: {label})" if hasattr(ended, "label") else "{what}"
                    outcome.says.append(says.format(what=ended, label=getattr(ended, "label", "")))
                    ends, process = ends + 1, process and process.close()
            for check, outcome, wrong in failed:
                self._explain(process, task, check, outcome, wrong)
        finally:  # also if a case cannot be made, for instance without the maps of the Earth
            if process:
                process.close()
        if BLANK in (said := {s for c in result.checks for s in c.says}) and said <= {BLANK, GIVEN_UP}:
            result.says.append(BLANK)  # once for the task, instead of once for each check
            for outcome in result.checks:
                outcome.says.clear()
        return result

    def first_loss(self, sources, task):
        """The first check that a submission loses in a task, and why, as a sentence; None if it loses nothing.

        It stops there, so it takes less time than :meth:`grade_task`.
        """
        process, result = None, TaskResult(task.number, "", [])
        check = task.checks[0]
        try:
            process = self._start(self.assignment.to_run(sources), task, result)
            if process.missing:
                return f"{check.title}: {self._absent(process.missing, sources, task, result)}"
            for check in task.checks:
                for number, case in enumerate(self._cases(task, check)):
                    reply = process.ask(case.probe, list(case.args), case.seconds)
                    if says := self._verdict(task, check, number, case, reply)[0]:
                        return f"{check.title}: {case.label}: {says}"
        except Ended as ended:
            return f"{check.title}: {ended}"
        finally:
            if process:
                process.close()

    def _start(self, cells, task, result):
        """Start a process and have it run the cells; leave out cells that end it."""
        given = {
            name: other.library
            for other in self.assignment.tasks
            if other is not task and not task.own and isinstance(other.library, str)
            for name in other.answers
        }
        for left in range(LEFT_OUT, -1, -1):
            order = {
                "cells": cells, "forbidden": list(task.forbidden), "answers": list(task.answers), "given": given,
                "disguised": not task.own,
            }  # fmt: skip
            try:
                process = Process(order, self.timeout)
            except Ended as ended:
                if ended.cell is None or not cells[ended.cell] or not left:  # leaving out a cell cannot help
                    raise
                first = cells[ended.cell].strip().split("\n")[0][:100]
                is_answer = _task_of(cells[ended.cell]) == task.number
                # say it now: later tasks do not meet this cell again
                (result.says if is_answer else result.notes).append(
                    "a cell was left out, because {what}: `{first}` …".format(what=ended, first=message(first))
                )
                cells[ended.cell] = ""
            else:
                for cell, text in process.problems:  # a problem in another task's cell is reported there
                    said = {task.number: result.says, None: result.notes}.get(_task_of(cells[cell]))
                    if said is not None and text not in said:
                        said.append(text)
                return self._compiled(process, task, order) if task.cuda and not process.missing else process

    def _absent(self, missing, cells, task, result):
        """A sentence that the submission does not define the names that the task asks for."""
        ran = not result.says and any(_task_of(source) == task.number for source in cells)
        absent = "the submission has no {names}"
        named = "the submission has no {names}: the cell `# Task {number}` is there, but does not define that name"
        return (named if ran else absent).format(names=", ".join(missing), number=task.number)

    def _compiled(self, process, task, order):
        """Compile the source that the submission in `process` returns, and start a process with only that kernel."""
        try:
            reply = process.ask("call", [])
        finally:
            process.close()
        if "error" in reply:
            raise Ended(BLANK if _is_blank(reply, task) else RAISES.format(error=reply["error"]))
        with tempfile.TemporaryDirectory(prefix="grade-") as folder:
            library = Path(folder, "kernel.so")
            try:
                cuda.build(task.library, reply["value"], library)
            except CompileError as error:
                raise Ended(f"it does not compile: {error}") from None
            return Process({**order, "cells": [], "given": {}, "kernel": [task.library, str(library)]}, self.timeout)

    def _judge(self, process, task, check, outcome, result):
        """Try the cases of a check; it gives its points if all of them are right.

        Returns
        -------
        list of (int, Case, dict, str)
            The cases with wrong replies, if they are to be explained: the number, case, reply, and what is wrong.
        """
        wrong, right = [], []
        for number, case in enumerate(self._cases(task, check)):
            try:
                reply = process.ask(case.probe, list(case.args), case.seconds)
            except Ended as ended:
                ended.label = f" (in the case: {case.label})"
                raise
            if says := self._verdict(task, check, number, case, reply)[0]:
                wrong.append((number, case, reply, says))
            else:
                right.append((number, case))
        if not wrong:
            outcome.points = outcome.out_of
            return []
        if all(_is_blank(reply, task) for _, _, reply, _ in wrong):
            outcome.says.append(BLANK)
            return []
        known = self._known(task, check, wrong, right, result.says)
        if known and known not in result.says:
            result.says.append(known)
        return wrong

    def _explain(self, process, task, check, outcome, wrong):
        """Say what is wrong in the smallest case that fails, with code that calls it; `process` may have ended."""
        wrong = sorted(wrong, key=lambda w: examples.size(w[1]))  # a stable sort: of equal sizes, the first case
        number, case, reply, says = wrong[0]
        label, others = case.label, [w[1].label for w in wrong[1:]]
        for version, simple in enumerate(examples.simpler(case) if process else ()):
            key = number, version  # of the same case with a simpler input
            try:
                self._value(task, check, key, simple)
                answer = process.ask(simple.probe, list(simple.args))
            except Ended:
                break
            except Exception:  # the library refuses this input
                continue
            if "error" in answer and answer.get("kind") != reply.get("kind"):
                continue  # it fails for another reason
            if found := self._verdict(task, check, key, simple, answer)[0]:
                number, case, reply, says = key, simple, answer, found
                break
        outcome.says.append("{label}: {what}".format(label=label, what=says))
        if 0 < len(others) <= 3:
            outcome.says.append("also wrong: {labels}".format(labels="; ".join(others)))
        elif others:
            also = "also wrong: {labels}; and {count} more"
            outcome.says.append(also.format(labels="; ".join(others[:3]), count=len(others) - 3))
        outcome.code = examples.code(task, case, self.assignment.parameters(task))
        arrays = self._verdict(task, check, number, case, reply)[1:]
        if len(arrays) == 2 and all(isinstance(a, np.ndarray) and a.size for a in arrays):
            outcome.picture = (label, *arrays)

    def _cases(self, task, check):
        """The cases of a check: the same for the whole class."""
        rng = examples.Generator(np.random.PCG64([self.seed, *map(ord, task.number + check.title)]))
        with ONE_AT_A_TIME:
            return list(check.cases(rng))

    def _verdict(self, task, check, number, case, reply):
        """Judge a reply: a tuple of a sentence on what is wrong (or None) and, for arrays, got and right."""
        if "error" in reply:
            meant = reply["kind"] == case.raises or (case.raises is True and reply["kind"] != "NotImplementedError")
            return (None if meant else RAISES.format(error=reply["error"]),)
        if case.raises is True:
            return ("it should raise an error, but does not",)
        if case.raises:
            return ("it should raise {error}, but does not".format(error=case.raises),)
        if reply["changed"]:
            if case.probe in DIRECT:
                return ("it changes its argument number {number} in place".format(number=reply["changed"][0]),)
            return ("it changes what it is given in place",)
        if case.judge:
            try:
                with ONE_AT_A_TIME:
                    says = case.judge(reply["value"])
                return says if isinstance(says, tuple) else (says,)  # close_to also returns the arrays that differ
            except Exception:  # the case's judge expects the right type, but the submission may return anything
                unasked = "it returns {what}, which is not what the task asks for"
                return (unasked.format(what=called(reply["value"])),)
        return difference(reply["value"], self._value(task, check, number, case), case.rtol) or (None,)

    def _value(self, task, check, number, case):
        """The right result: the probe called with the library's answer."""
        key = task.number, check.title, number
        with ONE_AT_A_TIME:
            if key not in self._right:
                right = resolve(task.library) if isinstance(task.library, str) else task.library
                right = None if case.probe == "network" else right  # None: the network keeps the library's kernel
                self._right[key] = getattr(probes, case.probe)(right, *_copies(list(case.args)))
            return self._right[key]

    def _known(self, task, check, wrong, right, said):
        """The sentence of the known mistake with the submission's outcome in every case; None if there is none.

        Mistakes that were recognised in an earlier check (`said`) are compared first.
        """
        for variant in sorted(task.mistakes, key=lambda variant: variant.what not in said):
            if (
                check.title in variant.loses
                and all(self._same(task, variant, check, number, case, reply) for number, case, reply, *_ in wrong)
                and not any(self._is_wrong(task, variant, check, number, case) for number, case in right)
            ):
                return variant.what
        return None

    def _same(self, task, variant, check, number, case, reply):
        """Whether a known mistake gives the same reply as the submission."""
        known = self._reply_of(task, variant, check, number, case)
        if "error" in known or "error" in reply:
            said = reply.get("error", "").partition(", at `")[0].rstrip()  # without the line that raised it
            same = known.get("kind") == reply.get("kind")
            return same and (known["kind"] in ANY_TEXT or said == message(known["error"])[:500])
        return known["changed"] == reply["changed"] and difference(reply["value"], known["value"], case.rtol) is None

    def _is_wrong(self, task, variant, check, number, case):
        """Whether a known mistake fails a case."""
        return bool(self._verdict(task, check, number, case, self._reply_of(task, variant, check, number, case))[0])

    def _reply_of(self, task, variant, check, number, case):
        """The reply of a known mistake to a case, computed in this process."""
        key = task.number, variant.what, check.title, number
        with ONE_AT_A_TIME:
            if key not in self._mistaken:
                cells, _ = run_cells(self.assignment.solution(task.number, variant.change))
                answer = cells[task.answers[0]] if len(task.answers) == 1 else {n: cells[n] for n in task.answers}
                answer = cuda.Kernel(task.library, answer()) if task.cuda else answer
                textbook = dict.fromkeys(minifcn.kernels.KERNELS, "textbook")  # as in a submission's process
                with minifcn.override(**textbook), np.errstate(all="ignore"):
                    self._mistaken[key] = attempt(getattr(probes, case.probe), answer, _copies(list(case.args)), [])
            return self._mistaken[key]


def points(name, number, sources):
    """The points of one task for the cells in `sources`; nbgrader's cells of points call this with ``In``.

    Prints the feedback.
    """
    from .tasks import Assignment, folder

    examiner = Examiner(Assignment(folder() / f"{name}.py"), seed=0)
    (result,) = examiner.grade([s for s in sources if not s.startswith("# Points of task")], [number])
    checks = (f"{c.title}: {c.points} of {c.out_of}. {' '.join(c.says)}" for c in result.checks)
    print(*result.notes, *result.says, *checks, sep="\n")
    return result.points


def _task_of(source):
    """The number of the task that a code cell answers; None for others."""
    return Cell("code", source).task


def _is_blank(reply, task):
    """Whether a reply is the error of the blank that was handed out."""
    return reply.get("kind") == "NotImplementedError" and f"Task {task.number}:" in reply["error"]


def _copies(args):
    """Copies of the arguments, in the memory layout in which a submission's process receives them."""
    if isinstance(args, tuple | list):
        return type(args)(map(_copies, args))
    if not isinstance(args, np.ndarray):
        return args
    return args.copy() if args.flags.c_contiguous else wire.hollow(args)
