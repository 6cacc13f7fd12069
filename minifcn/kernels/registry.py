"""The kernel table: one contract, several implementations, chosen when the kernel is *called*.

The choice, in this order: nothing is computed inside ``shapes_only()``; else the active ``override``; else the special
version for the array's owner (NumPy, CuPy); else the textbook version, which runs on both.
"""

from collections import defaultdict
from contextlib import contextmanager
from contextvars import ContextVar

from ..arrays import backend

KERNELS = {}  # every kernel by name
FUNCTIONS = set()  # the names of the operations (core.Function subclasses), which can be overridden too
_overrides = ContextVar("overrides", default={})  # noqa: B039  never mutated: every override() sets a new dict
_shapes_only = ContextVar("shapes_only", default=False)


class Kernel:
    """A function of arrays with one contract and several implementations.

    Parameters
    ----------
    name : str
    reference, textbook, shapes : callable
        The definition in loops; the vectorised version for every array library; the zero-stride stand-in.
    numpy, cupy : dict of {str: callable}
        Special versions for one owner, by name; the first is that owner's default.
    """

    def __init__(self, name, reference, textbook, shapes, numpy=(), cupy=()):
        self.name, self.shapes, self.textbook = name, shapes, textbook
        self.everywhere = {"textbook": textbook, "reference": reference}
        self.special = {"numpy": dict(numpy), "cupy": dict(cupy)}
        self.default = defaultdict(lambda: textbook)  # for the owner of an array
        self.default |= {owner: next(iter(versions.values())) for owner, versions in self.special.items() if versions}
        self.__doc__ = reference.__doc__
        KERNELS[name] = self

    def __call__(self, array, *args):
        return self.choose(array)(array, *args)

    def __repr__(self):
        return f"<kernel {self.name}: {', '.join(self.implementations('numpy'))}>"

    def implementations(self, owner="numpy"):
        """The implementations for arrays of `owner`, by name, the default first."""
        return {**self.special.get(owner, {}), **self.everywhere}

    def choose(self, array):
        """The implementation a call with `array` runs."""
        if _shapes_only.get():
            return self.shapes
        overrides, owner = _overrides.get(), backend.of(array).__name__
        if not overrides:
            return self.default[owner]
        chosen = overrides.get(self.name)
        if callable(chosen):
            return chosen
        if chosen is None and self.name.startswith("conv2d") and ("im2col" in overrides or "col2im" in overrides):
            return self.textbook  # the one convolution built on im2col and col2im: the given function is really used
        return self.implementations(owner).get(chosen) or self.default[owner]


@contextmanager
def override(**implementations):
    """Run kernels or operations by other implementations, inside a ``with`` block (in this thread or task only).

    Parameters
    ----------
    **implementations
        ``kernel=callable``: your function, with the kernel's own signature.  ``kernel="name"``: one of
        ``mf.kernels.implementations(kernel)``, for the kernel and, where they have it, its gradients.
        ``Operation=Class``: your ``Function`` subclass in place of the operation of that name.

    Examples
    --------
    >>> import minifcn as mf
    >>> with mf.override(conv2d="reference"):
    ...     y = mf.ops.conv2d([[[[1.0, 2.0]]]], [[[[3.0]]]])
    >>> y.numpy().tolist()
    [[[[3.0, 6.0]]]]
    """
    table = dict(_overrides.get())
    for name, chosen in implementations.items():
        if name in FUNCTIONS:
            if not isinstance(chosen, type):
                raise ValueError(f"override({name}=...) takes a Function subclass, got {chosen!r}")
            table[name] = chosen
        elif name not in KERNELS:
            raise ValueError(f"nothing is called {name!r}: kernels are {', '.join(KERNELS)}; or name an operation")
        elif callable(chosen):
            if name in ("im2col", "col2im"):  # the convolution built on it shall run, whatever was named outside
                table = {k: v for k, v in table.items() if not k.startswith("conv2d")}
            table[name] = chosen
        else:
            table.update(dict.fromkeys(_family(name, chosen), chosen))
    token = _overrides.set(table)
    try:
        yield
    finally:
        _overrides.reset(token)


def _family(name, chosen):
    """The kernel `name` and its gradients, those that have an implementation called `chosen`."""
    having = {n: [label for o in k.special for label in k.implementations(o)] for n, k in KERNELS.items()}
    if chosen not in having[name]:
        names = ", ".join(dict.fromkeys(having[name]))
        raise ValueError(f"kernel {name!r} has no implementation {chosen!r}: choose from {names}, or give a function")
    return [n for n in KERNELS if (n == name or n.startswith(name + "_grad")) and chosen in having[n]]


def overridden(name, default):
    """The operation that stands in for the one called `name`."""
    return _overrides.get().get(name, default)


@contextmanager
def shapes_only():
    """Run a model for its shapes and its geometry alone: no arithmetic, next to no memory, whatever its size."""
    token = _shapes_only.set(True)
    try:
        yield
    finally:
        _shapes_only.reset(token)


def is_shapes_only():
    """Whether we are inside :func:`shapes_only`."""
    return _shapes_only.get()
