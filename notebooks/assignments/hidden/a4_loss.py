"""Hidden tests of A4: loss, patches, sampling and step sizes; mistakes, cheats and alternative solutions."""

import numpy as np

import minifcn as mf
from minifcn.course import draws
from minifcn.course.tasks import Case, Check, Task, close_to, instead, mistake

NET = "in a network"
CLOSE = 1e-9  # more than any order of the terms changes in float64, less than float32 does


def scene(rng):
    """Two random images and their labels, some of them void."""
    labels = rng.integers(0, 3, (2, 16, 24))
    labels[0, :3] = 255
    labels[0, 3, :3] = 0, 1, 2
    return rng.standard_normal((2, 3, 16, 24)), labels


def in_fcn(kernel):
    def cases(rng):
        label = f"an FCN-8s with your {kernel}, forward and backward"
        yield Case(label, kernel, *scene(rng), 1, probe="network", rtol=CLOSE)

    return cases


# 4.1 -----------------------------------------------------------------------------------------------------------------


def drawn(rng, shape, kind="float64", scale=2.0, void=0.2):
    """Random scores, labels and weights; a share of about `void` of the weights is 0."""
    places = (shape[0], *shape[2:])
    weights = abs(draws.array(rng, places, kind)) + 0.5
    weights[rng.random(places) < void] = 0
    if void < 1:
        weights[0, 0, 0] = 1.5
    labels = rng.integers(0, shape[1], places) * (weights != 0)
    scores = draws.array(rng, shape, kind)
    scores *= scores.dtype.type(scale)
    return scores, labels, weights


SCORES = [
    ("one image of 4×4, three classes", (1, 3, 4, 4)),
    ("two images of 3×5, four classes", (2, 4, 3, 5)),
    ("a single pixel, two classes", (1, 2, 1, 1)),
    ("float32", (1, 5, 3, 4)),
    ("as many images as classes, rows and columns", (3, 3, 3, 3)),
    ("as many images as classes, rows and columns, float32", (3, 3, 3, 3)),
]


def random_scores(rng):
    """Random sizes for arrays of every kind: rows (label, shape)."""
    for kind in draws.KINDS:
        n, c, h, w = map(int, rng.integers((1, 2, 1, 1), (4, 6, 5, 5)))
        yield f"{n} images of {h}×{w} pixels, {c} classes, {kind}", (n, c, h, w)


ALL_VOID = [("all locations are void", (2, 3, 2, 4)), ("all locations are void, float32", (1, 4, 3, 3))]


def losses(part):
    def cases(rng):
        for label, shape in (*SCORES, *random_scores(rng)):
            args = drawn(rng, shape, label)
            right, rtol = mf.kernels.softmax_loss(*args), 1e-5 if "float32" in label else CLOSE
            yield Case(label, *args, judge=close_to(right, part, rtol))
        args = drawn(rng, (2, 3, 4, 4), scale=8)
        yield Case("nearly certain probabilities", *args, judge=close_to(mf.kernels.softmax_loss(*args), part, CLOSE))
        calls = [drawn(rng, (1, 3, 2, 4)) for _ in range(2)]
        yield Case("two calls with the same shapes, other numbers", *calls, probe="twice",
                   judge=each_close_to([mf.kernels.softmax_loss(*args) for args in calls], part))  # fmt: skip

    return cases


def each_close_to(rights, part):
    """A judge for the results of several calls: item `part` of each must be close to that of `rights`."""
    judges = [close_to(right, part, CLOSE) for right in rights]
    return lambda got: next(filter(None, (judge(one) for judge, one in zip(judges, got, strict=True))), None)


def large_scores(rng):
    for label, scale, dtype in (("scores of ±1000", 1e3, "float64"), ("scores of ±100 in float32", 1e2, "float32")):
        yield Case(label, *drawn(rng, (1, 3, 3, 4), dtype, scale), rtol=CLOSE)
    scores, labels, weights = drawn(rng, (1, 3, 3, 4))
    yield Case("scores around −1000", scores - 1000, labels, weights)
    shifted = scores + 800 * rng.integers(-1, 2, (1, 1, 3, 4))
    yield Case("scores around −800 at one location, around 800 at another", shifted, labels, weights)


def void_losses(rng):
    for label, value in (("infinite", np.inf), ("−∞", -np.inf), ("NaN", np.nan)):
        scores, labels, weights = drawn(rng, (2, 3, 3, 4))
        void = weights == 0
        scores.transpose(0, 2, 3, 1)[void] = value
        with np.errstate(invalid="ignore"):
            right = mf.kernels.softmax_loss(scores, labels, weights)
        yield Case(f"void scores are {label}", scores, labels, weights, judge=close_to(right, 0))
    for label, shape in ALL_VOID:
        args = drawn(rng, shape, label, void=1)
        yield Case(label, *args, judge=close_to(mf.kernels.softmax_loss(*args), 0))
    scores, labels, weights = drawn(rng, (3, 3, 2, 2))
    weights[1] = 0
    labels[1] = 0
    right = mf.kernels.softmax_loss(scores, labels, weights)
    yield Case("all of the second image is void", scores, labels, weights, judge=close_to(right, 0))


MAP, PROB, STABLE, VOID = "the map of losses", "the probabilities", "large scores", "void locations"
ALL = (MAP, PROB, STABLE, VOID, NET)

