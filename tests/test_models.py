"""The networks: heads, streams, scales and options; building a network by name; refused options."""

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn import ops
from minifcn.errors import UserError
from minifcn.models.store import describe
from minifcn.nn.surgery import transplant
from minifcn.training.loop import losses_of


@pytest.mark.parametrize("name", mf.models.MODELS)
def test_every_named_net_gives_scores_of_the_image_and_a_gradient_to_every_parameter(name):
    """Forward with all heads, the sum of their losses and backward, with a fiftieth of the width."""
    mf.manual_seed(0)
    model = mf.models.build(name, width=0.02)
    model.train()
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter.data.any():
            parameter.data[...] = normal(parameter.shape, 1, np.float32) * 0.1
    x = mf.Tensor(normal((2, model.trunk.in_channels, 48, 37), 2, np.float32))
    outputs = model.outputs(x)
    classes = {name: scores.shape[1] for name, scores in outputs.items()}
    assert all(scores.shape[2:] == (48, 37) for scores in outputs.values())
    labels = {n: np.random.default_rng(0).integers(0, c, (2, 48, 37)) for n, c in classes.items()}
    losses = losses_of(model, x, labels)
    sum(losses[1:], losses[0]).backward()
    for n, p in model.named_parameters():
        assert (p.grad is not None and np.isfinite(p.grad).all()) == p.requires_grad, n


@pytest.mark.paper
def test_a_two_headed_net_adds_the_losses_of_its_heads():
    """Two heads on a shared trunk: the trunk's gradient is the sum of the gradients of the two losses (§5)."""
    mf.manual_seed(0)
    model = mf.models.fcn16s_siftflow(width=0.02, image_size=40).to(dtype="float64").eval()
    names = [n for n in model.state_dict() if n.startswith(("score", "up")) and n.endswith("weight")]
    assert names == [
        f"{n}_{kind}.weight" for kind in ("sem", "geo") for n in ("score_fr", "upscore2", "score_pool4", "upscore16")
    ]
    for n, p in model.named_parameters():
        if n.startswith("score"):
            p.data[...] = normal(p.shape, 3)
    x = mf.Tensor(normal((1, 3, 40, 40), 1))
    rng = np.random.default_rng(0)
    labels = dict(sem=rng.integers(0, 33, (1, 40, 40)), geo=rng.integers(0, 3, (1, 40, 40)))
    gradients = []
    for kinds in (["sem"], ["geo"], ["sem", "geo"]):
        model.zero_grad()
        losses = dict(zip(labels, losses_of(model, x, labels)))
        sum(losses[k] for k in kinds).backward()
        gradients.append(model.conv1_1.weight.grad)
    np.testing.assert_allclose(gradients[0] + gradients[1], gradients[2], rtol=1e-9, atol=1e-12)
    assert model(x).shape[1] == 33


def test_the_auxiliary_loss_counts_half_and_is_for_training_only():
    mf.manual_seed(0)
    model = mf.models.fcn_resnet50(num_classes=4, width=0.05).eval()
    x, labels = mf.Tensor(normal((1, 3, 33, 40), 1, np.float32)), np.zeros((1, 33, 40), int)
    main, aux = losses_of(model, x, labels)
    assert aux.item() == pytest.approx(0.5 * ops.cross_entropy(model.outputs(x)["aux"], labels).item())
    assert main.item() == pytest.approx(ops.cross_entropy(model(x), labels).item())
    assert not any(n.startswith("aux") for n in mf.models.fcn_resnet50(auxiliary=0, width=0.05).state_dict())


