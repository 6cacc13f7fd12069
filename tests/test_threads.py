"""Every thread computes the same bits as the main thread, as fast; no gradient is lost, and a fork does not hang."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import minifcn as mf
from minifcn import ops
from minifcn.kernels import environment
from minifcn.kernels.cpu import blas, workers
from minifcn.nn.module import evaluating


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def in_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(timeout=60)


RUNNERS = {
    "a second thread": in_thread,
    "a pool": lambda f: in_thread(lambda: in_thread(f)),
    "asyncio.to_thread": lambda f: asyncio.run(asyncio.to_thread(f)),
}


@pytest.fixture(scope="module")
def model():
    mf.manual_seed(0)
    return mf.models.fcn8s_mini(num_classes=3)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)


def gradients(model, picture):
    x = mf.Tensor(model.preprocessing(picture))
    labels = (picture[None, :, :, 0] % 3).astype(np.int64)
    leaves = [mf.Tensor(p.data, requires_grad=True) for p in model.parameters() if p.ndim == 4][:3]
    y = x
    for w in leaves:
        y = ops.relu(ops.conv2d(y, w, padding=1)) if w.shape[1] == y.shape[1] else y
    ops.cross_entropy(y, labels).backward()
    return b"".join(w.grad.tobytes() for w in leaves if w.grad is not None)


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_blas_is_limited_from_any_thread_and_put_back(run):
    in_thread(lambda: workers.run(lambda i: i, [0]))  # another thread sets the limit first
    before = blas_threads()
    assert all(n == 1 for seen in run(lambda: workers.run(lambda _: blas_threads(), range(4))) for n in seen)
    assert blas_threads() == before


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_predictions_and_gradients_have_the_same_bits_from_any_thread(model, picture, run):
    expected = model.predict(picture).tobytes(), gradients(model, picture)
    for _ in range(5):
        assert run(lambda: (model.predict(picture).tobytes(), gradients(model, picture))) == expected


def test_matrix_products_have_the_same_bits_while_other_threads_compute(model, picture):
    a, b = (np.random.default_rng(k).standard_normal((300, 400)).astype(np.float32) for k in (0, 1))
    expected, done = ops.matmul(a, b.T).numpy().tobytes(), threading.Event()

    def busy():
        while not done.is_set():
            model.predict(picture)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        assert all(ops.matmul(a, b.T).numpy().tobytes() == expected for _ in range(200))
    finally:
        done.set()
        thread.join()


def test_a_second_thread_is_as_fast_as_the_main_thread(model, picture):
    def seconds():
        start = time.thread_time(), time.perf_counter()
        model.predict(picture)
        return time.perf_counter() - start[1]

    here, there = [], []
    for _ in range(15):  # take turns, so that a slow moment of the machine affects both
        here.append(seconds())
        there.append(in_thread(seconds))
    # With the bug that this test found, a thread took 10 to 100 times as long; the bound allows for a busy machine.
    assert np.median(there) < 3 * np.median(here)


def test_threads_that_share_a_leaf_lose_no_gradient():
    leaf = mf.Tensor(np.zeros((64, 64)), requires_grad=True)
    barrier = threading.Barrier(4)

    def walk():
        barrier.wait()
        for _ in range(200):
            (leaf * 1.0).sum().backward()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=walk) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    finally:
        sys.setswitchinterval(interval)
    assert (leaf.grad == 800).all()


def test_a_graph_that_two_threads_walk_is_walked_right_or_refused():
    for _ in range(50):
        x = mf.Tensor(np.ones((8, 8)), requires_grad=True)
        trunk = (x * 2.0) * 3.0
        heads, refused = [(trunk * 1.0).sum() for _ in range(2)], []

        def walk(head, refused=refused):
            try:
                head.backward()
            except (RuntimeError, ValueError) as error:
                refused.append(error)

        threads = [threading.Thread(target=walk, args=(head,)) for head in heads]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert refused or (x.grad == 12).all()


def test_predicting_in_one_thread_leaves_the_mode_of_the_model_in_another_alone():
    model = mf.nn.Sequential(mf.nn.Dropout(0.5))
    inside, leave = threading.Event(), threading.Event()

    def evaluate():
        with evaluating(model):
            inside.set()
            assert not model.training and not next(iter(model.children()))[1].training
            leave.wait(10)

    thread = threading.Thread(target=evaluate)
    thread.start()
    inside.wait(10)
    assert model.training and next(iter(model.children()))[1].training
    leave.set()
    thread.join()
    assert model.training


FORK = textwrap.dedent("""
    import os, threading, sys, warnings
    import numpy as np
    import minifcn as mf
    from minifcn.kernels.cpu import blas

    warnings.simplefilter("ignore")  # Python 3.12 warns of every fork beside threads
    model = mf.models.fcn8s_mini(num_classes=3)
    picture = np.zeros((64, 64, 3), np.uint8)
    expected = model.predict(picture).tobytes()
    threading.Thread(target=lambda: [model.predict(picture) for _ in iter(int, 1)], daemon=True).start()
    for _ in range(int(sys.argv[1])):
        child = os.fork()
        if child == 0:
            same = model.predict(picture).tobytes() == expected
            os._exit(0 if same and not blas.single_thread.jobs else 1)
        assert os.waitpid(child, 0)[1] == 0
    print("done")
    os._exit(0)
""")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fifty_forks_beside_a_thread_that_computes_do_not_hang():
    run = subprocess.run([sys.executable, "-c", FORK, "50"], capture_output=True, text=True, timeout=120)
    assert run.stdout == "done\n", run.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_in_a_forked_child_the_limit_of_the_parents_jobs_is_gone():
    def child(before):
        sys.exit(blas_threads() != before or len(blas.single_thread.jobs))

    before = blas_threads()
    with workers.alone():
        process = multiprocessing.get_context("fork").Process(target=child, args=(before,))
        process.start()
    process.join(20)
    assert process.exitcode == 0


def test_a_library_whose_limit_belongs_to_the_thread_is_limited_in_every_thread(monkeypatch):
    """OpenBLAS built on OpenMP has a separate number of threads for each thread that calls it."""
    number = threading.local()

    class PerThread:
        per_thread = True

        def get(self):
            return getattr(number, "value", 2)

        def set(self, threads):
            number.value = threads

    library = PerThread()
    monkeypatch.setattr(blas, "libraries", lambda: [library])
    monkeypatch.setattr(environment, "threads", lambda: 3)
    monkeypatch.setattr(workers, "_queue", None)
    seen = in_thread(lambda: (library.get(), workers.run(lambda _: library.get(), range(8)), library.get()))
    assert seen == (2, [1] * 8, 2)
