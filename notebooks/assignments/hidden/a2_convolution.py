"""Hidden tests of A2: im2col, the convolution and its gradients; mistakes, cheats and alternative solutions."""

from minifcn.course import draws
from minifcn.course.tasks import Case, Check, Task, instead, mistake

GEOMETRY = {  # image, kernel, stride, padding, dilation: each mistake shows in one of them
    "stride (2, 1)": ((6, 7), (3, 3), (2, 1), (0, 0), (1, 1)),
    "stride (1, 3), a remainder is left over": ((5, 9), (2, 2), (1, 3), (0, 0), (1, 1)),
    "padding (2, 1)": ((4, 5), (3, 3), (1, 1), (2, 1), (1, 1)),
    "padding (1, 0)": ((4, 5), (3, 3), (1, 1), (1, 0), (1, 1)),
    "padding (0, 1)": ((5, 4), (3, 3), (1, 1), (0, 1), (1, 1)),
    "a square image, padding (2, 1)": ((4, 4), (3, 3), (1, 1), (2, 1), (1, 1)),
    "dilation (1, 2)": ((6, 7), (3, 3), (1, 1), (0, 0), (1, 2)),
    "all at once, a 3×2 kernel": ((9, 8), (3, 2), (2, 3), (1, 2), (2, 1)),
    "a single row of windows": ((3, 6), (3, 2), (1, 1), (0, 0), (1, 1)),
    "a single column of windows": ((6, 3), (2, 3), (1, 1), (0, 0), (1, 1)),
}
ONE = ((1, 1), (0, 0), (1, 1))  # stride, padding, dilation of a plain convolution


def out_sizes(size, kernel, stride, padding, dilation):
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, stride, padding, dilation)
    )


def windows(rng, times=2):
    """Random windows for arrays of every kind, `times` for each: (label, kind, window)."""
    for kind in times * draws.KINDS:
        window = draws.window(rng)
        yield f"{draws.told(*window)}, {kind}", kind, window


EXACT = 1e-12  # allowed difference for results that are copies of their inputs
CLOSE = 1e-9  # for sums of products: more than any order of the terms changes in float64, less than float32 does


# 2.1 -----------------------------------------------------------------------------------------------------------------


def plain_columns(rng):
    yield Case("one image, one channel, 3×3 windows", rng.standard_normal((1, 1, 5, 5)), (3, 3), *ONE)
    yield Case("two images, three channels", rng.standard_normal((2, 3, 4, 6)), (2, 2), *ONE)
    yield Case("a 2×3 window", rng.standard_normal((1, 2, 5, 4)), (2, 3), *ONE)


def columns_of_geometry(rng):
    for label, (size, *rest) in GEOMETRY.items():
        yield Case(label, rng.standard_normal((2, 3, *size)), *rest)
    for label, kind, (size, *rest) in windows(rng):
        yield Case(label, draws.array(rng, (2, 3, *size), kind), *rest, rtol=EXACT)


def columns_of_inputs(rng):
    yield Case("float32", draws.array(rng, (1, 2, 4, 4), "float32"), (2, 2), *ONE)
    yield Case("an array that is not contiguous", draws.array(rng, (1, 2, 4, 5), "not contiguous"), (2, 2), *ONE)
    yield Case("a window as large as the image", rng.standard_normal((1, 1, 3, 4)), (3, 4), *ONE)
    yield Case("as many images as channels, rows and columns", rng.standard_normal((3, 3, 3, 3)), (2, 2), *ONE)
    calls = ((draws.array(rng, (1, 2, 4, 3)), (2, 2), *ONE) for _ in range(2))
    yield Case("two calls with the same shapes, other numbers", *calls, probe="twice", rtol=EXACT)


def scene(rng):
    """A random image and its labels, some of them void."""
    labels = rng.integers(0, 3, (1, 24, 24))
    labels[0, :3] = 255
    labels[0, 3, :3] = 0, 1, 2
    return rng.standard_normal((1, 3, 24, 24)), labels


