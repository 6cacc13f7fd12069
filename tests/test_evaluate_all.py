"""What evaluate measures (all of a folder, in the run's classes), and what it reports and compares."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from test_ranks import launch, mpi
from tiny_run import TINY, write_scenes

import minifcn as mf
from minifcn import evaluate, train
from minifcn.data import Folder
from minifcn.data.by_name import in_classes
from minifcn.data.palette import save_mask
from minifcn.data.views import ByName
from minifcn.errors import UserError

NAMES = ("sky", "road", "tree")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A data folder with names of classes, two runs of it, and other pictures without names."""
    base = tmp_path_factory.mktemp("base")
    write_scenes(base / "data")
    (base / "data/classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    for k, epochs in enumerate(("40", "25")):
        more = [
            "--width",
            "0.2",
            "--optimizer",
            "adam",
            "--lr",
            "0.02",
            "--epochs",
            epochs,
            "--out",
            str(base / f"run{k}"),
        ]
        assert train.main(["--root", str(base / "data"), *TINY, *more]) == 0
    write_scenes(base / "scenes", count=20)
    for kind in ("images", "masks"):
        (base / f"test/{kind}").mkdir(parents=True)
        for i in range(11, 14):
            shutil.copy(base / f"scenes/{kind}/{i}.png", base / f"test/{kind}/{i}.png")
    return base


@pytest.fixture
def measured(tmp_path, capfd):
    """A function that runs evaluate, and returns the JSON value and what was printed."""

    def measured(*argv):
        capfd.readouterr()
        assert evaluate.main([*map(str, argv), "--json", str(tmp_path / "m.json")]) == 0
        return json.loads((tmp_path / "m.json").read_text(encoding="utf-8")), capfd.readouterr()

    return measured


def copied(base, tmp_path, classes=None, change=lambda label: label):
    """A copy of the three other pictures whose masks are changed."""
    shutil.copytree(base / "test", tmp_path / "copy")
    for path in (tmp_path / "copy/masks").iterdir():
        save_mask(path, change(mf.data.images.read_mask(path)))
    if classes:
        (tmp_path / "copy/classes.txt").write_text("\n".join(classes), encoding="utf-8")
    return tmp_path / "copy"


def expected_of(base, folder, labels=None):
    """The confusion matrix of run0 on a folder, by the definition."""
    model, data = mf.models.load(base / "run0"), Folder(folder, classes=NAMES)
    total = mf.metrics.ConfusionMatrix(3)
    for image, label in (data[i] for i in range(len(data))):
        total.update(label, model.predict(image))
    return total


def test_all_images_of_another_folder_are_measured_in_the_classes_of_the_run(base, measured):
    metrics, printed = measured(base / "run0", "--root", base / "test")
    expected = expected_of(base, base / "test")
    assert metrics["mean_iu"] == pytest.approx(expected.mean_iu) and "3 images" in printed.out
    assert metrics["split"] == "all" and metrics["pixels"] == expected.matrix.sum()
    assert [entry["name"] for entry in metrics["per_class"]] == list(NAMES)
    assert [image["name"] for image in metrics["images"]] == [f"images/{i}.png" for i in (11, 12, 13)]
    assert measured(base / "run0", "--root", base / "test", "--split", "val")[0]["images"][0]["name"] == "images/11.png"


def test_a_folder_with_fewer_classes_than_the_run_needs_no_list_of_names(base, tmp_path, measured):
    folder = copied(base, tmp_path, change=lambda label: np.where(label == 2, 0, label).astype(np.uint8))
    metrics, _ = measured(base / "run0", "--root", folder)
    assert metrics["mean_iu"] == pytest.approx(expected_of(base, folder).mean_iu)


def test_the_runs_own_folder_keeps_its_validation_split(base, measured, tmp_path, monkeypatch):
    kept = json.loads((base / "run0/splits.json").read_text(encoding="utf-8"))
    for more in ([], ["--root", base / "data"], ["--root", base / "run0/../data"]):
        metrics, printed = measured(base / "run0", *more)
        assert [image["name"] for image in metrics["images"]] == list(kept["val"]) and "note" not in printed.err
    metrics, printed = measured(base / "run0", "--split", "all")
    assert len(metrics["images"]) == 10 and "run0 was trained on 8 of these 10 images" in printed.err
    shutil.copytree(base / "data", tmp_path / "moved")
    assert measured(base / "run0", "--root", tmp_path / "moved")[0]["images"] == measured(base / "run0")[0]["images"]


def test_one_training_image_in_a_folder_does_not_make_it_the_runs_own(base, tmp_path, measured):
    folder = copied(base, tmp_path)
    for kind in ("images", "masks"):
        shutil.copy(base / f"data/{kind}/1.png", folder / f"{kind}/1.png")
    metrics, printed = measured(base / "run0", "--root", folder)
    assert len(metrics["images"]) == 4 and "trained on 1 of these 4 images" in printed.err


def test_classes_of_the_same_names_in_another_order_are_mapped_and_said(base, tmp_path, measured):
    order = np.array([2, 0, 1, *range(3, 256)], np.uint8)  # sky is class 2 there, road 0, tree 1
    folder = copied(base, tmp_path, ("road", "tree", "sky"), lambda label: order[label])
    metrics, printed = measured(base / "run0", "--root", folder)
    assert metrics["mean_iu"] == pytest.approx(expected_of(base, base / "test").mean_iu)
    assert "in another order; mapped by name" in printed.err


def test_a_class_that_the_run_does_not_know_is_refused(base, tmp_path, refused):
    folder = copied(base, tmp_path, ("sky", "road", "house"))
    refused(evaluate.main, base / "run0", "--root", folder, match="sky, road, tree, but .* has others: house; give its")


class Labels:
    classes, num_classes, palette = ("b", "a"), 2, np.zeros((2, 3), np.uint8)

    def __len__(self):
        return 1

    def __getitem__(self, i):
        return np.zeros((1, 3, 3), np.uint8), np.array([[0, 1, 255]], np.uint8)


def test_labels_are_mapped_by_name_and_void_stays_void():
    data, said = in_classes(Labels(), ("a", "x", "b"))
    assert data[0][1].tolist() == [[2, 0, 255]] and "(2 of 3)" in said and data.num_classes == 3
    same, said = in_classes(Labels(), ("b", "a"))
    assert not isinstance(same, ByName) and said == ""
    with pytest.raises(UserError, match=r"has 3 classes, but .* has 2"):
        in_classes(Labels(), ("class 0", "class 1", "class 2"))


def test_what_is_reported_has_the_values_of_its_definition(base, measured):
    metrics, printed = measured(base / "run0", "--root", base / "test")
    matrix = expected_of(base, base / "test").matrix
    wrong = {(i, j): matrix[i, j] for i in range(3) for j in range(3) if i != j and matrix[i, j]}
    (i, j), most = max(wrong.items(), key=lambda item: item[1])
    top = metrics["mistakes"][0]
    assert (top["true"], top["predicted"], top["pixels"]) == (NAMES[i], NAMES[j], most)
    assert top["share"] == pytest.approx(most / matrix[i].sum())
    model, data = mf.models.load(base / "run0"), Folder(base / "test", classes=NAMES)
    band, confident, right = mf.metrics.ConfusionMatrix(3), [], []
    for image, label in (data[k] for k in range(3)):
        probabilities = model.predict_proba(image)
        band.update(mf.metrics.boundary_band(label, 8), probabilities.argmax(0))
        confident.append(probabilities.max(0)[label < 3])
        right.append((probabilities.argmax(0) == label)[label < 3])
    assert metrics["boundary"]["8"] == pytest.approx(band.mean_iu)
    assert metrics["calibration"]["mean_confidence"] == pytest.approx(np.concatenate(confident).mean(), rel=1e-5)
    assert sum(b["pixels"] for b in metrics["calibration"]["bins"]) == matrix.sum()
    low, high = metrics["intervals"]["mean_iu"]
    accuracies = [image["pixel_accuracy"] for image in metrics["images"]]
    assert accuracies == pytest.approx([r.mean() for r in right])
    bounds = metrics["intervals"]["pixel_accuracy"]
    assert min(accuracies) - 1e-9 <= bounds[0] <= metrics["pixel_accuracy"] <= bounds[1] <= max(accuracies) + 1e-9
    assert f"3 images put the mean IU between {low:.3f} and {high:.3f} (so few" in printed.out
    assert "% interval over 3 images" in printed.out and "mean IU along boundaries" in printed.out


def test_one_image_says_so(base, tmp_path, measured):
    folder = copied(base, tmp_path)
    for kind in ("images", "masks"):
        for i in (11, 12):
            (folder / f"{kind}/{i}.png").unlink()
    metrics, printed = measured(base / "run0", "--root", folder)
    assert metrics["intervals"]["mean_iu"] is None and "one image says nothing about other images" in printed.out


def test_tta_is_measured(base, measured):
    model, data = mf.models.load(base / "run0"), Folder(base / "test", classes=NAMES)
    total = mf.metrics.ConfusionMatrix(3)
    for image, label in (data[k] for k in range(3)):
        total.update(label, model.predict(image, tta=True))
    assert measured(base / "run0", "--root", base / "test", "--tta")[0]["mean_iu"] == pytest.approx(
        total.mean_iu, abs=2e-3
    )


def test_the_table_has_a_row_for_each_image(base, tmp_path, measured, capfd):
    metrics, _ = measured(base / "run0", "--root", base / "test", "--csv", tmp_path / "m.csv")
    with open(tmp_path / "m.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["all images", *(image["name"] for image in metrics["images"])]
    assert float(rows[0]["mean_iu"]) == pytest.approx(metrics["mean_iu"])
    assert float(rows[0]["IU road"]) == pytest.approx(metrics["per_class"][1]["iu"])
    assert float(rows[3]["pixel_accuracy"]) == pytest.approx(metrics["images"][2]["pixel_accuracy"])
    assert evaluate.main([str(base / "run0"), "--csv", "-"]) == 0
    assert capfd.readouterr().out.startswith("image,pixels,pixel_accuracy,")


def test_runs_are_compared_on_the_same_images(base, tmp_path, measured, refused):
    both, printed = measured(base / "run0", "--compare", base / "run1", "--split", "all", "--csv", tmp_path / "m.csv")
    alone = [measured(base / f"run{k}", "--split", "all")[0] for k in (0, 1)]
    for run, single in zip(both["runs"], alone):
        assert {key: run[key] for key in single} == single
    (pair,) = both["comparisons"]
    assert pair["difference"] == pytest.approx(alone[0]["mean_iu"] - alone[1]["mean_iu"])
    assert (
        pair["difference"]
        and 0 < pair["p"] == pair["p_corrected"] <= 1
        and "permutation test paired by image" in printed.out
    )
    assert (pair["p"] * 2**10) % 1 == 0  # ten images: all exchanges
    with open(tmp_path / "m.csv", newline="", encoding="utf-8-sig") as file:
        assert [row["run"] for row in csv.DictReader(file)] == [str(base / "run0")] * 11 + [str(base / "run1")] * 11
    assert measured("--compare", base / "run0", base / "run1", "--split", "all")[0] == both
    few = measured(base / "run0", "--compare", base / "run1", "--root", base / "test")[1].out
    assert "3 images: too few to show any difference, because p is at least 0.250" in few
    refused(evaluate.main, "--compare", base / "run0", match="two or more different runs")
    refused(evaluate.main, base / "run0", "--compare", base / "run0", match="two or more different runs")


def test_a_run_with_the_classes_in_another_order_is_compared_by_name(base, tmp_path, measured):
    shutil.copytree(base / "data", tmp_path / "data")
    (tmp_path / "data/classes.txt").write_text("tree\nsky\nroad", encoding="utf-8")
    for path in (tmp_path / "data/masks").iterdir():
        label = mf.data.images.read_mask(path)
        save_mask(path, np.where(label < 3, (label + 1) % 3, label).astype(np.uint8))  # sky was 0 and is 1
    more = ["--width", "0.2", "--optimizer", "adam", "--lr", "0.02", "--out", str(tmp_path / "run2")]
    assert train.main(["--root", str(tmp_path / "data"), *TINY, *more]) == 0
    alone = measured(tmp_path / "run2", "--root", base / "data", "--split", "all")[0]
    both = measured(base / "run0", "--compare", tmp_path / "run2", "--root", base / "data", "--split", "all")[0]["runs"]
    assert [entry["name"] for entry in alone["per_class"]] == ["tree", "sky", "road"]
    assert both[1]["mean_iu"] == pytest.approx(alone["mean_iu"])
    for name in ("pixel_accuracy", "calibration", "mistakes"):
        assert both[1][name] == alone[name]
    ours, theirs = ({entry["name"]: entry for entry in run["per_class"]} for run in (both[1], alone))
    assert ours == theirs and list(ours) == list(NAMES)


def test_runs_on_other_bands_are_compared(tmp_path, measured):
    root = write_scenes(tmp_path / "scenes")
    (root / "bands.txt").write_text("red\ngreen\nblue", encoding="utf-8")
    for k, bands in enumerate(("red,green,blue", "blue")):
        assert train.main(["--root", str(root), "--bands", bands, *TINY, "--out", str(tmp_path / f"r{k}")]) == 0
    both, _ = measured(tmp_path / "r0", "--compare", tmp_path / "r1")
    for k, run in enumerate(both["runs"]):
        alone, _ = measured(tmp_path / f"r{k}")
        assert {name: run[name] for name in alone} == alone


def test_runs_with_other_classes_are_not_compared(base, finished, refused):
    refused(evaluate.main, base / "run0", "--compare", finished, match="has the classes class 0, .*same classes")


def test_the_report_holds_figures_tables_and_no_link(base, tmp_path, refused):
    argv = [base / "run0", "--compare", base / "run1", "--root", base / "test", "--out"]
    assert evaluate.main([*map(str, argv), str(tmp_path / "a b/리포트")]) == 0
    names = {path.name for path in (tmp_path / "a b/리포트").iterdir()}
    figures = {"classes.png", "worst.png", "confusion.png", "reliability.png", "boundaries.png"}
    assert names == figures | {"report.html", "measures.json", "images.csv"}
    page = (tmp_path / "a b/리포트/report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") == len(figures) and "http" not in page.replace("http-equiv", "")
    assert "permutation test" in page and "images/12.png" in page and "sky" in page
    for name in figures:
        with Image.open(tmp_path / "a b/리포트" / name) as image:
            assert min(image.size) > 300
    refused(evaluate.main, *argv, tmp_path / "a b/리포트", match=r"is not empty: give another folder \(--out\)$")
    (tmp_path / "file").write_text("text", encoding="utf-8")
    refused(evaluate.main, base / "run0", "--out", tmp_path / "file/deep", match="file/deep cannot be created")


@mpi
def test_ranks_report_the_same(base, monkeypatch):
    monkeypatch.setenv("MINIFCN_THREADS", "1")
    argv = ["-m", "minifcn.evaluate", base / "run0", "--split", "all", "--json", "-"]
    one, two = (launch(ranks, *argv) for ranks in (1, 2))
    assert one.returncode == two.returncode == 0, (one, two)
    assert json.loads(one.stdout) == json.loads(two.stdout)
