"""Training on the device: the host's numbers, no unnecessary transfers, and saved state that can be restored."""

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn import models
from minifcn.arrays import backend
from minifcn.data import Loader, Shapes
from minifcn.nn import optim
from minifcn.training import run_folder
from minifcn.training.loop import Callback
from minifcn.training.metrics import ConfusionMatrix

OPTIMISERS = {
    "caffe": lambda p: optim.SGD(p, lr=1e-4, momentum=0.9, weight_decay=0.01),
    "torch": lambda p: optim.SGD(p, lr=1e-4, momentum=0.9, weight_decay=0.01, form="torch"),
    "adam": lambda p: optim.Adam(p, lr=1e-3, weight_decay=0.01),
}


def net(**options):
    mf.manual_seed(0)
    model = models.fcn8s_mini(num_classes=3, width=0.2, **options)
    rng = np.random.default_rng(1)
    for name, p in model.named_parameters():
        if "score" in name:  # score layers start at zero, and layers below would get no gradient
            p.data = (0.3 * rng.standard_normal(p.shape)).astype(np.float32)
    return model


def scenes():
    return Loader(Shapes(length=8, size=(24, 32), num_classes=3), batch_size=4, shuffle=True, seed=3)


def agree(got, expected, rtol):
    """Assert that a state dict from the device equals one from the host up to rounding."""
    assert got.keys() == expected.keys()
    for name, b in expected.items():
        if name.endswith(".steps"):  # Adam's number of steps is a Python number, and stays on the host
            assert got[name].tolist() == b.tolist(), name
            continue
        assert not isinstance(got[name], np.ndarray) and got[name].dtype == b.dtype, name
        np.testing.assert_allclose(got[name].get(), b, rtol=rtol, atol=rtol * max(1, np.abs(b).max()), err_msg=name)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_forward_backward_and_step_of_a_whole_net_equal_the_hosts(name, device):
    """In float64, because some gradients before a normalisation are zero except for rounding errors."""
    results = []
    for put, target in ((lambda a: a, "cpu"), (device.put, "cuda")):
        model = net(dropout=0.0).to(target, dtype="float64")
        optimizer = OPTIMISERS[name](model.parameters())
        labels = np.random.default_rng(0).choice([0, 1, 2, 255], (2, 21, 26)).astype(np.uint8)
        loss = mf.ops.cross_entropy(model(put(normal((2, 3, 21, 26), 1))), put(labels))
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step(scale=0.5)
        results.append((loss.item(), gradients, optimizer.state_dict(), model.state_dict()))
    (loss, *host), (same, *there) = results
    assert same == pytest.approx(loss, rel=1e-12)
    for got, expected in zip(there, host):
        agree(got, expected, 1e-8)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps_of_an_optimiser_equal_the_hosts(name, device):
    results = []
    for put in (lambda a: a.copy(), device.put):
        w = mf.nn.Parameter(put(normal((5, 7), 1, np.float32)), lr_mult=2.0)
        optimizer = OPTIMISERS[name]([w])
        for step in range(4):
            w.grad = put(normal((5, 7), 10 + step, np.float32))
            optimizer.step(scale=0.5)
        results.append({"w": w.data, **optimizer.state_dict()})
    agree(results[1], results[0], 2e-6)


def test_an_optimiser_made_before_the_model_moved_says_so(xp):
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model.to("cuda")
    for p in model.parameters():
        p.grad = xp.zeros_like(p.data)
    with pytest.raises(ValueError, match=f"numpy and {xp.__name__}|{xp.__name__} and numpy"):
        optimizer.step()


def trained(target, epochs=2, callbacks=(), resume=None, **options):
    """Train a few steps with dropout; the loss of each step, and the training."""
    model, losses = net().to(target), []

    class Losses(Callback):
        def stepped(self, t):
            losses.append(t.loss)

    mf.manual_seed(5)
    optimizer = optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)
    t = mf.fit(model, scenes(), scenes(), optimizer, epochs, callbacks=(Losses(), *callbacks), resume=resume, **options)
    return losses, t


