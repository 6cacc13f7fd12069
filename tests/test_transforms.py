"""Preprocessing and Augment: image and label change in the same way, and only as requested."""

import json

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from minifcn.data import Augment, Preprocessing, Shapes
from minifcn.data.transforms import CAFFE, colour_map, recoloured
from minifcn.data.views import Repeated, Resized
from minifcn.errors import UserError


@pytest.fixture
def sample():
    """An image whose red and green channels are the position of each pixel, and a label with the same pattern."""
    y, x = np.mgrid[:24, :24].astype(np.uint8)
    return np.stack([y * 10, x * 10, y ^ x], -1), 15 * (y // 6 * 4 + x // 6)


def rng(seed=0):
    return np.random.default_rng(seed)


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
        {"size": 0},
        {"size": "180"},
    ],
)
def test_invalid_preprocessing_is_refused(fields):
    with pytest.raises(UserError):
        Preprocessing.from_dict(fields)


@pytest.mark.parametrize("images", [np.zeros((4, 4, 3)), np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4), np.uint8)])
def test_preprocessing_wants_raw_images(images):
    with pytest.raises(ValueError, match="uint8"):
        Preprocessing()(images)


OFF = {"mirror": False, "jitter": 0.0}


def outcomes(augment, sample, draws=40):
    return [augment(*sample, rng(seed)) for seed in range(draws)]


def test_augmentation_does_nothing_that_was_not_asked(sample):
    for image, label in outcomes(Augment(**OFF), sample, 3):
        np.testing.assert_array_equal(image, sample[0])
        np.testing.assert_array_equal(label, sample[1])


def test_image_and_label_are_mirrored_alike_half_of_the_time(sample):
    mirrored = 0
    for image, label in outcomes(Augment(mirror=True, jitter=0), sample):
        k = int(not np.array_equal(image, sample[0]))
        expected = [a[:, ::-1] if k else a for a in sample]
        np.testing.assert_array_equal(image, expected[0])
        np.testing.assert_array_equal(label, expected[1])
        mirrored += k
    assert 10 < mirrored < 30


