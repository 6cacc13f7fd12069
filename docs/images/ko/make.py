"""Take the pictures of docs/ko.md from the executed Korean notebooks: ``python docs/images/ko/make.py``.

``MINIFCN_EXECUTED=docs/notebooks pytest -m notebooks`` executes them.
"""

import base64
import io
import json
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent.parent / "notebooks" / "ko"
WIDTH = 1200  # most pixels

# picture: the notebook, and a text in the code cell that draws it
PICTURES = {
    "labels": ("00_start_here", "mf.viz.samples("),
    "strides": ("10_skips_and_crops", '"정답"'),
    "fields": ("04_receptive_fields", '"흔한 방식"'),
    "loss": ("05_loss_over_space", '"점수가 가장 큰 클래스"'),
    "patches": ("06_patches", '"모든 출력의 중심, 그리고 그중 셋의 패치"'),
    "page": ("07_from_classifier_to_fcn", '"어떤 숫자든 있을 확률"'),
    "sizes": ("07_from_classifier_to_fcn", '"완전 합성곱으로 바꾼 CaffeNet"'),
    "heat": ("07_from_classifier_to_fcn", '"7×7칸의 평균"'),
}


def cell(folder, name, text):
    """The only code cell of a notebook that contains a text."""
    cells = json.loads((folder / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    (found,) = (c for c in cells if c["cell_type"] == "code" and text in "".join(c["source"]))
    return found


if __name__ == "__main__":
    for picture, (name, text) in PICTURES.items():
        outputs = cell(NOTEBOOKS, name, text)["outputs"]
        (data,) = (o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {}))
        image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
        image.thumbnail((WIDTH, 10 * WIDTH))
        image.quantize(128).save(HERE / f"{picture}.png", optimize=True)
