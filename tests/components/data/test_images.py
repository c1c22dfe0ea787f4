"""What counts as an image, and what is measured on it."""

import io
import pathlib
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from longtail.components.data import features
from longtail.components.data import images

_SHARED = pathlib.Path(__file__).parents[3].parent / "shared" / "data"
_PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8)


def _encoded(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _decoded(png: bytes) -> np.ndarray:
    return tf.io.decode_png(png).numpy()[..., 0]


@pytest.mark.parametrize("form, name", [("PNG", b"png"), ("JPEG", b"jpeg")])
def test_png_and_jpeg_stay_as_they_are_whatever_their_name(form, name):
    data = _encoded(Image.fromarray(_PIXELS), form)
    image = images.check(data, 1000)
    assert (image.encoded, image.format) == (data, name)
    assert image.pixels.shape == (9, 7, 3)


@pytest.mark.parametrize("form", ["PPM", "BMP", "GIF", "TIFF"])
def test_other_formats_become_png_without_loss(form):
    image = images.check(_encoded(Image.fromarray(_PIXELS), form), 1000)
    assert image.format == b"png"
    np.testing.assert_array_equal(image.pixels[..., 0], _PIXELS)


def test_webp_becomes_png_without_loss():
    colours = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    image = images.check(_encoded(Image.fromarray(colours), "WEBP", lossless=True), 1000)
    np.testing.assert_array_equal(image.pixels, colours)


def test_sixteen_bits_of_a_pgm_are_kept():
    deep = np.random.default_rng(2).integers(0, 2**16, (5, 4), np.uint16)
    pgm = b"P5 4 5 65535\n" + deep.astype(">u2").tobytes()
    kept = tf.io.decode_png(images.check(pgm, 1000).encoded, dtype=tf.uint16).numpy()
    np.testing.assert_array_equal(kept[..., 0], deep)


def test_cmyk_becomes_rgb():
    cmyk = _encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "TIFF")
    assert images.check(cmyk, 1000).pixels.min() == 255


def test_a_one_bit_png_is_black_and_white():
    data = _encoded(Image.fromarray(_PIXELS > 127), "PNG")
    assert set(np.unique(images.check(data, 1000).pixels)) == {0, 255}


def test_an_animation_counts_as_its_first_frame():
    frames = [Image.new("L", (6, 5), grey) for grey in (10, 200)]
    data = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.unique(images.check(data, 1000).pixels).tolist() == [10]


def _truncated(form: str) -> bytes:
    data = _encoded(Image.fromarray(np.resize(_PIXELS, (64, 64))), form)
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty file"),
        (b"hello", "not an image by its content"),
        (_truncated("PNG"), "not decodable as png"),
        (_truncated("JPEG"), "not decodable as jpeg"),
        (_truncated("BMP"), "not decodable as BMP"),
        (_truncated("TIFF"), "not"),
        (_encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"), "not decodable as TIFF"),
    ],
    ids=["empty", "text", "png", "jpeg", "bmp", "tiff", "float"],
)
def test_a_bad_file_has_a_reason_of_one_line(data, reason):
    with pytest.raises(images.BadImage, match=reason) as caught:
        images.check(data, 10000)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_the_header_alone_condemns_an_oversized_image():
    header_only = _encoded(Image.new("L", (2000, 1000)), "PNG")[:64]
    with pytest.raises(images.BadImage, match="oversized: 2000x1000 pixels, more than 1999999"):
        images.check(header_only, 1999999)


def test_an_image_that_claims_to_be_enormous_is_condemned():
    claim = b"P5 100000 100000 255\n"
    with pytest.raises(images.BadImage, match="exceeds limit|oversized"):
        images.check(claim, 1000)


def test_scalars_are_those_worked_out_by_hand():
    grey = np.full((4, 6), 255, np.uint8)
    grey[1, 1] = 0
    data = _encoded(Image.fromarray(grey), "PNG")
    found = images.scalars(images.check(data, 100))
    expected = {
        features.BRIGHTNESS: 23 / 24,
        features.CONTRAST: np.sqrt(23) / 24,
        features.SHARPNESS: (4 + 1 + 1) / 8,
        features.INK: 1 / 24,
        features.ASPECT: 1.5,
        features.KILOBYTES: len(data) / 1024,
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_an_image_of_one_pixel_has_finite_scalars():
    found = images.scalars(images.check(_encoded(Image.new("L", (1, 1)), "PNG"), 100))
    assert set(found) == set(features.SCALARS)
    assert all(np.isfinite(value) for value in found.values())


def test_orl_faces_are_kept_without_loss():
    archive = _SHARED / "orl_faces_s1-s20.zip"
    if not archive.exists():
        pytest.skip(f"{archive.name} is not here")
    with zipfile.ZipFile(archive) as opened:
        pgm = opened.read("orl_faces/s01/01.pgm")
    raw = np.frombuffer(pgm[-92 * 112 :], np.uint8).reshape(112, 92)
    np.testing.assert_array_equal(_decoded(images.check(pgm, 10**6).encoded), raw)
