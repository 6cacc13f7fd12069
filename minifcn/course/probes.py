"""What is done with an answer.  The process that runs a submission does it with the student's, the judge with its own.

Nothing here says what is right.  ``answer`` is what the task asks for by name; a task that asks for several things gives
a dict of them.  Arrays come in, arrays go out.
"""

import numpy as np

import minifcn as mf


def call(answer, *args):
    """The answer, called."""
    return answer(*args)


def function(answer, parameters, arrays, gy):
    """A Function class: its output, and the gradient of every input for the upstream gradient `gy`."""
    inputs = [mf.Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y = answer(**parameters)(*inputs)
    y.backward(gy)
    return y.data, *(x.grad for x in inputs)


def network(answer, replaces, image, labels, seed):
    """A small FCN-8s run with the answer in the place of the library's: scores, loss and every gradient.

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
    return scores.data, loss.data, *(p.grad for p in model.parameters() if p.grad is not None)


def fcn(labels, seed):
    """A small FCN-8s in float64 whose scores are not zero."""
    mf.manual_seed(seed)
    model = mf.models.fcn8s_mini(num_classes=int(labels[labels != 255].max()) + 1, width=0.125)
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data = p.data.astype("float64")
        if not p.data.any():
            p.data = 0.1 * rng.standard_normal(p.shape)
    return model


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
