"""Drawings of directed graphs from top to bottom, as Mermaid text and as SVG, without other packages."""

from html import escape

WIDTH, HEIGHT = 190, 40  # of a box
GAP, COLUMN = 26, 208  # the space between rows; the distance between the centres of columns
LANE = 9  # the distance from a column at which an arrow passes its boxes


class Graph:
    """A graph of boxes and arrows.  A box must be added after all boxes that point to it."""

    def __init__(self):
        self.labels, self.edges, self.marked = {}, [], set()

    def node(self, name, label="", marked=False):
        """Add a box with a name and a second line; a `marked` box has another colour."""
        self.labels.setdefault(name, label)
        if marked:
            self.marked.add(name)

    def edge(self, source, target):
        """Add an arrow, unless it is there already."""
        if (source, target) not in self.edges:
            self.edges.append((source, target))

    @property
    def mermaid(self):
        """The graph as the text of a Mermaid flowchart."""
        keys = {name: f"n{i}" for i, name in enumerate(self.labels)}
        lines = ["flowchart TD"]
        for name, label in self.labels.items():
            lines.append(f'    {keys[name]}["{name}{"<br/>" + label if label else ""}"]')
        lines += [f"    {keys[a]} --> {keys[b]}" for a, b in self.edges]
        lines += [f"    style {keys[name]} fill:#fde7d9,stroke:#D55E00" for name in self.labels if name in self.marked]
        return "\n".join(lines)

    def _rows(self):
        """{name: row}: each box is below all boxes that point to it."""
        sources = {name: [] for name in self.labels}
        for a, b in self.edges:
            sources[b].append(a)
        rows = {}

        def row(name):
            if name not in rows:
                rows[name] = 1 + max((row(source) for source in sources[name]), default=-1)
            return rows[name]

        for name in self.labels:
            row(name)
        return rows

    def _places(self):
        """The centres {name: (x, y)}: a chain stays in one column, and a box beside it is in the next free column."""
        rows, columns, taken = self._rows(), {}, set()
        following = {name: [b for a, b in self.edges if a == name] for name in self.labels}
        for name in sorted(self.labels, key=lambda n: rows[n]):
            before = [columns[a] for a, b in self.edges if b == name and a in columns]
            column = min(before, default=0)
            while (rows[name], column) in taken:
                column += 1
            # reserve the column down to the first box that follows
            last = min((rows[b] for b in following[name]), default=rows[name] + 1)
            taken.update((r, column) for r in range(rows[name], last))
            columns[name] = column
        return {
            n: (columns[n] * COLUMN + WIDTH / 2 + 10, rows[n] * (HEIGHT + GAP) + HEIGHT / 2 + 10) for n in self.labels
        }

    def _repr_svg_(self):
        places = self._places()
        width = max(x for x, _ in places.values()) + WIDTH / 2 + 10
        height = max(y for _, y in places.values()) + HEIGHT / 2 + 10
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            'font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="white"/>',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto">'
            '<path d="M0,0 L8,4 L0,8 z" fill="#5f6368"/></marker></defs>',
        ]
        for a, b in self.edges:
            (x0, y0), (x1, y1) = places[a], places[b]
            if any(x == x0 == x1 and y0 < y < y1 for x, y in places.values()):  # pass beside the boxes in between
                path = f"M{x0 + WIDTH / 2},{y0} h{LANE} V{y1} h{-LANE}"
                parts.append(f'<path d="{path}" fill="none" stroke="#5f6368" marker-end="url(#tip)"/>')
                continue
            y0, y1 = y0 + HEIGHT / 2, y1 - HEIGHT / 2
            bend = y1 - GAP / 2 if x0 == x1 or x0 > x1 else y0 + GAP / 2
            path = f"M{x0},{y0} V{bend} H{x1} V{y1}" if x0 != x1 else f"M{x0},{y0} V{y1}"
            parts.append(f'<path d="{path}" fill="none" stroke="#5f6368" marker-end="url(#tip)"/>')
        for name, label in self.labels.items():
            x, y = places[name]
            fill, stroke = ("#fde7d9", "#D55E00") if name in self.marked else ("#eaf3f9", "#0072B2")
            box = f'x="{x - WIDTH / 2}" y="{y - HEIGHT / 2}" width="{WIDTH}" height="{HEIGHT}" rx="5"'
            parts.append(f'<rect {box} fill="{fill}" stroke="{stroke}"/>')
            parts.append(_text(x, y - 3 if label else y + 4, name, 'font-weight="bold"'))
            if label:
                parts.append(_text(x, y + 13, label, 'fill="#5f6368" font-size="11"'))
        return "".join([*parts, "</svg>"])

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/vnd.mermaid": self.mermaid, "image/svg+xml": self._repr_svg_(), "text/plain": self.mermaid}


def _text(x, y, words, style):
    return f'<text x="{x}" y="{y}" text-anchor="middle" {style}>{escape(words)}</text>'
