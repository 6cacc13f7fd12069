"""Hidden tests of A1: two operations, the order of backward, numerical gradients, the checker, and a student's test."""

import math
from collections import Counter

import numpy as np

import minifcn as mf
from minifcn.course import draws
from minifcn.course.differences import difference
from minifcn.course.tasks import Case, Check, Task, instead, mistake
from minifcn.kernels.shapes import pool_sizes
from minifcn.kernels.textbook import pad_to_windows, sliding_windows


def scene(rng):
    """A random image and its labels, some of them void."""
    labels = rng.integers(0, 3, (1, 24, 24))
    labels[0, :3] = 255
    labels[0, 3, :3] = 0, 1, 2
    return rng.standard_normal((1, 3, 24, 24)), labels


CLOSE = 1e-9  # more than any order of the terms changes in float64, less than float32 does


def operation(label, rng, *arrays):
    """A case that calls a Function, with a random upstream gradient of the output's shape."""
    gy = draws.array(rng, np.broadcast_shapes(*(a.shape for a in arrays)), arrays[0].dtype.name)
    return Case(label, {}, arrays, gy, probe="function", rtol=CLOSE)


def two_nodes(rng, *shapes):
    """A case with two nodes of the same class, which both run forward before either runs backward."""
    both = ([rng.standard_normal(shape) for shape in shapes] for _ in range(2))
    gy = rng.standard_normal(np.broadcast_shapes(*shapes))
    return Case("two nodes with the same shapes, other numbers", {}, *both, gy, probe="two_nodes", rtol=CLOSE)


def in_fcn(name):
    def cases(rng):
        label = f"an FCN-8s with your {name}, forward and backward"
        yield Case(label, name, *scene(rng), 1, probe="network", rtol=CLOSE)

    return cases


def methods(*operations):
    """The paths of the methods of library operations; the classes stay, because the student's class overrides them."""
    return [f"ops.{name}.{method}" for name in operations for method in ("forward", "backward")]


# 1.1 -----------------------------------------------------------------------------------------------------------------


def relu_values(rng):
    yield operation("a row of numbers", rng, rng.standard_normal(7))
    yield operation("maps, (2, 3, 4, 5)", rng, rng.standard_normal((2, 3, 4, 5)))
    yield operation("float32", rng, rng.standard_normal((3, 4)).astype("float32"))
    yield operation("a square array, (6, 6)", rng, rng.standard_normal((6, 6)))
    yield operation("an array without axes", rng, np.array(1.5))
    yield operation("an array without axes, negative", rng, np.array(-1.5))
    for label, scale in (("around 1e-9", 1e-9), ("around 10", 10), ("around 1e4", 1e4), ("around 1e9", 1e9)):
        for kind in draws.KINDS:
            yield operation(f"numbers {label}, {kind}", rng, scale * draws.array(rng, (3, 2, 3), kind))
    yield operation("all numbers positive", rng, abs(rng.standard_normal((2, 3))))
    yield operation("all numbers negative", rng, -abs(rng.standard_normal((2, 3))))
    yield operation("an array without elements", rng, np.zeros((0, 3)))
    yield two_nodes(rng, (2, 3))


def relu_at_zero(rng):
    yield operation("many exact zeros", rng, rng.integers(-1, 2, (4, 5)).astype(float))
    yield operation("only zeros", rng, np.zeros((2, 3)))
    yield operation("many exact zeros, float32", rng, rng.integers(-1, 2, (4, 5)).astype("float32"))
    yield operation("many exact zeros among tiny numbers", rng, 1e-12 * rng.integers(-1, 2, (4, 5)))


VALUES, ZERO, NET = RELU_ALL = ("values and gradients", "at zero", "in a network")

RELU = Task(
    "1.1", "ReLU", library="ops.activation.ReLU",
    forbidden=("relu", "relu_grad", *methods("activation.ReLU", "activation.PReLU")),
    checks=[Check(VALUES, 1, relu_values), Check(ZERO, 1, relu_at_zero), Check(NET, 1, in_fcn("ReLU"))],
    mistakes=[
        mistake("the gradient at x = 0 is not 0: it must be 0 there, too", "x > 0", "x >= 0", loses=ZERO),
        mistake("the gradient is passed on everywhere: it must be 0 where x is negative", "gy * positive", "gy",
                loses=RELU_ALL),
        mistake("backward returns only the derivative: it must be multiplied by the upstream gradient gy",
                "gy * positive", "positive.astype(gy.dtype)", loses=RELU_ALL),
        mistake("the gradient is also set to 0 where gy is negative: only the sign of x matters", "gy * positive",
                "np.maximum(gy, 0) * positive", loses=RELU_ALL),
        mistake("the gradient is set to 0 by the sign of gy, not by that of x: save what you need in forward",
                "gy * positive",
                "np.maximum(gy, 0)", loses=RELU_ALL),
        mistake("it changes its input in place: the network still needs that array", "np.maximum(x, 0)",
                "np.maximum(x, 0, out=x)",
                loses=RELU_ALL),
        mistake("negative numbers become positive: max(x, 0) is not |x|", "np.maximum(x, 0)", "abs(x)",
                loses=RELU_ALL),
        mistake("the result is float64 for a float32 input", "np.maximum(x, 0)",
                "np.maximum(x, np.zeros(x.shape))",
                loses=(VALUES, ZERO)),
        mistake("numbers above 6 are cut off: ReLU has no upper limit", "np.maximum(x, 0)", "np.clip(x, 0, 6)",
                loses=VALUES),
        mistake("numbers above 6 are cut off and pass no gradient on: ReLU has no upper limit", "x > 0",
                "(x > 0) & (x < 6)", "np.maximum(x, 0)", "np.clip(x, 0, 6)", loses=VALUES),
        mistake("numbers above 100 are cut off: ReLU has no upper limit", "np.maximum(x, 0)", "np.clip(x, 0, 100)",
                loses=VALUES),
        mistake("the gradient is 0 also for small positive numbers: compare with 0 itself", "x > 0", "x > 1e-8",
                loses=(VALUES, ZERO)),
        mistake("negative numbers are multiplied by 0.01: they must become 0", "np.maximum(x, 0)",
                "np.maximum(x, x.dtype.type(0.01) * x)", loses=RELU_ALL),
        mistake("the gradient is multiplied by 0.01 where x is negative: it must be 0", "gy * positive",
                "gy * np.where(positive, gy.dtype.type(1), gy.dtype.type(0.01))", loses=RELU_ALL),
        mistake("what forward saves is shared by all nodes of the class: save it in the node", "self.save(x > 0)",
                "ReLU.kept = (x > 0,)", "self.saved", "ReLU.kept", loses=(VALUES, NET)),
        mistake("the numbers are rounded to float32 on the way: float64 must stay float64", "np.maximum(x, 0)",
                "np.maximum(np.float32(x), 0).astype(x.dtype)", loses=(VALUES, NET)),
        mistake("it changes the upstream gradient gy in place: other nodes may still need it", "return gy * positive",
                "gy *= positive\n        return gy", loses=(VALUES, ZERO)),
    ],
    cheats=[
        instead("inherits from the library's class", """# Task 1.1
class ReLU(mf.ops.activation.ReLU):
    pass""", loses=RELU_ALL),
        instead("calls leaky_relu with slope 0", """# Task 1.1
class ReLU(mf.Function):
    def forward(self, x):
        return mf.ops.leaky_relu(x, 0).numpy()

    def backward(self, gy):
        return gy""", loses=RELU_ALL),
    ],
    styles=[
        instead("np.where, and the output saved", """# Task 1.1
class ReLU(mf.Function):
    def forward(self, x):
        y = np.where(x > 0, x, 0).astype(x.dtype)
        self.save(y)
        return y

    def backward(self, gy):
        gx = gy.copy()
        gx[self.saved[0] <= 0] = 0
        return (gx,)"""),
        instead("half of x and |x|; attributes instead of save", """# Task 1.1
class ReLU(mf.Function):
    def forward(self, x):
        self.x = x
        return (x + abs(x)) / 2

    def backward(self, gy):
        return [np.heaviside(self.x, 0) * gy]"""),
    ],
)  # fmt: skip


