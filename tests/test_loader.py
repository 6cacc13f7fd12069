"""Loader: the batches and their order, also after an interruption, and its worker thread."""

import json
import threading
import time

import numpy as np
import pytest

from minifcn.data import Augment, Loader, Shapes
from minifcn.errors import UserError


class Numbers:
    """A data set in which image i is filled with i and has a given size."""

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, i):
        return np.full((*self.sizes[i], 3), i, np.uint8), np.full(self.sizes[i], i, np.uint8)


def ids(batches):
    return [labels[:, 0, 0].tolist() for _, labels in batches]


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name == "minifcn-loader"]


def test_batches_in_order_and_the_last_is_short_or_dropped():
    d = Numbers([(2, 2)] * 7)
    assert ids(Loader(d, 3)) == [[0, 1, 2], [3, 4, 5], [6]] and len(Loader(d, 3)) == 3
    assert ids(Loader(d, 3, drop_last=True)) == [[0, 1, 2], [3, 4, 5]] and len(Loader(d, 3, drop_last=True)) == 2


def test_each_epoch_has_its_own_order_of_all_images():
    loader = Loader(Numbers([(1, 1)] * 20), 20, shuffle=True, seed=3)
    (first,), (second,) = ids(loader), ids(loader)
    assert sorted(first) == sorted(second) == list(range(20)) and first != second
    assert loader.state_dict() == {"epoch": 2, "batch": 0}
    expected = np.arange(20)
    np.random.default_rng([3, 1]).shuffle(expected)
    assert second == expected.tolist()


def test_images_of_different_sizes_are_padded_with_fill_and_void():
    ((images, labels),) = Loader(Numbers([(2, 5), (4, 3)]), 2, fill=(9, 8, 7))
    assert images.shape == (2, 4, 5, 3) and labels.shape == (2, 4, 5)
    assert (labels[0, 2:] == 255).all() and (labels[1, :, 3:] == 255).all()
    assert (images[labels == 255] == (9, 8, 7)).all() and (images[1, :, :3] == 1).all()


def test_resuming_gives_exactly_the_batches_that_were_left():
    def new():
        return Loader(Shapes(length=10, size=(20, 30)), 4, shuffle=True, augment=Augment(jitter=0.3))

    whole = new()
    expected = [batch for _ in range(2) for batch in whole]
    for taken in range(6):
        broken = new()
        stream = (batch for _ in range(2) for batch in broken)
        for _ in range(taken):
            next(stream)
        resumed = new()
        resumed.load_state_dict(json.loads(json.dumps(broken.state_dict())))
        got = list(resumed) + (list(resumed) if taken < 3 else [])
        assert len(got) == 6 - taken
        for (images, labels), (images2, labels2) in zip(got, expected[taken:]):
            np.testing.assert_array_equal(images, images2)
            np.testing.assert_array_equal(labels, labels2)


def test_an_augmented_image_depends_on_seed_epoch_and_index_only():
    def images(seed, batch_size, shuffle):
        loader = Loader(Shapes(length=6, size=(9, 9)), batch_size, shuffle, seed, augment=Augment(jitter=0.4))
        return [{image.tobytes() for images, _ in loader for image in images} for _ in range(2)]

    first, second = images(0, 1, False)
    assert images(0, 4, True) == [first, second]  # the same images with another order and batch size
    assert len(first & second) < 3 and len(first & images(1, 1, False)[0]) < 3


def test_a_loop_broken_off_goes_on_where_it_stopped():
    loader = Loader(Numbers([(1, 1)] * 4), 1)
    for _ in loader:
        break
    assert ids(loader) == [[1], [2], [3]] and ids(loader) == [[0], [1], [2], [3]]


def test_augmentation_uses_the_window_of_a_data_set_that_has_one():
    class Windowed(Numbers):
        def window(self, i, top, left, height, width):
            return np.full((2, 2, 3), 100 + i, np.uint8), np.full((2, 2), 100 + i, np.uint8)

    assert ids(Loader(Windowed([(2, 2)] * 2), 2, augment=Augment())) == [[100, 101]]


def test_an_error_of_the_data_set_reaches_the_loop_and_costs_no_earlier_batch():
    class Broken(Numbers):
        def __getitem__(self, i):
            if i == 2:
                raise UserError("image 2 is broken")
            return super().__getitem__(i)

    loader, seen = Loader(Broken([(1, 1)] * 4), 1), []
    with pytest.raises(UserError, match="image 2 is broken"):
        for _, labels in loader:
            seen.append(labels[0, 0, 0])
    assert seen == [0, 1] and loader.state_dict() == {"epoch": 0, "batch": 2}


def test_the_thread_ends_soon_after_the_loop_is_abandoned_and_never_runs_far_ahead():
    read = []

    class Counting(Numbers):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    for _ in Loader(Counting([(1, 1)] * 1000), 1):
        time.sleep(0.05)
        break
    assert len(read) < 10
    deadline = time.monotonic() + 2
    while loader_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not loader_threads()


@pytest.mark.parametrize(
    ("size", "options"), [(0, {}), (2, {"batch_size": 3, "drop_last": True}), (2, {"batch_size": 0})]
)
def test_a_loader_without_a_batch_is_refused(size, options):
    with pytest.raises(UserError):
        Loader(Numbers([(1, 1)] * size), **{"batch_size": 1} | options)


def test_resuming_with_another_batch_size_is_refused():
    with pytest.raises(UserError, match="same data set and batch size"):
        Loader(Numbers([(1, 1)] * 4), 2).load_state_dict({"epoch": 1, "batch": 3})
