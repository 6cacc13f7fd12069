# %% [markdown]
# # A7 · A kernel of your own, in CUDA (bonus)
#
# On a GPU a layer is a *kernel*: a small function in CUDA C++ that thousands of threads run in parallel, each for one
# element. You will write max pooling, forward and backward, and run both inside an FCN. You do not need a GPU: minifcn
# compiles CUDA C++ for the CPU with g++, and runs the threads one after the other, in any order you choose. With CuPy
# and a GPU, the same source runs on the GPU. Notebook 15 shows how to write a kernel, step by step.
#
# Each task asks for a function that returns a *source* as text: one kernel with the given parameters, and any
# `__device__` functions that you want to add. A thread computes the number of its element:
#
# ```
# int e = blockIdx.x * blockDim.x + threadIdx.x;
# if (e >= total) return;         // blocks have a fixed size: the last one may have more threads than elements
# ```
#
# A right kernel follows four rules. Do not rely on an **order** of the threads. No two threads may write **the same
# element**. Output memory is **not initialised**: write every element, and never add to one before writing it. One
# thread does not do the work of **others**: a GPU is fast only if many threads share it. So no thread waits for others,
# and these kernels use no barrier (`__syncthreads`).
#
# An array of shape (N, C, H, W) is stored as one row of numbers: element $(n, c, i, j)$ is number
# $((n\,C + c)\,H + i)\,W + j$. From the last axis to the first, division and remainder give the indices of element e:
# `e % W` is $j$, `e / W % H` is $i$, and `e / W / H` is $n\,C + c$.
#
# Each check below prints ✓ (passed), ✗ (failed) or · (not yet). You can also run all of them with `python -m pytest
# a7_cuda.py`.

# %%
# Setup
import numpy as np

import minifcn as mf
from minifcn.course import check, cuda


def scene():
    """A small FCN-8s, an image of 32×48 pixels, and its labels."""
    mf.manual_seed(0)
    model, rng = mf.models.fcn8s_mini(num_classes=6, width=0.125, dropout=0.0), np.random.default_rng(0)
    for p in model.parameters():
        if not p.data.any():  # weights of 0 would pass no gradient on
            p.data = 0.1 * rng.standard_normal(p.shape, "float32")
    image, labels = mf.data.Shapes(size=(32, 48))[0]
    return model, mf.Tensor(model.preprocessing(image[None])), labels[None]


def loss_and_gradients(model, image, labels):
    """The loss of an FCN and the gradient of every weight, on the host."""
    for p in model.parameters():
        p.grad = None
    loss = mf.ops.cross_entropy(model(image), labels)
    loss.backward()
    return [loss.numpy(), *(mf.backend.asnumpy(p.grad) for p in model.parameters() if p.grad is not None)]


# %% [markdown]
# ## Task 7.1: Max pooling, one thread per output cell (4 points)
#
# Cell $(n, c, i, j)$ of the output is the maximum of its window,
#
# $$y_{n,c,i,j} = \max_{u,v}\; x_{n,\,c,\,s_h i - p_h + u,\;s_w j - p_w + v}\qquad 0 \le u < k_h,\; 0 \le v < k_w ,$$
#
# where values outside the image count as $-\infty$: skip those taps. (Every window has a tap inside.) `index` is the
# tap number $u\,k_w + v$ of the maximum, or of the first one if several are equal.
#
# ```
# extern "C" __global__ void max_pool2d(
#     const float* x, float* y, unsigned char* index, int total,
#     int H, int W, int OH, int OW, int kh, int kw, int sh, int sw, int ph, int pw)
# ```
#
# x is (N, C, H, W), y and index are (N, C, OH, OW), and total = N · C · OH · OW is the number of output cells. With
# `ceil_mode` the last windows may reach beyond the end of the image; OH and OW already include them.


# %%
# Task 7.1
def max_pool2d_source():
    """The source of the kernel max_pool2d."""
    ### BEGIN SOLUTION
    return r"""
extern "C" __global__ void max_pool2d(const float* x, float* y, unsigned char* index, int total, int H, int W,
                                      int OH, int OW, int kh, int kw, int sh, int sw, int ph, int pw) {
    int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= total) return;
    int j = e % OW, i = e / OW % OH;
    const float* map = x + e / OW / OH * H * W;
    float best = 0;
    int at = -1;
    for (int u = 0; u < kh; ++u)
        for (int v = 0; v < kw; ++v) {
            int row = sh * i - ph + u, column = sw * j - pw + v;
            if (row < 0 || row >= H || column < 0 || column >= W) continue;
            float value = map[row * W + column];
            if (at < 0 || value > best) best = value, at = u * kw + v;
        }
    y[e] = best;
    index[e] = at;
}
"""
    ### END SOLUTION


