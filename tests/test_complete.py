"""Nothing is half there: what every operation, layer, kernel, loss, data set and trunk must have, whoever adds one.

A test here takes its cases from the library's own tables and files, so a new member is checked as soon as it is
written, and the message says which piece it lacks, and in which file to write it.
"""

import inspect
import re
import sys
from importlib import import_module
from itertools import product
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pytest
from layout_folders import CASES, FOLDERS
from mutants import MUTANTS
from operations import OPERATIONS
from test_layers import LAYERS
from test_losses import VALUES
from tiny_run import write_scenes

import minifcn as mf
from minifcn import data, models, ops
from minifcn.data.views import View
from minifcn.engine.core import watch
from minifcn.errors import GeometryError
from minifcn.kernels.registry import KERNELS
from minifcn.nn.losses import LOSSES
from minifcn.ops.norm import BatchNorm2d

TESTS = Path(__file__).parent

ROOTS = {"folder": lambda path: write_scenes(path / "scenes"), **FOLDERS}
"""For each data set that reads a folder: a function that makes such a folder."""


def defined_in(package):
    """The public functions and classes in the files of a package, also in files that its __init__ does not import."""
    for file in iter_modules(package.__path__, package.__name__ + "."):
        for name, value in vars(import_module(file.name)).items():
            if not name.startswith("_") and getattr(value, "__module__", None) == file.name:
                yield value


def classes_in(package, base):
    return [c for c in defined_in(package) if inspect.isclass(c) and issubclass(c, base)]


def file_of(value):
    return value.__module__.replace(".", "/") + ".py"


def require(lacking):
    """Fail with the sentences that say what is lacking."""
    if lacking := list(lacking):
        pytest.fail("\n".join(lacking), pytrace=False)


# Operations.


def operations():
    """The operations of the library: the Functions of ``ops`` that have a formula."""
    return [f for f in classes_in(ops, mf.Function) if f.formula]


def test_every_operation_says_its_formula():
    own = [f for f in classes_in(ops, mf.Function) if "forward" in vars(f)]
    require(f"{file_of(f)}: give the operation {f.__name__} a formula" for f in own if not f.formula)


def test_every_operation_is_exported():
    """A function of ``ops`` that applies an operation, or says that it returns a Tensor."""
    found = [f for f in defined_in(ops) if inspect.isfunction(f)]
    found = [f for f in found if "apply" in f.__code__.co_names or f.__annotations__.get("return") is mf.Tensor]
    require(
        f"minifcn/ops/__init__.py: import {f.__name__} of {file_of(f)}, and enter it in __all__"
        for f in found
        if f.__name__ not in ops.__all__ or getattr(ops, f.__name__, None) is not f
    )


def used_by(operation):
    """The classes of the operations, and the code of all functions, that run in the call of an entry of OPERATIONS."""
    classes, codes = set(), set()
    tensors = [*map(mf.Tensor, operation.arrays)]
    sys.setprofile(lambda frame, event, arg: codes.add(frame.f_code))
    try:
        with watch(lambda node, inputs, output: classes.add(type(node))):
            operation.fn(*tensors)
    finally:
        sys.setprofile(None)
    return classes, codes


def test_every_operation_has_an_entry_with_its_definition_and_a_sabotaged_version():
    classes, codes = (set().union(*those) for those in zip(*map(used_by, OPERATIONS.values())))
    sabotaged = {m.op.__name__ for m in MUTANTS} | {o.sabotaged.__name__ for o in OPERATIONS.values() if o.sabotaged}
    there = "tests/operations.py: enter in OPERATIONS"
    require(
        [f"{there} a call that runs {f.__name__} of {file_of(f)}" for f in operations() if f not in classes]
        + [
            f"{there} a call of ops.{name}"
            for name in ops.__all__
            if getattr(getattr(ops, name, None), "__code__", None) not in codes
        ]
        + [
            f"tests/operations.py: the entry of {f.__name__} lacks a wrong version that the checks must catch, such as "
            f"sabotaged=wrong({f.__name__}, backward=lambda self, gy: gy)"
            for f in operations()
            if f.__name__ not in sabotaged
        ]
    )


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_value_is_the_definitions(name):
    OPERATIONS[name].check_value()


