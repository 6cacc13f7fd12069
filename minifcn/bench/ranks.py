"""Training steps of two ranks against those of one, each measured in fresh processes.

They run ``mpiexec -n 2 python -m minifcn.bench.ranks 8``, which prints the seconds of a step on 8 images.
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
"""The numbers of images of a step in total: with two ranks, each rank has half of them."""

STEPS, EPOCHS, SIZE, CLASSES = 8, 4, 128, 6


class Noise:
    """A data set of random images in memory, so that reading takes no time."""

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
    """Seconds of a training step of fcn8s_mini on images of 128², on all ranks together: the median of some epochs."""
    backend.manual_seed(0)
    rows = fit(models.fcn8s_mini(num_classes=CLASSES), Loader(Noise(STEPS * batch), batch), epochs=EPOCHS).rows
    return float(np.median([row["seconds"] for row in rows[1:]])) / STEPS


def missing():
    """The reason why several ranks cannot be started here; None if they can."""
    possible = find_spec("mpi4py") and mpiexec()
    return None if possible else "mpi4py or mpiexec is not installed: pip install 'minifcn[mpi]'"


def mpiexec():
    """The mpiexec of this environment, else the one on the path; None if there is none."""
    return shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")


def fresh_step_seconds(ranks, batch):
    """:func:`step_seconds`, measured in fresh processes with one thread each."""
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
