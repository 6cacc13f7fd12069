"""The check of a user's folder: what it finds in each awkward case, all in one pass, and that its cures cure."""

import io
import json
import os
import re
import shlex
import shutil
import struct
import tracemalloc
import warnings
import zlib

import layout_folders
import numpy as np
import pytest
from PIL import Image, ImageFilter

from minifcn import __main__, train
from minifcn.data import Shapes, recognise
from minifcn.data.check import ERROR, NOTE, WARNING, before_training, check
from minifcn.data.check.files import contents
from minifcn.data.check.similar import alike, near_duplicates
from minifcn.data.check.survey import survey
from minifcn.errors import Note
from minifcn.viz import check as command
from minifcn.viz.check_sheet import _painted, sheet
from minifcn.viz.figures import VOID_COLOUR
from minifcn.viz.fonts import fallbacks


def write(root, count=25, divided=False, size=(48, 64)):
    """Write scenes of three classes, without void; every fifth is for validation, in its own folder if `divided`."""
    for i, (image, label) in enumerate(Shapes(length=count, size=size, num_classes=3)):
        folder = root / ("val" if i % 5 == 0 else "train") if divided else root
        for kind, picture in (("images", image), ("masks", np.where(label == 255, 0, label))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{kind}/{i:02}.png")
    return root


def values(path):
    with Image.open(path) as image:
        return np.array(image)


def repaint(root, table):
    """Replace the ids in all masks by the values or colours of a table, or by the result of a function."""
    for path in sorted(root.rglob("masks/*.png")):
        ids = values(path)
        Image.fromarray(table(ids) if callable(table) else np.array(table, np.uint8)[ids]).save(path)


def jpeg(root, table, suffix=".jpg"):
    """Save the masks as JPEG, or as PNG of what was a JPEG."""
    for path in sorted(root.rglob("masks/*.png")):
        packed = io.BytesIO()
        Image.fromarray(np.array(table, np.uint8)[values(path)]).save(packed, "JPEG", quality=75)
        path.unlink()
        Image.open(packed).save(path.with_suffix(suffix))


def smooth(ids):
    big = Image.fromarray(np.array([0, 10, 20], np.uint8)[ids]).resize((256, 192), Image.Resampling.NEAREST)
    return np.asarray(big.filter(ImageFilter.GaussianBlur(1.5)).resize((64, 48), Image.Resampling.BILINEAR))


def turned(root, orientation, stored=None):
    """Save an image as a phone does: with an EXIF orientation, and its pixels turned by `stored`."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(root / "images/03.png") as image:
        image.load()
        (image.transpose(stored) if stored is not None else image).save(root / "images/03.jpg", exif=exif)
    (root / "images/03.png").unlink()


def transparent(root):
    image = np.dstack([values(root / "images/03.png"), np.full((48, 64), 255, np.uint8)])
    image[:20, :20, 3] = 0
    Image.fromarray(image).save(root / "images/03.png")


def twelve_bits(root):
    for path in sorted((root / "images").iterdir()):
        with Image.open(path) as image:
            Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) << 4).save(path)


def one_white_dot(root):
    repaint(root, [0, 255, 255])
    mask = values(root / "masks/01.png")
    mask[0, 0] = 1
    Image.fromarray(mask).save(root / "masks/01.png")


def own_palettes(root):
    """Save masks as an editor of indexed colours does: the ids in each file in the order in which colours occur."""
    for k, path in enumerate(sorted((root / "masks").iterdir())):
        picture = Image.fromarray(np.roll([0, 1, 2], k % 2).astype(np.uint8)[values(path)])
        picture.putpalette(np.roll([[0, 0, 0], [255, 0, 0], [0, 255, 0]], -(k % 2), axis=0).astype(np.uint8).tobytes())
        picture.save(path)


def class_two_in_val_only(root):
    for k, path in enumerate(sorted((root / "masks").iterdir())):
        ids = values(path)
        ids[ids == 2] = 1 if k % 5 else 2
        if k % 5 == 0:
            ids[:4, :4] = 2
        Image.fromarray(ids).save(path)


def litter(root):
    for name in ("images/._00.png", "masks/Thumbs.db", ".DS_Store"):
        (root / name).write_bytes(b"\0\5\26\7")
    (root / "__MACOSX").mkdir()


def again(root, name, **options):
    """Add the first training sample again, for validation, changed as a copy on the web is."""
    for kind in ("images", "masks"):
        with Image.open(root / f"train/{kind}/01.png") as picture:
            if kind == "images":
                picture.resize((128, 96)).save(root / f"val/{kind}/{name}.jpg", quality=60)
            else:
                picture.resize((128, 96), Image.Resampling.NEAREST).save(root / f"val/{kind}/{name}.png")


def resize_all(root, size):
    for path in sorted(root.rglob("*.png")):
        with Image.open(path) as picture:
            picture.resize(size, Image.Resampling.NEAREST).save(path)


def shrink_mask(root):
    Image.fromarray(values(root / "masks/03.png")[::2, ::2]).save(root / "masks/03.png")


def damage(root):
    image = root / "images/03.png"
    image.write_bytes(image.read_bytes()[:300])
    (root / "masks/07.png").write_bytes(b"not a picture")


def copy_sample(root, name):
    for kind in ("images", "masks"):
        shutil.copy(root / f"{kind}/01.png", root / f"{kind}/{name}.png")


def one_mask_for_all(root):
    repaint(root, lambda ids: np.tile(np.repeat([0, 1, 2], [16, 16, 32]), (48, 1)).astype(np.uint8))


def void_masks(root, names):
    for name in names:
        Image.fromarray(np.full((48, 64), 255, np.uint8)).save(root / f"masks/{name}.png")


ROTATE = Image.Transpose.ROTATE_90
CASES = {
    # name: (what is done to a folder, level, what is found, how it is cured)
    "levels of grey": (lambda r: repaint(r, [0, 50, 200]), ERROR, "grey levels 0, 50, 200", "--ids 0,50,200"),
    "black and white": (lambda r: repaint(r, [0, 255, 255]), ERROR, "0 and 255: black and white", "--binary 128"),
    "white, and one 1": (one_white_dot, WARNING, "all but 1 have class 0", "--binary 128"),
    "a PNG that was a JPEG": (lambda r: jpeg(r, [0, 255, 255], ".png"), ERROR, "7. values between", "--binary 128"),
    "JPEG": (lambda r: jpeg(r, [0, 128, 255]), ERROR, "only 3 of them form regions", "--ids 0,128,255 --nearest"),
    "smoothed ids": (lambda r: repaint(r, smooth), WARNING, "ids occur only along edges", "--ids 0,10,20 --nearest"),
    "ids as RGB": (lambda r: repaint(r, [[0] * 3, [1] * 3, [2] * 3]), ERROR, "25 masks of mode RGB", "--ids 0,1,2"),
    "palettes": (own_palettes, WARNING, "12 masks whose palette", "--palettes"),
    "one void mask": (lambda r: void_masks(r, ["03"]), WARNING, "1 mask with nothing but 255", "--skip"),
    "__ignore__": (
        lambda r: (r / "classes.txt").write_text("__ignore__\nsea\nland\nice\n"),
        ERROR,
        "__ignore__",
        "--names",
    ),
    "an unnamed id": (
        lambda r: (r / "classes.txt").write_text("sea\nland\n"),
        ERROR,
        "values 2, but 2 classes",
        "--names",
    ),
    "a class without pixels": (
        lambda r: (r / "classes.txt").write_text("sea\nland\nice\nfire\n"),
        WARNING,
        r"no mask .* class 3 \(fire\)",
        "--ids 0,1,2",
    ),
    "a class in val alone": (
        class_two_in_val_only,
        WARNING,
        "in the validation split, but not in the training split: class 2",
        "--val 0.2 --seed",
    ),
    "EXIF, upright mask": (lambda r: turned(r, 3), ERROR, "the image has an EXIF orientation", "--turn-masks"),
    "EXIF, mask not turned": (lambda r: turned(r, 6), ERROR, "the sizes show that the other", "--turn-masks"),
    "another size": (shrink_mask, ERROR, "1 pair of different sizes", "--fit-masks"),
    "12 bits": (twelve_bits, ERROR, "25 images of 16 bits", "--white 4095"),
    "no mask": (lambda r: (r / "masks/03.png").unlink(), ERROR, "1 image without a mask", "--skip"),
    "no image": (lambda r: (r / "images/03.png").unlink(), NOTE, "1 mask without an image", "--skip"),
    "damaged": (damage, ERROR, "2 files that cannot be read", "--skip"),
    "a copy": (lambda r: copy_sample(r, "26"), WARNING, "2 images of the same content in several splits", "--skip"),
    "tiny": (lambda r: resize_all(r, (20, 16)), WARNING, "25 images with a side of less than 32", "--size 128"),
    "transparent": (transparent, WARNING, "1 image with transparent pixels", "--background ffffff"),
    "litter": (litter, NOTE, "4 files of an operating system", ""),
}
UNCURED = {
    # what no command can know
    "one mask for all": (one_mask_for_all, WARNING, "all 25 masks are identical", "export the masks again"),
    "all void": (lambda r: repaint(r, [255] * 3), ERROR, "all 25 masks hold nothing but 255", "label some"),
}


def found(report, what):
    """The finding whose text matches."""
    those = [f for f in report.findings if re.search(what, f.what)]
    assert those, [f.what for f in report.findings]
    return those[0]


@pytest.mark.parametrize("case", CASES | UNCURED)
def test_each_awkward_case_is_found(tmp_path, case):
    spoil, level, what, cure = (CASES | UNCURED)[case]
    spoil(write(tmp_path / "my data"))
    finding = found(check(tmp_path / "my data"), what)
    assert finding.level == level and cure in finding.cure(tmp_path / "my data")


def cured(root, line):
    """Run the command of a cure, and check the new folder."""
    python, m, module, *argv = shlex.split(line)
    assert (python, m, module) == ("python", "-m", "minifcn.data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        assert __main__.main(["data", *argv]) == 0
    return check(f"{root}-converted")


@pytest.mark.parametrize("case", [case for case, (*_, cure) in CASES.items() if cure.startswith("--")])
def test_the_cure_is_a_command_after_which_nothing_is_found(tmp_path, case):
    spoil, _, what, _ = CASES[case]
    root = write(tmp_path / "my data")
    spoil(root)
    report = check(root)
    alone = len({finding.flags for finding in report.findings}) == 1
    assert not alone or report.cure == found(report, what).cure(root)
    assert [f.what for f in cured(root, report.cure).findings] == []


MEANT = {
    # what each class of the original masks must be after the cure
    "levels of grey": [0, 1, 2], "black and white": [0, 1, 1], "ids as RGB": [0, 1, 2], "palettes": [0, 2, 1],
    "a PNG that was a JPEG": [0, 1, 1], "JPEG": [0, 1, 2], "smoothed ids": [0, 1, 2], "12 bits": [0, 1, 2],
}  # fmt: skip


@pytest.mark.parametrize("case", MEANT)
def test_after_the_cure_the_masks_hold_what_was_meant(tmp_path, case):
    """Exactly; where masks were smoothed or compressed, but for some pixels along edges."""
    root = write(tmp_path / "my data")
    meant = {path.stem: np.array(MEANT[case])[values(path)] for path in (root / "masks").iterdir()}
    CASES[case][0](root)
    cured(root, check(root).cure)
    written = {path.stem: values(path) for path in (tmp_path / "my data-converted/masks").iterdir()}
    assert written.keys() == meant.keys()
    right = np.mean([(written[name] == meant[name]).mean() for name in meant])
    assert right == 1 or (case in ("a PNG that was a JPEG", "JPEG", "smoothed ids") and right > 0.97)


@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, 3), (8, 1)])
def test_a_mask_is_turned_as_its_image_is(tmp_path, orientation, turn):
    root = write(tmp_path / "my data")
    stored = values(root / "masks/03.png")
    turned(root, orientation)
    cured(root, check(root).cure)
    upright = values(tmp_path / "my data-converted/masks/03.png")
    np.testing.assert_array_equal(upright, np.rot90(stored, turn))  # turns of 90 degrees against the clock


def test_a_split_that_leaks_is_divided_anew_and_what_is_almost_the_same_stays_together(tmp_path):
    root = write(tmp_path / "my data", divided=True)
    for number in range(4):
        again(root, f"web copy {number}")
    report = check(root)
    after = cured(root, report.cure)
    assert "--together" in report.cure and not [f for f in after.findings if "almost the same" in f.what]


def test_everything_is_found_in_one_pass(tmp_path):
    root = write(tmp_path / "scenes")
    damage(root)
    litter(root)
    copy_sample(root, "26")
    transparent_image = np.full((48, 64, 4), 100, np.uint8)
    Image.fromarray(transparent_image).save(root / "images/08.png")
    shutil.copy(root / "images/09.png", root / "images/lone.png")
    Image.fromarray(values(root / "masks/11.png")[:, :40]).save(root / "masks/11.png")
    report = check(root)
    for what, files in (
        ("1 image without a mask", "images/lone.png"),
        ("2 files that cannot be read", "images/03.png, masks/07.png"),
        ("1 pair of different proportions", "images/11.png, masks/11.png"),
        ("1 image with transparent pixels", "images/08.png"),
        ("2 images of the same content", "images/01.png, images/26.png"),
        ("4 files of an operating system", ".DS_Store, __MACOSX, images/._00.png and 1 more"),
    ):
        assert files in found(report, what).where(root), what
    assert [f.level for f in report.findings] == sorted(
        (f.level for f in report.findings), key=[ERROR, WARNING, NOTE].index
    )


@pytest.mark.parametrize("divided", [False, True])
def test_a_folder_without_faults_has_no_finding_and_its_numbers_are_right(tmp_path, divided):
    root = write(tmp_path / "scenes", divided=divided)
    report = check(root)
    assert report.findings == [] and report.works and report.cure == ""
    masks = [values(root / (f"train/masks/{i:02}.png" if divided else f"masks/{i:02}.png")) for i in range(25) if i % 5]
    images = [
        values(root / (f"train/images/{i:02}.png" if divided else f"images/{i:02}.png")) for i in range(25) if i % 5
    ]
    pixels = [sum(int((mask == k).sum()) for mask in masks) for k in range(3)]
    around = [sum(mask.size for mask in masks if (mask == k).any()) for k in range(3)]
    frequency = np.divide(pixels, around)
    np.testing.assert_allclose(report.weights, np.median(frequency) / frequency)
    np.testing.assert_allclose(report.frequencies, np.divide(pixels, sum(pixels)))
    np.testing.assert_allclose(report.mean, np.mean([image.mean(axis=(0, 1)) for image in images], axis=0))
    assert report.counts["train"][:3].tolist() == pixels


def test_a_network_that_sees_almost_its_training_images_again_is_told(tmp_path):
    root = write(tmp_path / "scenes", divided=True)
    again(root, "web copy")
    finding = found(check(root), "1 validation image almost the same as a training image")
    assert finding.where(root) == "val/images/web copy.jpg, train/images/01.png" and finding.level == WARNING


def test_images_are_compared_by_their_correlation():
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 200, (40, 16, 16, 3)).astype(np.uint8)
    brighter = (scenes[[7, 30]] * 1.2 + 10).astype(np.uint8)
    noisy = (scenes[:3] // 2 + rng.integers(0, 90, (3, 16, 16, 3))).astype(np.uint8)
    assert near_duplicates(np.concatenate([brighter, noisy]), scenes) == [(0, 7), (1, 30)]
    flat = np.full((2, 16, 16, 3), 50, np.uint8)
    assert near_duplicates(flat, flat) == []  # nothing is to be seen in them
    groups = alike(np.concatenate([scenes, brighter]))
    assert groups[40] == groups[7] and groups[41] == groups[30] and len(set(groups.tolist())) == 40


def test_the_command_prints_and_draws_and_says_whether_training_can_work(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write(tmp_path / "my scenes")
    assert command.main([str(root), "--json", "out.json"]) == 0
    printed, errors = capfd.readouterr()
    assert "train 20, val 5" in printed and "25 of 48x64 PNG RGB" in printed and "nothing suspicious" in printed
    assert errors == "" and json.loads((tmp_path / "out.json").read_text())["findings"] == []
    page = (tmp_path / "my scenes-check.html").read_text(encoding="utf-8")
    assert "<script" not in page and page.count("data:image/png;base64,") == 1
    with Image.open(tmp_path / "my scenes-check.png") as sheet:
        assert sheet.width > 800 and np.asarray(sheet.convert("L")).std() > 10

    repaint(root, [0, 255, 255])
    assert command.main([str(root), "--out", "other.html", "--json", "-"]) == 2
    printed, errors = capfd.readouterr()
    answer = json.loads(printed)
    assert not answer["works"] and answer["findings"][0]["cure"] == answer["cure"]
    assert answer["cure"] == f"python -m minifcn.data convert '{root}' '{root}-converted' --binary 128"
    assert "cannot be trained on: 1 error above, each with its cure" in errors and (tmp_path / "other.png").is_file()


def test_the_command_refuses_in_one_sentence(tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(command.main, "nowhere", match="there is no folder nowhere")
    refused(command.main, write(tmp_path / "a"), "--out", "none/b.html", match="there is no folder none")
    refused(command.main, "a", "--out", "a/b.html", match="is inside a, whose images it would join")
    (tmp_path / "empty").mkdir()
    refused(command.main, "empty", match="empty has no layout that is known")


def test_training_says_what_the_check_finds_in_the_masks_before_it_starts(tmp_path, capfd, monkeypatch):
    root = write(tmp_path / "scenes")
    one_white_dot(root)

    class Reached(Exception):
        pass

    def stop(*_):
        raise Reached

    monkeypatch.setattr("minifcn.training.parts.rates", stop)
    with pytest.raises(Reached):
        train.main(["--root", str(root)])
    (note,) = [line for line in capfd.readouterr().err.splitlines() if "have class 0" in line]
    assert note.startswith("note        of the labelled pixels all but 1 have class 0") and "--binary 128" in note


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """What is kept of a sample is small: 20,000 of them take less than 100 MB."""
    root = write(tmp_path / "scenes", count=5, size=(600, 800))
    samples = contents(recognise(root)).samples
    list(survey(samples))
    tracemalloc.start()
    kept = list(survey(samples))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(kept) < 5000


@pytest.mark.parametrize("name", layout_folders.CASES)
@pytest.mark.filterwarnings("ignore::minifcn.errors.Note")
def test_a_layout_is_counted_as_its_data_set_draws_it(tmp_path, name):
    root = layout_folders.FOLDERS[name](tmp_path / name)
    report, data = check(root), recognise(root).open()
    drawn = sum(np.bincount(data[i][1].ravel(), minlength=256) for i in range(len(data)))
    np.testing.assert_array_equal(sum(report.counts.values()), drawn)
    assert report.classes == tuple(data.classes) and report.layout.startswith(recognise(root).name)
    assert {split: names for split, names in data.splits.items() if split in ("train", "val")} == {
        split: [f.sample.name for f in report.facts if f.sample.split == split]
        for split in ("train", "val") if split in data.splits
    }  # fmt: skip


def test_masks_in_colours_say_how_they_are_numbered_and_a_table_must_name_them_all(tmp_path):
    root = write(tmp_path / "scenes")
    repaint(root, [[0, 0, 0], [0, 128, 0], [128, 0, 0]])
    report = check(root)
    assert report.works and report.classes == ("#000000", "#008000", "#800000")
    assert "in the order of their numbers" in found(report, "25 masks in 3 colours").why
    (root / "colours.txt").write_text("0 0 0 sea\n128 0 0 ice\n", encoding="utf-8")
    report = check(root)
    pixels = sum(int((values(path) == [0, 128, 0]).all(-1).sum()) for path in (root / "masks").iterdir())
    assert "0 128 0" in found(report, f"{pixels:,} pixels in colours that colours.txt does not name").advice
    (root / "colours.txt").write_text("0 0 0 sea\n128 0 0 ice\n0 128 0 land\n", encoding="utf-8")
    assert check(root).findings == [] and check(root).classes == ("sea", "ice", "land")


def test_no_cure_is_offered_that_would_leave_nothing(tmp_path):
    root = write(tmp_path / "scenes", count=3)
    for path in (root / "images").iterdir():
        path.write_bytes(b"no picture")
    report = check(root)
    assert (
        "hardly a sample can be used" in found(report, "3 files that cannot be read").cure(root) and report.cure == ""
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_is_a_finding_and_blocks_nothing(tmp_path):
    root = write(tmp_path / "scenes")
    for name, number in (("pipe", 3), ("link", 7)):
        (root / f"images/{number:02}.png").unlink()
        make = {"pipe": os.mkfifo, "link": lambda path: os.symlink("nowhere", path)}[name]
        make(root / f"images/{number:02}.png")
    assert found(check(root), "2 files that cannot be read").where(root) == "images/03.png, images/07.png"


def test_bands_are_checked_as_they_are_stored(tmp_path):
    root = write(tmp_path / "scenes")
    twelve_bits(root)
    (root / "bands.txt").write_text("infrared\n", encoding="utf-8")
    report = check(root)
    assert report.findings == [] and report.bands == ("infrared",)
    images = [values(root / f"images/{i:02}.png") for i in range(25) if i % 5]
    np.testing.assert_allclose(report.mean, [np.mean([image.mean() for image in images])])
    assert sheet(report).get_figwidth() > 5
    (root / "bands.txt").write_text("infrared\nheight\n", encoding="utf-8")
    assert found(check(root), "25 files that cannot be read").level == ERROR


def test_the_sheet_of_extreme_pictures_is_of_a_usual_size(tmp_path):
    root = write(tmp_path / "scenes")
    for kind in ("images", "masks"):
        Image.fromarray(np.ones((3000, 2, 3) if kind == "images" else (3000, 2), np.uint8)).save(
            root / f"{kind}/01.png"
        )
    assert sheet(check(root)).get_figheight() < 20


def test_a_mask_that_is_upright_already_is_kept(tmp_path):
    root = write(tmp_path / "my data")
    label = values(root / "masks/03.png")
    turned(root, 3)
    after = cured(root, check(root).cure.replace("--turn-masks", "--no-turn-masks"))
    assert after.findings == []
    np.testing.assert_array_equal(values(tmp_path / "my data-converted/masks/03.png"), label)


def test_names_of_two_classes_are_kept_where_white_becomes_the_second(tmp_path):
    root = write(tmp_path / "my data")
    repaint(root, [0, 255, 255])
    (root / "classes.txt").write_text("ground\ntree\n", encoding="utf-8")
    report = check(root)
    assert "--binary 128" in report.cure and cured(root, report.cure).classes == ("ground", "tree")


@pytest.mark.filterwarnings("ignore::minifcn.errors.Note")
def test_training_names_classes_without_a_training_pixel_in_any_layout(tmp_path):
    root = layout_folders.FOLDERS["camvid"](tmp_path / "camvid")
    data, val = (recognise(root).open(split) for split in ("train", "val"))
    counts = np.array([np.bincount(label[label < 255], minlength=data.num_classes) for _, label in data])
    (finding,) = before_training(data, val, counts)
    absent = [k for k in range(data.num_classes) if not counts[:, k].any()]
    assert f"class {absent[0]} ({data.classes[absent[0]]})" in finding.what
    assert before_training(data, val) == []


def test_ignore_that_is_id_0_becomes_void(tmp_path):
    root = write(tmp_path / "my data")
    (root / "classes.txt").write_text("__ignore__\nland\nice\n", encoding="utf-8")
    ids = values(root / "masks/03.png")
    after = cured(root, check(root).cure)
    assert after.classes == ("land", "ice")
    np.testing.assert_array_equal(values(tmp_path / "my data-converted/masks/03.png"), np.array([255, 0, 1])[ids])


@pytest.mark.parametrize(
    ("levels", "names", "cure"),
    [
        ([0, 128, 255], "", "--ids 0,128,255"),  # levels of grey up to white
        ([0, 50, 200, 255], "", "--ids 0,50,200,255"),
        ([0, 1, 9, 255], "", "--ids 0,1,9"),  # ids with a gap, and void far from them
        ([0, 50, 255], "sea\nland\n", "--ids 0,50"),  # as many names as other values
        ([0, 50, 255], "sea\nland\nice\n", "--ids 0,50,255"),
    ],
)
def test_255_is_void_or_a_class_as_the_other_values_say(tmp_path, levels, names, cure):
    root = write(tmp_path / "my data")
    repaint(root, lambda ids: np.tile(np.repeat(levels, 16).astype(np.uint8), (48, 1)))
    if names:
        (root / "classes.txt").write_text(names, encoding="utf-8")
    finding = found(check(root), "values|grey levels")
    assert finding.cure(root).endswith(cure) and "255 is taken for" in finding.why


def test_a_mask_of_black_alone_is_in_colours_if_others_are(tmp_path):
    root = write(tmp_path / "my data")
    repaint(root, [[0, 0, 0], [0, 128, 0], [128, 0, 0]])
    Image.new("RGB", (64, 48)).save(root / "masks/00.png")
    report = check(root)
    assert report.works and report.classes == ("#000000", "#008000", "#800000")
    Image.new("L", (64, 48)).save(root / "masks/00.png")
    assert found(check(root), "24 masks in colours, but 1 not").where(root) == "masks/00.png"


def test_an_orientation_that_does_not_exist_means_nothing(tmp_path):
    root = write(tmp_path / "my data")
    turned(root, 9)
    shutil.copy(root / "masks/04.png", root / "masks/lone.png")
    report = check(root)
    assert [f.what for f in report.findings] == ["1 mask without an image"]
    assert cured(root, f"{report.cure} --turn-masks").findings == []


def deep_tiff(path, rgb, order="<", packed=False, planes=False):
    """Write uint16 (H, W, 3) as a TIFF in red, green and blue, which Pillow cannot write, after TIFF 6.0."""
    h, w, _ = rgb.shape
    parts = [rgb[..., k] for k in range(3)] if planes else [rgb]
    data = [part.astype(f"{order}u2").tobytes() for part in parts]
    data = [zlib.compress(part) for part in data] if packed else data
    n, start = len(data), 8 + 2 + 10 * 12 + 4
    places = np.cumsum([start + 6 + 8 * n, *map(len, data)]).tolist()
    inline = n == 1  # a single offset stands in its entry
    entries = [
        (256, 4, 1, w), (257, 4, 1, h), (258, 3, 3, start), (259, 3, 1, 8 if packed else 1), (262, 3, 1, 2),
        (273, 4, n, places[0] if inline else start + 6), (277, 3, 1, 3), (278, 4, 1, h),
        (279, 4, n, len(data[0]) if inline else start + 6 + 4 * n), (284, 3, 1, 2 if planes else 1),
    ]  # fmt: skip
    out = struct.pack(f"{order}2sHI H", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    for tag, kind, count, value in entries:
        short = kind == 3 and count == 1
        out += struct.pack(f"{order}HHI{'HH' if short else 'I'}", tag, kind, count, *([value, 0] if short else [value]))
    out += struct.pack(f"{order}I3H{2 * n}I", 0, 16, 16, 16, *places[:n], *map(len, data))
    path.write_bytes(out + b"".join(data))


def deep_png(path, rgb):
    """Write uint16 (H, W, 3) as a PNG of 16 bits, which Pillow cannot write."""
    h, w, _ = rgb.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", w, h, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    )


DEEP = {
    "TIFF": deep_tiff, "TIFF of a Mac": lambda *a: deep_tiff(*a, order=">"),
    "packed TIFF": lambda *a: deep_tiff(*a, packed=True), "packed TIFF, MM": lambda *a: deep_tiff(*a, ">", packed=True),
    "PNG": deep_png,
}  # fmt: skip


@pytest.mark.parametrize("form", DEEP)
@pytest.mark.parametrize("white", [1023, 4095, 16383])
def test_colours_of_10_to_14_bits_in_16_are_cured(tmp_path, form, white):
    """Each value becomes its upper 8 bits of 10, 12 or 14."""
    root = write(tmp_path / "my data")
    shift = {1023: 2, 4095: 4, 16383: 6}[white]
    meant = {path.stem: values(path) for path in (root / "images").iterdir()}
    assert max(image.max() for image in meant.values()) > 192  # else fewer bits would do
    for path in sorted((root / "images").iterdir()):
        deep = meant[path.stem].astype(np.uint16) << shift | 1
        path.unlink()
        DEEP[form](path.with_suffix(".png" if form == "PNG" else ".tif"), deep)
    report = check(root)
    assert report.cure.endswith(f"--white {white}")
    assert cured(root, report.cure).works
    for name, image in meant.items():
        np.testing.assert_array_equal(values(tmp_path / f"my data-converted/images/{name}.png"), image)


@pytest.mark.parametrize(("packed", "what"), [(False, "cannot be read"), (True, "of 16 bits")])
def test_deep_colours_in_planes_are_not_misread(tmp_path, packed, what):
    """Pillow reads those of a packed TIFF without their lower bytes, and those of another TIFF wrongly."""
    root = write(tmp_path / "my data")
    image = values(root / "images/03.png")
    (root / "images/03.png").unlink()
    deep_tiff(root / "images/03.tif", image.astype(np.uint16) << 4, packed=packed, planes=True)
    finding = found(check(root), what)
    assert finding.where(root) == "images/03.tif"
    assert "to 8 bits per channel" in (finding.advice if packed else finding.why)


def test_class_ids_are_shown_in_the_colours_of_their_table(tmp_path):
    root = write(tmp_path / "scenes")
    (root / "colours.txt").write_text("10 20 30 sea\n40 50 60 land\n70 80 90 ice\n")
    report = check(root)
    assert report.classes == ("sea", "land", "ice") and report.findings == []
    assert report.palette[:3].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    (root / "masks/03.png").unlink()
    cured(root, check(root).cure)
    kept = (tmp_path / "scenes-converted/colours.txt").read_text()
    assert kept == "10 20 30 sea\n40 50 60 land\n70 80 90 ice\n"
    (root / "colours.txt").write_text("10 20 sea\n")
    assert found(check(root), "table of colours cannot be used").level == ERROR


def test_void_has_the_same_colour_in_the_picture_as_in_the_legend(tmp_path):
    root = write(tmp_path / "scenes")
    repaint(root, [[0, 0, 0], [200, 0, 0], [0, 200, 0]])
    (root / "colours.txt").write_text("0 0 0 void\n200 0 0 land\n0 200 0 ice\n")
    report = check(root)
    mask = values(root / "masks/01.png")
    painted = _painted(mask, report)
    black = (mask == 0).all(axis=2)
    assert black.any() and (painted[black] == VOID_COLOUR).all() and (painted[~black] == mask[~black]).all()


def test_a_missing_mask_in_other_folders_has_a_cure(tmp_path, capfd):
    root = write(tmp_path / "scenes")
    (root / "masks").rename(root / "labels")
    (root / "images").rename(root / "photos")
    (root / "labels/03.png").unlink()
    (root / "photos/04.png").unlink()
    report = check(root)
    assert report.layout.startswith("masks")
    assert [(f.level, f.what, f.where(root)) for f in report.findings] == [
        (ERROR, "1 image without a mask", "photos/03.png"),
        (NOTE, "1 mask without an image", "labels/04.png"),
    ]
    assert report.cure.endswith("--skip")
    argv = shlex.split(report.cure)[3:]
    assert __main__.main(["data", *argv]) == 0
    said = capfd.readouterr().err
    assert "left out 1 sample: no mask (photos/03.png)" in said
    assert "left out 1 sample: no image (labels/04.png)" in said
    assert check(f"{root}-converted").findings == []


@pytest.mark.parametrize("images", ["images", "photos"])
@pytest.mark.parametrize(
    "masks", ["annotations_colour", "masks_colour", "labels_rgb", "seg", "SegmentationObject", "GT-2"]
)
def test_a_folder_of_masks_may_have_more_in_its_name(tmp_path, images, masks):
    root = write(tmp_path / "scenes")
    (root / "images").rename(root / images)
    (root / "masks").rename(root / masks)
    report = check(root)
    assert report.findings == [] and len(report.facts) == 25
    assert f"{masks}/00.png is the mask of {images}/00.png" in report.layout
    shutil.copytree(root / masks, root / "labels")  # one that is named plainly counts
    assert "labels/00.png is the mask of" in recognise(root).why


def test_a_folder_of_the_same_names_is_named_with_what_to_do(tmp_path, refused, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write(tmp_path / "scenes")
    (root / "masks").rename(root / "ziel")
    (finding,) = check(root).findings
    assert finding.cure(root) == "if the masks are in ziel/, which has files of the same names, rename it to masks"
    assert command.main([str(root)]) == 2
    assert capfd.readouterr().err.endswith("cannot be trained on: 1 error above, of which commands cure none\n")
    (root / "images").rename(root / "bilder")
    refused(command.main, root, match=r"bilder/ and ziel/ hold files of the same names; rename .* images .* masks")


def test_a_folder_is_checked_in_the_layout_that_is_given(tmp_path, refused, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write(tmp_path / "scenes")
    repaint(root, [0, 255, 255])
    assert command.main([str(root), "--dataset", "masks", "--json", "-"]) == 2
    answer = json.loads(capfd.readouterr().out)
    assert answer["layout"] == "masks: it was chosen"
    assert answer["cure"].endswith("--dataset masks --binary 128") and cured(root, answer["cure"]).works
    refused(command.main, root, "--dataset", "voc", match="is not in the layout 'voc'")
    refused(command.main, "nowhere", "--dataset", "folder", match="there is no folder nowhere")


def test_a_layout_without_masks_has_no_line_for_them(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command.main([str(layout_folders.FOLDERS["labelme"](tmp_path / "drawn"))])
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("images")] and not [x for x in lines if x.startswith("masks")]


def test_letters_that_no_font_has_are_named(tmp_path, monkeypatch):
    root = write(tmp_path / "scenes")
    (root / "classes.txt").write_text("sea\nland\n\U00010600\n", encoding="utf-8")  # Linear A
    monkeypatch.setattr("minifcn.viz.fonts._characters", lambda path: frozenset(range(0x2100)))
    fallbacks.cache_clear()
    with pytest.warns(Note, match="no font on this computer has the letters \U00010600: the sheet"):
        sheet(check(root))
    fallbacks.cache_clear()
    (root / "classes.txt").write_text("sea\nland\nüber\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Note)
        sheet(check(root))
