"""Draws the built-in identities: a character is an identity, every image of it another font and another hand.

The fonts are those matplotlib ships, so nothing is downloaded. An image depends only on (seed, span, identity, index):
whoever draws it, in whatever order, gets the same bytes. About 0.5 ms an image at 32 pixels.
"""

import dataclasses
import functools
import hashlib
import io
import math
import os
import unicodedata

import numpy as np
from fontTools import ttLib
from PIL import Image
from PIL import ImageFilter
from PIL import ImageFont

from models import errors

SCHEME = "glyphs:"
VERSION = 1  # raise it whenever the same parameters draw other bytes: caches hang on it

# Most identities that can be asked for: characters left after the choices below, on the fonts of matplotlib 3.10.
# `characters()` is the authority; this figure is for messages and help texts that must not draw anything.
MOST_IDENTITIES = 3000

_MIN_FONTS = 4  # a character fewer fonts have would look too much the same in all its images
_UNICODE_FONTS = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")
_STYLES = ("", "-Bold", "-Oblique", "-Italic", "-BoldOblique", "-BoldItalic", "Bol", "Italic", "BolIta")
# Computer Modern's character maps are right for letters and digits alone.
_ASCII_FONTS = ("cmr10", "cmb10", "cmss10", "cmtt10")

_CATEGORIES = frozenset({"Lu", "Ll", "Lo", "Lt", "Nd", "No", "Nl", "Sm", "So", "Sc", "Po"})
# Compatibility forms that are another character in another style, which is what fonts are for here.
_RESTYLED = ("<font>", "<super>", "<sub>", "<compat>", "<wide>", "<narrow>", "<small>", "<noBreak>")
_PATTERNS = ((0x2500, 0x259F), (0x2800, 0x28FF))  # box drawing and blocks, braille: told apart by position only

_SAME_SHAPE = 0.97  # cosine of two shapes above which they count as one character
_SHAPE_SIDE = 24
_OVERSAMPLING = 2
_INK_SIDE = 0.72  # longest side of a glyph's ink, as a share of the image


@dataclasses.dataclass(frozen=True)
class GlyphSet:
    """Parameters of a `glyphs:` source. `head` identities have `head_images` images, the others `tail_images`."""

    identities: int = 300
    head: int = 60
    head_images: int = 20
    tail_images: int = 4
    size: int = 32
    seed: int = 0

    @property
    def uri(self) -> str:
        """The set as a source, every parameter spelled out."""
        pairs = (f"{key}={value}" for key, value in dataclasses.asdict(self).items())
        return SCHEME + ",".join(pairs)


_LIMITS = {
    "identities": (2, None),
    "head": (0, None),
    "head_images": (1, 9999),
    "tail_images": (1, 9999),
    "size": (16, 256),
    "seed": (0, None),
}


def parse(uri: str) -> GlyphSet:
    """Reads `glyphs:identities=300,head=60,...`; what is not said has its default.

    Raises:
        errors.UsageError: an unknown name, a value that is no whole number, or one out of range.
    """
    values = {}
    for part in filter(None, uri[len(SCHEME) :].split(",")):
        key, _, text = part.partition("=")
        key = key.strip()
        if key not in _LIMITS:
            raise errors.UsageError(
                f"{uri}: unknown glyph parameter '{key}'; valid are {', '.join(_LIMITS)}"
            )
        try:
            values[key] = int(text)
        except ValueError:
            raise errors.UsageError(f"{uri}: {key} must be a whole number, not '{text}'") from None
    return checked(GlyphSet(**values))


def checked(glyphs: GlyphSet) -> GlyphSet:
    """Returns `glyphs`; raises errors.UsageError, naming the parameter and its range, where one is out of it."""
    for key, (low, high) in _LIMITS.items():
        value = getattr(glyphs, key)
        if value < low or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"from {low} to {high}"
            raise errors.UsageError(f"glyphs: {key} must be {bounds}, not {value}")
    if glyphs.head > glyphs.identities:
        raise errors.UsageError(
            f"glyphs: head={glyphs.head} is more than identities={glyphs.identities}; lower head"
        )
    most = len(characters())
    if glyphs.identities > most:
        raise errors.UsageError(f"glyphs: identities must be at most {most}, not {glyphs.identities}")
    return glyphs


def name(character: str) -> str:
    """The identity of a character, safe as a folder's name: `U+0041`."""
    return f"U+{ord(character):04X}"


def identities(glyphs: GlyphSet) -> list[tuple[str, int]]:
    """(identity, number of its images), in the seeded order: the head first.

    A larger set with the same seed begins with the smaller one's identities.
    """
    ordered = sorted(characters(), key=lambda c: _digest(glyphs.seed, "order", name(c)))
    return [
        (name(c), glyphs.head_images if rank < glyphs.head else glyphs.tail_images)
        for rank, c in enumerate(ordered[: glyphs.identities])
    ]


