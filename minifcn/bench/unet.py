"""``python -m minifcn.bench.unet RUN``: a U-Net in PyTorch, trained from scratch on the data of a run, for as long.

It gets what the run got: images, splits, augmentation, batches, class weights, conversion of images, and the seconds of
its training steps; the rate decays to 0 over these seconds.  Batch norm's statistics are estimated anew at the end, as
in `minifcn.training`.  So the comparison is one of networks, and of libraries, not of recipes.
"""

import sys
import time
from itertools import islice

from ..arrays import backend, parallel
from ..errors import UserError
from ..io import load_record
from ..io.cli import Parser, at_least, command, json_file, write_json
from ..training.evaluation import SEEN, scores_of
from ..training.flags import settings
from ..training.metrics import ConfusionMatrix
from ..training.parts import assemble
from .twin import require_torch, torch


def parser():
    """The flags of this command."""
    p = Parser("bench.unet", "Train a U-Net in PyTorch on the data of a run, for as long as the run was trained.")
    p.add_argument("run", metavar="RUN", help="the folder of a finished run of minifcn.train, on the CPU")
    p.add_argument("--seconds", type=at_least(0, float), help="the time for its steps (default: that of the run)")
    p.add_argument("--lr", type=at_least(0, float), default=1e-3, help="learning rate of Adam")
    p.add_argument("--threads", type=at_least(1), help="PyTorch's threads (default: its own choice)")
    p.add_argument("--json", type=json_file, metavar="OUT", help='write the results to a file ("-": standard output)')
    return p


@command
def main(argv=None):
    """Run the command."""
    args = parser().parse(argv)
    require_torch()
    parts, rows = _parts_of(args.run)
    budget = args.seconds or sum(row["seconds"] for row in rows)
    if args.threads:
        torch.set_num_threads(args.threads)
    out = sys.stderr if args.json == "-" else sys.stdout
    net, steps = trained(parts, budget, args.lr)
    found = scores_of(measured(net, parts))
    theirs = dict(
        name="U-Net", parameters=sum(p.numel() for p in net.parameters()), steps=steps, seconds=budget, **found
    )
    ours = dict(name=parts.settings.model, parameters=parts.model.num_parameters(), steps=len(rows) * len(parts.train))
    ours |= dict(seconds=sum(row["seconds"] for row in rows), **{name: rows[-1][name] for name in found})
    print(f"{'':<26}{'parameters':>12}{'steps':>8}{'seconds':>9}{'pixel acc':>11}{'mean IU':>9}", file=out)
    for side in (ours, theirs):
        print(
            f"{side['name']:<26}{side['parameters']:>12,}{side['steps']:>8}{side['seconds']:>9.0f}"
            f"{side['pixel_accuracy']:>11.3f}{side['mean_iu']:>9.3f}", file=out,
        )  # fmt: skip
    if args.json:
        write_json(args.json, dict(run=args.run, minifcn=ours, unet=theirs))
    return 0


def _parts_of(folder):
    """The parts of a run, and the rows of its log."""
    args, run = settings(["--resume", folder])
    if not run.last.is_file():
        raise UserError(f"{folder} has no last.safetensors: train it first")
    rows = load_record(run.last)["state"]["rows"]
    if not rows:
        raise UserError(f"{folder} has no finished epoch: continue it with {run.resume_command}")
    return assemble(args, run), rows


def unet(num_classes, in_channels=3):
    """The U-Net of segmentation_models_pytorch over ResNet-18, without weights of another training.

    Images may have any size: they are padded to multiples of 32, and the scores are cut.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    torch.nn.Module
    """
    from torch import nn

    def conv(before, after, size=3, stride=1):
        return nn.Sequential(
            nn.Conv2d(before, after, size, stride, size // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
        )

    class Block(nn.Module):
        """Two convolutions beside the identity, or beside a 1×1 convolution if size or channels change."""

        def __init__(self, before, after, stride):
            super().__init__()
            self.first, self.second = conv(before, after, 3, stride), conv(after, after)[:2]
            self.beside = conv(before, after, 1, stride)[:2] if (before, stride) != (after, 1) else nn.Identity()

        def forward(self, x):
            return nn.functional.relu(self.second(self.first(x)) + self.beside(x))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.pool = conv(in_channels, 64, 7, 2), nn.MaxPool2d(3, 2, 1)
            self.down = nn.ModuleList(
                nn.Sequential(Block(a, b, stride), Block(b, b, 1))
                for a, b, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
            )
            self.up = nn.ModuleList(
                nn.Sequential(conv(below + skip, out), conv(out, out))
                for below, skip, out in ((512, 256, 256), (256, 128, 128), (128, 64, 64), (64, 64, 32), (32, 0, 16))
            )
            self.score = nn.Conv2d(16, num_classes, 3, padding=1)

        def forward(self, x):
            h, w = x.shape[2:]
            x = self.stem(nn.functional.pad(x, (0, -w % 32, 0, -h % 32), mode="replicate"))
            maps = [x]
            for k, stage in enumerate(self.down):
                x = stage(x if k else self.pool(x))
                maps.append(x)
            for block, skip in zip(self.up, (*maps[-2::-1], None)):
                x = nn.functional.interpolate(x, scale_factor=2)
                x = block(x if skip is None else torch.cat([x, skip], dim=1))
            return self.score(x)[..., :h, :w]

    return UNet()


def trained(parts, seconds, lr):
    """A U-Net after `seconds` of steps on the training data of a run, and the number of steps.

    Parameters
    ----------
    parts : Parts
    seconds : float
    lr : float
    """
    if parts.model.kinds:
        raise UserError("the U-Net has one head: give a run with one kind of labels (no --heads)")
    torch.manual_seed(parts.settings.seed)
    net = unet(parts.model.num_classes, parts.model.in_channels).to(memory_format=torch.channels_last).train()
    weight = None if parts.weight is None else torch.tensor(parts.weight)
    loss = torch.nn.CrossEntropyLoss(weight, ignore_index=255)
    optimizer = torch.optim.Adam(net.parameters(), lr)
    spent, steps, clock = 0.0, 0, time.perf_counter()
    while spent < seconds:
        for images, labels in parts.train:
            optimizer.param_groups[0]["lr"] = lr * max(1 - spent / seconds, 0) ** 0.9
            optimizer.zero_grad()
            loss(net(_inputs(parts, images)), torch.tensor(labels).long()).backward()
            optimizer.step()
            now = time.perf_counter()  # as in minifcn, the time of a step contains that of loading, if it waits
            spent, steps, clock = spent + now - clock, steps + 1, now
            if spent >= seconds:
                break
    batches = islice(parts.train, -(-SEEN // parts.settings.batch_size))
    torch.optim.swa_utils.update_bn((_inputs(parts, images) for images, _ in batches), net)
    return net.eval(), steps


def measured(net, parts):
    """The confusion matrix of a net on the validation images of a run.

    Parameters
    ----------
    net : torch.nn.Module
    parts : Parts
    """
    confusion = ConfusionMatrix(parts.model.num_classes)
    with torch.no_grad():
        for _, images, labels in parts.val.alike(parallel.ALONE):
            confusion.update(labels, net(_inputs(parts, images)).argmax(1).numpy())
    return confusion


def _inputs(parts, images):
    """Raw images as a tensor of PyTorch, converted as the run converts them."""
    return torch.from_numpy(backend.asnumpy(parts.model.preprocessing(images))).to(memory_format=torch.channels_last)


if __name__ == "__main__":
    sys.exit(main())
