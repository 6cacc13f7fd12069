"""The page of feedback for a student: points, sentences, and for each failed check a call to copy and run.

Beside the call are the expected result and the student's, as numbers and as a picture.
"""

import base64
import io
import sys
from html import escape

import numpy as np

from ..io.language import chosen
from ..viz.language import drawn
from ..viz.report import PAGE
from ..viz.style import styled
from .examples import as_text
from .sections import link
from .sentences import say
from .texts import printable

STYLE = """<style>
.check { margin: 0 0 1rem; padding-left: 1rem; border-left: 3px solid var(--line); }
.check.lost { border-color: #d55e00; }
.check.kept { border-color: #009e73; }
.check b { float: right; font-weight: 500; font-variant-numeric: tabular-nums; }
.check p { margin: .25rem 0 0; overflow-wrap: anywhere; }
.check figure { margin: .5rem 0; }
.check figure img { margin: 0; }
.found { font-weight: 600; }
.check pre { margin: .25rem 0 .5rem; padding: .6rem .8rem; overflow-x: auto; font-size: .85rem; line-height: 1.4;
  background: color-mix(in srgb, var(--line) 45%, transparent); border-radius: 4px; }
.results { display: flex; flex-wrap: wrap; gap: 0 1.5rem; }
.results > div { max-width: 100%; }
a { color: var(--bar); }
code { overflow-wrap: anywhere; }
h2 b { float: right; font-weight: 500; }
:lang(ko) { word-break: keep-all; overflow-wrap: anywhere; }
</style>
"""


LARGEST = 1 << 20  # elements; a larger result is not drawn
EXPECTED, YOURS, DIFFERENCE = "expected", "yours", "difference"
FARTHEST = 1e300  # in a picture; a scale that ends at the largest float64 has an infinite length


def page(student, title, results, notes=(), site=None):
    """The feedback on one submission in the chosen language, as a self-contained HTML page.

    Parameters
    ----------
    student, title : str
        The student's name, and the assignment's title.
    results : list of TaskResult
    notes : sequence of str
        Remarks on the submission as a whole.
    site : str, optional
        The address of the documentation, whose notebooks the page links to; default: notebooks beside its folder.
    """
    points, out_of = sum(t.points for t in results), sum(t.out_of for t in results)
    body = "".join(f"<p>{text(say(note))}</p>" for note in notes) + "".join(
        _task(t, link(t.number, site)) for t in results
    )
    setting = say("{points} of {out_of} points".format(points=points, out_of=out_of))
    fields = dict(title=_plain(f"{student}: {say(title)}"), setting=setting, header="", body=STYLE + body)
    return PAGE.substitute(fields, again="").replace('lang="en"', f'lang="{chosen()}"', 1)


def _task(result, section):
    notes = "".join(f'<p class="found">{text(_begun(say(says)))}</p>' for says in result.says)
    checks = "".join(_check(check) for check in result.checks)
    points = say("{points} of {out_of}".format(points=result.points, out_of=result.out_of))
    title = say("Task {number}: {title}".format(number=result.number, title=result.title))
    read = ""
    if result.points < result.out_of and section:
        address, notebook, heading = section
        read = "To read again: the section “{heading}” of the notebook {notebook}"
        read = _plain(say(read.format(heading=heading, notebook=notebook)))
        read = f'<p><a href="{escape(address)}">{read}</a></p>'
    return f"<h2><b>{points}</b>{_plain(title)}</h2>\n{notes}{checks}{read}"


def _begun(sentence):
    return sentence[:1].upper() + sentence[1:]


def _check(check):
    lost = check.points < check.out_of
    says = "".join(f"<p>{text(say(sentence))}</p>" for sentence in check.says)
    property_ = "This property is violated: {property}" if lost and check.says else "{property}"
    points = say("{points} of {out_of}".format(points=check.points, out_of=check.out_of))
    return (
        f'<div class="check {"lost" if lost else "kept"}"><b>{points}</b>'
        f"{'✗' if lost else '✓'} {_plain(say(property_.format(property=check.title)))}{says}"
        f"{_call(check)}{_numbers(check.picture)}{_picture(check.picture)}</div>\n"
    )


