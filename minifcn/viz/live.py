"""Watching a network learn: loss, measures and a prediction that change while it trains; and a button that stops it."""

import io
import threading
from contextvars import copy_context

import numpy as np

from ..training.loop import Callback, fit
from .figures import colour
from .stepper import DPI, animation
from .style import CYCLE, GREY, styled

FRAMES = 20  # of the animation, evenly over the whole run
SIZE = (9.6, 2.9)


class LiveTraining(Callback):
    """A training that is shown while it runs, in a thread of its own, so that its button can be pressed.

    Stopped, it leaves the model as it is after the step in progress: it can be used, and trained further.  When it is
    over, a page without a kernel shows it as an animation.

    Parameters
    ----------
    model, train, val, **options
        As :func:`minifcn.fit` takes them.
    every : int
        Steps between two pictures of the prediction.

    Attributes
    ----------
    training : Training
        What ``fit`` returns, once :meth:`wait` has; before, the run in progress.
    """

    def __init__(self, model, train, val=None, every=10, **options):
        self.model, self.train, self.val, self.every = model, train, val, every
        self.options = options | {"callbacks": [*options.get("callbacks", ()), self]}
        self.losses, self.training, self.error, self._thread, self._shown = [], None, None, None, None
        self.example = (val or train)[0] if hasattr(val or train, "__getitem__") else (val or train).dataset[0]
        self.prediction, self._frames = None, []

    def start(self):
        """Begin, and return at once."""
        run = copy_context().run  # overrides and the like that are in force here are in force there
        self._thread = threading.Thread(target=run, args=(self._run,), name="minifcn-live", daemon=True)
        self._thread.start()
        return self

    def stop(self):
        """Ask it to stop after the step in progress."""
        if self.training is not None:
            self.training.stopping = True

    def wait(self):
        """Wait for its end; the :class:`~minifcn.training.Training`.  Raises what the training raised."""
        self._thread.join()
        if self.error:
            raise self.error
        return self.training

    def _run(self):
        try:
            self.training = fit(self.model, self.train, self.val, **self.options)
        except Exception as error:  # it belongs to who waits
            self.error = error

    # ---- what fit tells ----

    def started(self, t):
        self.training = t

    def stepped(self, t):
        self.losses.append(t.loss)
        if t.step % self.every == 1 or self.every == 1:
            self._look(t, t.step * FRAMES >= len(self._frames) * t.total_steps)

    def epoch_ended(self, t):
        self._look(t, False)

    def closed(self, t):
        self._look(t, True)

    def _look(self, t, kept):
        """A prediction as things stand, kept as a frame or not; the model goes on in the mode it was in."""
        self.prediction = self.model.predict(self.example[0])
        if kept:
            self._frames.append((len(self.losses), len(t.rows), self.prediction))
        if self._shown:
            self._shown()

    # ---- pictures ----

    @styled()
    def figure(self):
        """Loss, measures, and the example beside its label and its prediction, as they are now."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=SIZE, dpi=DPI)
        self._draw(figure, (len(self.losses), len(self._rows), self.prediction))
        return figure

    def _draw(self, figure, frame):
        """The state after so many steps and epochs, with its prediction."""
        steps, epochs, prediction = frame
        losses, rows = self.losses[:steps], self._rows[:epochs]
        margins = dict(left=0.045, right=0.99, top=0.84, bottom=0.17, wspace=0.3)  # fixed: quick, and nothing jumps
        curves, measures, *pictures = figure.subplots(1, 5, width_ratios=[1.5, 1.3, 1, 1, 1], gridspec_kw=margins)
        curves.plot(losses, lw=0.8, alpha=0.5)
        curves.plot(range(steps)[-1:], losses[-1:], "o", color=CYCLE[0])  # where it stands
        if len(losses) > 10:
            mean = np.convolve(losses, np.ones(10) / 10, "valid")
            curves.plot(np.arange(9, len(losses)), mean, color=CYCLE[0])
        # axes as of all that is known: in the animation they stay, and the curves grow
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

    def to_jshtml(self):
        """The run so far as an animation in HTML, to be stepped without a kernel."""
        return animation(SIZE, self._frames, self._draw)

    def _data(self):
        data = self.val or self.train
        return getattr(data, "dataset", data)

    def png(self):
        """:meth:`figure`, as the bytes of a PNG."""
        buffer = io.BytesIO()
        self.figure().savefig(buffer, format="png")
        return buffer.getvalue()

    def widget(self):
        """The picture, a line of numbers, and a button that stops; for a notebook with ipywidgets."""
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
        if self._frames and not self._thread.is_alive():  # while it runs, the still picture: building takes a second
            bundle["text/html"] = self.to_jshtml()
        try:
            return self.widget()._repr_mimebundle_() | bundle
        except ImportError:
            return bundle

    def __repr__(self):
        return f"LiveTraining: {len(self.losses)} steps so far"
