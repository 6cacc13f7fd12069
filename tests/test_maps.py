"""Maps: GeoTIFFs keep their place, are read in windows, and their regions are polygons in their coordinates."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from tiny_run import write_scenes

import minifcn as mf
from minifcn import predict, train
from minifcn.bench.measure import resident
from minifcn.data import rasters
from minifcn.data.images import decoding_within, read_image
from minifcn.errors import UserError
from minifcn.training import prediction_flags

pytestmark = pytest.mark.geo
PLACE = (0.5, 0.0, 440_720.0, 0.0, -0.5, 3_751_320.0)  # half a metre a pixel, north up


def scene(height=90, width=130, seed=0, bands=3, dtype=np.uint8):
    """A smooth picture, (bands, H, W), so that a net sees regions."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 12 + 2, width // 12 + 2), np.uint8))
    planes = [np.asarray(coarse.rotate(90 * k).resize((width, height), Image.Resampling.BICUBIC)) for k in range(bands)]
    return (np.stack(planes).astype(dtype)) * (257 if dtype == np.uint16 else 1)


def write_map(path, values, crs="EPSG:32633", **more):
    rasterio = pytest.importorskip("rasterio")
    profile = dict(driver="GTiff", count=len(values), height=values.shape[1], width=values.shape[2])
    place = dict(crs=crs) if crs else {}
    if crs and "gcps" not in more:
        place["transform"] = rasterio.Affine(*PLACE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", dtype=values.dtype, **(profile | place | more)) as out:
            out.write(values)
    return path


def read_map(path):
    import rasterio

    with rasterio.open(path) as source:
        return source.read(), source.profile | dict(tags=source.tags(), gcps=source.gcps)


def predicted(*argv):
    assert predict.main([str(a) for a in argv]) == 0


def test_a_geotiff_keeps_its_place_and_gets_the_labels_of_its_pixels(tmp_path, capsys):
    values, model = scene(), mf.models.fcn8s_mini(pretrained="earth")
    path = write_map(tmp_path / "größe.tif", values)
    predicted(path, "--out", tmp_path / "out", "--confidence", "--certify", "--geojson", "--csv", tmp_path / "a.csv")
    capsys.readouterr()
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        f"größe-{kind}" for kind in ("labels.tif", "overlay.tif", "confidence.tif", "certified.tif", "regions.geojson")
    }
    expected = model.predict(values.transpose(1, 2, 0))
    for kind in ("labels", "overlay", "confidence", "certified"):
        _, profile = read_map(tmp_path / f"out/größe-{kind}.tif")
        assert profile["crs"].to_epsg() == 32633 and tuple(profile["transform"])[:6] == PLACE
    labels, profile = read_map(tmp_path / "out/größe-labels.tif")
    np.testing.assert_array_equal(labels[0], expected)
    assert json.loads(profile["tags"]["classes"]) == list(model.classes) and profile["nodata"] == 255
    overlay, _ = read_map(tmp_path / "out/größe-overlay.tif")
    image = values.transpose(1, 2, 0)
    np.testing.assert_array_equal(overlay.transpose(1, 2, 0), mf.viz.overlay(image, expected, model.palette))
    sure = np.rint(255 * model.predict_proba(image).max(0))
    np.testing.assert_array_equal(read_map(tmp_path / "out/größe-confidence.tif")[0][0], sure)
    assert (read_map(tmp_path / "out/größe-certified.tif")[0] == 255).all()
    with Image.open(tmp_path / "out/größe-labels.tif") as picture:  # other programs show the colours of the classes
        assert picture.mode == "P"
        shown = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(shown, np.asarray(model.palette)[expected])


