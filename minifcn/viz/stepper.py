"""The base classes of pictures with controls: sliders in a live notebook, an animation on a static page.

An `Explorer` defines its controls and draws a figure for their values.  A live notebook shows it as a widget.  A static
page, such as the documentation, has no Python kernel and shows some scenes as an animation that the reader can step
through.  A `Stepper` is an explorer with one control: the step.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from typing import TYPE_CHECKING, Any

from ..engine.tables import letters
from . import touch
from .language import say, translated
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
        page = animated.to_jshtml(default_mode="once")
    # Matplotlib's page loads the buttons' icons from the network; replace them with characters.
    page = re.sub(r">(Once|Loop|Reflect)</label>", lambda label: f">{say(label[1])}</label>", page)
    page = re.sub(r'<link rel="stylesheet"\s+href="https?://[^"]*">', "", page)
    return re.sub(r'<i class="fa (fa-[^"]*)"></i>', lambda icon: SIGNS.get(icon[1], icon[1]), page)


class Explorer:
    """A picture with controls; subclasses define ``controls()``, ``draw(figure, ...)`` and ``title(...)``.

    Attributes
    ----------
    size : (float, float)
        Width and height of the figure, in inches.
    slider : str
        The width of a slider in CSS; several stand in one line if they fit.
    hint : str
        What a click and the arrow keys do.  An explorer with a hint defines ``touched`` and ``moved``.
    """

    size = (9.6, 4.0)
    slider = "70%"
    hint = ""

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
        """A line or two above the picture: what it shows, with the numbers."""
        return ""

    def touched(self, place: str, points: list[tuple[float, float]], **choice: Any) -> dict[str, Any]:
        """The choice after a click or a stroke over the points (row, column) of the axes whose label is `place`."""
        return choice

    def moved(self, rows: int, columns: int, **choice: Any) -> dict[str, Any]:
        """The choice after an arrow key, which moves by −1, 0 or 1 rows and columns."""
        return choice

    @styled()
    def figure(self, **choice: Any) -> Figure:
        """The picture for a choice, as a matplotlib Figure; controls that are not given keep their first value."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.size, dpi=DPI)
        self.draw(figure, **{**self.start(), **choice})
        return translated(figure)

    def png(self, **choice: Any) -> bytes:
        """The picture for a choice, as the bytes of a PNG; controls that are not given keep their first value."""
        return _png(self.figure(**choice))

    def widget(self) -> Any:
        """The widget: controls above the picture; needs ipywidgets (``pip install 'minifcn[notebooks]'``)."""
        import ipywidgets as w

        choice, figure = self.start(), None
        narrow = dict(description_width="4rem")
        style = dict(layout=w.Layout(width=self.slider), continuous_update=False)
        controls = {
            name: w.SelectionSlider(
                options=[(say(str(v)), v) for v in values], value=choice[name], description=say(name), style=narrow,
                **style,
            )
            for name, values in self.controls().items()
        }  # fmt: skip
        text = w.HTML()

        def show(new):
            nonlocal figure
            choice.update(new)
            for name, control in controls.items():
                control.value = choice[name]
            figure, title = self.figure(**choice), say(self.title(**choice))
            if self.hint:
                picture.label = f"{title}. {say(self.hint)}"
            text.value = f'<code style="white-space: pre-wrap">{html.escape(title)}</code>'
            picture.value = _png(figure)

        def touched(points):
            place, cells = _cells(figure, points)
            if place:
                show(self.touched(place, cells, **choice))

        if self.hint:
            picture = touch.picture(touched, lambda rows, columns: show(self.moved(rows, columns, **choice)))
        else:
            picture = w.Image(format="png", layout=w.Layout(max_width="100%"))
        for name, control in controls.items():
            control.observe(lambda change, name=name: change.new == choice[name] or show({name: change.new}), "value")
        show({})
        rows = [*controls.values()]
        if self.hint:
            rows = [w.Box(rows, layout=w.Layout(flex_flow="row wrap")), w.HTML(html.escape(say(self.hint)))]
        return w.VBox([*rows, text, picture])

    def to_jshtml(self, most: int = 40) -> str:
        """At most `most` of the scenes, evenly chosen, as an animation in HTML that needs no Python kernel."""
        scenes = self.scenes()

        def draw(figure, choice):
            self.draw(figure, **choice)
            title = figure.suptitle(self.title(**choice), x=0.01, ha="left", family="monospace")
            translated(figure)
            # smaller type for a long formula, so that it fits on the line
            title.set_fontsize(min(8, 104 * self.size[0] / max(map(letters, title.get_text().split("\n")))))

        return animation(self.size, scenes[:: -(-len(scenes) // most)], draw)

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"text/plain": repr(self), "text/html": self.to_jshtml()}
        try:
            return self.widget()._repr_mimebundle_() | bundle
        except ImportError:
            return bundle

    def __repr__(self) -> str:
        return f"{type(self).__name__}: choose {', '.join(self.controls())}"


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _cells(figure, points):
    """The label of the axes at the first point, and the points as (row, column) there; points are fractions (x, y)."""
    points = [(x, 1 - y) for x, y in points]
    for axes in figure.axes:
        if axes.get_label() and axes.get_position().contains(*points[0]):
            data = axes.transData.inverted().transform(figure.transFigure.transform(points))
            return axes.get_label(), [(float(y), float(x)) for x, y in data]
    return "", []


class Stepper(Explorer):
    """A picture with steps; subclasses define ``__len__``, ``draw(figure, step)`` and ``title(step)``."""

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} must define __len__(), its number of steps")

    def controls(self) -> dict[str, Any]:
        return {"step": range(len(self))}

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self)} steps"
