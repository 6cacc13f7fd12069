"""Figures and widgets in Korean: no English is left, no letter is a box, no text is cut off; English without a font."""

import re
import warnings

import numpy as np
import pytest

import minifcn as mf
from minifcn import nn, viz
from minifcn.course import captions
from minifcn.errors import UserError
from minifcn.io import language
from minifcn.io.catalogue import translations
from minifcn.io.translation import PLACE

pytestmark = pytest.mark.korean
SCENES = mf.data.Shapes(size=(64, 64))
NAMES = {*SCENES.classes, "conv", "pool", "score", "upscore", "fcn", "vgg", "max", "col"}  # classes, layers, kernels
GRID = np.arange(36).reshape(6, 6) % 7


@pytest.fixture
def korean():
    assert viz.use_language("ko")
    yield
    viz.use_language("en")


def explorers():
    """{name: (explorer, choices)}: all explorers and steppers that the Korean notebooks show."""
    picture, label = SCENES[0]
    scores = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, len(SCENES.classes), 3, padding=1))
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3))
    image = mf.Tensor(picture.transpose(2, 0, 1)[None].astype(np.float32) / 255, name="image")
    digits = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 4))
    void = frozenset((i, j) for i in range(9) for j in range(9))
    found = {
        "playground": (viz.ReceptiveFieldPlayground(picture), [dict(k3=5, map=3)]),
        "field": (viz.ReceptiveFieldExplorer(mf.models.fcn8s_mini(num_classes=3, width=0.2), picture), []),
        "loss": (
            viz.LossExplorer(image, scores(image), picture, label, SCENES.classes, SCENES.palette),
            [dict(brush="paint void", void=void), dict(brush="restore", void=void, row=0, column=0)],
        ),
        "patch": (viz.PatchExplorer(small, picture[:30, :30]), [dict(patch=20)]),
        "connected": (viz.FullyConnectedExplorer(digits, "1", np.ones((1, 1, 9, 9), np.float32), (6, 9)), []),
        "coarse": (
            viz.CoarseOutputExplorer(picture, label, SCENES.classes, SCENES.palette),
            [dict(step=s) for s in (1, 2, 3, 6, 7, 10)],
        ),
        "crop": (viz.CropExplorer(), [dict(padding=0, size=500), dict(padding=0, size=96)]),
    }
    for operation in viz.convolution.OPERATIONS:
        for direction in ("forward", "backward"):
            stepper = viz.ConvStepper(GRID, np.ones((2, 2)), operation, direction, padding=1)
            found[f"{operation} {direction}"] = stepper, []
    return found


EXPLORERS = explorers()
ONE_BY_ONE = pytest.mark.parametrize("name", EXPLORERS)


def choices(name):
    explorer, more = EXPLORERS[name]
    return explorer, [explorer.start() | choice for choice in ({}, *more)]


def texts(figure):
    """The texts of a figure, after it was drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Glyph .* missing")  # it would be a box
        FigureCanvasAgg(figure).draw()

    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def english_in(text):
    return [word for word in re.findall(r"[a-zA-Z]{3,}", text) if word.lower() not in NAMES]


@ONE_BY_ONE
def test_no_english_is_left_in_a_figure_its_title_its_sliders_and_its_hint(name, korean):
    explorer, chosen = choices(name)
    for choice in chosen:
        figure = explorer.figure(**choice)
        for text in [*(text.get_text() for text in texts(figure)), viz.language.say(explorer.title(**choice))]:
            assert not english_in(text), text
    shown = [viz.language.say(text) for text in (*explorer.controls(), explorer.hint)]
    assert not english_in(" ".join(shown).replace("(Tab)", "")), shown


@ONE_BY_ONE
def test_no_text_is_a_box_and_none_is_cut_off(name, korean):
    explorer, chosen = choices(name)
    for choice in chosen:
        figure = explorer.figure(**choice)
        for text in texts(figure):
            box = text.get_window_extent()
            assert box.x0 > -1 and box.x1 < figure.bbox.x1 + 1, text.get_text()
            assert box.y0 > -1 and box.y1 < figure.bbox.y1 + 1, text.get_text()


def test_example_predictions_are_korean_and_the_names_of_classes_stay(korean):
    picture, label = SCENES[0]
    figure = viz.samples([picture], [label], [np.zeros_like(label)], ["water", "땅"], [(0, 0, 9), (9, 0, 0)])
    found = [text.get_text() for text in texts(figure)]
    assert any(text.endswith("% 맞음") for text in found)
    assert {"이미지", "정답", "예측", "오류", "water", "땅", "무효", "맞음", "틀림"} <= set(found)


@ONE_BY_ONE
def test_without_a_font_with_hangul_a_figure_is_english(name, korean, monkeypatch):
    explorer, chosen = choices(name)
    monkeypatch.setattr(viz.language, "use_fonts", "".join)
    found = [[text.get_text() for text in texts(explorer.figure(**choice))] for choice in chosen]
    viz.use_language("en")
    assert found == [[text.get_text() for text in texts(explorer.figure(**choice))] for choice in chosen]


def test_titles_stay_english_in_the_code_so_that_the_assertions_of_a_notebook_hold_in_any_language(korean):
    playground, _ = EXPLORERS["playground"]
    assert playground.title(**playground.start()).endswith("field 7×7, jump 4, start 0, padding 3")


def test_a_widget_has_korean_sliders_and_its_choices_are_the_codes_own(korean):
    pytest.importorskip("anywidget", reason="pip install 'minifcn[notebooks]'")
    rows = EXPLORERS["loss"][0].widget().children
    (slider,) = rows[0].children
    assert slider.description == "브러시" and "픽셀을 클릭하거나" in rows[1].value and "브러시: 보기" in rows[2].value
    assert slider.options == (("보기", "look"), ("무효로 칠하기", "paint void"), ("되돌리기", "restore"))
    slider.value = "paint void"
    assert "브러시: 무효로 칠하기" in rows[2].value


def test_an_animation_is_korean(korean):
    explorer, _ = EXPLORERS["coarse"]
    drawn = []
    draw = explorer.draw
    explorer.draw = lambda figure, **choice: (drawn.append(figure), draw(figure, **choice))
    page = explorer.to_jshtml(most=2)
    assert all(f">{word}</label>" in page for word in ("한 번", "반복", "왕복"))
    del explorer.draw
    assert not [text.get_text() for text in texts(drawn[-1]) if english_in(text.get_text())]
    assert any("두 배로 늘림" in text.get_text() for text in texts(drawn[-1]))


def test_a_language_that_cannot_be_read_leaves_figures_english(monkeypatch):
    monkeypatch.setattr("minifcn.io.language.find_spec", lambda name: None)
    assert not viz.use_language("ko") and language.chosen() == "en"
    with pytest.raises(UserError, match="no translation into 'fr': choose one of en, ko"):
        viz.use_language("fr")
    assert language.chosen() == "en"


def test_a_translation_has_the_places_of_the_english():
    for english, korean in translations(captions.catalogue("ko")).items():
        assert sorted(re.findall(PLACE, english)) == sorted(re.findall(PLACE, korean)), english


def test_each_single_word_stands_in_a_source():
    files = [captions.PACKAGE / f"{source}.py" for source in (*captions.SOURCES, "viz/stepper")]
    sources = "".join(path.read_text(encoding="utf-8") for path in files)
    assert not [word for word in viz.language.WORDS if not re.search(rf"\b{re.escape(word)}(?=\W)", sources)]
    assert list(viz.language.WORDS) == sorted(viz.language.WORDS)