@pytest.mark.paper
def test_late_fusion_is_the_mean_of_two_nets_scores():
    """Each stream reads three of the six channels; the scores are averaged before upsampling (§5)."""
    mf.manual_seed(0)
    late = mf.models.fcn16s_nyud_late(width=0.02, num_classes=5, pad=97).to(dtype="float64").eval()
    state = late.state_dict()
    for n, a in state.items():
        if n.startswith("score"):
            a[...] = normal(a.shape, 5)
    x = normal((1, 6, 40, 33), 1)
    expected = 0
    for stream, channels in (("color", x[:, :3]), ("hha", x[:, 3:])):
        single = mf.models.fcn16s_vgg16(width=0.02, num_classes=5, pad=97).to(dtype="float64").eval()
        single.load_state_dict(
            {n: state[n.replace(".", stream + ".") if "up" not in n else n] for n in single.state_dict()}
        )
        expected = expected + 0.5 * single(channels).numpy()
    np.testing.assert_allclose(late(x).numpy(), expected, rtol=1e-9)


@pytest.mark.paper
def test_scales_of_at_once_training_are_frozen_and_applied_before_the_score():
    """Factors 0.01 on pool4 and 0.0001 on pool3 (PAMI) equal score weights that are smaller by these factors."""
    mf.manual_seed(0)
    scaled = mf.models.fcn8s_atonce_vgg16(width=0.02, image_size=40).to(dtype="float64").eval()
    plain = mf.models.fcn8s_vgg16(width=0.02, image_size=40).to(dtype="float64").eval()
    scaled_state = scaled.state_dict()
    assert (
        set(scaled_state["scale_pool4.weight"]) == {np.float64(np.float32(0.01))}
        and len(scaled_state["scale_pool4.weight"]) == 10
    )
    assert set(scaled_state["scale_pool3.weight"]) == {np.float64(np.float32(0.0001))}
    assert not scaled.scale_pool4.weight.requires_grad
    for n, a in scaled_state.items():
        if n.startswith("score"):
            a[...] = normal(a.shape, 5)
    state = {n: a for n, a in scaled_state.items() if not n.startswith("scale")}
    for pool, factor in (("pool4", scaled_state["scale_pool4.weight"]), ("pool3", scaled_state["scale_pool3.weight"])):
        state[f"score_{pool}.weight"] = state[f"score_{pool}.weight"] * factor[:, None, None]
    plain.load_state_dict(state)
    x = normal((1, 3, 40, 40), 1)
    np.testing.assert_allclose(scaled(x).numpy(), plain(x).numpy(), rtol=1e-9)


@pytest.mark.paper
def test_rates_are_those_of_the_reference_nets():
    """Biases have twice the rate and no decay (in FCN-AlexNet only that of the score layer).

    Interpolation layers are frozen; with `learn_upsampling`, all but the last are learned.
    """
    with mf.shapes_only():
        vgg, alexnet = (
            dict(mf.models.fcn8s_vgg16().named_parameters()),
            dict(mf.models.fcn32s_alexnet().named_parameters()),
        )
        learned = dict(mf.models.fcn8s_vgg16(learn_upsampling=True).named_parameters())
    mults = {n: (p.lr_mult, p.decay_mult) for n, p in vgg.items()}
    assert mults["conv1_1.weight"] == (1, 1) and mults["conv1_1.bias"] == mults["score_pool3.bias"] == (2, 0)
    assert (alexnet["conv1.bias"].lr_mult, alexnet["conv1.bias"].decay_mult) == (1, 1)
    assert (alexnet["score_fr.bias"].lr_mult, alexnet["score_fr.bias"].decay_mult) == (2, 0)
    names = ("upscore2", "upscore_pool4", "upscore8")
    assert [vgg[f"{n}.weight"].requires_grad for n in names] == [False, False, False]
    assert [learned[f"{n}.weight"].requires_grad for n in names] == [True, True, False]


