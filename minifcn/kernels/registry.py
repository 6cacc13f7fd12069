"""The kernel table: one contract, several implementations, chosen when the kernel is *called*.

The first that applies is chosen: inside ``shapes_only()``, the stand-in that computes nothing; the active ``override``;
the special version for the array's owner (NumPy or CuPy); the textbook version, which runs on both.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

from ..arrays import backend
from ..arrays.setting import Setting
from ..arrays.types import Array

KERNELS: dict[str, "Kernel"] = {}  # every kernel by name
FUNCTIONS: set[str] = set()  # the names of the operations (core.Function subclasses), which can be overridden too
# never changed in place: override() sets a new dict
_overrides: ContextVar[dict[str, Any]] = ContextVar("overrides", default={})  # noqa: B039
_shapes_only = ContextVar("shapes_only", default=False)

Implementation: TypeAlias = Callable[..., Any]
"""A version of a kernel: ``f(array, *arrays, *shapes, *pairs and numbers) -> array or tuple of arrays``.

Each kernel's function in ``reference.py`` defines its parameters and results.  All are passed by position, pairs are
(h, w), and the arrays are NumPy's or CuPy's, all of one library; the results are of the same library.
"""


class Kernel:
    """A function of arrays with one contract and several implementations.

    Parameters
    ----------
    name : str
    reference, textbook, shapes : callable
        The definition in loops; the vectorised version for NumPy and CuPy; the zero-stride stand-in.
    numpy, cupy : dict of {str: callable}
        Special versions for the arrays of one library, by name; the first is that library's default.
    compiled : dict of {str: callable}
        The version in compiled loops, which is then the default for NumPy's arrays; without it, ``"numpy"`` is.
    """

    def __init__(
        self, name: str, reference: Implementation, textbook: Implementation, shapes: Implementation,
        numpy: Any = (), cupy: Any = (), compiled: Any = (),
    ) -> None:  # fmt: skip
        self.name, self.shapes, self.textbook = name, shapes, textbook
        self.everywhere = {"textbook": textbook, "reference": reference}
        plain = dict(numpy) or {"textbook": textbook}
        self.special = {"numpy": {**dict(compiled), **dict(numpy)}, "cupy": dict(cupy)}
        self.fastest_numpy = next(iter(plain.values()))
        self.default: defaultdict[str, Implementation] = defaultdict(lambda: textbook)  # by the owner of an array
        self.default |= {owner: next(iter(versions.values())) for owner, versions in self.special.items() if versions}
        self.__doc__ = reference.__doc__
        KERNELS[name] = self

    def __call__(self, array: Array, *args: Any) -> Any:
        return self.choose(array)(array, *args)

    def __repr__(self) -> str:
        return f"<kernel {self.name}: {', '.join(self.implementations('numpy'))}>"

    def implementations(self, owner: str = "numpy") -> dict[str, Implementation]:
        """The implementations for arrays of `owner` as {name: function}, the default first."""
        return {**self.special.get(owner, {}), **self.everywhere}

    def is_compiled(self, array: Array) -> bool:
        """Whether the compiled version is chosen for `array`, and no kernel and no operation is overridden."""
        compiled = self.implementations("numpy").get("compiled")
        return compiled is not None and not is_overridden() and self.choose(array) is compiled

    def choose(self, array: Array) -> Implementation:
        """The implementation that a call with `array` runs."""
        if _shapes_only.get():
            return self.shapes
        overrides, owner = _overrides.get(), backend.of(array).__name__
        if not overrides:
            return self.default[owner]
        chosen: Any = overrides.get(self.name)
        if callable(chosen):
            return chosen
        if chosen is None and self.name.startswith("conv2d") and ("im2col" in overrides or "col2im" in overrides):
            return self.textbook  # only this convolution calls im2col and col2im, so only it uses the given function
        if chosen == "numpy" == owner:
            return self.fastest_numpy
        return self.implementations(owner).get(chosen) or self.default[owner]


@contextmanager
def override(**implementations: str | Implementation) -> Iterator[None]:
    """Replace kernels or operations inside a ``with`` block, in the current thread or task only.

    Parameters
    ----------
    **implementations
        ``kernel=callable``: your function, with the signature of the kernel.  ``kernel="name"``: one of
        ``mf.kernels.implementations(kernel)``, for the kernel and for those of its gradients that have it; "numpy" is
        the default without Numba.  Inside any override, a layer and the ReLU after it are two operations.
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
            raise ValueError(f"no kernel or operation is called {name!r}: the kernels are {', '.join(KERNELS)}")
        elif callable(chosen):
            if name in ("im2col", "col2im"):  # an outer override of conv2d would bypass the given function
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
    """The names of the kernel `name` and of those of its gradients that have an implementation called `chosen`."""
    available = {
        n: [*(label for o in k.special for label in k.implementations(o)), "numpy"] for n, k in KERNELS.items()
    }
    if chosen not in available[name]:
        names = ", ".join(dict.fromkeys(available[name]))
        raise ValueError(f"kernel {name!r} has no implementation {chosen!r}: choose from {names}, or give a function")
    return [n for n in KERNELS if (n == name or n.startswith(name + "_grad")) and chosen in available[n]]


def is_overridden() -> bool:
    """Whether the current thread or task is inside :func:`override`."""
    return bool(_overrides.get())


def overridden(name: str, default: type) -> Any:
    """The operation that replaces the one called `name`, or `default` without an override."""
    return _overrides.get().get(name, default)


def shapes_only() -> AbstractContextManager[None]:
    """Run a model of any size for its shapes and its geometry only: without arithmetic, in almost no memory."""
    return Setting(_shapes_only, True)


def is_shapes_only() -> bool:
    """Whether the current thread or task is inside :func:`shapes_only`."""
    return _shapes_only.get()
