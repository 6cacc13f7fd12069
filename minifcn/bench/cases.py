"""The benchmark cases: single kernels of the nets, whole steps, and steps by threads, image size and memory."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from .. import models, ops
from ..arrays import backend
from ..engine.core import Tensor, no_grad, watch
from ..nn import optim

GROUPS = {
    "kernels": "one operation, forward and backward",
    "forward": "one convolution, forward alone",
    "steps": "forward, loss, backward and update of a whole net; or its forward alone",
    "textbook": "the default against the textbook's whole-image im2col, on the first block of VGG16",
    "threads": "all threads against one",
    "sizes": "time per pixel as images grow",
    "patches": "a whole image against its patches one by one",
    "loading": "ten steps of the default command, with loader and augmentation, against the same steps on one batch",
    "scaling": "predicted times of a step on more threads against one thread, from a model; --json has its parts",
    "memory": "the peak of a step in a fresh process, above its imports",
    "ranks": "two ranks of one thread against one rank of one thread, whole training steps in fresh processes",
}


@dataclass
class Work:
    """One computation: ``run()`` makes a Tensor, and a training step continues with its backward pass."""

    run: Callable
    gradient: object = None  # the gradient of a kernel's output; None: the output is a loss
    optimizer: object = None
    trains: bool = True

    def ours(self):
        """Run the whole computation with minifcn; the Tensor that it made."""
        with nullcontext() if self.trains else no_grad():
            out = self.run()
        if self.trains:
            out.backward(self.gradient)
        if self.optimizer:
            self.optimizer.step()
        return out

    def flops(self):
        """The number of floating-point operations; each gradient counts as much as the forward pass."""
        nodes = []
        note = watch(lambda node, inputs, output: nodes.append((node, sum(x.requires_grad for x in inputs[:2]))))
        with note, nullcontext() if self.trains else no_grad():
            self.run()
        return sum(node.flops * (1 + wanted * self.trains) for node, wanted in nodes)

    def theirs(self):
        """A function that does the same computation in PyTorch."""
        from .twin import Twin, tensor, torch

        twin = Twin(self.run)
        if not self.trains:

            def forward():
                with torch.inference_mode():
                    twin()

            return forward
        leaves = [leaf for leaf in twin.leaves.values() if leaf.requires_grad]
        gradient = None if self.gradient is None else tensor(self.gradient)
        optimizer = self.optimizer and torch.optim.SGD(
            leaves, lr=self.optimizer.lr, momentum=self.optimizer.momentum, weight_decay=self.optimizer.weight_decay
        )

        def step():
            twin().backward(gradient)
            if optimizer:
                optimizer.step()
            for leaf in leaves:
                leaf.grad = None

        return step


def _normal(*shape, device="cpu"):
    return backend.to_device(np.random.default_rng(0).standard_normal(shape, np.float32), device)


def _kernel(operation, *shapes, image=False, trains=True, **parameters):
    """A case: an operation on random tensors; if the first is an `image`, it needs no gradient."""

    def build(device="cpu"):
        arrays = [_normal(*shape, device=device) for shape in shapes]
        tensors = [Tensor(a, requires_grad=trains and (i > 0 or not image)) for i, a in enumerate(arrays)]

        def run():
            for x in tensors:
                x.grad = None
            return operation(*tensors, **parameters)

        with no_grad():
            gradient = _normal(*run().shape, device=device) if trains else None
        return Work(run, gradient, trains=trains)

    return build


def _loss(n, classes, size):
    labels = np.random.default_rng(0).integers(0, classes, (n, size, size))

    def build(device="cpu"):
        scores = Tensor(_normal(n, classes, size, size, device=device), requires_grad=True)

        def run():
            scores.grad = None
            return ops.cross_entropy(scores, labels)

        return Work(run)

    return build


def _batch_norm(*shape):
    return _kernel(ops.batch_norm, shape, shape[1:2], shape[1:2])


def _conv(n, channels, outputs, size, kernel=3, padding=1, trains=True):
    shapes = (n, channels, size, size), (outputs, channels, kernel, kernel), (outputs,)
    return _kernel(ops.conv2d, *shapes, padding=padding, image=channels == 3, trains=trains)


CONVOLUTIONS = {
    "conv1_1": (1, 3, 64, 224),
    "conv1_2": (1, 64, 64, 224),
    "conv2_2": (1, 128, 128, 112),
    "conv3_2": (1, 256, 256, 56),
    "conv4_2": (1, 512, 512, 28),
    "conv5_2": (1, 512, 512, 14),
    "fc6": (1, 512, 4096, 14, 7, 0),
    "fc7": (1, 4096, 4096, 8, 1, 0),
    "mini1_1": (8, 3, 16, 128),
    "mini2_1": (8, 16, 32, 64),
    "mini3_2": (8, 64, 64, 32),
    "mini4_2": (8, 96, 96, 16),
    "mini5_2": (8, 96, 96, 8),
}
"""Layers of VGG16 on one image of 224², and of the mini net on eight of 128²: (N, C, O, size, kernel, padding)."""

DEPTHWISE = {
    "depthwise_large": (32, 64, 3, 1),
    "depthwise_half": (96, 64, 3, 2),
    "depthwise_5": (240, 16, 5, 1),
    "depthwise_small": (1152, 4, 5, 1),
}
"""Depthwise layers of EfficientNet-Lite0 on eight images of 128²: (channels, size, kernel, stride)."""


def _depthwise(channels, size, kernel, stride):
    shapes = (8, channels, size, size), (channels, 1, kernel, kernel)
    return _kernel(ops.conv2d, *shapes, stride=stride, padding=kernel // 2, groups=channels)


KERNELS = {name: _conv(*sizes) for name, sizes in CONVOLUTIONS.items()} | {
    **{name: _depthwise(*sizes) for name, sizes in DEPTHWISE.items()},
    "upscore8": _kernel(ops.conv_transpose2d, (1, 21, 38, 38), (21, 1, 16, 16), stride=8, groups=21),
    "upscore2": _kernel(ops.conv_transpose2d, (8, 6, 16, 16), (6, 6, 4, 4), stride=2),
    "pool1": _kernel(ops.max_pool2d, (1, 64, 224, 224), kernel_size=2, ceil_mode=True),
    "pool_mini": _kernel(ops.max_pool2d, (8, 16, 128, 128), kernel_size=2, ceil_mode=True),
    "relu1_2": _kernel(ops.relu, (1, 64, 224, 224)),
    "relu_mini": _kernel(ops.relu, (8, 16, 128, 128)),
    "batch_norm": _batch_norm(8, 16, 128, 128),
    "batch_norm_deep": _batch_norm(8, 96, 16, 16),
    "loss": _loss(1, 21, 500),
    "loss_mini": _loss(8, 6, 128),
}
FORWARD = {f"{name}_forward": _conv(*sizes, trains=False) for name, sizes in CONVOLUTIONS.items()}  # type: ignore[misc]


def train_step(preset, classes, n, size, **options):
    """A case: a training step of a net, SGD with momentum and decay at a rate that hardly changes the weights."""

    def build(device="cpu"):
        backend.manual_seed(0)
        model = getattr(models, preset)(num_classes=classes, **options).to(device)
        image, labels = (
            _normal(n, 3, size, size, device=device),
            np.random.default_rng(0).integers(0, classes, (n, size, size)),
        )
        optimizer = optim.SGD(model.parameters(), lr=1e-12, momentum=0.9, weight_decay=5e-4, form="torch")
        return Work(lambda: ops.cross_entropy(model(Tensor(image)), labels), optimizer=optimizer)

    return build


def forward(preset, classes, n, size):
    """A case: the forward pass of a net in evaluation mode, without gradients."""

    def build(device="cpu"):
        backend.manual_seed(0)
        model = getattr(models, preset)(num_classes=classes).to(device).eval()
        image = _normal(n, 3, size, size, device=device)
        return Work(lambda: model(Tensor(image)), trains=False)

    return build


def lenet_step(n):
    """A case: a training step of LeNet; its arrays are so small that function calls dominate the time."""

    def build(device="cpu"):
        backend.manual_seed(0)
        model, digits = models.lenet().to(device), _normal(n, 1, 32, 32, device=device)
        labels = np.arange(n).reshape(n, 1, 1) % 10
        optimizer = optim.SGD(model.parameters(), lr=1e-12, momentum=0.9, weight_decay=5e-4, form="torch")

        def run():
            scores = model(Tensor(digits))
            return ops.cross_entropy(scores.reshape(n, 10, 1, 1), labels)

        return Work(run, optimizer=optimizer)

    return build


STEPS = {
    "fcn8s_mini_train": train_step("fcn8s_mini", 6, 8, 128),
    "fcn4s_efficientnet_train": train_step("fcn4s_efficientnet_lite0", 7, 8, 128),
    "fcn8s_vgg16_train": train_step("fcn8s_vgg16", 21, 1, 224),
    "fcn8s_vgg16_forward": forward("fcn8s_vgg16", 21, 1, 500),
    "fcn8s_mini_forward_2048": forward("fcn8s_mini", 6, 1, 2048),
    "lenet_train": lenet_step(1),
    "lenet_train_64": lenet_step(64),
}


def vgg_block():
    """The work of VGG16's first block (conv1_1 to pool1) on an image of 224², forward and backward."""
    shapes = (64, 3, 3, 3), (64,), (64, 64, 3, 3), (64,)
    w1, b1, w2, b2 = (Tensor(_normal(*s) * 0.05, requires_grad=True) for s in shapes)
    image, gradient = Tensor(_normal(1, 3, 224, 224)), _normal(1, 64, 112, 112)

    def run():
        x = ops.relu(ops.conv2d(image, w1, b1, padding=1))
        return ops.max_pool2d(ops.relu(ops.conv2d(x, w2, b2, padding=1)), 2, ceil_mode=True)

    return Work(run, gradient)


SIZES = (128, 256, 512, 1024)
