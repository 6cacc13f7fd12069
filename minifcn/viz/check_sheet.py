"""The pictures of a data check: a sheet of images with their masks laid over, and a page with all that was found."""

import base64
import io
import warnings
from contextlib import suppress
from html import escape

import numpy as np
from PIL import Image

from ..data.bands import RGB, false_colour
from ..data.check.finding import number
from ..data.check.survey import values_of
from ..data.colours import pack
from ..data.images import VOID, read_bands, read_image
from ..engine.tables import Table, letters
from ..errors import Note, UserError
from .figures import VOID_COLOUR, colour
from .fonts import use_fonts
from .report import write_html
from .style import GREY, styled

ACROSS = 4  # samples in a row
EACH = 8  # samples of a split
MOST = 40  # classes in the legend
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

    parts = {split: [f for f in report.facts if f.sample.split == split and f.sample.whole] for split in report.splits}
    parts = {f"{split}: {number(len(those), 'sample')}": _spread(those) for split, those in parts.items()}
    cells = {title: _pictures(report, those) for title, those in ({"suspicious": _suspicious(report)} | parts).items()}
    cells = {title: shown for title, shown in cells.items() if shown}
    values = sorted({v for counts in report.counts.values() for v in np.flatnonzero(counts).tolist()})[:MOST]
    names = [f"{v} {report.classes[v]}" if v < len(report.classes) else f"{v}{' void' * (v == VOID)}" for v in values]
    colours = [VOID_COLOUR if v == VOID else report.palette[v] for v in values]

    # All lengths are inches, from the top.
    side, gap, margin, head, line = 2.2, 0.1, 0.15, 0.26, 0.2
    width = 2 * margin + ACROSS * side + (ACROSS - 1) * gap
    boxes = use_fonts([*names, *cells, *(name for shown in cells.values() for _, name in shown)])
    if boxes:
        warnings.warn(
            f"no font on this computer has the letters {boxes[:8]}: the sheet shows boxes in their place; install a "
            "font such as Noto Sans CJK", Note, stacklevel=2,
        )  # fmt: skip
    entry = 0.55 + 0.085 * max(map(letters, names), default=0)
    across = max(1, int((width - 2 * margin) // entry))
    legend = line * -(-len(names) // across)
    rows = [
        (title, shown[k : k + ACROSS], k == 0) for title, shown in cells.items() for k in range(0, len(shown), ACROSS)
    ]
    talls = [max(side * min(len(p) / len(p[0]), TALL) for p, _ in row) for _, row, _ in rows]
    height = 2 * margin + sum(talls) + len(rows) * line + head * len(cells) + legend
    figure = Figure(figsize=(width, height))
    top = height - margin
    for (title, row, first), tall in zip(rows, talls):
        if first:
            top -= head
            figure.text(margin / width, (top + 0.08) / height, title, size=10, weight="bold")
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


def _suspicious(report):
    """Samples whose files are named in findings that do not concern all samples."""
    named = [f.files for f in report.findings if len(f.files) < len(report.facts)]
    files = {path for paths in named for path in paths}
    return [f for f in report.facts if f.sample.whole and files & {f.sample.image, f.sample.mask}][:EACH]


def _spread(facts):
    """Up to EACH of the samples, evenly spaced."""
    return [facts[k] for k in np.unique(np.linspace(0, len(facts) - 1, min(EACH, len(facts))).astype(int))]


def _pictures(report, facts):
    """The samples that can be read, each as (picture, name)."""
    shown = []
    for sample in (f.sample for f in facts):
        with suppress(UserError):  # the findings name the file
            image = _image(sample.image, report.bands)
            label = sample.draw(image.shape[:2]) if sample.draw else values_of(sample.mask)
            shown.append((_blended(image, _painted(label, report)), sample.image.name))
    return shown


def _image(path, bands):
    return read_image(path) if bands == RGB else false_colour(read_bands(path, len(bands)), bands)


def _painted(values, report):
    """The values of a mask in colours, RGB; a mask in colours as it is, but void in its colour in the legend."""
    if values.ndim == 3:
        void = np.isin(pack(values), pack(report.void))
        return np.where(void[..., None], np.uint8(VOID_COLOUR), values)
    return colour(np.clip(values, 0, VOID).astype(np.uint8), report.palette[:VOID])


def _blended(image, painted):
    """An image with a painted mask laid over, made small."""
    h, w = image.shape[:2]
    factor = min(1.0, SIDE / max(h, w))
    size = max(1, round(w * factor)), max(1, round(h * factor))
    image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX), float)
    painted = np.asarray(Image.fromarray(painted).resize(size, Image.Resampling.NEAREST), float)
    return np.rint((image + painted) / 2).astype(np.uint8)


def write_page(path, report, rows, figure):
    """Write the whole check as one self-contained HTML page.

    Parameters
    ----------
    path : Path
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
    everything = f"<h3>Everything at once</h3>\n<p><code>{escape(report.cure)}</code></p>\n" if report.cure else ""
    sections = [
        f"<h2>What is suspicious</h2>\n{findings or '<p>nothing</p>'}\n{everything}",
        '<h2>Samples</h2>\n<figure><img alt="Images of every split with their masks laid over in colours." '
        f'src="data:image/png;base64,{picture}"></figure>',
        f'<h2>Classes</h2>\n<div class="scroll">{Table(rows)._repr_html_()}</div>',
    ]
    write_html(path, report.root.resolve().name, dict(facts_of(report)), sections, report.layout)


def facts_of(report):
    """The facts at the top of a check: (topic, line) for samples, images, masks, and the mean of each band."""
    number = {s: sum(1 for f in report.facts if f.sample.split == s and f.sample.whole) for s in report.splits}
    yield "samples", ", ".join(f"{split} {n}" for split, n in number.items())
    for topic, what in (("images", "picture"), ("masks", "mask")):
        kinds = report.kinds(what).most_common()
        more = f", and {len(kinds) - 4} other kinds" if len(kinds) > 4 else ""
        if kinds:  # annotations have no files of masks
            yield topic, "; ".join(f"{n} of {kind}" for kind, n in kinds[:4]) + more
    if not np.isnan(report.mean).any():
        yield "mean", ", ".join(f"{band} {mean:.1f}" for band, mean in zip(report.bands, report.mean)) + " (train)"
