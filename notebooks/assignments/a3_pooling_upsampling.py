# %% [markdown]
# # A3 · Down and up again: pooling and transposed convolution
#
# An FCN halves the size of its maps five times, and must then return to the resolution of the image. On the way down,
# **max pooling** keeps the largest number of each window. On the way up, a **transposed convolution** adds, for each
# cell, a copy of a filter times the cell's number to the output (§3.3). You will write both and their gradients, and
# the filter that makes upsampling an interpolation. Notebooks 03 and 09 show the same in pictures.
#
# Pairs are (h, w). Arrays are (N, C, H, W), float32 or float64, and your result has the dtype of the input. Do not
# change the inputs in place. If a task builds on an earlier one, call your function by its name. If yours is not right
# yet, use the library's (`mf.kernels.shapes.pool_size`) meanwhile. The grader also replaces earlier answers by the
# library's.
#
# Each check below prints ✓ (passed), ✗ (failed) or · (not yet). You can also run all of them with
# `python -m pytest a3_pooling_upsampling.py`.

# %%
# Setup
import numpy as np

import minifcn as mf
from minifcn.course import check
from minifcn.kernels.shapes import pair

# %% [markdown]
# ## Task 3.1: How many windows? (3 points)
#
# A window of $k$ cells with dilation $d$ spans $k_d = d\,(k - 1) + 1$ cells. How many windows, one every $s$ cells, are
# there on $n$ cells with a padding of $p$ on both sides? If the last window must lie inside, round down. If it may
# reach beyond the end and is clipped there (`ceil_mode`), round up:
#
# $$n' = \left\lfloor \frac{n + 2p - k_d}{s} \right\rfloor + 1 \qquad\text{or}\qquad
# n' = \left\lceil \frac{n + 2p - k_d}{s} \right\rceil + 1 .$$
#
# Rounding up has a problem: the last window could lie completely outside, and its maximum would be $-\infty$. So in
# ceil mode a window must **start inside the image or its leading padding**: if $(n' - 1)\,s \ge n + p$, there is one
# window less. (One less is enough, as long as $p \le k_d$.)
#
# The paper's nets were written in Caffe, which rounds up for pooling (and down for convolution). Therefore the 698
# pixels of a padded picture become 349, **175**, **88**, 44, 22 in FCN-VGG16, and not 349, 174, 87, 43, 21.


