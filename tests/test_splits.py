"""A run uses the images and classes that it began with, and an error names what has changed."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY, write_scenes

from minifcn import evaluate, models, train
from minifcn.data import Folder, Shapes
from minifcn.data.manifest import differences, is_splits, require_same_names
from minifcn.data.palette import save_mask
from minifcn.errors import UserError
from minifcn.training.loop import fit

NAMES = ("sky", "road", "tree")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A data folder with names of classes, and a run of it."""
    base = tmp_path_factory.mktemp("trained")
    write_scenes(base / "data")
    (base / "data/classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    assert train.main(["--root", str(base / "data"), *TINY, "--out", str(base / "run")]) == 0
    return base


@pytest.fixture
def base(trained, tmp_path):
    """A copy of the data and the run that a test may change; the copied run points to the copied data."""
    shutil.copytree(trained, tmp_path / "base")
    config = json.loads((tmp_path / "base/run/config.json").read_text(encoding="utf-8"))
    config["root"] = str(tmp_path / "base/data")
    (tmp_path / "base/run/config.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path / "base"


def add(data, name, shade=200):
    Image.new("RGB", (32, 24), (shade, 9, 9)).save(data / f"images/{name}.png")
    save_mask(data / f"masks/{name}.png", np.ones((24, 32), np.uint8))


def remove(data, name):
    for kind in ("images", "masks"):
        (data / f"{kind}/{name}.png").unlink()


def measured(run, tmp_path, *flags):
    assert evaluate.main([str(run), "--json", str(tmp_path / "m.json"), *map(str, flags)]) == 0
    found = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    logged = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {name: found[name] for name in logged if name != "header"}


def test_a_run_names_its_pictures_and_classes(trained):
    kept = json.loads((trained / "run/splits.json").read_text(encoding="utf-8"))
    assert kept["classes"] == list(NAMES) and is_splits(kept)
    assert list(kept["val"]) == ["images/0.png", "images/5.png"]
    assert list(kept["train"]) == [f"images/{i}.png" for i in (1, 2, 3, 4, 6, 7, 8, 9)]
    assert len({*kept["train"].values(), *kept["val"].values()}) == 10


def test_a_share_of_a_folder_without_splits_is_drawn_for_validation_and_kept(tmp_path, capfd, refused):
    data, kept = write_scenes(tmp_path / "data", 20), {}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        flags = [*TINY, "--val", "0.3", "--seed", str(seed), "--out", str(tmp_path / name)]
        assert train.main(["--root", str(data), *flags]) == 0
        kept[name] = json.loads((tmp_path / name / "splits.json").read_text(encoding="utf-8"))
        assert len(kept[name]["val"]) == 6 and len(kept[name]["train"]) == 14
        assert {*kept[name]["val"], *kept[name]["train"]} == {f"images/{i}.png" for i in range(20)}
    assert "14 images to train on, 6 to validate on (drawn with seed 1)" in capfd.readouterr().out
    assert kept["one"] == kept["again"] and kept["one"]["val"] != kept["other"]["val"]
    expected = json.loads((tmp_path / "one/metrics.json").read_text(encoding="utf-8"))
    expected.pop("header", None)
    assert measured(tmp_path / "one", tmp_path) == expected
    assert train.main(["--resume", str(tmp_path / "one"), "--epochs", "3"]) == 0
    add(data, "new")
    assert measured(tmp_path / "one", tmp_path, "--weights", "best")  # still the six
    refused(train.main, "--resume", tmp_path / "one", "--epochs", 4, match="1 added|are not those that .* began with")
    refused(train.main, "--dataset", "shapes", "--val", 0.2, *TINY, match="shapes has splits of its own: leave it out")
    refused(
        train.main, "--root", data, "--val", 1, *TINY, match="a share of 1 for validation leaves nothing to train on"
    )
    refused(train.main, "--root", data, "--val", 0.2, "--val-split", "test", *TINY, match="leave out one")
    for name, lines in (("train", "1\n2\n3\n4"), ("val", "0")):
        (data / f"{name}.txt").write_text(lines, encoding="utf-8")
    refused(
        train.main,
        "--root",
        data,
        "--val",
        0.2,
        *TINY,
        match=r"is divided already \(train, val\): .* convert .* --val 0\.2",
    )


@pytest.mark.parametrize("change", [lambda d: add(d, "00"), lambda d: remove(d, "1"), lambda d: add(d, "3")])
def test_evaluate_keeps_to_the_pictures_that_the_run_was_validated_on(trained, base, tmp_path, change):
    """One file more or less changes which files are every fifth, yet evaluate uses the validation images of the run."""
    change(base / "data")
    expected = json.loads((trained / "run/metrics.json").read_text(encoding="utf-8"))
    del expected["header"]
    assert measured(base / "run", tmp_path) == expected
    assert measured(base / "run", tmp_path, "--split", "val") == expected


def test_evaluate_finds_the_runs_pictures_where_they_were_moved_to(trained, base, tmp_path, capfd):
    expected = measured(trained / "run", tmp_path)
    add(base / "data", "00")
    shutil.move(base / "data", base / "moved")
    assert measured(base / "run", tmp_path, "--root", base / "moved") == expected
    # Other images with the same names are not the run's, so evaluate measures all five.
    write_scenes(base / "other", count=5, num_classes=3)
    for i in range(5):
        add(base / "other", i, 10 * i)
    (base / "other/classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    capfd.readouterr()
    assert measured(base / "run", tmp_path, "--root", base / "other")["pixels"] == 5 * 24 * 32
    assert "5 images" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: remove(d, "5"), r"1 missing \(images/5\.png\)"),
        (lambda d: add(d, "0"), r"1 changed \(images/0\.png\)"),
        (lambda d: save_mask(d / "masks/5.png", np.zeros((24, 32), np.uint8)), r"1 changed \(images/5\.png\)"),
    ],
    ids=["removed", "image", "mask"],
)
def test_evaluate_says_which_of_its_pictures_are_not_what_they_were(base, refused, change, said):
    change(base / "data")
    refused(evaluate.main, base / "run", match=said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: add(d, "00"), r"1 added \(images/00\.png\); .* training images are now in the other split"),
        (lambda d: add(d, "99"), r"1 added \(images/99\.png\); undo the change, or start a new run"),
        (lambda d: remove(d, "1"), r"1 missing \(images/1\.png\)"),
        (lambda d: add(d, "7"), r"1 changed \(images/7\.png\)"),
        (lambda d: [remove(d, i) for i in range(8)], r"8 missing \(images/1\.png, images/2\.png, .* and 5 more\)"),
        (lambda d: (d / "classes.txt").write_text("road\nsky\ntree"), "same classes in another order: road, sky, tree"),
        (lambda d: (d / "classes.txt").write_text("sky\nroad\nhouse"), "other classes: sky, road, house"),
    ],
)
def test_a_run_is_not_resumed_on_other_data(base, refused, change, said):
    change(base / "data")
    before = {file.name: file.read_bytes() for file in (base / "run").iterdir()}
    refused(train.main, "--resume", base / "run", "--epochs", 3, match=said)
    assert before == {file.name: file.read_bytes() for file in (base / "run").iterdir()}


