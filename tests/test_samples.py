"""Checks of the samples of a user's data set: what is accepted, how it is converted, and what is refused."""

import re

import numpy as np
import pytest
from PIL import Image

from minifcn import Tensor
from minifcn.data import Loader
from minifcn.data.samples import sample
from minifcn.errors import UserError


class One:
    """A data set of two samples: a black image, and the given image and label."""

    num_classes = 3

    def __init__(self, image, label, **attributes):
        self.pair = image, label
        vars(self).update(attributes)

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return self.pair if i else (np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8))

    def __repr__(self):
        return "One()"


IMAGE = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14  # 0 .. 238
LABEL = np.array([[0, 1, 2], [255, 2, 1]], np.uint8)
GREY = np.array([[0, 100, 255], [7, 8, 9]], np.uint8)
IN_THREE = np.stack([GREY] * 3, axis=2)
ALPHA = np.concatenate([IMAGE, np.full((2, 3, 1), 9, np.uint8)], axis=2)


class Foreign:
    """An array of another library."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


IMAGES = {
    "uint8": (IMAGE, IMAGE),
    "not contiguous": (IMAGE[:, ::-1], IMAGE[:, ::-1]),
    "int64": (IMAGE.astype(np.int64), IMAGE),
    "uint16 within a byte": (IMAGE.astype(np.uint16), IMAGE),
    "float in 0..1": (IMAGE / 255, IMAGE),
    "float32 in 0..1": ((IMAGE / 255).astype(np.float32), IMAGE),
    "float16 white": (np.ones((2, 3, 3), np.float16), np.full((2, 3, 3), 255)),
    "grey": (GREY, IN_THREE),
    "grey with a channel": (GREY[:, :, None], IN_THREE),
    "grey, channel first": (GREY[None], IN_THREE),
    "RGBA": (ALPHA, IMAGE),
    "channels first": (IMAGE.transpose(2, 0, 1), IMAGE),
    "channels first, float": (IMAGE.transpose(2, 0, 1) / 255, IMAGE),
    "RGBA, channels first": (ALPHA.transpose(2, 0, 1), IMAGE),
    "Pillow": (Image.fromarray(IMAGE), IMAGE),
    "Pillow, grey": (Image.fromarray(GREY), IN_THREE),
    "Pillow, RGBA": (Image.fromarray(ALPHA), IMAGE),
    "list": (IMAGE.tolist(), IMAGE),
    "another library": (Foreign(IMAGE), IMAGE),
    "Tensor": (Tensor((IMAGE / 255).astype(np.float32)), IMAGE),
}


@pytest.mark.parametrize(("given", "expected"), IMAGES.values(), ids=IMAGES.keys())
def test_an_image_with_one_meaning_is_converted(given, expected):
    image, label = sample(One(given, LABEL), 1)
    assert image.dtype == np.uint8 and label.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)
    images, _ = next(iter(Loader(One(given, LABEL), 2)))
    np.testing.assert_array_equal(images[1], expected)


LABELS = {
    "int64": (LABEL.astype(np.int64), LABEL),
    "uint16": (LABEL.astype(np.uint16), LABEL),
    "whole floats": (LABEL.astype(np.float32), LABEL),
    "bool": (LABEL == 1, (LABEL == 1).astype(int)),
    "one channel": (LABEL[:, :, None], LABEL),
    "channel first": (LABEL[None].astype(np.int32), LABEL),
    "Pillow": (Image.fromarray(LABEL), LABEL),
    "Pillow, palette": (Image.fromarray(LABEL).convert("P"), None),
    "list": (LABEL.tolist(), LABEL),
    "another library": (Foreign(LABEL.astype(np.int64)), LABEL),
}


@pytest.mark.parametrize(("given", "expected"), LABELS.values(), ids=LABELS.keys())
def test_a_label_with_one_meaning_is_converted(given, expected):
    if expected is None:  # the class ids, not the colours of the palette
        given.putdata(LABEL.ravel().tolist())
        expected = LABEL
    label = sample(One(IMAGE, given), 1)[1]
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, expected)


def altered(array, value):
    array = array.astype(type(value) if isinstance(value, float) else np.int64)
    array[0, 0] = value
    return array


REFUSED = {
    "uint16 beyond a byte": (IMAGE.astype(np.uint16) + 300, LABEL, "uint16 .* 300..538"),
    "negative int": (IMAGE.astype(int) - 1, LABEL, "-1..237"),
    "float to 255": (IMAGE.astype(np.float32), LABEL, r"0..238; .*floats in 0..1"),
    "normalised": (IMAGE / 255 - 0.5, LABEL, "-0.5"),
    "NaN": (np.full((2, 3, 3), np.nan), LABEL, "nan"),
    "bool image": (IMAGE > 5, LABEL, "bool"),
    "complex": (IMAGE.astype(complex), LABEL, "complex128"),
    "two channels": (IMAGE[:, :, :2], LABEL, r"\(2, 3, 2\)"),
    "batch": (IMAGE[None], LABEL, r"\(1, 2, 3, 3\)"),
    "image of another size": (IMAGE[:1], LABEL, "1x3 but a label of 2x3"),
    "channels first, another size": (np.zeros((3, 5, 7), np.uint8), LABEL, "expected"),
    "transposed label": (IMAGE, LABEL.T, "2x3 but a label of 3x2"),
    "path": ("a.png", LABEL, "str; .*read_image"),
    "None": (None, LABEL, "NoneType"),
    "ragged": ([[1, 2], [3]], LABEL, "list that cannot become a NumPy array"),
    "Pillow, floats": (Image.fromarray(np.zeros((2, 3), np.float32)), LABEL, "floating-point"),
    "-100": (IMAGE, altered(LABEL, -100), "-100..255; .*255 .void"),
    "-1": (IMAGE, altered(LABEL, -1), "-1..255; .*255 .void"),
    "-254": (IMAGE, altered(LABEL, -254), "-254..255; .*255 .void"),
    "256": (IMAGE, altered(LABEL, 256), "0..256|1..256"),
    "0.9": (IMAGE, altered(LABEL, 0.9), "fractions"),
    "NaN label": (IMAGE, altered(LABEL, float("nan")), "NaN or infinity"),
    "one-hot": (IMAGE, np.zeros((2, 3, 4), np.uint8), r"shape \(2, 3, 4\)"),
    "one number": (IMAGE, 1, r"shape \(\)"),
    "masked": (IMAGE, np.ma.masked_equal(LABEL, 1), "masked"),
    "Pillow, colours": (IMAGE, Image.fromarray(IMAGE), "mode 'RGB'"),
    "no such class": (IMAGE, altered(LABEL, 3), "labelled 3; with 3 classes, labels must lie in 0..2, or be 255"),
    "nothing": (np.zeros((0, 3, 3), np.uint8), np.zeros((0, 3), np.uint8), "0x3 pixels"),
}


@pytest.mark.parametrize(("image", "label", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_meaning_or_two_is_refused_with_the_samples_number(image, label, message):
    with pytest.raises(UserError, match=f"(?s)sample 1 of One.*({message})|({message}).*sample 1 of One"):
        list(Loader(One(image, label), 1))


def test_wrong_pairs_and_errors_name_the_sample():
    def raises():
        raise KeyError("lost")

    for pair, message in [
        ((IMAGE,), "1 values"),
        ((IMAGE, LABEL, 0), "3 values"),
        (IMAGE, "a ndarray"),
        ({"image": IMAGE}, "a dict"),
    ]:
        data = One(0, 0)
        data.pair = pair
        with pytest.raises(UserError, match=f"sample 1 of One.. is {message}; expected .image, label."):
            sample(data, 1)
    data = type("Raises", (One,), {"__getitem__": lambda self, i: raises()})(0, 0)
    with pytest.raises(UserError, match=r"sample 1 of One.. cannot be read .KeyError: 'lost'"):
        sample(data, 1)


def test_a_list_of_pairs_is_a_data_set_and_is_not_printed_whole():
    pairs = [(IMAGE, LABEL), (IMAGE, LABEL[:1])]
    with pytest.raises(UserError, match="sample 1 of the list") as caught:
        list(Loader(pairs, 1))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"num_classes": "3"}, "num_classes '3'"),
        ({"num_classes": 3.0}, "num_classes 3.0"),
        ({"num_classes": True}, "num_classes True"),
        ({"num_classes": 0}, "num_classes 0"),
        ({"num_classes": 256}, "num_classes 256"),
        ({"classes": "abc"}, "classes 'abc'"),
        ({"classes": ("a", "b")}, "as many names"),
        ({"classes": (1, 2, 3)}, "as many names"),
        ({"palette": [(0, 0)] * 3}, "palette"),
        ({"palette": np.full((3, 3), 0.5)}, "palette"),
        ({"palette": np.full((3, 3), 256)}, "palette"),
        ({"palette": "red"}, "palette"),
    ],
)
def test_attributes_of_a_wrong_kind_are_refused_before_the_first_batch(attributes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Loader(One(IMAGE, LABEL, **attributes), 1)


@pytest.mark.parametrize("given", ["data", 5, None, iter([1])])
def test_what_is_no_data_set_is_refused(given):
    with pytest.raises(UserError, match="data set"):
        Loader(given, 1)


def test_a_window_goes_through_the_same_door():
    data = One(IMAGE, LABEL)
    data.window = lambda i, *place: (IMAGE / 255, LABEL.astype(np.int64) - 1)
    with pytest.raises(UserError, match="sample 0 of One"):
        list(Loader(data, 1, augment=lambda image, label, rng, window: window(0, 0, 2, 3)))


def test_a_good_sample_costs_next_to_nothing():
    image, label = sample(One(IMAGE, LABEL), 1)
    assert image is IMAGE and label is LABEL
