"""Make the students' files from the instructor's sources: nbgrader's preprocessors remove solutions and hidden tests.

The notebook and the module are both written from the same stripped notebook.  Then both are searched for leftovers of
solutions, and run: each blank must raise an error that names its task.
"""

import shutil
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions

from ..errors import UserError
from . import probes
from .cells import Cell, read_cells, read_module
from .child import attempt, run_cells
from .tasks import HEADING

HIDDEN = """# Points of task {number}: the grader's tests run here
### BEGIN HIDDEN TESTS
from minifcn.course.judge import points

points("{name}", "{number}", In)
### END HIDDEN TESTS"""

README = """# Assignments

Each assignment is a notebook and a Python module with the same text. Work in either of them. Hand in one of the two,
under its original name.

    python3 -m venv .venv && .venv/bin/pip install 'minifcn[earth,notebooks]' pytest
    .venv/bin/jupyter lab {first}.ipynb            # or: .venv/bin/python -m pytest {first}.py

If there is a file `minifcn-….whl` beside this one, install that: write `'./minifcn-….whl[earth,notebooks]'` instead of
`'minifcn[earth,notebooks]'`. On Linux, A7 also needs `g++`.

Replace each `raise NotImplementedError("Task …")` by your code. Keep the first line of each cell (`# Task 2.1`): the
grader finds your answers by it. A check prints ✓ (passed), ✗ (failed) or · (not yet). A mistake costs points in its own
task only: while the other tasks are graded, the library's function takes the place of yours.

{table}
"""


class ClearTasks(ClearSolutions):
    """nbgrader's ClearSolutions, with blanks that name their task."""

    def preprocess(self, nb, resources):
        self.headings = dict(HEADING.findall("\n".join(c.source for c in nb.cells if c.cell_type == "markdown")))
        return super().preprocess(nb, resources)

    def preprocess_cell(self, cell, resources, cell_index):
        number = Cell(cell.cell_type, cell.source).task
        if number:
            self.code_stub = {"python": f'raise NotImplementedError("Task {number}: {self.headings[number]}")'}
        return super().preprocess_cell(cell, resources, cell_index)


def with_metadata(assignment):
    """The source as a notebook with nbgrader's metadata and, after each task's checks, a cell that gives its points."""
    notebook = read_module(assignment.source)
    cells, current = [], None

    def finish():
        if current:
            cell = nbformat.v4.new_code_cell(HIDDEN.format(number=current, name=assignment.name))
            points = assignment.task(current).points
            cells.append(_marked(cell, f"points-{current}", grade=True, points=points, locked=True))

    for cell in notebook.cells:
        number = Cell(cell.cell_type, cell.source).task
        begins = cell.cell_type == "markdown" and cell.source.startswith(
            "## "
        )  # a task, or the text after the last task
        if begins or (number and number != current):
            finish()
            current = None
        cell.metadata = {}
        if number:
            current = number
            _marked(cell, f"task-{number}", solution=True)
        elif cell.cell_type == "code" and not cell.source.startswith("# Setup"):
            _marked(cell, f"check-{len(cells)}", locked=True)
        cells.append(cell)
    finish()
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    notebook.cells = cells
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return notebook


def _marked(cell, grade_id, grade=False, solution=False, locked=False, **more):
    cell.metadata["nbgrader"] = {
        "grade_id": grade_id.replace(".", "-"), "grade": grade, "solution": solution, "locked": locked, "task": False,
        "schema_version": 3, **more,
    }  # fmt: skip
    return cell


def stripped(assignment):
    """The notebook for students, without solutions and hidden tests."""
    notebook, resources = with_metadata(assignment), {}
    for step in (ClearTasks(), ClearHiddenTests()):
        notebook, resources = step.preprocess(notebook, resources)
    return notebook


def build(assignments, out):
    """Write the release into the new or empty folder `out`: a notebook and a module per assignment, and a README.

    Raises
    ------
    UserError
        If `out` is not empty, or if a written file still contains a solution or a hidden test.
    """
    out = _empty(out)
    for assignment in assignments:
        notebook = stripped(assignment)
        (out / f"{assignment.name}.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
        notebook.metadata["jupytext"] = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "-all"}
        notebook.cells = [c for c in notebook.cells if not c.source.startswith("# Points of task")]
        (out / f"{assignment.name}.py").write_text(jupytext.writes(notebook, "py:percent"), encoding="utf-8")
        for suffix in (".ipynb", ".py"):
            inspect(assignment, out / f"{assignment.name}{suffix}")
    table = "\n".join(f"- `{a.name}`: {a.title}, {sum(t.points for t in a.tasks)} points" for a in assignments)
    (out / "README.md").write_text(README.format(first=assignments[0].name, table=table), encoding="utf-8")
    return out


def inspect(assignment, path):
    """Raise UserError if the released file at `path` contains solutions or hidden tests, or a blank is not one."""
    text, cells = path.read_text(encoding="utf-8"), read_cells(path)
    for word in ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "course.judge"):
        if word in text:
            raise UserError(f"{path} contains {word!r}: it must not be handed out")
    lines = {line.strip() for cell in cells for line in cell.source.split("\n")}
    if left := [line for line in solution_lines(assignment) if line in lines]:
        raise UserError(f"{path} contains a line of a solution: {left[0]!r}; it must not be handed out")
    answers, problems = run_cells(assignment.to_run([c.source for c in cells if c.kind == "code"]))
    if problems:
        raise UserError(f"{path} does not run: {problems[0][1]}")
    for task in assignment.tasks:
        case = next(iter(task.checks[0].cases(np.random.default_rng(0))))
        probe, args = (
            ("call", ()) if task.cuda else (case.probe, case.args)
        )  # the answer to a CUDA task returns a source
        wanted = [answers[name] for name in task.answers]
        answer = wanted[0] if len(wanted) == 1 else dict(zip(task.answers, wanted))
        says = attempt(getattr(probes, probe), answer, list(args), []).get("error", "")
        if not says.startswith(f"NotImplementedError: Task {task.number}: "):
            raise UserError(
                f"{path}: the blank of task {task.number} should raise NotImplementedError('Task {task.number}: …'), "
                f"but {'raises ' + says if says else 'returns an answer'}"
            )


def solution_lines(assignment):
    """The lines that occur only in solutions, without comments and short lines, which tell nothing."""
    inside, outside = set(), set()
    for cell in assignment.cells:
        solving = False
        for line in map(str.strip, cell.source.split("\n")):
            solving = (solving or "BEGIN SOLUTION" in line) and "END SOLUTION" not in line
            (inside if solving else outside).add(line)
    return {line for line in inside - outside if len(line) > 12 and not line.startswith("#")}


def nbgrader_course(assignments, out):
    """Write a course folder for nbgrader into the new or empty `out`: the sources *with* solutions, and its settings.

    Continue there with nbgrader's commands: ``nbgrader generate_assignment a2_convolution`` and so on.
    """
    out = _empty(out)
    for assignment in assignments:
        source = out / "source" / assignment.name
        source.mkdir(parents=True)
        (source / f"{assignment.name}.ipynb").write_text(nbformat.writes(with_metadata(assignment)), encoding="utf-8")
    shutil.copy(Path(__file__).parent / "nbgrader_config.py", out / "nbgrader_config.py")
    return out


def _empty(out):
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: give a new one")
    out.mkdir(parents=True, exist_ok=True)
    return out
