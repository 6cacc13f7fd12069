"""Find submissions that are alike, on this machine: fingerprints of code, without the code that was handed out.

The package copydetect computes them.  It replaces the names of variables and functions by letters and drops comments,
so renaming hides nothing.
"""

import io
import sys
from dataclasses import dataclass
from importlib.util import find_spec

TOKENS, WINDOW = 25, 4  # characters of normalised code that must agree; fingerprints are taken from so many places
ALIKE = 0.8  # of the shorter submission's own code
LEAST = 120  # characters of own code: two shorter answers are alike by chance
LONGEST = 200_000  # characters of code: a megabyte takes half a minute, and a notebook may have 64


@dataclass(frozen=True)
class Pair:
    """Two submissions to one assignment, and the share of the shorter one's code that is in the other."""

    assignment: str
    first: str
    second: str
    share: float


def available():
    """Whether copydetect is installed; if not, a note says that nothing is compared."""
    if find_spec("copydetect"):
        return True
    print("note: submissions are not compared with each other: pip install 'minifcn[course]'", file=sys.stderr)
    return False


def too_long(one):
    """Whether a submission to an assignment has too much code to be compared with others."""
    return bool(one.assignment) and sum(map(len, one.sources)) > LONGEST


def alike(submissions, least=ALIKE):
    """The pairs of submissions of different students that share at least `least` of their code, the most alike first.

    Parameters
    ----------
    submissions : iterable of Submission
        Those that are :func:`too_long` are left out.

    Returns
    -------
    list of Pair
    """
    from copydetect import compare_files

    pairs, prints, handed_out = [], {}, {}
    for one in submissions:
        if (given := one.assignment) and not too_long(one):
            if given.name not in handed_out:
                handed_out[given.name] = _handed_out(given)
            own = _fingerprint("\n".join(given.to_run(one.sources)), handed_out[given.name])
            if own.token_coverage >= LEAST:
                prints.setdefault(given.name, []).append((one.student, own))
    for assignment, members in prints.items():
        for i, (student, own) in enumerate(members):
            for other, print_ in members[:i]:
                if student != other:
                    share = max(compare_files(own, print_)[1])
                    if share >= least:
                        pairs.append(Pair(assignment, *sorted((other, student)), min(float(share), 1.0)))
    return sorted(pairs, key=lambda pair: (-pair.share, pair.assignment, pair.first, pair.second))


def _fingerprint(text, boilerplate):
    from copydetect import CodeFingerprint

    return CodeFingerprint("a.py", TOKENS, WINDOW, boilerplate, True, fp=io.StringIO(text))


def _handed_out(assignment):
    """The fingerprints of the code that every student got."""
    lines, solving = [], False
    for line in "\n".join(cell.source for cell in assignment.cells if cell.kind == "code").split("\n"):
        solving = (solving or "### BEGIN SOLUTION" in line) and "### END SOLUTION" not in line
        if not solving:
            lines.append(line)
    return list(_fingerprint("\n".join(lines), []).hashes)