@pytest.mark.parametrize(
    "options",
    [{}, dict(reduction="valid", accumulate=2, weight=np.array([1, 2, 0.5])), dict(sampling=0.5)],
    ids=["sum", "valid, weighted, accumulated", "sampled"],
)
def test_fit_gives_the_losses_and_measures_of_the_host(xp, options):
    host, there = trained("cpu", **options), trained("cuda", **options)
    assert len(host[0]) == 4
    np.testing.assert_allclose(there[0], host[0], rtol=1e-5)
    assert host[0][-1] != host[0][0]
    for row, expected in zip(there[1].rows, host[1].rows):
        assert row["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5)
        assert row["pixel_accuracy"] == pytest.approx(expected["pixel_accuracy"], abs=2e-3)
    assert all(isinstance(p.data, xp.ndarray) and p.dtype == np.float32 for p in there[1].model.parameters())


IMAGES, MASK = ("up", (4, 3, 24, 32)), ("up", (4, 26, 1, 1))  # MASK is dropout's
LABELS, COUNTED, LOSS = ("up", (4, 24, 32)), ("up", (4, 24, 32)), ("down", ())  # labels are checked on the host
STEP = [IMAGES, MASK, LABELS, COUNTED, LOSS]


@pytest.mark.strict
@pytest.mark.parametrize(
    ("options", "before"),
    [({}, []), (dict(reduction="valid"), []), (dict(weight=[1, 2, 0.5]), [("up", (3,))])],
    ids=["sum", "valid", "class weights"],
)
def test_the_transfers_of_a_training_step(strict, options, before):
    model = net().to("cuda")
    optimizer = optim.SGD(model.parameters(), lr=1e-5)
    with strict.counted() as transfers:
        mf.fit(model, scenes(), optimizer=optimizer, epochs=1, **options)
    assert transfers == before + STEP * 2


@pytest.mark.strict
def test_the_transfers_of_a_prediction(strict):
    model = net().to("cuda")
    with strict.counted() as transfers:
        model.predict(np.zeros((24, 32, 3), np.uint8))
    assert transfers == [("up", (1, 3, 24, 32)), ("down", (1, 24, 32))]


def test_a_run_resumed_from_its_checkpoint_equals_an_uninterrupted_one(tmp_path, xp):
    losses, _ = trained("cuda", epochs=2)
    run = run_folder.Run.create(tmp_path / "run", {})
    first, _ = trained("cuda", epochs=1, callbacks=[run_folder.Recorder(run)])
    second, t = trained("cuda", epochs=2, resume=run.restore)
    np.testing.assert_allclose(first + second, losses, rtol=1e-6)
    state = {**t.model.state_dict(), **t.optimizer.state_dict()}
    assert all(isinstance(array, xp.ndarray) for array in state.values())


def test_optimiser_state_comes_back_onto_the_device(xp, device):
    w = mf.nn.Parameter(device.put(normal((2, 3), 1, np.float32)))
    for make in OPTIMISERS.values():
        optimizer = make([w])
        w.grad = device.put(normal((2, 3), 2, np.float32))
        optimizer.step()
        saved = {k: backend.asnumpy(v) for k, v in optimizer.state_dict().items()}
        again = make([w])
        again.load_state_dict(saved, steps=1)
        agree(again.state_dict(), saved, 0)


def test_weights_are_saved_from_the_device_and_loaded_onto_it(tmp_path, xp):
    model = net().to("cuda")
    mf.io.save_checkpoint(tmp_path / "net.safetensors", model.state_dict(), {})
    arrays, _ = mf.io.load_checkpoint(tmp_path / "net.safetensors")
    fresh = models.fcn8s_mini(num_classes=3, width=0.2).to("cuda").load_state_dict(arrays)
    agree(fresh.state_dict(), net().state_dict(), 0)


def test_measures_and_predictions_from_the_device(device):
    rng = np.random.default_rng(0)
    labels, predictions = rng.choice([0, 1, 2, 255], (2, 5, 6)), rng.integers(0, 3, (2, 5, 6))
    expected = ConfusionMatrix(3).update(labels, predictions).matrix
    got = ConfusionMatrix(3).update(device.put(labels), device.put(predictions)).matrix
    assert isinstance(got, np.ndarray) and (got == expected).all()

    images = rng.integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    there = net().to("cuda").predict(images)
    assert isinstance(there, np.ndarray) and (there == net().predict(images)).mean() > 0.999
