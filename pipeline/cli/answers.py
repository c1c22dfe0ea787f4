"""What `longtail identify` and `verify` answer from a threshold on: which one counts, and who is unknown below it."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any
from typing import NamedTuple

import typer

from longtail.models import errors
from longtail.models.export import signatures

if TYPE_CHECKING:
    from longtail.serving import client
    from longtail.serving import gallery as gallery_lib
    from longtail.serving import thresholds

ThresholdOption = Annotated[
    float | None,
    typer.Option(help="Similarity, a cosine, from which on two images are one identity's.", show_default=False),
]
FmrOption = Annotated[
    float | None,
    typer.Option(
        help="Or the calibrated one for this false match rate: how often two strangers' images are taken for one's.",
        show_default=False,
    ),
]


class Answer(NamedTuple):
    """Who an image shows.

    Attributes:
      identity: None where it is nobody that the gallery knows.
      nearest: whom it is most similar to, whoever it is.
    """

    identity: str | None
    nearest: "gallery_lib.Nearest"

    def __str__(self) -> str:
        near = self.nearest
        behind = f", {near.margin:.4f} ahead of {near.second}" if near.second is not None else ""
        if self.identity is None:
            return f"unknown (nearest is {near.identity} at {near.similarity:.4f})"
        return f"{self.identity} ({near.similarity:.4f}{behind})"


def chosen(
    threshold: float | None, fmr: float | None, calibrated: Sequence[dict[str, Any]], where: str
) -> "thresholds.Threshold | None":
    """The threshold that is asked for, None where none is.

    Args:
      threshold: as given.
      fmr: false match rate, as given.
      calibrated: of the gallery or the model.
      where: whose those are, for messages.

    Raises:
      errors.UsageError: both are given, the threshold is no cosine, or there is none for the rate.
    """
    from longtail.serving import thresholds

    if threshold is not None and fmr is not None:
        raise errors.UsageError("--threshold and --fmr both say from which similarity on; give one of them")
    if threshold is not None:
        return thresholds.given(threshold)
    return None if fmr is None else thresholds.choose(calibrated, fmr, where)


def answers(
    people: "gallery_lib.Gallery", bar: "thresholds.Threshold", embedded: "client.Embedded"
) -> list[Answer | None]:
    """Who is on each image, by the identity's nearest one; None of an image that could not be embedded."""
    found = zip(embedded.status.tolist(), people.nearest(embedded.embedding), strict=True)
    return [
        Answer(near.identity if near.similarity >= bar.value else None, near) if code == signatures.STATUS_OK else None
        for code, near in found
    ]


def with_answers(
    told: dict[str, Any], bar: "thresholds.Threshold", found: Sequence[Answer | None]
) -> dict[str, Any]:
    """What `identify --json` prints, with the threshold and each image's answer."""
    for image, answer in zip(told["images"], found, strict=True):
        image["answer"] = None if answer is None else answer.nearest.answer(bar.value)
    return {**told, "threshold": dataclasses.asdict(bar)}
