"""The grader's feedback in Korean: its sentences, its page, and English where a translation cannot be read."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from minifcn.course import feedback, sentences
from minifcn.errors import UserError
from minifcn.io import language
from minifcn.io.catalogue import translations
from minifcn.io.translation import PLACE, translator

HANGUL = re.compile("[가-힣]")
korean = pytest.mark.korean


@pytest.fixture
def say():
    return translator("ko", sentences.FOLDERS)


@pytest.fixture(autouse=True)
def english():
    """The language that a test chooses holds for that test."""
    yield
    language.use_language("en")


@korean
@pytest.mark.parametrize(
    ("english", "expected"),
    {
        "not answered": "답하지 않았습니다",
        "12 of 20 points": "20점 중 12점",
        "Task 2.1: Every window as a column": "과제 2.1: 모든 창을 열로",
        # numbers go to their places, whatever the order
        "3 of its 9 values are wrong; all of them are at the border":
            "값 9개 중 3개가 틀립니다; 모두 가장자리에 있습니다",
        # a case, a part of the answer, and what is wrong with it, also where the name of the case has a colon
        "two groups: the second of the 3 values that it returns is wrong: it is zero everywhere":
            "그룹 두 개: 돌려준 값 3개 중 둘째 값이 틀립니다: 모두 0입니다",
        "its shape is (3, 4), but should be (4, 3): its axes are in the order (1, 0)":
            "모양이 (3, 4)이지만 (4, 3)이어야 합니다: 축의 순서가 (1, 0)입니다",
        "it took more than 10 seconds and was stopped (in the case: two groups)":
            "10초가 넘게 걸려서 중단했습니다 (경우: 그룹 두 개)",
        "2×5 cells, windows of 1×2, stride (1, 3), padding (0, 2), dilation (2, 1), float64, not contiguous":
            "2×5칸, 창 1×2, 스트라이드 (1, 3), 패딩 (0, 2), 팽창 (2, 1), float64, 연속이 아님",
        "(3, 2) + (2,), float32, not contiguous": "(3, 2) + (2,), float32, 연속이 아님",
        "x³, with the gradient of x² (a wrong gradient)": "x³에 x²의 기울기를 준 것 (틀린 기울기)",
        "the worst, at [0, 1], is 2.0, but should be 3.0": "가장 크게 틀린 곳은 [0, 1]이고, 2.0이지만 3.0이어야 합니다",
        # a student's own words stay
        "it raises ValueError: two groups of what?": "오류가 났습니다. ValueError: two groups of what?",
        "something that nobody wrote here": "something that nobody wrote here",
        # particles follow the sound of the number before them
        "Graded with seed 12.": "시드 12로 채점했습니다.",
        "Graded with seed 13.": "시드 13으로 채점했습니다.",
        "Graded with seed 17.": "시드 17로 채점했습니다.",
    }.items(),
)  # fmt: skip
def test_a_sentence_is_recognised_with_what_stands_in_its_places(say, english, expected):
    assert say(english) == expected


@korean
@pytest.mark.course
def test_what_a_known_mistake_is_called_is_translated(say):
    from minifcn.course import tasks

    said = [
        text
        for assignment in tasks.assignments()
        for task in assignment.tasks
        for text in (*(m.what for m in task.mistakes), *(check.title for check in task.checks))
    ]
    assert len(said) > 400
    known = translations(sentences.catalogues("ko")[1])
    assert not [text for text in dict.fromkeys(said) if text not in known]
    assert sum(bool(HANGUL.search(say(text))) for text in said) > 0.98 * len(said)  # "FCN-8s" is a name


@korean
@pytest.mark.course
def test_every_name_of_a_case_is_translated(say):
    from minifcn.course import tasks

    labels = {
        case.label
        for assignment in tasks.assignments()
        for task in assignment.tasks
        for check in task.checks
        for case in check.cases(np.random.default_rng(0))
    }
    assert len(labels) > 500
    english = re.compile(r"[a-z]{3,},? [a-z]{2,}")  # two words
    assert not [label for label in labels if english.search(re.sub(r"`.*?`|float\d+", "", say(label)))]


@korean
@pytest.mark.course
def test_a_wrong_answer_is_graded_in_korean_on_the_screen_and_on_its_page(tmp_path, capsys):
    from minifcn import grade

    source = (sentences.ASSIGNMENTS / "a1_autograd.py").read_text(encoding="utf-8")
    assert "gy * positive" in source
    handed_in = tmp_path / "김철수_a1.py"
    handed_in.write_text(source.replace("gy * positive", "gy"), encoding="utf-8")
    graded = tmp_path / "graded"
    assert not grade.main([str(handed_in), "--task", "1.1", "--language", "ko", "--out", str(graded), "--seed", "3"])
    screen = capsys.readouterr().out
    assert (
        "3점 중 0점" in screen and "기울기가 어디서나 그대로 전달됩니다. x가 음수인 곳에서는 0이어야 합니다" in screen
    )
    (page,) = graded.glob("김철수*.html")
    assert '<html lang="ko">' in page.read_text(encoding="utf-8")


@korean
@pytest.mark.parametrize("path", sentences.catalogues("ko"), ids=lambda path: path.parent.name)
def test_a_translation_has_the_places_of_the_english(path):
    for english, translated in translations(path).items():
        places = (sorted(re.findall(PLACE, text)) for text in (english, translated))
        assert len(set(map(tuple, places))) == 1, english
        assert HANGUL.search(translated) or not re.search("[a-z]{2} [a-z]{2}", english), english


def results(got, right):
    check = SimpleNamespace(
        title="two groups",
        points=0,
        out_of=2,
        says=["it is zero everywhere"],
        code="f(1)",
        picture=("plain", got, right),
    )
    return [
        SimpleNamespace(number="2.1", title="Every window as a column", points=0, out_of=2, says=[], checks=[check])
    ]


@korean
def test_the_page_is_korean_and_says_so():
    language.use_language("ko")
    page = feedback.page("김철수", "A2 · Convolution, forwards and backwards", results(np.zeros(3), np.ones(3)))
    assert '<html lang="ko">' in page and "김철수: A2 · 합성곱" in page
    visible = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    for text in (
        "2점 중 0점",
        "노트북 ko/02_convolution.ipynb의 “모든 창을 한꺼번에: im2col” 절",
        "과제 2.1: 모든 창을 열로",
        "그룹 두 개",
        "모두 0입니다",
        "기대한 값",
        "제출한 값",
        "f(1)",
    ):
        assert text in visible, text
    assert not re.search(r"[a-z]{2,} [a-z]{2,}", visible), "an English sentence"
    language.use_language("en")
    assert '<html lang="en">' in feedback.page("Ann", "A2", results(np.zeros(3), np.ones(3)))


@korean
def test_a_picture_has_english_titles_where_no_font_has_hangul(monkeypatch):
    def titles():
        axes = feedback.compare(np.zeros((3, 3)), np.ones((3, 3))).axes
        return [title for ax in axes if (title := ax.get_title(loc="left"))]

    language.use_language("ko")
    assert titles() == ["기대한 값", "제출한 값", "차이"]
    monkeypatch.setattr("minifcn.viz.language.use_fonts", "".join)
    assert titles() == ["expected", "yours", "difference"]


@korean
def test_a_student_cannot_make_the_translation_take_long(say):
    import time

    begin = time.monotonic()
    for text in (
        "float32: " * 1000,
        "it is a, but should be it is b: " * 18,
        "; ".join("abc" * 99),
        "two groups: " * 50,
    ):
        say(text)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_MESSAGES": "ko"}, "ko"),
        ({"LANG": "kok_IN"}, "en"),
        ({}, "en"),
    ],
)
def test_the_language_is_that_of_the_locale(environment, expected):
    assert language.language_of(environment) == expected


def test_without_the_extra_korean_is_an_error_and_a_korean_locale_gets_english_and_a_note(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "polib", None)
    with pytest.raises(UserError, match=r"pip install 'minifcn\[korean\]'"):
        language.use_language("ko")
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    assert language.use_language() == language.chosen() == "en"
    assert "minifcn[korean]" in capsys.readouterr().err


@korean
def test_the_language_is_english_until_it_is_chosen_whatever_the_locale_is():
    code = (
        "from minifcn.io.language import chosen, use_language as use; print(chosen(), use('en'), use('ko'), chosen())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "LC_ALL": "ko_KR.UTF-8"}
    )
    assert run.stdout.split() == ["en", "en", "ko", "ko"], run.stderr
