"""Optimisers and learning-rate schedules.

Each parameter has two factors: ``lr_mult`` for the learning rate, and ``decay_mult`` for the weight decay.
"""

import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

import numpy as np

from .. import kernels as K
from ..arrays import backend
from ..arrays.types import Array
from ..engine.core import Tensor, no_grad
from .losses.loss import divisor

__all__ = [
    "SGD", "Adam", "Optimizer", "constant", "convert_lr", "equivalent_momentum", "poly", "reduction_factor",
    "step_down",
]  # fmt: skip


class Optimizer:
    """The base class of optimisers: it has the parameters, a learning rate, and a state that can be saved.

    The attribute ``lr`` may be changed at any time.

    Parameters
    ----------
    params : iterable of Parameter
        Frozen parameters are ignored.
    lr : float
        The learning rate.
    weight_decay : float
        λ in the penalty λ/2·‖w‖², multiplied by each parameter's ``decay_mult``.

    Raises
    ------
    TypeError
        If `params` is a module, a single tensor, or pairs of names and parameters.
    ValueError
        If no parameter requires a gradient, a tensor in `params` is not a leaf, a parameter occurs twice, or `lr` or
        `weight_decay` is negative or not finite.
    """

    scales_with_gradient = True  # whether a step is proportional to the gradient
    memory: float = 1.0  # the factor by which momentum enlarges the steps for a constant gradient

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        self.params = [p for p in parameter_list(params) if p.requires_grad]
        if not self.params:
            raise ValueError("there is nothing to learn: no parameter requires a gradient")
        require_range("lr", lr)
        require_range("weight_decay", weight_decay)
        self.lr, self.weight_decay, self.steps = lr, weight_decay, 0
        self.state = [self.start(p) for p in self.params]

    def start(self, p: Tensor) -> dict[str, Any]:
        """The initial state of parameter `p`: {name: an array of zeros of its shape, or an int}."""
        return {}

    def update(self, w: Array, g: Array, state: dict[str, Any], rate: float, decay: float) -> None:
        """Update the weights w and the state in place; g is the gradient, rate lr·lr_mult, decay λ·decay_mult."""
        raise TypeError(f"{type(self).__name__} must define update(w, g, state, rate, decay)")

    def step(self, scale: float = 1.0) -> None:
        """Update every parameter that has a gradient, and clear the gradients.

        Parameters
        ----------
        scale : float
            A factor on the gradients.  After accumulating the gradients of k batches: 1 if the loss is a sum, 1/k if it
            is a mean.
        """
        self.steps += 1
        with no_grad():
            for p, state in zip(self.params, self.state):
                w, g = p.data, p.grad
                if g is None:
                    continue
                if g.shape != w.shape:
                    raise ValueError(f"a parameter of shape {w.shape} has a gradient of shape {g.shape}")
                # raises if model.to(device) came after the optimiser was made: its state is still on the old device
                backend.of(w, g, *[v for v in state.values() if not isinstance(v, int)])
                rate, decay = self.lr * multiplier(p, "lr_mult"), self.weight_decay * multiplier(p, "decay_mult")
                self.update(w, g if scale == 1 else g * scale, state, rate, decay)
                p.grad = None

    def zero_grad(self) -> None:
        """Drop every gradient."""
        for p in self.params:
            p.grad = None

    def state_dict(self) -> dict[str, Array]:
        """The state as {"3.velocity": array}, where 3 is the index of the parameter; an int becomes an array (1,)."""
        return {
            f"{i}.{name}": np.array([value]) if isinstance(value, int) else value
            for i, state in enumerate(self.state)
            for name, value in state.items()
        }

    def load_state_dict(self, arrays: dict[str, Array], steps: int) -> None:
        """Continue from a saved state.  Raises ValueError if it belongs to other parameters.

        Checkpoints of older versions lack the number of steps of each parameter; then `steps` is used for all.
        """
        current = self.state_dict()
        counts = {f"{i}.{k}" for i, state in enumerate(self.state) for k, v in state.items() if isinstance(v, int)}
        arrays = dict.fromkeys(counts, np.array([steps])) | arrays
        if current.keys() != arrays.keys() or any(current[k].shape != arrays[k].shape for k in current):
            raise ValueError("the saved optimiser state belongs to other parameters or another optimiser")
        for i, state in enumerate(self.state):
            for name, value in state.items():
                saved = arrays[f"{i}.{name}"]
                if isinstance(value, int):
                    state[name] = int(saved[0])
                else:
                    value[...] = backend.of(value).asarray(saved)
        self.steps = steps


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, in Caffe's form or in PyTorch's.

    With ``g ← g + λ·decay_mult·w``::

        caffe    V ← μV + lr·lr_mult·g      w ← w − V
        torch    V ← μV + g                 w ← w − lr·lr_mult·V

    Both give the same steps while lr is constant.  When lr drops, Caffe's V still contains steps of the old lr.  The
    paper (§4.3) used Caffe.

    Parameters
    ----------
    params, lr, weight_decay
        See :class:`Optimizer`.
    momentum : float
        μ.
    form : {"caffe", "torch"}
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.9, weight_decay: float = 0.0, form: str = "caffe"
    ) -> None:
        if form not in ("caffe", "torch"):
            raise ValueError(f"form is 'caffe' or 'torch', got {form!r}")
        require_range("momentum", momentum, below=1)
        self.momentum, self.form = momentum, form
        super().__init__(params, lr, weight_decay)

    def start(self, p: Tensor) -> dict[str, Any]:
        return {"velocity": p.data * 0}

    def update(self, w: Array, g: Array, state: dict[str, Any], rate: float, decay: float) -> None:
        K.sgd(w, g, state["velocity"], rate, decay, self.momentum, self.form)

    @property
    def memory(self) -> float:  # type: ignore[override]
        """1/(1 − μ), the factor by which momentum enlarges the step for a constant gradient."""
        return 1 / (1 - self.momentum)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015) with decoupled weight decay (AdamW: the decay does not enter the moments).

    ``m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²,  w ← w − lr·lr_mult·(m̂/(√v̂ + ε) + λ·decay_mult·w)``
    with ``m̂ = m/(1 − β₁ᵗ)``, ``v̂ = v/(1 − β₂ᵗ)``, where t counts the steps in which this parameter had a gradient.

    Parameters
    ----------
    params, lr, weight_decay
        See :class:`Optimizer`.
    betas : (float, float)
        β₁ and β₂.
    eps : float
        ε.
    """

    scales_with_gradient = False

    def __init__(
        self, params: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        for beta in betas:
            require_range("beta", beta, below=1)
        require_range("eps", eps)
        self.betas, self.eps = betas, eps
        super().__init__(params, lr, weight_decay)

    def start(self, p: Tensor) -> dict[str, Any]:
        return {"mean": p.data * 0, "square": p.data * 0, "steps": 0}

    def update(self, w: Array, g: Array, state: dict[str, Any], rate: float, decay: float) -> None:
        state["steps"] += 1
        K.adam(w, g, state["mean"], state["square"], rate, decay, *self.betas, self.eps, state["steps"])


def parameter_list(params: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list; TypeError or ValueError as for :class:`Optimizer`."""
    if isinstance(params, Tensor) or hasattr(params, "parameters"):
        what = "one tensor: give a list of parameters, [p]"
        if hasattr(params, "parameters"):
            what = f"a {type(params).__name__}: give its parameters, model.parameters()"
        raise TypeError(f"params is {what}")
    if isinstance(params, str | dict) or not hasattr(params, "__iter__"):
        raise TypeError(f"params is a {type(params).__name__}: give a list of parameters, model.parameters()")
    params, seen = list(params), {}  # type: ignore[var-annotated]
    if not params:
        raise ValueError("params is empty: there is nothing to learn (a generator can be used only once)")
    for i, p in enumerate(params):
        if isinstance(p, tuple):
            raise TypeError(f"params[{i}] is a tuple: give the parameters without their names, model.parameters()")
        if not isinstance(p, Tensor):
            raise TypeError(f"params[{i}] is a {type(p).__name__}, not a parameter")
        if p.creator is not None:
            raise ValueError(
                f"params[{i}] was computed (by {type(p.creator).__name__}), and a step would not change the tensors it "
                "was computed from: give those instead"
            )
        if id(p) in seen:
            raise ValueError(f"params[{i}] is params[{seen[id(p)]}] again: give each parameter once")
        seen[id(p)] = i
    return params