def test_jitter_moves_every_pixel_alike_and_fills_the_rest(sample):
    moved = set()
    for image, label in outcomes(Augment(mirror=False, jitter=0.22, fill=(1, 2, 3)), sample):  # 5.28 pixels of 24
        y, x = np.nonzero(label != 255)
        moves = (image[y, x, :2] // 10).astype(int) - np.stack([y, x], 1)  # old position minus new position
        assert (moves == moves[0]).all() and abs(moves[0]).max() <= 5
        np.testing.assert_array_equal(label[y, x], sample[1][tuple((np.stack([y, x], 1) + moves[0]).T)])
        assert (image[label == 255] == (1, 2, 3)).all()
        assert (label != 255).sum() == np.prod(24 - abs(moves[0]))
        moved.add(tuple(moves[0]))
    assert len(moved) > 20


@pytest.mark.parametrize("side", [1, 33, 180, 1000])
def test_the_same_jitter_leaves_the_same_share_of_every_picture(side):
    """With the largest jitter that the data sets get, at least a quarter of a picture stays, however small it is."""
    sample = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    left = [(label == 0).mean() for _, label in outcomes(Augment(jitter=0.5), sample, 200)]
    assert min(left) >= 0.25 and (side == 1 or 0.55 < np.mean(left) < 0.65)  # (1 - 1/4)² on average


def test_scale_moves_image_and_label_alike_keeps_ids_and_fills_only_what_the_picture_leaves_free(sample):
    sizes = []
    for image, label in outcomes(Augment(**OFF, scale=(0.5, 2), fill=(0, 0, 77)), sample):
        assert image.shape == sample[0].shape and label.shape == sample[1].shape
        assert set(np.unique(label)) <= {*np.unique(sample[1]), 255}
        known = label != 255
        inner = (
            known & np.roll(known, 2, (0, 1)) & np.roll(known, -2, (0, 1))
        )  # at the edge, interpolation mixes in the fill colour
        inner[:2] = inner[-2:] = inner[:, :2] = inner[:, -2:] = False
        source = np.clip(image[inner, :2] / 10, 0, 23)  # the pixel's position before the zoom, interpolated
        off_edge = (abs((source + 0.5) % 6 - 3) < 2).all(1)  # not next to another label
        expected = sample[1][tuple(source.round().astype(int).T)]
        assert (
            label[inner][off_edge] == expected[off_edge]
        ).mean() > 0.97  # not 1, because label positions are rounded to whole pixels
        sizes.append(known.mean())
    assert min(sizes) < 0.4 and 10 < sizes.count(1.0) < 30  # a magnified picture covers all


def test_a_crop_is_a_rectangle_of_the_picture_and_every_place_is_equally_likely(sample):
    corners = []
    for image, label in outcomes(Augment(**OFF, crop=(20, 6)), sample, 400):
        y, x = image[0, 0, :2] // 10
        np.testing.assert_array_equal(image, sample[0][y : y + 20, x : x + 6])
        np.testing.assert_array_equal(label, sample[1][y : y + 20, x : x + 6])
        corners.append((y, x))
    rows, columns = np.transpose(corners)
    assert set(rows) == {*range(5)} and set(columns) == {*range(19)}  # 24 - 20 + 1 and 24 - 6 + 1 places
    assert np.bincount(rows).min() > 50


def test_a_crop_that_is_larger_than_the_picture_contains_it(sample):
    for image, label in outcomes(Augment(**OFF, crop=(30, 40), fill=(9, 9, 9)), sample, 5):
        assert image.shape == (30, 40, 3) and (label != 255).sum() == 24 * 24
        np.testing.assert_array_equal(label[label != 255].reshape(24, 24), sample[1])
        assert (image[label == 255] == 9).all()


def test_a_window_takes_the_place_of_the_fill(sample):
    """If the data set has window(), Augment asks it for the rectangle that jitter and scale have chosen."""
    asked = []

    def window(top, left, height, width):
        asked.append((top, left, height, width))
        return np.full((height, width, 3), 9, np.uint8), np.full((height, width), 3, np.uint8)

    for seed in range(40):
        image, label = Augment(jitter=0.2, scale=(0.5, 2))(*sample, rng(seed), window=window)
        assert image.shape == sample[0].shape and (image == 9).all() and (label == 3).all()
    heights = [h for _, _, h, _ in asked]
    assert min(heights) < 16 and max(heights) > 36
    for top, left, h, w in asked:
        assert min(24 - h, 0) - 4 <= top <= max(24 - h, 0) + 4 and min(24 - w, 0) - 4 <= left <= max(24 - w, 0) + 4


class Drawn:
    """A random generator that always draws the same: changes of brightness, contrast and saturation, then of hue."""

    def __init__(self, *factors, hue=0.0):
        self.uniform = lambda low, high, size=None: hue if size is None else np.array(factors)


@pytest.fixture
def photo():
    """Random colours, none so bright or dark that a change would be clipped."""
    return np.random.default_rng(0).integers(60, 180, (16, 16, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "factors, enhance", [((1, 0, 0), ImageEnhance.Brightness), ((0, 0, 1), ImageEnhance.Color)]
)  # fmt: skip
def test_changes_of_brightness_and_saturation_are_pillows(photo, factors, enhance):
    changed = recoloured(photo, *colour_map(0.3, Drawn(*factors)))
    expected = np.asarray(enhance(Image.fromarray(photo)).enhance(1.3)).astype(int)
    assert abs(changed - expected).max() <= 1  # Pillow rounds the grey that it blends with


def test_a_change_of_contrast_is_about_mid_grey(photo):
    changed = recoloured(photo, *colour_map(0.2, Drawn(0, -1, 0)))
    assert abs(changed - ((photo - 127.5) * 0.8 + 127.5)).max() <= 0.5 + 1e-3


def test_a_turn_of_the_hue_keeps_brightness_and_greys(photo):
    matrix, offset = colour_map(1 - 1e-9, Drawn(0, 0, 0, hue=1.0))
    np.testing.assert_allclose(matrix @ [1, 1, 1], 1, atol=1e-9)
    np.testing.assert_allclose(np.linalg.matrix_power(matrix, 12), np.eye(3), atol=1e-6)  # 12 turns of 30°
    changed = recoloured(photo, matrix, offset)
    grey, before = (np.asarray(Image.fromarray(a).convert("L")).astype(int) for a in (changed, photo))
    assert abs(grey - before).max() <= 2 and abs(changed.astype(int) - photo).max() > 10


def test_colour_changes_the_image_alone_and_within_bounds(sample):
    for image, label in outcomes(Augment(**OFF, colour=0.3), sample):
        np.testing.assert_array_equal(label, sample[1])
        assert image.dtype == np.uint8
    matrices = [colour_map(0.3, rng(seed))[0] for seed in range(200)]
    brightness = [(m @ [1, 1, 1])[0] for m in matrices]
    assert 0.7**2 <= min(brightness) < 0.75 and 1.3 < max(brightness) <= 1.3**2


@pytest.mark.parametrize(
    "options",
    [
        {"jitter": -0.1}, {"jitter": 8}, {"colour": float("nan")}, {"colour": 1}, {"scale": (2, 1)}, {"scale": (0, 1)},
        {"scale": (1, float("nan"))}, {"crop": (0, 4)},
    ],
)  # fmt: skip
def test_augmentation_out_of_range_is_refused(options):
    with pytest.raises(UserError, match=f"augmentation {next(iter(options))} is"):
        Augment(**options)


def test_resized_keeps_the_shape_and_gives_labels_of_the_nearest_pixel():
    class Pictures:
        classes, num_classes, palette = ("a", "b", "c"), 3, np.zeros((3, 3), np.uint8)
        window = None

        def __len__(self):
            return 2

        def __getitem__(self, i):
            y, x = np.mgrid[:60, : 80 + 40 * i]
            return np.stack([y, x, 0 * x], -1).astype(np.uint8), (x // 4 % 3).astype(np.uint8)

        def manifest(self):
            return {"one": "1", "two": "2"}

    data = Resized(Pictures(), 30)
    assert data.sizes == [(30, 40), (30, 60)] and data.manifest() == {"one": "1", "two": "2"}
    assert data.classes == ("a", "b", "c") and not hasattr(data, "window") and not hasattr(data, "bands")
    image, label = data[1]
    assert image.shape == (30, 60, 3) and set(np.unique(label)) == {0, 1, 2}
    np.testing.assert_array_equal(label, Pictures()[1][1][1::2, 1::2])  # nearest: the odd pixels
    assert abs(image[1:-1, 1:-1, 1] - (2 * np.arange(60)[1:-1] + 0.5)).max() <= 1  # bilinear: between two pixels


def test_repeated_has_every_sample_several_times():
    data = Repeated(Shapes(length=3, size=(9, 9)), 4)
    assert len(data) == 12 and data.sizes == [(9, 9)] * 12 and not hasattr(data, "window")
    for i in range(12):
        np.testing.assert_array_equal(data[i][0], Shapes(length=3, size=(9, 9))[i % 3][0])
