"""``python -m minifcn.grade FILE...``: grade submissions to the course's assignments, offline."""

import os
import secrets
import sys
from collections import Counter
from pathlib import Path

from .course.sentences import LANGUAGES, language_for
from .course.submissions import as_json, found, lines_of, submission
from .course.texts import printable
from .errors import UserError
from .io.cli import Parser, at_least, command, json_file, numbers, write_json

DAY = 86_400
SEEDS = 2**32


def parser():
    """The flags of this command."""
    p = Parser("grade", "Grade submissions to the course's assignments: points, and a page of feedback each.")
    p.add_argument(
        "paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="notebooks, modules, or folders of them"
    )
    p.add_argument("--task", type=numbers, metavar="N.M", help="grade these tasks only: 2.1,2.3")
    p.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="for scores.csv and pages (default: graded; with --task 2.1, graded-2.1)",
    )
    p.add_argument(
        "--json", type=json_file, metavar="OUT", help='also write the results to this file ("-": standard output)'
    )
    p.add_argument(
        "--timeout", type=at_least(0.1, float, below=DAY), default=10.0, metavar="S", help="seconds for one answer"
    )
    p.add_argument(
        "--workers", type=at_least(1), default=os.cpu_count() or 1, help="submissions graded at the same time"
    )
    p.add_argument("--language", choices=LANGUAGES, help="of the feedback (default: the locale's)")
    p.add_argument(
        "--seed", type=at_least(0, below=SEEDS), help="of the random inputs; each page shows it (default: a new one)"
    )
    return p


@command
def main(argv=None):
    """Grade submissions, from the command line."""
    args = parser().parse(argv)
    if os.name != "posix":
        raise UserError("grading needs Linux or macOS: this system cannot limit a submission's memory")
    from .course import grading, tasks  # imports modules that Windows does not have

    language, known = language_for(args.language), tasks.assignments()
    tasks.require(args.task, known)
    files, skipped = found(args.paths)
    for path, why in skipped:
        print(printable(f"note: {path} is skipped: {why}"), file=sys.stderr)
    if not files:
        raise UserError(f"there is nothing to grade in {', '.join(map(str, args.paths))}: no .ipynb and no .py file")
    handed_in = [submission(path, known, inside) for path, inside in files]
    several = Counter((one.student, one.assignment) for one in handed_in)
    for one in handed_in:
        if one.assignment and (files := several[one.student, one.assignment]) > 1:
            one.notes.append(f"{one.student} handed in {files} files for this assignment")
    seed = secrets.randbelow(SEEDS) if args.seed is None else args.seed
    # a separate folder, so that grading some tasks does not overwrite the pages and rows of all
    folder = args.out or Path("-".join(["graded", *(args.task or ())]))
    table = grading.grade(handed_in, known, args.task, folder, seed, args.timeout, args.workers, language)
    screen = sys.stderr if args.json == "-" else sys.stdout
    print(*(lines_of(one, len(handed_in) == 1, language) for one in handed_in), sep="\n", file=screen)
    print(f"wrote {table.path} and, beside it, a page of feedback for each submission", file=screen)
    if args.json:
        write_json(args.json, {"seed": seed, "submissions": [as_json(one) for one in handed_in]})


if __name__ == "__main__":
    sys.exit(main())
