"""The checker itself: what it refuses, what it notices besides values, what its messages say."""

import numpy as np
import pytest

import minifcn as mf
from minifcn import ops


class Scaled(mf.Function):
    """y = 2x with a gradient of our choosing."""

    def __init__(self, gradient=lambda gy: 2 * gy):
        self.gradient = gradient

    def forward(self, x):
        return 2 * x

    def backward(self, gy):
        return self.gradient(gy)


def scaled(gradient):
    return lambda x: Scaled(gradient)(x)


X = np.random.default_rng(0).standard_normal((2, 3))


def test_the_truth_passes():
    assert mf.gradcheck(scaled(lambda gy: 2 * gy), X)
    assert mf.gradcheck(scaled(lambda gy: 2 * gy), X, elementwise=True)


def test_float32_is_refused_and_why():
    with pytest.raises(mf.GradcheckError, match="a wrong gradient would pass"):
        mf.gradcheck(ops.exp, X.astype(np.float32))


def test_an_error_of_a_millionth_is_seen_and_half_of_it_is_not():
    with pytest.raises(mf.GradcheckError):
        mf.gradcheck(scaled(lambda gy: 2 * gy * (1 + 2e-6)), X)
    assert mf.gradcheck(scaled(lambda gy: 2 * gy * (1 + 5e-7)), X)


def test_the_message_names_input_element_values_and_step():
    def wrong(gy):
        g = 2 * gy
        g[1, 2] *= 1.5
        return g

    with pytest.raises(mf.GradcheckError, match=r"input 0, shape \(2, 3\), element \(1, 2\).*steps 0.0002 and 0.0001"):
        mf.gradcheck(scaled(wrong), X)


def test_a_kink_is_called_a_kink():
    for x in (np.zeros((2, 3)), np.full((2, 3), 5e-5)):
        with pytest.raises(mf.GradcheckError, match="kink"):
            mf.gradcheck(lambda t: ops.leaky_relu(t, 0.3), x, elementwise=True)
    with pytest.raises(mf.GradcheckError, match="kink"):
        mf.gradcheck(lambda t: ops.max_pool2d(t, 2), np.ones((1, 1, 2, 2)))


def test_steep_but_smooth_is_no_kink():
    assert mf.gradcheck(lambda t: 1 / t, np.array([0.05, -0.07]))
    assert mf.gradcheck(ops.exp, np.array([12.0, -3.0]))


def test_large_and_small_inputs_pass():
    assert mf.gradcheck(lambda t: t * t, 1e5 * X)
    assert mf.gradcheck(lambda t: t * t, 1e-5 * X)


def test_damage_is_noticed():
    def in_place(x):
        x.data[0, 0] += 1
        return ops.exp(x)

    def eats_upstream(gy):
        gy *= 2
        return gy

    for fn, said in ((in_place, "input 0 was changed"), (scaled(eats_upstream), "upstream gradient was changed")):
        with pytest.raises(mf.GradcheckError, match=said):
            mf.gradcheck(fn, X)


def test_another_dtype_is_noticed():
    with pytest.raises(mf.GradcheckError, match="float32"):
        mf.gradcheck(scaled(lambda gy: (2 * gy).astype(np.float32)), X)


def test_chance_is_noticed():
    with pytest.raises(mf.GradcheckError, match="two runs"):
        mf.gradcheck(lambda x: ops.dropout(x, 0.5), X)


def test_chance_in_the_gradient_alone_is_noticed():
    rng = np.random.default_rng(0)
    with pytest.raises(mf.GradcheckError, match="two runs"):
        mf.gradcheck(scaled(lambda gy: 2 * gy * (1 + 1e-12 * rng.random())), X)


def test_an_operand_found_by_identity_is_noticed():
    """The gradient of a − a, dispatched by comparing operands, is a well-known wrong 2."""

    class Sub(mf.Function):
        def forward(self, a, b):
            return a - b

        def backward(self, gy):
            a, b = self.inputs
            return gy, gy if a is b else -gy

    with pytest.raises(mf.GradcheckError, match=r"f\(a, a\)"):
        mf.gradcheck(lambda a, b: Sub()(a, b), X, X + 1)


def test_another_function_while_recording_is_noticed():
    class Sly(Scaled):
        def forward(self, x):
            return 2 * x if self.recording else 3 * x

    with pytest.raises(mf.GradcheckError, match="another value"):
        mf.gradcheck(lambda x: Sly()(x), X)
    with pytest.raises(mf.GradcheckError, match="must return a Tensor"):
        mf.gradcheck(lambda x: x.data, X)


@pytest.mark.parametrize("elementwise", [False, True])
def test_what_is_not_finite_or_drowned_in_rounding_is_refused(elementwise):
    def spoilt(value):
        def gradient(gy):
            g = 2 * gy
            g[0, 0] = value
            return g

        return scaled(gradient)

    for fn in (spoilt(np.nan), spoilt(np.inf), lambda x: 1 / (x - x)):
        with np.errstate(all="ignore"), pytest.raises(mf.GradcheckError, match="not finite"):
            mf.gradcheck(fn, X, elementwise=elementwise)
    with pytest.raises(mf.GradcheckError, match="cannot be checked"):
        mf.gradcheck(lambda x: 1e11 + scaled(lambda gy: 0 * gy)(x), X)


def test_a_missing_gradient_counts_as_zero():
    with pytest.raises(mf.GradcheckError, match=r"backward.* gives 0"):
        mf.gradcheck(scaled(lambda gy: None), X)


def test_constants_are_left_alone():
    assert mf.gradcheck(ops.mul, X, mf.Tensor(X.astype(np.float32)))
    with pytest.raises(mf.GradcheckError, match="nothing to check"):
        mf.gradcheck(ops.exp, mf.Tensor(X))


def test_adjoint_check_sees_twelve_digits_and_shapes():
    a = np.random.default_rng(1).standard_normal((4, 3))
    assert mf.adjoint_check(lambda x: a @ x, lambda y: a.T @ y, (3,), (4,))
    with pytest.raises(mf.GradcheckError, match="not adjoint"):
        mf.adjoint_check(lambda x: a @ x, lambda y: a.T @ y * (1 + 1e-11), (3,))
    with pytest.raises(mf.GradcheckError, match="maps back to"):
        mf.adjoint_check(lambda x: a @ x, lambda y: y, (3,))
    with pytest.raises(mf.GradcheckError, match="not to"):
        mf.adjoint_check(lambda x: a @ x, lambda y: a.T @ y, (3,), (5,))


def test_the_numerical_gradient_is_that_of_backward():
    rng = np.random.default_rng(0)
    x, w, v = rng.standard_normal((1, 1, 3, 4)), rng.standard_normal((2, 1, 2, 2)), rng.standard_normal((1, 2, 2, 3))
    t = mf.Tensor(x.copy(), requires_grad=True)
    ops.conv2d(ops.exp(t), w).backward(v)
    gradient = mf.numerical_gradient(lambda x: ops.conv2d(np.exp(x), w).numpy(), x, v)
    np.testing.assert_allclose(gradient, t.grad, rtol=1e-7, atol=1e-9)
    assert (x == t.data).all()
    assert mf.numerical_gradient(np.sin, np.array(0.5), np.array(2.0)).shape == ()
