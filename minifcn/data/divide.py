"""Divide samples into splits: at random, by groups of names, by blocks of successive names, or by lists."""

import re
from pathlib import PurePosixPath

import numpy as np

from ..errors import UserError
from .manifest import some
from .names import read_lines


def divide(names, share, seed=0, group=None, block=1, keys=None):
    """Choose samples for validation.

    Samples of one group are never in both splits.  Frames of a video, or tiles of one photo, resemble each other, and
    a network that was trained on some scores too well on the others.

    Parameters
    ----------
    names : sequence of str
        The samples' names.
    share : float
        The share of them for validation.
    seed : int
    group : str, optional
        A regular expression: names in which it finds the same text are one group.  With a pair of parentheses, only
        the text inside counts.
    block : int
        So many successive numbers of a sequence are one group; "a_7" and "a_8" are of the sequence "a_".
    keys : sequence, optional
        The group of each name, instead of `group` and `block`.

    Returns
    -------
    dict of {str: list of str}
        "train" and "val", each in the order of `names`.

    Raises
    ------
    UserError
        If a name has no group, or if there are fewer than two groups.
    """
    if keys is None:
        keys = [_group(name, group) for name in names] if group else _blocks(names, block)
    members = {}
    for name, key in zip(names, keys):
        members.setdefault(key, []).append(name)
    if len(members) < 2:
        raise UserError(
            f"all {len(names)} images are one group ({some(map(str, members))}), which cannot be in both splits; give "
            "smaller groups"
        )
    wanted, val = max(share * len(names), 0.5), []
    for k in np.random.default_rng(seed).permutation(len(members)):
        group_names = list(members.values())[k]
        if len(val) + len(group_names) / 2 <= wanted:  # nearer to the share with this group than without
            val += group_names
    val = set(val or min(members.values(), key=len))
    train = [name for name in names if name not in val]
    if not train:
        raise UserError(f"a share of {share:g} for validation leaves nothing to train on; choose a smaller one")
    return {"train": train, "val": [name for name in names if name in val]}


def _group(name, pattern):
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise UserError(f"the group {pattern!r} is not a regular expression ({error})") from None
    if not found:
        raise UserError(f"the group {pattern!r} is not in the name {name!r}; give a pattern that each name has")
    return found[1] if found.re.groups and found[1] is not None else found[0]


def _blocks(names, block):
    """(sequence, number of the block) of each name."""
    seen, keys = {}, {}
    for name in sorted(names, key=_natural):
        sequence = re.sub(r"\d+\D*$", "", str(PurePosixPath(name).with_suffix("")))
        seen[sequence] = seen.get(sequence, -1) + 1
        keys[name] = (sequence, seen[sequence] // block)
    return [keys[name] for name in names]


def _natural(name):
    """A key for sorting that puts "a9" before "a10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def listed_splits(folder, names):
    """The splits in lists of names such as ``train.txt``, with or without suffix; {} if there are none."""
    by_name = {}
    for name in names:
        for key in (name, PurePosixPath(name).name, PurePosixPath(name).stem):
            by_name.setdefault(key, []).append(name)
    splits = {}
    for name in ("train", "val", "test"):
        path = folder / f"{name}.txt"
        if path.exists():
            words = [line if line in by_name else line.split()[0] for line in read_lines(path) if line]
            unknown = [word for word in words if len(by_name.get(word, ())) != 1]
            if unknown:
                raise UserError(f"{path} names images that are not in {folder}, or several times ({some(unknown)})")
            splits[name] = [by_name[word][0] for word in words]
    return splits


def unlisted(folder, names, splits):
    """A sentence about the names in none of the splits, as a list; empty if there are no splits or no such names."""
    left = sorted(set(names).difference(*splits.values())) if splits else []
    return [f"{folder}: {len(left)} images are in no split, and not used ({some(left)})"] if left else []
