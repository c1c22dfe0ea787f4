"""What a report shows of a run's data: the census, pictures of head and tail, what was set aside, and copies."""

import collections
import itertools
import json
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from longtail.components.data import features
from longtail.components.data import images
from longtail.components.data import samples
from longtail.components.data import sources
from longtail.models import errors
from longtail.models import head_tail
from longtail.models import pictures
from longtail.pipeline.report import plots
from longtail.pipeline.report import run_view

_SIZES = 300  # points of the rank-size plot
_IDENTITIES = 12  # shown of head, and of tail
_SET_ASIDE, _REPEATED = 24, 12  # files that are shown


def section(run: run_view.Run) -> dict[str, Any] | None:
    """What the template fills in; None where ingestion did not come to its end."""
    examples = run.output("ImageExampleGen", "examples")
    if examples is None:
        return None
    census = run.read("Rebalancer", "census", "census.json")
    threshold = run.about.get("recipe", {}).get("leap", {}).get("head_threshold")
    quarantine = run.output("ImageExampleGen", "quarantine")
    lists = {name: _rows(quarantine, f"{name}.jsonl", most) for name, most in _LISTS.items()}
    files = _Files(run, [row["path"] for row in lists["quarantine"]])
    return {
        "counts": examples.properties,
        "spans": census.get("spans", []) if census else [],
        "rank_size": _rank_size(run, census, threshold),
        "rule": "" if threshold is None else head_tail.rule(threshold, "trained identities"),
        "sides": _sides(run, census, threshold),
        "quarantine": [{**row, "png": files.thumbnail(row["path"])} for row in lists["quarantine"]],
        "ignored": lists["ignored"],
        "repeated": [_repeated(row, run) for row in lists["repeated"]],
        "listed_in": quarantine.folder if quarantine else "",
    }


_LISTS = {"quarantine": _SET_ASIDE, "ignored": _SET_ASIDE, "repeated": _REPEATED}


def _rows(artifact: run_view.Artifact | None, name: str, most: int) -> list[dict[str, Any]]:
    path = os.path.join(artifact.folder, name) if artifact else ""
    if not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in itertools.islice(file, most)]


class _Files:
    """Pictures of files where they lie, as long as they do: some of what is set aside can still be looked at."""

    def __init__(self, run: run_view.Run, paths: Iterable[str]):
        self._items: dict[str, sources.Item] = {}
        wanted, about = set(paths), run.about
        if not wanted or not about:
            return
        data = about["recipe"]["data"]
        try:
            self._source = sources.open_source(
                about["source"], data["layout"], data["camera_pattern"], about["span"]
            )
            items = self._source.listing(min_identities=0).items
        except errors.UsageError:
            return  # the data has gone since; the reasons are known all the same
        self._items = {item.path: item for item in items if item.path in wanted}

    def thumbnail(self, path: str) -> str:
        """In base64; "" where there is no picture to be had."""
        if path not in self._items:
            return ""
        try:
            return images.thumbnail(pictures.read(self._source.read(self._items[path])).encoded)
        except (sources.ReadError, pictures.BadImage):
            return ""


def _repeated(row: dict[str, Any], run: run_view.Run) -> dict[str, Any]:
    paths = [path for of_identity in row["paths"].values() for path in of_identity]
    return {"paths": paths, "contradiction": row["contradiction"], "leak": row["leak"]}


def _rank_size(run: run_view.Run, census: dict[str, Any] | None, threshold: int | None) -> Any:
    """Images by rank of the identity, on logarithmic axes: a long tail is a straight line."""
    if census:
        sizes = {name: [one[key] for one in census["classes"]] for name, key in _SIZES_OF.items()}
        if sizes["found"] == sizes["trained on"]:
            del sizes["trained on"]
    else:
        sizes = {"found": _counts(run)}
    sizes = {name: sorted(found, reverse=True) for name, found in sizes.items() if found}
    if not sizes:
        return None
    most, count = max(map(max, sizes.values())), max(map(len, sizes.values()))
    shown = next(reversed(sizes.values()))
    marks = []
    if threshold is not None and shown[0] > threshold >= shown[-1]:
        head = int(head_tail.is_head(shown, threshold).sum())
        marks.append(plots.Mark(f"head: {head}, tail: {len(shown) - head}", head + 0.5))
    return plots.curves(
        [plots.Line(name, _thinned(found)) for name, found in sizes.items()],
        plots.Axis("rank of the identity", 1, max(count, 2), logarithmic=True),
        plots.Axis("images", 1, max(most, 2), logarithmic=True),
        f"Images of each of {count} identities, the largest first: from {shown[0]} to {shown[-1]}",
        marks,
    )


_SIZES_OF = {"found": "available", "trained on": "images"}


def _thinned(sizes: list[int]) -> list[tuple[float, float]]:
    ranks = np.unique(np.geomspace(1, len(sizes), min(_SIZES, len(sizes) * 4)).round().astype(int))
    return [(float(rank), float(sizes[rank - 1])) for rank in ranks]


def _sample(run: run_view.Run) -> str:
    artifact = run.output("SpanSampler", "sample")
    return artifact.folder if artifact and os.path.isdir(artifact.folder) else ""


def _counts(run: run_view.Run) -> list[int]:
    folder = _sample(run)
    return samples.read_table(folder).counts.tolist() if folder else []


def _sides(run: run_view.Run, census: dict[str, Any] | None, threshold: int | None) -> list[dict[str, Any]]:
    """An image each of the largest identities and of the smallest, of those that the span's sample holds."""
    folder = _sample(run)
    if not folder:
        return []
    first: dict[str, bytes] = {}
    seen: collections.Counter[str] = collections.Counter()
    records = tf.data.TFRecordDataset(os.path.join(folder, samples.SAMPLE_FILE), "GZIP").as_numpy_iterator()
    for record in records:
        feature = tf.train.Example.FromString(record).features.feature
        if feature[features.SPLIT].bytes_list.value[0] == features.TRAIN:
            name = feature[features.IDENTITY].bytes_list.value[0].decode(errors="surrogateescape")
            seen[name] += 1
            first.setdefault(name, feature[features.ENCODED].bytes_list.value[0])
    sizes = {one["identity"]: one["images"] for one in census["classes"]} if census else dict(seen)
    ranked = sorted((name for name in first if name in sizes), key=lambda name: (-sizes[name], name))
    bar = threshold if threshold is not None else sizes[ranked[len(ranked) // 2]] if ranked else 0
    sides = {
        "head": [name for name in ranked if sizes[name] > bar][:_IDENTITIES],
        "tail": [name for name in ranked if sizes[name] <= bar][-_IDENTITIES:],
    }
    return [
        {"name": side, "images": [_picture(name, first[name], sizes[name]) for name in names]}
        for side, names in sides.items()
        if names
    ]


def _picture(name: str, encoded: bytes, size: int) -> dict[str, Any]:
    return {"png": images.thumbnail(encoded), "alt": name, "said": f"{name} ({size})"}