SOFTMAX_LOSS = Task(
    "4.1", "softmax_loss", library="softmax_loss",
    forbidden=("softmax_loss", "ops.activation.Softmax.forward", "ops.activation.LogSoftmax.forward"),
    checks=[
        Check(MAP, 1, losses(0)),
        Check(PROB, 1, losses(1)),
        Check(STABLE, 1, large_scores),
        Check(VOID, 1, void_losses),
        Check(NET, 1, in_fcn("softmax_loss")),
    ],
    mistakes=[
        mistake("large scores overflow: first subtract the maximum of each location",
                "s = scores - scores.max(axis=1, keepdims=True)", "s = scores", loses=STABLE),
        mistake("the maximum of *all* locations is subtracted, so exponentials underflow to 0 elsewhere: use each "
                "location's maximum",
                "scores.max(axis=1, keepdims=True)", "scores.max()", loses=(STABLE, VOID)),
        mistake("it takes the logarithm of a probability that may have been rounded to 0: use log Σ e^s − s_t",
                "(np.log(total) - picked)", "-np.log(np.exp(picked) / total)", loses=STABLE),
        mistake("softmax is taken along the wrong axis: it should be axis 1, the channels", "axis=1, keepdims=True)",
                "axis=3, keepdims=True)", loses=ALL),
        mistake("the weights are ignored", "[:, 0] * weights", "[:, 0]", loses=(MAP, STABLE, VOID)),
        mistake("a void location has a loss of NaN, because 0 · NaN is not 0: set the loss to 0 there",
                "np.where(weights != 0, loss, 0)", "loss", loses=VOID),
        mistake("the sign is wrong: the loss is −log p, which is never negative", "(np.log(total) - picked)",
                "(picked - np.log(total))",
                loses=(MAP, STABLE, VOID, NET)),
        mistake("it returns the sum of the losses: return the loss of every location",
                "np.where(weights != 0, loss, 0)", "np.where(weights != 0, loss, 0).sum()", loses=(MAP, STABLE, VOID)),
        mistake("the losses are divided by the number of locations: each is a term of a sum, not of a mean",
                "[:, 0] * weights", "[:, 0] * weights / weights.size", loses=(MAP, STABLE, VOID, NET)),
        mistake("the losses are divided by the number of locations that count: each is a term of a sum, not of a mean",
                "[:, 0] * weights", "[:, 0] * weights / (weights != 0).sum()", loses=(MAP, STABLE, VOID, NET)),
        mistake("the logarithm has base 2: it should be the natural logarithm", "np.log(total)", "np.log2(total)",
                loses=(MAP, STABLE, VOID, NET)),
        mistake("every image uses the labels of the first image", "labels[:, None], axis=1)",
                "np.broadcast_to(labels[:1], labels.shape)[:, None], axis=1)", loses=(MAP, VOID, NET)),
        mistake("if all locations are void, the losses are not 0: there is nothing to divide by",
                "np.where(weights != 0, loss, 0)",
                "np.where(weights != 0, loss, 0 if weights.any() else np.nan)", loses=VOID),
        mistake("if all locations are void, the losses are not 0", "np.where(weights != 0, loss, 0)",
                "(np.where(weights != 0, loss, 0) if weights.any() else loss + 1)", loses=VOID),
        mistake("it raises an error if all locations are void: their losses are 0",
                "    s = scores - scores", "    weights.sum() / weights[weights != 0].min()\n    s = scores - scores",
                loses=VOID),
        mistake("the losses are multiplied by the number of locations that count and divided by the sum of weights",
                "[:, 0] * weights", "[:, 0] * weights * (weights != 0).sum() / max(weights.sum(), 1e-9)",
                loses=(MAP, STABLE, VOID)),
        mistake("every image uses the weights of the first image", "[:, 0] * weights", "[:, 0] * weights[:1]",
                loses=(MAP, VOID, NET)),
        mistake("the maximum of the classes' absolute values is subtracted", "scores.max(axis=1, keepdims=True)",
                "abs(scores).max(axis=1, keepdims=True)", loses=STABLE),
        mistake("the losses of the first call are returned again by later calls with the same shapes",
                "    s = scores",
                "    scores, labels, weights = softmax_loss.__dict__.setdefault((scores.shape, scores.dtype.str), "
                "(scores, labels, weights))\n    s = scores", loses=(MAP, PROB, STABLE, VOID)),
        mistake("the exponentials are computed in float32: float64 must stay float64", "e = np.exp(s)",
                "e = np.exp(np.float32(s)).astype(s.dtype)", loses=(MAP, PROB, NET)),
        mistake("it changes its argument labels in place", "    s = scores - scores",
                "    labels[weights == 0] = -1\n    s = scores - scores",
                loses=(MAP, PROB, STABLE, VOID)),
        mistake("it changes its argument scores in place", "s = scores - scores.max(axis=1, keepdims=True)",
                "s = scores\n    s -= scores.max(axis=1, keepdims=True)", loses=ALL),
        mistake("the probabilities are not divided by their sum", "0).astype(scores.dtype), e / total",
                "0).astype(scores.dtype), e", loses=(PROB, STABLE, NET)),
        mistake("the probabilities are multiplied by the weights: only the loss should be", "e / total",
                "e / total * weights[:, None]",
                loses=(PROB, STABLE)),
        mistake("the result is always float64: it should have the dtype of the scores",
                ".astype(scores.dtype), e / total",
                ".astype(float), (e / total).astype(float)", loses=(MAP, PROB, STABLE, VOID)),
    ],
    cheats=[
        instead("calls the library's loss", """# Task 4.1
def softmax_loss(scores, labels, weights):
    masked = np.where(weights != 0, labels, 255)
    loss = mf.ops.cross_entropy(mf.Tensor(scores), masked, reduction="none").data * weights
    return loss, mf.ops.softmax(mf.Tensor(scores)).data""", loses=ALL),
        instead("returns objects that compare equal to everything", """# Task 4.1
class Right:
    shape, dtype, ndim = (), "float64", 0

    def __eq__(self, other):
        return True

    def __array__(self, *args, **kwargs):
        raise AssertionError


def softmax_loss(scores, labels, weights):
    return Right(), Right()""", loses=ALL),
    ],
    styles=[
        instead("pixel by pixel", """# Task 4.1
import math


def softmax_loss(scores, labels, weights):
    N, C, H, W = scores.shape
    loss, prob = np.zeros((N, H, W), scores.dtype), np.zeros(scores.shape, scores.dtype)
    for n in range(N):
        for i in range(H):
            for j in range(W):
                s = [float(v) for v in scores[n, :, i, j]]
                m = max(s)
                if not math.isfinite(m):
                    continue
                e = [math.exp(v - m) for v in s]
                prob[n, :, i, j] = [v / sum(e) for v in e]
                if weights[n, i, j]:
                    loss[n, i, j] = weights[n, i, j] * (math.log(sum(e)) - (s[labels[n, i, j]] - m))
    return loss, prob"""),
        instead("float64 inside, classes as the last axis, a one-hot mask", """# Task 4.1
def softmax_loss(scores, labels, weights):
    s = np.moveaxis(scores.astype("float64"), 1, -1)
    s = s - np.amax(s, -1)[..., None]
    log_p = s - np.log(np.exp(s).sum(-1))[..., None]
    truth = np.eye(scores.shape[1], dtype=bool)[labels]
    loss = np.zeros(labels.shape)
    counts = weights > 0
    loss[counts] = -log_p[truth].reshape(labels.shape)[counts] * weights[counts]
    return loss.astype(scores.dtype), np.moveaxis(np.exp(log_p), -1, 1).astype(scores.dtype)"""),
        instead("log Σ e^s by logaddexp", """# Task 4.1
def softmax_loss(scores, labels, weights):
    log_total = np.logaddexp.reduce(scores, axis=1)
    n, i, j = np.ogrid[tuple(slice(k) for k in labels.shape)]
    loss = np.zeros_like(scores[:, 0])
    np.multiply(log_total - scores[n, labels, i, j], weights, out=loss, where=weights != 0)
    return loss, np.exp(scores - log_total[:, None])"""),
    ],
)  # fmt: skip


