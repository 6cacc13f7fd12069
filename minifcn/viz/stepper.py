"""What every picture with steps shares: a slider in a notebook, and an animation where no kernel runs.

A `Stepper` knows how many steps it has and how to draw each into a figure.  A notebook shows it as a widget; a page
without a kernel, such as the documentation, shows the same pictures as an animation that its reader can step.
"""

import io
import re
import warnings
from functools import lru_cache

from .style import styled

DPI = 110
SIGNS = {
    "fa-minus": "−", "fa-fast-backward": "|«", "fa-step-backward": "‹", "fa-play fa-flip-horizontal": "◀",
    "fa-pause": "❚❚", "fa-play": "▶", "fa-step-forward": "›", "fa-fast-forward": "»|", "fa-plus": "+",
}  # fmt: skip


class Stepper:
    """A picture with steps.  Subclasses define ``__len__``, ``size``, ``draw(figure, i)`` and ``title(i)``.

    Attributes
    ----------
    size : (float, float)
        Inches of the figure.
    """

    size = (9.0, 4.0)

    def __len__(self):
        raise TypeError(f"{type(self).__name__} must say how many steps it has")

    def draw(self, figure, i):
        """Draw step `i` into an empty figure."""
        raise TypeError(f"{type(self).__name__} must draw its steps")

    def title(self, i):
        """Step `i` in one line: what happens in it, with its numbers."""
        return ""

    @styled()
    def figure(self, i=0):
        """Step `i`, as a matplotlib Figure."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.size, dpi=DPI)
        self.draw(figure, range(len(self))[i])
        return figure

    def png(self, i):
        """Step `i`, as the bytes of a PNG."""
        return _png(self, i)

    def widget(self):
        """A slider over the steps, for a notebook with ipywidgets (``pip install 'minifcn[notebooks]'``)."""
        import ipywidgets as w

        slider = w.IntSlider(0, 0, len(self) - 1, description="step", layout=w.Layout(width="60%"))
        play = w.Play(value=0, min=0, max=len(self) - 1, interval=600, show_repeat=False)
        picture, text = w.Image(format="png"), w.HTML()
        picture.layout.max_width = "100%"

        def show(change=None):
            picture.value, text.value = self.png(slider.value), f"<code>{self.title(slider.value)}</code>"

        slider.observe(show, "value")
        w.jslink((play, "value"), (slider, "value"))
        show()
        return w.VBox([w.HBox([play, slider]), text, picture])

    @styled()
    def to_jshtml(self, most=40):
        """An animation in HTML, to be stepped without a kernel, of at most so many steps."""
        from matplotlib.animation import FuncAnimation
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.size, dpi=DPI * 0.75)
        FigureCanvasAgg(figure)
        steps = range(0, len(self), -(-len(self) // most))

        def show(i):
            figure.clear()
            self.draw(figure, i)
            figure.suptitle(self.title(i), x=0.01, ha="left", fontsize=8, family="monospace")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about clearing a figure that is being animated
            html = FuncAnimation(figure, show, frames=steps, init_func=lambda: None).to_jshtml(default_mode="once")
        # the buttons' icons would come from another place; letters ask nobody
        html = re.sub(r'<link rel="stylesheet"\s+href="https?://[^"]*">', "", html)
        return re.sub(r'<i class="fa (fa-[^"]*)"></i>', lambda icon: SIGNS.get(icon[1], icon[1]), html)

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"text/plain": repr(self), "text/html": self.to_jshtml()}
        try:
            return self.widget()._repr_mimebundle_() | bundle
        except ImportError:
            return bundle

    def __repr__(self):
        return f"{type(self).__name__} of {len(self)} steps"


@lru_cache(maxsize=256)
def _png(stepper, i):
    buffer = io.BytesIO()
    stepper.figure(i).savefig(buffer, format="png")
    return buffer.getvalue()
