"""The engine: order of backward, accumulation, freeing, errors, and the attributes of nodes and tensors."""

import gc
import weakref
from importlib.util import find_spec

import numpy as np
import pytest

import minifcn as mf
from minifcn import ops
from minifcn.engine import core


def leaf(*shape, seed=0):
    return mf.Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def test_a_chain_of_ten_thousand_nodes_goes_back_and_is_collected():
    x = leaf()
    y = x
    for _ in range(10_000):
        y = y * 1.0
    y.backward()
    assert x.grad == 1
    z = x
    for _ in range(50_000):  # without backward(): deleting this graph must not exceed the recursion limit
        z = z + 1.0
    del z


def test_b_is_a_plus_a_c_is_b_plus_b():
    """An example in which a naive recursion is wrong: b must have both of its gradients before it passes them on."""
    a = leaf()
    b = a + a
    c = b + b
    c.backward()
    assert a.grad == 4


def test_backward_takes_an_order_of_nodes_and_says_when_it_is_none():
    def graph():
        a = mf.Tensor(np.ones(2), requires_grad=True)
        first = ops.exp(a)
        return a, ops.exp(ops.exp(first)) + first

    a, y = graph()
    y.backward(np.ones(2))
    b, y = graph()
    assert core.newest_first(y.creator)[-1] is where_they_part(y)
    y.backward(np.ones(2), order=lambda last: iter(core.newest_first(last)))
    assert (a.grad == b.grad).all()

    _, y = graph()
    with pytest.raises(RuntimeError, match="left a gradient behind"):
        y.backward(np.ones(2), order=lambda last: core.newest_first(last)[:-1])
    _, y = graph()
    with pytest.raises(RuntimeError, match="left a gradient behind"):  # the first node comes before one of its users
        y.backward(np.ones(2), order=lambda last: [last, where_they_part(y), *core.newest_first(last)[1:-1]])


def where_they_part(y):
    """The node at which the long path and the short path part."""
    return y.creator.inputs[1].creator


@pytest.mark.parametrize("depth", [1, 18, 60])
def test_each_node_is_visited_once(depth):
    """A ladder of diamonds has 2^depth paths; a walk along every path would take for ever."""
    x = leaf()
    visits = []

    class Count(mf.Function):
        def forward(self, a, b):
            return a + b

        def backward(self, gy):
            visits.append(self)
            return gy, gy

    y = x
    for _ in range(depth):
        y = Count()(y, y)
    y.backward()
    assert len(visits) == depth == len(set(map(id, visits)))
    assert x.grad == 2.0**depth


@pytest.mark.parametrize(
    "f, slope",
    [(lambda a: a - a, 0), (lambda a: a / a, 0), (lambda a: a * a, 6), (lambda a: a**a, 27 * (np.log(3) + 1))],
)
def test_a_repeated_operand_receives_the_sum(f, slope):
    a = mf.Tensor(np.array(3.0), requires_grad=True)
    f(a).backward()
    assert a.grad == pytest.approx(slope)


def test_gradients_accumulate_over_backwards_and_leaves_own_theirs():
    a, b = leaf(3), leaf(3, seed=1)
    for _ in range(2):
        (a + b).backward(np.ones(3))
    assert (a.grad == 2).all()
    a.grad += 1
    assert (b.grad == 2).all()
    gy = np.ones(3)
    a.grad = None
    ops.add(a, 0).backward(gy)
    a.grad += 1
    assert (gy == 1).all()


def test_a_leaf_owns_its_gradient_even_where_backward_returns_a_view():
    a, gy = leaf(2, 3), np.ones(6)
    ops.reshape(a, 6).backward(gy)
    a.grad += 1
    assert (gy == 1).all()


def test_leaves_own_their_gradients_whatever_backward_hands_out():
    class Both(mf.Function):
        def forward(self, a, b):
            self.save(a)
            return a + b

        def backward(self, gy):
            g = gy * 1
            return g, g

    class Saved(mf.Function):
        def forward(self, a):
            self.save(a)
            return a * a / 2

        def backward(self, gy):
            return self.saved[0]

    a, b = leaf(3), leaf(3, seed=1)
    Both()(a, b).backward(np.ones(3))
    a.grad += 6
    assert (b.grad == 1).all()
    a, before = leaf(3), leaf(3).data
    Saved()(a).backward(np.ones(3))
    a.grad += 1
    assert (a.data == before).all()


