"""`longtail evaluate` where images are ranked: who is found among all, in a gallery, or in a crowd of strangers."""

import csv
import io
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import numpy as np
import rich.table
import tensorflow as tf

from longtail.models import errors
from longtail.models import files
from longtail.models import head_tail
from longtail.models.metrics import identification
from longtail.models.metrics import metric
from longtail.models.metrics import protocols
from longtail.models.metrics import reranking
from longtail.models.metrics import retrieval
from longtail.pipeline.cli import evaluate_images
from longtail.pipeline.cli import evaluate_task

if TYPE_CHECKING:
    from longtail.components import embedding as embedding_lib

_BLOCK = 4096  # images of a crowd that are embedded at once


class Options(NamedTuple):
    """How images are ranked.

    Attributes:
      rerank: by k-reciprocal neighbours instead of the cosine.
      expansion: how many of its nearest images a query is expanded by; 0: none.
      flip: embeddings are the mean of an image and its mirror image.
      distractors: `.npy` file of embeddings, a folder of such, or a folder or archive of images; "": none.
      per_query: CSV to write, a row a query; "": none.
    """

    rerank: bool = False
    expansion: int = 0
    flip: bool = False
    distractors: str = ""
    per_query: str = ""


class _Sides(NamedTuple):
    """Which of the images are queries and which the gallery; copies of a file of an identity are in neither."""

    query: np.ndarray  # bool [N]
    gallery: np.ndarray
    copies: int


def check(asked: protocols.Protocol | None, options: Options) -> None:
    """Raises errors.UsageError where options do not go together or there are no such distractors."""
    ranked = {"--rerank": options.rerank, "--query-expansion": options.expansion, "--distractors": options.distractors}
    given = [word for word, value in {**ranked, "--per-query": options.per_query}.items() if value]
    if given and asked in (protocols.VERIFICATION, protocols.IDENTIFICATION):
        raise errors.UsageError(f"{', '.join(given)}: for protocols that rank, not for --protocol {asked.name}")
    if options.rerank and options.expansion:
        raise errors.UsageError("--rerank expands queries by itself; give it or --query-expansion")
    _check_crowd(options)
    if options.per_query:
        files.check_place("--per-query", options.per_query)
    if options.distractors and not _arrays(options.distractors):
        evaluate_images.listed(options.distractors)


def check_width(distractors: str, dimension: int | None) -> None:
    """Raises errors.UsageError where an array of distractors cannot be read or its rows are no embeddings of the model.

    Args:
      distractors: as in `Options`; images are of any model.
      dimension: d of the model's embeddings; None where it does not say.
    """
    for path in _arrays(distractors):
        width = identification.opened(path).shape[1]
        if dimension not in (None, width):
            raise errors.UsageError(
                f"--distractors {path}: embeddings of {width} numbers, the model's have {dimension}; embed "
                "them with this model"
            )


def _check_crowd(options: Options) -> None:
    better = {"--rerank": options.rerank, "--query-expansion": options.expansion}
    if options.distractors and (given := [word for word, value in better.items() if value]):
        raise errors.UsageError(f"--distractors are ranked by the cosine alone; give them or {given[0]}, not both")


def figures(
    task: evaluate_task.Task,
    found: evaluate_images.Answers,
    model: "embedding_lib.Embedder",
    options: Options,
) -> dict[str, Any]:
    """Scores what could be embedded; copies of a file count once.

    Args:
      task: what is ranked against what.
      found: follows `task.images`.
      model: embeds distractors.
      options: how.

    Raises:
      errors.UsageError: the distractors or the file to write are none.
      errors.WorkError: no image could be embedded, or no query has a match.
    """
    if not found.usable.any():
        raise errors.WorkError(f"{model.uri}: cannot embed any of {len(task.images)} images; the warnings say why")
    identity = np.array([image.item.identity for image in task.images])
    sides = _sides(task, found, identity)
    scores = _scores(task, found, identity, sides, options)
    averages = retrieval.averages(scores, int(sides.gallery.sum()), _bins(identity, sides))
    kept = (*(each.name for each in metric.METRICS), "queries", "gallery", "unmatched")
    told: dict[str, Any] = {**{name: averages[name] for name in kept}, "copies": sides.copies}
    told["bins"] = {name: one for name, one in averages["slices"].items() if one["queries"]}
    if options.distractors:
        probes = sides.query | sides.gallery
        probes[probes] = retrieval.distinct(identity[probes], np.array(found.digests)[probes])
        crowd = _crowd(options, model, found.vectors.shape[1])
        told["distractors"] = identification.among_distractors(found.vectors[probes], identity[probes], crowd)
    if options.per_query:
        queries = [image.item.path for image, asks in zip(task.images, sides.query, strict=True) if asks]
        _write_queries(options.per_query, queries, identity[sides.query], scores)
    return told


