"""Data sets of CVAT, Label Studio, CamVid and Oxford-IIIT Pet: labels as their own code gives them, and refusals."""

import json
import runpy
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout_folders import (
    COLOURS,
    CVAT_SDK,
    FOLDERS,
    LABEL_STUDIO_SDK,
    NAMES,
    picture,
    scenes,
    write_json,
)  # fmt: skip

from minifcn.data import CVAT, CamVid, LabelStudio, Pet, recognise
from minifcn.data.layouts.labelstudio import brush
from minifcn.data.packaged import packaged
from minifcn.errors import Note, UserError


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        yield


def block(rows, columns, value=1):
    """A label (24, 32) that is 0 outside of a rectangle."""
    label = np.zeros((24, 32), np.uint8)
    label[slice(*rows), slice(*columns)] = value
    return label


# CVAT.


def cvat_file(
    root, shapes, head='<?xml version="1.0" encoding="utf-8"?>', image='name="a b.jpg" width="32" height="24"'
):
    picture(root / "images/a b.jpg", scenes()[0][0])
    labels = "".join(
        f"<label><name>{name}</name><color>#00{k}000</color></label>" for k, name in enumerate(("cat", "dog"))
    )
    meta = f"<meta><job><labels>{labels}</labels></job></meta>"
    text = f"{head}<annotations><version>1.1</version>{meta}<image id='0' {image}>{shapes}</image></annotations>"
    (root / "annotations.xml").write_text(text, encoding="utf-8")
    return root


def test_shapes_of_cvat_lie_in_their_layers(tmp_path):
    d = CVAT(FOLDERS["cvat"](tmp_path))
    assert d.classes == NAMES and (d.palette == COLOURS[:3]).all() and set(d.splits) == {"train", "val"}
    expected = block((10, 22), (10, 22))
    expected[1:20, 1:20] = 2  # the disc is written first, but lies above
    assert (d[d.names.index("images/Train/0.jpg")][1] == expected).all()


def test_every_shape_of_cvat_with_an_area(tmp_path):
    shapes = (
        '<box label="cat" xtl="4" ytl="6" xbr="10" ybr="8" rotation="90"/>'
        '<ellipse label="dog" cx="20" cy="12" rx="6" ry="3" rotation="0"/>'
    )
    label = CVAT(cvat_file(tmp_path, shapes))[0][1]
    assert (np.where(label == 1, 1, 0) == block((4, 10), (6, 8))).all()  # turned around its centre (7, 7)
    y, x = np.mgrid[:24, :32] + 0.5
    distance = ((x - 20) / 6) ** 2 + ((y - 12) / 3) ** 2
    assert ((label == 2) == (distance < 1))[abs(distance - 1) > 0.3].all() and abs((label == 2).sum() - np.pi * 18) < 6


@pytest.mark.layouts
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.5, 1.0]))
def test_a_mask_of_cvat_has_the_pixels_that_cvat_wrote(tmp_path_factory, seed, share):
    oracle = runpy.run_path(str(packaged(*CVAT_SDK)))
    mask = np.random.default_rng(seed).random((24, 32)) < share
    *counts, left, top, right, bottom = oracle["encode_mask"](mask)
    box = f'left="{left}" top="{top}" width="{right - left + 1}" height="{bottom - top + 1}"'
    shape = f'<mask label="dog" rle="{", ".join(map(str, counts))}" {box} z_order="0"/>'
    label = CVAT(cvat_file(tmp_path_factory.mktemp("cvat"), shape))[0][1]
    assert (label == 2 * mask).all()


def test_what_has_no_area_is_counted(tmp_path):
    shapes = '<polyline label="cat" points="1,1;9,9"/><points label="cat" points="1,1"/>' * 2
    shapes += '<polygon label="cat" points="1,1;9,1;9,9"/><tag label="dog"/>'
    with pytest.warns(Note) as notes:
        assert CVAT(cvat_file(tmp_path, shapes))[0][1].any()
    said = " ".join(str(note.message) for note in notes)
    assert "2 polylines have no area" in said and "2 points have no area" in said


