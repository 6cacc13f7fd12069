"""What an assignment's hidden tests are made of: tasks, what is checked of each, and submissions that try the checks.

An assignment is two files of a checkout: ``notebooks/assignments/a2_convolution.py``, its source with solutions, and
``notebooks/assignments/hidden/a2_convolution.py``, which defines ``TASKS``.  Neither is in the installed package.
"""

import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path

import minifcn

from ..errors import UserError
from .cells import read_cells
from .differences import difference

HEADING = re.compile(r"^## Task (\d\.\d): (.*) \(\d+ points?\)$", re.M)


class Case:
    """One call of an answer, and how its result is judged.

    Parameters
    ----------
    label : str
        What is special about it, as the feedback says it: ``"stride (2, 1)"``.
    *args
        For the probe, after the answer.  A function among them is called here, by the judge, not where the student is.
    probe : str
        One of ``probes.py``.
    judge : callable, optional
        ``judge(result) -> None or a sentence`` on what is wrong.  By default the result must be close to what the probe
        gives for the library's own answer.
    raises : bool or str
        Whether the answer shall raise: a test of the student's, given something wrong.  Or the name of the error.
    rtol : float
        Allowed difference, relative to the largest right value.
    seconds : float, optional
        For the answer, where it is more than the grader's own limit.
    """

    def __init__(self, label, *args, probe="call", judge=None, raises=False, rtol=1e-6, seconds=None):
        self.label, self.args, self.probe, self.judge = label, args, probe, judge
        self.raises, self.rtol, self.seconds = raises, rtol, seconds


def close_to(right, part=None, rtol=1e-6):
    """A judge for a :class:`Case`: the result is close to `right`; of a tuple, only that part of it is compared."""

    def judge(got):
        if part is not None and isinstance(got, tuple | list) and len(got) == len(right):
            return (difference(got[part], right[part], rtol) or (None,))[0]
        return (difference(got, right, rtol) or (None,))[0]

    return judge


@dataclass(frozen=True)
class Check:
    """A property of an answer, worth points if all its cases are right.

    Parameters
    ----------
    title : str
        The property, as the feedback names it: ``"stride, padding and dilation"``.
    points : int
    cases : callable
        ``cases(rng)`` yields :class:`Case`; `rng` is NumPy's, drawn from after the submission was read.
    """

    title: str
    points: int
    cases: object


@dataclass(frozen=True)
class Variant:
    """Another answer to a task, to try the checks: the solution with a mistake in it, a cheat, or another right way.

    Parameters
    ----------
    what : str
        Of a mistake: how the feedback says it.
    change : callable
        From the text of the task's cell to another.
    loses : tuple of str
        The titles of the checks it fails; empty for what is right.
    """

    what: str
    change: object
    loses: tuple = ()


def mistake(what, old, new, *more, loses):
    """A :class:`Variant` with each `old` text of the solution replaced by its `new` one."""
    pairs = [(old, new), *zip(more[::2], more[1::2])]

    def change(text):
        for a, b in pairs:
            if a not in text:
                raise ValueError(f"mistake {what!r}: the solution has no {a!r}")
            text = text.replace(a, b)
        return text

    return Variant(what, change, _names(loses))


def instead(what, text, loses=()):
    """A :class:`Variant` whose cell is `text`, altogether."""
    return Variant(what, lambda _: text, _names(loses))


def _names(loses):
    return (loses,) if isinstance(loses, str) else tuple(loses)


@dataclass(frozen=True)
class Task:
    """What a student writes, and how it is judged.

    Parameters
    ----------
    number : str
        ``"2.1"``; the source has a heading ``## Task 2.1: … (4 points)`` and a cell that begins with ``# Task 2.1``.
    answer : str or tuple of str
        The names it asks for.
    checks : list of Check
    library : str or callable, optional
        The library's own answer (see ``guard.resolve``): what results are compared with, and what stands in for this
        task's answer while the other tasks are judged.  Where it has none, a function to compare with alone.
    forbidden : tuple of str
        The library's own that raise while the task is judged.
    cuda : bool
        Whether the answer is a function that gives the source, in CUDA C++, of a kernel that stands in for `library`:
        it is compiled, and the probes are given that kernel.
    mistakes : list of Variant
        What is recognised in a wrong answer, and said.
    cheats, styles : list of Variant
        What must not pay; and what must get full marks.
    """

    number: str
    answer: object
    checks: list
    library: object = None
    forbidden: tuple = ()
    cuda: bool = False
    mistakes: list = field(default_factory=list)
    cheats: list = field(default_factory=list)
    styles: list = field(default_factory=list)

    @property
    def answers(self):
        """The names it asks for, as a tuple."""
        return (self.answer,) if isinstance(self.answer, str) else self.answer

    def is_named_in(self, text):
        """Whether a submission defines what the task asks for."""
        return any(re.search(rf"^(def|class) {name}\b", text, re.M) for name in self.answers)

    @property
    def points(self):
        """Of all checks."""
        return sum(check.points for check in self.checks)


class Assignment:
    """An assignment of a checkout.

    Attributes
    ----------
    name : str
        ``a2_convolution``.
    title : str
        The heading of its source.
    cells : list of Cell
        Of its source, with solutions.
    headings : dict of {str: str}
        What each task is called, by its number.
    tasks : list of Task
    """

    def __init__(self, source):
        self.name, self.source = source.stem, source
        self.cells = read_cells(source)
        text = "\n".join(c.source for c in self.cells if c.kind == "markdown")
        self.title = re.search(r"^# (.*)$", text, re.M)[1]
        self.headings = dict(HEADING.findall(text))
        hidden = source.parent / "hidden" / source.name
        spec = importlib.util.spec_from_file_location(f"hidden_{self.name}", hidden)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.tasks = module.TASKS

    def task(self, number):
        """The task of that number."""
        return next(task for task in self.tasks if task.number == number)

    def solution(self, number=None, change=None):
        """The sources of its code cells with solutions; that of task `number` may be changed."""
        kept = [c for c in self.cells if c.kind == "code" and not c.is_shown]
        return [change(c.source) if number and c.task == number else c.source for c in kept]

    def to_run(self, sources):
        """The code cells of a submission, as texts, less the checks and pictures that were handed out.

        What answers need, the cells `# Setup`, comes first as it was handed out: whatever became of the student's own.
        """
        setup = [c.source for c in self.cells if c.kind == "code" and c.source.startswith("# Setup")]
        given = {_bare(c.source) for c in self.cells if c.is_shown} | {*map(_bare, setup)}
        return [*setup, *(text for text in sources if _bare(text) not in given)]


def _bare(text):
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def folder():
    """Where the assignments lie; UserError where minifcn is not run from a checkout."""
    if minifcn.__file__ is None:  # beside the clone, Python takes that folder for the package
        raise UserError("the folder `minifcn` here is in Python's way: go into it (cd minifcn), or somewhere else")
    found = Path(minifcn.__file__).parents[1] / "notebooks" / "assignments"
    if not (found / "hidden").is_dir():
        raise UserError(
            "the assignments and their hidden tests are not in the installed package: clone minifcn's repository, "
            "pip install -e '.[course]' there, and run this command again"
        )
    return found


def assignments():
    """All assignments, in order."""
    return [Assignment(source) for source in sorted(folder().glob("a[0-9]_*.py"))]


def require(numbers, known):
    """UserError unless each of `numbers` (or None) is a task's of the assignments `known`."""
    there = sorted(task.number for assignment in known for task in assignment.tasks)
    if wrong := sorted(set(numbers or ()) - set(there)):
        raise UserError(f"there is no task {wrong[0]}; tasks are {', '.join(there)}")
