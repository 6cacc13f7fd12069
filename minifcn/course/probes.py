"""Probes: ways to use an answer, such as calling it or training a network with it.

The submission's process runs a probe with the student's answer, the judge with the library's; no probe knows the right
result.  ``answer`` is the object that the task asks for, or a dict by name if it asks for several.  Arguments and
results are arrays.
"""

from numbers import Number

import numpy as np

import minifcn as mf
from minifcn.models.mini import mini

from .fields import drawn_net


def call(answer, *args):
    """The result of calling the answer."""
    return answer(*args)


def function(answer, parameters, arrays, gy):
    """Call a Function class: its output, and the gradient of every input for the upstream gradient `gy`."""
    inputs = [mf.Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y = answer(**parameters)(*inputs)
    y.backward(gy)
    return {"the output": y.data, **{f"the gradient of input {i}": x.grad for i, x in enumerate(inputs, 1)}}


def network(answer, replaces, image, labels, seed):
    """Run a small FCN-8s with the answer in place of a kernel or operation: scores, loss and all gradients, by name.

    Parameters
    ----------
    answer : callable or None
        None keeps the library's kernel or operation.
    replaces : str
        The name of the kernel or operation.
    image : array (N, 3, H, W)
    labels : array (N, H, W)
    seed : int
        For the weights.
    """
    model = fcn(labels, seed)
    with mf.override(**{replaces: answer} if answer is not None else {}):
        scores = model(mf.Tensor(image))
        loss = mf.ops.cross_entropy(scores, labels)
        loss.backward()
    gradients = {f"the gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"the scores": scores.data, "the loss": loss.data, **gradients}


def fcn(labels, seed, **options):
    """A small FCN-8s in float64 with random score layers: they start at zero, and would make all scores zero."""
    mf.manual_seed(seed)
    model = mf.models.fcn8s_mini(num_classes=int(labels[labels != 255].max()) + 1, width=0.125, **options)
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data = p.data.astype("float64")
        if not p.data.any():
            p.data = 0.1 * rng.standard_normal(p.shape)
    return model


def forward(answer, parameters, arrays):
    """Call a Function class: its output only."""
    return answer(**parameters)(*map(mf.Tensor, arrays)).data


def upsampling(answer, factor, image, labels, seed):
    """Run an FCN whose last layer has the answer as its ``weight_init``: scores and loss.

    Parameters
    ----------
    factor : int
        The factor of the upsampling, and the stride of the trunk below it.
    image : array (N, 3, H, W)
    labels : array (N, H, W)
    seed : int
        For the other weights.
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
    return {"the scores": scores.data, "the loss": mf.ops.cross_entropy(scores, labels).data}


def draws(answer, labels, keep, seed, times):
    """Call a random answer `times` times with one generator, and once with a new generator of the same seed."""
    rng = np.random.default_rng(seed)
    drawn = [np.asarray(answer(labels, keep, rng)) for _ in range(times)]
    return np.stack(drawn), np.asarray(answer(labels, keep, np.random.default_rng(seed)))


def step(answer, lr, source, target, image, labels, seed):
    """The weights of a small FCN-8s after one step with reduction `target` and the learning rate of the answer."""
    model = fcn(labels, seed)
    labelled = int((labels != 255).sum())
    mf.ops.cross_entropy(model(mf.Tensor(image)), labels, reduction=target).backward()
    rate = float(answer(lr, source, target, labelled, len(labels)))
    mf.optim.SGD(model.parameters(), rate, momentum=0).step()
    return {f"{name} after the step": p.data for name, p in model.named_parameters()}


def numbers(answer, *args):
    """Call an answer that returns several numbers: floats of them, whether int, Fraction or NumPy's."""
    return tuple(map(float, answer(*args)))


def whole(answer, *args):
    """Call an answer that returns a whole number: an int, whatever its type; other values unchanged."""
    value = answer(*args)
    return int(value) if isinstance(value, Number) and value == int(value) else value


def sliding(answer, images, first, second, channels, size):
    """Convert two fully connected layers on maps (channels, *size) to convolutions, and run these on larger images."""
    maps = mf.ops.relu(mf.ops.conv2d(images, answer(first, channels, size)))
    return mf.ops.conv2d(maps, answer(second, len(first), (1, 1))).data


def on_maps(answer, image, path_a, path_b):
    """Call the answer with two maps of one image, each computed along a path: its output, and the image's gradient."""
    image = mf.Tensor(image, requires_grad=True, name="image")
    y = answer(follow(image, path_a), follow(image, path_b))
    y.backward(y.data)
    return {"the output": y.data, "the gradient of the image": image.grad}


def follow(x, path):
    """The map of `x` (N, 1, H, W) after the operations of `path`: (operation, kernel, stride, padding) each."""
    for operation, kernel, stride, padding in path:
        if operation == "pad":
            x = mf.ops.pad(x, padding)
            continue
        if operation == "pool":
            x = mf.ops.max_pool2d(x, kernel, stride, padding, ceil_mode=True)
            continue
        h, w = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = np.cos(np.arange(1.0, h * w + 1)).reshape(1, 1, h, w)
        convolution = mf.ops.conv2d if operation == "conv" else mf.ops.conv_transpose2d
        x = convolution(x, weight, stride=stride, padding=padding)
    return x


def cropping(answer, image, labels, seed, pad):
    """Run a small FCN-8s whose head crops with the answer: scores, loss and every gradient."""
    model = fcn(labels, seed, pad=pad)
    model.heads[""].crop = answer
    scores = model(mf.Tensor(image))
    loss = mf.ops.cross_entropy(scores, labels)
    loss.backward()
    gradients = {f"the gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"the scores": scores.data, "the loss": loss.data, **gradients}


def parts(answer, stride, num_classes):
    """The parameters of a head on a small trunk: (name, initial values, whether it is learned) of each."""
    mf.manual_seed(0)
    head = answer(mf.models.build_trunk("mini", width=0.125), stride, num_classes)
    return tuple((name, p.data, p.requires_grad) for name, p in sorted(head.named_parameters()))


def headed(answer, stride, num_classes, image, labels, seed):
    """Run a head on a small trunk: scores, loss and gradients of the learned parameters.

    The values of each parameter are drawn with its name as the seed, in whatever order the head makes them.
    """
    trunk = mf.models.build_trunk("mini", width=0.125, dropout=0)
    model = mf.models.FCN(trunk, {"": answer(trunk, stride, num_classes)})
    parameters = dict(sorted(model.named_parameters()))
    for name, p in parameters.items():
        p.data = 0.3 * np.random.default_rng([seed, *map(ord, name)]).standard_normal(p.shape)
    scores = model(mf.Tensor(image))
    loss = mf.ops.cross_entropy(scores, labels)
    loss.backward()
    learn = (p for name, p in parameters.items() if not name.startswith("upscore"))
    gradients = tuple(p.data * 0 if p.grad is None else p.grad for p in learn)
    return {"the scores": scores.data, "the loss": loss.data, "the gradients": gradients}


def update(answer, w, g, velocity, *rest):
    """Call an answer that changes `w` and `velocity` in place: both afterwards."""
    w, velocity = w.copy(), velocity.copy()
    answer(w, g, velocity, *rest)
    return {"w": w, "velocity": velocity}


def stepping(answer, image, labels, seed, form):
    """The weights of a small FCN-8s after three steps with the answer as the optimiser's kernel."""
    model = fcn(labels, seed)
    optimizer = mf.optim.SGD(model.parameters(), lr=1e-4, momentum=0.8, weight_decay=0.1, form=form)
    with mf.override(sgd=answer):
        for _ in range(3):
            mf.ops.cross_entropy(model(mf.Tensor(image)), labels).backward()
            optimizer.step()
            optimizer.lr /= 2
    return {f"{name} after three steps": p.data for name, p in model.named_parameters()}


class Pairs:
    """A data set of images and labels in memory."""

    def __init__(self, images, labels, num_classes):
        self.images, self.labels, self.num_classes = images, labels, num_classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def fitting(answer, images, labels, num_classes, epochs, training):
    """Train a small FCN-8s with the answer: the loss of each epoch, the weights and running statistics."""
    model = fcn(labels, 0, dropout=0).train(training)
    loader = mf.data.Loader(Pairs(images, labels, num_classes), 2, shuffle=True)
    optimizer = mf.optim.SGD(model.parameters(), lr=1e-4, momentum=0.5)
    losses = answer(model, loader, optimizer=optimizer, epochs=epochs)
    losses = (
        [row["loss"] for row in losses.rows] if hasattr(losses, "rows") else losses
    )  # the library's mf.fit returns a history
    learned = {f"{name} after training": array for name, array in model.state_dict().items()}
    return {"the loss of each epoch": np.array(losses, float), **learned}


def learned(answer, seed, images, labels, num_classes):
    """Draw the weights of the small FCN that the answer describes, and have the answer train it.

    Returns
    -------
    dict
        The description, and the weights afterwards.  The judge computes the predictions with them (see
        :func:`drawn_net`): in this process, code of the submission could give any prediction.
    """
    net = dict(answer["NET"])
    model = drawn_net(net, num_classes, seed)
    answer["learn"](model, images.copy(), labels.copy())  # it may shuffle them in place
    return {"net": net, "weights": model.state_dict()}


def seeded(answer, seed, *args):
    """Call the answer with a random generator as its last argument."""
    return answer(*args, np.random.default_rng(seed))


def graph(links):
    """A leaf and the tensors computed from it, in order: link (i,) negates tensor i, link (i, j) adds i and j."""
    tensors = [mf.Tensor(np.arange(1.0, 4.0), requires_grad=True)]
    for link in links:
        tensors.append((mf.ops.neg if len(link) == 1 else mf.ops.add)(*(tensors[i] for i in link)))
    return tensors


def visits(answer, links):
    """The order of nodes that the answer returns for the last tensor of :func:`graph`, by index; −1: no such node."""
    return _numbered(answer, graph(links))


def _numbered(answer, tensors):
    number = {tensor.creator: i for i, tensor in enumerate(tensors) if i}
    return np.array([number.get(node, -1) for node in answer(tensors[-1].creator)], int)


def visits_again(answer, links):
    """The order that a second call returns for the same graph."""
    tensors = graph(links)
    _numbered(answer, tensors)
    return _numbered(answer, tensors)


VIEWS = {
    "the identity": lambda x: x, "its last axis reversed": lambda x: x[..., ::-1], "transposed": lambda x: x.T,
    "one row": lambda x: x[0],
}  # fmt: skip


def slopes_of_view(answer, form, x, v):
    """The numerical gradient of a function that returns a view of its argument.

    The function is in this process: the judge's functions return copies.
    """
    return answer(VIEWS[form], x, v)


def backward(answer, links, gy):
    """The gradient of the leaf of :func:`graph` when backward visits the nodes in the answer's order."""
    tensors = graph(links)
    tensors[-1].backward(gy, order=answer)
    return tensors[0].grad


def network_backward(answer, image, labels, seed):
    """Every gradient of a small FCN-8s when backward visits the nodes in the answer's order."""
    model = fcn(labels, seed)
    mf.ops.cross_entropy(model(mf.Tensor(image)), labels).backward(order=answer)
    return {f"the gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}


def in_every_order(answer, *args):
    """Call a kernel in CUDA C++ with its threads in several orders; the library's kernel once."""
    return getattr(answer, "in_every_order", answer)(*args)


def twice(answer, first, second):
    """Two calls with the same shapes and other numbers; the first result is read after the second call."""
    return answer(*first), answer(*second)


def two_nodes(answer, parameters, first, second, gy):
    """Two nodes of a Function class, which both run forward before either runs backward, and the first one first."""
    inputs = [[mf.Tensor(a, requires_grad=True) for a in arrays] for arrays in (first, second)]
    outputs = [answer(**parameters)(*one) for one in inputs]
    for y in outputs:
        y.backward(gy)
    results = {}
    for node, y, tensors in zip(("first", "second"), outputs, inputs):
        gradients = {f"the gradient of input {i} of the {node} node": x.grad for i, x in enumerate(tensors, 1)}
        results |= {f"the output of the {node} node": y.data, **gradients}
    return results
