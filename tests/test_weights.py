"""Weight files of other programs: every kind gives its names, shapes, types and values, bit by bit."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import weight_files as files
from weight_files import BIAS, FILES, HDF5, WEIGHT, expected, same, write

from minifcn.errors import UserError
from minifcn.io import describe, load_weights

KINDS = [pytest.param(kind, marks=pytest.mark.hdf5 if kind in HDF5 else ()) for kind in FILES]


def read(folder, data, name="w.bin"):
    (folder / name).write_bytes(data)
    return load_weights(folder / name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_each_kind(tmp_path, kind):
    path = write(tmp_path, kind)
    got = load_weights(path)
    assert same(got, expected(kind))
    assert all(array.flags.writeable for array in got.values())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("safetensors", "shards")])
def test_the_contents_decide_and_not_the_name(tmp_path, kind):
    path = write(tmp_path, kind)
    path.rename(tmp_path / "model.weights")
    assert same(load_weights(tmp_path / "model.weights"), expected(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_of_each_kind(tmp_path, kind):
    found = describe(write(tmp_path, kind))
    rows = {row["name"]: row for row in found}
    (weight, bias), text = expected(kind), found.format
    assert rows[weight] == {"name": weight, "shape": (4, 3, 1, 2), "dtype": "float32", "least": -1, "greatest": 1.875}
    assert rows[bias]["least"] == -2 and text and len(found) == 2


def test_an_empty_array_has_no_least_value(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros((0, 3)))
    assert [row["least"] for row in describe(tmp_path / "w.npz")] == [None]


# PyTorch


@pytest.mark.parametrize("container", [files.pth, files.legacy])
def test_the_wrappings_of_a_checkpoint_are_taken_off(tmp_path, container):
    state = files.mapping({f"module.{name}": value for name, value in files.STATE.items()})
    for wrapping in ("state_dict", "model", "model_state_dict"):
        whole = files.mapping({"epoch": files.number(3), "name": files.text("x"), "none": b"N", wrapping: state})
        assert same(read(tmp_path, container(whole)), expected("pth"))
    ordered = files.called("collections.OrderedDict") + state[1:]  # with attributes, as a state_dict has them
    ordered += files.mapping({"_metadata": b"N"}) + b"b"
    twice = files.mapping({"state_dict": files.mapping({"model": ordered, "width": files.number(3)})})
    for whole in (ordered, twice):
        assert same(read(tmp_path, container(whole)), expected("pth"))


@pytest.mark.parametrize("container", [files.pth, files.legacy])
def test_views_are_copied_from_their_storage(tmp_path, container):
    """Element (i, j) is number offset + 2 i + 6 j of 0 .. 23, by the definition of strides; a stride 0 repeats."""
    numbers = np.arange(24, dtype="<f4")
    state = files.mapping({
        "view": files.tensor(offset=1, shape=(3, 4), strides=(2, 6)),
        "repeated": files.tensor(offset=7, shape=(2, 3), strides=(0, 1)),
        "scalar": files.tensor(offset=23, shape=(), strides=()),
        "empty": files.tensor(offset=0, shape=(0, 5), strides=(5, 1)),
    })  # fmt: skip
    got = read(tmp_path, container(state, {"0": numbers.tobytes()}))
    assert got["view"].tolist() == [[1 + 2 * i + 6 * j for j in range(4)] for i in range(3)]
    assert got["repeated"].tolist() == [[7, 8, 9]] * 2 and got["scalar"] == 23 and got["empty"].shape == (0, 5)
    got["repeated"][0, 0] = 1
    assert got["repeated"][1, 0] == 7 and got["view"].flags.c_contiguous


def test_a_bfloat16_is_widened_and_a_half_stays(tmp_path):
    """1.0 is 0x3F80 in bfloat16, and −2.5 is 0xC020."""
    how = {"count": 2, "shape": (2,), "strides": (1,)}
    state = files.mapping({"b": files.tensor(kind="BFloat16", **how), "h": files.tensor(kind="Half", key="1", **how)})
    data = {"0": bytes([0x80, 0x3F, 0x20, 0xC0]), "1": np.float16([1.5, -7]).tobytes()}
    got = read(tmp_path, files.pth(state, data))
    assert got["b"].dtype == np.float32 and got["b"].tolist() == [1, -2.5]
    assert got["h"].dtype == np.float16 and got["h"].tolist() == [1.5, -7]


def test_the_other_byte_order(tmp_path):
    swapped = {"0": WEIGHT.astype(">f4").tobytes(), "1": BIAS.astype(">f4").tobytes()}
    assert same(read(tmp_path, files.pth(None, swapped, order=b"big")), expected("pth"))
    assert same(read(tmp_path, files.legacy(None, swapped, little=False)), expected("pth"))


def test_a_file_that_python_2_wrote(tmp_path):
    """Its OrderedDict is built from a list of pairs, and its texts have no encoding."""
    pairs = b"".join(
        b"]" + b"U" + bytes([len(n)]) + n.encode() + b"a" + v + b"a" + b"a" for n, v in files.STATE.items()
    )
    state = files.called("collections.OrderedDict", b"]" + pairs)
    assert same(read(tmp_path, files.legacy(state)), expected("pth"))


# Caffe


def test_packed_and_unpacked_numbers_of_old_and_new_layers(tmp_path):
    for packed in (True, False):
        for legacy in (True, False):
            blobs = [files.blob(array, packed, legacy) for array in (WEIGHT, BIAS)]
            for data in (files.layer("conv", "Convolution", *blobs), files.layer_v1("conv", 4, *blobs)):
                assert same(read(tmp_path, data), expected("caffe"))


def test_old_fully_connected_layers_lose_their_two_leading_axes(tmp_path):
    weight = np.arange(6, dtype="f4").reshape(1, 1, 2, 3)
    for data in (
        files.layer_v1("fc6", 14, files.blob(weight), files.blob(BIAS.reshape(1, 1, 1, 4))),
        files.layer("fc6", "InnerProduct", files.blob(weight), files.blob(BIAS.reshape(1, 1, 1, 4))),
    ):
        got = read(tmp_path, data)
        assert got["fc6.weight"].tolist() == weight[0, 0].tolist() and same({"b": got["fc6.bias"]}, {"b": BIAS})
    kept = read(tmp_path, files.layer("c", "Convolution", files.blob(weight)))["c.weight"]
    assert kept.shape == (1, 1, 2, 3)  # a convolution of one channel


@pytest.mark.parametrize("form", ["protobuf", pytest.param("h5", marks=pytest.mark.hdf5)])
def test_the_sums_of_batch_norm_are_divided_by_their_number(tmp_path, form):
    mean, var = np.array([2.0, 4], "f4"), np.array([1.0, 9], "f4")
    for factor, wanted in ((4, [[0.5, 1], [0.25, 2.25]]), (0, [[0, 0], [0, 0]])):
        blobs = [mean, var, np.array([factor], "f4")]
        if form == "h5":
            got = read(tmp_path, files.h5({f"data/a/bn/{i}": blob for i, blob in enumerate(blobs)}))
        else:
            got = read(tmp_path, files.layer("a/bn", "BatchNorm", *map(files.blob, blobs)))
        assert [got["a/bn.running_mean"].tolist(), got["a/bn.running_var"].tolist()] == wanted and len(got) == 2


def test_a_scale_layer_has_weight_and_bias(tmp_path):
    got = read(tmp_path, files.layer("s", "Scale", files.blob(BIAS), files.blob(2 * BIAS)))
    assert same(got, {"s.weight": BIAS, "s.bias": 2 * BIAS})


# ONNX, shards, NumPy


def test_numbers_of_onnx_that_are_not_raw(tmp_path):
    floats, integers = files.field(4, BIAS.tobytes()), b"".join(map(files.varint, (1, -2, 2**31 - 1, 0)))
    dims = files.field(1, files.varint(4))
    data = [
        dims + files.field(2, 1) + floats + files.field(8, b"f"),
        dims + files.field(2, 6) + files.field(5, integers) + files.field(8, b"i"),
        dims + files.field(2, 7) + files.field(7, integers) + files.field(8, b"l"),
        dims + files.field(2, 10) + files.field(5, b"\x80\x78" * 4) + files.field(8, b"h"),  # 0x3C00, which is 1.0
    ]
    got = read(tmp_path, files.onnx(*(files.field(5, tensor) for tensor in data)))
    wanted = [1, -2, 2**31 - 1, 0]
    assert same({"f": got["f"]}, {"f": BIAS}) and got["h"].dtype == np.float16 and got["h"].tolist() == [1] * 4
    assert got["i"].tolist() == wanted and got["i"].dtype == np.int32
    assert got["l"].tolist() == wanted and got["l"].dtype == np.int64


def outside(**entries):
    return files.field(14, 1) + b"".join(
        files.field(13, files.field(1, key.encode()) + files.field(2, str(value).encode()))
        for key, value in entries.items()
    )


def external(**entries):
    dims = files.field(1, files.varint(4))
    return files.onnx(files.field(5, dims + files.field(2, 1) + outside(**entries) + files.field(8, b"w")))


def test_numbers_of_onnx_in_a_file_beside_it(tmp_path):
    (tmp_path / "w.data").write_bytes(b"12345678" + BIAS.tobytes())
    assert same(read(tmp_path, external(location="w.data", offset=8, length=16)), {"w": BIAS})
    assert same(read(tmp_path, external(location="w.data", offset=8)), {"w": BIAS})


def test_one_shard_reads_all_of_them(tmp_path):
    write(tmp_path, "shards")
    for number in (1, 2):
        got = load_weights(tmp_path / f"model-0000{number}-of-00002.safetensors")
        assert same(got, expected("shards"))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_in_a_pickle_of_any_protocol(tmp_path, protocol):
    """Fortran's order, big-endian numbers, scalars, and a list of three, which has numbers for names."""
    value = {
        "F": np.asfortranarray(WEIGHT), "big": BIAS.astype(">f4"), "one": np.float64(3), b"bytes": BIAS[::-1],
        "three": [BIAS, BIAS, BIAS], "bool": np.array([True, False]), "note": "text", "epoch": 5, 7: BIAS,
    }  # fmt: skip
    got = read(tmp_path, pickle.dumps(value, protocol))
    wanted = {
        "F": WEIGHT,
        "big": BIAS,
        "one": np.array(3.0),
        "bytes": BIAS[::-1].copy(),
        "bool": value["bool"],
        "7": BIAS,
    }
    wanted |= {f"three.{i}": BIAS for i in range(3)}
    assert same(got, wanted)