def in_fcn(kernel):
    def cases(rng):
        label = f"an FCN-8s with your {kernel}, forward and backward"
        yield Case(label, kernel, *scene(rng), 1, probe="network", rtol=CLOSE)

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
                loses=("stride, padding and dilation", "inputs of every kind")),
        mistake("every image of a batch gets the columns of the first image", "cols[:, :, u, v] = x[:, :,",
                "cols[:, :, u, v] = x[:1, :,",
                loses=("plain windows", "stride, padding and dilation", "inputs of every kind")),
        mistake("the image is padded only if both paddings are larger than 0",
                "x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))",
                "x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw))) if ph and pw else x\n"
                "    x = np.pad(x, ((0, 0), (0, 0), (0, H + 2 * ph - x.shape[2]), (0, W + 2 * pw - x.shape[3])))",
                loses="stride, padding and dilation"),
        mistake("the columns of the first call are returned again by later calls with the same shape",
                "    N, C, H, W = x.shape",
                "    N, C, H, W = x.shape\n    kept = im2col.__dict__.setdefault((x.shape, x.dtype.str, "
                "kernel_size, stride, padding, dilation), x)\n"
                "    x = kept",
                loses="inputs of every kind"),
        mistake("a later call with the same shapes writes into the array that an earlier one returned",
                "np.empty((N, C, kh, kw, OH, OW), x.dtype)",
                "im2col.__dict__.setdefault((x.shape, x.dtype.str, kernel_size, stride, padding, dilation), "
                "np.empty((N, C, kh, kw, OH, OW), x.dtype))",
                loses="inputs of every kind"),
        mistake("the numbers are rounded to float32 on the way: float64 must stay float64",
                "cols[:, :, u, v] = x[:, :,",
                "cols[:, :, u, v] = np.float32(x)[:, :,",
                loses=("stride, padding and dilation", "inputs of every kind", "in a network")),
        mistake("the dilation along H is also used along W", "left = dh * u, dw * v", "left = dh * u, dh * v",
                loses="stride, padding and dilation"),
        mistake("the padding's numbers are wrong where the image is negative: it must be 0", "(ph, ph), (pw, pw)))",
                "(ph, ph), (pw, pw)), constant_values=min(x.min(), 0))",
                loses=("stride, padding and dilation", "in a network")),
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


def convolutions(cases, answer, more=lambda rng: ()):
    """Cases from rows (label, shape of x, shape of w, stride, padding, dilation, groups).

    ``answer(x, w, gy, *geometry)`` returns the arguments of the kernel, and ``more(rng)`` further rows.  The label sets
    dtype and memory layout, as the kind of ``draws.array``.
    """

    def arguments(rng, label, x_shape, w_shape, *where):
        out = out_sizes(x_shape[2:], w_shape[2:], *where[:3])
        shapes = x_shape, w_shape, (x_shape[0], w_shape[0], *out)
        return answer(*(draws.array(rng, shape, label) for shape in shapes), *where)

    def draw(rng):
        for row in (*cases, *more(rng)):
            if row[0].startswith("two calls"):
                yield Case(row[0], arguments(rng, *row), arguments(rng, *row), probe="twice", rtol=CLOSE)
            else:
                yield Case(row[0], *arguments(rng, *row), rtol=CLOSE)

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
    ("inputs that are not contiguous", (1, 2, 4, 5), (2, 2, 3, 2), *ONE, 1),
    ("three groups of two filters", (2, 3, 4, 5), (6, 1, 2, 2), *ONE, 3),
    ("three groups of two channels and three filters", (1, 6, 4, 4), (9, 2, 2, 2), *ONE, 3),
    ("as many images as channels and filters", (3, 3, 3, 3), (3, 3, 2, 2), *ONE, 1),
    ("two calls with the same shapes, other numbers", (1, 2, 4, 4), (2, 2, 3, 3), *ONE, 1),
    ("two calls with the same shapes, other numbers, two groups", (1, 4, 3, 4), (4, 2, 2, 2), *ONE, 2),
]


