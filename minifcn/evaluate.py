"""``python -m minifcn.evaluate RUN``: measure a trained network on a data set."""

import sys
from pathlib import Path

from .cli import Parser, at_least, command, write_json
from .data import DATASETS, Loader, open_dataset
from .errors import UserError
from .models import load
from .runs import Run, measures
from .train import outcome
from .training import evaluate


def parser():
    p = Parser("evaluate", "Measure a trained network: the paper's four measures, and each class.")
    p.add_argument("run", metavar="RUN", help="a run folder, or a .safetensors checkpoint of one")
    p.add_argument(
        "--weights", choices=("last", "best"), default="last", help="which of the run's checkpoints"
    )
    p.add_argument("--dataset", help=f"one of {', '.join(DATASETS)} (default: the run's)")
    p.add_argument("--root", metavar="DIR", help="where the data set lies (default: the run's)")
    p.add_argument("--split", default="val", help="which part of it")
    p.add_argument("--batch-size", type=at_least(1), default=8, help="images a batch")
    p.add_argument("--json", metavar="OUT", help='write the measures there ("-": standard output)')
    return p


@command
def main(argv=None):
    """Evaluate, from the command line."""
    args = parser().parse(argv)
    checkpoint, config = find(args.run, args.weights)
    model = load(checkpoint)
    dataset = args.dataset or config.get("dataset")
    if dataset is None:
        raise UserError(f"{args.run} does not say what it was trained on: give --dataset")
    root = args.root or (config.get("root") if dataset == config.get("dataset") else None)
    data = open_dataset(dataset, args.split, root)
    if data.num_classes != model.num_classes:
        raise UserError(f"the model knows {model.num_classes} classes, {dataset} has {data.num_classes}")
    loader = Loader(data, args.batch_size, fill=model.preprocessing.fill)
    confusion, loss = evaluate(model, loader, progress=True)
    metrics = measures(confusion, data.classes) | dict(loss=loss, split=args.split, dataset=dataset)
    out = sys.stderr if args.json == "-" else sys.stdout
    print(f"{checkpoint} on {dataset}, split {args.split}: {len(data)} images", file=out)
    for line in outcome(metrics, getattr(data, "floors", ()) if args.split == "val" else ()):
        print(line, file=out)
    if args.json:
        write_json(args.json, metrics)


def find(path, weights="last"):
    """The checkpoint file that `path` (a run folder or a file) means, and the run's settings."""
    path = Path(path)
    if path.is_dir():
        run = Run.open(path)
        return (run.last if weights == "last" else run.best), run.config
    config = path.parent / "config.json"
    return path, Run.open(path.parent).config if config.is_file() else {}


if __name__ == "__main__":
    sys.exit(main())
