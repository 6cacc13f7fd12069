"""Data sets in the layouts of other programs: labels as their own readers give them, and refusals of damaged files."""

import json
import random
import re
import warnings
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from layout_folders import CASES, COLOURS, FOLDERS, NAMES, palette_mask, picture, rows_of, scenes, write_json
from PIL import Image
from tiny_run import TINY, write_scenes

from minifcn import data, evaluate, train
from minifcn.data import COCO, VOC, LabelMe, Masks, Pairs, layouts, recognise
from minifcn.data.layouts.drawing import polygon, run_lengths, unpack
from minifcn.errors import Note, UserError


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        yield


def pixels(dataset):
    """{stem of the image: label} of a data set."""
    return {re.sub(r".*?(\d+)\.\w+$", r"\1", s.name): dataset[i][1] for i, s in enumerate(dataset.samples)}


# Recognition.


@pytest.mark.parametrize("name", CASES)
def test_a_layout_is_recognised_with_the_reason(name, tmp_path):
    found = recognise(FOLDERS[name](tmp_path))
    assert found.name == name.removesuffix("geo") and found.why
    assert len(found.open()) == 10 and 0 < len(found.open("val")) < len(found.open("train"))


def test_every_layout_is_in_the_table():
    direct = layouts.Layout.__subclasses__()
    classes = {*direct, *(derived for cls in direct for derived in cls.__subclasses__())}
    assert classes == set(layouts.LAYOUTS.values()) and set(FOLDERS) == set(layouts.LAYOUTS)


def test_the_librarys_own_layout_stays_a_folder(tmp_path):
    assert recognise(write_scenes(tmp_path / "scenes")).name == "folder"
    write_scenes(tmp_path / "parts/train"), write_scenes(tmp_path / "parts/val")
    assert recognise(tmp_path / "parts").name == "folder"


def test_a_folder_alone_in_a_folder_is_found(tmp_path):
    FOLDERS["coco"](tmp_path / "unpacked/data")
    (tmp_path / "__MACOSX").mkdir()
    found = recognise(tmp_path)
    assert found.name == "coco" and "unpacked/data/" in found.why and len(found.open()) == 10


def test_a_folder_without_a_layout_or_with_two_is_refused_with_the_choices(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        recognise(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"voc: JPEGImages/ and SegmentationClass/; coco: .*; labelme: .*; masks: "):
        recognise(tmp_path)
    FOLDERS["labelme"](FOLDERS["coco"](tmp_path))
    with pytest.raises(UserError, match=r"coco, because annotations\.json .*; labelme, because 0\.json.*--dataset"):
        recognise(tmp_path)


# COCO.


def half_pixels(low, high):
    return st.integers(10 * low, 10 * high).map(lambda v: v / 10)


@pytest.mark.layouts
@given(st.lists(st.tuples(half_pixels(-9, 25), half_pixels(-9, 25)), min_size=3, max_size=9))
@example([(0, 0), (0, 0), (0, 0)])
@example([(-5, -5), (40, -5), (40, 40), (-5, 40)])
@example([(3, 3), (3, 9), (3, 3), (12, 3)])
def test_a_polygon_has_the_pixels_that_pycocotools_gives(corners):
    from pycocotools import mask as oracle

    flat = [float(v) for corner in corners for v in corner]
    expected = oracle.decode(oracle.merge(oracle.frPyObjects([flat], 13, 17)))
    np.testing.assert_array_equal(polygon(np.array(corners, float), (13, 17), "it"), expected.astype(bool))


@pytest.mark.layouts
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.5, 0.99]))
def test_run_lengths_have_the_pixels_that_pycocotools_gives(seed, share):
    from pycocotools import mask as oracle

    mask = np.random.default_rng(seed).random((37, 61)) < share
    packed = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert (run_lengths(unpack(packed, "it"), mask.shape, "it") == mask).all()
    assert (run_lengths(rows_of(mask), mask.shape, "it") == mask).all()


