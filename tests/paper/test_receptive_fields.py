"""Receptive fields (§3, Table 1): the composition rule, published fields, and effective fields.

Every net is a list of layers, and all expected numbers were published.
"""

from functools import reduce

import numpy as np
import pytest

import minifcn as mf
from minifcn import ops
from minifcn.geometry import Filter, effective_receptive_field, extent, receptive_field
from minifcn.kernels.shapes import stand_in

pytestmark = pytest.mark.paper


def vgg16(pad=1):
    """(name, k, s, p) of every layer with a window."""
    layers = []
    for stage, count in enumerate((2, 2, 3, 3, 3), start=1):
        layers += [(f"conv{stage}_{i}", 3, 1, pad if stage == i == 1 else 1) for i in range(1, count + 1)]
        layers += [(f"pool{stage}", 2, 2, 0)]
    return [*layers, ("fc6", 7, 1, 0), ("fc7", 1, 1, 0)]


CAFFENET = [
    ("conv1", 11, 4, 0), ("pool1", 3, 2, 0), ("conv2", 5, 1, 2), ("pool2", 3, 2, 0), ("conv3", 3, 1, 1),
    ("conv4", 3, 1, 1), ("conv5", 3, 1, 1), ("pool5", 3, 2, 0), ("fc6", 6, 1, 0), ("fc7", 1, 1, 0),
]  # fmt: skip
LENET5 = [("conv1", 5, 1, 0), ("pool1", 2, 2, 0), ("conv2", 5, 1, 0), ("pool2", 2, 2, 0), ("conv3", 5, 1, 0)]
LENET_CAFFE = [*LENET5[:4], ("ip1", 4, 1, 0)]


def until(layers, last):
    return layers[: [name for name, *_ in layers].index(last) + 1]


def window(x, k, s=1, p=0, d=1):
    return ops.conv2d(x, stand_in(np.zeros(1), (1, 1, k, k)), stride=s, padding=p, dilation=d)


def pool(x, k, s, p=0, ceil_mode=True):
    return ops.max_pool2d(x, k, s, p, ceil_mode=ceil_mode)


def endpoints(layers, size):
    """{name: (n, jump, field, centre of unit 0, effective padding)} along h, for an image of `size`."""
    found = {}
    with mf.shapes_only(), mf.no_grad():
        x = y = image(size)
        for name, k, s, p in layers:
            y = pool(y, k, s, p) if name.startswith("pool") else window(y, k, s, p)
            found[name] = y.shape[2], *numbers(y, x)
    return found


def image(size):
    return mf.Tensor(stand_in(np.zeros(1), (1, 1, size, size)), name="image")


def numbers(y, x):
    place = receptive_field(y, x)
    assert all(a == b for a, b in (place.jump, place.size, place.start, place.padding))
    return place.jump[0], place.size[0], place.start[0], place.padding[0]


@pytest.mark.parametrize(
    ("layers", "published"),
    [
        (vgg16(), (404, 32)),
        (until(vgg16(), "pool5"), (212, 32)),
        (CAFFENET, (355, 32)),
        (until(CAFFENET, "pool5"), (195, 32)),
        (LENET5, (32, 4)),
        (LENET_CAFFE, (28, 4)),
    ],
    ids=["vgg16", "vgg16 pool5", "caffenet", "caffenet pool5", "lenet5", "caffe lenet"],
)
def test_the_composition_rule_is_the_recursion_is_what_perturbing_pixels_shows(layers, published):
    """C2: ``f_ks ∘ g_k's' = (f∘g)_{k' + (k−1)s', s·s'}``, folded over the layers; j' = j·s, r' = r + (k − 1)·j."""
    folded = reduce(lambda net, layer: Filter(*layer[1:3]) @ net, layers, Filter(1))
    jump, field = 1, 1
    for _, k, s, _ in layers:
        jump, field = jump * s, field + (k - 1) * jump
    _, derived_jump, derived_field, *_ = endpoints(layers, 600)[layers[-1][0]]
    assert folded == Filter(*published) == Filter(field, jump) == Filter(derived_field, int(derived_jump))

    k, s = published
    size = k + 2 * s  # so that there are three units
    y = np.eye(size)[:, None, :, None]  # one image for each pixel; in it only this pixel is 1
    with mf.no_grad():
        for _, kernel, stride, _ in layers:
            y = ops.conv2d(y, np.ones((1, 1, kernel, 1)), stride=(stride, 1))
    changed = y.numpy()[:, 0, :, 0] != 0  # (pixel, unit)
    expected = [[s * unit <= pixel < s * unit + k for unit in range(3)] for pixel in range(size)]
    assert (changed == expected).all()


