"""Every layer: its value in plain NumPy, the gradients of its parameters, and its state on the way to disk."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import reduce
from typing import NamedTuple

import numpy as np
import pytest
from operations import LOOPS, X, conv, conv_transpose, normalised, response_norm
from strategies import distinct, normal

import minifcn as mf
from minifcn import kernels as K
from minifcn import nn
from minifcn.engine.core import newest_first, watch


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


def step(x, context):
    """The names of the operations of a small net in training, its output, and all gradients."""
    mf.manual_seed(0)
    model = nn.Sequential(c=nn.Conv2d(3, 8, 3, padding=1), r=nn.ReLU(), d=nn.Conv2d(8, 4, 5, stride=2), r6=nn.ReLU6())
    for p in model.parameters():
        p.data = (4 * p.data + (p.data.ndim == 1)).astype(x.dtype)  # biases are 1, and some outputs exceed 6
    with context:
        x = mf.Tensor(x, requires_grad=True)
        y = model(x)
        names = [f"{type(node).__name__} {node.name}" for node in newest_first(y.creator)]
        y.backward(normal(y.shape, 2, y.dtype))
    return names, [y.data, x.grad, *(p.grad for p in model.parameters())], y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_convolution_and_the_relu_after_it_run_as_one_unless_somebody_looks_and_give_the_same_bits(dtype):
    x = normal((2, 3, 9, 7), 1, dtype)
    names, fused, y = step(x, nullcontext())
    assert names == ["ConvReLU2d d", "ConvReLU2d c"] and y.name == "r6"
    for context in (mf.trace(), watch(lambda *_: None), mf.override(max_pool2d="reference")):
        names, plain, _ = step(x, context)
        assert names == ["ReLU6 r6", "Conv2d d", "ReLU r", "Conv2d c"]
        for a, b in zip(fused, plain, strict=True):
            np.testing.assert_array_equal(a, b)
    assert (fused[0] == 6).any() and (fused[0] == 0).any()


def test_geometry_and_operations_are_counted_alike_for_both():
    for context in (nullcontext(), mf.trace()):
        x = mf.Tensor(normal((1, 3, 9, 9), 1), requires_grad=True)
        with context:
            y = nn.Sequential(nn.Conv2d(3, 2, 3, stride=2, padding=1), nn.ReLU())(x)
        field = mf.geometry.receptive_field(y, x)
        assert (field.size, field.jump, field.padding) == ((3, 3), (2, 2), (1, 1))
    x = mf.Tensor(normal((1, 3, 9, 9), 1, np.float32), requires_grad=True)
    node = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())(x).creator
    assert node.macs == 2 * 49 * 27 and node.flops == 2 * node.macs + 2 * 2 * 49  # a bias and a maximum for each output


def test_other_layers_and_arrays_run_as_two():
    class Doubled(nn.ReLU):
        def forward(self, x):
            return 2 * super().forward(x)

    class Shifted(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + 1

    x = normal((2, 3, 6, 6), 1, np.float32)
    plain = nn.Sequential(c=nn.Conv2d(3, 2, 3), r=nn.ReLU())
    expected = np.maximum(plain.c(x).numpy(), 0)
    doubled, pointless = nn.Sequential(plain.c, Doubled()), nn.Sequential(nn.Conv2d(3, 2, 3, bias=False), nn.ReLU())
    np.testing.assert_array_equal(doubled(x).numpy(), 2 * expected)
    assert type(pointless(mf.Tensor(x, requires_grad=True)).creator).__name__ == "ReLU"
    for dtype in (np.float16, np.float64):  # beside weights of float32
        assert type(plain(x.astype(dtype)).creator).__name__ == "ReLU"
    shifted = nn.Sequential(c=Shifted(3, 2, 3), r=nn.ReLU())
    shifted.c.load_state_dict(plain.c.state_dict())
    np.testing.assert_allclose(shifted(x).numpy(), np.maximum(plain.c(x).numpy() + 1, 0), rtol=1e-6)
    halves = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    for p in halves.parameters():
        p.data = p.data.astype(np.float16)
    assert type(halves(mf.Tensor(x.astype(np.float16), requires_grad=True)).creator).__name__ == "ReLU"
    with mf.shapes_only():
        y = plain(x)
    assert y.shape == (2, 2, 4, 4) and not any(y.data.strides)


@pytest.mark.parametrize("name", ["c", "r"])
def test_a_forward_that_a_user_gave_to_one_layer_runs(name):
    x, model, seen = normal((2, 3, 6, 6), 1, np.float32), nn.Sequential(c=nn.Conv2d(3, 2, 3), r=nn.ReLU()), []
    expected, layer = model(x).numpy(), getattr(model, name)
    original = layer.forward
    layer.forward = lambda x: seen.append(x.shape) or original(x)
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-6)
    assert seen == [(2, 3, 6, 6) if name == "c" else (2, 2, 4, 4)]


@pytest.mark.parametrize("name", ["weight", "bias", "both"])
def test_a_layer_takes_plain_arrays_as_weight_and_bias(name):
    x, model = normal((2, 3, 6, 6), 1, np.float32), nn.Sequential(c=nn.Conv2d(3, 2, 3), r=nn.ReLU())
    model.c.bias.data += 1
    expected = model(x).numpy()
    for one in ("weight", "bias") if name == "both" else (name,):
        setattr(model.c, one, getattr(model.c, one).data)
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("owner", [nn.ReLU, nn.ReLU6, nn.Conv2d, nn.Module])
def test_what_a_user_replaced_for_all_layers_runs(owner, monkeypatch):
    activation = nn.ReLU6 if owner is nn.ReLU6 else nn.ReLU
    x, model, called = normal((1, 3, 6, 6), 1, np.float32), nn.Sequential(c=nn.Conv2d(3, 2, 3), r=activation()), []
    method = "__call__" if owner is nn.Module else "forward"
    original = getattr(owner, method)
    monkeypatch.setattr(owner, method, lambda self, x: called.append(self.name) or original(self, x))
    model(x)
    assert called == {nn.Conv2d: ["c"], nn.Module: ["", "c", "r"]}.get(owner, ["r"])


@pytest.mark.parametrize("operation", [mf.ops.conv.Conv2d, mf.ops.activation.ReLU, mf.ops.activation.ReLU6])
@pytest.mark.parametrize("method", ["forward", "backward"])
def test_what_a_user_replaced_in_an_operation_runs(operation, method, monkeypatch):
    layer = nn.ReLU6 if operation is mf.ops.activation.ReLU6 else nn.ReLU
    model, called, original = nn.Sequential(nn.Conv2d(3, 2, 3), layer()), [], getattr(operation, method)
    monkeypatch.setattr(operation, method, lambda self, *arrays: called.append(method) or original(self, *arrays))
    y = model(mf.Tensor(normal((1, 3, 6, 6), 1, np.float32), requires_grad=True))
    y.backward(np.ones(y.shape, np.float32))
    assert called == [method]


@pytest.mark.parametrize("operation", [mf.ops.conv.Conv2d, mf.ops.conv.ConvReLU2d])
def test_a_kernel_that_returns_its_input_is_not_written_into(operation):
    """The bias must not be added to an array of somebody else."""
    x, w, b = mf.Tensor(normal((1, 2, 4, 4), 1)), normal((2, 2, 1, 1), 2), normal(2, 3)
    before = x.data.copy()
    with mf.override(conv2d=lambda x, *rest: x):
        operation.apply(x, w, b)
    np.testing.assert_array_equal(x.data, before)


@pytest.mark.parametrize("needed", [(False, True, True), (True, False, True), (True, True, False)])
def test_one_operation_computes_only_the_gradients_that_are_needed(needed):
    called = []

    def recorded(name):
        return lambda *args: called.append(name) or getattr(K, name).textbook(*args)

    arrays = normal((1, 2, 5, 5), 1), normal((3, 2, 3, 3), 2), normal(3, 3)
    tensors = [mf.Tensor(a, requires_grad=some) for a, some in zip(arrays, needed, strict=True)]
    names = ["conv2d_grad_input", "conv2d_grad_weight"]
    with mf.override(**{name: recorded(name) for name in names}):
        y = mf.ops.conv.ConvReLU2d.apply(*tensors)
        y.backward(np.ones(y.shape))
    assert called == [name for name, some in zip(names, needed) if some]
    assert [t.grad is not None for t in tensors] == list(needed)
