"""Folders of users: masks written by image editors, stray files, unusual names and encodings."""

import os
import unicodedata
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

from minifcn import train
from minifcn.data import Folder
from minifcn.data.palette import save_mask
from minifcn.errors import Note, UserError


def put(root, name="a", values=(0, 1), mask=None, image=".png", suffix=".png", size=(6, 8), **options):
    """Write an image and its mask; unless `mask` is given, `values` fill it in turn."""
    mask = np.resize(np.array(values), size).astype(np.uint8) if mask is None else mask
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", mask.shape[::-1]).save(root / f"images/{name}{image}", **options)
    Image.fromarray(mask).save(root / f"masks/{name}{suffix}")
    return root


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 128), "the values 0, 128 .*a.png"),
        ((0, 200), "the values 0, 200 .*a.png"),
        ((0, 127, 255), "the values 0, 127, 255 .*a.png"),
        ((0, 85, 170, 255), "the values 0, 85, 170, 255"),
        ((0, 80, 160, 240), "name all 241 classes in classes.txt"),
        ((0, 5), "the values 0, 5 .*name all 6 classes in classes.txt"),
        ((3, 255), "the values 3, 255"),
        ((0, 255), "only class 0, and 255 means void; write 1 instead of 255"),
        (range(255), "255 different|the values 0, 1, 2, 3, 4, 5 and 249 more"),
    ],
)
def test_values_that_are_no_ids_are_refused_with_the_way_out(tmp_path, values, message):
    with pytest.raises(UserError, match=message):
        Folder(put(tmp_path, values=values, size=(16, 16)))


@pytest.mark.parametrize("how", ["smooth", "jpeg"])
def test_soft_edges_make_no_classes(tmp_path, how):
    big = Image.new("L", (400, 400))
    ImageDraw.Draw(big).ellipse((50, 50, 350, 350), fill=200)
    if how == "smooth":
        mask = big.resize((100, 100), Image.Resampling.BICUBIC)
    else:
        big.resize((100, 100), Image.Resampling.NEAREST).save(tmp_path / "noise.jpg", quality=75)
        mask = Image.open(tmp_path / "noise.jpg")
    mask = np.asarray(mask)
    assert len(np.unique(mask)) > 10
    with pytest.raises(UserError, match=r"different values .*a.png.*smoothing or JPEG.*perhaps 0, .*200"):
        Folder(put(tmp_path / "data", mask=mask))


@pytest.mark.parametrize("values", [(0, 1), (0, 1, 2, 255), tuple(range(40)), (*range(60), 255), (1, 255), (1,)])
def test_ids_without_gaps_are_classes(tmp_path, values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if 0 not in values else "error", Note)
        data = Folder(put(tmp_path, values=values, size=(16, 16)))
    assert data.num_classes == max(v for v in values if v < 255) + 1
    assert set(np.unique(data[0][1])) == set(values)


def test_a_small_gap_is_a_note_and_any_gap_is_well_where_classes_are_named(tmp_path):
    with pytest.warns(Note, match="no mask of .* holds class 3; .* there are 5 classes"):
        assert Folder(put(tmp_path, values=(0, 1, 2, 4))).num_classes == 5
    put(tmp_path, values=(0, 5))
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\ne\nf\n")
    with pytest.warns(Note, match="no pixel in the masks of .* has the class b, c, d and 1 more"):
        assert Folder(tmp_path).num_classes == 6
    (tmp_path / "classes.txt").write_text("\n".join(f"class number {k}" for k in range(255)))
    put(tmp_path, values=range(255), size=(16, 16))
    assert Folder(tmp_path).num_classes == 255


def test_named_classes_beside_masks_of_white_or_void_are_refused(tmp_path):
    (tmp_path / "classes.txt").write_text("ground\ntree\n")
    for values, message in [
        ((0, 255), r"only class 0 \(ground\) and 255, which means void"),
        ((255,), "hold nothing but 255"),
        ((0, 1, 2), r"a\.png holds class 2; with 2 classes"),
    ]:
        with pytest.raises(UserError, match=message):
            Folder(put(tmp_path, values=values))


