"""Every exercise has three hints and a worked answer that checks itself; ``test_notebooks`` runs the answers."""

import ast
import json
import re
from pathlib import Path

import pytest
from exercises import answers, exercises

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
def test_every_exercise_has_three_hints_and_one_answer(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    begin = next(i for i, source in enumerate(sources) if source.startswith("## Exercises"))
    found = exercises(path)
    chapter = path.stem[:2]
    assert list(found) == [f"{chapter}.{n}" for n in range(1, len(found) + 1)] and len(found) >= 5
    headed = [source for source in sources if re.match(r"###? .*\d\d\.\d", source)]
    assert sources[begin + 1 : -1] == headed, "only exercises stand between the heading and the last cell"
    for number, (task, folds) in found.items():
        assert task, number
        assert list(folds) == ["Hint 1", "Hint 2", "Hint 3", "Answer"], number
        assert all(len(text.split()) >= 4 for text in folds.values()), f"{number}: a hint says something"
    for source in headed:
        assert source.count("<details>") == source.count("</details>") == 4, source[:12]


def can_fail(statement):
    """Whether an assertion depends on something: a name that the answer or the notebook defines."""
    return any(isinstance(part, ast.Name) for part in ast.walk(statement.test))


@each_notebook
def test_every_answer_asserts_what_it_found(path):
    for number, code in answers(path).items():
        found = [part for part in ast.walk(ast.parse(code)) if isinstance(part, ast.Assert)]
        assert found and all(map(can_fail, found)), f"{number}: an answer that only prints proves nothing"
        assert max(map(len, code.splitlines())) <= 120, number


def test_a_constant_assertion_is_not_taken_for_a_check():
    assert not can_fail(ast.parse("assert 1 + 1 == 2").body[0])
    assert can_fail(ast.parse("assert x == 2").body[0])
