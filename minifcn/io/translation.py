"""Translate finished texts where they are shown.

The code writes English.  A text with numbers or names in it comes from an f-string.  The catalogue has the f-string as
the English text, and the f-string is the pattern by which a finished text is recognised: the text in the place of each
``{expression}`` goes to the same expression of the translation.
"""

import re
from functools import lru_cache
from itertools import chain

from .catalogue import translations
from .language import chosen

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


def teller(*folders):
    """A function that translates a text into the chosen language, with the catalogues in these folders.

    Parameters
    ----------
    folders : Path
        Each has a file ``ko.po``; a catalogue that does not exist is empty.
    """
    return lambda text: translator(chosen(), folders)(text)


@lru_cache(maxsize=8)
def translator(language, folders):
    """A function that translates a text; one that it does not know stays English.

    Parameters
    ----------
    language : str
        One of ``language.LANGUAGES``.
    folders : tuple of Path
        Each has a catalogue for the language.
    """
    if language == "en":
        return str
    known = dict(chain(*(translations(folder / f"{language}.po").items() for folder in folders)))
    patterns = [(_pattern(text), re.findall(PLACE, text), text) for text in known if re.search(PLACE, text)]

    @lru_cache(maxsize=10_000)
    def parsed(text):
        """(number of the letters of a text that belong to known sentences, the translated text)."""
        start = len(text) - len(text.lstrip(ENDS))
        head, text = text[:start], text[start:]
        ways = [(0, text)]
        for end in [*(found.start() for found in re.finditer(r"[:;.] |[:.]$|, ", text)), len(text)]:
            first, mark, rest = text[:end], text[end : end + 2], text[end + 2 :]
            if mark == ", " and not _is_whole(first):
                continue
            # Only in a list, as in the name of a case, an unknown part stands before known ones.
            if found := sentence(first) or (mark == ", " and (0, first)):
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
                own = len(re.sub(PLACE, "", template))
                ways.append((own + sum(letters), own, known[template], places, values))
        if not ways:
            return None
        letters, _, *best = max(ways, key=lambda way: way[:2])  # of two readings, the one with the longer sentence
        return letters, _filled(*best)

    return lambda text: parsed(text)[1] if len(text) <= LONGEST else text


def _is_whole(text):
    """Whether a text does not end inside parentheses or brackets."""
    return all(text.count(a) == text.count(b) for a, b in ("()", "[]"))


def _pattern(text):
    """The pattern of the sentences that an f-string makes."""
    first, *parts = re.split(f"({PLACE})", text)
    places = [_place(p) if re.fullmatch(PLACE, p) else re.escape(p) for p in parts]
    if not first:
        places[0] = places[0].replace("|.)", "|[^:;])")  # not several sentences
    return re.compile(re.escape(first) + "".join(places), re.DOTALL)


def _place(place):
    """The pattern of what can stand in a place."""
    if place in NUMBERS:
        return r"([\d. ]+)"
    if place.endswith("shape}"):
        return r"(\([^()]*\))"
    return r"(\w+)" if "__name__" in place else r"((?>\([^()]*\)|.)+?)"  # a pair of parentheses is not divided


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
