"""The page of a class for its instructor: points, what to teach again, submissions that are alike, what is missing."""

from html import escape
from urllib.parse import quote

from ..viz.report import PAGE
from . import similarity, statistics
from .feedback import text
from .sections import link
from .texts import printable

STYLE = """<style>
body { max-width: 72rem; }
td.points, th.points { text-align: right; white-space: nowrap; }
div.share { width: 14rem; }
.share span { width: 4.5rem; }
.share i { width: calc(100% - 6rem); }
td small { display: block; }
.mistakes { margin: 0; padding: 0; list-style: none; }
.mistakes b { display: inline-block; min-width: 2.2rem; font-weight: 600; }
a { color: var(--bar); }
</style>
"""

MOST = 60  # pairs that are listed


def page(records, known, classroom, pairs, skipped, seed, too_long=()):
    """The page as HTML.

    Parameters
    ----------
    records : list of dict
        All submissions, as saved by ``Scores``.
    known : list of Assignment
    classroom : Classroom
    pairs : list of similarity.Pair, or None
        None: the submissions were not compared.
    skipped : list of (str, str)
        Files that were not graded, and why.
    seed : int
    too_long : sequence of str
        Submissions that were not compared, because they have too much code.
    """
    best = statistics.best(records)
    tasks = statistics.of_tasks(best.values(), known)
    assignments = [a for a in known if any(name == a.name for _, name in best)]
    ungraded = [(r["file"], " ".join(r["notes"])) for r in records if not r["tasks"]]
    sections = [
        _students(best, assignments, classroom, {r["student"] for r in records}),
        _again(tasks, classroom.site),
        _tasks(tasks, classroom.site),
        _alike(pairs, {a.name: a.title for a in known}, too_long),
        _files("Not graded", ungraded + skipped, "reason"),
        _files("Remarks", [(r["file"], note) for r in best.values() for note in r["notes"]], "remark"),
    ]
    graded = len({student for student, _ in best})
    setting = f"{graded} student{'s' * (graded != 1)}, {len(best)} submission{'s' * (len(best) != 1)} graded"
    header = f"<dt>seed</dt><dd>{seed}</dd>"
    return PAGE.substitute(title="The class", setting=setting, header=header, body=STYLE + "".join(sections), again="")


def _table(head, rows):
    """A table of cells that are HTML."""
    head = "".join(f"<th>{h}</th>" for h in head)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(*cells):
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _plain(text):
    return escape(printable(str(text)))


def _students(best, assignments, classroom, handed_in):
    """The points of each student, with links to the pages; those of the roster who handed in nothing, too."""
    rows, missing = [], []
    known = {name: classroom.student(name) for name in handed_in}
    for student in classroom.students:
        if not any(found is student for found in known.values()):
            missing.append(student["name"])
    for student in sorted({name for name, _ in best}):
        name = known.get(student) and known[student]["name"]
        unlisted = " <small>not in the roster</small>" if classroom.students and not name else ""
        shown = _plain(student) if not name or name == student else f"{_plain(name)} <small>{_plain(student)}</small>"
        cells, total = [], 0.0
        for assignment in assignments:
            record = best.get((student, assignment.name))
            total += record["counted"] if record else 0
            cells.append(_points(record) if record else "–")
        rows.append(_row(shown + unlisted, *cells, f"{total:g}"))
    heads = ["student", *(_plain(a.title.partition(" · ")[0]) for a in assignments), "sum"]
    said = f"<p>Nothing to grade from: {_plain(', '.join(missing))}.</p>" if missing else ""
    return f"<h2>Points</h2>{_table(heads, rows)}{said}"


def _points(record):
    late = record["days_late"]
    days = f"<small>{late} day{'s' * (late != 1)} late, {record['points']} before the penalty</small>" if late else ""
    points = f"{record['counted']:g} of {record['out_of']}"
    return (f'<a href="{quote(record["page"])}">{points}</a>' if record["page"] else points) + days


def _section(number, site):
    """A link to the section for a task; "" for a new task, which ``SECTIONS`` lacks."""
    if not (section := link(number, site)):
        return ""
    address, notebook, heading = section
    return f'<a href="{escape(address)}">{_plain(heading)}</a> <small>{_plain(notebook)}</small>'


def _mistakes(mistakes, most):
    items = "".join(f"<li><b>{count}×</b> {_plain(what)}</li>" for what, count in mistakes[:most])
    return f'<ul class="mistakes">{items}</ul>'


def _again(tasks, site):
    again = sorted((t for t in tasks if t.to_teach_again), key=lambda t: t.share)
    if not again:
        return "<h2>To teach again</h2><p>Every task was solved by at least half of the class.</p>"
    rows = [
        _row(f"{t.number}: {_plain(t.title)}", f"{t.solved} of {t.graded}", _section(t.number, site),
             _mistakes(t.mistakes, 1))
        for t in again
    ]  # fmt: skip
    head = ["task", "solved by", "section", "most frequent mistake"]
    return f"<h2>To teach again</h2><p>Less than half of the class solved these tasks.</p>{_table(head, rows)}"


def _share(t):
    bar = f'<i style="--value: {100 * t.share:.0f}%"></i>'
    return f'<div class="share"><span>{t.solved} of {t.graded}</span> {bar}</div>'


def _tasks(tasks, site):
    rows = [
        _row(
            f"{t.number}: {_plain(t.title)}",
            _share(t),
            f"{t.mean:.1f} of {t.out_of}", t.unanswered or "", _mistakes(t.mistakes, 5),
        )
        for t in tasks
    ]  # fmt: skip
    head = ["task", "solved", "mean points", "not answered", "known mistakes"]
    return f"<h2>Tasks</h2>{_table(head, rows)}"


def _alike(pairs, titles, too_long):
    if pairs is None:
        return "<h2>Alike</h2><p>The submissions were not compared: copydetect is not installed.</p>"
    limit = f"more than {similarity.LONGEST // 1000} kB of code"
    left_out = f"<p>Not compared, because they have {limit}: {_plain(', '.join(too_long))}.</p>" if too_long else ""
    if not pairs:
        return f"<h2>Alike</h2><p>No two submissions are alike.</p>{left_out}"
    rows = [
        _row(_plain(titles[p.assignment]), _plain(p.first), _plain(p.second), f"{100 * p.share:.0f} %")
        for p in pairs[:MOST]
    ]
    more = f"<p>{len(pairs) - MOST} more pairs share at least {100 * pairs[-1].share:.0f} %.</p>" * (len(pairs) > MOST)
    note = (
        "The share of one submission's own code that is in the other, with other names or without. The code that was "
        "handed out does not count. Short answers are alike by chance: read both before you judge."
    )
    return f"<h2>Alike</h2><p>{note}</p>{_table(['assignment', 'student', 'student', 'shared'], rows)}{more}{left_out}"


def _files(title, files, what):
    if not files:
        return ""
    rows = [_row(_plain(file), text(why)) for file, why in files]
    return f"<h2>{title}</h2>{_table(['file', what], rows)}"
