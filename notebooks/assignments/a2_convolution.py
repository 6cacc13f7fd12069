# %% [markdown]
# # A2 · Convolution, forwards and backwards
#
# A convolutional layer places a small filter on every window of its input and takes the dot product (the paper's
# equation (1), with a weighted sum for $f$):
#
# $$y_{n,o,i,j} = \sum_{c,u,v} w_{o,c,u,v}\; x_{n,\,c,\,s\,i - p + d\,u,\;s\,j - p + d\,v}$$
#
# with stride $s$, padding $p$, dilation $d$; outside the image $x$ is zero. As loops, this is seven nested loops. You
# will write it as **one matrix product**, derive both gradients from it, and run everything inside a complete FCN.
#
# Every task asks for one *kernel*: a function of arrays, with the same signature as the library's. Pairs are (h, w).
# Arrays are (N, C, H, W), float32 or float64; your result has the dtype of the input. Do not change the inputs in
# place. If a task builds on an earlier one, call your function by its name (`im2col`). If yours is not right yet, use
# `mf.kernels.im2col` meanwhile, which computes the same. The grader also replaces earlier answers by the library's.
#
# Each check below prints ✓ (passed), ✗ (failed) or · (not yet). You can also run all of them with `python -m pytest
# a2_convolution.py`.

# %%
# Setup
import numpy as np

import minifcn as mf
from minifcn.course import check


def out_size(n, k, s, p, d):
    """The number of windows that fit along an axis of n cells."""
    return (n + 2 * p - d * (k - 1) - 1) // s + 1


# %% [markdown]
# ## Task 2.1: Every window as a column (4 points)
#
# Write every window of $x$ as a column of $C\,k_h\,k_w$ numbers, one column per output cell. Row $(c, u, v)$ of column
# $(i, j)$ holds $x_{c,\,s\,i - p + d\,u,\;s\,j - p + d\,v}$, or zero outside the image:
#
# ```
# x (N, C, H, W)   ->   cols (N, C·kh·kw, OH·OW)
# ```
#
# A loop over the taps $(u, v)$ of the filter is enough: for one tap, *all* windows together are a strided slice of the
# padded image.


# %%
# Task 2.1
def im2col(x, kernel_size, stride, padding, dilation):
    """Every window as a column: (N, C, H, W) -> (N, C·kh·kw, OH·OW); the other arguments are pairs (h, w)."""
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel_size, stride, padding, dilation
    OH, OW = out_size(H, kh, sh, ph, dh), out_size(W, kw, sw, pw, dw)
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    cols = np.empty((N, C, kh, kw, OH, OW), x.dtype)
    for u in range(kh):
        for v in range(kw):
            top, left = dh * u, dw * v
            cols[:, :, u, v] = x[:, :, top : top + sh * OH : sh, left : left + sw * OW : sw][:, :, :OH, :OW]
    return cols.reshape(N, C * kh * kw, OH * OW)
    ### END SOLUTION


# %%
@check
def test_windows_of_a_ramp():
    """2.1 The four 2×2 windows of a 3×3 ramp are the columns"""
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    cols = im2col(x, (2, 2), (1, 1), (0, 0), (1, 1))
    right = [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    assert cols.shape == (1, 4, 4), f"the shape is {cols.shape}, it should be (1, 4, 4)"
    assert (cols[0] == right).all(), f"the columns are\n{cols[0]}\nand should be\n{np.array(right)}"


@check
def test_padding_and_stride_of_columns():
    """2.1 Padding adds zeros, stride skips windows"""
    cols = im2col(np.ones((1, 2, 4, 5), "float32"), (3, 3), (2, 1), (1, 0), (1, 1))
    assert cols.shape == (1, 18, 6), f"the shape is {cols.shape}, it should be (1, 18, 6)"
    assert cols.dtype == "float32", f"the dtype is {cols.dtype}, it should be that of x, float32"
    assert (cols[0, :3, :3] == 0).all() and (cols[0, 3:9] == 1).all(), "the first row of windows begins above the image"


# %% [markdown]
# Your function is now a kernel of the framework: with `mf.override`, every convolution of an FCN-8s calls it.


# %%
@check
def test_fcn_runs_on_my_im2col():
    """2.1 An FCN-8s computes the same maps with my im2col"""
    model = mf.models.fcn8s_mini(num_classes=3, width=0.25)
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 40)).astype("float32")
    right = model.trunk.features(mf.Tensor(image), ["pool3"])["pool3"].numpy()
    with mf.override(im2col=im2col):
        mine = model.trunk.features(mf.Tensor(image), ["pool3"])["pool3"].numpy()
    assert np.allclose(mine, right, atol=1e-4), "its map pool3 differs"


