"""Safetensors files that are divided into shards: ``model.safetensors.index.json``, or any one of the shards."""

import json
import os
import re
from pathlib import Path

from .. import tensors
from .common import Found, Unfit, beside

LARGEST = 1 << 26  # bytes of an index
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors", re.IGNORECASE)


def read_index(path: str | Path) -> Found:
    """The arrays of all shards that an index names, which must lie in its folder.

    Parameters
    ----------
    path : path-like
    """
    if os.path.getsize(path) > LARGEST:
        raise Unfit(f"an index of shards has at most {LARGEST:,} bytes; give another file")
    index = json.loads(Path(path).read_text(encoding="utf-8"))
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(file, str) for file in names.values()):
        raise Unfit("it is no index of shards, which holds a weight_map of names and files; give a file of weights")
    if not all(file.lower().endswith(".safetensors") for file in names.values()):
        raise Unfit("its shards are not .safetensors files; give each shard by itself")
    found = _read(path, sorted(set(names.values())))
    missing = names.keys() - found.keys()
    if missing:
        raise Unfit(f"its shards do not hold {min(missing)[:100]!r}; give the shards that belong to it")
    return found


def read_shard(path: str | Path) -> Found:
    """The arrays of a safetensors file, and of the other shards beside it if its name says that it is one of several.

    Parameters
    ----------
    path : path-like
    """
    match = SHARD.fullmatch(Path(path).name)
    if match is None:
        return Found(tensors.read(path, "a .safetensors file")[0])
    stem, _, count = match.groups()
    suffix = Path(path).suffix
    return _read(path, (f"{stem}-{i:05}-of-{count}{suffix}" for i in range(1, int(count) + 1)))


def _read(path, names):
    found = Found()
    for name in names:
        for tensor, array in tensors.read(beside(path, name), "a .safetensors file")[0].items():
            found.add(tensor, array)
    return found
