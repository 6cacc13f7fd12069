"""Modules, initialisers, optimisers, and networks."""

import numpy as np
import pytest

import minifcn as mf
from minifcn import nn, ops
from minifcn.nn import init


def test_parameters_are_named_by_attribute_path_in_a_fixed_order():
    rest = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 2, 1))
    net = nn.Sequential(conv1=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), rest=rest)
    assert [n for n, _ in net.named_parameters()] == [
        "conv1.weight", "conv1.bias", "norm.weight", "norm.bias", "rest.1.weight", "rest.1.bias",
    ]  # fmt: skip
    assert [n for n, _ in net.named_buffers()] == ["norm.running_mean", "norm.running_var"]
    assert net.num_parameters() == 3 * 4 * 9 + 4 + 8 + 10


def test_state_goes_round_and_foreign_state_changes_nothing():
    mf.manual_seed(0)
    a, b = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    state = {k: v.copy() for k, v in a.state_dict().items()}
    b.load_state_dict(state)
    assert all((b.state_dict()[k] == v).all() for k, v in state.items())
    b.state_dict()["0.weight"][...] = 7
    wrong = {k: v for k, v in state.items() if k != "1.bias"} | {"0.bias": np.zeros(9), "2.x": np.zeros(1)}
    with pytest.raises(ValueError, match=r"0.bias is \(9,\), expected \(3,\); missing 1.bias; unknown 2.x"):
        b.load_state_dict(wrong)
    assert (b.state_dict()["0.weight"] == 7).all()


def test_modules_in_lists_are_found_and_shared_parameters_counted_once():
    class Net(nn.Module):
        def __init__(self):
            self.blocks = [nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)]
            self.tied = nn.Conv2d(2, 2, 3)
            self.tied.weight = self.blocks[1].weight

    net = Net()
    assert [n for n, _ in net.named_parameters()][:2] == ["blocks.0.weight", "blocks.0.bias"]
    assert net.num_parameters() == 18 + 2 + 36 + 2 + 2
    assert net.blocks[1].name == "blocks.1"


def test_a_plain_tensor_can_be_optimised():
    w = mf.Tensor(np.ones(2), requires_grad=True)
    for optimizer in (mf.optim.SGD([w], 0.5, 0.0, weight_decay=1.0), mf.optim.Adam([w], 0.5)):
        w.data[...], w.grad = 1.0, np.ones(2)
        optimizer.step()
        assert (w.data < 1).all()


def test_looking_at_a_model_leaves_every_mode_as_it_was():
    model = mf.models.fcn8s_mini(num_classes=2, width=0.1).train()
    frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    model.summary(32)
    model.predict(np.zeros((16, 16, 3), np.uint8))
    assert model.training and not frozen.training


def test_a_failed_prediction_leaves_the_mode_as_it_was():
    model = mf.models.fcn8s_mini(num_classes=2, width=0.1).train()
    with pytest.raises(ValueError, match="0x5 pixels"):
        model.predict(np.zeros((1, 0, 5, 3), np.uint8))
    assert model.training


def test_train_and_eval_reach_everything_and_switch_dropout_and_batch_norm():
    net = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5))
    x = np.random.default_rng(0).standard_normal((4, 2, 8, 8)).astype(np.float32) + 3
    mf.manual_seed(0)
    out = net.train()(x).numpy()
    assert (out == 0).mean() == pytest.approx(0.5, abs=0.1)
    before = net.state_dict()["0.running_mean"].copy()
    np.testing.assert_allclose(before, 0.1 * x.mean(axis=(0, 2, 3)), rtol=1e-5)
    again = net.eval()(x).numpy()
    assert (again != 0).all()
    assert (net.state_dict()["0.running_mean"] == before).all()


def test_a_frozen_batch_norm_neither_uses_nor_follows_the_batch():
    layer = nn.BatchNorm2d(2, frozen=True)
    x = np.full((1, 2, 3, 3), 5, np.float32)
    np.testing.assert_allclose(layer.train()(x).numpy(), 5, rtol=1e-4)
    assert (layer.running_mean.data == 0).all()


