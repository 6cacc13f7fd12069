"""The commands evaluate and predict."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from minifcn import evaluate, models, predict
from minifcn.data import Earth
from minifcn.io import save_checkpoint
from minifcn.models import store


def test_evaluate_gives_the_final_measures_of_a_run_exactly(finished, capfd):
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    del metrics["header"]
    for path in (finished, finished / "last.safetensors"):
        assert evaluate.main([str(path), "--json", "-"]) == 0
        found = json.loads(capfd.readouterr().out)
        assert {name: found[name] for name in metrics} == metrics
    assert evaluate.main([str(finished), "--weights", "best"]) == 0
    assert "this run" in capfd.readouterr().out


def test_evaluate_refuses_what_does_not_fit(finished, tmp_path, refused, copy):
    refused(evaluate.main, finished, "--dataset", "shapes", match="has 3 classes, but .* has 6")
    refused(evaluate.main, finished, "--split", "test", match="choose train or val")
    refused(evaluate.main, tmp_path, match="is not a run")
    refused(evaluate.main, tmp_path / "x.safetensors", match="there is no such checkpoint")
    refused(evaluate.main, match="required: RUN")
    (tmp_path / "lone.safetensors").write_bytes((finished / "last.safetensors").read_bytes())
    refused(evaluate.main, tmp_path / "lone.safetensors", match="give --dataset")
    (copy / "last.safetensors").write_bytes(b"rubbish")
    refused(evaluate.main, copy, match="damaged, or not a checkpoint")


def picture(path, array, mode=None):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


def test_predict_labels_pictures_of_any_size_and_kind(finished, tmp_path, capfd):
    draw = np.random.default_rng(0)
    paths = [
        picture(tmp_path / f"{h}x{w}.png", draw.integers(0, 256, (h, w, 3), dtype=np.uint8))
        for h, w in ((1, 1), (7, 300), (300, 7), (33, 65), (31, 127))
    ]
    square = draw.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    paths += [picture(tmp_path / f"{mode}.png", square, mode) for mode in ("RGBA", "L", "P", "1")]
    paths.append(picture(tmp_path / "sixteen.png", draw.integers(0, 65536, (20, 30)).astype(np.uint16)))
    assert predict.main([str(finished), *map(str, paths), "--out", str(tmp_path / "out")]) == 0
    model = models.load(finished / "last.safetensors")
    assert len(list((tmp_path / "out").iterdir())) == 2 * len(paths)
    for path in paths:
        with Image.open(path) as image:
            width, height = image.size
        with Image.open(tmp_path / f"out/{path.stem}-labels.png") as labels:
            assert labels.mode == "P" and labels.size == (width, height) and np.asarray(labels).max() < 3
            assert labels.getpalette()[:9] == model.palette.ravel().tolist()
        with Image.open(tmp_path / f"out/{path.stem}-overlay.png") as overlay:
            assert overlay.mode == "RGB" and overlay.size == (width, height)
    out = capfd.readouterr().out
    assert out.count("-labels.png") == len(paths) and "class 0 " in out


def test_a_broken_picture_does_not_cost_the_others(finished, scenes, tmp_path, refused):
    (tmp_path / "broken.png").write_bytes((scenes / "images/0.png").read_bytes()[:100])
    paths = [scenes / "images/1.png", tmp_path / "broken.png", tmp_path / "absent.png", scenes / "images/2.png"]
    refused(predict.main, finished, *paths[:2], paths[3], "--out", tmp_path / "out", match="broken.png: it is damaged")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        f"{i}-{kind}.png" for i in (1, 2) for kind in ("labels", "overlay")
    }
    refused(predict.main, finished, *paths[::2], "--out", tmp_path / "out2", match="no file .*absent.png")


def test_pictures_of_one_name_do_not_overwrite_each_other(finished, tmp_path, refused, scenes):
    picture(tmp_path / "0.bmp", np.zeros((5, 5, 3), np.uint8))
    both = scenes / "images/0.png", tmp_path / "0.bmp"
    refused(
        predict.main, finished, *both, "--out", tmp_path / "out", match=r"0\.png and .*0\.bmp would both be written"
    )
    assert not (tmp_path / "out").exists()
    assert predict.main([str(finished), str(both[0]), str(both[0]), "--out", str(tmp_path / "out")]) == 0


def test_predict_refuses_what_is_no_model_or_no_picture(finished, tmp_path, refused, scenes):
    refused(predict.main, finished, match="name the images")
    refused(predict.main, scenes, scenes / "images/0.png", match="is not a run")
    refused(predict.main, tmp_path / "nowhere", scenes / "images/0.png", match="there is no run folder and no image")
    refused(predict.main, tmp_path / "x.safetensors", scenes / "images/0.png", match="no such checkpoint")
    refused(predict.main, finished, scenes / "images/0.png", "--alpha", "2", match="alpha: 2 is not an opacity")
    refused(predict.main, match="required")


def test_without_a_run_the_packages_own_model_labels(finished, scenes, tmp_path, monkeypatch, refused, capfd):
    image = scenes / "images/0.png"
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "weights")
    refused(predict.main, image, "--out", tmp_path / "out", match="has no weights 'earth'")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/fcn8s_mini-earth.safetensors").write_bytes((finished / "last.safetensors").read_bytes())
    assert predict.main([str(image), "--out", str(tmp_path / "out")]) == 0
    assert "using the Earth model" in capfd.readouterr().err
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.skipif(not list(store.SHIPPED.glob("*.safetensors")), reason="the package has no weights yet")
def test_the_shipped_model_knows_the_earth():
    model = models.fcn8s_mini(pretrained="earth")
    assert model.classes == Earth.classes and model.predict(np.zeros((9, 9, 3), np.uint8)).shape == (9, 9)


def test_a_folder_of_pictures_is_labelled_with_or_without_a_run(finished, scenes, tmp_path, refused, capfd):
    for argv in ([finished, scenes / "images"], [scenes / "images"]):
        out = tmp_path / f"out{len(argv)}"
        (scenes / "images/._0.png").write_bytes(b"litter")
        assert predict.main([*map(str, argv), "--out", str(out)]) == 0
        assert len(list(out.iterdir())) == 20
    assert "using the Earth model" in capfd.readouterr().err
    (tmp_path / "empty").mkdir()
    refused(predict.main, tmp_path / "empty", match="empty is not a run folder .*holds no image")
    refused(predict.main, finished, tmp_path / "empty", match="empty holds no image")
    (tmp_path / "torn").mkdir()
    for name in ("last.safetensors", "samples.png"):
        (tmp_path / "torn" / name).write_bytes((finished / name).read_bytes())
    refused(predict.main, tmp_path / "torn", scenes / "images", "--out", tmp_path / "o", match="torn is not a run")
    refused(
        predict.main,
        scenes / "images/0.png",
        finished,
        match="a run is a model; give only one model, before the images",
    )


def test_a_misspelt_model_is_an_error_and_never_the_earth_model(finished, scenes, tmp_path, refused):
    image = scenes / "images/0.png"
    (tmp_path / "model.pt").write_bytes(b"weights")
    for name in ("runs/v1.2", "last.safetensor", "runs/ned", "last.npz"):
        refused(predict.main, tmp_path / name, image, "--out", tmp_path / "out", match="no run folder and no image")
    for path in (tmp_path / "model.pt", finished / "config.json", finished / "log.csv"):
        refused(predict.main, path, image, "--out", tmp_path / "out", match=f"{path.name} is not a run folder, a .safe")
    assert not (tmp_path / "out").exists()


def test_predict_overwrites_no_picture_ever_and_no_result_unless_told(finished, tmp_path, refused):
    x, labels = (picture(tmp_path / name, np.full((9, 9, 3), 50, np.uint8)) for name in ("x.png", "x-labels.png"))
    before = labels.read_bytes()
    for more in ([], ["--overwrite"]):
        refused(
            predict.main, finished, x, labels, "--out", tmp_path, *more, match="x-labels.png is one of the input images"
        )
    refused(predict.main, finished, x, "--out", tmp_path, match="x-labels.png already exists: .*--overwrite")
    assert labels.read_bytes() == before and not (tmp_path / "x-overlay.png").exists()
    out = ["--out", str(tmp_path / "out")]
    assert predict.main([str(finished), str(x), *out]) == 0
    refused(predict.main, finished, x, *out, match="x-labels.png already exists")
    assert predict.main([str(finished), str(x), *out, "--overwrite"]) == 0
    (tmp_path / "out/x-overlay.png").unlink()
    (tmp_path / "out/x-overlay.png").mkdir()
    refused(predict.main, finished, x, *out, "--overwrite", match="x-overlay.png is not a regular file")
    picture(tmp_path / "X.png", np.zeros((3, 3, 3), np.uint8))
    refused(predict.main, finished, x, tmp_path / "X.png", "--out", tmp_path / "o", match="would both be written")


def test_a_picture_too_large_for_the_memory_is_named(finished, scenes, tmp_path, refused, monkeypatch):
    def no_memory(self, images, tta, memory):
        raise MemoryError("no memory for an array")

    monkeypatch.setattr(models.fcn8s_mini.__wrapped__(num_classes=2).__class__, "predict", no_memory)
    refused(
        predict.main, finished, scenes / "images/0.png", "--out", tmp_path / "out",
        match=r"0\.png is 24x32 .*too large .*cut it into tiles",
    )  # fmt: skip


def test_several_pages_are_said_and_a_pipe_does_not_hang(finished, tmp_path, capfd, refused):
    frames = [Image.new("RGB", (9, 9), (40 * k, 0, 0)) for k in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert predict.main([str(finished), str(tmp_path / "a.tif"), "--out", str(tmp_path / "out")]) == 0
    assert "a.tif has 3 pages or frames; only the first is labelled" in capfd.readouterr().err
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        refused(
            predict.main, finished, tmp_path / "pipe.png", "--out", tmp_path / "o", match="pipe.png is a named pipe"
        )


def test_a_checkpoint_of_a_model_that_has_seen_no_data_set_labels_with_numbers(tmp_path, capfd):
    model = models.fcn8s_mini(num_classes=3, width=0.1)
    arrays = {f"model.{name}": array for name, array in model.state_dict().items()}
    save_checkpoint(tmp_path / "fresh.safetensors", arrays, store.describe(model))
    Image.new("RGB", (24, 24), (9, 99, 9)).save(tmp_path / "a.png")
    assert (
        predict.main([str(tmp_path / "fresh.safetensors"), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")])
        == 0
    )
    assert "class 0" in capfd.readouterr().out and (tmp_path / "out" / "a-overlay.png").is_file()
