"""The Korean notebooks: their code is the original's, and all that a reader reads is translated; so is the feedback."""

import ast
import json
import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

from minifcn.course import captions, notebooks, sentences
from minifcn.io.catalogue import translations, update

pytestmark = pytest.mark.korean
ORIGINALS = pytest.mark.parametrize("path", notebooks.originals(), ids=lambda path: path.stem)
ROOT = Path(__file__).parent.parent
HANGUL = re.compile("[가-힣]")

TEXT = """# A title

A paragraph
of two lines.

1. First, `code`.
2. Second:
   two lines.

$$
x = 1
$$

```python
y = 2
```
"""
CODE = '''"""Not a docstring of a function."""
def f(x):
    """Doubles x."""
    return 2 * x  # two times


ax.set(title="a pixel", xlabel="row")  # 3×3
ax.set_title("zero")
print(f"{f(2)} is 4", "cat")
ax.legend(loc="upper left")
assert f"{x} of them" == "two of them"
'''


def write(folder, monkeypatch):
    """A small notebook in a folder that takes the place of ``notebooks/``."""
    cells = [{"cell_type": "markdown", "source": TEXT}, {"cell_type": "code", "source": CODE}]
    path = folder / "04_small.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}}))
    monkeypatch.setattr(notebooks, "FOLDER", folder)
    return path


def test_paragraphs_items_comments_docstrings_and_labels_are_translated_and_nothing_else(tmp_path, monkeypatch):
    assert notebooks.english(write(tmp_path, monkeypatch)) == [
        "# A title",
        "A paragraph\nof two lines.",
        "1. First, `code`.",
        "2. Second:\n   two lines.",
        '"""Not a docstring of a function."""',
        '"""Doubles x."""',
        "# two times",
        '"a pixel"',
        '"row"',
        '"zero"',
        'f"{f(2)} is 4"',
        '"cat"',
    ]


def test_a_translated_notebook_has_the_translations_in_place_and_a_changed_text_is_english_again(tmp_path, monkeypatch):
    path = write(tmp_path, monkeypatch)
    catalogue = tmp_path / "ko" / "04_small.po"
    assert len(update(catalogue, notebooks.english(path))) == 12
    korean = {
        "# A title": "# 제목",
        "1. First, `code`.": "1. 첫째, `code`.",
        '"zero"': '"영"',
        "# two times": "# 두 배",
    }
    text = catalogue.read_text(encoding="utf-8")
    for before, after in korean.items():
        before, after = (json.dumps(s, ensure_ascii=False) for s in (before, after))
        text = text.replace(f'msgid {before}\nmsgstr ""', f"msgid {before}\nmsgstr {after}")
    catalogue.write_text(text, encoding="utf-8")

    def sources():
        cells = json.loads(notebooks.translated(path, "ko"))["cells"]
        assert cells[1]["cell_type"] == "code" and "use_language" in "".join(cells.pop(1)["source"])
        return ["".join(cell["source"]) for cell in cells]

    expected = [TEXT.replace("A title", "제목").replace("First", "첫째"), CODE.replace('"zero"', '"영"')]
    assert sources() == [expected[0], expected[1].replace("# two times", "# 두 배")]

    path.write_text(path.read_text().replace("A title", "A new title"))
    missing = update(catalogue, notebooks.english(path))
    assert "# A new title" in missing and "# 제목" in catalogue.read_text(encoding="utf-8")  # kept, as obsolete
    assert translations(catalogue).keys() == korean.keys() - {"# A title"}
    assert sources()[0].startswith("# A new title\n")


def test_the_hints_of_an_exercise_are_translated_without_their_tags(tmp_path, monkeypatch):
    path = write(tmp_path, monkeypatch)
    hint = "<details><summary>Hint 1</summary>\n\nLook again.\n\n</details>"
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": hint}]}))
    assert notebooks.english(path) == ["Hint 1", "Look again."]
    joined = "".join(text for _, pieces in notebooks._cells(json.loads(path.read_text())) for text, _ in pieces)
    assert joined == hint


class Blank(ast.NodeTransformer):
    """Code without its texts: string constants are blank, of f-strings only the expressions remain."""

    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node):
        values = [
            ast.unparse(self.visit(part.value)) + (ast.unparse(part.format_spec) if part.format_spec else "")
            for part in node.values
            if not isinstance(part, ast.Constant)
        ]
        return ast.Constant("; ".join(sorted(values)))  # Korean may have them in another order