def test_a_net_without_a_function_is_built_by_stride_and_trunk(tmp_path):
    model = mf.models.build("fcn16s_vgg11", width=0.05, num_classes=3)
    expected = mf.models.fcn("vgg11", 16, width=0.05, num_classes=3)
    assert [(n, p.shape) for n, p in model.named_parameters()] == [(n, p.shape) for n, p in expected.named_parameters()]
    arrays = {f"model.{n}": a for n, a in model.state_dict().items()}
    mf.io.save_checkpoint(tmp_path / "net.safetensors", arrays, describe(model))
    assert mf.models.load(tmp_path / "net.safetensors").build_arguments["name"] == "fcn16s_vgg11"
    with pytest.raises(UserError, match=r"fcn16s_lenet.* a stride of the trunk"):
        mf.models.build("fcn16s_lenet")
    assert "fcn16s_googlenet" in mf.models.UNNAMED and not mf.models.UNNAMED.keys() & mf.models.MODELS.keys()
    for name in ("fcn16s_alexnet", "fcn7s_vgg11", "fcn16s_vgg12"):  # fcn32s_alexnet is over CaffeNet, not alexnet
        with pytest.raises(UserError, match="there is no model"):
            mf.models.build(name)


def test_what_cannot_be_built_is_said():
    with pytest.raises(UserError, match="caffenet is a classifier"):
        mf.models.build("caffenet")
    with pytest.raises(
        ValueError, match=r"stride must be a power of two and a stride of the trunk \(8, 16, 32\), got 4"
    ):
        mf.models.fcn("caffenet", 4, width=0.05)
    with pytest.raises(ValueError, match=r"no skip reads \(pool3"):
        mf.models.fcn("mini", 32, scales=dict(pool3=0.1))
    with pytest.raises(ValueError, match="not both"):
        mf.models.fcn("mini", 32, pad=1, image_size=50)
    with pytest.raises(ValueError, match="a trunk that is already built"):
        mf.models.fcn(mf.models.fcn("mini", 32, width=0.1).trunk, 32, pad=5)
    with pytest.raises(UserError, match=r"cannot be built with wdith 2: .*unexpected keyword"):
        mf.models.build("fcn32s_vgg16", wdith=2)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("fcn8s_mini", dict(num_classes=0), "num_classes must be .*at least 1"),
        ("fcn8s_mini", dict(num_classes={}), "num_classes must be .*at least 1"),
        ("fcn_resnet50", dict(num_classes=dict(a=2, b=3)), "num_classes must be one number"),
        ("fcn_resnet50", dict(num_classes=0, width=0.05), "num_classes must be .*at least 1"),
        ("fcn8s_mini", dict(width=0), "width, .*, must be above 0"),
        ("fcn32s_alexnet", dict(width=-1), "width, .*, must be above 0"),
        ("fcn_resnet50", dict(output_stride=10), "output_stride must be 32, 16 or 8, got 10"),
        ("fcn_resnet50", dict(image_size=50), "images of any size: leave it out"),
        ("fcn16s_siftflow", dict(num_classes=5), "a number for each head, .* fcn16s_vgg16"),
        ("fcn8s_mini", dict(pretrained="earth", num_classes=7), "weights determine .*: leave out num_classes"),
    ],
)
def test_options_that_make_no_net_are_refused(name, options, message):
    with pytest.raises(UserError, match=f"model '{name}' cannot be built with .*: .*{message}"):
        mf.models.build(name, **options)


def test_a_named_net_remembers_how_it_was_built_and_any_other_says_so_when_it_is_loaded(tmp_path):
    for model in (mf.models.fcn8s_mini(num_classes=3, width=0.1), mf.models.fcn("mini", 4, num_classes=3, width=0.1)):
        arrays = {f"model.{n}": a for n, a in model.state_dict().items()}
        mf.io.save_checkpoint(tmp_path / f"{model.build_arguments is None}.safetensors", arrays, describe(model))
    assert mf.models.load(tmp_path / "False.safetensors").build_arguments["options"] == dict(num_classes=3, width=0.1)
    with pytest.raises(UserError, match=r"its model is none of the named nets, .* build it yourself"):
        mf.models.load(tmp_path / "True.safetensors")


