"""Hidden tests of A7: two kernels in CUDA C++, compiled for the CPU and called like the library's own."""

import numpy as np

import minifcn as mf
from minifcn.course.tasks import Case, Check, Task, instead, mistake

ONE = (1, 1)
PLAIN = {  # x, then kernel_size, stride, padding, dilation, ceil_mode
    "one map, windows side by side": ((1, 1, 4, 4), (2, 2), (2, 2), (0, 0), ONE, False),
    "two images of three channels, 4×6": ((2, 3, 4, 6), (2, 2), (2, 2), (0, 0), ONE, False),
    "3×3 windows that overlap": ((1, 2, 6, 5), (3, 3), (1, 1), (0, 0), ONE, False),
}
PLACED = {
    "stride (2, 1)": ((1, 2, 6, 7), (3, 3), (2, 1), (0, 0), ONE, False),
    "a 3×2 window": ((2, 1, 5, 6), (3, 2), (1, 2), (0, 0), ONE, False),
    "padding (1, 0)": ((1, 2, 5, 6), (2, 2), (2, 2), (1, 0), ONE, False),
    "padding (0, 1), a 2×3 window": ((1, 2, 5, 6), (2, 3), (1, 2), (0, 1), ONE, False),
    "windows that reach beyond the end": ((2, 2, 5, 8), (3, 3), (2, 2), (0, 0), ONE, True),
    "windows with gaps between them": ((1, 1, 7, 8), (2, 2), (3, 3), (0, 0), ONE, False),
}
MANY = {"1120 cells and more": ((2, 5, 15, 17), (3, 2), (1, 2), (1, 1), ONE, True)}


def numbers(rng, shape, tied):
    """Negative float32 numbers; if `tied`, only three values, so that several maxima are equal."""
    return (-rng.integers(1, 4, shape) if tied else -abs(rng.standard_normal(shape))).astype("float32")


def pooled(cases, probe="call"):
    def draw(rng):
        for label, (shape, *where) in cases.items():
            for tied in (False, True) if cases is PLAIN else (False,):
                also = ", equal numbers in a window" if tied else ""
                yield Case(label + also, numbers(rng, shape, tied), *where, probe=probe)

    return draw


def gradients(cases, probe="call"):
    def draw(rng):
        for label, (shape, *where) in cases.items():
            x = rng.permutation(np.prod(shape)).reshape(shape).astype("float32")
            y, index = mf.kernels.textbook.max_pool2d(x, *where)
            yield Case(label, rng.standard_normal(y.shape).astype("float32"), index, shape, *where, probe=probe)

    return draw


def in_fcn(kernel):
    def cases(rng):
        labels = rng.integers(0, 3, (1, 24, 32))
        image = rng.standard_normal((1, 3, 24, 32))
        yield Case(f"an FCN-8s with your {kernel}", kernel, image, labels, 1, probe="network", rtol=1e-3)

    return cases


WINDOWS, WHERE, ORDERS, NET = ALL = ("plain windows", "stride, padding, rectangles", "in every order", "in a network")


def checks(kernel, draw):
    return [
        Check(WINDOWS, 1, draw(PLAIN)),
        Check(WHERE, 1, draw(PLACED)),
        Check(ORDERS, 1, draw(MANY, "in_every_order")),
        Check(NET, 1, in_fcn(kernel)),
    ]


SIZES = "int total, int H, int W, int OH, int OW, int kh, int kw, int sh, int sw, int ph, int pw"
KERNEL = 'extern "C" __global__ void '
FIRST = KERNEL + f"max_pool2d(const float* x, float* y, unsigned char* index, {SIZES}) {{"
SECOND = KERNEL + f"max_pool2d_grad(const float* gy, const unsigned char* index, float* gx, {SIZES}) {{"
THREAD = "\n    int e = blockIdx.x * blockDim.x + threadIdx.x;\n    if (e >= total) return;\n"


def forward(body, before=""):
    """The cell of task 7.1 with this kernel body."""
    return f'# Task 7.1\ndef max_pool2d_source():\n    return r"""\n{before}\n{FIRST}{THREAD}{body}\n}}\n"""\n'


def backward(body, before=""):
    return f'# Task 7.2\ndef max_pool2d_grad_source():\n    return r"""\n{before}\n{SECOND}{THREAD}{body}\n}}\n"""\n'