MANY = np.ones(1 << 21, "<f4")  # 8 MB
ONE = files.mapping({"a": files.tensor(count=MANY.size, shape=MANY.shape, strides=(1,))})
LARGE = {  # kind: how often its size in memory it may take, and its bytes
    "pth": (2, lambda: files.pth(ONE, {"0": MANY.tobytes()})),
    "legacy pth": (1, lambda: files.legacy(ONE, {"0": MANY.tobytes()})),
    "caffe": (1, lambda: files.layer("a", "Convolution", files.blob(MANY))),
    "caffe, unpacked": (2, lambda: files.layer("a", "Convolution", files.blob(MANY, packed=False))),
    "onnx": (1, lambda: files.onnx(files.onnx_tensor("a", MANY))),
    "npz": (1, lambda: files.npz(a=MANY)),
    "npy": (2, lambda: files.npy({"a": MANY})),
    "pickle of protocol 2": (3, lambda: pickle.dumps({"a": MANY}, 2)),
    "h5": (1, lambda: files.h5({"a": MANY})),
    "keras": (3, lambda: files.keras(files.h5({"a": MANY}))),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.hdf5 if k in ("h5", "keras") else ()) for k in LARGE]
)
def test_a_large_file_takes_a_small_multiple_of_its_size(tmp_path, kind):
    times, make = LARGE[kind]
    data = make()
    (tmp_path / "w.bin").write_bytes(data)
    with files.little(memory=times * len(data) + (1 << 22)):
        (array,) = load_weights(tmp_path / "w.bin").values()
    assert array.size == MANY.size and (array == 1).all()


