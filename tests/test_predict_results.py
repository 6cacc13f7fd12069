"""What the command predict labels (folders, patterns, frames), and what it writes (probabilities, tables, legend)."""

import csv
import json
import re
import warnings

import numpy as np
import pytest
from PIL import Image

import minifcn as mf
from minifcn import predict
from minifcn.viz.legend import with_legend


def picture(path, seed=0, size=(20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """A folder with numbered frames, and sub-folders in which a name occurs again."""
    for k, name in enumerate(
        ("frame10.png", "frame2.png", "frame1.jpg", "눈 é/frame1.png", "눈 é/deep/x.bmp", ".git/y.png")
    ):
        picture(tmp_path / "photos" / name, k)
    (tmp_path / "photos/눈 é/notes.txt").write_text("text", encoding="utf-8")
    return tmp_path / "photos"


@pytest.fixture
def label(finished, tmp_path, capfd):
    """A function that runs predict with the finished run, and returns the names of the files below its output."""

    def label(*argv, out="out"):
        assert predict.main([str(finished), *map(str, argv), "--out", str(tmp_path / out)]) == 0
        return sorted(file.relative_to(tmp_path / out).as_posix() for file in (tmp_path / out).rglob("*.*"))

    return label


def both(*names):
    return sorted(f"{name}-{kind}.png" for name in names for kind in ("labels", "overlay"))


def test_a_folder_in_natural_order_and_with_its_sub_folders(photos, label, capfd):
    assert label(photos) == both("frame1", "frame2", "frame10")
    printed = capfd.readouterr()
    assert [re.search(r"/frame(\d+)\.", line)[1] for line in printed.out.splitlines()] == ["1", "2", "10"]
    assert "not used" in printed.err and "--recursive" in printed.err
    assert label(photos, "--recursive", out="o2") == both("frame1", "frame2", "frame10", "눈 é/frame1", "눈 é/deep/x")


def test_results_inside_the_folder_are_not_labelled_again(photos, label):
    out = "photos/results"
    first = label(photos, "--recursive", out=out)
    assert label(photos, "--recursive", "--overwrite", out=out) == first


def test_a_pattern_is_expanded_by_the_command(photos, label, refused, finished, tmp_path):
    assert label(photos / "frame?.*") == both("frame1", "frame2")
    assert label(photos / "**/*.png", out="o2") == both("frame2", "frame10", "눈 é/frame1")
    assert label(photos / "눈*/*", out="o3") == both("눈 é/frame1")
    refused(predict.main, finished, photos / "*.tif", match=r"no image has a path like .*\*\.tif")
    odd = picture(tmp_path / "a[1].png")
    assert label(odd, out="o4") == both("a[1]")
    assert predict.main([str(photos / "*.jpg"), "--out", str(tmp_path / "earth")]) == 0  # the package's model


def test_every_frame_is_labelled_as_a_file_of_its_own(tmp_path, label, finished):
    frames = [Image.open(picture(tmp_path / f"{k}.png", k)) for k in range(11)]
    frames[0].save(tmp_path / "many.tif", save_all=True, append_images=frames[1:])
    assert label(tmp_path / "many.tif", "--frames") == both(*(f"many-{k:02}" for k in range(11)))
    model = mf.models.load(finished)
    for k in (0, 7):
        found = mf.data.images.read_mask(tmp_path / f"out/many-{k:02}-labels.png")
        assert (found == model.predict(np.asarray(frames[k]))).all()
    assert label(tmp_path / "3.png", "--frames", out="one") == both("3")


def test_probabilities_and_confidence_are_those_of_the_model(photos, label, finished, tmp_path):
    names = label(photos / "frame2.png", "--probabilities", "--confidence")
    assert names == sorted([*both("frame2"), "frame2-confidence.png", "frame2-probabilities.npz"])
    expected = mf.models.load(finished).predict_proba(photos / "frame2.png")
    with np.load(tmp_path / "out/frame2-probabilities.npz", allow_pickle=False) as file:
        assert file["probabilities"].dtype == np.float16 and file["classes"].tolist() == [
            "class 0",
            "class 1",
            "class 2",
        ]
        np.testing.assert_allclose(file["probabilities"], expected, atol=3e-4)
    confidence = Image.open(tmp_path / "out/frame2-confidence.png")
    assert confidence.mode == "L" and (np.asarray(confidence) == np.rint(expected.max(0) * 255)).all()
    assert (mf.data.images.read_mask(tmp_path / "out/frame2-labels.png") == expected.argmax(0)).all()


def test_tta_is_the_models(photos, label, finished, tmp_path):
    label(photos / "frame2.png", "--tta")
    expected = mf.models.load(finished).predict(photos / "frame2.png", tta=True)
    assert (mf.data.images.read_mask(tmp_path / "out/frame2-labels.png") == expected).all()


def test_tables_count_the_pixels_of_each_class(photos, label, tmp_path, capfd, finished):
    label(photos, "--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json")
    with open(tmp_path / "a.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    records = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["images"]
    assert [row["image"].rpartition("frame")[2] for row in rows] == ["1.jpg", "2.png", "10.png"]
    for row, record in zip(rows, records):
        mask = mf.data.images.read_mask(record["files"][0])
        for k, name in enumerate(("class 0", "class 1", "class 2")):
            assert int(row[f"pixels {name}"]) == record["classes"][name]["pixels"] == (mask == k).sum()
            assert float(row[f"share {name}"]) == pytest.approx((mask == k).mean(), abs=1e-6)
            assert record["classes"][name]["share"] == pytest.approx((mask == k).mean())
        assert (int(row["height"]), int(row["width"])) == mask.shape == (record["height"], record["width"])
    capfd.readouterr()
    label(photos / "frame2.png", "--json", "-", out="o2")
    printed = capfd.readouterr()
    assert json.loads(printed.out)["images"][0]["height"] == 20 and "-labels.png" in printed.err
    label(photos / "frame2.png", "--csv", "-", out="o3")
    assert capfd.readouterr().out.startswith("image,height,width,pixels class 0,")


def test_a_table_is_not_overwritten_and_keeps_what_was_done(photos, finished, tmp_path, refused, monkeypatch):
    argv = [finished, photos, "--csv", tmp_path / "a.csv", "--out"]
    (photos / "frame10.png").write_bytes(b"broken")
    refused(predict.main, *argv, tmp_path / "o1", match="frame10.png is not an image")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").count("\n") == 3
    refused(predict.main, *argv, tmp_path / "o2", match=r"a\.csv already exists: .*--overwrite")
    refused(predict.main, finished, photos, "--csv", photos / "frame1.jpg", match="frame1.jpg is one of the input")
    refused(predict.main, finished, photos, "--csv", "-", "--json", "-", match="cannot both be written to standard")

    def interrupted(model, picture, *args):
        if picture.name == "frame2":
            raise KeyboardInterrupt
        return original(model, picture, *args)

    original = predict.label_picture
    monkeypatch.setattr(predict, "label_picture", interrupted)
    assert predict.main([*map(str, argv), str(tmp_path / "o3"), "--overwrite"]) == 130
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").count("\n") == 2


def test_a_legend_leaves_the_picture_as_it_is(photos, label, tmp_path):
    label(photos / "frame2.png", out="plain")
    label(photos / "frame2.png", "--legend", out="key")
    plain, key = (np.asarray(Image.open(tmp_path / f"{out}/frame2-overlay.png")) for out in ("plain", "key"))
    assert key.shape[0] > 20 and (key[:20, :30] == plain).all() and (key[:20, 30:] == 255).all()


def test_a_name_in_a_script_that_no_font_has_makes_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = with_legend(np.zeros((20, 30, 3), np.uint8), ["하늘", "\U0001f333"], [(1, 2, 3), (250, 0, 0)])
    assert (whole[20:] == (250, 0, 0)).all(-1).sum() > 40


def test_a_legend_shows_the_colour_of_each_class_and_grows_with_the_picture():
    colours = [(255, 0, 0), (0, 128, 0), (10, 20, 200)]
    heights = []
    for width in (640, 3200):
        whole = with_legend(np.full((50, width, 3), 9, np.uint8), ["sky", "road", "a tree"], colours)
        assert whole.shape[1] == width and (whole[:50] == 9).all()
        for colour in colours:
            assert (whole[50:] == colour).all(-1).sum() > 40
        heights.append(len(whole) - 50)
    assert heights[1] == pytest.approx(5 * heights[0], rel=0.05)
