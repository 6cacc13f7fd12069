"""Chains of elementwise arithmetic on CuPy, each one kernel: every array is read and written once."""

from functools import cache


@cache
def elementwise(name, inputs, outputs, operation):
    """CuPy's ElementwiseKernel, made once.  Scalars among its inputs take the arrays' type T."""
    import cupy

    return cupy.ElementwiseKernel(inputs, outputs, operation, f"minifcn_{name}")


def relu_grad(gy, y):
    return elementwise("relu_grad", "T gy, S y", "T gx", "gx = y > S(0) ? gy : T(0)")(gy, y)


def sgd(w, g, velocity, rate, decay, momentum, form):
    caffe = "velocity = momentum * velocity + rate * (g + decay * w); w -= velocity"
    torch = "velocity = momentum * velocity + (g + decay * w); w -= rate * velocity"
    update = elementwise(
        f"sgd_{form}", "T g, T rate, T decay, T momentum", "T w, T velocity", caffe if form == "caffe" else torch
    )
    update(g, rate, decay, momentum, w, velocity)


def adam(w, g, mean, square, rate, decay, b1, b2, eps, steps):
    update = elementwise(
        "adam", "T g, T rate, T decay, T b1, T b2, T eps, T of_mean, T of_square", "T w, T mean, T square",
        "mean += (1 - b1) * (g - mean); square += (1 - b2) * (g * g - square);"
        "w -= rate * (mean / of_mean) / (sqrt(square / of_square) + eps) + rate * decay * w",
    )  # fmt: skip
    update(g, rate, decay, b1, b2, eps, 1 - b1**steps, 1 - b2**steps, w, mean, square)
