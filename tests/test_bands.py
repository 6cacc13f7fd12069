"""Data sets whose images have named bands, of any number, in 8 or 16 bits: from the file to the prediction."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY

import minifcn as mf
from minifcn import evaluate, predict, train
from minifcn.data import Augment, Folder, Loader, Preprocessing
from minifcn.data.bands import false_colour
from minifcn.data.earth import MissingExtra
from minifcn.data.images import read_bands
from minifcn.data.palette import save_mask
from minifcn.data.samples import sample
from minifcn.data.transforms import CAFFE
from minifcn.errors import UserError
from minifcn.nn.surgery import transplant

BANDS = ("red", "green", "blue", "infrared")


class Constant:
    """Two images of 2×3 pixels: each band holds the value that `values` gives for it."""

    classes, num_classes, bands = ("a", "b"), 2, BANDS

    def __init__(self, values, dtype=np.uint16):
        self.images = [np.full((2, 3, 4), v, dtype) for v in values]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], np.zeros((2, 3), np.uint8)


def test_an_image_keeps_its_bands_and_values():
    data = Constant([(1, 2, 3, 65535), (5, 6, 7, 256)])
    ((images, labels),) = Loader(data, 2)
    assert images.dtype == np.uint16 and images.shape == (2, 2, 3, 4) and labels.shape == (2, 2, 3)
    assert images[:, 1, 2].tolist() == [[1, 2, 3, 65535], [5, 6, 7, 256]]
    wide = Constant([(1, 2, 3, 300)], np.int64)
    assert sample(wide, 0)[0].dtype == np.uint16
    wide.images = [np.full((4, 2, 3), 300)]  # channels first
    assert sample(wide, 0)[0].shape == (2, 3, 4)
    for wrong, what in ((np.zeros((2, 3, 3), np.uint8), "W, 4.: red, green"), (np.full((2, 3, 4), 70000), "70000")):
        wide.images = [wrong]
        with pytest.raises(UserError, match=what):
            sample(wide, 0)
    wide.bands = ("red", "red")
    with pytest.raises(UserError, match="a tuple of different names"):
        Loader(wide, 1)


def test_augmentation_mirrors_exactly_and_fills_and_interpolates_each_band():
    image = np.random.default_rng(0).integers(0, 65536, (4, 6, 5), dtype=np.uint16)
    label = np.zeros((4, 6), np.uint8)
    mirrored = [Augment(jitter=0.0)(image, label, np.random.default_rng(k))[0] for k in range(8)]
    assert any((m == image[:, ::-1]).all() for m in mirrored)
    assert all((m == image[:, ::-1]).all() or (m == image).all() for m in mirrored)
    fill = (1, 20, 300, 4000, 50000)
    moved, void = Augment(mirror=False, jitter=0.9, fill=fill)(image, label, np.random.default_rng(0))
    assert (void == 255).any() and (moved[void == 255] == fill).all()
    ramp = np.stack([1000 * np.arange(64), 60000 - 900 * np.arange(64)], axis=-1).astype(np.uint16)
    ramp = np.broadcast_to(ramp, (64, 64, 2))
    zoomed, _ = Augment(False, 0.0, (0.5, 2.0))(ramp, np.zeros((64, 64), np.uint8), np.random.default_rng(4))
    first, second = zoomed[32, 16:48].astype(float).T
    step = np.diff(first).mean()
    assert zoomed.dtype == np.uint16 and step != 1000  # a ramp stays a ramp: bilinear interpolation is exact for it
    np.testing.assert_allclose(np.diff(first), step, atol=1)
    np.testing.assert_allclose(second, 60000 - 0.9 * first, atol=1)


def test_the_preprocessing_of_bands_is_measured():
    p = Preprocessing.of(Constant([(0, 100, 1000, 0), (20, 100, 3000, 60000)]))
    assert p.mean == (10, 100, 2000, 30000) and p.bits == 16
    assert p.scale == (1 / 10, 1, 1 / 1000, 1 / 30000)  # a constant band is not divided by zero
    x = p(np.full((2, 3, 4), (20, 101, 1000, 30000), np.uint16))
    assert x.shape == (1, 4, 2, 3) and x[0, :, 0, 0].tolist() == [1, 1, -1, 0]
    assert p.fill == p.mean and Preprocessing.from_dict(json.loads(json.dumps(p.to_dict()))) == p
    with pytest.raises(UserError, match=r"expected raw uint16 of shape .N, H, W, 4."):
        p(np.zeros((2, 3, 4), np.uint8))
    assert p(np.zeros((0, 2, 3, 4), np.uint8)).shape == (0, 4, 2, 3)  # the part of a rank without images
    with pytest.raises(UserError, match="8 and of 16 bits"):
        data = Constant([1, 1])
        data.images[1] = data.images[1].astype(np.uint8)
        Preprocessing.of(data)
    with pytest.raises(UserError, match="BGR has three channels"):
        Preprocessing("BGR", (1, 2, 3, 4), (1, 1, 1, 1))


def test_pictures_show_red_green_and_blue_or_the_first_bands():
    pixel = np.array([[[10, 20, 30, 40]]], np.uint8)
    assert false_colour(pixel, ("infrared", "blue", "green", "red"))[0, 0].tolist() == [40, 30, 20]
    assert false_colour(pixel, ("a", "b", "c", "d"))[0, 0].tolist() == [10, 20, 30]
    assert false_colour(pixel[..., :2], ("a", "b"))[0, 0].tolist() == [10, 10, 10]
    deep = np.repeat(np.array([[[1000]], [[500]]], np.uint16), 3, axis=2)
    assert false_colour(deep)[:, 0, 0].tolist() == [255, 128]  # the 98 % quantile, 1000, is white


def test_colour_weights_start_a_net_for_more_bands():
    """The further band gets the mean of the colours' weights, BGR becomes RGB, and each band keeps its conversion."""
    mf.manual_seed(0)
    colour = mf.models.fcn32s_mini(num_classes=2, width=0.1)
    colour.preprocessing = CAFFE
    wide = mf.models.fcn32s_mini(num_classes=2, width=0.1, in_channels=4)
    wide.preprocessing = Preprocessing(mean=(1, 2, 3, 400), scale=(1, 1, 1, 0.5), bits=16)
    report = transplant(colour, wide, widen=True)
    old, new = (net.state_dict()["conv1_1.weight"] for net in (colour, wide))
    assert list(report.widened) == ["conv1_1.weight"]
    np.testing.assert_array_equal(new[:, :3], old[:, ::-1])
    np.testing.assert_allclose(new[:, 3], old.mean(axis=1), rtol=1e-6)
    assert wide.preprocessing == Preprocessing(mean=(*CAFFE.mean[::-1], 400), scale=(1, 1, 1, 0.5), bits=16)


