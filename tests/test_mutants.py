"""The checks are tested, too: each catches every sabotaged operation and passes the right one."""

from pathlib import Path

import pytest
from mutants import MUTANTS
from operations import OPERATIONS, wrong

import minifcn as mf
from minifcn.ops.activation import Sigmoid


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


def is_caught(operation):
    """Whether the gradient check or the definition of an entry of OPERATIONS finds its sabotaged version."""
    with mf.override(**{operation.sabotaged.__name__: operation.sabotaged}):
        try:
            mf.gradcheck(operation.fn, *operation.arrays)
            operation.check_value()
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("name", [name for name, operation in OPERATIONS.items() if operation.sabotaged])
def test_the_sabotaged_version_of_an_entry_is_caught(name):
    assert is_caught(OPERATIONS[name]), (
        f"tests/operations.py: neither gradcheck nor the definition sees the sabotaged version in the entry {name!r}: "
        "make its backward or its forward wrong, and let the entry run it"
    )


def test_a_sabotage_that_changes_nothing_is_not_caught():
    assert not is_caught(OPERATIONS["sigmoid"]._replace(sabotaged=wrong(Sigmoid)))
    assert is_caught(OPERATIONS["sigmoid"]._replace(definition=lambda x: 1 / (1 + 2**-x)))


def test_the_page_of_checks_lists_them_all():
    page = (Path(__file__).parent.parent / "docs" / "checks.md").read_text(encoding="utf-8")
    missing = [m.what for m in MUTANTS if f"| {m.op.__name__} | {m.what} |" not in page]
    assert not missing, f"docs/checks.md: its table has no row for {', '.join(missing)}"
    assert page.count("| `gradcheck` |\n") == len(MUTANTS) - len(WRONG_FUNCTIONS)
