"""Hostile pickles: nothing in them runs, and one sentence says what is wrong.

The pickles are written instruction by instruction, because no pickler would write them.
"""

import copyreg
import os
import pickle
import struct
import zipfile
from contextlib import suppress
from itertools import product

import numpy as np
import pytest
import weight_files as files
from weight_files import WEIGHT, called, mapping, must_refuse, number, several, tensor, text

from minifcn.errors import UserError
from minifcn.io import load_weights

HUGE = (2**31 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**100)


def calls(canary):
    """Every way in which a pickle can run a function or build an object of a class, as {name: (pickle, runs)}.

    `runs` is whether Python's own unpickler runs it.
    """
    command = text(f"echo > '{canary}'")
    system, module = b"cposix\nsystem\n", text("posix") + text("system") + b"\x93"
    class_ = b"cposix\nsystem\n"
    return {
        "REDUCE of a GLOBAL": (system + several(command) + b"R.", True),
        "REDUCE of a STACK_GLOBAL": (b"\x80\x04" + module + several(command) + b"R.", True),
        "INST": (b"(" + command + b"iposix\nsystem\n.", True),
        "OBJ": (b"(" + system + command + b"o.", True),
        "NEWOBJ": (b"\x80\x02" + class_ + several(command) + b"\x81.", False),
        "NEWOBJ_EX": (b"\x80\x04" + class_ + several(command) + b"}\x92.", False),
        "EXT1": (b"\x82\xf0" + several(command) + b"R.", True),
        "EXT2": (b"\x83\xf0\x00" + several(command) + b"R.", True),
        "EXT4": (b"\x84\xf0\x00\x00\x00" + several(command) + b"R.", True),
        "BUILD with __setstate__": (
            b"ccopyreg\n__newobj__\n0" + called("types.SimpleNamespace") + mapping({"__setstate__": system}) + b"b"
            + command + b"b.", True,
        ),
        "eval": (called("builtins.eval", text(f"open({str(canary)!r}, 'w')")) + b".", True),
        "getattr": (called("builtins.getattr", b"cos\npath\n", text("os")) + b".", False),
        "a nested call in a dict": (mapping({"a": system + several(command) + b"R"}) + b".", True),
        "PERSID": (b"Pposix system\n.", False),
        "BINPERSID": (command + b"Q.", False),
        "torch's nested load": (called("torch.storage._load_from_bytes", command) + b".", False),
        "an array of a class": (called("numpy.core.multiarray._reconstruct", system, several(), command) + b".", False),
        "numpy.load": (called("numpy.load", command) + b".", False),
        "_codecs.encode of a codec": (called("_codecs.decode", command, text("rot13")) + b".", False),
        "a dotted name": (text("builtins") + text("eval.__call__") + b"\x93" + several(command) + b"R.", False),
    }  # fmt: skip


CALLS = list(calls(""))


@pytest.fixture
def extension():
    copyreg.add_extension("posix", "system", 240)
    yield
    copyreg.remove_extension("posix", "system", 240)


@pytest.mark.skipif(os.name != "posix", reason="the canary is made by the module posix")
@pytest.mark.parametrize("call", CALLS)
def test_a_pickle_that_calls_a_function_runs_nothing(tmp_path, call, extension):
    """Python's own unpickler makes the canary; load_weights does not, in any container."""
    canary = tmp_path / "canary"
    body, runs = calls(canary)[call]
    if runs:
        with suppress(Exception):
            pickle.loads(body)
        assert canary.exists()
        canary.unlink()
    state = body.removeprefix(b"\x80\x04").removeprefix(b"\x80\x02")[:-1]
    head = files.npy()[:128]
    for data in (b"\x80\x04" + state + b".", head + body, files.pth(state), files.legacy(state)):
        must_refuse(tmp_path, data)
        assert not canary.exists()
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("a.npy", head + body)
    must_refuse(tmp_path, (tmp_path / "w.npz").read_bytes(), "holds pickled objects")
    assert not canary.exists()


