"""Preprocessing and Augment: image and label change alike, and nothing changes unasked."""

import json

import numpy as np
import pytest

from minifcn.data import Augment, Preprocessing
from minifcn.data.transforms import CAFFE
from minifcn.errors import UserError


@pytest.fixture
def sample():
    """An image whose red and green give each pixel's place, and a label with the same pattern."""
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
