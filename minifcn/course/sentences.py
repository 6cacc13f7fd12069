"""The sentences of the grader's feedback, and their catalogues of translations.

The judge, the hidden tests and the confined process of a submission write English.  `say` translates a sentence where
it is shown.
"""

import ast
import re
from itertools import chain
from pathlib import Path

from ..io.catalogue import TWO_WORDS, update
from ..io.translation import ENDS, PLACE, teller

HERE = Path(__file__).parent
ASSIGNMENTS = HERE.parent.parent / "notebooks" / "assignments"
FOLDERS = (HERE, ASSIGNMENTS / "hidden")  # of the catalogues; the hidden tests are not in the package
say = teller(*FOLDERS)
# the files whose sentences a student reads
SOURCES = (
    "cells", "confine", "cuda", "differences", "draws", "feedback", "grading", "guard", "judge", "probes", "process",
    "submissions",
)  # fmt: skip


def catalogues(language):
    """The paths of the catalogues."""
    return [folder / f"{language}.po" for folder in FOLDERS]


def update_all(language):
    """Bring the catalogues up to date: for each, the texts without a translation."""
    return {path: update(path, english(path)) for path in catalogues(language)}


def english(catalogue):
    """The sentences that belong in one of the catalogues, in the order of the sources."""
    if catalogue.parent == HERE:
        files = [HERE / f"{name}.py" for name in SOURCES]
    else:
        files = sorted(catalogue.parent.glob("*.py"))
    found = [_Sentences(path).found for path in files]
    if catalogue.parent != HERE:
        headings = (re.findall(r"(?m)^# ## Task \S+: (.*?) \(", p.read_text(encoding="utf-8")) for p in _assignments())
        titles = (re.findall(r"(?m)^# # (.*)", p.read_text(encoding="utf-8"))[:1] for p in _assignments())
        found += [*headings, *titles]
    return list(dict.fromkeys(chain(*found)))


def _assignments():
    return sorted(ASSIGNMENTS.glob("a*.py"))


class Literals(ast.NodeVisitor):
    """Visits the code of a source, without docstrings, and keeps in ``found`` what a subclass finds."""

    def __init__(self, path):
        self.found = []
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_Expr(self, node):
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)


class _Sentences(Literals):
    """Finds the literals of a source that a student may read: those of several words, and names of checks and cases."""

    def visit_Assign(self, node):
        """``VALUES, ZERO = "values and gradients", "at zero"`` names checks, ``ORDINALS`` counts values."""
        targets = [name for target in node.targets for name in getattr(target, "elts", [target])]
        names = [getattr(target, "id", "") for target in targets]
        if isinstance(node.value, ast.Tuple) and (
            names == ["ORDINALS"] or (names[1:] and all(map(str.isupper, names)))
        ):
            for value in node.value.elts:
                self._find(value, "[A-Za-z]{2}|^0 or")
        self.generic_visit(node)

    def visit_Call(self, node):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in ("Case", "Check", "operation", "say") and node.args:
            self._find(getattr(getattr(node.args[0], "func", None), "value", node.args[0]), "[A-Za-z]{2}")
        if name in ("mistake", "instead"):
            self.visit(node.args[0])  # the others are code
        elif name != "attempt":  # a cheat
            self.generic_visit(node)

    def visit_keyword(self, node):
        if node.arg not in ("cheats", "styles"):  # no student reads their names
            self.visit(node.value)

    def visit_JoinedStr(self, node):
        self._find(node)

    def visit_Constant(self, node):
        self._find(node)

    def _find(self, node, words=rf"{TWO_WORDS}|^an? \S+$"):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else f"{{{ast.unparse(p.value)}}}" for p in node.values]
            text = "".join(parts)
        else:
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        text = text.strip(ENDS)
        if re.search(words, re.sub(PLACE, "…", text)) and not re.search(
            r"\n|<|^#|^max_pool|\bint \w+,|float\*|^extern", text
        ):
            self.found.append(text)