def area(ring):
    """The signed area of a closed ring, by the shoelace formula."""
    x, y = np.array(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


@pytest.mark.parametrize("suffix, unit", [(".tif", 0.25), (".png", 1)])
def test_regions_cover_the_pixels_of_their_class_in_the_maps_coordinates(suffix, unit, tmp_path):
    values, model = scene(seed=3), mf.models.fcn8s_mini(pretrained="earth")
    path = tmp_path / f"scene{suffix}"
    if suffix == ".tif":
        write_map(path, values)
    else:
        Image.fromarray(values.transpose(1, 2, 0)).save(path)
    predicted(path, "--out", tmp_path / "out", "--geojson")
    found = json.loads((tmp_path / "out/scene-regions.geojson").read_text(encoding="utf-8"))
    labels = model.predict(values.transpose(1, 2, 0))
    assert len(np.unique(labels)) > 2
    totals = dict.fromkeys(model.classes, 0.0)
    for feature in found["features"]:
        outer, *holes = feature["geometry"]["coordinates"]
        totals[feature["properties"]["class"]] += abs(area(outer)) - sum(abs(area(hole)) for hole in holes)
    for i, name in enumerate(model.classes):
        assert totals[name] == pytest.approx(unit * (labels == i).sum())
    x, y = np.concatenate([f["geometry"]["coordinates"][0] for f in found["features"]]).T
    height, width = labels.shape
    if suffix == ".tif":
        assert found["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
        assert (x.min(), x.max()) == (440_720, 440_720 + width / 2)
        assert (y.min(), y.max()) == (3_751_320 - height / 2, 3_751_320)
    else:
        assert "crs" not in found and (x.min(), x.max(), y.min(), y.max()) == (0, width, 0, height)


def test_a_large_map_is_labelled_in_tiles_of_its_file(tmp_path, monkeypatch):
    values, model = scene(1300, 900), mf.models.fcn8s_mini(pretrained="earth")
    path, windows = write_map(tmp_path / "a.tif", values, tiled=True, compress="deflate"), []
    read = rasters.Map.read
    monkeypatch.setattr(rasters.Map, "read", lambda self, region: windows.append(region.size) or read(self, region))
    monkeypatch.setattr("minifcn.viz.geotiffs.image_of", None)  # it would read the whole file
    predicted(path, "--out", tmp_path / "out", "--memory", "560MB", "--certify")
    assert max(h * w for h, w in windows) < 0.6 * 1300 * 900 and len(windows) > 4
    labels, _ = read_map(tmp_path / "out/a-labels.tif")
    assert (labels[0] == model.predict(values.transpose(1, 2, 0))).mean() > 1 - 1e-5
    assert (read_map(tmp_path / "out/a-certified.tif")[0] == 255).all()


def test_pixels_without_data_are_void(tmp_path, capsys):
    values = np.maximum(scene(), 1)
    values[:, :40, :30] = 0
    path = write_map(tmp_path / "a.tif", values, nodata=0)
    predicted(path, "--out", tmp_path / "out", "--json", tmp_path / "a.json", "--geojson")
    labels, _ = read_map(tmp_path / "out/a-labels.tif")
    np.testing.assert_array_equal(labels[0] == 255, values[0] == 0)
    (record,) = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["images"]
    assert sum(c["pixels"] for c in record["classes"].values()) == (labels != 255).sum()
    assert sum(c["share"] for c in record["classes"].values()) == pytest.approx(1)


def test_ground_control_points_are_kept(tmp_path):
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(r, c, 10.0 + c, 50.0 - r, 0.0) for r, c in ((0, 0), (0, 129), (89, 0), (89, 129))]
    path = write_map(tmp_path / "a.tif", scene(), crs="EPSG:4326", gcps=points)
    predicted(path, "--out", tmp_path / "out")
    found, crs = read_map(tmp_path / "out/a-labels.tif")[1]["gcps"]
    assert crs.to_epsg() == 4326
    assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]


@pytest.mark.parametrize("kind", ["grey", "grey and alpha", "four bands", "jpeg", "palette", "16 bits"])
def test_maps_of_other_kinds_have_the_labels_that_pillow_would_give(kind, tmp_path):
    model, values, more = mf.models.fcn8s_mini(pretrained="earth"), scene(), {}
    if kind.startswith("grey"):
        values, more = values[: 1 + (kind != "grey")], dict(photometric="MINISBLACK")
        more |= dict(alpha="UNSPECIFIED") if len(values) == 2 else {}
        values[1:] = 255
    elif kind == "four bands":
        values, more = (
            np.concatenate([values, np.full((1, 90, 130), 255, np.uint8)]),
            dict(photometric="RGB", alpha="YES"),
        )
    elif kind == "jpeg":
        more = dict(compress="jpeg", photometric="YCBCR")
    elif kind == "16 bits":
        values, more = values.astype(np.uint16) * 257, dict(photometric="RGB")
    elif kind == "palette":
        values, more = values[:1] // 4, dict(photometric="PALETTE")
    path = write_map(tmp_path / "a.tif", values, **more)
    if kind == "palette":
        import rasterio

        with rasterio.open(path, "r+") as out:
            out.write_colormap(1, {i: (i * 4, 255 - i, i, 255) for i in range(256)})
    predicted(path, "--out", tmp_path / "out")
    labels, profile = read_map(tmp_path / "out/a-labels.tif")
    same = (labels[0] == model.predict(read_image(path))).mean()
    assert same > (0.95 if kind == "jpeg" else 1 - 1e-4)  # decoders of JPEG enlarge its colours differently
    assert profile["crs"].to_epsg() == 32633


def test_bands_of_16_bits_are_read_that_pillow_cannot_read(tmp_path, monkeypatch):
    mf.manual_seed(0)
    model = mf.models.fcn8s_mini(width=0.1, in_channels=4, num_classes=3).eval()
    for _, p in model.named_parameters():
        p.data[...] = np.random.default_rng(0).standard_normal(p.shape) * 0.2
    model.bands, model.classes = ("red", "green", "blue", "near infrared"), ("a", "b", "c")
    model.preprocessing = mf.data.Preprocessing("RGB", (30000.0,) * 4, (1e-4,) * 4, 16)
    monkeypatch.setattr(predict, "fcn8s_mini", lambda pretrained: model)
    values = scene(bands=4, dtype=np.uint16)
    predicted(write_map(tmp_path / "a.tif", values), "--out", tmp_path / "out")
    labels, _ = read_map(tmp_path / "out/a-labels.tif")
    np.testing.assert_array_equal(labels[0], model.predict(values.transpose(1, 2, 0)))
    assert len(np.unique(labels)) > 1


