"""What the library says to people: the errors that are the user's to mend, and signs that every console can show.

The command line prints the message of a `UserError` or a `GeometryError` and exits with 2; every other exception is a
bug and keeps its traceback.
"""

import codecs
import locale
import sys

PLAIN = {
    "×": "x", "·": "*", "−": "-", "–": "-", "—": "-", "…": "...", "→": "->", "←": "<-", "≥": ">=", "≤": "<=", "±": "+-",
    "∝": "~", "∞": "inf", "Σ": "sum", "√": "sqrt", "∂": "d", "²": "^2", "³": "^3", "ᵀ": "^T", "₁": "1", "₂": "2",
    "α": "alpha", "β": "beta", "γ": "gamma", "ε": "eps", "μ": "mu", "µ": "u", "σ": "sigma", "ℓ": "loss", "✓": "+",
    "✗": "x", "⟨": "<", "⟩": ">", "‖": "|",
}  # fmt: skip
"""What our signs are called in ASCII."""


def _plain(error):
    """An error handler of `str.encode`: `PLAIN` for what cannot be encoded, else a backslash and its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    given = error.object[error.start : error.end]
    plain = (PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in given)
    return "".join(plain), error.end


codecs.register_error("minifcn.plain", _plain)


def shown(text, in_files=True):
    """`text` as standard output can show it and, if `in_files`, a file in the encoding of this system can hold it.

    A user prints what ``repr()`` and ``str()`` return, or logs it; a console in cp949, cp1252 or ASCII has no "−", and
    ``print`` would raise UnicodeEncodeError.  In UTF-8 the text stays as it is.

    Parameters
    ----------
    text : str
    in_files : bool
        Whether a file must be able to hold it, too.

    Returns
    -------
    str
    """
    file = locale.getpreferredencoding(False) if in_files else None
    for encoding in (getattr(sys.stdout, "encoding", None), file):
        try:
            text = text.encode(encoding or "utf-8", "minifcn.plain").decode(encoding or "utf-8")
        except (LookupError, ValueError, TypeError):  # a stream that somebody made up
            continue
    return text


class UserError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence: what was given, what was expected, what to do.
    """

    def __str__(self):
        return shown(super().__str__())


class GeometryError(ValueError):
    """Two grids that should coincide do not; the message names both and gives both maps."""

    def __str__(self):
        return shown(super().__str__())


class Note(UserWarning):
    """Something the user should know about what they gave, though it can be used.  A command prints it as one line."""
