"""Pictures of every mode, size and orientation, undamaged and damaged: right values, or a refusal."""

import numpy as np
import pytest
from campaign import campaign, damaged, right_or_refused
from PIL import Image

from minifcn.data import images

pytestmark = pytest.mark.campaign
SIZES = [(1, 1), (1, 7), (7, 1), (2, 3), (16, 16), (17, 31), (64, 5)]
# EXIF orientation: the function that turns a stored image upright
UPRIGHT = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}  # fmt: skip
MODES = ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I;16", "F"]
SUFFIXES = {"RGB": ["png", "tif", "bmp", "webp", "jpg"], "L": ["png", "tif", "bmp", "jpg"], "P": ["png", "tif", "bmp"],
            "1": ["png", "tif", "bmp"], "RGBA": ["png", "tif", "webp"], "LA": ["png", "tif"], "CMYK": ["tif", "jpg"],
            "I;16": ["png", "tif"], "F": ["tif"]}  # fmt: skip
LOSSY = {"jpg", "webp"}


def stored(mode, size, rng):
    """A random picture, and the RGB values to expect before orientation; None if they are not defined."""
    h, w = size
    a = rng.integers(0, 256, (h, w, 4), dtype=np.uint8)
    match mode:
        case "RGB":
            return Image.fromarray(a[..., :3]), a[..., :3]
        case "L":
            return Image.fromarray(a[..., 0]), a[..., :1].repeat(3, 2)
        case "1":
            on = a[..., 0] > 127
            return Image.fromarray(on), on[..., None].repeat(3, 2) * np.uint8(255)
        case "P":
            palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
            image = Image.fromarray(a[..., 0])
            image.putpalette(palette.tobytes())
            return image, palette[a[..., 0]]
        case "RGBA":
            return Image.fromarray(a), None  # file formats may change the colour of transparent pixels
        case "LA":
            return Image.fromarray(a[..., 0]).convert("LA"), a[..., :1].repeat(3, 2)
        case "CMYK":
            return Image.fromarray(a[..., :3]).convert("CMYK"), None
        case "I;16":
            deep = rng.integers(0, 65536, (h, w)).astype(np.uint16)
            deep[0, 0] = 65535  # the picture uses all 16 bits
            return Image.fromarray(deep), (deep >> 8).astype(np.uint8)[..., None].repeat(3, 2)
        case "F":
            return Image.fromarray(a[..., 0].astype("f4")), None


def check_in(folder):
    def check(number, rng):
        mode = MODES[number % len(MODES)]
        suffix = str(rng.choice(SUFFIXES[mode]))
        size, turn = SIZES[rng.integers(len(SIZES))], int(rng.integers(1, 9)) if suffix in ("png", "jpg", "tif") else 1
        image, right = stored(mode, size, rng)
        path = folder / f"a.{suffix}"
        exif = Image.Exif()
        exif[0x0112] = turn
        image.save(path, **({"exif": exif} if turn > 1 else {}))
        if number // len(MODES) % 2:
            path.write_bytes(damaged(path.read_bytes(), rng))
            for read in (images.read_image, images.read_mask, images.image_size):
                right_or_refused(read, path)
            return 3
        got = right_or_refused(images.read_image, path)
        assert (got is None) == (mode == "F"), (mode, suffix, size, turn)
        if got is not None:
            assert got.dtype == np.uint8 and got.shape[:2] == UPRIGHT[turn](np.empty((*size, 1))).shape[:2]
            assert got.shape == (*images.image_size(path), 3), (mode, suffix, size, turn)
            if right is not None and suffix not in LOSSY:
                np.testing.assert_array_equal(got, UPRIGHT[turn](right), f"{mode} {suffix} {size} {turn}")
        return 2

    return check


def test_pictures(tmp_path):
    campaign("pictures", 180, 3600, check_in(tmp_path), seconds=10)


def test_a_picture_that_is_not_turned_is_seen(tmp_path, monkeypatch):
    """The sabotage: read_image ignores the orientation."""
    monkeypatch.setattr(images.ImageOps, "exif_transpose", lambda image, **_: image)
    with pytest.raises(AssertionError, match="png"):
        campaign("sabotage of pictures", 60, 60, check_in(tmp_path))
