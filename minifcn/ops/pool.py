"""Max and average pooling: eq. (1) of the paper, where f is a spatial maximum or a mean."""

from math import prod

from .. import kernels as K
from ..arrays.types import Pair
from ..engine.core import Function, Operand, Tensor
from ..kernels.shapes import pair, require_maps, require_taps


class Pool2d(Function):
    """The base class of both poolings: the window's parameters, and the output's position."""

    def count(self, out_shape, x_shape):
        return prod(out_shape) * prod(self.kernel_size)

    def locate(self, axis, place):
        return place.window(self.kernel_size[axis], self.stride[axis], self.padding[axis], self.dilation[axis])

    def symbols(self):
        letters = dict(zip("NCHW", self.in_shapes[0]))
        return letters | dict(k=self.kernel_size, s=self.stride, p=self.padding, d=self.dilation)

    def _set(self, kernel_size, stride, padding, dilation):
        self.kernel_size = pair(kernel_size, 1, "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, 1, "stride")
        self.padding, self.dilation = pair(padding, 0, "padding"), pair(dilation, 1, "dilation")


class MaxPool2d(Pool2d):
    formula = "y[i,j] = max_{u,v} x[s·i − p + d·u, s·j − p + d·v]      (−∞ outside; the first maximum wins)"

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        self._set(kernel_size, stride, padding, dilation)
        self.ceil_mode = ceil_mode

    def forward(self, x):
        require_maps("max_pool2d", x)
        require_taps(x.shape, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        y, index = K.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        self.save(index, x.shape)
        return y

    def backward(self, gy):
        index, x_shape = self.saved
        window = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return K.max_pool2d_grad(gy, index, x_shape, *window)


class AvgPool2d(Pool2d):
    formula = "y[i,j] = Σ_{u,v} x[s·i − p + d·u, s·j − p + d·v] / area"

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, dilation=1):
        self._set(kernel_size, stride, padding, dilation)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    @property
    def _window(self):
        return (
            self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.dilation,
        )  # fmt: skip

    def forward(self, x):
        require_maps("avg_pool2d", x)
        if not self.count_include_pad:
            require_taps(x.shape, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        self.save(x.shape)
        return K.avg_pool2d(x, *self._window)

    def backward(self, gy):
        (x_shape,) = self.saved
        return K.avg_pool2d_grad(gy, x_shape, *self._window)


def max_pool2d(
    x: Operand, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """The maximum of each window; its gradient goes to the window's first maximum in row-major order.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W).
    kernel_size, stride, padding, dilation : int or (h, w)
        `stride` defaults to `kernel_size`.  Padding counts as −∞; it must be at most half as wide as the window.
    ceil_mode : bool
        Round the output size up and clip the last window to the image, as Caffe and therefore the paper's nets do.
        A window must start inside the image or its leading padding.

    Returns
    -------
    Tensor
        (N, C, OH, OW) with ``OH = ⌊(H + 2p − d(kh − 1) − 1)/s⌋ + 1``, or ⌈·⌉ in ceil mode.  NaN in a window gives NaN.

    Raises
    ------
    GeometryError
        If no window fits, the padding is too wide, or a dilated window has no cell on the image.

    Examples
    --------
    The 9 lies in no complete window of two.  Without ceil mode, it is lost.

    >>> import numpy as np, minifcn as mf
    >>> row = np.array([[[[4.0, 1.0, 3.0, 2.0, 9.0]]]])
    >>> mf.ops.max_pool2d(row, (1, 2)).numpy().tolist()
    [[[[4.0, 3.0]]]]
    >>> mf.ops.max_pool2d(row, (1, 2), ceil_mode=True).numpy().tolist()
    [[[[4.0, 3.0, 9.0]]]]
    """
    parameters = dict(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
    return MaxPool2d.apply(x, **parameters)


def avg_pool2d(
    x: Operand, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, dilation: Pair = 1,
) -> Tensor:  # fmt: skip
    """The mean of each window.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W).
    kernel_size, stride, padding, dilation : int or (h, w)
    ceil_mode : bool
        As in :func:`max_pool2d`.
    count_include_pad : bool
        True: divide by the window's area inside the padded image (Caffe's rule).  False: inside the image alone.
    """
    parameters = dict(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
    return AvgPool2d.apply(x, **parameters, ceil_mode=ceil_mode, count_include_pad=count_include_pad)
