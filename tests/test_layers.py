"""Every layer: its value in plain NumPy, the gradients of its parameters, and its state on the way to disk."""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import numpy as np
import pytest
from operations import LOOPS, X, conv, conv_transpose, normalised, response_norm
from strategies import distinct, normal

import minifcn as mf
from minifcn import nn


class Layer(NamedTuple):
    """A function that makes the layer, its input, and its output by definition, given the arrays of `state_dict`."""

    make: Callable
    x: np.ndarray
    definition: Callable


LAYERS = {
    "Conv2d": Layer(
        lambda: nn.Conv2d(4, 2, 3, stride=2, padding=1, groups=2),
        X,
        lambda x, weight, bias: conv(x, weight, bias, (2, 2), (1, 1), groups=2),
    ),
    "ConvTranspose2d": Layer(
        lambda: nn.ConvTranspose2d(4, 3, 3, stride=2), X, lambda x, weight, bias: conv_transpose(x, weight, bias)
    ),
    "MaxPool2d": Layer(
        lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
        distinct(X.shape),
        lambda x: LOOPS["max_pool2d"](x, (3, 3), (2, 2), (0, 0), (1, 1), True)[0],
    ),
    "AvgPool2d": Layer(
        lambda: nn.AvgPool2d(2, padding=1, count_include_pad=False),
        X,
        lambda x: LOOPS["avg_pool2d"](x, (2, 2), (2, 2), (1, 1), False, False, (1, 1)),
    ),
    "GlobalAvgPool2d": Layer(nn.GlobalAvgPool2d, X, lambda x: x.mean(axis=(2, 3), keepdims=True)),
    "Scale": Layer(lambda: nn.Scale(4, 0.5), X, lambda x, weight: x * weight[:, None, None]),
    "ReLU": Layer(nn.ReLU, distinct(X.shape), lambda x: np.maximum(x, 0)),
    "ReLU6": Layer(nn.ReLU6, 10 * distinct(X.shape), lambda x: np.clip(x, 0, 6)),
    "Pad": Layer(lambda: nn.Pad((0, 1, 2, 3)), X, lambda x: np.pad(x, ((0, 0), (0, 0), (0, 1), (2, 3)))),
    "Dropout": Layer(lambda: nn.Dropout(0.4).eval(), X, lambda x: x),
    "LocalResponseNorm": Layer(lambda: nn.LocalResponseNorm(size=3, alpha=0.5), X, lambda x: response_norm(x, 3, 0.5)),
    "BatchNorm2d": Layer(
        lambda: nn.BatchNorm2d(4).eval(),
        X,
        lambda x, weight, bias, running_mean, running_var: normalised(x, weight, bias, running_mean, running_var),
    ),
    "Linear": Layer(lambda: nn.Linear(6, 3), X, lambda x, weight, bias: x @ weight.T + bias),
    "Flatten": Layer(nn.Flatten, X, lambda x: x.reshape(2, -1)),
}


def made(name):
    """The layer, in float64, with random parameters, because zeros and ones would hide what they are used for."""
    layer = LAYERS[name].make().to(dtype="float64")
    for i, (key, array) in enumerate(layer.state_dict().items()):
        array[...] = abs(normal(array.shape, i)) if "var" in key else normal(array.shape, i)
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_the_value_is_the_definitions(name):
    layer, (_, x, definition) = made(name), LAYERS[name]
    got, expected = layer(mf.Tensor(x)).numpy(), definition(x, **layer.state_dict())
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_reach_the_input_and_every_parameter(name):
    layer, x = made(name), LAYERS[name].x
    names, parameters = zip(*layer.named_parameters()) if layer.parameters() else ((), ())

    def run(x, *tensors):
        for name, t in zip(names, tensors):
            *owners, attribute = name.split(".")
            setattr(reduce(getattr, owners, layer), attribute, t)
        return layer(x)

    assert mf.gradcheck(run, x, *(p.data for p in parameters))


@pytest.mark.parametrize("name", LAYERS)
def test_float32_stays_float32_and_the_state_goes_round(name):
    layer, other, x = LAYERS[name].make(), LAYERS[name].make(), LAYERS[name].x.astype(np.float32)
    other.load_state_dict(layer.state_dict())
    y = layer(x)
    assert y.dtype == np.float32
    assert np.array_equal(y.numpy(), other(x).numpy())
