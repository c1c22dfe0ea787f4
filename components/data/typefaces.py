"""The fonts that matplotlib ships: which characters they really have, and what those look like."""

import functools
import os
import unicodedata

import numpy as np
from fontTools import ttLib
from PIL import Image
from PIL import ImageFilter
from PIL import ImageFont

_MIN_FONTS = 4  # a character fewer fonts have would look too much the same in all its images
_UNICODE_FONTS = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")
_STYLES = (
    *("", "-Bold", "-Oblique", "-Italic", "-BoldOblique", "-BoldItalic"),
    *("Bol", "Italic", "BolIta"),  # STIX
)
# Computer Modern's character maps are right for letters and digits alone.
_ASCII_FONTS = ("cmr10", "cmb10", "cmss10", "cmtt10")

_CATEGORIES = frozenset({"Lu", "Ll", "Lo", "Lt", "Nd", "No", "Nl", "Sm", "So", "Sc", "Po"})
# Compatibility forms that are another character in another style, which fonts are for here.
_RESTYLED = ("<font>", "<super>", "<sub>", "<compat>", "<wide>", "<narrow>", "<small>", "<noBreak>")
# Dots and bars told apart by number and place alone: boxes and blocks, braille, hexagrams,
# tetragrams, dominoes and cards.
_PATTERNS = (
    (0x2500, 0x259F),
    (0x2800, 0x28FF),
    (0x4DC0, 0x4DFF),
    (0x1D300, 0x1D356),
    (0x1F030, 0x1F0FF),
)

_SAME_SHAPE = 0.97  # cosine of two shapes above which they count as one character
_SHAPE_SIDE = 24
_INK_SIDE = 0.72  # longest side of a glyph's ink, as a share of the image


@functools.lru_cache(maxsize=1024)
def master(character: str, font: str, side: int) -> Image.Image:
    """A glyph as grey image [side, side]: centred, scaled to a common size, slightly blurred."""
    glyph = _rendered(character, font, side)
    assert glyph is not None, f"{font} draws nothing for {character!r}"
    scale = _INK_SIDE * side / max(glyph.size)
    glyph = glyph.resize([max(1, round(edge * scale)) for edge in glyph.size])
    canvas = Image.new("L", (side, side))
    canvas.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    return canvas.filter(ImageFilter.GaussianBlur(0.02 * side))


def _rendered(character: str, font: str, pixels: int) -> Image.Image | None:
    """The glyph's ink alone, as a grey Pillow image; None where the font draws nothing."""
    mask = _font(font, pixels).getmask(character, "L")
    if not mask.getbbox():
        return None
    whole = Image.frombytes("L", mask.size, bytes(mask))
    return whole.crop(whole.getbbox())


@functools.cache
def _font(font: str, pixels: int) -> ImageFont.FreeTypeFont:
    path = os.path.join(_font_folder(), font + ".ttf")
    return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)


def _font_folder() -> str:
    import matplotlib  # here, since a worker that only lists files has no use for it

    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf")


@functools.cache
def _coverage() -> dict[str, frozenset[int]]:
    """Font -> the code points it may be used for, fonts in a fixed order."""
    folder = _font_folder()
    covered = {}
    for font in [family + style for family in _UNICODE_FONTS for style in _STYLES]:
        path = os.path.join(folder, font + ".ttf")
        if os.path.exists(path):
            covered[font] = frozenset(ttLib.TTFont(path, lazy=True).getBestCmap())
    letters_and_digits = frozenset(code for code in range(128) if chr(code).isalnum())
    return covered | dict.fromkeys(_ASCII_FONTS, letters_and_digits)


@functools.cache
def fonts_of(character: str) -> tuple[str, ...]:
    """The fonts that have a character, in a fixed order."""
    return tuple(font for font, codes in _coverage().items() if ord(character) in codes)


@functools.cache
def characters() -> tuple[str, ...]:
    """Every character that can be an identity, by code point; no two look alike.

    Takes about 1.5 s once a process.
    """
    codes = sorted(frozenset().union(*_coverage().values()))
    shapes, kept = [], []
    for character in filter(_eligible, map(chr, codes)):
        shape = _shape(character)
        if shape is not None:
            shapes.append(shape)
            kept.append(character)
    return tuple(kept[row] for row in _distinct(np.stack(shapes)))


def _eligible(character: str) -> bool:
    code = ord(character)
    return (
        unicodedata.category(character) in _CATEGORIES
        and not unicodedata.decomposition(character).startswith(_RESTYLED)
        and not any(first <= code <= last for first, last in _PATTERNS)
        and len(fonts_of(character)) >= _MIN_FONTS
    )


def _shape(character: str) -> np.ndarray | None:
    """float32 unit vector: the character in its first font; None for a blank or a speck."""
    glyph = _rendered(character, fonts_of(character)[0], 2 * _SHAPE_SIDE)
    if glyph is None or max(glyph.size) < _SHAPE_SIDE / 2:
        return None
    longest = max(glyph.size)
    square = Image.new("L", (longest, longest))
    square.paste(glyph, ((longest - glyph.width) // 2, (longest - glyph.height) // 2))
    vector = np.asarray(square.resize((_SHAPE_SIDE, _SHAPE_SIDE)), np.float32).ravel()
    return vector / np.linalg.norm(vector)


def _distinct(shapes: np.ndarray) -> list[int]:
    """Rows of unit vectors [n, d] that are no near copy of a kept row before them."""
    alike = shapes @ shapes.T > _SAME_SHAPE
    kept: list[int] = []
    for row in range(len(shapes)):
        if not alike[row, kept].any():
            kept.append(row)
    return kept
