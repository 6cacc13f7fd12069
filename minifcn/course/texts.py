"""Texts from submissions, made safe to show: no control characters, no names of folders of this machine."""

import re

FOLDERS = re.compile(r"(?<![\w.~])(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\"`<>|:,;()\[\]{}]+)+(?=[\\/])")


def printable(text):
    """A student's text without control characters: escape sequences could rewrite the instructor's terminal.

    Characters that reorder the text around them (bidirectional controls) or have no width are replaced, too.
    """
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def message(text):
    """The message of a submission's error on one line, without the folders of paths, which name others' files."""
    return FOLDERS.sub("…", printable(" ".join(text.split())))
