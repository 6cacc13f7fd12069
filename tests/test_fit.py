"""fit called twice, after an interrupted run, and with what cannot learn; default rates and crops for the data."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image

import minifcn as mf
from minifcn import models, nn, train
from minifcn.data import Augment, Earth, Loader, Shapes
from minifcn.data.palette import save_mask, voc_colour_map
from minifcn.data.statistics import pixels_per_batch, suitable_crop, typical_pixels
from minifcn.errors import UserError
from minifcn.nn.optim import SGD, Adam, poly
from minifcn.training.evaluation import evaluate
from minifcn.training.loop import Callback, default_rate, fit
from minifcn.training.recipes import TILES, suited_to

OPTIONS = dict(size=(24, 32), num_classes=3)


def net(**options):
    mf.manual_seed(0)
    return models.build("fcn8s_mini", num_classes=3, width=0.1, dropout=0.0, **options)


class Rates(Callback):
    def __init__(self, then=lambda t: None):
        self.seen, self.then = [], then

    def stepped(self, t):
        self.seen.append(t.optimizer.lr)
        self.then(t)


def numbers(model):
    return np.concatenate([a.ravel() for a in model.state_dict().values()])


def broken_off(error):
    def then(t):
        if t.step == 2:
            raise error

    return then


@pytest.mark.parametrize("make", [SGD, Adam])
def test_a_second_fit_begins_at_the_rate_that_was_given(make):
    model, data = net(), Loader(Shapes(length=4, **OPTIONS), 2)
    optimizer = make(model.parameters(), 1e-6)
    for rate in (1e-6, 1e-6, 3e-7):  # the last is a rate that the user sets
        optimizer.lr, rates = rate, Rates()
        fit(model, data, None, optimizer, 2, schedule=poly, callbacks=[rates])
        assert rates.seen == pytest.approx([rate * (1 - k / 4) ** 0.9 for k in range(4)], rel=1e-12, abs=0)
        assert optimizer.lr == rate


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("oh"), UserError("no image")])
def test_after_a_run_that_was_broken_off_the_next_one_is_whole(error):
    """The next run has complete epochs and the learning rate that the user gave."""
    model, data = net(), Loader(Shapes(length=8, **OPTIONS), 2, shuffle=True)
    optimizer = SGD(model.parameters(), 1e-6)
    with pytest.raises(type(error)):
        fit(model, data, None, optimizer, 2, schedule=poly, accumulate=3, callbacks=[Rates(broken_off(error))])
    assert optimizer.lr == 1e-6 and any(p.grad is not None for p in model.parameters())
    rates = Rates()
    t = fit(model, data, None, optimizer, 1, callbacks=[rates])
    assert len(rates.seen) == t.step == 4 and t.total_steps == 4 and data.state_dict() == {"epoch": 2, "batch": 0}


def test_gradients_of_a_broken_run_are_in_no_later_step():
    data = Loader(Shapes(length=4, **OPTIONS), 4)
    clean, dirty = net(batch_norm=False), net(batch_norm=False)
    for p in dirty.parameters():
        p.grad = np.ones_like(p.data) if p.requires_grad else None
    for model in (clean, dirty):
        fit(model, data, None, SGD(model.parameters(), 1e-6))
    assert numbers(clean).tobytes() == numbers(dirty).tobytes()


def test_a_rate_that_a_callback_changes_stays_changed():
    def then(t):
        if t.step == 2:
            t.optimizer.lr *= 0.1

    model, rates = net(), Rates(then)
    optimizer = SGD(model.parameters(), 1e-6)
    fit(model, Loader(Shapes(length=8, **OPTIONS), 2), None, optimizer, callbacks=[rates])
    assert rates.seen == pytest.approx([1e-6, 1e-6, 1e-7, 1e-7], rel=1e-9, abs=0)


def test_what_cannot_learn_is_said():
    data, model = Shapes(length=2, **OPTIONS), net()
    with pytest.raises(ValueError, match="none of this model's parameters"):
        fit(model, data, optimizer=SGD(net().parameters(), 1e-7))
    with mf.no_grad(), pytest.raises(RuntimeError, match="inside no_grad"):
        fit(model, data)
    optimizer = SGD(model.parameters(), 1e-7)
    for p in model.parameters():
        p.freeze()
    with pytest.raises(ValueError, match="are frozen"):
        fit(model, data, optimizer=optimizer)
    with pytest.raises(ValueError, match="nothing to learn"):
        fit(model, data)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(epochs=-1), "epochs is -1"),
        (dict(epochs=1.5), "epochs is 1.5"),
        (dict(accumulate=0), "accumulate is 0: .* at least 1"),
        (dict(sampling=0), "sampling is 0"),
        (dict(sampling=float("nan")), "sampling is nan"),
        (dict(reduction="mean"), "unknown reduction 'mean': choose from sum, batch, valid"),
        (dict(reduction="none"), "unknown reduction 'none'"),
    ],
)
def test_arguments_out_of_range_are_said_before_anything_is_done(options, said):
    with pytest.raises(ValueError, match=said):
        fit(net(), Shapes(length=2, **OPTIONS), **options)


def test_one_loader_for_both_keeps_its_place():
    data, model = Loader(Shapes(length=5, **OPTIONS), 2, shuffle=True, drop_last=True), net()
    t = fit(model, data, data, SGD(model.parameters(), 1e-7), 2)
    assert data.state_dict() == {"epoch": 2, "batch": 0} and t.step == 4
    whole = evaluate(model, data.dataset)
    next(iter(data))
    half = evaluate(model, data)  # `data` is in the middle of an epoch, and training drops its last image
    assert half[0].matrix.sum() == whole[0].matrix.sum() and half[1] == whole[1] == t.rows[-1]["val_loss"]


@pytest.mark.parametrize("reduction", ["sum", "valid", "batch"])
def test_the_default_rate_suits_every_reduction(reduction):
    """With each reduction the loss falls by a tenth in three epochs; a rate that ignores the reduction fails this."""
    model = net(batch_norm=True)
    rows = fit(model, Shapes(length=24, **OPTIONS), epochs=3, reduction=reduction).rows
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


class Sized:
    """Scenes of given sizes; `share` is the labelled share of each, from the top."""

    num_classes, classes, palette = 3, ("a", "b", "c"), voc_colour_map(3)

    def __init__(self, sizes, share=1.0):
        self.all, self.share = sizes, share

    def __len__(self):
        return len(self.all)

    def __getitem__(self, i):
        image, label = Shapes(length=len(self), size=self.all[i], num_classes=3)[i]
        label[label == 255] = 0
        label[int(len(label) * self.share) :] = 255
        return image, label


def test_the_default_rate_is_that_of_a_typical_batch():
    """0.007 / N, where N is the number of pixels of a typical batch: a single huge image does not change it."""
    alike = default_rate(Loader(Sized([(48, 48)] * 20), 8))
    assert alike == pytest.approx(0.007 / (8 * 48 * 48))
    for place in (0, 7, 20):
        sizes = [(48, 48)] * 20
        sizes.insert(place, (384, 384))
        assert default_rate(Loader(Sized(sizes), 8)) == pytest.approx(alike)
    assert default_rate(Loader(Sized([(48, 48)] * 20), 8), "valid") == 0.007
    assert default_rate(Loader(Sized([(48, 48)] * 20), 8), "batch") == pytest.approx(0.007 / 48**2)
    assert default_rate(Loader(Sized([(48, 48)] * 20), 8), accumulate=4) == pytest.approx(alike / 4)
    assert default_rate(Loader(Sized([(48, 48)] * 3), 8)) == pytest.approx(0.007 / (3 * 48 * 48))
    assert default_rate(Loader(Sized([(48, 48)] * 20, share=0.25), 8)) == pytest.approx(4 * alike)
    half = typical_pixels([10] * 50 + [1000] * 50, 16)  # two sizes; most batches have images of both
    assert half == pytest.approx(16 * 505, rel=0.1)


def write(root, sizes, void=()):
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("a\nb\nc", encoding="utf-8")
    for i, (image, label) in enumerate(Sized(sizes)[i] for i in range(len(sizes))):
        Image.fromarray(image).save(root / f"images/{i:02}.png")
        save_mask(root / f"masks/{i:02}.png", np.full_like(label, 255) if i in void else label)
    return root


def begun(root, out, *flags):
    """Run one epoch, and return the settings that it saved."""
    argv = ["--root", str(root), "--width", "0.1", "--epochs", "1", "--out", str(out), *flags]
    assert train.main(argv) == 0
    return json.loads((out / "config.json").read_text(encoding="utf-8"))


def test_the_commands_rate_does_not_depend_on_which_picture_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "illustrate", lambda *_: None)
    monkeypatch.setattr(train, "result_lines", lambda metrics: ())
    rates = []
    for place in (1, 24):  # both are in the training split; every fifth image is in the other
        sizes = [(24, 24)] * 24
        sizes.insert(place, (192, 192))
        config = begun(write(tmp_path / f"data{place}", sizes), tmp_path / f"run{place}")
        rates.append((config["lr"], config["weight_decay"]))
    assert rates[0] == rates[1] == (float(f"{0.007 / (8 * 24 * 24):.2g}"), float(f"{2e-3 * 8 * 24 * 24:.3g}"))


@pytest.mark.earth
def test_the_earths_defaults_stay():
    data = Earth("train")
    assert suited_to(data) == TILES and TILES["jitter"] == 0.5
    assert typical_pixels(np.prod(data.sizes, axis=1), 8) == 8 * 128 * 128


class Known(Sized):
    """Scenes whose sizes are known without making them."""

    sizes = property(lambda self: self.all)


def test_large_pictures_are_trained_on_in_crops():
    assert suitable_crop(Known([(180, 240)] * 90)) is None
    assert suitable_crop(Known([(720, 960)] * 8 + [(3000, 4000)] * 2)) == (320, 320)
    crops = Loader(Known([(3000, 4000)] * 10), 4, augment=Augment(crop=(320, 320)))
    assert pixels_per_batch(crops) == 4 * 320 * 320
    assert pixels_per_batch(crops, np.full(10, 3000 * 4000 // 10)) == pytest.approx(4 * 320 * 320 / 10, rel=1e-3)


def test_void_masks_are_said_before_the_training(tmp_path, refused, monkeypatch):
    root = write(tmp_path / "data", [(24, 24)] * 10, void=range(10))
    argv = ["--width", "0.1", "--epochs", "1", "--out", tmp_path / "run"]
    refused(train.main, "--root", root, *argv, match="nothing but 255, and 255 means void")
    void = Sized([(24, 24)] * 10, share=0)
    monkeypatch.setattr("minifcn.training.parts.open_dataset", lambda *_: void)
    refused(train.main, "--dataset", "shapes", *argv, match="not one pixel of .* is labelled: every label is 255")
    assert not (tmp_path / "run").exists()
    refused(train.main, "--dataset", "shapes", *argv, "--balance", "0", match="not one pixel counted in epoch 1")
    with pytest.raises(UserError, match="not one pixel counted in epoch 1"):
        fit(net(), void)


def test_batch_norm_of_single_images_is_said(scenes, tmp_path, capfd):
    one = Loader(Shapes(length=2, **OPTIONS), 1)
    with pytest.warns(RuntimeWarning, match="a batch is one image, so batch norm"):
        fit(net(batch_norm=True), one)
    frozen = net(batch_norm=True)
    for module in frozen.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.frozen = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(net(batch_norm=True), Loader(Shapes(length=2, **OPTIONS), 2))
        fit(net(batch_norm=False), one)
        fit(frozen, one)
    argv = ["--root", str(scenes), "--width", "0.1", "--epochs", "1", "--batch-size", "1"]
    assert train.main([*argv, "--out", str(tmp_path / "run")]) == 0
    assert "note        a batch is one image, so batch norm" in capfd.readouterr().err


def test_batch_norms_statistics_after_training_are_those_of_the_training_images():
    """The first layer is a batch norm without a scale, so its statistics are those of the preprocessed pixels."""
    model = net()
    model.trunk.conv1_1_bn.frozen = True
    layers = {"norm": nn.BatchNorm2d(3), **dict(model.trunk.children())}
    model.trunk = models.Trunk(layers, model.trunk.taps)
    before = model.trunk.conv1_1_bn.running_mean.numpy().copy()
    data = Shapes(length=8, **OPTIONS)
    fit(model, Loader(data, 4, shuffle=True, augment=lambda image, label, rng: (image // 2, label)), data, epochs=1)
    pixels = model.preprocessing(np.stack([image for image, _ in data])).astype(float)  # (8, 3, H, W)
    order = np.arange(8)
    np.random.default_rng([0, 0]).shuffle(order)
    variances = [pixels[order[k : k + 4]].var(axis=(0, 2, 3), ddof=1) for k in (0, 4)]
    np.testing.assert_allclose(model.trunk.norm.running_mean.numpy(), pixels.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(model.trunk.norm.running_var.numpy(), np.mean(variances, axis=0), rtol=1e-5)
    assert (model.trunk.conv1_1_bn.running_mean.numpy() == before).all()


def test_frozen_layers_of_the_trunk_stay_as_they_were(scenes, tmp_path, capfd):
    flags = ["--root", scenes, "--model", "fcn8s_mini", "--width", 0.1, "--epochs", 1, "--init"]
    start = begun_run(scenes, tmp_path / "start")
    assert train.main([*map(str, [*flags, start, "--freeze", "pool2", "--out", tmp_path / "run"])]) == 0
    before, after = (mf.io.load_weights(folder / "last.safetensors") for folder in (start, tmp_path / "run"))
    moved = {n.split(".")[1] for n in before if n.startswith("model.") and (before[n] != after[n]).any()}
    assert {"conv3_1", "conv3_1_bn", "fc7", "score_fr"} <= moved
    assert not {n for n in moved if n.startswith(("conv1", "conv2"))}
    assert train.main([*map(str, [*flags, start, "--freeze", "conv9", "--out", tmp_path / "no"])]) == 2
    assert "the trunk has no such layer; give trunk, or one of conv1_1," in capfd.readouterr().err


def begun_run(scenes, folder):
    """A run of one epoch."""
    flags = ["--root", scenes, "--model", "fcn8s_mini", "--width", 0.1, "--epochs", 1, "--out", folder]
    assert train.main([*map(str, flags)]) == 0
    return folder
