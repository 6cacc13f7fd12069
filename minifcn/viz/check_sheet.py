"""The pictures of a data check: a sheet of images with their masks laid over, and a page with all that was found."""

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from ..data.bands import RGB, false_colour
from ..data.check.finding import number
from ..data.check.survey import values_of
from ..data.images import VOID, read_bands, read_image
from ..data.palette import voc_colour_map
from ..engine.tables import Table
from ..errors import UserError
from .figures import VOID_COLOUR, colour
from .report import PAGE
from .style import GREY, styled

ACROSS = 4  # samples in a row
EACH = 8  # samples of a split
TALL = 2  # times as high as wide, at most; taller samples are drawn narrower
SIDE = 360  # pixels of the longer side of a sample


@styled()
def sheet(report):
    """Draw samples of every split, each image blended with its mask, and the colours of the classes.

    Parameters
    ----------
    report : Report
        See `minifcn.data.check`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.patches import Patch

    from .page import Figure

    cells = {split: _samples(report, split) for split in report.splits}
    cells = {split: shown for split, shown in cells.items() if shown}
    values = sorted({v for counts in report.counts.values() for v in np.flatnonzero(counts).tolist()})
    names = [f"{v} {report.classes[v]}" if v < len(report.classes) else f"{v} void" for v in values]
    names = [f"{v}" if v != VOID and not report.works else name for v, name in zip(values, names)][:40]
    colours = [VOID_COLOUR if v == VOID else c for v, c in zip(values, voc_colour_map()[values])]

    # All lengths are inches, from the top.
    side, gap, margin, head, line = 2.2, 0.1, 0.15, 0.26, 0.2
    width = 2 * margin + ACROSS * side + (ACROSS - 1) * gap
    entry = 0.55 + 0.085 * max(map(len, names), default=0)
    across = max(1, int((width - 2 * margin) // entry))
    legend = line * -(-len(names) // across)
    rows = [
        (split, shown[k : k + ACROSS], k == 0) for split, shown in cells.items() for k in range(0, len(shown), ACROSS)
    ]
    talls = [max(side * min(len(p) / len(p[0]), TALL) for p, _ in row) for _, row, _ in rows]
    height = 2 * margin + sum(talls) + len(rows) * line + head * len(cells) + legend
    figure = Figure(figsize=(width, height))
    top = height - margin
    for (split, row, first), tall in zip(rows, talls):
        if first:
            top -= head
            total = sum(f.sample.split == split and f.sample.whole for f in report.facts)
            figure.text(
                margin / width, (top + 0.08) / height, f"{split}: {number(total, 'sample')}", size=10, weight="bold"
            )
        for column, (picture, name) in enumerate(row):
            left, ratio = margin + column * (side + gap), len(picture) / len(picture[0])
            own, wide = side * min(ratio, TALL), side * min(1, TALL / ratio)
            axes = figure.add_axes((left / width, (top - own) / height, wide / width, own / height))
            axes.imshow(picture, aspect="auto", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, linewidth=0.5)
            short = name if len(name) <= 34 else f"…{name[-33:]}"
            axes.text(0, -0.04 / own, short, transform=axes.transAxes, ha="left", va="top", color=GREY, size=7)
        top -= tall + line
    if names:
        handles = [
            Patch(label=name, facecolor=np.divide(rgb, 255), edgecolor=GREY, linewidth=0.5)
            for name, rgb in zip(names, colours)
        ]
        place = dict(loc="upper left", bbox_to_anchor=(margin / width, (top - 0.02) / height), ncols=across)
        figure.legend(handles=handles, borderaxespad=0, borderpad=0, handlelength=1.4, **place)
    return figure


def _samples(report, split):
    """Up to EACH samples of a split, evenly spaced: [(picture, name)]."""
    usable = [f for f in report.facts if f.sample.split == split and f.sample.whole]
    chosen = np.unique(np.linspace(0, len(usable) - 1, min(EACH, len(usable))).astype(int)) if usable else ()
    shown = []
    for k in chosen:
        sample = usable[k].sample
        try:
            image = _image(sample.image, report.bands)
            painted = colour(sample.draw(image.shape[:2]), voc_colour_map()) if sample.draw else _painted(sample.mask)
            shown.append((_blended(image, painted), sample.image.name))
        except UserError:  # the findings name the file
            continue
    return shown


def _image(path, bands):
    return read_image(path) if bands == RGB else false_colour(read_bands(path, len(bands)), bands)


def _painted(path):
    """A mask in the colours of its values, RGB; a mask in colours as it is."""
    values = values_of(path)
    if values.ndim == 3:
        return values
    return colour(np.clip(values, 0, VOID).astype(np.uint8), voc_colour_map(VOID))


def _blended(image, painted):
    """An image with a painted mask laid over, made small."""
    h, w = image.shape[:2]
    factor = min(1.0, SIDE / max(h, w))
    size = max(1, round(w * factor)), max(1, round(h * factor))
    image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX), float)
    painted = np.asarray(Image.fromarray(painted).resize(size, Image.Resampling.NEAREST), float)
    return np.rint((image + painted) / 2).astype(np.uint8)


def page(report, rows, figure):
    """The whole check as one self-contained HTML page, as text.

    Parameters
    ----------
    report : Report
    rows : list of dict
        The table of the classes.
    figure : matplotlib.figure.Figure
        The result of :func:`sheet`.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    picture = base64.b64encode(buffer.getvalue()).decode("ascii")
    findings = "\n".join(
        f"<h3>{k}. {escape(f.level)}: {escape(f.what)}</h3>\n<p>{escape(f.why)}</p>\n"
        + (f"<p><small>{escape(f.where(report.root))}</small></p>\n" if f.files else "")
        + f"<p><code>{escape(f.cure(report.root))}</code></p>"
        for k, f in enumerate(report.findings, 1)
    )
    facts = dict(facts_of(report))
    return PAGE.substitute(
        title=escape(report.root.resolve().name),
        setting=escape(report.layout),
        header="\n".join(f"<dt>{escape(topic)}</dt><dd>{escape(line)}</dd>" for topic, line in facts.items()),
        body=f"<h2>What is suspicious</h2>\n{findings or '<p>nothing</p>'}\n<h2>Samples</h2>\n"
        '<figure><img alt="Images of every split with their masks laid over in colours." '
        f'src="data:image/png;base64,{picture}"></figure>\n<h2>Classes</h2>\n'
        f'<div class="scroll">{Table(rows)._repr_html_()}</div>',
    )


def facts_of(report):
    """The facts at the top of a check: (topic, line) for samples, images, masks, and the mean of each band."""
    number = {s: sum(1 for f in report.facts if f.sample.split == s and f.sample.whole) for s in report.splits}
    yield "samples", ", ".join(f"{split} {n}" for split, n in number.items())
    for topic, what in (("images", "picture"), ("masks", "mask")):
        kinds = report.kinds(what).most_common()
        more = f", and {len(kinds) - 4} other kinds" if len(kinds) > 4 else ""
        yield topic, "; ".join(f"{n} of {kind}" for kind, n in kinds[:4]) + more
    if not np.isnan(report.mean).any():
        yield "mean", ", ".join(f"{band} {mean:.1f}" for band, mean in zip(report.bands, report.mean)) + " (train)"
