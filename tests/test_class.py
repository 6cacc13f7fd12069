"""A class of thirty: late submissions, archives, copies, helper files, names in Hangul; tables for other programs."""

import csv
import html
import json
import os
import re
import subprocess
import sys
import unicodedata
import zipfile
from datetime import UTC, datetime

import pytest

from minifcn import grade
from minifcn.errors import UserError

pytestmark = pytest.mark.course

tasks = pytest.importorskip("minifcn.course.tasks", reason="pip install 'minifcn[course]'")
from minifcn.course import classroom, gradebooks, gradescope, grading, index, sections, similarity  # noqa: E402
from minifcn.course import statistics as class_statistics  # noqa: E402
from minifcn.course.scores import Scores  # noqa: E402
from minifcn.course.submissions import Submission, submission  # noqa: E402

DUE = 1_775_000_000  # seconds since 1970
NAMES = [
    *("김철수", "이영희", "박민준", "최서연", "정도윤", "강지우", "조하은", "윤서준", "장예은", "임주원"),
    *("한지호", "오수아", "서건우", "신다은", "권현우", "황지민", "안유진", "송시우", "류하린", "전준서"),
    *("홍채원", "고은찬", "문소율", "양태윤", "손나윤", "배지훈", "백서윤", "허도현", "남규리", "심재원"),
]
EMPTY, ZIPPED, KOREAN, HELPED, LINKED, COPIED, COPY = NAMES[3:10]
MACOS = "이영희"  # its folder's name is written as macOS does
LATE = {"박민준": 2, "한지호": 1, "오수아": 9}  # days
BLANK = '# Task 2.1\ndef im2col(*a):\n    raise NotImplementedError("Task 2.1: Every window as a column")'
NEEDS_HELPER = "# Task 2.1\nfrom helper import windows\n\ndef im2col(*a):\n    return windows(*a)"


def notebook(sources):
    more = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{"source": source, **more} for source in sources]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, ensure_ascii=False)


@pytest.fixture(scope="module")
def a2():
    return tasks.Assignment(tasks.folder() / "a2_convolution.py")


class Class:
    """The graded class: its folders, and the answer of each student by name (None: nothing that can be graded)."""


@pytest.fixture(scope="module")
def made(tmp_path_factory, a2):
    made = Class()
    made.home = tmp_path_factory.mktemp("학급")
    made.room, made.out, made.answers = made.home / "class", made.home / "graded", {}
    task = a2.task("2.1")
    variants = [None, *task.mistakes[:4], *task.styles]
    for number, name in enumerate(NAMES):
        folder = made.room / unicodedata.normalize("NFD" if name == MACOS else "NFC", name)
        folder.mkdir(parents=True)
        variant = variants[number % len(variants)]
        if name in (HELPED, COPIED, COPY):
            variant = None
        sources = a2.solution("2.1", variant.change if variant else lambda text: text)
        path = folder / "a2_convolution.ipynb"
        if name == HELPED:
            sources = a2.solution("2.1", lambda text: NEEDS_HELPER)
            (folder / "helper.py").write_text("def windows(*a):\n    return 1\n")
        if name == COPY:
            renamed = [s.replace("cols", "팔월").replace("top", "y0") for s in made.copied]
            path.write_text(notebook(renamed), encoding="utf-8")
        elif name == EMPTY:
            path.write_bytes(b"")
        elif name == ZIPPED:
            with zipfile.ZipFile(folder / "a2_convolution.zip", "w") as file:
                file.writestr("a2_convolution.ipynb", notebook(sources))
        elif name == LINKED:
            path.symlink_to(made.room / NAMES[0] / "a2_convolution.ipynb")
        elif name == KOREAN:
            path = folder / "a2_convolution.py"
            path.write_bytes(("# %%\n# 합성곱\n" + "\n# %%\n".join(sources)).encode("cp949", "replace"))
        else:
            path.write_text(notebook(sources), encoding="utf-8")
        if name == COPIED:
            made.copied = sources
        made.answers[name] = None if name in (EMPTY, ZIPPED, LINKED) else HELPED if name == HELPED else variant
        if not path.is_symlink() and path.exists():
            when = DUE + 86_400 * LATE.get(name, 0) - 3600
            os.utime(path, (when, when))
    lines = ["이름,학번,email,section", *(f"{n},2024{i:04d},s{i}@uni.ac.kr,1" for i, n in enumerate(NAMES))]
    text = "\n".join([*lines, "없는학생,20249999,none@uni.ac.kr,1"])
    (made.home / "roster.csv").write_text(text, encoding="cp949")  # as a spreadsheet in Korea saves it
    due = datetime.fromtimestamp(DUE, UTC).isoformat()
    (made.home / "class.toml").write_text(
        f'roster = "roster.csv"\n[deadlines]\na2_convolution = {due}\n[late]\npercent_per_day = 10\nat_most = 50\n'
    )
    flags = ["--task", "2.1", "--out", str(made.out), "--class", str(made.home / "class.toml")]
    made.flags, made.task = flags, task
    assert grade.main([str(made.room), *flags, "--json", str(made.home / "first.json")]) == 0
    made.page = (made.out / "index.html").read_text(encoding="utf-8")
    return made


