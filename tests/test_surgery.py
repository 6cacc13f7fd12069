"""Net surgery: making classifiers convolutional, transplanting weights, folding batch norm."""

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn import nn
from minifcn.data.transforms import CAFFE, Preprocessing
from minifcn.nn.surgery import convolutionalize, fold_batchnorm, fold_preprocessing, transplant


def randomised(model, seed=0):
    """Give every parameter and statistic of a model a random value."""
    rng = np.random.default_rng(seed)
    for name, array in model.state_dict().items():
        low, high = (0.5, 1.5) if "var" in name else (-0.5, 0.5)
        values = rng.uniform(low, high, array.shape)
        array[...] = values if array.ndim == 1 else array + 0.1 * values
    return model


@pytest.mark.paper
@pytest.mark.parametrize("name", mf.models.CLASSIFIERS)
def test_a_classifier_and_its_convolution_agree_at_the_native_size(name):
    mf.manual_seed(0)
    classifier = mf.models.CLASSIFIERS[name](num_classes=7, width=0.05).eval()
    fully = convolutionalize(classifier, classifier.input_size, classifier.in_channels)
    x = normal((2, classifier.in_channels, classifier.input_size, classifier.input_size), 1, np.float32)
    expected, y = classifier(x).numpy(), fully(x).numpy()
    assert y.shape == (2, 7, 1, 1)
    np.testing.assert_allclose(y[:, :, 0, 0], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    larger = classifier.input_size + 64
    assert fully(normal((1, classifier.in_channels, larger, larger), 2, np.float32)).shape[2] > 1


@pytest.mark.paper
@pytest.mark.parametrize("name", ["vgg16", "resnet18", "efficientnet_lite0"])
def test_a_cell_that_sees_the_image_alone_equals_the_net_on_what_it_sees(name):
    """The layers of these nets pad.  What a cell sees is cut out at a multiple of the stride, the grid of the units."""
    mf.manual_seed(0)
    classifier = randomised(mf.models.CLASSIFIERS[name](num_classes=3, width=0.05)).eval().to(dtype="float64")
    fully = convolutionalize(classifier)
    with mf.no_grad():
        with mf.shapes_only():
            probe = mf.Tensor(np.broadcast_to(0.0, (1, 3, 500, 500)))
            field = mf.geometry.receptive_field(fully(probe), probe)
        (jump, _), (padding, _) = field.jump, field.padding
        jump, first = int(jump), -(-padding // int(jump))  # the first cell that sees no padding
        side = (first + 1) * jump - padding + field.size[0]  # such that cell first + 1 sees none either
        image = mf.Tensor(normal((1, 3, side, side)))
        whole = fully(image)
        seen = mf.geometry.region(whole, image, (first + 1, first + 1))
        assert seen.size == field.size and seen.bottom == side
        cut = fully(image.data[..., jump:, jump:]).numpy()[0]
    whole = whole.numpy()[0, :, 1:, 1:][:, : cut.shape[1], : cut.shape[2]]
    difference = np.abs(whole - cut).max(0) / np.abs(whole).max()
    assert difference[first, first] < 1e-12
    assert difference[0, 0] > 1e-9  # this cell sees zeros in the cut where the image has more pixels


def test_surgery_shares_arrays_and_keeps_names_modes_and_rates():
    classifier = mf.models.lenet_caffe().eval()
    classifier.ip1.weight.lr_mult = 3.0
    fully = convolutionalize(classifier, 28, 1)
    assert [n for n, _ in fully.named_parameters()] == [n for n, _ in classifier.named_parameters()]
    assert fully.ip1.weight.shape == (500, 50, 4, 4)
    assert fully.ip1.weight.lr_mult == 3.0 and not fully.training
    assert np.shares_memory(fully.ip1.weight.data, classifier.ip1.weight.data)
    assert fully.ip1.bias is classifier.ip1.bias


@pytest.mark.paper
def test_tensorflows_flattening_needs_a_transposition():
    """TensorFlow flattens (h, w, C), not (C, h, w), so the kernel is W.reshape(O, h, w, C).transpose(0, 3, 1, 2)."""
    x, w = normal((1, 3, 4, 5)), normal((6, 4 * 5 * 3), 1)
    expected = w @ x[0].transpose(1, 2, 0).ravel()
    kernel = w.reshape(6, 4, 5, 3).transpose(0, 3, 1, 2).copy()
    np.testing.assert_allclose(mf.ops.conv2d(x, kernel).numpy().ravel(), expected, rtol=1e-12)


def test_what_cannot_be_convolutionalized_is_said():
    with pytest.raises(ValueError, match=r"fc reads maps of .* put a Flatten before"):
        convolutionalize(nn.Sequential(conv=nn.Conv2d(3, 2, 3), fc=nn.Linear(8, 2)), 5)
    with pytest.raises(ValueError, match="without parameters"):
        convolutionalize(nn.Sequential(relu=nn.ReLU()), 5)
    with pytest.raises(
        ValueError, match=r"c5 reads 400 features, got 784: give images of the net's size, or .* nn.surgery"
    ):
        mf.models.lenet()(np.zeros((1, 1, 40, 40), np.float32))
    odd = nn.Sequential(flatten=nn.Flatten(), conv=nn.Conv2d(48, 4, 1), fc=nn.Linear(4, 2))
    with pytest.raises(ValueError, match="conv is a Conv2d that reads flattened maps"):
        convolutionalize(odd, 4)
    with pytest.raises(ValueError, match="size of this net's images is not known: give input_size"):
        convolutionalize(odd)
    with pytest.raises(ValueError, match="c5 reads 400 features, but images of input_size give 784"):
        convolutionalize(mf.models.lenet(), 40)


def test_rows_within_a_classifier_are_looked_into():
    mf.manual_seed(0)
    features = nn.Sequential(conv=nn.Conv2d(3, 4, 3), relu=nn.ReLU(), pool=nn.MaxPool2d(2))
    top = nn.Sequential(flatten=nn.Flatten(), fc1=nn.Linear(36, 5), relu=nn.ReLU(), fc2=nn.Linear(5, 2))
    classifier = nn.Sequential(features=features, classifier=top)
    fully = convolutionalize(classifier, 8)
    assert fully.features is features and fully.classifier.fc1.weight.shape == (5, 4, 3, 3)
    x = normal((2, 3, 8, 8), 1, np.float32)
    np.testing.assert_allclose(fully(x).numpy()[:, :, 0, 0], classifier(x).numpy(), rtol=1e-5)
    assert fully(normal((1, 3, 12, 10), 1, np.float32)).shape == (1, 2, 3, 2)
    mean = nn.Sequential(
        conv=nn.Conv2d(3, 4, 3), top=nn.Sequential(nn.GlobalAvgPool2d(), nn.Flatten(), nn.Linear(4, 2))
    )
    np.testing.assert_allclose(convolutionalize(mean, 8)(x).numpy()[:, :, 0, 0], mean(x).numpy(), rtol=1e-5, atol=1e-7)


def test_what_is_frozen_stays_frozen_and_layers_stay_in_their_modes():
    classifier = mf.models.vgg16(width=0.02, batch_norm=True)
    classifier.fc6.weight.freeze()
    classifier.conv1_1_bn.eval()
    trunk = classifier.trunk()
    assert not trunk.fc6.weight.requires_grad and trunk.fc7.weight.requires_grad
    assert trunk.training and trunk.conv2_1_bn.training and not trunk.conv1_1_bn.training
    fully = convolutionalize(classifier)
    assert [m for m in fully.modules() if not m.training] == [classifier.conv1_1_bn]


@pytest.mark.paper
def test_weights_move_by_name_and_the_report_says_what_became_of_each():
    mf.manual_seed(0)
    donor = mf.models.vgg16(width=0.02, num_classes=5)
    receiver = mf.models.fcn8s_vgg16(width=0.02, num_classes=5)
    report = transplant(donor, receiver)
    assert list(report.reshaped) == ["fc6.weight", "fc7.weight"]
    assert list(report.dropped) == ["fc8.weight", "fc8.bias"]
    assert len(report.copied) == 26 + 2
    assert [n for n in report.left if "upscore" not in n] == [
        "score_fr.weight", "score_fr.bias", "score_pool4.weight", "score_pool4.bias", "score_pool3.weight",
        "score_pool3.bias",
    ]  # fmt: skip
    np.testing.assert_array_equal(receiver.fc6.weight.data.ravel(), donor.fc6.weight.data.ravel())
    assert "reshaped     2  fc6.weight, fc7.weight" in str(report)


@pytest.mark.paper
def test_early_fusion_starts_its_depth_filters_at_the_mean_of_the_colour_filters():
    mf.manual_seed(0)
    donor, receiver = mf.models.vgg16(width=0.02), mf.models.fcn32s_nyud_rgbd(width=0.02)
    report = transplant(donor, receiver, lambda n: n.replace("conv1_1.", "conv1_1_bgrd."), widen="conv1_1_bgrd")
    assert report.widened == {"conv1_1_bgrd.weight": "(1, 3, 3, 3) → (1, 4, 3, 3)"}
    w = receiver.conv1_1_bgrd.weight.data
    np.testing.assert_array_equal(w[:, :3], donor.conv1_1.weight.data)
    np.testing.assert_allclose(w[:, 3], w[:, :3].mean(axis=1), rtol=1e-6)


def test_only_the_layer_that_is_asked_for_is_widened():
    narrow, wide = (nn.Sequential(conv1=nn.Conv2d(n, 4, 3), conv2=nn.Conv2d(4, n, 3)) for n in (3, 5))
    assert not transplant(narrow, wide).widened
    assert list(transplant(narrow, wide, widen=True).widened) == ["conv1.weight"]
    assert list(transplant(narrow, wide, widen="conv1").widened) == ["conv1.weight"]
    assert not transplant(narrow, wide, widen="conv2").widened  # it has further outputs, not inputs
    with pytest.raises(ValueError, match="widen is 'conv9': give the name of a convolution"):
        transplant(narrow, wide, widen="conv9")


def test_the_report_says_of_every_tensor_what_became_of_it_and_why():
    donor = nn.Sequential(conv1=nn.Conv2d(3, 4, 3), fc=nn.Linear(8, 2), old=nn.Linear(2, 2, bias=False))
    receiver = nn.Sequential(conv1=nn.Conv2d(5, 4, 3), fc=nn.Conv2d(2, 2, 2), new=nn.Scale(2, 1.0))
    before = {name: array.copy() for name, array in receiver.state_dict().items()}
    expected = [
        "copied    conv1.bias (4,)", "copied    fc.bias (2,)", "reshaped  fc.weight (2, 8) → (2, 2, 2, 2)",
        "dropped   conv1.weight (4, 3, 3, 3): does not fit (4, 5, 3, 3)",
        "dropped   old.weight (2, 2): no tensor of that name",
        "left      conv1.weight (4, 5, 3, 3): the source's is (4, 3, 3, 3)",
        "left      new.weight (2,): nothing of that name in the source",
    ]  # fmt: skip
    assert transplant(donor, receiver, dry=True).lines() == expected
    assert all((before[name] == array).all() for name, array in receiver.state_dict().items())
    assert transplant(donor, receiver).lines() == expected
    excluded = transplant(donor, receiver, {"fc.weight": "fc.weight", "old.weight": "fc.weight"}.get)
    assert excluded.dropped["conv1.bias"] == "(4,): excluded"
    assert (
        transplant({"a\n\x1b[2J": np.ones(3)}, receiver).lines()[0] == "dropped   a??[2J (3,): no tensor of that name"
    )
    again = transplant({"a": np.ones(2), "b": np.ones(2)}, receiver, lambda name: "new.weight")
    assert again.dropped == {"b": "(2,): another array was copied into new.weight"}


def test_weights_bring_their_preprocessing_if_the_first_kernel_is_theirs():
    donor, receiver, other = (mf.models.fcn8s_mini(num_classes=2, width=w) for w in (0.1, 0.1, 0.2))
    donor.preprocessing = CAFFE
    transplant(donor, receiver)
    transplant(donor, other)
    assert receiver.preprocessing == CAFFE and other.preprocessing == Preprocessing()


@pytest.mark.parametrize("new", [Preprocessing("RGB", (90.0, 10.0, 200.0), (0.5, 0.1, 0.2)), CAFFE, Preprocessing()])
def test_a_preprocessing_is_folded_into_the_first_layer(new):
    """The same scores of a raw image, in the interior; everywhere if the padding has the same colour."""
    mf.manual_seed(0)
    old = Preprocessing("BGR", (100.0, 110.0, 120.0), (0.01, 0.02, 0.03))
    net = randomised(nn.Sequential(conv1=nn.Conv2d(3, 4, 3, padding=2), conv2=nn.Conv2d(4, 2, 1))).to(dtype="float64")
    image = np.random.default_rng(0).integers(0, 256, (2, 9, 11, 3), np.uint8)
    expected = net(old(image).astype(float)).numpy()
    fold_preprocessing(net, new, old)
    got = net(new(image).astype(float)).numpy()
    np.testing.assert_allclose(got[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], rtol=1e-4, atol=1e-4)
    assert (
        np.abs(got - expected).max() > 0.01
    )  # the border reads padding, which was (100, 110, 120) and is another grey
    fold_preprocessing(net, Preprocessing("RGB", new.mean[:: 1 if new.order == "RGB" else -1]), new)
    same = net(Preprocessing("RGB", new.mean[:: 1 if new.order == "RGB" else -1])(image).astype(float)).numpy()
    np.testing.assert_allclose(same, got, rtol=1e-4, atol=1e-4)


def test_a_mean_needs_a_bias_to_be_folded_into():
    model = mf.models.fcn8s_mini(num_classes=2, width=0.1)
    with pytest.raises(ValueError, match=r"has no bias: fold_batchnorm gives it one, .* mean \(127.5, 127.5, 127.5\)"):
        fold_preprocessing(model, CAFFE)
    fold_preprocessing(model, Preprocessing("BGR"))
    assert model.preprocessing.order == "BGR"
    with pytest.raises(ValueError, match="reads 4 channels; a preprocessing is for three"):
        fold_preprocessing(mf.models.fcn32s_nyud_rgbd(width=0.02), CAFFE)


def test_one_donor_serves_both_streams():
    mf.manual_seed(0)
    donor, receiver = mf.models.vgg16(width=0.02), mf.models.fcn32s_nyud_late(width=0.02)
    for suffix in ("color", "hha"):
        transplant(donor, receiver, rename=lambda n, s=suffix: n.replace(".", s + ".", 1))
    state = receiver.state_dict()
    for layer in ("conv1_1", "conv5_3"):
        np.testing.assert_array_equal(state[f"{layer}color.weight"], state[f"{layer}hha.weight"])
    assert {"score_frcolor.weight", "score_frhha.weight"} <= state.keys()


def over_a_norm():
    """An FCN in which the last map of the trunk and the map of the skip are outputs of batch norm."""
    layers = {}
    for i in range(1, 3):
        layers |= {f"conv{i}": nn.Conv2d(1 + 2 * i, 5, 3, padding=1), f"pool{i}": nn.MaxPool2d(2)}
        layers |= {f"mix{i}": nn.Conv2d(5, 3 + 2 * i, 1), f"bn{i}": nn.BatchNorm2d(3 + 2 * i)}
    layers["conv2"] = nn.Conv2d(5, 5, 3, padding=1)
    return mf.models.fcn(mf.models.Trunk(layers, {2: "bn1"}), stride=2, num_classes=3)


@pytest.mark.parametrize(
    "build",
    [
        lambda: mf.models.fcn8s_mini(num_classes=3, width=0.2),
        lambda: mf.models.fcn8s_vgg16(num_classes=3, width=0.02, batch_norm=True, image_size=40),
        lambda: mf.models.fcn_resnet50(num_classes=3, width=0.1),
        lambda: convolutionalize(mf.models.resnet18(num_classes=3, width=0.1), 64),
        over_a_norm,
    ],
)
def test_folding_batch_norm_changes_nothing_but_the_number_of_layers(build):
    mf.manual_seed(0)
    model = randomised(build()).eval().to(dtype="float64")
    folded = fold_batchnorm(model)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    x = normal((1, 3, 64, 72))
    expected = model(x).numpy()
    np.testing.assert_allclose(folded(x).numpy(), expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_a_convolution_that_is_used_twice_keeps_its_norms():
    shared = nn.Conv2d(3, 3, 1)
    row = nn.Sequential(a=shared, bn1=nn.BatchNorm2d(3), b=shared, bn2=nn.BatchNorm2d(3))
    tied = nn.Sequential(c=nn.Conv2d(3, 3, 1), bn3=nn.BatchNorm2d(3))
    tied.c.weight = shared.weight
    model = randomised(nn.Sequential(row=row, tied=tied)).eval().to(dtype="float64")
    x = normal((2, 3, 5, 5))
    np.testing.assert_allclose(fold_batchnorm(model)(x).numpy(), model(x).numpy(), rtol=1e-12)


class Tied(nn.Module):
    """The decoder has the encoder's weight, as in an autoencoder."""

    def __init__(self):
        self.encoder = nn.Sequential(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4))
        self.decoder = nn.ConvTranspose2d(4, 3, 3)
        self.decoder.weight = self.encoder.conv.weight

    def forward(self, x):
        return self.decoder(self.encoder(x))


def test_a_folded_norm_does_not_change_another_layer_with_the_same_weight():
    model = randomised(Tied()).eval().to(dtype="float64")
    x = normal((2, 3, 7, 7))
    np.testing.assert_allclose(fold_batchnorm(model)(x).numpy(), model(x).numpy(), rtol=1e-9)
