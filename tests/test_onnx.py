"""Exported models: onnxruntime gives the scores of the model, for images of any size."""

import json
import subprocess
import sys

import numpy as np
import pytest

import minifcn as mf
from minifcn import export, nn
from minifcn.errors import GeometryError, UserError
from minifcn.models import onnx_graph
from minifcn.models.onnx_graph import difference, to_onnx

pytestmark = pytest.mark.onnx
SIZES = (1, 1), (2, 3), (31, 33), (64, 64), (97, 130), (113, 50), (224, 224), (255, 170), (300, 301), (65, 1)
SAMPLE = ("fcn8s_mini", "fcn32s_alexnet", "fcn8s_efficientnet_lite0", "fcn_resnet50")
UNNAMED = ("fcn4s_googlenet", "fcn8s_resnet18", "fcn8s_alexnet_torchvision", "fcn16s_vgg11", "fcn4s_resnet50")


def net(name, width=0.125, **options):
    """A net of few channels, with weights in the layers that begin at zero."""
    mf.manual_seed(0)
    model, rng = mf.models.build(name, width=width, **options).eval(), np.random.default_rng(0)
    for _, p in model.named_parameters():
        if p.requires_grad and not p.data.any():
            p.data[...] = 0.1 * rng.standard_normal(p.shape)
    for _, buffer in model.named_buffers():  # statistics, as of a trained net
        buffer.data[...] *= rng.uniform(0.8, 1.2, buffer.shape)
    return model


def pictures(model, size, count=1):
    bits = model.preprocessing.bits
    values = np.random.default_rng(1).integers(0, 2**bits, (count, *size, model.in_channels))
    return values.astype(f"uint{bits}")


def saved(model, path):
    import onnx

    proto = to_onnx(model)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, str(path))
    return path


def compare(model, file, sizes):
    """The sizes at which the scores agree; a net may refuse small images, but not most of the sizes."""
    done = []
    for size in sizes:
        try:
            assert difference(model, file, pictures(model, size, 2)) < 1e-5, size
        except GeometryError:
            continue
        done.append(size)
    assert len(done) > len(sizes) / 2
    return done


@pytest.mark.parametrize("name", SAMPLE)
def test_a_model_of_each_kind_has_the_scores_of_its_graph(name, tmp_path):
    model = net(name)
    assert compare(model, saved(model, tmp_path / "m.onnx"), SIZES[3:6])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*mf.models.MODELS, *UNNAMED])
def test_every_named_net_has_the_scores_of_its_graph_at_ten_sizes(name, tmp_path):
    model = net(name)
    compare(model, saved(model, tmp_path / "m.onnx"), SIZES)


@pytest.mark.slow
@pytest.mark.imagenet
def test_a_net_of_full_width_with_trained_weights(tmp_path):
    from minifcn.models.efficientnet import efficientnet_lite0

    model = mf.models.fcn8s_efficientnet_lite0(num_classes=5)
    nn.surgery.transplant(efficientnet_lite0(pretrained="imagenet"), model)
    for _, p in model.named_parameters():
        if not p.data.any():
            p.data[...] = np.random.default_rng(0).standard_normal(p.shape) * 0.1
    compare(model.eval(), saved(model, tmp_path / "m.onnx"), [(224, 224), (301, 417)])


def test_the_larger_of_two_fused_maps_may_depend_on_the_size_of_the_image(tmp_path):
    """In FCN-4s-GoogLeNet, the scores of pool1 have as many cells as the upsampled ones, or one more, or one less."""
    model = net("fcn4s_googlenet", width=0.05)
    compare(model, saved(model, tmp_path / "m.onnx"), [(n, 65 - n) for n in range(16, 48, 3)])


