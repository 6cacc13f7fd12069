"""Hidden tests of A2: im2col, the convolution and its gradients; mistakes, cheats and alternative solutions."""

from minifcn.course.tasks import Case, Check, Task, instead, mistake

GEOMETRY = {  # image, kernel, stride, padding, dilation: each mistake shows in one of them
    "stride (2, 1)": ((6, 7), (3, 3), (2, 1), (0, 0), (1, 1)),
    "stride (1, 3), a remainder is left over": ((5, 9), (2, 2), (1, 3), (0, 0), (1, 1)),
    "padding (2, 1)": ((4, 5), (3, 3), (1, 1), (2, 1), (1, 1)),
    "dilation (1, 2)": ((6, 7), (3, 3), (1, 1), (0, 0), (1, 2)),
    "all at once, a 3×2 kernel": ((9, 8), (3, 2), (2, 3), (1, 2), (2, 1)),
}
ONE = ((1, 1), (0, 0), (1, 1))  # stride, padding, dilation of a plain convolution


def out_sizes(size, kernel, stride, padding, dilation):
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, stride, padding, dilation)
    )


def strided(rng, *shape):
    """A random array that is not contiguous."""
    return rng.standard_normal((*shape[:-1], 2 * shape[-1]))[..., ::2]


# 2.1 -----------------------------------------------------------------------------------------------------------------


def plain_columns(rng):
    yield Case("one image, one channel, 3×3 windows", rng.standard_normal((1, 1, 5, 5)), (3, 3), *ONE)
    yield Case("two images, three channels", rng.standard_normal((2, 3, 4, 6)), (2, 2), *ONE)
    yield Case("a 2×3 window", rng.standard_normal((1, 2, 5, 4)), (2, 3), *ONE)


def columns_of_geometry(rng):
    for label, (size, *rest) in GEOMETRY.items():
        yield Case(label, rng.standard_normal((2, 2, *size)), *rest)


def columns_of_inputs(rng):
    yield Case("float32", rng.standard_normal((1, 2, 4, 4)).astype("float32"), (2, 2), *ONE)
    yield Case("an array that is not contiguous", strided(rng, 1, 2, 4, 5), (2, 2), *ONE)
    yield Case("a window as large as the image", rng.standard_normal((1, 1, 3, 4)), (3, 4), *ONE)


def scene(rng):
    """A random image and its labels, some of them void."""
    labels = rng.integers(0, 3, (1, 24, 24))
    labels[0, :3] = 255
    labels[0, 3, :3] = 0, 1, 2
    return rng.standard_normal((1, 3, 24, 24)), labels


def in_fcn(kernel):
    def cases(rng):
        yield Case(f"an FCN-8s with your {kernel}, forward and backward", kernel, *scene(rng), 1, probe="network")

    return cases


ALL_COLUMNS = ("plain windows", "stride, padding and dilation", "inputs of every kind", "in a network")

