"""Type hints: the public names have them, and mypy accepts the package and a user's program."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import typed_program

import minifcn as mf

ROOT = Path(mf.__file__).parents[1]
SPECIAL = {"__init__", "__call__", "__len__", "__getitem__", "__iter__", "__add__", "__matmul__", "__repr__"}
WITHOUT = set()  # names that have no hints yet
BESIDE = ("training", "training.loop", "training.evaluation", "training.callbacks", "engine.trace", "data.protocol")
"""Modules that ``mf.__all__`` does not lead to, and whose functions and classes users meet."""

WRONG = """
import numpy as np
import minifcn as mf
from minifcn.engine.core import Function
t = mf.Tensor([1.0])
t + "text"  # wrong
t[0] = 2  # wrong
t.sizes  # wrong
mf.ops.conv2d(t, t, stride="2")  # wrong
mf.ops.relu()  # wrong
t.backward(1.0)  # wrong
image: np.ndarray = mf.ops.relu(t)  # wrong
mf.nn.Conv2d(3, 4, 3, stirde=1)  # wrong
mf.optim.SGD([1.0], 0.1)  # wrong
mf.fit(mf.nn.ReLU(), [1, 2, 3])  # wrong
mf.fit(mf.nn.ReLU(), mf.data.Shapes(), loss="dice")  # wrong
mf.metrics.ConfusionMatrix("2")  # wrong
class Loss(mf.losses.Loss):
    def __call__(self, scores: mf.Tensor) -> mf.Tensor:  # wrong
        return scores
class Operation(Function):
    def backward(self, gy: mf.Tensor) -> str:  # wrong
        return "gradient"
"""


def public_names():
    """{dotted name: public object} of all that ``__all__`` makes reachable, and of the modules in `BESIDE`."""
    found, waiting = {}, {"mf": mf} | {f"mf.{name}": import_module(f"minifcn.{name}") for name in BESIDE}
    while waiting:
        path, module = waiting.popitem()
        names = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
        for name in names:
            value = getattr(module, name)
            if isinstance(value, ModuleType):
                waiting[f"{path}.{name}"] = value
            else:
                found[f"{path}.{name}"] = value
    return found


def functions_of(path, value):
    """(dotted name, function) of a function, or of each method of a class."""
    if inspect.isfunction(value):
        yield path, value
    if not inspect.isclass(value):
        return
    for cls in value.__mro__:
        if not cls.__module__.startswith("minifcn."):
            continue
        for name, member in list(vars(cls).items()):
            member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            member = member.fget if isinstance(member, property) else getattr(member, "func", member)
            public = name in SPECIAL or not name.startswith("_")
            declared = name in inspect.get_annotations(cls) or (cls is mf.Tensor and name in attached())
            if inspect.isfunction(member) and public and not declared and written_here(member):
                yield f"{path}.{name}", member


def written_here(function):
    """Whether a function is defined in a file of the package; the methods that ``dataclass`` makes are not."""
    return Path(inspect.unwrap(function).__code__.co_filename).is_relative_to(ROOT / "minifcn")


def without_hints(function):
    """The parameters that have no annotation, and "return"."""
    signature = inspect.signature(function)
    first = next(iter(signature.parameters), "")
    missing = [
        p.name
        for p in signature.parameters.values()
        if p.annotation is p.empty and not (p.name == first and first in ("self", "cls"))
    ]
    return missing + ["return"] * (signature.return_annotation is signature.empty)


def attached():
    """The names of the methods in ``engine/operators.pyi``."""
    tree = ast.parse((ROOT / "minifcn/engine/operators.pyi").read_text(encoding="utf-8"))
    (declared,) = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    functions = [node for node in declared.body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        hints = [a.annotation for a in (*function.args.args[1:], function.args.vararg, function.args.kwarg) if a]
        assert function.returns and all(hints), function.name
    return {function.name for function in functions}


def test_every_public_function_and_method_has_hints():
    missing = {}
    for path, value in public_names().items():
        for name, function in functions_of(path, value):
            if hints := without_hints(function):
                missing[name] = hints
    lacking = {name: hints for name, hints in missing.items() if name not in WITHOUT}
    assert not lacking, f"give type hints to these parameters, and to what is returned: {lacking}"


def test_the_methods_that_are_attached_to_tensor_are_declared():
    in_core = ast.parse((ROOT / "minifcn/engine/core.py").read_text(encoding="utf-8"))
    (tensor,) = [node for node in in_core.body if isinstance(node, ast.ClassDef) and node.name == "Tensor"]
    in_source = {node.name for node in tensor.body if isinstance(node, ast.FunctionDef)}
    refusals = {"__setitem__", "__getattr__"}  # a type checker refuses what they refuse
    there = {name for name, value in vars(mf.Tensor).items() if callable(value) or isinstance(value, property)}
    slots, hidden = set(mf.Tensor.__slots__), {"__array__"}  # hidden: see operators.pyi
    assert there - in_source - slots - refusals - hidden - set(mf.Tensor.__annotations__) == attached()


def test_the_typed_program_runs(capsys):
    typed_program.main()
    assert re.fullmatch(r"\d+\.\d%\n", capsys.readouterr().out)


def test_mypy_accepts_the_package_and_a_typed_program_and_refuses_a_wrong_one(tmp_path):
    pytest.importorskip("mypy", reason="pip install mypy")
    wrong = tmp_path / "wrong_program.py"
    wrong.write_text(WRONG, encoding="utf-8")
    options = ["--config-file", "setup.cfg", "--cache-dir", tmp_path / "cache", "--no-error-summary"]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "minifcn", "tests/typed_program.py", wrong],
        capture_output=True, text=True, timeout=300, cwd=ROOT,
    )  # fmt: skip
    assert not result.stderr
    found = [re.match(r"(.+?):(\d+): error: (.*)", line) for line in result.stdout.splitlines()]
    found = [match for match in found if match]
    elsewhere = [match[0] for match in found if Path(match[1]).name != wrong.name]
    assert not elsewhere
    expected = {k for k, line in enumerate(WRONG.splitlines(), start=1) if line.endswith("# wrong")}
    assert {int(match[2]) for match in found} == expected, result.stdout
