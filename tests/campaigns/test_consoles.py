"""Run every command on consoles that cannot print all characters, and in locales other than UTF-8."""

import os
import subprocess
import sys

import pytest
from campaign import campaign
from tiny_run import TINY

pytestmark = pytest.mark.campaign

CONSOLES = {
    "cp949": {"PYTHONIOENCODING": "cp949"}, "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"}, "POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}  # fmt: skip
NAMES = ("train", "evaluate", "predict", "geometry", "bench", "experiments", "grade", "course", "gpucheck")
SHOWN = (
    "import minifcn as mf; net = mf.models.fcn8s_mini(num_classes=3, width=0.1); print(net); "
    "print(net.summary((64, 64))); x = mf.Tensor([[1.0]], requires_grad=True); y = mf.ops.exp(x).sum(); "
    "print(y, y.creator, repr(x))"
)


def commands(run, scenes, out):
    """The commands of the campaign, as arguments of Python."""
    started = [["-m", f"minifcn.{name}", "--help"] for name in NAMES]
    picture = scenes / "images" / "0.png"
    return [
        ["-m", "minifcn.train", "--dataset", "folder", "--root", scenes, *TINY, "--out", out / "run"],
        ["-m", "minifcn.evaluate", run], ["-m", "minifcn.predict", run, picture, "--out", out / "predicted"],
        ["-m", "minifcn.geometry", "fcn8s_mini"], ["-m", "minifcn.train", "--dataset", "\u00e9창"],
        ["-m", "minifcn.train", "--resume", out / "없다"], ["-c", SHOWN], ["-m", "minifcn"], *started,
    ]  # fmt: skip


def check_with(run, scenes, base):
    def check(number, rng):
        out = base / str(number)
        out.mkdir()
        argvs = commands(run, scenes, out)
        console, argv = list(CONSOLES)[number % len(CONSOLES)], argvs[number // len(CONSOLES) % len(argvs)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "PYTHON", "LANG"))}
        done = subprocess.run(
            [sys.executable, *map(str, argv)], env=environment | CONSOLES[console], cwd=out, capture_output=True
        )
        message = f"{console}: {' '.join(map(str, argv[:4]))}: {done.stderr[-300:]!r}"
        assert done.returncode in (0, 2) and b"Traceback" not in done.stderr, message
        assert done.returncode == 0 or b"error: " in done.stderr, message

    return check


def test_consoles(finished, tmp_path):
    whole = len(CONSOLES) * (8 + len(NAMES))
    campaign("consoles and locales", 40, whole, check_with(finished, finished.parent / "scenes", tmp_path), seconds=90)


def test_a_character_that_cannot_be_printed_is_seen(finished, tmp_path, monkeypatch):
    """The sabotage: a program prints the typographic minus sign U+2212."""
    monkeypatch.setattr(sys.modules[__name__], "commands", lambda *_: [["-c", "print('\\u2212')"]])
    with pytest.raises(AssertionError, match="UnicodeEncodeError"):
        campaign("sabotage of consoles", 5, 5, check_with(finished, finished.parent / "scenes", tmp_path))
