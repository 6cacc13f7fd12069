"""The networks of the paper against the tables of its reference: parameters, sizes, fields, crops, multiply-adds."""

from fractions import Fraction

import numpy as np
import pytest

import minifcn as mf
from minifcn.engine.core import watch
from minifcn.geometry import crop_offset, fields_by_phase, receptive_field
from minifcn.kernels.shapes import stand_in
from minifcn.nn.module import evaluating
from minifcn.nn.surgery import convolutionalize

pytestmark = pytest.mark.paper

# layer: parameters, jump, field, centre of unit 0, effective padding, sizes at the heights of the column heads (§2.3)
VGG16_PAD100 = """
                           500  375  224    1
conv1_1    1792      1   3  -99   100 698 573 422 199
conv1_2   36928      1   5  -99   101 698 573 422 199
pool1         0      2   6  -98.5 101 349 287 211 100
conv2_1   73856      2  10  -98.5 103 349 287 211 100
conv2_2  147584      2  14  -98.5 105 349 287 211 100
pool2         0      4  16  -97.5 105 175 144 106  50
conv3_1  295168      4  24  -97.5 109 175 144 106  50
conv3_2  590080      4  32  -97.5 113 175 144 106  50
conv3_3  590080      4  40  -97.5 117 175 144 106  50
pool3         0      8  44  -95.5 117  88  72  53  25
conv4_1 1180160      8  60  -95.5 125  88  72  53  25
conv4_2 2359808      8  76  -95.5 133  88  72  53  25
conv4_3 2359808      8  92  -95.5 141  88  72  53  25
pool4         0     16 100  -91.5 141  44  36  27  13
conv5_1 2359808     16 132  -91.5 157  44  36  27  13
conv5_2 2359808     16 164  -91.5 173  44  36  27  13
conv5_3 2359808     16 196  -91.5 189  44  36  27  13
pool5         0     32 212  -83.5 189  22  18  14   7
fc6   102764544     32 404   12.5 189  16  12   8   1
fc7    16781312     32 404   12.5 189  16  12   8   1
score_fr  86037     32 404   12.5 189  16  12   8   1
"""
VGG16 = """
                           224  512
conv1_1    1792      1   3    0     1 224 512
conv1_2   36928      1   5    0     2 224 512
pool1         0      2   6    0.5   2 112 256
conv2_2  147584      2  14    0.5   6 112 256
pool2         0      4  16    1.5   6  56 128
conv3_3  590080      4  40    1.5  18  56 128
pool3         0      8  44    3.5  18  28  64
conv4_3 2359808      8  92    3.5  42  28  64
pool4         0     16 100    7.5  42  14  32
conv5_3 2359808     16 196    7.5  90  14  32
pool5         0     32 212   15.5  90   7  16
fc6   102764544     32 404  111.5  90   1  10
fc7    16781312     32 404  111.5  90   1  10
"""
ALEXNET_PAD100 = """
                           500  375  227    1
conv1     34944      4  11  -95   100 173 142 105  48
pool1         0      8  19  -91   100  86  71  52  24
conv2    307456      8  51  -91   116  86  71  52  24
pool2         0     16  67  -83   116  43  35  26  12
conv3    885120     16  99  -83   132  43  35  26  12
conv4    663936     16 131  -83   148  43  35  26  12
conv5    442624     16 163  -83   164  43  35  26  12
pool5         0     32 195  -67   164  21  17  13   6
fc6    37752832     32 355   13   164  16  12   8   1
fc7    16781312     32 355   13   164  16  12   8   1
score_fr  86037     32 355   13   164  16  12   8   1
"""
CAFFENET = """
                           227  451  500
conv1     34944      4  11    5     0  55 111 123
pool1         0      8  19    9     0  27  55  61
conv2    307456      8  51    9    16  27  55  61
pool2         0     16  67   17    16  13  27  30
conv3    885120     16  99   17    32  13  27  30
conv4    663936     16 131   17    48  13  27  30
conv5    442624     16 163   17    64  13  27  30
pool5         0     32 195   33    64   6  13  15
fc6    37752832     32 355  113    64   1   8  10
fc7    16781312     32 355  113    64   1   8  10
"""
GOOGLENET = """
                             224 500
conv1/7x7_s2  9472   2   7   0   3 112 250
pool1/3x3_s2     0   4  11   2   3  56 125
conv2/3x3   110784   4  19   2   7  56 125
pool2/3x3_s2     0   8  27   6   7  28  62
inception_3a     -   8  59   6  23  28  62
inception_3b     -   8  91   6  39  28  62
pool3/3x3_s2     0  16 107  14  39  14  31
inception_4a     -  16 171  14  71  14  31
inception_4b     -  16 235  14 103  14  31
inception_4c     -  16 299  14 135  14  31
inception_4d     -  16 363  14 167  14  31
inception_4e     -  16 427  14 199  14  31
pool4/3x3_s2     0  32 459  30 199   7  15
inception_5a     -  32 587  30 263   7  15
inception_5b     -  32 715  30 327   7  15
pool5/7x7_s1     0  32 907 126 327   1   9
"""


