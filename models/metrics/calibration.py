"""From which similarity on two images are taken for the same: thresholds by false match rate."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from longtail.models.metrics import comparisons
from longtail.models.metrics import verification


def calibrate(
    embedding: np.ndarray,
    identities: Sequence | np.ndarray,
    digests: Sequence[str | bytes] | np.ndarray,
    rates: Sequence[float] = verification.RATES,
    draws: int = 500,
) -> dict[str, Any]:
    """Thresholds of the similarities of all pairs of images, each file of an identity once.

    Args:
      embedding: float [N, d] of images of people the model was not trained on.
      identities: [N] integers, str or bytes.
      digests: [N], equal for the same file.
      rates: false match rates; what the pairs cannot support by the rule of 30 is left out.
      draws: of the bootstrap over identities.

    Returns:
      `images`, `identities`, `same` and `different` (pairs), `smallest_fmr`, and `thresholds`: for each rate that is
      supported `fmr`, `threshold`, its 95 % `interval`, and `fnmr` with its `fnmr_interval`.

    Raises:
      ValueError: shapes do not fit, or a value is not finite.
      errors.WorkError: no pair of the same or of different identities.

    Example: sixteen different pairs support no rate at all.

    >>> found = calibration.calibrate(np.eye(12)[:8], np.arange(8) // 4, np.arange(8).astype(str), rates=[1.0, 0.1])
    >>> found["different"], found["thresholds"]
    (16, [])
    """
    keys = list(zip(np.asarray(identities).tolist(), np.asarray(digests).tolist(), strict=True))
    rows = sorted({key: row for row, key in reversed(list(enumerate(keys)))}.values())
    pairs = comparisons.AllPairs(np.asarray(embedding)[rows], np.asarray(identities)[rows])
    found = verification.evaluate(pairs, rates, draws)
    return {
        "images": len(rows),
        "identities": found["identities"],
        "same": found["same"],
        "different": found["different"],
        "smallest_fmr": found["smallest_fpr"],
        "thresholds": [_threshold(point) for point in found["points"] if point["threshold"] is not None],
    }


def _threshold(point: dict[str, Any]) -> dict[str, Any]:
    accepted = point["tpr_interval"]
    return {
        "fmr": point["fpr"],
        "threshold": point["threshold"],
        "interval": point["threshold_interval"],
        "fnmr": point["fnmr"],
        "fnmr_interval": accepted and (1 - accepted[1], 1 - accepted[0]),
    }
