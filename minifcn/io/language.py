"""The language of what a reader sees: the grader's feedback, the figures and the widgets.

It is chosen once for a process, by `use_language`.  A command passes the value of its flag ``--language``; without the
flag it gets the locale's language.  A Korean notebook asks for Korean in its first cell.  Until somebody chooses, it is
English, whatever the locale is: an English notebook has English figures.
"""

import os
import re
import sys
from importlib.util import find_spec

from ..errors import UserError

LANGUAGES = ("en", "ko")
EXTRA = "other languages than English need their extra: pip install 'minifcn[korean]'"
_chosen = ["en"]


def use_language(asked=None, environment=os.environ):
    """Choose the language of all that this process shows from now on, and return it.

    Parameters
    ----------
    asked : str, optional
        One of `LANGUAGES`; without it, the locale's language, and English with a note if its translation cannot be
        read.

    Raises
    ------
    UserError
        If there is no translation into the language that was asked for, or it cannot be read, because polib is not
        installed.
    """
    require_language(asked)
    language = asked or language_of(environment)
    if language != "en" and find_spec("polib") is None:
        if asked:
            raise UserError(EXTRA)
        print(f"note: {EXTRA}", file=sys.stderr)
        language = "en"
    _chosen[0] = language
    return language


def require_language(asked):
    """Raise UserError if `asked` is neither None nor one of `LANGUAGES`."""
    if asked not in (None, *LANGUAGES):
        raise UserError(f"there is no translation into {asked!r}: choose one of {', '.join(LANGUAGES)}")


def chosen():
    """The language that was chosen."""
    return _chosen[0]


def language_of(environment):
    """The language of a locale such as ``ko_KR.UTF-8``, or ``"en"`` if there is no translation for it."""
    locale = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := environment.get(name))), "")
    return next((language for language in LANGUAGES if re.match(rf"{language}\b|{language}_", locale)), "en")
