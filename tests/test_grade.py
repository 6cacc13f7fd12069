"""The grader: the points for right, wrong and hostile submissions, and that a submission cannot change its result."""

import csv
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from minifcn import grade
from minifcn.course.differences import difference

pytestmark = pytest.mark.course

tasks = pytest.importorskip("minifcn.course.tasks", reason="pip install 'minifcn[course]'")
from minifcn.course import judge, mutate, trial  # noqa: E402
from minifcn.course.scores import Scores  # noqa: E402


@pytest.fixture(scope="module")
def a2():
    return tasks.Assignment(tasks.folder() / "a2_convolution.py")


@pytest.fixture(scope="module")
def examiner(a2):
    return judge.Examiner(a2, seed=1, timeout=4.0)


def handed_in(a2, text="", task="2.1", before=""):
    """The solution with a cell before it, and another cell for a task."""
    return [before, *a2.solution(task, lambda solution: text or solution)]


ATTACKS = {
    "ends the process as it is read": ("import os\nos._exit(0)", 4),
    "runs for ever as it is read": ("while True: pass", 4),
    "does not parse": ("def f(:", 4),
    "raises": ("1 / 0", 4),
    "prints results": ("print('{\"value\": 1, \"changed\": []}')", 4),
    "replaces minifcn": (
        "import sys, types\nfor name in [n for n in sys.modules if n.startswith('minifcn')]:\n"
        "    sys.modules[name] = types.ModuleType(name)", 4,
    ),
    "writes results into every open pipe": (
        "import os\nfor fd in range(3, 30):\n    try: os.write(fd, b'{\"dict\": {\"value\": 1, \"changed\": []}}\\n')\n"
        "    except OSError: pass", 4,
    ),
    "floods the pipes": (
        "import os\nfor fd in range(3, 30):\n    try:\n        while True: os.write(fd, b'x' * 65536)\n"
        "    except OSError: pass", 4,
    ),
    "replaces what answers are sent with": (
        "import minifcn.course.wire as wire\nwire.send = lambda file, _: file.write(b'null\\n') and file.flush()", 4,
    ),
    "says for ever that a cell begins": (
        "import os\nwhile True:\n  for fd in range(3, 30):\n    try: os.write(fd, b'{\"dict\": {\"cell\": 0}}\\n')\n"
        "    except OSError: pass", 4,
    ),
    "raises half a surrogate": ("raise ValueError('\\ud800')", 4),
    "changes builtins": ("import builtins\nbuiltins.any = builtins.set = lambda *_: True", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_cell_gains_nothing_and_stops_nothing(a2, examiner, name):
    before, points = ATTACKS[name]
    wrong = "# Task 2.1\ndef im2col(x, *rest):\n    return x"
    (lost,) = examiner.grade(handed_in(a2, wrong, before=before), ["2.1"])
    assert lost.points == 0
    (kept,) = examiner.grade(handed_in(a2, before=before), ["2.1"])
    assert kept.points == points, kept


BODIES = {
    "a memory bomb": "x = np.ones((1 << 40,))",
    "a slow memory bomb": "a = []\n    while True: a.append(np.ones(1 << 20))",
    "an endless loop": "while True: pass",
    "endless recursion": "return im2col(*a)",
    "an exit": "import os\n    os._exit(1)",
    "a crash of the interpreter": "import sys\n    sys.setrecursionlimit(10**8)\n    f = lambda n: f(n)\n    f(0)",
    "a kill": "import os, signal\n    os.kill(os.getppid(), signal.SIGKILL)",
    "a process": "import subprocess\n    subprocess.run(['true'])",
    "a fork": "import os\n    os.fork()",
    "PyTorch": "import torch",
    "SciPy": "import scipy.signal",
    "a file written": "open('/tmp/minifcn-was-here', 'w')",
    "a file read": "open(mf.__file__).read()",
    "a folder listed": "import os\n    raise ValueError(os.listdir(os.sep))",
    "a folder scanned": "import os\n    return list(os.scandir('/tmp'))",
    "a folder walked": "import os, pathlib\n    return str([*pathlib.Path('/tmp').iterdir()])",
    "its own folder listed": "import os\n    return str(os.listdir())",
    "a file of the system": "open('/etc/passwd').read()",
    "the hidden tests": "import importlib.util as u\n    s = u.spec_from_file_location('h', mf.__file__)\n"
    "    s.loader.exec_module(u.module_from_spec(s))",
    "a debugger": "import sys\n    sys.settrace(print)",
    "the heap": "import gc\n    return [o for o in gc.get_objects() if getattr(o, '__name__', '') == 'im2col'][0](*a)",
    "a huge answer": "return np.zeros((1 << 27,))",
    "an array of objects": "return np.array([print, 1], dtype=object)",
    "millions of lists": "return [[]] * 20_000_000",
    "a large array of another shape": "return np.zeros((1 << 11, 1 << 11), bool)",
    "a file read by readline": "import readline\n    readline.read_history_file('/etc/passwd')",
    "another interpreter": "import _xxsubinterpreters as i\n    i.run_string(i.create(), '1')",
    "Tcl": "import _tkinter\n    _tkinter.create(None, 'a', 'b', False, False, False).eval('open /etc/passwd')",
    "a pipe with a name": "import os\n    os.mkfifo('minifcn-was-here')",
    "memory that is nobody's": "import os\n    os.memfd_create('x')",
    "a signal by another way": "import os, signal\n    signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0)",
    "a function at an address": "import sys\n    sys.modules['ctypes'].CFUNCTYPE(None)(8)()",
    "a library of SciPy's, by another name": "import importlib.util as u, glob\n"
    "    path, = glob.glob(np.__file__.replace('numpy/__init__.py', 'scipy/ndimage/_nd_image.*.so'))\n"
    "    u.module_from_spec(u.spec_from_file_location('_nd_image', path))",
    "isinstance, replaced": "import builtins\n    keep, builtins.isinstance = builtins.isinstance, lambda *_: True\n"
    "    try: return open('/etc/passwd').read()\n    finally: builtins.isinstance = keep",
    "realpath, replaced": "import os\n    os.path.realpath.__code__ = (lambda f, *, strict=0: os.devnull).__code__\n"
    "    return open('/etc/passwd').read()",
    "a path of two minds": "import io\n    class P:\n        said = ['/dev/null', '/etc/passwd']\n"
    "        def __fspath__(self): return self.said.pop()\n    return io.FileIO(P()).read()",
    "the module itself": "return mf",
    "nothing": "pass",
}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_answer_scores_nothing_and_the_rest_is_graded(a2, examiner, name):
    sources = handed_in(a2, f"# Task 2.1\ndef im2col(*a):\n    {BODIES[name]}")
    lost, kept = examiner.grade(sources, ["2.1", "2.3"])
    assert lost.points == 0
    assert kept.points == kept.out_of
    says = [s for c in lost.checks for s in c.says]
    assert says and all(len(s) < 1000 for s in says)


def test_the_kernel_of_a_task_is_nowhere_in_its_process(a2, examiner):
    everywhere = """# Task 2.1
import sys

def im2col(*a):
    found = []
    for module in list(sys.modules.values()):
        for owner in (module, *[v for v in vars(module).values() if isinstance(v, dict)]):
            items = owner.items() if isinstance(owner, dict) else vars(owner).items()
            found += [v for k, v in list(items) if "im2col" in str(k) and callable(v) and v is not im2col]
    for f in found:
        try:
            return f(*a)
        except Exception:
            pass"""
    (lost,) = examiner.grade(handed_in(a2, everywhere), ["2.1"])
    assert lost.points == 0


REPLIES = (
    '{"dict": [1]}', '{"array": ["<f8", [], "AAAAAAAAAAA=", false]}', '{"array": [{"a": 1}, [1], "", true]}',
    f'{{"array": ["<f8", [{10**30}], "", true]}}', '{"dict": {"value": 1, "changed": [{"tuple": []}]}}',
    f'{{"dict": {{"value": {10**400}, "changed": []}}}}', "[" * 100000,
)  # fmt: skip


@pytest.mark.parametrize("reply", REPLIES, ids=range(len(REPLIES)))
def test_a_reply_of_the_submissions_own_making_scores_nothing(a2, examiner, reply):
    """The submission writes its reply into the pipe itself, and then ends the process."""
    text = f"""# Task 2.1
import os

def im2col(*a):
    for fd in range(3, 30):
        try: os.write(fd, {reply!r}.encode() + b"\\n")
        except OSError: pass
    os._exit(0)"""
    (lost,) = examiner.grade(handed_in(a2, text), ["2.1"])
    assert lost.points == 0


def test_differences_of_what_no_number_is_are_sentences():
    assert difference(10**400, 1.5, 1e-6) and difference(np.zeros(3), None, 1e-6) and difference(np.zeros(3), "a", 1e-6)


def test_the_judges_functions_are_called_with_little_and_tell_no_names():
    a1 = tasks.Assignment(tasks.folder() / "a1_autograd.py")
    texts = (
        "kernel(np.ones((1, 1, 600, 600)), (200, 200), (1, 1), (0, 0), (1, 1), False)",
        "kernel(np.ones((1, 1, 500, 500)), (200, 200), (1, 1), (0, 0), (1, 1), False)",
        "kernel()",
    )
    for text in texts:
        sources = a1.solution("1.6", lambda _, text=text: f"# Task 1.6\ndef examine_max_pool(kernel):\n    {text}")
        (lost,) = judge.Examiner(a1, seed=1, timeout=4.0).grade(sources, ["1.6"])
        says = [c.says[0].partition(": it raises ")[2] for c in lost.checks]
        assert lost.points == 0 and len(set(says)) == 1 and not any("max_pool2d()" in s for s in says)


def test_an_early_mistake_costs_its_own_task_alone(a2, examiner):
    results = examiner.grade(handed_in(a2, "# Task 2.1\ndef im2col(*a):\n    return 0"))
    assert [r.points for r in results] == [0, 4, 4, 4, 4]


def test_a_missing_answer_is_named(a2, examiner):
    (lost,) = examiner.grade([""], ["2.2"])
    assert lost.points == 0 and lost.says == ["the submission has no conv2d"] and not any(c.says for c in lost.checks)
    (lost,) = examiner.grade(["# Task 2.2\ndef convolve(): pass"], ["2.2"])
    assert "the cell `# Task 2.2` is there, but does not define that name" in lost.says[0]


def test_setup_is_there_whatever_became_of_it(a2, examiner):
    for setup in ("", "# Setup\n1 / 0"):
        sources = [setup, *(s for s in a2.solution() if not s.startswith("# Setup"))]
        assert [r.points for r in examiner.grade(sources, ["2.1", "2.2"])] == [4, 4]


def test_what_a_package_can_do_without_it_may_ask_for(a2, examiner):
    before = "try:\n    import pyarrow\nexcept ImportError:\n    pass\nimport pandas"
    pytest.importorskip("pandas", reason="pip install pandas")
    (kept,) = examiner.grade(handed_in(a2, before=before), ["2.1"])
    assert kept.points == 4 and not kept.notes


def test_a_blank_is_said_to_be_one_once(a2, examiner):
    blank = '# Task 2.1\ndef im2col(*a):\n    raise NotImplementedError("Task 2.1: Columns")'
    (lost,) = examiner.grade(handed_in(a2, blank), ["2.1"])
    assert lost.points == 0 and lost.says == ["not answered"] and not any(c.says for c in lost.checks)


def test_what_goes_wrong_in_a_cell_is_said_of_its_own_task(a2, examiner):
    sources = handed_in(a2, "# Task 2.1\ndef im2col(:", before="1 / 0")
    first, second = examiner.grade(sources, ["2.1", "2.2"])
    assert [s.partition(":")[0] for s in first.says] == ["SyntaxError", "the submission has no im2col"]
    assert [s.partition(":")[0] for s in first.notes] == ["ZeroDivisionError"] and not second.says


def test_a_cell_that_ends_the_process_is_named_whoever_found_it(a2, examiner):
    sources = handed_in(a2, "# Task 2.4\nimport os\nos._exit(0)", task="2.4")
    first, ending = examiner.grade(sources, ["2.1", "2.4"])
    assert first.points == 4 and ending.points == 0
    (note,) = first.notes
    assert not first.says and "exit code 0" in note and "# Task 2.4" in note
    (ending,) = examiner.grade(sources, ["2.4"])
    assert "exit code 0" in ending.says[0] and not ending.notes


def test_damage_to_inputs_is_said_by_what_the_student_sees(examiner, a2):
    task, case = a2.task("2.1"), tasks.Case("x", probe="network")
    for probe, words in (("call", "its argument number 2"), ("network", "what it is given")):
        case.probe = probe
        (says,) = examiner._verdict(task, task.checks[0], 0, case, {"value": None, "changed": [2]})
        assert says == f"it changes {words} in place"


def test_several_submissions_at_a_time_get_what_each_would_alone():
    """All threads of the process share one random generator for weights, so only one thread at a time may draw."""
    known = [a for a in tasks.assignments() if a.name[:2] in ("a1", "a2", "a4", "a5")]
    examiners = [judge.Examiner(a, seed=5) for a in known]
    numbers = {"1.1", "1.2", "2.1", "2.2", "4.1", "5.4"}
    with ThreadPoolExecutor(4) as pool:
        graded = pool.map(lambda e: e.grade(e.assignment.solution(), numbers), examiners)
        lost = [(t.number, c.title, c.says) for results in graded for t in results for c in t.checks if c.says]
    assert not lost


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with the one that started it")
def test_a_submission_ends_with_the_grader_that_was_killed():
    program = """
import subprocess, sys, threading
from minifcn.course import process
started = process.subprocess.Popen
class Told(started):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        print(self.pid, flush=True)
process.subprocess.Popen = Told
order = {"cells": ["while True: pass"], "forbidden": [], "disguised": False, "answers": [], "given": {}}
process.Process(order, 100)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as grader:
        child = Path(f"/proc/{int(grader.stdout.readline())}")
        deadline = time.monotonic() + 30
        while int(child.joinpath("stat").read_text().split()[13]) < 300:  # 3 seconds of CPU time, so its loop runs
            assert time.monotonic() < deadline
            time.sleep(0.1)
        grader.kill()
    while child.exists() and child.joinpath("stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_notebooks_magics_are_left_out(a2, examiner):
    (kept,) = examiner.grade(handed_in(a2, before="%matplotlib inline\n!ls\nimport math"), ["2.1"])
    assert kept.points == 4 and not kept.says and not kept.notes


def test_feedback_names_the_line_that_raised(a2, examiner):
    (lost,) = examiner.grade(handed_in(a2, "# Task 2.1\ndef im2col(x, *a):\n    y = x[0]\n    return y['a']"), ["2.1"])
    assert "IndexError" in lost.checks[0].says[0] and "`return y['a']`" in lost.checks[0].says[0]


B = np.arange(24.0).reshape(1, 2, 3, 4) + 1
DIFFERENCES = {
    "nothing (is a `return` missing?)": (None, B),
    "but should return 2 values": (B, (B, B)),
    "the second of the 2 values that it returns is wrong: it is zero": ((B, 0 * B), (B, B)),
    "return its array": ({"tensor": B}, B),
    "axes are in the order": (B.transpose(0, 1, 3, 2), B),
    "its dtype is float32": (B.astype("float32"), B),
    "transposed": (np.ones((1, 1, 3, 3)) * B[0, 0, :3, :3].T, B[:, :1, :3, :3]),
    "turned by 180 degrees": (B[..., ::-1, ::-1], B),
    "mirrored": (B[..., ::-1], B),
    "sign is wrong": (-B, B),
    "0.25 times the right result": (B / 4, B),
    "plus 3 everywhere": (B + 3, B),
    "zero everywhere": (0 * B, B),
    "not finite": (B * [np.inf, 1, 1, 1], B),
    "all of them are at the border": (B * [[2, 2, 2, 2], [2, 1, 1, 2], [2, 2, 2, 2]], B),
    "only the first channel is right": (B + [[[[0]], [[5.0]]]] * B, B),
}


@pytest.mark.parametrize("words", DIFFERENCES)
def test_differences_are_named(words):
    got, right = DIFFERENCES[words]
    assert words in difference(got, right, 1e-6)[0]


def test_no_difference_is_none():
    assert difference(B * (1 + 1e-9), B, 1e-6) is None
    assert difference((B, B > 3), (B, B > 3), 1e-6) is None
    assert difference(np.array([np.inf, np.nan]), np.array([np.inf, 1.0]), 1e-6) is not None


# The command ---------------------------------------------------------------------------------------------------------


def scores(out):
    with open(out / "scores.csv", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_a_class_is_graded_whatever_is_in_it(tmp_path, capsys, a2):
    room = tmp_path / "class"
    for student in ("ann", "bob", "cat"):
        (room / student).mkdir(parents=True)
    text = a2.source.read_text(encoding="utf-8")
    (room / "ann" / "a2_convolution.py").write_text(text, encoding="utf-8")
    (room / "bob" / "a2_convolution.py").write_text("syntax error here", encoding="utf-8")
    (room / "cat" / "a2_convolution.ipynb").write_text("{}{", encoding="utf-8")
    (room / "dan_a2_convolution.py").write_text(text.replace("+= cols", "= cols"), encoding="utf-8")
    (room / "notes.py").write_text("x = 1", encoding="utf-8")
    out, table = tmp_path / "out", tmp_path / "scores.json"
    strange = [{"cell_type": "code", "metadata": {}}, {"cell_type": "code", "source": 5, "metadata": {}}]
    (room / "eve_a2_convolution.ipynb").write_text(
        json.dumps({"cells": strange, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    (room / "fay_a2_convolution.py").symlink_to(a2.source)  # a link to the solution, which the grader does not follow
    (room / "ann_a2_convolution.py").write_text(
        "raise ValueError('\\ud800\\x1b[2J')"
    )  # its page would have the name of ann's
    (room / f"{'x' * 240}_a2.py").write_text("# %%\n# Task 2.1\ndef im2col(): pass")
    args = [str(room), "--task", "2.1,2.3", "--out", str(out), "--json", str(table), "--seed", "3"]
    assert grade.main(args) == 0
    strange = ("eve", "ann_a2_convolution.py", "xxx")
    rows = {row["student"]: row for row in scores(out) if not row["file"].rpartition("/")[2].startswith(strange)}
    points = {name: row["points"] for name, row in rows.items()}
    assert points == {"ann": "8", "bob": "0", "cat": "0", "dan": "4", "notes": "0"}
    assert len(scores(out)) == 8 and all(row["points"] == "0" for row in scores(out) if row["student"] not in rows)
    assert len({*out.glob("*.html")} - {out / "index.html"}) == 7 and (out / "ann_a2_convolution_py_2.html").is_file()
    assert rows["bob"]["out_of"] == "8" and rows["notes"]["note"]
    saved = json.loads(table.read_text())
    assert saved["seed"] == 3 and len(saved["submissions"]) == 8
    page = (out / "dan_a2_convolution_py.html").read_text(encoding="utf-8")
    assert "they must add up" in page and "data:image/png" in page
    assert not [line for line in a2.solution() if line in page]
    capsys.readouterr()
    assert grade.main([str(room / "ann"), "--task", "2.1", "--out", str(out)]) == 0
    assert "✓  plain windows (1 of 1)" in capsys.readouterr().out
    assert len(scores(out)) == 8  # the rows of the other students stay


def test_a_file_graded_again_keeps_its_page_and_its_row(tmp_path, monkeypatch, a2):
    """Two students with the same name in two sections; then one of them is graded again, with another path."""
    text = a2.source.read_text(encoding="utf-8")
    for section, source in (("one", text), ("two", text.replace("+= cols", "= cols"))):
        (tmp_path / "class" / section / "ann").mkdir(parents=True)
        (tmp_path / "class" / section / "ann" / "a2_convolution.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for paths in (["class"], [str(tmp_path / "class" / "two")], ["class/two/ann/a2_convolution.py"]):
        assert grade.main([*paths, "--task", "2.3", "--out", "out"]) == 0
        rows = {Path(row["file"]).parts[-3]: row for row in scores(Path("out"))}
        assert {name: row["2.3"] for name, row in rows.items()} == {"one": "4", "two": "0"}
        pages = {name: (Path("out") / row["page"]).read_text(encoding="utf-8") for name, row in rows.items()}
        assert "they must add up" in pages["two"] and "they must add up" not in pages["one"]


def test_a_table_that_is_none_of_ours_is_left_alone(tmp_path, capsys, a2):
    (tmp_path / "a2_convolution.py").write_text("x = 1")
    for content in (b"a,b\n1,2\n", b"\xff\xfe\x00"):
        (tmp_path / "scores.csv").write_bytes(content)
        assert grade.main([str(tmp_path / "a2_convolution.py"), "--out", str(tmp_path)]) == 2
        assert "is not a file of the grader" in capsys.readouterr().err
        assert (tmp_path / "scores.csv").read_bytes() == content


def test_interrupted_it_keeps_what_it_has(tmp_path, monkeypatch, capsys, a2):
    for student in ("ann", "bob"):
        (tmp_path / f"{student}_a2_convolution.py").write_text(a2.source.read_text(encoding="utf-8"), encoding="utf-8")
    enter = Scores.enter

    def once(table, *args):
        if table.path.exists():
            raise KeyboardInterrupt
        enter(table, *args)

    monkeypatch.setattr(Scores, "enter", once)
    assert grade.main([str(tmp_path), "--task", "2.1", "--out", str(tmp_path / "out"), "--workers", "1"]) == 130
    assert "1 of 2 graded, and kept in" in capsys.readouterr().err
    assert [row["points"] for row in scores(tmp_path / "out")] == ["4"]


STUDENTS = {
    "class/ann/a2_convolution.ipynb": "ann", "class/ann_a2_convolution.py": "ann",
    "class/ann/a2_convolution/a2_convolution.py": "ann", "class/ann/a2_convolution (1).ipynb": "ann",
    "class/ann/a2_convolution - Copy.py": "ann", "class/ann/hw2.py": "ann", "class/ann.py": "ann",
    "class/one/ann_a2_convolution.py": "ann", "class/=1+1.py": "'=1+1",
}  # fmt: skip


@pytest.mark.parametrize("name", STUDENTS)
def test_whose_a_file_is(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(parents=True)
    text = "# %%\n# Task 2.1\ndef im2col(*a):\n    return 1\n"
    Path(name).write_text(text if name.endswith("py") else "{}", encoding="utf-8")
    assert grade.main(["class", "--task", "2.1", "--out", "out"]) == 0
    (row,) = scores(Path("out"))
    assert row["student"] == STUDENTS[name] and not any(str(v).startswith("=") for v in row.values())
    assert (Path("out") / row["page"]).is_file()


@pytest.mark.parametrize(
    "args, words",
    [
        (["nothing.py"], "there is no file nothing.py"),
        (["x.txt"], "is neither an .ipynb or .py file nor a folder"),
        (["."], "there is nothing to grade"),
        (["a2.py", "--task", "9.1"], "there is no task 9.1"),
    ],
)
def test_the_command_refuses_in_a_sentence(tmp_path, monkeypatch, capsys, args, words):
    monkeypatch.chdir(tmp_path)
    if args[0] == "a2.py":
        (tmp_path / "a2.py").write_text("x = 1")
    assert grade.main(args) == 2
    assert words in capsys.readouterr().err


def test_without_a_checkout_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tasks.minifcn, "__file__", str(tmp_path / "minifcn" / "__init__.py"))
    (tmp_path / "a.py").write_text("x = 1")
    assert grade.main([str(tmp_path / "a.py")]) == 2
    assert "clone minifcn's repository" in capsys.readouterr().err


# The release ---------------------------------------------------------------------------------------------------------


def test_the_release_is_built_searched_and_run(tmp_path):
    from minifcn.course import build

    known = tasks.assignments()
    out = build.build(known, tmp_path / "release")
    names = {p.name for p in out.iterdir()}
    assert names == {"README.md", *(f"{a.name}{s}" for a in known for s in (".py", ".ipynb"))}
    for path in out.iterdir():
        assert "SOLUTION" not in path.read_text(encoding="utf-8")
    with pytest.raises(build.UserError, match="not an empty folder"):
        build.build(known, out)


def test_a_leak_is_found(tmp_path, a2):
    from minifcn.course import build

    leak = tmp_path / "a2_convolution.py"
    shutil.copy(a2.source, leak)
    with pytest.raises(build.UserError, match="must not be handed out"):
        build.inspect(a2, leak)
    text = "\n".join(line for line in leak.read_text(encoding="utf-8").split("\n") if "SOLUTION" not in line)
    leak.write_text(text, encoding="utf-8")
    with pytest.raises(build.UserError, match="a line of a solution"):
        build.inspect(a2, leak)


@pytest.mark.parametrize("source", sorted(tasks.folder().glob("a[0-9]_*.py")), ids=lambda p: p.stem)
def test_the_visible_checks_accept_the_solution(source):
    run = subprocess.run([sys.executable, source.name], cwd=source.parent, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert "✗" not in run.stdout and "·" not in run.stdout, run.stdout
    assert run.stdout.count("✓") == source.read_text(encoding="utf-8").count("\n@check\n")


def test_points_of_headings_and_checks_agree():
    for assignment in tasks.assignments():
        text = assignment.source.read_text(encoding="utf-8")
        for task in assignment.tasks:
            assert f"Task {task.number}: {assignment.headings[task.number]} ({task.points} points)" in text


KINDS = ("mistakes", "cheats", "styles")

# The grader, graded --------------------------------------------------------------------------------------------------


def test_the_grader_is_tried_by_enough():
    """``python -m minifcn.course trial`` grades all trial submissions; this test grades two of each kind."""
    variants = {kind: [v for a in tasks.assignments() for t in a.tasks for v in getattr(t, kind)] for kind in KINDS}
    assert len(variants["mistakes"]) + len(variants["cheats"]) >= 60
    assert len(variants["styles"]) >= 10
    assert all(v.loses for v in variants["mistakes"] + variants["cheats"]) and not any(
        v.loses for v in variants["styles"]
    )


def test_a_trial_tells_right_from_wrong(a2, capsys, monkeypatch):
    task = a2.task("2.3")
    few = tasks.Task(**{**vars(task), "mistakes": task.mistakes[:2], "cheats": task.cheats[:1]})
    wrong = tasks.instead("a right one that is said to lose", task.styles[0].change(""), loses="plain")
    few.styles.append(wrong)
    monkeypatch.setattr(a2, "tasks", [few])
    done = trial.trials([a2])
    few.styles.remove(wrong)
    assert [t.is_right for t in done] == [True] * (len(done) - 1) + [False]
    assert "1 NOT as they should be" in trial.table(done)
    assert json.dumps([t.as_row() for t in done])


def test_mutants_change_constants_comparisons_arguments_slices_operators_and_statements(a2):
    task = a2.task("2.3")
    changes = {m.change.partition("  ->  ")[2] for m in mutate.mutants(a2, task)}
    assert {
        "return x[:, :, ph + 1:ph + H, pw:pw + W]", "return x[:, :, :ph + H, pw:pw + W]",  # ends of a slice
        "return x[:, :, ph:ph - H, pw:pw + W]",  # an operator
        "N, C, W, H = x_shape", "for u in range(kh - 1):", "pass",  # the order of names, the end of a loop, a deletion
        "x = np.zeros((N, C, H + 3 * ph, W + 2 * pw), cols.dtype)",  # a constant
        "OH, OW = (out_size(H, kh, sh, dh, ph), out_size(W, kw, sw, pw, dw))",  # the order of arguments
    } <= changes  # fmt: skip
    comparisons = {m.change for m in mutate.mutants(assignment(3), assignment(3).task("3.2"))}
    assert "better = tap > y  ->  better = tap >= y" in comparisons


def test_mutants_of_a_cuda_source_change_its_tokens_and_lines():
    a7 = assignment(7)
    found = mutate.mutants(a7, a7.task("7.1"))
    sources = [m.source for m in found]
    assert any("if (e > total) return;" in s for s in sources) and any("value >= best" in s for s in sources)
    assert any("float best = 1;" in s for s in sources) and not all("index[e] = at;" in s for s in sources)
    assert {"float best = 0;  ->  float best = 1;", "index[e] = at;  ->  ;"} <= {m.change for m in found}


def assignment(number):
    (source,) = tasks.folder().glob(f"a{number}_*.py")
    return tasks.Assignment(source)


def test_a_mutant_is_right_if_it_loses_points_or_is_listed(a2, monkeypatch):
    changes = ["x = 1  ->  x = 2", "y = 1  ->  y = 2", "z = 1  ->  z = 2"]
    listed = {("2.3", changes[1]): "y is not used", ("2.3", changes[2]): "z is not used"}
    (cell,) = (c.source for c in a2.cells if c.task == "2.3")
    wrong = cell.replace("+= cols", "= cols")
    texts = [wrong, cell, wrong]
    made = [mutate.Mutant("2.3", change, text) for change, text in zip(changes, texts)]
    monkeypatch.setattr(mutate, "mutants", lambda *_: [*made, mutate.Mutant("2.3", "unlisted", cell)])
    done = mutate.outcomes([a2], listed, tasks=["2.3"])
    assert [one.is_right for one in done] == [True, True, False, False]
    said = mutate.table(done)
    assert said.count("WRONG") == 2 and "2 of 3 mutants lose points, 66.7 %; 1 more" in said
    assert json.dumps([one.as_row() for one in done])


def test_the_listed_equivalent_mutants_exist():
    there = {(m.task, m.change) for a in tasks.assignments() for t in a.tasks for m in mutate.mutants(a, t)}
    there |= {(task, f"{change.partition('  ->  ')[0]}  ->") for task, change in there}
    assert set(mutate.equivalent(tasks.folder())) <= there and len(there) >= 2000


ALWAYS = {
    "raises": "raise AssertionError",
    "asserts what never holds": "x = np.ones((1, 1, 2, 2))\n"
    '    assert max_pool2d(x, (2, 2), (2, 2), (0, 0), (1, 1), False)[0] == 2, "of four ones"',
    "fails with a text": 'assert False, "wrong"',
}


@pytest.mark.parametrize("way", ALWAYS)
def test_a_test_that_fails_for_every_kernel_is_told_that_it_refuses_right_ones(way):
    a1 = assignment(1)
    sources = a1.solution("1.6", lambda _: f"# Task 1.6\ndef examine_max_pool(max_pool2d):\n    {ALWAYS[way]}")
    (lost,) = judge.Examiner(a1, seed=1).grade(sources, ["1.6"])
    assert lost.points == 0 and "it refuses right kernels, too" in lost.says[0]
    assert not any("last of equal maxima" in s and "refuses" not in s for s in lost.says)
    assert all("your test refuses a right kernel" in c.says[0] for c in lost.checks)
