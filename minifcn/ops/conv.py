"""Convolution and transposed convolution, computed by the same three kernels, which are adjoint to each other.

Let A: x ↦ y be the convolution with kernel w.  ``conv2d_grad_input`` is its adjoint Aᵀ in x, and ``conv2d_grad_weight``
its adjoint in w.  The forward pass of the transposed convolution is Aᵀ (§3.3: "backwards convolution").  So its
gradient in x is A, and its gradient in w is ``conv2d_grad_weight`` with x and gy exchanged.  The textbook convolution
is built from im2col and col2im; these are operations, too, and adjoint to each other.
"""

from math import inf, prod

from .. import kernels as K
from ..arrays import backend, buffers
from ..arrays.types import Pair
from ..engine.core import Function, Operand, Tensor, watchers
from ..kernels.shapes import conv_sizes, deconv_size, pair, require_maps


class Convolution(Function):
    """The base class of both convolutions: the hyper-parameters of A, the bias and the operation count."""

    def _set(self, stride, padding, dilation, groups):
        self.stride, self.padding = pair(stride, 1, "stride"), pair(padding, 0, "padding")
        self.dilation, self.groups = pair(dilation, 1, "dilation"), groups

    @property
    def _where(self):
        return self.stride, self.padding, self.dilation, self.groups

    def _finish(self, y, x, w, b):
        """Save the operands, and return `y` plus the bias."""
        self.save(x, w)
        self.biased = b is not None
        if not self.biased or K.is_shapes_only():
            return y
        return K.add_bias(_writable(y, x), b)

    def _gradients(self, gx, gw, gy):
        return (gx, gw, K.channel_sums(gy)) if self.biased else (gx, gw)

    def count(self, out_shape, x_shape, w_shape, b_shape=None):
        return prod(out_shape) if b_shape else 0

    def symbols(self):
        x, w = self.in_shapes[:2]
        letters = dict(zip("NCHW", x), O=self.out_shape[1], k=w[2:], s=self.stride, p=self.padding, d=self.dilation)
        return letters | ({"groups": self.groups} if self.groups > 1 else {})


class Conv2d(Convolution):
    formula = "y[n,o,i,j] = b[o] + Σ_{c,u,v} w[o,c,u,v] · x[n, c, s·i − p + d·u, s·j − p + d·v]"

    def __init__(self, stride=1, padding=0, dilation=1, groups=1):
        self._set(stride, padding, dilation, groups)

    def forward(self, x, w, b=None):
        require_maps("conv2d", x, w)
        _check_channels("conv2d", x, w, x.shape[1], w.shape[1] * self.groups, w.shape[0], self.groups, b)
        return self._finish(K.conv2d(x, w, *self._where), x, w, b)

    def backward(self, gy):
        return self._gradients(*self._of_operands(gy, *self.saved), gy)

    def _of_operands(self, gy, x, w):
        """The gradients of x and w, None for one that is not needed."""
        gx = K.conv2d_grad_input(gy, w, x.shape, *self._where) if self.needs[0] else None
        gw = K.conv2d_grad_weight(gy, x, w.shape, *self._where) if self.needs[1] else None
        return gx, gw

    def count_macs(self, out_shape, x_shape, w_shape, b_shape=None):
        return prod(out_shape) * prod(w_shape[1:])

    def locate(self, axis, place):
        kernel = self.in_shapes[1][axis + 2]
        return place.window(kernel, self.stride[axis], self.padding[axis], self.dilation[axis])


class ConvReLU2d(Conv2d):
    """:class:`Conv2d` with a bias, and the ReLU after it, as one operation.

    It keeps no map from before the ReLU.  Its results are those of the two operations, bit by bit.
    Layers run it instead of the two if nothing watches the forward pass: see :func:`fuses`.

    Parameters
    ----------
    most : float
        The upper limit: ∞ for ReLU, 6 for ReLU6.
    """

    formula = "y[n,o,i,j] = min(max(b[o] + Σ_{c,u,v} w[o,c,u,v] · x[n, c, s·i − p + d·u, s·j − p + d·v], 0), most)"

    def __init__(self, stride=1, padding=0, dilation=1, groups=1, most=inf):
        super().__init__(stride, padding, dilation, groups)
        self.most = most

    def _finish(self, y, x, w, b):
        y = K.bias_relu(_writable(y, x), b, self.most)
        self.save(x, w, y)  # the next layer saves y, too, so it needs no additional memory
        return y

    def backward(self, gy):
        x, w, y = self.saved
        gy, gb = K.bias_relu_grad(gy, y, self.most)
        return *self._of_operands(gy, x, w), gb

    def count(self, out_shape, *in_shapes):
        return 2 * prod(out_shape)