# %%
def compiled(name, source):
    """The kernel, which is called like the library's own."""
    assert cuda.available(), "compiling for the CPU needs g++ on Linux on x86-64"
    return cuda.Kernel(name, source())


@check
def test_windows_of_a_ramp():
    """7.1 The maxima of the 2×2 windows of a 4×4 ramp"""
    kernel = compiled("max_pool2d", max_pool2d_source)
    x = np.arange(16, dtype="float32").reshape(1, 1, 4, 4)
    y, index = kernel(x, (2, 2), (2, 2), (0, 0), (1, 1), False)
    assert (y[0, 0] == [[5, 7], [13, 15]]).all(), f"the maxima are {y[0, 0].tolist()}, should be [[5, 7], [13, 15]]"
    assert (index == 3).all(), f"each is at tap 3 of its window; your index is {index[0, 0].tolist()}"


@check
def test_in_every_order():
    """7.1 The same result for every order of threads and every block size, and no writes outside the arrays"""
    kernel = compiled("max_pool2d", max_pool2d_source)
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 9)).astype("float32") - 2
    where = (3, 2), (2, 1), (1, 1), (1, 1), True
    y, index = kernel.in_every_order(x, *where)
    right = mf.kernels.reference.max_pool2d(x, *where)
    assert (y == right[0]).all(), "the maxima differ from those of the reference loops"
    assert (index == right[1]).all(), "the maxima are right, but the index is not"


@check
def test_fcn_pools_with_my_kernel():
    """7.1 An FCN-8s has the same loss with my kernel"""
    kernel = compiled("max_pool2d", max_pool2d_source)
    model, image, labels = scene()
    right = loss_and_gradients(model, image, labels)
    with mf.override(max_pool2d=kernel):
        mine = loss_and_gradients(model, image, labels)
    assert np.isclose(mine[0], right[0], rtol=1e-5), f"the loss is {mine[0]:.6g}, it should be {right[0]:.6g}"


# %% [markdown]
# ## Task 7.2: The gradient, one thread per input pixel (4 points)
#
# The gradient of a window goes to the pixel that was its maximum. The obvious kernel has one thread per *output* cell,
# which adds its gradient to the pixel that its index names: it *scatters*. But if windows overlap, a pixel can be the
# maximum of several windows. Then several threads read, add to and write the same element, and some additions are lost.
# (Atomic additions lose none, but their order, and so the rounding of the sum, differs from run to run.)
#
# So *gather* instead: use one thread per **input** pixel. For each window that contains its pixel, it checks whether
# the pixel was the maximum, and adds up the gradients. It is the only thread that writes its element, and writes it
# once:
#
# $$(g_x)_{n,c,r,q} = \sum_{(i,j):\; \text{index}_{n,c,i,j} = u k_w + v} (g_y)_{n,c,i,j},
#   \qquad u = r + p_h - s_h i,\quad v = q + p_w - s_w j,\qquad 0 \le u < k_h,\; 0 \le v < k_w.$$
#
# Row $r$ is under tap $u$ of window $i$ if $s_h i = r + p_h - u$. Such a window exists if the right side is divisible
# by $s_h$ and not negative, and if $i < OH$. A pixel in no window has the gradient 0, which must be written, too.
#
# ```
# extern "C" __global__ void max_pool2d_grad(
#     const float* gy, const unsigned char* index, float* gx, int total,
#     int H, int W, int OH, int OW, int kh, int kw, int sh, int sw, int ph, int pw)
# ```
#
# gy and index are (N, C, OH, OW), gx is (N, C, H, W), and total = N · C · H · W is the number of pixels.


