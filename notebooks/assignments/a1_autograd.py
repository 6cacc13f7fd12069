# %% [markdown]
# # A1 · Autograd, and how to trust it
#
# To train a network we need the gradient of one number, the loss, with respect to every weight. It is not derived by
# hand for a whole network: each operation has its own derivative, and *backward* chains them. You will write two
# operations and the order in which backward visits operations. Then you will write three tools that tell a right
# gradient from a wrong one: a numerical gradient, a gradient checker, and a test. Use them in every later assignment.
#
# An operation $y = f(x)$ never forms its Jacobian $J = \partial y / \partial x$. Its backward receives the upstream
# gradient $g_y = \partial L/\partial y$, an array of $y$'s shape, and returns
#
# $$g_x = J^\mathsf{T} g_y, \qquad (g_x)_i = \sum_j \frac{\partial y_j}{\partial x_i}\,(g_y)_j ,$$
#
# an array of $x$'s shape. This is one application of the chain rule; backpropagation repeats it for every operation.
#
# In minifcn an operation is a `Function`. `forward` takes arrays and returns one array. It can store what `backward`
# needs with `self.save(...)`; `backward` reads it from `self.saved`. `backward` takes $g_y$ and returns one gradient
# per input. Arrays may be float32 or float64, and an output has the dtype of the input. Do not change the inputs or
# $g_y$ in place.
#
# Each check below prints ✓ (passed), ✗ (failed) or · (not yet). You can also run all of them with `python -m pytest
# a1_autograd.py`.

# %%
# Setup
import numpy as np

import minifcn as mf
from minifcn.course import check


def scene():
    """A small FCN-8s in float64 without zero weights, an image, and its labels."""
    mf.manual_seed(0)
    model = mf.models.fcn8s_mini(num_classes=3, width=0.125, dropout=0.0)
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data = p.data.astype("float64") if p.data.any() else 0.1 * rng.standard_normal(p.shape)
    return model, rng.standard_normal((1, 3, 24, 32)), rng.integers(0, 3, (1, 24, 32))


def loss_and_gradients(model, image, labels, order=None):
    """The loss of an FCN and the gradient of every weight."""
    for p in model.parameters():
        p.grad = None
    loss = mf.ops.cross_entropy(model(mf.Tensor(image)), labels)
    loss.backward(order=order)
    return [loss.data, *(p.grad for p in model.parameters() if p.grad is not None)]


# %% [markdown]
# ## Task 1.1: ReLU as a node of the graph (3 points)
#
# $$y = \max(x, 0), \qquad (g_x)_i = \begin{cases}(g_y)_i & x_i > 0\\ 0 & x_i \le 0\end{cases}$$
#
# Its Jacobian is diagonal, so backward is an elementwise product. At $x_i = 0$ the derivative does not exist: every
# number from 0 to 1 is a subgradient, the slope of a line that touches the curve at 0 and stays below it. All networks
# of the paper use 0 there, and yours must, too. This matters, because exact zeros are common after a ReLU and in padded
# borders.


# %%
# Task 1.1
class ReLU(mf.Function):
    """y = max(x, 0), element by element; the gradient at 0 is 0."""

    def forward(self, x):
        """The output for x, an array of any shape."""
        ### BEGIN SOLUTION
        self.save(x > 0)
        return np.maximum(x, 0)
        ### END SOLUTION

    def backward(self, gy):
        """The gradient of x, given that of y."""
        ### BEGIN SOLUTION
        (positive,) = self.saved
        return gy * positive
        ### END SOLUTION


# %%
@check
def test_relu_by_hand():
    """1.1 ReLU of −2, 0, 3, and its gradient for the upstream gradients 10, 20, 30"""
    x = mf.Tensor(np.array([-2.0, 0.0, 3.0]), requires_grad=True)
    y = ReLU()(x)
    y.backward(np.array([10.0, 20.0, 30.0]))
    assert (y.data == [0, 0, 3]).all(), f"the output is {y.data}, it should be [0, 0, 3]"
    assert (x.grad == [0, 0, 30]).all(), f"the gradient is {x.grad}, it should be [0, 0, 30]"


