"""Hidden tests of A3: pooling, transposed convolution and its filter; mistakes, cheats and alternative solutions."""

import minifcn as mf
from minifcn.course import draws
from minifcn.course.tasks import Case, Check, Task, close_to, instead, mistake

ONE = (1, 1)
EXACT = 1e-12  # allowed difference for results that are copies of their inputs
CLOSE = 1e-9  # for sums of products: more than any order of the terms changes in float64, less than float32 does


def scene(rng):
    """A random image some of whose maps have odd sizes, and its labels, some of them void."""
    labels = rng.integers(0, 3, (1, 24, 36))
    labels[0, :3] = 255
    labels[0, 3, :3] = 0, 1, 2
    return rng.standard_normal((1, 3, 24, 36)), labels


def in_fcn(replaces):
    def cases(rng):
        label = "an FCN-8s with your answer, forward and backward"
        yield Case(label, replaces, *scene(rng), 1, probe="network", rtol=CLOSE)

    return cases


NET = "in a network"

# 3.1 -----------------------------------------------------------------------------------------------------------------


def sizes(ceil_mode, *rows, outside=False):
    """Cases from `rows`, and random ones; `outside`: those whose last window in ceil mode would start outside."""

    def cases(rng):
        for n, k, s, p, d in (*rows, *more(rng)):
            mode = "rounded up" if ceil_mode else "rounded down"
            label = f"{n} cells, windows of {k}, stride {s}, padding {p}, dilation {d}, {mode}"
            yield Case(label, n, k, s, p, d, ceil_mode)

    def more(rng, times=8):
        while times:
            k, s, d, n = (int(rng.integers(1, most)) for most in (6, 6, 4, 8 if times % 2 else 40))
            extent = d * (k - 1) + 1
            p = int(rng.integers(0, extent // 2 + 1))
            last = -(-(n + 2 * p - extent) // s) * s  # where the last window starts, from the edge of the padding
            if n + 2 * p >= extent and (ceil_mode and last >= n + p) == outside:
                yield n, k, s, p, d
                times -= 1

    return cases


DOWN, UP, STARTS = "rounding down", "rounding up", "a window must start inside"

POOL_SIZE = Task(
    "3.1", "pool_size", library="kernels.shapes.pool_size", forbidden=("kernels.shapes.pool_size",),
    checks=[
        Check(DOWN, 1, sizes(False, (6, 2, 2, 0, 1), (7, 2, 2, 0, 1), (9, 3, 2, 1, 1), (11, 3, 1, 0, 2),
                             (12, 3, 4, 2, 3), (3, 3, 2, 0, 1), (3, 5, 1, 2, 1))),
        Check(UP, 1, sizes(True, (6, 2, 2, 0, 1), (349, 2, 2, 0, 1), (227, 3, 2, 0, 1), (54, 3, 2, 0, 1),
                           (13, 3, 2, 0, 2), (14, 3, 2, 1, 1), (16, 3, 4, 1, 1),
                           (11, 4, 3, 2, 1), (2, 3, 2, 0, 1), (3, 5, 1, 2, 1))),
        Check(STARTS, 1, sizes(True, (3, 2, 2, 1, 1), (5, 2, 2, 1, 1), (4, 2, 3, 1, 1), (5, 1, 3, 0, 1),
                               (6, 2, 5, 0, 1), (7, 2, 5, 0, 1), (4, 2, 2, 1, 1), (3, 2, 5, 1, 1), (4, 2, 5, 1, 1),
                               (2, 4, 5, 2, 1), outside=True)),
    ],
    mistakes=[
        mistake("it also rounds down in ceil mode", "-(-room // stride)", "room // stride", loses=(UP, STARTS)),
        mistake("in ceil mode it counts windows that lie completely outside the image",
                "return size - 1 if (size - 1) * stride >= n + padding else size", "return size", loses=STARTS),
        mistake("in ceil mode it leaves out only windows that start beyond *both* paddings: only the leading one "
                "counts",
                ">= n + padding", ">= n + 2 * padding", loses=STARTS),
        mistake("in ceil mode it keeps a window that starts exactly at n + p: leave it out, compare with ≥, not with >",
                ">= n + padding", "> n + padding", loses=STARTS),
        mistake("the dilation is ignored", "dilation * (kernel - 1) - 1", "kernel", loses=(DOWN, UP)),
        mistake("the padding is counted once: it is on both sides, so add 2p", "n + 2 * padding", "n + padding",
                loses=(DOWN, UP)),
        mistake("the count is one too small: the first window counts, too", "room // stride + 1", "room // stride",
                "-(-room // stride) + 1", "-(-room // stride)", loses=(DOWN, UP, STARTS)),
        mistake("in ceil mode it always adds a window, even if the division has no remainder", "-(-room // stride) + 1",
                "room // stride + 2", loses=UP),
    ],
    cheats=[
        instead("calls the library's pooling and returns the size", """# Task 3.1
def pool_size(n, kernel, stride, padding, dilation=1, ceil_mode=False):
    x = mf.Tensor(np.zeros((1, 1, n, 99)))
    return mf.ops.max_pool2d(x, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1), ceil_mode).shape[2]""",
                loses=(DOWN, UP, STARTS)),
        instead("calls the library's pooling for shapes only", """# Task 3.1
def pool_size(n, kernel, stride, padding, dilation=1, ceil_mode=False):
    with mf.shapes_only():
        x = np.zeros((1, 1, n, 1))
        y, _ = mf.kernels.max_pool2d(x, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1), ceil_mode)
    return y.shape[2]""", loses=(DOWN, UP, STARTS)),
    ],
    styles=[
        instead("counts the windows one by one", """# Task 3.1
def pool_size(n, kernel, stride, padding, dilation=1, ceil_mode=False):
    count, start = 0, -padding
    while start < n:
        last = start + dilation * (kernel - 1)
        before = start - stride + dilation * (kernel - 1)
        if last >= n + padding and not (ceil_mode and (count == 0 or before < n + padding - 1)):
            break
        count, start = count + 1, start + stride
    return count"""),
        instead("math.ceil and math.floor", """# Task 3.1
import math


def pool_size(n, kernel, stride, padding, dilation=1, ceil_mode=False):
    steps = (n + 2 * padding - (dilation * (kernel - 1) + 1)) / stride
    count = (math.ceil if ceil_mode else math.floor)(steps) + 1
    while ceil_mode and (count - 1) * stride >= n + padding:
        count -= 1
    return count"""),
    ],
)  # fmt: skip


# 3.2 -----------------------------------------------------------------------------------------------------------------

PLAIN = [  # label, shape, kernel, stride, padding, dilation, ceil_mode
    ("2×2 windows", (1, 1, 4, 6), (2, 2), (2, 2), (0, 0), ONE, False),
    ("two images, three channels", (2, 3, 4, 4), (2, 2), (2, 2), (0, 0), ONE, False),
    ("3×2 windows that overlap", (1, 2, 6, 5), (3, 2), (1, 1), (0, 0), ONE, False),
    ("float32", (1, 2, 4, 4), (2, 2), (2, 2), (0, 0), ONE, False),
    ("an array that is not contiguous", (2, 2, 4, 5), (2, 2), (1, 1), (0, 0), ONE, False),
    ("all numbers below −1e30", (1, 2, 4, 6), (2, 2), (2, 2), (0, 0), ONE, False),
    ("all numbers below −1e30, float32", (1, 2, 4, 6), (2, 3), (2, 1), (0, 0), ONE, False),
    ("as many images as channels, rows and columns", (3, 3, 3, 3), (2, 2), (1, 1), (0, 0), ONE, False),
]
PLACED = [
    ("stride (2, 1)", (1, 2, 7, 5), (2, 2), (2, 1), (0, 0), ONE, False),
    ("padding (1, 0), all numbers negative", (1, 2, 5, 6), (3, 2), (2, 2), (1, 0), ONE, False),
    ("padding (0, 1), all numbers negative", (1, 1, 5, 6), (2, 3), (2, 2), (0, 1), ONE, False),
    ("padding 1, all numbers below −1e30", (1, 1, 5, 6), (3, 3), (2, 2), (1, 1), ONE, False),
    ("padding 1, all numbers below −1e300", (1, 1, 5, 6), (3, 3), (2, 2), (1, 1), ONE, False),
    ("padding 1, all numbers below −1e30, float32", (1, 1, 5, 6), (3, 3), (2, 2), (1, 1), ONE, False),
    ("dilation (2, 1)", (1, 2, 7, 6), (2, 3), (1, 1), (0, 0), (2, 1), False),
    ("dilation (1, 2), stride 2, padding 1", (2, 1, 6, 8), (3, 3), (2, 2), (1, 1), (1, 2), False),
]
CLIPPED = [
    ("3×3 windows, stride 2, on 6×8: the last are clipped", (1, 2, 6, 8), (3, 3), (2, 2), (0, 0), ONE, True),
    ("on an odd size, all numbers negative", (1, 2, 5, 7), (2, 2), (2, 2), (0, 0), ONE, True),
    ("on 5×6: clipped below only", (2, 1, 5, 6), (2, 2), (2, 2), (0, 0), ONE, True),
    ("with padding: the last window would start outside", (1, 1, 5, 7), (2, 2), (2, 2), (1, 1), ONE, True),
    ("with padding and dilation", (1, 1, 6, 7), (2, 3), (2, 2), (1, 1), (2, 1), True),
    ("windows larger than the image", (1, 1, 3, 3), (4, 4), (3, 3), (1, 1), ONE, True),
    ("on an odd size, all numbers below −1e30", (1, 2, 5, 7), (2, 2), (2, 2), (0, 0), ONE, True),
    ("on an odd size, all numbers below −1e30, float32", (1, 2, 5, 7), (2, 2), (2, 2), (0, 0), ONE, True),
]
TIED = [
    ("2×2 windows with ties", (2, 2, 6, 8), (2, 2), (2, 2), (0, 0), ONE, False),
    ("3×2 windows with ties", (1, 2, 6, 6), (3, 2), (2, 2), (0, 0), ONE, False),
    ("2×3 windows with ties, padding 1", (1, 2, 5, 6), (2, 3), (1, 2), (1, 1), ONE, False),
    ("two calls with the same shapes, other numbers", (1, 2, 4, 4), (2, 2), (2, 2), (0, 0), ONE, False),
    ("4×4 windows with ties", (1, 2, 7, 9), (4, 4), (2, 3), (0, 0), ONE, False),
    ("12×11 windows", (1, 1, 13, 13), (12, 11), (1, 1), (0, 0), ONE, False),
    ("2×2 windows with ties, not contiguous", (1, 2, 4, 6), (2, 2), (2, 2), (0, 0), ONE, False),
    ("2×2 windows with ties, ceil mode", (1, 2, 5, 7), (2, 2), (2, 2), (0, 0), ONE, True),
]


def windows(rng, ceil_mode=False, times=1):
    """Random pooling windows for arrays of every kind: rows (label, shape, kernel, …, ceil_mode)."""
    for kind in times * draws.KINDS:
        while True:
            size, *window = found = draws.window(rng, lambda kernel: kernel // 2)
            try:
                mf.kernels.shapes.require_taps((1, 1, *size), *window, ceil_mode)
            except mf.GeometryError:  # a window without a pixel has no maximum
                continue
            break
        yield f"{draws.told(*found)}, {kind}", (2, 2, *size), *window, ceil_mode


def pooled(rows, part=None, values=None, more=lambda rng: ()):
    """Cases of a pooling; only item `part` of (y, index) is judged, or both.

    "negative", "below" and a kind of ``draws.array`` in a label set the numbers, their dtype and memory layout;
    `values` are the only numbers of an image with ties.  ``more(rng)`` are further rows.
    """

    def image(rng, label, shape):
        x = draws.array(rng, shape, label)
        if values is not None and label != "12×11 windows":
            x[...] = rng.choice(values, shape)
        if "below" in label:
            x[...] = -abs(x) * 1e30 - 1e30
            x = x * 1e270 if "300" in label else x
        elif "negative" in label:
            x[...] = -abs(x)
        return x

    def draw(rng):
        for label, shape, *window in (*rows, *more(rng)):
            x = image(rng, label, shape)
            if label.startswith("two calls"):
                yield Case(label, (x, *window), (image(rng, label, shape), *window), probe="twice", rtol=EXACT)
                continue
            right = mf.kernels.max_pool2d(x, *window)
            yield Case(label, x, *window, judge=close_to(right, part, EXACT))

    return draw


def windows_of_both_modes(rng):
    yield from windows(rng)
    yield from windows(rng, ceil_mode=True)


WINDOWS, PLACES, CLIPS, INDEX = "plain windows", "stride, padding and dilation", "ceil mode", "the index"
ALL = (WINDOWS, PLACES, CLIPS, INDEX, NET)

MAX_POOL = Task(
    "3.2", "max_pool2d", library="max_pool2d", forbidden=("max_pool2d",),
    checks=[
        Check(WINDOWS, 1, pooled(PLAIN, 0)),
        Check(PLACES, 1, pooled(PLACED, 0, more=lambda rng: windows(rng, times=2))),
        Check(CLIPS, 1, pooled(CLIPPED, 0, more=lambda rng: windows(rng, ceil_mode=True, times=2))),
        Check(INDEX, 1, pooled(TIED, values=(-3, -1, 2), more=windows_of_both_modes)),
        Check(NET, 1, in_fcn("max_pool2d")),
    ],
    mistakes=[
        mistake("values outside the image count as 0, which is larger than negative numbers: they should be −∞",
                "constant_values=-np.inf", "constant_values=0", loses=(PLACES, CLIPS, INDEX)),
        mistake("the search for a maximum begins with 0, so a window of negative numbers gives 0: begin with −∞",
                "np.full((*x.shape[:2], *out), -np.inf, x.dtype)",
                "np.zeros((*x.shape[:2], *out), x.dtype)", loses=(WINDOWS, PLACES, CLIPS, INDEX)),
        mistake("of several equal maxima the last one is taken: it should be the first in row-major order", "tap > y",
                "tap >= y",
                loses=INDEX),
        mistake("the taps are numbered column by column: the number should be u·kw + v", "u * kernel_size[1] + v",
                "v * kernel_size[0] + u", loses=(INDEX, NET)),
        mistake("the taps are numbered u·kh + v: a row of the window has kw taps, so it should be u·kw + v",
                "u * kernel_size[1] + v",
                "u * kernel_size[0] + v", loses=INDEX),
        mistake("the index is int64: it should be uint8, which takes an eighth of the memory", '"uint8"', '"int64"',
                loses=INDEX),
        mistake("the dilation is ignored", "dilation[0] * u, dilation[1] * v", "u, v", loses=(PLACES, CLIPS, INDEX)),
        mistake("the stride along H is also used along W", "left :: stride[1]", "left :: stride[0]",
                loses=(WINDOWS, PLACES, CLIPS, INDEX)),
        mistake("the padding is added on one side only", "pads.append((p,", "pads.append((0,", "n - p)", "n)",
                loses=(PLACES, CLIPS, INDEX)),
        mistake("ceil_mode is ignored: sizes are rounded down", "d, ceil_mode)", "d, False)",
                loses=(CLIPS, INDEX, NET)),
        mistake("the result is always float64: it should have the dtype of the input", "-np.inf, x.dtype)", "-np.inf)",
                loses=(WINDOWS, PLACES, CLIPS, INDEX)),
        mistake("it works only for square images: the height is used as the width", "zip(x.shape[2:], kernel",
                "zip((x.shape[2], x.shape[2]), kernel", loses=ALL),
        mistake("values outside the image count as −1000, which is larger than smaller numbers: they should be −∞",
                "constant_values=-np.inf", "constant_values=-1000", loses=(PLACES, CLIPS)),
        mistake("values outside the image count as the smallest float32, and float64 has smaller numbers: they should "
                "be −∞", "constant_values=-np.inf", 'constant_values=np.finfo("float32").min', loses=PLACES),
        mistake("values outside the image count as the smallest of the image, and may win a tie: they should be −∞",
                "constant_values=-np.inf", "constant_values=x.min()", loses=INDEX),
        mistake("the search for a maximum begins with −1000, so a window of smaller numbers gives −1000: begin with −∞",
                "np.full((*x.shape[:2], *out), -np.inf, x.dtype)", "np.full((*x.shape[:2], *out), -1000, x.dtype)",
                loses=(WINDOWS, PLACES, CLIPS)),
        mistake("in float32, of several equal maxima the last one is taken: it should be the first in row-major order",
                "tap > y", '((tap >= y) if x.dtype == "float32" else (tap > y))', loses=INDEX),
        mistake("the numbers are rounded to float32 on the way: float64 must stay float64",
                "x = np.pad(x, pads", "x = np.pad(np.float32(x).astype(x.dtype), pads",
                loses=(WINDOWS, PLACES, CLIPS, INDEX, NET)),
        mistake("a later call with the same shapes writes into the array that an earlier one returned",
                "y = np.full((*x.shape[:2], *out), -np.inf, x.dtype)",
                "y = max_pool2d.__dict__.setdefault((*x.shape[:2], *out, x.dtype.str), "
                "np.full((*x.shape[:2], *out), -np.inf, x.dtype))\n    y[...] = -np.inf", loses=INDEX),
        mistake("the padding is added only if both paddings are larger than 0", "stride, padding, dilation):",
                "stride, padding if all(padding) else (0, 0), dilation):", loses=(PLACES, CLIPS, INDEX)),
        mistake("the dilation along H is also used along W", "dilation[1] * v", "dilation[0] * v",
                loses=(PLACES, CLIPS, INDEX)),
        mistake("it changes its input in place", "    out, pads = [], [(0, 0), (0, 0)]",
                "    out, pads = [], [(0, 0), (0, 0)]\n    x *= 1 + 1e-7", loses=ALL),
        instead("it works only for contiguous arrays: use x.strides", """# Task 3.2
def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    out, pads = [], [(0, 0), (0, 0)]
    for n, k, s, p, d in zip(x.shape[2:], kernel_size, stride, padding, dilation):
        out.append(pool_size(n, k, s, p, d, ceil_mode))
        pads.append((p, max(p, (out[-1] - 1) * s + d * (k - 1) + 1 - n - p)))
    if any(map(any, pads)):
        x = np.pad(x, pads, constant_values=-np.inf)
    N, C, H, W = x.shape
    steps = [x.itemsize * n for n in (C * H * W, H * W, W * stride[0], stride[1], W * dilation[0], dilation[1])]
    windows = np.lib.stride_tricks.as_strided(x, (N, C, *out, *kernel_size), steps).reshape(N, C, *out, -1)
    return windows.max(-1), windows.argmax(-1).astype("uint8")""", loses=(WINDOWS, PLACES, CLIPS, INDEX)),
    ],
    cheats=[
        instead("runs the loops that Numba compiles", """# Task 3.2
def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    out = mf.kernels.shapes.pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y, index = np.empty((*x.shape[:2], *out), x.dtype), np.empty((*x.shape[:2], *out), np.uint8)
    planes = [a.reshape(-1, *a.shape[2:]) for a in (x, y, index)]
    window = *kernel_size, *stride, *padding, *dilation
    mf.kernels.compiled.pooling.largest.function(planes[0], *window, *planes[1:], 0, len(planes[0]))
    return y, index""", loses=ALL),
        instead("tries every implementation in the registry", """# Task 3.2
def max_pool2d(x, *window):
    for version in (*mf.kernels.KERNELS["max_pool2d"].implementations().values(), mf.kernels.textbook.max_pool2d):
        try:
            return version(x, *window)
        except Exception:
            pass""", loses=ALL),
        instead("uses PyTorch", """# Task 3.2
def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    import torch

    y, _ = torch.nn.functional.max_pool2d(torch.tensor(x), kernel_size, stride, padding, dilation, ceil_mode, True)
    return y.numpy(), np.zeros(y.shape, "uint8")""", loses=ALL),
    ],
    styles=[
        instead("six loops", """# Task 3.2
def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    N, C, H, W = x.shape
    OH, OW = (
        pool_size(x.shape[2 + a], kernel_size[a], stride[a], padding[a], dilation[a], ceil_mode) for a in (0, 1)
    )
    y, index = np.zeros((N, C, OH, OW), x.dtype), np.zeros((N, C, OH, OW), np.uint8)
    for n in range(N):
        for c in range(C):
            for i in range(OH):
                for j in range(OW):
                    best, where = float("-inf"), 0
                    for u in range(kernel_size[0]):
                        for v in range(kernel_size[1]):
                            a = i * stride[0] - padding[0] + u * dilation[0]
                            b = j * stride[1] - padding[1] + v * dilation[1]
                            if 0 <= a < H and 0 <= b < W and x[n, c, a, b] > best:
                                best, where = x[n, c, a, b], u * kernel_size[1] + v
                    y[n, c, i, j], index[n, c, i, j] = best, where
    return y, index"""),
        instead("argmax over a strided view", """# Task 3.2
def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    (kh, kw), (sh, sw), (dh, dw) = kernel_size, stride, dilation
    OH, OW = (pool_size(*a, ceil_mode) for a in zip(x.shape[2:], kernel_size, stride, padding, dilation))
    wide = np.full((*x.shape[:2], x.shape[2] + 99, x.shape[3] + 99), -np.inf, x.dtype)
    wide[:, :, padding[0] : padding[0] + x.shape[2], padding[1] : padding[1] + x.shape[3]] = x
    a, b, c, d = wide.strides
    view = np.lib.stride_tricks.as_strided(
        wide, (*x.shape[:2], OH, OW, kh, kw), (a, b, c * sh, d * sw, c * dh, d * dw)
    ).reshape(*x.shape[:2], OH, OW, kh * kw)
    return view.max(axis=-1), view.argmax(axis=-1).astype(np.uint8)"""),
        instead("on the columns of im2col", """# Task 3.2
def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    N, C = x.shape[:2]
    out = [pool_size(*a, ceil_mode) for a in zip(x.shape[2:], kernel_size, stride, padding, dilation)]
    pads = [(0, 0), (0, 0)]
    for n, m, k, s, p, d in zip(x.shape[2:], out, kernel_size, stride, padding, dilation):
        pads.append((p, max(0, (m - 1) * s + d * (k - 1) + 1 - n - p)))
    lowest = np.finfo(x.dtype).min
    x = np.pad(x, pads, constant_values=lowest)
    cols = mf.kernels.im2col(x, kernel_size, stride, (0, 0), dilation)
    h, w = ((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel_size, stride, dilation))
    cols = cols.reshape(N, C, -1, h, w)[..., : out[0], : out[1]]
    index = np.argmax(cols, 2)
    return np.take_along_axis(cols, index[:, :, None], 2).squeeze(2), index.astype("uint8")"""),
    ],
)  # fmt: skip


# 3.3 -----------------------------------------------------------------------------------------------------------------


def pooled_back(rows, more=lambda rng: ()):
    def arguments(rng, label, shape, *window):
        y, index = mf.kernels.max_pool2d(rng.standard_normal(shape), *window)
        return draws.array(rng, y.shape, label), index, shape, *window

    def draw(rng):
        for row in (*rows, *more(rng)):
            if row[0].startswith("two calls"):
                yield Case(row[0], arguments(rng, *row), arguments(rng, *row), probe="twice", rtol=CLOSE)
            else:
                yield Case(row[0], *arguments(rng, *row), rtol=CLOSE)

    return draw


APART = [
    ("2×2 windows", (1, 1, 4, 6), (2, 2), (2, 2), (0, 0), ONE, False),
    ("two images, three channels", (2, 3, 4, 4), (2, 2), (2, 2), (0, 0), ONE, False),
    ("3×3 windows, stride (3, 4)", (1, 2, 6, 8), (3, 3), (3, 4), (0, 0), ONE, False),
    ("float32", (1, 2, 4, 4), (2, 2), (2, 2), (0, 0), ONE, False),
]
OVERLAPPING = [
    ("3×3 windows, stride 2", (1, 1, 7, 9), (3, 3), (2, 2), (0, 0), ONE, False),
    ("3×3 windows, stride 1", (2, 2, 5, 6), (3, 3), (1, 1), (0, 0), ONE, False),
    ("3×3 windows, stride 1, float32", (2, 2, 5, 6), (3, 3), (1, 1), (0, 0), ONE, False),
    ("2×3 windows, stride 1, not contiguous", (1, 2, 5, 6), (2, 3), (1, 1), (0, 0), ONE, False),
    ("as many images as channels, rows and columns", (3, 3, 3, 3), (2, 2), (1, 1), (0, 0), ONE, False),
    ("two calls with the same shapes, other numbers", (1, 2, 4, 4), (2, 2), (1, 1), (0, 0), ONE, False),
]
ELSEWHERE = [
    ("3×2 windows, padding (1, 0)", (1, 2, 6, 6), (3, 2), (3, 2), (1, 0), ONE, False),
    ("2×3 windows, padding (0, 1)", (1, 2, 4, 7), (2, 3), (2, 3), (0, 1), ONE, False),
    ("3×3 windows, stride 1, padding (1, 1)", (2, 2, 5, 6), (3, 3), (1, 1), (1, 1), ONE, False),
    ("3×3 windows, stride 1, padding (1, 1), float32", (2, 2, 5, 6), (3, 3), (1, 1), (1, 1), ONE, False),
    ("dilation (2, 1)", (3, 2, 8, 6), (2, 3), (4, 3), (0, 0), (2, 1), False),
    ("dilation (1, 2)", (3, 2, 6, 8), (3, 2), (3, 4), (0, 0), (1, 2), False),
    ("ceil mode: the last windows are clipped", (1, 2, 5, 7), (2, 2), (2, 2), (0, 0), ONE, True),
]
WINNER, SUMS, GEOMETRY = "the winner receives", "overlapping windows add up", "padding, dilation and ceil mode"
ALL_BACK = (WINNER, SUMS, GEOMETRY, NET)

MAX_POOL_GRAD = Task(
    "3.3", "max_pool2d_grad", library="max_pool2d_grad", forbidden=("max_pool2d_grad",),
    checks=[
        Check(WINNER, 1, pooled_back(APART)),
        Check(SUMS, 1, pooled_back(OVERLAPPING)),
        Check(GEOMETRY, 1, pooled_back(ELSEWHERE, windows_of_both_modes)),
        Check(NET, 1, in_fcn("max_pool2d_grad")),
    ],
    mistakes=[
        mistake("a cell that wins several windows receives only one of their gradients: they must add up",
                "np.add.at(gx, (n, c, a, b), gy)", "gx[n, c, a, b] += gy", loses=(SUMS, GEOMETRY)),
        mistake("the padding is ignored: the gradient is shifted down and to the right", " - padding[0]", "",
                " - padding[1]", "",
                loses=GEOMETRY),
        mistake("the dilation is ignored", "dilation[0] * (index", "(index", "dilation[1] * (index", "(index",
                loses=GEOMETRY),
        mistake("the tap number is read column by column: u is index // kw, v is index % kw", "index // kernel_size[1]",
                "index % kernel_size[0]", "index % kernel_size[1]", "index // kernel_size[0]", loses=ALL_BACK),
        mistake("the tap number is divided by kh: a row of the window has kw taps, so divide by kw",
                "index // kernel_size[1]",
                "index // kernel_size[0]", "index % kernel_size[1]", "index % kernel_size[0]", loses=(SUMS, GEOMETRY)),
        mistake("the stride along H is also used along W", "stride[1] * j", "stride[0] * j", loses=(WINNER, GEOMETRY)),
        mistake("the result is always float64: it should have the dtype of the input",
                "gx = np.zeros(x_shape, gy.dtype)",
                "gx = np.zeros(x_shape)",
                loses=(WINNER, SUMS, GEOMETRY)),
        mistake("it changes its argument index in place", "index % kernel_size[1]",
                "np.remainder(index, kernel_size[1], out=index)", loses=(WINNER, SUMS, GEOMETRY)),
        mistake("every gradient goes to the first cell of its window: it should go to the winner",
                "index // kernel_size[1]",
                "index * 0",
                "index % kernel_size[1]", "index * 0", loses=ALL_BACK),
        mistake("in float32, a cell that wins several windows receives only one of their gradients: they must add up",
                "np.add.at(gx, (n, c, a, b), gy)",
                'np.add.at(gx, (n, c, a, b), gy)\n    if gy.dtype == "float32":\n        gx[n, c, a, b] = gy',
                loses=(SUMS, GEOMETRY)),
        mistake("a cell that wins several windows of different columns receives only one of their gradients: they must "
                "add up", "np.add.at(gx, (n, c, a, b), gy)",
                "for k in range(gy.shape[2]):\n"
                "        gx[n, c, a[:, :, k : k + 1], b[:, :, k : k + 1]] += gy[:, :, k : k + 1]",
                loses=(SUMS, GEOMETRY)),
        mistake("the sums of the first call are kept: a later call with the same shapes adds to them",
                "gx = np.zeros(x_shape, gy.dtype)",
                "gx = max_pool2d_grad.__dict__.setdefault((x_shape, gy.shape, gy.dtype.str, kernel_size, padding, "
                "stride, dilation), np.zeros(x_shape, gy.dtype))", loses=SUMS),
        mistake("the sums are computed in float32: float64 must stay float64", "gx = np.zeros(x_shape, gy.dtype)",
                'gx = np.zeros(x_shape, "float32")', "return gx", "return gx.astype(gy.dtype)", loses=ALL_BACK),
        mistake("the padding is taken into account only if both paddings are larger than 0",
                "    gx = np.zeros(x_shape, gy.dtype)",
                "    gx = np.zeros(x_shape, gy.dtype)\n    padding = padding if all(padding) else (0, 0)",
                loses=GEOMETRY),
        mistake("the dilation along H is also used along W", "dilation[1] * (index", "dilation[0] * (index",
                loses=GEOMETRY),
        mistake("it changes its argument gy in place", "    gx = np.zeros(x_shape, gy.dtype)",
                "    gy *= 1 + 1e-7\n    gx = np.zeros(x_shape, gy.dtype)", loses=ALL_BACK),
        instead("every cell of the window receives the gradient: only the winner should", """# Task 3.3
def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    gx = np.zeros(x_shape, gy.dtype)
    for n, c, i, j in np.ndindex(gy.shape):
        for u, v in np.ndindex(*kernel_size):
            a, b = stride[0] * i - padding[0] + dilation[0] * u, stride[1] * j - padding[1] + dilation[1] * v
            if 0 <= a < x_shape[2] and 0 <= b < x_shape[3]:
                gx[n, c, a, b] += gy[n, c, i, j]
    return gx""", loses=ALL_BACK),
        mistake("the gradient is divided by the number of cells in the window: the winner must receive all of it",
                "(n, c, a, b), gy)",
                "(n, c, a, b), gy / (kernel_size[0] * kernel_size[1]))", loses=ALL_BACK),
    ],
    cheats=[
        instead("calls the backward of the library's operation", """# Task 3.3
def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    node = mf.ops.pool.MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode)
    node.save(index, x_shape)
    return node.backward(gy)""", loses=ALL_BACK),
    ],
    styles=[
        instead("loops", """# Task 3.3
def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    gx = np.zeros(x_shape)
    N, C, OH, OW = gy.shape
    for n in range(N):
        for c in range(C):
            for i in range(OH):
                for j in range(OW):
                    u, v = divmod(int(index[n, c, i, j]), kernel_size[1])
                    row = i * stride[0] - padding[0] + u * dilation[0]
                    column = j * stride[1] - padding[1] + v * dilation[1]
                    gx[n, c, row, column] += gy[n, c, i, j]
    return gx.astype(gy.dtype)"""),
        instead("tap by tap, slices of a padded gradient", """# Task 3.3
def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    reach = [p + n + s * m for n, m, s, p in zip(x_shape[2:], gy.shape[2:], stride, padding)]
    wide = np.zeros((*x_shape[:2], reach[0] + 9, reach[1] + 9), gy.dtype)
    for tap in range(kernel_size[0] * kernel_size[1]):
        u, v = tap // kernel_size[1] * dilation[0], tap % kernel_size[1] * dilation[1]
        rows = slice(u, u + stride[0] * gy.shape[2], stride[0])
        columns = slice(v, v + stride[1] * gy.shape[3], stride[1])
        wide[:, :, rows, columns] += np.where(index == tap, gy, 0)
    return wide[:, :, padding[0] :, padding[1] :][:, :, : x_shape[2], : x_shape[3]]"""),
        instead("np.bincount on flat places", """# Task 3.3
def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    N, C, H, W = x_shape
    u, v = np.divmod(index.astype(int), kernel_size[1])
    rows = np.arange(gy.shape[2])[:, None] * stride[0] - padding[0] + u * dilation[0]
    columns = np.arange(gy.shape[3]) * stride[1] - padding[1] + v * dilation[1]
    image = np.arange(N * C).reshape(N, C, 1, 1)
    flat = ((image * H + rows) * W + columns).ravel()
    return np.bincount(flat, gy.ravel(), N * C * H * W).reshape(x_shape).astype(gy.dtype)"""),
    ],
)  # fmt: skip


# 3.4 -----------------------------------------------------------------------------------------------------------------


def stamped(x, w, stride):
    """The right result of task 3.4, computed by the library's transposed convolution."""
    y = mf.ops.conv_transpose2d(mf.Tensor(x[None, None]), mf.Tensor(w[None, None]), stride=stride)
    return y.data[0, 0]


def stamps(rows, overlap):
    """Cases from rows (label, shape of x, shape of w, stride), and random ones; `overlap`: whether copies overlap."""

    def more(rng):
        for kind in 2 * draws.KINDS:
            x, w = draws.uneven(rng, 1, 4), draws.uneven(rng, 2 if overlap else 1, 4)
            stride = tuple(max(1, k + int(by)) for k, by in zip(w, rng.integers(*((-3, 0) if overlap else (0, 3)), 2)))
            yield f"{x[0]}×{x[1]} cells, a {w[0]}×{w[1]} filter, stride {stride}, {kind}", x, w, stride

    def arguments(rng, label, x, w, stride):
        return draws.array(rng, x, label), draws.array(rng, w, label), stride

    def draw(rng):
        for row in (*rows, *more(rng)):
            if row[0].startswith("two calls"):
                yield Case(row[0], arguments(rng, *row), arguments(rng, *row), probe="twice", rtol=CLOSE)
            else:
                yield Case(row[0], *arguments(rng, *row), rtol=CLOSE)

    return draw


def coarse_scores(rng):
    """Cases with the coarse scores of an FCN-32s; the output of its last layer is right."""
    with mf.shapes_only():  # so that nothing is drawn from the framework's generator, which other threads use
        model = mf.models.fcn32s_mini(num_classes=2, width=0.125)
    for p in model.parameters():
        p.data = rng.standard_normal(p.shape).astype("float32")
    upscore = model.heads[""].upscore.weight
    upscore.data = mf.nn.init.bilinear(upscore.shape)
    model.eval()
    with mf.trace() as t:
        model(mf.Tensor(rng.standard_normal((1, 3, 64, 96)).astype("float32")))
    x, w, y = t["score_fr"].y[0], upscore.data, t["upscore"].y[0]
    for c in (0, 1):
        yield Case(f"the scores of class {c} of an FCN-32s", x[c], w[c, 0], (32, 32), judge=close_to(y[c], rtol=1e-5))


FAR, ADDING = "copies that lie apart", "copies that overlap"

UPSAMPLE = Task(
    "3.4", "upsample", library=stamped, forbidden=("conv2d_grad_input", "col2im"),
    checks=[
        Check(FAR, 1, stamps([
            ("a single cell", (1, 1), (2, 3), (2, 2)),
            ("2×3 cells, a filter as large as the stride", (2, 3), (2, 3), (2, 3)),
            ("a stride larger than the filter: zeros between the copies", (3, 2), (1, 2), (3, 4)),
            ("float32", (2, 2), (2, 2), (2, 2)),
        ], overlap=False)),
        Check(ADDING, 1, stamps([
            ("a 4×4 filter, stride 2", (3, 4), (4, 4), (2, 2)),
            ("a 3×5 filter, stride (2, 1)", (3, 2), (3, 5), (2, 1)),
            ("stride 1", (2, 3), (3, 3), (1, 1)),
            ("two calls with the same shapes, other numbers", (2, 3), (3, 3), (2, 2)),
        ], overlap=True)),
        Check(NET, 1, coarse_scores),
    ],
    mistakes=[
        mistake("where copies overlap, one replaces the other: they must add up", "+= x[i, j] * w", "= x[i, j] * w",
                loses=(ADDING, NET)),
        mistake("the copies of the filter are flipped: do not flip them", "x[i, j] * w", "x[i, j] * w[::-1, ::-1]",
                loses=(FAR, ADDING)),
        mistake("the length of the result is s·n: the last copy begins at s(n − 1) and has length k, so it should be "
                "s(n − 1) + k",
                "return y", "return y[: sh * H, : sw * W]", loses=(FAR, ADDING, NET)),
        mistake("the stride along H is also used along W", "(sh, sw) = x.shape, w.shape, stride",
                "(sh, sw) = x.shape, w.shape, (stride[0], stride[0])", loses=(FAR, ADDING)),
        mistake("the copies begin one cell apart: the stride is ignored",
                "y[sh * i : sh * i + kh, sw * j : sw * j + kw]",
                "y[i : i + kh, j : j + kw]", loses=(FAR, ADDING, NET)),
        mistake("overlapping copies are averaged: they must add up", "return y", """hits = np.zeros(y.shape)
    for i in range(H):
        for j in range(W):
            hits[sh * i : sh * i + kh, sw * j : sw * j + kw] += 1
    return (y / np.maximum(hits, 1)).astype(y.dtype)""", loses=(ADDING, NET)),
        mistake("the result is always float64: it should have the dtype of the input", ", x.dtype)", ")",
                loses=(FAR, ADDING, NET)),
        mistake("in float32, where copies overlap, one replaces the other: they must add up", "    return y",
                '    if x.dtype == "float32":\n        y[...] = 0\n        for i in range(H):\n            for j in '
                'range(W):\n'
                "                y[sh * i : sh * i + kh, sw * j : sw * j + kw] = x[i, j] * w\n    return y",
                loses=(ADDING, NET)),
        mistake("the sums of the first call are kept: a later call with the same shapes adds to them",
                "y = np.zeros(", "y = upsample.__dict__.setdefault((x.shape, w.shape, stride, x.dtype.str), np.zeros(",
                ", x.dtype)", ", x.dtype))", loses=(ADDING, NET)),
        mistake("the sums are computed in float32: float64 must stay float64", "    return y",
                "    return np.float32(y).astype(x.dtype)", loses=(FAR, ADDING)),
        mistake("the last row of copies is missing", "for i in range(H):", "for i in range(max(H - 1, 1)):",
                loses=(FAR, ADDING, NET)),
        mistake("only the positive cells are copied: negative numbers count, too", "x[i, j] * w", "max(x[i, j], 0) * w",
                loses=(FAR, ADDING, NET)),
        mistake("it changes its input in place", "    y = np.zeros(",
                "    x *= x.dtype.type(1 + 1e-5)\n    y = np.zeros(",
                loses=(FAR, ADDING, NET)),
    ],
    cheats=[
        instead("calls the library's transposed convolution", """# Task 3.4
def upsample(x, w, stride):
    return mf.ops.conv_transpose2d(mf.Tensor(x[None, None]), mf.Tensor(w[None, None]), stride=stride).data[0, 0]""",
                loses=(FAR, ADDING, NET)),
        instead("repeats cells with np.kron, which passes the first visible check", """# Task 3.4
def upsample(x, w, stride):
    return np.kron(x, w)""", loses=(FAR, ADDING, NET)),
    ],
    styles=[
        instead("tap by tap, all copies at once", """# Task 3.4
def upsample(x, w, stride):
    size = [s * (n - 1) + k for s, n, k in zip(stride, x.shape, w.shape)]
    y = np.zeros(size, x.dtype)
    for u in range(w.shape[0]):
        for v in range(w.shape[1]):
            rows = u + stride[0] * np.arange(x.shape[0])
            columns = v + stride[1] * np.arange(x.shape[1])
            y[np.ix_(rows, columns)] += w[u, v] * x
    return y"""),
        instead("zeros between the cells, then a convolution with the flipped filter", """# Task 3.4
def upsample(x, w, stride):
    (kh, kw), (sh, sw) = w.shape, stride
    wide = np.zeros((sh * (len(x) - 1) + 2 * kh - 1, sw * (x.shape[1] - 1) + 2 * kw - 1), x.dtype)
    wide[kh - 1 : len(wide) - kh + 1 : sh, kw - 1 : wide.shape[1] - kw + 1 : sw] = x
    windows = np.lib.stride_tricks.sliding_window_view(wide, (kh, kw))
    return np.einsum("ijuv,uv->ij", windows, w[::-1, ::-1])"""),
        instead("four loops", """# Task 3.4
def upsample(x, w, stride):
    y = np.zeros((stride[0] * (x.shape[0] - 1) + w.shape[0], stride[1] * (x.shape[1] - 1) + w.shape[1]))
    for u, v in np.ndindex(*w.shape):
        for i, j in np.ndindex(*x.shape):
            y[stride[0] * i + u, stride[1] * j + v] += w[u, v] * x[i, j]
    return y.astype(x.dtype)"""),
    ],
)  # fmt: skip


# 3.5 -----------------------------------------------------------------------------------------------------------------


def transposed(rows, back=False, plain=False):
    """Cases from rows (label, parameters, shapes of x, of w and optionally of b), and random ones.

    `back`: gradients, too; `plain`: random ones without output_padding, groups and bias.
    """

    def more(rng):
        for kind in 2 * draws.KINDS:
            _, kernel, stride, padding, dilation = draws.window(rng, lambda kernel: kernel - 1)
            size = tuple(map(int, rng.integers(2, 5, 2)))
            parameters = dict(stride=stride, padding=padding, dilation=dilation)
            groups, inputs, outputs = map(int, rng.integers((1, 1, 1), (2 if plain else 4, 3, 3)))
            shapes = [(2, groups * inputs, *size), (groups * inputs, outputs, *kernel)]
            if not plain:
                extra = tuple(int(rng.integers(0, s)) for s in stride)  # less than the stride, or the size is ambiguous
                parameters |= dict(groups=groups, output_padding=extra)
                shapes += [(groups * outputs,)] * int(rng.integers(2))
            said = [f"stride {stride}, padding {padding}, dilation {dilation}"]
            said += [] if plain else [f"in {groups} groups, output_padding {extra}"]
            said = ", ".join([*said, *(["with a bias"] if len(shapes) > 2 else []), kind])
            yield f"{size[0]}×{size[1]} cells, a {kernel[0]}×{kernel[1]} filter, {said}", parameters, *shapes

    def draw(rng):
        for label, parameters, *shapes in (*rows, *more(rng)):
            arrays = [draws.array(rng, shape, label) for shape in shapes]
            if not back:
                yield Case(label, parameters, arrays, probe="forward", rtol=CLOSE)
                continue
            y = mf.ops.conv_transpose2d(*map(mf.Tensor, arrays), **parameters)
            gy = rng.standard_normal(y.shape).astype(arrays[0].dtype)
            yield Case(label, parameters, arrays, gy, probe="function", rtol=CLOSE)
        if back:
            two = ([rng.standard_normal(s) for s in ((1, 2, 3, 3), (2, 1, 2, 2), (1,))] for _ in range(2))
            yield Case("two nodes with the same shapes, other numbers", dict(stride=2), *two,
                       rng.standard_normal((1, 1, 6, 6)), probe="two_nodes", rtol=CLOSE)  # fmt: skip

    return draw


TRANSPOSED = [
    ("stride 2", dict(stride=2), (1, 2, 3, 4), (2, 3, 2, 2)),
    ("two images, stride (2, 3), a 3×4 filter", dict(stride=(2, 3)), (2, 1, 2, 3), (1, 2, 3, 4)),
    ("stride 2, padding (1, 0)", dict(stride=2, padding=(1, 0)), (1, 2, 4, 3), (2, 1, 4, 3)),
    ("dilation (1, 2)", dict(stride=(2, 1), dilation=(1, 2)), (1, 1, 3, 4), (1, 2, 3, 3)),
    ("float32", dict(), (1, 2, 3, 3), (2, 2, 3, 3)),
]
MORE = [
    ("output_padding (1, 0)", dict(stride=2, output_padding=(1, 0)), (1, 2, 3, 4), (2, 1, 3, 3)),
    ("output_padding 2, padding 1, stride 3", dict(stride=3, padding=1, output_padding=2), (1, 1, 2, 3), (1, 2, 3, 3)),
    ("two groups", dict(stride=2, groups=2), (1, 4, 2, 3), (4, 3, 2, 2)),
    ("one filter per channel", dict(stride=2, groups=3), (2, 3, 2, 2), (3, 1, 4, 4)),
    ("with a bias", dict(stride=2), (2, 2, 2, 3), (2, 3, 2, 2), (3,)),
    ("with a bias, float32", dict(stride=2), (2, 2, 2, 3), (2, 3, 2, 2), (3,)),
    ("with a bias, as many images as channels, rows and columns", dict(padding=1), (3, 3, 3, 3), (3, 3, 3, 3), (3,)),
]
BOTH = [*TRANSPOSED[1:4], *MORE, ("y as large as x", dict(padding=1), (2, 2, 4, 4), (2, 2, 3, 3))]
FORWARD, OPTIONS, GRADIENTS = "forward, and the size", "output_padding, groups and bias", "gradients"
ALL_TRANSPOSED = (FORWARD, OPTIONS, GRADIENTS, NET)

CONV_TRANSPOSE = Task(
    "3.5", "ConvTranspose2d", library="ops.conv.ConvTranspose2d",
    forbidden=("ops.conv.ConvTranspose2d.forward", "ops.conv.ConvTranspose2d.backward"),
    checks=[
        Check(FORWARD, 1, transposed(TRANSPOSED, plain=True)),
        Check(OPTIONS, 1, transposed(MORE)),
        Check(GRADIENTS, 1, transposed(BOTH, back=True)),
        Check(NET, 1, in_fcn("ConvTranspose2d")),
    ],
    mistakes=[
        mistake("output_padding is ignored", " + extra)", ")", loses=(OPTIONS, GRADIENTS)),
        mistake("the padding makes the output larger: it should be smaller by 2p", "+ 1 - 2 * p", "+ 1 + 2 * p",
                loses=(FORWARD, OPTIONS, GRADIENTS)),
        mistake("the padding is removed on one side only: the output should be smaller by 2p", "+ 1 - 2 * p", "+ 1 - p",
                loses=(FORWARD, OPTIONS, GRADIENTS)),
        mistake("the length of the output is s·n: it should be s(n − 1) + k_d − 2p",
                "s * (n - 1) + d * (k - 1) + 1 - 2 * p", "s * n",
                loses=ALL_TRANSPOSED),
        mistake("the dilation is missing from the size", "d * (k - 1)", "(k - 1)", loses=(FORWARD, OPTIONS, GRADIENTS)),
        mistake("y has only the channels of one group: multiply w.shape[1] by groups",
                "w.shape[1] * self.groups",
                "w.shape[1]", loses=(OPTIONS, GRADIENTS, NET)),
        mistake("the bias is not added", "return y if b is None else y + b[:, None, None]", "return y",
                loses=(OPTIONS, GRADIENTS)),
        mistake("the bias is added along W: it should be added along the channels", "b[:, None, None]",
                "b[None, :, None, None][0, :, 0]",
                loses=(OPTIONS, GRADIENTS)),
        mistake("for the gradient of w, x and gy are swapped: A's input is gy, and the gradient of A's output is x",
                "conv2d_grad_weight(x, gy,", "conv2d_grad_weight(gy, x,", loses=(GRADIENTS, NET)),
        mistake("the gradient of x is computed with Aᵀ: it should be A gy, a convolution",
                "gx = mf.kernels.conv2d(gy, w, *where)", "gx = mf.kernels.conv2d_grad_input(gy, w, x.shape, *where)",
                loses=(GRADIENTS, NET)),
        mistake("the gradients are in the wrong order: return that of x first", "else (gx, gw)", "else (gw, gx)",
                "(gx, gw, gy.sum", "(gw, gx, gy.sum", loses=(GRADIENTS, NET)),
        mistake("the gradient of the bias is a mean: it should be the sum over images and cells", "gy.sum(axis",
                "gy.mean(axis",
                loses=GRADIENTS),
        mistake("the gradient of w is missing", "return (gx, gw, gy.sum(axis=(0, 2, 3))) if biased else (gx, gw)",
                "return (gx, None, gy.sum(axis=(0, 2, 3))) if biased else (gx, None)", loses=GRADIENTS),
        mistake("it changes its input x in place", "self.save(x, w, b is not None)",
                "self.save(x, w, b is not None)\n        x *= 1 + 1e-9", loses=ALL_TRANSPOSED),
        mistake("the bias makes the result float64: it should have the dtype of the input", "y + b[:, None, None]",
                "y + b[:, None, None].astype(float)", loses=(OPTIONS, GRADIENTS)),
        mistake("the bias is added along H if there are as many rows as channels: it should be added along the "
                "channels", "y + b[:, None, None]",
                "y + (b[:, None] if len(b) == y.shape[2] else b[:, None, None])", loses=(OPTIONS, GRADIENTS)),
        mistake("the gradient of the bias is summed over the rows and columns of the first image only",
                "gy.sum(axis=(0, 2, 3))", "gy[0].sum(axis=(1, 2))", loses=GRADIENTS),
        mistake("what forward saves is shared by all nodes of the class: save it in the node",
                "self.save(x, w, b is not None)",
                "ConvTranspose2d.kept = x, w, b is not None", "x, w, biased = self.saved",
                "x, w, biased = ConvTranspose2d.kept", loses=(GRADIENTS, NET)),
        mistake("the padding along H is also used along W",
                "self.stride, self.padding, self.dilation, self.output_padding",
                "self.stride, (self.padding[0],) * 2, self.dilation, self.output_padding",
                loses=(FORWARD, OPTIONS, GRADIENTS)),
        mistake("output_padding along H is also used along W", "self.dilation, self.output_padding\n",
                "self.dilation, (self.output_padding[0],) * 2\n", loses=(OPTIONS, GRADIENTS)),
        mistake("the backward pass ignores the dilation", "where = self.stride, self.padding, self.dilation,",
                "where = self.stride, self.padding, (1, 1),", loses=GRADIENTS),
        mistake("the backward pass ignores the groups", "self.dilation, self.groups\n        gx",
                "self.dilation, 1\n        gx",
                loses=(GRADIENTS, NET)),
        mistake("the sums are computed in float32: float64 must stay float64", "conv2d_grad_input(x, w,",
                "conv2d_grad_input(np.float32(x).astype(x.dtype), w,", loses=ALL_TRANSPOSED),
        mistake("the backward pass ignores the padding", "where = self.stride, self.padding,",
                "where = self.stride, (0, 0),",
                loses=GRADIENTS),
    ],
    cheats=[
        instead("inherits from the library's class", """# Task 3.5
class ConvTranspose2d(mf.ops.conv.ConvTranspose2d):
    pass""", loses=ALL_TRANSPOSED),
        instead("calls the library's operation and its backward", """# Task 3.5
class ConvTranspose2d(mf.Function):
    def __init__(self, **parameters):
        self.options = parameters

    def forward(self, *arrays):
        self.save(*[mf.Tensor(a, requires_grad=True) for a in arrays])
        self.y = mf.ops.conv_transpose2d(*self.saved, **self.options)
        return self.y.data

    def backward(self, gy):
        self.y.backward(gy)
        return tuple(t.grad for t in self.saved)""", loses=ALL_TRANSPOSED),
    ],
    styles=[
        instead("with columns: Wᵀx and col2im; im2col and a matrix product", """# Task 3.5
class ConvTranspose2d(mf.Function):
    def __init__(self, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        self.stride, self.padding, self.dilation = pair(stride), pair(padding), pair(dilation)
        self.more, self.groups = pair(output_padding), groups

    def locate(self, axis, place):
        return place.spread(self.in_shapes[1][axis + 2], self.stride[axis], self.padding[axis], self.dilation[axis])

    def forward(self, x, w, b=None):
        G, (N, C, H, W) = self.groups, x.shape
        self.kept = x, w, b
        h, w_ = (
            self.stride[a] * (x.shape[a + 2] - 1) + self.dilation[a] * (w.shape[a + 2] - 1) + 1 - 2 * self.padding[a]
            + self.more[a]
            for a in (0, 1)
        )
        rows = w.reshape(G, C // G, -1).transpose(0, 2, 1)
        cols = (rows @ x.reshape(N, G, C // G, -1)).reshape(N, -1, H * W)
        self.window = w.shape[2:], self.stride, self.padding, self.dilation
        y = mf.kernels.col2im(cols, (N, w.shape[1] * G, h, w_), *self.window)
        return y if b is None else y + b.reshape(1, -1, 1, 1)

    def backward(self, gy):
        (x, w, b), G = self.kept, self.groups
        cols = mf.kernels.im2col(gy, *self.window).reshape(len(gy), G, -1, x[0, 0].size)
        rows, cells = w.reshape(G, len(w) // G, -1), x.reshape(len(x), G, len(w) // G, -1)
        gx = (rows @ cols).reshape(x.shape)
        gw = np.einsum("ngci,ngki->gck", cells, cols).reshape(w.shape)
        return (gx, gw) if b is None else (gx, gw, gy.sum(3).sum(2).sum(0))"""),
        instead("the gradient of a convolution, computed by the framework", """# Task 3.5
class ConvTranspose2d(mf.Function):
    def __init__(self, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        self.options = dict(stride=pair(stride), padding=pair(padding), dilation=pair(dilation), groups=groups)
        self.more = pair(output_padding)

    def locate(self, axis, place):
        o = self.options
        return place.spread(self.in_shapes[1][axis + 2], o["stride"][axis], o["padding"][axis], o["dilation"][axis])

    def forward(self, x, w, b=None):
        self.save(x, w)
        self.biased, o = b is not None, self.options
        size = [
            (n - 1) * s - 2 * p + d * (k - 1) + m + 1
            for n, s, p, d, k, m in zip(x.shape[2:], o["stride"], o["padding"], o["dilation"], w.shape[2:], self.more)
        ]
        z = mf.Tensor(np.zeros((len(x), w.shape[1] * o["groups"], *size), x.dtype), requires_grad=True)
        mf.ops.conv2d(z, mf.Tensor(w), **o).backward(x)
        return z.grad if b is None else z.grad + b[:, None, None]

    def backward(self, gy):
        x, w = self.saved
        a, v = mf.Tensor(gy), mf.Tensor(w, requires_grad=True)
        y = mf.ops.conv2d(a, v, **self.options)
        y.backward(x)
        grads = y.data, v.grad, gy.sum(axis=(0, 2, 3))
        return grads[: 2 + self.biased]"""),
    ],
)  # fmt: skip


# 3.6 -----------------------------------------------------------------------------------------------------------------


def filters(*rows):
    def draw(rng):
        for shape in rows:
            yield Case(f"shape {shape}", shape)

    return draw


def upsampled(rng):
    image, labels = scene(rng)
    for factor in (2, 8):
        label = f"an FCN whose last layer upsamples {factor}-fold"
        yield Case(label, factor, image, labels, factor, probe="upsampling", rtol=1e-4)


EVEN, ODD, DIAGONAL = "even filters", "odd filters", "channels stay apart"
ALL_FILTERS = (EVEN, ODD, DIAGONAL, NET)

BILINEAR = Task(
    "3.6", "bilinear", library="nn.init.bilinear", forbidden=("nn.init.bilinear", "nn.init.bilinear_filter"),
    checks=[
        Check(EVEN, 1, filters((1, 1, 2, 2), (1, 1, 4, 4), (1, 1, 6, 6), (1, 1, 16, 16))),
        Check(ODD, 1, filters((1, 1, 1, 1), (1, 1, 3, 3), (1, 1, 5, 5), (1, 1, 7, 7), (1, 1, 11, 11))),
        Check(DIAGONAL, 1, filters((3, 1, 4, 4), (3, 3, 4, 4), (2, 2, 6, 6), (5, 1, 5, 5), (4, 4, 4, 4), (3, 3, 3, 3),
                                   (21, 1, 2, 2), (1, 1, 8, 8))),
        Check(NET, 1, upsampled),
    ],
    mistakes=[
        mistake("the filter is at all pairs of channels, which adds up all classes: put it on the diagonal only",
                "w[c, c % inputs] = line", "w[c] = line", loses=DIAGONAL),
        mistake("only the first channel has a filter", "w[c, c % inputs] = line", "w[0, 0] = line",
                loses=(DIAGONAL, NET)),
        mistake("odd filters are not symmetric: the centre should be F − 1", "factor - 1 if k % 2 else factor - 0.5",
                "factor - 0.5",
                loses=(ODD, DIAGONAL)),
        mistake("even filters are not symmetric: the centre should be F − ½, between two cells",
                "factor - 1 if k % 2 else factor - 0.5", "factor - 1", loses=(EVEN, DIAGONAL, NET)),
        mistake("F is rounded down: it should be ⌈k/2⌉", "(k + 1) // 2", "max(k // 2, 1)",
                "factor - 1 if k % 2 else factor - 0.5", "(k - 1) / 2", loses=(ODD, DIAGONAL)),
        mistake("the filter is divided by its sum: the copies should add up to 1 at every pixel, so its sum should "
                "be F²",
                "    return w", "    return w / w[0, 0].sum()", loses=ALL_FILTERS),
        mistake("the filter is on the diagonal also if there is one input channel: then every channel has it at [c, 0]",
                "w[c, c % inputs] = line", "if c < inputs:\n            w[c, c] = line", loses=(DIAGONAL, NET)),
        mistake("the filter of the last channel is missing", "for c in range(C):", "for c in range(max(C - 1, 1)):",
                loses=(DIAGONAL, NET)),
        mistake("the filters of all channels but the first are smaller: all are equal", "w[c, c % inputs] = line",
                "w[c, c % inputs] = line[:, None] * line * (1 if c == 0 else 0.5)\n        continue\n        w[c] = "
                "line",
                loses=(DIAGONAL, NET)),
        mistake("even filters have the centre of odd ones if their size is a multiple of 6", "    line = 1",
                "    centre = factor - 1 if k % 6 == 0 else centre\n    line = 1", loses=(EVEN, DIAGONAL)),
        mistake("the weights are float64: they should be float32", '"float32"', '"float64"', loses=ALL_FILTERS),
        mistake("the filter is a pyramid (the minimum of two triangles): it should be their product",
                "line[:, None] * line",
                "np.minimum(line[:, None], line)", loses=ALL_FILTERS),
        mistake("the filter is zero at its outermost cells: it should fall to zero at the neighbour, F cells from "
                "the centre",
                "1 - abs(np.arange(k) - centre) / factor", "1 - abs(np.arange(k) - centre) / max(centre, 1)",
                loses=ALL_FILTERS),
    ],
    cheats=[
        instead("copies the weights of a model", """# Task 3.6
def bilinear(shape):
    model = mf.models.fcn32s_mini(num_classes=shape[0])
    return model.heads[""].upscore.weight.data[:, :, : shape[2], : shape[3]]""", loses=ALL_FILTERS),
        instead("returns the results of the visible checks", """# Task 3.6
def bilinear(shape):
    line = {4: [0.25, 0.75, 0.75, 0.25], 5: [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]}[shape[2]]
    w = np.zeros(shape, "float32")
    w[range(shape[0]), [c % shape[1] for c in range(shape[0])]] = np.outer(line, line)
    return w""", loses=ALL_FILTERS),
    ],
    styles=[
        instead("four loops, the centre as (k − 1)/2", """# Task 3.6
def bilinear(shape):
    C, D, k, _ = shape
    F = -(-k // 2)
    w = np.zeros(shape)
    for c in range(C):
        for d in range(D):
            for u in range(k):
                for v in range(k):
                    if D == 1 or c == d:
                        w[c, d, u, v] = (1 - abs(u - (k - 1) / 2) / F) * (1 - abs(v - (k - 1) / 2) / F)
    return w.astype(np.float32)"""),
        instead("a box convolved with a box", """# Task 3.6
def bilinear(shape):
    k = shape[2]
    if k % 2:
        box = np.ones((k + 1) // 2)
        line = np.convolve(box, box) / len(box)
    else:
        line = np.convolve(np.convolve(np.ones(k // 2), np.ones(k // 2)), [0.5, 0.5]) / (k // 2)
    grid = np.multiply.outer(line, line).astype("float32")
    rows = [[grid * (c == d or shape[1] == 1) for d in range(shape[1])] for c in range(shape[0])]
    return np.array(rows)"""),
    ],
)  # fmt: skip

TASKS = [POOL_SIZE, MAX_POOL, MAX_POOL_GRAD, UPSAMPLE, CONV_TRANSPOSE, BILINEAR]
