"""Reads the images of a folder or archive and embeds them, as `longtail evaluate`, `calibrate` and `export` begin."""

import collections
import concurrent.futures
import hashlib
import io
import logging
import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import NamedTuple

from longtail.models import errors

if TYPE_CHECKING:
    import numpy as np

    from longtail.components import embedding as embedding_lib
    from longtail.components.data import sources

_READERS = 8
_READ_AHEAD = 256
_REPORT_EVERY = 5000

log = logging.getLogger("longtail")


class Image(NamedTuple):
    """An image of a folder or an archive, not read yet."""

    source: "sources.Source"
    item: "sources.Item"


class File(NamedTuple):
    """What reading an image's file gave.

    Attributes:
      encoded: JPEG or PNG as ingestion would hand it on; empty where the file is no usable picture.
      digest: SHA-256 of the file in hex; "" where it could not be read.
      status: why `encoded` is empty, see `longtail.models.export.signatures.STATUS_MEANING`; 0 where it is not.
    """

    encoded: bytes
    digest: str
    status: int


class Answers(NamedTuple):
    """What a model made of N images.

    Attributes:
      vectors: float32 [N, d], zeros where an image could not be embedded.
      usable: bool [N], whether it could.
      digests: str [N], SHA-256 of each file in hex; "" where it is no usable picture.
    """

    vectors: "np.ndarray"
    usable: "np.ndarray"
    digests: list[str]


class Embedded(NamedTuple):
    """Images that a model has embedded; those that it could not are left out.

    Attributes:
      model: the folder of the SavedModel.
      images: N of them.
      vectors: float32 [N, d].
      identities: str [N].
      digests: str [N], of the files.
    """

    model: str
    images: list[Image]
    vectors: "np.ndarray"
    identities: "np.ndarray"
    digests: "np.ndarray"


def listed(uri: str, layout: str = "folder", camera_pattern: str = "") -> list[Image]:
    """The images of a folder or an archive.

    Raises:
      errors.UsageError: there is no such thing, or no image in it.
    """
    from longtail.components.data import sources

    source = sources.open_source(uri, layout, camera_pattern)
    return [Image(source, item) for item in source.listing(min_identities=1).items]


def embedder(model: str) -> "embedding_lib.Embedder":
    """The model in a folder: `model` itself, an artifact's serving model, or the last version.

    Raises:
      errors.UsageError: there is none.
    """
    from longtail.components import embedding

    return embedding.Embedder(model_folder(model))


def model_folder(model: str) -> str:
    """The folder with the SavedModel: `model`, an artifact's serving model, or the last version.

    Raises:
      errors.UsageError: there is none.
    """
    import tensorflow as tf

    from longtail.models.export import versions

    for folder in (model, os.path.join(model, "Format-Serving")):
        if tf.io.gfile.exists(os.path.join(folder, tf.saved_model.SAVED_MODEL_FILENAME_PB)):
            return folder
    complete = versions.find_complete(model)
    if not complete:
        raise errors.UsageError(
            f"--model {model}: no SavedModel: neither saved_model.pb nor a version folder with one"
        )
    return next(iter(complete.values()))


def check_identities(images: Sequence[Image]) -> None:
    """Raises errors.UsageError where all images are of one identity."""
    identities = {image.item.identity for image in images}
    if len(identities) < 2:
        raise errors.UsageError(
            f"{len(identities)} identity ({', '.join(identities)}): at least two are needed, "
            "each a folder of images"
        )


def embed_data(model: str, data: str, layout: str) -> Embedded:
    """Embeds a folder or an archive; says which images are left out.

    Raises:
      errors.UsageError: there is no model, no image, or one identity alone.
      errors.WorkError: the model fails, or can embed none.
    """
    loaded = embedder(model)
    images = listed(data, layout)
    check_identities(images)
    return embed_usable(loaded, images, data)


def embed_usable(model: "embedding_lib.Embedder", images: Sequence[Image], uri: str) -> Embedded:
    """Embeds images and keeps those that the model can embed; names each other one.

    Args:
      model: what embeds.
      images: N of them, all of one place.
      uri: the place, for messages.

    Raises:
      errors.WorkError: the model fails, or can embed none.
    """
    import numpy as np

    found = embed(model, images)
    rows = np.flatnonzero(found.usable)
    if not len(rows):
        raise errors.WorkError(f"{model.uri}: cannot embed any of {len(images)} images of {uri}")
    kept = [images[row] for row in rows]
    identities = np.array([image.item.identity for image in kept])
    return Embedded(model.uri, kept, found.vectors[rows], identities, np.array(found.digests)[rows])


def embed(model: "embedding_lib.Embedder", images: Sequence[Image], flip: bool = False) -> Answers:
    """Embeds images in order; names each that is left out.

    Args:
      model: what embeds.
      images: N of them.
      flip: each is embedded as it is and mirrored, and its embedding is the mean direction of the two.

    Raises:
      errors.WorkError: the model fails.
    """
    from longtail.components import embedding
    from longtail.models.export import signatures
    from longtail.models.metrics import retrieval

    log.info("embedding %d images with %s", len(images), model.uri)
    digests: list[str] = []
    vectors, status = embedding.embed_images(model, _noted(read_ahead(images), digests, flip))
    if flip:
        status = status[::2]
        vectors = retrieval.unit("embedding", vectors[::2] + vectors[1::2], status)
    for image, digest, state in zip(images, digests, status.tolist(), strict=True):
        if digest and state != signatures.STATUS_OK:  # what could not be read is named already
            log.warning("left out: %s: %s", image.item.path, signatures.STATUS_MEANING.get(state, state))
    return Answers(vectors, status == signatures.STATUS_OK, digests)


def read_ahead(images: Iterable[Image], ahead: int = _READ_AHEAD) -> Iterator[File]:
    """Yields each image's file, in order, while threads read the next ones; what is no usable picture is named.

    Args:
      images: what to read.
      ahead: how many are held at once, at most.
    """
    pending: collections.deque[concurrent.futures.Future[File]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        for count, image in enumerate(images, start=1):
            pending.append(pool.submit(_read, image))
            if len(pending) == ahead:
                yield pending.popleft().result()
            if count % _REPORT_EVERY == 0:
                log.info("%d images read", count)
        while pending:
            yield pending.popleft().result()


def _read(image: Image) -> File:
    from longtail.components.data import sources
    from longtail.models import pictures
    from longtail.models.export import signatures

    digest = ""
    try:
        file = image.source.read(image.item)
        digest = hashlib.sha256(file).hexdigest()
        return File(pictures.read(file).encoded, digest, signatures.STATUS_OK)
    except (sources.ReadError, pictures.BadImage) as error:
        log.warning("left out: %s: %s", image.item.path, error)
        return File(b"", digest, error.status)


def _noted(files: Iterable[File], digests: list[str], flip: bool) -> Iterator[bytes]:
    """Passes images on, each followed by its mirror image where `flip` is, and notes the digest of each picture."""
    for file in files:
        digests.append(file.digest if file.encoded else "")
        yield file.encoded
        if flip:
            yield _mirrored(file.encoded)


def _mirrored(encoded: bytes) -> bytes:
    """The mirror image as PNG; what no decoder takes stays as it is, for the model to refuse."""
    import PIL.Image
    import PIL.ImageOps

    try:
        mirrored = PIL.ImageOps.mirror(PIL.Image.open(io.BytesIO(encoded)))
    except (OSError, SyntaxError, ValueError):
        return encoded
    png = io.BytesIO()
    (mirrored.convert("RGB") if mirrored.mode == "CMYK" else mirrored).save(png, "PNG", compress_level=1)
    return png.getvalue()
