"""Normalisations: across channels (AlexNet's local response normalisation) and across the batch."""

from math import inf, prod

from .. import kernels as K
from ..arrays import backend
from ..arrays.parallel import ALONE
from ..engine.core import Function, Operand, Tensor, watchers
from ..kernels.shapes import require_channels, require_maps
from ..kernels.textbook import wide


class LocalResponseNorm(Function):
    formula = "y_c = x_c / (k + α/n · Σ_{n channels around c} x²)^β"
    keeps_place = True

    def __init__(self, size=5, alpha=1e-4, beta=0.75, k=1.0):
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def infer(self, shape):
        return shape

    def forward(self, x):
        require_maps("local_response_norm", x)
        y, saved = K.local_response_norm(x, self.size, self.alpha, self.beta, self.k)
        self.save(*saved)
        return y

    def backward(self, gy):
        return K.local_response_norm_grad(gy, self.saved)

    def count(self, out_shape, x_shape):
        return (2 * self.size + 4) * prod(out_shape)


class BatchNorm2d(Function):
    """Batch norm in training mode: it uses the statistics of the batch, and the gradient flows through them.

    After ``forward``, the node has ``batch_mean`` and ``batch_var`` (C,) for the running averages, and ``pixels``, the
    number of pixels per channel that they were computed from.
    """

    formula = "y = γ (x − μ) / √(σ² + ε) + β,   μ, σ² over (N, H, W) of this batch"

    def __init__(self, eps=1e-5):
        self.eps = eps

    def forward(self, x, gamma, beta):
        require_channels("batch_norm", x, gamma, beta)
        y, saved = K.batch_norm(x, gamma, beta, self.eps)
        (self.batch_mean, self.batch_var), self.pixels = saved[:2], x.size // max(x.shape[1], 1)
        self.save(*saved)
        return y

    def backward(self, gy):
        return K.batch_norm_grad(gy, self.saved)

    def locate(self, axis, place):
        return place.seeing_everything(
            f"{self.name} takes its statistics from the whole batch in training, so a cell depends on all of it: call "
            "model.eval() before computing receptive fields"
        )

    def count(self, out_shape, *in_shapes):
        return 8 * prod(out_shape)


class BatchNormReLU2d(BatchNorm2d):
    """:class:`BatchNorm2d` and the ReLU after it, with a pass over memory less each way, and the numbers of the two.

    Layers run it instead of the two if nothing watches the forward pass: see :func:`fuses`.

    Parameters
    ----------
    most : float
        The upper limit: ∞ for ReLU, 6 for ReLU6.
    """

    formula = "y = min(max(γ (x − μ) / √(σ² + ε) + β, 0), most),   μ, σ² over (N, H, W) of this batch"

    def __init__(self, eps=1e-5, most=inf):
        self.eps, self.most = eps, most

    def forward(self, x, gamma, beta):
        require_channels("batch_norm", x, gamma, beta)
        y, saved = K.batch_norm_relu(x, gamma, beta, self.eps, self.most)
        (self.batch_mean, self.batch_var), self.pixels = saved[:2], x.size // max(x.shape[1], 1)
        self.save(y, *saved)  # the next layer saves y, too, so it needs no additional memory
        return y

    def backward(self, gy):
        y, *saved = self.saved
        return K.batch_norm_relu_grad(gy, y, saved, self.most)

    def count(self, out_shape, *in_shapes):
        return 9 * prod(out_shape)


def fuses(x: Tensor, gamma: Tensor, beta: Tensor) -> bool:
    """Whether a batch norm of `x` and the ReLU after it may run as one :class:`BatchNormReLU2d`.

    They do if both kernels are compiled loops, no kernel or operation is overridden, and nothing watches the
    operations (``mf.trace()`` and others).
    """
    arrays = x.data, gamma.data, beta.data
    return K.batch_norm_relu.is_compiled(x.data) and K.compiled.takes(arrays) and not watchers.get()


