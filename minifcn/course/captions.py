"""The texts of the library's figures and widgets, and their catalogue of translations, ``viz/ko.po``."""

import ast
import re
from itertools import chain
from pathlib import Path

from ..io.catalogue import TWO_WORDS, update
from ..io.translation import ENDS, PLACE
from ..viz.language import WORDS
from .sentences import Literals

PACKAGE = Path(__file__).parent.parent
# the files whose texts the translated notebooks show; the last two have the reasons why maps are impossible
SOURCES = (
    "viz/arrays", "viz/coarse_explorer", "viz/connected_explorer", "viz/convolution", "viz/explorers", "viz/figures",
    "viz/graph_stepper", "viz/loss_explorer", "viz/patch_explorer", "viz/playground",
    "geometry/crops", "kernels/shapes",
)  # fmt: skip
NOT_SHOWN = ("add_axes", "set_label", "add_patch", "dict")  # calls whose literals are keys
LABELS = ("label", "title", "xlabel", "ylabel")  # parameters that are shown
SETTINGS = ("axes fraction", "offset points")


def catalogue(language):
    """The path of the catalogue."""
    return PACKAGE / "viz" / f"{language}.po"


def update_all(language):
    """Bring the catalogue up to date: the texts without a translation, by its path."""
    return {catalogue(language): update(catalogue(language), english())}


def english():
    """The texts that belong in the catalogue, in the order of the sources, and then single words."""
    return list(dict.fromkeys([*chain(*(_Texts(PACKAGE / f"{source}.py").found for source in SOURCES)), *WORDS]))


class _Texts(Literals):
    """Finds the literals of a source that a figure or a widget shows: texts of several words, and f-strings."""

    def visit_Raise(self, node):
        if getattr(getattr(node.exc, "func", None), "id", "") == "GeometryError":
            self.generic_visit(node)

    def visit_Call(self, node):
        if getattr(node.func, "attr", getattr(node.func, "id", "")) not in NOT_SHOWN:
            self.generic_visit(node)

    def visit_keyword(self, node):
        if node.arg in LABELS or not isinstance(node.value, ast.Constant):  # no setting, such as loc="upper left"
            self.visit(node.value)

    def visit_JoinedStr(self, node):
        parts = [p.value if isinstance(p, ast.Constant) else f"{{{ast.unparse(p.value)}}}" for p in node.values]
        self._find("".join(parts), "[A-Za-z]{3}")

    def visit_Constant(self, node):
        if isinstance(node.value, str) and node.value not in SETTINGS:
            self._find(node.value, TWO_WORDS)

    def _find(self, text, words):
        text = text.strip(ENDS)
        if re.search(words, re.sub(PLACE, "…", text)):
            self.found.append(text)
