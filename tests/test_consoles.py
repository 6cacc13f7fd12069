"""Unusual consoles, shells and streams: no output can make a command fail."""

import os
import subprocess
import sys
from shlex import quote

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY, write_scenes

from minifcn import __main__
from minifcn.data.palette import save_mask
from minifcn.errors import shown

CONSOLES = {
    "cp949": {"PYTHONIOENCODING": "cp949"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "posix": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
pytestmark = [pytest.mark.cli, pytest.mark.skipif(os.name == "nt", reason="POSIX shells and locales")]


def shell(command, console="", cwd=None, **more):
    """Run a shell's command line, with ``python`` for this interpreter, under one of CONSOLES."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO", "PYTHONUTF8"))}
    environment |= dict(LANG="C.UTF-8", PYTHON=sys.executable) | CONSOLES.get(console, {}) | more
    line = (
        'python() { "$PYTHON" "$@"; }; ' + command
    )  # a function, because the path of the interpreter may contain a blank
    return subprocess.run(["bash", "-c", line], capture_output=True, timeout=120, cwd=cwd, env=environment)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with images, files and classes whose names a console in cp949 or ASCII cannot show."""
    root = tmp_path_factory.mktemp("world") / "그림 é"
    scenes = write_scenes(root / "dåta")
    (scenes / "classes.txt").write_text("하늘\nécole ∑\n$5 × x_y$\n", encoding="utf-8")
    Image.open(scenes / "images/0.png").save(root / "사진.png")
    (root / "a1.py").write_text("# Task 1.1\ndef f(): raise ValueError('−')\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("console", CONSOLES)
def test_every_command_finishes(console, world):
    run = f"r\N{MINUS SIGN}{console}"
    data = f"--dataset folder --root dåta {' '.join(TINY)}"
    for command in (
        f"train {data} --out {run}", f"evaluate {run}", f"predict {run} 사진.png --out '예측 {console}'",
        f"geometry fcn8s_mini --out 그림-{console}.png",
        "train --dataset ∂", "train --resume 없음", "predict 없음.png",
    ):  # fmt: skip
        done = shell(f"python -m minifcn.{command}", console, world)
        refused = command.split()[-1] in ("∂", "없음", "없음.png")
        assert done.returncode == (2 if refused else 0) and b"Traceback" not in done.stderr, done.stderr.decode("latin")
        assert done.stderr.splitlines()[-1].startswith(b"error: ") if refused else b"error" not in done.stderr
    assert (world / run / "report.html").is_file() and (world / f"예측 {console}" / "사진-labels.png").is_file()


@pytest.mark.course
@pytest.mark.parametrize("console", CONSOLES)
def test_grading_finishes(console, world):
    done = shell(f"python -m minifcn.grade a1.py --out 점수-{console}", console, world)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("console", CONSOLES)
def test_every_help_is_shown(console):
    for name in __main__.COMMANDS:
        done = shell(f"python -m minifcn.{name} --help", console)
        assert done.returncode == 0 and b"--config FILE" in done.stdout and not done.stderr, (name, done.stderr)
    assert shell("python -m minifcn", console).returncode == 0
    if console in ("ascii", "posix"):
        text = shell("python -m minifcn.train --help", console, COLUMNS="80").stdout
        assert b"class weights ~ frequency^-POWER" in b" ".join(text.split())


LIBRARY = """
import numpy as np, minifcn as mf
from minifcn import ops, gradcheck, dense_prediction
model = mf.models.fcn8s_mini(num_classes=3, width=0.1)
x = mf.Tensor(np.ones((1, 1, 5, 5)), requires_grad=True, name="µ")
w = mf.Tensor(np.ones((1, 1, 3, 3)), requires_grad=True)
with mf.trace() as t:
    y = mf.ops.conv2d(x, w, padding=1)
    z = mf.ops.batch_norm(y, np.ones(1), np.ones(1)).sum() if hasattr(mf.ops, "batch_norm") else y.sum()
    z.backward()
field = mf.geometry.receptive_field(y, x)
things = [model, model.summary(64), y, y.creator, y.creator.formula, y.where, t.table(), t.ledger(), field]
things += [t["Conv2d"].explain(), mf.kernels.conv2d, mf.data.Shapes(), mf.data.Loader(mf.data.Shapes(), 2)]
things += [mf.metrics.ConfusionMatrix(2), mf.nn.surgery.transplant(model, model)]
things += [f.formula for f in mf.Function.__subclasses__()]
def fails(f):
    try:
        f()
    except Exception as error:
        things.append(error)
        return
    raise SystemExit("it did not fail")
fails(lambda: mf.geometry.region(y, (9, 9), x))
fails(lambda: mf.ops.cross_entropy(mf.Tensor(np.ones((1, 2, 3, 3))), np.full((1, 3, 3), 7)))
fails(lambda: mf.adjoint_check(lambda a: a, lambda a: 2 * a, (3, 3)))
fails(lambda: mf.nn.Conv2d(1, 1, 0))
fails(lambda: mf.dense_prediction.shift_and_stitch(model, np.ones((1, 3, 2, 2), np.float32)))
fails(lambda: mf.ops.crop(y, like=mf.ops.conv2d(mf.ops.pad(x, (3, 3, 3, 3)), w)))
fails(lambda: mf.data.open_dataset("−", "train"))
with open("log.txt", "w") as file:
    for thing in things:
        print(thing)
        print(thing, file=file)
"""


@pytest.mark.parametrize("console", ["utf-8", *CONSOLES])
def test_what_the_library_says_can_be_printed_and_logged(console, tmp_path):
    (tmp_path / "script.py").write_text(LIBRARY, encoding="utf-8")
    done = shell("python script.py", console, tmp_path)
    assert done.returncode == 0, done.stderr.decode("latin")
    text = done.stdout.decode("utf-8" if console == "utf-8" else CONSOLES[console].get("PYTHONIOENCODING", "ascii"))
    assert ("Σ_{c,u,v}" if console in ("utf-8", "cp949") else "sum_{c,u,v}") in text
    assert ("·i − " if console == "utf-8" else "i - ") in text and "\\u" not in text


def test_only_what_cannot_be_shown_is_replaced(monkeypatch):
    class Korean:
        encoding = "cp949"

    assert shown("2×3 − Σ가é") == "2×3 − Σ가é"
    monkeypatch.setattr(sys, "stdout", Korean())
    assert shown("2×3 − Σ가é") == "2×3 - Σ가\\xe9"
    for encoding in (None, "no such encoding", 7):
        Korean.encoding = encoding
        assert shown("2×3 −") == "2×3 −"


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("<&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 2),
        ("2>/dev/full", 0), (">/dev/full 2>/dev/full", 2),
    ],
)  # fmt: skip
def test_streams_that_are_closed_or_full(redirection, code, world, tmp_path):
    run = tmp_path / "run"
    argv = f"--dataset folder --root dåta {' '.join(TINY)}"
    done = shell(f"python -m minifcn.train {argv} --out {quote(str(run))} {redirection}", cwd=world)
    assert done.returncode == code and b"Traceback" not in done.stderr and b"Exception" not in done.stderr, done.stderr
    if code == 0:
        assert (run / "report.html").is_file()
    elif "2>" not in redirection:
        assert done.stderr.count(b"\n") == 1 and b"No space left" in done.stderr
    for command in ("train --help", "train --dataset moon"):
        done = shell(f"python -m minifcn.{command} {redirection}", cwd=world)
        codes = (2,) if "moon" in command else (0, code)  # argparse fails if its help text cannot be written
        assert done.returncode in codes and b"Exception" not in done.stderr, done.stderr


def test_a_closed_stream_is_no_file_of_the_run(world, tmp_path):
    """With stdout and stderr closed, no file may get descriptor 1 or 2, or printed text would be written into it."""
    code = (
        "import os, sys; from minifcn import train\n"
        "train.Recorder.stepped = lambda self, t: (os.write(1, b'x'), os.write(2, b'x'))\n"
        "sys.exit(train.main(sys.argv[1:]))"
    )
    argv = f"--dataset folder --root dåta {' '.join(TINY)} --out {quote(str(tmp_path / 'run'))}"
    assert shell(f'python -c "{code}" {argv} >&- 2>&-', cwd=world).returncode == 0
    assert shell(f"python -m minifcn.evaluate {quote(str(tmp_path / 'run'))}", cwd=world).returncode == 0


@pytest.mark.parametrize(
    "more",
    [
        dict(TERM="dumb"), dict(COLUMNS="0"), dict(COLUMNS="x", LINES="-1"), dict(MPLBACKEND="nonsense"),
        dict(MPLBACKEND="TkAgg"), dict(HOME="/proc/nowhere", MPLCONFIGDIR="/proc/nowhere"), dict(TQDM_NCOLS="-3"),
    ],
    ids=str,
)  # fmt: skip
def test_an_odd_environment_changes_nothing(more, world, tmp_path):
    argv = f"--dataset folder --root dåta {' '.join(TINY)} --out {quote(str(tmp_path / 'run'))}"
    done = shell(f"python -m minifcn.train {argv}", cwd=world, **more)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()


def test_without_a_home(world, tmp_path):
    argv = f"--dataset folder --root dåta {' '.join(TINY)} --out {quote(str(tmp_path / 'run'))}"
    done = shell(f"unset HOME MPLCONFIGDIR; python -m minifcn.train {argv}", cwd=world)
    assert done.returncode == 0 and (tmp_path / "run" / "report.html").is_file(), done.stderr


@pytest.mark.parametrize("value", ["²", "٣", "-1", "", "1.5", "10**3", "9" * 5000])
@pytest.mark.parametrize("variable", ["MINIFCN_THREADS", "MINIFCN_BAND_MB"])
def test_our_variables_are_read_or_refused_in_a_sentence(variable, value, world):
    if (variable, value) == ("MINIFCN_BAND_MB", "1.5"):
        pytest.skip("a number of megabytes")
    mask = np.zeros((8, 8), np.uint8)
    save_mask(world / "m.png", mask)
    done = shell("python -m minifcn.predict 사진.png --overwrite --out p", cwd=world, **{variable: value})
    lines = [line for line in done.stderr.splitlines() if not line.startswith(b"note")]
    assert done.returncode == 2 and len(lines) == 1 and variable.encode() in lines[0], done.stderr
    assert len(lines[0]) < 300