class SyncBatchNorm2d(Function):
    """:class:`BatchNorm2d` of a batch that is distributed over several ranks; the result is that of one process.

    The ranks add up ``Σx`` and the number of pixels, then ``Σ(x − μ)²``, in the forward pass; ``Σ gy`` and ``Σ gy·x̂``
    in the backward pass.  The gradients of γ and β cover only this rank's pixels, as for every parameter.

    Parameters
    ----------
    all_reduce : callable
        Adds an array over all ranks, in place, and returns it.
    """

    formula = "y = γ (x − μ) / √(σ² + ε) + β,   μ, σ² over (N, H, W) of the batch of all ranks"

    def __init__(self, eps=1e-5, all_reduce=ALONE.all_reduce):
        self.eps, self.all_reduce = eps, all_reduce

    def forward(self, x, gamma, beta):
        require_channels("batch_norm", x, gamma, beta)
        y, saved = K.sync_batch_norm(x, gamma, beta, self.eps, self.all_reduce)
        (self.batch_mean, self.batch_var), self.pixels = saved[:2], saved[-1]
        self.save(*saved)
        return y

    def backward(self, gy):
        return K.sync_batch_norm_grad(gy, self.saved, self.all_reduce)

    locate = BatchNorm2d.locate

    def count(self, out_shape, *in_shapes):
        return 8 * prod(out_shape)


class FrozenBatchNorm2d(Function):
    """Batch norm in evaluation mode: the statistics are constants, so it is one multiplication and one addition."""

    formula = "y = γ (x − μ) / √(σ² + ε) + β,   μ, σ² fixed"
    keeps_place = True

    def __init__(self, eps=1e-5):
        self.eps = eps

    def infer(self, x_shape, *channel_shapes):
        return x_shape

    def forward(self, x, gamma, beta, mean, var):
        require_channels("batch_norm", x, gamma, beta, mean, var)
        rstd = 1 / backend.of(x).sqrt(var + self.eps)
        self.save(x, gamma, mean, rstd)
        scale = gamma * rstd
        return K.scale_channels(x, scale, beta - mean * scale)

    def backward(self, gy):
        x, gamma, mean, rstd = self.saved
        gx = gy * (gamma * rstd)[:, None, None]
        gy = wide(gy)
        gbeta = gy.sum(axis=(0, 2, 3))
        ggamma = ((gy * x).sum(axis=(0, 2, 3)) - mean * gbeta) * rstd
        return gx, ggamma, gbeta, None, None

    def count(self, out_shape, *in_shapes):
        return 2 * prod(out_shape)


def local_response_norm(x: Operand, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """AlexNet's normalisation across channels: ``y_c = x_c / (k + α/n Σ x²)^β`` over n = `size` channels around c.

    The window is centred and zero padded, and α is divided by n (Caffe's convention, and PyTorch's).

    Parameters
    ----------
    x : Tensor
        (N, C, H, W).
    size : int
        n, odd, so that the window has a middle.
    alpha, beta, k : float
    """
    return LocalResponseNorm.apply(x, size=size, alpha=alpha, beta=beta, k=k)


def batch_norm(
    x: Operand, gamma: Operand, beta: Operand, mean: Operand | None = None, var: Operand | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """``y = γ (x − μ)/√(σ² + ε) + β`` per channel.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W).
    gamma, beta : Tensor
        (C,).
    mean, var : Tensor, optional
        (C,) fixed statistics (evaluation, or a frozen layer).  Without them the statistics of the batch are used, and
        the gradient flows through them.  Every output then depends on every pixel of the batch, so training on whole
        images is no longer equivalent to training on patches (§3.4).
    eps : float
        ε.
    """
    if (mean is None) != (var is None):
        raise ValueError("give batch_norm both mean and var (fixed statistics), or neither (those of the batch)")
    if mean is None or var is None:
        return BatchNorm2d.apply(x, gamma, beta, eps=eps)
    return FrozenBatchNorm2d.apply(x, gamma, beta, mean, var, eps=eps)