def classifier(name):
    return lambda: convolutionalize(mf.models.CLASSIFIERS[name]())


TABLES = {
    "FCN-32s-VGG16, pad 100": (mf.models.fcn32s_vgg16, VGG16_PAD100),
    "VGG16": (classifier("vgg16"), VGG16),
    "FCN-AlexNet, pad 100": (mf.models.fcn32s_alexnet, ALEXNET_PAD100),
    "CaffeNet": (classifier("caffenet"), CAFFENET),
    "AlexNet, norm before pool": (classifier("alexnet"), CAFFENET),
    "GoogLeNet": (classifier("googlenet"), GOOGLENET),
}


def picture(size, channels=3):
    h, w = (size, size) if isinstance(size, int) else size
    return mf.Tensor(stand_in(np.zeros(1, np.float32), (1, channels, h, w)), name="image")


def outputs_of(model, image):
    """{layer: its last output} of a forward pass that computes only shapes."""
    seen = {}
    with watch(lambda node, inputs, output: seen.__setitem__(node.name, output)), evaluating(model), mf.no_grad():
        model(image)
    return seen


def one(pair):
    assert pair[0] == pair[1]
    return pair[0]


@pytest.fixture(autouse=True)
def shapes():
    with mf.shapes_only():
        yield


@pytest.mark.parametrize("name", TABLES)
def test_every_layer_has_the_published_parameters_size_stride_field_and_centre(name):
    build, table = TABLES[name]
    heads, *rows = table.strip("\n").splitlines()
    model = build()
    layers = dict(model.named_modules())
    for column, size in enumerate(map(int, heads.split())):
        image = picture(size)
        seen = outputs_of(model, image)
        for row in rows:
            layer, count, jump, field, start, padding, *sizes = row.split()
            y = seen[layer]
            r = receptive_field(y, image)
            assert y.shape[2:] == (int(sizes[column]),) * 2, row
            assert (one(r.jump), one(r.size)) == (int(jump), int(field)), row
            assert (one(r.start), one(r.padding)) == (Fraction(start), int(padding)), row
            if count != "-":
                assert sum(p.size for p in layers[layer].parameters()) == int(count), row


