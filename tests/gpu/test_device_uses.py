"""Commands, surgery, the other dense predictions, shapes and geometry on the device."""

import json

import numpy as np
import pytest
from strategies import normal
from tiny_run import TINY, write_scenes

import minifcn as mf
from minifcn import evaluate, models, nn, predict, train
from minifcn.kernels.shapes import stand_in


def test_train_resume_evaluate_and_predict_give_what_they_give_on_the_host(xp, tmp_path, capfd):
    scenes, measures = write_scenes(tmp_path / "scenes"), {}
    for target in ("cpu", "cuda"):
        run = tmp_path / target
        flags = ["--dataset", "folder", "--root", str(scenes), *TINY, "--device", target, "--out", str(run)]
        assert train.main(flags) == 0
        assert train.main(["--resume", str(run), "--epochs", "3"]) == 0
        capfd.readouterr()
        assert evaluate.main([str(run), "--device", target, "--json", "-"]) == 0
        measures[target] = json.loads(capfd.readouterr().out)
        picture = str(scenes / "images/0.png")
        assert predict.main([str(run), picture, "--device", target, "--out", str(tmp_path / f"{target}-out")]) == 0
        assert (run / "report.html").is_file()
    assert measures["cuda"].keys() == measures["cpu"].keys()
    assert measures["cuda"]["loss"] == pytest.approx(measures["cpu"]["loss"], rel=1e-3)


def classifier():
    mf.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Conv2d(4, 5, 3))


@pytest.mark.parametrize("dense", ["shift_and_stitch", "patchwise", "rarefy"])
def test_the_other_dense_outputs(dense, device, equal):
    image = normal((1, 3, 23, 21), 1, np.float32)

    def run(model, image):
        if dense == "rarefy":
            return mf.dense_prediction.rarefy(model).eval()(image).data
        return getattr(mf.dense_prediction, dense)(model, image)

    equal(run(classifier().to("cuda"), device.put(image)), run(classifier(), image), 1e-5)


def test_surgery(device, equal):
    image = normal((1, 3, 32, 32), 1, np.float32)
    results = []
    for target, put in (("cuda", device.put), ("cpu", lambda a: a)):
        folded = nn.surgery.fold_batchnorm(classifier().to(target))
        mf.manual_seed(0)
        lenet = models.lenet().to(target)
        dense = nn.surgery.convolutionalize(lenet, (32, 32)).eval()
        digits = put(normal((1, lenet.in_channels, 36, 40), 2, np.float32))
        results.append([folded(put(image)).data, dense(digits).data])
    equal(results[0], results[1], 1e-5)


def test_shapes_only_and_geometry_beside_a_device_array(xp, device):
    model, image = classifier().to("cuda"), mf.Tensor(device.put(normal((1, 3, 23, 21), 1, np.float32)))
    with mf.shapes_only():
        y = model(image)
    assert y.shape == model(image).shape and isinstance(y.data, xp.ndarray)
    assert isinstance(stand_in(image.data, (2, 3)), xp.ndarray)
    with mf.shapes_only():
        y = model.eval()(image)
    assert mf.geometry.receptive_field(y, image).size == (13, 13)


def test_a_copy_of_a_model_lies_where_the_model_lies(xp):
    from copy import deepcopy

    model = deepcopy(classifier().to("cuda"))
    assert all(isinstance(p.data, xp.ndarray) for p in model.parameters())
    assert "cuda" in repr(model.parameters()[0])
