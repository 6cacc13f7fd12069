"""The pages: code, tests and numbers that they mention exist, and their examples give the results that they state."""

import ast
import doctest
import importlib
import inspect
import json
import re
import runpy
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

import minifcn
from minifcn.engine.core import watch
from minifcn.experiments import EXPERIMENTS

ROOT = Path(__file__).parent.parent
PACKAGE = Path(minifcn.__file__).parent
EXPANDED = runpy.run_path(str(ROOT / "docs/conf.py"))["expanded"]
API = "\n".join(EXPANDED(path.read_text(encoding="utf-8")) for path in (ROOT / "docs/api").glob("*.rst"))
MODULES = re.findall(r"automodule:: (\S+)\n   :members:", API)  # shown whole
PACKAGES = ["minifcn", *(f"minifcn.{name}" for name in minifcn.__all__ if hasattr(getattr(minifcn, name), "__all__"))]
COUNTS = {path: len(re.findall(r"^ *>>> ", path.read_text(encoding="utf-8"), re.M)) for path in PACKAGE.rglob("*.py")}
EXAMPLES = {path: count for path, count in COUNTS.items() if count}


def claims():
    """The rows of the claims table: claim, source, code, test, notebook."""
    return table("| claim ")


def table(head):
    """The rows of the table in docs/paper.md whose first line starts with `head`, as lists of cells."""
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
    assert len(there) == 19
    assert named <= there
    about_code = {
        "00_start_here",
        "01_tensors_and_backward",
        "15_cuda_kernel",
        "16_many_ranks",
        "17_weights_of_others",
        "18_bug_dojo",
    }
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
    assert list(rows) == list(minifcn.models.MODELS), (
        "docs/paper.md: the table of networks must have one row for each net of minifcn/models/presets.py, in order"
    )
    for name, (parameters, seen, crops) in rows.items():
        offsets = []

        def note(node, inputs, output, offsets=offsets):
            if type(node).__name__ == "Crop":
                offsets.append(str(node.offset[0]))

        with minifcn.shapes_only(), minifcn.no_grad(), watch(note):
            model = minifcn.models.build(name).eval()
            shape = (1, model.trunk.in_channels, 500, 500)
            image = minifcn.Tensor(np.broadcast_to(np.float32(0), shape), name="image")
            sizes, _ = minifcn.geometry.fields_by_phase(model(image), image)
        assert f"{model.num_parameters():,}" == parameters, name
        assert " or ".join(map(str, sorted(set(sizes)))) == seen, name
        assert (", ".join(offsets) or "–") == crops, name


def test_the_page_of_benchmarks_shows_the_numbers_that_were_measured():
    """The page shows the committed results as the current code prints them, with their figure."""
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
    """The page shows the summary that the current code makes of the committed results, with their figure."""
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


def test_the_page_on_extending_can_be_followed_to_the_letter():
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 8
    exec(compile("\n".join(blocks), "extend.md", "exec"), {"__name__": "page"})


def test_the_first_lines_of_the_quick_start_give_what_they_say():
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    names = {}
    exec(compile(re.search(r"```python\n(.*?)```", text, re.S)[1], "start.md", "exec"), names)
    assert names["x"].grad[0, 0].tolist()[0] == [4, 6, 6, 4] and names["x"].grad[0, 0, 1, 1] == 9


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_the_examples_in_the_docstrings_give_what_they_say(path):
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted == EXAMPLES[path] and not result.failed


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_on_a_page_of_the_reference(package):
    """Listed under the name that a user types, or in a module whose members are all shown."""
    module = importlib.import_module(package)
    for name in module.__all__:
        public = getattr(module, name)
        if inspect.isfunction(public) or inspect.isclass(public):
            listed = re.search(rf":: {re.escape(f'{package}.{name}')}$", API, re.M)
            file = public.__module__
            assert listed or file in MODULES, (
                f"no page of docs/api shows {package}.{name}: add to one the line `.. public:: {file}` for all that "
                f"{package} exports of that file, or `.. auto{'class' if inspect.isclass(public) else 'function'}:: "
                f"{package}.{name}`"
            )


def shown():
    """(name, function or class) of everything on the pages of the reference."""
    for name in MODULES:
        for key, value in vars(importlib.import_module(name)).items():
            if not key.startswith("_") and getattr(value, "__module__", None) == name:
                yield f"{name}.{key}", value
    for name in re.findall(r"auto(?:class|function|exception):: (\S+)", API):
        module, _, key = name.rpartition(".")
        yield name, getattr(importlib.import_module(module), key)


def test_what_the_reference_shows_says_what_it_does_and_what_it_takes():
    """A function with several paragraphs lists its parameters; every method of a class is documented."""
    names = dict(shown())
    assert len(names) > 250
    for name, public in names.items():
        if ".kernels.shapes." in name:
            continue  # reference.py documents the contract of each kernel
        text = inspect.getdoc(public)
        assert text or hasattr(public, "formula"), f"{name}: write a docstring"
        if inspect.isfunction(public) and inspect.signature(public).parameters and ".kernels.reference." not in name:
            section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n---|\Z)", text, re.M | re.S)
            assert section or "\n\n" not in text, f"{name}: its docstring lacks the section Parameters"
            named = re.findall(r"\w+", " ".join(re.findall(r"^\S[^:\n]*", section[1], re.M))) if section else ()
            lacking = set(inspect.signature(public).parameters) - set(named)
            assert not section or not lacking, f"{name}: the section Parameters lacks {', '.join(sorted(lacking))}"
        for key, member in vars(public).items() if inspect.isclass(public) else ():
            if not key.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                documented = inspect.getdoc(getattr(public, key)) or re.search(rf"\b{key}\b", text or "")
                assert documented or hasattr(public, "formula"), f"{name}.{key}: write a docstring"


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "docs").glob("*.md")], ids=lambda page: page.stem)
def test_the_code_on_a_page_is_python_and_what_it_names_exists(page):
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        ast.parse(block)
    for name in re.findall(r"\bmf\.([\w.]*\w)", text):
        assert reduce(getattr, name.split("."), minifcn), name