PARAMETERS = {  # numbers of learned parameters, with the auxiliary head (§2.3–2.5, §2.7)
    "fcn32s_vgg16": 134_346_581,
    "fcn16s_vgg16": 134_346_581 + 10_773,
    "fcn8s_vgg16": 134_346_581 + 10_773 + 5_397,
    "fcn8s_atonce_vgg16": 134_346_581 + 10_773 + 5_397,
    "fcn32s_alexnet": 56_954_261,
    "fcn32s_googlenet": 5_995_077,
    "fcn_resnet50": 35_322_218,
    "vgg16": 138_357_544,
    "alexnet_torchvision": 61_100_840,
    "googlenet": 6_998_552,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    assert getattr(mf.models, name)().num_parameters() == PARAMETERS[name]


def test_interpolation_layers_hold_the_filters_of_the_diagonal():
    """The reference code stores C×C×k×k numbers (1,806,336 in 32s), of which only the diagonal, C·k², is not zero."""
    full = {"fcn32s_vgg16": [64], "fcn16s_vgg16": [4, 32], "fcn8s_vgg16": [4, 4, 16], "fcn32s_alexnet": [63]}
    published = {"fcn32s_vgg16": 1_806_336, "fcn16s_vgg16": 7_056 + 451_584, "fcn8s_vgg16": 2 * 7_056 + 112_896}
    for name, kernels in full.items():
        weights = [p for n, p in getattr(mf.models, name)().named_parameters() if n.startswith("upscore")]
        assert [p.shape for p in weights] == [(21, 1, k, k) for k in kernels]
        assert not any(p.requires_grad for p in weights)
        if name in published:
            assert sum(21 * p.size for p in weights) == published[name]


def test_table_1_of_the_paper():
    """Layers, parameters in millions, field and stride of the three nets (CVPR, table 1)."""
    fields = {"fcn32s_alexnet": (57, 355), "fcn32s_vgg16": (134, 404), "fcn32s_googlenet": (6, 715)}
    for name, (millions, field) in fields.items():
        model = getattr(mf.models, name)()
        image = picture(500)
        r = receptive_field(outputs_of(model, image)["score_fr"], image)
        assert (round(model.num_parameters() / 1e6), one(r.size), one(r.jump)) == (millions, field, 32)
    assert 715 + 6 * 32 == 907  # table 1 counts the 7×7 pooling that the text discards
    counts = {name: len(_convolutions(getattr(mf.models, name)())) for name in ("fcn32s_alexnet", "fcn32s_vgg16")}
    assert counts == {"fcn32s_alexnet": 8, "fcn32s_vgg16": 16}
    assert _deepest(mf.models.fcn32s_googlenet()) == 22


def _convolutions(model):
    return [m for m in model.modules() if isinstance(m, mf.nn.Conv2d)]


def _deepest(model):
    """The number of convolutions on the deepest path through the inception blocks."""
    count = 0
    for _, layer in model.children():
        branches = getattr(layer, "branches", [layer])
        count += max(len(_convolutions(branch)) for branch in branches)
    return count


SIZES = {  # height: score_fr, 32s up, upscore2, upscore16, upscore_pool4, upscore8 (§2.4)
    1: (1, 64, 4, 80, 10, 88), 224: (8, 288, 18, 304, 38, 312), 256: (9, 320, 20, 336, 42, 344),
    375: (12, 416, 26, 432, 54, 440), 500: (16, 544, 34, 560, 70, 568), 640: (21, 704, 44, 720, 90, 728),
}  # fmt: skip


@pytest.mark.parametrize("height", SIZES)
def test_sizes_and_crops_of_the_skips(height):
    """Crops are 19 (32s), 5, 27 (16s) and 5, 9, 31 (8s) for every height; they are derived, no model stores them."""
    crops, sizes = {}, {}
    for name in ("fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16"):
        model, image, offsets = getattr(mf.models, name)(), picture(height), []

        def note(node, inputs, output, offsets=offsets):
            if type(node).__name__ == "Crop":
                offsets.append(one(node.offset))

        with watch(note), mf.no_grad():
            assert model(image).shape == (1, 21, height, height)
        crops[name] = offsets
        sizes[name] = {n: o.shape[2] for n, o in outputs_of(model, image).items() if n.startswith(("up", "score"))}
    assert crops == {"fcn32s_vgg16": [19], "fcn16s_vgg16": [5, 27], "fcn8s_vgg16": [5, 9, 31]}
    s32, s16, s8 = sizes.values()
    found = (
        s32["score_fr"], s32["upscore"], s16["upscore2"], s16["upscore16"], s8["upscore_pool4"], s8["upscore8"],
    )  # fmt: skip
    assert found == SIZES[height]


def test_the_offset_is_the_padding_less_81_or_73_or_69():
    for name, less in {"fcn32s_vgg16": 81, "fcn16s_vgg16": 73, "fcn8s_vgg16": 69}.items():
        for pad in (97, 100, 113, 130):
            image = picture(64)
            model = getattr(mf.models, name)(pad=pad)
            assert one(crop_offset(outputs_of(model, image)[model.heads[model.first].last], image)) == pad - less


def test_fcn_alexnet_and_googlenet_take_odd_kernels_and_their_crops():
    """FCN-AlexNet crops at 18, GoogLeNet at 18 (1 with its native padding).  A kernel of 64 is refused.

    The centres of its outputs would lie half a pixel beside those of the image's pixels.
    """
    image = picture(500)
    for name, options, offset in [
        ("fcn32s_alexnet", {}, 18), ("fcn32s_googlenet", dict(pad=3), 1), ("fcn32s_googlenet", {}, 18),
    ]:  # fmt: skip
        seen = outputs_of(getattr(mf.models, name)(**options), image)
        assert one(crop_offset(seen["upscore"], image)) == offset
    score = seen["score_fr"]
    even = mf.ops.conv_transpose2d(score, stand_in(score.data, (21, 1, 64, 64)), stride=32, groups=21)
    with pytest.raises(mf.GeometryError, match="63, not 64"):
        crop_offset(even, image)


def test_what_a_final_pixel_sees_depends_on_its_phase():
    """All pixels of 32s see 436 pixels; half of 16s see 436 and half 468; three quarters of 8s see 468 (§2.4)."""
    expected = {"fcn32s_vgg16": {436: 1}, "fcn16s_vgg16": {436: 0.5, 468: 0.5}, "fcn8s_vgg16": {436: 0.25, 468: 0.75}}
    for name, shares in expected.items():
        image = picture(500)
        sizes = fields_by_phase(getattr(mf.models, name)()(image), image)[0]
        assert {s: sizes.count(s) / len(sizes) for s in set(sizes)} == shares


MACS = {  # §1.5: classifiers with 1000 outputs; FCNs with 21, without interpolation
    ("caffenet", 227): 0.7244, ("vgg16", 224): 15.470, ("caffenet", 500): 9.324, ("vgg16", 500): 89.53,
    ("fcn32s_vgg16", 500): 180.903, ("fcn32s_alexnet", 500): 20.976,
}  # fmt: skip


@pytest.mark.parametrize("name, size", MACS)
def test_multiply_adds(name, size):
    model = getattr(mf.models, name)()
    if isinstance(model, mf.models.Classifier):
        model = convolutionalize(model)
    macs = sum(row["macs"] for row in model.summary(size) if not row["layer"].startswith("upscore"))
    digits = len(str(MACS[name, size]).partition(".")[2])
    assert round(macs / 1e9, digits) == MACS[name, size]


def test_a_convolutionalized_caffenet_gives_8_and_10_cells():
    """CaffeNet: 1×1 cells for 227, 8×8 for 451 (Caffe's example), 10×10 for 500; VGG16 1×1 for 224, 10×10 for 512."""
    for name, sizes in {"caffenet": {227: 1, 451: 8, 500: 10}, "vgg16": {224: 1, 512: 10}}.items():
        model = convolutionalize(mf.models.CLASSIFIERS[name]())
        assert {size: one(model(picture(size)).shape[2:]) for size in sizes} == sizes


def test_fcn_resnet50_sees_443_pixels_at_stride_8():
    image = picture(520)
    model = mf.models.fcn_resnet50()
    seen = outputs_of(model, image)
    r = receptive_field(seen["classifier.4"], image)
    assert (one(r.size), one(r.jump), seen["classifier.4"].shape[2]) == (443, 8, 65)
    plain = outputs_of(convolutionalize(mf.models.resnet50()), image)
    ends = [plain[f"layer{i}.{n}"] for i, n in ((1, 2), (2, 3), (3, 5), (4, 2))]
    assert [one(receptive_field(y, image).size) for y in ends] == [35, 91, 267, 427]
    assert [one(receptive_field(y, image).jump) for y in ends] == [4, 8, 16, 32]
    assert {one(receptive_field(y, image).start) for y in ends} == {0}


def test_every_padding_from_97_suits_every_height():
    """Every padding of at least 97 works for every height H; 96 fails for H = 1 and 2 (§2.4).

    All sizes repeat with the period 32: an image 32 pixels taller has 32/j more cells in a map of jump j and 32 more
    pixels after upsampling, and no offset depends on H.  So a result for 1 … 32 holds for all heights if the sizes
    repeat, which the second part of the test checks.
    """
    for name in ("fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16"):
        for pad in range(97, 131):
            model = getattr(mf.models, name)(pad=pad, num_classes=1)
            for h in range(1, 33):
                with mf.no_grad():
                    assert model(picture((h, h + 32))).shape[2:] == (h, h + 32)
    for pad in (97, 100, 130):  # the sizes of all maps repeat
        model = mf.models.fcn8s_vgg16(pad=pad, num_classes=1)
        for h in range(1, 33):
            image = picture((h, h + 32))
            for name, y in outputs_of(model, image).items():
                (_, (along, _)) = next(iter(y.where.items()))
                assert (y.shape[3] - y.shape[2]) * along.jump == 32, name


@pytest.mark.parametrize("name", ["fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16"])
def test_every_height_to_800_itself(name):
    model = getattr(mf.models, name)(num_classes=1)
    for h in range(1, 401):
        with mf.no_grad():
            assert model(picture((h, 801 - h))).shape[2:] == (h, 801 - h)


def test_padding_96_fails_at_heights_1_and_2():
    model = mf.models.fcn32s_vgg16(pad=96, num_classes=1)
    legal = []
    for h in range(1, 65):
        try:
            legal.append(model(picture((h, 64))).shape[2] == h)
        except (ValueError, mf.GeometryError):
            legal.append(False)
    assert [h for h, ok in enumerate(legal, start=1) if not ok] == [1, 2]


def test_fcn_alexnet_and_googlenet_suit_every_height_too():
    for name in ("fcn32s_alexnet", "fcn32s_googlenet"):
        model = getattr(mf.models, name)(num_classes=1)
        for h in range(1, 401):
            with mf.no_grad():
                assert model(picture((h, 801 - h))).shape[2:] == (h, 801 - h)
    model = mf.models.fcn32s_googlenet(num_classes=1, pad=3)
    assert model(picture(31)).shape[2:] == (31, 31)
    with pytest.raises((ValueError, mf.GeometryError)):
        model(picture(30))


def test_the_smallest_padding_for_an_image():
    """With a padding of 81 the crop of 32s is at 0; small images need more padding, because fc6 removes 6 cells."""
    for size, least in {1: 97, 33: 81, 224: 81}.items():
        model = mf.models.fcn32s_vgg16(image_size=size)
        assert model.trunk.conv1_1.options["padding"] == least
        assert model(picture(size)).shape[2:] == (size, size)