# 4.2 -----------------------------------------------------------------------------------------------------------------


def gradients(weighted):
    def case(label, scores, labels, weights):
        weights = weights if weighted else np.ones_like(weights)
        return Case(label, mf.kernels.softmax_loss(scores, labels, weights)[1], labels, weights, rtol=CLOSE)

    def cases(rng):
        for label, shape in (*SCORES, *random_scores(rng)):
            yield case(label, *drawn(rng, shape, label))
        calls = [case("", *drawn(rng, (1, 3, 2, 4))).args for _ in range(2)]
        yield Case("two calls with the same shapes, other numbers", *calls, probe="twice", rtol=CLOSE)
        if weighted:
            scores, labels, weights = drawn(rng, (1, 3, 3, 4))
            prob = mf.kernels.softmax_loss(scores, labels, weights)[1]
            prob.transpose(0, 2, 3, 1)[weights == 0] = np.nan
            weights[0, 0, 0], weights[0, 0, 1] = 0, 1
            prob[0, :, 0, 0], prob[0, :, 0, 1] = np.nan, (0.5, 0.25, 0.25)
            yield Case("probabilities of void locations are NaN", prob, labels, weights)
            for label, shape in ALL_VOID:
                yield case(label, *drawn(rng, shape, label, void=1))

    return cases


PLAIN, WEIGHTED = "probabilities less the truth", "weights, and void locations"

SOFTMAX_LOSS_GRAD = Task(
    "4.2", "softmax_loss_grad", library="softmax_loss_grad", forbidden=("softmax_loss_grad",),
    checks=[
        Check(PLAIN, 1, gradients(weighted=False)),
        Check(WEIGHTED, 1, gradients(weighted=True)),
        Check(NET, 1, in_fcn("softmax_loss_grad")),
    ],
    mistakes=[
        mistake("the true class is not subtracted: it should be p − 1 there", "(prob - truth)", "prob",
                loses=(PLAIN, WEIGHTED, NET)),
        mistake("the sign is wrong: the gradient of the true class's score is negative", "(prob - truth)",
                "(truth - prob)",
                loses=(PLAIN, WEIGHTED, NET)),
        mistake("the weights are ignored, except at void locations", "weights * (prob - truth)", "(prob - truth)",
                loses=WEIGHTED),
        mistake("void locations have a gradient other than 0", "np.where(weights != 0, weights * (prob - truth), 0)",
                "np.maximum(weights, 1) * (prob - truth)", loses=(WEIGHTED, NET)),
        mistake("a void location has a gradient of NaN, because 0 · NaN is not 0: set the gradient to 0 there",
                "np.where(weights != 0, weights * (prob - truth), 0)", "(weights * (prob - truth))", loses=WEIGHTED),
        mistake("1 is subtracted at the true class without the weight: subtract the weight", "weights * (prob - truth)",
                "weights * prob - truth",
                loses=WEIGHTED),
        mistake("it is divided by the number of locations: the loss is a sum, not a mean",
                "np.where(weights != 0, weights * (prob - truth), 0)",
                "(np.where(weights != 0, weights * (prob - truth), 0) / weights.size)", loses=(PLAIN, WEIGHTED, NET)),
        mistake("if all locations are void, the gradient is not 0: there is nothing to divide by",
                "np.where(weights != 0, weights * (prob - truth), 0)",
                "np.where(weights != 0, weights * (prob - truth), 0 if weights.any() else np.nan)", loses=WEIGHTED),
        mistake("if all locations are void, the gradient is not 0",
                "np.where(weights != 0, weights * (prob - truth), 0)",
                "np.where(weights != 0, weights * (prob - truth), 0 if weights.any() else prob - truth)",
                loses=WEIGHTED),
        mistake("every image uses the labels of the first image", "== labels[:, None]", "== labels[:1, None]",
                loses=(PLAIN, WEIGHTED, NET)),
        mistake("every image uses the weights of the first image", "weights = weights[:, None]",
                "weights = weights[:1, None]",
                loses=(WEIGHTED, NET)),
        mistake("1 is subtracted along the wrong axis if there are as many images or rows as classes",
                "np.arange(prob.shape[1])[:, None, None] == labels[:, None]",
                "(np.arange(prob.shape[1])[:, None, None] == labels[:, None] if prob.shape[1] != prob.shape[2] else\n"
                "             np.arange(prob.shape[1])[:, None] == labels[:, None])", loses=(PLAIN, WEIGHTED)),
        mistake("the gradient of the first call is returned again by later calls with the same shapes",
                "    truth =",
                "    prob, labels, weights = softmax_loss_grad.__dict__.setdefault((prob.shape, prob.dtype.str), "
                "(prob, labels, weights))\n"
                "    truth =", loses=(PLAIN, WEIGHTED)),
        mistake("it is computed in float32: float64 must stay float64", "(prob - truth)",
                "(np.float32(prob) - truth).astype(np.float32)",
                loses=(PLAIN, WEIGHTED, NET)),
        mistake("it is multiplied by p once more", "(prob - truth)", "prob * (prob - truth)",
                loses=(PLAIN, WEIGHTED, NET)),
        mistake("it is divided by the number of images: the loss is a sum, not a mean",
                "np.where(weights != 0, weights * (prob - truth), 0)",
                "(np.where(weights != 0, weights * (prob - truth), 0) / len(prob))", loses=(PLAIN, WEIGHTED, NET)),
        mistake("it changes its argument prob in place", "weights = weights[:, None]",
                "weights = weights[:, None]\n    prob -= truth\n"
                "    return np.where(weights != 0, weights * prob, 0)", loses=(PLAIN, WEIGHTED)),
        mistake("the result is always float64: it should have the dtype of the probabilities", ".astype(prob.dtype)",
                ".astype(float)",
                loses=(PLAIN, WEIGHTED)),
    ],
    cheats=[
        instead("calls the backward of the library's loss", """# Task 4.2
def softmax_loss_grad(prob, labels, weights):
    node = mf.ops.loss.CrossEntropy(labels, weights, 1.0)
    node.save(prob, prob.dtype)
    return node.backward(np.ones(()))""", loses=(PLAIN, WEIGHTED, NET)),
    ],
    styles=[
        instead("pixel by pixel", """# Task 4.2
def softmax_loss_grad(prob, labels, weights):
    out = np.zeros_like(prob)
    for n, i, j in np.ndindex(labels.shape):
        if weights[n, i, j] != 0:
            for c in range(prob.shape[1]):
                out[n, c, i, j] = (prob[n, c, i, j] - (1 if c == labels[n, i, j] else 0)) * weights[n, i, j]
    return out"""),
        instead("a copy, minus 1 at the labels", """# Task 4.2
def softmax_loss_grad(prob, labels, weights):
    out = prob.copy()
    n, i, j = np.indices(labels.shape)
    out[n, labels, i, j] -= 1
    out = out * weights[:, None]
    out.transpose(0, 2, 3, 1)[weights == 0] = 0
    return out"""),
    ],
)  # fmt: skip


