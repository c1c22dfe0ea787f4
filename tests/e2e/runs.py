"""Runs the command line in this process, as a user would type it: importing TFX for each run would cost the most."""

import pathlib
import sys

import numpy as np
from PIL import Image

from longtail.components.data import glyph_source
from longtail.components.data import glyphs
from longtail.pipeline.cli import app as cli

RECIPE = str(pathlib.Path(__file__).with_name("small.yaml"))


def longtail(monkeypatch, *words) -> int:
    """Exit status of `longtail WORDS`."""
    monkeypatch.setattr(sys, "argv", ["longtail", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def write_span(folder, number, inverted=False):
    """Writes `<folder>/span-<number>`: 60 glyph identities, other images in each span; dark on light, or inverted."""
    path = pathlib.Path(folder) / f"span-{number}"
    glyph_source.write_folder(glyphs.GlyphSet(60, 20, 12, 4, 24, 0), number, str(path))
    if inverted:
        for file in path.rglob("*.png"):
            Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    return path
