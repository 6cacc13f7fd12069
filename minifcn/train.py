"""``python -m minifcn.train``: train a network for segmentation, from scratch, into a run folder."""

import sys
import warnings
from contextlib import ExitStack

from .arrays import parallel
from .errors import GeometryError, UserError
from .io.cli import command, write_json
from .nn.optim import SCHEDULES
from .training.callbacks import Progress, StopOnSignal
from .training.flags import settings
from .training.loop import Diverged, fit
from .training.parts import assemble
from .training.results import result_lines
from .training.run_folder import Recorder, Run
from .viz.illustrate import illustrate, observers
from .viz.rates import search


@command(ranks=True)
def main(argv=None):
    """Run the command."""
    with ExitStack() as held:  # holds the lock of the run folder until training has ended
        with parallel.together(parallel.world()):
            args, run = settings(argv)
            if run:
                run.lock(held)
            parts = assemble(args, run)
            if args.find_lr:
                return search(parts, args.find_lr)
            if run is None:
                run = Run.create(parts.folder, parts.config, held)
        return train(parts, run, resume=bool(args.resume), json=args.json)


def train(parts, run, resume, json=None):
    """Train, write the results into the run folder, print how the run ended, and return the exit code."""
    run.config = parts.config
    out = sys.stderr if json == "-" else sys.stdout
    for topic, line in (parts.header | dict(run=run.folder)).items():
        print(f"{topic:<11} {line}", file=out, flush=True)
    if parts.start:
        run.write("init.txt", parts.start)
    s, stopper, goes_on = parts.settings, StopOnSignal(), f"; continue with: {run.resume_command}"
    recorder = Recorder(run)  # before those that print and draw, whose errors must not prevent saving
    watchers = [stopper, recorder, *observers(run, parts), Progress(out)]
    try:
        with warnings.catch_warnings():  # Diverged says more than NumPy's warnings of overflow
            warnings.simplefilter("ignore", RuntimeWarning)
            t = fit(
                parts.model, parts.train, parts.val, parts.optimizer, s.epochs, s.reduction, parts.weight, s.accumulate,
                SCHEDULES[s.schedule], s.sampling, watchers, run.restore if resume else None,
                parts.loss, s.ema, s.clip, s.stop_after, progress=False,
            )  # fmt: skip
        if not t.complete:
            print(f"stopped at step {t.step} of {t.total_steps}{goes_on}", file=out)
            return 128 + int(parallel.gather(t.ranks, stopper.number).max())
        if t.epoch < t.epochs:
            print(f"ended after epoch {t.epoch}: mean IU has not improved for {s.stop_after} epochs", file=out)
        elif recorder.began_at == t.epochs:
            print(f"all {t.epochs} epochs were done already; to continue, give a larger --epochs", file=out)
        metrics = illustrate(run, parts.model, parts.val, t.rows, parts.header, parts.loss)
    except Diverged as error:
        kept = f"the last good state is kept in {run.last}" if recorder.saved else f"{run.folder} holds no weights yet"
        raise UserError(f"{error}; {kept}") from None
    except (UserError, GeometryError) as error:
        raise UserError(f"{error}{goes_on if recorder.saved else ''}") from None
    except KeyboardInterrupt:
        print(f"stopped at once{goes_on}", file=out)
        return 128 + stopper.number
    print(*result_lines(metrics), f"report      {run.folder / 'report.html'}", sep="\n", file=out)
    if json:
        write_json(json, metrics)
    return 0


if __name__ == "__main__":
    sys.exit(main())
