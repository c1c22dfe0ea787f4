"""Makes versions of a gallery. Each appears complete, by rename, as a pushed one does: a running server takes it up."""

import dataclasses
import json
import os
import uuid
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
import tensorflow as tf

from longtail.models import errors
from longtail.models.export import signatures
from longtail.models.export import versions
from longtail.serving import gallery as gallery_lib

MAPPED_FROM = "mapped_from"  # of an item whose embedding is a former version's, mapped: that version


@dataclasses.dataclass(frozen=True)
class Content:
    """What a version of a gallery holds.

    Attributes:
      model_name: the model whose embeddings these are.
      model_version: its version.
      vectors: float32 [N, d], l2-normalised.
      items: N mappings of identity, path, sha256 and camera.
      thresholds: the model's.
      mapped: see `longtail.serving.gallery.Gallery`.
    """

    model_name: str
    model_version: int
    vectors: np.ndarray
    items: Sequence[Mapping[str, Any]]
    thresholds: Sequence[Mapping[str, Any]] = ()
    mapped: Mapping[str, Any] | None = None


def content(gallery: gallery_lib.Gallery) -> Content:
    """What a gallery that was read holds.

    Raises:
      UsageError: its index does not give its vectors back.
    """
    try:
        vectors = gallery.index.reconstruct_n(0, gallery.count)
    except RuntimeError as error:
        raise errors.UsageError(f"gallery {gallery.path}: its index gives no vectors back; build it anew") from error
    of = (gallery.model_name, gallery.model_version)
    return Content(*of, vectors, gallery.items, gallery.thresholds, gallery.mapped)


def joined(old: Content, new: Content) -> Content:
    """Both, the same file of an identity once: by an embedding of the model's own, where there is one.

    Raises:
      UsageError: they are of different models or versions, whose embeddings cannot be compared.
    """
    for name in ("model_name", "model_version"):
        mine, theirs = getattr(old, name), getattr(new, name)
        if mine != theirs:
            raise errors.UsageError(
                f"one gallery is of {name.replace('_', ' ')} {mine}, the other of {theirs}: their embeddings cannot be "
                "compared; embed the images of one anew with the other's model"
            )
    own = {_key(item) for item in new.items if MAPPED_FROM not in item}
    kept = [row for row, item in enumerate(old.items) if MAPPED_FROM not in item or _key(item) not in own]
    there = {_key(old.items[row]) for row in kept}
    rows = [row for row, item in enumerate(new.items) if _key(item) not in there]
    vectors = np.concatenate([old.vectors[kept], new.vectors[rows]])
    return _of_items(old, vectors, [*(old.items[row] for row in kept), *(new.items[row] for row in rows)])


def _of_items(old: Content, vectors: np.ndarray, items: Sequence[Mapping[str, Any]]) -> Content:
    mapped = old.mapped if any(MAPPED_FROM in item for item in items) else None
    return dataclasses.replace(old, vectors=vectors, items=items, mapped=mapped)


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["identity"], item["sha256"]


def without(old: Content, identities: Sequence[str]) -> Content:
    """All but some identities.

    Raises:
      UsageError: an identity is not there, or nobody would be left.
    """
    there = {item["identity"] for item in old.items}
    for name in identities:
        if name not in there:
            raise errors.UsageError(f"the gallery has no identity {name!r}; longtail gallery list names those it has")
    rows = [row for row, item in enumerate(old.items) if item["identity"] not in identities]
    if not rows:
        raise errors.UsageError("nobody would be left in the gallery; delete its folder instead")
    return _of_items(old, old.vectors[rows], [old.items[row] for row in rows])


def write(folder: str, new: Content) -> str:
    """Writes a version above all that `folder` has, at least the model's; returns its path.

    Raises:
      errors.WorkError: it cannot be written there.
    """
    version = max(new.model_version, max(versions.find(folder), default=0) + 1)
    path, half = os.path.join(folder, str(version)), os.path.join(folder, f".building-{uuid.uuid4().hex}")
    index = faiss.IndexFlatIP(new.vectors.shape[1])
    index.add(np.ascontiguousarray(new.vectors, np.float32))
    card = {
        "model_name": new.model_name,
        "model_version": new.model_version,
        "dimension": new.vectors.shape[1],
        "count": len(new.items),
        "thresholds": list(new.thresholds),
        **({"mapped": new.mapped} if new.mapped else {}),
    }
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in new.items)
    try:
        tf.io.gfile.makedirs(half)
        for name, data in (
            (signatures.GALLERY_INDEX, faiss.serialize_index(index).tobytes()),
            (signatures.GALLERY_ITEMS, lines.encode()),
            (signatures.GALLERY_CARD, json.dumps(card).encode()),
        ):
            with tf.io.gfile.GFile(os.path.join(half, name), "wb") as file:
                file.write(data)
        tf.io.gfile.rename(half, path)
    except tf.errors.OpError as error:
        raise errors.WorkError(f"gallery {folder}: no version can be written: {errors.first_line(error)}") from error
    finally:
        if tf.io.gfile.exists(half):
            tf.io.gfile.rmtree(half)
    return path
