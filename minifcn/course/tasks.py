"""The parts of an assignment's hidden tests: tasks, checks, their cases, and variants that test the checks.

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
        The name of the case in the feedback: ``"stride (2, 1)"``.
    *args
        Arguments of the probe, after the answer.  A function among them runs in the judge's process, so that the
        submission cannot inspect it.
    probe : str
        The name of a function of ``probes.py``.
    judge : callable, optional
        ``judge(result) -> None or a sentence`` on what is wrong, or a tuple of it and the two arrays that differ.
        By default the result must be close to the probe's result with the library's answer.
    raises : bool or str
        Whether the answer must raise an error, as a student's test must for a wrong kernel; or the error's name.
    rtol : float
        Allowed difference, relative to the largest right value.
    seconds : float, optional
        Time limit for this case, if it needs more than the grader's limit.
    """

    def __init__(self, label, *args, probe="call", judge=None, raises=False, rtol=1e-6, seconds=None):
        self.label, self.args, self.probe, self.judge = label, args, probe, judge
        self.raises, self.rtol, self.seconds = raises, rtol, seconds


def close_to(right, part=None, rtol=1e-6):
    """A judge for a :class:`Case`: the result must be close to `right`.

    Parameters
    ----------
    right : array, number, or tuple or dict of them
    part : int, optional
        If the result is a tuple, compare this item only.
    rtol : float
        Allowed difference, relative to the largest right value.

    Returns
    -------
    callable
        It returns None, or a tuple: the sentence on what is wrong, and the two arrays that differ.
    """

    def judge(got):
        if part is not None and isinstance(got, tuple | list) and len(got) == len(right):
            return difference(got[part], right[part], rtol)
        return difference(got, right, rtol)

    return judge


@dataclass(frozen=True)
class Check:
    """A property of an answer; it gives its points if all its cases are right.

    Parameters
    ----------
    title : str
        The name of the property in the feedback: ``"stride, padding and dilation"``.
    points : int
    cases : callable
        ``cases(rng)`` yields each :class:`Case`; `rng` is a NumPy generator.
    """

    title: str
    points: int
    cases: object


@dataclass(frozen=True)
class Variant:
    """Another answer to a task, to test the checks: a mistake, a cheat or an alternative solution.

    Parameters
    ----------
    what : str
        A name; for a mistake, the sentence of the feedback.
    change : callable
        Maps the text of the solution's cell to the variant's.
    loses : tuple of str
        The titles of the checks that it must fail; empty for a right answer.
    """

    what: str
    change: object
    loses: tuple = ()


def mistake(what, old, new, *more, loses):
    """A :class:`Variant`: the solution with `old` replaced by `new`, and so on for further pairs in `more`."""
    pairs = [(old, new), *zip(more[::2], more[1::2])]

    def change(text):
        for a, b in pairs:
            if a not in text:
                raise ValueError(f"mistake {what!r}: the solution has no {a!r}")
            text = text.replace(a, b)
        return text

    return Variant(what, change, _names(loses))


def instead(what, text, loses=()):
    """A :class:`Variant` whose whole cell is `text`."""
    return Variant(what, lambda _: text, _names(loses))


def _names(loses):
    return (loses,) if isinstance(loses, str) else tuple(loses)


@dataclass(frozen=True)
class Task:
    """A task: the names that a student defines, and how they are judged.

    Parameters
    ----------
    number : str
        ``"2.1"``; the source has a heading ``## Task 2.1: … (4 points)`` and a cell that begins with ``# Task 2.1``.
    answer : str or tuple of str
        The names that the student must define.
    checks : list of Check
    library : str or callable, optional
        The path of the library's answer (see ``guard.resolve``).  Results are compared with its results, and it
        replaces this task's answer while the other tasks are judged.  A callable is only compared with.
    forbidden : tuple of str
        Functions of the library that raise an error while the task is judged.
    own : bool
        Whether the submission's own answers to the other tasks are used, instead of the library's.
    cuda : bool
        Whether the answer is a function that returns the CUDA C++ source of a kernel to replace `library`.  The source
        is compiled, and the probes get the kernel.
    mistakes : list of Variant
        Known mistakes; the feedback on a wrong answer names the one with the same results.
    cheats, styles : list of Variant
        Answers that must lose points, and unusual right answers that must get all of them.
    """

    number: str
    answer: object
    checks: list
    library: object = None
    forbidden: tuple = ()
    own: bool = False
    cuda: bool = False
    mistakes: list = field(default_factory=list)
    cheats: list = field(default_factory=list)
    styles: list = field(default_factory=list)

    @property
    def answers(self):
        """The names that the student must define, as a tuple."""
        return (self.answer,) if isinstance(self.answer, str) else self.answer

    def is_named_in(self, text):
        """Whether the code `text` defines one of the names that the task asks for."""
        return any(re.search(rf"^(def|class) {name}\b", text, re.M) for name in self.answers)

    @property
    def points(self):
        """The sum of the points of all checks."""
        return sum(check.points for check in self.checks)


class Assignment:
    """An assignment, read from its source and its hidden tests.

    Attributes
    ----------
    name : str
        ``a2_convolution``.
    title : str
        The heading of its source.
    cells : list of Cell
        All cells of its source, with solutions.
    headings : dict of {str: str}
        The title of each task, by its number.
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
        """The task with this number."""
        return next(task for task in self.tasks if task.number == number)

    def parameters(self, task):
        """The names of the parameters of the task's answer; empty if it asks for several, or for a class."""
        cell = next(cell for cell in self.cells if cell.task == task.number)
        found = re.search(rf"^def {task.answers[0]}\((.*?)\):", cell.source, re.M)
        return [name.split("=")[0].strip() for name in found[1].split(",")] if found else []

    def solution(self, number=None, change=None):
        """The sources of the code cells with solutions; ``change(source)`` replaces the cell of task `number`."""
        kept = [c for c in self.cells if c.kind == "code" and not c.is_shown]
        return [change(c.source) if number and c.task == number else c.source for c in kept]

    def to_run(self, sources):
        """The code cells of a submission to run, without the checks and pictures that were handed out.

        The original `# Setup` cells come first, because answers need them and a student may have changed them.
        """
        setup = [c.source for c in self.cells if c.kind == "code" and c.source.startswith("# Setup")]
        given = {_bare(c.source) for c in self.cells if c.is_shown} | {*map(_bare, setup)}
        return [*setup, *(text for text in sources if _bare(text) not in given)]


def _bare(text):
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def folder():
    """The folder of the assignments; UserError if minifcn does not run from a checkout."""
    if minifcn.__file__ is None:  # started beside the clone, Python imports that folder as a namespace package
        raise UserError(
            "Python imports the folder `minifcn` here instead of the package: go into the clone (cd minifcn)"
        )
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
    """Raise UserError if one of `numbers` (or None) is not the number of a task in the assignments `known`."""
    there = sorted(task.number for assignment in known for task in assignment.tasks)
    if wrong := sorted(set(numbers or ()) - set(there)):
        raise UserError(f"there is no task {wrong[0]}; tasks are {', '.join(there)}")
