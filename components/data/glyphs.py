"""Draws the built-in identities: a character is one, each of its images another font and hand.

The fonts are those matplotlib ships, so nothing is downloaded. An image depends on (seed, span,
identity, index) alone: whoever draws it, in whatever order, gets the same bytes. There are about
3600 identities (`typefaces.characters()` counts them); an image of 32 pixels takes about 0.5 ms.
"""

import dataclasses
import hashlib
import io
import math

import numpy as np
from PIL import Image
from PIL import ImageFilter

from longtail.components.data import typefaces
from longtail.models import errors

SCHEME = "glyphs:"
VERSION = 1  # raise it whenever the same parameters draw other bytes: caches hang on it

_OVERSAMPLING = 2


@dataclasses.dataclass(frozen=True)
class GlyphSet:
    """Parameters of a `glyphs:` source: images of `size` pixels square.

    `head` identities have `head_images` images, the others `tail_images`. With several `cameras` image i of an identity
    is taken by camera i % cameras, each of which turns, bends, blurs and lights whatever it sees in its own way.
    """

    identities: int = 300
    head: int = 60
    head_images: int = 20
    tail_images: int = 4
    size: int = 32
    seed: int = 0
    cameras: int = 1

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
    "cameras": (1, 99),
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
    """Returns `glyphs`; raises errors.UsageError, naming it, where a parameter is out of range."""
    for key, (low, high) in _LIMITS.items():
        value = getattr(glyphs, key)
        if value < low or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"from {low} to {high}"
            raise errors.UsageError(f"glyphs: {key} must be {bounds}, not {value}")
    if glyphs.head > glyphs.identities:
        raise errors.UsageError(
            f"glyphs: head={glyphs.head} is more than identities={glyphs.identities}; lower head"
        )
    most = len(typefaces.characters())
    if glyphs.identities > most:
        raise errors.UsageError(
            f"glyphs: identities must be at most {most}, not {glyphs.identities}"
        )
    return glyphs


def name(character: str) -> str:
    """The identity of a character, safe as a folder's name: `U+0041`."""
    return f"U+{ord(character):04X}"


def identities(glyphs: GlyphSet) -> list[tuple[str, int]]:
    """(identity, number of its images), in the seeded order: the head first.

    A larger set with the same seed begins with the smaller one's identities.
    """
    ordered = sorted(typefaces.characters(), key=lambda c: _digest(glyphs.seed, "order", name(c)))
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
    fonts = typefaces.fonts_of(character)
    ink = _ink(character, fonts[rng.integers(len(fonts))], glyphs.size, rng)
    camera = _Camera.of(glyphs, index) if glyphs.cameras > 1 else None
    if camera:
        ink = camera.seen(ink)
    pixels = Image.fromarray(_photograph(ink, rng))
    if rng.random() < 0.5:
        pixels = pixels.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.025 * glyphs.size)))
    if camera:
        pixels = camera.developed(pixels)
    png = io.BytesIO()
    pixels.save(png, "PNG", compress_level=1)  # noise hardly compresses, whatever is spent on it
    return png.getvalue()


@dataclasses.dataclass(frozen=True)
class _Camera:
    """What one camera does to all it sees: bends (`matrix` as Pillow takes it), blurs by `blur` pixels, and lights."""

    matrix: tuple[float, ...]
    blur: float
    gamma: float
    light: np.ndarray  # float32 [size, size], added

    @classmethod
    def of(cls, glyphs: GlyphSet, index: int) -> "_Camera":
        """The camera of an image; it hangs on the seed and its number alone."""
        digest = _digest(glyphs.seed, "camera", index % glyphs.cameras)
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        size = glyphs.size
        return cls(
            _affine(size, rng, strength=2.0),
            rng.uniform(0.0, 0.04 * size),
            float(np.exp(rng.uniform(-0.7, 0.7))),
            0.12 * _smooth_noise(size, 2, rng),
        )

    def seen(self, ink: np.ndarray) -> np.ndarray:
        image = Image.fromarray(ink)
        return np.asarray(image.transform(image.size, Image.Transform.AFFINE, self.matrix, Image.Resampling.BILINEAR))

    def developed(self, pixels: Image.Image) -> Image.Image:
        blurred = np.asarray(pixels.filter(ImageFilter.GaussianBlur(self.blur)), np.float32) / 255.0
        return Image.fromarray((np.clip(blurred**self.gamma + self.light, 0.0, 1.0) * 255.0).astype(np.uint8))


def _ink(character: str, font: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [size, size] in [0, 1], 1 where there is ink: moved, and its strokes made uneven."""
    side = size * _OVERSAMPLING
    master = typefaces.master(character, font, side)
    moved = master.transform(
        (side, side), Image.Transform.AFFINE, _affine(side, rng), Image.Resampling.BILINEAR
    )
    density = np.asarray(moved, np.float32) / 255.0
    # The master is blurred: the threshold decides how thick a stroke is, noise under it how even.
    unevenness = 0.22 * rng.random() * _smooth_noise(side, 6, rng)
    strokes = (density + unevenness * (density > 0.02) - rng.uniform(0.2, 0.5)) * 4.0 + 0.5
    strokes = np.clip(strokes, 0.0, 1.0)
    return strokes.reshape(size, _OVERSAMPLING, size, _OVERSAMPLING).mean((1, 3))


def _affine(side: int, rng: np.random.Generator, strength: float = 1.0) -> tuple[float, ...]:
    """Pillow's six numbers, output to input: rotation, shear, scale, aspect and shift."""
    angle, shear = rng.uniform(-1, 1, 2) * (math.radians(15) * strength, 0.2 * strength)
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


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest()