@pytest.mark.layouts
def test_a_coco_file_is_drawn_as_its_own_reader_draws_it(tmp_path):
    from pycocotools.coco import COCO as Oracle

    root = FOLDERS["coco"](tmp_path)
    file = root / "annotations.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    for k, image in enumerate(content["images"]):  # polygons, one of two parts, over the run lengths
        parts = [[3.5, 2.0, 20.25, 4.0 + k, 9.0, 19.75], [22.0, 3.0, 30.5, 3.0, 30.5, 9.0, 22.0, 9.0]]
        content["annotations"].append(
            dict(id=500 + k, image_id=image["id"], category_id=7, segmentation=parts, iscrowd=0)
        )
    write_json(file, content)
    oracle, d = Oracle(str(file)), COCO(root)
    ids = {7: 1, 14: 2}
    assert d.classes == ("background", "box", "disc")
    for i, sample in enumerate(d.samples):
        (image,) = [row for row in content["images"] if f"images/{row['file_name']}" == sample.name]
        expected = np.zeros((24, 32), np.uint8)
        for row in oracle.loadAnns(oracle.getAnnIds([image["id"]])):
            expected[oracle.annToMask(row).astype(bool)] = ids[row["category_id"]]
        assert (d[i][1] == expected).all() and (expected == 1).any() and (expected == 2).any()


def test_coco_files_of_several_splits(tmp_path):
    for split, numbers in {"train2017": range(7), "val2017": range(7, 10)}.items():
        images, annotations = [], []
        for i in numbers:
            picture(tmp_path / f"{split}/{i:012}.jpg", scenes()[i][0])
            images.append(dict(id=i, file_name=f"{i:012}.jpg", height=24, width=32))
            corners = [[1, 1, 9, 1, 9, 9, 1, 9]]
            annotations.append(dict(id=i, image_id=i, category_id=1, segmentation=corners))
        content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="cat")])
        write_json(tmp_path / f"annotations/instances_{split}.json", content)
        write_json(tmp_path / f"annotations/captions_{split}.json", dict(images=[], annotations=[], info=1))
    assert len(COCO(tmp_path, "train")) == 7 and len(COCO(tmp_path, "val")) == 3
    assert COCO(tmp_path, "val")[0][1][1:9, 1:9].all() and COCO(tmp_path, "val")[0][1].sum() == 64
    with pytest.raises(UserError, match="no split 'test'; choose one of train, val"):
        COCO(tmp_path, "test")


def change(rows, **values):
    rows[0].update(values)


def drawn(content, segmentation):
    change(content["annotations"], segmentation=segmentation)


def runs(content, counts):
    drawn(content, dict(size=[24, 32], counts=counts))


