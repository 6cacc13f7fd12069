"""The exercises of a notebook: markdown cells ``### 05.3`` with three folded hints and a folded worked answer."""

import json
import re

NUMBER = re.compile(r"### (\d\d\.\d+)\n\n")
FOLD = re.compile(r"^<details><summary>(.*?)</summary>\n\n(.*?)\n\n</details>$", re.M | re.S)
CODE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def exercises(path):
    """{number: (task, {title of a fold: its text})} of a notebook file, in order."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = {}
    for text in texts:
        if number := NUMBER.match(text):
            task = text[number.end() :].partition("<details>")[0]
            found[number[1]] = task.strip(), dict(FOLD.findall(text))
    return found


def answers(path):
    """{number: the code of its worked answer} of a notebook file."""
    return {number: "\n".join(CODE.findall(folds["Answer"])) for number, (_, folds) in exercises(path).items()}
