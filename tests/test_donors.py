"""Weights that others trained: recognised by names and shapes, translated, and the start of a training."""

import json
import re

import numpy as np
import pytest
from strategies import normal
from tiny_run import TINY

import minifcn as mf
from minifcn import __main__, train
from minifcn.data.transforms import CAFFE, Preprocessing
from minifcn.models import recognise
from minifcn.nn.surgery import transplant

WIDTH = 1 / 32
VGG16 = {  # torchvision's numbers of the convolutions (reference §4.5)
    "conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_2": 12, "conv3_3": 14,
    "conv4_1": 17, "conv4_2": 19, "conv4_3": 21, "conv5_1": 24, "conv5_2": 26, "conv5_3": 28,
}  # fmt: skip
VGG16_BN = dict(zip(VGG16, (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)))
FULLY = {"fc6": 0, "fc7": 3, "fc8": 6}
VGG_MEAN = Preprocessing("BGR", (103.939, 116.779, 123.68), (1, 1, 1))
IMAGENET = [(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)]


def filled(model, seed=0):
    """The arrays of a model with random values, by minifcn's names."""
    arrays = {n: normal(a.shape, seed + i, np.float32) for i, (n, a) in enumerate(model.state_dict().items())}
    return {n: np.abs(a) if "var" in n else a for n, a in arrays.items()}


def vgg16(**options):
    return filled(mf.models.vgg16(width=WIDTH, num_classes=11, **options))


def torchvision(state):
    numbers = {n: f"features.{i}" for n, i in VGG16.items()} | {n: f"classifier.{i}" for n, i in FULLY.items()}
    return {f"{numbers[n.partition('.')[0]]}.{n.partition('.')[2]}": a for n, a in state.items()}


def caffe_first_format(state):
    """Blobs have four axes: (1, 1, O, inputs) and (1, 1, 1, O)."""
    return {n: a.reshape((1,) * (4 - a.ndim) + a.shape) for n, a in state.items()}


def chainer(state):
    return {n.replace(".weight", "/W").replace(".bias", "/b"): a for n, a in state.items()}


def channels_last(state):
    """Kernels (h, w, C, O), matrices (inputs, O); maps of 7×7 cells are flattened as (h, w, C)."""
    moved = {n: a.transpose(2, 3, 1, 0) if a.ndim == 4 else a.T for n, a in state.items()}
    w = state["fc6.weight"]
    moved["fc6.weight"] = w.reshape(len(w), -1, 7, 7).transpose(2, 3, 1, 0).reshape(-1, len(w))
    return moved


def keras_3(state):
    """Layers are numbered by their class."""
    layers = {n: f"conv2d_{i}" if i else "conv2d" for i, n in enumerate(VGG16)}
    layers |= {"fc6": "dense", "fc7": "dense_1", "fc8": "dense_2"}
    parts, moved = {n: n.split(".") for n in state}, channels_last(state)
    return {f"layers/{layers[a]}/vars/{int(b == 'bias')}": moved[n] for n, (a, b) in parts.items()}


def caffe_tensorflow(state):
    return {n.replace("weight", "weights").replace("bias", "biases"): a for n, a in channels_last(state).items()}


def keras(state, pattern="{0}/{0}/{1}:0", kernel="kernel", bias="bias"):
    names = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    names |= {n: f"block{n[4]}_conv{n[6]}" for n in VGG16}
    parts = {n: n.split(".") for n in state}
    moved = channels_last(state)
    return {pattern.format(names[a], kernel if b == "weight" else bias): moved[n] for n, (a, b) in parts.items()}


LAYOUTS = {
    "torchvision": (torchvision, "torchvision", None),
    "Caffe": (dict, "Caffe", VGG_MEAN),
    "Caffe's first format": (caffe_first_format, "Caffe", VGG_MEAN),
    "Chainer": (chainer, "Chainer", VGG_MEAN),
    "caffe-tensorflow": (caffe_tensorflow, "caffe-tensorflow", VGG_MEAN),
    "Keras": (keras, "Keras", VGG_MEAN),
    "Keras 1": (lambda s: keras(s, "{0}/{0}_{1}_1:0", "W", "b"), "Keras", VGG_MEAN),
    "Keras, a whole model": (lambda s: keras(s, "model_weights/{0}/{0}/{1}:0"), "Keras", VGG_MEAN),
    "Keras 3": (keras_3, "Keras", VGG_MEAN),
    "Keras 3, with names": (lambda s: keras(s, "layers/{0}/vars/{1}", "0", "1"), "Keras", VGG_MEAN),
}


