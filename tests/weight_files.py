"""Small weight files of every kind, written byte by byte or by NumPy, h5py and safetensors: no framework is needed.

All hold a weight (4, 3, 1, 2) and a bias (4,); `EXPECTED` says under which names.
"""

import io
import json
import pickle
import time
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from safetensors.numpy import save_file

from minifcn.errors import UserError
from minifcn.io import load_weights

WEIGHT = np.arange(24, dtype="<f4").reshape(4, 3, 1, 2) / 8 - 1
BIAS = np.array([0.5, -2, 1e-20, 3e8], "<f4")
HOW = {"kind": "Float", "key": "0", "count": 24, "offset": 0, "shape": (4, 3, 1, 2), "strides": (6, 2, 2, 1)}


# Pickles, instruction by instruction.


def text(value):
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def number(value):
    return b"I%d\n" % value


def several(*parts):
    """A tuple."""
    return b"(" + b"".join(parts) + b"t"


def called(name, *arguments):
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + several(*arguments) + b"R"


def mapping(items):
    return b"}(" + b"".join(text(name) + value for name, value in items.items()) + b"u"


def storage(kind="Float", key="0", count=24):
    return several(text("storage"), f"ctorch\n{kind}Storage\n".encode(), text(key), text("cpu"), number(count)) + b"Q"


def tensor(**how):
    how = HOW | how
    sizes, strides = (several(*map(number, how[name])) for name in ("shape", "strides"))
    lies = storage(how["kind"], how["key"], how["count"])
    ordered = called("collections.OrderedDict")
    return called("torch._utils._rebuild_tensor_v2", lies, number(how["offset"]), sizes, strides, b"I00\n", ordered)


STATE = {"conv.weight": tensor(), "conv.bias": tensor(key="1", count=4, shape=(4,), strides=(1,))}
STORAGES = {"0": WEIGHT.tobytes(), "1": BIAS.tobytes()}


def pth(state=None, storages=STORAGES, compression=zipfile.ZIP_STORED, order=b"little"):
    """The zip container, with the instructions of a value, or of the usual dict."""
    state = mapping(STATE) if state is None else state
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + state + b".")
        archive.writestr("archive/byteorder", order)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return file.getvalue()