LAUGHS = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
POLYGON = '<polygon label="cat" points="{}"/>'
DAMAGED_CVAT = {
    "billion laughs": (dict(shapes="", head=LAUGHS), "declares a document type"),
    "another file": (dict(shapes="", head='<!DOCTYPE a SYSTEM "file:///etc/passwd">'), "declares a document type"),
    "cut off": (dict(shapes="<polygon"), "is not complete XML"),
    "two corners": (dict(shapes=POLYGON.format("1,2;3,4")), "has 2 points; a polygon has at least 3"),
    "no points": (dict(shapes='<polygon label="cat"/>'), "no valid points"),
    "words": (dict(shapes=POLYGON.format("a,b;c,d;e,f")), "no valid points"),
    "not a number": (dict(shapes=POLYGON.format("1,2;3,nan;5,6")), "no valid points"),
    "no label": (dict(shapes='<polygon points="1,2;3,4;5,6"/>'), "has no label"),
    "an unknown label": (dict(shapes='<polygon label="cow" points="1,2;3,4;5,6"/>'), "does not name the labels cow"),
    "runs that overrun": (dict(shapes='<mask label="cat" rle="0, 99" left="1" top="1" width="3" height="2"/>'), "2x3"),
    "runs of words": (dict(shapes='<mask label="cat" rle="a" left="1" top="1" width="3" height="2"/>'), "damaged"),
    "a mask outside": (dict(shapes='<mask label="cat" rle="9" left="31" top="1" width="3" height="3"/>'), "beyond"),
    "a huge mask": (
        dict(shapes='<mask label="cat" rle="9" left="0" top="0" width="9999999" height="9999999"/>'), "reaches beyond"
    ),
    "no number": (dict(shapes='<box label="cat" xtl="1" ytl="2" xbr="3"/>'), "ybr is 'None'; expected a number"),
    "a path outside": (dict(shapes="", image='name="../../x.jpg" width="32" height="24"'), "which is outside"),
    "a missing image": (dict(shapes="", image='name="x.jpg" width="32" height="24"'), "which is not in"),
    "another size": (dict(shapes="", image='name="a b.jpg" width="33" height="24"'), "annotations are for 24x33"),
    "tracks": (dict(shapes="</image><track id='0'/><image>"), "tracks of a video"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED_CVAT)
def test_a_damaged_file_of_cvat_is_named_in_one_sentence(damage, tmp_path):
    arguments, said = DAMAGED_CVAT[damage]
    with pytest.raises(UserError, match=said):
        list(CVAT(cvat_file(tmp_path, **arguments)))


# Label Studio.


def studio_file(root, results, name="0a1b2c3d-ä b.jpg", **more):
    picture(root / "upload/ä b.jpg", scenes()[0][0])
    task = dict(id=1, data=dict(image=f"/data/upload/1/{name}"), annotations=[dict(result=results)], file_upload=name)
    write_json(root / "project.json", [task | more])
    return root


def result(kind, value, **more):
    return dict(id="x", type=kind, original_width=32, original_height=24, image_rotation=0, value=value) | more


def test_shapes_of_label_studio_are_in_percent(tmp_path):
    corners = [[12.5, 25], [62.5, 25], [62.5, 75], [12.5, 75]]
    results = [
        result("rectanglelabels", dict(x=50, y=50, width=25, height=25, rotation=90, rectanglelabels=["dog"])),
        result("polygonlabels", dict(points=corners, polygonlabels=["cat"])),
    ]
    label = LabelStudio(studio_file(tmp_path / "a", results))[0][1]
    expected = block((12, 20), (10, 16), 2)  # 8×6 pixels, turned clockwise around their corner (16, 12)
    expected[6:18, 4:20] = 1
    assert (label == expected).all()
    named = [result("polygon", dict(points=corners)), result("labels", dict(labels=["cat"])), result("choices", {})]
    assert (LabelStudio(studio_file(tmp_path / "b", named))[0][1] == block((6, 18), (4, 20))).all()
    oval = [result("ellipselabels", dict(x=50, y=50, radiusX=25, radiusY=25, ellipselabels=["cat"]))]
    label = LabelStudio(studio_file(tmp_path / "c", oval))[0][1]
    assert abs(label.sum() - np.pi * 8 * 6) < 9 and label[12, 8:24].all() and label[6:18, 16].all()


@pytest.mark.layouts
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_a_brush_has_the_pixels_that_label_studio_gives(seed, zoom):
    oracle = runpy.run_path(str(packaged(*LABEL_STUDIO_SDK)))
    rng = np.random.default_rng(seed)
    alpha = np.kron(rng.integers(0, 2, (5, 7)), np.ones((zoom, zoom), int)).astype(np.uint8) * 255
    rgba = np.stack([rng.integers(0, 256, alpha.shape).astype(np.uint8)] * 3 + [alpha], axis=2)
    rle = oracle["encode_rle"](rgba.ravel())
    expected = oracle["decode_rle"](rle).reshape(rgba.shape)[..., 3] > 0
    assert (brush(list(rle), alpha.shape, "it") == expected).all() and (expected == (alpha > 0)).all()


def test_where_label_studio_keeps_the_images(tmp_path):
    for k, (url, upload) in enumerate(
        [
            ("/data/local-files/?d=folder/%C3%A4%20b.jpg", None), ("s3://bucket/x/ä b.jpg", None),
            ("/data/upload/1/0a1b2c3d-%C3%A4%20b.jpg", "0a1b2c3d-ä b.jpg"), ("http://host:8080/ä b.jpg?x=1", None),
        ]
    ):  # fmt: skip
        shapes = [result("polygonlabels", dict(points=[[1, 1], [50, 1], [50, 50]], polygonlabels=["cat"]))]
        root = studio_file(tmp_path / str(k), shapes, data=dict(id=9, image=url), file_upload=upload)
        assert LabelStudio(root).names == ["upload/ä b.jpg"]
    picture(root / "again/ä b.jpg", scenes()[0][0])
    with pytest.raises(UserError, match=r"several images are named ä b\.jpg"):
        LabelStudio(root)


def test_the_last_annotation_counts_and_tasks_without_are_left_out(tmp_path):
    root = FOLDERS["labelstudio"](tmp_path)
    file = next(root.glob("*.json"))
    tasks = json.loads(file.read_text(encoding="utf-8"))
    first = tasks[0]["annotations"][0]
    tasks[0]["annotations"] = [
        first,
        first | dict(result=first["result"][:1]),
        first | dict(result=[], was_cancelled=True),
    ]
    tasks[1]["annotations"] = []
    write_json(file, tasks)
    with pytest.warns(Note) as notes:
        d = LabelStudio(root)
    said = " ".join(str(note.message) for note in notes)
    assert "1 tasks have no annotation" in said and "1 tasks have several annotations" in said
    assert len(d) == 9 and set(np.unique(d[0][1])) == {0, 1} and set(np.unique(d[1][1])) == {0, 1, 2}


def bytes_of(bits):
    bits = bits + "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


BOX = dict(x=1, y=1, width=9, height=9, rectanglelabels=["a"])
HEAD = f"{24 * 32 * 4:032b}" + "00111" + "1111" * 4
DAMAGED_STUDIO = {
    "two corners": ([result("polygonlabels", dict(points=[[1, 1], [2, 2]], polygonlabels=["a"]))], "has 2 points"),
    "no corners": ([result("polygonlabels", dict(points=None, polygonlabels=["a"]))], "no valid points"),
    "no label": ([result("polygonlabels", dict(points=[[1, 1], [2, 2], [3, 1]]))], "without a label"),
    "turned": ([result("brushlabels", dict(rle=[], brushlabels=["a"]), image_rotation=90)], "was turned"),
    "another size": ([result("rectanglelabels", BOX, original_width=9)], "annotations are for 24x9"),
    "two sizes": ([result("rectanglelabels", BOX, original_width=w) for w in (9, 32)], "of different sizes"),
    "no numbers": ([result("brushlabels", dict(rle=["x"], brushlabels=["a"]))], "damaged run lengths"),
    "an empty brush": ([result("brushlabels", dict(rle=[], brushlabels=["a"]))], "end too early"),
    "a brush cut off": ([result("brushlabels", dict(rle=bytes_of(HEAD + "1"), brushlabels=["a"]))], "end too early"),
    "a brush that overruns": (
        [result("brushlabels", dict(rle=bytes_of(HEAD + "100" + "1" * 24), brushlabels=["a"]))], "overrun the image"
    ),
    "a huge brush": ([result("brushlabels", dict(rle=[255] * 40, brushlabels=["a"]))], "for another size"),
    "no list": (7, "expected a list"),
    "a list of words": (["x"], "expected an object"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED_STUDIO)
def test_a_damaged_file_of_label_studio_is_named_in_one_sentence(damage, tmp_path):
    results, said = DAMAGED_STUDIO[damage]
    with pytest.raises(UserError, match=said):
        list(LabelStudio(studio_file(tmp_path, results)))


def test_an_image_of_label_studio_that_is_not_there_is_named(tmp_path):
    root = studio_file(tmp_path, [], data=dict(image="/data/upload/../../etc/passwd"), file_upload=None)
    with pytest.raises(UserError, match="put passwd beside the JSON file"):
        LabelStudio(root)


# CamVid.


def test_segnets_camvid_has_eleven_classes_and_void(tmp_path):
    d = CamVid(FOLDERS["camvid"](tmp_path))
    assert d.num_classes == 11 and d.classes[3] == "road" and d.palette[3].tolist() == [128, 64, 128]
    for i, sample in enumerate(d.samples):
        assert (d[i][1] == scenes()[int(sample.image.stem[-5:])][1]).all()
    assert any((d[i][1] == 255).any() for i in range(10))
    assert len(CamVid(tmp_path, "val")) == 2 and len(CamVid(tmp_path, "train")) == 8
    picture(tmp_path / "SegNet/CamVid/trainannot/x.png", scenes()[0][1])
    with pytest.raises(UserError, match=r"x\.png has no image; expected"):
        CamVid(tmp_path)


def test_the_original_camvid_has_colours_and_is_divided_by_blocks(tmp_path):
    image, label = scenes()[0]
    for sequence, count in (("0001TP_0", 70), ("Seq05VD_f0", 50)):
        for k in range(count):
            picture(tmp_path / f"701_StillsRaw_full/{sequence}{30 * k:04}.png", image)
            picture(tmp_path / f"LabeledApproved_full/{sequence}{30 * k:04}_L.png", COLOURS[label])
    table = "0 0 0\t\tbackground\n128 64 0\tbox\n0 0 255\tdisc\n192 192 192\tVoid\n"
    (tmp_path / "label_colors.txt").write_text(table, encoding="utf-8")
    assert recognise(tmp_path).name == "camvid"
    with pytest.warns(Note, match="no splits: a fifth of the frames, in blocks of 30"):
        train, val = CamVid(tmp_path, "train"), CamVid(tmp_path, "val")
    assert train.classes == NAMES and (train[0][1] == label).all() and len(train) + len(val) == 120
    assert 0.1 <= len(val) / 120 <= 0.3
    numbers = {name: [int(n[-8:-4]) // 30 for n in val.names if name in n] for name in ("0001TP", "Seq05VD")}
    blocks = {(name, k // 30) for name, found in numbers.items() for k in found}
    assert len(val) == sum(min(30, {"0001TP": 70, "Seq05VD": 50}[name] - 30 * k) for name, k in blocks)  # whole blocks
    (tmp_path / "701_StillsRaw_full/0001TP_00000.png").unlink()
    with pytest.raises(UserError, match=r"lacks the images of 1 masks \(0001TP_00000\)"):
        CamVid(tmp_path)


# Pet.


def test_the_trimaps_of_pet(tmp_path):
    d = Pet(FOLDERS["pet"](tmp_path))
    for i, sample in enumerate(d.samples):
        label = scenes()[int(sample.image.stem[-1])][1]
        assert (d[i][1] == np.where(label == 255, 255, np.minimum(label, 1))).all()
    assert len(Pet(tmp_path, "train")) == 7 and len(Pet(tmp_path, "val")) == 3
    picture(tmp_path / "annotations/trimaps/Abyssinian_3.png", np.full((24, 32), 7, np.uint8))
    with pytest.raises(UserError, match=r"Abyssinian_3\.png holds class"):
        list(Pet(tmp_path))
    (tmp_path / "images/Abyssinian_3.jpg").unlink()
    with pytest.raises(UserError, match="lacks the images of 1 trimaps"):
        Pet(tmp_path)
