"""Measures depend on the model and the data only: batch size, order and number of ranks do not change a digit."""

import json

import numpy as np
import pytest
from PIL import Image
from test_ranks import Threads, launch, mpi

import minifcn as mf
from minifcn import evaluate, models, train
from minifcn.data import Augment, Loader, Shapes
from minifcn.data import loader as loading
from minifcn.data.palette import save_mask
from minifcn.training.evaluation import evaluate as measure
from minifcn.training.loop import fit
from minifcn.training.metrics import ConfusionMatrix

SIZES = [(24, 32), (40, 24), (24, 32), (24, 32), (96, 80), (17, 51), (24, 32), (24, 32), (64, 64), (24, 32), (9, 9)]


class Mixed:
    """Scenes of several sizes."""

    num_classes, classes = 3, ("a", "b", "c")

    def __len__(self):
        return len(SIZES)

    def __getitem__(self, i):
        return Shapes(length=len(self), size=SIZES[i], num_classes=3)[i]


@pytest.fixture(scope="module")
def model():
    mf.manual_seed(0)
    model = models.build("fcn8s_mini", num_classes=3, width=0.3)
    fit(model, Loader(Mixed(), 4), epochs=3)
    return model


def test_measures_are_those_of_each_picture_by_itself(model):
    alone = ConfusionMatrix(3)
    for i in range(len(SIZES)):
        image, label = Mixed()[i]
        alone.update(label, model.predict(image))
    results = [measure(model, Loader(Mixed(), n)) for n in (1, 2, 3, 8, 11)]
    results += [measure(model, Mixed()), measure(model, Loader(Mixed(), 4, shuffle=True, augment=Augment(jitter=0.4)))]
    results.append(measure(model, Loader(Mixed(), 4, drop_last=True)))
    assert {loss for _, loss in results} == {results[0][1]}
    for confusion, _ in results:
        assert (confusion.matrix == alone.matrix).all()


def test_the_loss_is_the_mean_over_all_labelled_pixels(model):
    total = labelled = 0
    for i in range(len(SIZES)):
        image, label = Mixed()[i]
        with mf.no_grad():
            scores = model.eval()(mf.Tensor(model.preprocessing(image)))
        total += mf.ops.cross_entropy(scores, label[None]).item()
        labelled += int((label != 255).sum())
    assert measure(model, Mixed())[1] == pytest.approx(total / labelled, rel=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_ranks_share_the_same_batches(monkeypatch, size):
    """Eleven images in chunks of 4: the ranks together have the batches of one process, each batch on one rank."""
    monkeypatch.setattr(loading, "GROUP", 4)

    def batches(rank):
        return [(first, images, labels) for first, images, labels in Loader(Mixed(), 7).alike(rank)]

    expected = {first: labels for first, _, labels in batches(loading.parallel.ALONE)}
    assert sum(map(len, expected.values())) == 11 and len(expected) < 11
    found = [batch for batches_of_rank in Threads(size).run(batches) for batch in batches_of_rank]
    assert sorted(first for first, *_ in found) == sorted(expected)
    for first, images, labels in found:
        assert (labels == expected[first]).all() and images.shape == (*labels.shape, 3)


def test_a_batch_of_large_pictures_is_one_picture():
    class Large(Mixed):
        def __getitem__(self, i):
            return np.zeros((300, 400, 3), np.uint8), np.zeros((300, 400), np.uint8)

    assert [len(labels) for _, _, labels in Loader(Large(), 8).alike(loading.parallel.ALONE)] == [1] * 11
    tiles = Shapes(length=20, size=(128, 128))
    assert [len(labels) for _, _, labels in Loader(tiles, 3).alike(loading.parallel.ALONE)] == [8, 8, 4]


@pytest.fixture(scope="module")
def mixed_run(tmp_path_factory):
    base = tmp_path_factory.mktemp("mixed")
    for kind in ("images", "masks"):
        for split in ("train", "val"):
            (base / "data" / split / kind).mkdir(parents=True)
    for i in range(len(SIZES)):
        image, label = Mixed()[i]
        for split in ("train", "val"):
            Image.fromarray(image).save(base / f"data/{split}/images/{i}.png")
            save_mask(base / f"data/{split}/masks/{i}.png", label)
    flags = ["--width", "0.2", "--epochs", "2", "--batch-size", "4"]
    assert train.main([*flags, "--root", str(base / "data"), "--out", str(base / "run")]) == 0
    return base / "run"


def test_evaluate_answers_what_the_run_logged_to_the_last_digit(mixed_run, tmp_path):
    assert evaluate.main([str(mixed_run), "--json", str(tmp_path / "m.json")]) == 0
    expected = json.loads((mixed_run / "metrics.json").read_text(encoding="utf-8"))
    del expected["header"]
    found = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert {name: found[name] for name in expected} == expected
    last = (mixed_run / "log.csv").read_text(encoding="utf-8").splitlines()[-1].split(",")
    assert float(last[5]) == expected["mean_iu"]


@mpi
def test_evaluate_on_ranks_answers_the_same_to_the_last_digit(mixed_run, monkeypatch):
    """All processes have the same number of threads, because BLAS adds in another order on two threads than on one."""
    monkeypatch.setenv("MINIFCN_THREADS", "1")
    answers = [launch(ranks, "-m", "minifcn.evaluate", mixed_run, "--json", "-") for ranks in (1, 2, 3)]
    assert all(answer.returncode == 0 for answer in answers), answers
    one, two, three = (json.loads(answer.stdout) for answer in answers)
    assert one == two == three
    expected = json.loads((mixed_run / "metrics.json").read_text(encoding="utf-8"))
    assert all(one[name] == expected[name] for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu"))
    assert one["loss"] == pytest.approx(expected["loss"], rel=1e-6)