# 1.2 -----------------------------------------------------------------------------------------------------------------


def equal_shapes(rng):
    yield operation("(2, 3) + (2, 3)", rng, *rng.standard_normal((2, 2, 3)))
    yield operation("maps, (2, 1, 3, 4)", rng, *rng.standard_normal((2, 2, 1, 3, 4)))
    yield operation("two numbers", rng, *map(np.array, rng.standard_normal(2)))
    for kind in draws.KINDS:
        yield operation(f"(3, 3, 3) + (3, 3, 3), {kind}", rng, *(draws.array(rng, (3, 3, 3), kind) for _ in range(2)))
    yield two_nodes(rng, (2, 3), (2, 3))


def broadcast(shapes, ones):
    """Cases from pairs of shapes, and random ones, whose operands lack axes or (`ones`) have some of length 1."""

    def cases(rng):
        for pair in shapes:
            yield operation(named(pair), rng, *(rng.standard_normal(shape) for shape in pair))
        for kind in 3 * draws.KINDS:
            pair = repeated(rng)
            yield operation(f"{named(pair)}, {kind}", rng, *(draws.array(rng, shape, kind) for shape in pair))
        yield two_nodes(rng, (3, 3), (3, 1) if ones else (3,))

    def repeated(rng):
        whole = tuple(map(int, rng.choice((2, 3), rng.integers(2, 5))))
        if rng.random() < 0.5:
            whole = (3,) * len(whole)  # lengths do not tell the axes apart
        if not ones:
            pair = [whole[int(rng.integers(1, len(whole) + 1)) :], whole]
        else:
            first, second = ([1 if rng.random() < p else n for n in whole] for p in (0.5, 0.2))
            first[int(rng.integers(len(whole)))] = 1
            pair = [tuple(first)[int(rng.integers(2)) * int(first[0] == 1) :], tuple(second)]
        return pair if rng.random() < 0.5 else pair[::-1]

    def named(pair):
        return " + ".join(map(str, pair))

    return cases


EQUAL, FRONT, ONES, NET = ADD_ALL = ("equal shapes", "axes that are missing", "axes of length 1", "in a network")

ADD = Task(
    "1.2", "Add", library="ops.arithmetic.Add", forbidden=(*methods("arithmetic.Add"), "ops.arithmetic.unbroadcast"),
    checks=[
        Check(EQUAL, 1, equal_shapes),
        Check(FRONT, 1, broadcast([
            ((4, 3), (3,)), ((3,), (2, 4, 3)), ((2, 3), ()), ((), (2, 3, 2)), ((3, 3), (3,)), ((2, 2), (2, 2, 2)),
        ], ones=False)),
        Check(ONES, 1, broadcast([
            ((2, 3, 4), (3, 1)), ((3, 1), (1, 4)), ((2, 1, 3, 4), (2, 5, 1, 1)), ((1,), (3, 2)),
            ((3, 3), (3, 1)), ((1, 3), (3, 3)), ((3, 3, 2, 2), (3, 1, 1)), ((2, 2, 2), (1, 2, 1)), ((1, 1), (1, 1)),
        ], ones=True)),
        Check(NET, 1, in_fcn("Add")),
    ],
    mistakes=[
        mistake("the gradient of a repeated operand is not summed: it must have the operand's shape, not gy's",
                "gradients.append(gy.sum(axis=tuple(repeated)).reshape(shape))", "gradients.append(gy)",
                loses=(FRONT, ONES)),
        mistake("the gradient of a repeated operand is the mean over its uses: it must be the sum", "gy.sum(",
                "gy.mean(",
                loses=(FRONT, ONES)),
        mistake("the gradient is not summed over axes where the operand has length 1, only over axes that it does "
                "not have",
                "[*range(new), *(new + axis for axis, n in enumerate(shape) if n == 1)]", "list(range(new))",
                loses=ONES),
        mistake("the gradient is not summed over axes that the operand does not have, only over axes of length 1",
                "repeated = [*range(new), *",
                "repeated = [*", loses=(FRONT, ONES)),
        mistake("the gradient of the first operand is not summed: it can be the smaller one, too",
                "return tuple(gradients)", "return gy, gradients[1]", loses=(FRONT, ONES)),
        mistake("only the first use of a repeated operand counts: sum over all its uses",
                "gy.sum(axis=tuple(repeated))",
                "gy[tuple(0 if i in repeated else slice(None) for i in range(gy.ndim))]", loses=(FRONT, ONES)),
        mistake("the gradient is divided between the operands: each must receive all of it", "gy.sum(", "0.5 * gy.sum(",
                loses=ADD_ALL),
        mistake("the axes to sum over are found by their lengths: with equal lengths these are the wrong axes",
                "            new = gy.ndim - len(shape)  # axes that the operand does not have\n"
                "            repeated = [*range(new), *(new + axis for axis, n in enumerate(shape) if n == 1)]\n",
                "            rest = list(shape)\n            repeated = []\n            for axis, n in "
                "enumerate(gy.shape):\n"
                "                if rest and n == rest[0]:\n                    rest.pop(0)\n"
                "                else:\n                    repeated.append(axis)\n"
                "                    rest = rest[1:] if rest and rest[0] == 1 else rest\n", loses=(FRONT, ONES)),
        mistake("the missing axes are taken to be the last ones: NumPy adds them in front",
                "[*range(new), *(new + axis for", "[*range(len(shape), gy.ndim), *(axis for", loses=(FRONT, ONES)),
        mistake("only one axis of length 1 is summed over", "for axis, n in enumerate(shape) if n == 1)",
                "for axis, n in enumerate(shape) if n == 1 and 1 not in shape[:axis])", loses=ONES),
        mistake("the shapes are shared by all nodes of the class: save them in the node", "self.save(a.shape, b.shape)",
                "Add.kept = a.shape, b.shape", "self.saved", "Add.kept", loses=NET),
        mistake("the sum is computed in float32: float64 must stay float64", "return a + b",
                "return (np.float32(a) + np.float32(b)).astype(np.result_type(a, b))", loses=ADD_ALL),
        mistake("the result is always float64: it should have the dtype of the inputs", "return a + b",
                "return np.add(a, b, dtype=float)", loses=(EQUAL, FRONT, ONES)),
        mistake("it changes its input a in place, if the shapes allow it", "return a + b",
                "if a.shape == np.broadcast_shapes(a.shape, b.shape) and a.ndim:\n            a += b\n            "
                "return a\n"
                "        return a + b", loses=ADD_ALL),
        mistake("the gradient of b has the wrong sign", "return tuple(gradients)", "return gradients[0], -gradients[1]",
                loses=ADD_ALL),
    ],
    cheats=[
        instead("calls the library's Function directly", """# Task 1.2
class Add(mf.Function):
    def forward(self, a, b):
        self.node = mf.ops.arithmetic.Add()
        return self.node.forward(a, b)

    def backward(self, gy):
        return self.node.backward(gy)""", loses=ADD_ALL),
        instead("uses the library's subtraction", """# Task 1.2
class Add(mf.Function):
    def forward(self, a, b):
        self.node = mf.ops.arithmetic.Sub()
        return self.node.forward(a, -b)

    def backward(self, gy):
        ga, gb = self.node.backward(gy)
        return ga, -gb""", loses=ADD_ALL),
    ],
    styles=[
        instead("axis by axis, from the last", """# Task 1.2
class Add(mf.Function):
    def forward(self, a, b):
        self.a, self.b = a.shape, b.shape
        return np.add(a, b)

    def backward(self, gy):
        return self.fit(gy, self.a), self.fit(gy, self.b)

    def fit(self, g, shape):
        while g.ndim > len(shape):
            g = g.sum(0)
        for axis in range(len(shape)):
            if shape[axis] == 1:
                g = g.sum(axis, keepdims=True)
        return g"""),
        instead("one number at a time", """# Task 1.2
class Add(mf.Function):
    def forward(self, a, b):
        self.save(a, b)
        return a + b

    def backward(self, gy):
        ga, gb = (np.zeros(x.shape) for x in self.saved)
        for at in np.ndindex(gy.shape):
            for g in (ga, gb):
                own = at[len(at) - g.ndim :]
                g[tuple(0 if n == 1 else i for i, n in zip(own, g.shape))] += gy[at]
        return ga, gb"""),
    ],
)  # fmt: skip


