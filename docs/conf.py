"""How the documentation is built: ``python -m sphinx -W docs site``.

The site shows executed notebooks, which ``MINIFCN_EXECUTED=docs/notebooks pytest -m notebooks`` writes; without them it
has no notebooks.  The site loads nothing from other servers: MathJax and all scripts are part of it.
"""

import base64
import inspect
import io
import json
import re
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from PIL import Image, ImageOps  # noqa: E402

import minifcn  # noqa: E402

project, author, copyright = "minifcn", "the authors of minifcn", "the authors of minifcn"
release = version = minifcn.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["images", "experiments", "benchmarks"]
html_theme = "pydata_sphinx_theme"
html_title = "minifcn"
html_static_path = ["_static"]
html_css_files = ["minifcn.css"]
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_theme_options = dict(
    navbar_end=["theme-switcher"], secondary_sidebar_items=["page-toc"], show_prev_next=True,
    footer_start=["copyright"],
    footer_end=[], show_toc_level=2, header_links_before_dropdown=5,
)  # fmt: skip
# Lines are long, 120 columns of code and signatures, so only the notebooks have a list of pages at the side.
html_sidebars = {"[!n]**": [], "notebooks": [], "notebooks/**": ["sidebar-nav-bs"]}

mathjax_path = "mathjax.js"
mathjax3_config = {"chtml": {"scale": 0.9}, "svg": {"scale": 0.9}}  # beside the theme's letters
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_render_markdown_format = "myst"  # with formulas and tables: what `explain()` shows
nb_mime_priority_overrides = [("html", t, k) for k, t in enumerate(("text/html", "image/svg+xml", "image/png"))]
suppress_warnings = ["mystnb.unknown_mime_type"]  # widgets, beside the animation that stands for them here

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_inherit_docstrings = False  # inherited members are documented only at the class that defines them
highlight_language = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False


def expanded(page):
    """The text of a page with directives in place of its lines ``.. public:: PACKAGE.NAME``, so that it lists no names.

    NAME is a file of the package: its functions and classes that the package exports.  Or it is a table of the package:
    the functions or classes in it.  Options below the line are given to classes.
    """
    return re.sub(r"^\.\. public:: (\S+)\.(\w+)\n((?:   :.*\n)*)", _directives, page, flags=re.M)


def _directives(line):
    package, name, options = line.groups()
    there = import_module(package)
    if name.isupper():
        public = getattr(there, name).values()
    else:
        file = import_module(f"{package}.{name}")
        own = [value for key, value in vars(file).items() if key in there.__all__]
        public = [value for value in own if getattr(value, "__module__", "") == file.__name__]
    return "\n".join(
        f".. autoclass:: {package}.{value.__name__}\n{options}"
        if inspect.isclass(value)
        else f".. autofunction:: {package}.{value.__name__}\n"
        for value in public
    )


def listed():
    """A table of the executed notebooks: a small figure of each, its number, its title and what it shows."""
    rows = ["| | Notebook |", "|---|---|"]
    for path in sorted((HERE / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        title, text = "".join(cells[0]["source"]).removeprefix("# ").split("\n\n")[:2]
        figures = (output.get("data", {}) for cell in cells for output in cell.get("outputs", ()))
        largest = max((data["image/png"] for data in figures if "image/png" in data), key=len, default="")
        if largest:
            picture = Image.open(io.BytesIO(base64.b64decode(largest))).convert("RGB")
            ImageOps.fit(picture, (320, 200)).save(path.with_suffix(".png"))
        shown = f"![]({path.parent.name}/{path.stem}.png)" if largest else ""
        rows.append(f"| {shown} | **[{path.stem[:2]} {title}](notebooks/{path.name})**<br>{' '.join(text.split())} |")
    return "\n".join(rows) if rows[2:] else ""


def numbered(line):
    """Lines of a table of contents, one for each executed notebook of a folder, in place of the line ``FOLDER/*``."""
    paths = sorted((HERE / line[1]).glob("*.ipynb"))
    titles = ("".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]) for path in paths)
    lines = [f"{p.stem[:2]} {t.splitlines()[0].removeprefix('# ')} <{line[1]}/{p.stem}>" for p, t in zip(paths, titles)]
    return "\n".join(lines) or line[0]


def prepare(app, page, source):
    """Expand the page.  Links to the notebooks of the repository lead to their pages here, if they were executed."""

    def linked(link):
        return f"[{link[1]}]({link[2]})" if (HERE / link[2]).exists() else link[1]

    if page == "notebooks":
        source[0] = source[0].replace("% the list of notebooks", listed())
    source[0] = re.sub(r"^(notebooks[\w/]*)/\*$", numbered, source[0], flags=re.M)
    source[0] = expanded(re.sub(r"\[([^]]*)\]\(\.\./(notebooks/[\w/]+\.ipynb)\)", linked, source[0]))


NOT_EXECUTED = {
    "notebooks": "# Notebooks\n\nNot executed for this build; they are in the folder `notebooks/` of the repository.\n",
    "notebooks/ko": "# 노트북\n\n이 빌드에서는 실행하지 않았습니다. 저장소의 `notebooks/ko/` 폴더에 있습니다.\n",
}


def mark_korean(app, page, template, context, doctree):
    """Say that the Korean pages are Korean: browsers then choose fonts, hyphenation and voices for it."""
    if page == "ko" or page.startswith("notebooks/ko/"):
        context["language"] = "ko"


def setup(app):
    """Connect the functions; each folder of notebooks that were not executed gets a page that says so."""
    app.connect("source-read", prepare)
    app.connect("html-page-context", mark_korean)
    for name, text in NOT_EXECUTED.items():
        folder = HERE / name
        if not folder.is_dir() or not any(folder.glob("*.ipynb")):
            folder.mkdir(exist_ok=True)
            (folder / "README.md").write_text(text, encoding="utf-8")
