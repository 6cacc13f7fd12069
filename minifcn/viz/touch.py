"""A picture for a notebook that reports where it was clicked or drawn on, and which arrow key was pressed on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

# The browser's part.  Places are fractions of the width and the height, from the upper left corner.
# JupyterLab moves to another cell when an arrow key is pressed, unless an element suppresses its shortcuts.
SCRIPT = """
const STEPS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
export default { render({ model, el }) {
  const picture = document.createElement("img");
  picture.className = "jupyter-widgets widget-image minifcn-touch";
  picture.tabIndex = 0;
  picture.draggable = false;
  picture.dataset.lmSuppressShortcuts = "true";
  picture.setAttribute("role", "application");
  Object.assign(picture.style, { maxWidth: "100%", height: "auto", cursor: "crosshair" });
  const show = () => {
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(new Blob([model.get("value")], { type: "image/png" }));
    picture.alt = model.get("label");
    picture.setAttribute("aria-label", picture.alt);
  };
  const place = (event) => [event.offsetX / picture.clientWidth, event.offsetY / picture.clientHeight];
  let points = null;
  picture.addEventListener("pointerdown", (event) => { points = [place(event)]; });
  picture.addEventListener("pointermove", (event) => { if (points) points.push(place(event)); });
  picture.addEventListener("pointerup", () => { if (points) model.send({ points }); points = null; });
  picture.addEventListener("pointerleave", () => { points = null; });
  picture.addEventListener("keydown", (event) => {
    if (STEPS[event.key]) { event.preventDefault(); model.send({ step: STEPS[event.key] }); }
  });
  model.on("change:value", show);
  show();
  el.append(picture);
} };
"""


@cache
def _widget_class():
    import anywidget
    import traitlets

    class Picture(anywidget.AnyWidget):
        _esm = SCRIPT
        value = traitlets.Bytes().tag(sync=True)
        label = traitlets.Unicode().tag(sync=True)

    return Picture


def picture(touched: Callable[[list[tuple[float, float]]], None], moved: Callable[[int, int], None]) -> Any:
    """A widget that shows the PNG in its ``value``, with the text ``label`` for screen readers; needs anywidget.

    It calls ``touched(points)`` after a click or a stroke, with the points as fractions (x, y) of the picture's width
    and height, and ``moved(rows, columns)`` after an arrow key, with −1, 0 or 1 for each.
    """
    widget = _widget_class()()

    def receive(_, message, buffers):
        if "points" in message:
            touched([(float(x), float(y)) for x, y in message["points"]])
        else:
            moved(*map(int, message["step"]))

    widget.on_msg(receive)
    return widget