# 1.3 -----------------------------------------------------------------------------------------------------------------
# A graph is a list of links: tensor 0 is the leaf, link k computes tensor k + 1 (probes.graph).


def doubling(n):
    """b = a + a; c = b + b; ..."""
    return [(k, k) for k in range(n)]


SKIP = [(0,), (1,), (2,), (3,), (1, 4), (2, 5)]  # a long path, and two short ones beside it
DIAMOND = [(0,), (1,), (1,), (3,), (2, 4)]
ASIDE = [(0,), (1,), (0,), (1, 3), (2, 2)]  # tensors 3 and 4 are not needed for the last one


def random_graph(rng, n=14):
    links = [(0,)]
    for k in range(1, n):
        recent = [int(k - rng.integers(0, min(k, 5))) for _ in range(2)]
        links.append(tuple(recent[: 1 + int(rng.random() < 0.7)]))
    return links


def is_order(links):
    """A judge for an order: exactly the nodes that the last one needs, each once and after its users."""
    users, needed = {}, {len(links)}
    for k in range(len(links), 0, -1):
        if k in needed:
            for i in set(links[k - 1]) - {0}:
                needed.add(i)
                users.setdefault(i, []).append(k)

    def judge(result):
        if not isinstance(result, np.ndarray) or result.dtype.kind != "i":
            return "it does not return a list of nodes"
        if len(result) > 1000 * len(links):
            return f"it returns {len(result)} nodes, many more than the graph has"
        order, times = result.tolist(), Counter(result.tolist())
        if -1 in order:
            return "it returns something that is not a node of the graph (the creator of a leaf is None)"
        for node in order:
            if times[node] > 1:
                return f"it returns a node {times[node]} times"
            if node not in needed:
                return "it returns a node that the last one was not computed from"
        if len(order) < len(needed):
            return f"it returns only {len(order)} of {len(needed)} nodes"
        at = {node: place for place, node in enumerate(order)}
        early = [(node, user) for node in needed for user in users.get(node, ()) if at[node] < at[user]]
        if early:
            return f"a node comes before a node that uses its output ({len(early)} times in this graph)"
        return None

    return judge


def orders(graphs):
    def cases(rng):
        for label, links in graphs(rng).items():
            links, probe = links if isinstance(links, tuple) else (links, "visits")
            yield Case(label, links, probe=probe, judge=is_order(links))

    return cases


def order_gradients(rng):
    for label, links in {"b = a + a; c = b + b": doubling(2), "two skips": SKIP}.items():
        yield Case(f"the gradient of {label}", links, rng.standard_normal(3), probe="backward")
    yield Case("every gradient of an FCN-8s", *scene(rng), 1, probe="network_backward")


ONCE, AFTER, DEEP, NET = ORDER_ALL = (
    "each node once", "after all its users", "a chain of 3000 nodes", "gradients",
)  # fmt: skip

ORDER = Task(
    "1.3", "backward_order", library="engine.core.newest_first", forbidden=("engine.core.newest_first",),
    checks=[
        Check(ONCE, 1, orders(lambda rng: {
            "one node": [(0,)], "b = a + a; c = b + b": doubling(2), "seven such lines": doubling(7),
            "the same graph, a second call": (doubling(2), "visits_again"),
        })),
        Check(AFTER, 1, orders(lambda rng: {
            "a diamond with unequal sides": DIAMOND, "two skips": SKIP, "a graph with nodes that are not needed": ASIDE,
            **{f"a random graph of {n} nodes": random_graph(rng, n) for n in (5, 8, 11, 14, 20)},
        })),
        Check(DEEP, 1, orders(lambda rng: {"a chain": [(k,) for k in range(3000)]})),
        Check(NET, 1, order_gradients),
    ],
    mistakes=[
        instead("a node is visited once for each use of its output, so a node with two users is visited twice, and the "
                "nodes behind it up to 2ⁿ times", """# Task 1.3
def backward_order(last):
    order, waiting = [], [last]
    while waiting:
        node = waiting.pop(0)
        order.append(node)
        waiting += [x.creator for x in node.inputs if x.creator is not None]
    return order""", loses=(ONCE, AFTER, NET)),
        instead("nodes are listed when they are first met, depth first: a node must come after *all* its users",
                """# Task 1.3
def backward_order(last):
    order, waiting = [], [last]
    while waiting:
        node = waiting.pop()
        if node not in order:
            order.append(node)
            waiting += [x.creator for x in node.inputs if x.creator is not None]
    return order""", loses=(AFTER, NET)),
        instead("nodes are listed when they are first met, breadth first: a node must come after the longest path from "
                "the last node, not after the shortest", """# Task 1.3
def backward_order(last):
    order = [last]
    for node in order:
        for x in node.inputs:
            if x.creator is not None and x.creator not in order:
                order.append(x.creator)
    return order""", loses=(AFTER, NET)),
        instead("it is recursive: a chain of 3000 nodes exceeds Python's recursion limit; use a loop with a list of "
                "waiting nodes", """# Task 1.3
def backward_order(last):
    order = []

    def visit(node):
        if node is not None and node not in order:
            for x in node.inputs:
                visit(x.creator)
            order.append(node)

    visit(last)
    return order[::-1]""", loses=DEEP),
        mistake("nodes of earlier calls are remembered: a second call for the same graph returns fewer nodes",
                "def backward_order(last):", "def backward_order(last, known=set()):",
                "    return order", "    new = [node for node in order if node not in known]\n"
                "    known.update(order)\n    return new", loses=ONCE),
        mistake("the nodes are in the order of the forward pass: backward begins with the last node", "return order",
                "return order[::-1]", loses=ORDER_ALL),
        mistake("the last node itself is missing", "return order", "return order[1:]", loses=ORDER_ALL),
        mistake("the list contains None, the creator of a leaf, which is not a node", "    return order",
                "    return [*order, *(x.creator for x in order[-1].inputs[:1])]", loses=(ONCE, AFTER, DEEP)),
    ],
    cheats=[
        instead("imports the library's function from its module", """# Task 1.3
from minifcn.engine.core import newest_first


def backward_order(last):
    own = newest_first or mf.engine.core.newest_first
    return own(last)""", loses=ORDER_ALL),
        instead("records the order of the library's own backward", """# Task 1.3
from minifcn.engine import core


def backward_order(last):
    order = []
    y = mf.Tensor(np.zeros(last.out_shape), requires_grad=True)
    y.creator = last
    with core.watch(backward=lambda node, gy, gradients: order.append(node)):
        y.backward(np.zeros(last.out_shape))
    return order""", loses=ORDER_ALL),
    ],
    styles=[
        instead("by creation order, with a heap, as a generator", """# Task 1.3
import heapq


def backward_order(last):
    heap, seen = [(-last.born, last)], {last}
    while heap:
        _, node = heapq.heappop(heap)
        yield node
        for x in node.inputs:
            if x.creator and x.creator not in seen:
                seen.add(x.creator)
                heapq.heappush(heap, (-x.creator.born, x.creator))"""),
        instead("depth first with an explicit stack, reversed", """# Task 1.3
def backward_order(last):
    finished, done, stack = [], set(), [(last, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            finished.append(node)
        elif id(node) not in done:
            done.add(id(node))
            stack.append((node, True))
            stack.extend((x.creator, False) for x in node.inputs if x.requires_grad and x.creator)
    return finished[::-1]"""),
        instead("the longest path from the last node, improved repeatedly", """# Task 1.3
def backward_order(last):
    depth, waiting = {last: 0}, [last]
    while waiting:
        node = waiting.pop(0)
        for x in node.inputs:
            if x.creator is not None and depth.get(x.creator, -1) <= depth[node]:
                depth[x.creator] = depth[node] + 1
                waiting.append(x.creator)
    return sorted(depth, key=depth.get)"""),
    ],
)  # fmt: skip


