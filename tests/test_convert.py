"""``minifcn.data convert``: what it writes is read back the same, by this library and by the programs' readers."""

import re
import shutil
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout_folders import CASES, COLOURS, FOLDERS, NAMES, palette_mask, picture, scenes
from PIL import Image
from tiny_run import write_scenes

from minifcn.__main__ import main
from minifcn.data import DATASETS, Folder, convert, recognise
from minifcn.data.divide import divide
from minifcn.data.layouts.drawing import count_runs, pack, run_lengths, unpack
from minifcn.data.writers import WRITERS
from minifcn.errors import Note


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        yield


@pytest.fixture
def own(tmp_path):
    """The library's own layout with names, colours and void pixels, divided into train and val."""
    for split, count in (("train", 5), ("val", 3)):
        write_scenes(tmp_path / f"own ö/{split}", count)
    root = tmp_path / "own ö"
    for path in (root / "train/images").iterdir():  # different images and names in both splits
        for kind in ("images", "masks"):
            (root / f"train/{kind}/{path.name}").rename(root / f"train/{kind}/t {path.name}")
    (root / "classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    table = "".join(f"{r} {g} {b} {name}\n" for (r, g, b), name in zip(COLOURS.tolist(), NAMES))
    (root / "colours.txt").write_text(table, encoding="utf-8")
    return root


def run(*argv):
    return main(["data", "convert", *map(str, argv)])


def labels(data):
    """{stem: label by names of classes} of a data set."""
    names = np.array([*data.classes, *["void"] * (256 - len(data.classes))])
    stems = [re.sub(r"\.\w+$", "", name.rsplit("/", 1)[-1]) for name in data.names]
    return {stem: names[data[i][1]].tolist() for i, stem in enumerate(stems)}


@pytest.mark.parametrize("to", WRITERS)
def test_every_layout_that_is_written_is_read_back_the_same(own, tmp_path, to):
    before = {split: Folder(own, split) for split in ("train", "val")}
    assert run(own, tmp_path / to, "--to", to) == 0
    found = recognise(tmp_path / to)
    assert found.name == {"colours": "masks"}.get(to, to)
    for split, data in before.items():
        now = found.open(split)
        assert labels(now) == labels(data) and now.classes == NAMES
        if to in ("folder", "colours"):
            assert (now.palette == COLOURS[:3]).all()
        for old, new in zip(sorted(data.files), sorted(now.files)):
            assert old.read_bytes() == new.read_bytes()  # images are copied as they are
    assert run(tmp_path / to, tmp_path / "back") == 0
    assert {k: v for split in before for k, v in labels(Folder(tmp_path / "back", split)).items()} == {
        k: v for data in before.values() for k, v in labels(data).items()
    }


@pytest.mark.parametrize("name", CASES)
def test_every_layout_becomes_the_librarys_own(name, tmp_path):
    source = DATASETS[name](FOLDERS[name](tmp_path / "source"))
    assert run(tmp_path / "source", tmp_path / "new", "--dataset", name) == 0
    now = Folder(tmp_path / "new")
    assert labels(now) == labels(source) and now.classes == source.classes and (now.palette == source.palette).all()


def test_colours_become_ids_and_ids_the_same_colours(tmp_path):
    root = FOLDERS["masks"](tmp_path / "source")
    assert run(root, tmp_path / "ids") == 0 and run(tmp_path / "ids", tmp_path / "colours", "--to", "colours") == 0
    for path in (root / "Labels").iterdir():
        with Image.open(path) as old, Image.open(tmp_path / f"colours/masks/{path.stem.removesuffix('_L')}.png") as new:
            old, new = np.asarray(old), np.asarray(new)
        void = (old == COLOURS[255]).all(axis=2)
        assert (old == new)[~void].all() and (new[void] == (224, 224, 192)).all() and void.any()


@pytest.mark.layouts
def test_pycocotools_reads_what_is_written(own, tmp_path):
    from pycocotools.coco import COCO as Oracle

    assert run(own, tmp_path / "new", "--to", "coco") == 0
    data = Folder(own, "val")
    oracle = Oracle(str(tmp_path / "new/annotations/instances_val.json"))
    assert [c["name"] for c in oracle.loadCats(oracle.getCatIds())] == [*NAMES, "void"]
    for key in oracle.getImgIds():
        (image,) = oracle.loadImgs([key])
        label = data[data.names.index(f"val/images/{image['file_name']}")][1]
        found = np.zeros_like(label)
        for row in oracle.loadAnns(oracle.getAnnIds([key])):
            mask = oracle.annToMask(row).astype(bool)
            found[mask] = {3: 255, 4: 255}.get(row["category_id"], row["category_id"])
            ys, xs = np.nonzero(mask)
            assert row["area"] == mask.sum() and row["bbox"][:2] == [xs.min(), ys.min()]
            assert row["bbox"][2:] == [np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert (found == label).all()


@pytest.mark.layouts
def test_labelme_reads_what_is_written(own, tmp_path):
    from labelme._label_file import LabelFile
    from labelme.utils.shape import shapes_to_label

    assert run(own, tmp_path / "new", "--to", "labelme") == 0
    data = Folder(own)
    values = {name: k - 1 for k, name in enumerate((tmp_path / "new/labels.txt").read_text("utf-8").splitlines())}
    for i, name in enumerate(data.names):
        path = tmp_path / "new" / name.replace("images/", "")
        file = LabelFile(str(path.with_suffix(".json")))
        assert (shapes_to_label((24, 32), file.shapes, values)[0].astype(np.uint8) == data[i][1]).all()


@pytest.mark.layouts
@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_packed_run_lengths_are_those_of_pycocotools(pixels):
    from pycocotools import mask as oracle

    mask = np.repeat(np.repeat(np.array(pixels).reshape(3, 4), 40, axis=0), 30, axis=1)
    text = pack(count_runs(mask))
    assert text == oracle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert (run_lengths(unpack(text, "it"), mask.shape, "it") == mask).all()


def test_labels_are_resized_by_nearest_and_images_smoothly(tmp_path):
    image, label = scenes(1)[0]
    picture(tmp_path / "a/images/x.png", image), palette_mask(tmp_path / "a/masks/x.png", label)
    picture(tmp_path / "a/images/y.png", image), palette_mask(tmp_path / "a/masks/y.png", label)
    for given_size, size in {"48x96": (48, 96), "12": (12, 16), "24": (24, 32)}.items():
        assert run(tmp_path / "a", tmp_path / given_size, "--size", given_size) == 0
        (new_image, new) = Folder(tmp_path / given_size)[0]
        h, w = size
        centres = [((2 * np.arange(n) + 1) * old) // (2 * n) for n, old in zip(size, (24, 32))]  # of the new pixels
        assert new.shape == (h, w) and (new == label[np.ix_(*centres)]).all()
        assert new_image.shape == (h, w, 3) and abs(new_image.mean() - image.mean()) < 3


def test_a_turned_photo_is_written_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(scenes(1)[0][0])
    (tmp_path / "a/images").mkdir(parents=True), (tmp_path / "a/masks").mkdir()
    image.save(tmp_path / "a/images/x.jpg", exif=exif, quality=95)
    palette_mask(tmp_path / "a/masks/x.png", np.arange(24 * 32, dtype=np.uint8).reshape(32, 24) % 3)
    assert run(tmp_path / "a", tmp_path / "b") == 0
    with Image.open(tmp_path / "b/images/x.png") as new, Image.open(tmp_path / "a/images/x.jpg") as old:
        assert new.size == (24, 32) and not new.getexif().get(0x0112)
        assert (np.asarray(new) == np.rot90(np.asarray(old), -1)).all()  # 6: the photo is shown turned by 90° clockwise


def test_values_of_grey_masks(tmp_path):
    for i, (image, label) in enumerate(scenes(6)):
        picture(tmp_path / f"a/images/{i}.png", image)
        picture(tmp_path / f"a/masks/{i}.png", np.where(label == 2, 255, 0).astype(np.uint8))
        picture(tmp_path / f"b/images/{i}.png", image)
        picture(tmp_path / f"b/masks/{i}.png", np.array([0, 50, 200, *[11] * 253], np.uint8)[label])
    assert run(tmp_path / "a", tmp_path / "a2", "--binary", 128) == 0
    assert run(tmp_path / "b", tmp_path / "b2", "--ids", "0,50,200", "--void", 11) == 0
    a, b = Folder(tmp_path / "a2"), Folder(tmp_path / "b2")
    assert a.classes == ("background", "foreground") and b.num_classes == 3
    for i, (_, label) in enumerate(scenes(6)):
        assert (a[i][1] == (label == 2)).all() and (b[i][1] == label).all()


def test_values_of_masks_in_lists_of_pairs(tmp_path):
    assert run(FOLDERS["pairs"](tmp_path / "a"), tmp_path / "b", "--binary", 2) == 0
    data = Folder(tmp_path / "b")
    assert data.classes == ("background", "foreground")
    for i, name in enumerate(data.names):
        assert (data[i][1] == (scenes()[int(name[-5])][1] >= 2)).all()


def test_names_stay_different_in_one_folder_on_every_system(tmp_path):
    names = ["x/a.png", "y/a.png", "A.png", "a.jpg", "한글.png"]
    for name in names:
        picture(tmp_path / f"src/images/{name}", scenes(1)[0][0])
        (stem, _) = name.rsplit(".", 1)
        palette_mask(tmp_path / f"src/labels/{stem}_mask.png", scenes(1)[0][1])
    (tmp_path / "src/images/a.jpg").unlink(), (tmp_path / "src/labels/a_mask.png").unlink()
    assert run(tmp_path / "src", tmp_path / "new") == 0
    found = sorted(path.name for path in (tmp_path / "new/images").iterdir())
    assert found == ["A.png", "x_a.png", "y_a.png", "한글.png"] and len(Folder(tmp_path / "new")) == 4
    taken = set()
    assert [convert.unique(name, taken) for name in ("images/a.png", "A.jpg", "train/a.png")] == ["a", "A-2", "a-3"]


# What goes wrong leaves nothing behind.


def test_an_error_in_the_middle_leaves_nothing_and_changes_nothing(own, tmp_path, refused):
    mask = own / "val/masks/1.png"
    mask.write_bytes(mask.read_bytes()[:-30])
    (tmp_path / "new").mkdir()
    refused(main, "data", "convert", own, tmp_path / "new", match=r"1\.png")
    assert list((tmp_path / "new").iterdir()) == [] and not (tmp_path / "new.partial").exists()


def test_ctrl_c_leaves_nothing(own, tmp_path, monkeypatch, capfd):
    def interrupt(self, folder, name):
        raise KeyboardInterrupt

    monkeypatch.setattr("minifcn.data.writers.Picture.save", interrupt)
    assert run(own, tmp_path / "new") == 130
    assert not [path for path in tmp_path.iterdir() if path != own]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("{own}", "{own}"), "is inside"), (("{own}", "{own}/new"), "is inside"), (("{tmp}/x", "{tmp}/y"), "no folder"),
        (("{own}", "{coco}"), "is not empty"), (("{own}", "{coco}/annotations.json"), "is a file"),
        (("{own}", "{tmp}/n", "--val", "1"), "not between 0 and 1"),
        (("{own}", "{tmp}/n", "--group", "x"), "give --val, too"),
        (("{own}", "{tmp}/n", "--val", ".2", "--group", "(x"), "not a regular expression"),
        (("{own}", "{tmp}/n", "--val", ".2", "--group", "x"), "is not in the name"),
        (("{own}", "{tmp}/n", "--val", ".2", "--group", "images"), "are one group"),
        (("{own}", "{tmp}/n", "--val", ".2", "--group", "t", "--block", "2"), "exclude each other"),
        (("{own}", "{tmp}/n", "--size", "0x9"), "neither a number of pixels nor"),
        (("{own}", "{tmp}/n", "--size", "1x2x3"), "neither a number of pixels nor"),
        (("{own}", "{tmp}/n", "--dataset", "voc"), "not in the layout 'voc'"),
        (("{own}", "{tmp}/n", "--ids", "0,a"), "different whole numbers"),
        (("{own}", "{tmp}/n", "--ids", "0,1", "--binary", "9"), "exclude each other"),
        (("{coco}", "{tmp}/n", "--binary", "9"), "has the layout coco, whose classes are named"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_before_anything_is_written(own, tmp_path, refused, argv, said):
    coco = FOLDERS["coco"](tmp_path / "coco")
    before = {path for path in tmp_path.rglob("*")}
    refused(main, "data", "convert", *(word.format(own=own, tmp=tmp_path, coco=coco) for word in argv), match=said)
    assert {path for path in tmp_path.rglob("*")} == before


def test_a_class_named_void_is_written_only_where_it_stays_a_class(own, tmp_path, refused):
    (own / "classes.txt").write_text("sky\nroad\nvoid\n", encoding="utf-8")
    (own / "colours.txt").unlink()
    for to in ("coco", "labelme", "colours"):
        refused(main, "data", "convert", own, tmp_path / "new", "--to", to, match="class 'void' would be read as void")
    for to in ("folder", "voc"):
        assert run(own, tmp_path / to, "--to", to) == 0
        assert recognise(tmp_path / to).open().classes == ("sky", "road", "void")


# Splits.


NAMES_OF_FRAMES = [f"{street}_{k}.png" for street in ("main", "park", "sea", "hill") for k in range(10)]


@given(st.floats(0.05, 0.9), st.integers(0, 9), st.sampled_from([None, "^[a-z]+"]), st.integers(1, 4))
def test_a_division_is_complete_and_keeps_groups_together(share, seed, group, block):
    parts = divide(NAMES_OF_FRAMES, share, seed, group, block)
    assert sorted(parts["train"] + parts["val"]) == sorted(NAMES_OF_FRAMES) and parts["train"] and parts["val"]
    frames = {n: (n.split("_")[0], int(n.split("_")[1][:-4]) // block) for n in NAMES_OF_FRAMES}
    keys = {n: frame[0] if group else frame for n, frame in frames.items()}
    assert not {keys[n] for n in parts["train"]} & {keys[n] for n in parts["val"]}
    largest = 10 if group else block
    assert abs(len(parts["val"]) - share * 40) <= largest / 2 + 0.5 or len(parts["val"]) == largest
    assert parts == divide(NAMES_OF_FRAMES, share, seed, group, block)


def test_another_seed_chooses_others():
    assert len({tuple(divide(NAMES_OF_FRAMES, 0.2, seed)["val"]) for seed in range(5)}) > 1


def test_the_splits_of_the_source_are_kept_or_divided_anew(tmp_path):
    root = FOLDERS["voc"](tmp_path / "voc")
    assert run(root, tmp_path / "kept") == 0
    assert len(Folder(tmp_path / "kept", "train")) == 7 and len(Folder(tmp_path / "kept", "val")) == 3
    assert sorted(path.name for path in (tmp_path / "kept").iterdir() if path.is_dir()) == ["train", "val"]
    assert run(root, tmp_path / "anew", "--val", 0.4, "--group", r"\d+$|_(\d)\.") == 0
    assert len(Folder(tmp_path / "anew", "val")) == 4
    kept = {path.name for path in (tmp_path / "anew/val/images").iterdir()}
    shutil.rmtree(tmp_path / "anew")
    assert run(root, tmp_path / "anew", "--val", 0.4) == 0
    assert kept == {path.name for path in (tmp_path / "anew/val/images").iterdir()}


def test_images_in_no_list_are_named(tmp_path, capfd):
    root = FOLDERS["masks"](tmp_path / "source")
    (root / "train.txt").write_text("0\n1\n2\n3\n4\n5\n", encoding="utf-8")
    (root / "val.txt").write_text("6\n7\n", encoding="utf-8")
    assert run(root, tmp_path / "new") == 0
    assert "2 images are in no split, and not used (Images/8.jpg, Images/9.jpg)" in capfd.readouterr().err


def test_the_words_of_the_command_are_listed(capfd, refused):
    assert main(["data"]) == 0
    assert "python -m minifcn.data convert SRC DST" in capfd.readouterr().out
    refused(main, "data", "moon", match="choose from check, convert")


def test_one_image_is_one_image(tmp_path, capfd):
    root = write_scenes(tmp_path / "source")
    for path in sorted((root / "images").iterdir())[1:]:
        path.unlink()
    assert run(root, tmp_path / "new", "--skip") == 0
    said = capfd.readouterr().out
    assert ", 1 image, " in said and "1 image\n" in said and "1 images" not in said


def test_the_help_does_not_limit_ids_to_a_layout(capfd):
    assert main(["data", "convert", "--help"]) == 0
    said = capfd.readouterr().out
    assert "what the values in masks mean:" in said and "(layout masks)" not in said
