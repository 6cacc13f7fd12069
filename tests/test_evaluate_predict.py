"""evaluate and predict as a user meets them."""

import json

import numpy as np
import pytest
from PIL import Image

from minifcn import evaluate, models, predict
from minifcn.data import Earth
from minifcn.models import store


def test_evaluate_gives_the_final_measures_of_a_run_exactly(finished, capfd):
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    del metrics["header"]
    for path in (finished, finished / "last.safetensors"):
        assert evaluate.main([str(path), "--json", "-"]) == 0
        assert json.loads(capfd.readouterr().out) == metrics
    assert evaluate.main([str(finished), "--weights", "best"]) == 0
    assert "this run" in capfd.readouterr().out


def test_evaluate_refuses_what_does_not_fit(finished, tmp_path, refused, copy):
    refused(evaluate.main, finished, "--dataset", "shapes", match="knows 3 classes, but .* has 6")
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
    refused(predict.main, tmp_path / "nowhere", scenes / "images/0.png", match="there is no run, and no image")
    refused(predict.main, tmp_path / "x.safetensors", scenes / "images/0.png", match="no such checkpoint")
    refused(predict.main, finished, scenes / "images/0.png", "--alpha", "2", match="alpha is 2; an opacity")
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