# 1.4 -----------------------------------------------------------------------------------------------------------------


def square(x):
    return x**2


def wave(x):
    return np.sin(100 * x)


def cubic_and_mixed(x):
    """Every output depends on several inputs."""
    return np.stack([x.sum() ** 2, (x**3).sum(), x.ravel()[0] * x.ravel()[-1]])


def differences(rng):
    yield Case(
        "x² at step 0.5 (central differences are exact)", square, rng.standard_normal(3), rng.standard_normal(3), 0.5
    )
    yield Case("x² at step 0.01", square, rng.standard_normal((2, 2)), rng.standard_normal((2, 2)), 0.01)
    yield Case("exp at the default step", np.exp, rng.standard_normal(3), rng.standard_normal(3))
    yield Case("sin 100x at the default step", wave, rng.standard_normal(3), rng.standard_normal(3))
    for h in (0.5, 0.25):
        x, v = np.array([1.0, *rng.uniform(-2, 2, 3)]), rng.uniform(1, 2, 4)
        yield Case(f"x⁵ at step {h}, whose difference quotient is not its derivative", lambda x: x**5, x, v, h,
                   judge=step_is_used(x, v, h))  # fmt: skip


def step_is_used(x, v, h):
    """A judge for x⁵: the quotient with step h is 5x⁴ + 10x²h² + h⁴.

    Extrapolating to 5x⁴ from the steps h and 2h, or h/2 and h, leaves −4h⁴ or −h⁴/4, and is as good an answer.
    """
    rights = [v * (5 * x**4 + rest) for rest in (10 * x**2 * h**2 + h**4, -4 * h**4, -(h**4) / 4)]

    def judge(got):
        found = [difference(got, right, 1e-6) for right in rights]
        return found[0][0] if all(found) else None

    return judge


def cotangents(rng):
    yield Case(
        "three outputs that mix the inputs", cubic_and_mixed, rng.standard_normal((2, 2)), rng.standard_normal(3)
    )
    w = rng.standard_normal((4, 2))
    yield Case(
        "a matrix product, (2, 3) -> (4, 3)", lambda x: w @ x, rng.standard_normal((2, 3)), rng.standard_normal((4, 3))
    )
    yield Case("one output", lambda x: (x**2).sum(), rng.standard_normal(4), np.array(2.0))


def points(rng):
    yield Case("x with four axes", np.sin, rng.standard_normal((1, 2, 2, 1)), rng.standard_normal((1, 2, 2, 1)))
    hollow = rng.standard_normal((2, 4))[:, ::2]
    yield Case("x that is not contiguous", np.sin, hollow, rng.standard_normal((2, 2)))
    yield Case("x without axes", np.sin, np.array(0.5), np.array(2.0))
    for form in ("the identity", "its last axis reversed", "transposed", "one row"):
        x = rng.standard_normal((2, 3))
        v = rng.standard_normal({"transposed": (3, 2), "one row": (3,)}.get(form, (2, 3)))
        yield Case(f"a function that returns x itself or a view of it: {form}", form, x, v, probe="slopes_of_view")


CENTRAL, COTANGENT, POINTS = DIFFERENCES_ALL = ("central differences", "every output, every input", "x of every kind")

