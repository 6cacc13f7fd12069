"""A net with one head for each kind of label (§5, SIFT Flow): data, training, measures, predictions."""

import csv
from typing import ClassVar

import numpy as np
import pytest
from layout_folders import FOLDERS, scenes, write_list, write_mat

import minifcn as mf
from minifcn.data import Augment, Loader, Shapes, SIFTFlow
from minifcn.data.samples import sample
from minifcn.data.views import OneHead, Repeated, Resized
from minifcn.errors import UserError
from minifcn.training import loop
from minifcn.training.loop import losses_of

CLASSES = {"sem": ("background", "disc", "rectangle"), "geo": ("ground", "thing")}
GEO = np.full(256, 255, np.uint8)
GEO[:3] = 0, 1, 1
"""The geometric class of each semantic class; that of void is void."""


class Semantic(Shapes):
    """Generated scenes; some pixels are void."""

    def __init__(self, length=6, size=(24, 32)):
        super().__init__(length=length, size=size, num_classes=3)

    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        label[:3, : 4 * i] = 255
        return image, label


class Scenes(Semantic):
    """The same with two kinds of labels."""

    heads: ClassVar[dict] = CLASSES

    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        return image, np.stack([label, GEO[label]], axis=-1)


def net(kinds=("sem", "geo")):
    mf.manual_seed(0)
    count = {kind: len(CLASSES[kind]) for kind in kinds}
    model = mf.models.fcn8s_mini(num_classes=count, width=0.2, dropout=0.0, batch_norm=False)
    rng = np.random.default_rng(1)
    for name, p in model.named_parameters():
        if name.startswith("score"):  # scores that are not all alike
            p.data[...] = rng.standard_normal(p.shape) * 0.3
    return model


def rate(model, lr=1e-5):
    return mf.optim.SGD(model.parameters(), lr)


# Data.


def test_augmentation_moves_the_labels_of_all_heads_alike():
    """The semantic channel is that of a data set with semantic labels; the geometric one is still its function."""
    augment = Augment(True, 0.3, (0.6, 1.7), (20, 28), 0.2)
    both, alone = (list(Loader(d, 4, True, 3, augment)) for d in (Scenes(), Semantic()))
    for (images, labels), (expected, semantic) in zip(both, alone, strict=True):
        assert labels.shape == (*images.shape[:3], 2) and labels.dtype == np.uint8
        assert (images == expected).all() and (labels[..., 0] == semantic).all()
        assert (labels[..., 1] == GEO[semantic]).all() and set(np.unique(labels)) == {0, 1, 2, 255}
    data = Repeated(Resized(Scenes(), 48), 2)
    image, label = data[8]
    assert image.shape == (48, 64, 3) and (label[::2, ::2] == Scenes()[2][1]).all()  # the nearest pixel
    assert (OneHead(data, "geo")[8][1] == label[..., 1]).all() and OneHead(data, "geo").classes == CLASSES["geo"]


def test_pictures_of_several_sizes_are_padded_with_void_for_every_head():
    class Mixed(Scenes):
        def __getitem__(self, i):
            return tuple(a[: 24 - 4 * i] for a in super().__getitem__(i))

    ((_, labels),) = Loader(Mixed(2), 2)
    assert labels.shape == (2, 24, 32, 2) and (labels[1, 20:] == 255).all() and (labels[0, 20:] != 255).any()


@pytest.mark.parametrize(
    "heads, label, message",
    [
        (CLASSES, np.zeros((24, 32)), r"has shape \(24, 32\); expected \(H, W, 2\), .* each of sem, geo"),
        (CLASSES, np.full((24, 32, 2), 2), r"\(geo\) has a pixel labelled 2; with 2 classes, .* 0\.\.1"),
        (CLASSES, np.zeros((20, 32, 2)), "an image of 24x32 but a label of 20x32"),
        (["sem"], np.zeros((24, 32, 1)), "it must be a dict of the names of the classes"),
        (
            {"geo": CLASSES["geo"]},
            None,
            "has the classes background, disc, rectangle, but its first head geo has ground, thing",
        ),
        ({"../a": ("b", "c")}, np.zeros((24, 32, 1)), "it must be a dict of the names of the classes"),
    ],
)
def test_labels_that_do_not_fit_the_heads_are_refused(heads, label, message):
    class Wrong(Scenes):
        def __getitem__(self, i):
            return super().__getitem__(i)[0], label

    Wrong.heads = heads
    with pytest.raises(UserError, match=message):
        list(Loader(Wrong(1), 1))


