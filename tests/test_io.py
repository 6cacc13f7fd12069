"""Checkpoints and weight files: arrays are read back exactly, and no file is ever left half written."""

import json
import os
import pickle
import warnings
import zipfile
from contextlib import suppress

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
    save_checkpoint(path, ARRAYS, {"epoch": 3})  # files that the crash left do not prevent saving
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
    model.bands = ("red", "green", "blue")
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
    with pytest.raises(UserError, match="ships no weights"):
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


def test_arrays_keep_their_shape_type_and_values_whatever_their_layout(tmp_path):
    arrays = {
        "0-d": np.array(3.5),
        "empty": np.zeros((0, 3), np.float32),
        "big-endian": np.arange(6, dtype=">f4").reshape(2, 3),
        "reversed": np.arange(6.0)[::-1],
        "Fortran": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
        "int": np.int64(7) * np.ones((), np.int64),
        "bool": np.array([True, False]),
    }
    save_checkpoint(tmp_path / "c.safetensors", arrays, {})
    for got in (load_checkpoint(tmp_path / "c.safetensors")[0], load_weights(tmp_path / "c.safetensors")):
        assert got.keys() == arrays.keys()
        for name, array in arrays.items():
            assert got[name].shape == array.shape and got[name].dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([None], object)], ids=str)
def test_what_is_no_number_is_not_saved(tmp_path, array):
    with pytest.raises(
        UserError, match=r"c\.safetensors cannot be written: x is .*; a checkpoint can hold only real numbers"
    ):
        save_checkpoint(tmp_path / "c.safetensors", {"x": array}, {})
    assert not (tmp_path / "c.safetensors").exists()


def saved_model(path, change=None, weights=None):
    model = tiny()
    arrays = {f"model.{k}": v for k, v in model.state_dict().items()} | (weights or {})
    save_checkpoint(path, arrays, record_of(change or {}))
    return path


