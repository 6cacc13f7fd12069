"""The strict double finds every planted bug and accepts every right version."""

from pathlib import Path

import numpy as np
import planted
import pytest
import strict_cupy

pytestmark = pytest.mark.strict
bugs = pytest.mark.parametrize("bug", planted.BUGS, ids=lambda bug: bug.name)


@bugs
def test_the_double_finds(bug):
    assert planted.found(bug, strict_cupy)


@bugs
def test_what_is_right_gives_numpys_numbers(bug):
    on_numpy, on_double = (planted.run(bug.right, xp, bug.arrays).value for xp in (np, strict_cupy))
    assert on_numpy.dtype == on_double.dtype
    np.testing.assert_allclose(on_double, on_numpy, rtol=1e-6)


@bugs
def test_the_table_tells_the_truth_about_plain_numpy(bug):
    if bug.numpy_finds is not None:
        assert bool(planted.found(bug, np)) == bug.numpy_finds


def test_the_command_prints_every_bug(capsys):
    planted.main()
    table = capsys.readouterr().out.splitlines()[1:]
    assert len(table) == len(planted.BUGS)
    assert all(line.startswith(bug.name) for line, bug in zip(table, planted.BUGS))


def test_the_page_of_checks_shows_every_bug_and_what_numpy_sees_of_it():
    page = (Path(__file__).parents[2] / "docs/checks.md").read_text(encoding="utf-8")
    words = {None: "by chance", True: "finds it", False: "—"}
    for bug in planted.BUGS:
        assert f"\n| {bug.name} | {words[bug.numpy_finds]} | " in page
    rows = page.partition("| planted bug |")[2].count("\n| ")
    assert rows == len(planted.BUGS)
