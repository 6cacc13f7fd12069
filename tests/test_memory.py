"""Blocks of memory are reused only if no array uses them any more."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import minifcn as mf
from minifcn import ops
from minifcn.arrays import buffers

SIZE = (3, buffers.LEAST)  # bytes, as uint8


@pytest.fixture(autouse=True)
def empty_shelves():
    gc.collect()
    buffers.release()
    yield
    buffers.release()


def address(array):
    return array.__array_interface__["data"][0]


def test_a_block_is_used_again_once_nothing_looks_into_it():
    first = buffers.empty(SIZE, np.uint8)
    block = address(first)
    second = buffers.empty(SIZE, np.uint8)
    assert address(second) != block
    del first
    assert address(buffers.empty(SIZE[::-1], np.int8)) == block


def test_a_smaller_array_gets_the_smallest_free_block_that_is_not_far_larger():
    large, middle = buffers.empty((8, buffers.LEAST), np.uint8), buffers.empty((6, buffers.LEAST), np.uint8)
    blocks = [address(large), address(middle)]
    del large, middle
    assert address(buffers.empty((3, buffers.LEAST), np.uint8)) not in blocks  # both are far larger
    array = buffers.empty((5, buffers.LEAST), np.uint8)
    assert address(array) == blocks[1] and buffers.is_whole(array) and array.shape == (5, buffers.LEAST)
    assert address(buffers.empty((6, buffers.LEAST), np.uint8)) == blocks[0]  # the other is in use


@pytest.mark.parametrize(
    "look",
    [lambda a: a[1:], lambda a: a.T, lambda a: a.view(np.int16), memoryview, lambda a: np.from_dlpack(a), np.asarray],
    ids=["slice", "transpose", "dtype", "memoryview", "dlpack", "asarray"],
)
def test_any_view_keeps_its_block(look):
    array = buffers.empty(SIZE, np.uint8)
    block = address(array)
    view = look(array)
    del array
    assert address(buffers.empty(SIZE, np.uint8)) != block
    del view
    gc.collect()
    assert address(buffers.empty(SIZE, np.uint8)) == block


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_does_not_write_into_its_parents_arrays():
    array = buffers.empty(SIZE, np.uint8)
    array.fill(7)

    def spoil():
        array.fill(0)
        buffers.empty(SIZE, np.uint8).fill(0)

    child = multiprocessing.get_context("fork").Process(target=spoil)
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert (array == 7).all()


def test_a_finalizer_that_runs_inside_empty_gets_fresh_memory(monkeypatch):
    monkeypatch.setattr(buffers, "_busy", True)
    assert buffers.empty(SIZE, np.uint8).base is None


def test_where_a_process_may_not_request_memory_the_c_library_provides_it():
    """The grader's audit hook refuses mmap to submissions."""
    program = (
        "import sys, numpy as np\n"
        "from minifcn.arrays import buffers\n"
        "def hook(event, args):\n"
        "    if event.startswith('mmap.'):\n"
        "        raise PermissionError(event)\n"
        "sys.addaudithook(hook)\n"
        "array = buffers.zeros((3, buffers.LEAST), np.uint8)\n"
        "assert array.base is None and not array.any() and buffers.held() == 0\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this system")
def test_an_interrupt_anywhere_leaves_the_lock_free():
    def interrupt(*_):
        raise KeyboardInterrupt

    interrupted, before = 0, signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(2000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5)
                for _ in range(50):
                    buffers.empty(SIZE, np.uint8)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    free = []

    def take():
        free.append(buffers._lock.acquire(timeout=5))
        buffers._lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert interrupted > 100 and free == [True] and not buffers._busy


@pytest.fixture
def no_spare(monkeypatch):
    """A program that may keep no more than its peak use, which is 0 so far."""
    monkeypatch.setattr(buffers, "_blocks", {})
    monkeypatch.setattr(buffers, "_peak", 0)
    monkeypatch.setattr(buffers, "SPARE", 0)


def test_at_the_limit_an_array_takes_a_far_larger_block_and_wastes_half_of_the_peak_at_most(no_spare):
    large = buffers.empty((8, buffers.LEAST), np.uint8)
    block = address(large)
    del large
    assert address(buffers.empty((4, buffers.LEAST), np.uint8)) == block  # wastes 4 of the 8
    assert address(buffers.empty((3, buffers.LEAST), np.uint8)) != block  # would waste 5
    assert buffers.held() == 3 * buffers.LEAST


def test_kept_small_arrays_do_not_keep_large_blocks(no_spare):
    kept = []
    for rows in [8, 6, 5, 7] * 50:
        buffers.empty((rows, buffers.LEAST), np.uint8)
        kept.append(buffers.empty((1, buffers.LEAST), np.uint8))
    assert buffers.held() <= (2 * len(kept) + 8) * buffers.LEAST


def test_what_nobody_needs_is_given_back(monkeypatch):
    monkeypatch.setattr(buffers, "SPARE", 0)
    monkeypatch.setattr(buffers, "_peak", 0)
    in_use = buffers.held()  # by arrays of other tests
    for rows in range(1, 9):  # one after the other, each of another size
        buffers.empty((rows, buffers.LEAST), np.uint8)
    assert buffers.held() <= in_use + 8 * buffers.LEAST
    buffers.release()
    assert buffers.held() == in_use


def test_a_fresh_array_is_its_own_and_a_view_is_not():
    array = buffers.empty(SIZE, np.uint8)
    assert buffers.is_whole(array)
    assert buffers.is_whole(np.ones(3))
    assert not buffers.is_whole(array[1:])
    assert not buffers.is_whole(array.reshape(-1))


def test_two_leaves_never_share_the_memory_of_their_gradients():
    shape = (1, 1, 600, 600)  # large enough for a block
    a, b = (mf.Tensor(np.ones(shape, np.float32), requires_grad=True) for _ in range(2))
    (ops.relu(a) + ops.relu(b) + a + b).backward(np.ones(shape, np.float32))
    assert not np.shares_memory(a.grad, b.grad)
    a.grad += 1
    assert (b.grad == 2).all()


def test_a_training_step_that_repeats_asks_for_no_new_memory(monkeypatch):
    x, w = np.ones((1, 8, 256, 256), np.float32), mf.Tensor(np.ones((8, 8, 3, 3), np.float32), requires_grad=True)

    def step():
        w.grad = None
        ops.relu(ops.conv2d(x, w, padding=1)).sum().backward()

    step(), step()
    monkeypatch.setattr(buffers, "_new", lambda size: pytest.fail(f"{size} new bytes"))
    step()