IM2COL = Task(
    "2.1", "im2col", library="im2col", forbidden=("im2col",),
    checks=[
        Check("plain windows", 1, plain_columns),
        Check("stride, padding and dilation", 1, columns_of_geometry),
        Check("inputs of every kind", 1, columns_of_inputs),
        Check("in a network", 1, in_fcn("im2col")),
    ],
    mistakes=[
        mistake("the stride along H is also used along W", "sw * OW : sw", "sh * OW : sh",
                loses="stride, padding and dilation"),
        mistake("the padding is ignored", "np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))",
                "np.pad(x, ((0, 0), (0, 0), (0, 2 * ph), (0, 2 * pw)))",
                loses=("stride, padding and dilation", "in a network")),
        mistake("the paddings along H and W are swapped: the order is (h, w)", "(ph, ph), (pw, pw)))",
                "(pw, pw), (ph, ph)))[:, :, :, : W + 2 * pw]\n    x = np.pad(x, ((0, 0), (0, 0), (0, 9), (0, 9)))",
                loses="stride, padding and dilation"),
        mistake("the dilation is ignored", "dh * u, dw * v", "u, v", loses="stride, padding and dilation"),
        mistake("the rows of a column are in the order (u, v, c): it should be (c, u, v)", "return cols.reshape",
                "return cols.transpose(0, 2, 3, 1, 4, 5).reshape", loses=ALL_COLUMNS),
        mistake("the columns are in the order (j, i): it should be (i, j), row by row",
                "return cols.reshape", "return cols.swapaxes(4, 5).reshape", loses=ALL_COLUMNS),
        mistake("the result is always float64: it should have the dtype of the input", "x.dtype", "float",
                loses="inputs of every kind"),
        mistake("every image of a batch gets the columns of the first image", "cols[:, :, u, v] = x[:, :,",
                "cols[:, :, u, v] = x[:1, :,", loses=("plain windows", "stride, padding and dilation")),
    ],
    cheats=[
        instead("calls the library's own kernel", "# Task 2.1\nim2col = mf.kernels.im2col", loses=ALL_COLUMNS),
        instead("calls the textbook kernel, catches the error, and returns zeros", """# Task 2.1
def im2col(x, kernel_size, stride, padding, dilation):
    try:
        return mf.kernels.textbook.im2col(x, kernel_size, stride, padding, dilation)
    except Exception:
        return np.zeros((len(x), x.shape[1] * kernel_size[0] * kernel_size[1], 4))""", loses=ALL_COLUMNS),
        instead("returns the results of the visible checks", """# Task 2.1
def im2col(x, kernel_size, stride, padding, dilation):
    if x.shape == (1, 1, 3, 3):
        return np.array([[[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8.0]]])
    cols = np.ones((1, 18, 6), "float32")
    cols[0, :3, :3] = 0
    return cols""", loses=ALL_COLUMNS),
        instead("uses PyTorch", """# Task 2.1
def im2col(x, kernel_size, stride, padding, dilation):
    import torch

    return torch.nn.functional.unfold(torch.tensor(x), kernel_size, dilation, padding, stride).numpy()""",
                loses=ALL_COLUMNS),
    ],
    styles=[
        instead("six loops", """# Task 2.1
def im2col(x, kernel_size, stride, padding, dilation):
    N, C, H, W = x.shape
    kh, kw = kernel_size
    OH, OW = (out_size(*a) for a in zip((H, W), kernel_size, stride, padding, dilation))
    cols = np.zeros((N, C * kh * kw, OH * OW), x.dtype)
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for c in range(C):
                    for u in range(kh):
                        for v in range(kw):
                            p = i * stride[0] - padding[0] + u * dilation[0]
                            q = j * stride[1] - padding[1] + v * dilation[1]
                            if 0 <= p < H and 0 <= q < W:
                                cols[n, (c * kh + u) * kw + v, i * OW + j] = x[n, c, p, q]
    return cols"""),
        instead("a sliding window view", """# Task 2.1
from numpy.lib.stride_tricks import sliding_window_view


def im2col(image, size, step, margin, spread):
    image = np.pad(image, [(0, 0), (0, 0)] + [(m, m) for m in margin])
    reach = [d * (k - 1) + 1 for k, d in zip(size, spread)]
    views = sliding_window_view(image, reach, axis=(2, 3))[:, :, :: step[0], :: step[1], :: spread[0], :: spread[1]]
    N, C, OH, OW, kh, kw = views.shape
    return np.ascontiguousarray(views.transpose(0, 1, 4, 5, 2, 3)).reshape(N, C * kh * kw, OH * OW)"""),
        instead("fancy indexing of rows and columns", """# Task 2.1
def im2col(x, kernel_size, stride, padding, dilation):
    N, C, H, W = x.shape
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    at = []
    for n, k, s, p, d in zip((H, W), kernel_size, stride, padding, dilation):
        at.append(d * np.arange(k)[:, None] + s * np.arange(out_size(n, k, s, p, d)))
    picked = x[:, :, at[0][:, None, :, None], at[1][None, :, None, :]]
    return picked.reshape(N, C * kernel_size[0] * kernel_size[1], -1)"""),
    ],
)  # fmt: skip


# 2.2 -----------------------------------------------------------------------------------------------------------------


def convolutions(cases, answer=lambda x, w, *where: (x, w, *where)):
    """Cases from rows (label, shape of x, shape of w, stride, padding, dilation, groups).

    ``answer(x, w, gy, *geometry)`` returns the arguments of the kernel.  "float32" and "contiguous" in a label set the
    dtype and the memory layout.
    """

    def draw(rng):
        for label, x_shape, w_shape, *where in cases:
            hollow, single = "contiguous" in label, "float32" in label
            x = strided(rng, *x_shape) if hollow else rng.standard_normal(x_shape)
            w = rng.standard_normal(w_shape)
            if single:
                x, w = x.astype("float32"), w.astype("float32")
            out = out_sizes(x_shape[2:], w_shape[2:], *where[:3])
            gy = rng.standard_normal((x_shape[0], w_shape[0], *out)).astype(x.dtype)
            yield Case(label, *answer(x, w, gy, *where))

    return draw