NUMERICAL = Task(
    "1.4", "numerical_gradient", library="engine.gradcheck.numerical_gradient",
    forbidden=("engine.gradcheck.numerical_gradient", "engine.gradcheck.gradcheck", "engine.gradcheck._Problem"),
    checks=[Check(CENTRAL, 2, differences), Check(COTANGENT, 1, cotangents), Check(POINTS, 1, points)],
    mistakes=[
        mistake("the difference is one-sided, with an error of O(h): use a central difference, with an error of O(h²)",
                "f(above) - f(below)", "f(above) - f(x)", "/ (2 * h)", "/ h", loses=DIFFERENCES_ALL),
        mistake("the difference is divided by h instead of 2h: the gradient is twice as large as it should be",
                "/ (2 * h)", "/ h",
                loses=DIFFERENCES_ALL),
        mistake("v is ignored: the outputs must be weighted by it", "(v * (f(above) - f(below))).sum()",
                "(f(above) - f(below)).sum()", loses=DIFFERENCES_ALL),
        mistake("the outputs are averaged: ⟨v, f⟩ is a sum", ".sum()", ".mean()", loses=DIFFERENCES_ALL),
        mistake("an element is not restored before the next one is changed", "above, below = x.copy(), x.copy()",
                "above, below = (x.copy(), x.copy()) if not index or not sum(index) else (above, below)",
                loses=DIFFERENCES_ALL),
        mistake("it changes x in place, and does not restore the exact values", "above, below = x.copy(), x.copy()",
                "below = x.copy()\n        above = x", loses=DIFFERENCES_ALL),
        mistake("the elements are changed in a copy that f never gets: reshape and ravel copy an array that is not "
                "contiguous",
                "    gradient = np.zeros_like(x)",
                "    gradient, flat = np.zeros_like(x), x.ravel()\n    keep = x.copy()",
                "        above, below = x.copy(), x.copy()\n        above[index] += h\n        below[index] -= h\n",
                "        at = np.ravel_multi_index(index, x.shape) if index else 0\n"
                "        flat[at] += h\n        above = x.copy()\n        flat[at] -= 2 * h\n        below = x.copy()\n"
                "        flat[at] = keep[index]\n", loses=POINTS),
        mistake("h is ignored: the step must be the argument h", "above[index] += h", "above[index] += 1e-5",
                "below[index] -= h", "below[index] -= 1e-5", "(2 * h)", "2e-5", loses=CENTRAL),
        mistake("the step is at least 0.001: it must be the argument h", "    gradient = np.zeros_like(x)",
                "    h = max(h, 0.001)\n    gradient = np.zeros_like(x)", loses=CENTRAL),
        mistake("the step is at most 0.01: it must be the argument h", "    gradient = np.zeros_like(x)",
                "    h = min(h, 0.01)\n    gradient = np.zeros_like(x)", loses=CENTRAL),
        mistake("the step is proportional to x: it must be h for every element", "above[index] += h",
                "above[index] += h * abs(x[index])", "below[index] -= h", "below[index] -= h * abs(x[index])",
                "(2 * h)", "(2 * h * abs(x[index]))", loses=CENTRAL),
        mistake("the points are h/2 apart on both sides, but the quotient is right only for x²: the step must be h",
                "above[index] += h", "above[index] += h / 2", "below[index] -= h", "below[index] -= h / 2",
                "/ (2 * h)", "/ h", loses=CENTRAL),
        mistake("x itself is changed, and restored only afterwards: the results of f may be views of it",
                "        above, below = x.copy(), x.copy()\n        above[index] += h\n        below[index] -= h\n"
                "        gradient[index] = (v * (f(above) - f(below))).sum() / (2 * h)",
                "        keep = x[index]\n        x[index] = keep + h\n        above = f(x)\n        x[index] = "
                "keep - h\n"
                "        below = f(x)\n        gradient[index] = (v * (above - below)).sum() / (2 * h)\n"
                "        x[index] = keep", loses=POINTS),
        mistake("the gradient is float32: it should be float64, like x", "np.zeros_like(x)",
                'np.zeros(x.shape, "float32")', loses=DIFFERENCES_ALL),
        mistake("the last element is left out", "np.ndindex(x.shape):",
                "list(np.ndindex(x.shape))[: max(x.size - 1, 1)]:",
                loses=DIFFERENCES_ALL),
        mistake("all elements are changed at once: this is the derivative along (1, …, 1), not the gradient",
                "above[index] += h",
                "above += h", "below[index] -= h", "below -= h", loses=DIFFERENCES_ALL),
    ],
    cheats=[
        instead("calls the library's function in its module", """# Task 1.4
from minifcn.engine import gradcheck as module
import sys

module = sys.modules["minifcn.engine.gradcheck"]


def numerical_gradient(f, x, v, h=1e-5):
    return module.numerical_gradient(f, x, v, h)""", loses=DIFFERENCES_ALL),
        instead("returns the derivative of the visible check's parabola", """# Task 1.4
def numerical_gradient(f, x, v, h=1e-5):
    return 2 * x * v if v.shape == x.shape else np.zeros_like(x)""", loses=DIFFERENCES_ALL),
    ],
    styles=[
        instead("with unit vectors, flat", """# Task 1.4
def numerical_gradient(f, x, v, h=1e-5):
    phi = lambda flat: np.vdot(v, f(flat.reshape(x.shape)))
    flat = x.flatten()
    return np.array([(phi(flat + e) - phi(flat - e)) / (2 * h) for e in h * np.eye(x.size)]).reshape(x.shape)"""),
        instead("changes a copy of x, and restores each element", """# Task 1.4
def numerical_gradient(f, x, v, h=1e-5):
    x, g = np.array(x), np.empty(x.shape)
    it = np.nditer(x, flags=["multi_index"])
    for _ in it:
        at = it.multi_index
        before = float(x[at])
        x[at] = before + h
        above = np.sum(v * f(x))
        x[at] = before - h
        below = np.sum(v * f(x))
        x[at] = before
        g[at] = 0.5 * (above - below) / h
    return g"""),
        instead("two steps, extrapolated", """# Task 1.4
def numerical_gradient(f, x, v, h=1e-5):
    def central(step):
        g = np.zeros(x.shape)
        for at in np.ndindex(*x.shape):
            e = np.zeros(x.shape)
            e[at] = step
            g[at] = (np.sum(v * f(x + e)) - np.sum(v * f(x - e))) / (2 * step)
        return g

    return (4 * central(h) - central(2 * h)) / 3"""),
    ],
)  # fmt: skip


# 1.5 -----------------------------------------------------------------------------------------------------------------


def says(right):
    """A judge for an answer that must return `right`, True or False."""

    def judge(result):
        result = result.item() if isinstance(result, np.ndarray) and result.shape == () else result
        if not isinstance(result, bool):
            return "it returns neither True nor False"
        if result is right:
            return None
        return "it accepts this wrong gradient" if result else "it refuses this right gradient"

    return judge


def pair(label, rng, right, forward, backward, x):
    label = f"{label} (a right gradient)" if right else f"{label} (a wrong gradient)"
    return Case(label, int(rng.integers(1000)), forward, backward, x,
                probe="seeded", judge=says(right))  # fmt: skip


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(y):
    return lambda gy: y * (gy - (gy * y).sum(axis=-1, keepdims=True))


def plain_pairs(rng):
    x = rng.standard_normal((2, 3)) + 0.1
    yield pair("x³", rng, True, lambda x: x**3, lambda gy: 3 * x**2 * gy, x)
    yield pair("x³, with the gradient of x²", rng, False, lambda x: x**3, lambda gy: 2 * x * gy, x)
    yield pair("x³, with the wrong sign", rng, False, lambda x: x**3, lambda gy: -3 * x**2 * gy, x)
    w = rng.standard_normal((4, 2))
    yield pair("a matrix product, (2, 3) -> (4, 3)", rng, True, lambda x: w @ x, lambda gy: w.T @ gy, x)
    yield pair("ReLU", rng, True, lambda x: np.maximum(x, 0), lambda gy: gy * (x > 0), np.sign(x) * (abs(x) + 0.1))
    one = x[:1, :1]  # with several elements, their errors could cancel by chance
    yield pair("sin x, wrong by a factor of 1.001", rng, False, np.sin, lambda gy: 1.001 * np.cos(one) * gy, one)
    yield pair("the sum of all elements", rng, True, lambda x: x.sum(keepdims=True), lambda gy: gy * np.ones((2, 3)), x)


def cotangent_pairs(rng):
    x = rng.standard_normal((3, 4))
    y = softmax(x)
    yield pair("softmax", rng, True, softmax, softmax_backward(y), x)
    yield pair("softmax, with the gradient 0", rng, False, softmax, lambda gy: 0 * gy, x)
    yield pair("softmax, with twice the gradient", rng, False, softmax, lambda gy: 2 * softmax_backward(y)(gy), x)
    yield pair("gy replaced by its mean", rng, False, lambda x: x * [1.0, 2, 3, 4],
               lambda gy: gy.sum() / gy.size * np.ones((3, 1)) * [1.0, 2, 3, 4], x)  # fmt: skip
    yield pair("a gradient of gy's absolute values", rng, False, np.sin, lambda gy: np.cos(x) * abs(gy), x)
    yield pair("a constant function, with its gradient 0", rng, True, lambda x: np.ones((2, 2)), lambda gy: 0 * x, x)


def direction_pairs(rng):
    x, w = rng.standard_normal((3, 3)), rng.standard_normal((3, 3))
    yield pair("a matrix product", rng, True, lambda x: w @ x, lambda gy: w.T @ gy, x)
    yield pair("its gradient transposed", rng, False, lambda x: w @ x, lambda gy: (w.T @ gy).T, x)
    last = np.ones((3, 3))
    last[2, 2] = 0
    yield pair("sin x, only the last element wrong", rng, False, np.sin, lambda gy: np.cos(x) * gy * last, x)
    first = np.ones((3, 3))
    first[0, 0] = 2
    yield pair("sin x, only the first element wrong", rng, False, np.sin, lambda gy: np.cos(x) * gy * first, x)
    moved = np.zeros((3, 3))
    moved[0, :2] = 1, -1
    yield pair("sin x, two elements wrong whose sum is right", rng, False, np.sin,
               lambda gy: np.cos(x) * gy + moved, x)  # fmt: skip