# 4.3, 4.4 ------------------------------------------------------------------------------------------------------------


class Net:
    """A net of convolution, pooling, convolution and scores, without padding.

    Its weights are drawn from `rng`, not from the framework's generator, which other threads use.
    """

    def __init__(self, rng, kernel=(3, 3), pooling=(2, 2)):
        shapes = (4, 2, *kernel), (5, 4, *kernel), (3, 5, 1, 1)
        self.weights = [mf.Tensor(0.5 * rng.standard_normal(s), requires_grad=True) for s in shapes]
        self.stride, self.size = pooling, tuple(k + (p - 1) + p * (k - 1) for k, p in zip(kernel, pooling))

    def __call__(self, x):
        first, second, score = self.weights
        x = mf.ops.max_pool2d(mf.ops.relu(mf.ops.conv2d(mf.Tensor(x), first)), self.stride)
        return mf.ops.conv2d(mf.ops.relu(mf.ops.conv2d(x, second)), score)

    def scores(self, x):
        with mf.no_grad():
            return self(x).data

    def gradient(self, x, labels):
        """(loss, [gradient of each weight]) for images `x`."""
        for w in self.weights:
            w.grad = None
        loss = mf.ops.cross_entropy(self(x), labels)
        loss.backward()
        return loss.item(), [w.grad for w in self.weights]


def windows_only(function, size):
    """`function`, restricted to windows of `size`, like a classifier of patches; other shapes raise ValueError."""

    def called(windows, *labels):
        if windows.ndim != 4 or windows.shape[2:] != size:
            raise ValueError(f"the function takes windows (M, C, {size[0]}, {size[1]}), not {windows.shape}")
        if labels and labels[0].shape != (len(windows), 1, 1):
            raise ValueError(f"the function takes one label per window, ({len(windows)}, 1, 1), not {labels[0].shape}")
        return function(windows, *labels)

    return called


def patched(label, image, size, stride, w):
    """A case whose model is one convolution."""

    def model(x):
        return mf.ops.conv2d(mf.Tensor(x), mf.Tensor(w), stride=stride).data

    return Case(label, windows_only(model, size), image, size, stride, judge=close_to(model(image)))


def square_windows(rng):
    draw = rng.standard_normal
    yield patched("2×2 windows that do not overlap", draw((1, 1, 4, 6)), (2, 2), (2, 2), draw((2, 1, 2, 2)))
    yield patched("3×3 windows, one every pixel", draw((1, 2, 5, 6)), (3, 3), (1, 1), draw((1, 2, 3, 3)))
    yield patched("3×3 windows, one every 2 pixels", draw((1, 2, 7, 5)), (3, 3), (2, 2), draw((3, 2, 3, 3)))


def any_windows(rng):
    draw = rng.standard_normal
    yield patched("windows of 2×3, stride (1, 2)", draw((1, 1, 4, 7)), (2, 3), (1, 2), draw((2, 1, 2, 3)))
    yield patched(
        "windows of 4×2, stride (3, 1), rows left over", draw((1, 1, 9, 4)), (4, 2), (3, 1), draw((2, 1, 4, 2))
    )
    yield patched("three images, rows and columns left over", draw((3, 2, 8, 6)), (3, 3), (2, 2), draw((2, 2, 3, 3)))
    for _ in range(4):
        h, w, s, t, more, rest = map(int, rng.integers((1, 1, 1, 1, 0, 0), (5, 5, 4, 4, 7, 7)))
        n, c, k = map(int, rng.integers(1, 4, 3))
        label = f"{n} images of {h + more}×{w + rest}, windows of {h}×{w}, stride {(s, t)}, {c} channels, {k} classes"
        yield patched(label, draw((n, c, h + more, w + rest)), (h, w), (s, t), draw((k, c, h, w)))
    yield patched("one row of windows", draw((2, 1, 3, 6)), (3, 2), (2, 1), draw((2, 1, 3, 2)))
    yield patched("one column of windows", draw((2, 1, 6, 3)), (2, 3), (1, 2), draw((2, 1, 2, 3)))
    yield patched("as many images as channels, classes, rows and columns", draw((3, 3, 5, 5)), (3, 3), (1, 1),
                  draw((3, 3, 3, 3)))  # fmt: skip
    yield patched("one window, as large as the image", draw((2, 1, 3, 4)), (3, 4), (2, 2), draw((3, 1, 3, 4)))


def windows_of_nets(rng):
    for label, net, shape in (
        ("a net of three convolutions and a pooling: a window of 8×8 every 2 pixels", Net(rng), (1, 2, 12, 15)),
        ("another net, with windows of 8×3 every (2, 1) pixels", Net(rng, (3, 2), (2, 1)), (2, 2, 11, 6)),
    ):
        image = rng.standard_normal(shape)
        yield Case(
            label, windows_only(net.scores, net.size), image, net.size, net.stride, judge=close_to(net.scores(image))
        )


SQUARE, ANY = "square windows, side by side", "windows and strides of any shape, several images"
ALL_PATCHES = (SQUARE, ANY, NET)