def _sides(task: evaluate_task.Task, found: evaluate_images.Answers, identity: np.ndarray) -> _Sides:
    is_query, digests = np.arange(len(identity)) < len(task.queries), np.array(found.digests)
    query = found.usable & is_query
    gallery = query if task.gallery is None else found.usable & ~is_query
    before = int((query | gallery).sum())
    for images in (query, gallery):
        images[images] = retrieval.distinct(identity[images], digests[images])
    return _Sides(query, gallery, before - int((query | gallery).sum()))


def _bins(identity: np.ndarray, sides: _Sides) -> dict[str, np.ndarray]:
    """Queries by how many images their identity has here."""
    names, codes = np.unique(identity, return_inverse=True)
    counts = np.bincount(codes[sides.query | sides.gallery], minlength=len(names))
    return {name: found[codes[sides.query]] for name, found in head_tail.bins(counts).items()}


def _scores(
    task: evaluate_task.Task,
    found: evaluate_images.Answers,
    identity: np.ndarray,
    sides: _Sides,
    options: Options,
) -> metric.QueryScores:
    camera = np.array([image.item.camera for image in task.images]) if task.protocol.cross_camera else None
    query, gallery, digests = found.vectors[sides.query], found.vectors[sides.gallery], np.array(found.digests)
    exclude_self = task.gallery is None
    if options.expansion and len(query):
        kept_apart = [digests] if camera is None else [digests, camera]
        apart = [_of_whom(labels, identity, sides) for labels in kept_apart]
        query = reranking.expand(query, gallery, options.expansion, exclude_self=exclude_self, apart=apart)
    return retrieval.score_queries(
        query,
        identity[sides.query],
        gallery,
        identity[sides.gallery],
        query_cameras=None if camera is None else camera[sides.query],
        gallery_cameras=None if camera is None else camera[sides.gallery],
        query_files=digests[sides.query],
        gallery_files=digests[sides.gallery],
        exclude_self=exclude_self,
        ranking=reranking.KReciprocal() if options.rerank else None,
    )


def _of_whom(labels: np.ndarray, identity: np.ndarray, sides: _Sides) -> tuple[np.ndarray, np.ndarray]:
    """Queries and gallery by identity and label, each pair of the two a number."""
    both = np.stack([np.unique(one, return_inverse=True)[1] for one in (identity, labels)], axis=1)
    codes = np.unique(both, axis=0, return_inverse=True)[1]
    return codes[sides.query], codes[sides.gallery]


def _crowd(options: Options, model: "embedding_lib.Embedder", dimension: int) -> Iterator[np.ndarray]:
    """Embeddings of strangers, block by block."""
    path = options.distractors
    arrays = _arrays(path)
    if not arrays:
        images = evaluate_images.listed(path)
        for begin in range(0, len(images), _BLOCK):
            found = evaluate_images.embed(model, images[begin : begin + _BLOCK], options.flip)
            yield found.vectors[found.usable]
        return
    check_width(path, dimension)  # of a model that did not say it before
    yield from identification.blocks(arrays)


def _arrays(path: str) -> list[str]:
    """The arrays that a path is or that lie in it; none where it is images."""
    return [path] if path.endswith(".npy") else sorted(tf.io.gfile.glob(f"{path}/*.npy"))


def _write_queries(path: str, queries: Sequence[str], identity: np.ndarray, scores: metric.QueryScores) -> None:
    """CSV, a row a query; figures are empty where it has no match."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "identity", "matches", *(each.name for each in metric.METRICS), "first_rank"])
    columns = [each.of_queries(scores).astype(float) for each in metric.METRICS]
    for row, (query, name) in enumerate(zip(queries, identity, strict=True)):
        shown = [column[row] for column in columns] + [scores.first[row]] if scores.matches[row] else []
        writer.writerow([query, name, scores.matches[row], *shown])
    files.write(path, text.getvalue())


def tables(bins: dict[str, Any], crowds: list[dict[str, Any]]) -> list[rich.table.Table]:
    """Scores by how many images an identity has, and Rank-1 by how many distractors there are; what there is of it."""
    by_bin = rich.table.Table("images of the identity", *(each.title for each in metric.METRICS), "queries")
    for name, one in bins.items():
        by_bin.add_row(name, *(each.show(one[each.name]) for each in metric.METRICS), f"{one['queries']}")
    by_crowd = rich.table.Table("distractors", "Rank-1, %", "pairs")
    for crowd in crowds:
        by_crowd.add_row(f"{crowd['distractors']:,}", f"{100 * crowd['rank1']:.2f}", f"{crowd['pairs']}")
    return [table for table in (by_bin, by_crowd) if table.row_count]
