"""Explanations of operations: the formula, also in LaTeX, with the numbers of one call."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..arrays import backend
from ..arrays.types import Shape
from ..errors import shown
from .axis_maps import AxisMap

SIGNS = {
    " · ": r" \cdot ", "·": r" \cdot ", "−": "-", "²": "^2", "ᵀ": r"^{\mathsf T}", "Σ": r"\sum", "√": r"\sqrt",
    "…": r"\ldots", "∞": r"\infty ", "₁": "_1", "₂": "_2", "~": r"\sim ",
}  # fmt: skip
FUNCTIONS = {"max": r"\max", "log": r"\log", "softmax": r"\operatorname{softmax}", "area": r"\text{area}"}
NAMES = {"gx", "gy", "gA", "gB", "gY", "cols", "scores", "label"}


def latex(formula):
    """A formula of the code in LaTeX.

    Parameters
    ----------
    formula : str

    Examples
    --------
    >>> latex("y[i] = Σ_{u} w[u] · x[i − u]")
    'y_{i} = \\\\sum_{u} w_{u} \\\\cdot x_{i - u}'
    """
    return r" \qquad ".join(map(_part, re.split(r"\s{2,}", formula)))


class Formula:
    """A class attribute with a formula; reading it replaces the signs that standard output cannot show."""

    def __init__(self, text):
        self.text = text

    def __get__(self, node, owner):
        return shown(self.text, in_files=False)  # a notebook or a page shows all signs


def _part(text):
    if text.startswith("(") and re.search(r"[a-z]{4}", text):
        return rf"\text{{{text}}}"
    text = re.sub(r"√\(([^)]*)\)", r"√{\1}", text)
    text = re.sub(r"\^\(([^)]*)\)", r"^{\1}", text)
    text = re.sub(r"\^(−\w)", r"^{\1}", text)
    while re.search(r"\w\[[^\[\]]*\]", text):
        text = re.sub(r"(\w)\[([^\[\]]*)\]", r"\1_{\2}", text)
    text = re.sub(r"[A-Za-z][A-Za-z']*(?: [a-z]{2,}\b)*", _words, text)
    for sign, code in SIGNS.items():
        text = text.replace(sign, code)
    return text


def _words(match):
    """The LaTeX of a run of words: names of functions and arrays are mathematics, other words are text."""
    words = match[0].split(" ")
    if all(len(word.strip("'")) == 1 or word in FUNCTIONS or word in NAMES for word in words):
        done = [FUNCTIONS.get(w, rf"{{\mathit{{{w}}}}}" if w in NAMES else w) for w in words]
        return " ".join(done) + (" " if words[-1] in FUNCTIONS else "")
    if len(words[0]) == 1 and len(words) > 1:  # "x where": a variable, then words
        return rf"{words[0]}\text{{ {' '.join(words[1:])} }}"
    return rf"\text{{ {match[0]} }}"


@dataclass(frozen=True)
class Explanation:
    """The formula of an operation, and the numbers and costs of one call.

    Attributes
    ----------
    name, operation : str
    formula : str
    symbols : dict
        The letters of the formula, with the numbers of this call.
    facts : dict
        Shapes, parameters, bytes, arithmetic and the position of the output, as text.
    """

    name: str
    operation: str
    formula: str
    symbols: dict
    facts: dict

    def __str__(self):
        head = self.operation if self.name == self.operation else f"{self.name}: {self.operation}"
        numbers = ", ".join(f"{letter} = {_one(value)}" for letter, value in self.symbols.items())
        width = max(map(len, self.facts), default=0)
        lines = [head, f"  {self.formula}", *([f"  with {numbers}"] if numbers else [])]
        return shown("\n".join([*lines, *(f"  {fact:<{width}}  {value}" for fact, value in self.facts.items())]))

    __repr__ = __str__

    def _repr_markdown_(self):
        head = f"**{self.name}** (`{self.operation}`)" if self.name != self.operation else f"**{self.operation}**"
        numbers = r",\ ".join(f"{_letter(letter)}={_one(value)}" for letter, value in self.symbols.items())
        rows = "\n".join(f"| {fact} | {value} |" for fact, value in self.facts.items())
        lines = [head, f"$$\n{latex(self.formula)}\n$$", *([f"with ${numbers}$"] if numbers else [])]
        return "\n\n".join([*lines, f"| | |\n|---|---|\n{rows}"])


class Described:
    """The base class that describes an operation, from its hyper-parameters and the shapes of its last call.

    :class:`~minifcn.engine.core.Function` documents `parameters`, `saved_bytes`, `macs` and `flops`.
    """

    formula: str
    name: str
    located_by: int | None
    in_shapes: list[Shape]
    out_shape: Shape
    _saved: tuple | None
    locate: Callable[..., AxisMap | None]
    count: Callable[..., int]
    count_macs: Callable[..., int]

    def __init_subclass__(cls):
        if "formula" in vars(cls):
            cls.formula = Formula(cls.formula)

    @property
    def parameters(self) -> dict[str, Any]:
        names = inspect.signature(type(self).__init__).parameters
        return {n: getattr(self, n) for n in names if n != "self" and hasattr(self, n)}

    @property
    def saved_bytes(self) -> int:
        arrays = {id(a): a.nbytes for a in (self._saved or ()) if backend.is_array(a)}
        return sum(arrays.values())

    @property
    def macs(self) -> int:
        return self.count_macs(self.out_shape, *self.in_shapes)

    @property
    def flops(self) -> int:
        return 2 * self.macs + self.count(self.out_shape, *self.in_shapes)

    def symbols(self) -> dict[str, Any]:
        """The letters of the formula, with the numbers of this call."""
        letters = dict(zip("NCHW", self.in_shapes[0])) if len(self.in_shapes[0]) == 4 else {}
        return letters | {k: v for k, v in self.parameters.items() if isinstance(v, int | float)}

    def explain(self) -> Explanation:
        """An `Explanation`: the formula, with the numbers and the costs of the last call."""
        facts = {"inputs": ", ".join(map(shape, self.in_shapes)), "output": shape(self.out_shape)}
        facts |= {"arithmetic": amount(self.flops, "FLOP"), "kept for backward": amount(self.saved_bytes, "B")}
        if len(self.out_shape) == len(self.in_shapes[0]) == 4:
            place = self.locate(0, *[AxisMap()] * (self.located_by or len(self.in_shapes)))
            if place:
                facts["row i of the output"] = f"lies at row {place} of the input, and sees {widest(place)}"
        return Explanation(self.name, type(self).__name__, self.formula, self.symbols(), facts)

    def __repr__(self) -> str:
        parameters = ", ".join(f"{k}={v!r}" for k, v in self.parameters.items() if not backend.is_array(v))
        return shown(f"{type(self).__name__}({parameters})")


def widest(place):
    """The most rows that one cell sees, as ``3 rows``."""
    if place.everything:
        return "all rows"
    sizes = [hi - lo + 1 for lo, hi in filter(None, place.sees)]
    return f"{max(sizes)} row{'s' * (max(sizes) > 1)}" if sizes else "nothing"


def _one(value):
    """One number for a pair (h, w) of equal numbers; other values as they are."""
    return value[0] if isinstance(value, tuple) and value[0] == value[-1] else value


def _letter(letter):
    base, _, index = letter.partition("_")
    greek = {"alpha": r"\alpha", "beta": r"\beta", "eps": r"\varepsilon"}.get(base, base)
    greek = greek if len(base) == 1 or greek != base else rf"\mathit{{{base}}}"
    return f"{greek}_{{{index}}}" if index else greek


def shape(sizes):
    """A shape as ``2×3×4``; ``a number`` for the empty shape."""
    return shown("×".join(map(str, sizes))) or "a number"


def amount(number, unit):
    """A number of a unit with a prefix, as ``12.3 MB``."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {prefix}{unit}"
    return f"{number:,} {unit}"
