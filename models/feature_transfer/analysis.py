"""The analyses of the paper as figures: weight norms, closed-set accuracy, estimates of centres, coverage."""

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from longtail.models import errors


def norms(lengths: np.ndarray, is_head: np.ndarray) -> dict[str, float]:
    """Mean length [C] of the class weights of head and tail classes; a kind without classes is left out.

    Example:

    >>> analysis.norms(np.array([5.0, 2.0]), is_head=np.array([True, False]))
    {'head': 5.0, 'tail': 2.0}
    """
    return {kind: float(lengths[its].mean()) for kind, its in (("head", is_head), ("tail", ~is_head)) if its.any()}


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 [N, C] of float [N, C].

    Example:

    >>> analysis.softmax(np.array([[0.0, np.log(3.0)]]))
    array([[0.25, 0.75]])
    """
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def nearest(embedded: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The class of the centre at the smallest angle: int64 [N] of embeddings [N, d] and centres [C, d].

    Example:

    >>> analysis.nearest(np.array([[5.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    array([1])
    """
    return np.argmax(embedded @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T, axis=1)


def closed_set(answers: Mapping[str, np.ndarray], labels: np.ndarray, is_head: np.ndarray) -> dict[str, dict]:
    """How often images of known classes are told right.

    Args:
      answers: by a name each, int [N], the classes that the images were taken for.
      labels: int [N], their classes.
      is_head: bool [C].

    Returns:
      "head" and "tail", of each `images` and, by the names, shares; a kind without images is left out.

    Example:

    >>> analysis.closed_set({"nearest": np.array([0, 1])}, np.array([0, 0]), is_head=np.array([False, True]))
    {'tail': {'images': 2, 'nearest': 0.5}}
    """
    found: dict[str, dict[str, float]] = {}
    for kind, its in (("head", is_head[labels]), ("tail", ~is_head[labels])):
        if its.any():
            shares = {name: float((each[its] == labels[its]).mean()) for name, each in answers.items()}
            found[kind] = {"images": int(its.sum()), **shares}
    return found


def coverage(confidence: np.ndarray, is_right: np.ndarray, precision: float) -> float:
    """The largest share of answers, the surest first, of which a share of `precision` is right.

    Args:
      confidence: float [N].
      is_right: bool [N].
      precision: e.g. 0.99.

    Example: of the two surest answers both are right, of the three two thirds.

    >>> analysis.coverage(np.array([0.9, 0.8, 0.5, 0.2]), np.array([True, True, False, False]), precision=0.99)
    0.5
    """
    order = np.argsort(-confidence, kind="stable")
    kept = np.cumsum(is_right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(kept >= precision)
    return float(good[-1] + 1) / len(order) if len(good) else 0.0


def centre_errors(
    rich: np.ndarray, mirrored: np.ndarray, labels: np.ndarray, sizes: Sequence[int], seed: int = 0
) -> list[dict[str, float]]:
    """How far centres of few images lie from those of all, as a share of the mean distance between classes.

    Args:
      rich: float [N, n], g of images.
      mirrored: float [N, n], g of their mirror images.
      labels: int [N].
      sizes: how many images a centre is of; a class with no more than the largest takes no part.
      seed: which.

    Returns:
      For each size `images`, and the mean over classes of `pick_one` (one of them), `average_all` (their mean) and
      `average_flip` (of their mirror images too).

    Raises:
      errors.UsageError: fewer than two classes have enough images.

    Example: two classes 10 apart, each image 1 from its centre.

    >>> rich, labels = np.array([[-1.0], [1.0], [9.0], [11.0]]), np.array([0, 0, 1, 1])
    >>> analysis.centre_errors(rich, -rich, labels, sizes=[1])[0]["pick_one"]
    0.1
    """
    names, counts = np.unique(labels, return_counts=True)
    chosen = names[counts > max(sizes)]
    if len(chosen) < 2:
        raise errors.UsageError(
            f"{len(chosen)} identities have more than {max(sizes)} images, two are needed: the others are too small to "
            "tell a centre of few images from one of all"
        )
    full = np.stack([rich[labels == label].mean(axis=0, dtype=np.float64) for label in chosen])
    apart = np.linalg.norm(full[:, np.newaxis] - full, axis=2).sum() / (len(full) * (len(full) - 1))
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(np.flatnonzero(labels == label)) for label in chosen]
    found = []
    for size in sizes:
        rows = [order[:size] for order in orders]
        estimates = {
            "pick_one": [rich[its[0]] for its in rows],
            "average_all": [rich[its].mean(axis=0) for its in rows],
            "average_flip": [0.5 * (rich[its].mean(axis=0) + mirrored[its].mean(axis=0)) for its in rows],
        }
        errors_of = {name: np.linalg.norm(np.stack(its) - full, axis=1).mean() for name, its in estimates.items()}
        found.append({"images": size, **{name: float(error / apart) for name, error in errors_of.items()}})
    return found