def _call(check):
    """The call that fails, for the student's notebook."""
    if not check.code:
        return ""
    asks = say("The smallest input found that fails. Copy this into a cell below your answer, and run it:")
    return f"<p>{asks}</p><pre><code>{_plain(check.code)}</code></pre>"


def _numbers(picture):
    """The expected result and the student's as numbers, unless they are too many."""
    if picture is None or not all(texts := [as_text(picture[2]), as_text(picture[1])]):
        return ""
    names = say(EXPECTED), say(YOURS)
    columns = (f"<div>{name}<pre>{_plain(text)}</pre></div>" for name, text in zip(names, texts))
    return f'<div class="results">{"".join(columns)}</div>'


def _plain(text):
    """A text as HTML."""
    return escape(printable(text))


def text(sentence):
    """A sentence as HTML, with text between backticks as ``<code>``."""
    parts = _plain(sentence).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _picture(picture):
    """The HTML of a figure of `picture`, which is (label, got, right); "" for None, or if it cannot be drawn."""
    if picture is None or picture[1].size > LARGEST or max(picture[1].ndim, picture[2].ndim) == 0:
        return ""
    label, got, right = picture
    if not got.size or not right.size:
        return ""
    buffer = io.BytesIO()
    try:
        compare(got, right).savefig(buffer, format="png", dpi=110)
    except Exception as error:  # a submission's values that Matplotlib refuses must not cost the page
        print(f"note: a page has no picture, please report it ({type(error).__name__}: {error})", file=sys.stderr)
        return ""
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    shows = say("The expected result, yours, and their difference")
    return (
        f'<figure><img alt="{shows}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_plain(say(label))}</figcaption></figure>"
    )


@styled()
def compare(got, right):
    """A figure of the 2-d map with the largest error: expected, the student's result, and the difference.

    The first two share one scale.  The difference, yours minus expected, has its own: it can be much smaller.
    Values beyond ``FARTHEST`` are drawn as that value.
    The titles are in the chosen language, if a font has its letters.
    """
    from matplotlib.figure import Figure

    expected, yours, difference = drawn([EXPECTED, YOURS, DIFFERENCE], say)
    got, right = _drawn(got), _drawn(right)
    panels = {expected: right, yours: got}
    if got.shape == right.shape:
        error = np.nan_to_num(got - right, nan=0, posinf=0, neginf=0)
        worst = np.unravel_index(abs(error).argmax(), error.shape)[:-2]
        panels = {name: _map(a, worst) for name, a in panels.items()}
        groups = [panels, {difference: _map(error, worst)}]
    else:
        groups = [{f"{name}, {a.shape}": _map(a, (0,) * (a.ndim - 2)) for name, a in panels.items()}]
    count = sum(map(len, groups))
    figure = Figure(figsize=(2.6 * count + 0.6, 2.4), layout="constrained")
    places = iter(figure.subplots(1, count, squeeze=False)[0])
    for group in groups:
        finite = [a[np.isfinite(a)] for a in group.values()]
        limit = max((float(abs(a).max()) for a in finite if a.size), default=1) or 1
        axes = [next(places) for _ in group]
        for (name, values), ax in zip(group.items(), axes):
            image = ax.imshow(
                values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto" if min(values.shape) == 1 else None
            )
            ax.set_title(name)
            ax.set_xticks([])
            ax.set_yticks([])
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def _drawn(array):
    """An array as float64, with finite values in the range of a picture."""
    array = array.astype(float)
    return np.where(np.isfinite(array), np.clip(array, -FARTHEST, FARTHEST), array)


def _map(array, at):
    """The 2-d map at index `at` of the leading axes."""
    array = np.atleast_2d(array)
    return array[tuple(at)] if array.ndim > 2 else array