def legacy(state=None, storages=STORAGES, counts=None, little=True):
    """The container of PyTorch before 1.6."""
    state = mapping(STATE) if state is None else state
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}]
    counts = counts or {key: len(data) // 4 for key, data in storages.items()}
    return b"".join([
        *(pickle.dumps(value, 2) for value in head), b"\x80\x02" + state + b".", pickle.dumps(list(storages), 2),
        *(counts[key].to_bytes(8, "little", signed=True) + data for key, data in storages.items()),
    ])  # fmt: skip


# Protobuf's wire format.


def varint(value):
    value %= 1 << 64
    more = b""
    while value > 127:
        more += bytes([value & 127 | 128])
        value >>= 7
    return more + bytes([value])


def field(number, value):
    """A field: an integer as a varint, bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(array, packed=True, legacy=False):
    data = array.astype("<f4").tobytes()
    values = field(5, data) if packed else b"".join(b"\x2d" + data[i : i + 4] for i in range(0, len(data), 4))
    if not legacy:
        return field(7, field(1, b"".join(map(varint, array.shape)))) + values
    shape = (1,) * (4 - array.ndim) + array.shape
    return b"".join(field(i + 1, n) for i, n in enumerate(shape)) + values


def layer(name, kind, *blobs):
    return field(100, field(1, name.encode()) + field(2, kind.encode()) + b"".join(field(7, b) for b in blobs))


def layer_v1(name, kind, *blobs):
    return field(2, b"".join(field(6, b) for b in blobs) + field(4, name.encode()) + field(5, kind))


def caffe():
    return field(1, b"net") + layer("data", "Input") + layer("conv", "Convolution", blob(WEIGHT), blob(BIAS))


def caffe_v1():
    return field(1, b"net") + layer_v1("conv", 4, blob(WEIGHT, legacy=True), blob(BIAS, packed=False, legacy=True))


def onnx_tensor(name, array, kind=1, **more):
    dims = field(1, b"".join(map(varint, array.shape)))
    raw = field(9, array.tobytes()) if not more else b"".join(field(int(k[1:]), v) for k, v in more.items())
    return field(5, dims + field(2, kind) + raw + field(8, name.encode()))


def onnx(*tensors):
    return field(1, 8) + field(7, b"".join(tensors))


# NumPy, HDF5, safetensors.


def npz(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **(arrays or {"conv/W": WEIGHT, "conv/b": BIAS}))
    return file.getvalue()


def npy(value=None):
    file = io.BytesIO()
    np.save(file, np.array({"conv": {"weights": WEIGHT, "biases": BIAS}} if value is None else value, object))
    return file.getvalue()


def h5(arrays, change=None):
    import h5py

    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        if change:
            change(file)
    return data.getvalue()


def keras(data=None):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", "{}")
        data = h5({"layers/conv/vars/0": WEIGHT, "layers/conv/vars/1": BIAS}) if data is None else data
        archive.writestr("model.weights.h5", data)
    return file.getvalue()


def safetensors(path):
    save_file({"conv.weight": WEIGHT, "conv.bias": BIAS}, path)
    return path.read_bytes()


def shards(path):
    """Two shards and their index, whose bytes are returned."""
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    save_file({"conv.weight": WEIGHT}, path.with_name(names[0]))
    save_file({"conv.bias": BIAS}, path.with_name(names[1]))
    return json.dumps({"weight_map": dict(zip(("conv.weight", "conv.bias"), names))}).encode()


HDF5 = {"keras h5", "whole keras h5", "caffe h5", "keras"}  # these kinds need h5py
FILES = {  # kind: the file's name, a function of its path that gives its bytes
    "pth": ("w.pth", lambda _: pth()),
    "legacy pth": ("w.pt", lambda _: legacy()),
    "keras h5": ("w.h5", lambda _: h5({"conv/conv/kernel:0": WEIGHT, "conv/conv/bias:0": BIAS})),
    "whole keras h5": ("w.h5", lambda _: h5({"model_weights/c/c/k": WEIGHT, "model_weights/c/c/b": BIAS,
                                            "optimizer_weights/m": BIAS})),
    "caffe h5": ("w.caffemodel.h5", lambda _: h5({"data/conv/0": WEIGHT, "data/conv/1": BIAS, "diff/conv/0": WEIGHT})),
    "keras": ("w.keras", lambda _: keras()),
    "caffe": ("w.caffemodel", lambda _: caffe()),
    "caffe v1": ("w.caffemodel", lambda _: caffe_v1()),
    "npy": ("w.npy", lambda _: npy()),
    "npy list": ("w.npy", lambda _: npy({"conv": [WEIGHT, BIAS]})),
    "npz": ("w.npz", lambda _: npz()),
    "compressed npz": ("w.npz", lambda _: npz(np.savez_compressed)),
    "onnx": ("w.onnx", lambda _: onnx(onnx_tensor("conv.weight", WEIGHT), onnx_tensor("conv.bias", BIAS))),
    "safetensors": ("w.safetensors", safetensors),
    "shards": ("model.safetensors.index.json", shards),
}  # fmt: skip
NAMES = {  # of the weight and the bias, where they are not conv.weight and conv.bias
    "keras h5": ("conv/conv/kernel:0", "conv/conv/bias:0"),
    "whole keras h5": ("c/c/k", "c/c/b"),
    "keras": ("layers/conv/vars/0", "layers/conv/vars/1"),
    "npy": ("conv.weights", "conv.biases"),
    "npy list": ("conv.weights", "conv.biases"),
    "npz": ("conv/W", "conv/b"),
    "compressed npz": ("conv/W", "conv/b"),
}


def expected(kind):
    return dict(zip(NAMES.get(kind, ("conv.weight", "conv.bias")), (WEIGHT, BIAS)))


def write(folder, kind):
    """The path of a file of one kind."""
    name, make = FILES[kind]
    path = folder / name
    path.write_bytes(make(path))
    return path


def same(got, wanted):
    """Whether two dicts of arrays have the same names, types, shapes and bytes."""
    return got.keys() == wanted.keys() and all(
        got[n].dtype == a.dtype and got[n].shape == a.shape and got[n].tobytes() == a.tobytes()
        for n, a in wanted.items()
    )


@contextmanager
def little(memory=1 << 24, seconds=20):
    """Little memory and time are taken inside the block."""
    start = time.monotonic()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < memory and time.monotonic() - start < seconds, (peak, time.monotonic() - start)


def must_refuse(folder, data, match=None, memory=1 << 24, name="w.bin"):
    """The file is refused with a message of one line, quickly, with little memory."""
    (folder / name).write_bytes(data)
    with little(memory), pytest.raises(UserError, match=match) as caught:
        load_weights(folder / name)
    assert str(caught.value).startswith(f"{folder / name}: ") and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(folder))
