"""Gradescope: the zip of an autograder, and the ``results.json`` that it writes for each submission.

The format is that of https://gradescope-autograders.readthedocs.io/en/latest/specs/.
"""

import json
import secrets
import sys
import tempfile
import zipfile
from pathlib import Path

from ..errors import UserError
from . import grading, tasks
from .classroom import Classroom
from .submissions import collected

SETUP = """#!/usr/bin/env bash
# Gradescope runs this once.  Choose a base image with Python 3.11 or newer, such as Ubuntu 24.04.
set -euo pipefail
apt-get install -y g++ python3-venv
python3 -m venv /autograder/venv
/autograder/venv/bin/pip install -e '/autograder/source[course,earth]'
"""
RUN = """#!/usr/bin/env bash
# Gradescope runs this for each submission.
cd /autograder/source
exec /autograder/venv/bin/python -m minifcn.course.gradescope ../submission ../results/results.json {name} {seed}
"""
PARTS = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "minifcn", "notebooks/assignments")
LEFT_OUT = {"__pycache__", ".ipynb_checkpoints"}


def autograder(out, assignment):
    """Write the zip to upload as the autograder of an assignment: this checkout, its hidden tests, and two scripts.

    The inputs of all submissions are drawn with one seed, which is in the zip.  Files for other assignments are not
    graded: otherwise, the points of an old assignment could be had again.

    Parameters
    ----------
    out : path
        A new zip file.
    assignment : str or None
        Its name, or the beginning: ``"a2"``.

    Raises
    ------
    UserError
        If `out` exists, or is not the name of a zip file; if there is no such assignment.
    """
    out, root, names = Path(out), tasks.folder().parents[1], [a.name for a in tasks.assignments()]
    name = next((name for name in names if assignment in (name, name.partition("_")[0])), None)
    if name is None:
        raise UserError(f"gradescope needs --assignment, one of {', '.join(names)} (or a2); got {assignment or 'none'}")
    if out.suffix.lower() != ".zip" or out.exists():
        raise UserError(f"{out} exists already, or its name does not end in .zip: give the name of a new zip file")
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        run = RUN.format(name=name, seed=secrets.randbelow(grading.SEEDS))
        for script_name, text in (("setup.sh", SETUP), ("run_autograder", run)):
            script = zipfile.ZipInfo(script_name)
            script.external_attr = 0o755 << 16  # may be executed
            file.writestr(script, text)
        for part in PARTS:
            for path in [root / part] if (root / part).is_file() else sorted((root / part).rglob("*")):
                if path.is_file() and not LEFT_OUT & set(path.parts):
                    file.write(path, path.relative_to(root))
    return out


def results(records, skipped):
    """The content of ``results.json`` for one submission: the checks of the file with the most points.

    A submission may have copies; their points must not be added.

    Parameters
    ----------
    records : list of dict
        The files, as saved by ``Scores``.
    skipped : list of (Path, str)
        Files that are not graded, and why.
    """
    tests, notes = [], [f"{file.name} is not graded: {why}" for file, why in skipped]
    best = max((r for r in records if r["tasks"]), key=lambda record: record["counted"], default=None)
    for record in records:
        notes += record["notes"]
        if record["tasks"] and record is not best:
            name, other = (Path(one["file"]).name for one in (record, best))
            notes.append(f"{name} does not count: {other} has at least as many points")
            continue
        for task in record["tasks"]:
            for number, check in enumerate(task["checks"], 1):
                passed = check["points"] == check["out_of"]
                said = [*(task["says"] if number == 1 else ()), *check["says"], check["code"]]
                tests.append({
                    "number": f"{task['number']}.{number}", "name": f"{task['title']}: {check['title']}",
                    "score": check["points"], "max_score": check["out_of"],
                    "status": "passed" if passed else "failed", "output": "\n".join(filter(None, said)),
                })  # fmt: skip
    return {"score": sum(test["score"] for test in tests), "output": "\n".join(dict.fromkeys(notes)), "tests": tests}


def main(folder, out, name, seed):
    """Grade the submission in `folder` to the assignment called `name`, and write its ``results.json``."""
    known = tasks.assignments()
    handed_in, ungraded = collected([Path(folder)], known)
    others = [one for one in handed_in if one.assignment and one.assignment.name != name]
    handed_in = [one for one in handed_in if one not in others]
    ungraded += [(one.path, f"it answers {one.assignment.name}, and this is {name}") for one in others]
    with tempfile.TemporaryDirectory() as pages:
        table = grading.grade(handed_in, known, None, Path(pages), Classroom(), grading.Options(int(seed)))
    written = json.dumps(results(list(table.records.values()), ungraded), indent=1)  # ASCII: safe in every locale
    Path(out).write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