def scaled_pairs(rng):
    x = rng.standard_normal((2, 3))
    for scale in (1e-9, 1e6):
        yield pair(f"{scale:g} sin x", rng, True, lambda x, s=scale: s * np.sin(x),
                   lambda gy, s=scale: s * np.cos(x) * gy, x)  # fmt: skip
        yield pair(f"{scale:g} sin x, with half the gradient", rng, False, lambda x, s=scale: s * np.sin(x),
                   lambda gy, s=scale: 0.5 * s * np.cos(x) * gy, x)  # fmt: skip


def trap_pairs(rng):
    x = rng.standard_normal((2, 3))
    yield pair("sin x", rng, True, np.sin, lambda gy: np.cos(x) * gy, x)
    yield pair("a gradient of shape (3, 2)", rng, False, np.sin, lambda gy: (np.cos(x) * gy).T, x)
    yield pair("a gradient of shape (2, 3, 1)", rng, False, np.sin, lambda gy: (np.cos(x) * gy)[..., None], x)
    yield pair("NaN in one element", rng, False, np.sin, lambda gy: np.cos(x) * gy * [1, np.nan, 1], x)
    yield pair("NaN everywhere", rng, False, np.sin, lambda gy: np.nan * gy, x)
    row = rng.standard_normal((1, 3))
    yield pair(
        "a repeated row, with a gradient of shape (2, 3)",
        rng,
        False,
        lambda r: r + np.zeros((2, 3)),
        lambda gy: gy,
        row,
    )
    yield pair(
        "a repeated row, with the sum in shape (3,)",
        rng,
        False,
        lambda r: r + np.zeros((2, 3)),
        lambda gy: gy.sum(0),
        row,
    )
    yield pair(
        "a repeated row, with the sum in shape (1, 3)",
        rng,
        True,
        lambda r: r + np.zeros((2, 3)),
        lambda gy: gy.sum(0)[None],
        row,
    )


PLAIN, RANDOM, EVERY, SCALE, TRAPS = CHECKER_ALL = (
    "right and wrong ones", "what ones would not see", "every element", "at every scale", "NaN, and another shape",
)  # fmt: skip

CHECKER = Task(
    "1.5", "gradients_agree",
    forbidden=("engine.gradcheck.gradcheck", "engine.gradcheck._Problem", "engine.gradcheck.adjoint_check"),
    checks=[
        Check(PLAIN, 1, plain_pairs), Check(RANDOM, 1, cotangent_pairs), Check(EVERY, 1, direction_pairs),
        Check(SCALE, 1, scaled_pairs), Check(TRAPS, 1, trap_pairs),
    ],
    mistakes=[
        mistake("the cotangent is all ones: a softmax's outputs add up to 1, so its gradient is 0 for this "
                "cotangent; draw it at random",
                "rng.standard_normal(y.shape), rng", "np.ones(y.shape), rng", loses=RANDOM),
        mistake("the direction is all ones: this checks only the sum of the gradient; draw the direction at random",
                "rng.standard_normal(x.shape)", "np.ones(x.shape)", loses=(RANDOM, EVERY)),
        mistake("it compares with an absolute tolerance: a wrong gradient of a small function passes",
                "1e-5 * abs(gradient * d).sum() + rounding", "1e-6 * abs(analytic) + 1e-7", loses=SCALE),
        mistake("NaN is accepted: every comparison with NaN is False, so test for a small difference, not for a "
                "large one",
                "return bool(abs(analytic - numeric) <= 1e-5 * abs(gradient * d).sum() + rounding)",
                "return not bool(abs(analytic - numeric) > 1e-5 * abs(gradient * d).sum() + rounding)", loses=TRAPS),
        mistake("a gradient of another shape than x's is broadcast: refuse it", "if gradient.shape != x.shape:",
                "if gradient.size < 0:", loses=TRAPS),
        mistake("only the absolute values are compared: a wrong sign passes", "abs(analytic - numeric)",
                "abs(abs(analytic) - abs(numeric))", loses=PLAIN),
        mistake("the tolerance is so large that a wrong factor passes", "1e-5 * abs(", "3e-3 * abs(", loses=PLAIN),
        mistake("the difference is divided by h instead of 2h: right gradients are refused", "/ (2 * h)", "/ h",
                loses=CHECKER_ALL),
        mistake("a right gradient that is 0 everywhere is refused: 0/0 is NaN",
                "bool(abs(analytic - numeric) <= 1e-5 * abs(gradient * d).sum() + rounding)",
                "bool(abs(analytic - numeric) / (abs(gradient * d).sum() + 0 * rounding) <= 1e-5)", loses=RANDOM),
    ],
    cheats=[
        instead("accepts everything", """# Task 1.5
def gradients_agree(forward, backward, x, rng):
    return True""", loses=CHECKER_ALL),
        instead("refuses everything", """# Task 1.5
def gradients_agree(forward, backward, x, rng):
    return False""", loses=CHECKER_ALL),
        instead("calls the library's checker", """# Task 1.5
def gradients_agree(forward, backward, x, rng):
    class Both(mf.Function):
        def forward(self, x):
            return forward(x)

        def backward(self, gy):
            return backward(gy)

    try:
        return mf.gradcheck(lambda x: Both()(x), x)
    except mf.GradcheckError:
        return False""", loses=CHECKER_ALL),
    ],
    styles=[
        instead("element by element, with the numerical gradient of 1.4", """# Task 1.5
def gradients_agree(forward, backward, x, rng):
    v = rng.normal(size=forward(x).shape)
    mine, theirs = numerical_gradient(forward, x, v), backward(v)
    if theirs.shape != x.shape or not np.isfinite(theirs).all():
        return False
    size = max(abs(mine).max(), abs(theirs).max())
    return size == 0 or abs(mine - theirs).max() < 1e-6 * size"""),
        instead("three random draws, compared relative to the norms", """# Task 1.5
def gradients_agree(forward, backward, x, rng):
    for _ in range(3):
        v = rng.uniform(-1, 1, np.shape(forward(x)))
        d = rng.choice([-1.0, 1.0], x.shape) * rng.uniform(0.5, 1, x.shape)
        g = backward(v)
        if np.shape(g) != np.shape(x):
            return False
        slope = np.vdot(v, forward(x + 1e-6 * d) - forward(x - 1e-6 * d)) / 2e-6
        if not abs(np.vdot(g, d) - slope) <= 1e-6 * np.linalg.norm(g) * np.linalg.norm(d):
            return False
    return True"""),
    ],
)  # fmt: skip


# 1.6 -----------------------------------------------------------------------------------------------------------------
# Right and wrong kernels.  They run in the grader's process; the student's test calls them through a pipe, so that it
# cannot inspect them.

right = mf.kernels.textbook.max_pool2d


def wide_index(*args):
    """A right kernel whose index is int64."""
    y, index = mf.kernels.reference.max_pool2d(*args)
    return y, index.astype("int64")


def windows(x, size, stride, padding, dilation, ceil, out=None, value=-np.inf):
    """The taps of every window, (N, C, kh·kw, OH, OW)."""
    out = out or pool_sizes(x.shape, size, stride, padding, dilation, ceil)
    x = pad_to_windows(x, size, stride, padding, dilation, out, value=value)
    found = sliding_windows(x, size, stride, dilation, out)
    return found.reshape(*x.shape[:2], -1, *out)


def minimum(x, *where):
    y, index = right(-x, *where)
    return -y, index


def mean(x, *where):
    inside = windows(x, *where)
    n = np.isfinite(inside).sum(axis=2)
    return np.where(np.isfinite(inside), inside, 0).sum(axis=2) / np.maximum(n, 1), right(x, *where)[1]


