"""What computes an answer in disguise is closed to the submission's answer, and open to the networks it runs in."""

import re

import pytest

from minifcn.course import disguises, guard

pytestmark = pytest.mark.course

tasks = pytest.importorskip("minifcn.course.tasks", reason="pip install 'minifcn[course]'")
from minifcn.course import judge  # noqa: E402

WAYS = {  # {(task, what): the cell}: each would be right, if the library let it
    ("1.1", "ReLU after a batch norm that changes nothing, a channel for each number and its negative"): """
class ReLU(mf.Function):
    def forward(self, x):
        v = np.stack([x.ravel(), -x.ravel()])[:, :, None, None].astype(np.float64)
        if not x.size:
            self.save(x)
            return x.copy()
        y, _ = mf.kernels.batch_norm_relu(v, abs(v[0, :, 0, 0]), np.zeros(x.size), 1e-300, np.inf)
        self.save(y[0].reshape(x.shape).astype(x.dtype))
        return self.saved[0].copy()

    def backward(self, gy):
        if not gy.size:
            return gy
        one, zero = np.ones(gy.size, gy.dtype), np.zeros(gy.size, gy.dtype)
        y, g = (a.reshape(1, -1, 1, 1) for a in (self.saved[0], gy))
        saved = zero, one, zero.reshape(1, -1, 1, 1), one, 0.0
        return mf.kernels.batch_norm_relu_grad(g, y, saved, np.inf)[2].reshape(gy.shape)""",
    ("1.1", "ReLU after a bias of zeros, a channel for each number"): """
class ReLU(mf.Function):
    def forward(self, x):
        if not x.size:
            self.save(x)
            return x.copy()
        y = mf.kernels.bias_relu(x.reshape(1, -1, 1, 1).copy(), np.zeros(x.size, x.dtype), np.inf)
        self.save(y.reshape(x.shape))
        return self.saved[0].copy()

    def backward(self, gy):
        if not gy.size:
            return gy
        y, g = (a.reshape(1, -1, 1, 1) for a in (self.saved[0], gy))
        return mf.kernels.bias_relu_grad(g, y, np.inf)[0].reshape(gy.shape)""",
    ("2.1", "im2col as a convolution with filters of one 1"): """
def im2col(x, kernel_size, stride, padding, dilation):
    size = x.shape[1] * kernel_size[0] * kernel_size[1]
    w = np.eye(size, dtype=x.dtype).reshape(size, x.shape[1], *kernel_size)
    return mf.kernels.conv2d(x, w, stride, padding, dilation, 1).reshape(len(x), size, -1)""",
    ("2.1", "im2col by the helper of the textbook's kernel"): """
def im2col(x, kernel_size, stride, padding, dilation):
    t = mf.kernels.textbook
    out = mf.kernels.shapes.conv_sizes(x.shape, kernel_size, stride, padding, dilation)
    x = t.pad_to_windows(x, kernel_size, stride, padding, dilation, out)
    return t.sliding_windows(x, kernel_size, stride, dilation, out).reshape(len(x), -1, out[0] * out[1])""",
    ("2.2", "a convolution as the gradient of the weights, images and channels exchanged"): """
def conv2d(x, w, stride, padding, dilation, groups):
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(x.shape[2:], padding, dilation, w.shape[2:], stride)]
    parts = []
    for a, b in zip(np.split(x, groups, 1), np.split(w, groups)):
        a, b = a.swapaxes(0, 1), b.swapaxes(0, 1)
        need = [s * (m - 1) + d * (k - 1) + 1 - 2 * p
                for s, m, d, k, p in zip(stride, size, dilation, b.shape[2:], padding)]
        a = a[:, :, : need[0], : need[1]]
        shape = (b.shape[1], a.shape[1], *size)
        parts.append(mf.kernels.conv2d_grad_weight(b, a, shape, dilation, padding, stride, 1).swapaxes(0, 1))
    return np.concatenate(parts, 1)""",
    ("2.2", "a convolution as the gradient of the input, with filters turned by 180 degrees"): """
def conv2d(x, w, stride, padding, dilation, groups):
    turned = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)[..., ::-1, ::-1]
    turned = np.ascontiguousarray(turned.reshape(-1, *turned.shape[2:]))
    need = [d * (k - 1) for d, k in zip(dilation, w.shape[2:])]
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    size = [n - m for n, m in zip(x.shape[2:], need)]
    y = mf.kernels.conv2d_grad_input(x, turned, (len(x), len(w), *size), (1, 1), tuple(need), dilation, groups)
    return y[:, :, :: stride[0], :: stride[1]]""",
    ("2.3", "col2im as the gradient of max pooling, tap by tap"): """
def col2im(cols, x_shape, kernel_size, stride, padding, dilation):
    out = mf.kernels.shapes.conv_sizes(x_shape, kernel_size, stride, padding, dilation)
    cols = cols.reshape(*x_shape[:2], -1, *out)
    where = kernel_size, stride, padding, dilation, False
    return sum(mf.kernels.max_pool2d_grad(cols[:, :, t], np.full((*x_shape[:2], *out), t), x_shape, *where)
               for t in range(cols.shape[2]))""",
    ("2.3", "col2im as the gradient of a convolution with filters of one 1"): """
def col2im(cols, x_shape, kernel_size, stride, padding, dilation):
    out = mf.kernels.shapes.conv_sizes(x_shape, kernel_size, stride, padding, dilation)
    size = cols.shape[1]
    w = np.eye(size, dtype=cols.dtype).reshape(size, x_shape[1], *kernel_size)
    cols = cols.reshape(len(cols), size, *out)
    return mf.kernels.conv2d_grad_input(cols, w, x_shape, stride, padding, dilation, 1)""",
    ("2.5", "the gradient of the weights, entry by entry, from the gradient of the input"): """
def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    g = np.zeros(w_shape, x.dtype)
    for at in np.ndindex(*w_shape):
        w = np.zeros(w_shape, x.dtype)
        w[at] = 1
        g[at] = (mf.kernels.conv2d_grad_input(gy, w, x.shape, stride, padding, dilation, groups) * x).sum()
    return g""",
    ("3.3", "the gradient of max pooling by col2im"): """
def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    taps = np.arange(kernel_size[0] * kernel_size[1])[:, None, None]
    cols = ((index[:, :, None] == taps) * gy[:, :, None]).astype(gy.dtype)
    need = [s * (m - 1) + d * (k - 1) + 1 for s, m, d, k in zip(stride, gy.shape[2:], dilation, kernel_size)]
    size = [max(n, h + 2 * p) for n, h, p in zip(need, x_shape[2:], padding)]
    shape = (*x_shape[:2], *size)
    out = mf.kernels.shapes.conv_sizes(shape, kernel_size, stride, (0, 0), dilation)
    wide = np.zeros((*cols.shape[:3], *out), gy.dtype)
    wide[..., : gy.shape[2], : gy.shape[3]] = cols
    gx = mf.kernels.col2im(wide.reshape(len(gy), -1, out[0] * out[1]), shape, kernel_size, stride, (0, 0), dilation)
    return gx[:, :, padding[0] : padding[0] + x_shape[2], padding[1] : padding[1] + x_shape[3]]""",
    ("4.2", "the gradient of the loss from that of log_softmax"): """
def softmax_loss_grad(prob, labels, weights):
    s = mf.Tensor(np.log(np.maximum(prob, 1e-300)), requires_grad=True)
    truth = (np.arange(prob.shape[1])[:, None, None] == labels[:, None]) * weights[:, None]
    (mf.ops.log_softmax(s) * -truth).sum().backward()
    return s.grad.astype(prob.dtype)""",
    ("6.3", "the four measures from the counts of the library"): """
def measures(labels, predictions, num_classes):
    from minifcn.training import metrics
    n = metrics.counts(labels, predictions, num_classes)
    scores = metrics.scores_from(n[None])
    return tuple(float(np.ravel(v)[0]) for v in scores.values())[:4]""",
}  # fmt: skip


