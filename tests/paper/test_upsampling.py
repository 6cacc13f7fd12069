"""Upsampling is the backward pass of a strided convolution (§3.3): four ways to compute it, and the bilinear filter."""

import numpy as np
import pytest
from hypothesis import given
from paper.nets import double
from strategies import convolutions, normal

import minifcn as mf
from minifcn import nn, ops
from minifcn.kernels import reference
from minifcn.nn import init

pytestmark = pytest.mark.paper


def scattered(x, w, y_shape, stride, padding, dilation):
    """``y[s·o + d·m − p] += w[m]·x[o]``, in loops."""
    y = np.zeros(y_shape)
    for n, c, i, j in np.ndindex(x.shape):
        for u, v in np.ndindex(w.shape[2:]):
            at = (stride[0] * i + dilation[0] * u - padding[0], stride[1] * j + dilation[1] * v - padding[1])
            if 0 <= at[0] < y_shape[2] and 0 <= at[1] < y_shape[3]:
                y[n, :, *at] += w[c, :, u, v] * x[n, c, i, j]
    return y


def stuffed(x, w, y_shape, stride, padding, dilation):
    """Put s − 1 zeros between the cells (a fractional stride), then convolve with stride 1 and the flipped filter."""
    h, w_ = (s * (n - 1) + 1 for s, n in zip(stride, x.shape[2:]))
    between = np.zeros((*x.shape[:2], h, w_))
    between[:, :, :: stride[0], :: stride[1]] = x
    flipped = w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    border = [d * (k - 1) for d, k in zip(dilation, w.shape[2:])]
    # zeros for the cells of y that no tap reaches
    far = [max(0, n + p - (m + b)) for n, p, m, b in zip(y_shape[2:], padding, (h, w_), border)]
    between = np.pad(between, ((0, 0), (0, 0), *((b, b + f) for b, f in zip(border, far))))
    y = ops.conv2d(between, flipped.copy(), dilation=dilation).numpy()
    return y[:, :, padding[0] : padding[0] + y_shape[2], padding[1] : padding[1] + y_shape[3]]


def columns(x, w, y_shape, stride, padding, dilation):
    """col2im(Wᵀx): the transposes of the two factors of the textbook convolution, in reverse order."""
    cols = w.reshape(len(w), -1).T @ x.reshape(*x.shape[:2], -1)  # (N, C·kh·kw, OH·OW)
    return ops.col2im(cols, y_shape[2:], w.shape[2:], stride, padding, dilation).numpy()


def matrix_of(w, y_shape, stride, padding, dilation):
    """The convolution y ↦ x as an explicit matrix C with a column for each cell of y."""
    basis = np.eye(int(np.prod(y_shape[1:]))).reshape(-1, *y_shape[1:])
    return np.array([reference.conv2d(e[None], w, stride, padding, dilation, 1).ravel() for e in basis]).T


def transposed(x, w, y_shape, stride, padding, dilation):
    """The product of the explicit matrix Cᵀ and x."""
    c = matrix_of(w, y_shape, stride, padding, dilation)
    return (x.reshape(len(x), -1) @ c).reshape(y_shape)


def to_fine(a):
    """The output padding with which the output of Aᵀ has the size of the input of A."""
    sizes = zip(a.x[2:], a.y[2:], a.w[2:], a.stride, a.padding, a.dilation)
    return [n - (s * (m - 1) + d * (k - 1) + 1 - 2 * p) for n, m, k, s, p, d in sizes]


@pytest.mark.parametrize("way", [scattered, stuffed, columns, transposed])
@given(a=convolutions())
def test_four_ways_to_compute_a_transposed_convolution(way, a):
    """`a` is a convolution A from a fine grid to a coarse one; all four ways compute Aᵀ."""
    options = a.stride, a.padding, a.dilation
    w = normal((a.w[0], a.x[1], *a.w[2:]), 2)
    x = normal(a.y, 1)
    y = ops.conv_transpose2d(x, w, None, a.stride, a.padding, to_fine(a), 1, a.dilation).numpy()
    assert y.shape == a.x
    np.testing.assert_allclose(way(x, w, a.x, *options), y, rtol=1e-10, atol=1e-12)