@pytest.mark.layouts
def test_siftflow_gives_both_kinds_of_labels(tmp_path):
    """Files by scipy; in coast_0 the two kinds differ, and each has a void pixel of its own."""
    pytest.importorskip("scipy")
    root = FOLDERS["siftflow"](tmp_path)
    home = "spatial_envelope_256x256_static_8outdoorcategories"
    sem, geo = np.full((24, 32), 33, np.uint8), np.full((24, 32), 3, np.int16)
    sem[0, 0], geo[0, 1] = 0, -1
    write_mat(root / f"SemanticLabels/{home}/coast_0.mat", S=sem)
    write_mat(root / f"GeoLabels/{home}/coast_0.mat", S=geo)
    data = SIFTFlow(root, "train", heads="sem,geo")
    assert list(data.heads) == ["sem", "geo"] and len(data.heads["sem"]) == 33 == data.num_classes
    image, label = sample(data, 0)
    assert label.shape == (*image.shape[:2], 2) and label[0, :3].tolist() == [[255, 2], [32, 255], [32, 2]]
    assert (sample(data, 1)[1] == scenes()[1][1][..., None]).all()
    turned = SIFTFlow(root, "train", heads=("geo", "sem"))
    assert turned.classes == ("sky", "horizontal", "vertical") and (turned[0][1] == label[..., ::-1]).all()
    assert SIFTFlow(root, heads="geo")[0][1].shape == (24, 32, 1) and SIFTFlow(root)[0][1].shape == (24, 32)
    kept = data.manifest()
    assert SIFTFlow(root, samples=kept, heads="sem,geo").names == data.names
    write_mat(root / f"GeoLabels/{home}/coast_1.mat", S=geo)  # both kinds are in the fingerprint
    with pytest.raises(UserError, match=r"1 changed \(.*coast_1"):
        SIFTFlow(root, samples=kept, heads="sem,geo")
    with pytest.raises(UserError, match="heads are 'sem,depth'; choose different ones of sem, geo"):
        SIFTFlow(root, heads="sem,depth")
    (root / f"GeoLabels/{home}/coast_9.mat").unlink()
    with pytest.raises(UserError, match=r"test\.txt names images that are not there \(coast_9\)"):
        SIFTFlow(root, heads="sem,geo")
    write_list(root / "test.txt", ["coast_8"])
    with pytest.warns(match=r"1 names lack an image or a label, and are not used \(coast_9\)"):
        assert len(SIFTFlow(root, heads="sem,geo")) == 9


# Training.


@pytest.mark.torch
@pytest.mark.parametrize("reduction", ["sum", "valid"])
def test_a_step_follows_the_gradient_of_pytorchs_sum_of_losses(reduction):
    """PyTorch's gradients of the two losses with respect to the scores, added up by this net's backward pass."""
    torch = pytest.importorskip("torch")
    model, data = net(), Scenes(4)
    weights = {"sem": np.array([0.5, 1, 2], np.float32), "geo": np.array([1, 3], np.float32)}
    ((images, labels),) = Loader(data, 4)
    x = mf.Tensor(model.preprocessing(images))
    outputs = {kind: model.only(kind)(x) for kind in model.kinds}  # two graphs, and two backward passes
    leaves = {kind: torch.tensor(y.data, dtype=torch.float64, requires_grad=True) for kind, y in outputs.items()}
    total = 0
    for k, (kind, leaf) in enumerate(leaves.items()):
        target, w = torch.tensor(labels[..., k].astype(np.int64)), torch.tensor(weights[kind], dtype=torch.float64)
        summed = torch.nn.functional.cross_entropy(leaf, target, w, ignore_index=255, reduction="sum")
        total = total + (summed if reduction == "sum" else summed / (target != 255).sum())
    total.backward()
    for kind, y in outputs.items():
        y.backward(leaves[kind].grad.numpy().astype(np.float32))
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    expected = {name: p.grad.copy() for name, p in model.named_parameters() if p.requires_grad}
    lr = 1e-6 if reduction == "sum" else 1e-2
    mf.fit(model, Loader(data, 4), None, mf.optim.SGD(model.parameters(), lr), reduction=reduction, weight=weights)
    for name, p in model.named_parameters():
        if name in expected:
            step = (before[name] - p.data) / (lr * p.lr_mult)
            scale = np.abs(expected[name]).max()
            np.testing.assert_allclose(step, expected[name], rtol=0, atol=2e-3 * scale + 1e-6, err_msg=name)


