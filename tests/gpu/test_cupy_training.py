"""Training on CuPy: the same losses as on the CPU for every order of threads, and a budget of launches and copies."""

import csv

import numpy as np
import pytest
from tiny_run import TINY

import minifcn as mf
from minifcn import train

pytestmark = pytest.mark.cupy


def row_of(folder):
    with open(folder / "log.csv", encoding="utf-8") as file:
        return next(csv.DictReader(file))


def test_a_run_of_the_command_on_the_device_has_the_losses_of_one_on_the_cpu(scenes, tmp_path):
    rows = []
    for device in ("cpu", "cuda:0"):
        out = tmp_path / device.replace(":", "")
        settings = ["--dataset", "folder", "--root", str(scenes), *TINY, "--sampling", "0.5"]
        assert train.main([*settings, "--device", device, "--out", str(out)]) == 0
        rows.append(row_of(out))
    for name in ("loss", "val_loss", "pixel_accuracy", "mean_iu"):
        assert float(rows[1][name]) == pytest.approx(float(rows[0][name]), rel=1e-5), name


def one_step(device, dtype="float32"):
    """A function that makes one training step of the small net and returns its loss as a tensor."""
    mf.manual_seed(0)
    model = mf.models.fcn8s_mini(num_classes=5, width=0.25).to(device, dtype)
    optimizer = mf.optim.SGD(model.parameters(), lr=1e-5, weight_decay=1e-3)
    rng = np.random.default_rng(0)
    images = mf.Tensor(rng.standard_normal((2, 3, 48, 40)).astype(dtype))
    labels = rng.integers(0, 5, (2, 48, 40)).astype(np.uint8)
    labels[0, :9] = 255

    def step():
        loss = mf.ops.cross_entropy(model(images.to(device)), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_three_orders_of_blocks_and_threads_give_the_same_losses():
    from minifcn.cuda_on_cpu import order

    losses = set()
    for number in (0, 1, 777):
        with order(number):
            step = one_step("cuda")
            losses.add(tuple(step().item() for _ in range(3)))
    expected = one_step("cpu")
    np.testing.assert_allclose(next(iter(losses)), [expected().item() for _ in range(3)], rtol=1e-5)
    assert len(losses) == 1  # bit by bit


def test_a_step_stays_within_its_budget_and_its_memory():
    """The numbers of launches and copies of one step include those that CuPy itself makes, as for a reduction."""
    import cupy

    from minifcn.cuda_on_cpu import counters

    step, pool = one_step("cuda"), cupy.get_default_memory_pool()
    held = []
    for _ in range(4):
        before = counters()
        step()
        done = {name: number - before[name] for name, number in counters().items()}
        held.append((pool.used_bytes(), pool.total_bytes()))
    assert done["products"] <= 79
    assert done["launches"] <= 270
    assert done["to_device"] <= 4  # images, labels, weights of the pixels, the mask of dropout
    assert done["to_host"] == 0  # nothing, because the loss is not read
    assert held[1] == held[2] == held[3]
