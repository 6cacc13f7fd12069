"""Random inputs for hidden tests: arrays of every dtype and memory layout, and windows whose pairs are uneven."""

from . import wire

KINDS = ("float64", "float32", "float64, not contiguous", "float32, not contiguous")


def array(rng, shape, kind="float64"):
    """Random normal numbers; `kind` is a text that contains one of KINDS."""
    numbers = rng.standard_normal(shape).astype("float32" if "float32" in kind else "float64")
    return wire.hollow(numbers) if "not contiguous" in kind and numbers.ndim else numbers


def uneven(rng, least, most):
    """A pair of two different numbers from `least` to `most`."""
    return tuple(map(int, rng.choice(range(least, most + 1), 2, replace=False)))


def window(rng, largest_padding=None):
    """A random window: (size of the image, kernel, stride, padding, dilation).

    Each pair is uneven, but half of the images are square.

    Parameters
    ----------
    rng : numpy.random.Generator
    largest_padding : callable, optional
        The largest padding along an axis, given the kernel there; by default 2.
    """
    kernel, stride, dilation = uneven(rng, 1, 3), uneven(rng, 1, 3), uneven(rng, 1, 2)
    if largest_padding is None:
        padding = uneven(rng, 0, 2)
    else:
        padding = tuple(int(rng.integers(0, largest_padding(k) + 1)) for k in kernel)
    size = tuple(d * (k - 1) + 1 + more for k, d, more in zip(kernel, dilation, uneven(rng, 0, 4)))
    if rng.random() < 0.5:
        size = (max(size),) * 2
    return size, kernel, stride, padding, dilation


def told(size, kernel, stride, padding, dilation):
    """A window in words, for the label of a case."""
    (h, w), (kh, kw) = size, kernel
    return f"{h}×{w} cells, windows of {kh}×{kw}, stride {stride}, padding {padding}, dilation {dilation}"
