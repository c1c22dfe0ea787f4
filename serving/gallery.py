"""Says who is on an image: reads a gallery folder and searches it exactly, by cosine similarity."""

import dataclasses
import json
import os
from typing import Any

import faiss
import numpy as np
import tensorflow as tf

from longtail.models import errors
from longtail.models.export import signatures
from longtail.models.export import versions
from longtail.serving import similarity as similarity_lib


@dataclasses.dataclass(frozen=True)
class Match:
    """A gallery image and how near it is.

    Attributes:
      identity: who the gallery says it is.
      similarity: cosine of the angle between the two embeddings, in [-1, 1].
      path: where the image came from.
      sha256: of the image's encoded bytes, in hex.
      camera: the camera's number, -1 where unknown.
    """

    identity: str
    similarity: float
    path: str
    sha256: str
    camera: int


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The identity that an embedding is nearest to, by its nearest image, and how far the next one is behind.

    Attributes:
      identity: who.
      similarity: cosine to the nearest image of that identity.
      second: the next identity, None in a gallery of one.
      margin: by how much its nearest image is less similar; None likewise.
    """

    identity: str
    similarity: float
    second: str | None
    margin: float | None

    def answer(self, threshold: float) -> dict[str, Any]:
        """As JSON tells it: `identity`, None where even the nearest is below the threshold, and who is `nearest`."""
        about = dataclasses.asdict(self)
        nearest = about.pop("identity")
        return {"identity": nearest if self.similarity >= threshold else None, "nearest": nearest, **about}


@dataclasses.dataclass(frozen=True)
class Gallery:
    """One version of a gallery, in memory.

    Attributes:
      path: its version folder.
      version: the folder's number.
      model_name: the model whose embeddings it holds.
      model_version: that model's version.
      index: FAISS inner-product index of `count` l2-normalised float32 vectors.
      items: row i describes vector i.
      thresholds: the model's, as `longtail.serving.thresholds` reads them; none where it was not calibrated.
      mapped: what mapping embeddings of a former version cost, as `longtail gallery map` measured it; none where all
        are the version's own. Items that are mapped still name it as `mapped_from`.
    """

    path: str
    version: int
    model_name: str
    model_version: int
    index: Any
    items: tuple[dict[str, Any], ...]
    thresholds: tuple[dict[str, Any], ...] = ()
    mapped: dict[str, Any] | None = None

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self.index.d

    @property
    def count(self) -> int:
        """Number of images in the gallery."""
        return self.index.ntotal

    def identify(self, embeddings: np.ndarray, k: int) -> list[list[Match]]:
        """Finds the `k` nearest gallery images of each embedding, nearest first.

        Args:
          embeddings: float [N, dimension]; they need not be normalised.
          k: at least 1; where the gallery is smaller, all of it is returned.

        Returns:
          N lists of min(k, count) matches.

        Raises:
          UsageError: the shape is not [N, dimension], a value is not finite, or k is below 1.
        """
        queries = np.ascontiguousarray(embeddings, dtype=np.float32)
        if k < 1:
            raise errors.UsageError(f"k must be at least 1. Received: {k}")
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise errors.UsageError(
                f"gallery {self.path} holds {self.dimension}-d embeddings of model {self.model_name} version "
                f"{self.model_version}, the query's shape is {list(queries.shape)}; embed it with that model"
            )
        if not len(queries):
            return []
        similarities, rows = self.index.search(similarity_lib.unit(queries), min(k, self.count))
        return [
            [self._match(row, value) for row, value in zip(*query, strict=True)]
            for query in zip(rows, similarities, strict=True)
        ]

    def nearest(self, embeddings: np.ndarray) -> list[Nearest]:
        """Finds the nearest identity of each embedding, however many images it has, and the next one.

        Args:
          embeddings: float [N, dimension]; they need not be normalised.

        Raises:
          UsageError: see `identify`.
        """
        return [self._two(np.asarray(embedding)[None]) for embedding in embeddings]

    def _two(self, embedding: np.ndarray) -> Nearest:
        k = 0
        others: list[Match] = []
        while not others and k < self.count:  # until the nearest identity has no more images before the next one
            k = min(self.count, max(16, 8 * k))
            best, *found = self.identify(embedding, k)[0]
            others = [match for match in found if match.identity != best.identity][:1]
        second = others[0] if others else None
        return Nearest(
            best.identity,
            best.similarity,
            second.identity if second else None,
            best.similarity - second.similarity if second else None,
        )

    def _match(self, row: int, similarity: float) -> Match:
        item = self.items[row]
        return Match(
            identity=item["identity"],
            similarity=float(similarity),
            path=item["path"],
            sha256=item["sha256"],
            camera=item["camera"],
        )

    def mismatch(self, model_name: str) -> str | None:
        """One line where the gallery was built by a model of another name than the one asked, else None."""
        if model_name == self.model_name:
            return None
        return (
            f"gallery {self.path} was built by model {self.model_name}, but {model_name} answered: unless the one is "
            "the other by another name, similarities mean nothing; name the model that built it or rebuild the gallery"
        )


def _version(said: Any) -> int:
    version = versions.parse(str(said))
    if version is None:
        raise ValueError(f"model_version {said!r} is no version")
    return version


def _read_card(path: str) -> dict[str, Any]:
    file = os.path.join(path, signatures.GALLERY_CARD)
    try:
        with tf.io.gfile.GFile(file) as stream:
            card = json.loads(stream.read())
        return {
            "model_name": str(card["model_name"]),
            "model_version": _version(card["model_version"]),
            "dimension": int(card["dimension"]),
            "count": int(card["count"]),
            "thresholds": tuple(card.get("thresholds", ())),  # galleries of former releases have none
            "mapped": card.get("mapped"),
        }
    except tf.errors.OpError as error:
        raise errors.UsageError(f"{file} cannot be read; is {path} a gallery? Name the folder of one") from error
    except KeyError as error:
        raise errors.UsageError(f"{file} has no {error}; rebuild the gallery") from error
    except (TypeError, ValueError) as error:
        raise errors.UsageError(f"{file} is not a gallery's card: {error}; rebuild the gallery") from error


def _read_items(path: str) -> tuple[dict[str, Any], ...]:
    file = os.path.join(path, signatures.GALLERY_ITEMS)
    try:
        with tf.io.gfile.GFile(file) as stream:
            return tuple(_item(file, number, line) for number, line in enumerate(stream, start=1))
    except tf.errors.OpError as error:
        raise errors.UsageError(f"{file} cannot be read; rebuild the gallery") from error


def _item(file: str, number: int, line: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
        missing = {"identity", "path", "sha256", "camera"} - set(item)
    except (TypeError, ValueError) as error:
        raise errors.UsageError(f"{file}, line {number}: {error}; rebuild the gallery") from error
    if missing:
        raise errors.UsageError(f"{file}, line {number} has no {', '.join(sorted(missing))}; rebuild the gallery")
    return item


def _read_index(path: str) -> Any:
    file = os.path.join(path, signatures.GALLERY_INDEX)
    try:
        with tf.io.gfile.GFile(file, "rb") as stream:
            reader = faiss.PyCallbackIOReader(stream.read)  # type: ignore[attr-defined]  # missing from FAISS' stubs
            index = faiss.read_index(reader)
    except (tf.errors.OpError, RuntimeError) as error:  # FAISS raises RuntimeError for what is no index
        raise errors.UsageError(f"{file} cannot be read as a vector index; rebuild the gallery") from error
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise errors.UsageError(f"{file} does not search by inner product; rebuild the gallery")
    return index


def load(folder: str) -> Gallery:
    """Reads the latest version of the gallery in `folder`.

    Raises:
      UsageError: there is no such folder, no version in it, or its files are broken or disagree.
    """
    if not tf.io.gfile.isdir(folder):
        raise errors.UsageError(f"gallery {folder}: no such folder")
    if tf.io.gfile.exists(os.path.join(folder, signatures.GALLERY_CARD)):
        parent = os.path.dirname(os.path.normpath(folder))
        raise errors.UsageError(f"gallery {folder} is one version of a gallery; give its parent {parent}")
    found = versions.find(folder)
    if not found:
        raise errors.UsageError(f"gallery {folder} has no version folder (1, 2, ...) in it; build a gallery first")
    version, path = next(iter(found.items()))
    card, index, items = _read_card(path), _read_index(path), _read_items(path)
    if index.d != card["dimension"]:
        raise errors.UsageError(
            f"gallery {path}: {signatures.GALLERY_CARD} says {card['dimension']} dimensions, the index has "
            f"{index.d}; rebuild the gallery"
        )
    if not index.ntotal == len(items) == card["count"]:
        raise errors.UsageError(
            f"gallery {path}: {signatures.GALLERY_CARD} says {card['count']} images, {signatures.GALLERY_ITEMS} "
            f"has {len(items)} and the index {index.ntotal}; rebuild the gallery"
        )
    if not items:
        raise errors.UsageError(f"gallery {path} is empty; build it from at least one image")
    of = (card["model_name"], card["model_version"])
    return Gallery(path, version, *of, index, items, card["thresholds"], card["mapped"])
