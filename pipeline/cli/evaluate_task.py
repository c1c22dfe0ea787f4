"""What `longtail evaluate` ranks or compares: the images that the data gives, and the protocol that fits them."""

from typing import NamedTuple

from longtail.models import errors
from longtail.models.metrics import protocols
from longtail.pipeline.cli import evaluate_images


class Task(NamedTuple):
    """What is ranked against what."""

    protocol: protocols.Protocol
    queries: list[evaluate_images.Image]
    gallery: list[evaluate_images.Image] | None  # None: every query against all the others

    @property
    def images(self) -> list[evaluate_images.Image]:
        return self.queries + (self.gallery or [])


def choose(
    data: str, query: str, gallery: str, layout: str, camera_pattern: str, asked: protocols.Protocol | None
) -> Task:
    """Lists the images, and chooses the protocol where none is asked for.

    Raises:
      errors.UsageError: the protocol needs queries and a gallery, and the data does not tell them apart.
    """
    if not data:
        asked_for, known = (evaluate_images.listed(uri, layout, camera_pattern) for uri in (query, gallery))
        return Task(asked or protocols.QUERY_GALLERY, asked_for, known)
    listed = evaluate_images.listed(data, layout, camera_pattern)
    if asked is protocols.VERIFICATION:
        return Task(asked, listed, None)
    queries, others = ([image for image in listed if image.item.split == split] for split in ("query", "gallery"))
    if queries and asked is not protocols.RETRIEVAL:
        return Task(asked or protocols.QUERY_GALLERY, queries, others)
    if asked is protocols.IDENTIFICATION:
        from longtail.pipeline.cli import evaluate_pairs

        return Task(asked, *evaluate_pairs.divide(listed))
    if asked is protocols.QUERY_GALLERY:
        raise errors.UsageError(
            f"--protocol {asked.name}: {data} does not tell queries from gallery; give --query and --gallery, or take "
            f"{protocols.RETRIEVAL.name}"
        )
    return Task(asked or protocols.RETRIEVAL, queries + others if queries else listed, None)


def check(task: Task) -> None:
    """Raises errors.UsageError where all images are of one identity, or one has no camera to cross."""
    evaluate_images.check_identities(task.images)
    unknown = sum(image.item.camera < 0 for image in task.images)
    if task.protocol.cross_camera and unknown:
        raise errors.UsageError(
            f"{unknown} of {len(task.images)} images have no camera to cross: give "
            r"--camera-pattern, such as '_c(\d+)', that finds it in every file's name"
        )