RUN = "run `python -m minifcn.course translate`, and translate the texts that lack a translation (docs/CONTRIBUTING.md)"
CATALOGUES = {
    **{notebooks.catalogue_of(path, "ko"): notebooks.english(path) for path in notebooks.originals()},
    **{path: sentences.english(path) for path in sentences.catalogues("ko")},
    captions.catalogue("ko"): captions.english(),
}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_text_is_without_a_translation_and_none_is_left_over(path, tmp_path):
    copy = tmp_path / path.parent.name / path.name
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    assert update(copy, CATALOGUES[path]) == [], RUN
    assert copy.read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), RUN


@ORIGINALS
def test_the_committed_notebook_is_what_its_catalogue_gives(path):
    committed = notebooks.catalogue_of(path, "ko").with_suffix(".ipynb").read_text(encoding="utf-8")
    assert committed == notebooks.translated(path, "ko"), RUN


@ORIGINALS
def test_the_code_is_the_originals_but_for_comments_and_labels(path):
    before = json.loads(path.read_text(encoding="utf-8"))["cells"]
    after = json.loads(notebooks.translated(path, "ko"))["cells"]
    del after[1]  # the language
    assert len(before) == len(after)
    for a, b in zip(before, after):
        assert {k: v for k, v in a.items() if k != "source"} == {k: v for k, v in b.items() if k != "source"}
        if a["cell_type"] == "code":
            a, b = (ast.dump(Blank().visit(ast.parse("".join(cell["source"])))) for cell in (a, b))
            assert a == b


@ORIGINALS
def test_a_translation_has_the_formulas_and_the_code_of_the_english(path):
    for english, korean in translations(notebooks.catalogue_of(path, "ko")).items():
        if not english.startswith(("#", '"', 'f"')):
            english, korean = (re.sub(r"\\text\{[^}]*\}", "", " ".join(text.split())) for text in (english, korean))
            for mark in (r"`[^`]+`", r"\$[^$]+\$", r"\d+\.ipynb"):
                assert Counter(re.findall(mark, english)).keys() == Counter(re.findall(mark, korean)).keys(), english


@ORIGINALS
def test_a_translation_is_korean(path):
    """A text without Hangul is one that has no words to translate: it is as it was."""
    for english, korean in translations(notebooks.catalogue_of(path, "ko")).items():
        assert HANGUL.search(korean) or korean == english, english
        assert english.startswith("#") == korean.startswith("#")


@pytest.mark.parametrize(
    "path", [*sorted(ROOT.glob("notebooks/ko/*.po")), ROOT / "docs/ko.md"], ids=lambda path: path.name
)
def test_emphasis_in_korean_is_drawn_as_emphasis(path):
    """Markdown does not close ``*a (b)*`` before a letter, and Korean particles follow without a blank."""
    text = path.read_text(encoding="utf-8") if path.suffix == ".md" else "\n".join(translations(path).values())
    assert not re.findall(r".{0,20}[)\].,\"”%]\*+[가-힣].{0,20}", text)


def test_the_extra_has_a_font_with_all_hangul_for_figures_in_regular_and_bold(caplog):
    from matplotlib.font_manager import FontProperties, findfont

    from minifcn.viz.fonts import use_fonts
    from minifcn.viz.style import styled

    with styled():
        assert use_fonts(map(chr, range(0xAC00, 0xD7A4))) == ""
        from matplotlib import rcParams

        family = rcParams["font.family"][-1]
    paths = {findfont(FontProperties(family=family, weight=weight)) for weight in ("normal", "bold")}
    assert len(paths) == 2 and not caplog.records


def rows(page, head):
    """The first two columns of the table with this first line, as pairs."""
    _, _, after = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(f"\n{head}\n")
    lines = after.partition("\n\n")[0].splitlines()[1:]
    return [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in lines]


def test_the_glossary_goes_both_ways_in_the_order_of_its_language():
    korean, english = rows("ko.md", "| 한국어 | 영어 | 뜻 |"), rows("glossary.md", "| English | Korean |")
    assert len(korean) > 25 and korean == sorted(korean)  # the order of code points is that of the Korean alphabet
    assert english == sorted(((b, a) for a, b in korean), key=lambda pair: pair[0].lower())


def test_each_picture_of_the_korean_page_is_one_of_a_korean_notebook():
    make = runpy.run_path(str(ROOT / "docs/images/ko/make.py"))
    page = (ROOT / "docs/ko.md").read_text(encoding="utf-8")
    assert [f"images/ko/{name}.png" for name in make["PICTURES"]] == re.findall(r"\]\((images/[^)]+)\)", page)
    for picture, (name, text) in make["PICTURES"].items():
        assert make["cell"](ROOT / "notebooks/ko", name, text) and (ROOT / f"docs/images/ko/{picture}.png").is_file()
