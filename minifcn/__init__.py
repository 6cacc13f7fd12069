"""minifcn: Fully Convolutional Networks for Semantic Segmentation, from scratch in NumPy and CuPy.

>>> import numpy as np, minifcn as mf
>>> x = mf.Tensor(np.ones((1, 1, 4, 4)), requires_grad=True, name="x")
>>> y = mf.ops.conv2d(x, np.ones((1, 1, 3, 3)), padding=1)
>>> y.sum().backward()
>>> x.grad[0, 0].tolist()
[[4.0, 6.0, 6.0, 4.0], [6.0, 9.0, 9.0, 6.0], [6.0, 9.0, 9.0, 6.0], [4.0, 6.0, 6.0, 4.0]]
"""

import sys as _sys

from . import data, geometry, io, kernels, models, nn, ops, viz
from .arrays import backend
from .arrays.backend import manual_seed
from .engine.core import Function, Tensor, no_grad
from .engine.gradcheck import GradcheckError, adjoint_check, gradcheck, numerical_gradient
from .engine.trace import trace
from .errors import GeometryError
from .kernels import override, shapes_only
from .kernels.compiled.compiler import compiled
from .models import dense_prediction
from .nn import losses, optim
from .training import metrics
from .training.loop import fit

__version__ = "0.1.0"

__all__ = [
    "Function", "GeometryError", "GradcheckError", "Tensor", "adjoint_check", "backend", "compiled", "data",
    "dense_prediction",
    "fit", "geometry", "gradcheck", "io", "kernels", "losses", "manual_seed", "metrics", "models", "nn", "no_grad",
    "numerical_gradient", "ops", "optim", "override", "shapes_only", "trace", "viz",
]  # fmt: skip

for _module in (
    dense_prediction,
    losses,
    metrics,
    optim,
):  # `from minifcn.optim import SGD` works, as `mf.optim.SGD` does
    _sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module
