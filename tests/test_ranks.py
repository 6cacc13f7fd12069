"""Several ranks: they take the steps of one process, and no rank waits for ever for one that has ended."""

import csv
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from strategies import normal

from minifcn import gradcheck, ops, predict, train
from minifcn import kernels as K
from minifcn.arrays import parallel
from minifcn.bench.ranks import mpiexec
from minifcn.io import load_checkpoint
from minifcn.kernels import environment
from minifcn.kernels.cpu import norm
from minifcn.ops.norm import SyncBatchNorm2d

PROGRAM = Path(__file__).with_name("rank_program.py")
TINY = "--width 0.1 --batch-size 3 --jitter 0.15 --repeat 1 --ema 0.9 --clip 0.5 --epochs 2 --dataset folder"
mpi = pytest.mark.mpi


def launch(ranks, *argv, through=("-m", "mpi4py")):
    """Run a program on several ranks, for at most 60 seconds: a program that takes longer waits for ever."""
    command = [mpiexec(), "-n", str(ranks), sys.executable, *through, *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def training(ranks, trouble, rank, step, *argv, **options):
    return launch(ranks, PROGRAM, "training", trouble, rank, step, *argv, **options)


def sentences(err):
    """The lines on standard error, without those that MPI adds, and without that of a slow start on a busy machine."""
    usual = "note", "Abort(", "stopping", "[", "compiling   took"
    return [line for line in err.splitlines() if line and not line.startswith(usual)]


def log(folder):
    """The numbers of log.csv, without the seconds."""
    with open(folder / "log.csv", encoding="utf-8", newline="") as file:
        return [[float(v) for k, v in row.items() if k != "seconds"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The results of ``rank_program.py equal`` on one rank."""
    file = tmp_path_factory.mktemp("one") / "steps.npz"
    assert launch(1, PROGRAM, "equal", file).returncode == 0
    return np.load(file)


@pytest.fixture
def flags(scenes):
    return [*TINY.split(), "--root", scenes]


@pytest.fixture
def plain_run(flags, tmp_path):
    """The run folder of a training in one process."""
    assert train.main([*map(str, flags), "--out", str(tmp_path / "alone")]) == 0
    return tmp_path / "alone"


@mpi
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_the_steps_of_several_ranks_are_those_of_one(one, tmp_path, ranks):
    """Eleven images in batches of 5, 5 and 1: parts differ in size, and in the last batch some ranks have no image."""
    result = launch(ranks, PROGRAM, "equal", tmp_path / "steps.npz")
    assert result.returncode == 0, result.stderr
    got = np.load(tmp_path / "steps.npz")
    assert len(one) == 4 * 17
    for name in one:
        largest = np.abs(one[name]).max(axis=-1)  # of each step
        error = np.abs(got[name] - one[name]).max(axis=-1)
        assert (error <= 1e-12 * largest).all(), (name, error / largest)


@mpi
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_pieces(ranks):
    result = launch(ranks, PROGRAM, "pieces") if ranks > 1 else launch(2, PROGRAM, "pieces", through=())
    assert result.returncode == 0 and result.stdout == "all well\n", result.stderr


@mpi
def test_the_command_gives_the_log_of_one_process_and_only_rank_0_writes(flags, plain_run, tmp_path):
    result = training(2, "none", 0, 0, *flags, "--out", tmp_path / "two", "--json", tmp_path / "two.json")
    assert result.returncode == 0 and not sentences(result.stderr), result.stderr
    assert result.stdout.count("report ") == 1 and result.stdout.count("epoch ") == 1
    assert "2 ranks" in result.stdout
    np.testing.assert_allclose(log(tmp_path / "two"), log(plain_run), rtol=1e-5)
    assert {file.name for file in (tmp_path / "two").iterdir()} == {file.name for file in plain_run.iterdir()}
    again = launch(2, "-m", "minifcn.evaluate", tmp_path / "two", "--json", "-")
    assert again.returncode == 0
    measured, logged = json.loads(again.stdout), json.loads((tmp_path / "two.json").read_text(encoding="utf-8"))
    assert {name: measured[name] for name in logged} == logged


@mpi
@pytest.mark.earth
def test_a_training_on_earth_takes_the_steps_of_one_process(tmp_path):
    """Dropout, augmentation and batch norm are on.  The comparison is in float64, because float32 rounds too much."""
    for ranks in (1, 2):
        result = launch(ranks, PROGRAM, "earth", tmp_path / str(ranks))
        assert result.returncode == 0, result.stderr
    one, two = (np.load(tmp_path / str(ranks) / "losses.npy") for ranks in (1, 2))
    assert len(one) == 10 and one[-1] < one[0]
    np.testing.assert_allclose(two, one, rtol=1e-12)


@mpi
@pytest.mark.parametrize("through", [("-m", "mpi4py"), ()], ids=["by mpi4py", "plain"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_raises_ends_all_with_its_traceback(flags, tmp_path, through, rank):
    start = time.monotonic()
    result = training(2, "fail", rank, 2, *flags, "--out", tmp_path / "run", through=through)
    assert result.returncode not in (0, 2) and time.monotonic() - start < 20
    assert result.stderr.count("Traceback") == 1 and "RuntimeError: something unforeseen" in result.stderr


@mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_ends_all(flags, tmp_path, rank):
    start = time.monotonic()
    result = training(3, "kill", rank, 4, *flags, "--out", tmp_path / "run")
    assert result.returncode and time.monotonic() - start < 20
    assert load_checkpoint(tmp_path / "run/last.safetensors")[1]["state"]["epoch"] == 1


@mpi
def test_a_rank_that_refuses_alone_says_so_and_ends_all(flags, tmp_path):
    result = training(2, "refuse", 1, 2, *flags, "--out", tmp_path / "run")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    (sentence,) = sentences(result.stderr)
    assert sentence.startswith("error: this rank cannot go on") and sentence.endswith("(on rank 1 alone)")


@mpi
def test_an_image_that_one_rank_cannot_have_costs_no_step(flags, tmp_path):
    result = training(2, "spoil", 1, 1, *flags, "--batch-size", 1, "--out", tmp_path / "run")
    assert result.returncode == 2, result.stderr
    (sentence,) = sentences(result.stderr)
    assert re.match(r"error: image 7 is damaged; continue with: .*--resume", sentence) and "alone" not in sentence
    state = load_checkpoint(tmp_path / "run/last.safetensors")[1]["state"]
    assert 1 <= state["step"] < 8 and state["epoch"] == 0  # batches read before the damaged image are used


@mpi
@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--lr", "1e9"], r"error: (the loss became|\S+ is no longer finite) .* the likely cause is a learning rate"),
        (["--epochs", "0"], "error: argument --epochs"),
        (["--root", "/nowhere"], "error: there is no folder /nowhere"),
        (["--json", "/nowhere/x.json"], "error: argument --json"),
        (["--out", PROGRAM.parent], "error: .* is not empty"),  # only rank 0 looks at this folder
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence_of_all_ranks(flags, tmp_path, more, sentence):
    result = launch(2, "-m", "minifcn.train", *flags, "--out", tmp_path / "run", *more, through=())
    assert result.returncode == 2
    (said,) = sentences(result.stderr)
    assert re.match(sentence, said) and "alone" not in said


@mpi
def test_weights_that_one_rank_has_spoilt_are_everybodys_end(flags, tmp_path):
    result = training(2, "poison", 1, 1, *flags, "--out", tmp_path / "run")
    assert result.returncode == 2
    (sentence,) = sentences(result.stderr)
    assert sentence.startswith("error: the loss became nan at step 2")


@mpi
@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_ranks(flags, plain_run, tmp_path, before, after):
    """One rank gets a signal to stop in the middle of the second epoch; all ranks stop after the same step."""
    out = tmp_path / "run"
    result = training(before, "interrupt", before - 1, 4, *flags, "--dropout", 0.3, "--out", out)
    assert result.returncode == 130 and "stopped at step 4 of" in result.stdout, result.stderr
    assert load_checkpoint(out / "last.safetensors")[1]["state"]["step"] == 4
    result = training(after, "none", 0, 0, "--resume", out)
    assert result.returncode == 0 and not sentences(result.stderr), result.stderr
    np.testing.assert_allclose(log(out), log(plain_run), rtol=1e-5)


@mpi
def test_a_command_for_one_process_refuses_several(tmp_path):
    result = launch(2, "-m", "minifcn.predict", "x.png", through=())
    assert result.returncode == 2
    assert sentences(result.stderr) == ["error: this command is for one process: start it without mpiexec"]


@pytest.mark.parametrize("names", parallel.LAUNCHERS)
def test_ranks_without_mpi4py_are_told_what_to_install(monkeypatch, capsys, names):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    parallel.world.cache_clear()
    for rank in (0, 1):
        for name, value in zip(names, (rank, 2)):
            monkeypatch.setenv(name, str(value))
        assert train.main(["--dataset", "shapes"]) == 2
        said = capsys.readouterr().err
        assert ("2 ranks were started, but mpi4py is missing: pip install 'minifcn[mpi]'" in said) == (rank == 0)
    parallel.world.cache_clear()


def test_alone_there_is_no_mpi(monkeypatch):
    for name in (n for names in parallel.LAUNCHERS for n in names):
        monkeypatch.delenv(name, raising=False)
    code = "import sys, minifcn.train as t; t.parallel.world(); print('mpi4py' in sys.modules, t.parallel.world().size)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False 1\n"
    assert predict.main(["/nowhere.png"]) == 2  # the error of predict, not one about ranks


def test_the_parts_of_a_batch_are_even_and_all_of_it():
    for total in range(8):
        for size in (1, 2, 3, 5):
            parts = [parallel.Part.of(total, Threads.Rank(None, rank, size)) for rank in range(size)]
            assert [i for p in parts for i in range(p.first, p.last)] == list(range(total))
            assert {p.last - p.first for p in parts} <= {total // size, -(-total // size)}


class Threads:
    """Ranks that are threads of this process: ``run(f)`` calls ``f(rank)`` for each and returns the results."""

    class Rank:
        def __init__(self, all_, rank, size):
            self.all, self.rank, self.size = all_, rank, size

        def all_reduce(self, array):
            self.all.given[self.rank] = array.copy()
            self.all.barrier.wait()
            array[...] = sum(self.all.given)
            self.all.barrier.wait()
            return array

    def __init__(self, size):
        self.size, self.given, self.barrier = size, [None] * size, threading.Barrier(size, timeout=20)

    def run(self, f):
        results = [None] * self.size

        def work(rank):
            results[rank] = f(self.Rank(self, rank, self.size))

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


@pytest.mark.parametrize("name", ["chunked", "textbook", "reference"])
@pytest.mark.parametrize(("size", "mean"), [(1, 0), (2, 0), (3, 30), (7, 0)])
def test_batch_norm_of_parts_is_that_of_the_batch(monkeypatch, name, size, mean):
    monkeypatch.setattr(norm, "CHUNK_BYTES", 1 << 10)  # several chunks
    x, gy = normal((5, 3, 9, 31), 1) + mean, normal((5, 3, 9, 31), 2)
    gamma, beta = normal(3, 3), normal(3, 4)
    y, saved = K.batch_norm.textbook(x, gamma, beta, 1e-3)
    gx, *sums = K.batch_norm_grad.textbook(gy, saved)
    forward, grad = (k.implementations("numpy")[name] for k in (K.sync_batch_norm, K.sync_batch_norm_grad))

    def one_rank(rank):
        part = parallel.Part.of(len(x), rank)
        rows = slice(part.first, part.last)
        y, saved = forward(x[rows], gamma, beta, 1e-3, rank.all_reduce)
        return y, saved, grad(gy[rows], saved, rank.all_reduce)

    ys, saveds, grads = zip(*Threads(size).run(one_rank))
    np.testing.assert_allclose(np.concatenate(ys), y, rtol=1e-10, atol=1e-10)
    for kept in saveds:
        np.testing.assert_allclose(kept[0], saved[0], rtol=1e-12)
        np.testing.assert_allclose(kept[1], saved[1], rtol=1e-12)
        assert kept[-1] == x.size / 3
    np.testing.assert_allclose(np.concatenate([g[0] for g in grads]), gx, rtol=1e-10, atol=1e-10)
    for k, whole in enumerate(sums, 1):  # each rank has sums over its pixels; training adds them with other gradients
        np.testing.assert_allclose(sum(g[k] for g in grads), whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mean", [0, 30, 3000])
def test_batch_norm_of_parts_keeps_its_digits_where_the_mean_is_far_from_zero(mean):
    x, gy = (normal((4, 3, 9, 9), 1) + mean).astype(np.float32), normal((4, 3, 9, 9), 2)
    gamma, beta = normal(3, 3), normal(3, 4)
    exact, saved = K.batch_norm.textbook(x.astype(np.float64), gamma, beta, 1e-5)
    total = parallel.ALONE.all_reduce
    y, saved_sync = norm.sync_batch_norm(x, gamma.astype(np.float32), beta.astype(np.float32), 1e-5, total)
    np.testing.assert_allclose(y, exact, atol=2e-6 * max(mean, 3))
    grads = norm.sync_batch_norm_grad(gy.astype(np.float32), saved_sync, total)
    for got, expected in zip(grads, K.batch_norm_grad.textbook(gy, saved)):
        np.testing.assert_allclose(got, expected, atol=1e-5 * max(mean, 3))


def test_the_gradient_of_synchronised_batch_norm():
    x = normal((2, 3, 4, 5), 1)
    assert gradcheck(lambda *inputs: SyncBatchNorm2d.apply(*inputs), x, normal(3, 2), normal(3, 3))
    np.testing.assert_allclose(
        SyncBatchNorm2d.apply(x, np.ones(3), np.zeros(3)).numpy(), ops.batch_norm(x, np.ones(3), np.zeros(3)).numpy()
    )


@pytest.mark.parametrize(
    ("cores", "parents", "ranks", "threads"), [(8, 8, 2, 4), (8, 8, 3, 2), (4, 8, 2, 4), (2, 2, 9, 1)]
)
def test_ranks_share_the_cores_unless_the_launcher_has_shared_them(monkeypatch, cores, parents, ranks, threads):
    monkeypatch.delenv("MINIFCN_THREADS", raising=False)
    monkeypatch.setenv("MPI_LOCALNRANKS", str(ranks))
    monkeypatch.setattr(environment, "cores", lambda process=0: parents if process else cores)
    assert environment.threads.__wrapped__() == threads