def claimed(y, x):
    """{unit of y: the region of x that it sees, by geometry}; empty if y claims no position on x."""
    try:
        return {unit: mf.geometry.region(y, x, unit) for unit in np.ndindex(*y.shape[2:])}
    except GeometryError:
        return {}


def unseen(operation):
    """Whether the output has a position on an input; and a wrong pair (cell of an input, unit of the output), or None.

    Of a wrong pair, the unit changes with the cell, though geometry says that it does not see the cell.
    """
    tensors = [mf.Tensor(a) for a in operation.arrays]
    for x in tensors:
        if x.ndim == 4:
            x.mark()
    y = operation.fn(*tensors)
    placed = False
    for k, x in enumerate(tensors):
        regions = claimed(y, x) if x.ndim == y.ndim == 4 and x._root in y.where else {}
        placed |= bool(regions)
        for row, column in product(*map(range, x.shape[2:])) if regions else ():
            arrays = [a.copy() for a in operation.arrays]
            arrays[k][:, :, row, column] *= 1.5
            changed = (operation.fn(*map(mf.Tensor, arrays)).numpy() != y.numpy()).any(axis=(0, 1))
            for unit in map(tuple, np.argwhere(changed).tolist()):
                r = regions[unit]
                if not (r.top <= row < r.bottom and r.left <= column < r.right):
                    return placed, ((row, column), unit)
    return placed, None


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_output_depends_only_on_the_cells_that_it_says_it_sees(name):
    _, found = unseen(OPERATIONS[name])
    places = {f"{f.__name__} of {file_of(f)}" for f in used_by(OPERATIONS[name])[0]}
    assert not found, (
        f"{name!r} of tests/operations.py: unit {found[1]} of the output changes with cell {found[0]} of an input, but "
        f"does not see it according to keeps_place, pointwise or locate of {' or '.join(sorted(places))}"
    )


def test_every_operation_that_claims_a_place_has_an_entry_with_maps():
    by_maps = set().union(*(used_by(o)[0] for o in OPERATIONS.values() if unseen(o)[0]))
    require(
        f"tests/operations.py: {f.__name__} has keeps_place or pointwise; give it an entry with an input (N, C, H, W)"
        for f in operations()
        if (f.keeps_place or f.pointwise) and f not in by_maps
    )


def test_a_wrong_place_is_found(monkeypatch):
    assert unseen(OPERATIONS["batch norm"]) == (False, None)
    monkeypatch.setattr(BatchNorm2d, "locate", mf.Function.locate)
    monkeypatch.setattr(BatchNorm2d, "keeps_place", True)
    placed, found = unseen(OPERATIONS["batch norm"])
    assert placed and found[0] != found[1]


# Kernels and layers.


def test_every_kernel_is_compared_with_its_loops():
    text = "".join((TESTS / file).read_text(encoding="utf-8") for file in ("test_kernels.py", "test_ranks.py"))
    require(
        f"tests/test_kernels.py: compare the kernel {name} with its loops"
        for name in KERNELS
        if not re.search(rf"\b{name.removesuffix('_grad')}\b", text)
    )


def test_every_layer_is_exported():
    require(
        f"minifcn/nn/__init__.py: import {m.__name__} of {file_of(m)}, and enter it in __all__"
        for m in classes_in(mf.nn, mf.nn.Module)
        if m.__name__ not in mf.nn.__all__ or getattr(mf.nn, m.__name__, None) is not m
    )


def test_every_layer_has_an_entry():
    layers = [m for m in classes_in(mf.nn, mf.nn.Module) if m.__module__ != mf.nn.Module.__module__]
    require(
        f"tests/test_layers.py: enter {layer.__name__} of {file_of(layer)} in LAYERS"
        for layer in layers
        if layer.__name__ not in LAYERS or type(LAYERS[layer.__name__].make()) is not layer
    )


