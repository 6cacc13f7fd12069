"""The notebooks in a real JupyterLab, in a browser without a screen: widgets follow the keyboard and the mouse.

``python -m pytest -m lab tests/lab`` runs it; it needs Chromium on the path and ``pip install playwright``.  A page may
contact this machine only.  Screenshots go to the folder ``MINIFCN_SCREENSHOTS``, or a temporary one (-s prints it).
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.lab
NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
WIDGETS = re.compile(r"(\w+Stepper|\w+Explorer|\w+Playground|LiveTraining)\(")
SETTINGS = {
    "notebook-extension/tracker": {
        "windowingMode": "none"
    },  # put all cells into the page, also those that are not visible
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
PLACES = [(x, y) for y in (0.35, 0.7, 0.55) for x in (0.1, 0.3, 0.6, 0.85)]  # fractions of a picture to click at
HARMLESS = re.compile(r"favicon|ResizeObserver|Failed to load resource.*(404|409)|workspaces")


def code_of(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


WITH_WIDGETS = [
    pytest.param(path, marks=pytest.mark.korean if path.parent.name == "ko" else ())
    for path in (*sorted(NOTEBOOKS.glob("*.ipynb")), *sorted(NOTEBOOKS.glob("ko/*.ipynb")))
    if WIDGETS.search(code_of(path))
]


def name_of(path):
    return path.relative_to(NOTEBOOKS).with_suffix("").as_posix().replace("/", "-")


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory):
    folder = Path(os.environ.get("MINIFCN_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab over a copy of the notebooks."""
    root, settings = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("settings")
    shutil.copytree(NOTEBOOKS, root / "notebooks")
    for name, values in SETTINGS.items():
        file = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--IdentityProvider.token=lab", f"--ServerApp.root_dir={root}",
    ]  # fmt: skip
    with open(root / "lab.log", "wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(settings)}
        )
    try:
        for _ in range(120):
            try:
                urlopen(f"http://127.0.0.1:{port}/api?token=lab", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise RuntimeError((root / "lab.log").read_text())
        yield f"http://127.0.0.1:{port}/lab/workspaces/{{}}/tree/notebooks/{{}}?token=lab&reset"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        running = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield running
        running.close()


@pytest.fixture
def page(browser):
    """A page that records requests to other machines (`asked`) and errors in its console (`errors`)."""
    page = browser.new_page(viewport={"width": 1400, "height": 1100})
    page.asked, page.errors = [], []
    ours = re.compile(r"^(https?|wss?)://(localhost|127\.0\.0\.1)|^(data|blob|about):")
    page.on("request", lambda request: None if ours.match(request.url) else page.asked.append(request.url))
    page.on(
        "console", lambda m: page.errors.append(m.text) if m.type == "error" and not HARMLESS.search(m.text) else None
    )
    yield page
    page.close()


def open_and_run(page, address):
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_selector(".jp-Notebook", timeout=90_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=90_000)
    page.wait_for_timeout(4000)  # the kernel is idle before the widget manager is ready
    page.get_by_text("Run", exact=True).first.click()
    page.get_by_text("Run All Cells", exact=True).click()
    idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    quiet = 0  # half seconds; a folded cell shows no number, so the last number alone does not say that all is done
    for _ in range(240):
        numbers = "".join(page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts())
        quiet = quiet + 1 if re.search(r"\[\d+\]", numbers) and "*" not in numbers and idle.count() else 0
        if quiet == 4:
            return
        failed = page.locator("[data-mime-type$='jupyter.stderr'], [data-mime-type$='jupyter.error']")
        assert not failed.count(), failed.first.inner_text()
        page.wait_for_timeout(500)
    raise AssertionError("the notebook did not finish")


def shown(box):
    """What a widget shows: the address of its image, and its text."""
    return box.locator("img.widget-image, img.jupyter-widgets").first.get_attribute("src"), box.locator(
        "code"
    ).first.inner_text()


def changes(box, before):
    """Wait until the image and the text of a widget have changed, and return both."""
    for _ in range(80):
        now = shown(box)
        if now[0] != before[0] and now[1] != before[1]:
            return now
        box.page.wait_for_timeout(100)
    raise AssertionError(f"the widget still shows {now}")


@pytest.mark.parametrize("path", WITH_WIDGETS, ids=name_of)
def test_every_slider_moves_its_picture_and_its_words(path, lab, page, screenshots):
    open_and_run(page, lab.format(name_of(path), path.relative_to(NOTEBOOKS).as_posix()))
    page.wait_for_selector(".noUi-handle, .jupyter-button", timeout=60_000)
    boxes = page.locator(".jp-OutputArea-output .widget-vbox:has(.noUi-handle)")
    for k in range(boxes.count()):
        box = boxes.nth(k)
        for handle in box.locator(".noUi-handle").all():
            handle.scroll_into_view_if_needed()
            before = shown(box)
            handle.focus()
            at = handle.get_attribute("aria-valuenow")
            page.keyboard.press("ArrowRight")
            if handle.get_attribute("aria-valuenow") == at:  # the slider was at its end
                page.keyboard.press("ArrowLeft")
            before = changes(box, before)
            place, track = (
                handle.bounding_box(),
                handle.locator("xpath=ancestor::*[contains(@class,'noUi-base')]").bounding_box(),
            )
            x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
            # From the middle it goes right, to the larger image: the smallest may have one cell, which no key leaves.
            there = track["x"] + track["width"] * (0.15 if x > track["x"] + 0.6 * track["width"] else 0.85)
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(there, y, steps=6)
            page.mouse.up()
            changes(box, before)
        touch = box.locator(".minifcn-touch")
        if touch.count():
            touch.scroll_into_view_if_needed()
            before, place = shown(box), touch.bounding_box()
            touch.focus()
            for key in ("ArrowDown", "ArrowRight"):
                page.keyboard.press(key)
                before = changes(box, before)
            for x, y in PLACES:  # a click beside the maps changes nothing: try until one has changed
                page.mouse.click(place["x"] + x * place["width"], place["y"] + y * place["height"])
                page.wait_for_timeout(1000)
                if shown(box) != before:
                    break
            changes(box, before)
        box.scroll_into_view_if_needed()
        page.screenshot(path=screenshots / f"{name_of(path)}-{k}.png")
    page.screenshot(path=screenshots / f"{name_of(path)}.png", full_page=True)
    print(f"screenshots are in {screenshots}")
    assert boxes.count() or "LiveTraining(" in code_of(path)
    assert not page.asked, f"the page asked {page.asked[:5]}"
    assert not page.errors, page.errors[:5]


def test_pixels_are_painted_void_by_a_stroke_of_the_mouse_and_by_keys(lab, page):
    open_and_run(page, lab.format("painting", "05_loss_over_space.ipynb"))
    box = page.locator(".widget-vbox:has(.minifcn-touch)").last
    brush, picture = box.locator(".noUi-handle"), box.locator(".minifcn-touch")
    brush.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(1000)
    picture.scroll_into_view_if_needed()
    place, judged = picture.bounding_box(), [pixels_in_the_sum(box)]
    x, y = (place["x"] + 0.6 * place["width"], place["y"] + 0.3 * place["height"])  # on the map of labels
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 100, y + 30, steps=20)
    page.mouse.up()
    for key in (None, "ArrowRight", "ArrowDown"):
        if key:
            picture.focus()
            page.keyboard.press(key)
        page.wait_for_timeout(1500)
        judged.append(pixels_in_the_sum(box))
    assert judged[1] < judged[0] - 5 and judged[3] <= judged[2] <= judged[1]
    assert "before painting" in box.inner_text()
    assert not page.errors, page.errors[:5]


def pixels_in_the_sum(box):
    return int(re.search(r"sum over (\d+) pixels", box.inner_text())[1])