def test_masks_without_an_image_and_backups_make_no_classes(tmp_path):
    put(tmp_path, values=(0, 1, 2))
    for name in ("masks/lone.png", "masks_old/masks/a.png", "backup/masks/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        save_mask(tmp_path / name, np.full((6, 8), 9, np.uint8))
    with pytest.warns(Note, match=r"masks: 1 not used, for lack of an image \(lone.png\)"):
        assert Folder(tmp_path).num_classes == 3
    for split in ("train", "val"):
        put(tmp_path / "divided" / split, values=(0, 1))
    (tmp_path / "divided/masks_old/masks").mkdir(parents=True)
    save_mask(tmp_path / "divided/masks_old/masks/a.png", np.full((6, 8), 9, np.uint8))
    assert Folder(tmp_path / "divided", "train").num_classes == 2


def test_what_an_operating_system_leaves_is_no_picture_and_sub_folders_are_named(tmp_path):
    for split in ("train", "val"):
        put(tmp_path / split)
        for name in ("images/._a.png", "images/.DS_Store", "images/Thumbs.db", "masks/._a.png", "masks/desktop.ini"):
            (tmp_path / split / name).write_bytes(b"\0\5\26\7 litter")
    put(tmp_path / "__MACOSX", name="._a")
    put(tmp_path / "train/images", name="x")  # pictures in train/images/images
    with pytest.warns(Note, match=r"\.DS_Store, \._a\.png, Thumbs\.db and 2 more not used") as noted:
        data = Folder(tmp_path, "train")
    assert len(data) == 1 and len(noted) == 1 and len(Folder(tmp_path, "val")) == 1


def test_suffixes_of_any_case_and_other_exact_formats_are_found(tmp_path):
    for k, suffix in enumerate([".PNG", ".tif", ".TIFF", ".bmp", ".gif"]):
        put(tmp_path, name=f"a{k}", suffix=suffix, image=".PNG")
    data = Folder(tmp_path)
    assert len(data) == 5 and data.num_classes == 2
    for _, label in data:
        np.testing.assert_array_equal(label, np.resize([0, 1], (6, 8)))
    put(tmp_path, name="b", suffix=".jpg")
    with pytest.raises(UserError, match=r"mask .*b\.jpg is in a format that may change class ids.*save it as PNG"):
        Folder(tmp_path)
    put(tmp_path, name="b", suffix=".png")
    assert len(Folder(tmp_path)) == 6
    put(tmp_path, name="b", suffix=".bmp")
    with pytest.raises(UserError, match=r"b\.png has several masks: b\.bmp, b\.png"):
        Folder(tmp_path)


def test_a_name_is_one_in_either_spelling_of_its_accents(tmp_path):
    composed, apart = (unicodedata.normalize(form, "été-한") for form in ("NFC", "NFD"))
    assert composed != apart
    put(tmp_path, name=composed)
    (tmp_path / f"masks/{composed}.png").rename(tmp_path / f"masks/{apart}.png")
    assert len(Folder(tmp_path)) == 1


@pytest.mark.parametrize("orientation", [2, 3, 4, 6])
def test_an_orientation_of_the_image_alone_is_refused_where_the_size_does_not_tell(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    put(tmp_path, size=(7, 7) if orientation == 6 else (6, 8), exif=exif)
    with pytest.raises(UserError, match=rf"a\.png has the EXIF orientation {orientation}, mask .*a\.png has none"):
        Folder(tmp_path)
    Image.fromarray(np.resize([0, 1], (7, 7) if orientation == 6 else (6, 8)).astype(np.uint8)).save(
        tmp_path / "masks/a.png", exif=exif
    )
    assert len(Folder(tmp_path)[0]) == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("road\nsky\n".encode("utf-8-sig"), ("road", "sky")),
        ("Straße\r\n하늘\r\n\r\n".encode("utf-16"), ("Straße", "하늘")),
        (b"road\tside\n  sky\x0c\n", ("road side", "sky")),
        (b"$x$\n100 $\n", ("$x$", "100 $")),
        ("Straße\nsky".encode("cp1252"), "not encoded as UTF-8 .line 1.; save it as UTF-8"),
        ("road\n하늘".encode("cp949"), "not encoded as UTF-8 .line 2."),
        ("天空\n路".encode("gbk"), "not encoded as UTF-8"),
        ("road\nsky".encode("utf-16-le"), "cannot be shown"),
        (b"road\nsky\nroad\n", "lines 1 and 3 of .* are both 'road'"),
        (b"# classes\nroad\nsky\n", "line 1 of .* begins with #"),
        (b"road\n\nsky\n", "line 2 of .* is empty"),
        (b"road\nsky\x07\n", "line 2 of .* cannot be shown"),
        (b"road\n" + b"x" * 101, "line 2 of .* has 101 characters"),
        (b"road\n", "must name 2 to 255 classes"),
        (b"", "must name 2 to 255 classes"),
    ],
)
def test_classes_txt_of_any_kind(tmp_path, content, expected):
    put(tmp_path)
    (tmp_path / "classes.txt").write_bytes(content)
    if isinstance(expected, tuple):
        assert Folder(tmp_path).classes == expected
    else:
        with pytest.raises(UserError, match=f"classes.txt.*{expected}|{expected}"):
            Folder(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_in_a_folder_is_refused_at_once(tmp_path):
    for name in ("images/b.png", "masks/a.png", "classes.txt"):
        root = put(tmp_path / name.replace("/", "-"))
        (root / name).unlink(missing_ok=True)
        os.mkfifo(root / name)
        if name == "images/b.png":
            save_mask(root / "masks/b.png", np.ones((6, 8), np.uint8))
        with pytest.raises(UserError, match=f"{os.path.basename(name)} is a named pipe"):
            Folder(root)


def test_a_command_says_a_note_once_in_one_line(tmp_path, scenes, capfd):
    (scenes / "images/notes.txt").write_text("x")
    with warnings.catch_warnings():
        assert train.main(["--root", str(scenes), "--epochs", "1", "--width", ".1", "--out", str(tmp_path / "r")]) == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if "notes.txt" in line]
    assert len(lines) == 1 and lines[0].startswith("note        ")
