"""The structure of the package: imports go downwards, heavy packages are imported late, files are short."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minifcn

PACKAGE = Path(minifcn.__file__).parent
ROOT = PACKAGE.parent


def run(*args, **options):
    return subprocess.run(args, capture_output=True, text=True, timeout=120, **options)


def floors():
    """The floors of setup.cfg, from the top down: a list of sets of names."""
    contract = (ROOT / "setup.cfg").read_text(encoding="utf-8").partition("layers =\n")[2]
    lines = contract.split("\n\n")[0].splitlines()
    return [set(re.findall(r"\w+", line)) for line in lines]


def test_imports_go_downwards_only():
    linter = pytest.importorskip("importlinter.cli", reason="pip install 'minifcn[test]'")
    code = f"import sys; sys.exit({linter.__name__}.lint_imports(config_filename='setup.cfg', no_cache=True))"
    result = run(sys.executable, "-c", f"import {linter.__name__}; {code}", cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_page_of_the_design_shows_the_floors():
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    drawn = [
        set(line.split("   ")[0].split())
        for line in page.split("```")[1].strip("\n").replace("\n  ", "\n").strip().splitlines()
    ]
    assert drawn == floors()


def test_there_are_fifteen_folders_and_beside_them_thin_commands():
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    files = {p.stem: len(p.read_text(encoding="utf-8").splitlines()) for p in PACKAGE.glob("*.py")}
    assert len(folders) <= 15
    assert folders | files.keys() - {"__init__"} == set.union(*floors())
    assert not {name: n for name, n in files.items() if n > 80 and name != "errors"}


def folder_imports():
    """{folder or file of the package: the other folders and files that it imports from}."""
    grimp = pytest.importorskip("grimp", reason="pip install 'minifcn[test]'")
    graph = grimp.build_graph("minifcn", cache_dir=None)
    found = {}
    for module in graph.modules - {"minifcn"}:
        room = module.split(".")[1]
        others = {m.split(".")[1] for m in graph.find_modules_directly_imported_by(module) if m != "minifcn"}
        found.setdefault(room, set()).update(others - {room})
    return found


def circles(imports):
    """One circle of a graph {node: what it points to}, as a list; empty if there is none."""
    finished = set()

    def visit(node, path):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in finished:
            return []
        finished.add(node)
        return next(filter(None, (visit(other, [*path, node]) for other in sorted(imports[node]))), [])

    return next(filter(None, (visit(node, []) for node in sorted(imports))), [])


def test_no_import_goes_in_a_circle():
    grimp = pytest.importorskip("grimp", reason="pip install 'minifcn[test]'")
    graph = grimp.build_graph("minifcn", cache_dir=None)
    assert not circles({m: graph.find_modules_directly_imported_by(m) for m in graph.modules})
    assert not circles(folder_imports())
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_a_folder_of_the_same_name_does_not_hide_the_package(tmp_path):
    """Python or Jupyter started in the parent folder of the clone finds a folder ``minifcn``, which is no package."""
    (tmp_path / "minifcn").mkdir()
    result = run(sys.executable, "-c", "import minifcn; print(minifcn.Tensor)", cwd=tmp_path)
    assert result.returncode == 0, f"{result.stderr} (an old installation? pip install -e . again)"


def test_operations_name_no_array_library():
    for path in sorted((PACKAGE / "ops").glob("*.py")):
        if path.name == "numpy_protocol.py":  # it defines what NumPy's functions do with a Tensor
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.split(".")[0] in ("numpy", "cupy")], f"{path.name} line {node.lineno}"


def test_cupy_is_named_in_its_room_only():
    for path in PACKAGE.rglob("*.py"):
        allowed = {"backend.py", "gpu", "cuda_on_cpu"}
        if not allowed & set(path.parts):
            assert not re.search(r"^\s*(import|from) cupy\b", path.read_text(), re.M), path


def test_no_file_is_too_long_to_be_one_idea():
    long = {str(p.relative_to(ROOT)): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 420}
    assert not long


def test_every_file_says_what_it_is_for_and_every_public_function_has_a_docstring():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path.relative_to(ROOT)}: write a docstring that says what the file is for"
        if path.parent.name == "kernels" and path.stem in ("textbook", "shapes"):
            continue  # reference.py documents the contract of each kernel
        if path.parent.name in ("cpu", "conv", "compiled", "gpu"):
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                documented = ast.get_docstring(node) or "formula" in ast.unparse(node) or node.name == "parser"
                assert documented, f"{path.relative_to(ROOT)}: write a docstring for {node.name}"


def test_importing_is_quick_and_lazy(tmp_path):
    # Compared with the import of NumPy, because machines differ; the first run compiles the files and is not counted.
    code = """
import sys, time
start = time.process_time()
import numpy
its = time.process_time() - start
import minifcn
print((time.process_time() - start) / its, *sys.modules)"""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    results = [run(sys.executable, "-c", code, env=environment).stdout.split() for _ in range(4)][1:]
    assert min(float(ratio) for ratio, *_ in results) < 3
    heavy = {"cupy", "mpi4py", "matplotlib", "numba", "IPython", "anywidget", "torch", "scipy", "importlinter"}
    assert not heavy & set(results[0][1:])


def test_nothing_runs_what_a_file_says():
    forbidden = {"eval", "exec", "compile", "os.system", "pickle.load", "pickle.loads"}
    for path in set(PACKAGE.rglob("*.py")) - {PACKAGE / "course" / "child.py"}:  # child.py must run submissions
        text = path.read_text()
        assert "allow_pickle=True" not in text and "shell=True" not in text, path
        for node in ast.walk(ast.parse(text)):
            assert not (isinstance(node, ast.Call) and ast.unparse(node.func) in forbidden), f"{path}: {node.lineno}"


def test_an_import_in_the_folder_above_the_clone_loads_the_package_or_says_that_there_is_none(tmp_path):
    clone, place = tmp_path / "minifcn", tmp_path / "site packages" / "minifcn"
    clone.mkdir()
    place.mkdir(parents=True)
    (clone / "__init__.py").write_text((ROOT / "__init__.py").read_text(encoding="utf-8"), encoding="utf-8")
    (place / "__init__.py").write_text("answer = 42")
    (place / "grade.py").write_text("from minifcn import answer\n\nprint(answer)")
    without_packages = [sys.executable, "-S"]  # not those of this environment
    for program in (["-c", "import minifcn; print(minifcn.answer)"], ["-m", "minifcn.grade"]):
        alone = run(*without_packages, *program, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""})
        assert f"minifcn is not installed in this Python: run `pip install -e {clone}`" in alone.stderr
        found = run(*without_packages, *program, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(place.parent)})
        assert found.stdout == "42\n", found.stderr
