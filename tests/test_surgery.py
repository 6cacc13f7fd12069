"""Net surgery: making classifiers convolutional, transplanting weights, folding batch norm."""

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn import nn
from minifcn.nn.surgery import convolutionalize, fold_batchnorm, transplant


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


@pytest.mark.paper
def test_weights_move_by_name_and_the_report_says_what_became_of_each():
    mf.manual_seed(0)
    donor = mf.models.vgg16(width=0.02, num_classes=5)
    receiver = mf.models.fcn8s_vgg16(width=0.02, num_classes=5)
    report = transplant(donor, receiver)
    assert report.reshaped == ["fc6.weight", "fc7.weight"]
    assert report.unused == ["fc8.weight", "fc8.bias"]
    assert len(report.copied) == 26 + 2
    assert [n for n in report.kept if "upscore" not in n] == [
        "score_fr.weight", "score_fr.bias", "score_pool4.weight", "score_pool4.bias", "score_pool3.weight",
        "score_pool3.bias",
    ]  # fmt: skip
    np.testing.assert_array_equal(receiver.fc6.weight.data.ravel(), donor.fc6.weight.data.ravel())
    assert "reshaped     2  fc6.weight, fc7.weight" in str(report)


@pytest.mark.paper
def test_early_fusion_starts_its_depth_filters_at_the_mean_of_the_colour_filters():
    mf.manual_seed(0)
    donor, receiver = mf.models.vgg16(width=0.02), mf.models.fcn32s_nyud_rgbd(width=0.02)
    report = transplant(donor, receiver, rename=lambda n: n.replace("conv1_1.", "conv1_1_bgrd."))
    assert report.widened == ["conv1_1_bgrd.weight"]
    w = receiver.conv1_1_bgrd.weight.data
    np.testing.assert_array_equal(w[:, :3], donor.conv1_1.weight.data)
    np.testing.assert_allclose(w[:, 3], w[:, :3].mean(axis=1), rtol=1e-6)


def test_only_the_images_layer_is_widened():
    narrow, wide = (nn.Sequential(conv1=nn.Conv2d(3, n, 3), conv2=nn.Conv2d(n, 5, 3)) for n in (4, 6))
    report = transplant(narrow, wide)
    assert (report.copied, report.widened) == (["conv2.bias"], [])
    assert report.unused == ["conv1.weight", "conv1.bias", "conv2.weight"]


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