# %% [markdown]
# Your class is now an operation of the framework: with `mf.override`, every ReLU of a network uses it.


# %%
@check
def test_fcn_runs_on_my_relu():
    """1.1 An FCN-8s has the same loss and the same gradients with my ReLU"""
    model, image, labels = scene()
    right = loss_and_gradients(model, image, labels)
    with mf.override(ReLU=ReLU):
        mine = loss_and_gradients(model, image, labels)
    assert np.isclose(mine[0], right[0]), f"the loss is {mine[0]:.6g}, it should be {right[0]:.6g}"
    assert all(np.allclose(a, b) for a, b in zip(mine, right)), "the loss is right, but a gradient is not"


# %% [markdown]
# ## Task 1.2: Addition that broadcasts (4 points)
#
# The backward of $y = a + b$ passes $g_y$ on to both operands. But NumPy *broadcasts*: a bias of shape (C, 1, 1) is
# added to a map of shape (N, C, H, W) as if the bias were repeated for every image and every pixel. Each $b_c$ is then
# used $N H W$ times, and its gradient is the sum over all uses:
#
# $$g_{b,c} = \sum_{n,i,j} (g_y)_{n,c,i,j}.$$
#
# In general, sum the gradient over every axis along which the operand was repeated; the result has the operand's shape.
# There are two kinds of such axes: leading axes that the operand does not have, and axes where its length is 1. Either
# operand may be repeated, or both: (3, 1) + (1, 4).
#
# With equal shapes this is how the paper adds a coarse score map and a skip (§4.2): the sum sends the *same* gradient
# into the deep stream and into the shallow one.


# %%
# Task 1.2
class Add(mf.Function):
    """y = a + b with NumPy's broadcasting."""

    def forward(self, a, b):
        """The sum."""
        ### BEGIN SOLUTION
        self.save(a.shape, b.shape)
        return a + b
        ### END SOLUTION

    def backward(self, gy):
        """The gradients of a and b, each in its operand's shape."""
        ### BEGIN SOLUTION
        gradients = []
        for shape in self.saved:
            new = gy.ndim - len(shape)  # axes that the operand does not have
            repeated = [*range(new), *(new + axis for axis, n in enumerate(shape) if n == 1)]
            gradients.append(gy.sum(axis=tuple(repeated)).reshape(shape))
        return tuple(gradients)
        ### END SOLUTION


# %%
@check
def test_bias_counts_its_uses():
    """1.2 A bias of shape (3, 1, 1) on a map (2, 3, 4, 5) is used 40 times"""
    x, b = (mf.Tensor(np.zeros(shape), requires_grad=True) for shape in [(2, 3, 4, 5), (3, 1, 1)])
    Add()(x, b).backward(np.ones((2, 3, 4, 5)))
    assert b.grad.shape == (3, 1, 1), f"the gradient has the shape {b.grad.shape}, the bias (3, 1, 1)"
    assert (b.grad == 40).all(), f"the gradient is {b.grad.ravel()}, it should be 40 everywhere"
    assert (x.grad == 1).all(), "each element of the map is used once: its gradient should be 1"


@check
def test_fcn_fuses_with_my_addition():
    """1.2 An FCN-8s adds its skips with my Add: same loss, same gradients"""
    model, image, labels = scene()
    right = loss_and_gradients(model, image, labels)
    with mf.override(Add=Add):
        mine = loss_and_gradients(model, image, labels)
    assert all(np.allclose(a, b) for a, b in zip(mine, right)), "the loss or a gradient differs"


# %% [markdown]
# ## Task 1.3: In which order? (4 points)
#
# A network with skips is not a chain: a map is used twice, and its gradient is the *sum* of the gradients from both
# uses. Consider
#
# ```
# b = a + a;   c = b + b        so c = 4a
# ```
#
# The naive recursion "take a gradient, run backward, pass the results on to the inputs" reaches b twice, with half of
# its gradient each time; with $n$ such lines it makes $2^n$ steps. If b runs only at its first visit, the second half
# is lost. If b runs at each visit with the sum of all gradients so far, it passes the first half on twice. The right
# rule: **a node may run only after every node that uses its output.** Such an order exists because a graph of
# computations has no cycle.
#
# A node is a `Function`, and you can walk from it:
#
# ```
# node.inputs      the tensors it was computed from
# x.creator        the node that computed tensor x; None for a leaf (an image, a weight)
# ```
#
# Write the function that `y.backward(order=backward_order)` calls with the last node. Do not use recursion: there can
# be thousands of nodes in a chain, and Python allows a recursion depth of 1000.