DAMAGED_COCO = {
    "an unknown image": (lambda c: change(c["annotations"], image_id=9), "image_id 9, which is not defined"),
    "an unknown category": (lambda c: change(c["annotations"], category_id=9), "category_id 9, which is not defined"),
    "text for an id": (lambda c: change(c["annotations"], image_id="7"), "expected a whole number"),
    "a file outside": (lambda c: change(c["images"], file_name="../../../secret.jpg"), "which is outside"),
    "a missing file": (lambda c: change(c["images"], file_name="x.jpg"), r"'x\.jpg', which is not in"),
    "no file": (lambda c: change(c["images"], file_name=None), "expected the path of an image"),
    "another size": (lambda c: change(c["images"], width=33), "is 24x32 .* its annotations are for 24x33"),
    "a huge size": (lambda c: change(c["images"], width=10**12), "its annotations are for"),
    "two images with one id": (lambda c: change(c["images"], id=101), "two entries with the image id 101"),
    "one image twice": (lambda c: change(c["images"], file_name="1.jpg"), r"several labels for images/1\.jpg"),
    "two categories of a name": (lambda c: change(c["categories"], name="box"), "several classes named box"),
    "runs that overrun": (lambda c: runs(c, [0, 10**12]), "24x32"),
    "negative runs": (lambda c: runs(c, [-1, 769]), "24x32"),
    "runs of fractions": (lambda c: runs(c, [0.5, 767.5]), "24"),
    "packed runs cut": (lambda c: runs(c, "o"), "within"),
    "packed rubbish": (lambda c: runs(c, "ÿ"), "damaged"),
    "endless packed runs": (lambda c: runs(c, "o" * 99), "damag"),
    "runs for another size": (lambda c: drawn(c, dict(size=[2, 2], counts=[4])), r"\[2, 2\]"),
    "an empty polygon": (lambda c: drawn(c, [[]]), "without three corners"),
    "two corners": (lambda c: drawn(c, [[1, 2, 3, 4]]), "without three corners"),
    "words for corners": (lambda c: drawn(c, [["a"] * 6]), "no valid points"),
    "not a number": (lambda c: drawn(c, [[1, 2, 3, 4, 5, float("nan")]]), "no valid points"),
    "a polygon far away": (lambda c: drawn(c, [[0, 0, 1e300, 0, 0, 9]]), "1e.300 pixels"),
    "a very long polygon": (lambda c: drawn(c, [[0, 0, 9e7, 9e7] * 9]), "too long"),
    "a list": (lambda c: c.update(images={}), "expected a list"),
    "no masks": (lambda c: [row.pop("segmentation") for row in c["annotations"]], "boxes alone"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED_COCO)
def test_a_damaged_coco_file_is_named_in_one_sentence(damage, tmp_path):
    file = FOLDERS["coco"](tmp_path) / "annotations.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    do, said = DAMAGED_COCO[damage]
    do(content)
    write_json(file, content)
    with pytest.raises(UserError, match=said):
        list(COCO(tmp_path))


def test_a_file_cut_off_or_nested_deeply_is_refused(tmp_path):
    file = FOLDERS["coco"](tmp_path) / "annotations.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(UserError, match=r"annotations\.json is not complete JSON"):
        COCO(tmp_path)
    file.write_text('{"images": ' + "[" * 10**6, encoding="utf-8")
    with pytest.raises(UserError, match=r"too deeply|not complete JSON"):
        COCO(tmp_path)


# labelme.


SHAPES = [
    dict(label="cat", shape_type="polygon", points=[[2.5, 3.1], [20.2, 1.7], [15.9, 21.4], [-4.0, 9.0]]),
    dict(label="dog", shape_type="rectangle", points=[[28, 20], [9.6, 12.4]]),
    dict(label="__ignore__", shape_type="circle", points=[[20, 10], [22, 13]]),
    dict(label="cat", shape_type="line", points=[[3, 20], [25, 22]]),
    dict(label="dog", shape_type="linestrip", points=[[0, 0], [5, 2], [3, 9]]),
    dict(label="bird", shape_type="point", points=[[29, 4]]),
    dict(label="cat", shape_type="oriented_rectangle", points=[[24, 6], [27, 9], [25, 12], [21, 9]]),
    dict(label="_background_", points=[[12, 5], [14, 5], [14, 9]]),
]


def labelme_file(root, shapes, name="ä b.jpg", **more):
    picture(root / name, scenes()[0][0])
    content = dict(
        version="6.3.1", flags={}, shapes=shapes, imagePath=name, imageData=None, imageHeight=24, imageWidth=32
    )
    return write_json(root / "ä b.json", content | more)


@pytest.mark.layouts
@pytest.mark.parametrize("listed", [True, False])
def test_shapes_of_labelme_have_the_pixels_that_labelme_gives(tmp_path, listed):
    from labelme.utils.shape import shapes_to_label

    labelme_file(tmp_path, SHAPES)
    values = {"__ignore__": -1, "_background_": 0, "bird": 1, "cat": 2, "dog": 3}
    if listed:
        values = {"__ignore__": -1, "_background_": 0, "dog": 1, "cat": 2, "bird": 3}
        (tmp_path / "labels.txt").write_text("\n".join(values), encoding="utf-8")
    expected = shapes_to_label((24, 32), SHAPES, values)[0].astype(np.uint8)  # -1 becomes 255
    d = LabelMe(tmp_path)
    assert d.classes == tuple(values)[1:] and len(np.unique(expected)) == 5
    np.testing.assert_array_equal(d[0][1], expected)


@pytest.mark.layouts
def test_a_mask_of_labelme_is_read_as_labelme_reads_it(tmp_path):
    from labelme._label_file import LabelFile
    from labelme.utils.shape import shapes_to_label

    from minifcn.data.layouts.labelme import as_png

    mask = np.random.default_rng(0).random((5, 7)) < 0.5
    shape = dict(label="cat", shape_type="mask", points=[[3, 4], [9, 8]], mask=as_png(mask), flags={}, group_id=None)
    path = labelme_file(tmp_path, [shape])
    expected, _ = shapes_to_label((24, 32), LabelFile(str(path)).shapes, {"cat": 1})
    assert (LabelMe(tmp_path)[0][1] == expected).all() and expected.sum() == mask.sum()


DAMAGED_LABELME = {
    "an unknown shape": (dict(shapes=[dict(label="cat", shape_type="star", points=[[1, 2]])]), "of the kind 'star'"),
    "two corners": (dict(shapes=[dict(label="cat", points=[[1, 2], [3, 4]])]), "expected at least 3"),
    "no points": (dict(shapes=[dict(label="cat", points=[])]), "no valid points"),
    "infinite": (dict(shapes=[dict(label="cat", points=[[1, 2], [3, float("inf")], [5, 6]])]), "no valid points"),
    "far away": (dict(shapes=[dict(label="cat", points=[[1, 2], [3, 1e12], [5, 6]])]), "1e.12 pixels"),
    "no label": (dict(shapes=[dict(points=[[1, 2]])]), "expected text"),
    "a list of words": (dict(shapes=["cat"]), "expected an object"),
    "a path outside": (dict(imagePath="../../../etc/passwd"), "which is outside"),
    "a missing image": (dict(imagePath="c.jpg"), r"'c\.jpg', which is not in"),
    "another size": (dict(imageHeight=25), "annotations are for 25x32"),
    "a mask that is no PNG": (
        dict(shapes=[dict(label="cat", shape_type="mask", points=[[0, 0], [1, 1]], mask="R0lG")]), "damaged"
    ),
    "a mask beyond the image": (
        dict(shapes=[dict(label="cat", shape_type="mask", points=[[31, 0], [37, 4]], mask="PNG 7x5")]), "reaches beyond"
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED_LABELME)
def test_a_damaged_file_of_labelme_is_named_in_one_sentence(damage, tmp_path):
    from minifcn.data.layouts.labelme import as_png

    more, said = DAMAGED_LABELME[damage]
    path = labelme_file(tmp_path, **(dict(shapes=SHAPES) | more))
    png = as_png(np.ones((5, 7), bool))
    path.write_text(path.read_text(encoding="utf-8").replace("PNG 7x5", png), encoding="utf-8")
    with pytest.raises(UserError, match=said):
        list(LabelMe(tmp_path))


def test_a_path_of_another_computer_is_taken_by_its_name(tmp_path):
    for path in (r"C:\Users\Jörg\ä b.jpg", "/home/jörg/ä b.jpg", r"..\data\ä b.jpg"):
        labelme_file(tmp_path / "data", SHAPES, imagePath=path)
        assert len(LabelMe(tmp_path)) == 1


def test_a_turned_photo_is_labelled_as_it_is_seen(tmp_path):
    """labelme shows a photo upright; an annotation of the stored, unturned image is refused."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for size, said in (((32, 24), ""), ((24, 32), r"is 32x24 .* turned by its EXIF orientation 6\), but its annot")):
        path = labelme_file(tmp_path, SHAPES[:2], imageHeight=size[0], imageWidth=size[1])
        Image.fromarray(scenes()[0][0]).save(path.with_suffix(".jpg"), exif=exif)
        if said:
            with pytest.raises(UserError, match=said):
                LabelMe(tmp_path)
        else:
            image, label = LabelMe(tmp_path)[0]
            assert image.shape == (32, 24, 3) and label.shape == (32, 24) and label[13:20, 10:24].all()


def test_a_label_that_is_not_listed_is_named(tmp_path):
    labelme_file(tmp_path, SHAPES)
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ncat\nbird\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"labels\.txt does not name the labels dog"):
        LabelMe(tmp_path)


# VOC.


def test_voc_reads_the_stored_ids_and_its_lists(tmp_path):
    root = FOLDERS["voc"](tmp_path)
    whole = VOC(root)
    assert whole.classes[15] == "person" and whole.num_classes == 21
    for i, (_, label) in enumerate(scenes()):
        assert (pixels(whole)[str(i)] == label).all()
    assert set(pixels(VOC(root, "val"))) == {"0", "8", "9"} and len(VOC(root, "trainval")) == 10


def test_voc_as_cvat_exports_it_has_masks_in_colours(tmp_path):
    for i, (image, label) in enumerate(scenes()):
        picture(tmp_path / f"JPEGImages/{i}.jpg", image)
        picture(tmp_path / f"SegmentationClass/{i}.png", COLOURS[label])
    table = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbox:128,64,0::\ndisc:0,0,255::\nvoid:192,192,192::\n"
    (tmp_path / "labelmap.txt").write_text(table, encoding="utf-8")
    d = VOC(tmp_path)
    assert d.classes == NAMES and (d.palette == COLOURS[:3]).all()
    assert all((pixels(d)[str(i)] == label).all() for i, (_, label) in enumerate(scenes()))


def test_voc_without_an_image_a_mask_or_with_two_years_is_refused(tmp_path):
    home = FOLDERS["voc"](tmp_path) / "VOCdevkit/VOC2012"
    (home / "SegmentationClass/2007_3.png").unlink()
    with pytest.raises(UserError, match=r"1 names in the list train\w* have no mask \(2007_3\)"):
        VOC(tmp_path)
    palette_mask(home / "SegmentationClass/2007_3.png", np.full((24, 32), 77, np.uint8))
    (home / "class_names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    with pytest.raises(UserError, match=r"2007_3\.png holds class 77; with 3 classes"):
        list(VOC(tmp_path))
    (home / "JPEGImages/2007_3.jpg").unlink()
    with pytest.raises(UserError, match=r"lacks the images of 1 masks \(2007_3\)"):
        VOC(tmp_path)
    FOLDERS["voc"](tmp_path / "more")
    (tmp_path / "more/VOCdevkit/VOC2012").rename(tmp_path / "VOCdevkit/VOC2007")
    with pytest.raises(UserError, match="holds VOC2007, VOC2012; give one of them"):
        VOC(tmp_path / "VOCdevkit")


# Pictures.


def write_masks(root, values, image="images/{}.png", mask="masks/{}.png"):
    for i, (photo, label) in enumerate(scenes(5)):
        picture(root / image.format(i), photo)
        picture(root / mask.format(i), np.asarray(values)[label])
    return root


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("Images/{}.jpg", "Labels/{}.PNG"), ("img/{}.png", "annotations/{}.bmp"), ("{}.jpg", "{}_mask.png"),
        ("{}.png", "{}_L.png"), ("a b/images/{}.jpg", "a b/GT/{}_gt.tif"), ("images/x/{}.jpg", "labels/x/{}.gif"),
        ("RGB/한글{}_img.jpg", "Mask/한글{}_label.png"), ("masks/{}.png", "masks/{}_mask.png"),
    ],
)  # fmt: skip
def test_masks_are_found_by_folder_and_suffix(tmp_path, image, mask):
    values = np.arange(256, dtype=np.uint8)
    d = recognise(write_masks(tmp_path, values, image, mask)).open()
    assert [*map(np.ndarray.tolist, (d[i][1] for i in range(5)))] == [label.tolist() for _, label in scenes(5)]


def test_colours_with_a_table_and_without(tmp_path):
    root = FOLDERS["masks"](tmp_path)
    d = Masks(root)
    assert d.classes == NAMES and (d.palette == COLOURS[:3]).all()
    assert all((d[i][1] == label).all() for i, (_, label) in enumerate(scenes()))
    (root / "colours.txt").unlink()
    with pytest.warns(
        Note, match=r"no colours\.txt: the 4 colours .* #000000, #0000ff, #804000, #c0c0c0, in this order"
    ):
        d = Masks(root)
    order = np.array([0, 2, 1] + [3] * 253)
    assert all((d[i][1] == order[label]).all() for i, (_, label) in enumerate(scenes()))


@pytest.mark.parametrize(
    "line", ["128 64 0 a road", "128,64,0,a road", "#804000 a road", "a road,128,64,0", "a road:128,64,0::"]
)
def test_lines_of_a_table_of_colours(tmp_path, line):
    from minifcn.data.colours import read_table

    (tmp_path / "c.txt").write_text(f"{line}\n0 0 0 Void\n", encoding="utf-8-sig")
    table = read_table(tmp_path / "c.txt")
    assert (
        table.classes == ("a road",) and table.palette.tolist() == [[128, 64, 0]] and table.void.tolist() == [[0, 0, 0]]
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("300 0 0 road", "not a colour and a name"), ("road", "not a colour and a name"),
        ("1 2 3 road\n1 2 3 sky", "the colour #010203 twice"), ("1 2 3 road\n3 2 1 road", "names 'road' twice"),
        ("1 2 3 road\n9 9 9 sky", r"pixels in colours that are no class \(#"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused(tmp_path, text, said):
    root = FOLDERS["masks"](tmp_path)
    (root / "colours.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        list(Masks(root))


def test_values_become_classes_only_as_the_user_says(tmp_path):
    grey = np.zeros(256, np.uint8)
    grey[[1, 2, 255]] = 50, 200, 7
    root = write_masks(tmp_path / "grey", grey)
    with pytest.raises(UserError, match="0, 7, 50, 200"):
        Masks(root)
    d = Masks(root, ids="0, 50,200", void=7)
    assert d.num_classes == 3 and all((d[i][1] == label).all() for i, (_, label) in enumerate(scenes(5)))
    with pytest.raises(UserError, match="holds the values 7, which are not among the ids 0,50,200"):
        list(Masks(root, ids="0,50,200"))
    white = np.zeros((256, 3), np.uint8)
    white[[1, 2]] = 255
    d = Masks(write_masks(tmp_path / "white", white), binary=128)
    assert d.classes == ("background", "foreground")
    assert all((d[i][1] == np.isin(label, (1, 2))).all() for i, (_, label) in enumerate(scenes(5)))
    for options in (dict(ids="0,0"), dict(ids="0,x"), dict(ids="0,300"), dict(ids="0,1", binary=3)):
        with pytest.raises(UserError, match="ids"):
            Masks(root, **options)


def test_masks_that_cannot_be_exact_are_refused(tmp_path):
    for name, save in {
        "jpeg": lambda path: Image.fromarray(COLOURS[scenes(1)[0][1]]).save(path.with_suffix(".jpg")),
        "alpha": lambda path: Image.new("RGBA", (32, 24), (1, 2, 3, 4)).save(path),
    }.items():
        picture(tmp_path / name / "Images/a.jpg", scenes(1)[0][0])
        (tmp_path / name / "Labels").mkdir()
        save(tmp_path / name / "Labels/a.png")
        with pytest.raises(UserError, match=r"may change colours|transparent pixels"):
            Masks(tmp_path / name)


def test_lists_of_pairs(tmp_path):
    root = FOLDERS["pairs"](tmp_path)
    d = Pairs(root)
    assert all((d[i][1] == scenes()[i][1]).all() for i in range(10)) and set(d.splits) == {"train", "val"}
    for path in root.glob("*.csv"):
        path.unlink()
    lines = [f"/home/x/{root.name}/a b/{i}.jpg\t/home/x/{root.name}/drawn/m{9 - i}.png" for i in range(10)]
    (root / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    assert recognise(root).open().names == d.names and len(Pairs(root, "val")) == 2
    for line, said in (
        ("a b/1.jpg\tdrawn/m1.png", "gives a b/1.jpg another mask"), ("a.jpg,b.png,c.png", "expected an image and its"),
        ("a b/1.jpg,x.png", r"'x\.png', which is not in"), ("a b/1.jpg,../x.png", "which is outside"),
    ):  # fmt: skip
        (root / "list.txt").write_text("\n".join([*lines, line]), encoding="utf-8")
        with pytest.raises(UserError, match=said):
            Pairs(root)


def test_the_librarys_own_folder_is_divided_by_lists(tmp_path):
    root = write_scenes(tmp_path / "scenes")
    (root / "train.txt").write_text("0\n1.png\n2\nimages/3.png\n5\n6\n7\n", encoding="utf-8")
    (root / "val.txt").write_text("4\n8\n", encoding="utf-8")
    with pytest.warns(Note, match=r"1 images are in no split, and not used \(images/9\.png\)"):
        val = data.Folder(root, "val")
    assert val.names == ["images/4.png", "images/8.png"] and len(data.Folder(root, "train")) == 7
    with pytest.raises(UserError, match="no split 'test'; choose train or val"):
        data.Folder(root, "test")
    (root / "val.txt").write_text("4\nmoon\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"val\.txt names images that are not in .* \(moon\)"):
        data.Folder(root)


def test_lists_and_folders_are_splits(tmp_path):
    root = FOLDERS["masks"](tmp_path / "lists")
    (root / "train.txt").write_text("0.jpg\n1\nImages/2.jpg\n", encoding="utf-8")
    (root / "val.txt").write_text("3\n", encoding="utf-8")
    assert set(pixels(Masks(root, "train"))) == {"0", "1", "2"} and len(Masks(root, "val")) == 1
    (root / "val.txt").write_text("33\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"val\.txt names images that are not in .* \(33\)"):
        Masks(root)
    FOLDERS["masks"](tmp_path / "both/Training"), FOLDERS["masks"](tmp_path / "both/Validation")
    (tmp_path / "both/colours.txt").write_bytes((root / "colours.txt").read_bytes())
    assert len(Masks(tmp_path / "both", "val")) == 10 and len(Masks(tmp_path / "both")) == 20


# In place: train, evaluate, resume.


@pytest.mark.parametrize("name", CASES)
def test_a_run_trains_in_place_and_is_evaluated_on_the_same_images(name, tmp_path, capfd):
    root = FOLDERS[name](tmp_path / "data")
    chosen = ["--dataset", name] if name == "siftflowgeo" else []  # the others are recognised
    assert train.main([*chosen, "--root", str(root), *TINY, "--out", str(tmp_path / "run")]) == 0
    printed = capfd.readouterr().out
    assert f"data        {name} (" in printed and (chosen or recognise(root).why.split(",")[0] in printed)
    kept = json.loads((tmp_path / "run/splits.json").read_text(encoding="utf-8"))
    assert kept["train"] and kept["val"] and not kept["train"].keys() & kept["val"].keys()
    then = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    assert evaluate.main([str(tmp_path / "run"), "--json", str(tmp_path / "m.json")]) == 0
    now = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert now["pixels"] == then["pixels"] and now["mean_iu"] == then["mean_iu"]


def test_a_changed_annotation_is_noticed(tmp_path):
    root = FOLDERS["labelme"](tmp_path)
    kept = LabelMe(root, "val").manifest()
    assert LabelMe(root, samples=kept).manifest() == kept
    (name, *_) = kept
    path = (root / name).with_suffix(".json")
    path.write_text(path.read_text(encoding="utf-8").replace("[28, 20]", "[28, 21]"), encoding="utf-8")
    with pytest.raises(UserError, match=f"1 changed \\({re.escape(name)}\\)"):
        data.open_dataset("labelme", None, root, samples=kept)


WORDS = [
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"[]",
    b"{}",
    b'"x"',
    b"9" * 20,
    b"0.5",
    b"true",
    b'"',
    b"..",
    b"\0",
    b"\xff",
]


@pytest.mark.parametrize("name", CASES)
def test_random_damage_is_refused_in_one_sentence_or_read(name, tmp_path):
    root = FOLDERS[name](tmp_path / "data")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    written = [path for path in files if path.suffix in (".json", ".xml", ".txt", ".csv", ".mat")]
    for seed in range(25):
        rng = random.Random(seed)
        path = rng.choice(written if written and seed % 5 else files)
        content = path.read_bytes()
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            found = rng.choice([*re.finditer(rb"-?\d+\.?\d*|\"[^\"]*\"|[][{}]", damaged), re.search(b"", damaged)])
            start = rng.randrange(len(damaged) + 1)
            cut = rng.choice([found.span(), (start, start + 1), (start, len(damaged))])
            damaged[slice(*cut)] = rng.choice(WORDS)
        path.write_bytes(damaged)
        with suppress(UserError):
            list(data.open_dataset(name, None, root))
        path.write_bytes(content)


def test_the_folder_of_another_layout_is_refused_with_what_was_expected(tmp_path):
    with pytest.raises(UserError, match="not in the layout 'voc': expected JPEGImages/ and SegmentationClass/"):
        VOC(FOLDERS["coco"](tmp_path))