@pytest.mark.parametrize("spell, origin, preprocessing", LAYOUTS.values(), ids=LAYOUTS)
def test_vgg16_is_recognised_in_every_spelling(spell, origin, preprocessing):
    state = vgg16()
    donor = recognise(dict(reversed(spell(state).items())))
    assert str(donor) == f"vgg16, named as in {origin}"
    assert preprocessing in (None, donor.preprocessing)
    assert donor.arrays.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(donor.arrays[name], array, name)
    no_top = {n: a for n, a in state.items() if n.startswith("conv")}
    assert recognise(spell(no_top | {k: state[k] for k in ("fc6.weight", "fc6.bias")})).net == "vgg16"


def test_a_layer_that_read_maps_flattened_with_channels_last_reads_ours():
    """The definition: Keras computes x.ravel() @ W of maps (h, w, C); ours is W @ x.ravel() of maps (C, h, w)."""
    state = vgg16()
    inputs = state["conv5_3.weight"].shape[0]
    x = normal((7, 7, inputs), 5)
    theirs = x.ravel() @ keras(state)["fc1/fc1/kernel:0"]
    np.testing.assert_allclose(recognise(keras(state)).arrays["fc6.weight"] @ x.transpose(2, 0, 1).ravel(), theirs)


def test_torchvisions_preprocessing_is_its_formula():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    mean, std = IMAGENET
    expected = ((image / 255 - mean) / std).transpose(2, 0, 1)
    preprocessing = recognise(torchvision(vgg16())).preprocessing
    np.testing.assert_allclose(preprocessing(image)[0], expected, atol=1e-6)


def test_the_biases_before_torchvisions_batch_norms_go_into_the_means():
    state, theirs = vgg16(batch_norm=True), {}
    for i, (layer, number) in enumerate(VGG16_BN.items()):
        theirs[f"features.{number}.weight"] = state[f"{layer}.weight"]
        bias = theirs[f"features.{number}.bias"] = normal(len(state[f"{layer}.weight"]), i, np.float32)
        for kind in ("weight", "bias", "running_mean", "running_var"):
            theirs[f"features.{number + 1}.{kind}"] = state[f"{layer}_bn.{kind}"]
        theirs[f"features.{number + 1}.num_batches_tracked"] = np.int64(7)
        state[f"{layer}_bn.running_mean"] = state[f"{layer}_bn.running_mean"] - bias  # (y + b) − μ = y − (μ − b)
    theirs |= {n.replace(f, f"classifier.{i}"): a for f, i in FULLY.items() for n, a in state.items() if f in n}
    donor = recognise(theirs)
    assert str(donor) == "vgg16 with batch norm, named as in torchvision" and donor.arrays.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(donor.arrays[name], array, name)


