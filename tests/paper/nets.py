"""Small nets in float64, all their gradients and their patches, for the tests of the paper's claims."""

import numpy as np
from strategies import normal

import minifcn as mf
from minifcn import nn, ops


def double(net, seed=0):
    """Convert `net` to float64 and give random values to all its parameters, also to biases and norms."""
    rng = np.random.default_rng(seed)
    for name, p in net.named_parameters():
        p.data = rng.standard_normal(p.shape) * (0.3 if name.endswith("bias") else (2 / max(p.data[0].size, 1)) ** 0.5)
    return net


def valid_net(padding=0, norm=False, drop=0.0):
    """A net with stride 2 and field 10, by default unpadded: conv3 – pool2 – conv3 – conv2, 2 channels to 3 classes."""
    layers = dict(
        conv1=nn.Conv2d(2, 4, 3, padding=padding), norm1=nn.BatchNorm2d(4), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(4, 4, 3, padding=padding), relu2=nn.ReLU(), drop2=nn.Dropout(drop), score=nn.Conv2d(4, 3, 2),
    )  # fmt: skip
    if not norm:
        del layers["norm1"]
    return double(nn.Sequential(**layers), 3)


def labels_like(scores, seed=0):
    n, c, h, w = scores.shape
    return np.random.default_rng(seed).integers(0, c, (n, h, w))


def loss_and_gradients(net, x, labels, **options):
    """The loss, and {name: gradient} of every parameter."""
    loss = ops.cross_entropy(net(x), labels, **options)
    loss.backward()
    gradients = {name: p.grad for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = None
    return loss.item(), gradients


def assert_same(a, b, tolerance=1e-9):
    """Two results of :func:`loss_and_gradients` are equal, every gradient to `tolerance`."""
    assert abs(a[0] - b[0]) <= tolerance * abs(a[0])
    assert a[1].keys() == b[1].keys()
    for name, g in a[1].items():
        np.testing.assert_allclose(g, b[1][name], rtol=tolerance, atol=tolerance, err_msg=name)


def differ(a, b):
    """Two results differ in the loss and in every gradient, by far more than rounding."""
    apart = [np.abs(g - b[1][name]).max() / np.abs(g).max() for name, g in a[1].items()]
    return abs(a[0] - b[0]) > 1e-3 * abs(a[0]) and min(apart) > 1e-3


def weighted_sum(results, factors):
    """Σ factor · (loss, gradients)."""
    total = 0.0, {}
    for (loss, gradients), factor in zip(results, factors, strict=True):
        added = {name: total[1].get(name, 0) + factor * g for name, g in gradients.items()}
        total = total[0] + factor * loss, added
    return total


def field_of(net, x):
    """The receptive field of the net's outputs on images like x."""
    image = mf.Tensor(np.asarray(x))
    with mf.no_grad(), mf.shapes_only(), nn.module.evaluating(net):
        return mf.geometry.receptive_field(net(image), image)


def patches_of(net, x):
    """The patches of the image that the outputs see, in row-major order: (N·n·m, C, r, r)."""
    field = field_of(net, x)
    windows = np.lib.stride_tricks.sliding_window_view(x, field.size, axis=(2, 3))
    windows = windows[:, :, :: int(field.jump[0]), :: int(field.jump[1])]  # (N, C, n, m, r, r)
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1], *field.size)


def scene(h=14, w=17, n=1):
    return normal((n, 2, h, w), 7)
