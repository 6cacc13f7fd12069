"""The documents: what they name exists, and what they say is still so."""

import ast
import json
import re
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

import minifcn
from minifcn.core import watch
from minifcn.experiments import EXPERIMENTS

ROOT = Path(__file__).parent.parent


def claims():
    """The rows of the claims table: claim, where, code, test, notebook."""
    return table("| claim ")


def table(head):
    """The rows of the table of docs/paper.md whose head starts so, as lists of cells."""
    _, _, after = (ROOT / "docs/paper.md").read_text(encoding="utf-8").partition("\n" + head)
    rows = after.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_no_cell_of_the_claims_table_is_empty_but_the_notebooks():
    rows = claims()
    assert len(rows) > 40
    assert all(len(row) == 5 and all(row[:4]) for row in rows)


def test_the_notebook_of_a_claim_exists_and_every_notebook_of_the_paper_has_one():
    named = {name for row in claims() for name in re.findall(r"`([^`]+)`", row[4])}
    there = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert len(there) == 17
    assert named <= there
    about_code = {"00_start_here", "01_tensors_and_backward", "15_cuda_kernel", "16_many_ranks"}
    assert there - named == about_code


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


def test_the_table_of_networks_is_what_the_networks_are():
    rows = {row[0].strip("`"): row[1:4] for row in table("| net ")}
    assert list(rows) == list(minifcn.models.MODELS)
    for name, (parameters, seen, crops) in rows.items():
        offsets = []

        def note(node, inputs, output, offsets=offsets):
            if type(node).__name__ == "Crop":
                offsets.append(str(node.offset[0]))

        with minifcn.shapes_only(), minifcn.no_grad(), watch(note):
            model = minifcn.models.build(name)
            shape = (1, model.trunk.in_channels, 500, 500)
            image = minifcn.Tensor(np.broadcast_to(np.float32(0), shape), name="image")
            sizes, _ = minifcn.geometry.fields_by_phase(model(image), image)
        assert f"{model.num_parameters():,}" == parameters, name
        assert " or ".join(map(str, sorted(set(sizes)))) == seen, name
        assert (", ".join(offsets) or "–") == crops, name


def test_the_page_of_benchmarks_shows_the_numbers_that_were_measured():
    """The committed results, printed by today's code, stand on the page; their picture is beside them."""
    from minifcn.bench.__main__ import line

    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "docs/benchmarks/bench.json").read_text(encoding="utf-8"))
    peak = results["machine"]["sgemm_gflops"]
    assert len(results["rows"]) > 40
    assert all(line(row, peak) in page for row in results["rows"])
    assert "(benchmarks/bench.png)" in page and (ROOT / "docs/benchmarks/bench.png").is_file()
    assert results["machine"]["blas"].split()[-1] in page and results["against"]["version"] in page


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_page_of_experiments_shows_the_numbers_that_were_measured(name):
    """The committed results, summed up by today's code, are what the page prints; their picture is beside them."""
    page = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / f"docs/experiments/{name}.json").read_text(encoding="utf-8"))
    assert all(line.strip() in page for line in EXPERIMENTS[name].summary(results))
    assert f"(experiments/{name}.png)" in page and (ROOT / f"docs/experiments/{name}.png").is_file()
    assert all(results["machine"][key] for key in ("processor", "cores", "numpy", "blas"))


def test_the_page_on_adding_an_operation_can_be_followed_to_the_letter(capsys):
    text = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 4
    exec(compile("\n".join(blocks), "operation.md", "exec"), {"__name__": "page"})
    assert "y = log(1 + e^x)" in capsys.readouterr().out


def test_the_first_lines_of_the_quick_start_give_what_they_say():
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    names = {}
    exec(compile(re.search(r"```python\n(.*?)```", text, re.S)[1], "start.md", "exec"), names)
    assert names["x"].grad[0, 0].tolist()[0] == [4, 6, 6, 4] and names["x"].grad[0, 0, 1, 1] == 9
