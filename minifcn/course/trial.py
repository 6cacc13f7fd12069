"""Test the grader: grade every mistake, cheat and alternative solution of the hidden tests, and compare the points.

``python -m minifcn.course trial`` prints the table.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .judge import Examiner


@dataclass
class Trial:
    """One variant of one task, and its outcome."""

    task: str
    kind: str  # "solution", "mistake", "cheat", "style"
    what: str
    should_lose: tuple
    result: object
    out_of: int
    others: frozenset  # the sentences of the task's other mistakes

    @property
    def lost(self):
        """The titles of the checks that it lost."""
        return tuple(c.title for c in self.result.checks if c.points < c.out_of)

    @property
    def says(self):
        """All sentences of the feedback."""
        return [*self.result.says, *(s for c in self.result.checks for s in c.says)]

    @property
    def is_right(self):
        """Whether it lost exactly the right checks and, for a mistake, was recognised as that one only."""
        if set(self.lost) != set(self.should_lose):
            return False
        return self.kind != "mistake" or (self.what in self.says and not self.others & set(self.says))

    def as_row(self):
        """The trial as plain data, for JSON."""
        return {
            "task": self.task, "kind": self.kind, "what": self.what, "points": self.result.points,
            "out_of": self.out_of, "lost": list(self.lost), "should_lose": list(self.should_lose), "says": self.says,
            "is_right": self.is_right,
        }  # fmt: skip


def table(done):
    """All trials as a table in text, and a line with their counts."""
    lines = []
    for t in done:
        verdict = "as it should" if t.is_right else f"WRONG: lost {t.lost}, should lose {t.should_lose}; said {t.says}"
        lines.append(f"{t.task}  {t.kind:<8}  {t.result.points}/{t.out_of}  {t.what}: {verdict}")
    kinds = {kind: sum(t.kind == kind for t in done) for kind in ("mistake", "cheat", "style")}
    wrong = sum(not t.is_right for t in done)
    return "\n".join([
        *lines, "",
        f"{kinds['mistake']} mistakes and {kinds['cheat']} cheats, {kinds['style']} alternative solutions: "
        + (f"{wrong} NOT as they should be" if wrong else "all as they should be"),
    ])  # fmt: skip


def trials(assignments, seed=0, tasks=None, workers=2, progress=lambda results, total: results, timeout=10.0):
    """Grade all solutions and variants: a list of :class:`Trial`.

    Parameters
    ----------
    assignments : list of Assignment
    seed : int
    tasks : collection of str, optional
        Numbers of the tasks; None: all.
    workers : int
        Number of submissions graded at the same time.
    progress : callable
        ``progress(results, total)`` wraps the iterable of results.
    """
    jobs = []
    for assignment in assignments:
        examiner = Examiner(assignment, seed, timeout)
        for task in assignment.tasks:
            if tasks is None or task.number in tasks:
                jobs.append((examiner, task, "solution", None))
                for kind in ("mistake", "cheat", "style"):
                    jobs += [(examiner, task, kind, variant) for variant in getattr(task, f"{kind}s")]
    with ThreadPoolExecutor(workers) as pool:
        return list(progress(pool.map(lambda job: _try(*job), jobs), len(jobs)))


def _try(examiner, task, kind, variant):
    sources = examiner.assignment.solution(task.number, variant.change) if variant else examiner.assignment.solution()
    result = examiner.grade_task(sources, task)
    what, loses = (variant.what, variant.loses) if variant else ("the solution", ())
    others = frozenset(mistake.what for mistake in task.mistakes) - {what}
    return Trial(task.number, kind, what, loses, result, task.points, others)
