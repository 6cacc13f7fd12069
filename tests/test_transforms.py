"""Preprocessing and Augment: image and label change in the same way, and only as requested."""

import json

import numpy as np
import pytest

from minifcn.data import Augment, Preprocessing
from minifcn.data.transforms import CAFFE
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
    for image, label in outcomes(Augment(mirror=False, jitter=5, fill=(1, 2, 3)), sample):
        y, x = np.nonzero(label != 255)
        moves = (image[y, x, :2] // 10).astype(int) - np.stack([y, x], 1)  # old position minus new position
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
    for image, label in outcomes(Augment(**OFF, zoom=1.0, fill=(0, 0, 77)), sample):
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
    assert min(sizes) < 0.4 and sizes.count(1.0) > 5


def test_a_window_takes_the_place_of_the_fill(sample):
    """If the data set has window(), Augment asks it for the rectangle that jitter and zoom have chosen."""
    asked = []

    def window(top, left, height, width):
        asked.append((top, left, height, width))
        return np.full((height, width, 3), 9, np.uint8), np.full((height, width), 3, np.uint8)

    for seed in range(20):
        image, label = Augment(jitter=4, zoom=0.5)(*sample, rng(seed), window=window)
        assert image.shape == sample[0].shape and (image == 9).all() and (label == 3).all()
    heights = [h for _, _, h, _ in asked]
    assert min(heights) < 20 and max(heights) > 30
    for top, left, h, w in asked:
        assert abs(top - (24 - h) // 2) <= 4 and abs(left - (24 - w) // 2) <= 4


@pytest.mark.parametrize("options", [{"jitter": -1}, {"zoom": -0.5}, {"zoom": float("nan")}])
def test_negative_augmentation_is_refused(options):
    with pytest.raises(UserError, match="negative"):
        Augment(**options)
