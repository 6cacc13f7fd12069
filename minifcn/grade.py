"""``python -m minifcn.grade FILE...``: grade submissions to the course's assignments, offline."""

import os
import sys
from pathlib import Path

from .course.submissions import as_json, collected, lines_of
from .course.texts import printable
from .errors import UserError
from .io.cli import Parser, at_least, command, json_file, numbers, write_json
from .io.language import LANGUAGES, use_language

DAY, SEEDS = 86_400, 2**32


def parser():
    """The flags of this command."""
    p = Parser(
        "grade", "Grade submissions to the course's assignments: points, pages of feedback, a page of the class."
    )
    p.add_argument(
        "paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="notebooks, modules, or folders of them"
    )
    p.add_argument("--task", type=numbers, metavar="N.M", help="grade these tasks only: 2.1,2.3")
    p.add_argument("--out", type=Path, metavar="DIR", help="for what is written (default: graded, or graded-2.1)")
    p.add_argument(
        "--class", dest="classroom", type=Path, metavar="TOML", help="a file with roster, deadlines and late penalty"
    )
    p.add_argument(
        "--variants", action="store_true", help="inputs of its own for each student, from a hash of the name; slower"
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
        "--seed", type=at_least(0, below=SEEDS), help="of the random inputs (default: the folder's last, or a new one)"
    )
    return p


@command
def main(argv=None):
    """Grade submissions, from the command line."""
    args = parser().parse(argv)
    if os.name != "posix":
        raise UserError("grading needs Linux or macOS: this system cannot limit a submission's memory")
    from .course import classroom, grading, tasks  # imports modules that Windows does not have

    use_language(args.language)
    known = tasks.assignments()
    tasks.require(args.task, known)
    room = classroom.read_class(args.classroom, {a.name for a in known}) if args.classroom else classroom.Classroom()
    handed_in, ungraded = collected(args.paths, known)
    for path, why in ungraded:
        print(printable(f"note: {path} is not graded: {why}"), file=sys.stderr)
    if not handed_in:
        raise UserError(f"there is nothing to grade in {', '.join(map(str, args.paths))}: no .ipynb and no .py file")
    # a separate folder, so that grading some tasks does not overwrite the pages and rows of all
    folder = args.out or Path("-".join(["graded", *(args.task or ())]))
    options = grading.Options(args.seed, args.timeout, args.workers, args.variants)
    table = grading.grade(handed_in, known, args.task, folder, room, options, ungraded)
    screen = sys.stderr if args.json == "-" else sys.stdout
    print(*(lines_of(one, len(handed_in) == 1) for one in handed_in), sep="\n", file=screen)
    print(
        f"wrote {folder / 'index.html'}, the page of the class, and pages of feedback and tables beside it", file=screen
    )
    if args.json:
        write_json(args.json, {"seed": table.seed, "submissions": [as_json(one) for one in handed_in]})


if __name__ == "__main__":
    sys.exit(main())
