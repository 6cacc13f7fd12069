"""The PyTorch side of a comparison: a recorded run of minifcn, replayed node by node on copies of its leaves.

For every model, PyTorch gets the same graph, weights, padding, groups, rounding and dtypes.  minifcn itself never
computes with PyTorch.
"""

import ctypes
import sys

from ..arrays import backend
from ..engine.core import watch
from ..errors import UserError

try:
    import torch
    import torch.nn.functional as F
except ImportError:  # PyTorch is optional: only comparisons need it
    torch = None  # type: ignore[assignment]


def require_torch():
    """Raise UserError if PyTorch is not installed."""
    if torch is None:
        raise UserError("--against torch needs PyTorch, which minifcn does not install: pip install torch")


def let_it_keep_its_memory():
    """Make the C library keep the memory that PyTorch frees, for a fair comparison.

    In a process that runs only PyTorch, glibc adapts and keeps freed memory for the next step.  Here minifcn allocates
    its large arrays separately, so glibc would return the top of the heap to the system after every step, and PyTorch
    would have to fetch it again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD, at its maximum


def tensor(array):
    """A copy of one of our arrays as a torch.Tensor on the same device."""
    return torch.tensor(backend.asnumpy(array), device=backend.device(array))


def _conv2d(node, x, w, b=None):
    return F.conv2d(x, w, b, node.stride, node.padding, node.dilation, node.groups)


def _conv_transpose2d(node, x, w, b=None):
    return F.conv_transpose2d(x, w, b, node.stride, node.padding, node.output_padding, node.groups, node.dilation)


def _max_pool2d(node, x):
    return F.max_pool2d(x, node.kernel_size, node.stride, node.padding, node.dilation, node.ceil_mode)


def _avg_pool2d(node, x):
    if node.dilation != (1, 1):
        raise UserError("the comparison with PyTorch does not support dilated average pooling")
    return F.avg_pool2d(x, node.kernel_size, node.stride, node.padding, node.ceil_mode, node.count_include_pad)


def _crop(node, x):
    (top, left), (h, w) = node.offset, node.size
    return x[:, :, top : top + h, left : left + w]


def _batch_norm(node, x, gamma, beta):
    return F.batch_norm(x, None, None, gamma, beta, training=True, eps=node.eps)


def _cross_entropy(node, scores):
    if node.scale is None or not ((node.weights == 0) | (node.weights == 1)).all():
        raise UserError("the comparison with PyTorch does not support class weights, nor a loss that is a map")
    labels = tensor(node.labels).masked_fill(tensor(node.weights == 0), -100)
    return F.cross_entropy(scores, labels, reduction="sum") * node.scale


OPERATIONS = {
    "Conv2d": _conv2d,
    "ConvTranspose2d": _conv_transpose2d,
    "MaxPool2d": _max_pool2d,
    "AvgPool2d": _avg_pool2d,
    "Crop": _crop,
    "Pad": lambda node, x: F.pad(x, (*node.padding[2:], *node.padding[:2])),
    "BatchNorm2d": _batch_norm,
    "FrozenBatchNorm2d": lambda node, x, g, b, m, v: F.batch_norm(x, m, v, g, b, eps=node.eps),
    "LocalResponseNorm": lambda node, x: F.local_response_norm(x, node.size, node.alpha, node.beta, node.k),
    "ReLU": lambda node, x: F.relu(x),
    "ReLU6": lambda node, x: F.relu6(x),
    "Dropout": lambda node, x: F.dropout(x, node.p),
    "Add": lambda node, a, b: a + b,
    "Mul": lambda node, a, b: a * b,
    "MatMul": lambda node, a, b: a @ b,
    "Linear": lambda node, x, w, b=None: F.linear(x, w, b),
    "Reshape": lambda node, x: x.reshape(node.shape),
    "Transpose": lambda node, x: x.permute(node.axes) if node.axes else x.T,
    "Interpolate": lambda node, x: F.interpolate(x, node.size, mode="bilinear"),
    "CrossEntropy": _cross_entropy,
}


class Twin:
    """A recorded run of minifcn that PyTorch can repeat.

    Parameters
    ----------
    run : callable
        ``run()`` computes a Tensor.  It is called once; its graph is kept, but not its arrays.

    Attributes
    ----------
    leaves : dict of {int: torch.Tensor}
        Copies of the images and parameters, by the ``id`` of our tensors.
    """

    def __init__(self, run):
        require_torch()
        tape, made, held, self.leaves, self.steps = [], set(), [], {}, []
        with watch(lambda node, inputs, output: tape.append((node, inputs, output))):
            self.result = id(run())
        for node, inputs, output in tape:
            if type(node).__name__ not in OPERATIONS:
                raise UserError(f"the comparison with PyTorch does not support {type(node).__name__}")
            for x in inputs:
                if id(x) not in made and id(x) not in self.leaves:
                    held.append(x)
                    self.leaves[id(x)] = tensor(x.data).requires_grad_(x.requires_grad)
            made.add(id(output))
            self.steps.append((OPERATIONS[type(node).__name__], node, [id(x) for x in inputs], id(output)))
            node.free()  # keeps the hyper-parameters; saved arrays would count as memory of this process
        seen = set()  # like a model's local variables, a value is freed after its last use
        self.last = []
        for _, _, inputs, _ in reversed(self.steps):
            self.last.insert(0, [x for x in set(inputs) - seen if x in made])
            seen.update(inputs)
        self.held = held  # keep our leaves alive, so that no other tensor gets the same id

    def pairs(self):
        """All leaves, as pairs (PyTorch's, ours)."""
        return [(self.leaves[id(x)], x) for x in self.held]

    def __call__(self):
        """Replay the run in PyTorch; its result."""
        values = dict(self.leaves)
        for (operation, node, inputs, output), done in zip(self.steps, self.last):
            values[output] = operation(node, *(values[x] for x in inputs))
            for x in done:
                del values[x]
        return values[self.result]
