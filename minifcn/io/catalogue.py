"""Catalogues of translations: gettext's ``.po`` files, read and brought up to date with polib."""

from ..errors import UserError
from .language import EXTRA, LANGUAGES

TWO_WORDS = r"[A-Za-z]{2}[,;:]? +(\S+ +){0,3}\W?[A-Za-z]{2}"  # of a literal that is a text, and not a key or a name


def translations(path):
    """The translations in a catalogue: a dict of {English: translated}, without those that are empty or fuzzy.

    Parameters
    ----------
    path : Path
        A ``.po`` file; one that does not exist is empty.

    Raises
    ------
    UserError
        If polib is not installed, or cannot read the file.
    """
    return {entry.msgid: entry.msgstr for entry in _read(path) if entry.translated()}


def update(path, english):
    """Give a catalogue an entry for each English text, in their order, and return those that have no translation.

    The translations of texts that are no longer in use stay at the end of the file, as obsolete, until no translation
    is missing: an English text that was changed a little needs its old translation once more.

    Parameters
    ----------
    path : Path
        A ``.po`` file; it is written if its content changes.
    english : iterable of str

    Returns
    -------
    list of str
    """
    import polib

    before = _read(path)
    known = {entry.msgid: entry for entry in before}
    after = polib.POFile(wrapwidth=110)
    after.metadata = {
        "Language": path.stem if path.stem in LANGUAGES else path.parent.name,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
    }
    for text in dict.fromkeys(english):
        entry = known.pop(text, None) or polib.POEntry(msgid=text)
        entry.obsolete = False
        after.append(entry)
    missing = [entry.msgid for entry in after if not entry.translated()]
    for entry in known.values() if missing else ():
        entry.obsolete = True
        if entry.msgstr:
            after.append(entry)
    text = f"{after}\n".rstrip("\n") + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    return missing


def _read(path):
    """The entries of a catalogue, as polib reads them."""
    try:
        import polib
    except ImportError:
        raise UserError(EXTRA) from None
    if not path.exists():
        return polib.POFile()
    try:
        return polib.pofile(str(path), encoding="utf-8", wrapwidth=110)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a catalogue of translations ({error})") from None
