"""The commands: what they write and print, and one sentence, before any work, for a user's mistake."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from shlex import quote

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY

from minifcn import __main__, evaluate, models, predict, train
from minifcn.data import Earth, Shapes
from minifcn.data.packaged import packaged
from minifcn.data.palette import save_mask
from minifcn.io import load_checkpoint, save_checkpoint
from minifcn.models import store
from minifcn.training import flags, parts, recipes

FILES = {
    "config.json", "splits.json", "log.csv", "last.safetensors", "best.safetensors", "metrics.json", "curves.png",
    "samples.png", "confusion.png", "report.html",
}  # fmt: skip
SCORES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")


def python(*argv, **options):
    return subprocess.run(
        [sys.executable, *map(str, argv)], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_a_run_folder_is_complete_and_its_page_stands_alone(finished):
    assert {file.name for file in finished.iterdir()} == FILES
    with open(finished / "log.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"] and all(all(row.values()) for row in rows)
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    assert all(float(rows[-1][name]) == metrics[name] for name in SCORES) and metrics["split"] == "val"
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3 and "<script" not in page
    assert not re.search(r'(src|href)="(?!data:)', page) and " = lr · N / (1 − momentum)" in page
    for name in ("curves", "samples", "confusion"):
        with Image.open(finished / f"{name}.png") as picture:
            assert picture.format == "PNG" and np.asarray(picture).std() > 1


def test_best_holds_the_epoch_of_the_best_mean_iu(finished):
    with open(finished / "log.csv", encoding="utf-8", newline="") as file:
        rows = [float(row["mean_iu"]) for row in csv.DictReader(file)]
    record = load_checkpoint(finished / "best.safetensors")[1]
    assert rows[record["epoch"] - 1] == record["scores"]["mean_iu"] == max(rows)


def test_what_a_run_says_before_it_starts_and_after(scenes, tmp_path, capfd):
    argv = ["--dataset", "folder", "--root", str(scenes), *TINY, "--out", str(tmp_path / "run")]
    assert train.main(argv) == 0
    out, err = capfd.readouterr()
    header = out[: out.index("\n    epoch")]
    for fact in (
        f"numpy {np.__version__}", "BLAS", "worker threads", "8 images to train on, 2 to validate on, 3 classes",
        "parameters; a pixel sees 278×278 pixels", "reduction sum", "step        effective", "N = 2,304 pixels a batch",
        "epochs 2, each of 2 batches of 3; seed 0", str(tmp_path / "run"),
    ):  # fmt: skip
        assert fact in header, fact
    rows = [line.split() for line in out.splitlines() if re.match(r" +\d+ +\d", line)]
    assert [row[0] for row in rows] == ["1", "2"] and all(len(row) == 8 for row in rows)
    assert "this run" in out and "IU by class: class 0" in out and "report.html" in out
    assert err == ""  # no progress bar, because standard error is not a terminal


def test_a_root_alone_means_a_folder(scenes, tmp_path, capfd):
    argv = ["--root", str(scenes), "--width", "0.1", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert train.main(argv) == 0 and "folder: 8 images" in capfd.readouterr().out


def test_json_on_standard_output_is_json_alone(scenes, tmp_path, capfd, finished):
    argv = ["--dataset", "folder", "--root", str(scenes), *TINY, "--json", "-", "--out", str(tmp_path / "run")]
    assert train.main(argv) == 0
    trained = json.loads(capfd.readouterr().out)
    assert evaluate.main([str(tmp_path / "run"), "--json", "-"]) == 0
    measured = json.loads(capfd.readouterr().out)
    assert {name: measured[name] for name in trained} == trained


def test_without_the_maps_it_falls_back_to_shapes_unless_earth_was_asked_for(monkeypatch, tmp_path, capfd, refused):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    monkeypatch.chdir(tmp_path)

    class Reached(Exception):
        pass

    def build(args, data, val):
        assert isinstance(data, Shapes) and args.dataset == "shapes"
        raise Reached

    monkeypatch.setattr("minifcn.training.parts.network", build)
    with pytest.raises(Reached):
        train.main([])
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "pip install 'minifcn[earth]'" in err and "training on generated shapes" in err
    refused(train.main, "--dataset", "earth", match=r"pip install 'minifcn\[earth\]'")
    assert not any(tmp_path.iterdir())


@pytest.mark.earth
@pytest.mark.parametrize("weights", [pytest.param(True, marks=pytest.mark.imagenet), False])
def test_without_arguments_it_trains_on_earth_from_imagenet_if_the_weights_are_there(monkeypatch, tmp_path, weights):
    seen = {}
    monkeypatch.setattr(recipes, "packaged", lambda *names: packaged(*names) if weights else None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        train, "fit", lambda model, train_data, *_, **__: seen.update(data=train_data.dataset) or stop()
    )

    def stop():
        raise KeyboardInterrupt

    assert train.main([]) == 130
    assert isinstance(seen["data"], Earth) and seen["data"].split == "train"
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith(f"earth-{'fcn4s_efficientnet_lite0' if weights else 'fcn8s_mini'}-")
    assert "block10" in (folder / "init.txt").read_text() if weights else not (folder / "init.txt").exists()


@pytest.mark.earth
def test_the_figures_to_beat_stand_beside_the_result_on_val_alone(tmp_path, capfd):
    model = models.build("fcn8s_mini", num_classes=7, width=0.05)
    model.classes, model.palette = Earth.classes, Earth.palette
    weights = {f"model.{k}": v for k, v in model.state_dict().items()}
    save_checkpoint(tmp_path / "c.safetensors", weights, store.describe(model))
    for split, shown in (("val", True), ("tune", False)):
        assert evaluate.main([str(tmp_path / "c.safetensors"), "--dataset", "earth", "--split", split]) == 0
        out = capfd.readouterr().out
        assert ("random forest, colour" in out and "0.511" in out) == shown and f"on split {split}" in out


def test_a_config_file_is_read_and_the_command_line_wins(tmp_path, refused):
    toml = tmp_path / "a.toml"
    toml.write_text('dataset = "shapes"\nepochs = 7\nmirror = false\n"batch-size" = 5\nlr = 1e-7\n', encoding="utf-8")
    args = flags.parser().parse(["--config", str(toml), "--epochs", "3"])
    assert (args.dataset, args.epochs, args.mirror, args.batch_size, args.lr) == ("shapes", 3, False, 5, 1e-7)
    assert args.momentum == 0.9
    for name, text, message in [
        ("b.json", "{", "b.json cannot be read as JSON"),
        ("b.toml", "x = = 1", "b.toml cannot be read as TOML"),
        ("c.json", "[1]", "c.json holds a list"),
        ("d.json", '{"hue": 1}', "d.json: there is no flag 'hue'; the flags are dataset"),
        ("e.json", '{"epochs": 2.5}', "e.json: argument --epochs: invalid int value"),
        ("f.json", '{"mirror": "no"}', "f.json: mirror is 'no'; it must be true or false"),
        ("g.json", '{"epochs": [1]}', r"g.json: epochs is \[1\]"),
        ("h.toml", "[data]\nroot = 1", "h.toml: there is no flag 'data'"),
    ]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        refused(train.main, "--config", tmp_path / name, match=message)
    (tmp_path / "i.json").write_bytes(b"\xff\xfe")
    refused(train.main, "--config", tmp_path / "i.json", match="cannot be read")
    refused(train.main, "--config", tmp_path / "none.json", match="there is no file .*none.json")
    refused(train.main, "--config", tmp_path, match="cannot be read")


def test_a_run_is_repeated_by_its_own_config(finished, tmp_path):
    assert train.main(["--config", str(finished / "config.json"), "--out", str(tmp_path / "again")]) == 0
    for name in ("config.json", "metrics.json", "last.safetensors"):
        if name.endswith("json"):
            assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()
    ours, theirs = (load_checkpoint(run / "last.safetensors")[0] for run in (tmp_path / "again", finished))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_every_key_of_a_config_is_a_flag(finished):
    config = json.loads((finished / "config.json").read_text(encoding="utf-8"))
    known = {action.dest for action in flags.parser()._actions} - {"help", *parts.PLACES}
    assert config.keys() == known


def test_an_occupied_folder_is_refused_before_any_work(tmp_path, refused, monkeypatch):
    monkeypatch.setattr("minifcn.training.parts.splits", None)  # fails if it is called
    (tmp_path / "note.txt").write_text("mine", encoding="utf-8")
    refused(train.main, "--dataset", "shapes", "--out", tmp_path, match="not empty: .*--resume")
    refused(train.main, "--dataset", "shapes", "--out", tmp_path / "note.txt", match="is a file")
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--dataset moon", "earth, shapes, folder"),
        ("--dataset folder", "--root DIR"),
        ("--dataset folder --root /nowhere", "there is no folder /nowhere"),
        ("--dataset shapes --root /tmp", "no option 'root'"),
        ("--dataset shapes --train-split test", "no split 'test'"),
        ("--dataset shapes --model fcn99s", "fcn8s_mini"),
        ("--hue 3", "unrecognized arguments: --hue 3"),
        ("--epoch 3", "unrecognized arguments: --epoch"),
        ("--epochs 0", "0 is not at least 1"),
        ("--epochs many", "invalid int value: 'many'"),
        ("--lr nan", "nan is not at least 0"),
        ("--lr inf", "inf is not below inf"),
        ("--momentum 1", "below 1"),
        ("--dropout 1.5", "below 1"),
        ("--seed -1", "-1 is not at least 0"),
        ("--jitter 4", "below"),
        ("--schedule cosine", "invalid choice: 'cosine'"),
        ("--device tpu", "unknown device 'tpu'"),
        ("--json /nowhere/x.json", "give a file"),
        ("--config", "expected one argument"),
        ("--resume /nowhere", "/nowhere is not a run"),
        ("--resume /nowhere --lr 3 --mirror", "leave out --lr, --mirror"),
    ],
)
def test_a_bad_flag_is_one_sentence(argv, message, refused, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refused(train.main, *argv.split(), match=message)
    assert not any(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path, refused, finished, scenes):
    (tmp_path / "file").touch()
    data = ["--dataset", "folder", "--root", scenes, *TINY]
    refused(train.main, *data, "--out", tmp_path / "file" / "run", match="cannot be written")
    refused(evaluate.main, finished, "--json", tmp_path, match="is a folder")
    refused(predict.main, finished, scenes / "images/0.png", "--out", tmp_path / "file", match="another --out")


def test_a_full_disk_and_a_full_memory_are_one_sentence(tmp_path, refused, scenes, monkeypatch):
    def full(arrays, partial, metadata):
        raise OSError(28, "No space left on device")

    def large(*_, **__):
        raise MemoryError("Unable to allocate 9 TiB")

    data = ["--dataset", "folder", "--root", scenes, *TINY, "--out"]
    monkeypatch.setattr("minifcn.io.checkpoint.save_file", full)
    refused(train.main, *data, tmp_path / "run", match="last.safetensors cannot be written .*No space left")
    monkeypatch.setattr(train, "fit", large)
    refused(train.main, *data, tmp_path / "other", match="out of memory: smaller images or batches")


def spoil_mask(values):
    return lambda scenes: save_mask(scenes / "masks/3.png", np.full((24, 32), values, np.uint8))


DAMAGE = {
    "no images": (lambda scenes: [file.unlink() for file in (scenes / "images").iterdir()], "has no images"),
    "one image": (lambda scenes: [(scenes / f"images/{i}.png").unlink() for i in range(1, 10)], "no images for split"),
    "missing mask": (lambda scenes: (scenes / "masks/3.png").unlink(), "3.png has no mask"),
    "truncated image": (
        lambda scenes: (scenes / "images/3.png").write_bytes((scenes / "images/3.png").read_bytes()[:200]),
        "3.png: it is damaged",
    ),
    "text": (lambda scenes: (scenes / "images/3.png").write_text("x"), "3.png is not an image"),
    "sizes": (lambda scenes: save_mask(scenes / "masks/3.png", np.zeros((9, 9), np.uint8)), "mask .*3.png is 9x9"),
    "classes": (
        lambda scenes: ((scenes / "classes.txt").write_text("a\nb\nc\n"), spoil_mask(7)(scenes)),
        "3.png holds class 7; with 3 classes",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_bad_data_is_named_before_anything_is_made(scenes, tmp_path, refused, damage, message):
    damage(scenes)
    refused(train.main, "--dataset", "folder", "--root", scenes, *TINY, "--out", tmp_path / "run", match=message)
    assert not (tmp_path / "run").exists()


def test_bad_data_in_the_middle_is_named_and_what_was_done_is_kept(scenes, tmp_path, refused, monkeypatch):
    """A file that is damaged after the data set was opened."""
    (scenes / "classes.txt").write_text("a\nb\nc\n", encoding="utf-8")
    mask, create = (scenes / "masks/3.png").read_bytes(), train.Run.create

    def spoil(*args):
        spoil_mask(7)(scenes)
        return create(*args)

    monkeypatch.setattr(train.Run, "create", spoil)
    argv = ["--dataset", "folder", "--root", scenes, *TINY, "--balance", "0", "--out"]
    refused(train.main, *argv, tmp_path / "run", match=r"3\.png holds class 7; .*; continue with: .*--resume")
    monkeypatch.undo()
    (scenes / "masks/3.png").write_bytes(mask)
    assert train.main(["--resume", str(tmp_path / "run")]) == 0
    assert train.main([*map(str, argv), str(tmp_path / "whole")]) == 0
    ours, theirs = ((tmp_path / name / "metrics.json").read_bytes() for name in ("run", "whole"))
    assert ours == theirs


def test_splits_of_different_classes_are_refused(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(
        "minifcn.training.parts.open_dataset", lambda name, split, root: Shapes(split, num_classes=3 + (split == "val"))
    )
    refused(train.main, "--dataset", "shapes", "--out", tmp_path / "run", match="split val has .* must have the same")


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (24, 32)])
@pytest.mark.parametrize("batch_size", [1, 999])
def test_images_and_batches_of_any_size_train(tmp_path, size, batch_size, capfd):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(3):
        Image.new("RGB", size[::-1], (80 * i, 9, 9)).save(tmp_path / f"images/{i}.png")
        save_mask(tmp_path / f"masks/{i}.png", np.full(size, i % 2, np.uint8))
    settings = f"--dataset folder --epochs 1 --width 0.1 --batch-size {batch_size}".split()
    argv = [*settings, "--root", str(tmp_path), "--out", str(tmp_path / "run")]
    assert train.main(argv) == 0, capfd.readouterr().err
    assert {file.name for file in (tmp_path / "run").iterdir()} == FILES


RUIN = {
    "config gone": (lambda run: (run / "config.json").unlink(), "is not a run"),
    "config damaged": (
        lambda run: (run / "config.json").write_text("{"),
        "config.json' cannot be read|config.json cannot",
    ),
    "config no dict": (lambda run: (run / "config.json").write_text("[]"), "not settings"),
    "config changed": (
        lambda run: (run / "config.json").write_text((run / "config.json").read_text().replace("0.1", "0.2")),
        "cannot be continued with the settings of this run",
    ),
    "config misspelt": (lambda run: (run / "config.json").write_text('{"epoch": 2}'), "config.json: there is no flag"),
    "cut off": (
        lambda run: (run / "last.safetensors").write_bytes((run / "last.safetensors").read_bytes()[:-9]),
        "last.safetensors: the file is damaged",
    ),
    "only weights": (
        lambda run: (run / "last.safetensors").write_bytes((run / "best.safetensors").read_bytes()),
        "cannot be continued",
    ),
}


@pytest.mark.parametrize(("ruin", "message"), RUIN.values(), ids=RUIN)
def test_a_damaged_run_is_not_continued_and_not_touched(copy, refused, ruin, message):
    ruin(copy)
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    refused(train.main, "--resume", copy, match=message)
    assert before == {file.name: file.read_bytes() for file in copy.iterdir()}


@pytest.mark.cli
def test_a_killed_process_goes_on_bit_by_bit(scenes, tmp_path, finished):
    """SIGKILL, which cannot be caught, in the middle of the second epoch."""
    code = """
