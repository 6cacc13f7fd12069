"""Kernels: array -> array mathematics without autograd.  Each has one contract and several implementations:

- ``reference``  nested loops straight from the formula: the definition, slow on purpose
- ``textbook``   vectorised, one source for NumPy and CuPy: what the notebooks teach
- ``cpu``        faster versions for NumPy (banded im2col and matrix products on worker threads, ...)
- ``compiled``   loops compiled by Numba, if it is installed
- ``gpu``        faster versions for CuPy (CUDA sources, one 2-D matrix product for each band, ...)
- ``shapes``     zero-stride arrays of the right shape, for ``shapes_only()``

This file is the table of the kernels.  Pairs are (h, w).  ``conv2d`` has no bias: ``add_bias`` is a kernel of its own.
"""

from . import compiled, gpu, reference, shapes, textbook
from .cpu import elementwise, loss, norm, pooling, products
from .cpu.conv import choice
from .registry import KERNELS, Kernel, is_overridden, is_shapes_only, overridden, override, shapes_only

__all__ = [
    "KERNELS",
    "Kernel",
    "implementations",
    "is_overridden",
    "is_shapes_only",
    "overridden",
    "override",
    "shapes_only",
]


def _kernel(name, **numpy):
    definitions = [getattr(module, name) for module in (reference, textbook, shapes)]
    machine = compiled.implementations(name, next(iter(numpy.values()), definitions[1]))
    return Kernel(name, *definitions, numpy=numpy, cupy=gpu.implementations(name), compiled=machine)


conv2d = _kernel("conv2d", **choice.implementations("conv2d"))
conv2d_grad_input = _kernel("conv2d_grad_input", **choice.implementations("conv2d_grad_input"))
conv2d_grad_weight = _kernel("conv2d_grad_weight", **choice.implementations("conv2d_grad_weight"))
add_bias = _kernel("add_bias", pieces=elementwise.add_bias)
bias_relu = _kernel("bias_relu", pieces=elementwise.bias_relu)
bias_relu_grad = _kernel("bias_relu_grad", pieces=elementwise.bias_relu_grad)
channel_sums = _kernel("channel_sums", pieces=elementwise.channel_sums)
word_sums = _kernel("word_sums", shared=elementwise.word_sums)
matmul = _kernel("matmul", shared=products.matmul)
im2col = _kernel("im2col")
col2im = _kernel("col2im")
max_pool2d = _kernel("max_pool2d", taps=pooling.max_pool2d)
max_pool2d_grad = _kernel("max_pool2d_grad", taps=pooling.max_pool2d_grad)
avg_pool2d = _kernel("avg_pool2d")
avg_pool2d_grad = _kernel("avg_pool2d_grad")
relu = _kernel("relu", pieces=elementwise.relu)
relu_grad = _kernel("relu_grad", pieces=elementwise.relu_grad)
relu6 = _kernel("relu6", pieces=elementwise.relu6)
relu6_grad = _kernel("relu6_grad", pieces=elementwise.relu6_grad)
softmax_loss = _kernel("softmax_loss", pieces=loss.softmax_loss)
softmax_loss_grad = _kernel("softmax_loss_grad", pieces=loss.softmax_loss_grad)
local_response_norm = _kernel("local_response_norm")
local_response_norm_grad = _kernel("local_response_norm_grad")
batch_norm = _kernel("batch_norm", chunked=norm.batch_norm)
scale_channels = _kernel("scale_channels", chunked=norm.scale_channels)
batch_norm_grad = _kernel("batch_norm_grad", chunked=norm.batch_norm_grad)
batch_norm_relu = _kernel("batch_norm_relu")
batch_norm_relu_grad = _kernel("batch_norm_relu_grad")
sgd = _kernel("sgd", pieces=elementwise.sgd)
adam = _kernel("adam", pieces=elementwise.adam)
sync_batch_norm = _kernel("sync_batch_norm", chunked=norm.sync_batch_norm)
sync_batch_norm_grad = _kernel("sync_batch_norm_grad", chunked=norm.sync_batch_norm_grad)


def implementations(kernel: str, owner: str = "numpy") -> list[str]:
    """The names of the implementations of `kernel` for arrays of `owner` (``"numpy"``, ``"cupy"``), default first."""
    if kernel not in KERNELS:
        raise ValueError(f"no kernel is called {kernel!r}: choose from {', '.join(KERNELS)}")
    return list(KERNELS[kernel].implementations(owner))
