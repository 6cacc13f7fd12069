"""A figure that is not registered with pyplot, and that a notebook displays nevertheless."""

import io

from matplotlib import figure


class Figure(figure.Figure):
    """Matplotlib's Figure with a PNG for notebooks."""

    def _repr_png_(self):
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
