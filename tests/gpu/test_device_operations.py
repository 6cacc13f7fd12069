"""Every operation on the device: its gradient against finite differences, its values and dtype against the host's."""

import numpy as np
import pytest
from operations import OPERATIONS
from strategies import normal

import minifcn as mf


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradient_of(name, device):
    fn, arrays, *_ = OPERATIONS[name]
    assert mf.gradcheck(fn, *device.put(arrays), draws=2)


@pytest.mark.parametrize("name", OPERATIONS)
def test_forward_and_backward_equal_the_hosts_in_float32(name, device, equal):
    fn, arrays, *_ = OPERATIONS[name]
    arrays = [a.astype(np.float32) for a in arrays]

    def run(put):
        tensors = [mf.Tensor(put(a), requires_grad=True) for a in arrays]
        y = fn(*tensors)
        y.backward(put(normal(y.shape, 5, np.float32)))
        return [y.data, *(t.grad for t in tensors)]

    results = run(device.put)
    assert all(r.dtype == np.float32 for r in results if r is not None)
    equal(results, run(lambda a: a.copy()), 2e-6)


def test_a_wrong_gradient_is_found_on_the_device_too(device):
    class Doubled(mf.Function):
        def forward(self, x):
            return x * 1

        def backward(self, gy):
            return gy * 2

    with pytest.raises(mf.GradcheckError, match="backward"):
        mf.gradcheck(Doubled.apply, device.put(normal((2, 3))))
