"""What the ranks of tests/test_ranks.py run: ``mpiexec -n N python rank_program.py NAME ARGUMENT...``."""

import os
import signal
import sys
from itertools import chain
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from minifcn import models, nn, ops, train
from minifcn.arrays import backend, parallel
from minifcn.data import Augment, Loader, Shapes
from minifcn.engine.core import Tensor
from minifcn.errors import UserError
from minifcn.kernels import environment
from minifcn.kernels.cpu import workers
from minifcn.nn import optim
from minifcn.training import parts
from minifcn.training.evaluation import by_kind, evaluate
from minifcn.training.loop import Callback, Training, fit
from minifcn.training.run_folder import Recorder

RANKS = parallel.world()


class Scenes(Shapes):
    """Eleven scenes of two sizes; the first six are partly void, and scene 2 is entirely void."""

    def __init__(self):
        super().__init__(length=11, size=(32, 48), num_classes=3)

    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        if i < 6:
            label[: 6 * i] = label[:, 40:] = 255
            label[:] = 255 if i == 2 else label
        return (image, label) if i % 2 else (image[:24], label[:24])


class Heads(Scenes):
    """The same with a second kind of labels, of which other pixels are void."""

    def __init__(self):
        super().__init__()
        self.heads = {"sem": self.classes, "geo": ("left", "right")}

    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        second = (np.arange(label.size).reshape(label.shape) % 48 > 20).astype(np.uint8)
        second[:, : 3 * i] = 255
        return image, np.stack([label, second], axis=-1)


SETTINGS = {
    f"{reduction}{'' if k == 1 else ', accumulated'}{name}": dict(reduction=reduction, accumulate=k, **options)
    for reduction in ("sum", "valid", "batch")
    for k in (1, 2)
    for name, options in {"": {}, ", batch norm": dict(batch_norm=True)}.items()
} | {
    "dropout": dict(dropout=0.5),
    "sampled": dict(sampling=0.5, reduction="valid"),
    "adam": dict(optimizer=optim.Adam, reduction="valid"),
    "batches of 2": dict(batch_size=2, batch_norm=True),  # with three ranks, some have no image
    "two heads": dict(reduction="valid", heads=True),  # the parts of a batch have other shares of labels in each head
}


def wide(model):
    """The model in float64."""
    for _, tensor in chain(model.named_parameters(), model.named_buffers()):
        tensor.data = tensor.data.astype(np.float64)
    return model


