"""PyTorch's files, ``.pth``, ``.pt`` and ``.bin``: the zip container, and the one of PyTorch before 1.6.

Both hold a pickle, which :mod:`.pickles` reads without running it, and the numbers of the tensors outside the pickle.
"""

import io
import os
from pathlib import Path

import numpy as np

from . import zips
from .common import Found, Unfit, mapped
from .pickles import unpickle
from .values import KINDS, Name, Storage, arrays

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
LARGEST = 1 << 26  # bytes of the pickle, which holds no numbers of tensors


def read_zip(path: str | Path) -> Found:
    """The tensors of a file of PyTorch 1.6 or later.

    Parameters
    ----------
    path : path-like
    """
    with zips.opened(path) as archive:
        names = archive.namelist()
        tops = [name.removesuffix("data.pkl") for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(tops) != 1:
            raise Unfit(f"it holds {len(tops)} entries data.pkl, not one; give another file")
        (top,) = tops
        if f"{top}constants.pkl" in names:
            raise Unfit("it holds a program (TorchScript); save the state_dict of the model with torch.save")
        if any(archive.getinfo(name).compress_type for name in names):
            raise Unfit("its entries are compressed, which torch.save does not do; save it again")
        if archive.getinfo(f"{top}data.pkl").file_size > LARGEST:
            raise Unfit(f"its pickle has more than {LARGEST:,} bytes; save the state_dict alone")
        order = zips.content(archive, f"{top}byteorder") if f"{top}byteorder" in names else b"little"
        tree = unpickle(io.BytesIO(zips.content(archive, f"{top}data.pkl")), _storage)

        def numbers(storage):
            data = zips.content(archive, f"{top}data/{storage.key}")
            return _numbers(data, 0, storage, order == b"little")

        if order not in (b"little", b"big"):
            raise Unfit("its byte order is neither little nor big; give another file")
        return arrays(tree, os.path.getsize(path), numbers)


def read_legacy(path: str | Path) -> Found:
    """The tensors of a file of PyTorch 0.1.10 to 1.5: five pickles, and then for each storage its length and numbers.

    Parameters
    ----------
    path : path-like
    """
    data = mapped(path)
    storages: dict[str, Storage] = {}

    def storage(persistent):
        found = _storage(persistent)
        if storages.setdefault(found.key, found) != found:
            raise Unfit(f"it describes its storage {found.key[:100]!r} in two ways; give another file")
        return found

    magic, protocol, system, tree, keys = (unpickle(data, storage) for _ in range(5))
    if magic != MAGIC or protocol != PROTOCOL or not isinstance(system, dict):
        raise Unfit("it is of no version of PyTorch that minifcn reads; save it again with PyTorch 1.6 or later")
    if not isinstance(keys, list) or {key for key in keys if isinstance(key, str)} != storages.keys():
        raise Unfit("its list of storages does not name those of its tensors; give another file")
    starts, at = {}, data.tell()
    for key in keys:
        kept = storages[key]
        starts[key] = at + 8
        if int.from_bytes(data[at : at + 8], "little") != kept.length:
            raise Unfit(f"the size of its storage {key[:100]!r} is not that of the tensors; give another file")
        at += 8 + kept.length * kept.kind.itemsize
        if at > len(data):
            raise Unfit("it is cut short; give another file")
    little = system.get("little_endian", True) is True
    return arrays(tree, len(data), lambda s: _numbers(data, starts[s.key], s, little))


def _storage(persistent):
    """The `Storage` that a persistent id stands for: ("storage", type, key, device, length), without a view."""
    if not (isinstance(persistent, tuple) and len(persistent) in (5, 6) and persistent[0] == "storage"):
        raise Unfit("it refers to an object outside its pickle that is no storage; save the state_dict alone")
    _, kind, key, _, length, *view = persistent
    dtype = kind.removeprefix("torch ").removesuffix("Storage") if isinstance(kind, Name) else None
    if dtype not in KINDS or type(key) is not str or type(length) is not int or length < 0:
        raise Unfit("the parts of a storage in it do not fit together; give another file")
    if view not in ([], [None]):
        raise Unfit("it holds a view of a storage, of an old PyTorch; save it again with PyTorch 1.6 or later")
    return Storage(dtype, key, length)


def _numbers(data, start, storage, little):
    kind = storage.kind if little else storage.kind.newbyteorder()
    if len(data) - start < storage.length * kind.itemsize:
        raise Unfit(f"its storage {storage.key[:100]!r} is cut short; give another file")
    if kind.kind == "b":
        return np.frombuffer(data, np.uint8, storage.length, start) != 0
    return np.frombuffer(data, kind, storage.length, start)