def test_a_name_that_weights_do_not_need_is_said(tmp_path):
    must_refuse(
        tmp_path, files.pth(called("posix.system", text("x"))), "asks for 'posix.system', which minifcn does not run"
    )


@pytest.mark.parametrize("container", [files.pth, files.legacy])
@pytest.mark.parametrize(
    "how",
    [
        {"offset": 1}, {"offset": -1}, {"offset": 2**63}, {"shape": (4, 3, 1, 3)}, {"strides": (7, 2, 2, 1)},
        {"strides": (-6, 2, 2, 1)}, {"strides": (6, 2, 2)}, {"shape": (-4, 3, 1, 2)}, {"shape": (2**63, 3, 1, 2)},
        {"shape": (2**62, 1), "strides": (0, 1)}, {"shape": (1000, 1000), "strides": (0, 0)}, {"count": 25},
        {"count": -1}, {"count": 2**62}, {"key": "2"}, {"key": "../data.pkl"}, {"kind": "Double"}, {"kind": "Complex"},
        {"kind": "Untyped"}, {"shape": (1,) * 33, "strides": (1,) * 33},
    ],
    ids=str,
)  # fmt: skip
def test_a_tensor_that_leaves_its_storage(tmp_path, container, how):
    must_refuse(tmp_path, container(mapping({"w": tensor(**how)}), {"0": WEIGHT.tobytes()}))


@pytest.mark.parametrize("size", [*HUGE, -1, 23, 25])
def test_a_storage_that_lies_about_its_size(tmp_path, size):
    state = mapping({"w": tensor()})
    storages = {"0": WEIGHT.tobytes()}
    if -(2**63) <= size < 2**63:
        must_refuse(tmp_path, files.legacy(state, storages, {"0": size}))
        must_refuse(tmp_path, files.legacy(mapping({"w": tensor(count=size)}), storages, {"0": size}))
    must_refuse(tmp_path, files.pth(mapping({"w": tensor(count=size)}), {"0": WEIGHT.tobytes()[:92]}))


PARTS = (
    b"N",
    b"I0\n",
    b"I-1\n",
    b"X\x01\x00\x00\x00a",
    b"]",
    b"}",
    b")",
    b"(I1\nt",
    b"ctorch\nFloatStorage\n",
    b"F0.5\n",
)


def test_parts_of_the_wrong_type(tmp_path):
    """Every kind of value at every place of a tensor, a storage, a NumPy array and a dtype."""
    dtype = (
        called("numpy.dtype", text("f4"))
        + several(number(3), text("<"), *[b"N"] * 3, *[number(-1)] * 2, b"I0\n")
        + b"b"
    )
    stored = [text("storage"), b"ctorch\nFloatStorage\n", text("0"), text("cpu"), number(24)]
    build = b"cnumpy.core.multiarray\n_reconstruct\n(tR"
    rebuild = "torch._utils._rebuild_tensor_v2"
    places = {  # a value, and its parts, of which one is replaced
        lambda *parts: called(rebuild, *parts): [files.storage(), number(0), several(), several()],
        lambda *parts: called(rebuild, several(*parts) + b"Q", number(0), several(), several()): stored,
        lambda *parts: build + several(*parts) + b"b": [number(1), several(number(1)), dtype, b"I00\n", text("abcd")],
        lambda *parts: called("numpy.core.multiarray.scalar", *parts): [dtype, text("abcd")],
        lambda *parts: called("numpy.core.numeric._frombuffer", *parts): [text("abcd"), dtype, several(), text("C")],
        lambda *parts: called("collections.OrderedDict", *parts): [b"](" + several(text("a"), number(1)) + b"e"],
    }
    bodies = [
        make(*parts[:at], part, *parts[at + 1 :])
        for make, parts in places.items()
        for at, part in product(range(len(parts)), PARTS)
    ]
    bodies += [called("numpy.dtype", part) for part in PARTS] + [part + part + b"b" for part in PARTS]
    bodies += [part + part + b"R" for part in PARTS] + [part + text("k") + b"N" + b"s" for part in PARTS]
    bodies += [part + b"Na" for part in PARTS] + [b"}" + part + b"Ns" for part in PARTS]
    bodies += [bytes([code]) for code in b"0123abcdegijlopqrstuQR\x81\x85\x86\x87\x90\x91\x92\x93\x94"]
    for body in bodies:
        (tmp_path / "w.pth").write_bytes(files.pth(mapping({"w": body})))
        with suppress(UserError):
            assert all(isinstance(a, np.ndarray) for a in load_weights(tmp_path / "w.pth").values())


