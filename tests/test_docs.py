"""The documents: what they name exists, and what they say is still so."""

import ast
import re
from functools import reduce
from pathlib import Path

import minifcn
import minifcn.experiments  # a command: the package itself does not import it

ROOT = Path(__file__).parent.parent


def claims():
    """The rows of the claims table: claim, where, code, test, notebook."""
    rows = [line for line in (ROOT / "docs/paper.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1:]]


def test_no_cell_of_the_claims_table_is_empty_but_the_notebooks():
    rows = claims()
    assert len(rows) > 40
    assert all(len(row) == 5 and all(row[:4]) for row in rows)


def test_the_code_that_embodies_a_claim_exists():
    for row in claims():
        names = re.findall(r"`([^`]+)`", row[2])
        assert names
        for name in names:
            assert reduce(getattr, name.split("."), minifcn), name


def test_the_test_that_proves_a_claim_exists_and_is_run_with_the_papers():
    for row in claims():
        tests = re.findall(r"`([^`]+)`", row[3])
        assert tests
        for test in tests:
            file, _, name = test.partition("::")
            text = (ROOT / "tests" / file).read_text(encoding="utf-8")
            (function,) = (f for f in ast.parse(text).body if isinstance(f, ast.FunctionDef) and f.name == name)
            marks = [ast.unparse(mark) for mark in function.decorator_list]
            assert "pytestmark = pytest.mark.paper" in text or "pytest.mark.paper" in marks, test