def test_shapes_only_leaves_running_statistics_alone():
    layer = nn.BatchNorm2d(2)
    with mf.shapes_only():
        layer(np.ones((1, 2, 3, 3), np.float32))
    assert (layer.running_var.data == 1).all()


def test_batch_norm_breaks_the_independence_of_images():
    """A condition of §3.4's equivalence: in training, the output of an image depends on the others in its batch."""
    layer, rng = nn.BatchNorm2d(1), np.random.default_rng(0)
    a, b = rng.standard_normal((2, 1, 1, 4, 4)).astype(np.float32)
    assert not np.allclose(layer(np.concatenate([a, b]))[:1].numpy(), layer(a).numpy(), atol=1e-3)


TABLE = {  # k: the 1-D bilinear filter, from the paper's reference (§1.4, C11)
    2: [0.5, 0.5],
    3: [0.5, 1, 0.5],
    4: [0.25, 0.75, 0.75, 0.25],
    5: [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3],
    8: [0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125],
}


@pytest.mark.parametrize("k", TABLE)
def test_bilinear_filters_are_the_tabulated_ones(k):
    np.testing.assert_allclose(init.bilinear_filter(k), TABLE[k], rtol=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 4, 8, 32])
def test_a_bilinear_deconvolution_interpolates_each_channel_by_itself(factor):
    """With kernel 2f − f mod 2 and padding ⌈(f − 1)/2⌉ it equals bilinear interpolation, except at the border."""
    k, p = 2 * factor - factor % 2, -(-(factor - 1) // 2)
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 7))
    expected = ops.interpolate(x, (6 * factor, 7 * factor)).numpy()
    for shape, groups in (((3, 1, k, k), 3), ((3, 3, k, k), 1)):
        y = ops.conv_transpose2d(x, init.bilinear(shape).astype(float), stride=factor, padding=p, groups=groups).numpy()
        assert y.shape == expected.shape
        np.testing.assert_allclose(y[..., p:-p, p:-p], expected[..., p:-p, p:-p], atol=1e-6)
    assert init.bilinear((1, 1, k, k)).sum() == pytest.approx(factor**2)


def test_he_keeps_the_variance_through_relu():
    mf.manual_seed(0)
    x = mf.Tensor(np.random.default_rng(0).standard_normal((8, 64, 12, 12)).astype(np.float32))
    for _ in range(6):
        x = ops.relu(ops.conv2d(x, init.he((64, 64, 3, 3)), padding=1))
    assert 0.3 < float((x.data**2).mean()) < 3
    assert np.abs(init.xavier((10, 48))).max() <= (3 / 48) ** 0.5


def test_one_step_of_caffes_sgd_by_hand():
    """w=1, g=2, λ=.1, lr=.5, lr_mult=2, μ=.9, V=.3: V = .27 + .5·2·2.1 = 2.37, w = −1.37 (reference §7.1)."""
    p = nn.Parameter(np.array([1.0]), lr_mult=2.0)
    sgd = mf.optim.SGD([p], lr=0.5, momentum=0.9, weight_decay=0.1)
    sgd.state[0]["velocity"][...] = 0.3
    p.grad = np.array([2.0])
    sgd.step()
    assert p.data[0] == pytest.approx(-1.37)
    assert sgd.state[0]["velocity"][0] == pytest.approx(2.37)
    assert p.grad is None


def test_both_forms_of_sgd_agree_until_the_rate_changes():
    params = [nn.Parameter(np.array([1.0])) for _ in range(2)]
    caffe, torch = (mf.optim.SGD([p], 0.1, 0.9, form=form) for p, form in zip(params, ("caffe", "torch")))
    for lr, same in ((0.1, True), (0.1, True), (0.01, False)):
        for p, sgd in zip(params, (caffe, torch)):
            sgd.lr = lr
            p.grad = np.array([1.0])
            sgd.step()
        assert (abs(params[0].data - params[1].data) < 1e-12) == same


