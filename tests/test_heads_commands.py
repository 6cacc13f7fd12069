"""The commands on data with several kinds of labels, SIFT Flow (§5); scipy writes its files."""

import csv
import io
import json
import shutil
from contextlib import redirect_stdout

import numpy as np
import pytest
from layout_folders import FOLDERS, scenes, write_mat
from PIL import Image
from test_heads import by_hand, log

import minifcn as mf
from minifcn import evaluate, export, predict, train
from minifcn.data import SIFTFlow
from minifcn.training.run_folder import LEFTOVERS

pytest.importorskip("scipy")
pytestmark = pytest.mark.layouts
HOME = "spatial_envelope_256x256_static_8outdoorcategories"
SMALL = ["--model", "fcn16s_siftflow", "--width", "0.02", "--pad", "minimal", "--batch-size", "4", "--repeat", "1"]
ONE_EPOCH = [*SMALL, "--epochs", "1"]


def sift_flow(root):
    """Scenes whose classes are sky, building and road, and sky, vertical and horizontal; their void pixels differ."""
    FOLDERS["siftflow"](root)
    for i, (_, label) in enumerate(scenes()):
        label = np.minimum(label, 3)  # 3: void
        sem, geo = np.array([28, 6, 22, 0])[label], np.array([1, 3, 2, -1])[label]
        sem[:2, : 2 * i], geo[-1, : 3 * i] = 0, -1
        write_mat(root / f"SemanticLabels/{HOME}/coast_{i}.mat", S=sem.astype(np.uint8))
        write_mat(root / f"GeoLabels/{HOME}/coast_{i}.mat", S=geo.astype(np.int16))
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The data, a run of the paper's net on them with both heads, and what the command printed."""
    root = sift_flow(tmp_path_factory.mktemp("sift"))
    run, out = tmp_path_factory.mktemp("runs") / "run", io.StringIO()
    with redirect_stdout(out):
        assert train.main(["--root", str(root), *ONE_EPOCH, "--out", str(run)]) == 0
    return root, run, out.getvalue()


def counted(run, root):
    """{head: its confusion matrix on the test images}, pixel by pixel."""
    model, data = mf.models.load(run), SIFTFlow(root, "val", heads="sem,geo")
    return {kind: by_hand(model, data, kind)[0] for kind in ("sem", "geo")}


def measured(count):
    """Pixel accuracy; mean IU over classes in labels or predictions; mean IU over classes in labels alone."""
    hit, true, predicted = np.diag(count), count.sum(1), count.sum(0)
    there, present = true + predicted > 0, true > 0
    iu = hit / np.maximum(true + predicted - hit, 1)
    return hit.sum() / true.sum(), iu[there].mean(), iu[present].mean()


def test_the_command_trains_both_heads_of_the_papers_net(trained):
    root, run, out = trained
    assert "33 classes (sem) and 3 classes (geo), whose losses are added; the mean IU of sem says which" in out
    assert "class weights of geo" in out and "\n      geo " in out
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert (config["dataset"], config["heads"]) == ("siftflow", "sem,geo")
    assert {f"{name}{end}.png" for name in ("curves", "samples", "confusion") for end in ("", "-geo")} <= {
        path.name for path in run.iterdir()
    }
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    row = log(run)[-1]
    for kind, count in counted(run, root).items():
        own = metrics if kind == "sem" else metrics["heads"]["geo"]
        pixel, mean, present = measured(count)
        assert own["head"] == kind and own["pixels"] == count.sum()
        assert (own["pixel_accuracy"], own["mean_iu"], own["mean_iu_present"]) == pytest.approx((pixel, mean, present))
        assert float(row["mean_iu" if kind == "sem" else "geo_mean_iu"]) == pytest.approx(mean)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert 0 < page.index("Head sem") < page.index(">awning<") < page.index("Head geo") < page.index(">horizontal<")
    assert page.count("<img") == 6


def test_the_command_continues_a_run_with_both_heads(trained, tmp_path):
    root, _, _ = trained
    whole, part = tmp_path / "whole", tmp_path / "part"
    flags = ["--root", str(root), *ONE_EPOCH]
    assert train.main([*flags, "--schedule", "constant", "--epochs", "2", "--out", str(whole)]) == 0
    assert train.main([*flags, "--schedule", "constant", "--out", str(part)]) == 0
    assert train.main(["--resume", str(part), "--epochs", "2"]) == 0
    for old, new in zip(log(whole), log(part), strict=True):
        assert old | {"seconds": 0} == new | {"seconds": 0}
    a, b = (mf.io.load_weights(folder / "last.safetensors") for folder in (whole, part))
    assert all((a[name] == b[name]).all() for name in a)
    assert LEFTOVERS.fullmatch("curves-geo.png.partial") and not LEFTOVERS.fullmatch("curves-geo.png")