def test_torchvisions_googlenet_computes_the_same_in_our_convolutions():
    """Batch norm with ε = 0.001 is folded, and 3×3 kernels, padded by 1, become 5×5 ones, padded by 2."""
    state = mf.models.googlenet(width=WIDTH, num_classes=4).state_dict()
    branches = {"1x1": "1", "3x3_reduce": "2.0", "3x3": "2.1", "5x5_reduce": "3.0", "5x5": "3.1", "pool_proj": "4.1"}
    stem = {"conv1/7x7_s2": "conv1", "conv2/3x3_reduce": "conv2", "conv2/3x3": "conv3"}
    theirs = {"fc.weight": state["loss3/classifier.weight"], "fc.bias": state["loss3/classifier.bias"]}
    for name in [n.removesuffix(".weight") for n, a in state.items() if a.ndim == 4]:
        block, _, branch = name.partition(".")
        layer = stem.get(name) or f"{block.replace('_', '')}.branch{branches[branch]}"
        o, c, kh, kw = state[f"{name}.weight"].shape
        theirs[f"{layer}.conv.weight"] = normal((o, c, kh, kw) if kh < 5 or kh == 7 else (o, c, 3, 3), o, np.float32)
        for i, kind in enumerate(("weight", "bias", "running_mean", "running_var")):
            theirs[f"{layer}.bn.{kind}"] = np.abs(normal(o, i, np.float32))
    donor = recognise(theirs)
    assert donor.net == "googlenet" and {n: a.shape for n, a in donor.arrays.items()} == {
        n: a.shape for n, a in state.items()
    }
    w, (gamma, beta, mean, var) = (
        theirs["inception3a.branch3.1.conv.weight"],
        (
            theirs[f"inception3a.branch3.1.bn.{k}"][:, None, None]
            for k in ("weight", "bias", "running_mean", "running_var")
        ),
    )
    x = normal((1, w.shape[1], 6, 7), 3, np.float32)
    expected = gamma * (mf.ops.conv2d(x, w, padding=1).numpy() - mean) / np.sqrt(var + 0.001) + beta
    ours = mf.ops.conv2d(x, donor.arrays["inception_3a.5x5.weight"], donor.arrays["inception_3a.5x5.bias"], padding=2)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4, atol=1e-5)


def as_in_caffe(net, rename=lambda name: name, **options):
    """The state of one of our FCNs as Caffe stores it: interpolation has a kernel for each pair of classes."""
    state = filled(getattr(mf.models, net)(width=WIDTH, **options))
    full = {}
    for name, a in state.items():
        if name.startswith("upscore"):
            pairs = np.zeros((len(a), len(a), *a.shape[2:]), np.float32)
            pairs[range(len(a)), range(len(a))] = a[:, 0]
            a = pairs
        full[rename(name)] = a
    return state, full


def of_2014(name):
    """The layer names of the first release."""
    name = name.replace("upscore2", "score2").replace("upscore_pool4", "score4").replace("upscore8", "bigscore")
    return name.replace("score_", "score-")


SIFT_FLOW = Preprocessing("BGR", (114.578, 115.294, 108.353), (1, 1, 1))


@pytest.mark.parametrize(
    "net, rename, preprocessing",
    [
        ("fcn32s_vgg16", str, CAFFE), ("fcn16s_vgg16", str, CAFFE), ("fcn8s_vgg16", str, CAFFE),
        ("fcn8s_vgg16", of_2014, CAFFE), ("fcn8s_atonce_vgg16", str, CAFFE), ("fcn32s_alexnet", str, CAFFE),
        ("fcn16s_siftflow", str, SIFT_FLOW), ("fcn8s_siftflow", str, SIFT_FLOW), ("fcn32s_nyud_rgbd", str, None),
        ("fcn32s_nyud_late", str, None),
    ],
)  # fmt: skip
def test_released_fcns_are_recognised_and_fit_whole(net, rename, preprocessing):
    state, theirs = as_in_caffe(net, rename)
    for spell, origin in ((dict, "Caffe"), (chainer, "Chainer")):
        donor = recognise(spell(theirs))
        assert str(donor) == f"{net}, named as in {origin}" and donor.preprocessing == preprocessing
        report = transplant(donor, mf.models.build(net, width=WIDTH))
        assert len(report.copied) == len(state) and not report.dropped and not report.left
        assert all((donor.arrays[name] == array).all() for name, array in state.items())


def test_a_colour_net_for_nyud_does_not_say_whether_it_reads_colour_or_hha():
    assert recognise(as_in_caffe("fcn32s_vgg16", num_classes=40)[1]).preprocessing is None


@pytest.mark.parametrize("net", ["caffenet", "vgg19", "vgg11", "lenet_caffe"])
def test_caffes_classifiers_are_recognised(net):
    donor = recognise(filled(mf.models.CLASSIFIERS[net](width=0.1)))
    assert str(donor) == f"{net}, named as in Caffe"
    assert (donor.preprocessing is None) == (net == "lenet_caffe")


