"""minifcn: Fully Convolutional Networks for Semantic Segmentation, from scratch in NumPy and CuPy.

>>> import numpy as np, minifcn as mf
>>> x = mf.Tensor(np.ones((1, 1, 4, 4)), requires_grad=True, name="x")
>>> y = mf.ops.conv2d(x, np.ones((1, 1, 3, 3)), padding=1)
>>> y.sum().backward()
>>> x.grad[0, 0].tolist()
[[4.0, 6.0, 6.0, 4.0], [6.0, 9.0, 9.0, 6.0], [6.0, 9.0, 9.0, 6.0], [4.0, 6.0, 6.0, 4.0]]
"""

from . import data, dense_prediction, geometry, io, kernels, metrics, models, nn, ops, optim, viz
from .backend import manual_seed
from .coords import GeometryError
from .core import Function, Tensor, no_grad
from .gradcheck import GradcheckError, adjoint_check, gradcheck, numerical_gradient
from .kernels import override, shapes_only
from .trace import trace
from .training import fit

__version__ = "0.1.0"

__all__ = [
    "Function", "GeometryError", "GradcheckError", "Tensor", "adjoint_check", "data", "dense_prediction", "fit",
    "geometry", "gradcheck", "io", "kernels", "manual_seed", "metrics", "models", "nn", "no_grad",
    "numerical_gradient", "ops", "optim", "override", "shapes_only", "trace", "viz",
]  # fmt: skip
