"""Chains of elementwise arithmetic on CuPy, each in one CUDA kernel, so that every array is read and written once."""

from functools import cache

SOURCES = {  # name: inputs, outputs (the optimisers change theirs in place), the operation on each element
    "relu_grad": ("T gy, S y", "T gx", "gx = y != S(0) ? gy : T(0)"),
    "relu6_grad": ("T gy, S y", "T gx", "gx = y != S(0) && y != S(6) ? gy : T(0)"),
    "batch_norm": (
        "T x, T mean, T var, T gamma, T beta, T eps",
        "T y",
        "y = (x - mean) * (gamma / sqrt(var + eps)) + beta",
    ),
    "batch_norm_grad": (
        "T gy, T x, T mean, T var, T gamma, T ggamma, T gbeta, T eps, T m",
        "T gx",
        "T rstd = 1 / sqrt(var + eps);"
        "gx = gamma * rstd * (gy - gbeta / m - (x - mean) * rstd * ggamma / m)",
    ),
    "sgd_caffe": (
        "T g, T rate, T decay, T momentum",
        "T w, T velocity",
        "velocity = momentum * velocity + rate * (g + decay * w); w -= velocity",
    ),
    "sgd_torch": (
        "T g, T rate, T decay, T momentum",
        "T w, T velocity",
        "velocity = momentum * velocity + (g + decay * w); w -= rate * velocity",
    ),
    "adam": (
        "T g, T rate, T decay, T b1, T b2, T eps, T of_mean, T of_square",
        "T w, T mean, T square",
        "mean += (1 - b1) * (g - mean); square += (1 - b2) * (g * g - square);"
        "w -= rate * (mean / of_mean) / (sqrt(square / of_square) + eps) + rate * decay * w",
    ),
}  # fmt: skip


@cache
def elementwise(name):
    """The ElementwiseKernel `name`, made once.  Python numbers among its inputs are converted to the arrays' type."""
    import cupy

    return cupy.ElementwiseKernel(*SOURCES[name], f"minifcn_{name}")


def relu_grad(gy, y):
    return elementwise("relu_grad")(gy, y)


def relu6_grad(gy, y):
    return elementwise("relu6_grad")(gy, y)


def sgd(w, g, velocity, rate, decay, momentum, form):
    elementwise(f"sgd_{form}")(g, rate, decay, momentum, w, velocity)


def adam(w, g, mean, square, rate, decay, b1, b2, eps, steps):
    elementwise("adam")(g, rate, decay, b1, b2, eps, 1 - b1**steps, 1 - b2**steps, w, mean, square)
