"""The plan of the house: imports go downwards, nothing heavy is imported early, files stay readable."""

import ast
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


def test_imports_go_downwards_only():
    linter = pytest.importorskip("importlinter.cli", reason="pip install 'minifcn[test]'")
    code = f"import sys; sys.exit({linter.__name__}.lint_imports(config_filename='setup.cfg', no_cache=True))"
    result = run(sys.executable, "-c", f"import {linter.__name__}; {code}", cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_import_goes_in_a_circle():
    grimp = pytest.importorskip("grimp", reason="pip install 'minifcn[test]'")
    graph = grimp.build_graph("minifcn", cache_dir=None)
    graph.remove_import(importer="minifcn.core", imported="minifcn.viz.tensors")  # inside _repr_html_
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    finished = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in finished:
            for other in imports[module]:
                visit(other, [*path, module])
            finished.add(module)

    for module in imports:
        visit(module, [])


def test_a_folder_of_the_same_name_does_not_hide_the_package(tmp_path):
    """Whoever starts Python or Jupyter in the folder that holds the clone has a folder ``minifcn`` there."""
    (tmp_path / "minifcn").mkdir()
    result = run(sys.executable, "-c", "import minifcn; print(minifcn.Tensor)", cwd=tmp_path)
    assert result.returncode == 0, f"{result.stderr} (an old installation? pip install -e . again)"


def test_operations_name_no_array_library():
    for path in sorted((PACKAGE / "ops").glob("*.py")):
        if path.name == "numpy_protocol.py":  # what NumPy's own functions do with a Tensor
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.split(".")[0] in ("numpy", "cupy")], f"{path.name} line {node.lineno}"


def test_cupy_is_named_in_its_room_only():
    for path in PACKAGE.rglob("*.py"):
        own_rooms = {"backend.py", "gpu", "cuda_on_cpu"}
        if not own_rooms & set(path.parts):
            assert not re.search(r"^\s*(import|from) cupy\b", path.read_text(), re.M), path


def test_no_file_is_too_long_to_be_one_idea():
    long = {str(p.relative_to(ROOT)): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 420}
    assert not long


def test_every_file_says_what_it_is_for_and_every_public_function_has_a_docstring():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        if path.parent.name == "kernels" and path.stem in ("textbook", "shapes"):
            continue  # the contract of a kernel stands once, in reference.py
        if path.parent.name in ("cpu", "gpu"):
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                documented = ast.get_docstring(node) or "formula" in ast.unparse(node) or node.name == "parser"
                assert documented, f"{path.name}: {node.name}"


def test_importing_is_quick_and_lazy():
    # beside NumPy's own, without which there is nothing: a slow machine is not our slowness
    code = """
import sys, time
start = time.process_time()
import numpy
its = time.process_time() - start
import minifcn
print((time.process_time() - start) / its, *sys.modules)
"""
    results = [run(sys.executable, "-c", code).stdout.split() for _ in range(3)]
    assert min(float(ratio) for ratio, *_ in results) < 4
    heavy = {"cupy", "mpi4py", "matplotlib", "IPython", "ipywidgets", "torch", "scipy", "importlinter"}
    assert not heavy & set(results[0][1:])


def test_nothing_runs_what_a_file_says():
    forbidden = {"eval", "exec", "compile", "os.system", "pickle.load", "pickle.loads"}
    for path in set(PACKAGE.rglob("*.py")) - {PACKAGE / "course" / "child.py"}:  # where a submission runs
        text = path.read_text()
        assert "allow_pickle=True" not in text and "shell=True" not in text, path
        for node in ast.walk(ast.parse(text)):
            assert not (isinstance(node, ast.Call) and ast.unparse(node.func) in forbidden), f"{path}: {node.lineno}"
