"""Spans of images with drift injected in them, of a known kind and severity, and clean ones beside them."""

import collections
import dataclasses
import hashlib
import io
import unicodedata
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

import numpy as np
from PIL import Image
from PIL import ImageFilter
from PIL import ImageOps

from longtail.components.data import glyphs
from longtail.components.data import images
from longtail.components.data import sources
from longtail.components.data import splits
from longtail.components.data import typefaces
from longtail.components.image_example_gen import steps
from longtail.models import errors

SEEDS = (0, 1)  # of accepted spans; drift is injected against the first, clean spans come to each
SEVERITIES = (0.05, 0.1, 0.25, 0.5, 1.0)  # share of the span's images that are injected
ACCEPTED_TURN = 99  # of the long-tailed accepted span
EACH = 6  # images of an identity in a span

_OLD_CAMERAS = 2
_NEW_CAMERA = 9
_MAX_PIXELS = 2**24
_FEW = 0.1  # of the images are in a small span
_TAIL = 3  # images drawn for each identity of a long-tailed span, on average; the most frequent have fewer than drawn
_HELD_OUT = 0.25  # of the identities
_LEAST_FOLDER = 10  # identities; smaller folders are left out


def _noise(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    grey = np.asarray(image, np.float32)
    return Image.fromarray(np.clip(grey + rng.normal(0.0, strength, grey.shape), 0, 255).astype(np.uint8))


def _crop(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 6, height // 6, width - width // 6, height - height // 6)).resize((width, height))


def _other_camera(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Half the resolution, darker midtones, grain."""
    width, height = image.size
    small = image.resize((width // 2, height // 2), Image.Resampling.BILINEAR).resize((width, height))
    return _noise(small.point([round(255 * (level / 255) ** 1.5) for level in range(256)]), rng, 12.0)


# What is done to a grey image. Each keeps its size but `schema`, which breaks the schema's bound on it.
_TREATMENTS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "blur": lambda image, rng: image.filter(ImageFilter.GaussianBlur(image.width / 35)),
    "noise": lambda image, rng: _noise(image, rng, 50.0),
    "brightness": lambda image, rng: image.point([round(0.6 * level) for level in range(256)]),
    "inversion": lambda image, rng: ImageOps.invert(image),
    "rotation": lambda image, rng: image.rotate(180),
    "mirror": lambda image, rng: ImageOps.mirror(image),
    "crop": lambda image, rng: _crop(image),
    "new camera": lambda image, rng: _other_camera(image, rng),
    "schema": lambda image, rng: image.resize((image.width * 2, image.height * 2)),
}


@dataclasses.dataclass(frozen=True)
class Shot:
    """An image of a span: the `number`-th of an identity, as found or with a treatment."""

    identity: str
    number: int
    treatment: str = ""


@dataclasses.dataclass(frozen=True)
class Case:
    """A span, and what is injected in which share of it; clean where `severity` is 0.

    `tailed`: the accepted span that it is held against is a long-tailed one, as it is itself.
    """

    kind: str
    severity: float
    shots: tuple[Shot, ...]
    tailed: bool = False


class Pool:
    """Identities with images, in folders; a third or so of the folders is foreign.

    Which are foreign, held out or accepted, and the order of an identity's images, hangs on the seed.

    Attributes:
      seed: as given.
      home: identities of the accepted span.
      spare: others of the same folders.
      foreign: of other folders.
    """

    def __init__(self, read: Callable[[str, int], bytes], counts: dict[str, int], identities: int, seed: int):
        """Divides the identities; `read` gives the encoded image of an identity and a number below its count."""
        self._read, self.counts, self.seed = read, counts, seed
        self._found: dict[Shot, bytes] = {}
        folders: dict[str, list[str]] = collections.defaultdict(list)
        for name in sorted(counts):
            folders[name.partition("/")[0]].append(name)
        large = {name: group for name, group in folders.items() if len(group) >= _LEAST_FOLDER}
        foreign: list[str] = []
        rng = np.random.default_rng(seed)
        for name in rng.permutation(sorted(large)):
            if 2 * len(foreign) < identities:
                foreign += large.pop(name)
        here = rng.permutation(sorted(name for group in large.values() for name in group)).tolist()
        self.home, self.spare, self.foreign = here[:identities], here[identities:], foreign
        if len(here) < 1.5 * identities or 2 * len(foreign) < identities or min(counts.values(), default=0) < 2 * EACH:
            raise errors.UsageError(
                f"bench drift: needs folders of identities, {2 * EACH} images each, with at least "
                f"{2 * identities} identities in folders of {_LEAST_FOLDER} or more"
            )
        self._held_out = splits.held_out(counts, _HELD_OUT, seed=seed)
        self._order = {name: rng.permutation(count) for name, count in counts.items()}

    def example(self, shot: Shot) -> bytes:
        """The image as ingestion leaves it: a serialised tf.Example."""
        if shot not in self._found:
            camera = _NEW_CAMERA if shot.treatment == "new camera" else 1 + shot.number % _OLD_CAMERAS
            side = "query" if shot.identity in self._held_out else "train"
            item = sources.Item(f"{shot.identity}/{shot.number}.png", shot.identity, camera, side)
            data = self._encoded(shot)
            checked = images.check(data, _MAX_PIXELS)
            found = steps.features_of(item, checked, hashlib.sha256(data).hexdigest())
            self._found[shot] = steps.with_split(found, side.encode())
        return self._found[shot]

    def _encoded(self, shot: Shot) -> bytes:
        """All as grey PNGs of eight bits: how a file was written must not tell that it was treated."""
        grey = Image.open(io.BytesIO(self._read(shot.identity, int(self._order[shot.identity][shot.number])))).convert(
            "L"
        )
        if shot.treatment:
            seed = hashlib.sha256(repr(shot).encode()).digest()[:8]
            grey = _TREATMENTS[shot.treatment](grey, np.random.default_rng(list(seed)))
        file = io.BytesIO()
        grey.save(file, "PNG")
        return file.getvalue()


def open_pool(data: str, identities: int, seed: int = 0) -> Pool:
    """Opens a folder or .zip of `folder/identity/image`, or the built-in glyphs, by script, where `data` is empty.

    Raises:
      errors.UsageError: too few identities or images.
    """
    if not data:
        glyph_set = glyphs.GlyphSet(size=32)
        counts = {}
        for character in typefaces.characters():
            script = unicodedata.name(character, "?").split()[0]
            counts[f"{script}/{glyphs.name(character)}"] = 20
        return Pool(
            lambda name, number: glyphs.draw(glyph_set, 1, name.partition("/")[2], number), counts, identities, seed
        )
    source = sources.open_source(data, "folder", "")
    items: dict[str, list[sources.Item]] = collections.defaultdict(list)
    for item in source.items():
        items[item.identity].append(item)
    counts = {name: len(group) for name, group in items.items() if len(group) >= 2 * EACH}
    return Pool(lambda name, number: source.read(items[name][number]), counts, identities, seed)


def kinds() -> tuple[str, ...]:
    """All kinds of cases."""
    return (*_CLEAN, *_TREATMENTS, *_REARRANGED)


def accepted(pool: Pool) -> tuple[Shot, ...]:
    """The span that most others are compared with: the first images of each identity of `home`."""
    return tuple(Shot(name, number) for name in pool.home for number in range(EACH))


def long_tailed(pool: Pool, turn: int, fresh: bool = True) -> tuple[Shot, ...]:
    """Images of identities of `home` drawn by Zipf's law, at most half of an identity's: `fresh` or accepted ones.

    Every turn draws from one source: the same identities are frequent, and which of the rare ones there are is chance.
    """
    share = 1 / np.arange(1, len(pool.home) + 1)
    rng = np.random.default_rng(turn)
    drawn = rng.multinomial(_TAIL * len(pool.home), share / share.sum())
    half = {name: pool.counts[name] // 2 for name in pool.home}
    return tuple(
        Shot(name, int(number) + (half[name] if fresh else 0))
        for name, count in zip(pool.home, drawn, strict=True)
        for number in rng.permutation(half[name])[:count]
    )


def cases(pool: Pool) -> Iterator[Case]:
    """All clean spans, then, for the first seed, every kind at every severity; of images the accepted span has not."""
    for turn in range(5):
        yield Case("new images", 0.0, _fresh(pool, pool.home, turn))
    for turn in range(3):
        rng = np.random.default_rng(turn)
        names = rng.choice(pool.spare, len(pool.spare) * 3 // 4, replace=False)
        yield Case("new identities", 0.0, _fresh(pool, names, turn))
    for turn in range(4):
        shots = _fresh(pool, pool.home, 100 + turn)
        rng = np.random.default_rng(turn)
        yield Case("few images", 0.0, tuple(rng.permutation(np.array(shots, object))[: int(_FEW * len(shots))]))
    for turn in range(3):
        yield Case("long tail", 0.0, long_tailed(pool, turn), tailed=True)
    if pool.seed == SEEDS[0]:
        yield from _planted(pool)


def _planted(pool: Pool) -> Iterator[Case]:
    for kind in (*_TREATMENTS, *_REARRANGED):
        for severity in SEVERITIES:
            seed = int(1000 * severity) + len(kind)
            shots = list(_fresh(pool, pool.home, seed))
            rng = np.random.default_rng(seed)
            if kind in _REARRANGED:
                yield Case(kind, severity, tuple(_REARRANGED[kind](pool, shots, severity, rng)))
            else:
                chosen = rng.random(len(shots)) < severity
                injected = (dataclasses.replace(shot, treatment=kind) for shot in shots)
                pairs = zip(shots, injected, chosen, strict=True)
                yield Case(kind, severity, tuple(new if changed else shot for shot, new, changed in pairs))


def _fresh(pool: Pool, names: Iterable[str], seed: int) -> tuple[Shot, ...]:
    """EACH images of every identity, none of them in the accepted span."""
    rng = np.random.default_rng(seed)
    return tuple(
        Shot(str(name), int(number))
        for name in names
        for number in rng.choice(np.arange(EACH, pool.counts[name]), EACH, replace=False)
    )


def _foreign(pool: Pool, shots: list[Shot], severity: float, rng: np.random.Generator) -> list[Shot]:
    """A share of the identities gives way to characters of other alphabets."""
    gone = set(rng.choice(pool.home, round(severity * len(pool.home)), replace=False))
    others = rng.choice(pool.foreign, min(len(gone), len(pool.foreign)), replace=False)
    return [shot for shot in shots if shot.identity not in gone] + list(_fresh(pool, others, 0))


def _gone(pool: Pool, shots: list[Shot], severity: float, rng: np.random.Generator) -> list[Shot]:
    """A share of the identities is missing; at 1 all but one in ten."""
    gone = set(rng.choice(pool.home, round(min(severity, 0.9) * len(pool.home)), replace=False))
    return [shot for shot in shots if shot.identity not in gone]


def _labels(pool: Pool, shots: list[Shot], severity: float, rng: np.random.Generator) -> list[Shot]:
    """A share of the images is of a few identities, which have all of theirs in the span."""
    head = list(rng.permutation(pool.home))
    found: list[Shot] = []
    while len(found) < severity * len(shots) and head:
        name = str(head.pop())
        found += [Shot(name, number) for number in range(EACH, pool.counts[name])]
    chosen = {shot.identity for shot in found}
    others = [shot for shot in shots if shot.identity not in chosen]
    kept = rng.choice(len(others), max(0, min(len(others), len(shots) - len(found))), replace=False)
    return found + [others[place] for place in kept]


def _delivered_again(pool: Pool, shots: list[Shot], severity: float, rng: np.random.Generator) -> list[Shot]:
    """A share of the images is the accepted span's."""
    before = accepted(pool)
    return [old if rng.random() < severity else new for old, new in zip(before, shots, strict=True)]


def _copied(pool: Pool, shots: list[Shot], severity: float, rng: np.random.Generator) -> list[Shot]:
    """A share of the images is there twice."""
    del pool
    return shots + [shot for shot in shots if rng.random() < severity]


_CLEAN = ("new images", "new identities", "few images", "long tail")
_REARRANGED = {
    "new alphabet": _foreign,
    "identities gone": _gone,
    "label shares": _labels,
    "delivered again": _delivered_again,
    "copied within": _copied,
}
