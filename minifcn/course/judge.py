"""The judge: draws inputs, has them computed in a process of the submission's own, compares, and gives points.

A process lives for one task.  It is given the submission's cells and, one by one, the arrays of a case; it answers with
arrays.  What they should be is worked out here, by the library's own answer, and never leaves this process.
"""

import tempfile
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import minifcn

from ..cuda_on_cpu.compiler import CompileError
from . import cuda, probes, wire
from .cells import Cell
from .child import attempt, run_cells
from .differences import called, difference
from .guard import resolve
from .process import Ended, Process

TIMEOUT = 10.0  # seconds for one answer
ONE_AT_A_TIME = threading.RLock()  # of all examiners: the seed of random weights is one for the whole process
ANY_TEXT = {"AssertionError", "RecursionError"}  # whose texts are the student's, or say where it was
DIRECT = {"call", "in_every_order"}  # probes that give an answer their own arguments
BLANK, GIVEN_UP = "not answered", "not tried any more"
LEFT_OUT = 4  # cells that may end the process, before a check is given up


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
    """What became of one task; `notes` are on cells that answer none."""

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
        Of all that is drawn: the same for everybody, and not known before the submissions were read.
    timeout : float
        Seconds for one answer.
    """

    def __init__(self, assignment, seed, timeout=TIMEOUT):
        self.assignment, self.seed, self.timeout = assignment, seed, timeout
        self._right, self._mistaken = {}, {}

    def grade(self, sources, tasks=None, stop=None):
        """The results of the tasks (all, or those numbers) for a submission's code cells.

        Once the event `stop` is set no further task is begun: CancelledError.
        """
        cells, results = self.assignment.to_run(sources), []
        for task in self.assignment.tasks:
            if stop and stop.is_set():
                raise CancelledError
            if tasks is None or task.number in tasks:
                results.append(self.grade_task(cells, task))
        return results

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
                    outcome.says.append(GIVEN_UP)
                    continue
                try:
                    process = process or self._start(cells, task, result)
                    if process.missing:
                        result.says.append(self._absent(process.missing, cells, task, result))
                        break
                    self._judge(process, task, check, outcome, result)
                except Ended as ended:
                    outcome.says.append(f"{ended}{getattr(ended, 'label', '')}")
                    ends, process = ends + 1, process and process.close()
        finally:  # whatever cannot be had for a case: the maps of the Earth, say
            if process:
                process.close()
        if BLANK in (said := {s for c in result.checks for s in c.says}) and said <= {BLANK, GIVEN_UP}:
            result.says.append(BLANK)  # once is enough
            for outcome in result.checks:
                outcome.says.clear()
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
                first = cells[ended.cell].strip().split("\n")[0][:100]
                own = _task_of(cells[ended.cell]) == task.number
                (result.says if own else result.notes).append(  # now: no later task meets that cell
                    f"a cell was left out, because {ended}: `{first}` …"
                )
                cells[ended.cell] = ""
            else:
                for cell, text in process.problems:  # those in another task's cell are said there
                    said = {task.number: result.says, None: result.notes}.get(_task_of(cells[cell]))
                    if said is not None and text not in said:
                        said.append(text)
                return self._compiled(process, task, order) if task.cuda and not process.missing else process

    def _absent(self, missing, cells, task, result):
        """That the submission does not define what the task asks for."""
        said = f"the submission has no {' and no '.join(missing)}"
        named = not result.says and any(_task_of(source) == task.number for source in cells)
        return said + (f": the cell `# Task {task.number}` is there, but names its answer otherwise" if named else "")

    def _compiled(self, process, task, order):
        """A process that has the kernel whose source the submission gives in `process`, and nothing else of it."""
        try:
            reply = process.ask("call", [])
        finally:
            process.close()
        if "error" in reply:
            raise Ended(BLANK if _is_blank(reply, task) else f"it raises {reply['error']}")
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
        if all(_is_blank(reply, task) for _, _, reply, *_ in wrong):
            outcome.says.append(BLANK)
            return
        known = self._known(task, check, wrong, right, result.says)
        if known and known not in result.says:
            result.says.append(known)
        number, case, reply, says, arrays = wrong[0]
        outcome.says.append(f"{case.label}: {says}")
        if len(wrong) > 1:
            more = f"; and {len(wrong) - 4} more" * (len(wrong) > 4)
            outcome.says.append(f"wrong, too: {'; '.join(w[1].label for w in wrong[1:4])}{more}")
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
            number = f"its argument number {reply['changed'][0]}" if case.probe in DIRECT else "what it is given"
            return (f"it changes {number} in place",)
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
            same = own.get("kind") == reply.get("kind")
            return same and (own["kind"] in ANY_TEXT or said == own["error"][:500])
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
    checks = (f"{c.title}: {c.points} of {c.out_of}. {' '.join(c.says)}" for c in result.checks)
    print(*result.notes, *result.says, *checks, sep="\n")
    return result.points


def _task_of(source):
    """The number of the task that a code cell answers; None for others."""
    return Cell("code", source).task


def _is_blank(reply, task):
    """Whether a task as it was handed out would give this reply."""
    return reply.get("kind") == "NotImplementedError" and f"Task {task.number}:" in reply["error"]


def _copies(args):
    """Arguments as a submission's process would get them."""
    if isinstance(args, tuple | list):
        return type(args)(map(_copies, args))
    if not isinstance(args, np.ndarray):
        return args
    return args.copy() if args.flags.c_contiguous else wire.hollow(args)