import os, signal, sys
from minifcn import train
train.Recorder.stepped = lambda self, t: os.kill(os.getpid(), signal.SIGKILL) if t.step == 3 else None
train.main(sys.argv[1:])
"""
    argv = ["--dataset", "folder", "--root", finished.parent / "scenes", *TINY, "--out", tmp_path / "run"]
    assert python("-c", code, *argv).returncode == -signal.SIGKILL
    assert load_checkpoint(tmp_path / "run/last.safetensors")[1]["state"]["step"] == 2
    assert train.main(["--resume", str(tmp_path / "run")]) == 0
    ours, theirs = (load_checkpoint(run / "last.safetensors")[0] for run in (tmp_path / "run", finished))
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)
    assert (tmp_path / "run/metrics.json").read_bytes() == (finished / "metrics.json").read_bytes()


@pytest.mark.cli
@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole console only")
def test_ctrl_c_says_how_to_go_on(scenes, tmp_path):
    argv = ["--dataset", "folder", "--root", scenes, "--width", "0.1", "--epochs", "5000", "--out", tmp_path / "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "minifcn.train", *map(str, argv)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (tmp_path / "run/best.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err and "stopping after this step" in err
    assert out.splitlines()[-1].endswith(
        f"continue with: python -m minifcn.train --resume {quote(str(tmp_path / 'run'))}"
    )


@pytest.mark.cli
def test_a_reader_that_goes_away_leaves_no_traceback(scenes, tmp_path):
    argv = ["--dataset", "folder", "--root", scenes, *TINY, "--out", tmp_path / "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "minifcn.train", *map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 141 and err == b""


@pytest.mark.cli
def test_the_commands_are_listed_and_each_has_help_and_errors_of_its_own(capfd):
    assert __main__.main([]) == 0
    listed = re.findall(r"python -m (minifcn\.\w+)", capfd.readouterr().out)
    assert listed == [f"minifcn.{name}" for name in __main__.COMMANDS]
    for module in listed:
        done = python("-m", module, "--help")
        assert done.returncode == 0 and "--config FILE" in done.stdout and "None" not in done.stdout
    done = python("-m", "minifcn.train", "--dataset", "moon", cwd=Path(__file__).parent)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stdout == ""
