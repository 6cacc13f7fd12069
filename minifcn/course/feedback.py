"""The page of feedback for a student: points, sentences, and pictures of wrong results beside the right ones."""

import base64
import io
from html import escape

import numpy as np

from ..viz.report import PAGE
from ..viz.style import styled

STYLE = """<style>
.check { margin: 0 0 1rem; padding-left: 1rem; border-left: 3px solid var(--line); }
.check.lost { border-color: #d55e00; }
.check.kept { border-color: #009e73; }
.check b { float: right; font-weight: 500; font-variant-numeric: tabular-nums; }
.check p { margin: .25rem 0 0; overflow-wrap: anywhere; }
.check figure { margin: .5rem 0; }
.check figure img { margin: 0; }
.found { font-weight: 600; }
code { overflow-wrap: anywhere; }
h2 b { float: right; font-weight: 500; }
</style>
"""


LARGEST = 1 << 20  # elements; a larger result is not drawn


def page(student, title, results, notes=()):
    """The feedback on one submission, as a self-contained HTML page.

    Parameters
    ----------
    student, title : str
        The student's name, and the assignment's title.
    results : list of TaskResult
    notes : sequence of str
        Remarks on the submission as a whole.
    """
    points, out_of = sum(t.points for t in results), sum(t.out_of for t in results)
    body = "".join(f"<p>{_text(note)}</p>" for note in notes) + "".join(map(_task, results))
    setting = f"{points} of {out_of} points"
    fields = dict(title=escape(f"{student}: {title}"), setting=setting, header="", body=STYLE + body)
    return PAGE.substitute(fields, again="")


def _task(result):
    notes = "".join(f'<p class="found">{_text(says[:1].upper() + says[1:])}</p>' for says in result.says)
    checks = "".join(map(_check, result.checks))
    points = f"<b>{result.points} of {result.out_of}</b>"
    return f"<h2>{points}Task {result.number}: {escape(result.title)}</h2>\n{notes}{checks}"


def _check(check):
    lost = check.points < check.out_of
    says = "".join(f"<p>{_text(sentence)}</p>" for sentence in check.says)
    return (
        f'<div class="check {"lost" if lost else "kept"}"><b>{check.points} of {check.out_of}</b>'
        f"{'✗' if lost else '✓'} {escape(check.title)}{says}{_picture(check.picture)}</div>\n"
    )


def _text(sentence):
    """A sentence as HTML, with text between backticks as ``<code>``."""
    parts = escape(sentence).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _picture(picture):
    """The HTML of a figure of `picture`, which is (label, got, right); "" for None."""
    if picture is None or picture[1].size > LARGEST:
        return ""
    label, got, right = picture
    buffer = io.BytesIO()
    compare(got, right).savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><img alt="Your result, the right one, and their difference" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(label)}</figcaption></figure>"
    )


@styled()
def compare(got, right):
    """A figure of the 2-d map with the largest error: the student's result, the right one, and the difference."""
    from matplotlib.figure import Figure

    maps = {"yours": got, "right": right}
    if got.shape == right.shape:
        error = np.nan_to_num(got.astype(float) - right, nan=0, posinf=0, neginf=0)
        worst = np.unravel_index(abs(error).argmax(), error.shape)[:-2]
        maps = {name: _map(a, worst) for name, a in {**maps, "difference": error}.items()}
    else:
        maps = {f"{name}, {a.shape}": _map(a, (0,) * (a.ndim - 2)) for name, a in maps.items()}
    finite = [a[np.isfinite(a)] for a in maps.values()]
    limit = max((float(abs(a).max()) for a in finite if a.size), default=1) or 1
    figure = Figure(figsize=(2.3 * len(maps) + 0.6, 2.4), layout="constrained")
    for (name, values), axes in zip(maps.items(), figure.subplots(1, len(maps), squeeze=False)[0]):
        image = axes.imshow(
            values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto" if min(values.shape) == 1 else None
        )
        axes.set_title(name)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(image, ax=figure.axes, shrink=0.8)
    return figure


def _map(array, at):
    """The 2-d map at index `at` of the leading axes."""
    array = np.atleast_2d(array.astype(float))
    return array[tuple(at)] if array.ndim > 2 else array
