"""The checks are tested, too: each catches every sabotaged operation and passes the right one."""

from pathlib import Path

import pytest
from mutants import MUTANTS

import minifcn as mf


def ids(mutants):
    return [f"{m.op.__name__}: {m.what}" for m in mutants]


@pytest.mark.parametrize("mutant", MUTANTS, ids=ids(MUTANTS))
def test_the_true_operation_passes(mutant):
    mutant.run(sabotaged=False)


@pytest.mark.parametrize("mutant", MUTANTS, ids=ids(MUTANTS))
def test_the_sabotaged_operation_is_caught(mutant):
    with pytest.raises(AssertionError) as caught:
        mutant.run(sabotaged=True)
    if mutant.check == "gradcheck":
        assert isinstance(caught.value, mf.GradcheckError)
        assert "kink" not in str(caught.value)
        assert "backward() gives" in str(caught.value) or "f(a, a)" in str(caught.value)


WRONG_FUNCTIONS = [m for m in MUTANTS if m.check != "gradcheck"]


@pytest.mark.parametrize("mutant", WRONG_FUNCTIONS, ids=ids(WRONG_FUNCTIONS))
def test_gradcheck_cannot_see_a_wrong_function(mutant):
    assert mutant.gradient_is_consistent()


def test_the_page_of_checks_lists_them_all():
    page = (Path(__file__).parent.parent / "docs" / "checks.md").read_text(encoding="utf-8")
    assert not [m.what for m in MUTANTS if f"| {m.op.__name__} | {m.what} |" not in page]
    assert page.count("| `gradcheck` |\n") == len(MUTANTS) - len(WRONG_FUNCTIONS)