CONV2D = WAYS["2.2", "a convolution as the gradient of the weights, images and channels exchanged"].strip()
OPENED = {  # {how the check is avoided: (task, the cell)}
    "compiled with another file name": ("2.2", f"""
names = dict(np=np, mf=mf)
exec(compile({CONV2D!r}, mf.kernels.textbook.__file__, "exec"), names)
conv2d = names["conv2d"]"""),
    "by changing the check": ("2.2", f"""
import sys

for module in (sys.modules["minifcn.course.disguises"], sys.modules["__main__"]):
    for name in vars(module):
        if "call" in name or "know" in name:
            setattr(module, name, lambda *args, **kwargs: False)
sys.audit = sys._getframe = id = lambda *args: 0
{CONV2D}"""),
    "by the closure": ("2.2", CONV2D.replace("mf.kernels.conv2d_grad_weight", "inside") + """

inside = next((c.cell_contents for c in mf.kernels.textbook.conv2d_grad_weight.__closure__
               if getattr(c.cell_contents, "__name__", "") == "conv2d_grad_weight"), mf.kernels.conv2d_grad_weight)"""),
    "by the hook's frame, from an error": ("2.2", CONV2D.replace("mf.kernels.conv2d_grad_weight", "inside") + """

inside = mf.kernels.conv2d_grad_weight
try:
    mf.kernels.textbook.conv2d_grad_weight(1)
except Exception as error:
    trace = error.__traceback__
    while trace:
        values = trace.tb_frame.f_locals
        inside = values.get("function") or values.get("kept", {}).get("conv2d_grad_weight") or inside
        trace = trace.tb_next"""),
    "by asking the hook": ("2.2", CONV2D.replace("mf.kernels.conv2d_grad_weight", "inside") + """

import sys


def inside(*args):
    call = ["conv2d_grad_weight", args, {}, (False, None)]
    sys.audit("minifcn.course.disguises", call)
    if not call[3][0]:
        raise call[3][1]
    return call[3][1]"""),
    "by the probes' own function": ("2.2", CONV2D.replace("mf.kernels.conv2d_grad_weight", "inside") + """

import sys


def inside(*args):
    reply = sys.modules["__main__"].attempt(mf.kernels.textbook.conv2d_grad_weight, *args[:1], list(args[1:]), [])
    if "error" in reply:
        raise mf.course.guard.Forbidden(reply["error"])
    return reply["value"]"""),
    "as a cell": ("2.2", CONV2D.replace("mf.kernels.conv2d_grad_weight", "inside") + """

import sys


def inside(*args):
    sys.given = mf, args
    cell = "import sys\\ny = sys.given[0].kernels.conv2d_grad_weight(*sys.given[1])"
    names, problems = sys.modules["__main__"].run_cells([cell])
    if problems:
        raise RuntimeError(problems[0][1])
    return names["y"]"""),
    "as a partial": ("4.7", """
from functools import partial

equivalent_momentum = partial(mf.nn.optim.effective_step)"""),
}  # fmt: skip


@pytest.mark.parametrize("how", OPENED)
def test_a_disguise_stays_closed(how):
    task, cell = OPENED[how]
    gets_no_points(task, cell)


@pytest.mark.parametrize(("task", "what"), WAYS)
def test_an_answer_in_disguise_gets_no_points(task, what):
    gets_no_points(task, WAYS[task, what])


def gets_no_points(task, answer):
    """The grader refuses `answer`, and says that it is the library's."""
    assignment = next(a for a in tasks.assignments() if any(t.number == task for t in a.tasks))
    cell = f"# Task {task}\n{answer.strip()}\n"
    result = judge.Examiner(assignment, seed=2).grade(assignment.solution(task, lambda _: cell), [task])[0]
    said = " ".join(s for c in result.checks for s in c.says)
    assert result.points == 0, [(c.title, c.points, c.says) for c in result.checks]
    assert re.search("computes what this task asks you to write|is what this task asks you to write", said)


def test_every_disguise_is_there():
    for name, others in disguises.DISGUISES.items():
        assert all(callable(guard.resolve(path)) for path in (name, *others))
