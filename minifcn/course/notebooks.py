"""Translate the course's notebooks: text, comments and labels come from catalogues, code comes from the notebook."""

import ast
import io
import json
import re
import tokenize
from pathlib import Path

from ..io.catalogue import TWO_WORDS, translations, update

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
TRANSLATED = ("00", "02", "04", "05", "06", "07", "09", "10")  # the numbers of the notebooks that are translated
# The first code cell of a translated notebook
LANGUAGE = {
    "ko": """from minifcn.viz import use_language

if not use_language("ko"):
    print("한글 글꼴이 없어서 그림 속의 한글이 네모로 보일 수 있습니다. 설치: pip install 'minifcn[korean]'")"""
}
# On the site: the words beside a folded cell.
PROMPTS = {"ko": {"code_prompt_show": "코드 보기", "code_prompt_hide": "코드 숨기기"}}
KEPT = re.compile(r"# (fmt|noqa|type):")  # comments that programs read
DRAWS = {"print", "set_title", "set_xlabel", "set_ylabel", "suptitle", "text", "annotate"}  # calls that show a text
NAMED = {"arrays", "feature_maps"}  # functions whose first argument is a dictionary with titles as keys
LABELS = {"title", "xlabel", "ylabel", "label"}  # parameters that are shown
SETTINGS = {"loc", "textcoords"}  # parameters whose values have blanks and are not shown


def originals():
    """The paths of the notebooks to translate."""
    return [path for path in sorted(FOLDER.glob("*.ipynb")) if path.name[:2] in TRANSLATED]


def catalogue_of(path, language):
    """The path of the catalogue of a notebook."""
    return FOLDER / language / f"{path.stem}.po"


def translate(language):
    """Bring the catalogues of all notebooks up to date, and write the translated notebooks beside them.

    A text without a translation stays English.

    Parameters
    ----------
    language : str
        ``"ko"``: the folder in ``notebooks/`` of the catalogues and the translated notebooks.

    Returns
    -------
    dict of {Path: list of str}
        For each catalogue, the texts without a translation.
    """
    missing = {}
    for path in originals():
        catalogue = catalogue_of(path, language)
        missing[catalogue] = update(catalogue, english(path))
        target = catalogue.with_suffix(".ipynb")
        target.write_text(translated(path, language), encoding="utf-8", newline="\n")
    return missing


def translated_heading(notebook, heading, language):
    """The heading of a section of a translated notebook; None if there is none."""
    found = translations(catalogue_of(FOLDER / notebook, language)).get(f"## {heading}")
    return found and found.removeprefix("## ")


def english(path):
    """The texts of a notebook that have a translation, in order."""
    return [text for _, pieces in _cells(_notebook(path)) for text, is_text in pieces if is_text]


def translated(path, language):
    """The JSON text of a notebook in another language."""
    notebook, known = _notebook(path), translations(catalogue_of(path, language))
    for cell, pieces in _cells(notebook):
        source = "".join(known.get(text, text) if is_text else text for text, is_text in pieces)
        cell["source"] = source.splitlines(keepends=True)
    cell = {"cell_type": "code", "execution_count": None, "id": "language", "metadata": {}, "outputs": []}
    notebook["cells"].insert(1, cell | {"source": LANGUAGE[language].splitlines(keepends=True)})
    notebook["metadata"]["mystnb"] = PROMPTS[language]
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _notebook(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _cells(notebook):
    """Each cell with its pieces, (text, whether it is translated), whose texts joined are the cell's source."""
    for cell in notebook["cells"]:
        pieces = _paragraphs if cell["cell_type"] == "markdown" else _comments_and_labels
        yield cell, list(pieces("".join(cell["source"])))


def _paragraphs(source):
    """The pieces of a text cell: paragraphs and items are texts; formulas without words, code and tags are not."""
    item = r"(?m)^(?=\d+\. |[-*] )"
    tag = "</?(?:details|summary)>"
    for part in re.split(rf"(?ms)(^```.*?^```$|^\$\$.*?^\$\$$|{tag}|\n[ \t]*\n+)", source):
        for piece in re.split(item, part):
            text = piece.strip("\n")
            no_text = ("```", "<") if "\\text{" in piece else ("```", "<", "$$")
            is_text = bool(re.search(r"[A-Za-z]", text)) and not piece.startswith(no_text)
            head = piece[: piece.index(text)]
            yield from ((head, False), (text, is_text), (piece[len(head) + len(text) :], False))


def _comments_and_labels(source):
    """The pieces of a code cell.  Comments, docstrings, and the texts that figures and prints show are translated."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    spans = sorted({*_comments(source, starts), *_strings(source, starts)})
    at = 0
    for begin, end in spans:
        yield source[at:begin], False
        yield source[begin:end], True
        at = end
    yield source[at:], False


def _comments(source, starts):
    """(begin, end) of the comments."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not KEPT.match(token.string) and re.search("[a-z]{2}", token.string):
            begin = starts[token.start[0] - 1] + token.start[1]
            yield begin, begin + len(token.string)


def _strings(source, starts):
    """(begin, end) of the literals that are docstrings or texts that a reader sees."""
    lines, texts = source.splitlines(), _Texts()
    texts.visit(ast.parse(source))
    for node in texts.found:
        ends = ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        # ast counts a column in bytes of UTF-8
        yield tuple(starts[row - 1] + len(lines[row - 1].encode()[:column].decode()) for row, column in ends)


class _Texts(ast.NodeVisitor):
    """Finds the literals that a reader sees: several words, or a label of a figure."""

    def __init__(self):
        self.found = []

    def visit_FunctionDef(self, node):
        if ast.get_docstring(node):
            self._find(node.body[0].value, "[A-Za-z]")
        self.generic_visit(node)

    visit_ClassDef = visit_FunctionDef

    def visit_Call(self, node):
        if getattr(node.func, "attr", getattr(node.func, "id", "")) in DRAWS:
            for argument in node.args:
                self._find(argument, r"[A-Za-z]{2}")
        if getattr(node.func, "attr", "") == "join":
            self._find(node.func.value, "[a-z]{2}")  # " or ".join(...)
        if getattr(node.func, "attr", "") in NAMED:
            for key in node.args[0].keys if isinstance(node.args[0], ast.Dict) else ():
                self._find(key, r"[A-Za-z]{3}")
        self.generic_visit(node)

    def visit_keyword(self, node):
        if node.arg in LABELS:
            self._find(node.value, r"[A-Za-z]{2}")
        if node.arg not in SETTINGS:
            self.visit(node.value)

    def visit_List(self, node):
        """In a list of texts, single words are texts, too."""
        self._find_together(node.elts)
        self.generic_visit(node)

    visit_Tuple = visit_List

    def visit_Dict(self, node):
        self._find_together(node.keys)
        self.generic_visit(node)

    def visit_Assert(self, node):
        """What an assertion compares stays as it is."""

    def visit_JoinedStr(self, node):
        self._find(node)

    def visit_Constant(self, node):
        self._find(node)

    def _find_together(self, nodes):
        texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        if len(texts) == len(nodes) and any(re.search(TWO_WORDS, text) for text in texts):
            for node in nodes:
                self._find(node, r"[A-Za-z]{2}")

    def _find(self, node, text=TWO_WORDS):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        shown = "".join(str(part.value) if isinstance(part, ast.Constant) else " … " for part in parts)
        literal = isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)
        if literal and re.search(text, shown) and node not in self.found:
            self.found.append(node)
