"""A figure that belongs to nobody, and that a notebook shows all the same, whether or not it uses pyplot."""

import io

from matplotlib import figure


class Figure(figure.Figure):
    """Matplotlib's, with a picture for notebooks."""

    def _repr_png_(self):
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
