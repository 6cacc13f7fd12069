"""Watching a run: the report after every epoch, class names in any script, TensorBoard, the search of a rate."""

import warnings

import numpy as np
from matplotlib import rcParams
from test_suited import begun, scenes  # noqa: F401  a fixture

from minifcn import train
from minifcn.training.state import Callback
from minifcn.viz import illustrate
from minifcn.viz.figures import confusion
from minifcn.viz.fonts import fallbacks, letters
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