def test_a_node_works_by_hand_before_and_after_a_call():
    node, x = ops.activation.ReLU(), np.array([-1.0, 2.0])
    node.forward(x)
    assert node.backward(np.ones(2)).tolist() == [0, 1]
    node(mf.Tensor(x))
    node.forward(x)
    assert node.backward(np.ones(2)).tolist() == [0, 1]


def test_a_float32_leaf_keeps_a_float32_gradient_beside_other_operands():
    a = mf.Tensor(np.ones(3, np.float32), requires_grad=True)
    y = a * np.arange(3)
    assert y.dtype == np.float32  # an integer array is converted to the tensor's dtype
    (y * np.ones(3)).backward(np.ones(3))
    assert a.grad.dtype == np.float32


def test_none_and_integer_maps_are_refused():
    with pytest.raises(TypeError, match="operand is None"):
        leaf(3) + None
    with pytest.raises(TypeError, match="astype"):
        ops.avg_pool2d(np.full((1, 1, 2, 2), 200, np.uint8), 2)
    with pytest.raises(ValueError, match=r"x\[None\]"):
        ops.max_pool2d(np.ones((3, 4, 4)), 2)
    with pytest.raises(ValueError, match="takes 3 and gives 5"):
        ops.conv2d(np.ones((1, 2, 4, 4)), np.ones((5, 3, 1, 1)))


def test_a_kernel_that_returns_its_input_does_not_get_it_changed():
    x = leaf(1, 2, 3, 3)
    before = x.data.copy()
    with mf.override(conv2d=lambda x, *_: x):
        y = ops.conv2d(x, np.ones((2, 2, 1, 1)), np.ones(2))
    assert (x.data == before).all()
    np.testing.assert_allclose(y.numpy(), before + 1)


def test_powers_have_their_slopes_at_zero():
    x = mf.Tensor(np.zeros(3), requires_grad=True)
    (x ** np.array([0.0, 1.0, 2.0])).backward(np.ones(3))
    assert x.grad.tolist() == [0, 1, 0]


def test_equal_maxima_share_the_gradient():
    x = mf.Tensor(np.array([[1.0, 3.0, 3.0]]), requires_grad=True)
    ops.max(x, axis=1).backward(np.ones(1))
    assert x.grad.tolist() == [[0, 0.5, 0.5]]


def test_backward_frees_what_was_saved_as_it_passes():
    x = leaf(1, 2, 8, 8)
    y = ops.exp(x)
    saved = weakref.ref(y.creator.saved[0])
    z = ops.exp(y)
    node = z.creator
    del y
    z.backward(np.ones(z.shape))
    gc.collect()
    assert saved() is None
    assert node.inputs == ()
    assert node.saved_bytes == 0
    with pytest.raises(RuntimeError, match="freed by backward"):
        _ = node.saved


def test_a_second_backward_says_what_to_do():
    x = leaf(3)
    y = ops.exp(x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="run forward again"):
        y.backward()


def test_refusals():
    with pytest.raises(ValueError, match=r"shape \(3,\) needs a gradient"):
        ops.exp(leaf(3)).backward()
    with pytest.raises(ValueError, match="gy has shape"):
        ops.exp(leaf(3)).backward(np.ones(4))
    with pytest.raises(RuntimeError, match="nothing to differentiate"):
        mf.Tensor([1.0]).backward()
    with pytest.raises(RuntimeError, match="create_graph"):
        leaf().backward(create_graph=True)
    with pytest.raises(TypeError, match="floating"):
        mf.Tensor(np.arange(3), requires_grad=True)


@pytest.mark.parametrize("edit", ["array", "parameter"])
def test_an_edit_in_place_between_forward_and_backward_is_noticed(edit):
    x = leaf(4)
    y = x * x
    if edit == "array":
        x.data[...] = 0
    else:
        x.data -= 1
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(np.ones(4))


def test_an_edit_anywhere_in_what_a_user_gave_is_noticed():
    rng = np.random.default_rng(0)
    for size in (1, 16, 17, 1000, 40_000):
        for place in {0, size - 1, *rng.integers(0, size, 20).tolist()}:
            given = rng.standard_normal(size)
            x = mf.Tensor(given, requires_grad=True)
            y = x * x
            given[place] = np.nextafter(
                given[place], 9
            )  # change the last bit of the user's array, not through the tensor
            with pytest.raises(RuntimeError, match="changed in place"):
                y.backward(np.ones(size))