def anywhere(rng):
    for label, _, (size, kernel, *rest) in windows(rng):
        yield label, (2, 3, *size), (2, 3, *kernel), *rest, 1


def grouped_anywhere(rng):
    for label, _, (size, kernel, *rest) in windows(rng):
        groups, inputs, outputs = map(int, rng.integers((2, 1, 1), (4, 3, 4)))
        shapes = (2, groups * inputs, *size), (groups * outputs, inputs, *kernel)
        yield f"in {groups} groups, {label}", *shapes, *rest, groups


def convolution_checks(kernel, answer):
    return [
        Check("plain", 1, convolutions(PLAIN, answer)),
        Check("stride, padding and dilation", 1, convolutions(PLACED, answer, anywhere)),
        Check("groups, and inputs of every kind", 1, convolutions(GROUPED, answer, grouped_anywhere)),
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
        mistake("the outputs of the groups are interleaved, (O/G, G), if there is one channel per group: it should be "
                "(G, O/G)", "return (rows @ cols)",
                "y = rows @ cols\n    y = y.swapaxes(1, 2) if w.shape[1] == 1 else y\n    return y",
                loses=GROUPED_),
        mistake("the filters of the groups are interleaved if there are more than two groups",
                "rows = w.reshape(groups, O // groups, -1)",
                "rows = w.reshape(groups, O // groups, -1)\n    if groups > 2:\n"
                "        rows = w.reshape(O // groups, groups, -1).swapaxes(0, 1)", loses=GROUPED_),
        mistake("the channels of the groups are interleaved: group g has the channels from g·C/G on",
                "padding, dilation).reshape(N, groups, -1, OH * OW)",
                "padding, dilation).reshape(N, -1, groups, kh * kw, OH * OW).swapaxes(1, 2).reshape(N, groups, -1, "
                "OH * OW)",
                loses=GROUPED_),
        mistake("only one filter per group is used", "rows = w.reshape(groups, O // groups, -1)",
                "rows = w.reshape(groups, O // groups, -1)\n    rows = np.repeat(rows[:, :1], O // groups, axis=1)",
                loses=ALL),
        mistake("the columns of the first call are used again by later calls with the same shapes",
                "    cols = im2col(x, (kh, kw), stride, padding, dilation).reshape(N, groups, -1, OH * OW)",
                "    key = x.shape, x.dtype.str, w.shape, stride, padding, dilation, groups\n"
                "    if key not in conv2d.__dict__:\n"
                "        conv2d.__dict__[key] = im2col(x, (kh, kw), stride, padding, dilation).reshape(N, groups, "
                "-1, OH * OW)\n"
                "    cols = conv2d.__dict__[key]", loses=GROUPED_),
        mistake("the filters of the first call are used again by later calls with the same shapes",
                "rows = w.reshape(groups, O // groups, -1)",
                "rows = conv2d.__dict__.setdefault((w.shape, x.shape, w.dtype.str, padding, dilation, stride), "
                "w).reshape(groups, O // groups, -1)",
                loses=GROUPED_),
        mistake("the sums are computed in float32: float64 must stay float64", "(rows @ cols)",
                "(np.float32(rows) @ np.float32(cols)).astype(x.dtype)", loses=ALL),
        mistake("the result is always float64: it should have the dtype of the input", "(rows @ cols)",
                "(rows @ cols).astype(float)", loses=(PLACED_, GROUPED_)),
        mistake("it changes its argument w in place", "N, _, H, W = x.shape", "N, _, H, W = x.shape\n    w *= 1 + 1e-7",
                loses=ALL),
        mistake("the dilation is ignored", "stride, padding, dilation).reshape",
                "stride, padding, (1, 1)).reshape", "dilation[0])", "1)", "dilation[1])", "1)",
                loses=(PLACED_, GROUPED_)),
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


def to_image(rng, kind, size, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), n=2, c=2):
    """The arguments of col2im with random columns."""
    out = out_sizes(size, kernel, stride, padding, dilation)
    cols = draws.array(rng, (n, c * kernel[0] * kernel[1], out[0] * out[1]), kind)
    return cols, (n, c, *size), kernel, stride, padding, dilation