def table(path):
    """The rows of a CSV file, as a spreadsheet reads it."""
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")  # without this mark, a spreadsheet reads cp949 or cp1252
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def points(made, name):
    """The points that a student's answer deserves."""
    answer = made.answers[name]
    if answer == HELPED or name == EMPTY:
        return 0
    lost = answer.loses if answer and answer in made.task.mistakes else ()
    return sum(check.points for check in made.task.checks if check.title not in lost)


def test_everybody_gets_the_points_that_the_answer_deserves_less_the_penalty(made):
    head, *rows = table(made.out / "scores.csv")
    rows = {row["student"]: row for row in (dict(zip(head, row)) for row in rows)}
    assert set(rows) == set(NAMES) - {ZIPPED, LINKED}  # in NFC, whatever the folder's name was written in
    for name, row in rows.items():
        deserved = points(made, name)
        days = LATE.get(name, 0)
        assert (int(row["points"]), int(row["days_late"])) == (deserved, days), name
        assert float(row["counted"]) == pytest.approx(deserved * (1 - min(10 * days, 50) / 100))


def test_what_is_not_graded_is_named_with_its_reason(made):
    for file, why in (
        (f"{ZIPPED}/a2_convolution.zip", "it is an archive: unpack it"),
        (f"{LINKED}/a2_convolution.ipynb", "it is a link: hand in the file itself"),
        (f"{HELPED}/helper.py", "it answers no task; a2_convolution.ipynb imports it"),
    ):
        assert re.search(rf"{file}</td><td>{re.escape(html.escape(why))}", made.page)
    assert re.search(rf"Nothing to grade from: {ZIPPED}, {LINKED}, 없는학생\.", made.page)
    assert "cannot be read as a notebook" in made.page and f"{EMPTY}/a2_convolution.ipynb" in made.page


def test_a_helper_file_is_named_as_the_cause(made):
    text = (made.out / f"{HELPED}_a2_convolution.html").read_text(encoding="utf-8")
    assert "it imports <code>helper</code>, a file beside it" in text and "No module named" in text


def test_the_page_of_the_class_counts_solutions_and_mistakes(made):
    given = [name for name in NAMES if name not in (ZIPPED, LINKED)]
    solved = sum(points(made, name) == 4 for name in given)
    assert f"<span>{solved} of {len(given)}</span>" in made.page
    for mistake in made.task.mistakes[:4]:
        count = sum(made.answers[name] is mistake for name in given)
        assert f"<li><b>{count}×</b> {html.escape(mistake.what)}</li>" in made.page
    assert "<script" not in made.page and made.page.count('<a href="') >= len(given)