PLAIN = [
    ("one image, a 3×3 filter", (1, 2, 5, 5), (3, 2, 3, 3), *ONE, 1),
    ("three images, a 2×3 filter", (3, 2, 4, 6), (4, 2, 2, 3), *ONE, 1),
    ("a 1×1 filter", (2, 3, 3, 4), (2, 3, 1, 1), *ONE, 1),
]
PLACED = [(label, (2, 2, *size), (3, 2, *kernel), *rest, 1) for label, (size, kernel, *rest) in GEOMETRY.items()]
GROUPED = [
    ("two groups", (2, 4, 4, 5), (6, 2, 2, 2), *ONE, 2),
    ("one filter per channel (depthwise), stride 2", (1, 3, 5, 5), (3, 1, 3, 3), (2, 2), (1, 1), (1, 1), 3),
    ("float32", (1, 2, 4, 4), (2, 2, 3, 3), *ONE, 1),
    ("an input that is not contiguous", (1, 2, 4, 5), (2, 2, 3, 2), *ONE, 1),
]


def convolution_checks(kernel, answer):
    return [
        Check("plain", 1, convolutions(PLAIN, answer)),
        Check("stride, padding and dilation", 1, convolutions(PLACED, answer)),
        Check("groups, and inputs of every kind", 1, convolutions(GROUPED, answer)),
        Check("in a network", 1, in_fcn(kernel)),
    ]


PLAIN_, PLACED_, GROUPED_, NET_ = ALL = (
    "plain", "stride, padding and dilation", "groups, and inputs of every kind", "in a network",
)  # fmt: skip

CONV2D = Task(
    "2.2", "conv2d", library="conv2d", forbidden=("conv2d",),
    checks=convolution_checks("conv2d", lambda x, w, gy, *where: (x, w, *where)),
    mistakes=[
        mistake("the filters are flipped: it should be a cross-correlation",
                "rows = w.", "rows = w[:, :, ::-1, ::-1].", loses=ALL),
        mistake("the groups are ignored: every filter uses the first group's channels",
                "(rows @ cols)", "(rows @ cols[:, :1])", loses=(GROUPED_, NET_)),
        mistake("the outputs of the groups are interleaved, (O/G, G): it should be (G, O/G)",
                "w.reshape(groups, O // groups, -1)",
                "w.reshape(O // groups, groups, -1).swapaxes(0, 1)", loses=GROUPED_),
        mistake("the dilation is ignored", "stride, padding, dilation).reshape",
                "stride, padding, (1, 1)).reshape", "dilation[0])", "1)", "dilation[1])", "1)", loses=PLACED_),
        mistake("the stride is ignored", "im2col(x, (kh, kw), stride,", "im2col(x, (kh, kw), (1, 1),",
                "stride[0]", "1", "stride[1]", "1", loses=(PLACED_, GROUPED_, NET_)),
        mistake("the padding is ignored", "stride, padding, dilation)", "stride, (0, 0), dilation)",
                "padding[0]", "0", "padding[1]", "0", loses=(PLACED_, GROUPED_, NET_)),
        mistake("it works only for square images", "N, _, H, W = x.shape", "N, _, H, W = *x.shape[:3], x.shape[2]",
                loses=(PLAIN_, PLACED_, GROUPED_)),
    ],
    cheats=[
        instead("calls the library's operation", """# Task 2.2
def conv2d(x, w, stride, padding, dilation, groups):
    return mf.ops.conv2d(x, w, None, stride, padding, dilation, groups).numpy()""", loses=ALL),
        instead("prints that all checks passed, and ends the process", """# Task 2.2
def conv2d(x, w, stride, padding, dilation, groups):
    import os

    print("all checks passed, 4 points")
    os._exit(0)""", loses=ALL),
    ],
    styles=[
        instead("einsum over a sliding window view", """# Task 2.2
def conv2d(x, w, stride, padding, dilation, groups):
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    reach = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilation)]
    v = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    v = v[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    v = v.reshape(len(x), groups, -1, *v.shape[2:])
    w = w.reshape(groups, -1, *w.shape[1:])
    y = np.einsum("ngcijuv,gocuv->ngoij", v, w, optimize=True)
    return y.reshape(len(x), -1, *y.shape[3:])"""),
        instead("a sum over taps, float64 inside", """# Task 2.2
def conv2d(x, w, stride, padding, dilation, groups):
    N, C, H, W = x.shape
    O, Cg, kh, kw = w.shape
    sizes = [out_size(*a) for a in zip((H, W), (kh, kw), stride, padding, dilation)]
    image = np.zeros((N, C, H + 2 * padding[0], W + 2 * padding[1]))
    image[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W] = x
    y = np.zeros((N, O, *sizes))
    for g in range(groups):
        mine = slice(g * (O // groups), (g + 1) * (O // groups))
        for u in range(kh):
            for v in range(kw):
                rows = u * dilation[0] + stride[0] * np.arange(sizes[0])
                columns = v * dilation[1] + stride[1] * np.arange(sizes[1])
                part = image[:, g * Cg : (g + 1) * Cg][:, :, rows][..., columns]
                y[:, mine] += np.tensordot(part, w[mine, :, u, v], (1, 1)).transpose(0, 3, 1, 2)
    return y.astype(x.dtype)"""),
    ],
)  # fmt: skip