def test_h5py_is_named_where_it_is_missing(tmp_path):
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    code = f"""
import sys
sys.modules["h5py"] = None
from minifcn.io import load_weights
try:
    load_weights({str(tmp_path / "w.h5")!r})
except ValueError as error:
    print(error)"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'minifcn[weights]'" in result.stdout and not result.stderr


# The frameworks' own writers


def state_dict(torch):
    torch.manual_seed(0)
    base = torch.arange(12.0).reshape(3, 4)
    return {
        "conv.weight": torch.randn(2, 3, 3, 3).to(memory_format=torch.channels_last), "half": torch.randn(3).half(),
        "bf16": torch.randn(5).bfloat16(), "double": torch.randn(2).double(), "view": base.T[1:, ::2], "base": base,
        "expanded": torch.ones(1).expand(5), "scalar": torch.tensor(7), "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3), "parameter": torch.nn.Parameter(torch.randn(2)),
        "byte": torch.arange(5, dtype=torch.uint8), "int": torch.arange(5, dtype=torch.int32),
    }  # fmt: skip


@pytest.mark.writers
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_what_pytorch_writes(tmp_path, zipped, protocol):
    import torch

    state = state_dict(torch)
    whole = {
        "state_dict": {f"module.{n}": t for n, t in state.items()},
        "lr": [0.1, None, "x"],
        "shape": state["base"].shape,
    }
    torch.save(whole, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    wanted = {n: (t.float() if t.dtype == torch.bfloat16 else t).detach().numpy() for n, t in state.items()}
    assert same(load_weights(tmp_path / "w.pth"), wanted)


@pytest.mark.writers
def test_a_network_and_its_optimiser(tmp_path):
    import torch

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.randn(1, 3, 5, 5)).sum().backward()
    optimiser.step()
    torch.save({"model": model.state_dict(), "optimizer": optimiser.state_dict()}, tmp_path / "w.pt")
    assert same(load_weights(tmp_path / "w.pt"), {n: t.numpy() for n, t in model.state_dict().items()})
    torch.save(model, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"asks for 'torch\.nn\..*save the state_dict alone"):
        load_weights(tmp_path / "w.pt")


@pytest.mark.writers
def test_what_keras_writes(tmp_path):
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    conv = keras.layers.Conv2D(4, 3, name="block1_conv1")
    model = keras.Sequential([keras.Input((8, 8, 3)), conv, keras.layers.Flatten(), keras.layers.Dense(2, name="fc")])
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 8, 8, 3)), np.zeros((2, 2)), verbose=0)
    wanted = sorted(np.asarray(w).tobytes() for w in model.get_weights())
    for name in ("w.keras", "w.h5", "w.weights.h5"):
        (model.save_weights if "weights" in name else model.save)(tmp_path / name)
        got = load_weights(tmp_path / name)
        assert sorted(array.tobytes() for array in got.values()) == wanted, name
        (kernel,) = (n for n, a in got.items() if a.ndim == 4)
        assert kernel == ("block1_conv1/sequential/block1_conv1/kernel" if name == "w.h5" else "layers/conv2d/vars/0")


@pytest.mark.writers
def test_what_onnx_writes(tmp_path):
    import onnx
    from onnx import helper, numpy_helper

    tensors = [numpy_helper.from_array(WEIGHT.astype(t), t) for t in ("f4", "f8", "f2", "i8", "i4", "i1", "u1", "?")]
    tensors += [helper.make_tensor(f"listed {t}", t, [2], [1, 2]) for t in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16)]
    wanted = {t.name: np.asarray(numpy_helper.to_array(t)) for t in tensors}
    wanted["listed 16"] = wanted["listed 16"].astype(np.float32)  # bfloat16
    model = helper.make_model(helper.make_graph([], "graph", [], [], initializer=tensors))
    onnx.save(model, tmp_path / "w.onnx")
    assert same(load_weights(tmp_path / "w.onnx"), wanted)
    onnx.save(model, tmp_path / "x.onnx", save_as_external_data=True, location="x.data", size_threshold=0)
    assert (tmp_path / "x.data").stat().st_size > 400 and same(load_weights(tmp_path / "x.onnx"), wanted)
