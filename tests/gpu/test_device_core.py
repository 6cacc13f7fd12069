"""The engine and the layers on the device: gradients add up as on the host, and no array moves implicitly."""

import copy

import numpy as np
import pytest
from strategies import normal
from test_layers import LAYERS

import minifcn as mf
from minifcn import ops


def leaf(device, *shape, seed=1, dtype=np.float32):
    return mf.Tensor(device.put(normal(shape, seed, dtype)), requires_grad=True)


def test_to_and_back(xp):
    x = mf.Tensor(normal((2, 3), 1, np.float32), requires_grad=True, name="x")
    there = x.to("cuda")
    assert isinstance(there.data, xp.ndarray) and (there.device, there.name) == ("cuda:0", "x")
    assert there.requires_grad and there.to("cuda:0").data is there.data
    back = there.to("cpu")
    assert back.device == "cpu" and back.numpy().tobytes() == there.numpy().tobytes() == x.data.tobytes()
    assert there.data.sum().ndim == 0 and there.sum().item() == pytest.approx(float(x.data.sum()))
    assert "cuda:0" in repr(there)


def test_gradients_add_up_over_all_uses(device):
    a = leaf(device, 2, 3)
    b = a + a
    c = b + b
    c.backward(device.put(np.ones((2, 3), np.float32)))
    assert (device.get(a.grad) == 4).all()
    (a * 3).sum().backward()
    assert (device.get(a.grad) == 7).all()
    assert a.grad.dtype == np.float32


def test_a_leaf_owns_its_gradient(device):
    a, b, c = leaf(device, 2, 3), leaf(device, 2, 3, seed=2), leaf(device, 1, 6, seed=3)
    gy = device.put(np.ones((2, 3), np.float32))
    (a + b + c.reshape(2, 3)).backward(gy)
    for g in (a.grad, b.grad, c.grad, gy):
        assert (device.get(g) == 1).all()
        g += 1


def test_a_scalar_needs_no_gradient_from_above_and_numbers_take_the_tensors_library_and_dtype(xp, device):
    a = leaf(device, 2, 3)
    y = ((2 * a - 1) / 4 + np.float64(1)) ** 2
    assert y.dtype == np.float32 and isinstance(y.data, xp.ndarray)
    y.mean().backward()
    np.testing.assert_allclose(device.get(a.grad), ((2 * a.numpy() - 1) / 4 + 1) / 6, rtol=1e-5)


def test_no_graph_is_kept_under_no_grad(device):
    a = leaf(device, 2, 3)
    with mf.no_grad():
        y = (a * a).sum()
    assert y.creator is None and not y.requires_grad


def test_mixed_devices_are_refused_and_both_are_named(xp, device):
    here, there = leaf(device, 1, 2, 4, 4), mf.Tensor(normal((1, 2, 4, 4), 1, np.float32))
    labels = device.put(np.zeros((1, 4, 4), np.int64))  # the reverse, labels on the host alone, is allowed
    for operation in (
        lambda: here + there,
        lambda: there * here,
        lambda: here - there.data,
        lambda: there.data - here,
        lambda: ops.conv2d(here, normal((1, 2, 3, 3), 1, np.float32)),
        lambda: ops.concat([here, there]),
        lambda: ops.cross_entropy(there, labels),
        lambda: here.sum().backward(np.float32(1)),
        lambda: (here * 2).backward(there.data),
    ):
        with pytest.raises(ValueError, match=f"numpy and {xp.__name__}|{xp.__name__} and numpy"):
            operation()


def test_labels_out_of_range_are_refused_by_name_and_void_ones_are_no_index(device):
    scores = leaf(device, 1, 3, 2, 2)
    labels = np.array([[[0, 255], [2, 1]]], np.uint8)
    loss = ops.cross_entropy(scores, device.put(labels))
    loss.backward()
    assert (device.get(scores.grad)[0, :, 0, 1] == 0).all()
    for wrong in (3, 254):
        labels[0, 0, 0] = wrong
        with pytest.raises(ValueError, match=rf"labels \[{wrong}\] are outside"):
            ops.cross_entropy(scores, device.put(labels))
    with pytest.raises(ValueError, match=r"labels \[-1\] are outside"):
        ops.cross_entropy(scores, device.put(np.where(labels == 255, -1, 0).astype(np.int32)))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_in_training_and_in_evaluation(name, device, equal):
    mf.manual_seed(0)
    layer = LAYERS[name].make()
    for p in layer.parameters():
        p.data = normal(p.shape, 3, np.float32)

    def run(layer, put):
        mf.manual_seed(1)  # dropout's mask comes from the host
        results = []
        for training in (True, False):
            x = mf.Tensor(put(LAYERS[name].x.astype(np.float32)), requires_grad=True)
            y = layer.train(training)(x)
            y.backward(put(normal(y.shape, 2, np.float32)))
            results += [y.data, x.grad, *(p.grad for p in layer.parameters()), *layer.state_dict().values()]
        return results

    moved = copy.deepcopy(layer).to("cuda")
    results = run(moved, device.put)
    assert all(r.dtype == np.float32 for r in results)
    equal(results, run(layer, lambda a: a.copy()), 5e-6)
