"""Functions of minifcn that are an answer in disguise: closed to the submission's answer, open to the framework."""

import functools
import inspect
import sys
import threading

import minifcn

from . import guard

DISGUISES = {
    "im2col": ("col2im", "conv2d", "conv2d_grad_input", "conv2d_grad_weight", "kernels.textbook.sliding_windows"),
    "conv2d": ("conv2d_grad_input", "conv2d_grad_weight"),
    "col2im": (
        "conv2d_grad_input", "conv2d_grad_weight", "max_pool2d_grad", "avg_pool2d_grad", "kernels.textbook.tap_slices",
    ),
    "conv2d_grad_input": ("conv2d_grad_weight", "max_pool2d_grad", "avg_pool2d_grad"),
    "conv2d_grad_weight": ("conv2d_grad_input",),
    "max_pool2d": ("training.metrics._over_window",),
    "max_pool2d_grad": ("col2im", "conv2d_grad_input", "avg_pool2d_grad", "kernels.textbook.tap_slices"),
    "kernels.shapes.pool_size": ("kernels.shapes.conv_size", "kernels.shapes.reach"),
    "nn.init.bilinear": ("ops.interpolate.interpolate", "ops.interpolate.linear_weights"),
    "relu": ("relu6",),
    "relu_grad": ("relu6_grad",),
    "softmax_loss_grad": ("ops.activation.Softmax.backward", "ops.activation.LogSoftmax.backward"),
    "dense_prediction.patchwise": ("models.dense_prediction.shift_and_stitch",),
    "engine.gradcheck.numerical_gradient": ("engine.gradcheck.adjoint_check",),
    "optim.convert_lr": ("nn.optim.step_factor",),
    "optim.equivalent_momentum": ("nn.optim.effective_step",),
    "metrics.ConfusionMatrix": ("training.metrics.counts", "training.metrics.scores_from"),
}  # fmt: skip
"""What computes the same as a forbidden function: its adjoint, a sum of shifted maps, or the parts it is made of."""


def close(forbidden):
    """Close the :data:`DISGUISES` of forbidden functions while an answer of the submission is running.

    They cannot be removed as ``guard.forbid`` removes the answers themselves.  A network needs, for instance, the
    gradients of a convolution while it runs with the submission's convolution.
    """
    for name in {other for answer in forbidden for other in DISGUISES.get(answer, ())} - set(forbidden):
        if name in minifcn.kernels.KERNELS:
            kernel = minifcn.kernels.KERNELS[name]
            kernel.textbook = _closed(name, kernel.textbook)
            setattr(minifcn.kernels.textbook, name, kernel.textbook)
            continue
        found, (holder, _, last) = guard.resolve(name), name.rpartition(".")
        if inspect.isclass(guard.resolve(holder)):
            setattr(guard.resolve(holder), last, _closed(name, found))
        else:
            guard.replace(found, _closed(name, found))


def _closed(name, function):
    """A function like `function` that raises :class:`guard.Forbidden` for an answer, and in any other thread."""

    @functools.wraps(function)
    def closed(*args, **kwargs):
        if _called_by_an_answer() or threading.current_thread() is not threading.main_thread():
            raise guard.Forbidden(f"minifcn's own {name} computes what this task asks you to write")
        return function(*args, **kwargs)

    del closed.__wrapped__
    return closed


def _called_by_an_answer():
    """Whether code of a cell is running inside a probe: it is on the stack, above ``child.attempt``."""
    frame, inside = sys._getframe(1), False
    while frame:
        inside |= frame.f_code.co_filename.startswith("cell ")
        if inside and frame.f_code.co_name == "attempt":
            return True
        frame = frame.f_back
    return False
