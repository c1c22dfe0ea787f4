"""Rich features drawn: centres, transfers, interpolations, top components, and what a tail class gains."""

from typing import Any

import numpy as np
import numpy.typing as npt

from longtail.models import errors
from longtail.models.feature_transfer import transfer
from longtail.models.feature_transfer import viewer
from longtail.pipeline.transfer import analyses
from longtail.pipeline.transfer import charts
from longtail.pipeline.transfer import images as images_lib

_COLUMNS = 10
_STEPS = np.linspace(0.0, 1.0, 7)
_COMPONENTS = 5
_CLASSES = 4  # of a kind on a sheet


def show(root: str, seed: int) -> analyses.Analysis:
    """One sheet of a run; `seed` chooses whom it shows."""
    viewed, summary = images_lib.load(root)
    rng = np.random.default_rng(seed)
    heads = rng.permutation(np.flatnonzero(viewed.is_head))[:_CLASSES]
    tails = rng.permutation(np.flatnonzero(~viewed.is_head))[:_CLASSES]
    if not len(heads) or not len(tails):
        raise errors.UsageError(f"--root {root}: the run has no head or no tail identities to show side by side")
    shown = {*heads.tolist(), *tails.tolist()}
    read = images_lib.read(viewed, summary, lambda label, is_trained: label in shown or not is_trained)
    sheet = _Sheet(viewed, read)
    for kind, classes in (("head", heads), ("tail", tails)):
        for label in classes[:2]:
            sheet.add_class(kind, label)
    for tail in tails:
        sheet.add_transfers(heads[0], tail)
    sheet.add_interpolations(heads[0], heads[-1])
    sheet.add_components(heads[0])
    figures: dict[str, Any] = {
        "directions": int(viewed.basis.shape[1]),
        "of": int(viewed.basis.shape[0]),
        "energy": viewed.config["transfer"]["energy"],
        "reconstruction_error": sheet.error(),
        "heads": [viewed.identities[label] for label in heads],
        "tails": [viewed.identities[label] for label in tails],
        "paper": {"directions": 150, "of": 320},
    }
    rows = [("", "this run", "paper")]
    rows += [("directions", f"{figures['directions']} of {figures['of']}", "150 of 320")]
    rows += [("mean squared error of a drawn pixel", f"{figures['reconstruction_error']:.4f}", "-")]
    return analyses.Analysis(figures, rows, charts.sheet(sheet.rows))


class _Sheet:
    """Rows of images that are drawn from rich features."""

    def __init__(self, viewed: viewer.Viewed, read: images_lib.Images):
        self._viewed, self._read = viewed, read
        self.rows: list[tuple[str, list[np.ndarray | None]]] = []

    def _images(self, label: int) -> np.ndarray:
        its = np.flatnonzero((self._read.labels == label) & self._read.is_trained)
        return self._read.pixels(its[: _COLUMNS - 1])

    def _draw(self, rich: npt.ArrayLike) -> list[np.ndarray]:
        return list(self._viewed.run("decode", np.atleast_2d(rich)))

    def _add(self, text: str, first: np.ndarray | None, rich: npt.ArrayLike) -> None:
        self.rows.append((text, [first, *self._draw(rich)]))

    def error(self) -> float:
        """Mean squared error of drawn pixels, of images not trained on where there are any."""
        which = np.flatnonzero(~self._read.is_trained)
        pixels = self._read.pixels((which if len(which) else np.arange(len(self._read.labels)))[:512])
        return float(np.square(self._viewed.run("decode", self._viewed.run("encode", pixels)) - pixels).mean())

    def add_class(self, kind: str, label: int) -> None:
        """Its images, and the same drawn again behind its centre."""
        images, name = self._images(label), self._viewed.identities[label]
        self.rows.append((f"{kind} identity {name}: images trained on", [None, *images]))
        centre = self._draw(self._viewed.centres[label])[0]
        self._add("  its centre, drawn; its images, drawn again", centre, self._viewed.run("encode", images))

    def add_transfers(self, head: int, tail: int) -> None:
        """Images of a head class, and what they become of a tail class (Eq. 6); Fig. 15 has as many for one image."""
        images, viewed = self._images(head), self._viewed
        rich, centre = viewed.run("encode", images), viewed.centres
        moved = [transfer.keep_identity(centre[tail], g, centre[head], viewed.basis, 1.0) for g in rich]
        own = list(self._images(tail))
        self.rows.append((f"tail identity {viewed.identities[tail]}: all of its images trained on", [None, *own]))
        self._add("  its centre, and what it gains from the first head identity", self._draw(centre[tail])[0], moved)

    def add_interpolations(self, one: int, other: int) -> None:
        """The three of the paper's figures, from a head class to another."""
        viewed, centre = self._viewed, self._viewed.centres
        first, second = (viewed.run("encode", self._images(label)[:1])[0] for label in (one, other))
        drawn = self._images(one)[0]
        kept = [transfer.keep_identity(centre[one], second, centre[other], viewed.basis, a) for a in _STEPS]
        changed = [transfer.change_identity(first, centre[one], centre[other], a) for a in _STEPS]
        straight = [first + a * (second - first) for a in _STEPS]
        names = f"{viewed.identities[one]} -> {viewed.identities[other]}"
        self._add(f"{names}: identity kept, looks of the other", drawn, kept)
        self._add(f"{names}: identity changed, looks kept", drawn, changed)
        self._add(f"{names}: image to image", drawn, straight)

    def add_components(self, label: int) -> None:
        """The widest directions, from -2 to 2 deviations around a centre."""
        viewed = self._viewed
        for place in range(min(_COMPONENTS, viewed.basis.shape[1])):
            reach = 2.0 * np.sqrt(viewed.variances[place]) * (2.0 * _STEPS - 1.0)
            along = viewed.centres[label] + reach[:, np.newaxis] * viewed.basis[:, place]
            self._add(f"component {place + 1}, -2 to 2 deviations", None, along)