def test_every_head_is_evaluated(trained, tmp_path):
    """Of SIFT Flow's 33 classes three are in the labels; one more is predicted, which `mean_iu_present` leaves out."""
    root, run, _ = trained
    model = mf.models.load(run)
    head, rng = model.heads["sem"], np.random.default_rng(0)
    head.score_pool4_sem.weight.data[0] = 100 * rng.standard_normal(head.score_pool4_sem.weight.shape[1:])
    head.score_fr_sem.bias.data[1:27], head.score_fr_sem.bias.data[28:] = -1000, -1000  # awning or sky
    p = np.log(model.predict_proba(SIFTFlow(root, "val")[0][0]) + 1e-30)
    head.score_fr_sem.bias.data[0] -= np.median(p[0] - p[27])
    edited = tmp_path / "edited"
    edited.mkdir()
    for name in ("config.json", "splits.json"):
        (edited / name).write_bytes((run / name).read_bytes())
    arrays, record = mf.io.load_checkpoint(run / "last.safetensors")
    arrays |= {f"model.{name}": array for name, array in model.state_dict().items()}
    mf.io.save_checkpoint(edited / "last.safetensors", arrays, record)
    flags = ["--out", str(tmp_path / "pages"), "--json", str(tmp_path / "m.json"), "--csv", str(tmp_path / "m.csv")]
    assert evaluate.main([str(edited), *flags]) == 0
    found = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader((tmp_path / "m.csv").read_text(encoding="utf-8-sig").splitlines()))
    for kind, count in counted(edited, root).items():
        own = found if kind == "sem" else found["heads"]["geo"]
        pixel, mean, present = measured(count)
        assert (own["head"], own["pixels"], own["split"]) == (kind, count.sum(), "val")
        assert (own["pixel_accuracy"], own["mean_iu"], own["mean_iu_present"]) == pytest.approx((pixel, mean, present))
        (row,) = (row for row in rows if row["head"] == kind and row["image"] == "all images")
        assert float(row["pixel_accuracy"]) == pytest.approx(pixel) and row["IU sky"]
        page = (tmp_path / "pages" / kind / "report.html").read_text(encoding="utf-8")
        assert f"<dt>head</dt><dd>{kind}</dd>" in page
    assert found["mean_iu_present"] > found["mean_iu"] > 0
    assert len(rows) == 2 * (1 + 2) and {row["head"] for row in rows} == {"sem", "geo"}


def test_other_folders_are_measured_and_runs_compared_head_by_head(trained, tmp_path, refused, capfd):
    root, run, _ = trained
    again, one = tmp_path / "again", tmp_path / "one"
    assert train.main(["--root", str(root), *ONE_EPOCH, "--seed", "1", "--out", str(again)]) == 0
    other = sift_flow(tmp_path / "other")
    flags = ["--root", str(other), "--split", "val", "--json", str(tmp_path / "m.json")]
    assert evaluate.main(["--compare", str(run), str(again), *flags]) == 0
    found = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert len(found["runs"]) == len(found["heads"]["geo"]["runs"]) == 2
    count = counted(again, other)["geo"]
    assert found["heads"]["geo"]["runs"][1]["mean_iu"] == pytest.approx(measured(count)[1])
    assert "head geo" in capfd.readouterr().out
    mini = ["--model", "fcn8s_mini", "--width", "0.1", "--repeat", "1", "--epochs", "1"]
    assert train.main(["--root", str(root), *mini, "--out", str(one)]) == 0
    assert mf.models.load(one).kinds == ()
    refused(evaluate.main, "--compare", run, one, match="one has one kind of labels, but .*run has sem, geo; compare")