def fuses(x: Tensor, w: Tensor, b: Tensor) -> bool:
    """Whether a convolution of `x` and the ReLU after it may run as one :class:`ConvReLU2d`.

    They do for NumPy's arrays of one type, float32 or float64, of which none is empty, if no kernel or operation is
    overridden and nothing watches the operations (``mf.trace()`` and others).
    """
    if K.is_overridden() or K.is_shapes_only() or watchers.get():
        return False
    arrays = x.data, w.data, b.data
    alike = all(backend.device(a) == "cpu" and a.dtype == x.dtype and a.size for a in arrays)
    return alike and x.dtype in ("float32", "float64")


class ConvTranspose2d(Convolution):
    formula = "y = b + Aᵀx, with A the convolution of the same w:  y[n, o, s·i − p + d·u] += w[c, o, u] · x[n, c, i]"

    def __init__(self, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        self._set(stride, padding, dilation, groups)
        self.output_padding = pair(output_padding, 0, "output_padding")

    def forward(self, x, w, b=None):
        require_maps("conv_transpose2d", x, w)
        outputs = w.shape[1] * self.groups
        _check_channels("conv_transpose2d", x, w, x.shape[1], w.shape[0], outputs, self.groups, b)
        sizes = zip(x.shape[2:], w.shape[2:], self.stride, self.padding, self.output_padding, self.dilation)
        y_shape = (len(x), outputs, *(deconv_size(*s) for s in sizes))
        more = [(0, 0), (0, 0), *((0, p // s) for p, s in zip(self.output_padding, self.stride))]
        if any(map(any, more)) and not K.is_shapes_only():
            x = backend.of(x).pad(x, more)  # A maps y to more cells than x has; the additional cells are 0
        return self._finish(K.conv2d_grad_input(x, w, y_shape, *self._where), x, w, b)

    def backward(self, gy):
        x, w = self.saved
        gx = K.conv2d(gy, w, *self._where)[(..., *map(slice, self.in_shapes[0][2:]))] if self.needs[0] else None
        gw = K.conv2d_grad_weight(x, gy, w.shape, *self._where) if self.needs[1] else None
        return self._gradients(gx, gw, gy)

    def count_macs(self, out_shape, x_shape, w_shape, b_shape=None):
        return prod(x_shape) * prod(w_shape[1:])

    def locate(self, axis, place):
        kernel = self.in_shapes[1][axis + 2]
        return place.spread(kernel, self.stride[axis], self.padding[axis], self.dilation[axis])


class Im2col(Function):
    formula = "cols[n, (c,u,v), (i,j)] = x[n, c, s·i − p + d·u, s·j − p + d·v]"

    def __init__(self, kernel_size, stride=1, padding=0, dilation=1):
        self.kernel_size, self.stride = pair(kernel_size, 1, "kernel_size"), pair(stride, 1, "stride")
        self.padding, self.dilation = pair(padding, 0, "padding"), pair(dilation, 1, "dilation")

    def forward(self, x):
        self.save(x.shape)
        return K.im2col(x, self.kernel_size, self.stride, self.padding, self.dilation)

    def backward(self, gy):
        (x_shape,) = self.saved
        return K.col2im(gy, x_shape, self.kernel_size, self.stride, self.padding, self.dilation)


class Col2im(Function):
    formula = "x[n, c, s·i − p + d·u, s·j − p + d·v] += cols[n, (c,u,v), (i,j)]"

    def __init__(self, size, kernel_size, stride=1, padding=0, dilation=1):
        self.size, self.kernel_size = pair(size, 1, "size"), pair(kernel_size, 1, "kernel_size")
        self.stride = pair(stride, 1, "stride")
        self.padding, self.dilation = pair(padding, 0, "padding"), pair(dilation, 1, "dilation")

    def forward(self, cols):
        taps = self.kernel_size[0] * self.kernel_size[1]
        x_shape = (len(cols), cols.shape[1] // taps, *self.size)
        windows = prod(conv_sizes(x_shape, self.kernel_size, self.stride, self.padding, self.dilation))
        if cols.shape[1] % taps or cols.shape[2] != windows:
            raise ValueError(
                f"columns of shape {cols.shape} do not fit {windows} windows of {self.kernel_size} on {self.size}: "
                f"give (N, C·{taps}, {windows})"
            )
        return K.col2im(cols, x_shape, self.kernel_size, self.stride, self.padding, self.dilation)

    def backward(self, gy):
        return K.im2col(gy, self.kernel_size, self.stride, self.padding, self.dilation)


def _writable(y, x):
    """y if it is an array of its own, else a copy: a kernel may return x, or a view of an array that is in use."""
    return y if buffers.is_whole(y) and y is not x else y.copy()


def _check_channels(op, x, w, given, expected, outputs, groups, b):
    if groups < 1 or given != expected or given % groups or outputs % groups:
        raise ValueError(
            f"{op}: x has {given} channels, and w of shape {w.shape} with groups={groups} takes {expected} and gives "
            f"{outputs}: x must have as many as w takes, and groups must divide both numbers"
        )
    if b is not None and b.shape != (outputs,):
        raise ValueError(f"{op}: the bias has shape {b.shape}, expected ({outputs},)")
    backend.of(x, w)


def conv2d(
    x: Operand, w: Operand, b: Operand | None = None, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """Cross-correlation of x with w: eq. (1) of the paper, where f is a dot product.

    ``y[n,o,i,j] = b[o] + Σ_{c,u,v} w[o,c,u,v] · x[n, c, s·i − p + d·u, s·j − p + d·v]``, where x is zero outside.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W).
    w : Tensor
        (O, C/groups, kh, kw).
    b : Tensor, optional
        (O,).
    stride, padding, dilation : int or (h, w)
    groups : int
        The channels are split into this many groups that do not mix: 2 in AlexNet's conv2, 4 and 5; C for depthwise.

    Returns
    -------
    Tensor
        (N, O, OH, OW) with ``OH = ⌊(H + 2p − d(kh − 1) − 1)/s⌋ + 1``.

    Raises
    ------
    ValueError
        If channels, groups or sizes do not fit.

    Examples
    --------
    >>> import numpy as np, minifcn as mf
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> y = mf.ops.conv2d(x, np.array([[[[1.0, 0.0], [0.0, -1.0]]]]), stride=2)  # minus the diagonal neighbour
    >>> y.numpy()[0, 0].tolist()
    [[-5.0, -5.0], [-5.0, -5.0]]
    """
    inputs = (x, w) if b is None else (x, w, b)
    return Conv2d.apply(*inputs, stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv_transpose2d(
    x: Operand, w: Operand, b: Operand | None = None, stride: Pair = 1, padding: Pair = 0, output_padding: Pair = 0,
    groups: int = 1, dilation: Pair = 1,
) -> Tensor:  # fmt: skip
    """Transposed convolution, the paper's "backwards (fractionally) strided convolution" (§3.3): y = b + Aᵀx.

    Input cell i adds ``w[c, o, u] · x[c, i]`` to output cell ``s·i − p + d·u``.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W).
    w : Tensor
        (C, O/groups, kh, kw): the weight of the convolution A, which maps y's shape to x's.
    b : Tensor, optional
        (O,).
    stride, padding, dilation : int or (h, w)
        The parameters of A.
    output_padding : int or (h, w)
        The number of additional rows and columns at the end of y, smaller than the stride or the dilation.  A maps
        several sizes of y to the same size of x; this chooses among them.
    groups : int

    Returns
    -------
    Tensor
        (N, O, OH, OW) with ``OH = s(H − 1) + d(kh − 1) + 1 − 2p + output_padding``.

    Raises
    ------
    ValueError
        If channels, groups or sizes do not fit.

    Examples
    --------
    Each number becomes a scaled copy of the kernel; copies add up where they overlap.

    >>> import numpy as np, minifcn as mf
    >>> y = mf.ops.conv_transpose2d(np.array([[[[1.0, 10.0]]]]), np.array([[[[1.0, 2.0, 3.0]]]]), stride=(1, 2))
    >>> y.numpy().tolist()
    [[[[1.0, 2.0, 13.0, 20.0, 30.0]]]]
    """
    inputs = (x, w) if b is None else (x, w, b)
    parameters = dict(stride=stride, padding=padding, output_padding=output_padding, groups=groups, dilation=dilation)
    return ConvTranspose2d.apply(*inputs, **parameters)


def im2col(x: Operand, kernel_size: Pair, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1) -> Tensor:
    """Copy every window of x into a column: (N, C, H, W) -> (N, C·kh·kw, OH·OW).  Its gradient is :func:`col2im`."""
    return Im2col.apply(x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)


def col2im(
    cols: Operand, size: Pair, kernel_size: Pair, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1
) -> Tensor:
    """Add every column to the cells of its window on an image of `size`: (N, C·kh·kw, OH·OW) -> (N, C, H, W).

    This is the adjoint of :func:`im2col`, not its inverse: a cell of several windows gets the sum of its values.

    Parameters
    ----------
    cols : Tensor
        (N, C·kh·kw, OH·OW).
    size : (int, int)
        H and W of the image.
    kernel_size, stride, padding, dilation : int or (h, w)
        The parameters of the windows.

    Raises
    ------
    ValueError
        If the number of columns is not the number of windows, or their length is no multiple of kh·kw.
    """
    parameters = dict(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
    return Col2im.apply(cols, size=size, **parameters)
