"""Translate the grader's feedback where it is shown.

The judge, the hidden tests and the confined process of a submission write English.  A sentence with numbers or names
in it comes from an f-string.  The catalogue has the f-string as the English text, and the f-string is the pattern by
which a finished sentence is recognised: the text in the place of each ``{expression}`` goes to the same expression of
the translation.
"""

import ast
import os
import re
import sys
from functools import lru_cache
from itertools import chain
from pathlib import Path

from ..errors import UserError
from .catalogue import LANGUAGES, TWO_WORDS, translations, update

HERE = Path(__file__).parent
ASSIGNMENTS = HERE.parent.parent / "notebooks" / "assignments"
# the files whose sentences a student reads
SOURCES = (
    "cells", "confine", "cuda", "differences", "feedback", "grading", "guard", "judge", "probes", "process",
    "submissions",
)  # fmt: skip
PLACE = r"\{[^{}]*\}"  # of an expression in an f-string
LONGEST = 600  # letters; a longer text is a student's, and its search for sentences would take long
ENDS = ": ;,"  # what joins a sentence to others
NUMBERS = ("{points}", "{out_of}", "{count}", "{size}", "{number}", "{seed}")  # a text there is another sentence
# particles: after a consonant, after a vowel, after ㄹ
PARTICLES = {
    "을(를)": "을를을",
    "이(가)": "이가이",
    "은(는)": "은는은",
    "과(와)": "과와과",
    "(으)로": ("으로", "로", "로"),
}
DIGITS = {
    **dict.fromkeys("036", 0),
    **dict.fromkeys("2459", 1),
    **dict.fromkeys("178", 2),
}  # as they are read in Korean


def language_of(environment=os.environ):
    """The language of a locale such as ``ko_KR.UTF-8``, or ``"en"`` if there is no translation for it."""
    locale = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := environment.get(name))), "")
    return next((language for language in LANGUAGES if re.match(rf"{language}\b|{language}_", locale)), "en")


def language_for(asked):
    """The language that was asked for, or the locale's if its translation can be read; English with a note if not.

    Raises
    ------
    UserError
        If the translation that was asked for cannot be read.
    """
    language = asked or language_of()
    try:
        translator(language)
    except UserError as error:
        if asked:
            raise
        print(f"note: the feedback is in English: {error}", file=sys.stderr)
        return "en"
    return language


def catalogues(language):
    """The paths of the catalogues: of the package, and of the hidden tests, which are not in the package."""
    return [HERE / f"{language}.po", ASSIGNMENTS / "hidden" / f"{language}.po"]


def update_all(language):
    """Bring the catalogues up to date: for each, the texts without a translation."""
    return {path: update(path, english(path)) for path in catalogues(language)}


def english(catalogue):
    """The sentences that belong in one of the catalogues, in the order of the sources."""
    if catalogue.parent == HERE:
        files = [HERE / f"{name}.py" for name in SOURCES]
    else:
        files = sorted(catalogue.parent.glob("*.py"))
    found = [_Sentences(path).found for path in files]
    if catalogue.parent != HERE:
        headings = (re.findall(r"(?m)^# ## Task \S+: (.*?) \(", p.read_text(encoding="utf-8")) for p in _assignments())
        titles = (re.findall(r"(?m)^# # (.*)", p.read_text(encoding="utf-8"))[:1] for p in _assignments())
        found += [*headings, *titles]
    return list(dict.fromkeys(chain(*found)))


def _assignments():
    return sorted(ASSIGNMENTS.glob("a*.py"))


