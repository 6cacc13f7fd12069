"""The explorers that a reader plays with show what the definition gives; clicks and keys choose what they say."""

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn import viz


def scene(size=(68, 68), **options):
    return mf.data.Shapes(size=size, **options)[0]


def click(explorer, choice, place, at):
    """what a click on the cell `at` of the axes `place` chooses, through the picture's own coordinates."""
    figure = explorer.figure(**choice)
    viz.stepper._png(figure)  # drawing sets the places of the axes
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


# ---- the loss over space ----


def loss_explorer():
    picture, label = scene((12, 16), num_classes=3)
    image = mf.Tensor(picture.transpose(2, 0, 1)[None] / 128 - 1.0, name="image")
    kernel = normal((3, 3, 5, 3), 4)
    return viz.LossExplorer(image, mf.ops.conv2d(image, kernel, padding=(2, 1)), picture, label, "abc", np.eye(3) * 255)


def test_the_loss_explorer_shows_each_pixels_loss_gradient_and_share_by_their_definitions():
    explorer = loss_explorer()
    scores, label = explorer.scores.numpy()[0], explorer.label
    row, column = np.argwhere(label != 255)[5]
    prob = np.exp(scores) / np.exp(scores).sum(0)
    losses = np.array([[0 if label[at] == 255 else -np.log(prob[label[at]][at]) for at in zip([i] * 16, range(16))]
                       for i in range(12)])  # fmt: skip
    np.testing.assert_allclose(explorer.losses(frozenset()), losses)
    one_hot = np.arange(3) == label[row, column]
    np.testing.assert_allclose(explorer.gradient(frozenset())[:, row, column], prob[:, row, column] - one_hot)
    says = explorer.title(**explorer.start() | dict(row=row, column=column))
    assert f"loss {losses[row, column]:.3f}, {losses[row, column] / losses.sum():.2%} of the sum" in says
    assert says.endswith(f"sum over {(label != 255).sum()} pixels: {losses.sum():.1f}; brush: look")


def test_painting_void_takes_the_pixels_out_of_the_sum_and_restoring_puts_them_back():
    explorer = loss_explorer()
    start = explorer.start()
    losses = explorer.losses(frozenset())
    painted = explorer.touched("truth", [(2.2, 3.4), (2.9, 4.1), (40, 40)], **start | dict(brush="paint void"))
    assert painted["void"] == {(2, 3), (3, 4), (11, 15)} and (painted["row"], painted["column"]) == (11, 15)
    kept = losses.sum() - losses[2, 3] - losses[3, 4] - losses[11, 15]
    np.testing.assert_allclose(explorer.losses(painted["void"]).sum(), kept)
    assert not explorer.gradient(painted["void"])[:, [2, 3], [3, 4]].any()
    assert "is void: no loss, no gradient" in explorer.title(**painted)
    assert f"{losses.sum():.1f} before painting" in explorer.title(**painted)
    back = explorer.moved(-8, -11, **painted | dict(brush="restore"))
    assert back["void"] == {(2, 3), (11, 15)}
    assert explorer.touched("image", [(5, 6)], **painted | dict(brush="look"))["void"] == painted["void"]


def test_the_loss_explorer_refuses_scores_of_another_size():
    explorer = loss_explorer()
    with pytest.raises(ValueError, match="give equal sizes"):
        viz.LossExplorer(explorer.image, explorer.scores, explorer.picture, explorer.label[1:], "abc", np.eye(3))


# ---- the whole image against its patches ----


def patch_explorer():
    nn = mf.nn
    net = nn.Sequential(a=nn.Conv2d(3, 4, 3), pool=nn.MaxPool2d(2), b=nn.Conv2d(4, 5, (3, 2)))
    return viz.PatchExplorer(net, scene((20, 26))[0])