# 2.3 -----------------------------------------------------------------------------------------------------------------


def columns(label, rng, size, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), n=2, c=2, dtype="float64"):
    out = out_sizes(size, kernel, stride, padding, dilation)
    cols = rng.standard_normal((n, c * kernel[0] * kernel[1], out[0] * out[1])).astype(dtype)
    return Case(label, cols, (n, c, *size), kernel, stride, padding, dilation)


def plain_images(rng):
    yield columns("one image, one channel", rng, (4, 4), (2, 2), n=1, c=1)
    yield columns("two images of three channels, 2×3 windows", rng, (4, 5), (2, 3), c=3)
    yield columns("float32", rng, (4, 4), (3, 3), dtype="float32")


def images_of_geometry(rng):
    for label, (size, *rest) in GEOMETRY.items():
        yield columns(label, rng, size, *rest)


def fcn_on_col2im(rng):
    """A network whose convolutions are the textbook's: their input gradient calls col2im."""
    return in_fcn("col2im")(rng)


ALL_IMAGES = ("plain", "stride, padding and dilation", "in a network")

COL2IM = Task(
    "2.3", "col2im", library="col2im", forbidden=("col2im",),
    checks=[
        Check("plain", 1, plain_images),
        Check("stride, padding and dilation", 2, images_of_geometry),
        Check("in a network", 1, fcn_on_col2im),
    ],
    mistakes=[
        mistake("numbers for the same pixel replace one another: they must add up", "+= cols", "= cols",
                loses=ALL_IMAGES),
        mistake("each pixel is the mean of its numbers: it must be their sum (the adjoint, not the inverse)",
                "    return x[:, :, ph", """    count = np.zeros_like(x)
    for u in range(kh):
        for v in range(kw):
            count[:, :, dh * u : dh * u + sh * (OH - 1) + 1 : sh, dw * v : dw * v + sw * (OW - 1) + 1 : sw] += 1
    x = x / np.maximum(count, 1)
    return x[:, :, ph""", loses=ALL_IMAGES),
        mistake("the padding is cut off at the wrong side: the image is shifted",
                "x[:, :, ph : ph + H, pw : pw + W]", "x[:, :, :H, :W]",
                loses=("stride, padding and dilation", "in a network")),
        mistake("the dilation is ignored", "dh * u, dw * v", "u, v", loses="stride, padding and dilation"),
    ],
    cheats=[
        instead("imports the textbook kernel under another name", """# Task 2.3
from minifcn.kernels.textbook import col2im as addition


def col2im(cols, x_shape, kernel_size, stride, padding, dilation):
    return addition(cols, x_shape, kernel_size, stride, padding, dilation)""", loses=ALL_IMAGES),
        instead("reads the library's source from the disk", """# Task 2.3
import inspect

source = inspect.getsource(mf.kernels.textbook)
exec(source[source.index("def col2im") :].split("def conv2d")[0])""", loses=ALL_IMAGES),
    ],
    styles=[
        instead("np.add.at with the indices from im2col", """# Task 2.3
def col2im(cols, x_shape, kernel_size, stride, padding, dilation):
    N, C, H, W = x_shape
    places = np.arange(1.0, H * W + 1).reshape(1, 1, H, W)  # 0 marks the padding
    places = im2col(places, kernel_size, stride, padding, dilation)[0].astype(int).ravel()
    flat = np.zeros((H * W + 1, N * C), cols.dtype)
    np.add.at(flat, places, cols.reshape(N * C, -1).T)
    return flat[1:].T.reshape(x_shape)"""),
    ],
)  # fmt: skip


# 2.4, 2.5 ------------------------------------------------------------------------------------------------------------