# Losses.


def test_every_loss_is_in_the_table_and_has_a_value():
    own = [c for c in classes_in(mf.losses, mf.losses.Loss) if c is not mf.losses.Loss]
    table = "minifcn/nn/losses/__init__.py"
    require(
        [f"{table}: enter {c.__name__} of {file_of(c)} in LOSSES" for c in own if c not in LOSSES.values()]
        + [f"{table}: enter {c.__name__} in __all__" for c in own if c.__name__ not in mf.losses.__all__]
        + [f"{file_of(c)}: give the loss {c.__name__} a name" for c in own if not c.name]
        + [f"{file_of(c)}: give the loss {c.__name__} a formula" for c in own if not c.formula]
        + [f"tests/test_losses.py: enter the value of {name!r} in VALUES" for name in LOSSES if name not in VALUES]
    )


# Data sets.


def test_every_data_set_is_in_the_table():
    """A class with samples is a data set; but MNIST, with one label for a whole image, is for classifiers."""
    found = [c for c in defined_in(data) if hasattr(c, "__len__") and hasattr(c, "__getitem__")]
    made_from_others = (data.DataSet.__module__, View.__module__)  # the protocols, and views of a data set
    found = [c for c in found if c.__module__ not in made_from_others]
    require(
        f"minifcn/data/__init__.py: enter {c.__name__} of {file_of(c)} in DATASETS"
        for c in found
        if c not in (*data.DATASETS.values(), data.MNIST)
    )


@pytest.mark.earth
@pytest.mark.parametrize("name", [name for name in data.DATASETS if name not in FOLDERS] + CASES)
def test_every_data_set_keeps_the_contract(name, tmp_path):
    reads_a_folder = "root" in inspect.signature(data.DATASETS[name]).parameters
    assert not reads_a_folder or name in ROOTS, (
        f"tests/test_complete.py: enter in ROOTS a function that makes a folder for the data set {name!r}"
    )
    assert reads_a_folder or name not in ROOTS, (
        f"tests/test_complete.py: {name!r} reads no folder: remove it from ROOTS"
    )
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


# Trunks.


def test_every_trunk_is_in_a_table():
    """A function that takes a width and a number of channels makes a classifier or a trunk."""
    found = [f for f in defined_in(models) if inspect.isfunction(f)]
    found = [f for f in found if {"width", "in_channels"} <= inspect.signature(f).parameters.keys()]
    require(
        [
            f"minifcn/models/fcn.py: enter {f.__name__} of {file_of(f)} in TRUNKS, or in CLASSIFIERS"
            for f in found
            if f not in (*models.CLASSIFIERS.values(), *models.TRUNKS.values())
        ]
        + [
            f"minifcn/models/__init__.py: import {name}, and enter it in __all__"
            for name in models.CLASSIFIERS
            if name not in models.__all__
        ]
    )


@pytest.mark.parametrize("name", models.TRUNKS)
def test_every_trunk_carries_an_fcn(name):
    """At its finest stride: scores for every pixel of an odd size, a gradient in every layer, a way back from disk."""
    with mf.shapes_only():
        trunk = models.build_trunk(name, width=0.1)
    assert trunk.taps, f"the trunk {name!r} needs taps, {{stride: name of a layer}}, for the skips"
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


@pytest.mark.parametrize("name", models.TRUNKS)
def test_every_trunk_has_a_net_with_a_name(name):
    with mf.shapes_only():
        nets = [n for n in models.UNNAMED if n.endswith(f"s_{name}")]
        tapped = [n for n in nets if int(re.search(r"\d+", n)[0]) in models.build_trunk(name, width=0.1).taps]
        built = [models.build(n, width=0.1, num_classes=3).build_arguments["name"] for n in tapped]
    assert built == tapped
    assert built or any(n.endswith(f"_{name}") for n in models.MODELS), (
        f"the trunk {name!r} has no net: its taps must have strides of 2, 4, 8, 16 or 32, or minifcn/models/presets.py "
        "must have a named net"
    )