LONG = {
    "LONG4": b"\x8b" + struct.pack("<i", 2**31 - 1), "BINUNICODE8": b"\x8d" + b"\xff" * 7 + b"\x7f",
    "BINBYTES8": b"\x8e" + b"\x00" * 7 + b"\x40", "BYTEARRAY8": b"\x96" + b"\x00" * 4 + b"\x01" + b"\x00" * 3,
    "BINUNICODE": b"X\xff\xff\xff\xff", "BINSTRING": b"T\xff\xff\xff\x7f", "FRAME": b"\x95" + b"\xff" * 8 + b".",
    "INT": b"I" + b"9" * 100_000 + b"\n", "LONG": b"L" + b"9" * 100_000 + b"L\n",
    "LONG1": b"\x8a\xff" + b"\x7f" * 255, "PROTO": b"\x80\xff", "no end": b"}" * 1000, "nothing": b"",
    "marks": b"(" * 10_000 + b"t" * 10_000, "LONG_BINPUT": b"}r\xff\xff\xff\xff0", "GET": b"g5\n", "POP_MARK": b"1",
}  # fmt: skip


@pytest.mark.parametrize("trick", LONG)
def test_instructions_with_huge_arguments(tmp_path, trick):
    for data in (b"\x80\x04" + LONG[trick], files.pth(LONG[trick]), files.legacy(LONG[trick])):
        must_refuse(tmp_path, data)


def doubled(times, pair):
    """A list of values, each of which holds the one before twice: the last has 2^times leaves."""
    levels = b"".join(pair.replace(b"x", b"h%c" % i) + b"q%ca" % (i + 1) for i in range(times))
    return b"]" + tensor() + b"q\x00a" + levels


def test_nesting_and_growth(tmp_path):
    for depth in (20, 20_000):
        must_refuse(tmp_path, files.pth(b"]" * depth + tensor() + b"a" * depth), "nested")
    lists, tuples = doubled(60, b"(xxl"), doubled(60, b"xx\x86")
    for data in (lists, tuples):
        must_refuse(tmp_path, files.pth(data), "nested")
    must_refuse(tmp_path, files.pth(tuples + b"}h\x3cNs"), "a key")  # its hash would take 2^60 steps
    must_refuse(tmp_path, files.pth(b"}q\x00" + text("a") + b"h\x00s"), "nested")  # it holds itself
    must_refuse(tmp_path, files.pth(b"]q\x00h\x00a"), "nested")
    must_refuse(tmp_path, files.pth(b"]" * 300_001), "instructions", memory=1 << 25)


def test_one_array_or_list_that_is_named_many_times(tmp_path):
    many = b"".join(text(f"a{i}") + b"h\x00" for i in range(200))
    must_refuse(tmp_path, files.pth(b"}(" + text("a") + tensor() + b"q\x00" + many + b"u"), "more than 4 times")
    pairs = b"](" + b"](NNe" * 50_000 + b"eq\x00"
    copies = b"".join(called("collections.OrderedDict", b"h\x00") + b"a" for _ in range(99))
    must_refuse(tmp_path, files.pth(b"]" + pairs + b"a" + copies), memory=1 << 26)
    raw = (
        b"\x8e"
        + (10**6).to_bytes(8, "little")
        + bytes(10**6)
        + b"q\x01a"
        + called("numpy.dtype", text("u1"))
        + b"q\x02a"
    )
    arrays = called("numpy.core.numeric._frombuffer", b"h\x01h\x02" + several(number(10**6)) + text("C")) + b"a"
    must_refuse(tmp_path, b"\x80\x04]" + raw + arrays * 99 + b".", "more than 4 times")
