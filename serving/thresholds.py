"""From which similarity on two images are one identity's: what a calibration wrote beside a model or into a gallery."""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from longtail.models import errors
from longtail.models.export import signatures

SAME = "same"
DIFFERENT = "different"
UNDECIDED = "undecided"


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A similarity that decides. It belongs to the version of the model it was measured with.

    Attributes:
      value: "same" is said from here on.
      low: lower end of its 95 % interval; `value` where it was given and not measured.
      high: upper end.
      fmr: the false match rate it was measured for, None where it was given.
    """

    value: float
    low: float
    high: float
    fmr: float | None = None

    def __str__(self) -> str:
        if self.fmr is None:
            return f"threshold {self.value:.4f}"
        return f"threshold {self.value:.4f} ({self.low:.4f} to {self.high:.4f}) at a false match rate of {self.fmr:g}"

    def judge(self, similarity: float) -> str:
        """SAME, DIFFERENT, or UNDECIDED within the interval."""
        if self.low <= similarity < self.high:
            return UNDECIDED
        return SAME if similarity >= self.value else DIFFERENT


def given(value: float) -> Threshold:
    """The threshold that a user names.

    Raises:
      UsageError: it is no cosine.
    """
    if not -1 <= value <= 1:
        raise errors.UsageError(f"threshold {value:g}: a similarity is a cosine, from -1 to 1")
    return Threshold(value, value, value)


def of_model(version_folder: str) -> list[dict[str, Any]]:
    """The calibrated thresholds of a version folder of a model.

    Raises:
      UsageError: it has none, or they cannot be read.
    """
    path = os.path.join(version_folder, signatures.THRESHOLDS_FILE)
    try:
        with tf.io.gfile.GFile(path) as file:
            return list(json.loads(file.read())["thresholds"])
    except tf.errors.NotFoundError as error:
        raise errors.UsageError(
            f"{version_folder} has no thresholds ({signatures.THRESHOLDS_FILE}); make them with longtail calibrate, or "
            "give a threshold"
        ) from error
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise errors.UsageError(f"{path}: no thresholds can be read; make them anew with longtail calibrate") from error


def choose(calibrated: Sequence[dict[str, Any]], fmr: float, where: str) -> Threshold:
    """The threshold for a false match rate.

    Args:
      calibrated: of a model or a gallery.
      fmr: the rate asked for.
      where: whose thresholds they are, for messages.

    Raises:
      UsageError: it is not calibrated for that rate, or what it holds is no threshold.
    """
    read = (_read(one, where) for one in calibrated)
    found = {one.fmr: one for one in read if one.fmr is not None}
    if not found:
        raise errors.UsageError(
            f"{where} has no thresholds: its data supported no false match rate; give a threshold, or calibrate it on "
            "more people"
        )
    if fmr not in found:
        rates = ", ".join(f"{rate:g}" for rate in sorted(found, reverse=True))
        raise errors.UsageError(f"false match rate {fmr:g}: {where} is calibrated for {rates}; take one of them")
    return found[fmr]


def _read(one: Any, where: str) -> Threshold:
    try:
        value, fmr = float(one["threshold"]), float(one["fmr"])
        low, high = map(float, one["interval"] or (value, value))
    except (KeyError, TypeError, ValueError) as error:
        raise errors.UsageError(f"{where} has a threshold that cannot be read: {one}; calibrate anew") from error
    return Threshold(value, min(low, value), max(high, value), fmr)
