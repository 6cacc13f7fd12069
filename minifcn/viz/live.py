"""A live view of a training: loss, measures and a prediction that update while it runs, and a button that stops it."""

from __future__ import annotations

import io
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.types import Array
from ..data.bands import false_colour
from ..data.loader import Loader
from ..data.protocol import DataSet
from ..data.views import first_head
from ..nn.module import Module
from ..training.loop import Callback, Training, fit
from .figures import colour
from .stepper import DPI, animation
from .style import CYCLE, GREY, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAMES = 20  # frames of the animation, spread evenly over the run
SIZE = (9.6, 2.9)


class LiveTraining(Callback):
    """A training that runs in a background thread and shows its progress, so that a notebook's stop button responds.

    After a stop, the model is in the state after the step that was in progress: it can be used and trained further.
    When the training is over, a static page shows it as an animation.

    Parameters
    ----------
    model, train, val, **options
        The arguments of :func:`minifcn.fit`.
    every : int
        Number of steps between two predictions of the example.

    Attributes
    ----------
    training : Training
        The training in progress; after :meth:`wait`, what ``fit`` returned.  None before it has started.
    """

    losses: list[float]
    training: Training | None
    error: Exception | None
    prediction: Array | None
    _frames: list
    _thread: Any
    _shown: Any

    def __init__(
        self, model: Module, train: Loader | DataSet, val: Loader | DataSet | None = None, every: int = 10,
        **options: Any,
    ) -> None:  # fmt: skip
        self.model, self.train, self.val, self.every = model, train, val, every
        self.options = options | {"callbacks": [*options.get("callbacks", ()), self]}
        self.losses, self.training, self.error, self._thread, self._shown = [], None, None, None, None
        self.example = first_head(self._data())[0]
        self.prediction, self._frames = None, []

    def start(self) -> LiveTraining:
        """Start the training thread and return without waiting for it."""
        run = copy_context().run  # the thread uses this thread's context: overrides, no_grad and the like
        self._thread = threading.Thread(target=run, args=(self._run,), name="minifcn-live", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ask the training to stop after the step in progress, and return without waiting."""
        if self.training is not None:
            self.training.stopping = True

    def wait(self) -> Training | None:
        """Wait for the end and return the :class:`~minifcn.training.Training`; raises the exception of the training."""
        if self._thread is None:
            raise RuntimeError("the training has not been started: call start() first")
        self._thread.join()
        if self.error:
            raise self.error
        return self.training

    def _run(self):
        try:
            self.training = fit(self.model, self.train, self.val, **self.options)
        except Exception as error:  # wait() raises it in the caller's thread
            self.error = error

    # ---- callbacks: fit calls these in the training thread ----

    def started(self, t: Training) -> None:
        self.training = t

    def stepped(self, t: Training) -> None:
        self.losses.append(t.loss)
        if t.step % self.every == 1 or self.every == 1:
            self._look(t, t.step * FRAMES >= len(self._frames) * t.total_steps)

    def epoch_ended(self, t: Training) -> None:
        self._look(t, False)

    def closed(self, t: Training) -> None:
        self._look(t, True)

    def _look(self, t, kept):
        """Predict the example; if `kept`, add a frame to the animation.  predict() restores the model's mode."""
        self.prediction = self.model.predict(self.example[0])
        if kept:
            self._frames.append((len(self.losses), len(t.rows), self.prediction))
        if self._shown:
            self._shown()

    # ---- pictures ----

    @styled()
    def figure(self) -> Figure:
        """A figure of the present state: loss, measures, and the example beside its label and its prediction."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=SIZE, dpi=DPI)
        self._draw(figure, (len(self.losses), len(self._rows), self.prediction))
        return figure

    def _draw(self, figure, frame):
        """Draw one frame: (number of steps, number of epochs, prediction)."""
        steps, epochs, prediction = frame
        losses, rows = self.losses[:steps], self._rows[:epochs]
        # Fixed margins are faster than a constrained layout, and the axes do not move between frames.
        margins = dict(left=0.045, right=0.99, top=0.84, bottom=0.17, wspace=0.3)
        curves, measures, *pictures = figure.subplots(1, 5, width_ratios=[1.5, 1.3, 1, 1, 1], gridspec_kw=margins)
        curves.plot(losses, lw=0.8, alpha=0.5)
        curves.plot(range(steps)[-1:], losses[-1:], "o", color=CYCLE[0])
        if len(losses) > 10:
            mean = np.convolve(losses, np.ones(10) / 10, "valid")
            curves.plot(np.arange(9, len(losses)), mean, color=CYCLE[0])
        # The limits come from the whole run, so that the axes stay the same in every frame of the animation.
        limits = dict(xlim=(0, max(len(self.losses), 10)), ylim=(0, 1.05 * max(self.losses, default=1)))
        curves.set(title="loss per pixel", xlabel="step", **limits)
        for k, (name, key) in enumerate({"pixel acc.": "pixel_accuracy", "mean IU": "mean_iu"}.items()):
            values = [row[key] for row in rows if key in row]
            measures.plot(range(1, len(values) + 1), values, "o-", color=CYCLE[k + 1], label=name)
        known = max(len(self._rows), 1)
        measures.set(title="validation", xlabel="epoch", xlim=(0.5, known + 0.5), ylim=(0, 1))
        measures.xaxis.get_major_locator().set_params(integer=True)
        if any("mean_iu" in row for row in rows):
            measures.legend(fontsize=7, loc="center right")
        for axes, empty, words in ((curves, not losses, "about to begin"), (measures, not rows, "after each epoch")):
            if empty:
                axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=GREY, size=8)
        image, label = self.example[:2]
        image = false_colour(image, self._data().bands) if hasattr(self._data(), "bands") else image
        palette = self.model.palette if getattr(self.model, "palette", None) is not None else self._data().palette
        shown = [("image", image), ("label", colour(label, palette))]
        shown += [] if prediction is None else [("prediction", colour(prediction, palette))]
        for axes in pictures:
            axes.set_axis_off()
        for axes, (name, picture) in zip(pictures, shown):
            axes.imshow(picture)
            axes.set_title(name)

    @property
    def _rows(self):
        return self.training.rows if self.training else []

    def to_jshtml(self) -> str:
        """The run so far, as an animation in HTML that needs no Python kernel."""
        return animation(SIZE, self._frames, self._draw)

    def _data(self):
        data = self.val or self.train
        return getattr(data, "dataset", data)

    def png(self) -> bytes:
        """The present :meth:`figure`, as the bytes of a PNG."""
        buffer = io.BytesIO()
        self.figure().savefig(buffer, format="png")
        return buffer.getvalue()

    def widget(self) -> Any:
        """A widget: the picture, a line of numbers, and a stop button; needs ipywidgets."""
        import ipywidgets as w

        picture, text = w.Image(format="png", value=self.png(), layout=w.Layout(max_width="100%")), w.Label()
        button = w.Button(description="stop", icon="stop", tooltip="after the step in progress; the model stays usable")
        button.on_click(lambda _: self.stop())

        def show():
            t = self.training
            picture.value = self.png()
            text.value = f"step {t.step} of {t.total_steps}, loss {t.loss:.3f}" + (", stopping" if t.stopping else "")

        self._shown = show
        return w.VBox([w.HBox([button, text]), picture])

    def _repr_mimebundle_(self, include=None, exclude=None):
        from base64 import b64encode

        bundle = {"text/plain": repr(self), "image/png": b64encode(self.png()).decode()}
        # Building the animation takes a second, so a run in progress shows only the still picture.
        if self._frames and not self._thread.is_alive():
            bundle["text/html"] = self.to_jshtml()
        try:
            return self.widget()._repr_mimebundle_() | bundle
        except ImportError:
            return bundle

    def __repr__(self) -> str:
        return f"LiveTraining: {len(self.losses)} steps so far"
