"""Submissions as editors, notebooks and mail programs write them: right answers get their points, and no file
stops the grading of another."""

import csv
import json
import time
import zipfile

import pytest

from minifcn import grade
from minifcn.course import cells, judge
from minifcn.course.child import compiled
from minifcn.errors import UserError

pytestmark = pytest.mark.course

tasks = pytest.importorskip("minifcn.course.tasks", reason="pip install 'minifcn[course]'")


@pytest.fixture(scope="module")
def a2():
    return tasks.Assignment(tasks.folder() / "a2_convolution.py")


def rows(out):
    with open(out / "scores.csv", encoding="utf-8-sig") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def graded(folder, out, *more):
    assert grade.main([str(folder), "--task", "2.1", "--out", str(out), "--seed", "3000000000", *more]) == 0
    return rows(out)


def notebook(sources, **more):
    held = [{"cell_type": "code", "source": source, "metadata": {}} for source in sources]
    return {"cells": held, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **more}


DEEP = "[" * 100_000
BROKEN = {
    "a text": b'"x"',
    "no cells": b"{}",
    "cells of texts": b'{"cells": ["x"]}',
    "cells that are a dict": b'{"cells": {"a": 1}}',
    "cells that are null": b'{"cells": null, "worksheets": 3}',
    "worksheets of texts": b'{"worksheets": ["x", {"cells": 4}]}',
    "numbers for lines": b'{"cells": [{"cell_type": "code", "source": [1, 2]}]}',
    "a dict for a text": b'{"cells": [{"cell_type": "code", "source": {"a": 1}}]}',
    "a list for a kind": b'{"cells": [{"cell_type": ["code"], "source": "x"}]}',
    "metadata of a wrong type": b'{"cells": [{"cell_type": "code", "source": "x", "metadata": 5}], "metadata": []}',
    "endless nesting": DEEP.encode(),
    "nested metadata": f'{{"metadata": {DEEP}{"]" * len(DEEP)}, "cells": []}}'.encode(),
    "a number of 10,000 digits": b'{"cells": [], "nbformat": ' + b"1" * 10_000 + b"}",
    "five million values": b'{"cells": [' + b"{}," * 3_000_000 + b"{}]}",
    "half a surrogate": b'{"cells": [{"cell_type": "code", "source": "# Task 2.1\\n\\ud800"}]}',
    "zeros": bytes(1000),
    "nothing": b"",
}


def test_no_notebook_stops_the_class(tmp_path, capsys, a2):
    room = tmp_path / "class"
    room.mkdir()
    for number, content in enumerate(BROKEN.values()):
        (room / f"s{number}_a2_convolution.ipynb").write_bytes(content)
    with open(room / "large_a2_convolution.ipynb", "wb") as file:
        file.truncate(500 << 20)
    (room / "cyclic_a2_convolution.py").write_text("#!/usr/bin/python\n# ---\n# a: &a [*a]\n# ---\n# Task 2.1\nx = 1")
    (room / "ann_a2_convolution.ipynb").write_text(json.dumps(notebook(a2.solution())))
    some = {**notebook(a2.solution()), "metadata": []}
    some["cells"].insert(1, "x")
    (room / "bob_a2_convolution.ipynb").write_text(json.dumps(some))
    table = graded(room, tmp_path / "out")
    assert len(table) == len(BROKEN) + 4
    assert {name: row["points"] for name, row in table.items() if row["points"] != "0"} == {"ann": "4", "bob": "4"}
    assert table["large"]["note"].startswith("large_a2_convolution.ipynb is larger than 64 MB")
    assert "number 2" in table["bob"]["note"]
    assert all("failed" not in row["note"] for row in table.values())


