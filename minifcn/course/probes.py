"""What is done with an answer: by the process that runs a submission with the student's, by the judge with its own.

Nothing here says what is right.  ``answer`` is what the task asks for by name; a task that asks for several things
gives a dict of them.  Arrays come in, arrays go out.
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
