"""What is done with an answer: by the process that runs a submission with the student's, by the judge with its own.

Nothing here says what is right.  ``answer`` is what the task asks for by name; a task that asks for several things
gives a dict of them.  Arrays come in, arrays go out.
"""

from numbers import Number

import numpy as np

import minifcn as mf
from minifcn.models.mini import mini


def call(answer, *args):
    """The answer, called."""
    return answer(*args)


def function(answer, parameters, arrays, gy):
    """A Function class: its output, and the gradient of every input for the upstream gradient `gy`."""
    inputs = [mf.Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y = answer(**parameters)(*inputs)
    y.backward(gy)
    return {"the output": y.data, **{f"the gradient of input {i}": x.grad for i, x in enumerate(inputs, 1)}}


def network(answer, replaces, image, labels, seed):
    """A small FCN-8s run with the answer in the place of the library's: scores, loss and every gradient, by name.

    Parameters
    ----------
    replaces : str
        The kernel or operation that the answer stands in for.
    image : array (N, 3, H, W)
    labels : array (N, H, W)
    seed : int
        Of its weights.
    """
    model = fcn(labels, seed)
    with mf.override(**{replaces: answer} if answer is not None else {}):
        scores = model(mf.Tensor(image))
        loss = mf.ops.cross_entropy(scores, labels)
        loss.backward()
    gradients = {f"the gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"the scores": scores.data, "the loss": loss.data, **gradients}


def fcn(labels, seed, **options):
    """A small FCN-8s in float64 whose scores are not zero."""
    mf.manual_seed(seed)
    model = mf.models.fcn8s_mini(num_classes=int(labels[labels != 255].max()) + 1, width=0.125, **options)
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data = p.data.astype("float64")
        if not p.data.any():
            p.data = 0.1 * rng.standard_normal(p.shape)
    return model


def forward(answer, parameters, arrays):
    """A Function class: its output alone."""
    return answer(**parameters)(*map(mf.Tensor, arrays)).data


def upsampling(answer, factor, image, labels, seed):
    """Scores of an FCN whose last layer is made with the answer as its ``weight_init``, and their loss.

    Parameters
    ----------
    factor : int
        By which it upsamples: a trunk of that stride is below it.
    image : array (N, 3, H, W)
    labels : array (N, H, W)
    seed : int
        Of its other weights.
    """
    mf.manual_seed(seed)
    trunk = mini(width=0.25, dropout=0)
    image, pool = mf.Tensor(image.astype("float32")), f"pool{factor.bit_length() - 1}"
    coarse = trunk.features(image, [pool])[pool]
    size = 2 * factor - factor % 2
    layer = mf.nn.ConvTranspose2d(
        coarse.shape[1], coarse.shape[1], size, stride=factor, groups=coarse.shape[1], bias=False, weight_init=answer
    )
    scores = mf.ops.crop(layer(coarse), like=image)
    return scores.data, mf.ops.cross_entropy(scores, labels).data


def draws(answer, labels, keep, seed, times):
    """What is drawn from one generator, several times over; and once more from another of the same seed."""
    rng = np.random.default_rng(seed)
    drawn = [np.asarray(answer(labels, keep, rng)) for _ in range(times)]
    return np.stack(drawn), np.asarray(answer(labels, keep, np.random.default_rng(seed)))


def step(answer, lr, source, target, image, labels, seed):
    """The weights of a small FCN-8s after one step with the loss reduced as `target`, at the rate the answer gives."""
    model = fcn(labels, seed)
    labelled = int((labels != 255).sum())
    mf.ops.cross_entropy(model(mf.Tensor(image)), labels, reduction=target).backward()
    rate = float(answer(lr, source, target, labelled, len(labels)))
    mf.optim.SGD(model.parameters(), rate, momentum=0).step()
    return {f"{name} after the step": p.data for name, p in model.named_parameters()}


def numbers(answer, *args):
    """Several numbers, whether whole, broken (Fraction) or NumPy's."""
    return tuple(map(float, answer(*args)))


def whole(answer, *args):
    """A whole number, of whatever type; what is none comes back as it is."""
    value = answer(*args)
    return int(value) if isinstance(value, Number) and value == int(value) else value


def sliding(answer, images, first, second, channels, size):
    """Two fully connected layers on maps (channels, *size), as convolutions that slide over images of them."""
    maps = mf.ops.relu(mf.ops.conv2d(images, answer(first, channels, size)))
    return mf.ops.conv2d(maps, answer(second, len(first), (1, 1))).data


def on_maps(answer, image, path_a, path_b):
    """An answer to two maps of one image, each computed along a path: its output, and the image's gradient."""
    image = mf.Tensor(image, requires_grad=True, name="image")
    y = answer(follow(image, path_a), follow(image, path_b))
    y.backward(y.data)
    return y.data, image.grad


def follow(x, path):
    """A map of `x` (N, 1, H, W), along (operation, kernel, stride, padding)."""
    for operation, kernel, stride, padding in path:
        if operation == "pool":
            x = mf.ops.max_pool2d(x, kernel, stride, padding, ceil_mode=True)
            continue
        h, w = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = np.cos(np.arange(1.0, h * w + 1)).reshape(1, 1, h, w)
        convolution = mf.ops.conv2d if operation == "conv" else mf.ops.conv_transpose2d
        x = convolution(x, weight, stride=stride, padding=padding)
    return x


def cropping(answer, image, labels, seed, pad):
    """A small FCN-8s whose head crops with the answer: scores, loss and every gradient."""
    model = fcn(labels, seed, pad=pad)
    model.heads[""].crop = answer
    scores = model(mf.Tensor(image))
    loss = mf.ops.cross_entropy(scores, labels)
    loss.backward()
    return scores.data, loss.data, *(p.grad for p in model.parameters() if p.grad is not None)


def parts(answer, stride, num_classes):
    """What a head on a small trunk is made of: (name, numbers it starts with, whether it learns) of each part."""
    mf.manual_seed(0)
    head = answer(mf.models.build_trunk("mini", width=0.125), stride, num_classes)
    return tuple((name, p.data, p.requires_grad) for name, p in sorted(head.named_parameters()))


def headed(answer, stride, num_classes, image, labels, seed):
    """A head on a small trunk, every number drawn by its name: scores, loss, the gradients of all that may learn."""
    trunk = mf.models.build_trunk("mini", width=0.125, dropout=0)
    model = mf.models.FCN(trunk, {"": answer(trunk, stride, num_classes)})
    parameters = dict(sorted(model.named_parameters()))
    for name, p in parameters.items():
        p.data = 0.3 * np.random.default_rng([seed, *map(ord, name)]).standard_normal(p.shape)
    scores = model(mf.Tensor(image))
    loss = mf.ops.cross_entropy(scores, labels)
    loss.backward()
    learn = (p for name, p in parameters.items() if not name.startswith("upscore"))
    return scores.data, loss.data, *(p.data * 0 if p.grad is None else p.grad for p in learn)


def update(answer, w, g, velocity, *rest):
    """An answer that changes w and velocity in place: what they are afterwards."""
    w, velocity = w.copy(), velocity.copy()
    answer(w, g, velocity, *rest)
    return {"w": w, "velocity": velocity}


def stepping(answer, image, labels, seed, form):
    """Three steps of a small FCN-8s with the answer as its optimiser's kernel: its weights."""
    model = fcn(labels, seed)
    optimizer = mf.optim.SGD(model.parameters(), lr=1e-4, momentum=0.8, weight_decay=0.1, form=form)
    with mf.override(sgd=answer):
        for _ in range(3):
            mf.ops.cross_entropy(model(mf.Tensor(image)), labels).backward()
            optimizer.step()
            optimizer.lr /= 2
    return {f"{name} after three steps": p.data for name, p in model.named_parameters()}


class Pairs:
    """Images and labels in memory, as a data set."""

    def __init__(self, images, labels, num_classes):
        self.images, self.labels, self.num_classes = images, labels, num_classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def fitting(answer, images, labels, num_classes, epochs, training):
    """A small FCN-8s trained by the answer: the loss of each epoch, its weights and running statistics."""
    model = fcn(labels, 0, dropout=0).train(training)
    loader = mf.data.Loader(Pairs(images, labels, num_classes), 2, shuffle=True)
    optimizer = mf.optim.SGD(model.parameters(), lr=1e-4, momentum=0.5)
    losses = answer(model, loader, optimizer=optimizer, epochs=epochs)
    losses = [row["loss"] for row in losses.rows] if hasattr(losses, "rows") else losses  # mf.fit's
    learned = {f"{name} after training": array for name, array in model.state_dict().items()}
    return {"the loss of each epoch": np.array(losses, float), **learned}


def learned(answer, images, labels, num_classes, unseen):
    """What a model that the answer trained says of images that it has not seen: their labels."""
    mf.manual_seed(0)
    return answer(images, labels, num_classes).predict(unseen)


def seeded(answer, seed, *args):
    """The answer, called with a generator of random numbers as its last argument."""
    return answer(*args, np.random.default_rng(seed))


def graph(links):
    """A leaf, and the tensors that are computed from it: link (i,) negates tensor i, link (i, j) adds i and j."""
    tensors = [mf.Tensor(np.arange(1.0, 4.0), requires_grad=True)]
    for link in links:
        tensors.append((mf.ops.neg if len(link) == 1 else mf.ops.add)(*(tensors[i] for i in link)))
    return tensors


def visits(answer, links):
    """The numbers, in :func:`graph`, of the nodes that the answer gives for the last one; −1 for what is none."""
    tensors = graph(links)
    number = {tensor.creator: i for i, tensor in enumerate(tensors) if i}
    return np.array([number.get(node, -1) for node in answer(tensors[-1].creator)], int)


def backward(answer, links, gy):
    """The gradient of the leaf of :func:`graph`, with the nodes visited in the answer's order."""
    tensors = graph(links)
    tensors[-1].backward(gy, order=answer)
    return tensors[0].grad


def network_backward(answer, image, labels, seed):
    """Every gradient of a small FCN-8s, with the nodes visited in the answer's order."""
    model = fcn(labels, seed)
    mf.ops.cross_entropy(model(mf.Tensor(image)), labels).backward(order=answer)
    return tuple(p.grad for p in model.parameters() if p.grad is not None)


def in_every_order(answer, *args):
    """A kernel in CUDA C++, run with its threads in several orders (the library's own, once)."""
    return getattr(answer, "in_every_order", answer)(*args)