def test_the_patch_explorer_counts_multiply_adds_and_overlap_by_their_definitions():
    explorer = patch_explorer()

    def work(h, w):
        # a: 3 -> 4 channels, 3×3; b: 4 -> 5 channels, 3×2, after pooling by 2
        a = 4 * (h - 2) * (w - 2) * 3 * 3 * 3
        b = 5 * ((h - 2) // 2 - 2) * ((w - 2) // 2 - 1) * 4 * 3 * 2
        return a + b, a + 2 * b  # backward: the weights of both, and the input of b

    assert explorer.field.size == (8, 6)  # along h 3 + 1 + 2·2, along w 3 + 1 + 1·2
    assert (explorer.whole, explorer.one) == (work(20, 26), work(8, 6)) and explorer.grid == (7, 11)
    counts = np.zeros((20, 26), int)
    for k in range(30):
        row, column = divmod(k, 11)
        counts[2 * row : 2 * row + 8, 2 * column : 2 * column + 6] += 1
    np.testing.assert_array_equal(explorer.overlap(30), counts)
    ratios = [f"{30 * one / whole:.2f} times" for one, whole in zip(work(8, 6), work(20, 26))]
    assert explorer.title(30) == (
        "patch 30 of 77: rows 4 … 11, columns 14 … 19\n"
        f"the work of the whole image: forward {ratios[0]}, backward {ratios[1]}"
    )


def test_a_patch_is_chosen_by_a_click_on_an_output_or_on_the_picture_or_by_keys():
    explorer = patch_explorer()
    assert click(explorer, {"patch": 1}, "outputs", (2, 3)) == {"patch": 2 * 11 + 3 + 1}
    middle = 2 * 2 + 3.5, 2 * 3 + 2.5  # of the patch of output (2, 3)
    assert click(explorer, {"patch": 1}, "picture", middle) == {"patch": 2 * 11 + 3 + 1}
    assert explorer.moved(1, 0, patch=5) == {"patch": 16} and explorer.moved(0, -1, patch=1) == {"patch": 1}


def test_the_patch_explorer_refuses_a_net_that_pads():
    with pytest.raises(ValueError, match="pads the image"):
        viz.PatchExplorer(mf.nn.Sequential(a=mf.nn.Conv2d(3, 4, 3, padding=1)), scene((20, 26))[0])


# ---- a fully connected layer as a convolution ----


def connected_explorer():
    mf.manual_seed(1)
    classifier = mf.models.lenet(num_classes=4)
    inputs = np.random.default_rng(3).random((1, 1, 40, 44), np.float32)
    explorer = viz.FullyConnectedExplorer(mf.nn.surgery.convolutionalize(classifier), "c5", inputs, sizes=(32, 36, 40))
    return explorer, classifier, inputs


def test_the_sliding_weights_give_what_the_fully_connected_layer_gives_on_each_window():
    explorer, classifier, inputs = connected_explorer()
    found = []

    def note(node, inputs, output):
        if node.name == "c5":
            found.append(output.numpy()[0])

    for i, j in np.ndindex(3, 3):
        with mf.no_grad(), mf.engine.core.watch(note):
            classifier.eval()(inputs[:, :, 4 * i : 4 * i + 32, 4 * j : 4 * j + 32])  # the window alone, not converted
        choice = explorer.start() | dict(image=40, output=7, row=i, column=j)
        np.testing.assert_allclose(explorer.connected(**choice), found[-1][7], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(explorer.maps(40)[2].numpy()[0, :, i, j], found[-1], rtol=1e-4, atol=1e-5)
    assert explorer.title(**choice).startswith("image → map → output: 40×40 → 7×7 → 3×3; channel 0\ny[7, 2, 2] = ")
    assert f"as a vector of 400 numbers: {explorer.connected(**choice):.3f}" in explorer.title(**choice)


def test_a_position_of_the_kernel_is_chosen_by_a_click_or_by_keys():
    explorer, *_ = connected_explorer()
    choice = explorer.start() | dict(image=40)
    assert explorer.cell(**click(explorer, choice, "output", (2, 1))) == (2, 1)
    assert explorer.cell(**explorer.moved(1, 1, **choice)) == (1, 1) == explorer.cell(**explorer.moved(5, 5, **choice)
                                                                                       | dict(image=36))  # fmt: skip
    assert explorer.cell(**explorer.moved(-1, 0, **choice)) == (0, 0)


# ---- a coarse output ----


def coarse_explorer():
    picture, label = scene((24, 32), num_classes=3)
    return viz.CoarseOutputExplorer(picture, label, ("sky", "disc", "box"), np.eye(3) * 255, halvings=3)


def test_each_cell_of_a_coarse_output_holds_the_shares_of_the_classes_in_its_pixels():
    explorer = coarse_explorer()
    for step in range(4):
        n = 2**step
        for (row, column), best in np.ndenumerate(explorer.says(step)[::n, ::n]):
            block = explorer.label[n * row : n * row + n, n * column : n * column + n]
            shares = [(block == c).mean() for c in range(3)]
            np.testing.assert_allclose(explorer.maps[step].numpy()[0, :, row, column], shares)
            assert best == (np.argmax(shares) if max(shares) else 255)
    for step in range(4, 7):  # a transposed convolution without a library: each cell adds a triangle of four taps
        n, small = 24 >> (6 - step), explorer.maps[step - 1].numpy()[0]
        taps = np.zeros((n, n // 2))
        for i in range(n // 2):
            for tap, weight in enumerate((0.25, 0.75, 0.75, 0.25)):
                if 0 <= 2 * i - 1 + tap < n:
                    taps[2 * i - 1 + tap, i] = weight
        across = np.zeros((n * 4 // 3, n * 2 // 3))
        for i in range(n * 2 // 3):
            for tap, weight in enumerate((0.25, 0.75, 0.75, 0.25)):
                if 0 <= 2 * i - 1 + tap < len(across):
                    across[2 * i - 1 + tap, i] = weight
        np.testing.assert_allclose(explorer.maps[step].numpy()[0], taps @ small @ across.T)
    judged = explorer.label != 255
    assert explorer.accuracy(6) == ((explorer.maps[6].numpy()[0].argmax(0) == explorer.label)[judged]).mean()


def test_a_cell_of_the_coarse_output_is_chosen_by_a_click_or_by_keys():
    explorer = coarse_explorer()
    choice = explorer.start() | dict(step=3)  # 3×4 cells of 8×8 pixels
    assert explorer.cell(**click(explorer, choice, "map", (1.5, 3.5))) == (1, 3)
    assert explorer.cell(**click(explorer, choice, "output", (20, 4))) == (2, 0)
    assert explorer.cell(**explorer.moved(-1, 1, **choice)) == (0, 3)
    assert explorer.title(**choice).startswith("halved 3 times: 3×4 cells, one every 8 pixels")


def test_labels_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        viz.CoarseOutputExplorer(*scene((48, 64)), "abcdef", np.zeros((6, 3)))


# ---- widgets ----

EXPLORERS = {
    "playground": lambda: viz.ReceptiveFieldPlayground(scene()[0]), "loss": loss_explorer, "patches": patch_explorer,
    "connected": lambda: connected_explorer()[0], "coarse": coarse_explorer,
}  # fmt: skip


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_click_and_a_key_reach_the_picture_of_a_widget(name):
    pytest.importorskip("anywidget", reason="pip install 'minifcn[notebooks]'")
    explorer = EXPLORERS[name]()
    controls, _, text, picture = explorer.widget().children
    if name == "connected":
        controls.children[0].value = 40  # of 3×3 positions
    seen = [(text.value, bytes(picture.value))]
    for step in ([0, 1], [1, 0]):
        picture._handle_custom_msg({"step": step}, [])
        seen.append((text.value, bytes(picture.value)))
    figure = explorer.figure()
    viz.stepper._png(figure)
    axes = next(axes for axes in figure.axes if axes.get_label())
    box = axes.get_position()
    picture._handle_custom_msg({"points": [[box.x0 + 0.9 * box.width, 1 - box.y0 - 0.7 * box.height]]}, [])
    seen.append((text.value, bytes(picture.value)))
    assert len(set(seen)) == 4, "each changes the words and the picture"
    assert explorer.hint in picture.label
    if name == "patches":  # its slider follows: one key to the right, one down, a click on the picture
        assert controls.children[0].value == explorer.touched("picture", [(5.5, 22.9)], patch=1)["patch"]
    picture._handle_custom_msg({"points": [[2.0, 2.0]]}, [])  # outside all axes: nothing happens
    assert (text.value, bytes(picture.value)) == seen[-1]


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_animation_shows_the_explorer_without_a_kernel(name):
    explorer = EXPLORERS[name]()
    page = explorer.to_jshtml(most=4)
    assert 2 <= page.count("data:image/png;base64") <= 4 and "http" not in page
    assert len({explorer.title(**scene) for scene in explorer.scenes()}) == len(explorer.scenes()) > 4