def test_bvlc_googlenet_has_slashes_in_its_names_and_two_more_classifiers():
    state = filled(mf.models.googlenet(width=WIDTH))
    theirs = {re.sub(r"^(inception_..)\.", r"\1/", name): array for name, array in state.items()}
    theirs |= {"loss1/conv.weight": np.ones((2, 3, 1, 1)), "loss1/fc.bias": np.ones(4)}
    donor = recognise(theirs)
    assert str(donor) == "googlenet, named as in Caffe" and donor.preprocessing == CAFFE
    report = transplant(donor, mf.models.googlenet(width=WIDTH))
    assert list(report.dropped) == ["loss1/conv.weight", "loss1/fc.bias"] and not report.left


def test_interpolation_between_classes_is_not_cut_down():
    _, theirs = as_in_caffe("fcn32s_vgg16")
    theirs["upscore.weight"][0, 1] = 1
    report = transplant(recognise(theirs), mf.models.fcn32s_vgg16(width=WIDTH))
    assert report.dropped == {"upscore.weight": "(21, 21, 64, 64): does not fit (21, 1, 64, 64)"}


def test_what_is_no_known_layout_is_not_recognised():
    state = vgg16()
    bare = {"features.0.weight": np.ones((4, 3, 3, 3))}
    tutorial = {"conv1.weight": np.ones((6, 3, 5, 5)), "conv2.weight": np.ones((16, 6, 5, 5)), "fc1.bias": np.ones(120)}
    damaged = [keras(state) | {"fc1/fc1/kernel:0": np.ones((13, 2))}, {"conv1/W": np.ones(3)}]
    damaged += [
        torchvision(state) | {"features.0.weight": np.ones((2, 3, 5, 5))},
        state | {"conv1-1.weight": np.ones(2)},
    ]
    damaged += [{n: a for n, a in state.items() if not re.match(r"conv[345]_3", n)}]  # VGG-13 has VGG-11's layers, too
    damaged += [keras_3(state) | {"layers/conv2d_13/vars/0": np.ones((3, 3, 16, 16))}]  # a longer net than VGG-16
    damaged += [{"conv1_1.weight": np.float32(1)}, chainer(state) | {"score_fr/W": np.float32(1)}]
    googlenet = {"inception3a.branch1.conv.weight": np.ones((2, 2, 1, 1))}
    own = mf.models.alexnet_torchvision(width=WIDTH).state_dict()
    trained_here = [mf.models.fcn8s_mini(width=0.1).state_dict(), mf.models.fcn8s_vgg16(width=WIDTH).state_dict()]
    for arrays in ({}, bare, tutorial, *damaged, googlenet, own, *trained_here):
        assert recognise(arrays) is None


