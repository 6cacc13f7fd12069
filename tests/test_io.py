"""Checkpoints and weight files: what was written comes back exactly, and nothing is ever half written."""

import json
import os
import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

from minifcn import models
from minifcn.errors import UserError
from minifcn.io import atomic, load_checkpoint, load_record, load_weights, save_checkpoint
from minifcn.models import store

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float64([0.1]), "t": np.eye(3)[::-1].T}


def test_a_checkpoint_gives_back_arrays_and_record_bit_by_bit(tmp_path):
    record = {"random": 2**127 + 1, "loss": 0.1 + 0.2, "text": "é ×", "rows": [{"x": None}]}
    save_checkpoint(tmp_path / "c.safetensors", ARRAYS, record)
    arrays, got = load_checkpoint(tmp_path / "c.safetensors")
    assert got == record and arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_a_crash_while_writing_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, ARRAYS, {"epoch": 1})

    def crash(arrays, partial, metadata):
        partial.write_bytes(b"half a file")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("minifcn.io.checkpoint.save_file", crash)
        save_checkpoint(path, ARRAYS, {"epoch": 2})
    assert (tmp_path / "c.safetensors.partial").read_bytes() == b"half a file"
    assert load_checkpoint(path)[1] == {"epoch": 1}
    save_checkpoint(path, ARRAYS, {"epoch": 3})  # what the crash left is in nobody's way
    assert load_checkpoint(path)[1] == {"epoch": 3} and len(list(tmp_path.iterdir())) == 1


def test_a_text_file_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "a.txt") as partial:
        partial.write_text("half", encoding="utf-8")
        raise ZeroDivisionError
    assert not (tmp_path / "a.txt").exists()


def test_a_checkpoint_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        save_checkpoint(tmp_path / "nowhere" / "c.safetensors", ARRAYS, {})


DAMAGE = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "text": lambda path: path.write_text("hello, this is no checkpoint", encoding="utf-8"),
    "huge header": lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()),
    "weights alone": lambda path: save_file(ARRAYS, path),
    "broken record": lambda path: save_file(ARRAYS, path, metadata={"minifcn": "{"}),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_named_in_one_sentence(tmp_path, damage):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, ARRAYS, {})
    damage(path)
    with pytest.raises(UserError, match=r"c\.safetensors: "):
        load_checkpoint(path)


def tiny():
    model = models.build("fcn8s_mini", num_classes=3, width=0.1)
    model.classes, model.palette = ("a", "b", "c"), np.eye(3, dtype=np.uint8)
    return model


def record_of(change):
    return {**store.describe(tiny()), **change}


def test_a_model_comes_back_from_its_checkpoint(tmp_path):
    model = tiny()
    arrays = {f"model.{k}": v for k, v in model.state_dict().items()}
    save_checkpoint(tmp_path / "c.safetensors", arrays, store.describe(model))
    again = models.load(tmp_path / "c.safetensors")
    image = np.random.default_rng(0).integers(0, 256, (33, 41, 3), dtype=np.uint8)
    np.testing.assert_array_equal(again.predict(image), model.predict(image))
    assert again.classes == model.classes and (again.palette == model.palette).all() and not again.training


@pytest.mark.parametrize(
    "change",
    [
        {"model": "fcn8s_mini"},
        {"model": {"name": "fcn99s", "options": {}}},
        {"model": {"name": "fcn8s_mini", "options": {"num_classes": 4, "width": 0.1}}},
        {"model": {"name": "fcn8s_mini", "options": {"colour": 4}}},
        {"preprocessing": {"order": "GBR"}},
        {"classes": None},
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, change):
    arrays = {f"model.{k}": v for k, v in tiny().state_dict().items()}
    save_checkpoint(tmp_path / "c.safetensors", arrays, record_of(change))
    with pytest.raises(UserError, match=r"c\.safetensors: not a checkpoint of a model"):
        models.load(tmp_path / "c.safetensors")


def test_what_a_file_says_beside_its_weights(tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", ARRAYS, {"classes": ["sea"]})
    save_file(ARRAYS, tmp_path / "w.safetensors")
    np.savez(tmp_path / "w.npz", **ARRAYS)
    found = [load_record(tmp_path / name) for name in ("c.safetensors", "w.safetensors", "w.npz")]
    assert found == [{"classes": ["sea"]}, {}, {}]


def test_a_record_that_is_no_dict_is_refused(tmp_path):
    save_file(ARRAYS, tmp_path / "c.safetensors", metadata={"minifcn": json.dumps([1])})
    with pytest.raises(UserError, match="not a checkpoint of a model"):
        models.load(tmp_path / "c.safetensors")


def test_weights_that_the_package_lacks_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "weights")
    with pytest.raises(UserError, match="none at all"):
        models.fcn8s_mini(pretrained="earth")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/fcn8s_mini-mars.safetensors").touch()
    with pytest.raises(UserError, match="fcn8s_mini-mars"):
        models.fcn8s_mini(pretrained="earth")


def test_weight_files_of_both_kinds(tmp_path):
    np.savez(tmp_path / "w.npz", **ARRAYS)
    save_file({k: np.ascontiguousarray(v) for k, v in ARRAYS.items()}, tmp_path / "w.safetensors")
    for kind in ("npz", "safetensors"):
        weights = load_weights(tmp_path / f"w.{kind}")
        assert weights.keys() == ARRAYS.keys()
        for name, array in weights.items():
            np.testing.assert_array_equal(array, ARRAYS[name])


def test_a_weight_file_never_runs_code_and_a_bad_one_is_named(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    np.savez(tmp_path / "evil.npz", a=np.array([Evil()], object))
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    (tmp_path / "w.pth").touch()
    for name in ("evil.npz", "plain.npz", "cut.safetensors", "w.pth", "absent.npz"):
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            load_weights(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_checkpoint_is_as_readable_as_any_file_of_its_owner(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", {"x": np.ones(3)}, {})
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
