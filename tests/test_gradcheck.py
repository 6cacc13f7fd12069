"""gradcheck: what it refuses, what it notices besides wrong values, and its messages."""

import numpy as np
import pytest

import minifcn as mf
from minifcn import ops


class Scaled(mf.Function):
    """y = 2x with any given gradient."""

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
    """A backward that compares operands to choose a gradient gives 2 for a − a instead of 0."""

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


class Given(mf.Function):
    """A function with a given forward and a given backward."""

    def __init__(self, value, gradient):
        self.value, self.gradient = value, gradient

    def forward(self, x):
        self.save(x)
        return self.value(x)

    def backward(self, gy):
        return self.gradient(gy, *self.saved)


def squares(n, wrong, factor):
    """x² of n numbers, with the gradient of one of them times `factor`."""
    factors = np.where(np.arange(n) == wrong, factor, 1)
    return lambda x: Given(lambda x: x * x, lambda gy, x: 2 * x * gy * factors.reshape(x.shape))(x)


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def test_one_wrong_element_of_ten_thousand_is_named():
    assert mf.gradcheck(squares(10_000, 1234, 1), normal(10_000))
    for x, element in ((normal(10_000), r"\(1234,\)"), (normal(100, 100), r"\(12, 34\)")):
        with pytest.raises(mf.GradcheckError, match=f"element {element}: backward"):
            mf.gradcheck(squares(10_000, 1234, 1.01), x)


def test_a_wrong_element_is_found_in_few_evaluations():
    evaluations = []

    def wrong(x):
        evaluations.append(1)
        return squares(90_000, 54_321, 1.05)(x)

    with pytest.raises(mf.GradcheckError, match=r"element \(181, 21\)"):
        mf.gradcheck(wrong, normal(300, 300))
    assert len(evaluations) < 300


@pytest.mark.parametrize("n", [1, 6, 100, 10_000])
@pytest.mark.parametrize("elementwise", [False, True])
def test_a_slope_that_the_value_hides_at_small_steps_is_still_compared(n, elementwise):
    def flat(factor):
        return lambda x: Given(lambda x: 1 + 1e-8 * x, lambda gy, x: 1e-8 * factor * gy)(x)

    x = normal(min(n, 100) if elementwise else n)
    assert mf.gradcheck(flat(1), x, elementwise=elementwise)
    for factor in (0, 0.5, 1.001, 1.1, 2):
        with pytest.raises(mf.GradcheckError, match="backward"):
            mf.gradcheck(flat(factor), x, elementwise=elementwise)


@pytest.mark.parametrize("elementwise", [False, True])
def test_a_kink_is_seen_where_central_differences_agree_with_the_gradient(elementwise):
    """At a tie the gradient of max is the mean of the slopes on both sides, and so is the central difference."""
    one_of_many = normal(30, 4)
    one_of_many[7, 1] = one_of_many[7, 3] = 5.0
    for x in (np.ones((1, 3)), np.array([[1.0, 1.0, 0.0], [2.0, 5.0, 3.0]]), one_of_many):
        with pytest.raises(mf.GradcheckError, match="kink"):
            mf.gradcheck(lambda t: t.max(axis=1), x, elementwise=elementwise)
    assert mf.gradcheck(lambda t: t.max(axis=1), normal(30, 4), elementwise=elementwise)
    with pytest.raises(mf.GradcheckError, match="kink"):
        mf.gradcheck(lambda t: ops.leaky_relu(t, -1.0), np.array([0.0, 1.0]), elementwise=elementwise)  # |t|


def test_a_kink_near_one_of_many_elements_does_not_refuse_a_right_gradient():
    x = normal(200_000)
    assert abs(x).min() < 1e-5
    assert mf.gradcheck(ops.relu, x)


@pytest.mark.parametrize("size", [1e-300, 1e-150, 1.0, 1e150, 1e290])
def test_functions_of_any_size_are_checked_alike(size):
    def scaled(factor):
        factors = np.where(np.arange(50) == 3, factor, 1)
        return lambda x: Given(lambda x: size * x * x, lambda gy, x: size * 2 * x * gy * factors)(x)

    assert mf.gradcheck(scaled(1), normal(50))
    with pytest.raises(mf.GradcheckError, match=r"element \(3,\)"):
        mf.gradcheck(scaled(1.01), normal(50))
    a = np.random.default_rng(1).standard_normal((4, 3))
    assert mf.adjoint_check(lambda x: size * (a @ x), lambda y: size * (a.T @ y), (3,))
    with pytest.raises(mf.GradcheckError, match="not adjoint"):
        mf.adjoint_check(lambda x: size * (a @ x), lambda y: size * (a.T @ y) * (1 + 1e-9), (3,))


def test_functions_that_do_not_change_and_rounding_inside_are_no_error():
    assert mf.gradcheck(lambda x: 0 * x, X) and mf.gradcheck(lambda x: 0 * x + 1, X)
    assert mf.gradcheck(lambda x: ops.softmax(x).sum(), X)
    for n in (1, 50):
        assert mf.gradcheck(lambda x: (x + 1e6) - 1e6, normal(n))
    with pytest.raises(mf.GradcheckError, match="backward"):
        mf.gradcheck(lambda x: Given(lambda x: (x + 1e6) - 1e6, lambda gy, x: 1.001 * gy)(x), normal(50))
    with pytest.raises(mf.GradcheckError, match="backward"):
        mf.gradcheck(lambda x: Given(lambda x: 0 * x + 1, lambda gy, x: gy)(x), X)
    with np.errstate(all="ignore"), pytest.raises(mf.GradcheckError, match="not finite at a step"):
        mf.gradcheck(ops.log, np.array([1e-9, 1.0]))
    assert mf.gradcheck(lambda x: ops.exp(x[0]) * x[1], np.array([1.0, 1e6]))  # each x moves by a share of its size


def test_one_wrong_sum_of_repeated_operands_among_many_is_noticed():
    class Mul(mf.Function):
        def forward(self, a, b):
            self.save(a, b)
            return a * b

        def backward(self, gy):
            a, b = self.saved
            ga, gb = gy * b, gy * a
            if self.inputs[0] is self.inputs[1]:
                ga.flat[5] *= 1.01
            return ga, gb

    with pytest.raises(mf.GradcheckError, match=r"f\(a, a\)"):
        mf.gradcheck(lambda a, b: Mul()(a, b), normal(10_000), normal(10_000) + 1)


def test_the_numerical_gradient_of_large_numbers_and_of_other_types():
    np.testing.assert_allclose(mf.numerical_gradient(lambda x: 3 * x, np.array([1e12, 0.5]), np.ones(2)), 3, rtol=1e-6)
    for dtype in ("float32", "int64"):
        with pytest.raises(mf.GradcheckError, match="float64"):
            mf.numerical_gradient(lambda x: x, np.ones(2, dtype), np.ones(2))


def test_an_adjoint_that_writes_into_what_it_is_given_is_judged_by_its_values():
    def twice(x):
        x *= 2
        return x

    assert mf.adjoint_check(twice, lambda y: 2 * y, (5,))
    assert mf.adjoint_check(lambda x: 2 * x, twice, (5,))
    with pytest.raises(mf.GradcheckError, match="not adjoint"):
        mf.adjoint_check(lambda x: 0 * x, lambda y: 1e-300 * y, (5,))