# %%
# Task 1.3
def backward_order(last):
    """A list of `last` and all nodes it was computed from: each once, and after all nodes that use its output."""
    ### BEGIN SOLUTION
    uses, waiting = {last: 0}, [last]  # how often each node's output is used
    while waiting:
        for x in waiting.pop().inputs:
            if x.creator is not None:
                if x.creator not in uses:
                    uses[x.creator] = 0
                    waiting.append(x.creator)
                uses[x.creator] += 1
    order = [last]
    for node in order:  # the loop appends to the list
        for x in node.inputs:
            if x.creator is not None:
                uses[x.creator] -= 1
                if uses[x.creator] == 0:
                    order.append(x.creator)
    return order
    ### END SOLUTION


# %%
# Setup
def draw(order):
    """Draw the nodes of an order, numbered in that order; the later a node may run, the further left it is."""
    import matplotlib.pyplot as plt

    column = {order[0]: 0}  # length of the longest path from the last node
    for node in order:
        for x in node.inputs:
            if x.creator in order:
                column[x.creator] = max(column.get(x.creator, 0), column[node] + 1)
    rows = {n: sum(m != n and column[m] == column[n] for m in order[: order.index(n)]) for n in order}
    with mf.viz.styled():
        width, height = 1 + 0.95 * max(column.values()), 1.1 + 0.75 * max(rows.values())
        figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
        for node in order:
            for x in node.inputs:
                if x.creator in order:
                    here, there = (-column[node], -rows[node]), (-column[x.creator], -rows[x.creator])
                    bend = 0.25 if abs(here[0] - there[0]) > 1 and here[1] == there[1] else 0
                    style = dict(
                        arrowstyle="->", color="#5f6368", shrinkA=9, shrinkB=9, connectionstyle=f"arc3,rad={bend}"
                    )
                    ax.annotate("", there, here, arrowprops=style)
        for number, node in enumerate(order, 1):
            at = -column[node], -rows[node]
            ax.text(
                *at,
                number,
                ha="center",
                va="center",
                color="white",
                bbox=dict(boxstyle="circle", fc="#0072B2", ec="none"),
            )
            ax.text(at[0], at[1] - (0.33 if at[1] else -0.33), node.name, ha="center", va="center", size=7)
        ax.set(xlim=(-max(column.values()) - 0.6, 0.6), ylim=(-max(rows.values()) - 0.6, 0.6))
        ax.axis("off")
    plt.close(figure)
    return figure


# %%
@check
def test_c_is_four_times_a():
    """1.3 b = a + a; c = b + b: two nodes, and a gradient of 4"""
    a = mf.Tensor(np.ones(1), requires_grad=True)
    b = a + a
    c = b + b
    order = list(backward_order(c.creator))
    assert order == [c.creator, b.creator], f"the order should be c's node, b's node; it has {len(order)} nodes"
    c.backward(np.ones(1), order=backward_order)
    assert a.grad == 4, f"the gradient of a is {a.grad}, it should be 4"


@check
def test_a_node_waits_for_all_its_users():
    """1.3 A node used by a long path and a short one comes after both"""
    a = mf.Tensor(np.ones(3), requires_grad=True)
    first = mf.ops.exp(a)
    y = mf.ops.exp(mf.ops.exp(first)) + first
    order = list(backward_order(y.creator))
    assert len(order) == 4, f"there are 4 nodes, the order has {len(order)}"
    assert order[-1] is first.creator, "two nodes use the output of the first node: it must come after both"


