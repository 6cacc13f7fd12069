"""The bug dojo: each backward pass has one wrong line, the game keeps the score, and any end of the input ends it."""

import io
import os
import signal
import subprocess
import sys
import time

import pytest

import minifcn as mf
from minifcn import dojo
from minifcn.course.dojo import LEVELS, Bout
from minifcn.course.sabotage_layers import SABOTAGES
from minifcn.errors import UserError

each = pytest.mark.parametrize("case", SABOTAGES, ids=[f"{s.op.__name__}: {s.what}" for s in SABOTAGES])


@each
def test_the_right_lines_are_right_and_exactly_one_line_is_wrong(case):
    with mf.override(**{case.op.__name__: case.operation(sabotaged=False)}):
        assert mf.gradcheck(case.fn, *case.arrays)
    with mf.override(**{case.op.__name__: case.operation()}), pytest.raises(mf.GradcheckError):
        mf.gradcheck(case.fn, *case.arrays)
    differ = [n for n, (a, b) in enumerate(zip(case.lines(), case.lines(sabotaged=False)), start=1) if a != b]
    assert differ == [case.line] and case.line > 1
    assert case.lines()[0] == "def backward(self, gy):"


def test_there_are_six_levels_with_several_mistakes_each():
    assert {s.level for s in SABOTAGES} == set(range(1, LEVELS + 1))
    for level in range(1, LEVELS + 1):
        assert sum(s.level == level for s in SABOTAGES) >= 2
        assert len({str(Bout(level, seed)) for seed in range(20)}) == sum(s.level == level for s in SABOTAGES)


@pytest.mark.parametrize("level", range(1, LEVELS + 1))
@pytest.mark.parametrize("seed", range(4))
def test_a_bout_shows_code_report_and_a_picture_in_which_something_differs(level, seed):
    bout = Bout(level, seed)
    assert str(bout) == str(Bout(level, seed)), "the same seed gives the same bout"
    assert "backward() gives" in bout.report
    assert (bout.gradient != bout.measured).any()
    assert "*" in bout.drawn() and max(map(len, bout.drawn().split("\n"))) < 80
    bout.picture().savefig(drawing := io.BytesIO())
    assert drawing.getbuffer().nbytes > 2000


def the_line(bout):
    return next(n for n in range(1, len(bout.lines) + 1) if Bout(bout.level, 0).guess(n))


def test_hints_and_wrong_guesses_cost_points_until_the_line_is_found():
    bout = Bout(2)
    line = the_line(bout)
    assert bout.hint() and bout.points == 8
    assert not bout.guess(1) and bout.points == 5
    bout.hint(), bout.hint()
    assert bout.points == 1 and "no more" in bout.hint() and bout.points == 1
    assert not bout.guess(1) and bout.points == 0, "never less than 0"
    fresh = Bout(2)
    assert fresh.guess(line) and fresh.points == 10
    assert not fresh.guess(1) and fresh.points == 10
    assert f"line {line}\n  wrong:  " in fresh.solution() and "\n  right:  " in fresh.solution()


def test_the_last_hint_names_two_lines_one_of_which_is_wrong():
    for level in range(1, LEVELS + 1):
        bout = Bout(level)
        hints = [bout.hint() for _ in range(3)]
        pair = [int(word.strip(".")) for word in hints[2].split() if word.strip(".").isdigit()]
        assert len(set(pair)) == 2 and the_line(bout) in pair
        assert len(set(hints)) == 3


def test_a_level_that_does_not_exist_is_one_sentence():
    with pytest.raises(UserError, match="no level 7: choose one from 1 to 6"):
        Bout(7)


def test_a_whole_game_in_the_terminal(monkeypatch, capsys):
    answers = iter(str(the_line(Bout(level))) for level in range(1, LEVELS + 1))
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    assert dojo.main([]) == 0
    said = capsys.readouterr().out
    assert said.count("Yes, 10 points.") == 6 and said.endswith("\n60 points of 60.\n")


def test_other_answers_are_explained_and_cost_nothing(monkeypatch, capsys):
    answers = iter(["", "four", "0", "99", "h", "1", "q"])
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    assert dojo.main(["--level", "3"]) == 0
    said = capsys.readouterr().out
    assert said.count("Type a number from 1 to") == 4 and "No: line 1 is right. (-3)" in said
    assert "right:" in said and said.endswith("0 points of 10.\n"), "who stops is shown the answer"


PLAIN = {
    "TERM": "dumb",
    "NO_COLOR": "1",
    "COLUMNS": "20",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONIOENCODING": "ascii",
}


def start(**options):
    command = [sys.executable, "-m", "minifcn.dojo", "--level", "6", "--seed", "1"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | PLAIN, **options
    )


def test_the_end_of_the_input_ends_the_game_in_a_plain_terminal(tmp_path):
    game = start(stdin=subprocess.DEVNULL, cwd=tmp_path)
    said, errors = game.communicate(timeout=60)
    assert game.returncode == 0 and not errors, errors
    assert "Level 6" in said and "right:" in said and "\x1b" not in said


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_the_game_without_a_traceback(tmp_path):
    game = start(stdin=subprocess.PIPE, cwd=tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    time.sleep(0.1)
    seen = ""
    while "measured" not in seen:
        seen = game.stdout.readline()
        assert seen, game.stderr.read()
    time.sleep(0.3)
    game.send_signal(signal.SIGINT)
    _, errors = game.communicate(timeout=60)
    assert game.returncode == 130 and "Traceback" not in errors
