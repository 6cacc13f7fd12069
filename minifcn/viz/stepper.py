"""What every picture with controls shares: sliders in a notebook, and an animation where no kernel runs.

An `Explorer` says which controls it has and draws a figure for their values.  A notebook shows it as a widget; a page
without a kernel, such as the documentation, shows some scenes of it as an animation that its reader can step.  A
`Stepper` is an explorer with one control: the step.
"""

import io
import re
import warnings

from .style import styled

DPI = 110
SIGNS = {
    "fa-minus": "−", "fa-fast-backward": "|«", "fa-step-backward": "‹", "fa-play fa-flip-horizontal": "◀",
    "fa-pause": "❚❚", "fa-play": "▶", "fa-step-forward": "›", "fa-fast-forward": "»|", "fa-plus": "+",
}  # fmt: skip


@styled()
def animation(size, frames, draw):
    """An animation in HTML that asks nobody: ``draw(figure, frame)`` into an empty figure of `size`, for each frame."""
    from matplotlib.animation import FuncAnimation
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI * 0.9)
    FigureCanvasAgg(figure).draw_idle = lambda: None  # else each picture is drawn twice: on the canvas, and to be saved

    def show(frame):
        figure.clear()
        draw(figure, frame)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about clearing a figure that is being animated
        animated = FuncAnimation(figure, show, frames=frames, init_func=lambda: None, save_count=len(frames))
        html = animated.to_jshtml(default_mode="once")
    # the buttons' icons would come from another place; letters ask nobody
    html = re.sub(r'<link rel="stylesheet"\s+href="https?://[^"]*">', "", html)
    return re.sub(r'<i class="fa (fa-[^"]*)"></i>', lambda icon: SIGNS.get(icon[1], icon[1]), html)


class Explorer:
    """A picture with controls.  Subclasses define ``controls()``, ``draw(figure, ...)`` and ``title(...)``.

    Attributes
    ----------
    size : (float, float)
        Inches of the figure.
    """

    size = (9.6, 4.0)

    def controls(self):
        """{name: the values it can take}; the names are those of ``draw``'s arguments."""
        raise TypeError(f"{type(self).__name__} must say what can be chosen")

    def start(self):
        """{name: value} of the first picture."""
        return {name: next(iter(values)) for name, values in self.controls().items()}

    def scenes(self):
        """The choices that the animation shows, each {name: value}: by default the first control's values."""
        (name, values), *_ = self.controls().items()
        return [self.start() | {name: value} for value in values]

    def draw(self, figure, **choice):
        """Draw the picture of a choice into an empty figure."""
        raise TypeError(f"{type(self).__name__} must draw what is chosen")

    def title(self, **choice):
        """The picture in one line: what happens, with its numbers."""
        return ""

    @styled()
    def figure(self, **choice):
        """The picture of a choice, as a matplotlib Figure; what is not given is as at the start."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.size, dpi=DPI)
        self.draw(figure, **{**self.start(), **choice})
        return figure

    def png(self, **choice):
        """The picture of a choice, as the bytes of a PNG."""
        buffer = io.BytesIO()
        self.figure(**choice).savefig(buffer, format="png")
        return buffer.getvalue()

    def widget(self):
        """The picture under its controls, for a notebook with ipywidgets (``pip install 'minifcn[notebooks]'``)."""
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

    def to_jshtml(self, most=40):
        """The scenes as an animation in HTML, to be stepped without a kernel; at most so many of them."""
        scenes = self.scenes()

        def draw(figure, choice):
            self.draw(figure, **choice)
            title = self.title(**choice)
            size = min(8, 1000 / max(len(title), 1))  # a long formula fits the line
            figure.suptitle(title, x=0.01, ha="left", fontsize=size, family="monospace")

        return animation(self.size, scenes[:: -(-len(scenes) // most)], draw)

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"text/plain": repr(self), "text/html": self.to_jshtml()}
        try:
            return self.widget()._repr_mimebundle_() | bundle
        except ImportError:
            return bundle

    def __repr__(self):
        return f"{type(self).__name__}: choose {', '.join(self.controls())}"


class Stepper(Explorer):
    """A picture with steps.  Subclasses define ``__len__``, ``draw(figure, step)`` and ``title(step)``."""

    def __len__(self):
        raise TypeError(f"{type(self).__name__} must say how many steps it has")

    def controls(self):
        return {"step": range(len(self))}

    def __repr__(self):
        return f"{type(self).__name__} of {len(self)} steps"
