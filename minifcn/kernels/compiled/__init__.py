"""Kernels in loops, as the definition has them, compiled by Numba (the extra ``compiled``).

They are the default for float32 and float64 arrays if Numba is installed.  For all other arrays, and with
``MINIFCN_COMPILED=0``, the NumPy versions run.
"""

from functools import cache, wraps

import numpy as np

from ..cpu import workers
from . import conv, elementwise, loss, norm, pooling, products, spinning
from .compiler import available, works

KERNELS = {
    name: getattr(module, name)
    for module, names in {
        conv: ("conv2d", "conv2d_grad_input", "conv2d_grad_weight"),
        elementwise: (
            "relu", "relu_grad", "relu6", "relu6_grad", "add_bias", "channel_sums", "sgd", "adam",
            "bias_relu", "bias_relu_grad",
        ),
        loss: ("softmax_loss", "softmax_loss_grad"),
        norm: ("batch_norm", "batch_norm_grad", "batch_norm_relu", "batch_norm_relu_grad", "scale_channels"),
        products: ("matmul",),
        pooling: ("max_pool2d", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad"),
    }.items()
    for name in names
}  # fmt: skip


IN_PLACE = {"add_bias", "bias_relu", "sgd", "adam"}
"""The kernels that write into their arguments, which must then be C-contiguous; others copy an array that is not."""

STRIDED = {"softmax_loss", "matmul"}
"""The kernels that take arrays that are not contiguous: scores are often a crop, and a matrix is often transposed."""

SAVED = {"batch_norm_grad", "batch_norm_relu_grad"}
"""The kernels with a tuple among their arguments that has arrays, those which the forward pass saved."""

FLOATS = SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
BYTES, LABELS = (np.dtype(np.uint8),), (np.dtype(np.int64),)
INTEGERS = dict(max_pool2d_grad=BYTES, softmax_loss=LABELS, softmax_loss_grad=LABELS)
"""The type of a kernel's integers, which are indices of pooling or labels."""


@cache
def _ready():
    """Whether Numba works.  If it does, threads that wait spin from now on.

    Their loop is compiled here, on the thread that calls a kernel: a helper thread that imports or compiles in the
    background would leave its locks to a process that is forked meanwhile.
    """
    if not works():
        return False
    spinning.until_changed.compile("f")
    workers.spin = spinning.spin
    return True


def implementations(kernel, plain):
    """``{"compiled": function}`` if there is one for the kernel and Numba is installed; else {}.

    The function calls `plain`, the NumPy version, for arrays that compiled kernels do not take.
    """
    if kernel not in KERNELS or not available():
        return {}
    version, integers, strided, saved = KERNELS[kernel], INTEGERS.get(kernel, ()), kernel in STRIDED, kernel in SAVED

    @wraps(version)
    def call(*args):
        if not saved and _all_fit(args):
            return version(*args)
        arrays = [a for a in args if isinstance(a, np.ndarray)]
        if saved:
            arrays += [a for arg in args if isinstance(arg, tuple | list) for a in arg if isinstance(a, np.ndarray)]
        if not takes(arrays, integers):
            return plain(*args)
        if not strided and not all([a.flags.c_contiguous for a in arrays]):
            if kernel in IN_PLACE:
                return plain(*args)
            args = [np.asarray(a, order="C") if isinstance(a, np.ndarray) else a for a in args]
        return version(*args)

    return {"compiled": call}


def _all_fit(args):
    """Whether all arrays among the arguments are of one of the FLOATS, contiguous and not empty, and Numba works.

    If not, ``call`` looks more closely.  Most calls need no more than this loop, which takes half a microsecond.
    """
    kind = None
    for a in args:
        if isinstance(a, np.ndarray):
            dtype = a.dtype
            if dtype is not kind:
                if kind is not None or (dtype is not SINGLE and dtype is not DOUBLE):
                    return False
                kind = dtype
            if not (a.size and a.flags.c_contiguous):
                return False
    return kind is not None and _ready()


def takes(arrays, integers=()):
    """Whether compiled kernels run on NumPy's `arrays`: Numba works, all are of one type, float32 or float64, or of
    `integers`, and none is empty."""
    kind = None
    for a in arrays:
        dtype = a.dtype
        if dtype not in integers:
            kind = kind or dtype
            if dtype not in FLOATS or dtype != kind:
                return False
        if not a.size:
            return False
    return kind is not None and _ready()
