"""Whole networks equal PyTorch's: modules with torchvision's names and the same weights give the same numbers."""

import numpy as np
import pytest
from strategies import normal
from tiny_run import write_scenes
from weight_files import blob, layer

import minifcn as mf
from minifcn import nn, train
from minifcn.models import Trunk, fcn, recognise, torchvision_names
from minifcn.nn.surgery import transplant
from minifcn.training.loop import losses_of

pytestmark = pytest.mark.torch

VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]


def torch_vgg16(width=1.0):
    from torch import nn

    features, channels = [], 3
    for v in (v if v == "M" else int(v * width) for v in VGG16):
        if v == "M":
            features.append(nn.MaxPool2d(2, 2))
        else:
            features += [nn.Conv2d(channels, v, 3, padding=1), nn.ReLU(inplace=True)]
            channels = v
    wide = int(4096 * width)
    layers = [nn.Linear(channels * 49, wide), nn.ReLU(), nn.Dropout(), nn.Linear(wide, wide), nn.ReLU(), nn.Dropout()]
    return _classifier(features, [*layers, nn.Linear(wide, 1000)])


def torch_alexnet():
    from torch import nn

    features = [
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    ]  # fmt: skip
    layers = [nn.Dropout(), nn.Linear(256 * 36, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
    return _classifier(features, [*layers, nn.Linear(4096, 1000)])


def _classifier(features, layers):
    from collections import OrderedDict

    from torch import nn

    parts = dict(features=nn.Sequential(*features), flatten=nn.Flatten(), classifier=nn.Sequential(*layers))
    return nn.Sequential(OrderedDict(parts))


def torch_resnet50(dilate=(False, False, False), top=True):
    """torchvision's ResNet-50: a block's 3×3 has the stride; a stage's first block keeps the dilation before it."""
    from torch import nn

    class Bottleneck(nn.Module):
        def __init__(self, inputs, width, stride, dilation, downsample):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
            self.downsample = downsample

        def forward(self, x):
            y = self.bn1(self.conv1(x)).relu()
            y = self.bn2(self.conv2(y)).relu()
            y = self.bn3(self.conv3(y))
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
            self.maxpool, channels, dilation = nn.MaxPool2d(3, 2, 1), 64, 1
            for stage, count in enumerate((3, 4, 6, 3), start=1):
                width, stride, before = 64 * 2 ** (stage - 1), 1 if stage == 1 else 2, dilation
                if stage > 1 and dilate[stage - 2]:
                    stride, dilation = 1, dilation * 2
                down = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
                blocks = [Bottleneck(channels, width, stride, before, down)]
                channels = 4 * width
                blocks += [Bottleneck(channels, width, 1, dilation, None) for _ in range(1, count)]
                setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            if top:
                self.fc = nn.Linear(channels, 1000)

        def maps(self, x):
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            third = self.layer3(self.layer2(self.layer1(x)))
            return third, self.layer4(third)

        def forward(self, x):
            return self.fc(self.maps(x)[1].mean((2, 3)))

    return ResNet()


def torch_fcn_resnet50():
    import torch.nn.functional as F
    from torch import nn

    def head(channels):
        inner = channels // 4
        convolution = nn.Conv2d(channels, inner, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(inner), nn.ReLU(), nn.Dropout(0), nn.Conv2d(inner, 21, 1))

    class FCN(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = torch_resnet50((False, True, True), top=False)
            self.classifier, self.aux_classifier = head(2048), head(1024)

        def forward(self, x):
            third, fourth = self.backbone.maps(x)
            y = self.classifier(fourth), self.aux_classifier(third)
            return [F.interpolate(s, x.shape[2:], mode="bilinear", align_corners=False) for s in y]

    return FCN()


def spread(model):
    """Set random weights that keep the scale of the maps, and running statistics other than 0 and 1."""
    import torch

    torch.manual_seed(0)
    for name, p in model.named_parameters():
        if p.ndim > 1:
            torch.nn.init.kaiming_normal_(p)
        else:
            torch.nn.init.uniform_(p, 0.2, 0.4) if "bn3" in name else torch.nn.init.uniform_(p, 0.5, 1)
    for name, b in model.named_buffers():
        if b.dtype.is_floating_point:
            torch.nn.init.uniform_(b, 0.5, 1.5) if "var" in name else torch.nn.init.uniform_(b, -0.2, 0.2)
    return model


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def agree(ours, theirs, run_ours, run_theirs, x):
    """Assert that outputs agree to 1e-4 in float32, and outputs and all gradients to 1e-9 in float64.

    Gradients are not compared in float32: the two libraries round differently, so one of millions of units may be on
    the other side of its kink (of ReLU or a maximum), which changes the gradient.
    """
    import torch

    names = torchvision_names(ours)
    state = {n: t.numpy() for n, t in theirs.state_dict().items() if "num_batches" not in n}
    report = transplant(recognise(state), ours)
    assert not report.dropped and not report.left, report
    with mf.no_grad(), torch.no_grad():
        for y, z in zip(run_ours(mf.Tensor(x)), run_theirs(torch.tensor(x)), strict=True):
            assert distance(y.numpy(), z.numpy()) < 1e-4

    transplant(state, ours.to(dtype="float64"), rename=names.get)
    theirs.load_state_dict({n: torch.tensor(a) for n, a in state.items()}, strict=False)
    theirs.double()
    x = x.astype(np.float64)
    a, b = mf.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    loss, reference = 0, 0
    for i, (y, z) in enumerate(zip(run_ours(a), run_theirs(b), strict=True)):
        assert distance(y.numpy(), z.detach().numpy()) < 1e-9
        gy = normal(y.shape, i)
        loss, reference = loss + (y * gy).sum(), reference + (z * torch.tensor(gy)).sum()
    loss.backward()
    reference.backward()
    assert distance(a.grad, b.grad.numpy()) < 1e-9
    parameters = dict(ours.named_parameters())
    for name, p in theirs.named_parameters():
        assert distance(parameters[names[name]].grad.reshape(p.shape), p.grad.numpy()) < 1e-9, name


@pytest.mark.parametrize(
    "name, theirs", [("vgg16", torch_vgg16), ("alexnet_torchvision", torch_alexnet), ("resnet50", torch_resnet50)]
)
def test_classifiers(name, theirs):
    ours, theirs = mf.models.CLASSIFIERS[name]().eval(), spread(theirs()).eval()
    agree(ours, theirs, lambda x: [ours(x)], lambda x: [theirs(x)], normal((1, 3, 224, 224), 1, np.float32))


def test_resnet50_in_training():
    ours, theirs = mf.models.resnet50().train(), spread(torch_resnet50()).train()
    agree(ours, theirs, lambda x: [ours(x)], lambda x: [theirs(x)], normal((4, 3, 96, 96), 1, np.float32))
    after = {n: t.numpy() for n, t in theirs.named_buffers() if "num_batches" not in n}
    state = ours.state_dict()
    assert all(distance(state[n], b) < 1e-9 for n, b in after.items())


def test_fcn_resnet50_with_its_auxiliary_head():
    ours, theirs = mf.models.fcn_resnet50().eval(), spread(torch_fcn_resnet50()).eval()
    x = normal((1, 3, 97, 120), 1, np.float32)
    agree(ours, theirs, lambda x: list(ours.outputs(x).values()), theirs, x)


def test_training_with_an_auxiliary_loss_has_pytorchs_gradients():
    """FCN-2s over two poolings: the main scores have a skip, the auxiliary ones are those of the coarsest map."""
    import torch
    import torch.nn.functional as F

    mf.manual_seed(0)
    layers = dict(conv0=nn.Conv2d(3, 4, 3, padding=1), relu0=nn.ReLU(), pool0=nn.MaxPool2d(2, 2))
    layers |= dict(conv1=nn.Conv2d(4, 5, 3, padding=1), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2, 2))
    model = fcn(Trunk(layers, {2: "pool0"}, input_size=16), stride=2, num_classes=3, auxiliary=0.4).to(dtype="float64")
    for k, (name, p) in enumerate(model.named_parameters()):
        if name.startswith("score"):  # they begin at zero
            p.data[...] = normal(p.shape, k)
    x, labels = normal((2, 3, 16, 20), 1), np.random.default_rng(0).integers(0, 4, (2, 16, 20))
    labels[labels == 3] = 255
    main, auxiliary = losses_of(model, mf.Tensor(x), labels)
    (main + auxiliary).backward()

    w = {n: torch.tensor(p.data, requires_grad=True) for n, p in model.named_parameters()}

    def up(y, factor):
        line = 1 - (torch.arange(2 * factor) - factor + 0.5).abs().double() / factor
        kernel = (line[:, None] * line).expand(3, 1, -1, -1)
        cut = slice(factor // 2, -(factor // 2))
        return F.conv_transpose2d(y, kernel, stride=factor, groups=3)[..., cut, cut]

    def conv(y, name, padding=0):
        return F.conv2d(y, w[f"{name}.weight"], w[f"{name}.bias"], padding=padding)

    fine = F.max_pool2d(conv(torch.tensor(x), "conv0", 1).relu(), 2)
    coarse = F.max_pool2d(conv(fine, "conv1", 1).relu(), 2)
    scores = up(up(conv(coarse, "score_fr"), 2) + conv(fine, "score_pool0"), 2)
    wanted = [
        F.cross_entropy(s, torch.tensor(labels), ignore_index=255, reduction="sum")
        for s in (scores, up(conv(coarse, "score_fr_aux"), 4))
    ]
    assert main.item() == pytest.approx(wanted[0].item(), rel=1e-10)
    assert auxiliary.item() == pytest.approx(0.4 * wanted[1].item(), rel=1e-10)
    (wanted[0] + 0.4 * wanted[1]).backward()
    learned = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert {"score_fr_aux.weight", "conv0.weight"} < learned.keys() and not any("upscore" in n for n in learned)
    assert all(distance(p.grad, w[n].grad.numpy()) < 1e-9 for n, p in learned.items())


def caffe_fcn8s(width, num_classes=21):
    """The arrays of the released fcn8s-heavy-pascal.caffemodel, under its names, with fewer channels."""
    wide = [max(1, round(width * n)) for n in (64, 128, 256, 512, 512, 4096)]
    shapes, channels = {}, 3
    for stage, count in enumerate((2, 2, 3, 3, 3)):
        for i in range(count):
            shapes[f"conv{stage + 1}_{i + 1}"] = (wide[stage], channels, 3, 3)
            channels = wide[stage]
    shapes |= {"fc6": (wide[5], channels, 7, 7), "fc7": (wide[5], wide[5], 1, 1)}
    for name, inputs in (("score_fr", wide[5]), ("score_pool4", wide[3]), ("score_pool3", wide[2])):
        shapes[name] = (num_classes, inputs, 1, 1)
    arrays = {}
    for i, (name, shape) in enumerate(shapes.items()):
        arrays[f"{name}.weight"] = normal(shape, i, np.float32) * np.float32((2 / np.prod(shape[1:])) ** 0.5)
        arrays[f"{name}.bias"] = normal(shape[0], i, np.float32) * np.float32(0.1)
    for name, size in (("upscore2", 4), ("upscore_pool4", 4), ("upscore8", 16)):
        line = 1 - np.abs(np.arange(size) - (size - 1) / 2) / (size / 2)
        arrays[f"{name}.weight"] = np.zeros((num_classes, num_classes, size, size), np.float32)
        arrays[f"{name}.weight"][range(num_classes), range(num_classes)] = line[:, None] * line
    return arrays


def caffemodel(arrays):
    """A file of Caffe with these arrays."""
    layers = dict.fromkeys(name.partition(".")[0] for name in arrays)
    blobs = {n: [blob(arrays[k]) for k in (f"{n}.weight", f"{n}.bias") if k in arrays] for n in layers}
    return b"".join(layer(n, "Deconvolution" if "up" in n else "Convolution", *b) for n, b in blobs.items())


def torch_fcn8s(arrays, x):
    """voc-fcn8s/train.prototxt, line by line: padding 100, pooling with ceil, crops of 5, 9 and 31."""
    import torch
    import torch.nn.functional as F

    t = {name: torch.tensor(array) for name, array in arrays.items()}

    def conv(x, name, padding=0):
        return F.conv2d(x, t[f"{name}.weight"], t[f"{name}.bias"], padding=padding)

    def crop(x, offset, like):
        h, w = like.shape[2:]
        return x[:, :, offset : offset + h, offset : offset + w]

    image, pools = torch.tensor(x), {}
    y = image
    for stage, count in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, count + 1):
            y = F.relu(conv(y, f"conv{stage}_{i}", padding=100 if (stage, i) == (1, 1) else 1))
        pools[stage] = y = F.max_pool2d(y, 2, 2, ceil_mode=True)
    y = F.relu(conv(F.relu(conv(y, "fc6")), "fc7"))
    up = F.conv_transpose2d(conv(y, "score_fr"), t["upscore2.weight"], stride=2)
    up = F.conv_transpose2d(up + crop(conv(pools[4], "score_pool4"), 5, up), t["upscore_pool4.weight"], stride=2)
    up = F.conv_transpose2d(up + crop(conv(pools[3], "score_pool3"), 9, up), t["upscore8.weight"], stride=8)
    return crop(up, 31, image).numpy()


@pytest.mark.parametrize("size", [(97, 120), (33, 64), (1, 250)])
def test_the_released_fcn8s_gives_the_same_scores_here(size, tmp_path):
    arrays = caffe_fcn8s(width=0.1)
    (tmp_path / "fcn8s.caffemodel").write_bytes(caffemodel(arrays))
    read = mf.io.load_weights(tmp_path / "fcn8s.caffemodel")
    assert all((read[name] == array).all() for name, array in arrays.items())
    donor, ours = recognise(read), mf.models.fcn8s_vgg16(width=0.1).eval()
    report = transplant(donor, ours)
    assert str(donor) == "fcn8s_vgg16, named as in Caffe" and not report.dropped and not report.left
    x = normal((1, 3, *size), 1, np.float32) * 60
    expected, scores = torch_fcn8s(arrays, x), ours(x).numpy()
    assert scores.shape == expected.shape == (1, 21, *size)
    assert np.abs(scores - expected).max() < 1e-4 * np.abs(expected).max()
    assert (scores.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.999


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_training_starts_from_a_file_of_torchvisions_vgg16(zipped, tmp_path, capfd):
    import torch

    state = torch_vgg16(1 / 32).state_dict()
    torch.save(state, tmp_path / "vgg16.pth", _use_new_zipfile_serialization=zipped)
    flags = ["--root", str(write_scenes(tmp_path / "scenes")), "--model", "fcn8s_vgg16", "--width", str(1 / 32)]
    flags += ["--lr", "0", "--epochs", "1", "--init", str(tmp_path / "vgg16.pth"), "--out", str(tmp_path / "run")]
    assert train.main(flags) == 0
    assert "vgg16, named as in torchvision: copied 28 conv1_1" in capfd.readouterr().out
    model = mf.models.load(tmp_path / "run" / "last.safetensors")
    np.testing.assert_array_equal(model.conv5_3.weight.data, state["features.28.weight"].numpy())
    np.testing.assert_array_equal(model.fc6.weight.data.ravel(), state["classifier.0.weight"].numpy().ravel())
    assert len((tmp_path / "run" / "init.txt").read_text(encoding="utf-8").splitlines()) == 28 + 2 + 2 + 9