def test_a_run_that_kept_no_splits_still_knows_its_classes(base, refused):
    (base / "run/splits.json").unlink()
    (base / "data/classes.txt").write_text("road\nsky\ntree", encoding="utf-8")
    refused(train.main, "--resume", base / "run", "--epochs", 3, match="another order")
    (base / "data/classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    assert train.main(["--resume", str(base / "run"), "--epochs", "3"]) == 0
    assert (base / "run/splits.json").is_file()


@pytest.mark.parametrize("text", ["road\nsky\ntree", "sky\nroad\nhouse"])
def test_other_names_of_classes_are_not_measured(base, refused, text):
    (base / "data/classes.txt").write_text(text, encoding="utf-8")
    refused(evaluate.main, base / "run", match="trained with the classes sky, road, tree, but")


def test_a_start_from_classes_in_another_order_is_refused_and_other_classes_are_said(base, refused, capfd, tmp_path):
    flags = ["--root", str(base / "data"), *TINY, "--init", str(base / "run"), "--out", str(tmp_path / "new")]
    (base / "data/classes.txt").write_text("road\nsky\ntree", encoding="utf-8")
    refused(train.main, *flags, match="the same classes in another order")
    (base / "data/classes.txt").write_text("cat\ndog\nsky", encoding="utf-8")
    assert train.main(flags) == 0
    assert "it has other classes (sky, road, tree), so scores are learned from zero" in capfd.readouterr().out


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"classes": [1], "train": null, "val": null, "trouble": ""}', "[" * 10**5]
)
def test_a_damaged_list_of_pictures_is_one_sentence(base, refused, text):
    (base / "run/splits.json").write_text(text, encoding="utf-8")
    for main, argv in ((evaluate.main, [base / "run"]), (train.main, ["--resume", base / "run", "--epochs", 3])):
        refused(main, *argv, match=r"splits\.json (is damaged|cannot be read)")


def test_a_model_keeps_the_names_of_its_classes_in_python():
    model = models.build("fcn8s_mini", num_classes=3, width=0.1)
    data = Shapes(length=2, size=(24, 32), num_classes=3)
    model.classes = ("background", "rectangle", "disc")
    with pytest.raises(UserError, match=r"another order: background, disc, rectangle; .*set model\.classes"):
        fit(model, data)
    for names in (data.classes, ("class 0", "class 1", "class 2")):
        model.classes = names
        fit(model, data)


def test_a_folder_of_given_samples(scenes):
    whole = Folder(scenes)
    assert list(whole.manifest()) == [f"images/{i}.png" for i in range(10)]
    some = dict(list(whole.manifest().items())[3:5])
    chosen = Folder(scenes, "val", samples=some)
    assert len(chosen) == 2 and chosen.manifest() == some and (chosen[0][0] == whole[3][0]).all()


def test_changes_in_words():
    assert differences({"a": "1", "b": "2"}, {"a": "1", "b": "2"}) == []
    assert differences({"a": "1", "b": "2", "c": "3"}, {"b": "9", "c": "3", "d": "4"}) == [
        "1 added (d)", "1 missing (a)", "1 changed (b)",
    ]  # fmt: skip
    require_same_names(["class 0", "class 1"], ("sky", "road"), "", "")
