"""The texts of figures and widgets in the chosen language: the code writes English, and it is translated when drawn."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..io import language
from ..io.translation import teller
from .fonts import use_fonts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LETTERS = {"en": "", "ko": "한글"}  # of the language; a font that has these has the others
# What figures and widgets show of single words.  The catalogue finds longer texts in the source, but cannot tell a
# word from a key.
WORDS = (
    "Loop", "Once", "Reflect", "backward", "brush", "channel", "column", "correct", "epoch", "error", "f.w. IU",
    "forward", "gradient", "image", "impossible", "layer", "look", "loss", "once", "output", "padding", "patch",
    "pixels", "prediction", "restore", "row", "scores, %", "size", "step", "training", "truth", "twice", "validation",
    "void", "window", "wrong",
)  # fmt: skip
_say = teller(Path(__file__).parent)


def use_language(asked: str | None = None) -> bool:
    """Show figures and widgets in a language from now on.

    Parameters
    ----------
    asked : {"en", "ko"}, optional
        Without it, the locale's language.

    Returns
    -------
    bool
        Whether the translation can be read and a font has its letters.  Figures stay English if not.

    Raises
    ------
    UserError
        If there is no translation into that language.
    """
    language.require_language(asked)
    try:
        chosen = language.use_language(asked)
    except UserError:
        return False
    return not use_fonts(LETTERS[chosen])


def say(text: str) -> str:
    """A text of a widget in the chosen language.  Its lines, and parts that three blanks separate, are texts."""
    return "".join(map(_say, re.split(r"(\n|   )", text)))


def drawn(texts: Sequence[str], say: Callable[[str], str] = say) -> list[str]:
    """Texts for a figure: in the chosen language if the fonts have their letters, and else as they are.

    Call it inside ``styled()``.
    """
    translated = list(map(say, texts))
    return list(texts) if use_fonts(translated) else translated


def translated(figure: Figure) -> Figure:
    """Translate the texts of a figure, if the fonts have their letters, and return it.  Call it inside ``styled()``."""
    if language.chosen() == "en":
        return figure
    from matplotlib import rcParams
    from matplotlib.text import Text
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    texts: list = [text for text in figure.findobj(Text) if text.get_text()]
    axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
    # The formatter of an axis with names writes the English names again at each drawing.
    named = [axis for axis in axes if isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter)]
    names = [label.get_text() for axis in named for label in axis.get_ticklabels()]
    both = [*(text.get_text() for text in texts), *names]
    known = dict(zip(both, drawn(both)))
    for text in texts:
        if known[text.get_text()] != text.get_text():
            text.set_fontfamily([*dict.fromkeys([*text.get_fontfamily(), *rcParams["font.family"]])])
            text.set_text(known[text.get_text()])
    for axis in named:
        labels = [known.get(label.get_text(), label.get_text()) for label in axis.get_ticklabels()]
        axis.set_ticklabels(labels, fontfamily=rcParams["font.family"])
    return figure
