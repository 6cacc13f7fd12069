"""The process that runs one submission for one task: it computes results and does not judge them.

A submission can read and change all memory of this process.  So the process is given only the submission's cells and
the arguments of each call; it holds no test, no expected value and no score.
"""

import os
import resource
import sys
import traceback
import types
from contextlib import suppress

import numpy as np

from ..training import callbacks, run_folder  # noqa: F401  mf.fit imports them when it runs: a locked process cannot
from . import cuda, disguises, guard, magics, probes, wire
from .confine import end_with_parent


def main(reader, writer):
    """Answer the judge's requests until the judge closes its pipe; `reader` and `writer` are file descriptors."""
    end_with_parent()
    judge = Judge(os.fdopen(reader, "rb"), os.fdopen(writer, "wb"))
    order = judge.receive()
    if order["disguised"]:  # the text of an `own` task names what is closed
        disguises.close(order["forbidden"], attempt, run_cells)
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
    """Limit the address space (RLIMIT_AS) to what this process has now plus `more` bytes.

    Without ``/proc``, as on macOS, the current size is unknown, and `more` is the limit in all.
    """
    try:
        with open("/proc/self/statm") as file:
            more += int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # no /proc
        pass
    resource.setrlimit(resource.RLIMIT_AS, (more, more))


def run_cells(cells, announce=lambda message: None):
    """Run a submission's cells in order, in one namespace; a cell that raises does not stop those after it.

    Returns
    -------
    names : dict
        What the cells define: {name: value}.
    problems : list of (int, str)
        Each cell that raised, by its index, and the error in a sentence.
    """
    module = types.ModuleType("submission")
    sys.modules["submission"] = module  # dataclasses, for one, look up the module of a class
    vars(module).update(dict.fromkeys(("get_ipython", "display"), magics.Nothing()))
    problems = []
    for number, cell in enumerate(cells):
        announce({"cell": number})  # the judge then knows which cell ended the process
        try:
            exec(compiled(cell, f"cell {number}"), vars(module))
        except Exception as error:  # a submission may raise anything
            problems.append((number, described(error, cells)))
    return vars(module), problems


def compiled(cell, name):
    """The code object of a cell, without IPython's magics; SyntaxError if the rest is not Python."""
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
    """Call ``probe(answer, *args)``: a dict with its value and the arguments it changed in place, or with its error."""
    before = [_contents(a) for a in args]
    try:
        value = probe(answer, *args)
    except Exception as error:  # a submission may raise anything
        return {"error": described(error, cells), "kind": type(error).__name__}
    changed = [i for i, a in enumerate(args, 1) if _contents(a) != before[i - 1]]
    return {"value": plain(value), "changed": changed}


def _contents(value):
    """The bytes of an array, or of several, to compare later; None for other values."""
    if isinstance(value, tuple | list):
        return [_contents(v) for v in value]
    return value.tobytes() if isinstance(value, np.ndarray) else None


def plain(value):
    """`value` with each Tensor replaced by ``{"tensor": array}``, so that it can be sent."""
    if type(value).__name__ == "Tensor" and hasattr(value, "numpy"):
        return {"tensor": value.numpy()}
    if isinstance(value, tuple | list):
        return type(value)(plain(v) for v in value) if type(value) in (tuple, list) else tuple(map(plain, value))
    return value


def described(error, cells):
    """An error as a sentence: its type, its message, and the line of the submission that raised it."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{text.split(' (cell')[0]}, line {error.lineno}: {(error.text or '').strip()}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith("cell ") and cells:
            lines = cells[int(frame.filename.split()[1])].split("\n")
            return f"{text}, at `{lines[frame.lineno - 1].strip()}`" if frame.lineno <= len(lines) else text
    return text


class Judge:
    """The connection to the judge: receives requests, sends answers, and calls functions that live in the judge."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, message):
        wire.send(self.writer, message)

    def receive(self):
        return wire.receive(self.reader, self.remote)

    def remote(self, name):
        """A function that has the judge call its function `name`, and returns the result."""

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
    # `import minifcn.course.child` in a submission loads a second copy of this module: the running one is __main__
    main(*map(int, sys.argv[1:]))