@check
def test_fcn_goes_back_in_my_order():
    """1.3 An FCN-8s has the same gradients in my order; the picture shows the first 14 nodes of it"""
    model, image, labels = scene()
    right = loss_and_gradients(model, image, labels)
    mine = loss_and_gradients(model, image, labels, order=backward_order)
    assert all(np.allclose(a, b) for a, b in zip(mine, right)), "a gradient differs"
    loss = mf.ops.cross_entropy(model(mf.Tensor(image)), labels)
    return draw(list(backward_order(loss.creator))[:14])


# %% [markdown]
# ## Task 1.4: The numerical gradient (4 points)
#
# To check a derivative, compute it in a second way. For a cotangent $v$ of $y$'s shape, the number $\varphi(x) =
# \langle v, f(x)\rangle = \sum_j v_j f_j(x)$ has the gradient $J^\mathsf{T} v$, which is what backward returns for
# $g_y = v$. Move one element of $x$ a little in both directions:
#
# $$\frac{\partial\varphi}{\partial x_i} = \frac{\varphi(x + h\,e_i) - \varphi(x - h\,e_i)}{2h} + O(h^2).$$
#
# Why both directions? The one-sided quotient has an error of $O(h)$ from the second derivative of $f$; here these
# errors cancel. Why not a much smaller $h$? The difference of two nearly equal numbers has a rounding error of about
# $\varepsilon\,\varphi$ ($\varepsilon = 2.2 \cdot 10^{-16}$), so the quotient has one of $\varepsilon\,\varphi/h$. The
# picture shows both errors.


# %%
# Task 1.4
def numerical_gradient(f, x, v, h=1e-5):
    """The gradient of ⟨v, f(x)⟩ by central differences with step h: an array of x's shape.

    f takes an array of x's shape and returns one of v's shape; x is float64, of any shape, and must not be changed.
    """
    ### BEGIN SOLUTION
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += h
        below[index] -= h
        gradient[index] = (v * (f(above) - f(below))).sum() / (2 * h)
    return gradient
    ### END SOLUTION


# %%
@check
def test_slopes_of_a_parabola():
    """1.4 x² has the slopes 2x; central differences are exact for it"""
    x, v = np.array([[1.0, -2.0, 3.0]]), np.array([[1.0, 10.0, 100.0]])
    slopes = numerical_gradient(lambda x: x**2, x, v, h=0.1)
    assert slopes.shape == (1, 3), f"the shape is {slopes.shape}, it should be (1, 3)"
    assert np.allclose(slopes, [[2, -40, 600]]), f"the slopes times v are {slopes}, they should be [[2, −40, 600]]"


@check
def test_backward_agrees_with_differences():
    """1.4 It agrees with backward of a convolution; the picture shows the error for each step h"""
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((2, 1, 2, 2)), rng.standard_normal((1, 2, 2, 3))

    def f(x):
        return mf.ops.conv2d(mf.Tensor(np.exp(x)), w).numpy()

    x = mf.Tensor(rng.standard_normal((1, 1, 3, 4)), requires_grad=True)
    mf.ops.conv2d(mf.ops.exp(x), w).backward(v)
    steps = 10.0 ** -np.arange(0.0, 13.5, 0.5)
    errors = [abs(numerical_gradient(f, x.data, v, h) - x.grad).max() for h in steps]
    assert errors[10] < 1e-7, f"at h = {steps[10]:.0e} they differ by {errors[10]:.1g}"
    import matplotlib.pyplot as plt

    with mf.viz.styled():
        figure, ax = plt.subplots(figsize=(5.6, 3), layout="constrained")
        ax.loglog(steps, errors, "o-", label="yours")
        ax.loglog(steps[:12], errors[2] * (steps[:12] / steps[2]) ** 2, "--", lw=1, label="h²: third derivative of f")
        ax.loglog(steps[8:], 2.2e-16 / steps[8:], "--", lw=1, label="ε/h: rounding")
        ax.set(xlabel="step h", title="Error of the numerical gradient")
        ax.legend()
    plt.close(figure)
    return figure


