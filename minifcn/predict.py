"""``python -m minifcn.predict [RUN] IMAGE...``: label every pixel of images of any size."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from .arrays.memory import allowed
from .data.images import decoding_within
from .errors import GeometryError, UserError
from .io.cli import command, write_csv, write_json
from .models import fcn8s_mini, load
from .training.pictures import run_and_pictures, targets_for
from .training.prediction import names_and_colours, record_of, row_of, titled
from .training.prediction_flags import parser, require_suitable
from .training.run_folder import find_checkpoint
from .training.state import columns
from .viz.predictions import RESULTS, end_of, label_picture


@command
def main(argv=None):
    """Run the command ``predict``."""
    args = parser().parse(argv)
    if args.csv == args.json == "-":
        raise UserError("--csv and --json cannot both be written to standard output: give one of them a file")
    run, pictures = run_and_pictures(args.paths, args.recursive, args.frames, Path(args.out))
    kinds = ["labels", "overlay", *(kind for kind in list(RESULTS)[2:] if getattr(args, kind))]
    require_suitable(args, pictures)
    tables = [table for table in (args.csv, args.json) if table not in (None, "-")]
    if run is None:
        print("note: no RUN given, using the Earth model that comes with minifcn", file=sys.stderr)
    model = fcn8s_mini(pretrained="earth") if run is None else load(find_checkpoint(run, args.weights)[0])
    if args.size:
        model.preprocessing = replace(model.preprocessing, size=args.size)
    heads = columns(model.to(args.device))
    nets = {head if begin else "": model.only(head) if head else model for head, begin in heads.items()}
    ends = {(head, kind): end_of(head, kind) for head in nets for kind in kinds}
    targets = targets_for(pictures, Path(args.out), list(ends.values()), tables, args.overwrite)
    try:
        Path(args.out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {args.out} cannot be created ({error.strerror}): give another --out") from None

    rows, records = [], []
    try:
        with decoding_within(allowed(args.memory)):
            failed = label(nets, pictures, targets, ends, args, rows, records)
    finally:  # an interruption leaves a table of what is done
        if args.csv:
            write_csv(args.csv, rows)
        if args.json:
            classes = [titled(head, name) for head, net in nets.items() for name in names_and_colours(net)[0]]
            write_json(args.json, dict(model=str(run or "earth"), classes=classes, images=records))
    return 2 if failed else 0


def label(nets, pictures, targets, ends, args, rows, records):
    """Label the pictures one after the other; how many could not be.  `ends` has (head, kind) of each target."""
    note, failed = partial(tqdm.write, file=sys.stderr), 0
    out = sys.stderr if "-" in (args.csv, args.json) else sys.stdout
    alone = True if len(pictures) == 1 else None
    for picture in tqdm(pictures, "predicting", disable=alone, leave=False, file=sys.stderr):
        files = dict(zip(ends, targets[picture]))
        try:
            size, found, lines = label_picture(nets, picture, files, args, note)
        except (UserError, GeometryError, MemoryError) as error:  # continue with the other images
            note(f"error: {error or f'{picture} is too large for the memory'}")
            failed += 1
            continue
        rows.append(row_of(picture, size, found))
        records.append(record_of(picture, size, found, files.values()))
        tqdm.write("\n".join(lines), file=out)
    return failed


if __name__ == "__main__":
    sys.exit(main())
