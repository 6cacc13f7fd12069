"""Tables that print in columns, and that a notebook shows as HTML."""

from html import escape
from unicodedata import combining, east_asian_width, normalize

from ..errors import shown


class Table(list):
    """A list of rows, each a dict with the same keys."""

    def _columns(self):
        """The columns as (name, whether all values are numbers)."""
        return [(name, all(isinstance(row[name], int | float | None) for row in self)) for name in self[0]]

    def __str__(self):
        if not self:
            return "(no rows)"
        columns = self._columns()
        cells = [[name.replace("_", " ") for name in self[0]], *([text(v) for v in row.values()] for row in self)]
        widths = [max(letters(row[i]) for row in cells) for i in range(len(columns))]
        lines = (
            "  ".join(
                " " * (w - letters(c)) * n + c + " " * (w - letters(c)) * (not n)
                for c, w, (_, n) in zip(row, widths, columns)
            ).rstrip()
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


def letters(name: str) -> int:
    """The width of a text in Latin letters: Hangul and the like are twice as wide, and accents have no width."""
    return sum(2 if east_asian_width(letter) in "WF" else not combining(letter) for letter in normalize("NFC", name))


def text(value):
    """The text of a cell: floats have three significant digits, and a pair is a range."""
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return " … ".join(map(text, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
