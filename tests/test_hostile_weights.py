"""Hostile weight files: cut short, lying sizes, bombs, links to other files; one sentence says what is wrong."""

import io
import struct
import zipfile
from itertools import product

import numpy as np
import pytest
import weight_files as files
from test_weights import KINDS, external, read
from weight_files import BIAS, WEIGHT, expected, field, mapping, must_refuse, tensor, varint, write

from minifcn.errors import UserError
from minifcn.io import load_weights

HUGE = (2**31 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**100)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_at_every_length(tmp_path, kind):
    """A message of protobuf has no end: cut between two layers, it is a file of fewer layers."""
    path = write(tmp_path, kind)
    whole, wanted = path.read_bytes(), expected(kind)
    step = 1 if len(whole) < 2000 else 29  # HDF5
    for length in range(0, len(whole), step):
        path.write_bytes(whole[:length])
        try:
            got = load_weights(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            continue
        assert files.same(got, wanted) or (kind.startswith(("caffe", "onnx")) and got.keys() < wanted.keys())


# Zip archives


def test_zip_bombs_and_archives_that_minifcn_does_not_read(tmp_path):
    zeros = bytes(1 << 28)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", zeros)
    must_refuse(tmp_path, bomb.getvalue(), "would unpack to 268,435,456 bytes")
    small = bomb.getvalue().replace(struct.pack("<I", 1 << 28), struct.pack("<I", 1000))  # both of its directories lie
    must_refuse(tmp_path, small)
    must_refuse(tmp_path, files.pth(None, {"0": zeros[: 1 << 20], "1": b""}, zipfile.ZIP_DEFLATED), "are compressed")
    must_refuse(tmp_path, files.pth(compression=zipfile.ZIP_LZMA), "not compressed by deflate")
    encrypted = bytearray(files.npz())
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    must_refuse(tmp_path, bytes(encrypted), "is encrypted")
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.writestr("a.npy", b"")
    must_refuse(tmp_path, twice.getvalue(), "one name")
    program = io.BytesIO(files.pth())
    with zipfile.ZipFile(program, "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    must_refuse(tmp_path, program.getvalue(), "a program")


@pytest.mark.parametrize("size", HUGE)
def test_npy_headers_that_lie(tmp_path, size):
    for shape in (f"({size},)", f"({size}, {size})", f"(0, {size})", f"(-{size},)", f"({size}, -1)"):
        head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(16)
        with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
            archive.writestr("a.npy", data)
        must_refuse(tmp_path, (tmp_path / "w.npz").read_bytes(), "a.* size|damaged|the size of 'a'")


# HDF5


def bad_h5(kind):
    import h5py

    def change(file):
        match kind:
            case "external link":
                file["x"] = h5py.ExternalLink("/etc/passwd", "/")
            case "soft link":
                file["x"] = h5py.SoftLink("/w")
            case "virtual":
                layout = h5py.VirtualLayout((4,), "f4")
                layout[:] = h5py.VirtualSource("other.h5", "w", (4,))
                file.create_virtual_dataset("x", layout)
            case "external storage":
                file.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)])
            case "compressed":
                file.create_dataset("x", data=np.zeros(1 << 22, "f4"), compression="gzip")
            case "never written":
                file.create_dataset("x", (2**40,), "f4", chunks=(2**10,))
            case "text":
                file["x"] = "text"
            case "references":
                file["x"] = np.array([file.ref], h5py.ref_dtype)
            case "groups that hold each other":
                group = file.create_group("a")
                group["a"] = group
            case "deep groups":
                file.create_group("a/" * 20)

    return files.h5({"w": WEIGHT}, change)


@pytest.mark.hdf5
@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("external link", "'x' is a link"), ("soft link", "'x' is a link"), ("virtual", "in another file"),
        ("external storage", "in another file"), ("compressed", "is compressed"), ("never written", "the size of 'x'"),
        ("text", "must be real numbers"), ("references", "must be real numbers"),
        ("groups that hold each other", "hold each other"), ("deep groups", "nested too deeply"),
    ],
)  # fmt: skip
def test_an_hdf5_file_of_other_things_than_plain_arrays(tmp_path, kind, match):
    must_refuse(tmp_path, bad_h5(kind), match)
    must_refuse(tmp_path, files.keras(bad_h5(kind)), match)


# Protobuf