@pytest.mark.parametrize(
    "edit",
    [
        lambda a: a.__setitem__(np.s_[:, :, 10:13, 5:8], 0), lambda a: a.__setitem__(..., a[..., ::-1].copy()),
        lambda a: a.__setitem__(..., a[::-1].copy()), lambda a: a.__setitem__(..., np.roll(a, 1, axis=2)),
        lambda a: a.__setitem__(..., a[:, ::-1].copy()), lambda a: np.random.default_rng(1).shuffle(a.reshape(-1)),
    ],
    ids=["occluded", "mirrored", "samples swapped", "rolled", "channels swapped", "shuffled"],
)  # fmt: skip
@pytest.mark.parametrize(
    "through", [lambda x: x, lambda x: x.reshape(x.shape), lambda x: x[:], lambda x: x.transpose(0, 1, 2, 3)]
)
def test_pixels_that_are_changed_or_moved_are_noticed(edit, through):
    image = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    weight = mf.Tensor(np.ones((4, 3, 3, 3), np.float32), requires_grad=True)
    y = ops.conv2d(through(mf.Tensor(image, requires_grad=True)), weight)
    edit(image)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_results_are_read_only_until_the_graph_is_walked_or_gone():
    x = mf.Tensor(np.ones((2, 3)), requires_grad=True)
    y = ops.exp(x)
    z = y.reshape(3, 2)
    kept = (z * z).sum()
    for t in (y, z, kept):
        with pytest.raises(ValueError, match="read-only"):
            t.data[...] = 0
    x.data.flags.writeable  # noqa: B018
    assert x.data.flags.writeable
    kept.backward()
    for t in (y, z, kept):
        t.data[...] = 0
    values = ops.exp(x).data  # no tensor refers to the graph any more
    values[...] = 0
    with mf.no_grad():
        ops.exp(x).data[...] = 0


def test_an_operation_that_gives_back_its_input_leaves_it_writeable():
    class Same(mf.Function):
        def forward(self, a):
            return a

        def backward(self, gy):
            return gy

    x = mf.Tensor(np.ones(3), requires_grad=True)
    y = Same()(x)
    x.data[...] = 2
    assert not y.data.flags.writeable
    fixed = np.ones(3)
    fixed.flags.writeable = False
    Same()(mf.Tensor(fixed, requires_grad=True)).sum().backward()
    assert not fixed.flags.writeable


def test_a_backward_of_the_wrong_shape_or_number_is_refused_by_name():
    class Wrong(mf.Function):
        def forward(self, a):
            return a * 2

        def backward(self, gy):
            return gy[:1]

    class Two(Wrong):
        def backward(self, gy):
            return gy, gy

    with pytest.raises(ValueError, match=r"Wrong.backward returned a gradient of shape \(1,\)"):
        Wrong()(leaf(3)).backward(np.ones(3))

    class Number(Wrong):
        def backward(self, gy):
            return 1.0

    with pytest.raises(TypeError, match="returned a float"):
        Number()(leaf(3)).backward(np.ones(3))
    with pytest.raises(ValueError, match="2 gradients for 1 inputs"):
        Two()(leaf(3)).backward(np.ones(3))


def test_no_grad_remembers_nothing_but_where_things_lie():
    x = leaf(1, 1, 8, 8)
    with mf.no_grad():
        y = ops.conv2d(x, np.ones((1, 1, 3, 3)), stride=2)
    assert y.creator is None
    assert not y.requires_grad
    assert mf.geometry.receptive_field(y, x).size == (3, 3)


def test_nodes_know_name_formula_parameters_bytes_and_flops():
    conv = mf.nn.Conv2d(3, 4, 3, padding=1)
    conv.name = "conv1_1"
    x = mf.Tensor(np.zeros((2, 3, 5, 6), np.float32))
    node = conv(x).creator
    assert node.name == "conv1_1"
    assert "Σ" in node.formula
    assert node.parameters == dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    assert node.saved_bytes == x.data.nbytes + conv.weight.data.nbytes
    assert node.macs == 2 * 4 * 5 * 6 * 27
    assert node.flops == 2 * node.macs + 2 * 4 * 5 * 6


def test_numbers_take_the_tensors_dtype_and_lists_become_float32():
    x = mf.Tensor(np.ones(3, np.float32))
    for y in (2 * x, x * np.array(2.0), x + np.float64(1), x / 3, 1 - x, x**2):
        assert y.dtype == np.float32
    assert mf.Tensor([1, 2]).dtype == np.float32
    assert (np.ones(3) + mf.Tensor(np.ones(3))).shape == (3,)  # NumPy lets the tensor compute the operator


