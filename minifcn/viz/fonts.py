"""Fonts for class names in any script: matplotlib's own font lacks Korean, Chinese, Japanese, Arabic and others."""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path


def use_fonts(texts: Iterable[str]) -> str:
    """Let the texts drawn from now on fall back to installed fonts that have the characters of `texts`.

    Call it inside ``styled()``, which restores the fonts.  A character that no installed font has is drawn as a box.

    Parameters
    ----------
    texts : iterable of str

    Returns
    -------
    str
        The characters that no installed font has, in order.
    """
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, findfont

    usual = findfont(FontProperties(family=rcParams["font.family"]))
    missing = {ord(letter) for text in texts for letter in text if letter.isprintable()} - _characters(usual)
    if missing:
        names = fallbacks(frozenset(missing))
        rcParams["font.family"] = [*rcParams["font.family"], *names]
        missing = missing.difference(*(_characters(findfont(FontProperties(family=name))) for name in names))
    return "".join(map(chr, sorted(missing)))


@lru_cache(maxsize=8)
def fallbacks(missing: frozenset[int]) -> tuple[str, ...]:
    """The names of as few installed fonts as have all of the characters with these code points, or most of them."""
    from matplotlib.font_manager import fontManager

    _add_packaged()
    upright = [f for f in fontManager.ttflist if f.style == "normal" and str(f.weight) in ("400", "normal", "regular")]
    usable = [font for font in upright if not font.name.startswith("Last Resort")]  # it has boxes for all characters
    found = {font.name: missing & _characters(font.fname) for font in usable}
    bold = {font.name for font in fontManager.ttflist if str(font.weight) in ("700", "bold")}  # for titles
    names: list[str] = []
    while missing and found:
        name = max(found, key=lambda name: (len(found[name] & missing), name in bold, name))
        if not found[name] & missing:
            break
        names.append(name)
        missing = missing - found[name]
    return tuple(names)


@lru_cache(maxsize=1)
def _add_packaged() -> None:
    """Make known to matplotlib the Korean fonts of the extra `korean`.

    Their package is not imported: that would change matplotlib's settings, and fails without distutils.
    """
    from matplotlib.font_manager import fontManager

    package = find_spec("koreanize_matplotlib")
    for folder in (package and package.submodule_search_locations) or ():
        for name, weight in (("NanumGothic.ttf", 400), ("NanumGothicBold.ttf", 700)):
            if (path := Path(folder, "fonts", name)).is_file():
                fontManager.addfont(path)
                # The bold file says 600, and matplotlib would warn at each bold text.
                fontManager.ttflist[-1] = replace(fontManager.ttflist[-1], weight=weight)


@lru_cache(maxsize=1024)
def _characters(path: str) -> frozenset[int]:
    """The code points of the characters in a font file; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap()) if Path(path).is_file() else frozenset()
    except (RuntimeError, OSError):
        return frozenset()