def test_one_flipped_bit_anywhere_is_noticed(tmp_path):
    """Every bit of the header and of the record is flipped, and a sample of the bits of the weights."""
    path = tmp_path / "c.safetensors"
    record = {"classes": ["sea", "land"], "palette": [[0, 0, 255], [0, 128, 0]], "n": 12.5}
    save_checkpoint(path, ARRAYS, record)
    whole = path.read_bytes()
    for at in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            arrays, got = load_checkpoint(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
            continue
        assert got == record and arrays.keys() == ARRAYS.keys()  # the flipped bit is in the name of the checksum
        assert all(arrays[k].tobytes() == np.ascontiguousarray(a).tobytes() for k, a in ARRAYS.items())
        assert arrays["a"].dtype == np.float32 and arrays["a"].shape == (2, 3)


@pytest.mark.parametrize("load", [models.load, load_weights, load_record, store.load_start])
def test_a_flipped_bit_of_a_weight_is_one_sentence_that_names_the_file(tmp_path, load):
    path = saved_model(tmp_path / "c.safetensors")
    load(path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"c\.safetensors: the file is damaged: its contents do not match its checksum"):
        load(path)


def test_files_without_a_checksum_still_load(tmp_path):
    model = tiny()
    arrays = {f"model.{k}": v.copy() for k, v in model.state_dict().items()}
    save_file(arrays, tmp_path / "old.safetensors", metadata={"minifcn": json.dumps(store.describe(model))})
    assert models.load(tmp_path / "old.safetensors").classes == ("a", "b", "c")
    models.load(store.SHIPPED / "fcn8s_mini-earth.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("load", [models.load, store.load_start])
def test_a_weight_that_is_not_finite_is_refused(tmp_path, value, load):
    name = "model.conv1_2_bn.running_var" if "conv1_2_bn.running_var" in tiny().state_dict() else "model.score_fr.bias"
    broken = tiny().state_dict()[name.removeprefix("model.")].copy()
    broken.flat[-1] = value
    path = saved_model(tmp_path / "c.safetensors", weights={name: broken})
    with pytest.raises(UserError, match=rf"c\.safetensors: {name.removeprefix('model.')} holds NaN or infinite"):
        load(path)


WRONG = [None, True, 5, -1, 1e300, float("nan"), 10**400, "x", "", [], [[]], {}, {"a": 1}, [1, "a"], [[0, 1]]]
PLACES = [
    ("classes",), ("palette",), ("preprocessing",), ("model",), ("model", "name"), ("model", "options"),
    ("model", "options", "num_classes"), ("model", "options", "width"), ("classes", 0), ("palette", 0),
    ("palette", 0, 0), ("preprocessing", "order"), ("preprocessing", "mean"), ("preprocessing", "mean", 0),
    ("preprocessing", "scale"), ("preprocessing", "bits"), ("bands",), ("bands", 0), ("side",),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda p: "/".join(map(str, p)))
def test_wrong_types_in_a_record_are_one_sentence(tmp_path, place):
    """Every value of WRONG in every field of the record, in a file whose checksum is right."""
    path = tmp_path / "c.safetensors"
    for value in [*WRONG, "missing"]:
        record = record_of({})
        inside = record
        for key in place[:-1]:
            inside = inside[key]
        if value == "missing":
            del inside[place[-1]]
        else:
            inside[place[-1]] = value
        save_checkpoint(path, {f"model.{k}": v for k, v in tiny().state_dict().items()}, record)
        for load in (models.load, store.load_start):
            try:
                load(path)
            except UserError as error:
                assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        with suppress(UserError):
            assert models.load(path).num_classes == 3


def raw(kind, shape, data):
    """The bytes of a safetensors file with one array, written by the published format."""
    header = json.dumps({"w": {"dtype": kind, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


def test_bfloat16_is_widened(tmp_path):
    """1.0 is 0x3F80 in bfloat16, −2.5 is 0xC020, the smallest subnormal 0x0001 is 2⁻¹³³."""
    (tmp_path / "b.safetensors").write_bytes(raw("BF16", [1, 3], bytes([0x80, 0x3F, 0x20, 0xC0, 1, 0])))
    got = load_weights(tmp_path / "b.safetensors")["w"]
    assert got.dtype == np.float32 and got.tolist() == [[1.0, -2.5, 2.0**-133]]


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "C64"])
def test_numbers_that_cannot_be_read_are_named(tmp_path, kind):
    (tmp_path / "w.safetensors").write_bytes(raw(kind, [2], bytes(16 if kind == "C64" else 2)))
    with pytest.raises(UserError, match=rf"w\.safetensors: .*({kind}|complex64|deserializing)"):
        load_weights(tmp_path / "w.safetensors")


def test_an_npz_of_other_things_than_numbers_is_refused(tmp_path):
    for array in (np.array(["a"]), np.array([1j]), np.zeros(2, "f4,i4"), np.array(["2020-01-01"], "M8[D]")):
        np.savez(tmp_path / "w.npz", x=array)
        with pytest.raises(UserError, match=r"w\.npz: x is .*weights must be real numbers"):
            load_weights(tmp_path / "w.npz")
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("readme.txt", "no array")
    with pytest.raises(UserError, match=r"w\.npz: "):
        load_weights(tmp_path / "w.npz")
    np.save(tmp_path / "a.npy", np.ones(3))
    (tmp_path / "a.npy").rename(tmp_path / "w.npz")
    with pytest.raises(UserError, match=r"w\.npz: it holds one array without a name"):
        load_weights(tmp_path / "w.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_one_sentence_or_harmless(tmp_path, save):
    save(tmp_path / "w.npz", **ARRAYS)
    whole, rng = (tmp_path / "w.npz").read_bytes(), np.random.default_rng(0)
    for trial in range(300):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 1 + trial % 3):
            damaged[at] = rng.integers(256)
        if trial % 5 == 0:
            damaged = damaged[: rng.integers(len(whole))]
        (tmp_path / "w.npz").write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_weights(tmp_path / "w.npz")
            except UserError as error:
                assert "w.npz: " in str(error)


def test_the_record_is_read_whatever_the_case_of_the_suffix(tmp_path):
    save_checkpoint(tmp_path / "x.safetensors", {"w": np.ones(2)}, {"classes": ["a"]})
    (tmp_path / "x.safetensors").rename(tmp_path / "X.SAFETENSORS")
    assert load_record(tmp_path / "X.SAFETENSORS") == {"classes": ["a"]}
