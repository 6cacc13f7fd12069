"""What IPython adds to Python, in a process without it: magics, shell commands and questions do nothing.

A line of them is replaced only where the parser stops at it: `%` and `?` stand in strings and formulas, too.
"""

import re
import textwrap

RUN = {"time", "timeit", "capture", "prun"}  # cell magics whose cell is Python, and runs here
MAGIC = re.compile(r"(\s*)(?:([\w., ]+=)?\s*[%!].*|[?,;/].*|%{0,2}[\w.*\[\]-]+\?{1,2}\s*(?:#.*)?)$")
TIME = re.compile(r"(\s*)%time\b(.*)$")  # runs what stands behind it, too


def begin(cell):
    """A cell's lines, less what IPython takes off the whole cell: its indentation, its cell magic."""
    lines = textwrap.dedent(cell).split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if magic := re.match(r"%%(\w*)", lines[first]):
        return [line if magic[1] in RUN and number != first else "" for number, line in enumerate(lines)]
    return lines


def leave_out(lines, at):
    """Replace line `at`, and those that continue it, if it is IPython's; whether it was."""
    if not 0 <= at < len(lines):
        return False
    if found := TIME.match(lines[at]):
        lines[at] = found[1] + (found[2].strip() or "pass")
        return True
    if not (found := MAGIC.match(lines[at])):
        return False
    while lines[at].endswith("\\") and at + 1 < len(lines):
        lines[at], at = "", at + 1
    lines[at] = f"{found[1]}{found[2]} []" if found[2] else f"{found[1]}pass"
    return True


class Nothing:
    """What stands for ``get_ipython()``, ``display`` and the package IPython: each of its attributes and calls is it.

    It is empty and false, so code that asks whether it is in a notebook goes on without one.
    """

    __path__ = ()  # of a package: IPython.display can be imported
    version_info = (0, 0)  # Matplotlib compares it

    def __getattr__(self, name):
        if name.startswith("__"):  # what Python asks for is not made up
            raise AttributeError(name)
        return self

    def __call__(self, *args, **kwargs):
        return self

    def __getitem__(self, key):
        return self

    def __iter__(self):
        return iter(())

    def __contains__(self, key):
        return False

    def __bool__(self):
        return False
