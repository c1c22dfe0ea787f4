"""The one door: what a picture is, by its content alone, and what a person sees of it."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from longtail.models import pictures
from longtail.models.export import signatures
from tests import made_pictures as made


@pytest.mark.parametrize("form", made.FORMATS)
def test_every_format_that_is_read_is_known_by_its_content(form):
    shown = pictures.read(made.encoded(made.picture(), form))
    expected = made.picture(grey=False).convert("L").convert("RGB") if form == "PGM" else made.picture()
    assert np.abs(made.pixels_of(shown.encoded) - np.asarray(expected)).mean() < (30 if form == "GIF" else 4)
    assert shown.format == (b"jpeg" if form in ("JPEG", "MPO") else b"png")


@pytest.mark.parametrize("form", made.TAGGED)
@pytest.mark.parametrize("tag", range(1, 9))
def test_a_picture_is_upright_by_its_tag_in_every_format(form, tag):
    shown = pictures.read(made.turned(made.picture(), form, tag))
    found, expected = made.pixels_of(shown.encoded), np.asarray(made.picture())
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 4


def test_a_tag_of_no_meaning_turns_nothing():
    exif = Image.Exif()
    exif[made.ORIENTATION] = 9
    data = made.encoded(made.picture(), "JPEG", exif=exif)
    assert pictures.read(data).encoded == data


@pytest.mark.parametrize("form", made.TRANSPARENT)
def test_transparent_parts_are_white_whatever_colour_hides_there(form):
    image = made.picture().convert("RGBA")
    image.paste((200, 0, 0, 0), (0, 0, 8, 16))
    found = made.pixels_of(pictures.read(made.encoded(image, form)).encoded)
    assert (found[:, :8] == 255).all()
    assert (found[:, 8:] != 255).any()


def test_half_transparent_is_half_white():
    image = Image.new("RGBA", (4, 4), (0, 100, 200, 51))  # a fifth of it is ink
    found = made.pixels_of(pictures.read(made.encoded(image, "PNG")).encoded)
    assert np.abs(found - [204, 224, 244]).max() <= 1


def test_a_grey_picture_with_transparent_parts_stays_grey():
    image = Image.new("LA", (4, 4), (10, 0))
    shown = pictures.read(made.encoded(image, "PNG")).encoded
    assert Image.open(io.BytesIO(shown)).mode == "L"
    assert (made.pixels_of(shown) == 255).all()


def test_an_opaque_alpha_channel_changes_no_byte():
    data = made.encoded(made.picture().convert("RGBA"), "PNG")
    assert pictures.read(data).encoded == data


@pytest.mark.parametrize(
    "content, named",
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n0 0 moveto\n8 8 lineto\nstroke\nshowpage\n", "PostScript"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"P4\n8 8\n" + bytes(8), "PBM"),
        (b"8BPS\0\1", "Photoshop"),
        (b"hello", "not an image by its content"),
        (b"", "empty file"),
    ],
)
def test_nothing_else_reaches_a_decoder(content, named, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: pytest.fail("a decoder was asked"))
    with pytest.raises(pictures.BadImage, match=named) as caught:
        pictures.read(content)
    assert "\n" not in str(caught.value) and caught.value.status == signatures.STATUS_UNDECODABLE


def _patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def _lying(form: str) -> bytes:
    data = made.encoded(made.picture(), form)
    if form == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        return _patched(data, at, (5000).to_bytes(2, "big") + (6500).to_bytes(2, "big"))
    if form == "PNG":
        return _patched(data, 16, (5500).to_bytes(4, "big") * 2)
    return b"P5 5500 5500 255\n" + data


@pytest.mark.parametrize("form", ["JPEG", "PNG", "PPM"])
def test_a_header_that_states_more_than_its_data_can_fill_is_not_decoded(form, monkeypatch):
    data = _lying(form)
    monkeypatch.setattr(Image.Image, "load", lambda *args: pytest.fail("it was decoded"))
    with pytest.raises(pictures.BadImage, match=f"damaged {form}: its header (states|cannot be read)"):
        pictures.read(data)


def test_the_emptiest_jpeg_is_no_lie():
    data = made.encoded(Image.new("L", (4000, 4000)), "JPEG", optimize=True, progressive=True)
    assert pictures.read(data).encoded == data


def test_a_picture_that_is_too_large_has_the_status_of_one():
    with pytest.raises(pictures.BadImage, match="oversized: 24x16") as caught:
        pictures.read(made.encoded(made.picture(), "BMP"), max_pixels=383)
    assert caught.value.status == signatures.STATUS_TOO_LARGE


def test_a_pipe_and_a_device_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero", str(tmp_path)):
        with pytest.raises(pictures.BadImage, match="not a regular file|Is a directory"):
            pictures.read_file(path, 100)


def test_the_door_loads_no_tensorflow():
    script = "from longtail.models import pictures; import sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
