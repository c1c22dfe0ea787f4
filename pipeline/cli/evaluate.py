"""`longtail evaluate`: how well an exported model finds identities again on any images."""

import collections
import concurrent.futures
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import Annotated
from typing import NamedTuple

import typer

from longtail.models import errors
from longtail.models.metrics import protocols

if TYPE_CHECKING:
    import numpy as np

    from longtail.components.data import sources

_READERS = 8
_READ_AHEAD = 256
_REPORT_EVERY = 5000

log = logging.getLogger("longtail")


class _Image(NamedTuple):
    source: "sources.Source"
    item: "sources.Item"


class Embedded(NamedTuple):
    """Images that a model has embedded; those that it could not are left out.

    Attributes:
      model: the folder of the SavedModel.
      vectors: float32 [N, d].
      identities: str [N].
      digests: str [N], of the files.
    """

    model: str
    vectors: "np.ndarray"
    identities: "np.ndarray"
    digests: "np.ndarray"


class _Task(NamedTuple):
    """What is ranked against what."""

    protocol: protocols.Protocol
    queries: list[_Image]
    gallery: list[_Image] | None  # None: every query against all the others

    @property
    def images(self) -> list[_Image]:
        return self.queries + (self.gallery or [])


def evaluate(
    model: Annotated[
        str, typer.Option(help="SavedModel: a version folder, or a folder of versions (the last).")
    ],
    data: Annotated[str, typer.Option(help="Folder, .zip or glyphs: to evaluate on.")] = "",
    query: Annotated[str, typer.Option(help="Instead of --data: the queries.")] = "",
    gallery: Annotated[
        str, typer.Option(help="And what they are sought in; a file that is byte for byte the query is left out.")
    ] = "",
    protocol: Annotated[
        str,
        typer.Option(
            help="; ".join(f"{each.name}: {each.meaning}" for each in protocols.ALL.values())
            + ". By default query_gallery where the data tells queries from gallery, else retrieval; for reid all "
            "images are both where it does not."
        ),
    ] = "",
    pairs: Annotated[
        str,
        typer.Option(help="For verification: LFW's pairs.txt, or a CSV left,right[,same[,fold]], paths below --data."),
    ] = "",
    layout: Annotated[str, typer.Option(help="How paths tell identities.")] = "folder",
    camera_pattern: Annotated[
        str, typer.Option(help="Regular expression; its group is the camera in a file's name.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Score a model: how well it finds identities again, tells pairs apart, or knows a stranger."""
    begin = time.perf_counter()
    asked = protocols.find(protocol, "--protocol", protocols.ALL) if protocol else None
    _check_arguments(asked, data, query, gallery, pairs)
    # Here, since TensorFlow takes seconds to import.
    from longtail.components import embedding
    from longtail.pipeline import console
    from longtail.pipeline.cli import evaluate_pairs

    with console.lines():
        embedder = embedding.Embedder(_model_folder(model))
        task = _task(data, query, gallery, layout, camera_pattern, asked)
        listed = evaluate_pairs.read(pairs, task.queries) if pairs else []
        if listed:
            task = _Task(task.protocol, evaluate_pairs.mentioned(listed, task.queries), None)
        _check_task(task)
        log.info("embedding %d images with %s", len(task.images), embedder.uri)
        files: list[str] = []
        vectors, status = embedding.embed_images(embedder, _noted(_read_ahead(task.images), files))
        _say_what_was_refused(task, files, status)
        figures = {"protocol": task.protocol.name, **_figures(task, files, vectors, status, listed)}
    figures["seconds"] = round(time.perf_counter() - begin, 3)
    _print(figures, as_json)


def embed_data(model: str, data: str, layout: str) -> Embedded:
    """Embeds a folder or an archive; says which images are left out.

    Raises:
      errors.UsageError: there is no model, no image, or one identity alone.
      errors.WorkError: the model fails, or can embed none.
    """
    import numpy as np

    from longtail.components import embedding
    from longtail.models.export import signatures

    embedder = embedding.Embedder(_model_folder(model))
    task = _task(data, "", "", layout, "", protocols.RETRIEVAL)
    _check_task(task)
    log.info("embedding %d images with %s", len(task.images), embedder.uri)
    files: list[str] = []
    vectors, status = embedding.embed_images(embedder, _noted(_read_ahead(task.images), files))
    _say_what_was_refused(task, files, status)
    usable = status == signatures.STATUS_OK
    if not usable.any():
        raise errors.WorkError(f"{embedder.uri}: cannot embed any of {len(status)} images of {data}")
    identities = np.array([image.item.identity for image in task.images])
    return Embedded(embedder.uri, vectors[usable], identities[usable], np.array(files)[usable])


def _check_arguments(asked: protocols.Protocol | None, data: str, query: str, gallery: str, pairs: str) -> None:
    if bool(query) != bool(gallery):
        raise errors.UsageError("--query and --gallery go together; give both, or --data alone")
    if bool(data) == bool(query):
        raise errors.UsageError("give either --data, or --query and --gallery")
    if pairs and asked is not protocols.VERIFICATION:
        raise errors.UsageError(f"--pairs {pairs}: pairs are for --protocol {protocols.VERIFICATION.name}")
    if query and asked in (protocols.RETRIEVAL, protocols.VERIFICATION):
        raise errors.UsageError(
            f"--protocol {asked.name}: {asked.meaning}, so there is no gallery; give --data, or take query_gallery"
        )


def _model_folder(model: str) -> str:
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


def _task(
    data: str, query: str, gallery: str, layout: str, camera_pattern: str, asked: protocols.Protocol | None
) -> _Task:
    """Lists the images, and chooses the protocol where none is asked for.

    Raises:
      errors.UsageError: the protocol needs queries and a gallery, and the data does not tell them apart.
    """
    from longtail.components.data import sources

    def images(uri: str) -> list[_Image]:
        source = sources.open_source(uri, layout, camera_pattern)
        return [_Image(source, item) for item in source.listing(min_identities=1).items]

    if not data:
        return _Task(asked or protocols.QUERY_GALLERY, images(query), images(gallery))
    listed = images(data)
    if asked is protocols.VERIFICATION:
        return _Task(asked, listed, None)
    queries, others = ([image for image in listed if image.item.split == split] for split in ("query", "gallery"))
    if queries and asked is not protocols.RETRIEVAL:
        return _Task(asked or protocols.QUERY_GALLERY, queries, others)
    if asked is protocols.IDENTIFICATION:
        from longtail.pipeline.cli import evaluate_pairs

        return _Task(asked, *evaluate_pairs.divide(listed))
    if asked is protocols.QUERY_GALLERY:
        raise errors.UsageError(
            f"--protocol {asked.name}: {data} does not tell queries from gallery; give --query and --gallery, or take "
            f"{protocols.RETRIEVAL.name}"
        )
    return _Task(asked or protocols.RETRIEVAL, queries + others if queries else listed, None)


def _check_task(task: _Task) -> None:
    identities = {image.item.identity for image in task.images}
    if len(identities) < 2:
        raise errors.UsageError(
            f"{len(identities)} identity ({', '.join(identities)}): at least two are needed, "
            "each a folder of images"
        )
    unknown = sum(image.item.camera < 0 for image in task.images)
    if task.protocol.cross_camera and unknown:
        raise errors.UsageError(
            f"{unknown} of {len(task.images)} images have no camera to cross: give "
            r"--camera-pattern, such as '_c(\d+)', that finds it in every file's name"
        )


def _read_ahead(images: Iterable[_Image]) -> Iterator[tuple[bytes, str]]:
    """Yields what `_encoded` gives of the images, in order, while threads read the next ones."""
    pending: collections.deque[concurrent.futures.Future[tuple[bytes, str]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        for count, image in enumerate(images, start=1):
            pending.append(pool.submit(_encoded, image))
            if len(pending) == _READ_AHEAD:
                yield pending.popleft().result()
            if count % _REPORT_EVERY == 0:
                log.info("%d images read", count)
        while pending:
            yield pending.popleft().result()


def _encoded(image: _Image) -> tuple[bytes, str]:
    """JPEG or PNG as ingestion would hand it on, and the file's digest; both empty where it cannot."""
    from longtail.components.data import sources
    from longtail.models import pictures

    try:
        file = image.source.read(image.item)
        return pictures.read(file).encoded, hashlib.sha256(file).hexdigest()
    except (sources.ReadError, pictures.BadImage) as error:
        log.warning("left out: %s: %s", image.item.path, error)
        return b"", ""


def _noted(encoded: Iterable[tuple[bytes, str]], files: list[str]) -> Iterator[bytes]:
    """Passes images on and notes in `files` the digest of each file, "" of what could not be read."""
    for data, digest in encoded:
        files.append(digest)
        yield data


def _say_what_was_refused(task: _Task, files: list[str], status) -> None:
    """Names the images that were read, and so were not named yet, but that the model left out."""
    from longtail.models.export import signatures

    for image, file, state in zip(task.images, files, status.tolist(), strict=True):
        if file and state != signatures.STATUS_OK:
            log.warning("left out: %s: %s", image.item.path, signatures.STATUS_MEANING.get(state, state))


def _figures(task: _Task, files: list[str], vectors, status, pairs: list) -> dict:
    """Scores what could be embedded. `files`, `vectors` [N, d] and `status` [N] follow `task.images`."""
    from longtail.models.export import signatures
    from longtail.pipeline.cli import evaluate_pairs

    usable = status == signatures.STATUS_OK
    if task.protocol is protocols.VERIFICATION:
        figures = evaluate_pairs.verification(task.images, files, vectors, usable, pairs)
    elif task.protocol is protocols.IDENTIFICATION:
        figures = evaluate_pairs.identification(task.images, files, len(task.queries), vectors, usable)
    else:
        figures = _ranked(task, files, vectors, usable)
    return {**figures, "undecodable": int((~usable).sum())}


def _ranked(task: _Task, files: list[str], vectors, usable) -> dict:
    import numpy as np

    from longtail.models.metrics import metric
    from longtail.models.metrics import retrieval

    identity = np.array([image.item.identity for image in task.images])
    camera = np.array([image.item.camera for image in task.images]) if task.protocol.cross_camera else None
    is_query, digests = np.arange(len(usable)) < len(task.queries), np.array(files)
    query = usable & is_query
    gallery = query if task.gallery is None else usable & ~is_query
    found = int((query | gallery).sum())
    for images in (query, gallery):  # copies of a file count once
        images[images] = retrieval.distinct(identity[images], digests[images])
    scores = retrieval.evaluate_retrieval(
        vectors[query],
        identity[query],
        vectors[gallery],
        identity[gallery],
        query_cameras=None if camera is None else camera[query],
        gallery_cameras=None if camera is None else camera[gallery],
        query_files=digests[query],
        gallery_files=digests[gallery],
        exclude_self=task.gallery is None,
    )
    copies = found - int((query | gallery).sum())
    kept = (*(each.name for each in metric.METRICS), "queries", "gallery", "unmatched")
    return {**{name: scores[name] for name in kept}, "copies": copies}


def _print(figures: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    import rich.table

    from longtail.models.metrics import metric
    from longtail.pipeline import console

    table = rich.table.Table(show_header=False)
    metrics = {each.name: each for each in metric.METRICS}
    points = figures.pop("points", [])
    for name, value in figures.items():
        known = metrics.get(name)
        shown = f"{known.show(value)} {known.unit}".rstrip() if known else _written(value)
        table.add_row(known.caption if known else name, shown)
    console.out().print(table)
    if points:
        from longtail.pipeline.cli import evaluate_pairs

        console.out().print(evaluate_pairs.table(points))


def _written(value) -> str:
    """A figure that is none of the metrics; an interval with its two ends."""
    if isinstance(value, tuple):
        return " to ".join(map(_written, value))
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
