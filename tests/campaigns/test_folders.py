"""Folders of users with several faults at once, and folders of random files: checked, cured and checked again."""

import os
import shlex
import shutil

import numpy as np
import pytest
from campaign import campaign, command
from PIL import Image
from test_check import CASES, write

from minifcn import __main__
from minifcn.data.check import ERROR, check, mended, report
from minifcn.viz import check as viz

pytestmark = pytest.mark.campaign
MODES = ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK"]
VALUES = ["levels of grey", "black and white", "a PNG that was a JPEG", "JPEG", "ids as RGB"]
WHOLE = ["12 bits", "transparent"]
FILES = [
    "one void mask", "EXIF, upright mask", "another size", "no mask", "no image", "damaged", "a copy", "litter",
    "__ignore__",
]  # fmt: skip


def cured(root):
    """Check a folder, and convert it as its cure says; the findings of the new folder, or None without a cure."""
    before = check(root)
    if not before.cure:
        return None
    argv = shlex.split(before.cure)[3:]  # after "python -m minifcn.data"
    code, errors = command(__main__.main, "data", *argv)
    assert code == 0, f"{before.cure}: {errors}"
    after = check(argv[2]).findings
    shutil.rmtree(argv[2])
    return after


def faults_in(folder):
    def case(number, rng):
        root = folder / "my data"
        shutil.rmtree(root, ignore_errors=True)
        write(root)
        chosen = [rng.choice(WHOLE), rng.choice(VALUES)][int(rng.integers(3)) :]
        chosen += [*rng.choice(FILES, int(rng.integers(1, 4)), replace=False)]
        for name in map(str, chosen):
            try:
                CASES[name][0](root)
            except (OSError, ValueError):  # another fault has changed the file already
                continue
        left = cured(root)
        assert not [f for f in left or () if f.level == ERROR], (chosen, [f.what for f in left])
        return 2

    return case


def picture(path, rng):
    """Write a random picture of a random mode and format, sometimes damaged; or something that is no file."""
    h, w = ([(40, 60)] * 8 + [(1, 1), (5, 7), (60, 40)])[rng.integers(11)]
    mode, suffix = MODES[rng.integers(len(MODES))], ("png", "jpg", "tif", "webp")[rng.integers(4)]
    colours = rng.integers(0, rng.choice([2, 3, 256]), (h, w, 3), dtype=np.uint8)
    image = Image.fromarray(colours if rng.random() < 0.5 else colours[..., :1].repeat(3, 2)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(0, 10)) if rng.random() < 0.2 else 1
    path = path.with_name(f"{path.name}.{suffix}")
    match rng.integers(30):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to("nowhere")
        case 2:
            path.mkdir()
        case 3:
            path.write_bytes(b"")
        case _:
            try:
                image.save(path, exif=exif)
            except (OSError, KeyError):  # the format has no such mode
                image.convert("RGB").save(path)
            if rng.random() < 0.1:
                path.write_bytes(path.read_bytes()[: int(rng.integers(1, 200))])


def random_files_in(folder):
    texts = [b"a\nb\n", b"__ignore__\na\nb\n", b"", b"\xff\xfe\0", b"0 0 0 a\n255 0 0 b\n", b"0\n1\n"]

    def case(number, rng):
        root = folder / "d ö"
        shutil.rmtree(folder, ignore_errors=True)
        for split in ([""], ["train", "val"], ["val"], ["train", "test", "x"])[rng.integers(4)]:
            for kind in (("images", "masks"), ("images", "masks"), ("Images", "Labels"), ("images",))[rng.integers(4)]:
                (root / split / kind).mkdir(parents=True)
                for name in sorted(
                    set(rng.choice(["0", "1", "2", "3", "4", "a.b", "2_mask", "._x"], int(rng.integers(8))))
                ):
                    picture(root / split / kind / str(name), rng)
        for name in ("classes.txt", "bands.txt", "colours.txt", "train.txt", "val.txt", "labels.txt"):
            if rng.random() < 0.15:
                (root / name).write_bytes(texts[rng.integers(len(texts))])
        code, errors = command(viz.main, str(root), "--out", str(folder / "page.html"))
        if "cannot be trained on" in errors or code == 0:
            cured(root)
        return 2

    return case


def test_several_faults_at_once_are_cured(tmp_path):
    campaign("faults in folders", 12, 600, faults_in(tmp_path))


def test_folders_of_random_files(tmp_path):
    campaign("folders of random files", 25, 2000, random_files_in(tmp_path / "f"))


def test_a_cure_that_leaves_faults_is_seen(tmp_path, monkeypatch):
    """The sabotage: ``--skip`` leaves nothing out."""
    monkeypatch.setattr(mended.Mended, "_trouble", lambda self, f: "")
    with pytest.raises(AssertionError, match="case"):
        campaign("sabotage of cures", 8, 8, faults_in(tmp_path))


def test_a_cure_in_vain_is_seen(tmp_path, monkeypatch):
    """The sabotage: ``--skip`` is proposed where it would leave no sample."""
    monkeypatch.setattr(report, "_without_vain_cures", lambda findings, samples: findings)
    with pytest.raises(AssertionError, match="case"):
        campaign("sabotage of vain cures", 40, 40, random_files_in(tmp_path / "f"))
