"""Figures and the report of a run: exact colours, no cut or overlapping text, a page without other files."""

import base64
import csv
import json
import re
import sys

import numpy as np
import pytest

from minifcn import viz
from minifcn.viz.report import write_report

pytest.importorskip("matplotlib")

CLASSES = ["ocean", "lake", "tropical", "arid", "temperate", "cold", "polar"]
PALETTE = [
    (34, 80, 140),
    (70, 170, 220),
    (20, 120, 50),
    (225, 190, 110),
    (140, 190, 90),
    (110, 100, 150),
    (235, 240, 245),
]
SCORES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")


def example(height, width, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 7, (height, width)).astype(np.uint8)
    label[0] = 255
    return rng.integers(0, 256, (height, width, 3), np.uint8), label, rng.integers(0, 7, (height, width))


def log(epochs):
    return [
        {"epoch": str(e), "loss": str(2 / e), "val_loss": str(2.5 / e), **dict.fromkeys(SCORES, str(e / 20))}
        for e in range(1, epochs + 1)
    ]


def texts(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def assert_whole(figure):
    """Assert that everything drawn lies on the canvas, and that no two texts overlap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    drawn, page = figure.get_tightbbox(renderer), figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= page[0] and drawn.y1 <= page[1]
    # Slanted texts are left out, because their boxes can overlap although their letters do not.
    level = [text for text in figure.findobj(Text) if text.get_text() and text.get_rotation() in (0, 90)]
    boxes = [text.get_window_extent(renderer) for text in level if text.get_visible()]
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k])


def test_colour_paints_classes_and_void():
    picture = viz.colour(np.array([[0, 3], [6, 255]]), PALETTE)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [
        [[34, 80, 140], [225, 190, 110]],
        [[235, 240, 245], [224, 224, 192]],
    ]


def test_overlay_mixes_and_leaves_void_bare():
    image = np.full((1, 2, 3), 100, np.uint8)
    mixed = viz.overlay(image, np.array([[3, 255]]), PALETTE, alpha=0.5)
    assert mixed.dtype == np.uint8
    assert mixed.tolist() == [[[162, 145, 105], [100, 100, 100]]]  # 162.5 rounds to even
    assert np.array_equal(viz.overlay(image, np.array([[3, 3]]), PALETTE, alpha=0), image)


def test_errors_colours_are_exact():
    picture = viz.errors(np.array([[1, 1, 255]]), np.array([[1, 2, 2]]))
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[232, 232, 232], [204, 30, 40], [72, 72, 72]]]


@pytest.mark.parametrize("sizes", [[(24, 24)], [(24, 24)] * 3, [(20, 40), (40, 20)]])
def test_samples(sizes):
    examples = [example(*size) for size in sizes]
    figure = viz.samples(*zip(*examples), CLASSES, PALETTE)
    assert_whole(figure)
    assert len(figure.axes) == 4 * len(sizes)
    assert [axes.get_title("left") for axes in figure.axes[:4]] == ["image", "truth", "prediction", "error"]
    palette, key = ([text.get_text() for text in legend.get_texts()] for legend in figure.legends)
    assert palette == [*CLASSES, "void"] and key == ["correct", "wrong", "void"]
    image, label, prediction = examples[-1]
    shown = [axes.images[0].get_array() for axes in figure.axes[-4:]]
    pictures = (image, viz.colour(label, PALETTE), viz.colour(prediction, PALETTE))
    for seen, meant in zip(shown, (*pictures, viz.errors(label, prediction))):
        assert np.array_equal(seen, meant)


def test_samples_name_void_only_where_there_is_some():
    image, label, prediction = example(16, 16)
    label[0] = 0
    figure = viz.samples([image], [label], [prediction], CLASSES, PALETTE)
    assert "void" not in texts(figure)


def test_samples_grow_with_their_rows_and_their_legend():
    one, many = ([[part] * n for part in example(16, 16)] for n in (1, 4))
    short, tall = (viz.samples(*rows, CLASSES, PALETTE).get_figheight() for rows in (one, many))
    assert tall > short + 3 * 2
    assert_whole(viz.samples(*one, [f"land-cover class {k}" for k in range(40)], PALETTE * 6))


def test_arrays_show_every_number():
    figure = viz.arrays({"x": np.array([[1, -2.5], [np.nan, np.inf]]), "a row": np.arange(3)}, marked={"x": [(0, 1)]})
    assert_whole(figure)
    shown = texts(figure)
    assert {"1", "−2.5", "∞", "2"} <= set(shown) and "nan" not in shown
    with pytest.raises(ValueError, match="one map"):
        viz.arrays({"x": np.zeros((1, 1, 2, 2))})


def test_a_notebook_shows_figures_that_pyplot_does_not_know():
    assert viz.arrays({"x": np.eye(2)})._repr_png_().startswith(b"\x89PNG")


def test_a_stepper_without_a_kernel_asks_nobody_for_its_buttons():
    page = viz.ConvStepper(np.arange(4).reshape(2, 2), np.eye(2)).to_jshtml()
    assert "https://" not in page and "http://" not in page
    assert "fa-" not in page and page.count("<button") == 9 and "▶</button>" in page


@pytest.mark.parametrize("epochs", [1, 5, 40])
def test_curves(epochs):
    figure = viz.curves(log(epochs))
    assert_whole(figure)
    assert_whole(viz.curves([{**row, "loss": 1e7} for row in log(epochs)]))
    assert {"loss", "training", "validation", "pixel accuracy", "mean accuracy", "mean IU", "f.w. IU"} <= set(
        texts(figure)
    )


def test_curves_mark_the_best_epoch():
    rows = log(3)
    rows[1]["mean_iu"] = 0.613
    figure = viz.curves(rows)
    assert "best mean IU 61.3 %, epoch 2" in texts(figure)
    ring = figure.axes[1].lines[3]
    assert (ring.get_xdata().item(), ring.get_ydata().item()) == (2, pytest.approx(61.3))


def test_curves_show_an_epoch_0_and_a_loss_of_0():
    figure = viz.curves([{"epoch": 0, "loss": 1.0}, {"epoch": 1, "loss": 0.0}])
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[0, 1], [1, 0]]


def test_curves_skip_what_is_missing():
    figure = viz.curves([{"epoch": 1, "loss": 2.0, "val_loss": ""}, {"epoch": 2, "loss": "nan"}])
    assert_whole(figure)
    assert len(figure.axes[0].lines) == 1 and not figure.axes[1].lines
    assert "nothing logged" in texts(figure)
    assert texts(viz.curves([])).count("nothing logged") == 2


@pytest.mark.parametrize("count", [2, 7, 21])
def test_confusion(count):
    matrix = np.random.default_rng(0).integers(1, 10**7, (count, count))
    classes = [f"class {k}" for k in range(count)]
    figure = viz.confusion(matrix, classes)
    assert_whole(figure)
    assert set(classes) | {"true class", "predicted class", "pixels", "IU, %"} <= set(texts(figure))
    assert np.allclose(figure.axes[0].images[0].get_array().sum(1), 100)


def test_confusion_numbers():
    shown = texts(viz.confusion(np.array([[900, 100, 0], [500, 1500, 0], [0, 0, 0]]), ["a", "b", "absent"]))
    for number in ("90.0", "10.0", "25.0", "75.0", "1,000", "2,000"):
        assert number in shown
    assert "60.0" in shown and "71.4" in shown  # IU: 900 / 1500, 1500 / 2100
    assert shown.count("–") == 4  # the absent class: three cells and its IU


def test_figures_leave_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    viz.curves(log(2))
    assert dict(matplotlib.rcParams) == before


def test_styled_puts_back_its_own_settings_and_leaves_others():
    """The first figure in a notebook makes matplotlib interactive; undoing this would hide all later figures."""
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context({"interactive": False, "font.size": 5.0}):
        with viz.styled():
            assert matplotlib.rcParams["font.size"] == 9
            matplotlib.rcParams["interactive"] = True
        assert matplotlib.rcParams["interactive"] and matplotlib.rcParams["font.size"] == 5


def test_a_missing_matplotlib_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        viz.curves(log(2))


@pytest.fixture
def run(tmp_path):
    """A complete run folder in which every name contains HTML."""
    run = tmp_path / "first & last"
    run.mkdir()
    evil = "<script>alert(1)</script>"
    config = {"model": "fcn8s_mini", "dataset": evil, evil: evil, "classes": [evil, "lake"]}
    per_class = [{"name": evil, "accuracy": 0.8, "iu": 0.7}, {"name": "lake", "accuracy": None, "iu": None}]
    metrics = {**dict.fromkeys(SCORES, 0.8125), "mean_iu": 0.6543, "pixels": 1234567, "per_class": per_class}
    metrics |= {"header": {"data": evil, "step": "effective step 1e-10"}}
    metrics |= {"floors": [{"name": evil, "pixel_accuracy": 0.41, "mean_iu": 0.06}]}
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    with open(run / "log.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, log(1)[0])
        writer.writeheader()
        writer.writerows(log(3))
    viz.curves(log(3)).savefig(run / "curves.png", dpi=20)
    return run


def test_report_stands_alone(run):
    path = write_report(run)
    page = path.read_text(encoding="utf-8")
    assert path == run / "report.html"
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert page.count("&lt;script&gt;") == 8
    assert "<h1>first &amp; last</h1>" in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == page.count("<img") == len(re.findall('alt="[^"]+"', page)) == 1
    picture = base64.b64decode(sources[0].removeprefix("data:image/png;base64,"))
    assert picture == (run / "curves.png").read_bytes()


def test_report_shows_the_final_scores(run):
    page = write_report(run).read_text(encoding="utf-8")
    assert "65.4 %" in page and "1,234,567 labelled pixels" in page and "effective step 1e-10" in page
    assert "this run" in page and "41.0" in page  # beside the score of a constant prediction
    assert page.count("–") == 2  # the class without pixels


def test_report_of_an_interrupted_run(run):
    """The last logged epoch replaces the final scores; a file that is cut off counts as missing."""
    (run / "metrics.json").unlink()
    (run / "curves.png").unlink()
    page = write_report(run).read_text(encoding="utf-8")
    assert "after epoch 3" in page and "15.0 %" in page
    (run / "config.json").write_text('{"model": "fcn8s', encoding="utf-8")
    page = write_report(run).read_text(encoding="utf-8")
    assert "after epoch 3" in page
    assert not any(missing in page for missing in ("<figure>", "figures to beat", "Settings", "Class by class"))


def test_report_of_an_empty_folder(tmp_path):
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "0 epochs" in page and "<table" not in page and "None" not in page
    with pytest.raises(NotADirectoryError, match="no run folder"):
        write_report(tmp_path / "absent")
