"""A whole image against 100 patches (§3.1): multiply-adds, time and memory for the same 10×10 grid of outputs.

The paper reports 22 ms for a whole 500×500 image and 1.2 ms per patch: the whole image is 5.45 times as fast as 100
patches in batches, and 24.5 times as fast as patches one by one.  The saved multiply-adds follow from the layers' sizes
(7.77 and 17.28 times, for CaffeNet and VGG16); time and memory depend on the machine.
"""

import time
import tracemalloc

import numpy as np

from .. import models
from ..arrays import backend
from ..engine.core import Tensor, no_grad
from ..models.dense_prediction import patchwise
from ..nn.surgery import convolutionalize
from ..viz.experiments import bars_by_variant

NETS = {"caffenet": 227, "vgg16": 224}
ROUNDS = 3
CONSTANTS = dict(nets=NETS, rounds=ROUNDS)


def run(lab):
    """Measure both nets with untrained weights, which take as long as trained ones."""
    nets, width, rounds = (["caffenet"], 1 / 16, 1) if lab.short else (NETS, 1.0, ROUNDS)
    return dict(rows=[lab.once(name, lambda n=name: measure(n, NETS[n], width, rounds)) for name in nets])


def measure(name, size, width, rounds):
    """Multiply-adds, seconds (minimum over the rounds) and peak memory of one net, for whole image and patches."""
    backend.manual_seed(0)
    classifier = models.CLASSIFIERS[name](width=width).eval()
    net = convolutionalize(classifier, size).eval()
    image = np.random.default_rng(0).standard_normal((1, 3, 500, 500)).astype(np.float32)
    patches = net.summary(size).macs * 100
    row = dict(net=name, width=width, whole_macs=net.summary(500).macs, patches_macs=patches)

    def whole():
        with no_grad():
            return net(Tensor(image)).numpy()

    def batches():
        return backend.asnumpy(patchwise(net, image, size, batch=20))

    def one_by_one():
        return backend.asnumpy(patchwise(net, image, size, batch=1))

    ways = dict(whole=whole, patches=batches, lone_patches=one_by_one)
    seconds = {way: [] for way in ways}
    for _ in range(rounds):
        for way, function in ways.items():
            start = time.perf_counter()
            function()
            seconds[way].append(time.perf_counter() - start)
    for way, function in ways.items():
        row[f"{way}_seconds"] = min(seconds[way])
        tracemalloc.start()
        function()
        row[f"{way}_bytes"] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return row


def summary(results):
    """Four lines per net."""
    for row in results["rows"]:
        ratio = row["patches_macs"] / row["whole_macs"]
        yield f"{row['net']}: patches take {ratio:.2f} times the multiply-adds"
        for way, text in (
            ("whole", "whole image"),
            ("patches", "100 patches, batched"),
            ("lone_patches", "one by one"),
        ):
            seconds, whole = row[f"{way}_seconds"], row["whole_seconds"]
            memory = row[f"{way}_bytes"] / 2**20
            yield f"  {text:<22} {seconds:8.3f} s  {seconds / whole:6.2f} times  {memory:7.0f} MiB above the weights"


def draw(results):
    """Draw the cost of the patches as a multiple of the whole image's: multiply-adds and time."""
    bars = []
    for row in results["rows"]:
        whole = row["whole_seconds"]
        bars += [
            dict(group=row["net"], variant="multiply-adds", value=row["patches_macs"] / row["whole_macs"]),
            dict(group=row["net"], variant="time, in batches", value=row["patches_seconds"] / whole),
            dict(group=row["net"], variant="time, one by one", value=row["lone_patches_seconds"] / whole),
        ]
    paper = [("time, in batches", 5.45), ("time, one by one", 24.5)]
    bars += [dict(group="paper: AlexNet, K40c", variant=v, value=r) for v, r in paper]
    return bars_by_variant(bars, "100 patches, times the whole image's cost")
