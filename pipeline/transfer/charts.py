"""The analyses as pictures: charts by matplotlib, and sheets of images."""

import io
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
from matplotlib import figure as figure_lib
from PIL import Image
from PIL import ImageDraw

_GAP = 4  # pixels between images
_SCALE = 2  # an image of a sheet is drawn so much larger
_LABEL = 16  # pixels of a line of text


def _png(figure: figure_lib.Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> bytes:
    """A PNG with a group of bars for each key, a bar for each name within."""
    figure = figure_lib.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(name for its in groups.values() for name in its))
    for place, name in enumerate(names):
        at = np.arange(len(groups)) + (place + 0.5) / (len(names) + 1) - 0.5
        values = [its.get(name, np.nan) for its in groups.values()]
        drawn = axes.bar(at, values, 0.9 / (len(names) + 1), label=name)
        axes.bar_label(drawn, fmt="%.3f", fontsize=7)
    axes.set_xticks(np.arange(len(groups)) - 0.5 / (len(names) + 1), list(groups))
    axes.set_title(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=len(names), fontsize=8)
    return _png(figure)


def lines(title: str, across: str, along: np.ndarray | Sequence[float], curves: Mapping[str, Sequence[float]]) -> bytes:
    """A PNG with a line for each name over `along`."""
    figure = figure_lib.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, values in curves.items():
        axes.plot(along, values, marker="o" if len(along) < 20 else None, label=name)
    axes.set_xlabel(across)
    axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    return _png(figure)


def scatters(plots: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    """A PNG with points float [N, 2] in the colours of their labels int [N], a field for each title."""
    figure = figure_lib.Figure(figsize=(5 * len(plots), 5), layout="constrained")
    for place, (title, (points, labels)) in enumerate(plots.items()):
        axes = figure.add_subplot(1, len(plots), place + 1)
        for label in np.unique(labels):
            its = points[labels == label]
            axes.scatter(its[:, 0], its[:, 1], s=4, color=f"C{label}", label=str(label))
        axes.set_title(title, fontsize=10)
        axes.set_aspect("equal", "datalim")
    axes.legend(fontsize=7, markerscale=2)
    return _png(figure)


def sheet(rows: Sequence[tuple[str, Sequence[np.ndarray | None]]]) -> bytes:
    """A PNG of rows of images, float [h, w, c] in [-1, 1], each row under a line of text; None leaves a place empty."""
    height, width, _ = next(image for _, images in rows for image in images if image is not None).shape
    high, wide = height * _SCALE, width * _SCALE
    columns = max(len(images) for _, images in rows)
    page = Image.new("RGB", (max(columns * (wide + _GAP), 640) + _GAP, len(rows) * (high + _LABEL + _GAP)), "white")
    draw = ImageDraw.Draw(page)
    for place, (text, images) in enumerate(rows):
        top = place * (high + _LABEL + _GAP)
        draw.text((_GAP, top + 2), text, fill="black")
        for column, image in enumerate(images):
            if image is not None:
                page.paste(_picture(image, (wide, high)), (_GAP + column * (wide + _GAP), top + _LABEL))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def _picture(image: np.ndarray, size: tuple[int, int]) -> Image.Image:
    pixels = np.clip((image + 1.0) * 127.5, 0, 255).astype(np.uint8)
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)
