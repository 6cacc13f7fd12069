"""Operations on tensors.  Each is one Function, with its formula, its forward and its backward.

This module collects them and gives Tensor its operators and methods (``a + b``, ``x[...]``, ``x.sum()``).
"""

from ..engine.core import Tensor
from . import numpy_protocol
from .activation import dropout, leaky_relu, log_softmax, prelu, relu, relu6, sigmoid, softmax
from .arithmetic import abs, add, div, exp, linear, log, matmul, max, mean, min, mul, neg, pow, sub, sum
from .conv import col2im, conv2d, conv_transpose2d, im2col
from .interpolate import interpolate
from .loss import cross_entropy
from .norm import batch_norm, local_response_norm
from .pool import avg_pool2d, max_pool2d
from .shape import concat, crop, getitem, pad, reshape, transpose

__all__ = [
    "abs", "add", "avg_pool2d", "batch_norm", "col2im", "concat", "conv2d", "conv_transpose2d", "crop",
    "cross_entropy", "div", "dropout", "exp", "getitem", "im2col", "interpolate", "leaky_relu", "linear",
    "local_response_norm", "log", "log_softmax", "matmul", "max", "max_pool2d", "mean", "min", "mul", "neg", "pad",
    "pow", "prelu", "relu", "relu6", "reshape", "sigmoid", "softmax", "sub", "sum", "transpose",
]  # fmt: skip

numpy_protocol.attach()
Tensor.__add__ = add
Tensor.__radd__ = lambda x, other: add(other, x)
Tensor.__sub__ = sub
Tensor.__rsub__ = lambda x, other: sub(other, x)
Tensor.__mul__ = mul
Tensor.__rmul__ = lambda x, other: mul(other, x)
Tensor.__truediv__ = div
Tensor.__rtruediv__ = lambda x, other: div(other, x)
Tensor.__pow__ = pow
Tensor.__rpow__ = lambda x, other: pow(other, x)
Tensor.__matmul__ = matmul
Tensor.__rmatmul__ = lambda x, other: matmul(other, x)
Tensor.__neg__ = neg
Tensor.__getitem__ = getitem
Tensor.sum = sum
Tensor.mean = mean
Tensor.max = max
Tensor.reshape = reshape
Tensor.transpose = transpose
Tensor.T = property(transpose)