def test_predict_writes_files_for_every_head(trained, tmp_path):
    root, run, _ = trained
    pictures, out = sorted((root / "Images" / HOME).glob("coast_[89].jpg")), tmp_path / "out"
    kinds = ["--probabilities", "--confidence", "--legend", "--certify", "--memory", "2GB"]
    tables = ["--csv", str(tmp_path / "a.csv"), "--json", str(tmp_path / "a.json")]
    assert predict.main([str(run), *map(str, pictures), *kinds, *tables, "--out", str(out)]) == 0
    model = mf.models.load(run)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8-sig").splitlines()))
    record = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert len(record["classes"]) == 36 and record["classes"][-3:] == ["geo sky", "geo horizontal", "geo vertical"]
    for path, row in zip(pictures, rows, strict=True):
        for kind, end, title in (("sem", "", ""), ("geo", "-geo", "geo ")):
            label = model.only(kind).predict(path)
            assert (np.asarray(Image.open(out / f"{path.stem}-labels{end}.png")) == label).all()
            with np.load(out / f"{path.stem}-probabilities{end}.npz") as file:
                assert (file["probabilities"].argmax(0) == label).mean() > 0.99 and "sky" in file["classes"]
            for what in ("overlay", "confidence", "certified"):
                assert (out / f"{path.stem}-{what}{end}.png").is_file()
            sky = list(model.only(kind).classes).index("sky")
            assert int(row[f"pixels {title}sky"]) == (label == sky).sum()
    assert len(record["images"][0]["files"]) == 2 * 5


def test_a_small_net_learns_both_heads_and_begins_with_the_other(trained, tmp_path):
    root, first, _ = trained
    run = tmp_path / "run"
    mini = ["--model", "fcn8s_mini", "--width", "0.2", "--heads", "geo,sem", "--epochs", "1", "--repeat", "1"]
    assert train.main(["--root", str(root), *mini, "--out", str(run), "--size", "30", "--loss", "dice"]) == 0
    model = mf.models.load(run)
    assert model.kinds == ("geo", "sem") and model.classes == ("sky", "horizontal", "vertical")
    assert "sem_mean_iu" in log(run)[0] and (run / "curves-sem.png").is_file()
    flags = ["--root", str(root), *ONE_EPOCH, "--out", str(tmp_path / "next"), "--init", str(first)]
    assert train.main(flags) == 0
    start = json.loads((tmp_path / "next" / "metrics.json").read_text(encoding="utf-8"))["header"]["start"]
    assert "it has other classes" not in start and "score_fr_geo" not in start
    copied = (tmp_path / "next" / "init.txt").read_text(encoding="utf-8")
    assert "score_fr_sem" in copied and "score_fr_geo" in copied


def test_what_does_not_suit_several_heads_is_one_sentence(trained, tmp_path, refused):
    root, run, _ = trained
    flags = ["--root", root, "--width", "0.05", "--out", tmp_path / "run"]
    both = [*flags, "--heads", "sem,geo"]
    refused(
        train.main, *flags, "--heads", "sem,depth", match="heads are 'sem,depth'; choose different ones of sem, geo"
    )
    refused(train.main, *both, "--auxiliary", "0.4", match="auxiliary adds a head to a net with one: leave it out")
    refused(train.main, *both, "--model", "fcn_resnet50", match="num_classes must be one number")
    refused(train.main, "--dataset", "shapes", "--heads", "sem", match="'shapes' has no option 'heads'")
    refused(evaluate.main, run, "--dataset", "shapes", match="net has several heads .*'shapes' has one kind of labels")
    refused(train.main, "--resume", run, "--heads", "sem", match="leave out --heads")
    alone = tmp_path / "alone"
    shutil.copytree(root, alone)
    shutil.rmtree(alone / "GeoLabels")
    both[1] = alone
    refused(train.main, *both, match="has no MATLAB files in GeoLabels/: put them there, or leave out their head")


@pytest.mark.onnx
def test_export_says_which_head_the_graph_has(trained, tmp_path, capfd):
    _, run, _ = trained
    assert export.main([str(run), str(tmp_path / "a.onnx")]) == 0
    assert "note: the graph has the head sem alone; in Python, to_onnx(model.only('geo'))" in capfd.readouterr().out


@pytest.mark.tb
def test_tensorboard_gets_every_head(trained, tmp_path):
    from test_watching import events

    root, _, _ = trained
    out = tmp_path / "run"
    assert train.main(["--root", str(root), *ONE_EPOCH, "--tensorboard", "--out", str(out)]) == 0
    tags = {v.tag for e in events(out / "tensorboard") for v in e.summary.value}
    assert {"mean_iu", "geo_mean_iu", "example/sem/0", "example/geo/0"} <= tags
