"""Draws characters in fonts of one's own: a folder for each, whose images differ as fonts do.

    python -m examples.draw_fonts --fonts /usr/share/fonts --out fonts_480 --identities 480 --images 100

An identity is a character that at least `--images` of the fonts have; each of its images is another font, a little
turned, under noise. The same fonts and the same seed draw the same images.
"""

import argparse
import itertools
import pathlib

import numpy as np
from fontTools import ttLib
from PIL import Image
from PIL import ImageFont

from longtail.components.data import typefaces

_INK = 0.72  # longest side of a glyph, as a share of the image
_TURN = 8.0  # degrees, either way
_NOISE = 0.04


def fonts_by_character(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Each of the built-in characters -> the Latin fonts below a folder that have it, in the order of names."""
    found: dict[str, list[pathlib.Path]] = {character: [] for character in typefaces.characters()}
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".ttf", ".otf")):
        codes = ttLib.TTFont(path, lazy=True).getBestCmap() or {}
        for character, fonts in found.items():
            if ord(character) in codes and ord("A") in codes:  # without letters it is a font of symbols or of emblems
                fonts.append(path)
    return found


def draw(character: str, font: pathlib.Path, size: int, rng: np.random.Generator) -> Image.Image | None:
    """The character, grey, dark on light, `size` pixels square; None where the font draws nothing."""
    mask = ImageFont.truetype(str(font), 2 * size).getmask(character, "L")
    if not mask.getbbox():
        return None
    glyph = Image.frombytes("L", mask.size, bytes(mask)).crop(mask.getbbox())
    scale = _INK * size / max(glyph.size)
    glyph = glyph.resize([max(1, round(edge * scale)) for edge in glyph.size])
    canvas = Image.new("L", (size, size))
    canvas.paste(glyph, ((size - glyph.width) // 2, (size - glyph.height) // 2))
    ink = np.asarray(canvas.rotate(rng.uniform(-_TURN, _TURN), Image.Resampling.BILINEAR), np.float32) / 255.0
    pixels = 1.0 - 0.9 * ink + _NOISE * rng.standard_normal(ink.shape)
    return Image.fromarray((np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8))


def main(arguments: list[str] | None = None) -> None:
    """Draws `--identities` of the characters that enough fonts have, chosen by the seed."""
    parser = argparse.ArgumentParser(description="Characters as identities, each in many fonts.")
    parser.add_argument("--fonts", type=pathlib.Path, required=True, help="folder of .ttf and .otf files, at any depth")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to be made")
    for name, default in (("identities", 480), ("images", 100), ("size", 32), ("seed", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args(arguments)
    if asked.out.exists():
        parser.error(f"--out {asked.out}: is there already; name a folder to be made")
    rng = np.random.default_rng(asked.seed)
    drawn = {
        character: fonts for character, fonts in fonts_by_character(asked.fonts).items() if len(fonts) >= asked.images
    }
    if len(drawn) < asked.identities:
        parser.error(f"--fonts {asked.fonts}: {len(drawn)} characters are in {asked.images} fonts; lower --identities")
    for character in rng.permutation(sorted(drawn))[: asked.identities]:
        folder = asked.out / f"U+{ord(character):04X}"
        folder.mkdir(parents=True)
        fonts = rng.permutation(drawn[character])
        images = filter(None, (draw(character, font, asked.size, rng) for font in fonts))
        for number, image in enumerate(itertools.islice(images, asked.images)):
            image.save(folder / f"{number:03}.png")


if __name__ == "__main__":
    main()
