"""The report of one training run: the contents of its run folder on one self-contained page, `report.html`.

The page needs no network, no script and no other file, so it can be mailed, printed or kept with the
weights. The page omits what the folder does not contain, for example after an interrupted run.
"""

import base64
import csv
import json
from html import escape
from math import isfinite
from pathlib import Path
from string import Template

from ..io import atomic

SCORES = {
    "pixel_accuracy": ("pixel accuracy", "labelled pixels that are right"),
    "mean_accuracy": ("mean accuracy", "of each class, averaged"),
    "mean_iu": ("mean IU", "intersection over union, averaged"),
    "fw_iu": ("f.w. IU", "IU weighted by class frequency"),
}

# file, heading, alternative text (what the picture shows), caption (how to read it)
FIGURES = (
    (
        "samples.png",
        "Examples",
        "Example images, each beside its true labels, the predicted labels and a map of the errors.",
        "Each row is one example. In the last column light grey is right and red is wrong; dark pixels are void: "
        "they have no label and are not counted. Look for red along the borders (the prediction is too coarse) "
        "and for whole red regions (one class is mistaken for another).",
    ),
    (
        "curves.png",
        "Learning curves",
        "Line charts over the epochs: the training and validation loss, and the four validation scores.",
        "A validation loss that turns upward while the training loss still falls is overfitting. "
        "The ring marks the epoch with the best mean IU.",
    ),
    (
        "confusion.png",
        "Confusion matrix",
        "A table of true classes down and predicted classes across, in percent of each true class's pixels.",
        "Each row shows how the pixels of one true class were classified: the diagonal is right, every other "
        "cell is a confusion. At the right are the class's number of pixels and its IU.",
    ),
)

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
$again<title>$title</title>
<style>
:root { color-scheme: light dark;
  --page: #fff; --ink: #1d2125; --quiet: #5f6368; --line: #e2e5e8; --bar: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15181b; --ink: #e6e8ea; --quiet: #9aa2aa; --line: #30363c; --bar: #56b4e9; }
}
body { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.5rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { margin: 0; color: var(--ink); font-size: 2rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.15rem; }
h2.head { margin-top: 3.5rem; font-size: 1.6rem; }
header, figcaption, small { color: var(--quiet); }
header p { margin: .3rem 0 0; overflow-wrap: anywhere; }
header dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .75rem 0 0;
  font-size: .9rem; }
header dd { margin: 0; overflow-wrap: anywhere; }
.scores { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1.5rem;
  margin: 2rem 0 .5rem; padding: 1.25rem 0; border: solid var(--line); border-width: 1px 0; }
.scores div { display: flex; flex-direction: column; }
.scores dt { font-weight: 600; }
.scores dd { margin: 0; }
.scores .number { order: -1; font-size: 2.4rem; line-height: 1.1; font-variant-numeric: tabular-nums; }
small { font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; }
thead th { color: var(--quiet); font-weight: 500; white-space: nowrap; }
tbody th { font-weight: 400; overflow-wrap: anywhere; }
p { margin: 0 0 .5rem; }
tbody + tbody th, tbody + tbody td { font-weight: 700; }
.share { width: 30%; white-space: nowrap; }
.share span { display: inline-block; width: 2.6rem; margin-right: .6rem; text-align: right; }
.share i { display: inline-block; width: calc(100% - 3.6rem); height: .55rem; border-radius: 2px;
  background: linear-gradient(var(--bar) 0 0) 0 / var(--value) no-repeat var(--line);
  print-color-adjust: exact; }