@pytest.fixture
def field(tmp_path):
    """A folder of ten TIFFs, each with four pages of 16 bits; class 1 is where infrared is bright."""
    rng = np.random.default_rng(0)
    root = tmp_path / "field"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    (root / "bands.txt").write_text("\n".join(BANDS))
    for i in range(10):
        image = rng.integers(200, 4000, (24, 32, 4), dtype=np.uint16)
        image[:, rng.integers(8, 24) :, 3] += 20000
        pages = [Image.fromarray(image[..., k]) for k in range(4)]
        pages[0].save(root / f"images/{i}.tif", save_all=True, append_images=pages[1:])
        save_mask(root / f"masks/{i}.png", (image[..., 3] > 10000).astype(np.uint8))
    return root


def test_a_folder_of_sixteen_bit_bands_is_trained_resumed_evaluated_and_predicted(field, tmp_path, refused, capfd):
    run, whole = tmp_path / "run", tmp_path / "whole"
    flags = ["--root", str(field), *TINY, "--model", "fcn8s_mini"]
    assert train.main([*flags, "--out", str(whole)]) == 0
    assert "bands red, green, blue, infrared (16 bits)" in capfd.readouterr().out
    assert train.main([*flags, "--epochs", "1", "--schedule", "constant", "--out", str(run)]) == 0
    assert train.main(["--resume", str(run), "--epochs", "2"]) == 0
    model = mf.models.load(whole / "last.safetensors")
    assert model.bands == BANDS and model.in_channels == 4 and model.preprocessing.bits == 16
    capfd.readouterr()
    assert evaluate.main([str(run), "--json", "-"]) == 0
    measured = json.loads(capfd.readouterr().out)
    assert measured["mean_iu"] == json.loads((run / "metrics.json").read_text())["mean_iu"]
    assert predict.main([str(run), str(field / "images/3.tif"), "--out", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out/3-labels.png") as labels:
        expected = mf.models.load(run / "last.safetensors").predict(Folder(field)[3][0])
        np.testing.assert_array_equal(np.asarray(labels), expected)
    with Image.open(tmp_path / "out/3-overlay.png") as overlay:
        assert overlay.mode == "RGB"

    (field / "bands.txt").write_text("blue\ngreen\nred\ninfrared")
    refused(
        train.main, "--resume", run, "--epochs", 3, match="trained on the bands red, green, .* now have blue, green"
    )
    refused(evaluate.main, run, match="trained on the bands red, green, blue, infrared, but .* has blue, green")
    refused(predict.main, run, field / "masks/3.png", "--out", tmp_path / "o", match="3.png has pixels of mode 'P'")


def test_bands_of_a_folder_are_chosen_and_fused_late(field, tmp_path, refused, capfd):
    assert Folder(field, bands="infrared,red")[2][0].tolist() == Folder(field)[2][0][..., [3, 0]].tolist()
    colour, late = tmp_path / "colour", tmp_path / "late"
    flags = ["--root", str(field), *TINY, "--epochs", "1"]
    assert train.main([*flags, "--bands", "red,green,blue", "--out", str(colour)]) == 0
    assert train.main([*flags, "--fusion", "late", "--out", str(late)]) == 0
    state = mf.models.load(late / "last.safetensors").state_dict()
    assert state["conv1_1color.weight"].shape[1] == 3 and state["conv1_1other.weight"].shape[1] == 1
    assert evaluate.main([str(late)]) == 0 and evaluate.main([str(colour)]) == 0
    assert train.main([*flags, "--init", str(colour), "--out", str(tmp_path / "early")]) == 0
    assert "widened 1 conv1_1.weight" in " ".join(capfd.readouterr().out.split())
    refused(
        train.main, *flags, "--bands", "infrared,red,green,blue", "--init", colour, match="put the same bands first"
    )
    refused(train.main, *flags, "--bands", "infrared", "--fusion", "late", match="for red, green and blue followed by")
    refused(train.main, *flags, "--bands", "thermal", match="choose different ones of red, green, blue, infrared")


def test_files_that_do_not_hold_the_bands_are_refused(field, tmp_path):
    four = np.random.default_rng(0).integers(0, 256, (24, 32, 4), dtype=np.uint8)
    Image.fromarray(four).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_bands(tmp_path / "rgba.png", 4), four)  # alpha is a band, if it is asked for
    with pytest.raises(UserError, match=r"rgba.png has 4 channels; expected 3 bands"):
        read_bands(tmp_path / "rgba.png", 3)
    shutil.copy(tmp_path / "rgba.png", field / "images/3.png")
    (field / "images/3.tif").unlink()
    with pytest.raises(UserError, match=r"0.tif has 16 bits a band, but .*3.png 8"):
        Folder(field)
    (field / "bands.txt").write_text("red\ngreen\n")
    with pytest.raises(UserError, match=r"0.tif has 4 pages of one channel; expected 2 bands"):
        Folder(field)
    (field / "bands.txt").unlink()
    with pytest.raises(UserError, match=r"has no bands.txt"):
        Folder(field, bands="red")
    with pytest.raises(UserError, match=r"holds 16-bit values .* nothing says which value is white"):
        Folder(field)[0]  # nobody asked for bands


@pytest.mark.earth
@pytest.mark.parametrize(
    ("place", "latitude", "longitude", "least", "most"),
    [  # heights from an atlas, in metres
        ("Amazon at Manaus", -3, -60, 0, 100),
        ("Netherlands", 52.5, 5.7, 0, 50),
        ("Kansas", 38.5, -98, 400, 650),
        ("Brasilia", -15.8, -47.9, 900, 1300),
        ("Gobi", 44, 105, 1200, 1700),
        ("Altiplano", -19, -68, 3500, 4200),
        ("Tibet", 33, 88, 4500, 5200),
        ("Pacific", 0, -150, 0, 0),
        ("Greenland", 72, -40, 2300, 2300),
    ],
)
def test_the_relief_is_read_as_heights(place, latitude, longitude, least, most):
    try:
        mf.data.Earth()
    except MissingExtra as error:
        pytest.skip(str(error))
    from minifcn.data.earth import _heights

    y, x = int((90 - latitude) * 15), int((longitude + 180) * 15)
    assert least <= np.median(_heights()[y - 4 : y + 5, x - 4 : x + 5]) <= most


@pytest.mark.earth
def test_earth_gives_the_bands_that_are_asked_for():
    try:
        every = "red,green,blue,height"
        colour, four, two = (mf.data.Earth("val", bands) for bands in (BANDS[:3], every, "height,red"))
    except MissingExtra as error:
        pytest.skip(str(error))
    image, label = four[5]
    assert image.shape == (128, 128, 4) and image.dtype == np.uint16 and colour[5][0].dtype == np.uint8
    np.testing.assert_array_equal(image[..., :3], colour[5][0])
    np.testing.assert_array_equal(two[5][0], image[..., [3, 0]])
    np.testing.assert_array_equal(label, colour[5][1])
    assert (image[..., 3][label == 0] < 100).mean() > 0.95  # the sea is at 0; the coasts of the maps differ a little
    with pytest.raises(UserError, match="choose different ones of red, green, blue, height"):
        mf.data.Earth("val", "height,infrared")
