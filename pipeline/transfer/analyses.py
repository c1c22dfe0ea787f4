"""The paper's analyses of a finished run: figures beside the paper's, and a picture of them."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from longtail.models import errors
from longtail.models.feature_transfer import analysis
from longtail.models.feature_transfer import viewer
from longtail.pipeline.transfer import charts
from longtail.pipeline.transfer import images as images_lib
from longtail.pipeline.transfer import paper

_SIZES = (1, 3, 5, 10)  # images a centre is of, as the paper has them
_PRECISION = 0.99


class Analysis(NamedTuple):
    """What a command prints and draws.

    Attributes:
      figures: as JSON; `paper` within are the paper's.
      rows: of its table, the first the titles.
      png: the picture.
    """

    figures: dict[str, Any]
    rows: Sequence[tuple[str, ...]]
    png: bytes


def norms(root: str) -> Analysis:
    """Mean length of the class weights of head and tail."""
    viewed, _ = images_lib.load(root)
    if not len(viewed.lengths):
        raise errors.UsageError(f"--root {root}: the run's head has no class weights; train it with one that has")
    found = analysis.norms(viewed.lengths, viewed.is_head)
    groups = {kind: {"this run": value, **{f"paper, {name}": its for name, its in paper.NORMS[kind].items()}}
              for kind, value in found.items()}  # fmt: skip
    rows = [("classes", *next(iter(groups.values())))]
    rows += [(kind, *(f"{value:.3f}" for value in its.values())) for kind, its in groups.items()]
    figures = {**found, "classes": _classes(viewed), "paper": paper.NORMS}
    return Analysis(figures, rows, charts.bars("Length of class weights", groups))


def _classes(viewed: viewer.Viewed) -> dict[str, int]:
    return {"head": int(viewed.is_head.sum()), "tail": int((~viewed.is_head).sum())}


def _embedded(viewed: viewer.Viewed, asked: images_lib.Images) -> np.ndarray:
    return viewed.run("filter", asked.encode(viewed))


def closed(root: str) -> Analysis:
    """Whether images that were not trained on, of identities that were, are told right: by classifier and by centre."""
    viewed, summary = images_lib.load(root)
    asked = images_lib.unseen(viewed, summary)
    embedded = _embedded(viewed, asked)
    answers = {
        "classifier": viewed.run("classify", embedded).argmax(axis=1),
        "nearest": analysis.nearest(embedded, viewed.embedded_centres),
    }
    found = analysis.closed_set(answers, asked.labels, viewed.is_head)
    titles = ("classes", "images", "classifier, %", "nearest centre, %", "paper, m-L2, %", "paper, transfer, %")
    rows: list[tuple[str, ...]] = [titles]
    groups = {}
    for kind, its in found.items():
        of_paper = [f"{100 * one['classifier']:.1f}, {100 * one['nearest']:.1f}" for one in paper.CLOSED[kind].values()]
        own = (f"{100 * its[name]:.2f}" for name in ("classifier", "nearest"))
        rows.append((kind, str(its["images"]), *own, *of_paper))
        for name in ("classifier", "nearest"):
            theirs = {f"paper, {one}": of[name] for one, of in paper.CLOSED[kind].items()}
            groups[f"{kind}, {name}"] = {"this run": its[name], **theirs}
    figures = {**found, "classes": _classes(viewed), "paper": paper.CLOSED}
    return Analysis(figures, rows, charts.bars("Images not trained on, told right", groups))


def centres(root: str) -> Analysis:
    """How far centres of few images lie from those of all, of head identities, with and without mirror images."""
    viewed, summary = images_lib.load(root)
    if not viewed.is_head.any():
        raise errors.UsageError(
            f"--root {root}: no identity has more images than leap.head_threshold, and a centre of few needs many"
        )
    read = images_lib.read(viewed, summary, lambda label, _: viewed.is_head[label])
    rich, mirrored = read.encode(viewed), read.encode(viewed, mirrored=True)
    found = analysis.centre_errors(rich, mirrored, read.labels, _SIZES)
    names = [name for name in found[0] if name != "images"]
    rows = [("images", *names)] + [(str(one["images"]), *(f"{one[name]:.3f}" for name in names)) for one in found]
    curves = {name: [one[name] for one in found] for name in names}
    title = "Distance to the centre of all images / distance between classes"
    return Analysis({"centres": found, "paper": None}, rows, charts.lines(title, "images", _SIZES, curves))


def oneshot(root: str) -> Analysis:
    """Base classes' rank-1, and how many images of tail classes are answered at a precision of .99."""
    viewed, summary = images_lib.load(root)
    asked = images_lib.unseen(viewed, summary)
    confidence = analysis.softmax(viewed.run("classify", _embedded(viewed, asked)))
    answers, of_head = confidence.argmax(axis=1), viewed.is_head[asked.labels]
    is_right, sure = answers == asked.labels, confidence.max(axis=1)
    novel = (sure[~of_head], is_right[~of_head])
    figures = {
        "base_rank1": float(is_right[of_head].mean()) if of_head.any() else None,
        "novel_rank1": float(novel[1].mean()) if len(novel[1]) else None,
        "novel_coverage": analysis.coverage(*novel, _PRECISION) if len(novel[1]) else None,
        "novel_images_a_class": float(viewed.counts[~viewed.is_head].mean()) if not viewed.is_head.all() else None,
    }
    rows = [("", "this run", "paper")]
    for name, value in figures.items():
        theirs = paper.ONE_SHOT.get(name)
        rows.append((name, "-" if value is None else f"{value:.4f}", "-" if theirs is None else f"{theirs:.4f}"))
    order = np.argsort(-novel[0], kind="stable")
    share = np.arange(1, len(order) + 1) / max(len(order), 1)
    curve = np.cumsum(novel[1][order]) / np.arange(1, len(order) + 1)
    png = charts.lines("Tail classes: precision of the surest answers", "share answered", share, {"precision": curve})
    return Analysis({**figures, "paper": paper.ONE_SHOT}, rows, png)