def test_multipliers_freeze_and_spare_from_decay():
    frozen, bias = nn.Parameter(np.ones(2), lr_mult=0), nn.Parameter(np.ones(2), decay_mult=0)
    sgd = mf.optim.SGD([frozen, bias], 0.1, 0.0, weight_decay=1.0)
    bias.grad = np.zeros(2)
    sgd.step()
    assert (bias.data == 1).all()
    assert sgd.params == [bias]
    with pytest.raises(ValueError, match="nothing to learn"):
        mf.optim.SGD([frozen], 0.1)


def test_decay_and_rate_multipliers_scale_and_so_does_the_step():
    """All optimisers decay by λ·decay_mult·w and learn with lr·lr_mult; `scale` multiplies the gradients."""
    plain, slow = nn.Parameter(np.ones(1)), nn.Parameter(np.ones(1), lr_mult=0.5, decay_mult=0.25)
    for optimizer in (
        mf.optim.SGD([plain, slow], 0.1, 0.0, weight_decay=0.4),
        mf.optim.SGD([plain, slow], 0.1, 0.0, weight_decay=0.4, form="torch"),
        mf.optim.Adam([plain, slow], 0.1, weight_decay=0.4),
    ):
        for p in (plain, slow):
            p.data[...], p.grad = 1.0, np.zeros(1)
        optimizer.step()
        assert 1 - plain.data[0] == pytest.approx(0.1 * 0.4)
        assert 1 - slow.data[0] == pytest.approx(0.05 * 0.1)
    sgd = mf.optim.SGD([plain], 0.1, 0.0)
    plain.data[...], plain.grad = 1.0, np.array([6.0])
    sgd.step(scale=1 / 3)
    assert plain.data[0] == pytest.approx(1 - 0.1 * 2)


def test_optimiser_state_goes_round_and_foreign_state_is_refused():
    p = nn.Parameter(np.ones(3))
    adam = mf.optim.Adam([p], 0.1)
    p.grad = np.ones(3)
    adam.step()
    other = mf.optim.Adam([nn.Parameter(np.ones(3))], 0.1)
    other.load_state_dict(adam.state_dict(), adam.steps)
    assert (other.state[0]["mean"] == adam.state[0]["mean"]).all()
    assert other.steps == 1
    with pytest.raises(ValueError, match="another optimiser"):
        mf.optim.SGD([p], 0.1).load_state_dict(adam.state_dict(), 1)


def test_schedules():
    poly, step = mf.optim.SCHEDULES["poly"], mf.optim.SCHEDULES["step"]
    assert (poly(0), poly(1)) == (1, 0)
    assert poly(0.5) == pytest.approx(0.5**0.9)
    assert [step(t) for t in (0, 0.7, 0.9)] == [1, 0.1, 0.01]
    assert mf.optim.SCHEDULES["constant"](0.9) == 1


def test_summary_counts_parameters_multiply_adds_and_fields():
    table = nn.Sequential(conv1=nn.Conv2d(3, 4, 3, padding=1), pool1=nn.MaxPool2d(2), fc=nn.Conv2d(4, 5, 2)).summary(8)
    assert [r["layer"] for r in table] == ["conv1", "pool1", "fc"]
    assert [r["output"] for r in table] == [(1, 4, 8, 8), (1, 4, 4, 4), (1, 5, 3, 3)]
    assert (table.parameters, table.macs) == (112 + 85, 8 * 8 * 4 * 27 + 9 * 5 * 16)
    assert [r["field"] for r in table] == [(3, 3), (4, 4), (6, 6)]
    assert [r["jump"] for r in table] == [(1, 1), (2, 2), (2, 2)]
    assert "conv1" in str(table)


