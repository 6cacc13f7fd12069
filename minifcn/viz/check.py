"""``python -m minifcn.data check DIR``: what is in a folder of images and masks, and what is suspicious about it."""

import sys
import warnings
from pathlib import Path

from tqdm import tqdm

from ..data.check import ERROR, check
from ..data.check.finding import number
from ..data.images import VOID
from ..data.layouts import READERS
from ..engine.tables import Table
from ..errors import UserError
from ..io import atomic
from ..io.cli import Parser, command, json_file, write_json
from .check_sheet import facts_of, sheet, write_page

MOST = 40  # rows of the table that are printed; the page has all

DESCRIPTION = """Show what is in a folder of images and masks, and what is suspicious about it, each with its cure.  The
exit code is 2 if a training cannot work, else 0, also with warnings."""


def parser():
    """The flags of this command."""
    p = Parser("data check", DESCRIPTION)
    p.add_argument("root", metavar="DIR", help="the folder with images and masks")
    p.add_argument("--dataset", choices=tuple(READERS), help="the layout of DIR (default: it is recognised)")
    p.add_argument(
        "--out", metavar="FILE", help="the page with the pictures; the sheet alone is a .png beside it; both are "
        "written anew each time (default: DIR-check.html in the current folder, or beside DIR if it is that folder)",
    )  # fmt: skip
    p.add_argument("--json", type=json_file, metavar="OUT", help='write everything to a file ("-": standard output)')
    return p


@command
def main(argv=None):
    """Run the command."""
    args = parser().parse(argv)
    root = Path(args.root).resolve()
    target = Path(args.out or f"{root.name}-check.html").with_suffix(".html")
    if not args.out and Path.cwd() == root:
        target = root.with_name(target.name)
    if target.resolve().is_relative_to(root):
        raise UserError(f"--out {target} is inside {args.root}, whose images it would join; give a file outside of it")
    if not target.parent.is_dir():
        raise UserError(f"--out {target}: there is no folder {target.parent}; create it first")
    report = check(args.root, _bar, args.dataset)
    out = sys.stderr if args.json == "-" else sys.stdout
    rows = class_rows(report)
    print(f"{report.root} ({report.layout})", file=out)
    for topic, line in facts_of(report):
        print(f"{topic:<11} {line}", file=out)
    if rows:
        print(f"\n{Table(rows[:MOST])}", f"and {len(rows) - MOST} more" * (len(rows) > MOST), sep="\n", file=out)
    print(*lines(report), sep="\n", file=out)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a font may lack characters; the page has them as text
        figure = sheet(report)
        with atomic(target.with_suffix(".png")) as partial:
            figure.savefig(partial, format="png")
        write_page(target, report, rows, figure)
    print(f"-> {target}, {target.with_suffix('.png').name}", file=out)
    if args.json:
        write_json(args.json, report.as_dict())
    if not report.works:
        errors = [finding for finding in report.findings if finding.level == ERROR]
        cured = sum(not finding.advice for finding in errors)
        how = "each with its cure" if cured == len(errors) else f"of which commands cure {cured or 'none'}"
        raise UserError(f"{report.root} cannot be trained on: {number(len(errors), 'error')} above, {how}")


def class_rows(report):
    """The table of the classes: pixels in each split, share in the training split, median-frequency weight."""
    rows = []
    values = sorted({v for counts in report.counts.values() for v in counts.nonzero()[0].tolist()})
    known = range(len(report.classes))
    for v in sorted({*values, *(known if len(known) < VOID else ())}):
        name = report.classes[v] if v in known else "void" if v == VOID else "no class"
        row = {"id": v, "class": name} | {split: int(counts[v]) for split, counts in report.counts.items()}
        rows.append(
            row
            | {
                "frequency": float(report.frequencies[v]) if v in known else None,
                "weight": float(report.weights[v]) if v in known else None,
            }
        )
    return rows


def lines(report):
    """The findings as lines of text, and the command that cures several of them at once."""
    if not report.findings:
        yield "nothing suspicious"
    for k, finding in enumerate(report.findings, 1):
        yield f"{k}. {finding.level}: {finding.what}"
        if finding.files:
            yield f"   where  {finding.where(report.root)}"
        yield f"   why    {finding.why}"
        yield f"   cure   {finding.cure(report.root)}"
    if report.cure and len({finding.flags for finding in report.findings if not finding.advice}) > 1:
        yield f"everything at once: {report.cure}"
    yield ""


def _bar(items, total):
    return tqdm(items, "checking", total, disable=None if total > 100 else True, leave=False, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
