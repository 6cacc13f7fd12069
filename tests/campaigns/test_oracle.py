"""Operations compared with PyTorch: values and gradients, for arrays of every layout, size, dtype and content."""

import warnings

import numpy as np
import pytest
from campaign import campaign

import minifcn as mf
from minifcn import ops

pytestmark = [pytest.mark.campaign, pytest.mark.torch]
RTOL = {"float32": 3e-4, "float64": 1e-9}


def laid_out(a, how):
    """An array with the same values and other strides."""
    match how:
        case 1:
            return np.asfortranarray(a)
        case 2:
            wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
            wide[..., ::2] = a
            return wide[..., ::2]
        case 3:
            return np.ascontiguousarray(a[..., ::-1])[..., ::-1]
        case 4 if a.ndim == 4:  # channels last
            return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        case 5:
            return np.broadcast_to(a[:1], a.shape) if a.shape and a.shape[0] else a
    return a


def cases(F, rng):
    """A random operation: (name, ours, PyTorch's, shapes of the inputs, whether inputs may be non-finite)."""
    n, c, h, w = (int(rng.integers(low, high)) for low, high in ((0, 4), (1, 6), (1, 12), (1, 12)))
    if rng.random() < 0.02:
        h, w = 130, 67
    k = int(rng.integers(1, 4))
    s, p, d = int(rng.integers(1, 4)), int(rng.integers(0, k // 2 + 1)), int(rng.integers(1, 3))
    x = (n, c, h, w)
    same = [
        ("relu", ops.relu, F.relu),
        ("exp", ops.exp, lambda t: t.exp()),
        ("sum", lambda t: t.sum(), lambda t: t.sum()),
        ("sigmoid", ops.sigmoid, lambda t: t.sigmoid()),
        ("neg", lambda t: -t, lambda t: -t),
        ("mean", lambda t: ops.mean(t, axis=(2, 3)), lambda t: t.mean((2, 3))),
        ("softmax", lambda t: ops.softmax(t, axis=1), lambda t: t.softmax(1)),
        ("log_softmax", lambda t: ops.log_softmax(t, axis=1), lambda t: t.log_softmax(1)),
        ("transpose", lambda t: ops.transpose(t, (0, 2, 3, 1)), lambda t: t.permute(0, 2, 3, 1)),
        ("pad", lambda t: ops.pad(t, (1, 0, 2, 1)), lambda t: F.pad(t, (2, 1, 1, 0))),
        ("leaky_relu", lambda t: ops.leaky_relu(t, 0.1), lambda t: F.leaky_relu(t, 0.1)),
    ]
    binary = [
        ("add", lambda a, b: a + b, lambda a, b: a + b),
        ("mul", lambda a, b: a * b, lambda a, b: a * b),
        ("sub", lambda a, b: a - b, lambda a, b: a - b),
        ("div", lambda a, b: a / b, lambda a, b: a / b),
    ]
    pooling = dict(stride=s, padding=p, ceil_mode=bool(rng.integers(2)))
    size = int(rng.integers(1, 20)), int(rng.integers(1, 20))
    o = int(rng.integers(1, 5))
    conv = dict(stride=s, padding=p, dilation=d)
    span = d * (k - 1) + 1
    larger = (n, c, h + span, w + span)
    spatial = [
        ("max_pool2d", lambda t: ops.max_pool2d(t, k, **pooling), lambda t: F.max_pool2d(t, k, **pooling), [larger]),
        ("avg_pool2d", lambda t: ops.avg_pool2d(t, k, **pooling), lambda t: F.avg_pool2d(t, k, **pooling), [larger]),
        ("interpolate", lambda t: ops.interpolate(t, size), lambda t: F.interpolate(t, size, mode="bilinear"), [x]),
        ("conv2d", lambda *t: ops.conv2d(*t, **conv), lambda *t: F.conv2d(*t, **conv), [larger, (o, c, k, k), (o,)]),
        ("conv_transpose2d", lambda *t: ops.conv_transpose2d(*t, stride=s), lambda *t: F.conv_transpose2d(*t, stride=s),
         [x, (c, o, k, k), (o,)]),
        ("matmul", ops.matmul, lambda a, b: a @ b, [(n, h), (h, w)]),
    ]  # fmt: skip
    kind = rng.integers(3)
    if kind == 0:
        name, ours, theirs = same[rng.integers(len(same))]
        return name, ours, theirs, [x], True
    if kind == 1:
        name, ours, theirs = binary[rng.integers(len(binary))]
        other = tuple(1 if rng.random() < 0.3 else size for size in x)
        return name, ours, theirs, [x, other], True
    return *spatial[rng.integers(len(spatial))], False


def check(number, rng):
    import torch
    import torch.nn.functional as F

    name, ours, theirs, shapes, any_value = cases(F, rng)
    dtype = "float32" if rng.random() < 0.5 else "float64"
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    if any_value and rng.random() < 0.25:
        for a in arrays:
            a[rng.random(a.shape) < 0.1] = rng.choice([np.inf, -np.inf, np.nan, 0.0, 1e30])
    arrays = [laid_out(a, int(rng.integers(6))) for a in arrays]
    a = [mf.Tensor(v, requires_grad=True) for v in arrays]
    b = [torch.tensor(np.ascontiguousarray(v), requires_grad=True) for v in arrays]
    case = f"{name} of {[(v.shape, v.strides) for v in arrays]} {dtype}"
    try:
        right = theirs(*b)
    except RuntimeError:  # PyTorch refuses some empty maps that minifcn may accept
        return 1
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        got = ours(*a)
        close(got.numpy(), right.detach().numpy(), dtype, f"{case}, forward")
        gy = rng.standard_normal(right.shape).astype(dtype)
        got.backward(laid_out(gy, int(rng.integers(4))) if gy.ndim else gy)
        right.backward(torch.tensor(gy))
        for i, (p, q) in enumerate(zip(a, b)):
            close(p.grad, q.grad.numpy(), dtype, f"{case}, gradient {i}")
    return 1 + len(a)


def close(got, right, dtype, case):
    assert got.shape == right.shape and got.dtype == dtype, f"{case}: {got.dtype}{got.shape} for {right.shape}"
    if right.size:
        finite = abs(right[np.isfinite(right)])
        scale = min(float(finite.max(initial=1)), 1e6)
        np.testing.assert_allclose(got, right, RTOL[dtype], RTOL[dtype] * scale, err_msg=case)


def test_operations_beside_pytorch():
    pytest.importorskip("torch", reason="pip install torch")
    campaign("operations beside PyTorch", 1500, 25_000, check)


def test_a_wrong_gradient_is_seen(monkeypatch):
    """The sabotage: one element of a convolution's weight gradient is wrong by a thousandth."""
    pytest.importorskip("torch", reason="pip install torch")
    right = mf.kernels.textbook.conv2d_grad_weight

    def wrong(*args):
        gw = right(*args).copy()
        gw.flat[:1] *= 1.001
        return gw

    with mf.override(conv2d_grad_weight=wrong), pytest.raises(AssertionError, match=r"conv2d of .*gradient 1"):
        campaign("sabotage of operations", 400, 400, check)