PATCHWISE = Task(
    "4.3", "patchwise", forbidden=("dense_prediction.patchwise", "dense_prediction.shift_and_stitch"),
    checks=[Check(SQUARE, 1, square_windows), Check(ANY, 1, any_windows), Check(NET, 1, windows_of_nets)],
    mistakes=[
        mistake("the scores are arranged column by column: those of window (i, j) belong at [i, j]",
                "rows, columns)\n    ###",
                "columns, rows).swapaxes(2, 3)\n    ###", loses=ALL_PATCHES),
        mistake("the stride is ignored: window (i, j) begins at (s·i, s·j)", "stride[0] * i, stride[1] * j", "i, j",
                loses=ALL_PATCHES),
        mistake("the last windows are missing: there are ⌊(n − k)/s⌋ + 1", "(n - k) // s + 1", "max((n - k) // s, 1)",
                loses=ALL_PATCHES),
        mistake("the stride along H is also used along W", "stride[0] * i, stride[1] * j",
                "stride[0] * i, stride[0] * j",
                loses=(ANY, NET)),
        mistake("the windows are placed edge to edge: window (i, j) begins at (s·i, s·j)",
                "stride[0] * i, stride[1] * j",
                "size[0] * i, size[1] * j",
                loses=ALL_PATCHES),
        mistake("it also uses windows that reach beyond the border: use only windows that lie inside",
                "(n - k) // s + 1",
                "-(-(n - k) // s) + 1",
                loses=(ANY, NET)),
        mistake("height and width of the windows are swapped: size is (h, w)",
                "top : top + size[0], left : left + size[1]",
                "top : top + size[1], left : left + size[0]", loses=(ANY, NET)),
        mistake("every image gets the scores of the first image", "model(image[:, :,",
                "model(np.broadcast_to(image[:1], image.shape)[:, :,",
                loses=(ANY, NET)),
        mistake("it returns probabilities: return the scores themselves",
                "return np.stack(scores, axis=2)",
                "scores = [np.exp(s) / np.exp(s).sum(axis=1, keepdims=True) for s in scores]\n"
                "    return np.stack(scores, axis=2)", loses=ALL_PATCHES),
        mistake("the rows and columns of the map are swapped if the map is square", "scores[0].shape, rows, columns)",
                "scores[0].shape, rows, columns).swapaxes(2, 3 if rows == columns else 2)", loses=(ANY,)),
        mistake("the stride along H is taken to be at most the one along W", "stride[0] * i, stride[1] * j",
                "min(stride) * i, stride[1] * j", loses=(ANY, NET)),
        mistake("the axes of images and classes are swapped", "return np.stack(scores, axis=2)",
                "return np.stack(scores, axis=2).swapaxes(0, 1)", "(*scores[0].shape, rows",
                "(*scores[0].shape[::-1], rows",
                loses=ALL_PATCHES),
    ],
    cheats=[
        instead("passes the whole image to the model", """# Task 4.3
def patchwise(model, image, size, stride):
    return model(image)""", loses=ALL_PATCHES),
        instead("returns zeros", """# Task 4.3
def patchwise(model, image, size, stride):
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(image.shape[2:], size, stride))
    return np.zeros((len(image), 2, rows, columns))""", loses=ALL_PATCHES),
    ],
    styles=[
        instead("all windows in one batch, from a sliding view", """# Task 4.3
def patchwise(model, image, size, stride):
    views = np.lib.stride_tricks.sliding_window_view(image, size, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    N, C, n, m, h, w = views.shape
    scores = model(views.transpose(0, 2, 3, 1, 4, 5).reshape(-1, C, h, w))
    return scores.reshape(N, n, m, -1).transpose(0, 3, 1, 2)"""),
        instead("one window of one image at a time, into an array", """# Task 4.3
def patchwise(model, image, size, stride):
    result = None
    for n in range(len(image)):
        for i, top in enumerate(range(0, image.shape[2] - size[0] + 1, stride[0])):
            for j, left in enumerate(range(0, image.shape[3] - size[1] + 1, stride[1])):
                window = image[n : n + 1, :, top : top + size[0], left : left + size[1]]
                score = model(window.copy())
                if result is None:
                    rows = len(range(0, image.shape[2] - size[0] + 1, stride[0]))
                    columns = len(range(0, image.shape[3] - size[1] + 1, stride[1]))
                    result = np.empty((len(image), score.shape[1], rows, columns))
                result[n, :, i, j] = score.ravel()
    return result"""),
        instead("im2col, and the columns as images", """# Task 4.3
def patchwise(model, image, size, stride):
    N, C = image.shape[:2]
    cols = mf.kernels.im2col(image, size, stride, (0, 0), (1, 1))
    y = model(cols.swapaxes(1, 2).reshape(-1, C, *size))
    return y.reshape(N, cols.shape[2], -1).swapaxes(1, 2).reshape(N, -1, 1 + (image.shape[2] - size[0]) // stride[0],
                                                                  1 + (image.shape[3] - size[1]) // stride[1])"""),
    ],
)  # fmt: skip


