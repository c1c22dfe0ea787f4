"""The built-in identities: the same for everyone, long-tailed, each character once."""

import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer import testing

from longtail.components.data import glyph_source
from longtail.components.data import glyphs
from longtail.components.data import sources
from longtail.components.data import typefaces
from longtail.models import errors
from longtail.pipeline.cli import data

SMALL = glyphs.GlyphSet(identities=6, head=2, head_images=5, tail_images=2, size=24, seed=3)


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_an_image_is_the_same_in_whatever_order_it_is_drawn():
    listed = [(name, index) for name, images in glyphs.identities(SMALL) for index in range(images)]
    forwards = {key: glyphs.draw(SMALL, 1, *key) for key in listed}
    backwards = {key: glyphs.draw(SMALL, 1, *key) for key in reversed(listed)}
    assert forwards == backwards
    assert len(set(forwards.values())) == len(listed)


@pytest.mark.parametrize("span, seed", [(2, 3), (1, 4)])
def test_another_span_or_seed_draws_other_images(span, seed):
    other = glyphs.GlyphSet(**{**vars(SMALL), "seed": seed})
    assert glyphs.draw(SMALL, 1, "U+0041", 0) != glyphs.draw(other, span, "U+0041", 0)


def test_an_image_is_a_grey_png_of_the_asked_size_dark_on_light():
    png = glyphs.draw(SMALL, 1, "U+0041", 0)
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode, image.size) == ("PNG", "L", (24, 24))
    pixels = np.stack([_pixels(glyphs.draw(SMALL, 1, "U+0041", index)) for index in range(20)])
    assert pixels[:, 10:14, 10:14].mean() < pixels[:, 0].mean()


def test_cameras_take_turns_and_each_is_the_same_for_every_image_it_takes():
    cameras = {key: getattr(SMALL, key) for key in vars(SMALL)} | {"cameras": 3, "head_images": 7}
    several = glyphs.GlyphSet(**cameras)
    of = [glyphs._Camera.of(several, index) for index in range(4)]
    assert of[0].matrix == of[3].matrix and len({camera.matrix for camera in of}) == 3
    listed = sources.open_source(several.uri, "folder", r"_c(\d+)\.png$").items()
    numbers = [(int(item.path[-11:-7]), item.camera) for item in listed]
    assert numbers and all(camera == index % 3 for index, camera in numbers)


def test_a_camera_changes_what_it_sees_and_nothing_else_does_where_there_is_one():
    one, two = (glyphs.GlyphSet(**{**vars(SMALL), "cameras": number}) for number in (1, 2))
    assert glyphs.draw(one, 1, "U+0041", 0) == glyphs.draw(SMALL, 1, "U+0041", 0) != glyphs.draw(two, 1, "U+0041", 0)


def test_the_head_has_its_images_and_the_tail_its_own():
    counts = [images for _, images in glyphs.identities(SMALL)]
    assert counts == [5, 5, 2, 2, 2, 2]


def test_a_larger_set_begins_with_the_smaller_ones_identities():
    larger = glyphs.GlyphSet(**{**vars(SMALL), "identities": 50})
    names = [name for name, _ in glyphs.identities(larger)]
    assert names[:6] == [name for name, _ in glyphs.identities(SMALL)]


def test_another_seed_puts_other_identities_first():
    other = glyphs.GlyphSet(**{**vars(SMALL), "seed": 4})
    assert glyphs.identities(other) != glyphs.identities(SMALL)


def test_thousands_of_characters_can_be_identities():
    assert len(typefaces.characters()) > 3000


def test_characters_that_look_the_same_are_one_identity():
    latin, greek, cyrillic = "A", "\u0391", "\u0410"
    characters = typefaces.characters()
    assert latin in characters
    assert greek not in characters
    assert cyrillic not in characters


@pytest.mark.parametrize("character", ["\ue000", "\u2803", " ", "\u0301"])
def test_private_pattern_blank_and_combining_characters_are_no_identities(character):
    assert character not in typefaces.characters()


def test_every_font_of_a_character_has_it():
    for character in typefaces.characters()[::97]:
        for font in typefaces.fonts_of(character):
            assert np.asarray(typefaces.master(character, font, 48)).max() > 64


@pytest.mark.parametrize(
    "uri, message",
    [
        ("glyphs:identitys=3", "valid are identities, head, head_images, tail_images, size, seed"),
        ("glyphs:size=big", "size must be a whole number, not 'big'"),
        ("glyphs:size=8", "size must be from 16 to 256, not 8"),
        ("glyphs:identities=1", "identities must be at least 2"),
        ("glyphs:identities=5,head=6", "head=6 is more than identities=5"),
        ("glyphs:identities=99999", "identities must be at most"),
        ("glyphs:seed=-1", "seed must be at least 0"),
    ],
)
def test_a_bad_parameter_is_named(uri, message):
    with pytest.raises(errors.UsageError, match=message):
        sources.open_source(uri)


def test_a_folder_of_glyphs_holds_what_the_source_reads(tmp_path):
    out = str(tmp_path / "glyphs")
    glyph_source.write_folder(SMALL, 7, out)
    drawn = sources.open_source(SMALL.uri, span=7)
    written = sources.open_source(out)
    assert drawn.items() == written.items()
    assert [drawn.read(i) for i in drawn.items()] == [written.read(i) for i in written.items()]


def _command(*arguments: str):
    return testing.CliRunner().invoke(data.app, ["glyphs", *arguments])


def test_the_command_writes_a_folder_and_prints_its_counts(tmp_path):
    out = tmp_path / "new" / "glyphs"
    sizes = ["--identities", "5", "--head", "2", "--head-images", "3", "--tail-images", "1"]
    result = _command("--out", str(out), *sizes, "--json")
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    expected = {"identities": 5, "images": 9, "head_images": 6, "tail_images": 3, "span": 1}
    assert {key: counts[key] for key in expected} == expected
    assert len(list(out.glob("U+*/*.png"))) == 9
    assert os.listdir(out.parent) == ["glyphs"]


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path):
    kept = tmp_path / "precious.txt"
    kept.write_text("mine")
    result = _command("--out", str(tmp_path), "--identities", "2", "--head", "0")
    assert isinstance(result.exception, errors.UsageError)
    assert "not an empty folder" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path):
    pathlib.Path(tmp_path / "file").write_text("")
    with pytest.raises(errors.UsageError, match="cannot be written: Not a directory"):
        glyph_source.write_folder(SMALL, 1, str(tmp_path / "file" / "glyphs"))


def test_drawing_a_folder_loads_no_tensorflow(tmp_path):
    program = (
        "import sys; from longtail.pipeline.cli import data;"
        f" data.glyphs({str(tmp_path / 'out')!r}, 2, 0, 1, 1, 16, 0, 1, True);"
        " sys.exit('tensorflow' in sys.modules)"
    )
    repository = pathlib.Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", program], cwd=repository).returncode == 0
