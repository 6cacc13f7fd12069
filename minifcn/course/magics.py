"""Remove IPython's additions to Python from a cell: magics (`%time`), shell commands (`!ls`) and help (`name?`).

A line is replaced only if Python's parser reports a syntax error in it: `%` and `?` also occur in strings and formulas.
"""

import re
import textwrap

RUN = {"time", "timeit", "capture", "prun"}  # cell magics whose cell is Python: the rest of the cell runs
MAGIC = re.compile(r"(\s*)(?:([\w., ]+=)?\s*[%!].*|[?,;/].*|%{0,2}[\w.*\[\]-]+\?{1,2}\s*(?:#.*)?)$")
TIME = re.compile(r"(\s*)%time\b(.*)$")  # the rest of the line runs


def begin(cell):
    """The lines of a cell without its common indentation and its cell magic, both of which IPython removes."""
    lines = textwrap.dedent(cell).split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if magic := re.match(r"%%(\w*)", lines[first]):
        return [line if magic[1] in RUN and number != first else "" for number, line in enumerate(lines)]
    return lines


def leave_out(lines, at):
    """Replace the line at index `at`, and its continuation lines, if it is IPython's; return whether it is."""
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
    """Stands for ``get_ipython()``, ``display`` and the package IPython: every attribute and every call returns itself.

    It is empty and false, so that code that asks whether it runs in a notebook continues without one.
    """

    __path__ = ()  # makes it a package, so that IPython.display can be imported
    version_info = (0, 0)  # Matplotlib compares it

    def __getattr__(self, name):
        if name.startswith("__"):  # special methods that are not defined here must be missing
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
