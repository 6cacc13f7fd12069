"""A user's program with type hints: it defines an operation, a net, a data set and a loss, and trains the net.

``tests/test_types.py`` runs it and checks it with mypy.
"""

import numpy as np

import minifcn as mf
from minifcn.arrays.types import Array, Values
from minifcn.data.protocol import DataSet
from minifcn.training.loop import Callback, Training


class Square(mf.Function):
    """An operation."""

    formula = "y = x²"
    pointwise = True

    def forward(self, x: Array) -> Array:
        self.save(x)
        return x * x

    def backward(self, gy: Array) -> Array:
        (x,) = self.saved
        return 2 * gy * x

    def count(self, out_shape: tuple[int, ...], x_shape: tuple[int, ...]) -> int:
        return x_shape[0]


class Net(mf.nn.Module):
    """A net for segmentation, as `mf.fit` takes it."""

    def __init__(self, num_classes: int, width: int = 4) -> None:
        self.num_classes, self.in_channels = num_classes, 3
        self.preprocessing = mf.data.Preprocessing()
        self.hidden = mf.nn.Conv2d(3, width, (3, 3), padding=1)
        self.offset = mf.nn.Parameter(np.zeros((1, width, 1, 1), np.float32), lr_mult=2)
        self.score = mf.nn.Conv2d(width, num_classes, 1, weight_init=mf.nn.init.zero)

    def forward(self, image: mf.Tensor) -> mf.Tensor:
        x = Square.apply(self.hidden(image) + self.offset)
        small = mf.ops.max_pool2d(mf.ops.relu(x), 2, ceil_mode=True)
        return mf.ops.interpolate(self.score(small), image.shape[2:])


class Halves:
    """A data set without a base class: the left half is black, the right one white."""

    classes = ("left", "right")
    num_classes = 2
    palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        label = np.zeros((6, 8), np.uint8)
        label[:, 4:] = 1
        return self.palette[label], label


class Squared(mf.losses.Loss):
    """A loss: the sum of squared differences between probabilities and truth."""

    name = "squared"
    reductions = ("sum",)

    def __call__(
        self, scores: mf.Tensor, labels: Array, weight: Values | None = None, reduction: str | None = None
    ) -> mf.Tensor:
        self.reduction(reduction)
        truth = np.stack([labels == c for c in range(scores.shape[1])], axis=1)
        return ((mf.ops.softmax(scores) - truth.astype(np.float32)) ** 2).sum()


class Losses(Callback):
    """A callback: it collects the loss after each epoch."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def epoch_ended(self, t: Training) -> None:
        self.losses.append(t.rows[-1]["loss"])


def accuracy(data: DataSet, epochs: int = 1) -> float:
    net = Net(data.num_classes)
    optimizer = mf.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    kept, batches = Losses(), mf.data.Loader(data, batch_size=2, shuffle=True)
    run = mf.fit(net, batches, data, optimizer, epochs, loss=Squared(), callbacks=[kept], schedule=mf.optim.poly)
    assert len(kept.losses) == epochs
    return run.rows[-1]["pixel_accuracy"]


def main() -> None:
    x = mf.Tensor([[1.0, 2.0]], requires_grad=True, name="x")
    y = (1 - x * 2 + np.ones(2)).reshape(2, 1).sum(axis=0, keepdims=True)
    y.backward(np.ones((1, 1)))
    assert x.grad is not None and x.grad.shape == x.shape
    mf.gradcheck(Square.apply, mf.Tensor(np.ones((1, 2)), requires_grad=True))
    with mf.override(conv2d="textbook"), mf.no_grad():
        model = mf.models.build("fcn8s_mini", num_classes=2, width=0.25).eval()
        assert model.predict(np.zeros((40, 40, 3), np.uint8)).shape == (40, 40)
    print(f"{accuracy(Halves()):.1%}")


if __name__ == "__main__":
    main()
