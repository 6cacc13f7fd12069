"""The base classes of pictures with controls: sliders in a live notebook, an animation on a static page.

An `Explorer` defines its controls and draws a figure for their values.  A live notebook shows it as a widget.  A static
page, such as the documentation, has no Python kernel and shows some scenes as an animation that the reader can step
through.  A `Stepper` is an explorer with one control: the step.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

from .style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
SIGNS = {
    "fa-minus": "−", "fa-fast-backward": "|«", "fa-step-backward": "‹", "fa-play fa-flip-horizontal": "◀",
    "fa-pause": "❚❚", "fa-play": "▶", "fa-step-forward": "›", "fa-fast-forward": "»|", "fa-plus": "+",
}  # fmt: skip


@styled()
def animation(size, frames, draw):
    """A self-contained animation in HTML; ``draw(figure, frame)`` draws each frame into an empty figure of `size`."""
    from matplotlib.animation import FuncAnimation
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI * 0.9)
    FigureCanvasAgg(figure).draw_idle = lambda: None  # else each frame is drawn twice: on the canvas, and when saved

    def show(frame):
        figure.clear()
        draw(figure, frame)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib warns when a figure that is being animated is cleared
        animated = FuncAnimation(figure, show, frames=frames, init_func=lambda: None, save_count=len(frames))
        html = animated.to_jshtml(default_mode="once")
    # Matplotlib's page loads the buttons' icons from the network; replace them with characters.
    html = re.sub(r'<link rel="stylesheet"\s+href="https?://[^"]*">', "", html)
    return re.sub(r'<i class="fa (fa-[^"]*)"></i>', lambda icon: SIGNS.get(icon[1], icon[1]), html)


class Explorer:
    """A picture with controls; subclasses define ``controls()``, ``draw(figure, ...)`` and ``title(...)``.

    Attributes
    ----------
    size : (float, float)
        Width and height of the figure, in inches.
    """

    size = (9.6, 4.0)

    def controls(self) -> dict[str, Any]:
        """The controls, as {name: the values it can take}; the names are the parameters of ``draw``."""
        raise TypeError(f"{type(self).__name__} must define controls()")

    def start(self) -> dict[str, Any]:
        """The choice that is shown first, as {name: value}."""
        return {name: next(iter(values)) for name, values in self.controls().items()}

    def scenes(self) -> list[dict[str, Any]]:
        """The choices that the animation shows, as {name: value}; by default each value of the first control."""
        (name, values), *_ = self.controls().items()
        return [self.start() | {name: value} for value in values]

    def draw(self, figure: Any, **choice: Any) -> None:
        """Draw the picture for one choice into an empty figure."""
        raise TypeError(f"{type(self).__name__} must define draw(figure, ...)")

    def title(self, **choice: Any) -> str:
        """One line above the picture: what it shows, with the numbers."""
        return ""

    @styled()
    def figure(self, **choice: Any) -> Figure:
        """The picture for a choice, as a matplotlib Figure; controls that are not given keep their first value."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.size, dpi=DPI)
        self.draw(figure, **{**self.start(), **choice})
        return figure

    def png(self, **choice: Any) -> bytes:
        """The picture for a choice, as the bytes of a PNG; controls that are not given keep their first value."""
        buffer = io.BytesIO()
        self.figure(**choice).savefig(buffer, format="png")
        return buffer.getvalue()

    def widget(self) -> Any:
        """The widget: controls above the picture; needs ipywidgets (``pip install 'minifcn[notebooks]'``)."""
        import ipywidgets as w

        wide, first = w.Layout(width="70%"), self.start()
        controls = {
            name: w.SelectionSlider(
                options=[(str(v), v) for v in values], value=first[name], description=name, layout=wide,
                continuous_update=False,
            )
            for name, values in self.controls().items()
        }  # fmt: skip
        picture, text = w.Image(format="png", layout=w.Layout(max_width="100%")), w.HTML()

        def show(change=None):
            choice = {name: control.value for name, control in controls.items()}
            picture.value, text.value = self.png(**choice), f"<code>{self.title(**choice)}</code>"

        for control in controls.values():
            control.observe(show, "value")
        show()
        return w.VBox([*controls.values(), text, picture])

    def to_jshtml(self, most: int = 40) -> str:
        """At most `most` of the scenes, evenly chosen, as an animation in HTML that needs no Python kernel."""
        scenes = self.scenes()

        def draw(figure, choice):
            self.draw(figure, **choice)
            title = self.title(**choice)
            size = min(8, 1000 / max(len(title), 1))  # smaller type for a long formula, so that it fits on the line
            figure.suptitle(title, x=0.01, ha="left", fontsize=size, family="monospace")

        return animation(self.size, scenes[:: -(-len(scenes) // most)], draw)

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"text/plain": repr(self), "text/html": self.to_jshtml()}
        try:
            return self.widget()._repr_mimebundle_() | bundle
        except ImportError:
            return bundle

    def __repr__(self) -> str:
        return f"{type(self).__name__}: choose {', '.join(self.controls())}"


class Stepper(Explorer):
    """A picture with steps; subclasses define ``__len__``, ``draw(figure, step)`` and ``title(step)``."""

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} must define __len__(), its number of steps")

    def controls(self) -> dict[str, Any]:
        return {"step": range(len(self))}

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self)} steps"
