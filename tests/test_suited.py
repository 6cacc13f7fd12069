"""What a run adapts to its pictures, and keeps: sizes, passes, averaged weights, clipped gradients, an early end."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny_run import write_scenes

import minifcn as mf
from minifcn import models, ops, predict, train
from minifcn.data import Loader, Shapes
from minifcn.data.statistics import typical_side
from minifcn.data.transforms import CAFFE
from minifcn.engine.core import Tensor, no_grad
from minifcn.io import load_checkpoint, load_record
from minifcn.models import tiles
from minifcn.models.inference import each
from minifcn.nn import Parameter
from minifcn.nn.module import evaluating
from minifcn.nn.optim import SGD, clip_gradients
from minifcn.training import evaluation, loop
from minifcn.training.evaluation import evaluate
from minifcn.training.loop import Callback, fit

SCENES = dict(size=(24, 32), num_classes=3)


def net(**options):
    mf.manual_seed(0)
    return models.build("fcn8s_mini", num_classes=3, width=0.1, dropout=0.0, **options)


def learned(model):
    return {name: p.numpy().astype(float).copy() for name, p in model.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("suited") / "scenes")


def begun(scenes, out, *flags):
    """A run of one epoch of a tiny net; returns its folder."""
    tiny = ["--model", "fcn8s_mini", "--width", "0.1", "--batch-size", "4", "--epochs", "1"]
    assert train.main(["--root", str(scenes), *tiny, "--out", str(out), *map(str, flags)]) == 0
    return out


def test_the_average_is_the_exponential_mean_of_the_weights_and_is_what_is_validated_and_kept():
    class Steps(Callback):
        def started(self, t):
            self.seen = []

        def stepped(self, t):
            self.seen.append(learned(t.model))

    model = net()
    mean = learned(model)
    data = Loader(Shapes(length=8, **SCENES), 2)
    t = fit(model, data, Shapes("val", 3, **SCENES), epochs=2, ema=0.6, callbacks=[steps := Steps()])
    assert len(steps.seen) == 8
    for k, weights in enumerate(steps.seen, 1):
        d = min(0.6, (1 + k) / (10 + k))
        mean = {name: d * mean[name] + (1 - d) * weights[name] for name in mean}
    for name, value in learned(model).items():
        np.testing.assert_allclose(value, mean[name], rtol=1e-4, atol=1e-6)
    assert max(abs(mean[name] - steps.seen[-1][name]).max() for name in mean) > 1e-3
    confusion, loss = evaluate(model, Shapes("val", 3, **SCENES))
    assert (confusion.mean_iu, loss) == (t.rows[-1]["mean_iu"], t.rows[-1]["val_loss"])


def test_a_checkpoint_holds_the_average_for_predictions_and_the_weights_to_train_on(scenes, tmp_path):
    out = begun(scenes, tmp_path / "run", "--ema", 0.9, "--repeat", 2)
    arrays, record = load_checkpoint(out / "last.safetensors")
    raw = {name.removeprefix("raw.") for name in arrays if name.startswith("raw.")}
    model = models.load(out)
    assert raw == set(learned(model)) and record["averaged"] == 4
    assert any((arrays[f"raw.{name}"] != arrays[f"model.{name}"]).any() for name in raw)
    val = train.assemble(train.settings(["--root", str(scenes), "--model", "fcn8s_mini"])[0]).val
    with open(out / "log.csv", encoding="utf-8") as file:
        logged = file.read().splitlines()[-1].split(",")[5]
    assert evaluate(model, val)[0].mean_iu == float(logged)


def test_clipping_shortens_all_gradients_together():
    p, q, unused = (Parameter(np.zeros(n, np.float32)) for n in (1, 2, 1))
    p.grad, q.grad = np.array([2.0], np.float32), np.array([3.0, 6.0], np.float32)
    assert clip_gradients([p, q, unused], 3.5) == 7.0
    assert p.grad.tolist() == [1.0] and q.grad.tolist() == [1.5, 3.0] and unused.grad is None
    assert clip_gradients([p, q], 3.5) == 3.5 and q.grad.tolist() == [1.5, 3.0]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_clipped_norm_is_that_of_the_mean_loss_with_any_reduction(accumulate):
    """With rates that give equal steps without clipping, the sum and the mean give equal steps with it, too."""

    class Labelled(Shapes):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return image, np.where(label == 255, 0, label)

    data, rate, weights = Labelled(length=8, **SCENES), 0.05, {}
    rates = {"sum": rate / (2 * 24 * 32 * accumulate), "batch": rate / (24 * 32), "valid": rate}
    for clip in (None, 0.3):
        for reduction, lr in rates.items():
            model = net(batch_norm=False)
            optimizer = SGD(model.parameters(), lr)
            fit(model, Loader(data, 2), None, optimizer, 1, reduction, None, accumulate, loop.constant, clip=clip)
            weights[clip, reduction] = np.concatenate([w.ravel() for w in learned(model).values()])
    for reduction in rates:
        np.testing.assert_allclose(weights[0.3, reduction], weights[0.3, "valid"], atol=2e-5)
    assert abs(weights[0.3, "valid"] - weights[None, "valid"]).max() > 1e-3


@pytest.mark.parametrize(
    "scores, epochs", [([0.1, 0.3, 0.2, 0.25, 0.9], 4), ([0.1, 0.3, 0.2, 0.4, 0.5], 5), ([float("nan")] * 5, 3)]
)  # fmt: skip
def test_a_run_ends_when_the_best_epoch_is_as_old_as_asked(monkeypatch, scores, epochs):
    given = iter(scores)
    monkeypatch.setattr(loop, "scores_of", lambda confusion: dict(mean_iu=next(given)))
    data, told = Shapes(length=2, **SCENES), []
    watch = Callback()
    watch.finished = lambda t: told.append("finished")
    watch.stopped = lambda t: told.append("stopped")
    t = fit(net(), data, data, epochs=5, patience=2, callbacks=[watch])
    assert (t.epoch, told) == (epochs, ["finished"])
    with pytest.raises(ValueError, match="patience is 2: it needs"):
        fit(net(), data, epochs=5, patience=2)


def test_an_early_end_is_said_and_reported(scenes, tmp_path, capfd):
    flags = ("--stop-after", 1, "--lr", 0, "--repeat", 1, "--epochs", 6)
    out = begun(scenes, tmp_path / "run", *flags)
    said = capfd.readouterr()
    assert "epochs 6, until 1 bring no better mean IU" in said.out.replace(", each of 2 batches of 4", "")
    assert "mean IU has not improved for 1 epochs" in said.out and (out / "report.html").is_file()
    assert len((out / "log.csv").read_text().splitlines()) < 7
    assert "--lr 0 is 0 times the rate that suits these settings" in said.err


@pytest.mark.parametrize("rate, effect", [("1", "will probably become NaN"), ("1e-12", "will learn almost nothing")])
def test_a_hopeless_rate_is_said_before_the_first_step(scenes, tmp_path, capfd, monkeypatch, rate, effect):
    monkeypatch.setattr(train, "train", lambda *_, **__: 0)
    begun(scenes, tmp_path / "run", "--lr", rate)
    assert effect in capfd.readouterr().err
    begun(scenes, tmp_path / "fine", "--lr", 1e-5)
    assert "times the rate" not in capfd.readouterr().err


def test_a_small_folder_is_repeated_until_an_epoch_has_enough_steps(scenes, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(train, "train", lambda parts, *_, **__: print(*parts.header.values()) or 0)
    begun(scenes, tmp_path / "run")  # 8 images to train on: 2 steps of 4
    said = capfd.readouterr().out
    assert "each of 26 batches of 4 in 13 passes" in said and "8 images to train on" in said
    begun(scenes, tmp_path / "other", "--repeat", 1)
    other = capfd.readouterr().out
    assert "each of 2 batches of 4;" in other
    rate = re.compile(r"lr \S+ .* N = \S+ pixels")
    assert rate.search(said).group() == rate.search(other).group()


def test_a_model_sees_pictures_of_the_size_it_was_trained_on(scenes, tmp_path, capfd):
    out = begun(scenes, tmp_path / "run", "--size", 16)
    assert "shorter side 16 pixels" in capfd.readouterr().out
    assert load_record(out / "last.safetensors")["preprocessing"]["size"] == 16
    model = models.load(out)
    image = Shapes(length=1, size=(96, 128), num_classes=3)[0][0]
    small = np.asarray(Image.fromarray(image).resize((21, 16), Image.Resampling.BILINEAR))
    with evaluating(model), no_grad():
        scores = model(Tensor(model.preprocessing(small)))
        expected = ops.interpolate(scores, (96, 128)).data.argmax(axis=1)[0]
    np.testing.assert_array_equal(model.predict(image), expected)
    np.testing.assert_array_equal(model.predict(image[None])[0], expected)
    proba = model.predict_proba(image, tta=True)
    assert proba.shape == (3, 96, 128) and abs(proba.sum(axis=0) - 1).max() < 1e-5


def test_pictures_much_larger_than_those_of_the_training_are_said_with_a_cure(scenes, tmp_path, capfd):
    """The pictures of the training have 24x32 pixels; the cure is a command, with the labels of a small picture."""
    out = begun(scenes, tmp_path / "run")
    assert load_record(out / "last.safetensors")["side"] == models.load(out).side == 24
    image = Shapes(length=1, size=(96, 128), num_classes=3)[0][0]
    Image.fromarray(image).save(tmp_path / "large.png")
    Image.fromarray(image[:71]).save(tmp_path / "less.png")

    def notes(*arguments):
        capfd.readouterr()
        assert predict.main([str(out), *map(str, arguments), "--out", str(tmp_path / "p"), "--overwrite"]) == 0
        return capfd.readouterr().err

    said = notes(tmp_path / "large.png", tmp_path / "less.png")
    assert said.count("note") == 1 and "96x128 pixels (height x width) is 4.0 times as large" in said
    assert "--size 24" in said
    assert notes(tmp_path / "large.png", "--size", 24) == ""
    model = models.load(out)
    model.preprocessing = replace(model.preprocessing, size=24)
    labels = mf.data.images.read_mask(tmp_path / "p/large-labels.png")
    np.testing.assert_array_equal(labels, model.predict(image))
    with pytest.warns(mf.errors.Note, match="times as large as those"):
        models.load(out).predict(tmp_path / "large.png")


def test_an_auxiliary_loss_is_trained_said_and_kept_but_not_predicted(scenes, tmp_path, capfd):
    out = begun(scenes, tmp_path / "run", "--auxiliary", 0.4)
    assert "auxiliary loss × 0.4" in capfd.readouterr().out
    model = models.load(out)
    assert list(model.heads) == ["", "aux"] and model.heads["aux"].loss_weight == 0.4
    assert model.state_dict()["score_fr_aux.weight"].any()  # it began at zero
    image = Shapes(length=1, **SCENES)[0][0]
    with evaluating(model), no_grad():
        first = model.outputs(model.preprocessing(image))[""]
    np.testing.assert_array_equal(model.predict(image), first.data.argmax(axis=1)[0])
    assert train.main(["--resume", str(out), "--epochs", "2"]) == 0
    with pytest.raises(ValueError, match="auxiliary adds a head to a net with one"):
        models.fcn16s_siftflow(auxiliary=0.4, width=0.05)


def test_pieces_of_a_map_have_no_typical_size():
    class Tiles(Shapes):
        def window(self, i, top, left, height, width):
            raise AssertionError

    assert typical_side(Tiles(length=3, size=(24, 32))) is None
    assert typical_side(SimpleNamespace(sizes=[(10, 50), (70, 30), (40, 45)])) == 30


def test_tta_of_a_large_image_is_measured_in_tiles_with_the_same_result(monkeypatch):
    model, image = models.build("fcn8s_mini", num_classes=3, width=0.5), Shapes(length=1, size=(700, 600))[0][0][None]
    for name, p in model.named_parameters():
        if "score" in name and p.requires_grad and p.data.ndim == 4:  # they begin at zero
            p.data[...] = np.random.default_rng(1).standard_normal(p.shape)
    whole, each_tile, counts = evaluation.whole_scores(model, image, tta=True).data, tiles.each, []
    monkeypatch.setattr(tiles, "each", lambda *given: (counts.append(len(given[1])), each_tile(*given)))
    monkeypatch.setattr(evaluation, "LIMIT", tiles.BASE + 9 * 10**7)
    tiled = evaluation.whole_scores(model, image, tta=True).data
    assert len(counts) == 6 and max(counts) > 1
    np.testing.assert_allclose(tiled, whole, atol=1e-4 * np.abs(whole).max())


@pytest.mark.parametrize("loss", [mf.losses.CrossEntropy(), mf.losses.Dice()], ids=["adds", "does not add"])
def test_a_large_image_is_measured_in_tiles_with_the_same_result(monkeypatch, loss):
    data = Shapes("val", 1, size=(700, 600), num_classes=3)
    model = net()
    fit(model, Loader(Shapes(length=8, **SCENES), 4), epochs=2)
    whole = evaluate(model, data, loss=loss)
    windows = []
    monkeypatch.setattr(
        evaluation, "each", lambda model, images, put, tta, limit, more: each(
            model, images, lambda *part: (windows.append(part[2].shape), put(*part)), tta, limit, more
        )
    )  # fmt: skip
    monkeypatch.setattr(evaluation, "LIMIT", tiles.BASE + 10**7)
    tiled = evaluate(model, data, loss=loss)
    assert len(windows) > 1
    np.testing.assert_array_equal(tiled[0].matrix, whole[0].matrix)
    assert tiled[1] == pytest.approx(whole[1], rel=1e-5)


def test_preprocessing_is_chosen_by_name_and_then_not_asked_for(scenes, tmp_path, capfd):
    first = begun(scenes, tmp_path / "first")
    weights = {k: v for k, v in mf.io.load_weights(first / "last.safetensors").items() if k.startswith("model.")}
    np.savez(tmp_path / "foreign.npz", **{k.removeprefix("model."): v for k, v in weights.items()})
    begun(scenes, tmp_path / "unsaid", "--init", tmp_path / "foreign.npz")
    assert "does not say how images were converted" in capfd.readouterr().err
    run = begun(scenes, tmp_path / "said", "--init", tmp_path / "foreign.npz", "--preprocessing", "caffe")
    assert "does not say" not in capfd.readouterr().err
    assert models.load(run).preprocessing == CAFFE


def test_crops_and_colour_are_said_and_bands_have_no_colour(scenes, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(train, "train", lambda parts, *_, **__: print(parts.header["augmenting"]) or 0)
    begun(scenes, tmp_path / "run", "--crop", 16, 24, "--scale", 0.5, 2, "--jitter", 0.1, "--colour", 0.2)
    said = "mirrored, scale 0.5 to 2, crops of 16×24 pixels, jitter 10% of the sides, colour 0.2"
    assert said in capfd.readouterr().out
    argv = ["--bands", "red,green,blue,height", "--colour", "0.2", "--out", str(tmp_path / "no")]
    code = train.main(argv)
    err = capfd.readouterr().err
    assert code == 2 and ("--colour changes red, green and blue" in err or "earth" in err)
