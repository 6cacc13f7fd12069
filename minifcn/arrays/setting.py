"""A value of a context variable inside a ``with`` block: each thread and each task has its own."""

from contextlib import ContextDecorator


class Setting(ContextDecorator):
    """Sets `variable` to `value` inside a ``with`` block, or inside a function that it decorates.

    An object serves any blocks of one thread or task, also nested ones.  It takes a quarter of the time of a function
    with ``contextlib.contextmanager``.
    """

    def __init__(self, variable, value):
        self.variable, self.value, self.tokens = variable, value, []

    def __enter__(self):
        self.tokens.append(self.variable.set(self.value))

    def __exit__(self, *error):
        self.variable.reset(self.tokens.pop())

    def _recreate_cm(self):  # for each call of a decorated function: threads may call it at the same time
        return Setting(self.variable, self.value)
