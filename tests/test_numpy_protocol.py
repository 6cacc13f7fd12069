"""A Tensor in NumPy's functions and operators: the result equals NumPy's, or an error explains; it is never wrong."""

import copy
import math
import operator
import pickle

import numpy as np
import pytest

import minifcn as mf
from minifcn import ops

A = np.array([[1.0, -2.0, 3.5], [0.25, 5.0, -6.0]])
B = np.array([[1.0, 2.0, 3.5], [0.0, 6.0, -6.0]])
NAN = np.array([np.nan, 1.0])


def same(got, expected):
    got = got.data if isinstance(got, mf.Tensor) else got
    assert np.asarray(got).dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("compare", [getattr(operator, n) for n in ("eq", "ne", "lt", "le", "gt", "ge")])
def test_comparisons_are_numpys(compare):
    t, u = mf.Tensor(A, requires_grad=True), mf.Tensor(B)
    for got in (compare(t, B), compare(t, u)):
        assert isinstance(got, np.ndarray)
        same(got, compare(A, B))
    same(compare(A, u), compare(A, B))
    same(compare(t, 1), compare(A, 1))
    same(compare(2.0, t), compare(2.0, A))
    same(compare(mf.Tensor(NAN), mf.Tensor(NAN)), compare(NAN, NAN))


def test_the_issues_examples():
    labels = mf.Tensor(np.array([0, 255, 2, 255]))
    truth = np.array([0, 255, 1, 255])
    same(labels == 255, [False, True, False, True])
    assert np.mean(labels == truth) == 0.75
    loss = mf.Tensor(np.array(2.3456), requires_grad=True)
    assert (f"{loss:.3f}", round(loss, 2), int(loss), bool(loss), loss < 1, abs(loss).item()) == (
        "2.346", 2.35, 2, True, False, 2.3456,
    )  # fmt: skip
    assert mf.Tensor(np.array(np.nan)) != mf.Tensor(np.array(np.nan))
    same(np.asarray(loss), np.array(2.3456))
    assert np.allclose(mf.Tensor(A, requires_grad=True), A)


@pytest.mark.parametrize(
    "function",
    [
        np.exp, np.negative, np.abs, np.sum, np.mean, np.max, np.min, np.amax, np.transpose, np.sin, np.isnan, np.sign,
        np.std, np.argmax, np.sort, np.cumsum, np.linalg.norm, np.round, np.shape, np.size, np.ndim, np.unique,
        np.count_nonzero, np.isfinite, lambda x: np.sum(x, axis=1), lambda x: np.mean(x, axis=0, keepdims=True),
        lambda x: np.add(x, B), lambda x: np.add(B, x), lambda x: np.matmul(x, B.T), lambda x: np.power(x, 2),
        lambda x: np.concatenate([x, B], axis=1), lambda x: np.reshape(x, (3, 2)), lambda x: np.where(x > 0, x, 0),
        lambda x: np.stack([x, x]), lambda x: np.clip(x, 0, 1), lambda x: np.maximum(x, 0), lambda x: np.add.reduce(x),
        lambda x: np.allclose(x, A), lambda x: np.array_equal(x, A), lambda x: np.dot(x, B.T), np.array, np.asarray,
        lambda x: np.sum(x, dtype=np.float32), lambda x: np.multiply(x, B, where=B > 0, out=np.zeros((2, 3))),
        lambda x: B - x, lambda x: B / x, lambda x: 2 ** x, lambda x: np.float64(2) * x, lambda x: B @ x.T,
        lambda x: np.einsum("ij->j", x), lambda x: np.asarray(x, dtype=np.float32), lambda x: np.array([x, x]),
    ],
    ids=range(52),
)  # fmt: skip
def test_numpy_functions_give_numpys_answers(function):
    same(function(mf.Tensor(A)), function(A))


@pytest.mark.parametrize("function", [np.exp, np.mean, np.sum, np.max, lambda x: np.add(B, x), lambda x: B * x, np.abs])
def test_where_there_is_an_operation_numpy_keeps_the_gradient(function):
    assert mf.gradcheck(function, A)


@pytest.mark.parametrize(
    "function", [np.sin, np.std, np.stack, lambda x: np.maximum(x, 0), np.linalg.norm, lambda x: np.split(x, 2)]
)
def test_a_gradient_is_not_lost_without_a_word(function):
    t = mf.Tensor(A, requires_grad=True)
    with pytest.raises(TypeError, match=r"would lose it.*t\.data"):
        function(t)
    with mf.no_grad():
        same(function(t), function(A))
    same(function(t.detach()), function(A))


def test_an_array_is_not_added_to_in_place_without_its_gradient():
    total = np.zeros((2, 3))
    with pytest.raises(TypeError, match="would lose it"):
        total += mf.Tensor(A, requires_grad=True)
    assert (total == 0).all()
    total += mf.Tensor(A)
    same(total, A)


