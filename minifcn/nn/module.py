"""Module: a function with parameters, made of other modules.  Parameter: a tensor an optimiser may change."""

from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from itertools import chain

from .. import ops
from ..arrays import backend
from ..engine.core import Tensor, scope
from ..errors import shown

_evaluated = ContextVar("evaluated", default=frozenset())  # ids of the modules that are in evaluation mode here


class Parameter(Tensor):
    """A tensor that is learned, and how fast, as data on the parameter itself (Caffe's ``lr_mult``, ``decay_mult``).

    Parameters
    ----------
    data : array
    lr_mult : float
        Factor on the learning rate.  0 freezes the parameter: no gradient is computed for it (the reference nets'
        interpolation layers).
    decay_mult : float
        Factor on the weight decay (the reference nets: 1 for weights, 0 for biases).
    """

    where = property(lambda self: {}, doc="Empty: a kernel is no picture, it lies nowhere.")

    def __init__(self, data, lr_mult=1.0, decay_mult=1.0):
        super().__init__(data, requires_grad=lr_mult != 0)
        self.lr_mult, self.decay_mult = lr_mult, decay_mult

    def freeze(self):
        """Take the parameter out of learning."""
        self.lr_mult, self.requires_grad, self.grad = 0.0, False, None
        return self


class Buffer(Tensor):
    """State that is saved with a module but not learned: running statistics."""

    where = property(lambda self: {}, doc="Empty: it lies nowhere.")


