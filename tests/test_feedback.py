"""What a student reads: the smallest input that fails, as code that fails when run; no text that misleads or leaks."""

import ast
import re
from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = pytest.mark.course

tasks = pytest.importorskip("minifcn.course.tasks", reason="pip install 'minifcn[course]'")
from minifcn.course import examples, feedback, judge, sections, texts  # noqa: E402
from minifcn.course.child import plain, run_cells  # noqa: E402
from minifcn.course.differences import difference  # noqa: E402


def value_of(code, names):
    """The value of the last line of `code`, run in a notebook that defines `names`."""
    *before, last = ast.parse(code).body
    names = dict(names)
    exec(compile(ast.Module(before, []), "cell", "exec"), names)
    return plain(eval(compile(ast.Expression(last.value), "cell", "eval"), names))


def parts(value):
    """The arrays in a result."""
    if isinstance(value, dict | tuple | list):
        return [a for v in (value.values() if isinstance(value, dict) else value) for a in parts(v)]
    return [np.asarray(value)]


@pytest.fixture(scope="module")
def known():
    return tasks.assignments()


FAILING = [  # one of each kind of probe: a call, a Function, an operation's output, a network, an update in place
    ("1.1", 1), ("1.2", 1), ("1.4", 1), ("2.1", 4), ("2.3", 0), ("2.4", 1), ("3.2", 0), ("3.5", 0), ("4.2", 0),
    ("5.1", 0), ("5.4", 0), ("6.1", 0), ("6.2", 0),
]  # fmt: skip


@pytest.mark.parametrize("number, which", FAILING)
def test_the_code_of_a_failed_check_fails_in_the_students_notebook_and_not_in_a_right_one(known, number, which):
    assignment = next(a for a in known if number in a.headings)
    task = assignment.task(number)
    wrong = assignment.solution(number, task.mistakes[which].change)
    result = judge.Examiner(assignment, seed=3, timeout=20).grade_task(wrong, task)
    students, right = run_cells(wrong)[0], run_cells(assignment.solution())[0]
    lost = [c for c in result.checks if c.points < c.out_of]
    assert any(c.code for c in lost)
    for check in lost:
        if not check.code:
            continue
        assert len(check.code) <= examples.LONGEST
        expected = value_of(check.code, right)
        try:
            got = value_of(check.code, students)
        except Exception as error:
            assert type(error).__name__ in check.says[0]
            continue
        assert difference(got, expected, 1e-6), check.code
        if check.picture:
            _, shown, shown_right = check.picture
            assert any(a.shape == shown.shape and np.allclose(a, shown, equal_nan=True) for a in parts(got))
            assert any(a.shape == shown_right.shape and np.allclose(a, shown_right) for a in parts(expected))


def test_the_input_is_the_smallest_that_fails(known):
    a2 = next(a for a in known if a.name == "a2_convolution")
    first_only = "# Task 2.1\n_right = mf.kernels.textbook.im2col"
    text = a2.solution("2.1", lambda _: first_only)  # no im2col at all: said once, and no code
    (result,) = judge.Examiner(a2, 1).grade(text, ["2.1"])
    assert not any(c.code for c in result.checks)
    swapped = next(m for m in a2.task("2.1").mistakes if "order (j, i)" in m.what)
    (result,) = judge.Examiner(a2, 1).grade(a2.solution("2.1", swapped.change), ["2.1"])
    plain_windows = result.checks[0]
    smallest = "one image, one channel, 3×3 windows"  # 25 numbers; the others have 40 and 144
    assert plain_windows.says[0].startswith(f"{smallest}: ")
    assert plain_windows.code.count("np.array") == 1 and plain_windows.code.endswith(
        "im2col(x, (3, 3), (1, 1), (0, 0), (1, 1))"
    )


def test_a_smaller_number_of_samples_is_tried():
    case = tasks.Case("x", np.ones((3, 2, 4, 4)), (3, 2, 4, 4), np.zeros((3, 2, 2, 2), "float32"), (1, 1))
    first, second = examples.simpler(case)
    assert [getattr(a, "shape", a) for a in first.args] == [(1, 2, 4, 4), (1, 2, 4, 4), (1, 2, 2, 2), (1, 1)]
    assert second.args[0].shape == (3, 2, 4, 4) and first.args[2].dtype == "float32"
    mixed = tasks.Case("x", np.ones((3, 2, 4, 4)), np.ones((5, 2, 3, 3)))
    assert [c.args[0].shape for c in examples.simpler(mixed)] == [(3, 2, 4, 4)]


def test_an_array_is_written_as_code_that_makes_it():
    rng = np.random.default_rng(1)
    hollow = rng.standard_normal((2, 6))[:, ::2]
    for array in (
        np.array(2.5), np.arange(3), np.zeros((0, 2)), np.array([np.nan, -np.inf]), hollow, np.array([True, False]),
        rng.standard_normal((2, 3)).astype("float32"), rng.integers(0, 255, (8, 8)), np.uint8([1, 2]),
    ):  # fmt: skip
        made = eval(examples._written(array, 0), {"np": np, "nan": np.nan, "inf": np.inf})
        assert made.dtype == array.dtype and made.flags.c_contiguous == array.flags.c_contiguous
        np.testing.assert_array_equal(made, array)


