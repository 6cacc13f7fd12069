"""The command that shows a model's geometry: table, crops, phases and picture; one sentence for an error."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from test_viz import assert_whole, texts

import minifcn as mf
from minifcn import viz
from minifcn.viz import geometry as command

VGG16 = {  # conv1_1 padded by 100, an image of 500 (reference, table 2.A): n, jump, field, centre of unit 0, padding
    "conv1_1": (698, 1, 3, -99, 100), "pool1": (349, 2, 6, -98.5, 101), "pool3": (88, 8, 44, -95.5, 117),
    "pool4": (44, 16, 100, -91.5, 141), "conv5_3": (44, 16, 196, -91.5, 189), "pool5": (22, 32, 212, -83.5, 189),
    "fc6": (16, 32, 404, 12.5, 189), "score_fr": (16, 32, 404, 12.5, 189),
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(*argv, capfd):
    assert command.main([*map(str, argv), "--json", "-"]) == 0
    out, err = capfd.readouterr()
    return json.loads(out), err


def test_the_numbers_of_fcn8s_vgg16_are_the_reference_nets(capfd, here):
    found, said = answer("fcn8s_vgg16", capfd=capfd)
    rows = {row["layer"]: row for row in found["layers"]}
    for name, numbers in VGG16.items():
        row = rows[name]
        keys = ("size", "jump", "field", "start", "padding")
        assert tuple(row[key] for key in keys) == tuple([n, n] for n in numbers), name
    assert (rows["fc6"]["kernel"], rows["fc6"]["stride"], rows["fc6"]["pad"]) == ([7, 7], [1, 1], [0, 0])
    assert [(crop["of"], crop["offset"]) for crop in found["crops"]] == [
        ("score_pool4", [5, 5]), ("score_pool3", [9, 9]), ("upscore8", [31, 31]),
    ]  # fmt: skip
    phases = found["field_by_phase"]["rows"]
    assert sorted(phases) == [436] * 8 + [468] * 24 and phases == found["field_by_phase"]["columns"]
    assert "crop of upscore8 at 31" in said
    assert "sees 436 pixels (8 of every 32) or 468 pixels (24 of every 32), along h and w alike" in said
    with Image.open(here / "fcn8s_vgg16-geometry.png") as picture:
        assert np.asarray(picture).std() > 1


def test_the_table_and_where_the_picture_goes(capfd, here):
    assert (
        command.main(["fcn32s_mini", "--input", "96x64", "--layer", "pool3", "--unit", "11", "0", "--out", "a.svg"])
        == 0
    )
    out = capfd.readouterr().out
    assert re.search(r"^layer +operation +k +s +p +n +jump +field +start +padding$", out, re.M)
    assert re.search(r"^pool3 +max pooling +2 +2 +0 +12×8 +8 +30 +3\.5 +11$", out, re.M)
    assert out.endswith("-> a.svg\n") and [file.name for file in here.iterdir()] == ["a.svg"]
    assert "unit (11, 0) of pool3" in (here / "a.svg").read_text(encoding="utf-8").replace("<!--", "")


@pytest.mark.parametrize(
    ("name", "field", "jump", "cells"), [("lenet", 32, 4, 118), ("caffenet", 355, 32, 10), ("googlenet", 907, 32, 9)]
)
def test_a_classifier_is_shown_as_the_filter_it_is(name, field, jump, cells, capfd):
    """Field and stride of LeNet-5 (32, 4), CaffeNet (355, 32; 500 gives 10×10, §4.1) and GoogLeNet (907, Table 1)."""
    found, _ = answer(name, capfd=capfd)
    last = found["layers"][-1]
    assert (last["field"], last["jump"]) == ([field] * 2, [jump] * 2)
    assert last["size"] == [cells] * 2


@pytest.mark.parametrize(
    ("argv", "match"),
    [
        (["fcn8s"], "there is no model 'fcn8s'; choose one of fcn32s_mini, "),
        (["fcn8s_mini", "--input", "0"], "0 is not a size; give 500, or 500x375"),
        (["fcn8s_mini", "--input", "3x4x5"], "3x4x5 is not a size"),
        (["fcn8s_mini", "--layer", "pool9"], "no layer 'pool9'; its layers are conv1_1, pool1"),
        (["fcn8s_mini", "--layer", "pool5", "--unit", "0", "16"], r"--unit: there is no unit \(0, 16\): .* 0 … 15"),
        (["fcn8s_mini", "--unit", "-1", "0"], r"there is no unit \(-1, 0\)"),
        (["fcn8s_mini", "--out", "nowhere/a.png"], "nowhere/a.png cannot be written; give a .png.* existing folder"),
        (["fcn8s_mini", "--out", "a.xyz"], "a.xyz cannot be written; give a .png"),
        (["vgg16", "--input", "50"], "vgg16 does not take an image of 50×50: .*kernel of 7"),
    ],
)  # fmt: skip
def test_mistakes_cost_a_sentence(argv, match, refused, here):
    refused(command.main, *argv, match=match)
    assert not list(here.iterdir())


def test_misaligned_layers_are_told_in_the_table(capfd, monkeypatch):
    """If some layers have no valid position, the command still shows the others."""

    class Net(mf.nn.Module):
        def __init__(self):
            self.a, self.b = mf.nn.Conv2d(3, 2, 3), mf.nn.Conv2d(3, 2, 2)
            self.in_channels = 3

        def forward(self, x):
            return self.a(x) + mf.ops.crop(self.b(x), offset=(0, 0), size=(30, 30))

    monkeypatch.setitem(command.MODELS, "net", Net)
    message = "a and Crop meet in Add and do not coincide"
    assert command.main(["net", "--input", "32", "--layer", "Add"]) == 2
    assert message in capfd.readouterr().err
    found, said = answer("net", "--input", "32", capfd=capfd)  # the last layer with a field is drawn
    assert found["picture"]["layer"] == "Crop" and found["field_by_phase"] is None
    assert f"note: Add: {message}" in said and re.search(r"^Add +sum +30$", said, re.M)


def test_a_field_that_repeats_too_late_is_no_reason_to_show_nothing(monkeypatch, capfd):
    class Net(mf.nn.Module):
        def __init__(self):
            self.up, self.in_channels = mf.nn.ConvTranspose2d(3, 2, 3, stride=2), 3

        def forward(self, x):
            return mf.ops.interpolate(self.up(x), (4999, 4999))

    monkeypatch.setitem(command.MODELS, "net", Net)
    found, said = answer("net", "--input", "32", capfd=capfd)
    assert found["picture"]["layer"] == "up" and found["layers"][-1]["operation"] == "interpolation"
    assert "note: Interpolate: what the cells see here repeats only after more than 4096 cells" in said


def layer(name, size, jump, start, field, seen):
    return dict(
        name=name, size=(size, size), jump=(jump, jump), start=(start, start), field=(*field, *field), seen=seen
    )


@pytest.mark.parametrize("count", [1, 3, 90])
def test_the_picture_is_whole_whatever_its_depth(count):
    layers = [
        layer(f"conv{i}", 32, 1.0, 0.0, (16 - i, 17 + i), (16 - count + i, 16 + count - i)) for i in range(1, count + 1)
    ]
    figure = viz.receptive_fields((32, 32), layers, f"unit (16, 16) of conv{count}", padding=(1, 1))
    assert_whole(figure)
    shown = texts(figure)
    assert f"All that unit (16, 16) of conv{count} sees" in shown
    assert f"conv{count}   {2 * count + 1}×{2 * count + 1}" in shown
    assert ("left out" in figure.axes[1].get_xlabel()) == (count == 90)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("fcn8s_mini", (0, 0)),
        ("fcn8s_vgg16", (0.5, 0.5)),
        ("fcn8s_vgg16", (0.99, 0.2)),
        ("caffenet", (0, 0.99)),
        ("fcn_resnet50", (0.5, 0.5)),
    ],
)
def test_the_pictures_of_real_models_are_whole(name, unit, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        command, "receptive_fields", lambda *args: drawn.append(viz.receptive_fields(*args)) or drawn[0]
    )
    size = command.layers_of(name, (300, 420))[1][-1].output.shape[2:]
    at = [str(int(share * n)) for share, n in zip(unit, size)]
    assert command.main([name, "--input", "300x420", "--unit", *at]) == 0
    assert_whole(drawn[0])


@pytest.mark.cli
def test_the_command_as_a_user_runs_it(here):
    argv = [sys.executable, "-m", "minifcn.geometry", "fcn8s_mini"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stderr == ""  # no warning that the package was imported before its command
    assert done.stdout.endswith("-> fcn8s_mini-geometry.png\n") and (here / "fcn8s_mini-geometry.png").is_file()
