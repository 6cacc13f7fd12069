"""The smallest input that fails a check, written as code that a student copies into the notebook and runs."""

import copy
import inspect
import json
import sys
from numbers import Number

import numpy as np

from . import probes, wire

LITERAL = 48  # elements; a longer array is written as a draw from a random generator
LONGEST = 1500  # characters of code
CALLED = ("call", "whole", "numbers")  # probes whose arguments are those of the answer
SHOWN = 64  # elements of a result that is shown as numbers


class Generator(np.random.Generator):
    """A random generator whose normal numbers have four decimals, so that a student can read a small input.

    An array in which two numbers would become equal is not rounded: ties have more than one right answer.
    """

    def standard_normal(self, *args, **kwargs):
        exact = super().standard_normal(*args, **kwargs)
        rounded = np.round(exact, 4)
        if np.unique(rounded).size < np.size(exact):
            return exact
        return np.asarray(rounded) if isinstance(exact, np.ndarray) else rounded


def size(case):
    """The count of numbers in the arrays of a case."""
    return sum(a.size for a in _arrays(case.args))


def _arrays(value):
    if isinstance(value, tuple | list):
        return [a for v in value for a in _arrays(v)]
    return [value] if isinstance(value, np.ndarray) else []


def simpler(case):
    """Versions of a case with a simpler input, the simplest first; none if its right result is known for it alone.

    A simpler input has one sample instead of several, numbers with two decimals, and large arrays that a line of code
    draws.  The caller keeps a version only if the library accepts it and the submission still fails.
    """
    if case.judge or case.raises or case.seconds:
        return
    network = case.probe not in (*CALLED, "function", "forward", "update")
    single = _first_sample(case.args)
    for args in ([single] if single else []) + [case.args]:
        other = copy.copy(case)
        other.args = _plain(args, network)
        yield other


def _first_sample(args):
    """`args` with the first sample only of every map that has several; None if the maps do not agree."""
    counts = {a.shape[0] for a in _arrays(args) if a.ndim > 2}
    many = counts - {0, 1}
    if len(many) != 1:
        return None
    (n,) = many

    def cut(value):
        if isinstance(value, np.ndarray):
            if value.ndim > 2 and len(value) == n:
                return value[:1].copy() if value.flags.c_contiguous else wire.hollow(value[:1])
            return value
        shape = isinstance(value, tuple) and len(value) == 4 and all(type(v) is int for v in value)
        if shape and value[0] == n:
            return (1, *value[1:])
        return tuple(map(cut, value)) if isinstance(value, tuple) else value

    return tuple(map(cut, args))


def _plain(value, network):
    """`value` with each array of floats rounded, or drawn if it is large; for a network, its labels too."""
    if isinstance(value, tuple | list):
        return type(value)(_plain(v, network) for v in value)
    if not isinstance(value, np.ndarray):
        return value
    if value.size > LITERAL and (value.dtype.kind == "f" or (network and value.dtype.kind in "iu")):
        plain = _drawn(value)
    elif value.dtype.kind == "f":
        plain = np.asarray(np.round(value, 2))
    else:
        return value
    return plain if value.flags.c_contiguous else wire.hollow(plain)


def _drawn(array):
    """An array of the same shape and dtype that the code of :func:`_written` draws."""
    rng = np.random.default_rng(0)
    if array.dtype.kind == "f":
        return rng.standard_normal(array.shape).astype(array.dtype)
    return rng.integers(0, _classes(array), array.shape)


def _classes(labels):
    return int(labels[labels < 255].max(initial=0)) + 1


def code(task, case, parameters):
    """The lines that call the answer with the input of `case`; "" if they would be too long or cannot be written.

    Parameters
    ----------
    task : Task
    case : Case
    parameters : sequence of str
        The names of the answer's parameters.
    """
    if task.cuda:
        return ""
    direct = case.probe in CALLED
    names = list(parameters if direct else inspect.signature(getattr(probes, case.probe)).parameters)[not direct :]
    lines, taken = [], set()
    try:
        values = [
            _argument(value, names[i] if i < len(names) else f"x{i + 1}", lines, taken)
            for i, value in enumerate(case.args)
        ]
    except _CannotWrite:
        return ""
    answer = task.answer if isinstance(task.answer, str) else f"dict({', '.join(f'{n}={n}' for n in task.answers)})"
    if direct:
        lines.append(f"{answer}({', '.join(values)})")
    else:
        lines.insert(0, "from minifcn.course import probes\n")
        lines.append(f"probes.{case.probe}({', '.join([answer, *values])})")
    text = "\n".join(lines)
    if "nan" in text or "inf" in text:
        text = f"from numpy import inf, nan\n\n{text}"
    return text if len(text) <= LONGEST else ""


class _CannotWrite(Exception):
    """An argument that no short line of code makes."""


def _argument(value, name, lines, taken):
    """The expression of an argument; an array or a function gets a line of its own before it, under its name."""
    if isinstance(value, np.ndarray):
        name = next(n for n in (name, *(f"{name}{i}" for i in range(2, 99))) if n not in taken)
        taken.add(name)
        lines.append(f"{name} = {_written(value, len(name) + 3)}")
        return name
    if isinstance(value, tuple | list):
        inside = [_argument(v, name.rstrip("s"), lines, taken) for v in value]
        if isinstance(value, list):
            return f"[{', '.join(inside)}]"
        return f"({', '.join(inside)}{',' * (len(inside) == 1)})"
    if isinstance(value, np.ufunc):
        return f"np.{value.__name__}"
    if inspect.isfunction(value):
        lines.append(_source(value))
        return value.__name__
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k!r}: {_argument(v, str(k), lines, taken)}' for k, v in value.items())}}}"
    if isinstance(value, np.generic) and isinstance(value.item(), Number):
        return repr(value.item())
    raise _CannotWrite


def _written(array, indent):
    """The expression that makes `array`."""
    if not array.flags.c_contiguous:
        return f"np.repeat({_written(array.copy(order='C'), indent + 10)}, 2, -1)[..., ::2]  # not contiguous in memory"
    kind = array.dtype.kind
    dtype = "" if array.dtype in ("float64", "int64", "bool") else f'"{array.dtype}"'
    if array.size == 0:
        return f"np.zeros({array.shape}, {dtype or repr(str(array.dtype))})"
    if array.size > LITERAL and kind in "fiu" and np.array_equal(array, _drawn(array)):
        if kind == "f":
            return f"np.random.default_rng(0).standard_normal({array.shape})" + f".astype({dtype})" * bool(dtype)
        return f"np.random.default_rng(0).integers(0, {_classes(array)}, {array.shape})"
    text = np.array2string(
        array, separator=", ", threshold=sys.maxsize, max_line_width=100, floatmode="unique", prefix=" " * (indent + 9)
    )
    return f"np.array({text}{f', {dtype}' * bool(dtype)})"


def _source(function):
    """The source of a function that uses nothing but its parameters and NumPy."""
    used = {name for name in function.__code__.co_names if name in function.__globals__}
    if function.__closure__ or function.__name__ == "<lambda>" or used - {"np"}:
        raise _CannotWrite
    return f"{inspect.getsource(function).strip()}\n"


def as_text(array):
    """A result as numbers; "" if there are too many."""
    if array.size > SHOWN:
        return ""
    return np.array2string(array, separator=", ", precision=4, suppress_small=True, max_line_width=60)