def test_a_fault_of_the_graders_costs_one_file(tmp_path, monkeypatch, a2):
    for student in ("ann", "bob"):
        (tmp_path / f"{student}_a2_convolution.py").write_text(a2.source.read_text(encoding="utf-8"), encoding="utf-8")
    seed_of = "minifcn.course.grading.seed_of"
    monkeypatch.setattr(seed_of, lambda student, seed: seed if student == "bob" else 1 // 0)
    table = graded(tmp_path, tmp_path / "out", "--variants")
    assert table["bob"]["points"] == "4" and (table["ann"]["points"], table["ann"]["page"]) == ("0", "")
    assert "the grader failed, please report it (ZeroDivisionError" in table["ann"]["note"]


def test_a_page_that_cannot_be_written_costs_no_points(tmp_path, monkeypatch, a2):
    for student in ("ann", "bob"):
        (tmp_path / f"{student}_a2_convolution.py").write_text(a2.source.read_text(encoding="utf-8"), encoding="utf-8")
    page = "minifcn.course.feedback.page"
    monkeypatch.setattr(page, lambda student, *args: "<html>" if student == "bob" else 1 // 0)
    table = graded(tmp_path, tmp_path / "out", "--workers", "1")
    assert table["bob"]["points"] == table["ann"]["points"] == "4"
    assert "its page of feedback cannot be written, please report it (ZeroDivisionError" in table["ann"]["note"]
    assert table["ann"]["page"] == "" and (tmp_path / "out" / table["bob"]["page"]).is_file()
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count('<a href="bob') == 1 and '<a href=""' not in page and page.count("4 of 4") == 2


def test_what_is_skipped_is_said_and_upper_case_is_read(tmp_path, capsys, a2):
    room = tmp_path / "class"
    (room / ".ipynb_checkpoints").mkdir(parents=True)
    (room / ".ipynb_checkpoints" / "old_a2_convolution.ipynb").write_text("{}")
    text = a2.source.read_text(encoding="utf-8")
    (room / "ANN_A2_CONVOLUTION.PY").write_text(text, encoding="utf-8")
    (room / "bob_a2_convolution.IPYNB").write_text(json.dumps(notebook(a2.solution())), encoding="utf-8")
    with zipfile.ZipFile(room / "cat.ZIP", "w") as file:
        file.writestr("a2_convolution.py", text)
    (room / "dan_a2_convolution.py").symlink_to(a2.source)
    (room / "eve").symlink_to(tmp_path)
    (room / "fay.pdf").write_bytes(b"%PDF")
    table = graded(room, tmp_path / "out")
    assert {name: row["points"] for name, row in table.items()} == {"ANN": "4", "bob": "4"}
    notes = [
        line.partition(" is not graded: ") for line in capsys.readouterr().err.splitlines() if "not graded" in line
    ]
    assert [(name.rpartition("/")[2], why) for name, _, why in notes] == [
        ("cat.ZIP", "it is an archive: unpack it, and grade again"),
        ("dan_a2_convolution.py", "it is a link: hand in the file itself"),
        ("eve", "it is a link: hand in the file itself"),
        ("fay.pdf", "it is neither a notebook nor a module"),
    ]


KOREAN = "# 합성곱의 창을 열로 편다\n"
ENCODED = {
    "UTF-8": ("", "utf-8"), "UTF-8 with a mark": ("", "utf-8-sig"), "UTF-16": ("", "utf-16"),
    "UTF-16 without a mark": ("", "utf-16-le"), "UTF-32": ("", "utf-32"), "cp949": ("", "cp949"),
    "cp949, which a line says": ("# -*- coding: cp949 -*-\n", "cp949"),
    "EUC-KR, which the second line says": ("#!/usr/bin/env python\n# vim: set fileencoding=euc-kr :\n", "euc-kr"),
    "cp949, where a line says UTF-8": ("# -*- coding: utf-8 -*-\n", "cp949"),
    "an encoding nobody knows": ("# coding: nonsense\n", "utf-8"),
    "one that is no text's": ("# coding: zlib\n", "utf-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_module_is_read_in_the_encoding_it_is_in(tmp_path, name, end):
    before, encoding = ENCODED[name]
    text = f"{before}{KOREAN}# %%\n# Task 2.1\ndef 열로():\n    return '창'\n"
    (tmp_path / "a2.py").write_bytes(text.replace("\n", end).encode(encoding))
    last = cells.read_cells(tmp_path / "a2.py")[-1]
    assert last == cells.Cell("code", "# Task 2.1\ndef 열로():\n    return '창'")


def test_an_encoding_that_takes_for_ever_is_not_tried(tmp_path):
    (tmp_path / "a.py").write_text("# coding: punycode\n" + "a" * 500_000 + "-" + "zz9" * 100_000)
    start = time.monotonic()
    cells.read_cells(tmp_path / "a.py")
    assert time.monotonic() - start < 10


def test_western_windows_and_what_is_no_text(tmp_path):
    (tmp_path / "a.py").write_bytes("# %%\n# é\nx = 'à la carte ü'".encode("cp1252"))
    assert cells.read_cells(tmp_path / "a.py")[-1].source.startswith("# ")
    for content in (b"PK\3\4\0\0\xff", b"\x89PNG\r\n\0\0\0\0", b"\xff\xfe\x00\xd8\x00"):
        (tmp_path / "a.py").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.py is not a text file: save it as UTF-8"):
            cells.read_cells(tmp_path / "a.py")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-be"])
def test_a_notebook_in_another_utf_is_read(tmp_path, encoding):
    (tmp_path / "a.ipynb").write_bytes(json.dumps(notebook([KOREAN]), ensure_ascii=False).encode(encoding))
    assert [c.source for c in cells.read_cells(tmp_path / "a.ipynb")] == [KOREAN]


def test_older_formats_are_read(tmp_path, a2):
    code = [{"cell_type": "code", "input": s.splitlines(True), "language": "python"} for s in a2.solution()]
    (tmp_path / "a.ipynb").write_text(json.dumps({"worksheets": [{"cells": code}], "nbformat": 3, "metadata": {}}))
    read = cells.read_cells(tmp_path / "a.ipynb")
    assert [c.source for c in read] == a2.solution() and {c.kind for c in read} == {"code"}


MAGICS = {
    "a line": "%matplotlib inline\nx = 1",
    "the shell": "!ls\nx = 1",
    "a shell's line that goes on": "!pip install \\\n  numpy \\\n  scipy\nx = 1",
    "a shell's quotation marks": "!echo \"it's (\nx = 1",
    "in a block": "for i in [1]:\n    !ls\nx = 1",
    "what a shell returns": "files = !ls\nx = 1 + len(files)",
    "a question": "print?\nx = 1",
    "questions before": "??print\nx = 1\n?print",
    "a question with dots": "x = 1\nx.real??  # what?",
    "remainders and strings stay": "s = '''\n%a\n!b?\n'''\n!ls\nx = (7\n  % 2) if s == '\\n%a\\n!b?\\n' else 0",
    "time runs its line": "%time x = 1",
    "timeit does not": "x = 1\n%timeit -n 3 x = 2",
    "time runs its cell": "%%time\nx = 1",
    "capture runs its cell": "\n%%capture out\n!ls\nx = 1",
    "a cell of another language": "%%bash\nif [ -f x ]; then ls; fi",
    "a cell that is indented": "  %time x = 1\n  y = 2",
    "automatic calls": "/print x\n,print a b\n;print a b\nx = 1",
}


@pytest.mark.parametrize("name", MAGICS)
def test_magics_are_left_out(name):
    found = {"x": 1} if "another language" in name else {}
    exec(compiled(MAGICS[name], "cell 0"), found)
    assert found["x"] == 1


@pytest.mark.parametrize("text", ["def f(:", "x = 'what?", "x = 3 %", "print(", "a b?", "x = ?"])
def test_what_is_no_python_is_still_none(text):
    with pytest.raises(SyntaxError):
        compiled(text, "cell 0")


def test_a_cell_that_asks_for_ipython_gets_its_points(a2):
    before = [
        "get_ipython().run_line_magic('matplotlib', 'inline')\nif get_ipython():\n    1 / 0",
        "from IPython import get_ipython\nfrom IPython.display import HTML, display\ndisplay(HTML('x'))\nprint?",
        "import IPython.display\nIPython.display.clear_output(wait=True)",
        "assert 'IPKernelApp' not in get_ipython().config",
        "import matplotlib.pyplot as plt\nplt.plot([1])\nimport tqdm.auto",
    ]
    with_magic = a2.solution("2.1", lambda text: "%%time\n" + text + "\nim2col?\n!ls\n%timeit 1")
    (result,) = judge.Examiner(a2, 1, 10).grade([*before, *with_magic], ["2.1"])
    assert result.points == 4 and not result.says and not result.notes


@pytest.mark.parametrize(
    "flag", [("--timeout", "1e10"), ("--timeout", "inf"), ("--timeout", "nan"), ("--seed", "4294967296")]
)
def test_a_flag_out_of_range_is_refused_at_once(tmp_path, refused, flag):
    (tmp_path / "a2.py").write_text("x = 1")
    refused(grade.main, tmp_path / "a2.py", *flag, match=f"argument {flag[0]}: {flag[1]} is not")