@pytest.mark.parametrize("stride", [32, 16, 8, 4, 2])
def test_an_fcn_starts_uniform_with_the_reference_nets_names_and_rates(stride):
    """Zero scores: ln C per pixel; a gradient reaches the score layers and nothing below them (§4.3)."""
    mf.manual_seed(0)
    model = mf.models.fcn("mini", stride=stride, num_classes=21, width=0.1)
    names = [n for n, _ in model.named_parameters()]
    assert names[0] == "conv1_1.weight"
    fused = [f"score_pool{i}.weight" for i in (4, 3, 2, 1) if 2**i >= stride]
    assert [n for n in names if n.startswith("score_pool") and n.endswith("weight")] == fused
    last = {32: "upscore", 16: "upscore16", 8: "upscore8", 4: "upscore4", 2: "upscore_pool1"}[stride]
    assert last + ".weight" in names
    by_name = dict(model.named_parameters())
    assert (by_name["score_fr.bias"].lr_mult, by_name["score_fr.bias"].decay_mult) == (2, 0)
    assert not [n for n, p in by_name.items() if n.startswith("upscore") and p.requires_grad]

    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((2, 3, 40, 50)).astype(np.float32), rng.integers(0, 21, (2, 40, 50))
    loss = ops.cross_entropy(model(x), labels)
    assert loss.item() == pytest.approx(2 * 40 * 50 * np.log(21), rel=1e-5)
    loss.backward()
    assert np.abs(by_name["score_fr.weight"].grad).max() > 0
    assert np.abs(by_name["conv1_1.weight"].grad).max() == 0


def test_an_fcn_overfits_one_picture():
    mf.manual_seed(0)
    image, label = mf.data.Shapes(length=1, size=(48, 48))[0]
    model = mf.models.fcn2s_mini(num_classes=6, width=0.5, dropout=0.0)
    sgd = mf.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(60):
        ops.cross_entropy(model(model.preprocessing(image)), label[None], reduction="valid").backward()
        sgd.step()
    known = label != 255
    model.train()  # so that batch norm uses the statistics of this image
    scores = model(model.preprocessing(image)).numpy()
    assert (scores[0].argmax(0) == label)[known].mean() > 0.99


def test_models_by_name_and_their_mistakes():
    with pytest.raises(mf.errors.UserError, match="choose one of fcn32s_mini"):
        mf.models.build("fcn9s")
    with pytest.raises(mf.errors.UserError, match="cannot be built"):
        mf.models.build("fcn8s_mini", wdith=2)
    with pytest.raises(ValueError, match="power of two"):
        mf.models.fcn("mini", stride=7)
    assert mf.models.fcn("mini", 8, 21, 40, 0.1)(np.zeros((1, 3, 30, 41), np.float32)).shape == (1, 21, 30, 41)
    with pytest.raises(ValueError, match="no trunk"):
        mf.models.fcn("vgg99")


def test_a_layer_that_is_shown_as_a_models_own_is_replaced_where_it_is_held():
    """Replacing a score layer by attribute: forward, named_parameters and state_dict all use the new layer."""
    mf.manual_seed(0)
    model = mf.models.fcn8s_mini(num_classes=4, width=0.1).eval()
    for name in ("score_fr", "conv1_1"):
        old = getattr(model, name)
        shape = old.weight.shape
        new = nn.Conv2d(shape[1], shape[0], shape[2:], padding=old.options["padding"], bias=old.bias is not None)
        setattr(model, name, new)
        assert getattr(model, name) is new
        names = [n for n, _ in model.named_parameters()]
        assert len(names) == len(set(names))
        assert model.state_dict()[f"{name}.weight"] is new.weight.data
        new.weight.data[...] = np.nan
        assert np.isnan(model(np.ones((1, 3, 32, 32), np.float32)).numpy()).any()
        new.weight.data[...] = 0


def test_blocks_lose_no_parameters_whatever_their_branches_are():
    assert [n for n, _ in nn.Residual(nn.Conv2d(3, 3, 3, padding=1)).named_parameters()] == ["0.weight", "0.bias"]
    for branches in ([nn.Conv2d(3, 2, 1), nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())], [nn.Conv2d(3, 2, 1)] * 1):
        block = nn.Branches(*branches)
        assert len(block.state_dict()) == 2 * len(branches) == len(block.parameters())
        assert block(np.ones((1, 3, 4, 4), np.float32)).shape == (1, 2 * len(branches), 4, 4)
