"""Two sides' shares of common, equally wide buckets: for eyes, where the gate's own distances take fuller ones."""

import numpy as np

BUCKETS = 20
_FAR = 0.5  # percent of a side at either end that is drawn in the outermost bucket, so that one image stretches nothing


def common(current: np.ndarray, baseline: np.ndarray) -> dict[str, list[float]]:
    """Shares of both sides.

    Args:
      current: values of one side, [N]; NaN is left out.
      baseline: of the other, [M].

    Returns:
      `ends`, one more than there are buckets, and the shares `current` and `baseline`, which sum to 1, or are all 0
      where a side is empty.
    """
    sides = [np.asarray(side, float) for side in (current, baseline)]
    sides = [side[np.isfinite(side)] for side in sides]
    bounds = [np.percentile(side, (_FAR, 100 - _FAR)) for side in sides if len(side)]
    low = min((bound[0] for bound in bounds), default=0.0)
    high = max((bound[1] for bound in bounds), default=0.0)
    ends = np.linspace(low, high, BUCKETS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    counts = [np.histogram(np.clip(side, ends[0], ends[-1]), ends)[0] / max(1, len(side)) for side in sides]
    return {"ends": ends.tolist(), "current": counts[0].tolist(), "baseline": counts[1].tolist()}
