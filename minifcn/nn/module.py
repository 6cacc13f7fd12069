"""Module, a function with parameters that can contain other modules; Parameter, a tensor that an optimiser updates."""

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import Any, Self, TypeVar

from .. import ops
from ..arrays import backend
from ..arrays.types import Array, DTypeLike, Values
from ..engine.core import Tensor, layer_name
from ..errors import shown

# ids of modules in evaluation mode in this thread or task
_evaluated: ContextVar[frozenset[int]] = ContextVar("evaluated", default=frozenset())

Some = TypeVar("Some", bound="Module")


class Parameter(Tensor):
    """A learned tensor with factors on the learning rate and the weight decay (Caffe's ``lr_mult``, ``decay_mult``).

    Parameters
    ----------
    data : array
    lr_mult : float
        Factor on the learning rate.  0 freezes the parameter: no gradient is computed for it (the reference nets'
        interpolation layers).
    decay_mult : float
        Factor on the weight decay (the reference nets: 1 for weights, 0 for biases).
    """

    @property
    def where(self) -> dict:
        """Empty: the cells of a parameter have no position on an image."""
        return {}

    def __init__(self, data: Tensor | Values, lr_mult: float = 1.0, decay_mult: float = 1.0) -> None:
        super().__init__(data, requires_grad=lr_mult != 0)
        self.lr_mult, self.decay_mult = lr_mult, decay_mult

    def freeze(self) -> "Parameter":
        """Exclude the parameter from learning; no gradient is computed for it any more."""
        self.lr_mult, self.requires_grad, self.grad = 0.0, False, None
        return self


class Buffer(Tensor):
    """A tensor that is saved with a module but not learned, such as running statistics."""

    @property
    def where(self) -> dict:
        """Empty: the cells of a buffer have no position on an image."""
        return {}