def test_late_fusion_refuses_channels_that_no_stream_reads():
    model = mf.models.fcn32s_nyud_late(width=0.02, image_size=(60, 40))
    assert model.trunk.trunks["hha"].conv1_1.options["padding"] == 81
    assert model.summary(60)[-1]["output"] == (1, 40, 60, 60)  # an image of the net's six channels
    with pytest.raises(ValueError, match=r"read 3 \+ 3 channels of the image, which has 7"):
        model(np.zeros((1, 7, 60, 40), np.float32))


@pytest.mark.parametrize("build", [
    mf.models.googlenet, mf.models.lenet, mf.models.caffenet, mf.models.alexnet, mf.models.fcn8s_vgg16,
])  # fmt: skip
def test_nets_that_torchvision_has_not_get_no_names_of_its(build):
    with pytest.raises(ValueError, match="torchvision has no net with these layers"):
        mf.models.torchvision_names(build(width=0.02))


def test_an_fcn_over_any_classifier_takes_any_size_its_padding_allows():
    for trunk in mf.models.CLASSIFIERS:
        channels = 1 if "lenet" in trunk else 3
        with mf.shapes_only(), mf.no_grad():
            model = mf.models.fcn(trunk, 4 if "lenet" in trunk else 16, num_classes=3, pad=100, in_channels=channels)
            image = mf.Tensor(np.broadcast_to(np.float32(0), (1, channels, 61, 200)))
            assert model(image).shape == (1, 3, 61, 200), trunk


def test_the_least_padding_is_found_for_any_number_of_channels():
    """FCN-32s crops at the padding minus 81, so 81 is the least; with it, 40 pixels give fc6 the 7 cells it needs."""
    model = mf.models.fcn32s_nyud_rgbd(width=0.02, image_size=(60, 40))
    assert model.conv1_1_bgrd.options["padding"] == 81
    assert model(np.zeros((1, 4, 60, 40), np.float32)).shape == (1, 40, 60, 40)


def test_the_least_padding_for_one_size_may_be_too_little_for_a_larger_one():
    def build(pad):
        return mf.models.fcn32s_alexnet(width=0.02, pad=pad)

    assert [mf.geometry.minimal_padding(build, *sizes) for sizes in ([91], [97], [127], [91, 97, 127])] == [
        82,
        83,
        82,
        84,
    ]


def test_building_for_shapes_costs_neither_memory_nor_chance():
    mf.manual_seed(3)
    with mf.shapes_only():
        model = mf.models.fcn8s_vgg16()
    assert all(max(p.data.strides, default=0) == 0 for n, p in model.named_parameters() if n.endswith("weight"))
    a = mf.backend.rng().random()
    mf.manual_seed(3)
    assert mf.backend.rng().random() == a


def test_a_model_built_for_its_shapes_can_be_given_weights():
    mf.manual_seed(0)
    donor = mf.models.fcn8s_mini(num_classes=3, width=0.1).eval()
    x = normal((1, 3, 20, 30), 1, np.float32)
    for give in (lambda m: m.load_state_dict(donor.state_dict()), lambda m: transplant(donor, m)):
        with mf.shapes_only():
            model = mf.models.fcn8s_mini(num_classes=3, width=0.1).eval()
        give(model)
        np.testing.assert_array_equal(model(x).numpy(), donor(x).numpy())
        assert not any(np.shares_memory(a, b) for a, b in zip(model.state_dict().values(), donor.state_dict().values()))


def test_a_heads_crop_can_be_replaced():
    model, cropped = mf.models.fcn8s_mini(num_classes=2, width=0.125).eval(), []
    image = mf.Tensor(np.random.default_rng(0).standard_normal((1, 3, 40, 52)).astype("float32"))
    right = model(image).numpy()

    def crop(x, like):
        cropped.append(x.name)
        return mf.ops.crop(x, like=like)

    model.heads[""].crop = crop
    np.testing.assert_array_equal(model(image).numpy(), right)
    assert cropped == ["upscore2", "upscore_pool4", "upscore8"]