def test_the_order_of_creation_does_not_leak_between_graphs():
    x = leaf(3)
    late = ops.exp(x)
    early = ops.exp(x)
    (early * late).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * np.exp(2 * x.data))


def test_overrides_reach_kernels_and_operations_and_end_with_the_block():
    x = mf.Tensor(np.random.default_rng(0).standard_normal((1, 1, 4, 4)))
    calls = []

    def mine(x, *window):
        calls.append("im2col")
        return mf.kernels.im2col.textbook(x, *window)

    class Minimum(ops.pool.MaxPool2d):
        def forward(self, x):
            return -super().forward(-x)

    def mine_too(cols, *window):
        calls.append("col2im")
        return mf.kernels.col2im.textbook(cols, *window)

    with mf.override(im2col=mine, MaxPool2d=Minimum):
        ops.conv2d(x, np.ones((1, 1, 3, 3)))  # an overridden im2col is really used
        assert ops.max_pool2d(x, 4).item() == x.data.min()
    with mf.override(col2im=mine_too):
        ops.conv_transpose2d(x, np.ones((1, 1, 3, 3)))
    assert calls == ["im2col", "col2im"]
    assert ops.max_pool2d(x, 4).item() == x.data.max()
    ops.conv2d(x, np.ones((1, 1, 3, 3)))
    assert len(calls) == 2


def test_an_override_is_read_when_a_kernel_is_called_so_it_reaches_backward():
    x, w = leaf(1, 1, 5, 5), leaf(1, 1, 3, 3, seed=1)
    y = ops.conv2d(x, w)
    calls = []

    def spy(*args):
        calls.append(args)
        return mf.kernels.conv2d_grad_weight.textbook(*args)

    with mf.override(conv2d_grad_weight=spy):
        y.backward(np.ones(y.shape))
    assert len(calls) == 1


def test_overrides_by_name_and_unknown_names():
    fast = ["auto", "banded", "channels_last", "pointwise", "winograd", "stationary", "phases", "depthwise", "planes"]
    fast.append("winograd_rows")
    names = mf.kernels.implementations("conv2d")
    assert [name for name in names if name != "compiled"] == [*fast, "textbook", "reference"]
    assert mf.kernels.implementations("conv2d", "cupy") == ["cuda", "textbook", "reference"]
    with mf.override(conv2d="reference"):
        assert mf.kernels.conv2d_grad_weight.choose(np.ones(1)).__module__.endswith("reference")
    for wrong in (dict(conv2d="winogard"), dict(conv3d="banded"), dict(MaxPool2d="banded"), dict(ReLU=abs)):
        with pytest.raises(ValueError), mf.override(**wrong):
            pass


def test_mixing_array_libraries_names_both(monkeypatch):
    import sys
    import types

    other = types.ModuleType("otherarrays")

    class ndarray:
        __module__ = "otherarrays"
        dtype = np.dtype("float32")
        shape, ndim, size = (3,), 1, 3

    other.ndarray = ndarray
    monkeypatch.setitem(sys.modules, "otherarrays", other)
    with pytest.raises(ValueError, match="numpy and otherarrays"):
        mf.Tensor(np.ones(3)) + mf.Tensor(ndarray())


def test_a_gpu_that_is_not_there_is_named_with_what_to_install():
    if mf.backend.gpu_available():
        pytest.skip("a GPU is here")
    missing = r"nvidia-smi" if find_spec("cupy") else r"pip install 'minifcn\[gpu\]'"
    with pytest.raises(RuntimeError, match=missing):
        mf.Tensor([1.0]).to("cuda")
    with pytest.raises(ValueError, match="unknown device"):
        mf.Tensor([1.0]).to("tpu")


def test_watchers_see_every_operation_in_order():
    seen = []
    with core.watch(lambda node, inputs, output: seen.append((type(node).__name__, output.shape))):
        ops.relu(mf.Tensor(np.ones((2, 3))) + 1).sum()
    assert seen == [("Add", (2, 3)), ("ReLU", (2, 3)), ("Sum", ())]


def test_one_setting_serves_nested_blocks_and_calls_of_a_decorated_function():
    setting = mf.no_grad()
    with setting, setting:
        assert not core.is_recording()
    assert core.is_recording()
    decorated = setting(lambda depth: decorated(depth - 1) if depth else core.is_recording())
    assert decorated(3) is False and core.is_recording()