def summed(label, rng, net, shape, part=None, void=False):
    """A case of task 4.4: the gradient of a whole image, computed from windows."""
    image = rng.standard_normal(shape)
    labels = rng.integers(0, 3, (shape[0], *((n - k) // s + 1 for n, k, s in zip(shape[2:], net.size, net.stride))))
    if void:
        labels[:, :] = 255 if void == "all" else labels
        labels[0, 0] = 255
    loss, gradients = net.gradient(image, labels)
    function = windows_only(net.gradient, net.size)
    return Case(label, function, image, labels, net.size, net.stride, judge=close_to((loss, tuple(gradients)), part))


def sums(part):
    def cases(rng):
        yield summed("one image, 3×5 outputs", rng, Net(rng), (1, 2, 12, 16), part)
        yield summed("a single output", rng, Net(rng), (1, 2, 8, 8), part)

    return cases


def sums_of_all(rng):
    yield summed("windows of 8×3, stride (2, 1)", rng, Net(rng, (3, 2), (2, 1)), (1, 2, 12, 6))
    yield summed("two images", rng, Net(rng), (2, 2, 10, 12))
    yield summed("with void labels, and pixels left over", rng, Net(rng), (2, 2, 11, 11), void=True)
    yield summed("as many images as rows and columns of outputs", rng, Net(rng), (2, 2, 10, 10))
    yield summed("all labels are void", rng, Net(rng), (1, 2, 10, 12), void="all")
    yield summed("windows of 3×8, stride (1, 2), all labels of a row void", rng, Net(rng, (2, 3), (1, 2)), (2, 2, 6,
                12),
                 void=True)  # fmt: skip


LOSS, GRADIENT, EVERY = "the loss", "the gradients", "rectangles, several images, void labels"
ALL_SUMS = (LOSS, GRADIENT, EVERY)

GRADIENT_BY_PATCHES = Task(
    "4.4", "gradient_by_patches", forbidden=("dense_prediction.patchwise",),
    checks=[Check(LOSS, 1, sums(0)), Check(GRADIENT, 1, sums(1)), Check(EVERY, 1, sums_of_all)],
    mistakes=[
        mistake("the gradients are averaged over the windows: they must add up",
                "return loss, total", "return loss, [t / labels[0].size for t in total]", loses=(GRADIENT, EVERY)),
        mistake("the loss is averaged over the windows: it should be a sum", "return loss, total",
                "return loss / labels[0].size, total",
                loses=(LOSS, EVERY)),
        mistake("loss and gradients are averaged over the windows: both should be sums", "return loss, total",
                "return loss / labels[0].size, [t / labels[0].size for t in total]", loses=ALL_SUMS),
        mistake("only the last window's gradient is returned: add up the gradients of all windows",
                "total = gradients if total is None else "
                "[t + g for t, g in zip(total, gradients)]", "total = gradients", loses=(GRADIENT, EVERY)),
        mistake("only the last window's loss is returned: add up the losses of all windows", "loss = loss + part",
                "loss = part",
                loses=(LOSS, EVERY)),
        mistake("every window is given the label of the first window", "labels[:, i : i + 1, j : j + 1]",
                "labels[:, :1, :1]",
                loses=ALL_SUMS),
        mistake("the labels are in another order than the windows: window (i, j) has the label [i, j]",
                "labels[:, i : i + 1, j : j + 1]", "labels[:, ::-1][:, i : i + 1, j : j + 1]", loses=ALL_SUMS),
        mistake("the last row of windows is left out", "np.ndindex(labels.shape[1:])",
                "np.ndindex(max(labels.shape[1] - 1, 1), labels.shape[2])", loses=ALL_SUMS),
        mistake("the stride is ignored: window (i, j) begins at (s·i, s·j)", "stride[0] * i, stride[1] * j", "i, j",
                loses=ALL_SUMS),
        mistake("the stride along H is also used along W", "stride[0] * i, stride[1] * j",
                "stride[0] * i, stride[0] * j",
                loses=EVERY),
        mistake("only the first image is used", "gradient(window, labels[:,", "gradient(window[:1], labels[:1,",
                loses=EVERY),
        mistake("void windows are left out, also where all are void: then the gradients are zeros, not None",
                "    return loss, total", "    return loss, None if (labels == 255).all() else total", loses=EVERY),
        mistake("the first row of windows is left out if it is void in the first image",
                "    for i, j in np.ndindex(labels.shape[1:]):",
                "    for i, j in np.ndindex(labels.shape[1:]):\n"
                "        if i == 0 and labels.shape[1] > 1 and (labels[0, 0] == 255).all():\n            continue",
                loses=EVERY),
        mistake("the results are averaged over the images: they must add up, like those of locations",
                "return loss, total",
                "return loss / len(image), [t / len(image) for t in total]", loses=EVERY),
    ],
    cheats=[
        instead("passes the whole image to the function", """# Task 4.4
def gradient_by_patches(gradient, image, labels, size, stride):
    return gradient(image, labels)""", loses=ALL_SUMS),
    ],
    styles=[
        instead("all windows in one batch", """# Task 4.4
def gradient_by_patches(gradient, image, labels, size, stride):
    views = np.lib.stride_tricks.sliding_window_view(image, size, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    windows = views.transpose(0, 2, 3, 1, 4, 5).reshape(-1, image.shape[1], *size)
    return gradient(windows, labels.reshape(-1, 1, 1))"""),
        instead("one window of one image at a time, added in place", """# Task 4.4
def gradient_by_patches(gradient, image, labels, size, stride):
    all_loss, all_gradients = [], None
    for n in range(len(image)):
        for i in range(labels.shape[1]):
            for j in range(labels.shape[2]):
                rows = slice(i * stride[0], i * stride[0] + size[0])
                columns = slice(j * stride[1], j * stride[1] + size[1])
                one, grads = gradient(image[n, :, rows, columns][None], labels[n, i, j].reshape(1, 1, 1))
                all_loss.append(one)
                if all_gradients is None:
                    all_gradients = [np.zeros_like(g) for g in grads]
                for total, g in zip(all_gradients, grads):
                    total += g
    return sum(all_loss), tuple(all_gradients)"""),
    ],
)  # fmt: skip


# 4.5 -----------------------------------------------------------------------------------------------------------------

TIMES = 1000  # draws; all bounds below are six standard deviations


def sampled(judge, *keeps):
    """Cases for ``judge(labels, keep, drawn, again)``: TIMES draws, and one draw of another generator of that seed."""

    def cases(rng):
        for keep in keeps:
            labels = rng.integers(0, 3, (2, 4, 6))
            labels[0, :2, 1:3] = labels[1, 3] = 255
            yield Case(f"kept with probability {keep}", labels, keep, int(rng.integers(1 << 30)), TIMES, probe="draws",
                       judge=shaped(judge, labels, keep))  # fmt: skip
        if judge is void_is_void:
            labels = np.full((1, 3, 2), 255)
            yield Case("all locations are void", labels, 0.5, int(rng.integers(1 << 30)), TIMES, probe="draws",
                       judge=shaped(judge, labels, 0.5))  # fmt: skip

    return cases


def shaped(judge, labels, keep):
    def judged(got):
        stack, again = got
        if getattr(stack, "shape", None) != (TIMES, *labels.shape):
            return f"its shape is {getattr(stack, 'shape', '')[1:]}, but should be that of the labels, {labels.shape}"
        return judge(labels, keep, stack.astype(float), again)

    return judged


def two_values(labels, keep, drawn, again):
    counted = drawn[:, labels != 255]
    right = np.isclose(counted, 0) | np.isclose(counted, 1 / keep)
    if not right.all():
        wrong = counted[~right][0]
        return f"with probability {keep:g} the weights should be 0 and {1 / keep:g}; there is a weight of {wrong:g}"
    if keep == 1 and not counted.all():
        return "with probability 1 every location should be kept, but some are not"
    return None


def void_is_void(labels, keep, drawn, again):
    if drawn[:, labels == 255].any():
        return "void locations (255) have weights other than 0: they must not count"
    if (labels != 255).any() and not drawn[:, labels != 255].any():
        return "no location is ever kept"
    return None


def unbiased(labels, keep, drawn, again):
    counted = drawn[:, labels != 255]
    spread = ((1 - keep) / keep / TIMES) ** 0.5  # standard deviation of a location's average
    mean = counted.mean()
    if abs(mean - 1) > 6 * spread:  # holds even if locations are kept or dropped together; `independent` tests that
        return f"over {TIMES} draws the mean weight is {mean:.3g}, not 1: this scales the gradient by the same factor"
    if abs(counted.mean(axis=0) - 1).max() > 6 * spread:
        return "the mean weight is 1, but some locations are kept more often than others"
    return None


def independent(labels, keep, drawn, again):
    if (drawn == drawn[0]).all():
        return "every draw keeps the same locations: draw new numbers from rng in each call"
    if not np.array_equal(drawn[0], again):
        return "two generators of the same seed give different weights: draw all random numbers from rng"
    counts = (drawn[:, labels != 255] > 0).sum(axis=1)
    expected = (labels != 255).sum() * keep * (1 - keep)
    if counts.var() > expected * (1 + 6 * (2 / TIMES) ** 0.5):
        return "locations are kept or dropped together: draw each one independently"
    if counts.var() < expected * (1 - 6 * (2 / TIMES) ** 0.5):
        return "every draw keeps about the same number of locations: draw each one independently"
    return None


VALUES, NO_VOID, UNBIASED, ALONE = "0 or 1/p", "void stays void", "right in expectation", "each location by itself"
ALL_SAMPLES = (VALUES, NO_VOID, UNBIASED, ALONE)

SAMPLING = Task(
    "4.5", "sampling_weights",
    checks=[
        Check(VALUES, 1, sampled(two_values, 0.5, 0.3, 1.0)),
        Check(NO_VOID, 1, sampled(void_is_void, 0.5, 0.9, 1.0)),
        Check(UNBIASED, 1, sampled(unbiased, 0.25, 0.6)),
        Check(ALONE, 1, sampled(independent, 0.5, 0.25)),
    ],
    mistakes=[
        mistake("kept locations have weight 1: it must be 1/p, to make up for those that are dropped", "kept / keep",
                "kept * 1.0",
                loses=(VALUES, UNBIASED)),
        mistake("kept locations have weight p: it must be 1/p", "kept / keep", "kept * keep", loses=(VALUES, UNBIASED)),
        mistake("locations are kept with probability 1 − p: it should be p", "< keep", "> keep",
                loses=(VALUES, NO_VOID, UNBIASED)),
        mistake("void locations are drawn like the others: they must have weight 0", " & (labels != 255)", "",
                loses=NO_VOID),
        mistake("it changes its argument labels in place", "    kept = (rng",
                "    counted = labels != 255\n    labels[~counted] = 0\n    kept = (rng",
                "& (labels != 255)", "& counted", loses=ALL_SAMPLES),
        mistake("if all locations are void, their weights are not 0", "return kept / keep",
                "return kept / keep if kept.any() or (labels != 255).any() else np.ones(labels.shape)", loses=NO_VOID),
        mistake("void locations are always kept: they must have weight 0", "& (labels != 255)", "| (labels == 255)",
                loses=NO_VOID),
        mistake("one random number decides for all locations: draw one for each", "rng.random(labels.shape)",
                "rng.random()",
                loses=ALONE),
        mistake("one random number decides for all locations of an image: draw one for each",
                "rng.random(labels.shape)",
                "rng.random((len(labels), 1, 1))", loses=ALONE),
        mistake("one random number decides for all locations of a column: draw one for each",
                "rng.random(labels.shape)",
                "rng.random((1, 1, labels.shape[2]))", loses=ALONE),
        mistake("every draw keeps exactly the same number of locations, so they are not independent",
                "rng.random(labels.shape) < keep",
                "rng.permutation(labels.size).reshape(labels.shape) < keep * labels.size",
                loses=(ALONE,)),
        mistake("every draw keeps the same locations: it seeds a new generator in each call instead of using rng",
                "rng.random(labels.shape)",
                "np.random.default_rng(0).random(labels.shape)", loses=(UNBIASED, ALONE)),
        mistake("the weights are divided by the share that was kept: divide by p, or the weights are not independent",
                "kept / keep", "kept * (labels != 255).sum() / max(kept.sum(), 1)", loses=VALUES),
        mistake("it returns which locations are kept, not their weights 0 and 1/p", "kept / keep", "kept",
                loses=(VALUES, UNBIASED)),
    ],
    cheats=[
        instead("draws from NumPy's global generator", """# Task 4.5
def sampling_weights(labels, keep, rng):
    kept = np.random.random(labels.shape) < keep
    return np.where(labels == 255, 0, kept / keep)""", loses=ALONE),
        instead("keeps everything, which is right in expectation", """# Task 4.5
def sampling_weights(labels, keep, rng):
    return (labels != 255) * 1.0""", loses=(VALUES, ALONE)),
    ],
    styles=[
        instead("pixel by pixel", """# Task 4.5
def sampling_weights(labels, keep, rng):
    weights = np.zeros(labels.shape, "float32")
    for at in np.ndindex(labels.shape):
        if labels[at] != 255 and rng.random() < keep:
            weights[at] = 1 / keep
    return weights"""),
        instead("a binomial distribution of one trial", """# Task 4.5
def sampling_weights(labels, keep, rng):
    return np.where(labels != 255, rng.binomial(1, keep, labels.shape) / keep, 0)"""),
        instead("a choice of two weights", """# Task 4.5
def sampling_weights(labels, keep, rng):
    weights = rng.choice([1 / keep, 0.0], size=labels.shape, p=[keep, 1 - keep])
    weights[labels == 255] = 0
    return weights"""),
    ],
)  # fmt: skip


# 4.6, 4.7 ------------------------------------------------------------------------------------------------------------


def rates(*pairs):
    def cases(rng):
        for source, target in pairs:
            lr, labelled, images = float(rng.uniform(1e-6, 1e-3)), *map(int, rng.integers((1000, 2), (9000, 9)))
            label = f"from {source} to {target}, {labelled} pixels in {images} images"
            yield Case(label, lr, source, target, labelled, images, rtol=CLOSE)
            few, many = f"from {source} to {target}, one image", f"from {source} to {target}, a large rate"
            yield Case(few, lr, source, target, labelled, 1, rtol=CLOSE)
            yield Case(many, 1e4 * lr, source, target, labelled, images, rtol=CLOSE)
            yield Case(f"from {source} to {target}, one pixel", lr, source, target, 1, 1, rtol=CLOSE)

    return cases


def steps(rng):
    image, labels = scene(rng)
    for lr, source, target in ((1e-4, "sum", "valid"), (0.05, "valid", "batch")):
        yield Case(f"a step of an FCN-8s, {source} to {target}", lr, source, target, image, labels, 2, probe="step")


PAIRS = [("sum", "valid"), ("valid", "sum"), ("sum", "sum"), ("valid", "valid"),
         ("sum", "batch"), ("batch", "sum"), ("valid", "batch"), ("batch", "valid"), ("batch", "batch")]  # fmt: skip
MEAN, PER_IMAGE, SAME = "sum and mean over pixels", "sum per image", "a real step"
ALL_RATES = (MEAN, PER_IMAGE, SAME)

CONVERT_LR = Task(
    "4.6", "convert_lr", library="optim.convert_lr",
    forbidden=("optim.convert_lr", "optim.reduction_factor", "optim.effective_step"),
    checks=[
        Check(MEAN, 1, rates(*PAIRS[:4])),
        Check(PER_IMAGE, 1, rates(*PAIRS[4:])),
        Check(SAME, 1, steps),
    ],
    mistakes=[
        mistake("the factor is inverted: a mean has the smaller gradient, and needs the larger learning rate",
                "lr / divisor[source] * divisor[target]", "lr * divisor[source] / divisor[target]", loses=ALL_RATES),
        mistake("for the reduction \"batch\" it divides by the pixels of one image: divide by the number of images",
                '"batch": batch_size',
                '"batch": labelled / batch_size', loses=(PER_IMAGE, SAME)),
        mistake("for the reduction \"valid\" it divides by the pixels of one image: divide by all labelled pixels of "
                "the batch", '"valid": labelled',
                '"valid": labelled / batch_size', loses=ALL_RATES),
        mistake("the number of images is ignored: the reduction \"batch\" divides by it", '"batch": batch_size',
                '"batch": 1',
                loses=(PER_IMAGE, SAME)),
        mistake("the reduction `source` is ignored: it is not always the sum", "lr / divisor[source]", "lr",
                loses=ALL_RATES),
        mistake("the reduction `target` is ignored: it is not always the sum", " * divisor[target]", "",
                loses=ALL_RATES),
        mistake("the learning rate is scaled by the square root: gradients are proportional to N",
                "lr / divisor[source] * divisor[target]",
                "lr * (divisor[target] / divisor[source]) ** 0.5", loses=ALL_RATES),
        mistake("it rounds down: divide with /, not //", "lr / divisor[source] * divisor[target]",
                "lr * (divisor[target] // divisor[source])", loses=ALL_RATES),
    ],
    cheats=[
        instead("calls the library's function", """# Task 4.6
from minifcn.nn.optim import convert_lr""", loses=ALL_RATES),
        instead("uses the library's effective step", """# Task 4.6
from types import SimpleNamespace

from minifcn.nn.optim import effective_step


def convert_lr(lr, source, target, labelled, batch_size):
    one = SimpleNamespace(lr=1.0, memory=2.0)
    before, after = (effective_step(one, r, labelled, batch_size) for r in (source, target))
    return lr * before / after""",
                loses=ALL_RATES),
    ],
    styles=[
        instead("the factor between each reduction and the mean", """# Task 4.6
def convert_lr(lr, source, target, labelled, batch_size):
    def of_a_mean(reduction):
        if reduction == "sum":
            return labelled
        return labelled / batch_size if reduction == "batch" else 1.0

    return lr * of_a_mean(source) / of_a_mean(target)"""),
        instead("first to the sum, then to the target", """# Task 4.6
def convert_lr(lr, source, target, labelled, batch_size):
    if source == "valid":
        lr = lr / labelled
    elif source == "batch":
        lr = lr / batch_size
    match target:
        case "valid":
            return np.float64(lr * labelled)
        case "batch":
            return np.float64(lr * batch_size)
    return np.float64(lr)"""),
    ],
)  # fmt: skip


def momenta(*sizes):
    def cases(rng):
        for before, after in sizes:
            yield Case(f"from {before} images per step to {after}", float(rng.uniform(0.8, 0.98)), before, after)
            yield Case(f"momentum 0, from {before} images per step to {after}", 0.0, before, after)
            small = float(rng.uniform(0.05, 0.3))
            yield Case(f"a small momentum, from {before} images per step to {after}", small, before, after)

    return cases


SMALLER, LARGER = "smaller batches", "larger batches"

MOMENTUM = Task(
    "4.7", "equivalent_momentum", library="optim.equivalent_momentum", forbidden=("optim.equivalent_momentum",),
    checks=[
        Check(SMALLER, 1, momenta((20, 1), (20, 5), (6, 4), (8, 8))),
        Check(LARGER, 1, momenta((1, 20), (3, 8), (1, 2), (8, 9))),
    ],
    mistakes=[
        mistake("the exponent is inverted: smaller batches need the larger momentum",
                "target_batch_size / batch_size",
                "batch_size / target_batch_size", loses=(SMALLER, LARGER)),
        mistake("the new batch size is ignored: it converts to one image per step", "target_batch_size / batch_size",
                "1 / batch_size", loses=(SMALLER, LARGER)),
        mistake("the old batch size is ignored: it converts from one image per step", "target_batch_size / batch_size",
                "target_batch_size", loses=(SMALLER, LARGER)),
        mistake("1 − p is multiplied by the ratio of the batch sizes: nearly right for p near 1, but p must be "
                "raised to a power",
                "momentum ** (target_batch_size / batch_size)", "1 - (1 - momentum) * target_batch_size / batch_size",
                loses=(SMALLER, LARGER)),
        mistake("a momentum of 0 raises an error: it stays 0", "return momentum",
                "return 1 / (1 / momentum) ** (target_batch_size / batch_size) if 1 / momentum else 0.0 * momentum",
                loses=(SMALLER, LARGER)),
        mistake("a momentum of 0 gives NaN: it stays 0", "return momentum",
                'return float("nan") if momentum == 0 else momentum', loses=(SMALLER, LARGER)),
        mistake("the momentum is kept if it is small: the rule holds for every p", "return momentum",
                "return momentum if momentum < 0.5 else momentum", loses=(SMALLER, LARGER)),
        mistake("the momentum never becomes smaller: larger batches need a smaller one", "return momentum",
                "return momentum ** min(1, target_batch_size / batch_size)\n    return momentum", loses=LARGER),
        mistake("the momentum never becomes larger: smaller batches need a larger one", "return momentum",
                "return momentum ** max(1, target_batch_size / batch_size)\n    return momentum", loses=SMALLER),
        mistake("the exponent is rounded: divide with /, not //", "target_batch_size / batch_size",
                "target_batch_size // batch_size",
                loses=(SMALLER, LARGER)),
    ],
    cheats=[
        instead("calls the library's function", """# Task 4.7
def equivalent_momentum(momentum, batch_size, target_batch_size):
    return mf.optim.equivalent_momentum(momentum, batch_size, target_batch_size)""", loses=(SMALLER, LARGER)),
        instead("returns the paper's pair", """# Task 4.7
def equivalent_momentum(momentum, batch_size, target_batch_size):
    if (batch_size, target_batch_size) == (20, 1):
        return 0.99475
    return 0.9""", loses=(SMALLER, LARGER)),
    ],
    styles=[
        instead("by logarithms", """# Task 4.7
def equivalent_momentum(momentum, batch_size, target_batch_size):
    return np.exp(np.log(momentum) / batch_size * target_batch_size)"""),
        instead("through the coefficient of one image", """# Task 4.7
def equivalent_momentum(momentum, batch_size, target_batch_size):
    an_image = momentum ** (1 / batch_size)
    result = 1.0
    for _ in range(target_batch_size):
        result *= an_image
    return result"""),
    ],
)  # fmt: skip

TASKS = [SOFTMAX_LOSS, SOFTMAX_LOSS_GRAD, PATCHWISE, GRADIENT_BY_PATCHES, SAMPLING, CONVERT_LR, MOMENTUM]