# %% [markdown]
# ## Task 2.2: Convolution as one matrix product (4 points)
#
# With the windows as columns, and each filter as a row of $C\,k_h\,k_w$ numbers, the sum over $(c, u, v)$ *is* a
# matrix product. With `groups` $= G$ the channels are divided into $G$ groups, and so are the filters. The filters of a
# group see only its channels, so $w$ is $(O, C/G, k_h, k_w)$, and there are $G$ independent matrix products.


# %%
# Task 2.2
def conv2d(x, w, stride, padding, dilation, groups):
    """Cross-correlation of x (N, C, H, W) with w (O, C/groups, kh, kw): y (N, O, OH, OW)."""
    ### BEGIN SOLUTION
    N, _, H, W = x.shape
    O, _, kh, kw = w.shape
    OH = out_size(H, kh, stride[0], padding[0], dilation[0])
    OW = out_size(W, kw, stride[1], padding[1], dilation[1])
    cols = im2col(x, (kh, kw), stride, padding, dilation).reshape(N, groups, -1, OH * OW)
    rows = w.reshape(groups, O // groups, -1)
    return (rows @ cols).reshape(N, O, OH, OW)
    ### END SOLUTION


# %%
@check
def test_convolution_by_hand():
    """2.2 A 3×3 image of ones, padded, counts the pixels under a 3×3 filter of ones"""
    y = conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), (1, 1), (1, 1), (1, 1), 1)
    assert y.shape == (1, 1, 3, 3), f"the shape is {y.shape}, it should be (1, 1, 3, 3)"
    assert (y[0, 0] == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]).all(), f"it counts\n{y[0, 0]}"


@check
def test_filters_are_not_flipped():
    """2.2 It is a cross-correlation: the filter is not flipped"""
    y = conv2d(np.arange(4.0).reshape(1, 1, 2, 2), np.array([[[[1.0, 0], [0, 0]]]]), (1, 1), (0, 0), (1, 1), 1)
    assert y.item() == 0, f"the filter's top left tap should meet the image's top left pixel: 0, not {y.item()}"


# %% [markdown]
# ## Task 2.3: Columns back to an image (4 points)
#
# `col2im` takes columns and *adds* each number to the pixel that it came from. It is not the inverse of `im2col`: a
# pixel that lies in nine windows receives nine numbers. It is its **adjoint**: for all $x$ and all columns $z$,
#
# $$\langle \mathrm{im2col}(x), z\rangle = \langle x, \mathrm{col2im}(z)\rangle ,$$
#
# and this is why the gradient of one is the other. The check tests this equation.


# %%
# Task 2.3
def col2im(cols, x_shape, kernel_size, stride, padding, dilation):
    """Add every column back to the pixels of its window: (N, C·kh·kw, OH·OW) -> x_shape."""
    ### BEGIN SOLUTION
    N, C, H, W = x_shape
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel_size, stride, padding, dilation
    OH, OW = out_size(H, kh, sh, ph, dh), out_size(W, kw, sw, pw, dw)
    cols = cols.reshape(N, C, kh, kw, OH, OW)
    x = np.zeros((N, C, H + 2 * ph, W + 2 * pw), cols.dtype)
    for u in range(kh):
        for v in range(kw):
            top, left = dh * u, dw * v
            x[:, :, top : top + sh * (OH - 1) + 1 : sh, left : left + sw * (OW - 1) + 1 : sw] += cols[:, :, u, v]
    return x[:, :, ph : ph + H, pw : pw + W]
    ### END SOLUTION


# %%
@check
def test_col2im_counts_windows():
    """2.3 Columns of ones count the windows in which each pixel lies"""
    x = col2im(np.ones((1, 4, 4)), (1, 1, 3, 3), (2, 2), (1, 1), (0, 0), (1, 1))
    assert (x[0, 0] == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]).all(), f"the counts are\n{x[0, 0]}"


@check
def test_col2im_is_the_adjoint():
    """2.3 ⟨im2col(x), z⟩ = ⟨x, col2im(z)⟩"""
    shape, geometry = (2, 3, 6, 5), ((3, 2), (2, 1), (1, 1), (1, 2))
    mf.adjoint_check(lambda x: mf.kernels.im2col(x, *geometry), lambda z: col2im(z, shape, *geometry), shape)