@given(a=convolutions())
def test_forward_and_backward_are_exchanged(a):
    """``⟨A y, x⟩ = ⟨y, Aᵀ x⟩``; each one's gradient is the other's forward pass."""
    options = dict(stride=a.stride, padding=a.padding, dilation=a.dilation, groups=a.groups)
    y, x, w = mf.Tensor(normal(a.x, 1), requires_grad=True), mf.Tensor(normal(a.y, 2), requires_grad=True), normal(a.w)
    down, up = ops.conv2d(y, w, **options), ops.conv_transpose2d(x, w, output_padding=to_fine(a), **options)
    assert (down.numpy() * x.data).sum() == pytest.approx((y.data * up.numpy()).sum(), rel=1e-10, abs=1e-10)
    down.backward(x.data)
    up.backward(y.data)
    np.testing.assert_allclose(y.grad, up.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(x.grad, down.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("k, s, p, n, size", [(64, 32, 0, 16, 544), (4, 2, 0, 16, 34), (32, 16, 0, 34, 560),
                                              (16, 8, 0, 70, 568), (63, 32, 0, 16, 543), (4, 2, 1, 5, 10)])  # fmt: skip
def test_output_sizes_are_those_of_the_reference_nets(k, s, p, n, size):
    """``s(n − 1) + k − 2p``: Table 2.4 of the reference at 500×500."""
    y = ops.conv_transpose2d(np.zeros((1, 1, n, 1)), np.zeros((1, 1, k, 1)), stride=(s, 1), padding=(p, 0))
    assert y.shape == (1, 1, size, 1)


# The bilinear filter.

TABLE = {  # k: the 1-D filter, from the reference's C11
    2: [0.5, 0.5],
    3: [0.5, 1, 0.5],
    4: [0.25, 0.75, 0.75, 0.25],
    5: [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3],
    8: [0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125],
    16: [(2 * m + 1) / 16 for m in (0, 1, 2, 3, 4, 5, 6, 7, 7, 6, 5, 4, 3, 2, 1, 0)],
}


def upsampled(x, k, f, p=0):
    """x (C, n), linearly upsampled f times by a kernel of size k: (C, f(n − 1) + k − 2p)."""
    w = np.tile(init.bilinear_filter(k), (len(x), 1))[:, None, None]
    return ops.conv_transpose2d(x[None, :, None], w, stride=(1, f), padding=(0, p), groups=len(x)).numpy()[0, :, 0]


@pytest.mark.parametrize("k", [*TABLE, 6, 7, 32, 63, 64])
def test_the_bilinear_filter(k):
    """The filter equals the table and Caffe's formula, and its sum is F = ⌈k/2⌉."""
    w, half = init.bilinear_filter(k), (k + 1) // 2
    if k in TABLE:
        np.testing.assert_allclose(w, TABLE[k], rtol=1e-12)
    np.testing.assert_allclose(w, 1 - np.abs(np.arange(k) / half - (k - 1) / (2 * half)), rtol=1e-12)
    assert w.sum() == pytest.approx(half)
    assert init.bilinear((1, 1, k, k)).sum() == pytest.approx(half**2, rel=1e-6)


@pytest.mark.parametrize("f", [2, 3, 4, 5, 8, 32])
def test_weights_add_up_to_one_everywhere_inside_and_fade_at_the_border(f):
    """``Σ_o w[t − f·o] = 1`` for k = 2f and k = 2f − 1, so a constant map stays constant, except at the border."""
    for k in (2 * f, 2 * f - 1):
        y = upsampled(np.ones((1, 6)), k, f)[0]
        inside = slice(k - f, f - k)
        np.testing.assert_allclose(y[inside], 1, rtol=1e-12)
        np.testing.assert_allclose(
            y[: k - f], init.bilinear_filter(k)[: k - f], rtol=1e-12
        )  # at the border only one cell contributes
        assert y[k - f - 1] < 1
    p, k = -(-(f - 1) // 2), 2 * f - f % 2
    y = upsampled(np.ones((1, 6)), k, f, p)[0]
    assert len(y) == 6 * f and y[0] <= 0.75
    np.testing.assert_allclose(
        ops.interpolate(np.ones((1, 1, 1, 6)), (1, 6 * f)).numpy(), 1
    )  # interpolate() clamps at the border, so there the constant stays


@pytest.mark.parametrize("f", [2, 3, 4, 8])
def test_an_affine_ramp_is_reproduced_inside(f):
    """Output i lies at (i + ½)/f − ½ of the input, and has exactly the ramp's value at that position."""
    p, k = -(-(f - 1) // 2), 2 * f - f % 2
    y = upsampled(3 * np.arange(7.0)[None] + 2, k, f, p)[0]
    place = (np.arange(7 * f) + 0.5) / f - 0.5
    np.testing.assert_allclose(y[p : len(y) - p], (3 * place + 2)[p : len(y) - p], rtol=1e-12)


@pytest.mark.parametrize("f", range(2, 10))
def test_the_journals_formula_is_the_odd_kernel_with_its_first_outputs_cropped(f):
    """``y_i = Σ_α |1 − α − {i/f}|·x_{⌊i/f⌋+α}``: k = 2f − 1 and a crop of f − 1, exact for every f."""
    x = normal((1, 6))
    i = np.arange(5 * f)
    fraction, cell = i / f - i // f, i // f
    y = sum(np.abs(1 - a - fraction) * x[0, cell + a] for a in (0, 1))
    np.testing.assert_allclose(upsampled(x, 2 * f - 1, f)[0, f - 1 : f - 1 + 5 * f], y, rtol=1e-12)
    half_pixel = upsampled(x, 2 * f - f % 2, f, -(-(f - 1) // 2))[0, : 5 * f]
    assert np.abs(half_pixel - y)[f:].max() > 0.05  # outputs of the usual kernel lie half a pixel beside these


def test_the_filter_in_all_channel_pairs_sums_the_channels():
    """A common bug.  With the filter on the diagonal or with groups, each channel is interpolated by itself."""
    x, (f, k, p) = normal((2, 3, 4, 5)), (2, 4, 1)

    def up(w, **options):
        return ops.conv_transpose2d(x, w, stride=f, padding=p, **options).numpy()

    diagonal = up(init.bilinear((3, 3, k, k)).astype(float))
    np.testing.assert_allclose(up(init.bilinear((3, 1, k, k)).astype(float), groups=3), diagonal, rtol=1e-12)
    everywhere = up(np.broadcast_to(np.outer(*[init.bilinear_filter(k)] * 2), (3, 3, k, k)).copy())
    np.testing.assert_allclose(everywhere, np.broadcast_to(diagonal.sum(1, keepdims=True), everywhere.shape), rtol=1e-9)
    assert np.abs(everywhere - diagonal).max() > 0.1


def test_a_stack_of_deconvolutions_and_activations_is_not_linear():
    """§3.3: such a stack "can even learn a nonlinear upsampling"; without the activation it is one deconvolution."""
    first, second = nn.ConvTranspose2d(2, 4, 4, 2, 1, bias=False), nn.ConvTranspose2d(4, 2, 4, 2, 1, bias=False)
    a, b = normal((2, 1, 2, 3, 4))
    for middle, linear in ((nn.Sequential(), True), (nn.ReLU(), False)):
        stack = double(nn.Sequential(first, middle, second))
        apart = np.abs((stack(a + b) - stack(a) - stack(b)).numpy()).max()
        assert (apart < 1e-12) == linear
        assert linear or apart > 0.1


@pytest.mark.parametrize("frozen", [True, False])
def test_learned_upsampling_leaves_its_bilinear_start_unless_it_is_frozen(frozen):
    net = nn.Sequential(
        score=nn.Conv2d(2, 3, 1), up=nn.ConvTranspose2d(3, 3, 4, 2, 1, bias=False, weight_init=init.bilinear)
    )
    start = net.up.weight.data.copy()
    if frozen:
        net.up.weight.freeze()
    sgd = mf.optim.SGD(net.parameters(), 0.01, 0.9)
    for _ in range(3):
        ops.cross_entropy(net(normal((1, 2, 5, 6), dtype=np.float32)), np.ones((1, 10, 12), int)).backward()
        sgd.step()
    assert (net.up.weight.data == start).all() == frozen