def test_the_nested_form_of_tensorflow_fcn():
    """The nested form equals the backward recursion of Araujo et al., ``r_{l−1} = s_l·r_l + (k_l − s_l)``."""
    seen = 1
    for _, k, s, _ in reversed(vgg16()):
        seen = s * seen + k - s
    assert seen == (((((7) * 2 + 6) * 2 + 6) * 2 + 6) * 2 + 4) * 2 + 4 == 404


def test_alexnet_at_227_as_the_medium_guide_prints_it():
    """In that guide the centre of the first pixel is at 0.5 (reference §5.1)."""
    guide = [
        (55, 4, 11, 5.5), (27, 8, 19, 9.5), (27, 8, 51, 9.5), (13, 16, 67, 17.5), (13, 16, 99, 17.5),
        (13, 16, 131, 17.5), (13, 16, 163, 17.5), (6, 32, 195, 33.5), (1, 32, 355, 113.5), (1, 32, 355, 113.5),
    ]  # fmt: skip
    found = endpoints(CAFFENET, 227).values()
    assert [(n, jump, field, start + 0.5) for n, jump, field, start, _ in found] == guide


ALEXNET_V2 = dict(
    conv1=(11, 4, 0), pool1=(19, 8, 0), conv2=(51, 8, 16), conv3=(99, 16, 32), conv4=(131, 16, 48), conv5=(163, 16, 64),
    pool5=(195, 32, 64),
)  # fmt: skip
VGG_16 = dict(
    pool1=(6, 2, 2), conv2_1=(10, 2, 4), pool2=(16, 4, 6), conv3_1=(24, 4, 10), conv3_2=(32, 4, 14), pool3=(44, 8, 18),
    conv4_1=(60, 8, 26), conv4_2=(76, 8, 34), pool4=(100, 16, 42), conv5_1=(132, 16, 58), conv5_2=(164, 16, 74),
    pool5=(212, 32, 90),
)  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "published"), [(CAFFENET, ALEXNET_V2), (vgg16(), VGG_16)], ids=["alexnet_v2", "vgg_16"]
)
def test_the_end_points_of_tf_slim(layers, published):
    """Field, stride and effective padding, of google-research/receptive_field (reference §5.6)."""
    found = endpoints(layers, 600)
    for name, (field, stride, padding) in published.items():
        assert (found[name][2], found[name][1], found[name][4]) == (field, stride, padding), name


def bottleneck(x, stride=1, dilation=1, project=False):
    """1×1, 3×3 and 1×1 beside a shortcut; both paths give a unit the same position."""
    y = window(window(window(x, 1), 3, stride, dilation, dilation), 1)
    return y + (window(x, 1, stride) if project else pool(x, 1, stride))


def test_resnet_v1_50_of_tf_slim():
    """In this network the last unit of a block has the stride, and pooling pads only at the end."""
    published = [(35, 8, 15), (99, 16, 47), (291, 32, 143), (483, 32, 239)]
    found = []
    with mf.shapes_only(), mf.no_grad():
        x = image(512)
        y = pool(ops.pad(window(x, 7, 2, 3), (0, 1, 0, 1)), 3, 2)
        for units, stride in zip((3, 4, 6, 3), (2, 2, 2, 1)):
            for unit in range(units):
                y = bottleneck(y, stride if unit == units - 1 else 1, project=unit == 0)
            jump, field, _, padding = numbers(y, x)
            found.append((field, jump, padding))
    assert found == published