def test_the_earth_model_labels_pixels_alike_and_the_file_says_what_they_mean(tmp_path):
    import onnxruntime

    model = mf.models.fcn8s_mini(pretrained="earth")
    session = onnxruntime.InferenceSession(saved(model, tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    image = pictures(model, (150, 203))
    labels, scores = session.run(["labels", "scores"], {"image": image})
    assert labels.dtype == np.uint8 and scores.dtype == np.float32
    np.testing.assert_array_equal(labels, scores.argmax(1))
    assert (labels == model.predict(image)).mean() > 1 - 1e-4
    facts = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["classes"] == list(model.classes) and facts["palette"] == np.asarray(model.palette).tolist()
    assert facts["bands"] == ["red", "green", "blue"] and facts["preprocessing"]["order"] == "RGB"


@pytest.mark.parametrize("bits, order, channels", [(8, "BGR", 3), (16, "RGB", 5)])
def test_the_graph_contains_the_preprocessing(bits, order, channels, tmp_path):
    model = net("fcn32s_mini", in_channels=channels)
    mean, scale = np.arange(1.0, channels + 1) * 20, 1 / np.arange(30.0, 30 + channels) / (1 if bits == 8 else 256)
    model.preprocessing = mf.data.Preprocessing(order, tuple(mean), tuple(scale), bits)
    file = saved(model, tmp_path / "m.onnx")
    assert difference(model, file, pictures(model, (40, 57))) < 1e-5
    model.preprocessing = mf.data.Preprocessing("RGB", tuple(mean + 1), tuple(scale * 2), bits)
    assert difference(model, file, pictures(model, (40, 57))) > 1e-3  # the comparison sees another one


class Around(nn.Module):
    """A layer between the image and the scores, in a model with the attributes that the export reads."""

    num_classes, in_channels, classes, palette, bands, build_arguments = 2, 3, None, None, None, None
    preprocessing = mf.data.Preprocessing()

    def __init__(self, layer):
        mf.manual_seed(0)
        self.conv, self.layer = nn.Conv2d(3, 2, 1), layer

    def forward(self, x):
        return self.layer(self.conv(x))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("kernel, stride, padding, dilation", [(2, 2, 0, 1), (3, 2, 1, 1), (1, 3, 0, 1), (2, 3, 1, 2)])
def test_poolings_round_sizes_by_our_rule(kernel, stride, padding, dilation, ceil, tmp_path):
    model = Around(nn.MaxPool2d(kernel, stride, padding, dilation, ceil)).eval()
    compare(model, saved(model, tmp_path / "m.onnx"), [(7, 8), (9, 10), (11, 12), (13, 5), (21, 6)])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: mf.ops.avg_pool2d(x, 3, 2, 1), lambda x: mf.ops.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        lambda x: mf.ops.softmax(x) - mf.ops.log_softmax(x) / 3, lambda x: mf.ops.sigmoid(-x) * 2,
        lambda x: mf.ops.leaky_relu(x, 0.2), lambda x: mf.ops.exp(x / 4) ** 2, lambda x: mf.ops.log(mf.ops.abs(x) + 1),
        lambda x: x[:, :, 1::2, :-3], lambda x: mf.ops.concat([x, x * 2])[:, 1:3],
        lambda x: x - x.mean(axis=(2, 3), keepdims=True),
        lambda x: x + x.sum(axis=1, keepdims=True) - x.max(axis=1, keepdims=True),
        lambda x: mf.ops.interpolate(mf.ops.max_pool2d(x, 4), x.shape[2:]), lambda x: mf.ops.pad(x, (1, 0, 3, 2)),
        lambda x: mf.ops.crop(x, offset=(1, 2), size=(4, 5)),
    ],
)  # fmt: skip
def test_other_operations_of_a_user_are_exported(function, tmp_path):
    model = Around(function).eval()
    compare(model, saved(model, tmp_path / "m.onnx"), [(20, 24), (31, 22)])


def test_what_no_graph_can_hold_is_refused_by_its_name():
    class Mine(mf.ops.activation.ReLU):
        pass

    with mf.override(ReLU=Mine), pytest.raises(UserError, match="is the operation Mine, for which the export has no"):
        to_onnx(net("fcn32s_mini"))
    with pytest.raises(UserError, match="average pooling in ceil mode"):
        to_onnx(Around(nn.AvgPool2d(2, ceil_mode=True)).eval())
    with pytest.raises(UserError, match="depend on the size of the image"):
        to_onnx(Around(lambda x: x * 2 if x.shape[2] > 200 else x).eval())
    with pytest.raises(UserError, match="is that of no other map"):
        to_onnx(Around(lambda x: mf.ops.interpolate(x, (x.shape[2] + 1, x.shape[3] * 2))).eval())


def test_an_exported_file_can_be_read_as_weights(tmp_path):
    model = net("fcn8s_mini")
    arrays = mf.io.load_weights(saved(model, tmp_path / "m.onnx"))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(arrays[name], array)


def test_the_command_writes_a_file_and_says_how_near_onnxruntime_is(finished, tmp_path, capfd, refused):
    file = tmp_path / "größe 모델.onnx"
    assert export.main([str(finished), str(file)]) == 0
    out = capfd.readouterr().out
    assert "image (N, H, W, 3) of uint8 -> labels, scores" in out
    assert float(out.partition("differ by ")[2].split()[0]) < 1e-5
    assert difference(mf.models.load(finished), file, pictures(mf.models.load(finished), (50, 60))) < 1e-5
    refused(export.main, finished, file, match="already exists: give another name, or replace it")
    assert export.main([str(finished), str(file), "--overwrite", "--weights", "best"]) == 0
    refused(export.main, finished, tmp_path / "m.pb", match=r"must end in \.onnx")
    refused(export.main, finished, tmp_path / "none/m.onnx", match="not a file in an existing folder")
    refused(export.main, tmp_path / "none", tmp_path / "m.onnx", match="none")
    assert [path.name for path in tmp_path.glob("*")] == [file.name]


def test_a_graph_that_computes_something_else_is_an_error(finished, tmp_path, refused, monkeypatch):
    for off in (0.01, float("nan")):
        monkeypatch.setattr(export, "difference", lambda *_, off=off: off)
        refused(export.main, finished, tmp_path / "m.onnx", "--overwrite", match="does not compute what the model")


def test_without_the_package_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"package onnx is not installed: pip install 'minifcn\[onnx\]'"):
        onnx_graph.to_onnx(net("fcn32s_mini"))


def test_a_program_without_minifcn_runs_the_file(tmp_path):
    """The lines of docs/deploy.md, in a process that imports onnxruntime, Pillow and NumPy only."""
    from pathlib import Path

    from PIL import Image

    saved(mf.models.fcn8s_mini(pretrained="earth"), tmp_path / "model.onnx")
    Image.fromarray(pictures(mf.models.fcn8s_mini(), (40, 50))[0]).save(tmp_path / "photo.png")
    page = (Path(__file__).parent.parent / "docs/deploy.md").read_text(encoding="utf-8")
    code = page.partition("```python\nimport json")[2].partition("```")[0]
    code = f"import json{code}\nimport sys; assert not [m for m in sys.modules if m.startswith('minifcn')]"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()