def require_learnable(model: Any, optimizer: Optimizer) -> None:
    """Raise an error if the steps of an optimiser would not change a model."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"the optimiser is {optimizer!r}: give an instance, say mf.optim.SGD(model.parameters(), lr)")
    of_model = {id(p) for p in model.parameters()}
    learned = [p for p in optimizer.params if id(p) in of_model]
    if not learned:
        raise ValueError("the optimiser has none of this model's parameters: make one from model.parameters()")
    if not any(p.requires_grad for p in learned):
        raise ValueError("all parameters of the optimiser are frozen: there is nothing to learn")
    if not (Tensor([0.0], requires_grad=True) + 1).requires_grad:
        raise RuntimeError("fit inside no_grad cannot learn, because no operation is recorded: call it outside")


def clip_gradients(params: Iterable[Tensor], limit: float) -> float:
    """Shorten the gradient of all parameters together to the norm `limit` if it is longer; returns its norm before."""
    given: list[Any] = [p for p in params if p.grad is not None]
    norm = math.sqrt(sum(float((p.grad.astype(np.float64) ** 2).sum()) for p in given))
    if norm > limit:  # false for NaN
        for p in given:
            p.grad = p.grad * (limit / norm)
    return norm


def require_range(name: str, value: float, below: float = np.inf) -> None:
    """Raise ValueError unless 0 ≤ value < `below`."""
    if not isinstance(value, Real) or not 0 <= value < below:
        limit = "" if below == np.inf else f" and below {below}"
        raise ValueError(f"{name} is {value!r}: it must be a finite number, at least 0{limit}")


def multiplier(p: Tensor, name: str) -> float:
    """``lr_mult`` or ``decay_mult`` of a Parameter; 1 for a plain tensor."""
    return getattr(p, name, 1.0)


def constant(progress: float) -> float:
    """A constant lr (the reference code's ``lr_policy: fixed``)."""
    return 1.0


def step_down(progress: float) -> float:
    """lr divided by 10 at two thirds of the run, and again at eight ninths."""
    return 1.0 if progress < 2 / 3 else 0.1 if progress < 8 / 9 else 0.01


def poly(progress: float) -> float:
    """lr · (1 − t/T)^0.9, the usual schedule for segmentation."""
    return max(1 - progress, 0) ** 0.9  # the power of a negative number would be complex


MEAN_RATE = 0.007  # learning rate of SGD with momentum 0.9 for a mean over pixels; default rates are derived from it

SCHEDULES: dict[str, Callable[[float], float]] = {"constant": constant, "step": step_down, "poly": poly}
"""Factors on the learning rate, as functions of progress: the fraction of all steps that is done (0 … 1)."""


def reduction_factor(reduction: str, labelled: int, batch_size: int) -> float:
    """The loss with `reduction`, divided by the mean loss over labelled pixels.

    It is N, the labelled pixels of a batch, for "sum" (the paper's); N/B, those of one image, for "batch"; 1 for
    "valid" and "classes".

    Parameters
    ----------
    reduction : {"sum", "valid", "batch", "classes"}
    labelled : int
        Labelled pixels of a batch, N.
    batch_size : int
        Images of a batch, B.
    """
    factor = labelled / divisor(reduction, labelled, batch_size)
    return int(factor) if reduction == "sum" else factor


def step_factor(reduction: str, labelled: int, batch_size: int, accumulate: int = 1) -> float:
    """:func:`reduction_factor` for a step on several batches, whose losses are added for "sum" and else averaged."""
    return reduction_factor(reduction, labelled, batch_size) * (accumulate if reduction == "sum" else 1)


def effective_step(optimizer: Optimizer, reduction: str, pixels: int, batch_size: int) -> float:
    """How far a constant per-pixel gradient of 1 moves a weight per step, momentum included: lr · N / (1 − μ).

    N is :func:`reduction_factor`: the labelled pixels of a batch for "sum" (the paper's 1e-10 · 187,500 / (1 − 0.99) =
    1.9e-3), those of one image for "batch", 1 for "valid".

    Parameters
    ----------
    optimizer : Optimizer
    reduction : {"sum", "valid", "batch"}
    pixels : int
        Labelled pixels of a batch.
    batch_size : int
    """
    factor = reduction_factor(reduction, pixels, batch_size) if optimizer.scales_with_gradient else 1
    return optimizer.lr * optimizer.memory * factor


def convert_lr(lr: float, source: str, target: str, labelled: int, batch_size: int) -> float:
    """The learning rate that gives the same SGD steps with the reduction `target` as `lr` with `source`.

    It is ``lr · factor(source) / factor(target)``.  With N labelled pixels in a batch of B images,
    ``lr_valid = N · lr_sum = N/B · lr_batch``.  The paper's 1e-10 for a sum corresponds to 1.9e-5 for a mean.

    The weight decay λ does not change with the reduction, but lr · λ must stay the same: multiply λ by
    ``lr / convert_lr(lr, ...)``.

    Parameters
    ----------
    lr : float
    source, target : {"sum", "valid", "batch"}
        See :func:`minifcn.ops.cross_entropy`.
    labelled : int
        Labelled pixels of a batch, N.  If N varies between batches, no single rate gives the same steps: in a mean, a
        pixel counts more if N is smaller.
    batch_size : int
        Images of a batch, B.
    """
    factors = [reduction_factor(reduction, labelled, batch_size) for reduction in (source, target)]
    return lr * factors[0] / factors[1]


def equivalent_momentum(momentum: float, batch_size: int, target_batch_size: int) -> float:
    """The momentum for which past images keep their influence with another batch size: ``p' = p^(k'/k)``.

    With batches of k images, a step gives the j-th most recent image the coefficient ``p^⌊j/k⌋``.  Without the ⌊·⌋, the
    coefficients are the same if ``p^(1/k) = p'^(1/k')``: 0.9 with 20 images corresponds to 0.99475 with one, the
    "heavy" learning of the journal version (§6.2).  The equivalence is not exact: smaller batches take more steps on
    the same images, and the weights change in between.

    Parameters
    ----------
    momentum : float
        p.
    batch_size, target_batch_size : int
        k and k'.
    """
    return momentum ** (target_batch_size / batch_size)