def log(folder):
    with open(folder / "log.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_hand(model, data, kind):
    """The confusion matrix and the mean loss of one head, pixel by pixel."""
    k, one = list(data.heads).index(kind), model.only(kind)
    count, losses = np.zeros([len(data.heads[kind])] * 2, int), []
    for i in range(len(data)):
        image, label = data[i]
        p = one.predict_proba(image)
        for (y, x), truth in np.ndenumerate(label[..., k]):
            if truth != 255:
                count[truth, p[:, y, x].argmax()] += 1
                losses.append(-np.log(max(p[truth, y, x], 1e-30)))
    return count, np.mean(losses)


def test_every_head_is_validated_with_its_own_confusion_matrix():
    model, data = net(), Scenes(3, (12, 16))
    t = mf.fit(model, Scenes(4), data, rate(model))
    for kind, begin in (("sem", ""), ("geo", "geo_")):
        count, loss = by_hand(model, data, kind)
        hit, true, predicted = np.diag(count), count.sum(1), count.sum(0)
        iu = hit / (true + predicted - hit)
        row = {name.removeprefix(begin): value for name, value in t.rows[-1].items() if name.startswith(begin)}
        assert row["pixel_accuracy"] == pytest.approx(hit.sum() / true.sum())
        assert row["mean_accuracy"] == pytest.approx(np.mean(hit / true))
        assert row["mean_iu"] == pytest.approx(np.mean(iu)) and row["fw_iu"] == pytest.approx(
            (true * iu).sum() / true.sum()
        )
        assert row["val_loss"] == pytest.approx(loss, rel=1e-5)
    assert t.rows[-1]["mean_iu"] != t.rows[-1]["geo_mean_iu"]


def test_the_training_loss_of_every_head_is_logged_per_pixel():
    model, data = net(), Scenes(4)
    t = mf.fit(model, Loader(data, 4), None, rate(model, 0.0))
    for kind, begin in (("sem", ""), ("geo", "geo_")):
        assert t.rows[0][f"{begin}loss"] == pytest.approx(by_hand(model, data, kind)[1], rel=1e-5)


def test_the_order_of_the_heads_in_the_data_does_not_matter():
    """Void pixels differ, so the losses would be divided by each other's number of pixels."""

    class More(Scenes):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            label[10:, 20:, 1] = 255
            return image, label

    class Turned:
        num_classes, classes, palette = 2, CLASSES["geo"], np.zeros((2, 3), np.uint8)
        heads: ClassVar[dict] = dict(reversed(CLASSES.items()))

        def __init__(self, length):
            self.data = More(length)

        def __len__(self):
            return len(self.data)

        def __getitem__(self, i):
            return self.data[i][0], self.data[i][1][..., ::-1]

    rows = []
    for data in (More, Turned):
        model = net()
        rows += mf.fit(model, Loader(data(4), 4), data(2), rate(model)).rows
    assert rows[0] | {"seconds": 0} == rows[1] | {"seconds": 0}


def test_a_run_keeps_both_heads_and_continues_exactly(tmp_path):
    train, val = Scenes(6), Scenes(2)
    whole = net()
    options = dict(epochs=3, optimizer=rate(whole), schedule=mf.optim.poly, ema=0.5)
    mf.fit(whole, train, val, out=tmp_path / "whole", **options)
    part = net()

    class Stop(loop.Callback):
        def epoch_trained(self, t):
            t.stopping = t.epoch == 1

    options["optimizer"] = rate(part)
    mf.fit(part, train, val, out=tmp_path / "part", callbacks=[Stop()], **options)
    again = net()
    options["optimizer"] = rate(again)
    t = mf.fit(again, train, val, out=tmp_path / "part", resume=True, **options)
    rows = [log(tmp_path / name) for name in ("whole", "part")]
    for old, new in zip(*rows, strict=True):
        assert {**old, "seconds": 0} == {**new, "seconds": 0}
    assert {"geo_loss", "geo_val_loss", "geo_mean_iu", "geo_fw_iu", "mean_iu"} <= rows[0][0].keys() and len(t.rows) == 3
    for name, array in whole.state_dict().items():
        assert (array == again.state_dict()[name]).all(), name
    loaded = mf.models.load(tmp_path / "part")
    assert loaded.kinds == ("sem", "geo")
    image = Scenes()[5][0]
    for kind in loaded.kinds:
        assert (loaded.only(kind).predict(image) == again.only(kind).predict(image)).all()
    assert (loaded.predict(image) == loaded.only("sem").predict(image)).all()


def test_names_of_classes_of_every_head_are_kept_and_compared(tmp_path):
    model = net()
    model.classes, model.heads["geo"].classes = CLASSES["sem"], CLASSES["geo"]
    mf.fit(model, Scenes(4), None, rate(model), out=tmp_path / "run")
    loaded = mf.models.load(tmp_path / "run")
    assert (
        loaded.classes == loaded.only("sem").classes == CLASSES["sem"] and loaded.only("geo").classes == CLASSES["geo"]
    )

    class Renamed(Scenes):
        heads = CLASSES | {"geo": ("thing", "ground")}

    with pytest.raises(UserError, match=r"trained with the classes ground, thing, but .* in another order"):
        mf.fit(loaded, Renamed(4))
    again = net()
    with pytest.raises(UserError, match=r"trained with the classes ground, thing, but .* in another order"):
        mf.fit(again, Renamed(4), None, rate(again), 2, out=tmp_path / "run", resume=True)


def test_the_best_epoch_is_that_of_the_first_heads_mean_iu(tmp_path, monkeypatch):
    """The first head falls from 1 to 1/2 while the other rises from 1/2 to 1: the first epoch stays the best."""
    perfect, half = mf.metrics.ConfusionMatrix(2), mf.metrics.ConfusionMatrix(2)
    perfect.matrix[...] = [[2, 0], [0, 2]]
    half.matrix[...] = [[2, 1], [0, 1]]  # IU 2/3 and 1/2
    results = iter([perfect, half, half, perfect])
    monkeypatch.setattr(loop, "evaluate", lambda *args, **options: (next(results), 0.5))
    model = net()
    t = mf.fit(model, Scenes(4), Scenes(2), rate(model), 2, out=tmp_path / "run", patience=1)
    assert [row["mean_iu"] for row in t.rows] == pytest.approx([1, 7 / 12])
    assert [row["geo_mean_iu"] for row in t.rows] == pytest.approx([7 / 12, 1])
    _, record = mf.io.load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert record["epoch"] == 1


def test_a_run_continues_whatever_the_order_of_the_heads_is(tmp_path):
    for resume in (False, True):
        model = net(("geo", "sem"))  # and the data have sem, geo
        model.classes = CLASSES["geo"]
        for kind, head in model.heads.items():
            head.classes = CLASSES[kind]
        t = mf.fit(
            model, Scenes(4), Scenes(2), optimizer=rate(model), epochs=1 + resume, out=tmp_path / "run", resume=resume
        )
    assert len(t.rows) == 2


def test_a_data_set_with_heads_needs_no_palette():
    class Plain:
        num_classes, classes, heads = 3, CLASSES["sem"], CLASSES

        def __len__(self):
            return 4

        def __getitem__(self, i):
            return Scenes()[i]

    model = net()
    assert len(mf.fit(model, Plain(), Plain(), optimizer=rate(model), epochs=1).rows) == 1


def test_the_names_of_heads_do_not_collide_with_columns_of_the_log():
    for name in ("val", "x_val"):
        with pytest.raises(ValueError, match="not be val or end in _val"):
            mf.models.fcn8s_mini(num_classes={"sem": 3, name: 2})
    assert mf.models.fcn8s_mini(num_classes={"interval": 2}, width=0.2).kinds == ("interval",)


def test_a_net_with_one_of_the_heads_is_in_the_mode_of_the_net():
    model = net()
    assert model.only("geo").training and not model.eval().only("geo").training


def test_what_does_not_go_together_is_one_sentence():
    one = mf.models.fcn8s_mini(num_classes=3, width=0.2)
    with pytest.raises(UserError, match=r"the model has sem, geo, but the labels of .* have no names of heads: build"):
        mf.fit(net(), Semantic(4))
    with pytest.raises(UserError, match=r"the model has no names of heads, but the labels of .* have sem, geo"):
        mf.fit(one, Scenes(4))
    with pytest.raises(UserError, match=r"the model has sem, but the labels of .* have sem, geo"):
        mf.fit(net(["sem"]), Scenes(4))
    with pytest.raises(ValueError, match="this model needs a dict with an array for each of sem, geo"):
        mf.fit(net(), Scenes(4), weight=[1, 2, 3])
    with pytest.raises(ValueError, match="this model needs an array"):
        mf.fit(one, Semantic(4), weight={"sem": [1, 2, 3]})
    with pytest.raises(ValueError, match="a head's name must have letters, digits and _ only"):
        mf.models.fcn8s_mini(num_classes={"../x": 2})
    with pytest.raises(ValueError, match="there is no head 'depth': the net has the heads sem, geo"):
        net().only("depth")

    class Void(Scenes):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            label[..., 1] = 255
            return image, label

    with pytest.raises(UserError, match=r"not one pixel counted in epoch 1, because every label of geo of .* is void"):
        model = net()
        mf.fit(model, Void(4), None, rate(model))
    assert len(losses_of(net(), mf.Tensor(np.zeros((1, 3, 9, 9), np.float32)), np.zeros((1, 9, 9), int))) == 2