class Module:
    """A function with parameters.  A subclass defines ``forward(*inputs)``; attributes hold parameters and modules.

    Attributes
    ----------
    name : str
        The attribute name in the parent module (``score_pool4``); graph nodes that the module makes have this name.
    training : bool
        Set by ``train()`` and ``eval()``; dropout and batch norm depend on it.  False inside :func:`evaluating`.
    transparent : tuple of str
        Names of attributes whose children count as children of this module, so that their names are those of the
        reference nets (``conv1_1``, not ``trunk.conv1_1``).
    """

    name = ""
    transparent: tuple[str, ...] = ()
    _training = True

    @property
    def training(self) -> bool:
        return self._training and id(self) not in _evaluated.get()

    @training.setter
    def training(self, mode):
        self._training = mode

    def __setattr__(self, key, value):
        for attribute in self.transparent:  # a child of a transparent attribute is replaced in the module that holds it
            for _, holder in modules_in(attribute, vars(self).get(attribute)):
                if key in dict(holder.children()):
                    return setattr(holder, key, value)
        super().__setattr__(key, value)
        for name, module in modules_in(key, value):
            module.name = module.name or name

    def forward(self, *inputs: Any) -> Tensor:
        """Compute the output tensor from input tensors."""
        raise TypeError(f"{type(self).__name__} must define forward(*inputs)")

    def _joined(self, following: "Module", x: Tensor) -> Callable[[Tensor], Tensor] | None:
        """A function that does the work of this module and of the `following` one on `x` at once, if there is one."""
        return None

    def __call__(self, *inputs: Tensor | Values | dict[str, Tensor]) -> Tensor:
        tensors = [x if isinstance(x, Tensor | dict) else Tensor(x) for x in inputs]  # a head takes a dict
        if not self.name:
            return self.forward(*tensors)
        token = layer_name.set(self.name)  # as `with scope(self.name)`, in a third of the time
        try:
            return self.forward(*tensors)
        finally:
            layer_name.reset(token)

    def children(self) -> "Iterator[tuple[str, Module]]":
        """(name, module) of the direct children, in the order they were assigned."""
        for key, value in vars(self).items():
            if key in self.transparent:
                for _, module in modules_in(key, value):
                    yield from module.children()
            elif isinstance(value, Module):
                yield key, value
            else:
                yield from modules_in(key, value)

    def __getattr__(self, key: str) -> Any:  # Python calls this only if the normal lookup fails
        if self.transparent:
            for name, module in self.children():
                if name == key:
                    return module
        raise AttributeError(f"{type(self).__name__} has no attribute {key!r}")

    def named_modules(self, prefix: str = "") -> "Iterator[tuple[str, Module]]":
        """(path, module) of every module inside this one, at any depth: ``layer1.0.conv1``."""
        for name, child in self.children():
            yield prefix + name, child
            yield from child.named_modules(f"{prefix}{name}.")

    def modules(self) -> "list[Module]":
        """This module and every module inside it."""
        return [self, *(module for _, module in self.named_modules())]

    def _named(self, kind, prefix=""):
        for key, value in vars(self).items():
            if isinstance(value, kind):
                yield prefix + key, value
        for name, child in self.children():
            yield from child._named(kind, f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, Parameter) in a fixed order: ``conv1_1.weight``, ``conv1_1.bias`` ..."""
        return self._named(Parameter)

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """(name, Buffer) of tensors that are saved but not learned."""
        return self._named(Buffer)

    def parameters(self) -> list[Parameter]:
        """A list of every Parameter; one that several modules share occurs once."""
        return list({id(p): p for _, p in self.named_parameters()}.values())

    def num_parameters(self) -> int:
        """The number of learned values; frozen parameters are not counted."""
        return sum(p.size for p in self.parameters() if p.requires_grad)

    def state_dict(self) -> dict[str, Array]:
        """{name: array} of all parameters and buffers; the arrays are shared with the module, not copied."""
        return {name: t.data for name, t in self.named_tensors()}

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name, Parameter or Buffer) of all tensors that are saved."""
        return chain(self._named(Parameter), self._named(Buffer))

    def load_state_dict(self, state: Mapping[str, Array]) -> Self:
        """Copy the arrays of `state` into the parameters and buffers of the same names, and return the module.

        Raises
        ------
        ValueError
            If names or shapes do not match exactly; the message lists the differences, and the module is unchanged.
        """
        tensors = dict(self.named_tensors())
        problems = [f"missing {n}" for n in tensors.keys() - state.keys()]
        problems += [f"unknown {n}" for n in state.keys() - tensors.keys()]
        problems += [
            f"{n} is {state[n].shape}, expected {tensors[n].shape}"
            for n in tensors.keys() & state.keys()
            if state[n].shape != tensors[n].shape
        ]
        if problems:
            listed = "; ".join(sorted(problems)[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            raise ValueError(f"these weights belong to another model: {listed}")
        for name, tensor in tensors.items():
            assign(tensor, state[name])
        return self

    def train(self, mode: bool = True) -> Self:
        """Set this module and all modules inside to training (or evaluation) mode, and return the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode (no dropout, running statistics), and return the module."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        for p in self.parameters():
            p.grad = None

    def to(self, device: str | None = None, dtype: DTypeLike | None = None) -> Self:
        """Move all parameters and buffers to `device`, or change their floating type; gradients are discarded.

        Raises
        ------
        TypeError
            If `dtype` is not a floating-point type of NumPy.
        """
        dtype = dtype and backend.floating(dtype)
        for _, t in self.named_tensors():
            data = t.data if device is None else backend.to_device(t.data, device)
            t.data, t.grad = data if dtype is None else data.astype(dtype), None
        return self

    def __repr__(self) -> str:
        lines = [f"  {name}: {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        return shown(f"{type(self).__name__}({self.describe()})" + ("" if not lines else ":\n" + "\n".join(lines)))

    def describe(self) -> str:
        """The hyper-parameters as short text, for ``repr``."""
        return ""


def assign(tensor: Tensor, values: Array) -> None:
    """Copy values into a tensor's array; a zero-stride array from ``shapes_only()`` is replaced by a real one."""
    values = backend.of(tensor.data).asarray(values, dtype=tensor.dtype)
    if any(tensor.data.strides):
        tensor.data[...] = values
    else:
        tensor.data = values.copy()


@contextmanager
def evaluating(model: Module, but: Iterable[Module] = ()) -> Iterator[None]:
    """Run the block with `model` in evaluation mode, in this thread or asyncio task only.

    The model object is not changed, so other threads can train it or evaluate it at the same time.

    Parameters
    ----------
    model : Module
    but : iterable of Module
        Modules inside it that stay in their mode.
    """
    token = _evaluated.set(_evaluated.get().union(map(id, model.modules())).difference(map(id, but)))
    try:
        yield
    finally:
        _evaluated.reset(token)


def require_module(model: object) -> None:
    """Raise TypeError unless `model` is a Module."""
    if not isinstance(model, Module):
        raise TypeError(f"the model is a {type(model).__name__}: give a Module (mf.nn, mf.models)")


def in_mode(module: Some, of: Module) -> Some:
    """Set `module`, but not the modules inside it, to the training or evaluation mode of `of`, and return it.

    The mode is the one that ``train()`` or ``eval()`` set, not that of :func:`evaluating`, which ends with its block.
    """
    module._training = of._training
    return module


def modules_in(key: str, value: Any) -> Iterator[tuple[str, Module]]:
    """(name, module) of every module in an attribute, whose value can be a module, or a list or dict of modules."""
    if isinstance(value, Module):
        yield key, value
    elif isinstance(value, list | tuple | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        yield from ((f"{key}.{i}", v) for i, v in items if isinstance(v, Module))


class Sequential(Module):
    """Modules that run one after the other; ``Sequential(conv1=..., relu1=...)`` names them, else they are numbered."""

    def __init__(self, *modules: Module, **named: Module) -> None:
        for i, module in enumerate(modules):
            setattr(self, str(i), module)
        for key, module in named.items():
            setattr(self, key, module)

    def forward(self, x: Tensor) -> Tensor:
        for _, y in outputs(self.children(), x):
            x = y
        return x


def outputs(
    layers: Iterable[tuple[str, Module]], x: Tensor, names: Container[str] = ()
) -> Iterator[tuple[str, Tensor]]:
    """Run named `layers` one after the other on `x`, and yield (name, output) of each.

    Two neighbours whose work one function can do at once (``_joined``) yield the output of the second alone, unless the
    name of the first is among `names`.
    """
    waiting = deque(layers)
    while waiting:
        name, layer = waiting.popleft()
        if waiting and name not in names and (both := layer._joined(waiting[0][1], x)):
            name, x = waiting.popleft()[0], both(x)
        else:
            x = layer(x)
        yield name, x


def is_row(module: object) -> bool:
    """Whether a module only runs its children one after the other: a Sequential that does not redefine `forward`."""
    return isinstance(module, Sequential) and type(module).forward is Sequential.forward


class Branches(Module):
    """Several modules on the same input, whose outputs are concatenated along the channels: an inception block."""

    transparent: tuple[str, ...] = ("branches",)

    def __init__(self, *branches: Module) -> None:
        self.branches = [_as_sequential(branch) for branch in branches]
        names = [name for branch in self.branches for name, _ in branch.children()]
        if len(set(names)) < len(names):
            self.transparent = ()  # two branches have the same name, so names include the branch: branches.0.conv

    def forward(self, x: Tensor) -> Tensor:
        return ops.concat([branch(x) for branch in self.branches])


class Residual(Module):
    """A residual block: ``y = max(0, F(x) + x)``, with ``downsample(x)`` in place of x if the shape changes.

    With ``relu=False`` it is ``y = F(x) + x``, the linear bottleneck of MobileNetV2.
    """

    transparent = ("branch",)

    def __init__(self, branch: Module, downsample: Module | None = None, relu: bool = True) -> None:
        self.branch = _as_sequential(branch)
        self.downsample, self.relu = downsample, relu

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.branch(x) + shortcut
        return ops.relu(y) if self.relu else y


def _as_sequential(module):
    """The module if it is a Sequential, else a Sequential that contains it."""
    return module if isinstance(module, Sequential) else Sequential(module)