def test_a_training_starts_from_torchvisions_vgg16(scenes, tmp_path, capfd):
    """13 convolutions, and fc6 and fc7 as convolutions; fc8 has no place, and the scores start at zero."""
    state = vgg16()
    np.savez(tmp_path / "vgg16.npz", **torchvision(state))
    flags = ["--root", str(scenes), "--model", "fcn8s_vgg16", "--width", str(WIDTH), "--epochs", "1", "--lr", "0"]
    flags += ["--batch-size", "3", "--out", str(tmp_path / "run")]
    assert train.main([*flags, "--init", str(tmp_path / "vgg16.npz")]) == 0
    printed = capfd.readouterr()
    start = next(line for line in printed.out.splitlines() if line.startswith("start"))
    assert "vgg16, named as in torchvision: copied 28 conv1_1.weight" in start
    assert "reshaped 2 fc6.weight, fc7.weight; dropped 2 fc8.weight, fc8.bias; left 9" in start
    assert "images: (RGB − (123.7, 116.3, 103.5)) · (0.01712, 0.01751, 0.01743)" in start
    assert "note        --init" not in printed.err
    model = mf.models.load(tmp_path / "run" / "last.safetensors")
    np.testing.assert_array_equal(model.conv5_3.weight.data, state["conv5_3.weight"])
    np.testing.assert_array_equal(model.fc6.weight.data.ravel(), state["fc6.weight"].ravel())
    assert model.preprocessing == recognise(torchvision(state)).preprocessing
    lines = (tmp_path / "run" / "init.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 28 + 2 + 2 + 9
    assert "dropped   fc8.weight (11, 128): no tensor of that name" in lines


def test_weights_with_batch_norm_need_a_model_with_batch_norm(scenes, tmp_path, refused):
    state, theirs = vgg16(batch_norm=True), {}
    for layer, number in VGG16_BN.items():
        theirs[f"features.{number}.weight"] = state[f"{layer}.weight"]
        theirs |= {
            n.replace(f"{layer}_bn", f"features.{number + 1}"): a for n, a in state.items() if f"{layer}_bn" in n
        }
    np.savez(tmp_path / "vgg16_bn.npz", **theirs)
    flags = ["--root", scenes, "--model", "fcn32s_vgg16", "--width", WIDTH, "--epochs", "1", "--batch-size", "3"]
    flags += ["--init", tmp_path / "vgg16_bn.npz", "--out", tmp_path / "run"]
    refused(train.main, *flags, match="is vgg16 with batch norm, .* fcn32s_vgg16 has no batch norm: give --batch-norm")
    assert train.main([*map(str, flags), "--batch-norm"]) == 0


def test_scores_are_taken_if_the_numbers_of_classes_agree(scenes, tmp_path, capfd):
    flags = ["--root", str(scenes), "--model", "fcn32s_vgg16", "--width", str(WIDTH), "--epochs", "1", "--lr", "0"]
    for classes, expected in ((3, "copied 32"), (21, "dropped 3 score_fr.weight, score_fr.bias, upscore.weight")):
        np.savez(tmp_path / "fcn.npz", **chainer(as_in_caffe("fcn32s_vgg16", num_classes=classes)[1]))
        out = tmp_path / f"run{classes}"
        assert train.main([*flags, "--init", str(tmp_path / "fcn.npz"), "--out", str(out)]) == 0
        assert expected in capfd.readouterr().out
        assert mf.models.load(out / "last.safetensors").preprocessing == CAFFE


def test_a_file_without_a_known_preprocessing_is_noted(scenes, tmp_path, capfd):
    state = mf.models.fcn8s_mini(num_classes=3, width=0.1).state_dict()
    np.savez(tmp_path / "own.npz", **state)
    flags = ["--root", str(scenes), *TINY, "--init", str(tmp_path / "own.npz"), "--out", str(tmp_path / "run")]
    assert train.main(flags) == 0
    assert "does not say how images were converted for its weights: if not by (RGB − (127.5" in capfd.readouterr().err


def test_the_command_lists_a_file_and_what_of_it_fits(tmp_path, capfd, refused):
    arrays = torchvision(vgg16()) | {"features.0.bias": np.float16([-2.5]), "empty": np.ones((0, 2))}
    arrays["broken"] = np.array([1, np.nan])
    np.savez(tmp_path / "vgg16.npz", **arrays)
    argv = ["weights", str(tmp_path / "vgg16.npz"), "--model", "fcn8s_vgg16", "--width", str(WIDTH)]
    assert __main__.main([*argv, "--json", str(tmp_path / "out.json")]) == 0
    out = capfd.readouterr().out
    assert "NumPy archive (npz), 34 arrays" in out and "vgg16, named as in torchvision" in out
    assert re.search(r"features.0.bias +float16 +\(1,\) +-2.5 … -2.5", out)
    assert "reshaped  fc7.weight (128, 128) → (128, 128, 1, 1)" in out
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["layout"] == "vgg16, named as in torchvision" and report["preprocessing"]["order"] == "RGB"
    assert report["arrays"][-1] == dict(name="broken", shape=[2], dtype="float64", least=None, greatest=None)
    assert report["fits"]["dropped"]["fc8.bias"] == "(11,): no tensor of that name"
    assert __main__.main([*argv[:2], "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["fits"] is None
    refused(__main__.main, "weights", tmp_path / "none.npz", match="there is no such weight file")
    refused(__main__.main, *argv[:2], "--model", "vgg17", match="there is no model 'vgg17'")
    refused(__main__.main, *argv[:2], "--model", "lenet", "--batch-norm", match="lenet cannot be built with")