def test_tasks_to_teach_again_are_those_that_less_than_half_solved(a2):
    mistake = a2.task("2.1").mistakes[1].what

    def record(student, got, says):
        task = dict(number="2.1", title="T", points=got, out_of=4, says=says, checks=[1])
        return dict(student=student, assignment=a2.name, counted=got, points=got, tasks=[task])

    some = [record("a", 4, []), record("b", 1, [mistake, "else"]), record("c", 0, ["not answered"])]
    (task,) = class_statistics.of_tasks(some, [a2])
    assert (task.graded, task.solved, task.unanswered, task.mistakes) == (3, 1, 1, [(mistake, 1)])
    assert task.mean == pytest.approx(5 / 3) and task.to_teach_again
    (task,) = class_statistics.of_tasks(some[:2], [a2])
    assert not task.to_teach_again
    again = [record("b", 3, []), *some]  # a second file of b's: the better one counts
    assert class_statistics.best(again)["b", a2.name]["points"] == 3


def test_a_copy_with_other_names_is_alike_and_another_solution_is_not(made, a2):
    pair = [submission(made.room / name / "a2_convolution.ipynb", [a2]) for name in (COPIED, COPY)]
    assert [p.share > 0.97 for p in similarity.alike(pair)] == [True]
    assert re.search(r"</td><td>100 %</td></tr>", made.page)  # the class's solutions are all the same

    def handed_in(student, change=lambda text: text):
        return Submission(made.home / "x.py", student, a2, a2.solution("2.1", change))

    own = "\n".join(style.change("") for style in a2.task("2.1").styles)
    blanks = [s for s in a2.solution() if not s.startswith("# Task")]
    alone = [Submission(made.home / "x.py", name, a2, [*blanks, text]) for name, text in (("a", own), ("b", BLANK))]
    assert similarity.alike([*alone, Submission(made.home / "x.py", "c", a2, blanks)], 0.01) == []  # handed-out code
    first = [c.source for c in a2.cells if c.task == "2.2"]
    second = [v.change("") for v in a2.task("2.2").styles]
    different = {"a": first, "b": second[:1], "c": second[1:]}
    assert similarity.alike([Submission(made.home / "x.py", *(n, a2, s)) for n, s in different.items()]) == []
    (pair,) = similarity.alike([handed_in("a"), handed_in("b", lambda text: text.replace("cols", "z") + "  # mine")])
    assert (pair.first, pair.second) == ("a", "b") and pair.share > 0.97


def test_without_copydetect_nothing_is_compared_and_a_note_says_so(monkeypatch, capsys):
    monkeypatch.setattr(similarity, "find_spec", lambda name: None)
    assert not similarity.available()
    assert "not compared with each other: pip install" in capsys.readouterr().err


def test_moodle_reads_its_table(made, a2):
    """docs.moodle.org, Grade import: a column identifies the user, one holds the grade, one the feedback."""
    head, *rows = table(made.out / "moodle.csv")
    assert head == ["ID number", "Email address", "Full name", a2.title, f"{a2.title} (feedback)"]
    by_name = {row[2]: row for row in rows}
    assert len(rows) == len(NAMES) + 1 and by_name["없는학생"] == ["20249999", "none@uni.ac.kr", "없는학생", "", ""]
    number, email, _, got, feedback = by_name["박민준"]
    assert (number, email) == ("20240002", "s2@uni.ac.kr") and float(got) == points(made, "박민준") * 0.8
    assert feedback == f"2 days late; 2.1: {points(made, '박민준')} of 4"