def test_protobufs_that_lie(tmp_path):
    layer = files.caffe()
    shape = field(7, field(1, varint(5))) + field(5, WEIGHT.tobytes())
    for data in (
        field(100, field(1, b"a") + field(7, shape)), b"\x0a" + b"\xff" * 8 + b"\x7f", b"\x12" + b"\xff" * 11,
        b"\xa2\x06" + varint(2**63), b"\xa2\x06" + varint(2**64 - 1), layer + b"\x0b", layer + b"\x0c", layer + b"\x0f",
        layer + layer, b"\x0a\x00", field(1, b"net"), field(2, field(1, b"old")),
        field(100, field(7, field(5, b"abc"))),
        files.layer("b", "BatchNorm", *[files.blob(BIAS)] * 3), files.layer("b", "BatchNorm", files.blob(BIAS)),
        field(100, field(1, b"\xff") + field(7, files.blob(BIAS))),
    ):  # fmt: skip
        must_refuse(tmp_path, data)
    for size, more in product(HUGE, (1, 2, 0)):
        dims = b"".join(map(varint, (size, more)))
        must_refuse(tmp_path, files.layer("a", "Convolution", field(7, field(1, dims)) + field(5, BIAS.tobytes())))
        must_refuse(
            tmp_path, files.onnx(field(5, field(1, dims) + field(2, 1) + field(9, BIAS.tobytes()) + field(8, b"w")))
        )
        must_refuse(tmp_path, files.onnx(field(5, field(1, dims) + field(2, size) + field(8, b"w"))))


def test_many_small_parts_take_little(tmp_path):
    parts = {
        "blobs": files.layer("a", "X", *[b""] * 50_000), "data": files.layer("a", "X", field(5, b"") * 50_000),
        "alternating": files.layer("a", "X", (b"\x2d1234" + field(9, b"")) * 50_000), "fields": field(1, b"") * 50_000,
        "layers": files.layer("", "") * 10_001, "dims": files.layer("a", "X", field(7, field(1, b"\x01" * 50_000))),
    }  # fmt: skip
    for data in parts.values():
        must_refuse(tmp_path, data)


@pytest.mark.parametrize(
    "name", ["../w.data", "/etc/passwd", "a/../../w.data", "..", "", "w\\data", "C:w", "a\0b", "none"]
)
def test_numbers_of_onnx_are_not_read_from_other_folders(tmp_path, name):
    (tmp_path / "w.data").write_bytes(BIAS.tobytes())
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "w.data").write_bytes(BIAS.tobytes())
    read(folder, external(location="w.data"))
    (folder / "w.onnx").write_bytes(external(location=name))
    with pytest.raises(UserError, match=r"plain name|is not there"):
        load_weights(folder / "w.onnx")


def test_numbers_of_onnx_beyond_the_file_beside_it(tmp_path):
    (tmp_path / "w.data").write_bytes(BIAS.tobytes())
    for entries in (
        {"offset": 4},
        {"offset": -4},
        {"length": 12},
        {"length": 2**63},
        {"offset": 2**63},
        {"offset": "x"},
    ):
        must_refuse(tmp_path, external(location="w.data", **entries))


# Shards, and files of other kinds


@pytest.mark.parametrize(
    "index",
    [
        "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../w.safetensors"}}',
        '{"weight_map": {"a": "/etc/passwd"}}', '{"weight_map": {"a": "w.bin"}}', '{"weight_map": {"a": "none"}}',
        '{"weight_map": {"x": "model-00001-of-00002.safetensors"}}', "{" * 100_000, '{"a":' * 100_000, '{"weight_map"',
    ],
)  # fmt: skip
def test_an_index_that_lies(tmp_path, index):
    write(tmp_path, "shards")
    (tmp_path / "w.bin").write_text(index)
    with pytest.raises(UserError):
        load_weights(tmp_path / "w.bin")


def test_shards_that_are_missing_or_hold_the_same(tmp_path):
    write(tmp_path, "shards")
    first, second = (tmp_path / f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    second.unlink()
    with pytest.raises(UserError, match=r"00002-of.*is not there"):
        load_weights(first)
    second.write_bytes(first.read_bytes())
    with pytest.raises(UserError, match=r"two of its arrays have the name 'conv\.weight'"):
        load_weights(first)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "it is empty"), (b"<!DOCTYPE html><p>", "a web page"), (b"\x1f\x8b\x08", "unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"), (b"hello", "no format that minifcn reads"),
        (bytes(257) + b"ustar" + bytes(250), "a tar archive"), (b"PK\x03\x04", "damaged"), (b"\x00" * 20, "no format"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_named(tmp_path, data, match):
    must_refuse(tmp_path, data, match, name="w.pth")


def test_two_arrays_of_one_name(tmp_path):
    state = mapping({"a.b": tensor(), "a": mapping({"b": tensor()})})
    must_refuse(tmp_path, files.pth(state, {"0": WEIGHT.tobytes()}), r"two of its arrays have the name 'a\.b'")


def test_messages_cannot_change_the_console(tmp_path):
    name = "\x1b[2J\n" * 100
    must_refuse(tmp_path, files.pth(mapping({name: tensor(), name[:-1]: tensor(), "a": b"N"}), {"0": b""}))
    must_refuse(tmp_path, files.npz(**{name: np.array(["a"])}))
    must_refuse(tmp_path, b"\x80\x02c" + name.replace("\n", "").encode() + b"\nx\n.")
