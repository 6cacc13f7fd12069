"""Steppers and explorers show what the library computes, and their widgets follow their controls."""

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn import ops, viz
from minifcn.kernels import max_pool2d_grad

CASES = {
    "plain": (("conv2d", (5, 6), (3, 2)), {}),
    "strided, padded, dilated": (("conv2d", (7, 6), (2, 3)), dict(stride=(2, 1), padding=(1, 2), dilation=(2, 1))),
    "transposed": (("conv_transpose2d", (3, 2), (4, 3)), dict(stride=2, padding=1)),
}


@pytest.mark.parametrize("case", CASES)
def test_all_steps_of_a_convolution_make_its_output_and_its_gradients(case):
    (operation, size, kernel), options = CASES[case]
    x, w = normal(size, 1), normal(kernel, 2)
    tensors = [mf.Tensor(a[None, None], requires_grad=True) for a in (x, w)]
    y = getattr(ops, operation)(*tensors, **options)
    gy = normal(y.shape[2:], 3)
    y.backward(gy[None, None])

    forward = viz.ConvStepper(x, w, operation, **options)
    np.testing.assert_allclose(forward.so_far(len(forward) - 1)["y"], y.data[0, 0], atol=1e-12)
    backward = viz.ConvStepper(x, w, operation, "backward", gy=gy, **options)
    made = backward.so_far(len(backward) - 1)
    np.testing.assert_allclose(made["gx"], tensors[0].grad[0, 0], atol=1e-12)
    np.testing.assert_allclose(made["gw"], tensors[1].grad[0, 0], atol=1e-12)


def test_all_steps_of_a_pooling_make_its_output_and_its_gradient():
    x, gy = normal((6, 7), 1), normal((2, 3), 2)
    forward = viz.ConvStepper(x, np.ones((3, 2)), "max_pool2d", stride=2)
    np.testing.assert_array_equal(forward.so_far(5)["y"], forward.y)
    backward = viz.ConvStepper(x, np.ones((3, 2)), "max_pool2d", "backward", stride=2, gy=gy)
    expected = max_pool2d_grad(gy[None, None], backward.index, (1, 1, 6, 7), (3, 2), *backward.where, False)
    np.testing.assert_allclose(backward.so_far(5)["gx"], expected[0, 0])


