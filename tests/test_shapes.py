"""Shapes: what is drawn, and that colours do not reveal the class."""

import numpy as np
import pytest

from minifcn.data import Shapes
from minifcn.errors import UserError


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
    """A classifier by colour alone (the commonest class of each of 64 colours) is hardly better than a constant one."""
    counts = {}
    for split in ("train", "val"):
        scenes = list(Shapes(split, length=200, size=(48, 64)))
        labels = np.stack([label for _, label in scenes])
        objects = (labels > 0) & (labels < 255)
        colours = np.stack([image for image, _ in scenes])[objects] // 64 @ np.array([16, 4, 1])
        counts[split] = np.histogram2d(colours, labels[objects], (np.arange(65), np.arange(1, 7)))[0]
    right = counts["val"][np.arange(64), counts["train"].argmax(1)].sum()
    assert right < 1.2 * counts["val"].sum(0).max()  # compared with always guessing the commonest shape


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