POOL = Task(
    "7.1", "max_pool2d_source", library="max_pool2d", forbidden=("max_pool2d",), cuda=True,
    checks=checks("max_pool2d", pooled),
    mistakes=[
        mistake("the last of equal maxima is taken, not the first", "value > best", "value >= best",
                loses=WINDOWS),
        mistake("the search begins with 0: the maximum of a window of negative numbers is negative", "int at = -1;",
                "int at = 0;", "at < 0 || ", "", loses=(WINDOWS, WHERE, ORDERS)),
        mistake("threads beyond the last element also write: the last block may have more threads than elements",
                "if (e >= total) return;", "", loses=ORDERS),
        mistake("one thread loops over all cells: each cell needs a thread of its own", "if (e >= total) return;",
                "if (e) return;\n    for (; e < total; ++e) {", "    index[e] = at;", "    index[e] = at;\n    }",
                loses=ORDERS),
        mistake("one thread loops over a whole map: each cell needs a thread of its own", "if (e >= total) return;",
                "if (e >= total || e % (OH * OW)) return;\n    for (int end = e + OH * OW; e < end; ++e) {",
                "    index[e] = at;", "    index[e] = at;\n    }", loses=ORDERS),
        mistake("one thread writes a row of cells: each cell needs a thread of its own", "if (e >= total) return;",
                "if (e >= total || e % OW) return;\n    for (int end = e + OW; e < end; ++e) {",
                "    index[e] = at;", "    index[e] = at;\n    }", loses=ORDERS),
        mistake("the block size is assumed to be 256: use blockDim.x", "blockDim.x", "256", loses=ORDERS),
        mistake("the stride along H is also used along W", "sw * j", "sh * j", loses=(WHERE, ORDERS)),
        mistake("the padding is ignored", " - ph", "", " - pw", "", loses=(WHERE, ORDERS)),
        mistake("the row length is H: it should be W", "map[row * W", "map[row * H",
                loses=ALL),
        mistake("the tap is numbered column by column: it should be u·kw + v", "at = u * kw + v", "at = v * kh + u",
                loses=ALL),
        mistake("the tap is numbered u·kh + v: it should be u·kw + v", "at = u * kw + v", "at = u * kh + v",
                loses=(WHERE, ORDERS)),
        mistake("taps beyond the end of the image are not skipped, only those before its beginning",
                "row >= H ||", "", " || column >= W", "", loses=(WHERE, ORDERS, NET)),
        mistake("i and j are computed in the wrong order: begin with the last axis",
                "j = e % OW, i = e / OW % OH", "i = e % OH, j = e / OH % OW", loses=ALL),
        mistake("only the first map is read: the number of the element also gives image and channel",
                "x + e / OW / OH * H * W", "x", loses=ALL),
    ],
    cheats=[
        mistake("it writes far outside its arrays", "    index[e] = at;",
                "    index[e] = at;\n    y[e + 100000] = best;", loses=ORDERS),
        mistake("one thread does everything, behind a barrier, which keeps the emulator from running it alone",
                "if (e >= total) return;", "__syncthreads();\n    if (e) return;\n    for (; e < total; ++e) {",
                "    index[e] = at;", "    index[e] = at;\n    }", loses=ALL),
        mistake("one thread does everything, unless the emulator runs it alone",
                "if (e >= total) return;",
                "int last = e + 1;\n    if (emulation::only < 0) { if (e) return; last = total; }"
                "\n    if (e >= total) return;\n    for (; e < last; ++e) {",
                "    index[e] = at;", "    index[e] = at;\n    }", loses=ALL),
        instead("returns the library's own source", """# Task 7.1
def max_pool2d_source():
    source = mf.kernels.gpu.launch.source("pool.cu")
    return source.replace("MF_REAL", "float").replace("MF_INDEX", "int")""", loses=ALL),
        instead("runs for ever", forward("    while (true) y[e] += 1;"), loses=ALL),
        instead("crashes", forward("    *(volatile float*)8 = 1;"), loses=ALL),
        instead("ends the process", forward("    _exit(0);"), loses=ALL),
        instead("includes a file of the computer in the source",
                forward("    y[e] = 0;", '#include "/etc/passwd"'), loses=ALL),
        instead("opens a file before it computes", forward("""    FILE* file = fopen("/proc/self/maps", "r");
    if (!file) return;
    int j = e % OW, i = e / OW % OH, at = -1;
    const float* map = x + e / OW / OH * H * W;
    for (int u = 0; u < kh; ++u)
        for (int v = 0; v < kw; ++v) {
            int r = sh * i - ph + u, q = sw * j - pw + v;
            if (r < 0 || r >= H || q < 0 || q >= W) continue;
            if (at < 0 || map[r * W + q] > y[e]) y[e] = map[r * W + q], at = u * kw + v;
        }
    index[e] = at;""", "#define NOTHING"), loses=ALL),
        instead("returns a Python function instead of a source", """# Task 7.1
def max_pool2d_source():
    return mf.kernels.max_pool2d""", loses=ALL),
    ],
    styles=[
        instead("clipped windows, a helper function, −∞ from its bits", forward("""    Place at = place(e, OW, OH);
    int top = at.i * sh - ph, left = at.j * sw - pw;
    float best = __int_as_float(0xff800000);
    for (int r = max(top, 0); r < min(top + kh, H); ++r)
        for (int q = max(left, 0); q < min(left + kw, W); ++q)
            if (x[(at.map * H + r) * W + q] > best) {
                best = x[(at.map * H + r) * W + q];
                index[e] = (r - top) * kw + q - left;
            }
    y[e] = best;""", """struct Place { int map, i, j; };
__device__ Place place(int e, int width, int height) {
    return {e / width / height, e / width % height, e % width};
}""")),
        instead("a loop over taps", forward("""    int j = e % OW, i = e / OW % OH, at = -1;
    const float* map = x + e / (OW * OH) * (H * W);
    float best = 0;
    for (int tap = 0; tap < kh * kw; ++tap) {
        int r = sh * i - ph + tap / kw, q = sw * j - pw + tap % kw;
        bool inside = 0 <= r && r < H && 0 <= q && q < W;
        if (inside && (at < 0 || best < map[r * W + q])) best = map[r * W + q], at = tap;
    }
    y[e] = best;
    index[e] = at;""")),
        instead("threads take the cells from the last to the first", forward("""    e = total - 1 - e;
    int j = e % OW, i = e / OW % OH, at = -1;
    const float* map = x + e / (OW * OH) * (H * W);
    for (int tap = 0; tap < kh * kw; ++tap) {
        int r = sh * i - ph + tap / kw, q = sw * j - pw + tap % kw;
        if (r < 0 || r >= H || q < 0 || q >= W) continue;
        if (at < 0 || y[e] < map[r * W + q]) y[e] = map[r * W + q], at = tap;
    }
    index[e] = at;""")),
        instead("from the last tap to the first, with >=; a loop over elements",
                '# Task 7.1\ndef max_pool2d_source():\n    return r"""\n' + FIRST + """
    for (int e = blockIdx.x * blockDim.x + threadIdx.x; e < total; e += gridDim.x * blockDim.x) {
        int map = e / (OH * OW), i = e % (OH * OW) / OW, j = e % OW, first = 0;
        float best = -1e38f;
        for (int tap = kh * kw - 1; tap >= 0; --tap) {
            int r = sh * i - ph + tap / kw, q = sw * j - pw + tap % kw;
            bool inside = r >= 0 && r < H && q >= 0 && q < W;
            float value = inside ? x[map * H * W + r * W + q] : -1e38f;
            if (inside && value >= best) { best = value; first = tap; }
        }
        y[e] = best;
        index[e] = (unsigned char)first;
    }
}
\"\"\""""),
    ],
)  # fmt: skip

