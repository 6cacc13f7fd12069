"""Every notebook is committed without outputs, and runs from top to bottom in less than a minute; so do its answers.

The worked answers of the exercises run after the last cell, in the notebook's own kernel, because they use its names.
With ``MINIFCN_EXECUTED=DIR`` the executed notebooks are saved there, without the answers, for the documentation.
"""

import os
import time
from pathlib import Path

import pytest
from exercises import answers

pytestmark = pytest.mark.notebooks
FOLDER = Path(__file__).parent.parent / "notebooks"
KOREAN = [pytest.param(path, marks=pytest.mark.korean) for path in sorted(FOLDER.glob("ko/*.ipynb"))]
NOTEBOOKS = [*sorted(FOLDER.glob("*.ipynb")), *KOREAN]
LIMIT = 60  # seconds of one notebook, and of its answers


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(FOLDER).with_suffix("").as_posix())
def test_runs_from_top_to_bottom(path, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    written = len(notebook.cells)
    for number, code in answers(path).items() if path.parent == FOLDER else ():  # translated answers are the same code
        notebook.cells.append(nbformat.v4.new_code_cell(f"# the answer of {number}\n{code}"))
    starts = [time.monotonic()]
    NotebookClient(
        notebook, timeout=2 * LIMIT, kernel_name="python3", resources={"metadata": {"path": tmp_path}},
        on_cell_start=lambda cell, cell_index: starts.append(time.monotonic()),
    ).execute()  # fmt: skip
    starts.append(time.monotonic())  # the end: without answers, that of the notebook itself
    begun, middle, done = starts[0], starts[written + 1], starts[-1]
    said = [
        o
        for cell in notebook.cells
        for o in cell.get("outputs", [])
        if o.output_type == "stream" and o.name == "stderr"
    ]
    assert not said, "".join(o.text for o in said)
    assert middle - begun < LIMIT and done - middle < LIMIT, (middle - begun, done - middle)
    del notebook.cells[written:]
    if kept := os.environ.get("MINIFCN_EXECUTED"):
        executed = Path(kept, path.relative_to(FOLDER))
        executed.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, executed)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(FOLDER).with_suffix("").as_posix())
def test_is_committed_as_its_reader_should_find_it(path):
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    text = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert text[0].startswith("# "), "it opens with its title"
    assert any(cell.startswith(("## Exercises", "## 연습 문제")) for cell in text), "it ends with exercises"
    assert any("assert" in cell.source for cell in code), "it checks what it says"
    assert notebook.metadata.kernelspec.name == "python3"