# %% [markdown]
# ## Task 1.5: The gradient checker (5 points)
#
# Element by element, a layer with a million weights needs two million forward passes. One random direction is enough:
# with $v$ and $d$ drawn from `rng`,
#
# $$\langle \underbrace{J^\mathsf{T} v}_{\text{backward}(v)},\; d\rangle
#  \;=\; \frac{\langle v,\, f(x + h d)\rangle - \langle v,\, f(x - h d)\rangle}{2h} + O(h^2),$$
#
# and a wrong gradient almost never satisfies it. The cotangent must be random, too: the outputs of a softmax add up to
# 1 for every $x$, so for $v = (1, …, 1)$ the right gradient is 0, and a backward that always returns 0 would pass.
#
# Then decide whether the two sides agree. Compare them relative to the size of the numbers: the checker must work for
# functions with values around 1e-9 and around 1e6. A right gradient agrees to about 1e-8 here; refuse one that is wrong
# by a thousandth. Three cases need care: a right gradient that is zero; a gradient that contains NaN; a gradient of
# another shape, which broadcasting would hide.


# %%
# Task 1.5
def gradients_agree(forward, backward, x, rng):
    """Whether `backward` is the gradient of `forward` at x (float64): True or False.

    forward takes an array of x's shape and returns y; backward takes an array of y's shape and returns the gradient of
    ⟨that array, y⟩ at x.
    """
    ### BEGIN SOLUTION
    h, y = 1e-5, forward(x)
    v, d = rng.standard_normal(y.shape), rng.standard_normal(x.shape)
    gradient = backward(v)
    if gradient.shape != x.shape:
        return False
    analytic = (gradient * d).sum()
    numeric = (v * (forward(x + h * d) - forward(x - h * d))).sum() / (2 * h)
    rounding = 1e-10 * abs(v * y).sum()
    return bool(abs(analytic - numeric) <= 1e-5 * abs(gradient * d).sum() + rounding)  # False for NaN
    ### END SOLUTION


# %%
def softmax(x):
    """Softmax over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@check
def test_checker_accepts_what_is_right():
    """1.5 The gradient of a softmax is accepted"""
    x = np.random.default_rng(0).standard_normal((3, 4))
    y = softmax(x)

    def right(gy):
        return y * (gy - (gy * y).sum(axis=-1, keepdims=True))

    for seed in range(5):
        assert gradients_agree(softmax, right, x, np.random.default_rng(seed)), (
            f"your checker refuses it, with seed {seed}"
        )


@check
def test_checker_refuses_what_is_wrong():
    """1.5 A softmax that forgets a term, and one that always returns 0, are refused"""
    x = np.random.default_rng(0).standard_normal((3, 4))
    y, rng = softmax(x), np.random.default_rng(1)
    assert not gradients_agree(softmax, lambda gy: y * gy, x, rng), "y·gy is accepted: a term is missing"
    assert not gradients_agree(softmax, lambda gy: 0 * gy, x, rng), "0 is accepted: is your cotangent all ones?"


@check
def test_checker_on_operations():
    """1.5 It accepts the gradient of the framework's convolution, and refuses the one with flipped filters"""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 2, 4, 5)), rng.standard_normal((3, 2, 2, 3))
    one = ((1, 1), (0, 0), (1, 1), 1)

    def forward(x):
        return mf.kernels.conv2d(x, w, *one)

    def backward(gy):
        return mf.kernels.conv2d_grad_input(gy, w, x.shape, *one)

    def turned(gy):
        return mf.kernels.conv2d_grad_input(gy, w[:, :, ::-1, ::-1], x.shape, *one)

    assert gradients_agree(forward, backward, x, rng), "the right gradient is refused"
    assert not gradients_agree(forward, turned, x, rng), "the gradient with flipped filters is accepted"


# %% [markdown]
# ## Task 1.6: A test of your own (7 points)
#
# An implementation of max pooling can easily be almost right. Write a test for it: a function that takes an
# implementation, calls it, and raises an AssertionError (with `assert`) if a result is wrong. The grader calls your
# test with right implementations, which must pass, and with wrong ones. The kernel has this contract:
#
# ```
# max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode) -> (y, index)
# ```
#
# x is (N, C, H, W); `kernel_size`, `stride`, `padding` and `dilation` are pairs (h, w) as in convolution; y is (N, C,
# OH, OW). Each cell of y is the maximum of its window; values outside the image count as $-\infty$ (not 0: a window of
# negative numbers at the border has a negative maximum). `index`, of y's shape, is the tap number $u\,k_w + v$ of the
# maximum within its window. If several are equal, it is the **first** one in row-major order: backward sends the
# gradient to that cell only.
#
# Without `ceil_mode` only windows that fit count, $OH = \lfloor (H + 2p - d(k-1) - 1)/s \rfloor + 1$. With `ceil_mode`
# the fraction is rounded *up*: a last window may reach beyond the end, if it begins inside the image or its leading
# padding.
#
# List the possible errors one by one, and for each find an input that shows it. Expected values computed by hand are
# good; so is a comparison with slow loops.


