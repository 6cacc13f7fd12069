"""The groups of cases, and the functions that measure a case and return its row of results."""

from functools import cache

import numpy as np

from .. import kernels as K
from ..experiments import patches
from ..kernels.compiled import compiler
from ..kernels.cpu import workers
from . import cases, loading, measure, ranks, scaling

BESIDE_CASES = {**cases.KERNELS, **cases.FORWARD, **cases.STEPS}
"""The cases that can be compared with PyTorch."""

BESIDE_TORCH = ("kernels", "forward", "steps", "memory")

NAMES = {
    "kernels": cases.KERNELS,
    "forward": cases.FORWARD,
    "steps": cases.STEPS,
    "textbook": ["vgg_block1"],
    "threads": [f"{name}_threads" for name in cases.STEPS],
    "sizes": [f"mini_{size}" for size in cases.SIZES],
    "patches": ["caffenet_patches"],
    "loading": [loading.CASE],
    "scaling": [f"fcn8s_mini_on_{threads}" for threads in scaling.THREADS],
    "memory": [f"{name}_memory" for name in cases.STEPS],
    "ranks": [f"fcn8s_mini_ranks_{batch}" for batch in ranks.BATCHES],
}


def chosen(names):
    """The chosen cases as {group: its cases}; `names` are of groups or cases, and no names choose everything."""
    picked = {g: [c for c in all_ if not names or g in names or c in names] for g, all_ in NAMES.items()}
    return {group: found for group, found in picked.items() if found}


def unknown(names):
    """The `names` that are neither a group nor a case."""
    known = {*NAMES, *(case for group in NAMES.values() for case in group)}
    return [name for name in names if name not in known]


def on_device(case, rounds, against, wait):
    """The row of a kernel or a step on ``cuda``; ``wait()`` waits until the device has finished."""
    return dict(case=case) | _beside_torch(case, rounds, against, "cuda", wait)


def run(group, case, rounds, against):
    """Measure one case; its row of results, a dict."""
    row = dict(group=group, case=case)
    return row | {
        "kernels": _beside_torch, "forward": _beside_torch, "steps": _beside_torch, "textbook": _textbook,
        "threads": _threads, "sizes": _size, "patches": _patches, "memory": _memory,
        "ranks": _ranks, "loading": _loading,
        "scaling": _scaling,
    }[group](case, rounds, against)  # fmt: skip


def _beside_torch(case, rounds, against, device="cpu", wait=lambda: None):
    work = BESIDE_CASES[case](device)
    ways = [work.ours, work.theirs()] if against else [work.ours]
    row = measure.summary(measure.in_turns(ways, rounds, wait))
    return row | dict(gflops=work.flops() / row["ms"] / 1e6)


def _textbook(case, rounds, against):
    work = cases.vgg_block()

    def textbook():
        with K.override(**{name: "textbook" for name in ("conv2d", "max_pool2d", "relu", "add_bias", "channel_sums")}):
            work.ours()

    return measure.summary(measure.in_turns([work.ours, textbook], rounds))


def _threads(case, rounds, against):
    work = cases.STEPS[case.removesuffix("_threads")]()

    def alone():
        with workers.alone():
            work.ours()

    return measure.summary(measure.in_turns([work.ours, alone], rounds))


def _size(case, rounds, against):
    size = int(case.rpartition("_")[2])
    small, large = (cases.train_step("fcn8s_mini", 6, 1, s)() for s in (cases.SIZES[0], size))
    row = measure.summary(measure.in_turns([large.ours, small.ours], rounds))
    per_pixel = (cases.SIZES[0] / size) ** 2
    return row | {name: row[name] * per_pixel for name in ("ratio", "ratio_least", "ratio_most")}


def _patches(case, rounds, against):
    row = patches.measure("caffenet", patches.NETS["caffenet"], 1.0, min(rounds, patches.ROUNDS))
    whole, batches = row["whole_seconds"], row["patches_seconds"]
    return dict(ms=1e3 * whole, other_ms=1e3 * batches, ratio=whole / batches)


def _loading(case, rounds, against):
    ways = loading.ways()
    return dict(skipped=ways) if isinstance(ways, str) else measure.summary(measure.in_turns(ways, rounds))


@cache
def _model(rounds):
    return scaling.measure(cases.STEPS["fcn8s_mini_train"](), rounds)


def _scaling(case, rounds, against):
    step = _model(rounds)
    there, here = (step.seconds(threads) for threads in (int(case.rpartition("_")[2]), 1))
    parts = {f"step_{name}": value for name, value in vars(step).items()}
    return dict(ms=1e3 * there, other_ms=1e3 * here, ratio=there / here) | parts


def _ranks(case, rounds, against):
    if reason := ranks.missing():
        return dict(skipped=reason)
    batch, table = int(case.rpartition("_")[2]), np.empty((rounds, 2))
    for i in range(rounds):
        for k in (0, 1) if i % 2 else (1, 0):
            table[i, k] = ranks.fresh_step_seconds((2, 1)[k], batch)
    return measure.summary(table)


def _memory(case, rounds, against):
    step = case.removesuffix("_memory")
    ours = measure.memory_of(step, "minifcn")
    row = dict(mb=ours and ours / 1e6)
    if against and ours:
        theirs = measure.memory_of(step, "torch")
        row |= dict(other_mb=theirs / 1e6, ratio=ours / theirs)
    return row


def peak_memory(case, side):
    """Bytes that three steps add to the peak memory of this process; correct only in a fresh process."""
    if side == "torch":
        from .twin import require_torch

        require_torch()
    else:
        compiler.warm_up()  # Numba and the machine code, which are not part of a step, as PyTorch's library is not
    before, _ = measure.resident()
    if side == "torch":
        with K.shapes_only():  # compute only the shapes of our model: measure PyTorch's memory
            step = cases.STEPS[case]().theirs()
    else:
        step = cases.STEPS[case]().ours
    for _ in range(3):
        step()
    return measure.resident()[1] - before
