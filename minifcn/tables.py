"""Text for people: tables that print in columns, and signs in plain characters where a console cannot show them."""

import codecs
import locale
import sys
from html import escape

PLAIN = {
    "×": "x", "·": "*", "−": "-", "–": "-", "—": "-", "…": "...", "→": "->", "←": "<-", "≥": ">=", "≤": "<=", "±": "+-",
    "∝": "~", "∞": "inf", "Σ": "sum", "√": "sqrt", "∂": "d", "²": "^2", "³": "^3", "ᵀ": "^T", "₁": "1", "₂": "2",
    "α": "alpha", "β": "beta", "γ": "gamma", "ε": "eps", "μ": "mu", "µ": "u", "σ": "sigma", "ℓ": "loss", "✓": "+",
    "✗": "x", "⟨": "<", "⟩": ">", "‖": "|",
}  # fmt: skip
"""What our signs are called in ASCII."""


def _plain(error):
    """An error handler of `str.encode`: `PLAIN` for what cannot be encoded, else a backslash and its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    given = error.object[error.start : error.end]
    plain = (PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in given)
    return "".join(plain), error.end


codecs.register_error("minifcn.plain", _plain)


def shown(text, in_files=True):
    """`text` as standard output can show it and, if `in_files`, a file in the encoding of this system can hold it.

    A user prints what ``repr()`` and ``str()`` return, or logs it; a console in cp949, cp1252 or ASCII has no "−", and
    ``print`` would raise UnicodeEncodeError.  In UTF-8 the text stays as it is.
    """
    file = locale.getpreferredencoding(False) if in_files else None
    for encoding in (getattr(sys.stdout, "encoding", None), file):
        try:
            text = text.encode(encoding or "utf-8", "minifcn.plain").decode(encoding or "utf-8")
        except (LookupError, ValueError, TypeError):  # a stream that somebody made up
            continue
    return text


class Table(list):
    """Rows, each a dict with the same keys."""

    def _columns(self):
        """(name, whether it holds numbers) of each."""
        return [(name, all(isinstance(row[name], int | float | None) for row in self)) for name in self[0]]

    def __str__(self):
        if not self:
            return "(no rows)"
        columns = self._columns()
        cells = [[name.replace("_", " ") for name in self[0]], *([text(v) for v in row.values()] for row in self)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        lines = (
            "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, (_, n) in zip(row, widths, columns)).rstrip()
            for row in cells
        )
        return shown("\n".join(lines))

    __repr__ = __str__

    def _repr_html_(self):
        if not self:
            return "<p>(no rows)</p>"
        columns = [(name, f' style="text-align: {"right" if n else "left"}"') for name, n in self._columns()]
        head = "".join(f"<th{side}>{escape(name.replace('_', ' '))}</th>" for name, side in columns)
        body = "".join(
            "<tr>" + "".join(f"<td{side}>{escape(text(row[name]))}</td>" for name, side in columns) + "</tr>"
            for row in self
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def text(value):
    """A cell: numbers with three digits that count, a pair as a range."""
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return " … ".join(map(text, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