def draw(glyphs: GlyphSet, span: int, identity: str, index: int) -> bytes:
    """One image as a grey 8-bit PNG, `size` pixels square, dark on light.

    Args:
        glyphs: the set it belongs to.
        span: another span, other images of the same identities.
        identity: as `identities` names it.
        index: which image of the identity.
    """
    rng = np.random.default_rng(
        int.from_bytes(_digest(glyphs.seed, span, identity, index)[:8], "big")
    )
    character = chr(int(identity[2:], 16))
    fonts = _fonts_of(character)
    ink = _ink(character, fonts[rng.integers(len(fonts))], glyphs.size, rng)
    pixels = Image.fromarray(_photograph(ink, rng))
    if rng.random() < 0.5:
        pixels = pixels.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.025 * glyphs.size)))
    png = io.BytesIO()
    pixels.save(png, "PNG", compress_level=1)  # noise hardly compresses; higher levels only cost time
    return png.getvalue()


def _ink(character: str, font: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [size, size] in [0, 1], 1 where there is ink: moved, and its strokes made uneven."""
    side = size * _OVERSAMPLING
    master = _master(character, font, side)
    moved = master.transform((side, side), Image.Transform.AFFINE, _affine(side, rng), 2)
    density = np.asarray(moved, np.float32) / 255.0
    # The master is blurred, so where the threshold stands decides how thick a stroke is, and noise under it how even.
    unevenness = 0.22 * rng.random() * _smooth_noise(side, 6, rng)
    strokes = (density + unevenness * (density > 0.02) - rng.uniform(0.2, 0.5)) * 4.0 + 0.5
    strokes = np.clip(strokes, 0.0, 1.0)
    return strokes.reshape(size, _OVERSAMPLING, size, _OVERSAMPLING).mean((1, 3))


def _affine(side: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Pillow's six numbers, from output to input: rotation, shear, scale, aspect and shift about the centre."""
    angle, shear = rng.uniform(-1, 1, 2) * (math.radians(15), 0.2)
    scale, aspect = np.exp(rng.uniform(-1, 1, 2) * (0.18, 0.14))
    shift = rng.uniform(-0.08, 0.08, 2) * side
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    matrix = turn @ np.array([[1.0, shear], [0.0, 1.0]]) / (scale * np.array([aspect, 1 / aspect]))
    offset = side / 2 - matrix @ (side / 2 + shift)
    return (*matrix[0], offset[0], *matrix[1], offset[1])


def _photograph(ink: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 [size, size]: ink on paper of uneven light, seen through a noisy sensor."""
    size = len(ink)
    paper = rng.uniform(0.6, 1.0) + 0.06 * _smooth_noise(size, 3, rng)
    dark = rng.uniform(0.0, 0.35)
    noise = rng.uniform(0.02, 0.12) * rng.standard_normal((size, size), np.float32)
    return (np.clip(paper + (dark - paper) * ink + noise, 0.0, 1.0) * 255.0).astype(np.uint8)


def _smooth_noise(side: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [side, side]: normal noise on a coarse grid of `cells`, interpolated."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


@functools.lru_cache(maxsize=1024)
def _master(character: str, font: str, side: int) -> Image.Image:
    """A glyph as grey Pillow image [side, side], centred, its ink scaled to a common size, slightly blurred."""
    glyph = _rendered(character, font, side)
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


@functools.lru_cache(maxsize=None)
def _font(font: str, pixels: int) -> ImageFont.FreeTypeFont:
    path = os.path.join(_font_folder(), font + ".ttf")
    return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)


def _font_folder() -> str:
    import matplotlib  # here, since a worker that only lists files has no use for it

    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf")


@functools.lru_cache(maxsize=None)
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


@functools.lru_cache(maxsize=None)
def _fonts_of(character: str) -> tuple[str, ...]:
    return tuple(font for font, codes in _coverage().items() if ord(character) in codes)


@functools.lru_cache(maxsize=None)
def characters() -> tuple[str, ...]:
    """Every character that can be an identity, by code point; no two look alike. Takes seconds once a process."""
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
        and len(_fonts_of(character)) >= _MIN_FONTS
    )


def _shape(character: str) -> np.ndarray | None:
    """float32 unit vector: the character in the first font that has it; None for a blank or a speck."""
    glyph = _rendered(character, _fonts_of(character)[0], 2 * _SHAPE_SIDE)
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
    kept = []
    for row in range(len(shapes)):
        if not alike[row, kept].any():
            kept.append(row)
    return kept


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest()