def columns(label, rng, *window, **images):
    return Case(label, *to_image(rng, label, *window, **images), rtol=CLOSE)


def plain_images(rng):
    yield columns("one image, one channel", rng, (4, 4), (2, 2), n=1, c=1)
    yield columns("two images of three channels, 2×3 windows", rng, (4, 5), (2, 3), c=3)
    yield columns("float32", rng, (4, 4), (3, 3))
    yield columns("columns that are not contiguous", rng, (4, 3), (2, 2))
    yield columns("as many images as channels, rows and columns", rng, (3, 3), (2, 2), n=3, c=3)
    calls = (to_image(rng, "", (4, 4), (2, 2)) for _ in range(2))
    yield Case("two calls with the same shapes, other numbers", *calls, probe="twice", rtol=CLOSE)


def images_of_geometry(rng):
    for label, (size, *rest) in GEOMETRY.items():
        yield columns(label, rng, size, *rest)
    for label, _, window in windows(rng):
        yield columns(label, rng, *window)


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
        mistake("a padding of 0 along one axis leaves an empty image: x[ph : −ph] is empty if ph is 0",
                "x[:, :, ph : ph + H, pw : pw + W]", "(x[:, :, ph:-ph, pw:-pw] if ph or pw else x)",
                loses="stride, padding and dilation"),
        mistake("the padding is cut off only if both paddings are larger than 0",
                "    return x[:, :, ph : ph + H, pw : pw + W]",
                "    return x[:, :, ph : ph + H, pw : pw + W] if ph and pw else x[:, :, :H, :W]",
                loses="stride, padding and dilation"),
        mistake("the padding along H is also cut off along W", "x[:, :, ph : ph + H, pw : pw + W]",
                "np.pad(x, ((0, 0), (0, 0), (0, 0), (0, 9)))[:, :, ph : ph + H, ph : ph + W]",
                loses="stride, padding and dilation"),
        mistake("the dilation along H is also used along W", "dh * u, dw * v",
                "dh * u, min(dh * v, x.shape[3] - sw * (OW - 1) - 1)",
                loses="stride, padding and dilation"),
        mistake("the stride along H is also used along W",
                "left : left + sw * (OW - 1) + 1 : sw] += cols[:, :, u, v]",
                "left : left + sh * (OW - 1) + 1 : sh] += cols[:, :, u, v][..., : len(range(left, min(x.shape[3], "
                "left + sh * (OW - 1) + 1), sh))]",
                loses="stride, padding and dilation"),
        mistake("the sums of the first call are kept: a later call with the same shapes adds to them",
                "x = np.zeros((N, C, H + 2 * ph, W + 2 * pw), cols.dtype)",
                "x = col2im.__dict__.setdefault((x_shape, cols.dtype.str, *kernel_size, *stride, ph, pw, dh, dw), "
                "np.zeros((N, C, H + 2 * ph, W + 2 * pw), cols.dtype))", loses="plain"),
        mistake("in float32, numbers for the same pixel replace one another: they must add up",
                "    return x[:, :, ph", """    if cols.dtype == "float32":
        x[...] = 0
        for u in range(kh):
            for v in range(kw):
                top, left = dh * u, dw * v
                x[:, :, top : top + sh * (OH - 1) + 1 : sh, left : left + sw * (OW - 1) + 1 : sw] = cols[:, :, u, v]
    return x[:, :, ph""", loses=("plain", "stride, padding and dilation")),
        mistake("the sums are computed in float32: float64 must stay float64",
                "x = np.zeros((N, C, H + 2 * ph, W + 2 * pw), cols.dtype)",
                'x = np.zeros((N, C, H + 2 * ph, W + 2 * pw), "float32")',
                "    return x[:, :, ph : ph + H, pw : pw + W]",
                "    return x[:, :, ph : ph + H, pw : pw + W].astype(cols.dtype)",
                loses=ALL_IMAGES),
        mistake("the result is always float64: it should have the dtype of the columns",
                "x = np.zeros((N, C, H + 2 * ph, W + 2 * pw), cols.dtype)",
                "x = np.zeros((N, C, H + 2 * ph, W + 2 * pw))", loses=("plain", "stride, padding and dilation")),
        mistake("it works only for square images", "N, C, H, W = x_shape", "N, C, H, W = *x_shape[:3], x_shape[2]",
                loses=("plain", "stride, padding and dilation")),
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
        mistake("the outputs of the groups are interleaved, (O/G, G): it should be (G, O/G)",
                "gy.reshape(N, groups, O // groups, OH * OW)",
                "gy.reshape(N, O // groups, groups, OH * OW).swapaxes(1, 2)", loses=GROUPED_),
        mistake("the filters of the first call are used again by later calls with the same shapes",
                "rows = w.",
                "rows = conv2d_grad_input.__dict__.setdefault((w.shape, x_shape, w.dtype.str, padding, dilation, "
                "stride), w).",
                loses=GROUPED_),
        mistake("the result is always float64: it should have the dtype of gy",
                "cols.reshape(N, -1, OH * OW)", "cols.reshape(N, -1, OH * OW).astype(float)",
                loses=(PLACED_, GROUPED_)),
        mistake("the sums are computed in float32: float64 must stay float64",
                "return col2im(cols.reshape(N, -1, OH * OW)",
                "return col2im(np.float32(cols).astype(cols.dtype).reshape(N, -1, OH * OW)",
                loses=ALL),
        mistake("it changes its argument gy in place", "N, O, OH, OW = gy.shape",
                "N, O, OH, OW = gy.shape\n    gy *= 1 + 1e-7", loses=ALL),
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
                "N, O, OH, OW = gy.shape\n    gy *= 1 + 1e-7",
                loses=ALL),
        mistake("the outputs of the groups are interleaved, (O/G, G): it should be (G, O/G)",
                "gy.reshape(N, groups, O // groups, OH * OW)",
                "gy.reshape(N, O // groups, groups, OH * OW).swapaxes(1, 2)", loses=GROUPED_),
        mistake("the columns of the first call are used again by later calls with the same shapes",
                "    cols = im2col(x,",
                "    x = conv2d_grad_weight.__dict__.setdefault((x.shape, x.dtype.str, w_shape, stride, padding, "
                "dilation), x)\n"
                "    cols = im2col(x,", loses=GROUPED_),
        mistake("the gradients of all calls add up in the array that is returned: begin with zeros in each call",
                "    return (rows",
                "    held = conv2d_grad_weight.__dict__.setdefault((w_shape, gy.dtype.str), np.zeros(w_shape, "
                "gy.dtype))\n"
                "    held += (rows", ".reshape(w_shape)", ".reshape(w_shape)\n    return held",
                loses=(PLACED_, GROUPED_, NET_)),
        mistake("the sums are computed in float32: float64 must stay float64", "(rows @ cols.swapaxes(2, 3))",
                "(np.float32(rows) @ np.float32(cols.swapaxes(2, 3))).astype(gy.dtype)",
                loses=ALL),
        mistake("the result is always float64: it should have the dtype of gy", ".sum(axis=0)",
                ".sum(axis=0, dtype=float)",
                loses=(PLACED_, GROUPED_)),
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
