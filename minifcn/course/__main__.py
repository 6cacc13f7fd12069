"""``python -m minifcn.course build OUT``: write the assignments for students, test the grader, translate notebooks."""

import os
import sys

from tqdm import tqdm

from ..errors import UserError
from ..io.cli import Parser, at_least, command, json_file, numbers, write_json


def parser():
    """The flags of this command."""
    p = Parser("course", "The course's assignments: write the files for students, or test the grader.")
    p.add_argument(
        "action", choices=("build", "nbgrader", "gradescope", "trial", "mutate", "translate"),
        help="build: write the release for students into OUT, without solutions and hidden tests; nbgrader: write a "
        "course folder for nbgrader, WITH solutions, into OUT; gradescope: write the zip of an autograder, WITH "
        "solutions, to OUT; trial: grade every known mistake, cheat and alternative solution, and compare the points "
        "with those expected; mutate: change the solutions systematically, and print the changes that lose no points; "
        "translate: bring the catalogues of translations up to date with the notebooks, the feedback and the figures, "
        "and write the translated notebooks",
    )  # fmt: skip
    p.add_argument("out", nargs="?", metavar="OUT", help="a new or empty folder, or for gradescope a new zip file")
    p.add_argument("--assignment", metavar="NAME", help="gradescope: the assignment that it grades, such as a2")
    p.add_argument("--task", type=numbers, metavar="N.M", help="trial, mutate: only these tasks, such as 2.1,2.3")
    p.add_argument("--seed", type=at_least(0, below=2**32), default=0, help="trial, mutate: seed of the random inputs")
    p.add_argument(
        "--workers", type=at_least(1), default=os.cpu_count() or 1,
        help="trial, mutate: submissions graded at the same time",
    )  # fmt: skip
    p.add_argument("--sample", type=at_least(1), metavar="N", help="mutate: only N changes, drawn with --seed")
    p.add_argument(
        "--json",
        type=json_file,
        metavar="OUT",
        help='trial, mutate: also write the table to this file ("-": standard output)',
    )
    return p


@command
def main(argv=None):
    """Build the release or the nbgrader course, or run the trial, from the command line."""
    args = parser().parse(argv)
    try:
        from . import build, captions, gradescope, mutate, notebooks, sentences, tasks, trial
    except ImportError as error:
        raise UserError(f"the course needs its extra: pip install 'minifcn[course]' ({error})") from None
    known, writes = tasks.assignments(), args.action in ("build", "nbgrader", "gradescope")
    if bool(args.out) != writes:
        raise UserError(f"{args.action} takes {'a new folder or file to write' if writes else 'no folder'}")
    if args.action == "build":
        print(f"{build.build(known, args.out)}: {', '.join(a.name for a in known)}, as notebooks and modules")
        return 0
    if args.action == "translate":
        catalogues = notebooks.translate("ko") | sentences.update_all("ko") | captions.update_all("ko")
        for catalogue, missing in catalogues.items():
            state = f"{len(missing)} texts to translate" if missing else "complete"
            print(f"{catalogue.parent.name}/{catalogue.name}: {state}")
        return 0
    if args.action == "nbgrader":
        made = build.nbgrader_course(known, args.out)
        print(f"{made} is written: go there and run nbgrader generate_assignment {known[0].name}")
        return 0
    if args.action == "gradescope":
        written = gradescope.autograder(args.out, args.assignment)
        print(f"{written} is written: upload it as the autograder of a programming assignment")
        return 0
    tasks.require(args.task, known)
    rows = {"seed": args.seed, "tasks": args.task, "workers": args.workers, "progress": _progress}
    if args.action == "trial":
        done, table = trial.trials(known, **rows), trial.table
    else:
        excuses = mutate.equivalent(tasks.folder())
        done, table = mutate.outcomes(known, excuses, sample=args.sample, **rows), mutate.table
    print(table(done), file=sys.stderr if args.json == "-" else sys.stdout)
    if args.json:
        write_json(args.json, [one.as_row() for one in done])
    return 0 if all(one.is_right for one in done) else 1


def _progress(results, total):
    return tqdm(results, total=total, disable=None)


if __name__ == "__main__":
    sys.exit(main())
