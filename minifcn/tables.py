"""A small table: rows of numbers that print in columns, and as HTML in a notebook."""

from html import escape


class Table(list):
    """Rows, each a dict with the same keys."""

    def __str__(self):
        if not self:
            return "(no rows)"
        names = list(self[0])
        cells = [[name.replace("_", " ") for name in names], *([text(row[name]) for name in names] for row in self)]
        numbers = [all(isinstance(row[name], int | float | None) for row in self) for name in names]
        widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
        lines = (
            "  ".join(c.rjust(w) if number else c.ljust(w) for c, w, number in zip(row, widths, numbers)).rstrip()
            for row in cells
        )
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self):
        if not self:
            return "<p>(no rows)</p>"
        names = list(self[0])
        head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(text(row[name]))}</td>" for name in names) + "</tr>" for row in self
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
