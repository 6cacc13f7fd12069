"""The hyper-parameters of a convolution as one value, which the algorithms of this folder pass on."""

from typing import NamedTuple

from ... import shapes


class Window(NamedTuple):
    """How the windows of a convolution lie on its input; pairs are (h, w)."""

    kernel_size: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int

    def out_size(self, x_shape):
        """The size (OH, OW) of the output for an input of shape (N, C, H, W)."""
        return shapes.conv_sizes(x_shape, self.kernel_size, self.stride, self.padding, self.dilation)

    def reach(self, size, out_size):
        """The extent [h, w] of a padded input of `size` and of all windows over it."""
        return shapes.reach(size, out_size, self.kernel_size, self.stride, self.padding, self.dilation)

    def adjoint(self):
        """The window of the input gradient as a convolution of gy, or None if it is none (stride, wide padding)."""
        around = tuple(d * (k - 1) - p for d, k, p in zip(self.dilation, self.kernel_size, self.padding))
        if tuple(self.stride) != (1, 1) or min(around) < 0:
            return None
        return Window(self.kernel_size, self.stride, around, self.dilation, self.groups)