def read_by_canvas(rows):
    """A table by the rules of Canvas's importer: {(name, id, SIS id): {assignment: grade}}, and the possible points."""
    head, *rest = rows
    assert len(head) > 3 and "Student" in head[0] and "ID" in head[1]
    columns = 3
    if re.search(r"SIS\s+Login\s+ID", head[2]):
        columns = 4
    elif re.search(r"SIS\s+User\s+ID", head[2]) and re.search(r"SIS\s+Login\s+ID", head[3]):
        columns = 5
    assert "Section" in head[columns - 1]
    possible, grades = {}, {}
    for row in rest:
        given = dict(zip(head[columns:], row[columns:], strict=True))
        if "Points Possible" in row[0]:
            possible = given
        else:
            grades[tuple(row[:3])] = given
    return grades, possible


def test_canvas_reads_its_table(made, a2):
    grades, possible = read_by_canvas(table(made.out / "canvas.csv"))
    assert possible == {a2.title: str(sum(task.points for task in a2.tasks))}
    assert float(grades["김철수", "", "20240000"][a2.title]) == points(made, "김철수")
    assert grades["없는학생", "", "20249999"] == {a2.title: ""} and len(grades) == len(NAMES) + 1


def test_one_file_graded_again_keeps_the_classs_seed_and_the_others(made):
    seed = json.loads((made.home / "first.json").read_text())["seed"]
    before = {row[0]: row for row in table(made.out / "scores.csv")}
    path = next((made.room / "김철수").iterdir())
    assert grade.main([str(path), *made.flags, "--json", str(made.home / "again.json")]) == 0
    assert json.loads((made.home / "again.json").read_text())["seed"] == seed
    assert {row[0]: row for row in table(made.out / "scores.csv")} == before
    page = (made.out / "index.html").read_text(encoding="utf-8")
    pairs = re.compile(r"<h2>Alike.*?</table></div><p>\d+ more pairs", re.S)
    assert f"{ZIPPED}/a2_convolution.zip</td>" in page  # it is still not graded
    assert "28 submissions graded" in page and pairs.search(page)[0] == pairs.search(made.page)[0]


def test_every_student_gets_inputs_of_their_own_if_asked(made, a2, tmp_path, monkeypatch):
    drawn = []
    started = grading.judge.Examiner

    class Examiner(started):
        def _cases(self, task, check):
            cases = super()._cases(task, check)
            drawn.append((self.seed, str(cases[0].args)))
            return cases

    monkeypatch.setattr(grading.judge, "Examiner", Examiner)
    for name in ("김철수", "이영희"):
        (tmp_path / f"{name}_a2_convolution.ipynb").write_text(notebook(a2.solution()), encoding="utf-8")
    flags = ["--task", "2.1", "--out", str(tmp_path / "out"), "--variants", "--seed", "5"]
    assert grade.main([str(tmp_path), *flags]) == 0
    assert [row[2] for row in table(tmp_path / "out" / "scores.csv")[1:]] == ["4", "4"]
    seeds = {grading.seed_of(name, 5) for name in ("김철수", "이영희")}
    assert {seed for seed, _ in drawn} == seeds and len({data for _, data in drawn}) >= 4


DOWNLOADED = {
    "김철수_12345_assignsubmission_file_/a2_convolution.ipynb": "김철수",  # Moodle, in folders
    "김철수_12345_assignsubmission_file_a2_convolution.ipynb": "김철수",  # Moodle, without
    "kimchulsu_LATE_123_4567_a2_convolution.ipynb": "kimchulsu",  # Canvas
    "kimchulsu_123_4567_a2_convolution-2.ipynb": "kimchulsu",
    "ann_1/a2_convolution.ipynb": "ann_1",
}