GRADIENT = Task(
    "7.2", "max_pool2d_grad_source", library="max_pool2d_grad", forbidden=("max_pool2d_grad",), cuda=True,
    checks=checks("max_pool2d_grad", gradients),
    mistakes=[
        mistake("only the last of several windows with their maximum at a pixel counts: their gradients must add up",
                "sum += gy",
                "sum = gy", loses=(WINDOWS, WHERE, ORDERS)),
        mistake("every window that contains a pixel adds its gradient: only those whose maximum it was should",
                "if (index[map + i * OW + j] == u * kw + v) sum", "sum", loses=ALL),
        mistake("the stride is not checked: there is a window only where r + p − u is divisible by the stride",
                " || top % sh || left % sw", "", loses=ALL),
        mistake("i and j are not checked against OH and OW: there are only OH × OW windows",
                "if (i >= OH || j >= OW) continue;", "",
                loses=(WINDOWS, WHERE)),
        mistake("the padding is subtracted: use r + p − u",
                "r + ph - u", "r - ph - u", "q + pw - v", "q - pw - v", loses=(WHERE, ORDERS)),
        mistake("the tap is numbered column by column: it should be u·kw + v", "u * kw + v", "v * kh + u", loses=ALL),
        mistake("threads beyond the last element also write: the last block may have more threads than elements",
                "if (e >= total) return;", "", loses=ORDERS),
        mistake("the offset of a map in gy and index uses H·W: it should use OH·OW", "e / W / H * OH * OW",
                "e / W / H * H * W", loses=ALL),
        mistake("one thread loops over all pixels: each pixel needs a thread of its own", "if (e >= total) return;",
                "if (e) return;\n    for (; e < total; ++e) {", "gx[e] = sum;", "gx[e] = sum;\n    }", loses=ORDERS),
        mistake("a pixel that is no maximum is not written: memory is not initialised, so write 0",
                "gx[e] = sum;", "if (sum != 0) gx[e] = sum;", loses=ALL),
        instead("it scatters: several threads add to the same pixel, which was not set to 0 before", backward("""
    int cells = total / W / H * OH * OW;
    if (e >= cells) return;
    int j = e % OW, i = e / OW % OH, map = e / OW / OH, tap = index[e];
    gx[(map * H + sh * i - ph + tap / kw) * W + sw * j - pw + tap % kw] += gy[e];"""), loses=ALL),
        instead("it scatters, and a thread sets a pixel to 0 after other threads have added to it",
                backward("""    gx[e] = 0;
    int cells = total / W / H * OH * OW;
    if (e >= cells) return;
    int j = e % OW, i = e / OW % OH, map = e / OW / OH, tap = index[e];
    atomicAdd(&gx[(map * H + sh * i - ph + tap / kw) * W + sw * j - pw + tap % kw], gy[e]);"""), loses=ALL),
    ],
    cheats=[
        mistake("it writes far outside its arrays", "gx[e] = sum;", "gx[e] = sum;\n    gx[e + 100000] = sum;",
                loses=ORDERS),
        instead("one thread writes everything", backward("""    if (e != total - 1) return;
    for (int g = 0; g < total; ++g) gx[g] = gy[g % OW];"""), loses=ALL),
        instead("assumes that threads run in ascending order", backward("""
    if (e == 0) for (int g = 0; g < total; ++g) gx[g] = 0;
    int plane = H * W, map = e / plane;
    if (e % plane) return;
    for (int c = 0; c < OH * OW; ++c) {
        int tap = index[map * OH * OW + c], i = c / OW, j = c % OW;
        gx[map * plane + (sh * i - ph + tap / kw) * W + sw * j - pw + tap % kw] += gy[map * OH * OW + c];
    }"""), loses=ORDERS),
        instead("calls Python from C", backward("""    PyRun_SimpleString("print('all checks passed')");
    gx[e] = 0;""", 'extern "C" int PyRun_SimpleString(const char*);'), loses=ALL),
    ],
    styles=[
        instead("over the windows that contain the pixel, first to last", backward("""
    const int q = e % W, r = (e / W) % H, map = e / (W * H);
    const int i0 = max(0, (r + ph - kh + sh) / sh), i1 = min(OH - 1, (r + ph) / sh);
    const int j0 = max(0, (q + pw - kw + sw) / sw), j1 = min(OW - 1, (q + pw) / sw);
    float all = 0.f;
    for (int i = i0; i <= i1; i++)
        for (int j = j0; j <= j1; j++) {
            const int cell = (map * OH + i) * OW + j;
            const int u = r + ph - i * sh, v = q + pw - j * sw;
            all += (u >= 0 && u < kh && v >= 0 && v < kw && index[cell] == u * kw + v) ? gy[cell] : 0.f;
        }
    gx[e] = all;""")),
        instead("over all windows of the map, in double precision", backward("""    double sum = 0;
    for (int c = 0; c < OH * OW; ++c) {
        int cell = e / (H * W) * OH * OW + c, tap = index[cell];
        int r = c / OW * sh - ph + tap / kw, q = c % OW * sw - pw + tap % kw;
        if (r * W + q == e % (H * W)) sum += gy[cell];
    }
    gx[e] = (float)sum;""")),
        instead("one thread per map, which writes all of it", backward("""    if (e % (H * W)) return;
    float* own = gx + e;
    const int first = e / (H * W) * OH * OW;
    for (int p = 0; p < H * W; ++p) own[p] = 0;
    for (int c = 0; c < OH * OW; ++c) {
        int tap = index[first + c];
        own[(c / OW * sh - ph + tap / kw) * W + c % OW * sw - pw + tap % kw] += gy[first + c];
    }""")),
    ],
)  # fmt: skip

TASKS = [POOL, GRADIENT]
