"""``python -m minifcn.evaluate RUN``: measure a trained network on a data set."""

import sys

from .data import DATASETS, open_dataset
from .errors import UserError
from .io.cli import Parser, at_least, command, device, json_file, write_json
from .models import load
from .nn import losses
from .training.evaluation import evaluate
from .training.results import data_facts, measures, result_lines
from .training.run_folder import Run, find_checkpoint


def parser():
    """The flags of this command."""
    p = Parser("evaluate", "Measure a trained network: the paper's four measures, and each class.")
    p.add_argument("run", metavar="RUN", help="a run folder, or a .safetensors checkpoint of one")
    p.add_argument("--weights", choices=("last", "best"), default="last", help="which of the run's checkpoints")
    p.add_argument("--dataset", help=f"one of {', '.join(DATASETS)} (default: the run's)")
    p.add_argument("--root", metavar="DIR", help="where the data set lies (default: the run's)")
    p.add_argument("--split", help="which part of it (default: what the run was validated on)")
    p.add_argument("--batch-size", type=at_least(1), help="has no effect any more: no measure depends on a batch")
    p.add_argument("--device", type=device, default="cpu", help="cpu, cuda or cuda:1")
    p.add_argument("--json", type=json_file, metavar="OUT", help='write the measures there ("-": standard output)')
    return p


@command(ranks=True)
def main(argv=None):
    """Evaluate, from the command line."""
    args = parser().parse(argv)
    checkpoint, config = find_checkpoint(args.run, args.weights)
    model = load(checkpoint).to(args.device)
    loss = losses.LOSSES.get(config.get("loss"), losses.CrossEntropy)()
    if args.dataset not in (None, config.get("dataset")):
        config = {}  # another data set: nothing that the run says about its own
    elif args.dataset is None and "dataset" not in config:
        raise UserError(f"{args.run} does not say what it was trained on: give --dataset")
    dataset = args.dataset or config["dataset"]
    split, root = args.split or config.get("val_split", "val"), args.root or config.get("root")
    data = run_split(checkpoint.parent, config, split, root) or open_dataset(dataset, split, root)
    confusion, value = evaluate(model, data, progress=True, loss=loss)
    metrics = measures(confusion, data.classes) | data_facts(data, value)
    out = sys.stderr if args.json == "-" else sys.stdout
    print(f"{checkpoint} on {dataset}: {len(data)} images", *result_lines(metrics), sep="\n", file=out)
    if args.json:
        write_json(args.json, metrics)


def run_split(folder, config, split, root):
    """The pictures of a split as they were when a run began, wherever they would be put now; None where it is unknown.

    Of another `root` than the run's, only if one of the run's pictures is there: else it is other data.

    Raises
    ------
    UserError
        If pictures are missing, or have changed.
    """
    kept = Run(folder, config).splits if config else None
    names = {config.get("train_split"): "train", config.get("val_split"): "val"}
    samples = kept and kept.get(names.get(split))
    if not samples:
        return None
    if root != config.get("root"):
        there = open_dataset(config["dataset"], None, root).manifest()
        if not ((kept["train"] or {}).items() | samples.items()) & there.items():
            return None
    return open_dataset(config["dataset"], split, root, samples=samples)


if __name__ == "__main__":
    sys.exit(main())