class Module:
    """A function with parameters.  Subclasses define ``forward(*inputs)``; attributes are its parameters and modules.

    Attributes
    ----------
    name : str
        The attribute under which a parent holds it (``score_pool4``); the nodes it makes carry it.
    training : bool
        Set by ``train()`` and ``eval()``; dropout and batch norm look at it.  False inside :func:`evaluating`.
    transparent : tuple of str
        Attributes whose own children appear as this module's: names then stay those of the reference nets
        (``conv1_1``, not ``trunk.conv1_1``).
    """

    name = ""
    transparent = ()
    _training = True

    @property
    def training(self):
        return self._training and id(self) not in _evaluated.get()

    @training.setter
    def training(self, mode):
        self._training = mode

    def __setattr__(self, key, value):
        for attribute in self.transparent:  # a layer that is shown as our own is replaced where it is held
            for _, holder in modules_in(attribute, vars(self).get(attribute)):
                if key in dict(holder.children()):
                    return setattr(holder, key, value)
        super().__setattr__(key, value)
        for name, module in modules_in(key, value):
            module.name = module.name or name

    def forward(self, *inputs):
        """What it computes: tensors in, a tensor out."""
        raise TypeError(f"{type(self).__name__} must define forward(*inputs)")

    def __call__(self, *inputs):
        inputs = (x if isinstance(x, Tensor | dict) else Tensor(x) for x in inputs)  # heads take a dict of maps
        with scope(self.name) if self.name else nullcontext():
            return self.forward(*inputs)

    def children(self):
        """(name, module) of the modules held directly, in the order they were assigned."""
        for key, value in vars(self).items():
            for name, module in modules_in(key, value):
                if key in self.transparent:
                    yield from module.children()
                else:
                    yield name, module

    def __getattr__(self, key):  # asked where nothing else was found
        if self.transparent:
            for name, module in self.children():
                if name == key:
                    return module
        raise AttributeError(f"{type(self).__name__} has no attribute {key!r}")

    def named_modules(self, prefix=""):
        """(path, module) of every module below: ``layer1.0.conv1``."""
        for name, child in self.children():
            yield prefix + name, child
            yield from child.named_modules(f"{prefix}{name}.")

    def modules(self):
        """Every module below, and this one first."""
        return [self, *(module for _, module in self.named_modules())]

    def _named(self, kind, prefix=""):
        for key, value in vars(self).items():
            if isinstance(value, kind):
                yield prefix + key, value
        for name, child in self.children():
            yield from child._named(kind, f"{prefix}{name}.")

    def named_parameters(self):
        """(name, Parameter) in a fixed order: ``conv1_1.weight``, ``conv1_1.bias`` ..."""
        return self._named(Parameter)

    def named_buffers(self):
        """(name, Buffer): what is saved but not learned."""
        return self._named(Buffer)

    def parameters(self):
        """Every Parameter, once, however many modules share it."""
        return list({id(p): p for _, p in self.named_parameters()}.values())

    def num_parameters(self):
        """How many numbers can be learned (frozen ones not counted)."""
        return sum(p.size for p in self.parameters() if p.requires_grad)

    def state_dict(self):
        """{name: array} of all parameters and buffers; the arrays are the module's own, not copies."""
        return {name: t.data for name, t in self.named_tensors()}

    def named_tensors(self):
        """(name, Parameter or Buffer) of all there is to save."""
        return chain(self._named(Parameter), self._named(Buffer))

    def load_state_dict(self, state):
        """Copy the arrays of `state` into the parameters and buffers of the same names.

        Raises
        ------
        ValueError
            If names or shapes do not match exactly; the message lists what differs.  Nothing is changed then.
        """
        own = dict(self.named_tensors())
        problems = [f"missing {n}" for n in own.keys() - state.keys()]
        problems += [f"unknown {n}" for n in state.keys() - own.keys()]
        problems += [
            f"{n} is {state[n].shape}, expected {own[n].shape}"
            for n in own.keys() & state.keys()
            if state[n].shape != own[n].shape
        ]
        if problems:
            listed = "; ".join(sorted(problems)[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            raise ValueError(f"these weights belong to another model: {listed}")
        for name, tensor in own.items():
            assign(tensor, state[name])
        return self

    def train(self, mode=True):
        """Training mode for this module and all inside; the module itself."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        """Evaluation mode: no dropout, running statistics; the module itself."""
        return self.train(False)

    def zero_grad(self):
        """Drop every gradient."""
        for p in self.parameters():
            p.grad = None

    def to(self, device=None, dtype=None):
        """Move every parameter and buffer to `device`, or change its floating type; gradients are dropped.

        Raises
        ------
        TypeError
            If `dtype` is no floating-point type of NumPy.
        """
        dtype = dtype and backend.floating(dtype)
        for _, t in self.named_tensors():
            data = t.data if device is None else backend.to_device(t.data, device)
            t.data, t.grad = data if dtype is None else data.astype(dtype), None
        return self

    def __repr__(self):
        lines = [f"  {name}: {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        return shown(f"{type(self).__name__}({self.describe()})" + ("" if not lines else ":\n" + "\n".join(lines)))

    def describe(self):
        """The hyper-parameters, in a few words."""
        return ""


def assign(tensor, values):
    """Write numbers into a tensor; a stand-in of ``shapes_only()``, which has no room for them, is replaced."""
    values = backend.of(tensor.data).asarray(values, dtype=tensor.dtype)
    if any(tensor.data.strides):
        tensor.data[...] = values
    else:
        tensor.data = values.copy()


@contextmanager
def evaluating(model):
    """Evaluation mode for `model` and all inside it, in this thread or task only; nothing of the model is changed.

    Several threads may so run one model at once, while another thread trains it.

    Parameters
    ----------
    model : Module
    """
    token = _evaluated.set(_evaluated.get().union(map(id, model.modules())))
    try:
        yield
    finally:
        _evaluated.reset(token)


def require_module(model):
    """Raise TypeError unless `model` is a Module."""
    if not isinstance(model, Module):
        raise TypeError(f"the model is a {type(model).__name__}: give a Module (mf.nn, mf.models)")


def in_mode(module, of):
    """`module` itself, put in the mode, training or evaluation, of another; those inside it stay in theirs."""
    module.training = of.training
    return module


def modules_in(key, value):
    """(name, module) of an attribute that is a module, or a list or dict of modules."""
    if isinstance(value, Module):
        yield key, value
    elif isinstance(value, list | tuple | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        yield from ((f"{key}.{i}", v) for i, v in items if isinstance(v, Module))


class Sequential(Module):
    """One module after the other; ``Sequential(conv1=..., relu1=...)`` names them, positions number them."""

    def __init__(self, *modules, **named):
        for i, module in enumerate(modules):
            setattr(self, str(i), module)
        for key, module in named.items():
            setattr(self, key, module)

    def forward(self, x):
        for _, module in self.children():
            x = module(x)
        return x


def is_row(module):
    """Whether a module does nothing but run its children one after the other."""
    return isinstance(module, Sequential) and type(module).forward is Sequential.forward


class Branches(Module):
    """Several modules on the same input, their outputs concatenated along the channels: an inception block."""

    transparent = ("branches",)

    def __init__(self, *branches):
        self.branches = [_row(branch) for branch in branches]
        names = [name for branch in self.branches for name, _ in branch.children()]
        if len(set(names)) < len(names):
            self.transparent = ()  # names that would collide are told apart by the branch: branches.0.conv

    def forward(self, x):
        return ops.concat([branch(x) for branch in self.branches])


class Residual(Module):
    """``y = max(0, F(x) + x)``, or ``F(x) + downsample(x)`` where the shape changes: a block of a residual network."""

    transparent = ("branch",)

    def __init__(self, branch, downsample=None):
        self.branch = _row(branch)
        self.downsample = downsample

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return ops.relu(self.branch(x) + shortcut)


def _row(module):
    """A module as a Sequential, whose children can stand for it."""
    return module if isinstance(module, Sequential) else Sequential(module)
