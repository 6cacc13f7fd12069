"""The errors that a user can correct, and messages that every console can show.

The command line prints the message of a `UserError` or a `GeometryError` and exits with code 2.  Every other exception
is a bug and keeps its traceback.
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
"""The ASCII replacements of the signs in our messages."""


def _plain(error):
    """An error handler for `str.encode`: replaces signs by `PLAIN`, other characters by a backslash escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    failed = error.object[error.start : error.end]
    plain = (PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in failed)
    return "".join(plain), error.end


codecs.register_error("minifcn.plain", _plain)


def shown(text, in_files=True):
    """`text` with the signs replaced that standard output, or a file in the system's encoding, cannot hold.

    A user prints or logs the results of ``repr()`` and ``str()``.  A console in cp949, cp1252 or ASCII has no "−", and
    ``print`` would raise UnicodeEncodeError.  In UTF-8 the text stays as it is.

    Parameters
    ----------
    text : str
    in_files : bool
        Whether a file must be able to hold it too.

    Returns
    -------
    str
    """
    file = locale.getpreferredencoding(False) if in_files else None
    for encoding in (getattr(sys.stdout, "encoding", None), file):
        try:
            text = text.encode(encoding or "utf-8", "minifcn.plain").decode(encoding or "utf-8")
        except (LookupError, ValueError, TypeError):  # a substitute for stdout with an unusable encoding
            continue
    return text


def on_one_line(text, longest=200):
    """A text of a file without line breaks and control characters, which could change the console."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:longest])


class UserError(ValueError):
    """An input of the user cannot be used.

    The message is one sentence: what was given, what was expected, what to do.
    """

    def __str__(self):
        return shown(super().__str__())


class GeometryError(ValueError):
    """Two grids that must coincide do not, or a window does not fit its input; the message gives both."""

    def __str__(self):
        return shown(super().__str__())


class Note(UserWarning):
    """A warning about an input that can be used nevertheless.  A command prints it as one line."""
