"""The one error that is the user's to mend: a wrong file, flag, shape or label.

The command line prints its message and exits with 2; everything else is a bug and keeps its traceback.
"""

from .tables import shown


class UserError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence: what was given, what was expected, what to do.
    """

    def __str__(self):
        return shown(super().__str__())


class Note(UserWarning):
    """Something the user should know about what they gave, though it can be used.  A command prints it as one line."""
