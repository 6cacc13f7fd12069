"""Images and masks as programs write them: depths, ranges, orientations, formats; and paths that are no file."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from minifcn.data.images import image_size, mask_size, read_image, read_mask
from minifcn.errors import UserError


def png(path, values, bits, colour=0):
    """The bytes of a PNG with `bits` per value; colour type 0 is grey, 2 RGB and 3 palette."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = b""
    for row in values.reshape(height, -1):
        if bits == 16:
            data = row.astype(">u2").tobytes()
        else:
            data = np.packbits(np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]).tobytes()
        rows += b"\0" + data
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(3 * 2**bits))) if colour == 3 else b""
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def tiff(path, data, width, height, bits, photometric=1):
    """The bytes of a TIFF: grey, one strip, uncompressed."""
    tags = [
        (256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 122), (277, 1), (278, height),
        (279, len(data)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + data)
    return path


@pytest.mark.parametrize("colour", [0, 3], ids=["grey", "palette"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_mask_of_few_bits_gives_the_ids_that_it_stores(tmp_path, bits, colour):
    ids = np.arange(2**bits).reshape(2, -1)
    np.testing.assert_array_equal(read_mask(png(tmp_path / "a.png", ids, bits, colour)), ids)


def test_a_tiff_of_few_bits_gives_the_ids_that_it_stores(tmp_path):
    np.testing.assert_array_equal(read_mask(tiff(tmp_path / "a.tif", b"\x1b", 4, 1, 2)), [[0, 1, 2, 3]])
    np.testing.assert_array_equal(read_mask(tiff(tmp_path / "b.tif", b"\x01\x2f", 4, 1, 4)), [[0, 1, 2, 15]])
    with pytest.raises(UserError, match=r"c\.tif is a TIFF that stores white as 0"):
        read_mask(tiff(tmp_path / "c.tif", b"\x1b", 4, 1, 2, photometric=0))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_orientation_turns_image_and_mask_alike_and_their_sizes(tmp_path, suffix, orientation):
    ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
    turned = [
        ids, ids[:, ::-1], ids[::-1, ::-1], ids[::-1], ids.T, np.rot90(ids, -1), ids[::-1, ::-1].T, np.rot90(ids),
    ][orientation - 1]  # fmt: skip
    path, image = tmp_path / f"a.{suffix}", Image.fromarray(ids)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, **({"tiffinfo": {274: orientation}} if suffix == "tif" else {"exif": exif}))
    np.testing.assert_array_equal(read_mask(path), turned)
    np.testing.assert_array_equal(read_image(path)[:, :, 0], turned)
    assert image_size(path) == mask_size(path) == turned.shape


def test_twelve_bits_are_scaled_where_the_file_says_so_and_refused_where_it_does_not(tmp_path):
    packed = tiff(tmp_path / "a.tif", bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x10]), 4, 1, 12)  # 0, 2048, 4095, 16
    np.testing.assert_array_equal(read_image(packed)[0, :, 0], [0, 128, 255, 1])
    values = np.array([[0, 2048, 4095]], np.uint16)
    Image.fromarray(values).save(tmp_path / "b.tif")
    colours = np.stack([values] * 3, axis=2)
    for path in (tmp_path / "b.tif", png(tmp_path / "b.png", values, 16), png(tmp_path / "c.png", colours, 16, 2)):
        with pytest.raises(UserError, match=rf"{path.name} holds 16-bit values of at most 4095.*convert it to 8 bits"):
            read_image(path)
    Image.fromarray(np.array([[0, 4095]], np.int32)).save(tmp_path / "d.tif")
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"d\.tif holds 32-bit integers"):
            read(tmp_path / "d.tif")


def test_sixteen_bits_of_white_is_zero_are_inverted(tmp_path):
    path = tiff(tmp_path / "a.tif", struct.pack("<2H", 0, 65535), 2, 1, 16, photometric=0)
    np.testing.assert_array_equal(read_image(path)[0, :, 0], [255, 0])


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])  # before 12, Pillow writes YCbCr TIFFs too short
def test_tiffs_of_other_colour_spaces_are_read(tmp_path, mode):
    grey = Image.new("RGB", (4, 3), (128, 128, 128))
    if mode == "LAB":
        from PIL import ImageCms

        grey = ImageCms.profileToProfile(
            grey, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    else:
        grey = grey.convert(mode)
    grey.save(tmp_path / "a.tif")
    assert abs(read_image(tmp_path / "a.tif").astype(int) - 128).max() <= 3


def test_of_several_pages_the_first_is_read_and_a_mask_must_have_one(tmp_path):
    first, second = (Image.new("L", (4, 3), value) for value in (200, 100))
    for name in ("a.tif", "a.gif", "a.png"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert (read_image(tmp_path / name) == 200).all()
        with pytest.raises(UserError, match="has 2 pages"):
            read_mask(tmp_path / name)


def test_a_mask_in_a_format_that_changes_values_is_refused(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png", format="JPEG")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "b.tif")
    for read in (read_mask, mask_size):
        with pytest.raises(UserError, match="is a JPEG file, which may change class ids; save it as PNG"):
            read(tmp_path / "a.png")
        with pytest.raises(UserError, match="floating-point"):
            read(tmp_path / "b.tif")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("read", [read_image, read_mask, image_size, mask_size])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    for path, kind in [("a.png", "a named pipe"), ("b.png", "a folder")]:
        with pytest.raises(UserError, match=f"{path} is {kind}, not a regular file"):
            read(tmp_path / path)


def test_a_file_that_another_program_would_run_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", format="EPS")
    with pytest.raises(UserError, match="is a EPS file"):
        read_image(tmp_path / "a.png")
