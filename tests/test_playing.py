"""The explorers that a reader plays with show what the definition gives; clicks and keys choose what they say."""

import numpy as np
import pytest

import minifcn as mf
from minifcn import viz


def scene(size=(68, 68), **options):
    return mf.data.Shapes(size=size, **options)[0]


def click(explorer, choice, place, at):
    """what a click on the cell `at` of the axes `place` chooses, through the picture's own coordinates."""
    figure = explorer.figure(**choice)
    figure.canvas.draw()
    (axes,) = (axes for axes in figure.axes if axes.get_label() == place)
    x, y = figure.transFigure.inverted().transform(axes.transData.transform(at[::-1]))
    found, cells = viz.stepper._cells(figure, [(x, 1 - y)])
    assert found == place
    return explorer.touched(found, cells, **choice)


# ---- receptive fields ----

LAYERS = [
    ((3, 2, 1, 1), (3, 2, 1, 1), (1, 1, 0, 1)),
    ((5, 1, 0, 2), (2, 3, 2, 1), (3, 1, 3, 3)),
    ((4, 2, 3, 1), (3, 1, 2, 2), (2, 2, 0, 1)),
]


def settings(layers, **more):
    values = {f"{name}{n}": v for n, layer in enumerate(layers, 1) for name, v in zip("kspd", layer)}
    return values | more


@pytest.mark.parametrize("layers", LAYERS)
def test_the_playground_colours_the_cells_whose_change_changes_the_unit(layers):
    playground = viz.ReceptiveFieldPlayground(scene()[0])
    choice = settings(layers, pixels=14, map=3, row=1, column=0)
    maps, _ = playground.maps(**choice)
    kernels = [np.ones((k, k)) for k, *_ in layers]

    def unit(below, x):  # the unit of the last map, in loops, from the map number `below`
        for (k, s, p, d), w in list(zip(layers, kernels))[below:]:
            padded, n = np.pad(x, p), (len(x) + 2 * p - d * (k - 1) - 1) // s + 1
            window = lambda i, j: padded[s * i :, s * j :][: d * k : d, : d * k : d]  # noqa: B023, E731
            x = np.array([[(w * window(i, j)).sum() for j in range(n)] for i in range(n)])
        return x[1, 0]

    for below in range(4):
        n = maps[below].shape[2]
        expected = np.zeros((n, n))
        for at in np.ndindex(n, n):
            one = np.zeros((n, n))
            one[at] = 1
            expected[at] = unit(below, one)
        np.testing.assert_array_equal(playground.paths(below, **choice), expected)


def test_the_playground_begins_with_the_example_of_five_three_two():
    playground = viz.ReceptiveFieldPlayground(scene()[0])
    start = playground.start()
    says = playground.title(**start)
    # by hand: j' = j s, r' = r + (k - 1) j, b' = b + ((k - 1)/2 - p) j, and padding = (r - 1)/2 - b
    assert says == "5×5 → 3×3 → 2×2 → 2×2\nlayer 2, unit (0, 0): field 7×7, jump 4, start 0, padding 3"
    more = settings([(3, 1, 0, 2), (2, 2, 0, 1), (3, 1, 0, 1)], pixels=15, map=3, row=9, column=9)
    assert playground.title(**more) == (
        "15×15 → 11×11 → 5×5 → 3×3\nlayer 3, unit (2, 2): field 10×10, jump 2, start 4.5, padding 0"
    )


def test_the_playground_says_which_layer_is_impossible_and_why():
    playground = viz.ReceptiveFieldPlayground(scene()[0])
    choice = playground.start() | dict(k3=5, map=3)
    assert "layer 3: a kernel of 5 (dilation 1: 5 cells) does not fit into 2 cells" in playground.title(**choice)
    assert playground.unit(**choice) == (2, 0, 0)
    assert playground.png(**choice)[:4] == b"\x89PNG"


def test_a_unit_of_the_playground_is_chosen_by_a_click_on_either_drawing_or_by_keys():
    playground = viz.ReceptiveFieldPlayground(scene()[0])
    start = playground.start()
    assert playground.unit(**click(playground, start, "grid 1", (2, 1))) == (1, 2, 1)
    assert playground.unit(**click(playground, start, "over 2", (4, 0))) == (2, 1, 0)  # its units are 4 pixels apart
    assert playground.unit(**playground.moved(1, 1, **start)) == (2, 1, 1)
    assert playground.unit(**playground.moved(-1, 0, **start)) == (2, 0, 0)  # at the border


# ---- widgets ----

EXPLORERS = {"playground": lambda: viz.ReceptiveFieldPlayground(scene()[0])}


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_click_and_a_key_reach_the_picture_of_a_widget(name):
    pytest.importorskip("anywidget", reason="pip install 'minifcn[notebooks]'")
    explorer = EXPLORERS[name]()
    *_, text, picture = explorer.widget().children
    seen = [(text.value, bytes(picture.value))]
    for step in ([0, 1], [1, 0]):
        picture._handle_custom_msg({"step": step}, [])
        seen.append((text.value, bytes(picture.value)))
    figure = explorer.figure()
    figure.canvas.draw()
    axes = next(axes for axes in figure.axes if axes.get_label())
    box = axes.get_position()
    picture._handle_custom_msg({"points": [[box.x0 + 0.5 * box.width, 1 - box.y0 - 0.5 * box.height]]}, [])
    seen.append((text.value, bytes(picture.value)))
    assert len(set(seen)) == 4, "each changes the words and the picture"
    assert explorer.hint in picture.label
    picture._handle_custom_msg({"points": [[2.0, 2.0]]}, [])  # outside all axes: nothing happens
    assert (text.value, bytes(picture.value)) == seen[-1]


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_animation_shows_the_explorer_without_a_kernel(name):
    explorer = EXPLORERS[name]()
    page = explorer.to_jshtml(most=4)
    assert 2 <= page.count("data:image/png;base64") <= 4 and "http" not in page
    assert len({explorer.title(**scene) for scene in explorer.scenes()}) == len(explorer.scenes()) > 4