# %%
# Task 1.6
def examine_max_pool(max_pool2d):
    """Raise an AssertionError if the kernel `max_pool2d` is wrong."""
    ### BEGIN SOLUTION
    rng = np.random.default_rng(0)
    geometries = [
        ((2, 2), (2, 2), (0, 0), (1, 1), False),
        ((3, 2), (2, 1), (0, 0), (1, 1), False),
        ((2, 3), (1, 2), (1, 0), (1, 1), False),
        ((3, 3), (2, 2), (1, 1), (1, 1), True),
        ((2, 2), (3, 2), (0, 1), (2, 1), True),
        ((2, 2), (1, 1), (0, 0), (1, 2), False),
    ]
    for kernel_size, stride, padding, dilation, ceil_mode in geometries:
        for x in (rng.standard_normal((2, 2, 6, 7)) - 1, -1.0 * rng.integers(1, 3, (2, 2, 6, 7))):
            y, index = max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)
            right, first = slow_max_pool(x, kernel_size, stride, padding, dilation, ceil_mode)
            assert y.shape == index.shape == right.shape, "the shape"
            assert (y == right).all(), "the maxima"
            assert (index == first).all(), "the index of the first maximum"
    ### END SOLUTION


def slow_max_pool(x, kernel_size, stride, padding, dilation, ceil_mode):
    """Max pooling in loops; optional, if you want to compare with it."""
    ### BEGIN SOLUTION
    sizes = []
    for n, k, s, p, d in zip(x.shape[2:], kernel_size, stride, padding, dilation):
        free = n + 2 * p - d * (k - 1) - 1
        size = (-(-free // s) if ceil_mode else free // s) + 1
        sizes.append(size - 1 if ceil_mode and (size - 1) * s >= n + p else size)
    y, index = np.full((*x.shape[:2], *sizes), -np.inf), np.zeros((*x.shape[:2], *sizes), int)
    for n, c, i, j, u, v in np.ndindex(*y.shape, *kernel_size):
        row = stride[0] * i - padding[0] + dilation[0] * u
        column = stride[1] * j - padding[1] + dilation[1] * v
        if 0 <= row < x.shape[2] and 0 <= column < x.shape[3] and x[n, c, row, column] > y[n, c, i, j]:
            y[n, c, i, j], index[n, c, i, j] = x[n, c, row, column], u * kernel_size[1] + v
    return y, index
    ### END SOLUTION


# %%
def is_caught(wrong):
    """Whether my test raises an AssertionError for a wrong kernel."""
    try:
        examine_max_pool(wrong)
    except AssertionError:
        return True
    return False


@check
def test_my_test_passes_right_kernels():
    """1.6 My test accepts the library's two kernels, the loops and the vectorised one"""
    for kernel in (mf.kernels.reference.max_pool2d, mf.kernels.textbook.max_pool2d):
        examine_max_pool(kernel)


@check
def test_my_test_catches_wrong_kernels():
    """1.6 My test catches a minimum, and a kernel that ignores the padding (the grader tries twenty-four)"""
    kernel = mf.kernels.textbook.max_pool2d

    def minimum(x, *geometry):
        y, index = kernel(-x, *geometry)
        return -y, index

    def unpadded(x, kernel_size, stride, padding, dilation, ceil_mode):
        return kernel(x, kernel_size, stride, (0, 0), dilation, ceil_mode)

    assert is_caught(minimum), "your test accepts a kernel that takes the minimum"
    assert is_caught(unpadded), "your test accepts a kernel that ignores the padding"
