"""nbgrader's commands work on the course's notebooks, and give the scores that ``minifcn.grade`` gives."""

import copy
import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nbgrader", reason="pip install 'minifcn[course]'")
nbformat = pytest.importorskip("nbformat", reason="pip install 'minifcn[course]'")
tasks = pytest.importorskip("minifcn.course.tasks", reason="pip install 'minifcn[course]'")

from minifcn import grade  # noqa: E402
from minifcn.course import build  # noqa: E402
from minifcn.course.cells import Cell  # noqa: E402

pytestmark = [pytest.mark.course, pytest.mark.slow]
NAME = "a2_convolution"


def nbgrader(room, *args):
    # PATH as in an activated environment, because nbgrader starts other programs of the environment by name
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "nbgrader", *args]
    run = subprocess.run(command, cwd=room, env=env, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def points(path, student, column):
    """{student: points} of a table of scores."""
    with open(path, encoding="utf-8-sig") as file:
        return {row[student]: float(row[column]) for row in csv.DictReader(file)}


def test_generate_autograde_feedback_export(tmp_path):
    a2 = tasks.Assignment(tasks.folder() / f"{NAME}.py")
    room = build.nbgrader_course([a2], tmp_path / "course")
    nbgrader(room, "generate_assignment", NAME, "--create")
    release = nbformat.read(room / "release" / NAME / f"{NAME}.ipynb", 4)
    text = "\n".join(cell.source for cell in release.cells)
    assert "SOLUTION" not in text and "judge" not in text and not build.solution_lines(a2) & set(text.split("\n"))
    assert 'raise NotImplementedError("Task 2.3: Columns back to an image")' in text

    solved = {c.task: c.source for c in a2.cells if c.task}
    class_ = {
        "ann": solved,
        "bob": solved | {"2.3": a2.task("2.3").mistakes[0].change(solved["2.3"]), "2.5": "# Task 2.5\n1 / 0"},
        "cat": {"2.1": solved["2.1"].replace("return cols", "return -cols"), "2.2": "# no", "2.4": solved["2.4"]},
        "dan": {},
    }
    for student, answers in class_.items():
        notebook = copy.deepcopy(release)
        for cell in notebook.cells:
            cell.source = answers.get(Cell(cell.cell_type, cell.source).task, cell.source)
        path = room / "submitted" / student / NAME / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)

    nbgrader(room, "autograde", NAME, "--create")
    nbgrader(room, "generate_feedback", NAME)
    nbgrader(room, "export")
    scores = points(room / "grades.csv", "student_id", "score")
    assert grade.main([str(room / "submitted"), "--out", str(tmp_path / "graded")]) == 0
    assert scores == points(tmp_path / "graded" / "scores.csv", "student", "points")
    assert scores["ann"] == 20 and 0 == scores["dan"] < scores["cat"] < scores["bob"] < 20
    feedback = (room / "feedback" / "bob" / NAME / f"{NAME}.html").read_text(encoding="utf-8")
    assert "they must add up" in feedback
