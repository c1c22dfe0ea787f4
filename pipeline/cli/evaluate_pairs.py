"""`longtail evaluate` where a threshold decides: pairs to verify, and strangers among those to be identified."""

import collections
import itertools
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import rich.table
import tensorflow as tf

from longtail.models import errors
from longtail.models.metrics import comparisons
from longtail.models.metrics import identification as identification_lib
from longtail.models.metrics import pair_lists
from longtail.models.metrics import verification as verification_lib
from longtail.serving import thresholds


class Named(NamedTuple):
    """A pair of a list, by the paths that the data has for it."""

    left: str
    right: str
    fold: int | None


def read(pairs: str, images: Sequence) -> list[Named]:
    """The pairs of a list whose images are in the data.

    Args:
      pairs: the file.
      images: of the data, each with an `item`.

    Raises:
      errors.UsageError: the file cannot be read, a line is no pair, names no image of the data, or contradicts it.
    """
    try:
        with tf.io.gfile.GFile(pairs) as file:
            listed = pair_lists.parse(file.read(), pairs)
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"--pairs {pairs}: cannot be read: {errors.first_line(error)}") from error
    items = {image.item.path: image.item for image in images}
    without_suffix = {path.rpartition(".")[0]: item for path, item in items.items()}

    def find(path: str, row: int):
        item = items.get(path) or without_suffix.get(path)
        if item is None:
            raise errors.UsageError(f"{pairs}, line {row}: no image {path!r} in --data; paths are those below it")
        return item

    named = []
    for pair in listed:
        left, right = find(pair.left, pair.row), find(pair.right, pair.row)
        if pair.same is not None and pair.same != (left.identity == right.identity):
            said = "the same" if pair.same else "different"
            raise errors.UsageError(
                f"{pairs}, line {pair.row}: says {said}, but the data has {left.identity!r} and {right.identity!r}"
            )
        named.append(Named(left.path, right.path, pair.fold))
    return named


def mentioned(pairs: Sequence[Named], images: Sequence) -> list:
    """The images that some pair names."""
    wanted = set(itertools.chain.from_iterable((pair.left, pair.right) for pair in pairs))
    return [image for image in images if image.item.path in wanted]


def divide(images: Sequence) -> tuple[list, list]:
    """Queries and a gallery of every other identity, by name, of which it has the first half of the images, by path.

    The other identities are the strangers among the queries.
    """
    by_identity = collections.defaultdict(list)
    for image in images:
        by_identity[image.item.identity].append(image)
    queries, gallery = [], []
    for position, name in enumerate(sorted(by_identity)):
        own = sorted(by_identity[name], key=lambda image: image.item.path)
        enrolled = 0 if position % 2 else (len(own) + 1) // 2
        gallery += own[:enrolled]
        queries += own[enrolled:]
    return queries, gallery


def verification(images: Sequence, files: Sequence[str], vectors, usable, pairs: Sequence[Named]) -> dict[str, Any]:
    """Figures of all pairs of images, or of those that are listed; what cannot be embedded is left out.

    Args:
      images: N of them, each with an `item`.
      files: the digest of each; of all pairs, those of a file with itself in another place are left out.
      vectors: float32 [N, d].
      usable: bool [N].
      pairs: listed ones; none: all.
    """
    identity = np.array([image.item.identity for image in images])
    if not pairs:
        first = {key: row for row, key in reversed(list(enumerate(zip(identity.tolist(), files, strict=True))))}
        kept = np.zeros(len(usable), bool)
        kept[list(first.values())] = True
        kept &= usable
        return verification_lib.evaluate(comparisons.AllPairs(vectors[kept], identity[kept]))
    row_of = {image.item.path: row for row, image in enumerate(images)}
    rows = np.array([(row_of[pair.left], row_of[pair.right]) for pair in pairs])
    whole = usable[rows].all(axis=1)
    left, right = rows[whole].T
    listed = comparisons.Listed(vectors[left], vectors[right], identity[left], identity[right])
    figures = {**verification_lib.evaluate(listed), "pairs_left_out": int((~whole).sum())}
    folds = [pair.fold for pair, both in zip(pairs, whole, strict=True) if both]
    if None in folds or len(set(folds)) < 2:
        return figures
    accuracy = pair_lists.fold_accuracy(listed.chunk.similarity, listed.chunk.same, np.array(folds))
    return {**{name: accuracy[name] for name in ("accuracy", "accuracy_error", "folds")}, **figures}


def identification(
    images: Sequence, files: Sequence[str], queries: int, vectors, usable, bar: thresholds.Threshold | None
) -> dict[str, Any]:
    """Figures of open-set identification: the first `queries` images are probes, the others the gallery.

    A query whose very file is in the gallery asks nothing, and is left out. Arguments are those of `verification`; with
    a threshold, `at` has the rates there and at the ends of its interval.
    """
    identity = np.array([image.item.identity for image in images])
    is_query = np.arange(len(usable)) < queries
    gallery = usable & ~is_query
    probe = usable & is_query & ~np.isin(files, np.array(files)[gallery])
    asked = (bar.value, bar.low, bar.high) if bar else ()
    return identification_lib.open_set(
        vectors[gallery], identity[gallery], vectors[probe], identity[probe], thresholds=asked
    )


def lines(at: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a threshold that was chosen before does to these people, and what the ends of its interval do."""
    whose = ("", " (lower end of its interval)", " (upper end)")
    return [
        f"at threshold {one['threshold']:.4f}{end}: DIR {100 * one['dir']:.2f} %, FAR {100 * one['far']:.2f} %"
        for one, end in zip(at, whose, strict=False)
    ]


def table(points: Sequence[Mapping[str, Any]]) -> rich.table.Table:
    """What is accepted at each rate, with 95 % intervals; "-" where the data cannot support the rate."""
    rate, found = ("far", "dir") if "far" in points[0] else ("fpr", "tpr")
    shown = rich.table.Table(f"{rate.upper()}, %", "threshold", f"{found.upper()}, %")
    for point in points:
        cells = [f"{100 * point[rate]:g}"]
        for name, factor, digits in (("threshold", 1, 4), (found, 100, 2)):
            cells.append(_with_interval(point[name], point[f"{name}_interval"], factor, digits))
        shown.add_row(*cells)
    return shown


def _with_interval(value: float | None, interval: tuple[float, float] | None, factor: int, digits: int) -> str:
    if value is None:
        return "-"
    ends = " to ".join(f"{factor * end:.{digits}f}" for end in interval or ())
    return f"{factor * value:.{digits}f}" + (f" ({ends})" if ends else "")
