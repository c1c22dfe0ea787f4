"""What scoring costs: a Market-1501-sized evaluation, its re-ranking, and a million distractors."""

import functools
import glob
import importlib.util
import multiprocessing
import os
import resource
import types
from collections.abc import Callable
from collections.abc import Iterator

import numpy as np

from longtail.benchmarks import timing
from longtail.models import errors
from longtail.models.metrics import identification
from longtail.models.metrics import reranking
from longtail.models.metrics import retrieval

MARKET = (3368, 15913)  # Market-1501's queries and gallery
_IDENTITIES, _CAMERAS = 750, 6
_BLOCK = 16384
_PARTS = 8  # of the crowd, between which a busy machine's noise is shared
_MIB = 1 << 20


def run(
    dim: int, rounds: int, distractors: int, probes: int, sizes: tuple[int, int] = MARKET, peer: str = ""
) -> dict[str, object]:
    """Scores made-up embeddings, each work in a process of its own, which tells its peak memory.

    Args:
      dim: length of an embedding.
      rounds: how often a ranking is timed, in turns with its matrix product; the crowd is once, in parts.
      distractors: in the crowd.
      probes: sought among them.
      sizes: queries and gallery images of the evaluation.
      peer: folder of torchreid's compiled `rank_cy`, which is then timed in turns with the evaluation; "" for none.

    Raises:
      errors.UsageError: there is no such module in `peer`.
    """
    compared = _compared(_compiled(peer), sizes, dim, rounds) if peer else []
    rows = [*_ranking(sizes, dim, rounds), *compared, *_crowd(distractors, probes, dim)]
    return {"bench": "evaluate", "machine": timing.machine(), "results": rows}


def _ranking(sizes: tuple[int, int], dim: int, rounds: int) -> list[dict[str, object]]:
    of = f"{sizes[0]} x {sizes[1]} x {dim}"
    rows = []
    for name, work, limit in (
        ("evaluation", _evaluate, 512),
        ("evaluation with query expansion", _expand, 1024),
        ("evaluation with re-ranking", _rerank, 1024),
    ):
        seconds, product, peak = _alone(_time_ranking, work, _multiply, sizes, dim, rounds)
        rows.append(timing.row(f"{name} {of}, beside its matrix product", seconds, "s", seconds / product))
        rows.append(timing.row(f"peak memory: {name}", peak, "MiB", target=limit))
    return rows


def _compiled(folder: str) -> str:
    """Where the compiled module is."""
    found = glob.glob(os.path.join(glob.escape(folder), "rank_cy*.so"))
    if not found:
        raise errors.UsageError(
            f"--peer: no rank_cy*.so in {folder}; build it there, of torchreid/metrics/rank_cylib/rank_cy.pyx, by "
            "cythonize -i rank_cy.pyx, for this Python and NumPy"
        )
    return found[0]


def _compared(module: str, sizes: tuple[int, int], dim: int, rounds: int) -> list[dict[str, object]]:
    """The same protocol by torchreid, which holds all distances and their order at once."""
    peer = functools.partial(_evaluate_by_peer, module)
    seconds, ours, peak = _alone(_time_ranking, peer, _evaluate, sizes, dim, rounds)
    return [
        timing.row("torchreid's compiled evaluation, beside this", seconds, "s", seconds / ours, 2.5, at_least=True),
        timing.row("peak memory: torchreid's evaluation", peak, "MiB"),
    ]


def _crowd(distractors: int, probes: int, dim: int) -> list[dict[str, object]]:
    seconds, product, peak = _alone(_time_crowd, distractors, probes, dim)
    name = f"{distractors} distractors x {probes} probes x {dim}"
    return [
        timing.row(f"{name}, beside the matrix product", seconds, "s", seconds / product, target=2.0),
        timing.row("peak memory: distractors", peak, "MiB", target=512),
    ]


def _alone(work: Callable, *arguments: object) -> tuple[float, float, float]:
    """What `work` returns in a process of its own, and the MiB that this took at most."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MIB


def _time_ranking(
    work: Callable, beside: Callable, sizes: tuple[int, int], dim: int, rounds: int
) -> tuple[float, float, float]:
    random = np.random.default_rng(0)
    ids = [random.integers(0, _IDENTITIES, size) for size in sizes]
    cameras = [random.integers(0, _CAMERAS, size) for size in sizes]
    centres = random.normal(size=(_IDENTITIES, dim)).astype(np.float32)
    query, gallery = (centres[each] + 2 * random.normal(size=(len(each), dim)).astype(np.float32) for each in ids)
    data = (query, ids[0], gallery, ids[1], cameras)
    seconds = timing.in_turns({"work": lambda: work(*data), "beside": lambda: beside(*data)}, rounds)
    return float(np.median(seconds["work"])), float(np.median(seconds["beside"])), _peak()


def _evaluate(query, query_ids, gallery, gallery_ids, cameras, ranking=None) -> None:
    retrieval.score_queries(
        query,
        query_ids,
        gallery,
        gallery_ids,
        query_cameras=cameras[0],
        gallery_cameras=cameras[1],
        ranking=ranking,
    )


def _expand(query, query_ids, gallery, gallery_ids, cameras) -> None:
    _evaluate(reranking.expand(query, gallery, count=5), query_ids, gallery, gallery_ids, cameras)


def _rerank(query, query_ids, gallery, gallery_ids, cameras) -> None:
    _evaluate(query, query_ids, gallery, gallery_ids, cameras, reranking.KReciprocal())


def _evaluate_by_peer(module, query, query_ids, gallery, gallery_ids, cameras) -> None:
    query, gallery = (retrieval.unit("embedding", *one) for one in ((query, query_ids), (gallery, gallery_ids)))
    _loaded(module).evaluate_cy(1.0 - query @ gallery.T, query_ids, gallery_ids, *cameras, 50)


@functools.cache  # so that loading it is in no time that is measured but the first, which counts for nothing
def _loaded(module: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("rank_cy", module)
    assert spec and spec.loader
    rank_cy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rank_cy)
    return rank_cy


def _multiply(query: np.ndarray, _ids, gallery: np.ndarray, *_rest, rows: int = 1024) -> None:
    for begin in range(0, len(query), rows):
        query[begin : begin + rows] @ gallery.T


def _time_crowd(distractors: int, probes: int, dim: int) -> tuple[float, float, float]:
    """The crowd is one block, again and again: what is made or read counts for neither."""
    random = np.random.default_rng(0)
    sought = random.normal(size=(probes, dim)).astype(np.float32)
    part = -(-distractors // _PARTS)
    block = random.normal(size=(min(_BLOCK, part), dim)).astype(np.float32)

    def crowd() -> Iterator[np.ndarray]:
        for begin in range(0, part, len(block)):
            yield block[: part - begin]

    def multiply() -> None:
        for some in crowd():
            _multiply(some, None, sought)

    seconds = timing.in_turns(
        {
            "whole": lambda: identification.among_distractors(sought, np.arange(probes) // 2, crowd()),
            "product": multiply,
        },
        _PARTS,
    )
    return float(seconds["whole"].sum()), float(seconds["product"].sum()), _peak()