def test_the_normal_numbers_of_a_case_are_short_and_have_no_ties():
    rng = examples.Generator(np.random.PCG64(1))
    few, many = rng.standard_normal(20), rng.standard_normal(20_000)
    assert (few == np.round(few, 4)).all() and np.unique(many).size == many.size
    assert isinstance(rng.standard_normal(), float) and rng.standard_normal(()).shape == ()


def test_every_task_links_to_a_section_that_is_there(known):
    import json

    notebooks = tasks.folder().parent
    for number in (task.number for a in known for task in a.tasks):
        address, notebook, heading = sections.link(number)
        cells = json.loads((notebooks / notebook).read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        assert re.search(rf"^#+ {re.escape(heading)}$", text, re.M), (notebook, heading)
        assert address.startswith(f"../notebooks/{notebook}#") and " " not in address
    address, *_ = sections.link("2.1", "https://example.org/minifcn/")
    assert address == "https://example.org/minifcn/notebooks/02_convolution.html#all-windows-at-once-im2col"


MESSAGES = {
    "open('/home/prof/class/ann/a2.py')": "open('…/a2.py')",
    r"C:\Users\prof\class\a2.py is missing": r"…\a2.py is missing",
    "shapes (2,3)/(4,5), 1/2/3 and a / b": "shapes (2,3)/(4,5), 1/2/3 and a / b",
    "a\n✓  all right (4 of 4)": "a ✓ all right (4 of 4)",
    "\x1b[2J\u202eright\u2066": "\ufffd[2J\ufffdright\ufffd",
}


@pytest.mark.parametrize("said", MESSAGES)
def test_a_message_is_one_line_without_folders_and_controls(said):
    assert texts.message(said) == MESSAGES[said]


def test_no_control_character_of_a_submission_reaches_the_page(known):
    a2 = next(a for a in known if a.name == "a2_convolution")
    hostile = r"""# Task 2.1
import os

def im2col(*a):
    raise ValueError('\u202e\u2067\x1b[31m\x07' + os.getcwd())"""
    (result,) = judge.Examiner(a2, 1).grade(a2.solution("2.1", lambda _: hostile), ["2.1"])
    page = feedback.page("\u202eann\x1b[1m", a2.title, [result], ["\u2066note\x07"])
    assert not [c for c in page if not c.isprintable() and c != "\n"]
    assert "ValueError" in page and "/tmp" not in page and "grade-" in page  # the last name of a path stays


LARGEST = np.finfo(float).max
REFUSED = {  # results that Matplotlib could refuse, or that have no map to draw
    "largest": (np.array([[LARGEST, 1.0], [np.nan, np.inf]]), np.ones((2, 2)), 1),
    "smallest": (np.full((2, 2), -LARGEST), np.ones((2, 2)), 1),
    "empty": (np.zeros((0, 3)), np.zeros((0, 3), "float32"), 0),
    "no_channel": (np.zeros((2, 0, 3, 3)), np.ones((2, 1, 3, 3)), 0),
}


def with_picture(got, right):
    """The page of a result whose only check shows `got` and `right`."""
    check = SimpleNamespace(title="a", points=0, out_of=2, says=["b"], code="", picture=("c", got, right))
    task = SimpleNamespace(number="2.1", title="d", points=0, out_of=2, says=[], checks=[check])
    return feedback.page("ann", "A2", [task])


@pytest.mark.parametrize("name", REFUSED)
def test_every_result_has_a_page(capsys, name):
    got, right, pictures = REFUSED[name]
    assert with_picture(got, right).count("<img") == pictures and not capsys.readouterr().err


def test_a_picture_that_fails_costs_only_itself(monkeypatch, capsys):
    monkeypatch.setattr(feedback, "compare", lambda *args: 1 // 0)
    assert "0 of 2" in (page := with_picture(np.zeros(3), np.ones(3))) and "<img" not in page
    assert "a page has no picture, please report it (ZeroDivisionError" in capsys.readouterr().err


def test_a_picture_shows_values_near_the_largest_float_and_leaves_out_nan():
    got = np.array([[LARGEST, 0.0], [np.nan, 0.0]])
    expected, yours, difference = (ax.images[0] for ax in feedback.compare(got, np.zeros((2, 2))).axes[:3])
    assert yours.get_clim()[1] == expected.get_clim()[1] == difference.get_clim()[1] > 1e299
    assert yours.norm(yours.get_array())[0, 0] == 1 and yours.norm(yours.get_array())[0, 1] == 0.5
    assert yours.get_array().mask.tolist() == [[False, False], [True, False]]
