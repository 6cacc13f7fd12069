"""The figures of an evaluation show the numbers that they are given."""

import numpy as np

from minifcn.viz.evaluation import boundaries, class_intervals, reliability


def heights(axes):
    return [bar.get_height() for bar in axes.patches]


def test_a_reliability_diagram_has_a_bar_for_each_bin():
    bins = [dict(pixels=30, confidence=0.2, accuracy=0.4), dict(pixels=0, confidence=None, accuracy=None)]
    bins += [dict(pixels=10, confidence=0.9, accuracy=0.7)]
    accuracy, count = reliability(bins, 0.125).axes
    assert heights(accuracy) == [0.4, 0, 0.7] and heights(count) == [75, 0, 25]
    points, diagonal = accuracy.lines
    assert points.get_xydata().tolist() == [[0.2, 0.4], [0.9, 0.7]] and diagonal.get_xydata().tolist() == [
        [0, 0],
        [1, 1],
    ]
    assert [text.get_text() for text in accuracy.texts] == ["ECE 0.125"]
    empty = [dict(pixels=0, confidence=None, accuracy=None)] * 3
    assert heights(reliability(empty).axes[1]) == [0, 0, 0]


def test_the_curve_of_boundaries_leaves_out_empty_bands():
    (axes,) = boundaries({"1": None, "2": 0.25, "4": 0.5}, 0.625).axes
    curve, everywhere = axes.lines
    assert curve.get_xydata().tolist() == [[2, 25], [4, 50]] and set(everywhere.get_ydata()) == {62.5}
    assert axes.get_ylim()[1] > 62.5
    assert boundaries({"1": None}, None).axes


def test_classes_have_a_point_and_an_interval_for_each_run():
    one = [dict(name="sky", iu=0.5, interval=[0.25, 0.75]), dict(name="tree", iu=None, interval=None)]
    two = [dict(name="sky", iu=0.25, interval=None), dict(name="tree", iu=1.0, interval=[None, None])]
    (axes,) = class_intervals({"a": one, "b": two}).axes
    points_a, interval_a, points_b = axes.lines
    assert points_a.get_xdata().tolist() == [50] and points_b.get_xdata().tolist() == [25, 100]
    assert list(interval_a.get_xdata()) == [25, 75]
    assert np.isclose(interval_a.get_ydata(), points_a.get_ydata()[0]).all()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sky", "tree"]