@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_student_of_a_file_that_moodle_or_canvas_named(tmp_path, a2, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(notebook([]), encoding="utf-8")
    assert submission(path, [a2], inside="/" in name).student == DOWNLOADED[name]


def test_a_task_that_no_section_explains_has_no_link(monkeypatch):
    monkeypatch.setitem(sections.SECTIONS, "9.1", ("02_convolution", "Backward"))
    task = class_statistics.TaskStatistics("9.1", "New", 2, 0, 0, 1.0, 4, [])
    assert "#Backward" in index._again([task], None)
    monkeypatch.delitem(sections.SECTIONS, "9.1")
    assert "9.1: New" in (row := index._again([task], None)) and "<a " not in row


def test_the_page_says_whether_submissions_were_compared(tmp_path, a2, monkeypatch, capsys):
    for name in "ab":
        (tmp_path / f"{name}_a2_convolution.py").write_text(f"# %%\n# Task 2.1\ndef im2col(*a):\n    return '{name}'\n")
    flags = [str(tmp_path), "--task", "2.1", "--out", str(tmp_path / "out")]
    for found, said in ((True, "No two submissions are alike."), (None, "The submissions were not compared: copydet")):
        if not found:
            monkeypatch.setattr(similarity, "find_spec", lambda name: None)
        assert grade.main(flags) == 0
        assert said in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_an_empty_class_has_a_page_and_tables(tmp_path, a2):
    gradebooks.write(tmp_path, [], [a2], classroom.Classroom())
    assert table(tmp_path / "moodle.csv") == [gradebooks.MOODLE]
    assert "0 students" in index.page([], [a2], classroom.Classroom(), [], [], 1)


def test_very_long_submissions_are_not_compared_and_the_page_names_them(tmp_path, a2, monkeypatch):
    own = "\n".join(style.change("") for style in a2.task("2.1").styles)
    long = own + f"\ndata = [{'1, ' * (similarity.LONGEST // 3)}]"
    for name, text in {"ann": own, "bob": own, "cat": long, "dan": long}.items():
        (tmp_path / f"{name}_a2_convolution.ipynb").write_text(notebook([text]), encoding="utf-8")
    lengths, fingerprint = [], similarity._fingerprint
    monkeypatch.setattr(similarity, "_fingerprint", lambda text, *a: lengths.append(len(text)) or fingerprint(text, *a))
    assert grade.main([str(tmp_path), "--task", "2.1", "--out", str(tmp_path / "out")]) == 0
    assert len(lengths) == 3 and max(lengths) < similarity.LONGEST  # ann's, bob's, and the code that was handed out
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<td>ann</td><td>bob</td><td>100 %</td>" in page
    said = "more than 200 kB of code: cat (cat_a2_convolution.ipynb), dan (dan_a2_convolution.ipynb)."
    assert f"Not compared, because they have {said}" in page


def test_pages_of_names_that_differ_in_case_are_two_files_on_every_system(tmp_path, a2):
    table, pages = Scores(tmp_path), []
    for name in ("Ann", "ann"):
        path = tmp_path / f"group of {'capitals' * name.istitle()}" / name / "a2_convolution.py"
        path.parent.mkdir(parents=True)
        path.write_text("# %%\n# Task 2.1\n", encoding="utf-8")
        pages.append(table.page_for(submission(path, [a2])))
    assert pages == ["Ann_a2_convolution_py.html", "ann_a2_convolution_py_2.html"]


# Gradescope ----------------------------------------------------------------------------------------------------------

SCHEMA = {  # https://gradescope-autograders.readthedocs.io/en/latest/specs/, "Output format"
    "type": "object", "required": ["score", "tests"], "additionalProperties": False,
    "properties": {
        "score": {"type": "number"}, "execution_time": {"type": "number"}, "output": {"type": "string"},
        "visibility": {"enum": ["hidden", "after_due_date", "after_published", "visible"]},
        "stdout_visibility": {"enum": ["hidden", "after_due_date", "after_published", "visible"]},
        "extra_data": {"type": "object"}, "leaderboard": {"type": "array"},
        "tests": {
            "type": "array",
            "items": {
                "type": "object", "additionalProperties": False,
                "properties": {
                    "score": {"type": "number"}, "max_score": {"type": "number"}, "name": {"type": "string"},
                    "status": {"enum": ["passed", "failed"]}, "number": {"type": "string"},
                    "output": {"type": "string"}, "tags": {"type": "array"}, "visibility": {"type": "string"},
                },
            },
        },
    },
}  # fmt: skip


def test_gradescopes_zip_grades_a_submission_where_it_was_unpacked(tmp_path, a2):
    import jsonschema

    archive = gradescope.autograder(tmp_path / "autograder.zip", "a2")
    with pytest.raises(UserError, match="exists already"):
        gradescope.autograder(archive, "a2_convolution")
    for unknown in (None, "a", "a2_", "a9"):
        with pytest.raises(UserError, match=r"needs --assignment, one of a1_autograd, .* \(or a2\); got"):
            gradescope.autograder(tmp_path / "other.zip", unknown)
    source, handed_in = tmp_path / "autograder" / "source", tmp_path / "autograder" / "submission"
    with zipfile.ZipFile(archive) as file:
        modes = {info.filename: info.external_attr >> 16 for info in file.infolist()}
        assert modes["setup.sh"] & 0o111 and modes["run_autograder"] & 0o111  # at the root, and executable
        run = file.read("run_autograder").decode()
        file.extractall(source)
    handed_in.mkdir()
    wrong = a2.solution("2.1", a2.task("2.1").mistakes[1].change)
    (handed_in / "a2_convolution.ipynb").write_text(notebook(wrong), encoding="utf-8")
    (handed_in / "a2_convolution copy.ipynb").write_text(notebook([BLANK]), encoding="utf-8")
    solved = tasks.Assignment(tasks.folder() / "a1_autograd.py").solution()
    (handed_in / "a1_autograd.ipynb").write_text(notebook(solved), encoding="utf-8")
    (handed_in / "notes.zip").write_bytes(b"PK")
    (source.parent / "results").mkdir()
    arguments = re.search(r"python (-m minifcn\.course\.gradescope .*)", run)[1].split()
    environment = {**os.environ, "PYTHONPATH": str(source)}
    subprocess.run([sys.executable, *arguments], cwd=source, env=environment, check=True, timeout=300)
    found = json.loads((source.parent / "results" / "results.json").read_text())
    jsonschema.validate(found, SCHEMA)
    lost = a2.task("2.1").mistakes[1].loses
    assert found["score"] == sum(t["score"] for t in found["tests"]) == 20 - len(lost)
    assert sum(t["max_score"] for t in found["tests"]) == 20
    assert [t["name"].partition(": ")[2] for t in found["tests"] if t["status"] == "failed"] == list(lost)
    assert "notes.zip is not graded: it is an archive" in found["output"]
    copy = "a2_convolution copy.ipynb does not count: a2_convolution.ipynb has at least as many points"
    assert copy in found["output"]
    assert "a1_autograd.ipynb is not graded: it answers a1_autograd, and this is a2_convolution" in found["output"]
    assert any("im2col(x, " in t["output"] for t in found["tests"])


def test_gradescope_gets_the_points_of_one_file():
    def record(name, points):
        check = dict(title="a", points=points, out_of=20, says=[], code="")
        task = dict(number="2.1", title="T", says=[], checks=[check])
        return dict(file=f"/s/{name}", notes=["2 files"], counted=float(points), tasks=[task])

    unread = dict(file="/s/x.ipynb", notes=["x.ipynb cannot be read"], counted=0.0, tasks=[])
    found = gradescope.results([unread, record("a2.ipynb", 7), record("a2.py", 20), record("a1.ipynb", 19)], [])
    assert (found["score"], len(found["tests"])) == (20, 1)
    assert found["output"].split("\n") == [
        "x.ipynb cannot be read", "2 files", "a2.ipynb does not count: a2.py has at least as many points",
        "a1.ipynb does not count: a2.py has at least as many points",
    ]  # fmt: skip
    assert gradescope.results([unread], []) == {"score": 0, "output": "x.ipynb cannot be read", "tests": []}
