"""Training steps of two ranks against those of one: each measured in processes of their own.

``mpiexec -n 2 python -m minifcn.bench.ranks 8`` is what runs in them: it prints the seconds of a step on 8 images.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .. import models
from ..arrays import backend, parallel
from ..data import Loader
from ..training.loop import fit

BATCHES = (8, 16)
"""Images of a step, whoever computes it: a rank of two has half of them."""

STEPS, EPOCHS, SIZE, CLASSES = 8, 4, 128, 6


class Noise:
    """Images in memory: reading them takes no time."""

    num_classes = CLASSES

    def __init__(self, length):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (length, SIZE, SIZE, 3), np.uint8)
        self.labels = rng.integers(0, CLASSES, self.images.shape[:3], np.uint8)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def step_seconds(batch):
    """What a step of fcn8s_mini on images of 128² takes on the ranks that are here: the median of some epochs."""
    backend.manual_seed(0)
    rows = fit(models.fcn8s_mini(num_classes=CLASSES), Loader(Noise(STEPS * batch), batch), epochs=EPOCHS).rows
    return float(np.median([row["seconds"] for row in rows[1:]])) / STEPS


def missing():
    """Why several ranks cannot be started here, in a sentence; None if they can."""
    there = find_spec("mpi4py") and mpiexec()
    return None if there else "mpi4py or mpiexec is not installed: pip install 'minifcn[mpi]'"


def mpiexec():
    """The mpiexec of this environment, else the one on the path; None without."""
    return shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")


def fresh_step_seconds(ranks, batch):
    """:func:`step_seconds` of fresh processes, each with one thread."""
    command = [mpiexec(), "-n", str(ranks), sys.executable, "-m", "mpi4py", "-m", __name__, str(batch)]
    environment = os.environ | dict(MINIFCN_THREADS="1", OPENBLAS_NUM_THREADS="1")
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(f"measuring {ranks} ranks failed: {answer.stderr.strip()[-500:]}")
    return float(answer.stdout)


if __name__ == "__main__":
    seconds = step_seconds(int(sys.argv[1]))
    if parallel.world().rank == 0:
        print(seconds)
