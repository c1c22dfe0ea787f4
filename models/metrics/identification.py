"""How good a model is at "who is this, or is it nobody we know": open-set identification, and distractors."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from longtail.models import errors
from longtail.models.metrics import intervals
from longtail.models.metrics import retrieval
from longtail.models.metrics import verification

RATES = (1e-1, 1e-2, 1e-3)
CROWDS = tuple(10**power for power in range(1, 7))

_CHUNK_CELLS = 1 << 22


def open_set(
    gallery: np.ndarray,
    gallery_ids: Sequence | np.ndarray,
    probes: np.ndarray,
    probe_ids: Sequence | np.ndarray,
    rates: Sequence[float] = RATES,
    draws: int = 500,
    seed: int = 0,
    thresholds: Sequence[float] = (),
) -> dict[str, Any]:
    """Probes of people in the gallery, and of strangers: who is found, and who is taken for somebody.

    A probe's answer is the identity of the nearest gallery image; a tie with another identity's (to 1e-6) is lost. FAR
    is the share of the strangers' probes whose answer reaches the threshold, DIR the share of the others whose answer
    reaches it and is right (Phillips, Grother and Micheals, Handbook of Face Recognition, 2011). Memory is a chunk of
    similarities, 16 MiB or one row.

    Args:
      gallery: float [G, d]; images or templates.
      gallery_ids: [G] identities: integers, str or bytes.
      probes: float [P, d].
      probe_ids: [P], of the same kind; those that the gallery does not have are strangers.
      rates: FARs.
      draws: of the bootstrap over the probes' identities; 0: no intervals.
      seed: of the draws.
      thresholds: similarities that were chosen before, on other people.

    Returns:
      `probes` (of enrolled people), `impostors` (the strangers'), `gallery`, `gallery_identities`, `rank1` (of the
      enrolled, whatever the threshold), `smallest_far` (by the rule of 30), and `points`: for each rate `far`,
      `threshold`, `dir` and their intervals, None where the strangers' probes cannot support the rate; `at`: for each
      of `thresholds` `threshold`, `dir` and `far`.

    Raises:
      ValueError: shapes do not fit, or a value is not finite.
      errors.WorkError: no probe of somebody in the gallery, or none of a stranger.

    Example: thirty strangers, none of them as near as the one that is enrolled.

    >>> strangers = np.tile([[0.0, 1.0]], (30, 1))
    >>> probes, names = np.concatenate([[[1.0, 0.1]], strangers]), ["a"] + ["stranger"] * 30
    >>> found = identification.open_set([[1.0, 0.0]], ["a"], probes, names, rates=[1.0], draws=0)
    >>> found["rank1"], found["points"][0]["dir"]
    (1.0, 1.0)
    """
    right, wrong = _nearest(gallery, gallery_ids, probes, probe_ids)
    names, codes = np.unique(np.asarray(probe_ids), return_inverse=True)
    known = np.isin(np.asarray(probe_ids), np.asarray(gallery_ids))
    if not known.any() or known.all():
        missing = "of somebody in the gallery" if not known.any() else "of a stranger to it"
        raise errors.WorkError(
            f"none of {len(known)} probes is {missing}: give both, people whose other images are in the gallery (the "
            "very files there are no probes) and some who have none there"
        )
    hits = known & (right > wrong + retrieval.TIE)
    curve = verification.curve_of(right[hits], wrong[~known], misses=int((known & ~hits).sum()))
    impostors = _scores(wrong[~known], codes[~known], len(names))
    mated = _scores(np.where(hits, right, -2.0)[known], codes[known], len(names))
    drawn = intervals.of_roc(impostors, mated, len(names), rates, draws, seed)
    points = verification.points(curve, drawn, rates)
    renamed = {"far": "fpr", "threshold": "threshold", "dir": "tpr"}
    spread = {"threshold_interval": "threshold_interval", "dir_interval": "tpr_interval"}
    return {
        "probes": int(known.sum()),
        "impostors": int((~known).sum()),
        "gallery": len(gallery),
        "gallery_identities": len(np.unique(np.asarray(gallery_ids))),
        "rank1": float(hits.sum() / known.sum()),
        "smallest_far": curve.smallest_rate,
        "at": [
            {
                "threshold": value,
                "dir": float((right[hits] >= value).sum() / known.sum()),
                "far": float((wrong[~known] >= value).mean()),
            }
            for value in thresholds
        ],
        "points": [{ours: point[theirs] for ours, theirs in (renamed | spread).items()} for point in points],
    }


def _scores(similarity: np.ndarray, codes: np.ndarray, identities: int) -> intervals.Scores:
    nobody = np.full(len(codes), identities)
    return intervals.Scores(similarity, codes, nobody, np.ones(len(codes)))


def _nearest(gallery, gallery_ids, probes, probe_ids) -> tuple[np.ndarray, np.ndarray]:
    """Similarity of each probe's nearest gallery image of its own identity, and of any other; -2: there is none."""
    gallery, probes = retrieval.unit("gallery", gallery, gallery_ids), retrieval.unit("probes", probes, probe_ids)
    both = np.concatenate([np.asarray(gallery_ids), np.asarray(probe_ids)])
    codes = np.unique(both, return_inverse=True)[1]
    owners, seekers = codes[: len(gallery)], codes[len(gallery) :]
    right, wrong = np.full((2, len(probes)), -2.0, np.float32)
    rows = max(1, _CHUNK_CELLS // max(1, len(gallery)))
    for begin in range(0, len(probes), rows):
        part = slice(begin, begin + rows)
        similarity = probes[part] @ gallery.T
        same = seekers[part, None] == owners
        right[part] = np.where(same, similarity, np.float32(-2)).max(axis=1, initial=-2)
        wrong[part] = np.where(same, np.float32(-2), similarity).max(axis=1, initial=-2)
    return right, wrong


def among_distractors(
    probes: np.ndarray,
    probe_ids: Sequence | np.ndarray,
    distractors: Iterable[np.ndarray],
    sizes: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Rank-1 against a growing crowd (Kemelmacher-Shlizerman et al., The MegaFace Benchmark, 2016).

    For each probe and each other image of its identity: is that image nearer than all distractors? A tie (to 1e-6) is
    lost. Distractors are read once and never held; memory is the probes and the similarities to one block.

    Args:
      probes: float [P, d].
      probe_ids: [P] identities.
      distractors: blocks, float [any, d], such as `blocks` reads from files; nobody in them is among the probes.
        Rows of zeros, which stand for images that could not be embedded, are left out.
      sizes: how many distractors, the first ones of what is given; None: 10, 100, ... to a million as far as there are
        so many, and all of them.

    Returns:
      For each size `distractors`, `rank1`, and `pairs`, over how many pairs that is the mean.

    Raises:
      ValueError: shapes do not fit, or a value is not finite.
      errors.WorkError: no identity has two probes, or there are fewer distractors than the largest size, or none.

    Example: nearer than the first distractor, but not than the second.

    >>> crowd = [np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])]
    >>> found = identification.among_distractors([[1.0, 0.0], [1.0, 0.5]], ["a", "a"], crowd, sizes=[1, 2])
    >>> [row["rank1"] for row in found]
    [1.0, 0.0]
    """
    probes = retrieval.unit("probes", probes, probe_ids)
    seeker, mate = _mates(probes, probe_ids)
    nearest = np.full(len(probes), -2.0, np.float32)
    told: list[dict[str, Any]] = []
    seen, left = 0, sorted(CROWDS if sizes is None else sizes)
    for block in distractors:
        crowd = retrieval.unit("distractors", block, block)
        crowd = crowd[crowd.any(axis=1)]
        if crowd.shape[1] != probes.shape[1]:
            raise ValueError(f"`distractors` must be [any, {probes.shape[1]}]. Received: shape {crowd.shape}")
        while left and len(crowd):
            part, crowd = np.split(crowd, [left[0] - seen])
            for row in range(0, len(part), _rows(probes)):
                np.maximum(nearest, (part[row : row + _rows(probes)] @ probes.T).max(axis=0), out=nearest)
            seen += len(part)
            if seen == left[0]:
                told.append(_first(left.pop(0), mate, nearest[seeker]))
        if not left:
            return told
    if sizes is None and seen:
        return told if told and told[-1]["distractors"] == seen else [*told, _first(seen, mate, nearest[seeker])]
    raise errors.WorkError(f"{seen} distractors, but {left[-1]} are asked for; give more of them or a smaller size")


def _first(distractors: int, mate: np.ndarray, nearest: np.ndarray) -> dict[str, Any]:
    return {
        "distractors": distractors,
        "rank1": float((mate > nearest + retrieval.TIE).mean()),
        "pairs": len(mate),
    }


def _rows(probes: np.ndarray) -> int:
    return max(1, _CHUNK_CELLS // len(probes))


def _mates(probes: np.ndarray, probe_ids: Sequence | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each (probe, other image of its identity): the probe's row, and their similarity."""
    codes = np.unique(np.asarray(probe_ids), return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    seekers, similarities = [], []
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        one, other = np.nonzero(~np.eye(len(rows), dtype=bool))
        seekers.append(rows[one])
        similarities.append((probes[rows] @ probes[rows].T)[one, other])
    if not sum(map(len, seekers)):
        raise errors.WorkError("no identity has two probes: nobody can be found again among distractors")
    return np.concatenate(seekers), np.concatenate(similarities)


def opened(path: str) -> np.ndarray:
    """An array [any, d] of one of NumPy's files, of which no more than the header is read.

    Raises:
      errors.UsageError: the file cannot be read as an array of two axes.

    Example:

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.zeros([3, 2], np.float32))
    ...     identification.opened(file.name).shape
    (3, 2)
    """
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise errors.UsageError(f"{path}: cannot be read as a NumPy array: {error}") from error
    if array.ndim != 2:
        raise errors.UsageError(f"{path}: an array [images, d] is needed; its shape is {list(array.shape)}")
    return array


def blocks(files: Iterable[str], rows: int = 65536) -> Iterator[np.ndarray]:
    """Reads arrays [any, d] from NumPy's files, `rows` rows at a time.

    Args:
      files: paths of `.npy`, such as `longtail embed --output` writes.
      rows: most rows of a block.

    Raises:
      errors.UsageError: a file cannot be read as an array of two axes.

    Example: there are no files.

    >>> list(identification.blocks([]))
    []
    """
    for path in files:
        array = opened(path)
        for begin in range(0, len(array), rows):
            yield np.asarray(array[begin : begin + rows], np.float32)
