"""Cells of the notebooks that only draw are folded, and no other cell is.

A cell only draws if it makes a figure with matplotlib, asserts and prints nothing, calls only ``mf.viz`` of minifcn,
and defines nothing that a later cell uses.  JupyterLab reads ``jupyter.source_hidden``, the site ``hide-input``.
"""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
FOLDED = {"jupyter": {"source_hidden": True}, "tags": ["hide-input"]}


def parsed(cell):
    """The syntax tree of a code cell, without lines of IPython's own."""
    lines = "".join(cell["source"]).split("\n")
    return ast.parse("\n".join(line for line in lines if not line.startswith("%")))


def names(tree, kind):
    """The names that a cell reads (ast.Load) or binds (ast.Store)."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, kind)}
    if kind is ast.Store:
        found |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        found |= {
            a.asname or a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
        }
        found |= {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    return found


def used_later(name, later):
    """Whether a later cell reads what this cell bound to the name: it reads it before any cell binds it anew."""
    for tree in later:
        if name in names(tree, ast.Store):
            return False
        if name in names(tree, ast.Load):
            return True
    return False


def only_draws(tree, later):
    """Whether a cell makes a figure and nothing else that the reader or a later cell needs."""
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    draws = calls & {"plt.subplots", "plt.figure"}
    says = "print" in calls or any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    computes = any(call.startswith("mf.") and not call.startswith("mf.viz.") for call in calls)
    return (
        bool(draws)
        and not says
        and not computes
        and not any(used_later(name, later) for name in names(tree, ast.Store))
    )


def drawing_cells(notebook):
    """Each code cell of a notebook with whether it only draws."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    trees = [parsed(cell) for cell in cells]
    return [(cell, only_draws(tree, trees[n + 1 :])) for n, (cell, tree) in enumerate(zip(cells, trees))]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_exactly_the_cells_that_only_draw_are_folded(path):
    for cell, draws in drawing_cells(json.loads(path.read_text(encoding="utf-8"))):
        said = {key: cell["metadata"].get(key) for key in FOLDED}
        expected = FOLDED if draws else dict.fromkeys(FOLDED)
        first = "".join(cell["source"]).split("\n")[0]
        assert said == expected, f"{path.name}: the cell {first!r} {'only draws' if draws else 'must stay open'}"


def test_many_cells_are_folded_and_most_stay_open():
    cells = [draws for path in NOTEBOOKS for _, draws in drawing_cells(json.loads(path.read_text(encoding="utf-8")))]
    assert 15 <= sum(cells) <= len(cells) / 3


DRAW = "fig, ax = plt.subplots()\nax.plot(values)"


@pytest.mark.parametrize(
    ("code", "later", "draws"),
    [
        (DRAW, ["print(values)"], True),
        (DRAW, ["fig.savefig('x')"], False),  # a later cell needs the figure
        (DRAW, ["fig, ax = plt.subplots()"], True),  # made anew
        (DRAW + "\nassert values", [], False),
        (DRAW + "\nprint(1)", [], False),
        ("with mf.viz.styled():\n    fig, ax = plt.subplots()", [], True),
        ("values = mf.ops.relu(x)\n" + DRAW, [], False),
        ("values = f()\n" + DRAW, ["g(values)"], False),
        ("def draw(ax):\n    ax.plot(1)\n" + DRAW, ["draw(None)"], False),
        ("values = f()", [], False),
        ("import matplotlib.pyplot as plt\n" + DRAW, ["plt.show()"], False),
    ],
)
def test_the_rule(code, later, draws):
    assert only_draws(ast.parse(code), [ast.parse(text) for text in later]) == draws
