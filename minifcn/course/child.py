"""The process that runs one submission for one task: it computes, it does not judge.

It knows a submission's cells and how to call what they define; it holds no test, no expected value and no score.
"""

import os
import resource
import sys
import traceback
import types
from contextlib import suppress

import numpy as np

from . import cuda, guard, magics, probes, wire
from .confine import end_with_parent


def main(reader, writer):
    """Serve the judge over two pipes until it hangs up."""
    end_with_parent()
    judge = Judge(os.fdopen(reader, "rb"), os.fdopen(writer, "wb"))
    order = judge.receive()
    guard.forbid(order["forbidden"])
    limit_memory(order["memory"])
    given = {name: guard.resolve(path) for name, path in order["given"].items()}
    kernel = cuda.load(*order["kernel"]) if order.get("kernel") else None
    guard.lock(native=bool(kernel))
    for name in ("IPython", "IPython.display", "IPython.core.display"):
        sys.modules[name] = magics.Nothing()

    answers, problems = run_cells(order["cells"], judge.send)
    missing = [name for name in order["answers"] if name not in answers and not kernel]
    answers |= given
    wanted = [kernel] if kernel else [answers.get(name) for name in order["answers"]]
    judge.send({"problems": problems, "missing": missing})
    while request := judge.receive():
        probe, args = request["probe"], request["args"]
        answer = wanted[0] if len(wanted) == 1 else dict(zip(order["answers"], wanted))
        judge.send(attempt(getattr(probes, probe), answer, args, order["cells"]))


def limit_memory(more):
    """Allow this process `more` bytes than it has now; where that cannot be told, that many in all."""
    try:
        with open("/proc/self/statm") as file:
            more += int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        pass
    resource.setrlimit(resource.RLIMIT_AS, (more, more))


def run_cells(cells, tell=lambda message: None):
    """({name: value}, [(cell, problem)]) of a submission's cells, run in order; one that raises ends alone."""
    module = types.ModuleType("submission")
    sys.modules["submission"] = module  # dataclasses and the like look their module up
    vars(module).update(dict.fromkeys(("get_ipython", "display"), magics.Nothing()))
    problems = []
    for number, cell in enumerate(cells):
        tell({"cell": number})
        try:
            exec(compiled(cell, f"cell {number}"), vars(module))
        except Exception as error:  # whatever it is, it is the submission's
            problems.append((number, described(error, cells)))
    return vars(module), problems


def compiled(cell, name):
    """A cell's code, its magics left out; SyntaxError where it is no Python, even without them."""
    with suppress(SyntaxError):  # most cells are plain Python
        return compile(cell, name, "exec")
    lines = magics.begin(cell)
    while True:
        try:
            return compile("\n".join(lines), name, "exec")
        except SyntaxError as error:
            if not magics.leave_out(lines, (error.lineno or 0) - 1):
                raise


def attempt(probe, answer, args, cells):
    """What became of ``probe(answer, *args)``: its value, or the error; and which arguments it changed in place."""
    before = [_contents(a) for a in args]
    try:
        value = probe(answer, *args)
    except Exception as error:  # whatever it is, it is the submission's
        return {"error": described(error, cells), "kind": type(error).__name__}
    changed = [i for i, a in enumerate(args, 1) if _contents(a) != before[i - 1]]
    return {"value": plain(value), "changed": changed}


def _contents(value):
    """What is in an array, or in several."""
    if isinstance(value, tuple | list):
        return [_contents(v) for v in value]
    return value.tobytes() if isinstance(value, np.ndarray) else None


def plain(value):
    """Tensors as arrays of which the judge is told what they were."""
    if type(value).__name__ == "Tensor" and hasattr(value, "numpy"):
        return {"tensor": value.numpy()}
    if isinstance(value, tuple | list):
        return type(value)(plain(v) for v in value) if type(value) in (tuple, list) else tuple(map(plain, value))
    return value


def described(error, cells):
    """An error in a sentence: what, and on which line of the submission."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{text.split(' (cell')[0]}, line {error.lineno}: {(error.text or '').strip()}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith("cell ") and cells:
            lines = cells[int(frame.filename.split()[1])].split("\n")
            return f"{text}, at `{lines[frame.lineno - 1].strip()}`" if frame.lineno <= len(lines) else text
    return text


class Judge:
    """The judge, as seen from here: requests come, answers go, and it can be asked to call a function of its own."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, message):
        wire.send(self.writer, message)

    def receive(self):
        return wire.receive(self.reader, self.remote)

    def remote(self, name):
        """A function of the judge's, called through the pipe."""

        def called(*args):
            self.send({"call": name, "args": args})
            reply = self.receive()
            if reply is None:
                raise SystemExit
            if "error" in reply:
                raise ValueError(reply["error"])
            return reply["value"]

        return called


if __name__ == "__main__":
    # the module that runs is called __main__; what a submission can import is this one's other self
    main(*map(int, sys.argv[1:]))