class _Sentences(ast.NodeVisitor):
    """Finds the literals of a source that a student may read: those of several words, and names of checks and cases."""

    def __init__(self, path):
        self.found = []
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_Expr(self, node):
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_Assign(self, node):
        """``VALUES, ZERO = "values and gradients", "at zero"`` names checks, ``ORDINALS`` counts values."""
        targets = [name for target in node.targets for name in getattr(target, "elts", [target])]
        names = [getattr(target, "id", "") for target in targets]
        if isinstance(node.value, ast.Tuple) and (
            names == ["ORDINALS"] or (names[1:] and all(map(str.isupper, names)))
        ):
            for value in node.value.elts:
                self._find(value, "[A-Za-z]{2}|^0 or")
        self.generic_visit(node)

    def visit_Call(self, node):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in ("Case", "Check", "operation", "say") and node.args:
            self._find(getattr(getattr(node.args[0], "func", None), "value", node.args[0]), "[A-Za-z]{2}")
        if name in ("mistake", "instead"):
            self.visit(node.args[0])  # the others are code
        elif name != "attempt":  # a cheat
            self.generic_visit(node)

    def visit_keyword(self, node):
        if node.arg not in ("cheats", "styles"):  # no student reads their names
            self.visit(node.value)

    def visit_JoinedStr(self, node):
        self._find(node)

    def visit_Constant(self, node):
        self._find(node)

    def _find(self, node, words=rf"{TWO_WORDS}|^an? \S+$"):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else f"{{{ast.unparse(p.value)}}}" for p in node.values]
            text = "".join(parts)
        else:
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        text = text.strip(ENDS)
        if re.search(words, re.sub(PLACE, "…", text)) and not re.search(
            r"\n|<|^#|^max_pool|\bint \w+,|float\*|^extern", text
        ):
            self.found.append(text)


@lru_cache(maxsize=len(LANGUAGES))
def translator(language):
    """A function that translates a sentence of the feedback; one that it does not know stays English.

    Parameters
    ----------
    language : str
        ``"en"`` or ``"ko"``.
    """
    if language == "en":
        return str
    known = dict(chain(*(translations(path).items() for path in catalogues(language))))
    patterns = [(_pattern(text), re.findall(PLACE, text), text) for text in known if re.search(PLACE, text)]

    @lru_cache(maxsize=10_000)
    def parsed(text):
        """(number of the letters of a text that belong to known sentences, the translated text)."""
        start = len(text) - len(text.lstrip(ENDS))
        head, text = text[:start], text[start:]
        ways = [(0, text)]
        for end in [*(found.start() for found in re.finditer(r"[:;.] |[:.]$", text)), len(text)]:
            first, mark, rest = text[:end], text[end : end + 2], text[end + 2 :]
            if found := sentence(first):
                others, translated = parsed(rest) if rest else (0, "")
                ways.append((found[0] + others, found[1] + mark + translated))
        letters, translated = max(ways, key=lambda way: way[0])
        return letters, head + translated

    def sentence(text):
        """The same for a text that is one sentence; None if it is unknown."""
        if text in known:
            return len(text), known[text]
        ways = []
        for pattern, places, template in patterns:
            if found := pattern.fullmatch(text):
                letters, values = zip(*map(parsed, found.groups()))
                ways.append((len(re.sub(PLACE, "", template)) + sum(letters), known[template], places, values))
        if not ways:
            return None
        letters, *best = max(ways, key=lambda way: way[0])
        return letters, _filled(*best)

    return lambda text: parsed(text)[1] if len(text) <= LONGEST else text


def _pattern(text):
    """The pattern of the sentences that an f-string makes."""
    first, *parts = re.split(f"({PLACE})", text)
    places = [_place(p) if re.fullmatch(PLACE, p) else re.escape(p) for p in parts]
    if not first:
        places[0] = places[0].replace(".+?", "[^:;]+?")  # not several sentences
    return re.compile(re.escape(first) + "".join(places), re.DOTALL)


def _place(place):
    """The pattern of what can stand in a place."""
    if place in NUMBERS:
        return r"([\d. ]+)"
    return r"(\([^()]*\))" if place.endswith("shape}") else r"(\w+)" if "__name__" in place else "(.+?)"


def _filled(text, places, values):
    """A translation with the values in their places; particles such as 을(를) follow the word before them."""
    waiting = [*zip(places, values)]
    filled = ""
    for part in re.split(f"({PLACE})", text):
        at = next((i for i, (place, _) in enumerate(waiting) if place == part), None)
        filled += part if at is None else waiting.pop(at)[1]
    return re.sub(r"(\w)([`)\]”]*)(을\(를\)|이\(가\)|은\(는\)|과\(와\)|\(으\)로)", _particle, filled)


def _particle(found):
    last, marks, both = found.groups()
    if "가" <= last <= "힣":
        kind = {0: 1, 8: 2}.get((ord(last) - ord("가")) % 28, 0)
    elif last in DIGITS:
        kind = DIGITS[last]
    else:
        return found[0]
    return last + marks + PARTICLES[both][kind]
