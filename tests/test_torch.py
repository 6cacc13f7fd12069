"""Forward values and gradients equal PyTorch's, for irregular shapes; skipped if PyTorch is not installed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import convolutions, distinct, normal, poolings

import minifcn as mf
from minifcn import kernels as K
from minifcn import ops

pytestmark = pytest.mark.torch


def both(ours, theirs, *arrays, rtol=1e-10):
    """Assert that forward values and all gradients agree, for one random cotangent."""
    import torch

    a = [mf.Tensor(x.copy(), requires_grad=True) for x in arrays]
    b = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, z = ours(*a), theirs(*b)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=rtol, atol=1e-11)
    gy = normal(y.shape, 9)
    y.backward(gy)
    z.backward(torch.tensor(gy))
    for p, q in zip(a, b):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=rtol, atol=1e-11)


@given(convolutions())
def test_convolution(c):
    import torch.nn.functional as F

    stride, padding, dilation, groups = c.parameters
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    arrays = normal(c.x, 1), normal(c.w, 2), normal(c.w[0], 3)
    both(lambda *t: ops.conv2d(*t, **options), lambda *t: F.conv2d(*t, **options), *arrays)


@given(convolutions(), st.data())
def test_transposed_convolution(c, data):
    import torch.nn.functional as F

    stride, padding, dilation, groups = c.parameters
    extra = tuple(data.draw(st.integers(0, s - 1)) for s in stride)
    sizes = zip(c.y[2:], c.w[2:], stride, padding, dilation, extra)
    if min(s * (n - 1) + d * (k - 1) + 1 - 2 * p + e for n, k, s, p, d, e in sizes) < 1:
        return
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, output_padding=extra)
    arrays = normal(c.y, 1), normal(c.w, 2), normal(c.x[1], 3)
    both(lambda *t: ops.conv_transpose2d(*t, **options), lambda *t: F.conv_transpose2d(*t, **options), *arrays)


@given(poolings())
def test_max_pooling(p):
    import torch.nn.functional as F

    options = dict(stride=p.stride, padding=p.padding, dilation=p.dilation, ceil_mode=p.ceil_mode)
    x = distinct(p.x)
    y, _ = K.max_pool2d(x, p.kernel, p.stride, p.padding, p.dilation, p.ceil_mode)
    if np.isfinite(y).all():  # no window misses the image altogether
        both(lambda t: ops.max_pool2d(t, p.kernel, **options), lambda t: F.max_pool2d(t, p.kernel, **options), x)


@given(poolings(), st.booleans())
def test_average_pooling(p, count_include_pad):
    import torch.nn.functional as F

    if p.dilation != (1, 1) or any(q > k // 2 for q, k in zip(p.padding, p.kernel)):
        return
    options = dict(stride=p.stride, padding=p.padding, ceil_mode=p.ceil_mode, count_include_pad=count_include_pad)
    both(lambda t: ops.avg_pool2d(t, p.kernel, **options), lambda t: F.avg_pool2d(t, p.kernel, **options), normal(p.x))


@pytest.mark.parametrize("size", [(10, 14), (3, 4), (11, 5), (1, 1)])
def test_interpolation(size):
    import torch.nn.functional as F

    options = dict(mode="bilinear", align_corners=False)
    both(lambda t: ops.interpolate(t, size), lambda t: F.interpolate(t, size, **options), normal((2, 3, 5, 7)))


@pytest.mark.parametrize("reduction", ["sum", "valid", "none"])
@pytest.mark.parametrize("weight", [None, (0.5, 2.0, 1.0, 0.0)])
def test_cross_entropy(reduction, weight):
    import torch
    import torch.nn.functional as F

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (2, 5, 6))
    labels[:, 0] = 255
    w = None if weight is None else torch.tensor(weight, dtype=torch.float64)

    def theirs(s):
        loss = F.cross_entropy(s, torch.tensor(labels), weight=w, ignore_index=255, reduction="none")
        return {"none": loss, "sum": loss.sum(), "valid": loss.sum() / int((labels != 255).sum())}[reduction]

    both(lambda s: ops.cross_entropy(s, labels, weight, reduction=reduction), theirs, 50 * normal((2, 4, 5, 6)))


def test_activations_and_normalisations():
    import torch
    import torch.nn.functional as F

    x, g, b = distinct((2, 5, 4, 3)), normal(5, 1), normal(5, 2)
    both(ops.relu, F.relu, x)
    both(lambda t: ops.leaky_relu(t, 0.1), lambda t: F.leaky_relu(t, 0.1), x)
    both(lambda t, a: ops.prelu(t, a.reshape(5, 1, 1)), F.prelu, x, abs(g))
    both(ops.sigmoid, torch.sigmoid, x)
    both(ops.softmax, lambda t: F.softmax(t, 1), x)
    both(ops.log_softmax, lambda t: F.log_softmax(t, 1), x)
    both(
        lambda t: ops.local_response_norm(t, 3, 0.5, 0.75, 2.0),
        lambda t: F.local_response_norm(t, 3, 0.5, 0.75, 2.0),
        x,
    )
    both(ops.batch_norm, lambda t, g, b: F.batch_norm(t, None, None, g, b, training=True), x, g, b)
    mean, var = normal(5, 3), abs(normal(5, 4)) + 0.1
    both(
        lambda t, g, b: ops.batch_norm(t, g, b, mean, var),
        lambda t, g, b: F.batch_norm(t, torch.tensor(mean), torch.tensor(var), g, b),
        x,
        g,
        b,
    )


def test_batch_norms_running_statistics():
    import torch

    ours, theirs = mf.nn.BatchNorm2d(3).to(dtype="float64"), torch.nn.BatchNorm2d(3, dtype=torch.float64)
    for seed in range(3):
        x = normal((2, 3, 4, 5), seed)
        ours(x), theirs(torch.tensor(x))
    np.testing.assert_allclose(ours.running_mean.data, theirs.running_mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(ours.running_var.data, theirs.running_var.numpy(), rtol=1e-12)
    x = normal((2, 3, 4, 5), 9)
    np.testing.assert_allclose(ours.eval()(x).numpy(), theirs.eval()(torch.tensor(x)).detach().numpy(), rtol=1e-10)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_optimisers_over_a_changing_learning_rate(name):
    import torch

    w = normal((4, 3), 1)
    p, q = mf.nn.Parameter(w.copy()), torch.nn.Parameter(torch.tensor(w))
    if name == "sgd":
        ours = mf.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.01, form="torch")
        theirs = torch.optim.SGD([q], lr=0.1, momentum=0.9, weight_decay=0.01)
    else:
        ours = mf.optim.Adam([p], lr=0.1, weight_decay=0.01)
        theirs = torch.optim.AdamW([q], lr=0.1, weight_decay=0.01)
    for step in range(6):
        ours.lr = theirs.param_groups[0]["lr"] = 0.1 / (step + 1)
        g = normal((4, 3), step)
        p.grad, q.grad = g, torch.tensor(g)
        ours.step(), theirs.step()
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-9)
