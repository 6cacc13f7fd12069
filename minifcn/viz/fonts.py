"""Fonts for class names in any script: matplotlib's own font lacks Korean, Chinese, Japanese, Arabic and others."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from unicodedata import east_asian_width


def use_fonts(texts: Iterable[str]) -> None:
    """Let the texts drawn from now on fall back to installed fonts that have the characters of `texts`.

    Call it inside ``styled()``, which restores the fonts.  A character that no installed font has is drawn as a box.

    Parameters
    ----------
    texts : iterable of str
    """
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, findfont

    usual = findfont(FontProperties(family=rcParams["font.family"]))
    missing = {ord(letter) for text in texts for letter in text if letter.isprintable()} - _characters(usual)
    if missing:
        rcParams["font.family"] = [*rcParams["font.family"], *fallbacks(frozenset(missing))]


@lru_cache(maxsize=8)
def fallbacks(missing: frozenset[int]) -> tuple[str, ...]:
    """The names of as few installed fonts as have all of the characters with these code points, or most of them."""
    from matplotlib.font_manager import fontManager

    upright = [f for f in fontManager.ttflist if f.style == "normal" and str(f.weight) in ("400", "normal", "regular")]
    usable = [font for font in upright if not font.name.startswith("Last Resort")]  # it has boxes for all characters
    found = {font.name: missing & _characters(font.fname) for font in usable}
    names: list[str] = []
    while missing and found:
        name = max(found, key=lambda name: (len(found[name] & missing), name))
        if not found[name] & missing:
            break
        names.append(name)
        missing = missing - found[name]
    return tuple(names)


@lru_cache(maxsize=1024)
def _characters(path: str) -> frozenset[int]:
    """The code points of the characters in a font file; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap()) if Path(path).is_file() else frozenset()
    except (RuntimeError, OSError):
        return frozenset()


def letters(name: str) -> int:
    """The width of a name in Latin letters: Hangul and the like are twice as wide."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in name)