# %%
# Task 3.1
def pool_size(n, kernel, stride, padding, dilation=1, ceil_mode=False):
    """The number of pooling windows along an axis of n cells, as an int."""
    ### BEGIN SOLUTION
    room = n + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    size = -(-room // stride) + 1
    return size - 1 if (size - 1) * stride >= n + padding else size
    ### END SOLUTION


# %%
@check
def test_rounding_down_and_up():
    """3.1 Windows of 3, one every 2 cells: 2 on five cells; 2 on six, or 3 if the last may be clipped"""
    sizes = [pool_size(n, 3, 2, 0, 1, up) for n, up in ((5, False), (5, True), (6, False), (6, True))]
    assert sizes == [2, 2, 2, 3], f"you count {sizes}, it should be [2, 2, 2, 3]"


@check
def test_last_window_starts_inside():
    """3.1 In ceil mode the last window may be clipped, but it must start inside"""
    size = pool_size(3, 2, 2, 1, 1, True)
    assert size == 2, (
        f"3 cells, padding 1: windows start at −1 and 1; a third would start at 3, outside. You count {size}"
    )


@check
def test_poolings_of_vgg16():
    """3.1 My function computes the sizes of FCN-8s-VGG16's pooled maps for a picture of 500×375"""
    model = mf.models.fcn8s_vgg16(width=1 / 16)
    pools = [f"pool{i}" for i in range(1, 6)]
    with mf.shapes_only():
        maps = model.trunk.features(mf.Tensor(np.zeros((1, 3, 375, 500), "float32")), pools)
    height, width = 375 + 198, 500 + 198  # conv1_1 pads by 100 and is 3 wide
    for pool in pools:
        height, width = (pool_size(n, 2, 2, 0, 1, True) for n in (height, width))
        assert maps[pool].shape[2:] == (height, width), f"{pool} is {maps[pool].shape[2:]}, not {(height, width)}"


# %% [markdown]
# ## Task 3.2: The largest of each window (5 points)
#
# This is equation (1) of the paper with a maximum for $f$:
#
# $$y_{n,c,i,j} = \max_{u,v}\; x_{n,\,c,\,s\,i - p + d\,u,\;s\,j - p + d\,v}$$
#
# **Outside the image $x$ counts as $-\infty$**, not 0: a zero would be larger than negative numbers. The backward pass
# needs the position of each maximum. The tap number $u\,k_w + v$ is enough. If several cells are largest, take **the
# first one** in row-major order. Return $y$ and this index, the latter as `uint8` (no window here has more than 256
# taps): it stays in memory until the backward pass, and takes an eighth of NumPy's default, int64.
#
# As in A2, a loop over the taps is enough. In ceil mode the last window may reach beyond the padding: then pad the end
# by more.


# %%
# Task 3.2
def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    """The maximum of each window (N, C, OH, OW), and the number of its tap, as uint8."""
    ### BEGIN SOLUTION
    out, pads = [], [(0, 0), (0, 0)]
    for n, k, s, p, d in zip(x.shape[2:], kernel_size, stride, padding, dilation):
        out.append(pool_size(n, k, s, p, d, ceil_mode))
        pads.append((p, max(p, (out[-1] - 1) * s + d * (k - 1) + 1 - n - p)))
    x = np.pad(x, pads, constant_values=-np.inf)
    y = np.full((*x.shape[:2], *out), -np.inf, x.dtype)
    index = np.zeros(y.shape, "uint8")
    for u in range(kernel_size[0]):
        for v in range(kernel_size[1]):
            top, left = dilation[0] * u, dilation[1] * v
            tap = x[:, :, top :: stride[0], left :: stride[1]][:, :, : out[0], : out[1]]
            better = tap > y
            y[better] = tap[better]
            index[better] = u * kernel_size[1] + v
    return y, index
    ### END SOLUTION


# %%
@check
def test_maximum_by_hand():
    """3.2 The maxima of four 2×2 windows, and their taps"""
    x = np.array([[1.0, 5, 2, 2], [3, 4, 2, 2], [0, -1, -4, -3], [-1, 7, -2, -3]]).reshape(1, 1, 4, 4)
    y, index = max_pool2d(x, (2, 2), (2, 2), (0, 0), (1, 1), False)
    assert (y[0, 0] == [[5, 2], [7, -2]]).all(), f"the maxima are\n{y[0, 0]}"
    assert (index[0, 0] == [[1, 0], [3, 2]]).all(), f"the taps are\n{index[0, 0]}\nand should be [[1, 0], [3, 2]]"
    assert index.dtype == "uint8", f"the dtype of the index is {index.dtype}, it should be uint8"


@check
def test_outside_is_lower_than_anything():
    """3.2 Padding is never the maximum, not even among negative numbers"""
    y, _ = max_pool2d(np.full((1, 1, 3, 3), -1.0), (3, 3), (2, 2), (1, 1), (1, 1), False)
    assert (y == -1).all(), f"the image is −1 everywhere, so its maxima should be −1; you have\n{y[0, 0]}"


@check
def test_clipped_windows():
    """3.2 In ceil mode the last windows are clipped: nine windows of 3×3, one every 2 cells, on 6×6"""
    x = np.random.default_rng(3).permutation(36).astype(float).reshape(1, 1, 6, 6)
    y, index = max_pool2d(x, (3, 3), (2, 2), (0, 0), (1, 1), True)
    assert y.shape == (1, 1, 3, 3), f"there are {y.shape[2]}×{y.shape[3]} windows, not 3×3"
    right = [[x[0, 0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max() for j in range(3)] for i in range(3)]
    assert (y[0, 0] == right).all(), f"the maxima are\n{y[0, 0]}\nand should be\n{np.array(right)}"
    winners = [(2 * i + index[0, 0, i, j] // 3, 2 * j + index[0, 0, i, j] % 3) for i, j in np.ndindex(3, 3)]
    maps = {"x, its winners marked": x[0, 0], "y": y[0, 0], "index": index[0, 0]}
    return mf.viz.arrays(maps, {"x, its winners marked": winners})


@check
def test_fcn_pools_with_mine():
    """3.2 An FCN-8s computes the same scores with my max_pool2d"""
    model = mf.models.fcn8s_mini(pretrained="earth")
    model.eval()
    image = np.random.default_rng(0).standard_normal((1, 3, 44, 60)).astype("float32")
    right = model(mf.Tensor(image)).data
    with mf.override(max_pool2d=max_pool2d):
        mine = model(mf.Tensor(image)).data
    assert np.allclose(mine, right, atol=1e-4), f"they differ by {abs(mine - right).max():.3g}"


# %% [markdown]
# ## Task 3.3: The winner takes it all (4 points)
#
# Call the first maximum of a window its winner. A small change of $x$ changes $y_{ij}$ only at the cell that won window
# $(i, j)$. So that cell receives the whole gradient of $y_{ij}$, and no other cell receives any of it. Where windows
# overlap, a cell may win several windows; its gradient is then a **sum**:
#
# $$g_x[a, b] = \sum_{i,j}\; g_y[i, j]\;\big[(a, b) \text{ won window } (i, j)\big]$$
#
# The index gives the position of the winner: tap $t$ is $u = \lfloor t / k_w \rfloor$, $v = t \bmod k_w$. (NumPy cannot
# add $-1$ to a `uint8`: convert the index to `int` first.)


# %%
# Task 3.3
def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    """The gradient of x (x_shape), given gy, the gradient of y (N, C, OH, OW), and the index of the winners."""
    ### BEGIN SOLUTION
    gx = np.zeros(x_shape, gy.dtype)
    n, c, i, j = np.indices(gy.shape, sparse=True)
    a = stride[0] * i - padding[0] + dilation[0] * (index // kernel_size[1])
    b = stride[1] * j - padding[1] + dilation[1] * (index % kernel_size[1])
    np.add.at(gx, (n, c, a, b), gy)
    return gx
    ### END SOLUTION


# %%
@check
def test_only_winners_receive():
    """3.3 Each winner receives the whole gradient of its window, other cells nothing"""
    gy, index = np.array([[[[10.0, 20], [30, 40]]]]), np.array([[[[1, 0], [3, 2]]]], "uint8")
    gx = max_pool2d_grad(gy, index, (1, 1, 4, 4), (2, 2), (2, 2), (0, 0), (1, 1), False)
    right = [[0, 10, 20, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 30, 40, 0]]
    assert gx.shape == (1, 1, 4, 4), f"the shape is {gx.shape}"
    assert (gx[0, 0] == right).all(), f"the gradient is\n{gx[0, 0]}\nand should be\n{np.array(right)}"


@check
def test_twice_a_winner():
    """3.3 A cell that wins four windows receives the sum of four gradients"""
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 1, 1] = 9
    y, index = mf.kernels.max_pool2d(x, (2, 2), (1, 1), (0, 0), (1, 1), False)
    gx = max_pool2d_grad(np.ones_like(y), index, x.shape, (2, 2), (1, 1), (0, 0), (1, 1), False)
    assert gx[0, 0, 1, 1] == 4 and gx.sum() == 4, f"the gradient is\n{gx[0, 0]}"


@check
def test_gradient_of_pooling():
    """3.3 Max pooling with my gradient passes the gradient checker"""
    x = np.random.default_rng(0).standard_normal((2, 2, 6, 7))
    with mf.override(max_pool2d_grad=max_pool2d_grad):
        mf.gradcheck(lambda x: mf.ops.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True), x)


@check
def test_fcn_learns_through_mine():
    """3.3 An FCN-8s has the same gradients with my max_pool2d_grad"""
    image, labels = np.random.default_rng(0).standard_normal((1, 3, 44, 60)), np.zeros((1, 44, 60), int)
    found = []
    for mine in ({}, dict(max_pool2d_grad=max_pool2d_grad)):
        model = mf.models.fcn8s_mini(pretrained="earth")
        model.eval()
        with mf.override(**mine):
            mf.ops.cross_entropy(model(mf.Tensor(image.astype("float32"))), labels).backward()
        found.append(model.parameters()[0].grad)
    assert np.allclose(*found, rtol=1e-3, atol=1e-3 * abs(found[0]).max()), "the gradient of the first layer differs"


# %% [markdown]
# ## Task 3.4: Up, by stamping (3 points)
#
# Now the way up. To make a map $s$ times larger, §3.3 runs a convolution of stride $s$ *backwards*. For one channel
# without padding this is simple: every cell of $x$ adds a copy of the filter, times its number, to $y$. The copies
# begin $s$ cells apart, and **add up** where they overlap:
#
# $$y_{\,s\,i + u,\; s\,j + v} \mathrel{+}= w_{u,v}\; x_{i,j}$$
#
# The last copy begins at $s\,(n - 1)$ and is $k$ long: $n' = s\,(n - 1) + k$.


# %%
# Task 3.4
def upsample(x, w, stride):
    """Upsample one map x (H, W): each cell adds a copy of w (kh, kw); the copies are `stride` (h, w) apart."""
    ### BEGIN SOLUTION
    (H, W), (kh, kw), (sh, sw) = x.shape, w.shape, stride
    y = np.zeros((sh * (H - 1) + kh, sw * (W - 1) + kw), x.dtype)
    for i in range(H):
        for j in range(W):
            y[sh * i : sh * i + kh, sw * j : sw * j + kw] += x[i, j] * w
    return y
    ### END SOLUTION


# %%
@check
def test_one_stamp():
    """3.4 A single cell becomes the filter times its number"""
    w = np.arange(6.0).reshape(2, 3)
    y = upsample(np.array([[2.0]]), w, (2, 2))
    assert y.shape == w.shape, f"the shape is {y.shape}, it should be the filter's, (2, 3)"
    assert (y == 2 * w).all(), f"you have\n{y}"


@check
def test_stamps_add_up():
    """3.4 Copies of a 3×3 filter of ones, two cells apart, overlap in a cross"""
    y = upsample(np.ones((2, 2)), np.ones((3, 3)), (2, 2))
    right = np.outer([1, 1, 2, 1, 1], [1, 1, 2, 1, 1])
    assert y.shape == right.shape, f"the shape is {y.shape}, it should be (5, 5)"
    assert (y == right).all(), f"you have\n{y}"
    return mf.viz.arrays({"2×2 ones, upsampled": y})


@check
def test_upsampled_scores_of_an_fcn():
    """3.4 Upsampling the coarse scores of an FCN-32s with its filter gives the output of its last layer"""
    mf.manual_seed(0)
    model = mf.models.fcn32s_mini(num_classes=3, width=0.25)
    model.heads[""].score_fr.weight.data = np.random.default_rng(0).standard_normal((3, 32, 1, 1)).astype("float32")
    with mf.trace() as t:
        model(mf.Tensor(np.random.default_rng(1).standard_normal((1, 3, 64, 96)).astype("float32")))
    coarse, fine, filters = t["score_fr"].y[0], t["upscore"].y[0], model.heads[""].upscore.weight.data
    for c in range(3):
        mine = upsample(coarse[c], filters[c, 0], (32, 32))
        assert mine.shape == fine[c].shape, f"the shape is {mine.shape}, it should be {fine[c].shape}"
        assert np.allclose(mine, fine[c], atol=1e-4), f"channel {c} differs"


# %% [markdown]
# ## Task 3.5: Transposed convolution (4 points)
#
# With channels, padding and groups, the general formula is that of the *gradient of a convolution's input*. Let $A$ be
# the convolution with the same $w$ that maps $y$ to $x$'s size. It is linear, and
#
# | | forward | backward: $g_x$ | backward: $g_w$ |
# |---|---|---|---|
# | convolution, $A x$ | `conv2d(x, w)` | `conv2d_grad_input(gy, w)`, $A^\mathsf{T} g_y$ | `conv2d_grad_weight(gy, x)` |
# | transposed, $A^\mathsf{T} x$ | `conv2d_grad_input(x, w)` | ? | ? |
#
# A transposed convolution "simply reverses the forward and backward passes of convolution" (§3.3), so three kernels are
# enough for both rows. To find the second row, use $\langle g_y, A^\mathsf{T} x\rangle = \langle A g_y, x\rangle$: what
# is the gradient of $x$? And for the convolution $A$, which array is its input, and which one the gradient of its
# output?
#
# The kernel needs the size of $y$, because $A$ with stride $s$ maps $s$ different sizes to the same size. From $A$'s
# formula, $n = \lfloor (n' + 2p - k_d)/s \rfloor + 1$, the smallest of them is
#
# $$n' = s\,(n - 1) + k_d - 2p \qquad (k_d = d\,(k - 1) + 1)$$
#
# and `output_padding` (less than $s$) is added to it. The weight is that of $A$: $w$ is $(C, O/G, k_h, k_w)$ for $C$
# channels of $x$ and $O$ of $y$. A bias of $O$ numbers is added to $y$.
#
# The kernels are `mf.kernels.conv2d(x, w, stride, padding, dilation, groups)`, `conv2d_grad_input(gy, w, x_shape,
# stride, …)` and `conv2d_grad_weight(gy, x, w_shape, stride, …)`, as in A2. `locate` is given: it computes the position
# of the output on the image, which the network needs for its crops.


# %%
# Task 3.5
class ConvTranspose2d(mf.Function):
    """y = Aᵀx + b, where A is the convolution with the same w."""

    def __init__(self, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        self.stride, self.padding, self.dilation = pair(stride), pair(padding), pair(dilation)
        self.output_padding, self.groups = pair(output_padding), groups

    def locate(self, axis, place):
        kernel = self.in_shapes[1][axis + 2]
        return place.spread(kernel, self.stride[axis], self.padding[axis], self.dilation[axis])

    def forward(self, x, w, b=None):
        """x (N, C, H, W), w (C, O/groups, kh, kw), b (O,) or None -> y (N, O, OH, OW); self.save(...) what you need."""
        ### BEGIN SOLUTION
        self.save(x, w, b is not None)
        size = []
        for n, k, s, p, d, extra in zip(
            x.shape[2:], w.shape[2:], self.stride, self.padding, self.dilation, self.output_padding
        ):
            size.append(s * (n - 1) + d * (k - 1) + 1 - 2 * p + extra)
        y_shape = (len(x), w.shape[1] * self.groups, *size)
        y = mf.kernels.conv2d_grad_input(x, w, y_shape, self.stride, self.padding, self.dilation, self.groups)
        return y if b is None else y + b[:, None, None]
        ### END SOLUTION

    def backward(self, gy):
        """The gradients of x and w, and of b if there was one."""
        ### BEGIN SOLUTION
        x, w, biased = self.saved
        where = self.stride, self.padding, self.dilation, self.groups
        gx = mf.kernels.conv2d(gy, w, *where)
        gw = mf.kernels.conv2d_grad_weight(x, gy, w.shape, *where)
        return (gx, gw, gy.sum(axis=(0, 2, 3))) if biased else (gx, gw)
        ### END SOLUTION


# %%
@check
def test_transposed_by_hand():
    """3.5 It adds up copies of the filter, as in 3.4"""
    x, w = np.arange(4.0).reshape(1, 1, 2, 2), np.ones((1, 1, 2, 2))
    y = ConvTranspose2d(stride=2).forward(x, w)
    assert y.shape == (1, 1, 4, 4), f"the shape is {y.shape}, it should be (1, 1, 4, 4)"
    assert (y[0, 0] == np.kron(x[0, 0], w[0, 0])).all(), f"you have\n{y[0, 0]}"


@check
def test_output_padding():
    """3.5 With stride 3 there are three sizes of y for the same size of x"""
    for extra in range(3):
        y = ConvTranspose2d(stride=3, padding=1, output_padding=extra).forward(
            np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))
        )
        assert y.shape[2:] == (10 + extra,) * 2, f"output_padding {extra} gives {y.shape[2:]}, not {(10 + extra,) * 2}"


@check
def test_gradients_of_transposed_convolution():
    """3.5 All its gradients pass the gradient checker, with groups and a bias"""
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal((2, 4, 3, 4)), rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(6)
    mf.gradcheck(ConvTranspose2d(stride=(2, 3), padding=1, groups=2), *arrays)


@check
def test_fcn_upsamples_with_mine():
    """3.5 An FCN-8s upsamples three times with my class, and computes the same scores"""
    model = mf.models.fcn8s_mini(pretrained="earth")
    model.eval()
    image = np.random.default_rng(0).standard_normal((1, 3, 40, 56)).astype("float32")
    right = model(mf.Tensor(image)).data
    with mf.override(ConvTranspose2d=ConvTranspose2d):
        mine = model(mf.Tensor(image)).data
    assert np.allclose(mine, right, atol=1e-3), f"they differ by {abs(mine - right).max():.3g}"


# %% [markdown]
# ## Task 3.6: The filter that interpolates (4 points)
#
# Which $w$ makes this *bilinear interpolation*? Between two neighbouring cells the values should change linearly. So
# each copy must be a triangle that falls to zero at the neighbours, $F$ cells away. For a filter of $k$ cells, $F =
# \lceil k / 2 \rceil$ and
#
# $$w_m = 1 - \frac{|m - c|}{F}, \qquad
# c = \begin{cases} F - 1 & k \text{ odd} \\ F - \tfrac12 & k \text{ even} \end{cases} , \qquad
# w_{u,v} = w_u\, w_v .$$
#
# Between two cells the weights of the two copies sum to 1, so a constant map stays constant, and a linear ramp stays
# linear. To enlarge by a factor $f$ take $k = 2f - (f \bmod 2)$ and stride $f$.
#
# Each class is interpolated **independently**. With groups, $w$ is $(C, 1, k, k)$: the same filter $C$ times. Without
# groups, $w$ is $(C, C, k, k)$: the filter where the input channel equals the output channel, zeros elsewhere. (Filling
# in all filters would add up all classes; this common mistake is hard to notice, because the net still trains.)


# %%
# Task 3.6
def bilinear(shape):
    """The float32 weights, (C, 1, k, k) or (C, C, k, k), that make a transposed convolution interpolate."""
    ### BEGIN SOLUTION
    C, inputs, k, _ = shape
    factor = (k + 1) // 2
    centre = factor - 1 if k % 2 else factor - 0.5
    line = 1 - abs(np.arange(k) - centre) / factor
    w = np.zeros(shape, "float32")
    for c in range(C):
        w[c, c % inputs] = line[:, None] * line
    return w
    ### END SOLUTION


# %%
@check
def test_even_and_odd_filters():
    """3.6 Filters of 4 and 5 cells"""
    for k, line in ((4, [0.25, 0.75, 0.75, 0.25]), (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])):
        w = bilinear((1, 1, k, k))
        assert w.shape == (1, 1, k, k) and w.dtype == "float32", f"it is {w.dtype}, {w.shape}"
        assert np.allclose(w[0, 0], np.outer(line, line)), f"for {k} cells you have\n{w[0, 0]}"


@check
def test_channels_stay_apart():
    """3.6 Without groups, the channels do not mix"""
    w = bilinear((3, 3, 4, 4))
    assert (w.sum(axis=(2, 3)) == 4 * np.eye(3)).all(), f"the sums of its filters are\n{w.sum(axis=(2, 3))}"


@check
def test_ramps_stay_ramps():
    """3.6 A layer with my filter makes a map three times finer and keeps a ramp linear, except at the border"""
    layer = mf.nn.ConvTranspose2d(1, 1, 5, stride=3, padding=1, bias=False, weight_init=bilinear)
    y = layer(mf.Tensor(np.add.outer(np.arange(5.0), 2 * np.arange(6.0))[None, None])).data[0, 0, 2:-2, 2:-2]
    steps = np.diff(y, axis=0), np.diff(y, axis=1)
    assert np.allclose(steps[0], 1 / 3) and np.allclose(steps[1], 2 / 3), (
        "its steps should be 1/3 down and 2/3 to the right"
    )


# %% [markdown]
# ## Down and up in one network
#
# Everything together: an FCN-8s trains for three steps on your pooling, transposed convolution and filter. The picture
# shows why the filter matters: the mask of the objects in a scene, every eighth pixel of it, and that upsampled again
# by `upsample`, with a filter of ones and with yours.


# %%
@check
def test_down_and_up():
    """An FCN-8s trains on my pooling and upsampling, and its loss falls"""
    mf.manual_seed(0)
    model = mf.models.fcn8s_mini(num_classes=6, width=0.25)
    for layer in model.modules():
        if isinstance(layer, mf.nn.ConvTranspose2d):
            layer.weight.data = bilinear(layer.weight.shape)
    scenes = mf.data.Shapes(size=(48, 64))
    images, labels = map(np.stack, zip(*[scenes[i] for i in range(2)]))
    x, losses = model.preprocessing(images), []
    optimizer = mf.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)
    mine = dict(max_pool2d=max_pool2d, max_pool2d_grad=max_pool2d_grad, ConvTranspose2d=ConvTranspose2d)
    with mf.override(**mine):
        for _ in range(3):
            loss = mf.ops.cross_entropy(model(mf.Tensor(x)), labels)
            losses.append(loss.item())
            loss.backward()
            optimizer.step()
    assert losses[-1] < losses[0], f"the loss went from {losses[0]:.1f} to {losses[-1]:.1f}"
    mask = (labels[0] != 0).astype("float32")
    coarse = mask[4::8, 4::8]
    stamped = {
        "the mask": mask,
        "every 8th pixel": coarse,
        "ones": upsample(coarse, np.ones((8, 8)), (8, 8)),
        "bilinear": upsample(coarse, bilinear((1, 1, 16, 16))[0, 0], (8, 8))[4:-4, 4:-4],
    }
    return mf.viz.feature_maps(stamped, columns=4)
