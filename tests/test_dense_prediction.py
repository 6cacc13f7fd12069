"""Other ways to compute a dense output: arguments, results and errors (tests/paper tests the identities)."""

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn import nn
from minifcn.models.dense_prediction import macs, patchwise, rarefy, shift_and_stitch


def net(**more):
    mf.manual_seed(0)
    layers = dict(conv1=nn.Conv2d(2, 3, 3), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2), score=nn.Conv2d(3, 4, 2))
    return nn.Sequential(**layers, **more)


def test_tensors_and_arrays_in_arrays_out_of_the_nets_precision():
    x = normal((2, 2, 9, 11), dtype=np.float32)
    for dense in (shift_and_stitch, patchwise):
        y = dense(net(), mf.Tensor(x, requires_grad=True))
        assert type(y) is np.ndarray and y.dtype == np.float32
        assert (dense(net(), x) == y).all()
    assert shift_and_stitch(net(), x).shape == (2, 4, 4, 6)
    assert patchwise(net(), x).shape == net()(x).shape == (2, 4, 2, 3)


def test_what_a_mode_does_is_evaluation_and_the_mode_stays():
    x, model = normal((1, 2, 9, 9), dtype=np.float32), net(drop=nn.Dropout(0.5))
    for dense in (shift_and_stitch, patchwise):
        assert (dense(model, x) == dense(model, x)).all()
    assert model.training
    dense = rarefy(model).eval()
    assert model.training and not dense.training
    assert not rarefy(dense).training


def test_strides_and_windows_need_not_be_square():
    model = nn.Sequential(nn.Conv2d(1, 2, (3, 1), (1, 3)), nn.AvgPool2d((1, 2), (2, 1))).to(dtype="float64")
    x = normal((1, 1, 8, 13))
    assert shift_and_stitch(model, x).shape == (1, 2, 6, 10)
    np.testing.assert_allclose(shift_and_stitch(model, x), rarefy(model)(x).numpy(), rtol=1e-12)
    np.testing.assert_allclose(patchwise(model, x), model(x).numpy(), rtol=1e-12)


def test_a_pooling_needs_no_parameters_to_be_stitched():
    x = normal((1, 1, 7, 7))
    np.testing.assert_array_equal(shift_and_stitch(nn.MaxPool2d(2), x), nn.MaxPool2d(2, 1)(x).numpy())
    np.testing.assert_array_equal(patchwise(nn.MaxPool2d(2), x), nn.MaxPool2d(2)(x).numpy())


def test_a_net_of_stride_one_is_dense_already():
    model, x = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU()), normal((1, 1, 5, 6), dtype=np.float32)
    np.testing.assert_array_equal(shift_and_stitch(model, x), model(x).numpy())


def test_branches_inside_are_no_obstacle_to_stitching():
    """Every net whose outputs have a position can be stitched, also if it is no Sequential."""
    inner = nn.Branches(nn.Conv2d(3, 2, 1), nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()))
    x = normal((1, 2, 12, 12), dtype=np.float32)
    model = nn.Sequential(net(), nn.Conv2d(4, 3, 1), inner)
    y = shift_and_stitch(model, x)
    np.testing.assert_allclose(y[:, :, ::2, ::2], model(x).numpy(), rtol=1e-4, atol=1e-5)


def test_a_caffenet_of_a_tenth_of_its_width_rarefied_and_cut_up():
    """A network of the paper: overlapping ceil-mode poolings, groups, local response norms, fc6 as a 6×6 kernel."""
    mf.manual_seed(0)
    classifier = nn.surgery.convolutionalize(mf.models.caffenet(width=0.1, num_classes=5).eval())
    x = normal((1, 3, 227, 259), dtype=np.float32)
    with mf.no_grad():
        whole, every = classifier(x).numpy(), rarefy(classifier)(x).numpy()
    assert whole.shape == (1, 5, 1, 2) and every.shape == (1, 5, 1, 33)
    np.testing.assert_allclose(every[..., ::32], whole, rtol=1e-3, atol=1e-4)
    native = x[..., :227].copy()
    np.testing.assert_allclose(patchwise(classifier, native), classifier(native).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name, ratio", [("caffenet", 7.77), ("vgg16", 17.28)])
def test_multiply_adds_of_the_models_by_name(name, ratio):
    with mf.shapes_only():
        classifier = getattr(mf.models, name)()
        whole, patches = macs(nn.surgery.convolutionalize(classifier), 500)
    assert patches / whole == pytest.approx(ratio, abs=5e-3)


def test_refusals_of_stitching_and_cutting():
    x = normal((1, 2, 9, 9), dtype=np.float32)
    with pytest.raises(ValueError, match="at least 4×4, the window of one output of this net, got 3×9"):
        shift_and_stitch(nn.Sequential(nn.Conv2d(2, 2, 1), nn.MaxPool2d(4, ceil_mode=True)), x[:, :, :3])
    for dense in (shift_and_stitch, patchwise):
        with pytest.raises(ValueError, match=r"no output for images of shape \(1, 2, 5, 9\): .* does not fit"):
            dense(net(), x[:, :, :5])
    upsampling = net(up=nn.ConvTranspose2d(4, 4, 4, 2))
    for dense in (shift_and_stitch, patchwise):
        with pytest.raises(mf.GeometryError, match="upsampled"):
            dense(upsampling, x)
        with pytest.raises(mf.GeometryError, match="no position"):
            dense(net(flat=nn.Flatten()), x)
        with pytest.raises(ValueError, match=r"a single image is x\[None\]"):
            dense(net(), x[0])
    with pytest.raises(ValueError, match=r"cannot be centred on an output.* one larger or smaller"):
        patchwise(net(), x, size=7)
    with pytest.raises(ValueError, match="gives 2×2 outputs instead of one: give the size 6×6"):
        patchwise(net(), x, size=8)


@pytest.mark.parametrize(
    "layer, said",
    [
        (nn.Linear(4, 2), r"cannot rarefy last \(Linear\).*convolutionalize"),
        (nn.Flatten(), "has one input size"),
        (nn.ConvTranspose2d(4, 4, 2), "replaces upsampling"),
        (nn.GlobalAvgPool2d(), "give a net of convolutions, poolings"),
    ],
)
def test_refusals_of_rarefaction_name_the_layer(layer, said):
    with pytest.raises(TypeError, match=said):
        rarefy(net(inner=nn.Sequential(last=layer)))
    with pytest.raises(TypeError, match=r"an nn\.Sequential, not Conv2d"):
        rarefy(nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize("name", ["googlenet", "resnet18"])
def test_blocks_with_several_paths_are_rarefied_along_each(name):
    """Every f-th output of the rarefied net equals an output of the net, also at the border: padding is scaled, too."""
    mf.manual_seed(0)
    trunk = mf.models.CLASSIFIERS[name](num_classes=1, width=0.05).trunk(pad=3).eval()
    x = normal((1, 3, 125, 125), dtype=np.float32)  # a size at which no pooling window is clipped
    old, new = trunk(x).numpy(), rarefy(trunk)(x).numpy()
    every = new[:, :, ::32, ::32]
    h = min(old.shape[2], every.shape[2])
    assert h >= 3
    np.testing.assert_allclose(every[:, :, :h, :h], old[:, :, :h, :h], rtol=1e-3, atol=1e-4 * np.abs(old).max())
