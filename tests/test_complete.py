"""Nothing is half there: what every operation, kernel, loss, data set and trunk must have, whoever adds one.

A test here takes its cases from the library's own tables, so a new member is checked as soon as it is entered, and the
message says which piece it lacks.
"""

import re
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from definitions import definitions
from mutants import MUTANTS
from test_gradients import LABELS, OPERATIONS
from tiny_run import write_scenes

import minifcn as mf
from minifcn import data, models
from minifcn.engine.core import watch
from minifcn.kernels.registry import KERNELS

DEFINITIONS = definitions(LABELS)
TESTS = Path(__file__).parent


def kinds(cls):
    return {cls}.union(*map(kinds, cls.__subclasses__()))


def test_every_operation_says_its_formula():
    own = {f for f in kinds(mf.Function) if f.__module__.startswith("minifcn.ops") and "forward" in vars(f)}
    assert not {f.__name__ for f in own if not f.formula}, "give the operation a formula"


ROOTS = {"folder": lambda path: write_scenes(path / "scenes")}
"""For each data set that reads a folder: a function that makes such a folder."""


def operations():
    """The names of the operations of the library: the Functions of ``ops`` that have a formula."""
    return {f.__name__ for f in kinds(mf.Function) if f.__module__.startswith("minifcn.ops") and f.formula}


def used_by(name):
    """The operations that run in a line of OPERATIONS."""
    fn, *arrays = OPERATIONS[name]
    seen = set()
    with watch(lambda node, inputs, output: seen.add(type(node).__name__)):
        fn(*map(mf.Tensor, arrays))
    return seen


def test_every_operation_has_a_gradient_test_a_definition_and_a_sabotaged_version():
    checked = {name: used_by(name) for name in OPERATIONS}
    with_gradient = set.union(*checked.values())
    with_definition = set.union(*(seen for name, seen in checked.items() if name in DEFINITIONS))
    sabotaged = {m.op.__name__ for m in MUTANTS}
    lacking = {
        "a line in OPERATIONS of tests/test_gradients.py": operations() - with_gradient,
        "a line in definitions() of tests/definitions.py": operations() - with_definition,
        "a sabotaged version in tests/mutants.py": operations() - sabotaged,
    }
    assert not {what: names for what, names in lacking.items() if names}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_value_is_the_definitions(name):
    fn, *arrays = OPERATIONS[name]
    assert name in DEFINITIONS, f"definitions() of tests/definitions.py has no {name!r}"
    got = fn(*map(mf.Tensor, arrays)).numpy()
    expected = DEFINITIONS[name](*arrays)
    assert got.shape == np.shape(expected)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_every_kernel_is_compared_with_its_loops():
    text = "".join((TESTS / file).read_text(encoding="utf-8") for file in ("test_kernels.py", "test_ranks.py"))
    assert not {name for name in KERNELS if not re.search(rf"\b{name.removesuffix('_grad')}\b", text)}


@pytest.mark.parametrize("name", models.TRUNKS)
def test_every_trunk_carries_an_fcn(name):
    """At its finest stride: scores for every pixel of an odd size, a gradient in every layer, a way back from disk."""
    with mf.shapes_only():
        trunk = models.build_trunk(name, width=0.1)
    model = models.fcn(
        name, stride=8 if 8 in trunk.taps else max(trunk.taps), num_classes=3, width=0.1, image_size=(67, 75)
    ).eval()
    image = mf.Tensor(np.random.default_rng(0).standard_normal((1, trunk.in_channels, 67, 75)).astype(np.float32))
    for p in model.parameters():
        p.data = np.random.default_rng(p.size).standard_normal(p.shape).astype(np.float32) * 0.1
    scores = model(image)
    assert scores.shape == (1, 3, 67, 75)
    mf.ops.cross_entropy(scores, np.zeros((1, 67, 75), int)).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert mf.geometry.receptive_field(scores, image).size[0] > 1


@pytest.mark.earth
@pytest.mark.parametrize("name", data.DATASETS)
def test_every_data_set_keeps_the_contract(name, tmp_path):
    reads_a_folder = "root" in signature(data.DATASETS[name]).parameters
    assert reads_a_folder == (name in ROOTS), f"enter {name!r} in ROOTS of tests/test_complete.py"
    root = ROOTS[name](tmp_path) if reads_a_folder else None
    splits = {split: data.open_dataset(name, split, root) for split in ("train", "val")}
    for d in splits.values():
        image, label = d[len(d) - 1]
        assert image.dtype == label.dtype == np.uint8 and image.shape == (*label.shape, 3)
        assert set(np.unique(label)) <= {*range(d.num_classes), 255}
        assert len(d.classes) == len(d.palette) == d.num_classes
        assert np.asarray(d.palette).shape == (d.num_classes, 3)
        if hasattr(d, "sizes"):
            assert tuple(d.sizes[len(d) - 1]) == label.shape
    assert splits["train"].classes == splits["val"].classes
    names = [set(d.manifest()) for d in splits.values() if hasattr(d, "manifest")]
    assert len(names) < 2 or not names[0] & names[1], "a sample is in both splits"


def test_everything_has_a_page():
    pages = "\n".join(p.read_text(encoding="utf-8") for p in (TESTS.parent / "docs").glob("**/*.*st"))
    assert not [
        name for name in data.DATASETS if name not in (TESTS.parent / "docs/data.md").read_text("utf-8").lower()
    ]
    assert not [loss for loss in mf.losses.LOSSES if f"losses.{loss}" not in pages]
