"""Maps: TIFF files with a georeference, read and written window by window with rasterio (extra ``geo``).

A result keeps the coordinate reference system, the transform and the ground control points of its map.  Pixels without
data (the map's nodata value, its mask or its alpha band) become void.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..arrays.types import Array
from ..errors import UserError
from ..geometry import Region
from .images import VOID

SUFFIXES = (".tif", ".tiff")
GEO_TAGS = {33550, 33922, 34264, 34735}  # pixel scale, tie points, transformation, key directory
LARGE = 1 << 26  # pixels from which on a TIFF without a georeference is read in windows, too
CACHE_MB = 64  # for GDAL's cache of blocks
STRIP = 256  # rows that are written at a time
ORIENTATION = 274


class Map:
    """A map that is open for reading.

    Attributes
    ----------
    size : (int, int)
        Rows and columns.
    bands : list of int or None
        The numbers of the bands that the model takes; None if the values must be converted by Pillow, which reads the
        whole file.
    """

    def __init__(self, path: Path, source: Any, photographs: bool, channels: int, bits: int) -> None:
        self.path, self.source, self.size = path, source, (source.height, source.width)
        self.bands = _bands(source, photographs, channels, bits)

    def read(self, region: Region) -> Array:
        """The raw values of a region, (h, w, C)."""
        values = self.source.read(self.bands, window=window(region))
        return np.ascontiguousarray(values.transpose(1, 2, 0))

    def known(self, region: Region) -> Array:
        """The pixels of a region that have data: (h, w) of bool."""
        return self.source.dataset_mask(window=window(region)) > 0

    @contextmanager
    def create(self, path: str | Path, count: int = 1, **more: Any) -> Iterator[Any]:
        """A new GeoTIFF of `count` bands of uint8 at the place of this map, open for writing."""
        source = self.source
        gcps, gcps_crs = source.gcps
        place = dict(gcps=gcps, crs=gcps_crs) if gcps else dict(crs=source.crs, transform=source.transform)
        profile = dict(driver="GTiff", height=source.height, width=source.width, count=count, dtype="uint8")
        layout = dict(compress="deflate", bigtiff="if_safer", tiled=True, blockxsize=256, blockysize=256)
        with _rasterio().open(path, "w+", **profile, **layout, **place, **more) as out:
            if source.rpcs:
                out.rpcs = source.rpcs
            yield out


def _rasterio():
    try:
        return import_module("rasterio")
    except ImportError:
        raise UserError("maps need the package rasterio: pip install 'minifcn[geo]'") from None


def window(region: Region) -> Any:
    """A region as a window of rasterio."""
    return import_module("rasterio.windows").Window.from_slices(*region.index[1:])


def strips(size: Sequence[int]) -> Iterator[Region]:
    """A map of `size` in strips of full width."""
    for top in range(0, size[0], STRIP):
        yield Region(top, min(top + STRIP, size[0]), 0, size[1])


def is_map(path: Path) -> bool:
    """Whether a file is a TIFF to be read in windows: with a georeference, very many pixels, or unreadable for Pillow.

    Parameters
    ----------
    path : Path

    Raises
    ------
    UserError
        If it has a georeference that would be lost, because rasterio is not installed or its rows are not upright.
    """
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            tags, pixels = dict(getattr(image, "tag_v2", {})), image.width * image.height
    except Exception:  # a compression or a kind of pixel that Pillow lacks; its plugins raise many kinds of error
        return find_spec("rasterio") is not None and _opens(path)
    found = GEO_TAGS & tags.keys()
    if found and find_spec("rasterio") is None:
        raise UserError(f"{path} has a georeference, which results keep with rasterio only: pip install 'minifcn[geo]'")
    if found and tags.get(ORIENTATION, 1) != 1:
        raise UserError(f"{path} has a georeference and rows that are not upright (TIFF tag 274); turn it upright")
    return bool(found) or (pixels >= LARGE and find_spec("rasterio") is not None and tags.get(ORIENTATION, 1) == 1)


def _opens(path):
    with suppress(UserError), opened(path, photographs=False, channels=1, bits=8):
        return True
    return False


@contextmanager
def opened(path: str | Path, photographs: bool, channels: int, bits: int) -> Iterator[Map]:
    """Open a map for a model.

    Parameters
    ----------
    path : path-like
    photographs : bool
        Whether the model takes 8-bit RGB, to which grey is converted.
    channels, bits : int
        Of the model.

    Raises
    ------
    UserError
        If rasterio is not installed, or cannot read the file.
    """
    rasterio = _rasterio()
    errors = import_module("rasterio.errors")
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_PAM_ENABLED="NO"):
        try:
            with rasterio.open(path, driver="GTiff") as source:
                yield Map(Path(path), source, photographs, channels, bits)
        except (errors.RasterioIOError, errors.RasterioError) as error:
            raise UserError(f"cannot read or write the map {path}: {' '.join(str(error).split())}") from None


def _bands(source, photographs, channels, bits):
    """The bands for a model, or None: see `Map`."""
    kinds = {str(kind) for kind in source.dtypes}
    colours = {interpretation.name for interpretation in source.colorinterp}
    plain = source.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") != "YES" and not colours & {"palette", "cyan"}
    if not plain or kinds != {f"uint{bits}"}:
        return None
    if not photographs:
        return list(range(1, channels + 1)) if source.count == channels else None
    grey, colour = source.count - ("alpha" in colours) == 1, source.count >= 3
    return [1, 1, 1] if grey else [1, 2, 3] if colour and not source.count > 4 else None


def polygons(source: Any, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The regions of equal labels in a map of labels, or in an array (H, W), as GeoJSON features.

    Parameters
    ----------
    source : dataset of rasterio, open for reading, or ndarray of uint8
    classes : sequence of str

    Yields
    ------
    dict
        Its geometry is a polygon, with holes, in the coordinates of the map; of an array, in pixels (x to the right, y
        down).  Its properties are ``class`` and ``id``.  Void has no regions.
    """
    _rasterio()
    features = import_module("rasterio.features")
    if isinstance(source, np.ndarray):
        found = features.shapes(source, mask=source != VOID)
    else:
        labels = source.read(1)
        found = features.shapes(labels, mask=labels != VOID, transform=source.transform)
    for geometry, value in found:
        properties = {"class": classes[int(value)], "id": int(value)}
        yield {"type": "Feature", "properties": properties, "geometry": geometry}


def write_geojson(path: str | Path, features: Iterator[dict[str, Any]], crs: Any = None) -> None:
    """Write features as a GeoJSON file, one a line.

    Parameters
    ----------
    path : path-like
    features : iterable of dict
    crs : CRS of rasterio, optional
        Named in the file by its code.  (RFC 7946 knows longitude and latitude only; GDAL and QGIS read this member.)
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection",\n')
        if crs:
            code = crs.to_authority()
            name = f"urn:ogc:def:crs:{code[0]}::{code[1]}" if code else crs.to_wkt()
            file.write(f'"crs": {json.dumps({"type": "name", "properties": {"name": name}})},\n')
        file.write('"features": [\n')
        for k, feature in enumerate(features):
            file.write(f"{',' if k else ''}{json.dumps(feature, ensure_ascii=False)}\n")
        file.write("]}\n")