def test_methods_are_numpys():
    t, labels = mf.Tensor(A), mf.Tensor(np.array([3, 1]))
    assert t.tolist() == A.tolist() and t.argmax() == A.argmax() and (t.argmin(axis=1) == A.argmin(axis=1)).all()
    same(t.min(axis=1), A.min(axis=1))
    same(mf.Tensor(np.array([0, 255], np.uint8)).min(), np.uint8(0))
    same(+t, +A)
    assert [row.tolist() for row in t] == A.tolist() and 5.0 in t and 7.0 not in t
    assert [10, 20, 30, 40][labels[0]] == 40 and range(labels[1])[-1] == 0
    assert complex(mf.Tensor(np.array(2.0))) == 2 and math.isnan(mf.Tensor(np.array(np.nan)))
    assert f"{t}" == str(t) and bool(mf.Tensor(np.zeros((1, 1)))) is False
    assert sorted([mf.Tensor(np.array(2.0)), mf.Tensor(np.array(1.0))])[0].item() == 1.0


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (lambda t: bool(t), ValueError, "ambiguous"),
        (lambda t: f"{t:.3f}", TypeError, r"\(2, 3\)"),
        (lambda t: int(t), ValueError, "size 1"),
        (lambda t: t.__setitem__(0, 1), TypeError, "cannot be assigned"),
        (lambda t: t.std(), AttributeError, r"t\.data\.std"),
        (lambda t: t.nothing, AttributeError, "no attribute 'nothing'"),
        (lambda t: list(t.sum()), TypeError, "without axes"),
        (lambda t: np.exp(A, out=t), TypeError, r"t\.data"),
    ],
)
def test_what_has_no_answer_is_one_sentence(wrong, error, match):
    with pytest.raises(error, match=match):
        wrong(mf.Tensor(A))


def test_tensors_are_keys_by_identity():
    a, b = mf.Tensor(A), mf.Tensor(A)
    assert len({a, b}) == 2 and {a: 1}[a] == 1


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copy_has_the_values_and_no_history(duplicate):
    x = mf.Tensor(np.ones((1, 1, 4, 4)), requires_grad=True, name="x")
    y = x
    for _ in range(2000):
        y = ops.add(y, 1.0)
    copied = duplicate(y)
    same(copied, y.data)
    assert copied.creator is None and not copied.requires_grad
    leaf = duplicate(x)
    assert leaf.requires_grad and leaf.name == "x" and leaf.grad is None
    y.sum().backward()
    assert (x.grad == 1).all()
    weight = duplicate(mf.nn.Parameter(np.ones(3, np.float32), lr_mult=2.0))
    assert isinstance(weight, mf.nn.Parameter) and weight.lr_mult == 2.0 and weight.requires_grad


def test_a_model_that_is_copied_is_another_model():
    model = mf.models.fcn8s_mini(num_classes=3, width=0.1)
    twin = copy.deepcopy(model)
    next(iter(twin.parameters())).data[...] = 7
    assert not (next(iter(model.parameters())).data == 7).any()
    picture = np.zeros((32, 32, 3), np.uint8)
    assert pickle.loads(pickle.dumps(model)).predict(picture).tobytes() == model.predict(picture).tobytes()


def test_matplotlib_draws_a_tensor():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    (line,) = Figure().subplots().plot(mf.Tensor(A[0], requires_grad=True))
    same(line.get_ydata(), A[0])


def test_the_loss_takes_lists_and_tensors_for_labels_and_says_what_else_it_wants():
    scores, labels = mf.Tensor(np.zeros((1, 2, 1, 2))), [[[0, 1]]]
    for given in (labels, mf.Tensor(np.array(labels)), np.array(labels)):
        assert ops.cross_entropy(scores, given).item() == pytest.approx(2 * math.log(2))
    for wrong in (lambda s, y: 0, 3, None):
        with pytest.raises(TypeError, match=r"labels is a .*integers"):
            ops.cross_entropy(scores, wrong)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda m, d: mf.fit(lambda x: x, d), "the model is a function: give a Module"),
        (lambda m, d: mf.fit(m, d, optimizer=mf.optim.SGD), "give an instance"),
        (lambda m, d: mf.fit(m, d, optimizer="sgd"), "give an instance"),
        (lambda m, d: m.to(dtype=type("dtype", (), {"__repr__": lambda s: "torch.float32"})()), "torch.float32 is no"),
        (lambda m, d: m.to(dtype="int32"), "'int32' is not a floating-point type"),
        (lambda m, d: m.to(dtype="float12"), "'float12' is not a floating-point type"),
        (lambda m, d: m.to(np.float64), "dtype="),
        (lambda m, d: mf.Tensor([mf.Tensor([1.0], requires_grad=True)]), "would lose"),
    ],
    ids=range(8),
)
def test_what_cannot_be_meant_is_one_sentence(wrong, match):
    with pytest.raises(TypeError, match=match):
        wrong(mf.models.fcn8s_mini(num_classes=6, width=0.1), mf.data.Shapes(length=8, size=(32, 32)))
