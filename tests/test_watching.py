"""Watching a run: the report after every epoch, class names in any script, TensorBoard, the search of a rate."""

import csv
import io
import struct
import sys
import warnings

import numpy as np
import pytest
from matplotlib import rcParams
from PIL import Image
from test_suited import begun, scenes  # noqa: F401  a fixture

import minifcn as mf
from minifcn import train
from minifcn.data import Loader, Shapes
from minifcn.engine.tables import letters
from minifcn.errors import UserError
from minifcn.training.state import Callback
from minifcn.viz import illustrate
from minifcn.viz.figures import confusion
from minifcn.viz.fonts import fallbacks
from minifcn.viz.style import styled

RARE = "ᶁ"  # in STIXGeneral, which comes with matplotlib, and not in its default font


def missing_glyphs(names, path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        confusion(np.eye(len(names), dtype=int), names).savefig(path)
    return [str(w.message) for w in caught if "missing from" in str(w.message)]


def test_a_figure_falls_back_to_a_font_that_has_the_characters_of_the_class_names(tmp_path):
    family = list(rcParams["font.family"])
    with styled():
        assert fallbacks(frozenset({ord(RARE)}))[0].startswith("STIX")
    assert missing_glyphs(["sky", RARE + "ground"], tmp_path / "a.png") == []
    assert rcParams["font.family"] == family
    nowhere = "\U0003134a"  # of a CJK extension that hardly any font has
    assert fallbacks(frozenset({ord(nowhere)})) == () and missing_glyphs([nowhere, "b"], tmp_path / "b.png")


def test_wide_characters_get_twice_the_room():
    assert letters("road") == 4 and letters("도로") == 4 and letters("道路 1") == 6


def test_the_report_is_written_anew_after_every_epoch_and_in_the_end_for_good(scenes, tmp_path, monkeypatch):  # noqa: F811
    pages = []

    class Reader(Callback):
        def epoch_ended(self, t):
            page = (t_folder / "report.html").read_text(encoding="utf-8")
            pages.append((f"after epoch {t.epoch}, the last one logged" in page, "data:image/png" in page, page))

    t_folder = tmp_path / "run"
    monkeypatch.setattr(illustrate, "SECONDS", 0.0)
    real = train.Progress
    monkeypatch.setattr(train, "Progress", lambda out: Both(real(out), Reader()))
    begun(scenes, t_folder, "--epochs", 2, "--repeat", 1)
    assert [(said, drawn) for said, drawn, _ in pages] == [(True, True), (True, True)]
    assert 'http-equiv="refresh"' in pages[0][2] and "8 images to train on" in pages[0][2]
    final = (t_folder / "report.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in final and "labelled pixels" in final


class Both(Callback):
    """Two callbacks as one."""

    def __init__(self, *parts):
        for moment in (name for name in vars(Callback) if not name.startswith("_")):
            setattr(self, moment, lambda t, moment=moment: [getattr(part, moment)(t) for part in parts])


def test_a_full_disk_does_not_stop_the_training_that_is_watched(scenes, tmp_path, monkeypatch):  # noqa: F811
    def full(*_, **options):
        if options.get("again"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(illustrate, "write_report", full)
    begun(scenes, tmp_path / "run", "--repeat", 1)


def small():
    mf.manual_seed(0)
    model = mf.models.fcn8s_mini(num_classes=3, width=0.1, dropout=0.0)
    return model, Loader(Shapes(length=4, size=(24, 32), num_classes=3), 2, shuffle=True)


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def stepped(self, t):
        self.seen.append(t.optimizer.lr)


def test_the_rate_that_fit_chooses_decays_and_the_rate_of_a_given_optimizer_stays():
    model, data = small()
    mf.fit(model, data, epochs=2, callbacks=[rates := Rates()])
    assert rates.seen == pytest.approx([rates.seen[0] * (1 - k / 4) ** 0.9 for k in range(4)])
    mf.fit(model, data, None, mf.optim.SGD(model.parameters(), 1e-6), 2, callbacks=[rates := Rates()])
    assert rates.seen == [1e-6] * 4


def test_fit_keeps_a_run_that_can_be_loaded_and_continued_bit_by_bit(tmp_path):
    val = Shapes("val", 2, size=(24, 32), num_classes=3)
    model, data = small()
    whole = mf.fit(model, data, val, epochs=2, ema=0.9, out=tmp_path / "whole")
    assert {"log.csv", "last.safetensors", "best.safetensors"} <= {f.name for f in (tmp_path / "whole").iterdir()}
    image = val[0][0]
    np.testing.assert_array_equal(mf.models.load(tmp_path / "whole").predict(image), model.predict(image))

    class Stop(Callback):
        def stepped(self, t):
            t.stopping = t.step == 3

    part, data = small()
    assert mf.fit(part, data, val, epochs=2, ema=0.9, out=tmp_path / "part", callbacks=[Stop()]).step == 3
    again, data = small()
    t = mf.fit(again, data, val, epochs=2, ema=0.9, out=tmp_path / "part", resume=True)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)
    assert [row["mean_iu"] for row in t.rows] == [row["mean_iu"] for row in whole.rows]

    with pytest.raises(UserError, match="is not empty"):
        mf.fit(again, data, val, out=tmp_path / "part")
    with pytest.raises(ValueError, match="give out"):
        mf.fit(again, data, val, resume=True)


def test_fit_shows_its_progress_in_a_terminal_and_in_a_notebook_and_nowhere_else(monkeypatch, capsys):
    model, data = small()
    mf.fit(model, data)
    assert capsys.readouterr() == ("", "")
    mf.fit(model, data, progress=True)
    assert "mean IU" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    mf.fit(model, data)
    assert "mean IU" in capsys.readouterr().out
    mf.fit(model, data, callbacks=[Callback()])
    mf.fit(model, data, progress=False)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm's, if ipywidgets is missing
        mf.fit(model, data, data.dataset, epochs=2)
    err = capsys.readouterr().err
    assert "epoch 2 of 2, loss" in err and ", mean IU 0." in err


def events(folder):
    """The values that TensorBoard would read: the records of the event files, by their format (TFRecord)."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted(folder.iterdir()):
        raw = file.read_bytes()
        while raw:
            (length,) = struct.unpack("<Q", raw[:8])  # length, its checksum, the record, its checksum
            yield Event.FromString(raw[12 : 12 + length])
            raw = raw[16 + length :]


@pytest.mark.tb
def test_tensorboard_gets_the_log_the_examples_and_the_weights(scenes, tmp_path):  # noqa: F811
    out = begun(scenes, tmp_path / "run", "--epochs", 2, "--repeat", 1, "--tensorboard")
    values = {(v.tag, e.step): v for e in events(out / "tensorboard") for v in e.summary.value}
    with open(out / "log.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for name in ("loss", "val_loss", "mean_iu"):
                assert values[name, int(row["epoch"])].simple_value == pytest.approx(float(row[name]), rel=1e-6)
    picture = Image.open(io.BytesIO(values["example/0", 2].image.encoded_image_string))
    assert picture.size == (3 * 32, 24)
    weight = mf.models.load(out).conv1_1.weight.data
    kept = values["conv1_1.weight", 2].histo
    assert (kept.num, kept.min, kept.max) == (weight.size, weight.min(), weight.max())


def test_tensorboard_without_its_extra_is_refused_before_the_training(scenes, tmp_path, monkeypatch, refused):  # noqa: F811
    monkeypatch.setattr("minifcn.training.parts.find_spec", lambda name: None)
    flags = ("--root", scenes, "--model", "fcn8s_mini", "--tensorboard", "--out", tmp_path / "run")
    refused(train.main, *flags, match="pip install 'minifcn")
    assert not (tmp_path / "run").exists()
