"""What is done with an answer: by the process that runs a submission with the student's, by the judge with its own.

Nothing here says what is right.  ``answer`` is what the task asks for by name; a task that asks for several things
gives a dict of them.  Arrays come in, arrays go out.
"""

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
    return y.data, *(x.grad for x in inputs)


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
    return tuple(p.data for p in model.parameters())
