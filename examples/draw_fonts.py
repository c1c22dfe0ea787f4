"""Draws characters in fonts of one's own: a folder for each, whose images differ as fonts do.

    python -m examples.draw_fonts --fonts /usr/share/fonts --out fonts_480 --identities 480 --images 100

An identity is a character that at least `--images` of the fonts have; each of its images is another font, a little
turned, under noise. The same fonts and the same seed draw the same images.
"""

import argparse
import itertools
import pathlib
import sys
import tempfile
from collections.abc import Callable

import numpy as np
from fontTools import ttLib
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from longtail.components.data import typefaces

_INK = 0.72  # longest side of a glyph, as a share of the image
_TURN = 8.0  # degrees, either way
_NOISE = 0.04


def fonts_by_character(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Each of the built-in characters -> the Latin fonts below a folder that have it, in the order of names.

    A font that cannot be read is told of on stderr and left out.
    """
    found: dict[str, list[pathlib.Path]] = {character: [] for character in typefaces.characters()}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf")):
        try:
            with ttLib.TTFont(path, lazy=True) as font:
                codes = font.getBestCmap() or {}
            ImageFont.truetype(path, 16)
        except Exception as error:  # a damaged table may end in any of them
            print(f"{path}: left out, since it cannot be read ({type(error).__name__}: {error})", file=sys.stderr)
            continue
        for character, fonts in found.items():
            if ord(character) in codes and ord("A") in codes:  # without letters it is a font of symbols or of emblems
                fonts.append(path)
    return found


def draw(character: str, path: pathlib.Path, size: int, rng: np.random.Generator) -> Image.Image | None:
    """The character, grey, dark on light, `size` pixels square; None where the font draws nothing, or cannot."""
    try:
        font = ImageFont.truetype(path, 2 * size)
        left, top, right, bottom = font.getbbox(character)
        glyph = Image.new("L", (max(1, right - left), max(1, bottom - top)))
        ImageDraw.Draw(glyph).text((-left, -top), character, 255, font)
    except OSError as error:
        print(f"{path}: {character} is left out, since it cannot be drawn ({error})", file=sys.stderr)
        return None
    if not glyph.getbbox():
        return None
    glyph = glyph.crop(glyph.getbbox())
    scale = _INK * size / max(glyph.size)
    glyph = glyph.resize([max(1, round(edge * scale)) for edge in glyph.size])
    canvas = Image.new("L", (size, size))
    canvas.paste(glyph, ((size - glyph.width) // 2, (size - glyph.height) // 2))
    ink = np.asarray(canvas.rotate(rng.uniform(-_TURN, _TURN), Image.Resampling.BILINEAR), np.float32) / 255.0
    pixels = 1.0 - 0.9 * ink + _NOISE * rng.standard_normal(ink.shape)
    return Image.fromarray((np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8))


def _at_least(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
        return int(text)

    return read


def main(arguments: list[str] | None = None) -> None:
    """Draws `--identities` of the characters that enough fonts have, in an order that the seed decides."""
    parser = argparse.ArgumentParser(description="Characters as identities, each in many fonts.")
    parser.add_argument("--fonts", type=pathlib.Path, required=True, help="folder of .ttf and .otf files, at any depth")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to be made")
    for name, default, least in (("identities", 480, 1), ("images", 100, 1), ("size", 32, 8), ("seed", 7, 0)):
        parser.add_argument(f"--{name}", type=_at_least(least), default=default, help=f"{default} by default")
    asked = parser.parse_args(arguments)
    if not asked.fonts.is_dir():
        parser.error(f"--fonts {asked.fonts}: no such folder")
    if asked.out.exists():
        parser.error(f"--out {asked.out}: is there already; name a folder to be made")
    if not asked.out.parent.is_dir():
        parser.error(f"--out {asked.out}: {asked.out.parent} is no folder; make it, or name another")
    with tempfile.TemporaryDirectory(dir=asked.out.parent) as folder:
        whole = pathlib.Path(folder) / "whole"
        made = _draw_all(asked, whole)
        if made < asked.identities:
            parser.error(
                f"--fonts {asked.fonts}: {made} characters are in {asked.images} fonts; lower --images or --identities"
            )
        whole.rename(asked.out)


def _draw_all(asked: argparse.Namespace, out: pathlib.Path) -> int:
    """Draws what is asked for into a folder; answers how many identities that are."""
    rng = np.random.default_rng(asked.seed)
    fonts_of = {each: fonts for each, fonts in fonts_by_character(asked.fonts).items() if len(fonts) >= asked.images}
    made = 0
    for character in rng.permutation(sorted(fonts_of)):
        fonts = rng.permutation(fonts_of[character])
        drawn = filter(None, (draw(character, font, asked.size, rng) for font in fonts))
        images = list(itertools.islice(drawn, asked.images))
        if len(images) < asked.images:
            continue
        folder = out / f"U+{ord(character):04X}"
        folder.mkdir(parents=True)
        for number, image in enumerate(images):
            image.save(folder / f"{number:03}.png")
        made += 1
        if made == asked.identities:
            break
    return made


if __name__ == "__main__":
    main()