figure { margin: 0; break-inside: avoid; }
figure img { display: block; max-width: 100%; margin: 0 auto; border-radius: 4px; background: #fff; }
figcaption { margin-top: .6rem; font-size: .9rem; }
details { margin-top: 1.5rem; border-top: 1px solid var(--line); padding-top: .75rem; }
summary { cursor: pointer; font-weight: 600; }
@media screen and (max-width: 46rem) { .scores { grid-template-columns: 1fr 1fr; } }
@media print {
  :root { font-size: 11px; --page: #fff; --ink: #000; --quiet: #444; --line: #ccc; --bar: #0072b2; }
  body { max-width: none; padding: 0; font-size: 1rem; }
  .scroll { overflow: visible; }
  h2 { break-after: avoid; }
  tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; display: block; }
}
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>$setting</p>
<dl>$header</dl>
</header>
<main>
$body
</main>
</body>
</html>
""")


def write_report(run_dir, header=None, again=None):
    """Write the page `report.html` into a run folder.

    Parameters
    ----------
    run_dir : str or path
        A run folder. The function reads these files if they exist: `config.json` (settings by name),
        `metrics.json` (pixel_accuracy, mean_accuracy, mean_iu, fw_iu, pixels, per_class: a list of
        {name, accuracy, iu}, floors: a list of {name, pixel_accuracy, mean_iu}, header: {topic: line}; of a net with
        several heads also head: the name of the first, heads: {name: the same of a further one}), `log.csv`,
        `samples.png`, `curves.png`, `confusion.png`, and for a further head `curves-geo.png` and so on. Every score is
        a fraction.
    header : dict of {str: str}, optional
        The description of a run in progress, which has no `metrics.json` yet.
    again : int, optional
        Seconds after which a browser reads the page anew, for a run in progress.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise NotADirectoryError(f"there is no run folder at {run_dir}; give the folder of a training run")
    config, log = _json(run_dir / "config.json"), _log(run_dir)
    metrics = dict(header=header) if header is not None else _json(run_dir / "metrics.json")
    last = log[-1] if log else {}
    scores = metrics if header is None and metrics else last
    floors = metrics.get("floors", [])
    setting = [str(config[key]) for key in ("model", "dataset") if key in config]
    epochs = f"{len(log)} epoch{'s' * (len(log) != 1)}"
    further = [name.removesuffix("_mean_iu") for name in last if name.endswith("_mean_iu")]
    sections = [
        _title(metrics.get("head")),
        score_list(scores),
        _floors(floors, scores),
        *_measured(run_dir, metrics),
        *(section for head in further for section in _of_head(run_dir, head, metrics, last)),
        _details("Settings", ["setting", "value"], config.items()),
        _details("Log", list(log[0]) if log else [], [row.values() for row in log]),
    ]
    setting = " · ".join([*setting, epochs])
    return write_html(
        run_dir / "report.html", run_dir.resolve().name, metrics.get("header", {}), sections, setting, again
    )


def _title(head):
    return f'<h2 class="head">Head {escape(head)}</h2>' if head else ""


def _measured(run_dir, metrics, end=""):
    """The table of the classes, and the figures whose names end with `end`."""
    yield classes_table(metrics.get("per_class"))
    for file, *words in FIGURES:
        yield embedded(run_dir / file.replace(".png", f"{end}.png"), *words)


def _of_head(run_dir, head, metrics, last):
    """The sections of a further head: scores, classes and figures; `last` is the last row of the log."""
    own = metrics.get("heads", {}).get(head, {})
    logged = {name.removeprefix(f"{head}_"): text for name, text in last.items() if name.startswith(f"{head}_")}
    yield _title(head)
    yield score_list(own or logged | {"epoch": last.get("epoch")})
    yield from _measured(run_dir, own, f"-{head}")


def write_html(path, title, header, sections, setting="", again=None):
    """Write a page without links and scripts, and return its path.

    Parameters
    ----------
    path : Path
    title : str
    header : dict of {str: object}
        The lines below the title, by topic.
    sections : sequence of str
        HTML; empty ones are left out.
    setting : str
        The line between the title and the header.
    again : int, optional
        After so many seconds the browser loads the page again.
    """
    page = PAGE.substitute(
        again=f'<meta http-equiv="refresh" content="{again}">\n' if again else "",
        title=escape(title),
        setting=escape(setting),
        header="\n".join(f"<dt>{escape(topic)}</dt><dd>{escape(str(line))}</dd>" for topic, line in header.items()),
        body="\n".join(filter(None, sections)),
    )
    with atomic(path) as partial:
        # In the C locale a path on the page may hold undecodable bytes.
        partial.write_text(page, encoding="utf-8", errors="surrogateescape")
    return path


def _json(path):
    """The object in a JSON file; an empty dict if the file is missing or not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _log(run_dir):
    try:
        with open(run_dir / "log.csv", newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, restval=""))
    except FileNotFoundError:
        return []


def _percent(fraction):
    """A fraction, given as a number or text, as a percentage with one decimal; a dash if it is not a finite number."""
    try:
        percent = 100 * float(fraction)
    except (TypeError, ValueError):
        return "–"
    return f"{percent:.1f}" if isfinite(percent) else "–"


def score_list(scores):
    """The four large scores: of the evaluated weights or, without an evaluation, of the last logged epoch."""
    if all(_percent(scores.get(key)) == "–" for key in SCORES):
        return ""
    note = ""
    if "pixels" in scores:
        note = f"over {scores['pixels']:,} labelled pixels"
    elif "epoch" in scores:
        note = f"after epoch {scores['epoch']}, the last one logged"
    numbers = "\n".join(
        f'<div><dt>{name}</dt><dd class="number">{_percent(scores.get(key))} %</dd>'
        f"<dd><small>{meaning}</small></dd></div>"
        for key, (name, meaning) in SCORES.items()
    )
    return f'<dl class="scores">\n{numbers}\n</dl>\n<small>{escape(note)}</small>'


def _floors(floors, scores):
    """The baselines: a table with the scores of simpler methods, and the run as the last row."""
    if not floors:
        return ""
    keys = ("pixel_accuracy", "mean_iu")
    this = bars([{**scores, "name": "this run"}], *keys) if scores else ""
    return (
        "<h2>The figures to beat</h2>\n<p><small>The scores of simpler methods on the same pixels: a network has "
        "learned something only if it scores above these.</small></p>\n"
        + html_table(["prediction", "pixel accuracy, %", "mean IU, %"], bars(floors, *keys), this)
    )


def classes_table(per_class):
    """The table of the accuracy and the IU of each class, with a heading; empty without classes."""
    if not per_class:
        return ""
    table = html_table(["class", "accuracy, %", "IU, %"], bars(per_class, "accuracy", "iu"))
    return f"<h2>Class by class</h2>\n{table}"


def bars(entries, *keys):
    """Rows of a table: each entry's name, then a percentage and a bar for every key."""
    return "".join(
        f'<tr><th scope="row">{escape(str(entry.get("name", "")))}</th>'
        + "".join(_share(entry.get(key)) for key in keys)
        + "</tr>\n"
        for entry in entries
    )


def _share(fraction):
    percent = _percent(fraction)
    bar = "" if percent == "–" else f'<i style="--value: {percent}%"></i>'
    return f'<td class="share"><span>{percent}</span>{bar}</td>'


def html_table(columns, *bodies):
    """A table with a line of titles; each of `bodies` is HTML rows, and a rule separates it from the next."""
    head = "".join(f'<th scope="col">{escape(str(column))}</th>' for column in columns)
    rows = "".join(f"<tbody>\n{body}</tbody>\n" for body in bodies if body)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n{rows}</table></div>'


def embedded(path, heading, alt, caption):
    """A picture inside the page, with a heading and a caption; empty if there is no such file."""
    if not path.exists():
        return ""
    picture = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<h2>{heading}</h2>\n<figure><img alt="{escape(alt)}" src="data:image/png;base64,{picture}">\n'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _details(summary, columns, rows):
    """A table that is folded on the screen until the reader opens it."""
    cells = "".join(f"<tr>{''.join(f'<td>{escape(_text(value))}</td>' for value in row)}</tr>\n" for row in rows)
    return f"<details><summary>{summary}</summary>\n{html_table(columns, cells)}\n</details>" if cells else ""


def _text(value):
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
