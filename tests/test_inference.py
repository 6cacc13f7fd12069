"""Probabilities, test-time augmentation, paths in place of images, and models loaded from a run's folder."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minifcn as mf
from minifcn.errors import UserError
from minifcn.models.inference import SCALES

ROOT = Path(mf.__file__).parents[1]


@pytest.fixture(scope="module")
def model(finished):
    return mf.models.load(finished)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)


def raw_scores(model, x):
    """The scores of the model's input x, (C, H, W), in float64."""
    with mf.no_grad():
        return model.eval()(mf.Tensor(x[None].astype(np.float32))).data[0].astype(np.float64)


def softmax(scores):
    e = np.exp(scores - scores.max(0))
    return e / e.sum(0)


def resized(maps, size):
    """Linear interpolation with half-pixel centres along each axis, clamped at the border, by np.interp."""
    for axis, (n, m) in enumerate(zip(maps.shape[1:], size), 1):
        at = (np.arange(m) + 0.5) * n / m - 0.5
        maps = np.apply_along_axis(lambda line, at=at, n=n: np.interp(at, np.arange(n), line), axis, maps)
    return maps


def test_probabilities_are_the_softmax_of_the_scores(model, picture):
    expected = softmax(raw_scores(model, model.preprocessing(picture)[0]))
    probabilities = model.predict_proba(picture)
    assert probabilities.shape == (3, 21, 34) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)
    np.testing.assert_allclose(probabilities.sum(0), 1, rtol=1e-6)
    assert (model.predict(picture) == expected.argmax(0)).all()
    batch = model.predict_proba(np.stack([picture, picture[::-1]]))
    assert batch.shape == (2, 3, 21, 34)
    np.testing.assert_allclose(batch[0], expected, rtol=1e-4)


def test_tta_averages_the_probabilities_of_resized_and_mirrored_images(model, picture):
    x, total = model.preprocessing(picture)[0].astype(np.float64), 0
    for scale in SCALES:
        scaled = resized(x, [round(scale * n) for n in (21, 34)])
        total = total + resized(softmax(raw_scores(model, scaled)), (21, 34))
        total = total + resized(softmax(raw_scores(model, scaled[..., ::-1]))[..., ::-1], (21, 34))
    np.testing.assert_allclose(model.predict_proba(picture, tta=True), total / 6, rtol=1e-4, atol=1e-6)
    assert (model.predict(picture, tta=True) == (total / 6).argmax(0)).mean() > 0.99
    assert not np.allclose(total / 6, model.predict_proba(picture))


def test_the_mirror_image_has_the_mirrored_tta(model, picture):
    mirrored = model.predict_proba(np.ascontiguousarray(picture[:, ::-1]), tta=True)[..., ::-1]
    np.testing.assert_allclose(mirrored, model.predict_proba(picture, tta=True), rtol=1e-4, atol=1e-6)
    assert model.predict(picture[:1, :1], tta=True).shape == (1, 1)


def test_a_path_stands_for_its_image(model, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a é 한.png")
    for path in (tmp_path / "a é 한.png", str(tmp_path / "a é 한.png")):
        assert (model.predict(path) == model.predict(picture)).all()
        assert (model.predict_proba(path) == model.predict_proba(picture)).all()
    with pytest.raises(UserError, match=r"no file .*b\.png"):
        model.predict(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"text\.png is not an image"):
        (tmp_path / "text.png").write_text("text", encoding="utf-8")
        model.predict(tmp_path / "text.png")


def test_the_folder_of_a_run_is_its_last_or_best_checkpoint(finished, tmp_path):
    for weights in ("last", "best"):
        here, there = mf.models.load(finished, weights), mf.models.load(finished / f"{weights}.safetensors")
        assert all((a == b).all() for a, b in zip(here.state_dict().values(), there.state_dict().values()))
        assert here.classes == there.classes and not here.training
    with pytest.raises(UserError, match=r"has no last\.safetensors; give the folder of a run"):
        mf.models.load(tmp_path)


def test_the_lines_of_the_quick_start_use_a_run(finished, picture, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "runs/NAME")
    Image.fromarray(picture).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    section = (ROOT / "docs/start.md").read_text(encoding="utf-8").partition("## Use a trained network in Python")[2]
    names = {"mf": mf}
    exec(compile(re.search(r"```python\n(.*?)```", section, re.S)[1], "start.md", "exec"), names)
    assert names["labels"].shape == (21, 34) and names["probabilities"].shape == (3, 21, 34)
    assert (mf.data.images.read_mask("labels.png") == names["labels"]).all()
