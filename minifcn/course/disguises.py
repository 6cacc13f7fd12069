"""Functions of minifcn that are an answer in disguise: closed to the submission's answer, open to the framework.

A submission can change every name and every function that it reaches.  So an audit hook keeps the functions and decides
who may call them: Python code cannot reach a hook, and cannot remove it.
"""

import functools
import gc
import inspect
import sys
import threading
import types

import minifcn

from . import guard, probes

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
    "relu": ("relu6", "batch_norm_relu", "bias_relu"),
    "relu_grad": ("relu6_grad", "batch_norm_relu_grad", "bias_relu_grad"),
    "softmax_loss_grad": ("ops.activation.Softmax.backward", "ops.activation.LogSoftmax.backward"),
    "dense_prediction.patchwise": ("models.dense_prediction.shift_and_stitch",),
    "engine.gradcheck.numerical_gradient": ("engine.gradcheck.adjoint_check",),
    "optim.convert_lr": ("nn.optim.step_factor",),
    "optim.equivalent_momentum": ("nn.optim.effective_step",),
    "metrics.ConfusionMatrix": ("training.metrics.counts", "training.metrics.scores_from"),
}  # fmt: skip
"""What computes the same as a forbidden function: its adjoint, a sum of shifted maps, or the parts it is made of."""


EVENT = "minifcn.course.disguises"


def close(forbidden, attempt, run_cells):
    """Close the :data:`DISGUISES` of forbidden functions to the answers of a submission, which must not have run yet.

    They cannot be removed as ``guard.forbid`` removes the answers themselves.  A network needs, for instance, the
    gradients of a convolution while it runs with the submission's convolution.

    Parameters
    ----------
    forbidden : list of str
    attempt, run_cells : callable
        The functions that run the submission's answer and its cells.  While cells run, all is open: they only define
        the answers.
    """
    kept = {}
    for name in {other for answer in forbidden for other in DISGUISES.get(answer, ())} - set(forbidden):
        if name in minifcn.kernels.KERNELS:
            kernel = minifcn.kernels.KERNELS[name]
            kept[name] = kernel.textbook
            kernel.textbook = _closed(name, kernel.textbook)
            setattr(minifcn.kernels.textbook, name, kernel.textbook)
            continue
        kept[name], (holder, _, last) = guard.resolve(name), name.rpartition(".")
        if inspect.isclass(guard.resolve(holder)):
            setattr(guard.resolve(holder), last, _closed(name, kept[name]))
        else:
            guard.replace(kept[name], _closed(name, kept[name]))
    if kept:
        sys.addaudithook(_keeper(kept, attempt.__code__, run_cells.__code__))


def _closed(name, function):
    """A function like `function` that has the audit hook call the original, or raises :class:`guard.Forbidden`."""
    audit, ours, error = sys.audit, EVENT, guard.Forbidden

    @functools.wraps(function)
    def closed(*args, **kwargs):
        call = [name, args, kwargs, (False, None)]
        audit(ours, call)
        right, result = call[3]
        if right:
            return result
        raise result or error(f"minifcn's own {name} cannot run here")

    del closed.__wrapped__
    return closed


def _keeper(kept, attempt, run_cells):
    """An audit hook that calls the functions `kept` for the framework, and refuses them to the submission's answer."""
    known, probing, main = _known(), vars(probes), threading.main_thread().ident

    def hook(
        event, args, *, kept=kept, known=known, attempt=attempt, run_cells=run_cells, probing=probing, ours=EVENT,
        type=type, id=id, list=list, tuple=tuple, str=str, dict=dict, BaseException=BaseException,
        frame_at=sys._getframe, thread=threading.get_ident, main=main, error=guard.Forbidden,
    ):  # fmt: skip
        # As in guard.lock, all names are bound here, and an argument counts only if its exact type is right.
        # The table of functions is deleted from this frame before anything of the submission can run and see it.
        if event != ours:
            return
        try:
            call = args[0] if type(args[0]) is list else None
            name, given, named = tuple(call)[:3]
            if type(name) is not str or type(given) is not tuple or type(named) is not dict:
                return
            function = kept[name]
            frame, foreign, answering, defining = frame_at(1), False, False, False
            direct = frame.f_back.f_globals is probing  # a probe got the function itself, or a partial of it
            while frame:
                foreign = foreign or id(frame.f_code) not in known
                answering = answering or (foreign and frame.f_code is attempt)
                defining = defining or frame.f_code is run_cells
                frame = frame.f_back
            closed = direct or answering or (foreign and not defining) or thread() != main
        except BaseException:
            return
        finally:
            del kept, known
        try:
            if closed:
                raise error(f"minifcn's own {name} computes what this task asks you to write")
            call[3] = True, function(*given, **named)
        except BaseException as raised:
            call[3] = False, raised.with_traceback(raised.__traceback__.tb_next)  # without this frame
        finally:
            del function

    return hook


def _known():
    """The code of all functions that are loaded now, by id: other code is the submission's, whatever its file name."""
    codes, known, frame = [f.__code__ for f in gc.get_objects() if type(f) is types.FunctionType], {}, sys._getframe()
    while frame:
        codes.append(frame.f_code)
        frame = frame.f_back
    while codes:
        code = codes.pop()
        if id(code) not in known:
            known[id(code)] = code  # kept, so that no other object gets its id
            codes += [c for c in code.co_consts if type(c) is types.CodeType]
    return known