# %%
# Task 7.2
def max_pool2d_grad_source():
    """The source of the kernel max_pool2d_grad."""
    ### BEGIN SOLUTION
    return r"""
extern "C" __global__ void max_pool2d_grad(const float* gy, const unsigned char* index, float* gx, int total, int H,
                                           int W, int OH, int OW, int kh, int kw, int sh, int sw, int ph, int pw) {
    int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= total) return;
    int q = e % W, r = e / W % H, map = e / W / H * OH * OW;
    float sum = 0;
    for (int u = 0; u < kh; ++u)
        for (int v = 0; v < kw; ++v) {
            int top = r + ph - u, left = q + pw - v;
            if (top < 0 || left < 0 || top % sh || left % sw) continue;
            int i = top / sh, j = left / sw;
            if (i >= OH || j >= OW) continue;
            if (index[map + i * OW + j] == u * kw + v) sum += gy[map + i * OW + j];
        }
    gx[e] = sum;
}
"""
    ### END SOLUTION


# %%
@check
def test_a_peak_collects():
    """7.2 A peak that is the maximum of nine windows collects nine gradients"""
    kernel = compiled("max_pool2d_grad", max_pool2d_grad_source)
    x = np.zeros((1, 1, 5, 5), "float32")
    x[0, 0, 2, 2] = 1
    where = (3, 3), (1, 1), (0, 0), (1, 1), False
    _, index = mf.kernels.reference.max_pool2d(x, *where)
    gx = kernel(np.ones((1, 1, 3, 3), "float32"), index, x.shape, *where)
    assert not np.isnan(gx).any(), (
        "some elements were never written, or were added to before they were written: the memory was filled with NaN"
    )
    assert gx[0, 0, 2, 2] == 9, f"the peak's gradient is {gx[0, 0, 2, 2]}, it should be 9"
    assert gx.sum() == 9, f"the gradients of the others should be 0, so that the sum is 9; it is {gx.sum()}"


@check
def test_gradient_in_every_order():
    """7.2 The same bits for every order of threads; the picture shows the gradient of each pixel"""
    kernel = compiled("max_pool2d_grad", max_pool2d_grad_source)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 10, (1, 1, 6, 8)).astype("float32")
    where = (3, 2), (1, 2), (1, 0), (1, 1), False
    y, index = mf.kernels.reference.max_pool2d(x, *where)
    gy = np.ones(y.shape, "float32")
    gx = kernel.in_every_order(gy, index, x.shape, *where)
    right = mf.kernels.reference.max_pool2d_grad(gy, index, x.shape, *where)
    assert np.allclose(gx, right), f"the gradient is\n{gx[0, 0]}\nand should be\n{right[0, 0]}"
    return mf.viz.arrays({"x": x[0, 0], "y, 3×2 windows": y[0, 0], "gx for gy = 1": gx[0, 0]})


@check
def test_fcn_trains_on_my_kernels():
    """7.2 An FCN-8s has the same loss and the same gradients with both of my kernels"""
    mine = {
        "max_pool2d": compiled("max_pool2d", max_pool2d_source),
        "max_pool2d_grad": compiled("max_pool2d_grad", max_pool2d_grad_source),
    }
    model, image, labels = scene()
    right = loss_and_gradients(model, image, labels)
    with mf.override(**mine):
        ours = loss_and_gradients(model, image, labels)
    assert all(np.allclose(a, b, rtol=1e-3, atol=1e-3 * abs(b).max()) for a, b in zip(ours, right)), (
        "a gradient differs"
    )


# %% [markdown]
# ## On a GPU
#
# With CuPy and a GPU, the same sources run on the GPU, compiled by NVIDIA's compiler. Otherwise this check does
# nothing. (`python -m minifcn.cuda_on_cpu run python a7_cuda.py` runs it with CuPy, but without a GPU.)


# %%
@check
def test_on_a_gpu():
    """An FCN-8s has the same loss and gradients on a GPU, if there is one"""
    if not mf.backend.gpu_available():
        return
    mine = {
        "max_pool2d": cuda.Kernel("max_pool2d", max_pool2d_source()),
        "max_pool2d_grad": cuda.Kernel("max_pool2d_grad", max_pool2d_grad_source()),
    }
    model, image, labels = scene()
    right = loss_and_gradients(model, image, labels)
    with mf.override(**mine):
        ours = loss_and_gradients(model.to("cuda"), image.to("cuda"), labels)
    assert all(np.allclose(a, b, rtol=1e-3, atol=1e-3 * abs(b).max()) for a, b in zip(ours, right)), (
        "a gradient differs"
    )
