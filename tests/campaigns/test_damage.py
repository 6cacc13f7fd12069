"""Damaged bytes in every kind of file that minifcn reads: the file is read, or one sentence says why it cannot be."""

import io
import json
import resource
import time
from contextlib import suppress

import numpy as np
import pytest
from campaign import TooLong, alarm, campaign, damaged, right_or_refused
from PIL import Image

from minifcn.data import Folder
from minifcn.data.images import image_size, read_image, read_mask
from minifcn.io import load_checkpoint, load_weights, save_checkpoint
from minifcn.io.settings import read_settings
from minifcn.training.run_folder import Run

pytestmark = pytest.mark.campaign
MEMORY = 1 << 20  # KB; the limit on the growth of the process

CELL = {"cell_type": "code", "source": ["# Task 2.1\n", "x = 1"], "metadata": {}}
TOML = b'epochs = 3\nlr = 1e-6\nmodel = "fcn8s_mini"\nmirror = true\nname = [1, 2, {a = 1979-05-27T07:32:00Z}]\n'


def picture(kind):
    rng = np.random.default_rng(1)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def mask():
    file = io.BytesIO()
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(24, 32) % 5).save(file, "PNG")
    return file.getvalue()


def checkpoint(path):
    save_checkpoint(path, {"model.w": np.ones((3, 4), "f4"), "b": np.arange(5)}, {"epoch": 3, "names": ["a", "b"]})
    return path.read_bytes()


def archive(save):
    file = io.BytesIO()
    save(file, w=np.ones((3, 4), "f4"), b=np.arange(50))
    return file.getvalue()


def module(path):
    pytest.importorskip("jupytext", reason="pip install 'minifcn[course]'")
    from minifcn.course.cells import read_cells

    return read_cells(path)


def a_class(path):
    return [Folder(path.parent)[i] for i in range(2)]


def images(path):
    return read_image(path), image_size(path)


# the file's name; a function of its path that makes the bytes; the function that reads it
KINDS = {
    "checkpoint": ("last.safetensors", checkpoint, load_checkpoint),
    "weights": ("w.safetensors", checkpoint, load_weights),
    "npz": ("w.npz", lambda _: archive(np.savez), load_weights),
    "compressed npz": ("w.npz", lambda _: archive(np.savez_compressed), load_weights),
    "config.json": ("config.json", lambda _: json.dumps({"epochs": 3, "lr": 1e-6, "root": "x"}).encode(),
                    lambda path: Run.open(path.parent)),
    "settings.json": ("c.json", lambda _: b'{"epochs": 3, "lr": 1e-6}', read_settings),
    "settings.toml": ("c.toml", lambda _: TOML, read_settings),
    "classes.txt": ("classes.txt", lambda _: "sky\nwater\nl\u00e4nd\n건물\na\nb\n".encode(), a_class),
    "notebook": ("a2.ipynb", lambda _: json.dumps({"cells": [CELL] * 3, "metadata": {}}).encode(), module),
    "module": ("a2.py", lambda _: b"# %% [markdown]\n# text\n# %%\n# Task 2.1\nx = 1\n", module),
    "png": ("a.png", lambda _: picture("PNG"), images),
    "jpeg": ("a.jpg", lambda _: picture("JPEG"), images),
    "tiff": ("a.tif", lambda _: picture("TIFF"), images),
    "bmp": ("a.bmp", lambda _: picture("BMP"), images),
    "webp": ("a.webp", lambda _: picture("WEBP"), images),
    "mask": ("m.png", lambda _: mask(), read_mask),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file(kind, scenes):
    name, make, read = KINDS[kind]
    path = scenes / name
    data = make(path)
    path.write_bytes(data)
    assert read(path) is not None  # the undamaged file can be read
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def check(number, rng):
        path.write_bytes(damaged(data, rng))
        right_or_refused(read, path)

    campaign(f"damaged bytes, {kind}", 25, 500, check, seconds=10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


def test_a_reader_that_does_not_refuse_is_found(scenes):
    """The sabotage: a reader raises the decoder's error instead of a UserError."""
    path, data = scenes / "a.png", picture("PNG")

    def check(number, rng):
        path.write_bytes(damaged(data, rng))
        right_or_refused(lambda p: np.asarray(Image.open(p)), path)

    with pytest.raises(AssertionError, match=r"case \d+: "):
        campaign("sabotage of damaged bytes", 25, 25, check)


def test_a_reader_that_takes_too_long_is_noticed_even_if_it_catches_every_exception():
    with pytest.raises(TooLong), alarm(0.05), suppress(Exception):
        time.sleep(5)
