"""The hyper-parameters of a convolution as one value, for the algorithms of this folder."""

from typing import NamedTuple

from ...shapes import conv_sizes, reach


class Window(NamedTuple):
    """How the windows of a convolution lie on its input; pairs are (h, w)."""

    kernel_size: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int

    def out_size(self, x_shape):
        """The size (OH, OW) of the output for an input of shape (N, C, H, W)."""
        kernel_size, stride, padding, dilation, _ = self
        return conv_sizes(x_shape, kernel_size, stride, padding, dilation)

    def extent(self, size, out_size):
        """The extent [h, w] of a map that holds an input of `size`, its leading padding, and all windows."""
        kernel_size, stride, padding, dilation, _ = self
        return reach(size, out_size, kernel_size, stride, padding, dilation)

    @property
    def taps(self):
        """The number of cells of the kernel."""
        return self.kernel_size[0] * self.kernel_size[1]

    def adjoint(self):
        """The window with which the input gradient is a convolution of gy with the flipped kernel.

        None if it is no such convolution: at a stride above 1, or with a padding wider than the kernel's extent − 1.
        """
        kernel_size, stride, padding, dilation, groups = self
        around = tuple(d * (k - 1) - p for d, k, p in zip(dilation, kernel_size, padding))
        if tuple(stride) != (1, 1) or min(around) < 0:
            return None
        return Window(kernel_size, stride, around, dilation, groups)