def net(batch_norm, dropout):
    """A small FCN in float64, whose loss has no kink near these weights."""
    layers = [nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6) if batch_norm else nn.ReLU()]
    layers += [nn.Dropout(dropout), nn.Conv2d(6, 5, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(5, 3, 2, stride=2)]
    model = nn.Sequential(*layers)
    model.num_classes, model.preprocessing = 3, models.fcn8s_mini(num_classes=3, width=0.1).preprocessing
    return wide(model)


def two_heads():
    return wide(models.fcn8s_mini(num_classes=dict(sem=3, geo=2), width=0.1, batch_norm=False, dropout=0.0))


def steps(reduction="sum", accumulate=1, batch_norm=False, dropout=0.0, optimizer=optim.SGD, batch_size=5, **options):
    """The loss and the change of the weights at each batch of two epochs; the confusion matrix and loss afterwards."""
    backend.manual_seed(0)
    heads = options.get("heads")
    model, losses, weights = two_heads() if heads else net(batch_norm, dropout), [], []
    data = Loader(Heads() if heads else Scenes(), batch_size, shuffle=True, augment=Augment(jitter=0.4))
    rate = 1e-3 if optimizer is optim.Adam else 0.05 / optim.reduction_factor(reduction, 4000, 5)

    class Watch(Callback):
        def stepped(self, t):
            losses.append(t.loss)
            weights.append(np.concatenate([a.ravel() for a in t.model.state_dict().values()]))

    Watch().stepped(Training(model, None, None, None, 0))
    fit(
        model, data, None, optimizer(model.parameters(), rate, weight_decay=1e-3), 2, reduction,
        dict(sem=np.array([1, 2, 0.5]), geo=np.array([1, 3])) if heads else np.array([1, 2, 0.5]), accumulate,
        sampling=options.get("sampling", 1.0), callbacks=[Watch()],
    )  # fmt: skip
    confusion, loss = evaluate(*by_kind(model, Loader(Heads() if heads else Scenes(), 4)).popitem()[1])
    return dict(
        losses=losses[1:], changes=np.diff(weights, axis=0), confusion=confusion.matrix, validation=loss
    )  # fmt: skip


def equal(out):
    """Write the results of :func:`steps` for all settings to an .npz file."""
    arrays = {}
    for name, options in SETTINGS.items():
        arrays |= {f"{name}: {what}": value for what, value in steps(**options).items()}
    if RANKS.rank == 0:
        np.savez(out, **arrays)


def earth(out):
    """Run ``minifcn.train`` in float64, stop after ten steps, and write their losses to ``out/losses.npy``."""
    losses, network = [], parts.network

    def stepped(self, t):
        losses.append(t.loss)
        t.stopping = t.step == 10

    def wide_network(*args):
        pad, model = network(*args)
        return pad, wide(model)

    parts.network, Recorder.stepped = wide_network, stepped
    assert train.main(["--dataset", "earth", "--model", "fcn8s_mini", "--out", out]) == 130
    if RANKS.rank == 0:
        np.save(Path(out) / "losses.npy", losses)


def pieces():
    """Test the communication, the checks before training and the number of threads on all ranks."""
    n, mine = RANKS.size, RANKS.rank
    assert RANKS.all_reduce(np.full(3, mine + 1.0)).tolist() == [n * (n + 1) / 2] * 3

    everywhere, nowhere, here = (Tensor(np.zeros(2), requires_grad=True) for _ in range(3))
    everywhere.grad, here.grad = np.full(2, mine + 1.0), np.ones(2) if mine == n - 1 else None
    parallel.sum_gradients(RANKS, [everywhere, nowhere, here])
    assert everywhere.grad.tolist() == [n * (n + 1) / 2] * 2
    assert nowhere.grad is None
    assert here.grad.tolist() == [1, 1]

    try:
        with parallel.together(RANKS):
            if mine == n - 1:
                raise UserError(f"ü of {mine}")
    except UserError as error:
        assert str(error) == f"ü of {n - 1}"
    else:
        raise AssertionError("the error of one rank did not become an error of all ranks")

    backend.manual_seed(mine)
    try:
        fit(net(False, 0.0), Loader(Scenes(), 5))
    except UserError as error:
        assert "do not start with the same data" in str(error)
    else:
        raise AssertionError("different weights were not noticed")

    backend.manual_seed(0)
    x = ops.dropout(Tensor(np.ones((2, 3))), 0.5)  # outside a shared batch, ranks do not communicate
    assert x.shape == (2, 3)

    blas = [b["num_threads"] for b in threadpool_info() if b["user_api"] == "blas"]
    share = max(1, environment.cores() // n)
    assert workers.threads() == share and max(blas) <= share, (workers.threads(), blas)
    if mine == 0:
        print("all well")


def training(trouble, rank, step, *argv):
    """Run ``minifcn.train`` with a failure on one rank after a step; ranks other than 0 report any file they write."""
    mine = RANKS.rank == int(rank)
    out = str(Path(argv[argv.index("--out" if "--out" in argv else "--resume") + 1]).resolve())

    def watch(event, arguments):
        writes = event in ("os.mkdir", "os.rename", "os.remove") or (
            event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        )
        if writes and str(Path(os.fsdecode(arguments[0])).resolve()).startswith(out):
            os.write(2, f"rank {RANKS.rank} writes {arguments[0]}\n".encode())

    if RANKS.rank:
        sys.addaudithook(watch)
    stepped = Recorder.stepped

    def troubled(self, t):
        stepped(self, t)
        if mine and t.step == int(step):
            TROUBLES[trouble](t)

    Recorder.stepped = troubled
    sys.exit(train.main(list(argv)))


def fail(t):
    raise RuntimeError("something unforeseen")


def refuse(t):
    raise UserError("this rank cannot go on")


def spoil(t):
    """Make reading the next batch fail."""

    def broken(epoch, indices):
        raise UserError("image 7 is damaged")

    t.train._load = broken


def poison(t):
    t.model.parameters()[0].data[:] = np.nan


TROUBLES = dict(
    none=lambda t: None, fail=fail, refuse=refuse, spoil=spoil, poison=poison,
    kill=lambda t: os.kill(os.getpid(), signal.SIGKILL), interrupt=lambda t: signal.raise_signal(signal.SIGINT),
)  # fmt: skip

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    dict(equal=equal, earth=earth, pieces=pieces, training=training)[name](*arguments)
