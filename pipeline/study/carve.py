"""What a study trains on: the images of a source, read once, and each long-tailed carve <H,T,S> of them."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import logging
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from longtail.components import config
from longtail.components.data import base
from longtail.components.data import images
from longtail.components.data import sources
from longtail.components.rebalancer import census
from longtail.components.rebalancer import rows
from longtail.models import errors
from longtail.models.metrics import retrieval
from longtail.models.training import data as training_data
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.study import sides as sides_lib

log = logging.getLogger("longtail")

_SETTING = re.compile(r"H(\d+)(?:T(\d+))?S(\d+)$")


class Setting(NamedTuple):
    """A carve.

    Attributes:
      head: H, identities that keep all images.
      tail_images: S, images that the others keep.
      tail_classes: T, how many others there are; None: all.
    """

    head: int
    tail_images: int
    tail_classes: int | None = None


def parse(text: str, recipe: recipe_lib.Recipe) -> Setting:
    """Reads "H100S4": 100 identities keep all images, the others 4; of "H100T300S4" there are 300 others.

    Raises:
      errors.UsageError: another form, or a carve that the recipe cannot have.
    """
    match = _SETTING.match(text)
    if not match:
        raise errors.UsageError(
            f"--settings: {text!r} is not H<head identities>S<tail images>, e.g. H100S4, or with the number of tail "
            "identities H100T300S4"
        )
    head, others, tail_images = match.groups()
    setting = Setting(int(head), int(tail_images), None if others is None else int(others))
    rebalance = config.Rebalance(census.CARVE, setting.head, setting.tail_images, setting.tail_classes or 0)
    try:
        recipe_lib.check(dataclasses.replace(recipe, rebalance=rebalance))
    except errors.UsageError as error:
        raise errors.UsageError(f"--settings: {text}: {error}") from error
    if setting.tail_classes is not None and setting.head + setting.tail_classes < 2:
        raise errors.UsageError(f"--settings: {text}: training needs two identities or more")
    return setting


@dataclasses.dataclass(frozen=True)
class Images:
    """All usable images of a source.

    Attributes:
      encoded: object [N] of bytes, JPEG or PNG.
      paths: str [N].
      digests: str [N], sha256 of the files.
      identities: str [N].
      cameras: int [N], -1 where unknown.
      sides: str [N], the side that each one's identity is on.
    """

    encoded: np.ndarray
    paths: np.ndarray
    digests: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray
    sides: np.ndarray

    @classmethod
    def load(
        cls, source: base.Source, side_of: Mapping[str, str], max_pixels: int, where: str, cross_cameras: bool = False
    ) -> "Images":
        """Reads the identities that have a side; what cannot be read or is no image is left out, and the log says so.

        Raises:
          errors.UsageError: of a side that is scored too little could be read; `where` stands before it.
        """
        items = [item for item in source.items() if item.identity in side_of]

        def read(item):
            try:
                found = source.read(item)
                return images.check(found, max_pixels).encoded, hashlib.sha256(found).hexdigest()
            except (images.BadImage, sources.ReadError) as error:
                log.info("left out %s: %s", item.path, error)
                return None

        with concurrent.futures.ThreadPoolExecutor() as pool:
            found = list(pool.map(read, items))
        kept = [(item, *pair) for item, pair in zip(items, found, strict=True) if pair]
        # Copies of a file count once, and never answer for each other.
        fresh = retrieval.distinct([item.identity for item, _, _ in kept], [digest for _, _, digest in kept])
        kept = [one for one, is_fresh in zip(kept, fresh.tolist(), strict=True) if is_fresh]
        loaded = cls(
            np.array([encoded for _, encoded, _ in kept], object),
            np.array([item.path for item, _, _ in kept]),
            np.array([digest for _, _, digest in kept]),
            np.array([item.identity for item, _, _ in kept]),
            np.array([item.camera for item, _, _ in kept], np.int64),
            np.array([side_of[item.identity] for item, _, _ in kept]),
        )
        for side in set(side_of.values()) - {sides_lib.TRAINING}:
            there = loaded.of(side)
            seen = zip(there.identities.tolist(), there.cameras.tolist(), strict=True)
            sides_lib.require_matches(seen, f"{where}: of what is readable, {side} side", cross_cameras)
        return loaded

    def of(self, side: str) -> "Images":
        """The images of a side."""
        there = self.sides == side
        return Images(*(getattr(self, field.name)[there] for field in dataclasses.fields(self)))

    def most_images(self) -> int:
        """Distinct images of the identity that has most of them."""
        pairs = set(zip(self.identities.tolist(), self.digests.tolist(), strict=True))
        return max(collections.Counter(identity for identity, _ in pairs).values())

    def carve(
        self, setting: Setting, seed: int, tail_cameras: int = 0, yaw_pattern: str = ""
    ) -> tuple[training_data.TrainingSet, list[str]]:
        """The training set of <H,T,S>, as the rebalancer makes it, `seed` choosing identities and images.

        With `tail_cameras` the images of a tail identity are all of so many cameras, which `seed` chooses too.

        Returns:
          The images, and the names of their classes in the order of class ids.
        """
        by_identity: dict[str, list[int]] = {}
        trained = np.flatnonzero(self.sides == sides_lib.TRAINING)
        for row in trained:
            by_identity.setdefault(self.identities[row], []).append(row)
        if setting.tail_classes is not None:
            kept = set(census.ranked(self._counts(by_identity), seed)[: setting.head + setting.tail_classes])
            by_identity = {identity: group for identity, group in by_identity.items() if identity in kept}
        strategy = census.NONE if setting.tail_classes == 0 else census.CARVE
        plan = census.plan(
            self._counts(by_identity),
            strategy,
            head=setting.head,
            tail_images=setting.tail_images,
            tail_cameras=tail_cameras,
            seed=seed,
            cameras={name: collections.Counter(self.cameras[group].tolist()) for name, group in by_identity.items()},
        )
        classes = rows.by_identity(plan)
        row_of = {(self.identities[row], self.paths[row]): row for row in trained}
        taken, labels = [], []
        for identity, group in sorted(by_identity.items()):
            files = [(self.paths[row].encode(), self.digests[row].encode(), int(self.cameras[row])) for row in group]
            chosen = rows.choose((identity.encode(), files), {"classes": classes}, seed)
            for (path, _, _), _ in chosen:
                taken.append(row_of[identity, path.decode()])
                labels.append(classes[identity.encode()][0])
        images_of = np.array([one["images"] for one in plan["classes"]], np.int64)
        yaw = training_data.yaw_of(self.paths[taken].tolist(), yaw_pattern)
        training_set = training_data.TrainingSet(self.encoded[taken], np.array(labels, np.int64), images_of, yaw)
        return training_set, [one["identity"] for one in plan["classes"]]

    def _counts(self, by_identity: Mapping[str, list[int]]) -> dict[str, tuple[int, int]]:
        return {identity: (len(set(self.digests[group])), len(group)) for identity, group in by_identity.items()}
