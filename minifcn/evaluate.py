"""``python -m minifcn.evaluate RUN``: measure a trained network on a data set."""

import sys
from inspect import signature

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
    p = Parser(
        "evaluate", "Measure a trained network: the paper's four measures, and the accuracy and IU of each class."
    )
    p.add_argument("run", metavar="RUN", help="a run folder, or a .safetensors checkpoint in one")
    p.add_argument("--weights", choices=("last", "best"), default="last", help="which checkpoint of the run to use")
    p.add_argument("--dataset", help=f"one of {', '.join(DATASETS)} (default: the run's)")
    p.add_argument("--root", metavar="DIR", help="the folder of the data set (default: the run's)")
    p.add_argument("--split", help="the split of the data set (default: the run's validation split)")
    p.add_argument("--batch-size", type=at_least(1), help="ignored: the measures do not depend on a batch size")
    p.add_argument("--device", type=device, default="cpu", help="cpu, cuda or cuda:1")
    p.add_argument("--json", type=json_file, metavar="OUT", help='write the measures to a file ("-": standard output)')
    return p


@command(ranks=True)
def main(argv=None):
    """Run the command ``evaluate``."""
    args = parser().parse(argv)
    checkpoint, config = find_checkpoint(args.run, args.weights)
    model = load(checkpoint).to(args.device)
    loss = losses.LOSSES.get(config.get("loss"), losses.CrossEntropy)()
    if args.dataset not in (None, config.get("dataset")):
        config = {}  # the run's settings belong to another data set
    elif args.dataset is None and "dataset" not in config:
        raise UserError(f"{args.run} does not name the data set that it was trained on: give --dataset")
    dataset = args.dataset or config["dataset"]
    split, root = args.split or config.get("val_split", "val"), args.root or config.get("root")
    chosen = {"bands": config["bands"]} if config.get("bands") else {}
    data = run_split(checkpoint.parent, config, split, root, **chosen) or open_dataset(dataset, split, root, **chosen)
    confusion, value = evaluate(model, data, progress=True, loss=loss)
    metrics = measures(confusion, data.classes) | data_facts(data, value)
    out = sys.stderr if args.json == "-" else sys.stdout
    print(f"{checkpoint} on {dataset}: {len(data)} images", *result_lines(metrics), sep="\n", file=out)
    if args.json:
        write_json(args.json, metrics)


def run_split(folder, config, split, root, **chosen):
    """The samples that a split had when a run began, even if they would now be in another split; None if not recorded.

    `chosen` are further options of the data set.  If `root` is not the run's, the data may have been moved: the record
    is used if `root` has at least one sample of the run, otherwise the result is None, because `root` holds other data.

    Raises
    ------
    UserError
        If samples are missing, or have changed.
    """
    kept = Run(folder, config).splits if config else None
    names = {config.get("train_split"): "train", config.get("val_split"): "val"}
    samples = kept and kept.get(names.get(split))
    if not samples or "samples" not in signature(DATASETS[config["dataset"]]).parameters:
        return None
    if root != config.get("root"):
        found = open_dataset(config["dataset"], None, root).manifest()
        if not ((kept["train"] or {}).items() | samples.items()) & found.items():
            return None
    return open_dataset(config["dataset"], split, root, samples=samples, **chosen)


if __name__ == "__main__":
    sys.exit(main())