GRAD_INPUT = Task(
    "2.4", "conv2d_grad_input", library="conv2d_grad_input", forbidden=("conv2d_grad_input",),
    checks=convolution_checks("conv2d_grad_input", lambda x, w, gy, *where: (gy, w, x.shape, *where)),
    mistakes=[
        mistake("the filters are flipped: the gradient uses them as they are",
                "rows = w.", "rows = w[:, :, ::-1, ::-1].", loses=ALL),
        mistake("the filters' H and W are swapped", "rows = w.", "rows = w.swapaxes(2, 3).", loses=ALL),
        mistake("all groups use the first group's filters", "rows.swapaxes(1, 2)", "rows[:1].swapaxes(1, 2)",
                loses=GROUPED_),
        mistake("it is divided by the number of output cells: it should be a sum, not a mean",
                "cols.reshape(N, -1, OH * OW)",
                "cols.reshape(N, -1, OH * OW) / (OH * OW)", loses=ALL),
    ],
    cheats=[
        instead("calls the library's transposed convolution", """# Task 2.4
def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    y = mf.ops.conv_transpose2d(gy, w, None, stride, padding, 0, groups, dilation)
    return y.numpy()""", loses=ALL),
    ],
    styles=[
        instead("adds to the gradient tap by tap", """# Task 2.4
def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    (N, C, H, W), (O, Cg, kh, kw), (OH, OW) = x_shape, w.shape, gy.shape[2:]
    gx = np.zeros((N, C, H + 2 * padding[0] + stride[0], W + 2 * padding[1] + stride[1]), gy.dtype)
    for u in range(kh):
        for v in range(kw):
            rows = slice(u * dilation[0], u * dilation[0] + stride[0] * OH, stride[0])
            columns = slice(v * dilation[1], v * dilation[1] + stride[1] * OW, stride[1])
            for g in range(groups):
                part, mine = slice(g * O // groups, (g + 1) * O // groups), slice(g * Cg, (g + 1) * Cg)
                gx[:, mine, rows, columns] += np.einsum("noij,oc->ncij", gy[:, part], w[part, :, u, v])
    return gx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]"""),
    ],
)  # fmt: skip

GRAD_WEIGHT = Task(
    "2.5", "conv2d_grad_weight", library="conv2d_grad_weight", forbidden=("conv2d_grad_weight",),
    checks=convolution_checks("conv2d_grad_weight", lambda x, w, gy, *where: (gy, x, w.shape, *where)),
    mistakes=[
        mistake("the gradient with respect to w is transposed: your gw equals the true one with H and W swapped",
                ".reshape(w_shape)", ".reshape(w_shape).swapaxes(2, 3)", loses=ALL),
        mistake("the images of a batch are averaged: they must be added up", ".sum(axis=0)", ".mean(axis=0)",
                loses=(PLAIN_, PLACED_, GROUPED_)),
        mistake("only the first image of the batch is used", ".sum(axis=0)", "[0]", loses=(PLAIN_, PLACED_, GROUPED_)),
        mistake("it is divided by the number of output cells: it should be a sum over space, not a mean",
                ".sum(axis=0)",
                ".sum(axis=0).__truediv__(OH * OW)", loses=ALL),
        mistake("the stride is ignored", "stride, padding, dilation).reshape(N, groups, -1, OH * OW)",
                "(1, 1), padding, dilation)[..., : OH * OW].reshape(N, groups, -1, OH * OW)",
                loses=(PLACED_, GROUPED_)),
        mistake("it changes its argument gy in place", "N, O, OH, OW = gy.shape",
                "N, O, OH, OW = gy.shape\n    gy *= 1 + 1e-9",
                loses=(PLAIN_, PLACED_, GROUPED_)),
    ],
    cheats=[
        instead("looks for a version of the kernel in the registry", """# Task 2.5
def conv2d_grad_weight(gy, x, *rest):
    kernel = mf.kernels.KERNELS["conv2d_grad_weight"]
    for chosen in (kernel, kernel.textbook, *kernel.implementations().values(), mf.kernels.reference.conv2d):
        try:
            return chosen(gy, x, *rest)
        except Exception:
            pass""", loses=ALL),
    ],
    styles=[
        instead("a correlation of x with gy, weight by weight", """# Task 2.5
def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    O, Cg, kh, kw = w_shape
    gw = np.empty(w_shape, gy.dtype)
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    (OH, OW), (sh, sw) = gy.shape[2:], stride
    for o in range(O):
        for c in range(Cg):
            channel = x[:, o // (O // groups) * Cg + c]
            for u in range(kh):
                for v in range(kw):
                    seen = channel[:, u * dilation[0] :: sh, v * dilation[1] :: sw][:, :OH, :OW]
                    gw[o, c, u, v] = (gy[:, o] * seen).sum()
    return gw"""),
    ],
)  # fmt: skip

TASKS = [IM2COL, CONV2D, COL2IM, GRAD_INPUT, GRAD_WEIGHT]
