"""A snapshot of CuPy's names and parameters: ``python tests/gpu/snapshot.py`` writes cupy_api.json beside this file.

It needs CuPy, but no GPU.  strict_cupy.py offers only what is in the snapshot.
"""

import inspect
import json
import re
from pathlib import Path

FILE = Path(__file__).with_name("cupy_api.json")


def take(cupy):
    """The public functions, ufuncs, methods and constants of `cupy`, with the names of their parameters.

    Returns
    -------
    dict
        ``functions`` and ``methods`` map a name to its parameters, "a axis dtype", or None if they are unknown;
        ``ufuncs`` and ``names`` (types, constants) are lists.
    """
    public = {n: getattr(cupy, n) for n in sorted(dir(cupy)) if not n.startswith("_")}
    ufuncs = [n for n, f in public.items() if isinstance(f, cupy.ufunc)]
    names = [n for n, f in public.items() if not inspect.ismodule(f) and (inspect.isclass(f) or not callable(f))]
    functions = {n: parameters(f) for n, f in public.items() if callable(f) and n not in ufuncs and n not in names}
    methods = {n: getattr(cupy.ndarray, n) for n in sorted(dir(cupy.ndarray)) if not n.startswith("_")}
    methods = {n: parameters(f) for n, f in methods.items() if callable(f)}
    return dict(cupy=cupy.__version__, functions=functions, methods=methods, ufuncs=ufuncs, names=names)


def parameters(function):
    """The names of a function's parameters, such as "a axis *args **kwargs"; None if they are unknown."""
    try:
        found = inspect.signature(function).parameters.values()
        stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
        names = [stars.get(p.kind, "") + p.name for p in found]
    except (ValueError, TypeError):  # compiled: its docstring begins with the signature
        match = re.match(r"[\w.]*\(([^)]*)\)", (function.__doc__ or "").strip())
        if match is None:
            return None
        names = [p.split("=")[0].split(":")[0].split()[-1].replace("\\", "") for p in match[1].split(",") if p.strip()]
    return " ".join(n for n in names if n not in ("self", "/", "*"))


def write(api):
    """Write the snapshot with one name per line, so that a diff is legible."""
    FILE.write_text(json.dumps(api, indent=0) + "\n")


if __name__ == "__main__":
    import cupy

    write(take(cupy))
    print(f"{FILE}: CuPy {cupy.__version__}")