def largest_size(x, *where):
    """The number with the largest absolute value."""
    inside = windows(x, *where)
    index = np.where(np.isfinite(inside), abs(inside), -1).argmax(axis=2)
    return np.take_along_axis(inside, index[:, :, None], 2)[:, :, 0], index


def padded_with_zero(x, *where):
    inside = windows(x, *where, value=0)
    return inside.max(axis=2), inside.argmax(axis=2)


def geometry(**changed):
    """A wrong kernel that replaces some of its arguments, by functions of all arguments."""

    def kernel(x, size, stride, padding, dilation, ceil):
        given = dict(size=size, stride=stride, padding=padding, dilation=dilation, ceil=ceil)
        given |= {name: change(given) for name, change in changed.items()}
        return right(x, *given.values())

    return kernel


def stays_outside(x, size, stride, padding, dilation, ceil):
    """In ceil mode, keeps a last window that begins beyond the image."""
    if not ceil:
        return right(x, size, stride, padding, dilation, ceil)
    free = [n + 2 * p - d * (k - 1) - 1 for n, k, p, d in zip(x.shape[2:], size, padding, dilation)]
    inside = windows(x, size, stride, padding, dilation, ceil, out=tuple(-(-f // s) + 1 for f, s in zip(free, stride)))
    return inside.max(axis=2), inside.argmax(axis=2)


def transposed(x, *where):
    swapped = [w[::-1] if isinstance(w, tuple) else w for w in where]
    y, index = right(x.swapaxes(2, 3), *swapped)
    return y, index


def last_maximum(x, *where):
    inside = windows(x, *where)
    return inside.max(axis=2), inside.shape[2] - 1 - inside[:, :, ::-1].argmax(axis=2)


def column_major(x, size, *where):
    y, index = right(x, size, *where)
    return y, index % size[1] * size[0] + index // size[1]


def from_one(x, *where):
    y, index = right(x, *where)
    return y, index + 1


def always_first(x, *where):
    y, index = right(x, *where)
    return y, 0 * index


def index_of_minimum(x, *where):
    return right(x, *where)[0], right(-x, *where)[1]


def first_channel(x, *where):
    y, index = right(x, *where)
    return np.repeat(y[:, :1], x.shape[1], axis=1), np.repeat(index[:, :1], x.shape[1], axis=1)


def first_image(x, *where):
    y, index = right(x, *where)
    return np.repeat(y[:1], len(x), axis=0), np.repeat(index[:1], len(x), axis=0)


def over_channels(x, *where):
    """The maximum over the channels as well."""
    y, index = right(x, *where)
    return np.broadcast_to(y.max(axis=1, keepdims=True), y.shape).copy(), index


RIGHT = {
    "the vectorised kernel": mf.kernels.textbook.max_pool2d, "the kernel in loops": mf.kernels.reference.max_pool2d,
    "the fast kernel": mf.kernels.max_pool2d.choose(np.zeros(1)), "a kernel whose index is int64": wide_index,
}  # fmt: skip
WRONG_VALUES = {"the minimum": minimum, "the mean": mean}
WRONG_NEGATIVES = {"the largest absolute value": largest_size, "pads with 0": padded_with_zero}
WRONG_WINDOWS = {
    "ignores the stride": geometry(stride=lambda g: (1, 1)),
    "swaps the stride's h and w": geometry(stride=lambda g: g["stride"][::-1]),
    "uses the window size as the stride": geometry(stride=lambda g: g["size"]),
    "swaps the window's h and w": geometry(size=lambda g: g["size"][::-1]),
    "swaps H and W everywhere": transposed,
}
WRONG_PLACES = {
    "ignores the padding": geometry(padding=lambda g: (0, 0)),
    "swaps the padding's h and w": geometry(padding=lambda g: g["padding"][::-1]),
    "ignores the dilation": geometry(dilation=lambda g: (1, 1)),
    "swaps the dilation's h and w": geometry(dilation=lambda g: g["dilation"][::-1]),
}
WRONG_CEIL = {
    "ignores ceil_mode": geometry(ceil=lambda g: False),
    "always rounds up": geometry(ceil=lambda g: True),
    "keeps a last window that begins beyond the image": stays_outside,
}
WRONG_INDEX = {
    "the last of equal maxima": last_maximum, "numbers the taps column by column": column_major,
    "counts the taps from one": from_one,
    "always tap 0": always_first, "the tap of the minimum": index_of_minimum,
}  # fmt: skip
WRONG_MAPS = {
    "repeats the first channel": first_channel, "repeats the first image": first_image,
    "the maximum over the channels as well": over_channels,
}  # fmt: skip


def asked(kernel):
    """The kernel with checked arguments, so that all kernels refuse bad ones with the same message.

    An error message of its own would tell a student's test which kernel it has.
    """

    def pooling(x, kernel_size, stride, padding, dilation, ceil_mode):
        if not isinstance(x, np.ndarray) or x.ndim != 4 or x.dtype.kind != "f":
            raise ValueError("x must be an array of floating-point numbers with 4 axes")
        pairs = kernel_size, stride, padding, dilation
        if not all(isinstance(p, tuple | list) and len(p) == 2 and all(int(n) == n for n in p) for p in pairs):
            raise ValueError("kernel_size, stride, padding and dilation must be pairs of whole numbers")
        pairs = [(int(h), int(w)) for h, w in pairs]
        out = pool_sizes(x.shape, *pairs, bool(ceil_mode))
        places = max(x.size, x.shape[0] * x.shape[1] * math.prod(pairs[0]) * math.prod(x.shape[2:]))
        if x.size == 0 or places > 1 << 19 or max(map(max, pairs)) > 64 or min(out) < 1 or min(pairs[1] + pairs[3]) < 1:
            raise ValueError(
                "the array or the windows are too large or too small: use a small array and windows that fit"
            )
        return kernel(x, *pairs, bool(ceil_mode))

    return pooling


def kernels(wrong):
    """Right kernels, which must pass, and wrong ones, in random order: a test cannot guess which it has."""

    def cases(rng):
        both = [
            Case(f"your test refuses a right kernel: {label}", asked(kernel), judge=lambda result: None)
            for label, kernel in RIGHT.items()
        ]
        both += [
            Case(f"your test accepts a wrong kernel: {label}", asked(kernel), raises=True)
            for label, kernel in wrong.items()
        ]
        rng.shuffle(both)
        yield from both

    return cases


VALUE, NEGATIVE, WINDOW, PLACE, CEIL, INDEX, MAPS = TEST_ALL = (
    "catches wrong values", "catches what is wrong for negative numbers", "catches a wrong window or stride",
    "catches wrong padding or dilation", "catches a wrong ceil_mode", "catches a wrong index",
    "catches wrong channels and images",
)  # fmt: skip
DRAWN = "(rng.standard_normal((2, 2, 6, 7)) - 1, -1.0 * rng.integers(1, 3, (2, 2, 6, 7)))"

TEST = Task(
    "1.6", "examine_max_pool", forbidden=("max_pool2d",),
    checks=[
        Check(VALUE, 1, kernels(WRONG_VALUES)), Check(NEGATIVE, 1, kernels(WRONG_NEGATIVES)),
        Check(WINDOW, 1, kernels(WRONG_WINDOWS)), Check(PLACE, 1, kernels(WRONG_PLACES)),
        Check(CEIL, 1, kernels(WRONG_CEIL)), Check(INDEX, 1, kernels(WRONG_INDEX)), Check(MAPS, 1, kernels(WRONG_MAPS)),
    ],
    mistakes=[
        mistake("no window at the border contains only negative numbers: padding with 0 is not detected", DRAWN,
                "(abs(rng.standard_normal((2, 2, 6, 7))), 1.0 * rng.integers(1, 3, (2, 2, 6, 7)))", loses=NEGATIVE),
        mistake("no two numbers of a window are equal: a wrong choice among equal maxima is not detected", DRAWN,
                "(rng.standard_normal((2, 2, 6, 7)) - 1,)", loses=INDEX),
        mistake("the index is not checked", 'assert (index == first).all()', 'assert (index == index).all()',
                loses=INDEX),
        mistake("there is only one image with one channel: errors in the others are not detected", "(2, 2, 6, 7)",
                "(1, 1, 6, 7)",
                loses=MAPS),
        mistake("ceil_mode is never tried", ", True)", ", False)", loses=CEIL),
        mistake("padding and dilation are never tried", "(1, 0), (1, 1)", "(0, 0), (1, 1)", "(1, 1), (1, 1), True",
                "(0, 0), (1, 1), True", "(0, 1), (2, 1)", "(0, 0), (1, 1)", "(0, 0), (1, 2)", "(0, 0), (1, 1)",
                loses=PLACE),
        mistake("only the shape is checked", 'assert (y == right).all(), "the maxima"', "",
                'assert (index == first).all(), "the index of the first maximum"', "",
                loses=(VALUE, NEGATIVE, INDEX, MAPS)),
        mistake("it refuses right kernels, too: either it fails always, or it asks for the last of equal maxima "
                "instead of the first",
                "x[n, c, row, column] > y[n, c, i, j]",
                "x[n, c, row, column] >= y[n, c, i, j]", loses=TEST_ALL),
    ],
    cheats=[
        instead("refuses everything", """# Task 1.6
def examine_max_pool(max_pool2d):
    raise AssertionError""", loses=TEST_ALL),
        instead("accepts everything", """# Task 1.6
def examine_max_pool(max_pool2d):
    max_pool2d(np.zeros((1, 1, 4, 4)), (2, 2), (2, 2), (0, 0), (1, 1), False)""", loses=TEST_ALL),
        instead("compares with the library's kernel", """# Task 1.6
def examine_max_pool(max_pool2d):
    x = np.random.default_rng(0).integers(-3, 0, (2, 2, 6, 7)) * 1.0
    for where in [((3, 2), (2, 1), (1, 0), (1, 2), True), ((2, 2), (2, 2), (0, 0), (1, 1), False)]:
        for got, own in zip(max_pool2d(x, *where), mf.kernels.max_pool2d(x, *where)):
            assert got.shape == own.shape and (got == own).all()""", loses=TEST_ALL),
        instead("inspects the kernel's source and module", """# Task 1.6
import inspect


def examine_max_pool(max_pool2d):
    assert "textbook" in inspect.getsource(max_pool2d) or max_pool2d.__module__ == "minifcn.kernels.textbook\"""",
                loses=TEST_ALL),
    ],
    styles=[
        instead("sliding windows over a padded image", """# Task 1.6
def examine_max_pool(max_pool2d):
    rng = np.random.default_rng(7)
    for _ in range(25):
        k, s, d = (tuple(map(int, rng.integers(1, 4, 2))) for _ in range(3))
        p = tuple(int(rng.integers(0, n // 2 + 1)) for n in k)
        ceil = bool(rng.integers(2))
        x = -rng.integers(1, 5, (2, 3, 8, 9)).astype(float)
        out = []
        for n, kn, sn, pn, dn in zip((8, 9), k, s, p, d):
            starts = [i for i in range(-pn, n + pn, sn) if i + dn * (kn - 1) < n + pn]
            after = starts[-1] + sn
            if ceil and starts[-1] + dn * (kn - 1) < n + pn - 1 and after < n:
                starts.append(after)
            out.append([[i + dn * u for u in range(kn)] for i in starts])
        padded = np.full((2, 3, 40, 40), -np.inf)
        padded[:, :, 10:18, 10:19] = x
        rows, columns = np.array(out[0]) + 10, np.array(out[1]) + 10
        window = padded[:, :, rows[:, None, :, None], columns[None, :, None, :]]
        window = window.reshape(*window.shape[:4], -1)
        y, index = max_pool2d(x, k, s, p, d, ceil)
        np.testing.assert_array_equal(y, window.max(-1))
        np.testing.assert_array_equal(index, window.argmax(-1))"""),
        instead("values computed by hand", """# Task 1.6
def examine_max_pool(max_pool2d):
    def expect(x, where, y, index):
        got, at = max_pool2d(np.array(x, float), *where)
        assert np.shape(got) == np.shape(y) and np.shape(at) == np.shape(index), "shape"
        assert np.array_equal(got, y) and np.array_equal(at, index)

    one = (1, 1)
    ramp = -np.arange(1.0, 13).reshape(1, 1, 3, 4)  # falls: the first tap inside the image wins
    expect(ramp, ((2, 2), (1, 2), (0, 0), one, False), [[[[-1, -3], [-5, -7]]]], [[[[0, 0], [0, 0]]]])
    expect(-ramp, ((2, 1), (1, 3), (0, 0), one, False), [[[[5, 8], [9, 12]]]], [[[[1, 1], [1, 1]]]])
    expect(-ramp, ((1, 2), one, (0, 0), one, False), [[[[2, 3, 4], [6, 7, 8], [10, 11, 12]]]], np.ones((1, 1, 3, 3)))
    expect(-ramp, ((2, 3), (1, 1), (0, 0), one, False), [[[[7, 8], [11, 12]]]], [[[[5, 5], [5, 5]]]])
    expect(ramp, ((2, 2), (2, 2), (1, 0), one, False), [[[[-1, -3], [-5, -7]]]], [[[[2, 2], [0, 0]]]])
    expect(ramp, ((2, 2), (3, 3), (0, 1), one, False), [[[[-1, -3]]]], [[[[1, 0]]]])
    expect(-ramp, ((2, 2), one, (0, 0), (2, 3), False), [[[[12]]]], [[[[3]]]])
    expect(ramp, ((2, 2), (2, 2), (0, 0), one, True), [[[[-1, -3], [-9, -11]]]], [[[[0, 0], [0, 0]]]])
    expect(ramp, ((2, 2), (2, 2), (1, 1), one, True), [[[[-1, -2, -4], [-5, -6, -8]]]], [[[[3, 2, 2], [1, 0, 0]]]])
    expect(-ramp, ((2, 2), (2, 2), (0, 0), one, False), [[[[6, 8]]]], [[[[3, 3]]]])
    expect(-ramp, ((1, 1), (2, 3), (0, 0), one, True), [[[[1, 4], [9, 12]]]], np.zeros((1, 1, 2, 2)))
    expect(np.zeros((1, 1, 2, 3)), ((2, 3), one, (0, 0), one, False), [[[[0]]]], [[[[0]]]])
    expect([[[[-1, -3], [-5, -2]]]], ((2, 2), one, (0, 0), one, False), [[[[-1]]]], [[[[0]]]])
    plain = ((2, 2), one, (0, 0), one, False)
    expect([[[[1, 3], [5, 5]]], [[[9, 8], [7, 9]]]], plain, [[[[5]]], [[[9]]]], [[[[2]]], [[[0]]]])
    expect([[[[1, 3], [2, 2]], [[4, 4], [6, 5]]]], plain, [[[[3]], [[6]]]], [[[[1]], [[2]]]])
    expect([[[[-7, 2], [3, 1]]]], ((2, 2), one, (0, 0), one, False), [[[[3]]]], [[[[2]]]])"""),
    ],
)  # fmt: skip

TASKS = [RELU, ADD, ORDER, NUMERICAL, CHECKER, TEST]
