"""Lists of pairs to verify: LFW's pairs.txt with its folds, or a CSV; and LFW's accuracy over folds."""

import csv
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from longtail.models import errors

_SAME = {
    **dict.fromkeys(("1", "true", "same", "yes"), True),
    **dict.fromkeys(("0", "false", "different", "no"), False),
}
_HEADER = ("left", "right", "same", "fold")


class Pair(NamedTuple):
    """A line of a list.

    Attributes:
      left: path of an image below the data's root; without its suffix where LFW names it.
      right: of the other one.
      same: whether they are of one identity; None where the list does not say.
      fold: number of the fold, from 0; None where the list has none.
      row: number of its line, from 1.

    Example:

    >>> pair_lists.parse("a/1.png,a/2.png", "pairs.csv")[0].right
    'a/2.png'
    """

    left: str
    right: str
    same: bool | None
    fold: int | None
    row: int


def parse(text: str, where: str) -> list[Pair]:
    """Reads a list of pairs.

    LFW's begins with the number of folds and of pairs of either kind in each, `10<TAB>300`, or the latter alone. Its
    lines are `name n m`, images n and m of one person, and `name n other m`. A CSV has the paths of two images below
    the data's root, and may have `same` (1 or 0) and `fold`; a first line `left,right,same,fold` may name them.

    Args:
      text: of the file.
      where: the file's name, for messages.

    Raises:
      errors.UsageError: no pair, or a line that is none, with its row.

    Example:

    >>> pairs = pair_lists.parse("1\\t1\\nAnn\\t1\\t4\\nAnn\\t2\\tBob\\t1", "pairs.txt")
    >>> pairs[0].left, pairs[0].right, pairs[0].same, pairs[1].right, pairs[1].same
    ('Ann/Ann_0001', 'Ann/Ann_0004', True, 'Bob/Bob_0001', False)
    """
    rows = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    is_lfw = bool(rows) and re.fullmatch(r"\s*\d+(\s+\d+)?\s*", rows[0][1])
    pairs = _lfw(rows, where) if is_lfw else _csv(rows, where)
    if not pairs:
        raise errors.UsageError(f"{where}: no pairs; each line names two images, as LFW's pairs.txt or left,right,same")
    return pairs


def _lfw(rows: list[tuple[int, str]], where: str) -> list[Pair]:
    *folds, each = map(int, rows[0][1].split())
    pairs = []
    for position, (number, line) in enumerate(rows[1:]):
        parts = line.split("\t") if "\t" in line else line.split()
        match parts:
            case [name, one, other] if one.isdigit() and other.isdigit():
                ends, same = ((name, one), (name, other)), True
            case [name, one, another, other] if one.isdigit() and other.isdigit():
                ends, same = ((name, one), (another, other)), name == another
            case _:
                raise errors.UsageError(
                    f"{where}, line {number}: {line!r} is neither 'name n m' nor 'name n other m', as LFW has them"
                )
        left, right = (f"{name}/{name}_{int(image):04d}" for name, image in ends)
        fold = position // (2 * each) if folds and each else None
        pairs.append(Pair(left, right, same, fold, number))
    return pairs


def _csv(rows: list[tuple[int, str]], where: str) -> list[Pair]:
    columns: Sequence[str] = _HEADER
    pairs = []
    for position, (number, line) in enumerate(rows):
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        if position == 0 and {"left", "right"} <= set(map(str.lower, cells)):
            columns = [cell.lower() for cell in cells]
            continue
        named = dict(zip(columns, cells, strict=False))
        same, fold = named.get("same", "").lower(), named.get("fold", "")
        said = (not same or same in _SAME) and (not fold or fold.isdigit())
        if not (said and named.get("left") and named.get("right")):
            raise errors.UsageError(
                f"{where}, line {number}: {line!r} is no left,right[,same[,fold]]: two paths, 1 or 0, and a number"
            )
        pairs.append(Pair(named["left"], named["right"], _SAME.get(same), int(fold) if fold else None, number))
    return pairs


def fold_accuracy(similarity: np.ndarray, same: np.ndarray, folds: np.ndarray) -> dict:
    """Accuracy of each fold at the threshold that is best on the other ones: LFW's figure.

    Args:
      similarity: float [P].
      same: bool [P].
      folds: int [P], each pair's fold.

    Returns:
      `accuracy`, the mean over folds; `accuracy_error`, its standard error (LFW's own, ddof 1; None of one fold);
      `folds`, how many; `thresholds`, of each.

    Raises:
      errors.WorkError: fewer than two folds.

    Example:

    >>> found = pair_lists.fold_accuracy(np.array([0.9, 0.1, 0.8, 0.2]), np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1]))
    >>> found["accuracy"], found["folds"]
    (1.0, 2)
    """
    similarity, same, folds = np.asarray(similarity, np.float64), np.asarray(same, bool), np.asarray(folds)
    numbers = np.unique(folds)
    if len(numbers) < 2:
        raise errors.WorkError("one fold: a threshold is chosen on the others, so two at least are needed")
    thresholds = [_best_threshold(similarity[folds != fold], same[folds != fold]) for fold in numbers]
    right = [
        float(((similarity[folds == fold] >= bar) == same[folds == fold]).mean())
        for fold, bar in zip(numbers, thresholds, strict=True)
    ]
    error = float(np.std(right, ddof=1) / np.sqrt(len(right)))
    return {"accuracy": float(np.mean(right)), "accuracy_error": error, "folds": len(right), "thresholds": thresholds}


def _best_threshold(similarity: np.ndarray, same: np.ndarray) -> float:
    """In the middle between two neighbours: the lowest of the thresholds at which most pairs are judged right."""
    order = np.argsort(similarity, kind="stable")
    values, same = similarity[order], same[order]
    right = np.concatenate([[0], np.cumsum(~same)]) + np.concatenate([np.cumsum(same[::-1])[::-1], [0]])
    edges = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    apart = np.concatenate([[True], values[1:] > values[:-1], [True]])  # equal similarities are judged alike
    return float(edges[np.argmax(np.where(apart, right, -1))])
