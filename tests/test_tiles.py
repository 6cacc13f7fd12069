"""Tiles: their scores are those of the whole image, where the certificate says so, and their memory is bounded."""

import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import minifcn as mf
from minifcn import nn
from minifcn.bench.measure import resident
from minifcn.errors import GeometryError, UserError
from minifcn.models import fcn, inference, tiles
from minifcn.models.classifier import Trunk

FAMILIES = {
    "fcn8s_mini": {}, "fcn2s_mini": {}, "fcn8s_vgg16": {}, "fcn32s_alexnet": {}, "fcn32s_googlenet": {},
    "fcn8s_efficientnet_lite0": {}, "fcn_resnet50": {}, "fcn16s_nyud_late": {}, "fcn16s_siftflow": {},
    "fcn8s_resnet18": {},
}  # fmt: skip


def conv2d(x, w, stride, padding, dilation, groups):
    """Convolution whose rounding does not depend on the size of the map: one addition for each tap, in fixed order."""
    (O, Cg, kh, kw), (ph, pw) = w.shape, padding
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    OH, OW = ((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], (kh, kw), stride, dilation))
    y = np.zeros((len(x), groups, O // groups, OH, OW), x.dtype)
    x = x.reshape(len(x), groups, Cg, 1, *x.shape[2:])
    w = w.reshape(groups, O // groups, Cg, kh, kw, 1, 1)
    for c, u, v in product(range(Cg), range(kh), range(kw)):
        rows = slice(u * dilation[0], u * dilation[0] + stride[0] * (OH - 1) + 1, stride[0])
        columns = slice(v * dilation[1], v * dilation[1] + stride[1] * (OW - 1) + 1, stride[1])
        y += w[:, :, c, u, v] * x[:, :, c, :, rows, columns]
    return y.reshape(len(x), O, OH, OW)


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    """The adjoint, in the same way; its kernels are bilinear, with one channel for each group."""
    (N, O, OH, OW), (kh, kw) = gy.shape, w.shape[2:]
    assert w.shape[1] == 1 and groups == O and dilation == (1, 1)
    y = np.zeros((N, O, stride[0] * (OH - 1) + kh, stride[1] * (OW - 1) + kw), gy.dtype)
    for u, v in product(range(kh), range(kw)):
        y[:, :, u : u + stride[0] * (OH - 1) + 1 : stride[0], v : v + stride[1] * (OW - 1) + 1 : stride[1]] += (
            w[:, 0, u, v, None, None] * gy
        )
    return y[:, :, padding[0] : padding[0] + x_shape[2], padding[1] : padding[1] + x_shape[3]]


def matmul(a, b):
    """The product with the sparse matrices of an interpolation: the few terms that are not zero, in order."""
    if a.ndim == 2:  # rows @ x
        return matmul(b.swapaxes(-1, -2), a.T).swapaxes(-1, -2)
    y = np.zeros((*a.shape[:-1], b.shape[1]), a.dtype)
    for k, row in enumerate(b):
        (used,) = np.nonzero(row)
        y[..., used] += a[..., k, None] * row[used]
    return y


EXACT = dict(conv2d=conv2d, conv2d_grad_input=conv2d_grad_input, matmul=matmul)


def small(name, width=0.05, **options):
    """A net of a family with few channels, and with weights in its score layers, which begin at zero."""
    mf.manual_seed(0)
    model = mf.models.build(name, width=width, **options).eval()
    return scoring(model)


def scoring(model):
    rng = np.random.default_rng(1)
    for key, p in model.named_parameters():
        if "score" in key and p.data.ndim == 4 and p.requires_grad:
            p.data[...] = rng.standard_normal(p.shape)
    return model


def picture(model, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, model.in_channels)).astype(np.uint8)


def whole_scores(model, image):
    with mf.no_grad():
        return model(mf.Tensor(model.preprocessing(image))).data[0]


def tiled_scores(model, tiling, image):
    out = np.full((model.num_classes, *tiling.size), np.nan, np.float32)

    def keep(core, scores):
        assert np.isnan(out[core.index]).all(), "two tiles have the same pixel"
        out[core.index] = scores[0]

    tiles.each(model, tiling, lambda window: model.preprocessing(image[window.index[1:]]), keep)
    assert not np.isnan(out).any(), "a pixel belongs to no tile"
    return out


def halves(model, size, parts=2):
    """Tiles that are the smallest that give about `parts` along the longer axis."""
    whole = tiles.survey(model, size)
    budget = whole.bytes * 0.95
    tiling = tiles.plan(model, size, budget)
    while len(tiling) < parts:
        budget *= 0.8
        tiling = tiles.plan(model, size, budget)
    return tiling


LENGTH = {"fcn32s_googlenet": 1307, "fcn8s_efficientnet_lite0": 1291}


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_tiles_of_every_family_are_bit_for_bit_the_whole(name, upright):
    """With kernels whose rounding does not depend on the size of a map.  With the others, to rounding."""
    model, size = small(name), (37, LENGTH.get(name, 861))
    size = size[::-1] if upright else size
    image, tiling = picture(model, size), halves(model, size)
    assert tiling.certified.all()
    assert len(tiling) > 1
    whole, tiled = whole_scores(model, image), tiled_scores(model, tiling, image)
    assert np.abs(whole - tiled).max() <= 1e-5 * np.abs(whole).max()
    with mf.override(**EXACT):
        np.testing.assert_array_equal(whole_scores(model, image), tiled_scores(model, tiling, image))


@st.composite
def trunks(draw):
    """A trunk of two strides, with any kernels, paddings (also uneven), dilations, and poolings of both roundings."""
    layers, channels = {}, 2
    for i in range(draw(st.integers(2, 4))):
        kernel, padding, dilation = draw(st.integers(1, 4)), draw(st.integers(0, 2)), draw(st.integers(1, 2))
        if draw(st.booleans()):
            uneven = (draw(st.integers(0, 2)), draw(st.integers(0, 2)), draw(st.integers(0, 2)), 1)
            layers[f"pad{i}"] = nn.Pad(uneven)
        layers[f"conv{i}"] = nn.Conv2d(channels, 2, kernel, padding=(30 if i == 0 else padding), dilation=dilation)
        layers[f"relu{i}"], channels = nn.ReLU(), 2
        if i < 2:
            window = draw(st.integers(2, 3))
            pool = draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
            layers[f"pool{i}"] = pool(window, 2, padding=draw(st.integers(0, 1)), ceil_mode=draw(st.booleans()))
    return layers


def certified_equal(model, tiling, image):
    """Assert that certified pixels have equal bits; the share of the others that differ."""
    with mf.override(**EXACT):
        whole, tiled = whole_scores(model, image), tiled_scores(model, tiling, image)
    sure, same = tiling.certified, (whole == tiled).all(axis=0)
    assert same[sure].all()
    return sure.mean(), (~same).mean()


@settings(max_examples=40)
@given(trunks(), st.sampled_from([1, 2, 4]), st.tuples(st.integers(90, 200), st.integers(90, 200)), st.integers(0, 99))
def test_tiles_of_any_net_are_bit_for_bit_the_whole(layers, stride, size, seed):
    mf.manual_seed(seed)
    try:
        taps = {2: "pool0", 4: "pool1"}
        model = fcn(Trunk(layers, taps, in_channels=2, input_size=64), stride=max(stride, 2), num_classes=2)
        tiling = halves(scoring(model.eval()), size)
    except (GeometryError, ValueError, UserError):  # positions that no bilinear kernel can align, or too small a map
        assume(False)
    assert certified_equal(model, tiling, picture(model, size, seed))[0] == 1


@pytest.mark.parametrize("name", ["fcn8s_mini", "fcn32s_alexnet", "fcn_resnet50", "fcn8s_resnet18"])
@pytest.mark.parametrize("overlap", [0, 64, 96])
def test_the_certificate_leaves_out_what_a_narrow_overlap_changes(name, overlap):
    """Windows of a given overlap, in place of the derived one: some pixels lack context, and the map says which."""
    model, size = small(name), (64, 960)
    cut = 480
    columns = [
        tiles.Piece(0, cut + overlap, 0, cut), tiles.Piece(cut - overlap, size[1], cut, size[1]),
    ]  # fmt: skip
    tiling = tiles.Tiling(size, [tiles.Piece(0, 64, 0, 64)], columns, tiles.survey(model, size))
    sure, changed = certified_equal(model, tiling, picture(model, size))
    assert changed > 0 and 0.5 < sure < 1


def test_a_window_out_of_phase_certifies_nothing():
    model, size = small("fcn8s_mini"), (64, 960)
    pieces = [tiles.Piece(0, 700, 0, 480), tiles.Piece(271, 960, 480, 960)]
    tiling = tiles.Tiling(size, [tiles.Piece(0, 64, 0, 64)], pieces, tiles.survey(model, size))
    assert certified_equal(model, tiling, picture(model, size)) == (0.5, pytest.approx(0.5, abs=0.1))


@pytest.mark.parametrize("name, field", [("fcn32s_vgg16", 404 + 32), ("fcn8s_vgg16", 468)])
def test_the_overlap_is_that_of_the_receptive_field(name, field):
    """436 pixels seen by each pixel of FCN-32s, 468 at most in FCN-8s: fields_by_phase's numbers."""
    model = small(name)
    tiling = halves(model, (64, 1501))
    a, b = tiling.columns[:2]
    assert (
        field - 32 <= a.end - b.begin < field + 2 * 32
    )  # less by up to a phase: the cut is where the fields are small
    assert all(piece.begin % 32 == 0 for piece in tiling.columns)


def test_an_image_that_fits_is_one_tile_and_the_same_bits():
    model, size = small("fcn8s_mini"), (50, 70)
    tiling = tiles.plan(model, size, 10**9)
    image = picture(model, size)
    assert len(tiling) == 1 and tiling.certified.all()
    np.testing.assert_array_equal(tiled_scores(model, tiling, image), whole_scores(model, image))


def test_too_little_memory_for_one_tile_is_an_error_that_says_how_much_it_takes():
    model = small("fcn8s_mini")
    with pytest.raises(UserError, match=r"smallest tile of this model has \d+x\d+ pixels .* takes .* MB, but 1 MB are"):
        tiles.plan(model, (900, 900), 10**6)


def test_what_sees_the_whole_image_has_no_tiles():
    class Everything(nn.Module):
        in_channels, num_classes = 3, 2

        def __init__(self):
            self.conv = nn.Conv2d(3, 2, 3, padding=1)

        def forward(self, x):
            y = self.conv(x)
            return y - y.mean(axis=(2, 3), keepdims=True)

    with pytest.raises(GeometryError, match="depends on all of"):
        tiles.plan(Everything(), (200, 200), 10**5)


def test_an_interpolation_that_a_tile_cannot_repeat_is_an_error():
    class Odd(nn.Module):
        in_channels, num_classes, preprocessing = 3, 2, mf.data.Preprocessing()

        def __init__(self):
            self.conv = nn.Conv2d(3, 2, 3, padding=1)

        def forward(self, x):
            h, w = x.shape[2:]
            return mf.ops.interpolate(mf.ops.interpolate(self.conv(x), (h * 2 // 3, w * 2 // 3)), (h, w))

    model = Odd()
    tiling = halves(model, (40, 301))
    with pytest.raises(GeometryError, match=r"interpolates 40 cells to 26|interpolates 301 cells to 200"):
        tiled_scores(model, tiling, picture(model, (40, 301)))


def test_predict_takes_tiles_when_the_memory_is_short_and_gives_the_same_labels():
    model, limit = small("fcn8s_mini", width=0.5, num_classes=4), tiles.BASE + 65 * 10**6
    images = np.stack([picture(model, (1100, 900), seed) for seed in (1, 2)])
    whole = model.predict(images)
    used = []
    inference.each(model, images, lambda *args: used.append(args[:2]), limit=limit)
    assert len(used) > 2 and {(part.start, part.stop) for part, _ in used} == {(0, 1), (1, 2)}
    for pictures in (images, images[0]):
        same = model.predict(pictures, memory=limit) == (whole if pictures is images else whole[0])
        assert same.mean() > 1 - 1e-5  # a pixel whose two best scores are equal but for rounding may change
    whole, tiled = model.predict_proba(images[0]), model.predict_proba(images[0], memory=limit)
    np.testing.assert_allclose(tiled, whole, atol=1e-4)
    with pytest.raises(UserError, match=r"allow \d+ MB more"):
        model.predict(images, memory=tiles.BASE + 6 * 10**6)
    with pytest.raises(UserError, match=r"allow \d+ MB more"):
        model.predict(images, tta=True, memory=limit)
    with pytest.raises(UserError, match="memory is '2 XB'; give a size such as 2GB"):
        model.predict(images, memory="2 XB")
    with pytest.raises(UserError, match="images are float64"):
        model.predict(images / 2, memory=limit)
    with pytest.raises(UserError, match="expected raw uint8 RGB"):
        model.predict(images[None])


@pytest.mark.parametrize("size, tta, mb", [(None, True, 100), (400, False, 30), (400, True, 50), (800, False, 110)])
def test_images_that_the_net_sees_in_other_sizes_are_computed_in_tiles_with_the_same_result(size, tta, mb, monkeypatch):
    """Test-time augmentation, and the training size, against the whole images at once."""
    model = small("fcn8s_mini", width=0.5, num_classes=4)
    model.preprocessing = replace(model.preprocessing, size=size)
    images = np.stack([picture(model, (700, 600), seed) for seed in (1, 2)])
    expected, counts, each_tile = inference.scores(model, images, tta).data, [], tiles.each
    monkeypatch.setattr(tiles, "each", lambda *given: (counts.append(len(given[1])), each_tile(*given)))
    found, limit = np.full_like(expected, np.nan), tiles.BASE + mb * 10**6

    def put(part, region, scores):
        assert np.isnan(found[part][region.index]).all(), "two parts have the same pixel"
        found[part][region.index] = scores

    inference.each(model, images, put, tta, limit)
    assert max(counts) > 1 and len(counts) == 2 * (6 if tta else 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    rows, columns = inference.certified(model, (700, 600), images.nbytes, tta, limit)
    assert rows.shape == (700,) and columns.shape == (600,) and rows.all() and columns.all()


def test_a_resized_pixel_is_certified_if_all_cells_that_it_lies_between_are(monkeypatch):
    """By hand: 4 rows become 8, and the second of the 4 is not certified; columns are whole."""

    class Half:
        certified_axes = np.array([True, False, True, True]), np.array([True, True, False])

    views = [inference.View((4, 3), 1, Half), inference.View((4, 3), -1, Half)]
    monkeypatch.setattr(inference, "views_of", lambda *_: views)
    rows, columns = inference.certified(None, (8, 3), 0)
    np.testing.assert_array_equal(rows, [True, False, False, False, False, True, True, True])
    np.testing.assert_array_equal(columns, [False, True, False])  # the second view is mirrored


PEAK = """
import dataclasses, sys
from minifcn.bench.measure import resident
import numpy as np
import minifcn as mf
name, width, height, breadth, limit = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
model = mf.models.build(name, width=width).eval()
image = np.full((height, breadth, model.in_channels), 100, np.uint8)
model.preprocessing = dataclasses.replace(model.preprocessing, size=int(sys.argv[6]) or None)
labels = model.predict(image, sys.argv[7] == "True", limit)
assert labels.shape == image.shape[:2]
print(resident()[1])
"""


def peak(*arguments, size=0, tta=False):
    """The peak resident memory, in bytes, of a process that predicts."""
    command = [sys.executable, "-c", PEAK, *map(str, (*arguments, size, tta))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.skipif(resident() is None, reason="only Linux has /proc")  # getrusage counts the parent of a fork, too
@pytest.mark.parametrize("name, width", [("fcn8s_mini", 1), ("fcn_resnet50", 0.1), ("fcn8s_efficientnet_lite0", 0.2)])
def test_the_memory_stays_below_the_limit(name, width):
    assert peak(name, width, 1900, 2100, "700MB") < 700e6


@pytest.mark.skipif(resident() is None, reason="only Linux has /proc")
@pytest.mark.parametrize("size, tta, limit", [(1000, False, 900), (0, True, 1100)])
def test_the_memory_stays_below_the_limit_for_images_seen_in_other_sizes(size, tta, limit):
    assert peak("fcn8s_mini", 1, 1300, 1500, f"{limit}MB", size=size, tta=tta) < limit * 1e6


@pytest.mark.paper
@pytest.mark.slow
def test_a_hundred_megapixels_fit_two_gigabytes():
    """The padding of 100 and 57 million parameters at a quarter of the width; test_maps.py has the small net."""
    assert peak("fcn32s_alexnet", 0.25, 10_000, 10_000, "2GB") < 2e9