@pytest.mark.parametrize(
    ("strides", "dilations", "published"),
    [
        ((1, 2, 2, 2), ((1, 1),) * 4, [(35, 4), (91, 8), (267, 16), (427, 32)]),
        ((1, 2, 1, 1), ((1, 1), (1, 1), (1, 2), (2, 4)), [(35, 4), (91, 8), (267, 8), (427, 8)]),
    ],
    ids=["resnet50", "its stages 3 and 4 dilated"],
)
def test_resnet50_of_torchvision(strides, dilations, published):
    """The first unit of a stage has the stride; in a dilated stage it has the dilation of the stage before."""
    found = []
    with mf.shapes_only(), mf.no_grad():
        x = image(512)
        y = pool(window(x, 7, 2, 3), 3, 2, 1, ceil_mode=False)
        for units, stride, (first, rest) in zip((3, 4, 6, 3), strides, dilations):
            for unit in range(units):
                y = bottleneck(y, 1, rest) if unit else bottleneck(y, stride, first, project=True)
            jump, field, start, _ = numbers(y, x)
            assert start == 0
            found.append((field, jump))
        if strides[2] == 1:  # the head of FCN-ResNet-50 (reference §2.7)
            assert numbers(window(window(y, 3, 1, 1), 1), x)[:2] == (8, 443)
    assert found == published


def test_the_inception_blocks_of_googlenet_are_aligned():
    """The four paths have one centre; the field is 907 with the 7×7 average pooling, 715 without (Table 1; §2.5)."""
    published = dict(
        pool2=(62, 8, 27, 6), b3=(62, 8, 91, 6), pool3=(31, 16, 107, 14), b4=(31, 16, 427, 14), pool4=(15, 32, 459, 30),
        b5=(15, 32, 715, 30), average=(9, 32, 907, 126),
    )  # fmt: skip

    def block(x):
        return ops.concat([window(x, 1), window(window(x, 1), 3, p=1), window(window(x, 1), 5, p=2), around(x)])

    def around(x):
        return window(ops.max_pool2d(x, 3, 1, 1), 1)

    def narrow(x):
        return ops.getitem(x, np.s_[:, :1])  # keep one channel, as in every layer here

    found = {}
    with mf.shapes_only(), mf.no_grad():
        x = image(500)
        y = pool(window(window(pool(window(x, 7, 2, 3), 3, 2), 1), 3, p=1), 3, 2)
        found["pool2"] = y
        for stage, count in ((3, 2), (4, 5), (5, 2)):
            for _ in range(count):
                y = narrow(block(y))
            found[f"b{stage}"] = y
            if stage < 5:
                found[f"pool{stage}"] = y = pool(y, 3, 2)
        found["average"] = ops.avg_pool2d(y, 7, 1)
        assert {name: (y.shape[2], *numbers(y, x)[:3]) for name, y in found.items()} == published


@pytest.mark.parametrize(
    ("k", "n", "field", "sigma", "width", "share"),
    [
        (3, 5, 11, 1.826, 9, 0.82),
        (3, 10, 21, 2.582, 13, 0.62),
        (3, 20, 41, 3.651, 19, 0.46),
        (3, 40, 81, 5.164, 25, 0.31),
        (5, 10, 41, 4.472, 23, 0.56),
    ],
)
def test_the_effective_field_is_a_gaussian_that_grows_as_the_root_of_the_depth(k, n, field, sigma, width, share):
    """Luo et al.: σ = √(n(k² − 1)/12) for n layers of equal weights, in a field of n(k − 1) + 1 (reference §5.8)."""
    assert reduce(lambda net, f: f @ net, [Filter(k)] * n) == Filter(field)

    def stack(x):
        for _ in range(n):
            x = ops.conv2d(x, np.full((1, 1, k, k), 1 / k**2))
        return x

    found = effective_receptive_field(stack, np.zeros((1, 1, field, field)))
    measured = extent(found)
    assert found.shape == (field, field) and (found > 0).all() and found.sum() == pytest.approx(1)
    assert measured.sigma == pytest.approx((sigma, sigma), abs=5e-4)
    assert measured.sigma == pytest.approx(((n * (k**2 - 1) / 12) ** 0.5,) * 2, rel=1e-9)
    assert measured.width == (width, width)
    assert width / field == pytest.approx(share, abs=0.006)