def test_a_model_that_was_trained_at_a_size_labels_the_whole_map(tmp_path):
    scenes = write_scenes(tmp_path / "scenes")
    flags = ["--width", "0.1", "--batch-size", "3", "--epochs", "1", "--size", "24", "--repeat", "1"]
    assert train.main(["--root", str(scenes), *flags, "--out", str(tmp_path / "run")]) == 0
    values = scene()
    predicted(tmp_path / "run", write_map(tmp_path / "a.tif", values), "--out", tmp_path / "out")
    labels, _ = read_map(tmp_path / "out/a-labels.tif")
    np.testing.assert_array_equal(labels[0], mf.models.load(tmp_path / "run").predict(values.transpose(1, 2, 0)))


def test_what_cannot_be_done_for_a_map_is_said_before_the_work(tmp_path, refused, monkeypatch):
    path = write_map(tmp_path / "a.tif", scene())
    for flag in ("--legend", "--probabilities"):
        refused(predict.main, path, flag, "--out", tmp_path / "out", match=f"a.tif is a map, and {flag}")
    refused(predict.main, path, "--memory", "2 XB", match="memory is '2 XB'; give a size such as 2GB")
    large = write_map(tmp_path / "b.tif", scene(600, 700))
    refused(predict.main, large, "--memory", "350MB", "--out", tmp_path / "out", match=r"allow \d+ MB more")
    assert not [*(tmp_path / "out").iterdir()]
    cut = tmp_path / "c.tif"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(predict.main, cut, "--out", tmp_path / "out", match=r"c\.tif")
    assert not [*(tmp_path / "out").iterdir()]
    monkeypatch.setattr(rasters, "find_spec", lambda name: None)
    monkeypatch.setattr(prediction_flags, "find_spec", lambda name: None)
    refused(
        predict.main, path, "--out", tmp_path / "out", match=r"keep with rasterio only: pip install 'minifcn\[geo\]'"
    )
    Image.fromarray(scene()[0]).save(tmp_path / "d.png")
    refused(predict.main, tmp_path / "d.png", "--geojson", match=r"--geojson needs the package rasterio: pip install")


def test_a_tiff_without_a_place_is_a_picture(tmp_path):
    Image.fromarray(scene().transpose(1, 2, 0)).save(tmp_path / "a.tif")
    predicted(tmp_path / "a.tif", "--out", tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"a-labels.png", "a-overlay.png"}


def test_the_memory_limit_is_the_limit_for_decoding(tmp_path, refused):
    Image.fromarray(np.zeros((2000, 2000), np.uint8)).save(tmp_path / "a.png")
    refused(
        predict.main, tmp_path / "a.png", "--memory", "40MB", "--out", tmp_path / "out", match=r"3\.33 million pixels"
    )
    with decoding_within(10**12):
        assert read_image(tmp_path / "a.png").shape == (2000, 2000, 3)
    assert Image.MAX_IMAGE_PIXELS < 10**9  # Pillow's own limit is back
    with decoding_within(10**6), pytest.raises(UserError, match="raise the limit: predict --memory, in Python"):
        read_image(tmp_path / "a.png")


PEAK = """
import sys
from minifcn.bench.measure import resident
from minifcn import predict
assert predict.main(sys.argv[1:]) == 0
print(resident()[1], file=sys.stderr)
"""


def peak(*argv):
    """The peak resident memory, in bytes, of the command ``predict``."""
    command = [sys.executable, "-c", PEAK, *map(str, argv)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert result.returncode == 0, result.stderr
    return int(result.stderr.split()[-1])


def large_file(path, side):
    """A file of side×side pixels, written in strips."""
    row = np.tile(scene(64, 1000).transpose(1, 2, 0), (1, -(-side // 1000), 1))[:, :side]
    image = np.tile(row, (-(-side // 64), 1, 1))[:side]
    if path.suffix == ".png":
        Image.fromarray(image).save(path, compress_level=1)
    else:
        write_map(path, image.transpose(2, 0, 1), tiled=True, compress="deflate", zlevel=1)
    return path


@pytest.mark.skipif(resident() is None, reason="only Linux has /proc")  # getrusage counts the parent of a fork, too
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_the_command_stays_below_its_limit(suffix, tmp_path):
    path = large_file(tmp_path / f"a{suffix}", 2500)
    assert peak(path, "--memory", "800MB", "--certify", "--out", tmp_path / "out") < 800e6


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_file_of_a_hundred_megapixels_is_labelled_within_two_gigabytes(suffix, tmp_path):
    path = large_file(tmp_path / f"a{suffix}", 10_000)
    assert peak(path, "--memory", "2GB", "--certify", "--out", tmp_path / "out") < 2e9
