"""The Earth data set: its splits are fixed, its maps coincide, and no pixel is in two splits."""

import numpy as np
import pytest

from minifcn.data import Earth, earth

try:
    Earth()
    MISSING = None
except earth.MissingExtra as error:
    MISSING = str(error)

pytestmark = [pytest.mark.earth, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]


@pytest.mark.parametrize(("split", "count"), [("train", 314), ("val", 104), ("fit", 202), ("tune", 112)])
def test_the_number_of_tiles_of_each_split(split, count):
    assert len(Earth(split)) == count


def tiles(split):
    return {tuple(tile) for tile in Earth(split).tiles.tolist()}


def test_splits_share_no_tile_and_no_block():
    blocks = {split: {(row // 4, column // 4) for row, column in tiles(split)} for split in earth.SPLITS}
    assert not blocks["train"] & blocks["val"]
    assert not blocks["fit"] & blocks["tune"]
    assert tiles("fit") | tiles("tune") == tiles("train")


def test_a_sample_keeps_the_contract():
    d = Earth("val")
    image, label = d[0]
    assert image.shape == (128, 128, 3) and image.dtype == np.uint8
    assert label.shape == (128, 128) and label.dtype == np.uint8
    assert len(d.classes) == d.num_classes == len(d.palette) == 7
    assert set(np.unique(label)) <= {*range(7), 255}
    with pytest.raises(IndexError):
        d[len(d)]
    image[:], label[:] = 0, 0  # the caller may change a sample without changing the data set
    assert d[0][0].any() and d[0][1].any()


def test_every_class_occurs_in_every_split_and_every_tile_has_land():
    for split in earth.SPLITS:
        labels = np.stack([label for _, label in Earth(split)])
        assert set(np.unique(labels)) >= set(range(7))
        assert (labels != earth.OCEAN).mean((1, 2)).min() >= 0.1


@pytest.mark.parametrize(
    ("place", "latitude", "longitude", "name"),
    [
        ("Sahara", 23, 10, "arid"),
        ("Amazon", -5, -63, "tropical"),
        ("Congo", 0, 22, "tropical"),
        ("Antarctica", -85, 100, "polar"),
        ("Greenland", 72, -40, "polar"),
        ("Siberia", 62, 100, "cold"),
        ("France", 47, 2, "temperate"),
        ("Australia", -25, 130, "arid"),
        ("Pacific", 0, -150, "ocean"),
        ("Lake Victoria", -1, 33, "lake"),
        ("Lake Superior", 47.7, -87.5, "lake"),
    ],
)
def test_places_lie_where_they_should(place, latitude, longitude, name):
    label = earth._maps()[1][int((90 - latitude) * 15), int((longitude + 180) * 15)]
    assert Earth.classes[label] == name


def test_coastlines_of_image_and_mask_coincide():
    """Water is blue: blue pixels and water labels agree best without a displacement, of all up to three pixels."""
    image, label = earth._maps()
    y, x = slice(700, 1700), slice(2500, 4500)  # Africa, the Mediterranean, Arabia, India
    blue = image[y, x, 2] > image[y, x, 0].astype(int) + 10
    agreement = {
        (dy, dx): (blue == (np.roll(label, (dy, dx), (0, 1))[y, x] <= earth.LAKE)).mean()
        for dy in (-3, -1, 0, 1, 3)
        for dx in (-3, -1, 0, 1, 3)
    }
    assert max(agreement, key=agreement.get) == (0, 0)
    assert agreement[0, 0] > 0.98


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_window_shows_real_pixels_of_its_own_block_only(split):
    image, label = earth._maps()
    d = Earth(split)
    for i in range(0, len(d), 5):
        row, column = d.tiles[i] * 128
        for top, left, size in ((-40, 30, 128), (64, -64, 154), (1, 2, 100)):
            got_image, got_label = d.window(i, top, left, size, size)
            low = d.tiles[i] // 4 * 512
            high = np.minimum(low + 512, (2700, 5400))
            y, x = np.clip((row + top, column + left), low, np.maximum(high - size, low))
            h, w = np.minimum(size, high - low)
            assert got_label.shape == (h, w)
            np.testing.assert_array_equal(got_image, image[y : y + h, x : x + w])
            np.testing.assert_array_equal(got_label, label[y : y + h, x : x + w])


def test_the_figures_to_beat_are_those_of_val_alone():
    assert [(f["pixel_accuracy"], f["mean_iu"]) for f in Earth("val").floors] == [(0.808, 0.511), (0.839, 0.567)]
    assert not any(Earth(split).floors for split in ("train", "fit", "tune"))