def test_the_title_of_a_step_is_true():
    stepper = viz.ConvStepper([[1, 2], [3, 4]], [[5, 6], [7, 8]])
    assert stepper.title(0) == "y[0, 0] = 5·1 + 6·2 + 7·3 + 8·4 = 70"
    assert len(stepper) == 1
    assert viz.ConvStepper([[1, 2], [3, 4]], np.ones((2, 2)), "max_pool2d").title(0) == "y[0, 0] = max(1, 2, 3, 4) = 4"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.ones((2, 3, 3)), np.ones((2, 2))), {}, "x has shape .* drawn as one map"),
        ((np.ones((3, 3)), np.ones((2, 2)), "conv3d"), {}, "operation must be one of"),
        ((np.ones((3, 3)), np.ones((2, 2)), "conv2d", "sideways"), {}, "direction must be"),
        ((np.ones((3, 3)), np.ones((2, 2))), dict(gy=np.ones((3, 3))), "gy has shape"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        viz.ConvStepper(*arguments, **options)


@pytest.fixture(scope="module")
def model():
    mf.manual_seed(0)
    return mf.models.fcn8s_mini(num_classes=3, width=0.2)


def test_the_graph_is_stepped_forward_and_then_backward(model):
    with mf.trace() as t:
        ops.cross_entropy(model(normal((1, 3, 32, 40), 1, np.float32)), np.zeros((1, 32, 40), np.int64)).backward()
    stepper = viz.GraphStepper(t)
    assert len(stepper) == 2 * len(t)
    assert stepper.at(0) == (t["conv1_1"], False) and stepper.at(len(t))[0].name == "CrossEntropy"
    assert stepper.at(len(stepper) - 1) == (t["conv1_1"], True)
    assert stepper.title(len(stepper) - 1).startswith("∂conv1_1: y[n,o,i,j]") and "k=3" in stepper.title(0)
    few = viz.GraphStepper(t, ["pool3", "score"])
    assert [few.at(i)[0].name for i in range(4)] == ["pool3", "score", "score", "pool3"]
    assert few.png(step=0)[:4] == b"\x89PNG" and few.png(step=2) != few.png(step=3)
    with pytest.raises(ValueError, match="none of these"):
        viz.GraphStepper(t, ["pool9"])


def test_the_receptive_field_explorer_shows_the_region_of_the_nearest_unit(model):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    explorer = viz.ReceptiveFieldExplorer(model, picture)
    assert explorer.unit("pool3", 20, 28) == (2, 3)  # centres at 8 i + 3.5
    seen = mf.geometry.region(explorer.layers["pool3"], explorer.image, (2, 3), clip=False)
    assert f"sees {seen.size[0]}×{seen.size[1]} pixels" in explorer.title("pool3", 20, 28)
    count = explorer._effective("pool3", (2, 3))
    inside = np.zeros(count.shape, bool)
    inside[max(seen.top, 0) : seen.bottom, max(seen.left, 0) : seen.right] = True
    assert count[inside].max() == 1 and (count[~inside] == 0).all()
    assert explorer.png(layer="pool3", row=20, column=28) != explorer.png(layer="pool1", row=20, column=28)


def test_the_crop_explorer_answers_why_pad_100():
    explorer = viz.CropExplorer()
    assert explorer.title(**explorer.start()) == "fcn8s_vgg16, padding 100, image 500: crops at 5, 9, 31"
    rows, reason = explorer.layers(100, 500)
    assert reason is None
    cells = {name: n for name, n, *_ in rows}
    assert (cells["conv1_1"], cells["fc6"], cells["upscore8"], cells["score"]) == (698, 16, 568, 500)
    rows, reason = explorer.layers(0, 500)
    assert "more padding" in reason and "not possible" in explorer.title(0, 500)
    assert explorer.png(padding=0, size=500)[:4] == b"\x89PNG"


def test_an_animation_has_a_picture_for_every_scene_and_asks_nobody():
    html = viz.ConvStepper(normal((4, 4)), normal((3, 3))).to_jshtml()
    assert html.count("data:image/png;base64") == 4
    assert "http" not in html
    assert viz.CropExplorer(pads=(100,), sizes=(500,)).to_jshtml().count("data:image/png;base64") == 1


def test_a_widgets_picture_and_words_follow_its_slider():
    pytest.importorskip("ipywidgets", reason="pip install 'minifcn[notebooks]'")
    stepper = viz.ConvStepper(normal((4, 4)), normal((3, 3)))
    slider, text, picture = stepper.widget().children
    before = text.value, bytes(picture.value)
    slider.value = 3
    assert text.value != before[0] and bytes(picture.value) != before[1]
    assert stepper.title(3) in text.value
    bundle = stepper._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle and "text/html" in bundle


def test_live_training_can_be_stopped_and_leaves_a_model_that_can_be_used():
    mf.manual_seed(0)
    train, val = (mf.data.Shapes(length=n, size=(24, 32), num_classes=3) for n in (16, 4))
    model = mf.models.fcn8s_mini(num_classes=3, width=0.1)
    live = viz.LiveTraining(model, train, val, every=1, epochs=500)
    live.every = 1
    started = live.stepped

    def stepped(t):
        started(t)
        if len(live.losses) == 5:
            live.stop()  # as the button does

    live.stepped = stepped
    t = live.start().wait()
    assert t.step == 5 and len(live.losses) == 5 and t.epoch < 500
    assert model.predict(val[0][0]).shape == (24, 32)
    assert live.png()[:4] == b"\x89PNG"
    page = live._repr_mimebundle_()["text/html"]  # after the end, a page without a kernel can step through it
    assert page.count("data:image/png;base64") == 2 and "http" not in page


def test_what_goes_wrong_in_live_training_is_raised_where_it_is_waited_for():
    model = mf.models.fcn8s_mini(num_classes=5, width=0.1)
    live = viz.LiveTraining(model, mf.data.Shapes(length=4, size=(24, 32), num_classes=3))
    with pytest.raises(mf.errors.UserError, match="classes"):
        live.start().wait()


def test_a_tensor_shows_itself_in_a_notebook():
    x = mf.Tensor(np.full((1, 3, 5, 6), np.nan, np.float32), requires_grad=True, name="<image>")
    x.data[0, 0, 0, :2] = 1, 2
    html = x._repr_html_()
    assert "&lt;image&gt;" in html and "1×3×5×6" in html and "1 … 2" in html and "88 NaN" in html
    assert "data:image/png;base64" in html
    assert "= 3" in mf.Tensor(3.0)._repr_html_() and "base64" not in mf.Tensor([1.0, 2.0])._repr_html_()
    assert "from ReLU" in ops.relu(x)._repr_html_()


def test_a_mosaic_keeps_every_map_and_its_gaps_are_nan():
    maps = np.arange(2 * 5 * 3 * 4, dtype=float).reshape(2, 5, 3, 4)
    grid = viz.mosaic(maps)
    shown = grid[np.isfinite(grid)]
    assert sorted(shown) == sorted(maps[0].ravel())
    assert viz.mosaic(np.arange(4.0)).shape == (1, 4)
    assert viz.feature_maps({"x": mf.Tensor(maps), "y": maps[0, 0]}).get_axes()
    assert len(viz.filters(normal((10, 3, 3, 3))).get_axes()) == 10


def test_waiting_for_a_training_that_was_not_started_is_one_sentence():
    data = mf.data.Shapes(length=2, size=(24, 24), num_classes=3)
    live = viz.LiveTraining(mf.models.fcn8s_mini(num_classes=3, width=0.1), data)
    with pytest.raises(RuntimeError, match="call start"):
        live.wait()