# %% [markdown]
# ## Task 2.4: The gradient that flows on (4 points)
#
# Convolution is a matrix product, $Y = W\,\mathrm{im2col}(x)$. For the upstream gradient $g_y$, the gradient of the
# columns is $W^\mathsf{T} g_y$, and the adjoint of `im2col` adds it up into the gradient of the image. (The same kernel
# used in the *forward* pass is the transposed convolution with which the paper upsamples, §3.3.)


# %%
# Task 2.4
def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    """The gradient of x, given gy, the gradient of y (N, O, OH, OW)."""
    ### BEGIN SOLUTION
    N, O, OH, OW = gy.shape
    rows = w.reshape(groups, O // groups, -1)
    cols = rows.swapaxes(1, 2) @ gy.reshape(N, groups, O // groups, OH * OW)
    return col2im(cols.reshape(N, -1, OH * OW), x_shape, w.shape[2:], stride, padding, dilation)
    ### END SOLUTION


# %%
@check
def test_gradient_of_the_input():
    """2.4 Convolution with my gradient passes the gradient checker"""
    rng = np.random.default_rng(0)
    with mf.override(conv2d_grad_input=conv2d_grad_input):
        x, w = mf.Tensor(rng.standard_normal((2, 2, 5, 6)), requires_grad=True), rng.standard_normal((4, 1, 3, 2))
        mf.gradcheck(lambda x: mf.ops.conv2d(x, mf.Tensor(w), stride=(1, 2), padding=1, groups=2), x)


# %% [markdown]
# ## Task 2.5: The gradient that teaches (4 points)
#
# Every use of a weight adds to its gradient. $w_{o,c,u,v}$ is used once for each output cell of each image, so its
# gradient is a sum over $n, i, j$. As a matrix product it is $g_W = g_y\,\mathrm{im2col}(x)^\mathsf{T}$, summed over
# the images.


# %%
# Task 2.5
def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    """The gradient of w, given gy, the gradient of y (N, O, OH, OW)."""
    ### BEGIN SOLUTION
    N, O, OH, OW = gy.shape
    cols = im2col(x, w_shape[2:], stride, padding, dilation).reshape(N, groups, -1, OH * OW)
    rows = gy.reshape(N, groups, O // groups, OH * OW)
    return (rows @ cols.swapaxes(2, 3)).sum(axis=0).reshape(w_shape)
    ### END SOLUTION


# %%
@check
def test_gradient_of_the_weights():
    """2.5 Convolution with my gradient passes the gradient checker"""
    rng = np.random.default_rng(0)
    with mf.override(conv2d_grad_weight=conv2d_grad_weight):
        x, w = rng.standard_normal((2, 2, 5, 6)), mf.Tensor(rng.standard_normal((4, 1, 3, 2)), requires_grad=True)
        mf.gradcheck(lambda w: mf.ops.conv2d(mf.Tensor(x), w, stride=(1, 2), padding=1, groups=2), w)


# %% [markdown]
# ## All of it, in a network that learns
#
# An FCN-8s now trains for three steps on your kernels: forward, backward, update. The picture shows how one filter of
# its first layer changes.


# %%
@check
def test_training_on_my_kernels():
    """An FCN-8s trains on my kernels, and its loss falls"""
    mf.manual_seed(0)
    model = mf.models.fcn8s_mini(num_classes=6, width=0.25)
    scenes = mf.data.Shapes(size=(32, 48))
    images, labels = zip(*[scenes[i] for i in range(2)])
    x, labels = model.preprocessing(np.stack(images)), np.stack(labels)
    first = model.parameters()[0].data
    before, losses = first[0, 0].copy(), []
    optimizer = mf.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    mine = dict(conv2d=conv2d, conv2d_grad_input=conv2d_grad_input, conv2d_grad_weight=conv2d_grad_weight)
    with mf.override(**mine):
        for _ in range(3):
            loss = mf.ops.cross_entropy(model(mf.Tensor(x)), labels)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert losses[-1] < losses[0], f"the loss went from {losses[0]:.1f} to {losses[-1]:.1f}"
    return mf.viz.arrays({"before": before, "after three steps": first[0, 0], "difference": first[0, 0] - before})
