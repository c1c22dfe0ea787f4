"""Who is trained on, whom settings are chosen on and who is scored: the three sides of a study, divided by group."""

import collections
import re
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from longtail.components import config
from longtail.components.data import base
from longtail.components.data import splits
from longtail.models import errors

TRAINING, VALIDATION, TEST = "training", "validation", "test"


def divide(identities: Iterable[str], data: config.Data, study: config.Study) -> dict[str, str]:
    """Identity -> its side, which hangs on the names and `data.seed` alone; a group stands whole on one side.

    Groups are ranked by a hash: the first `data.eval_fraction` of them are the test side, of the others
    `study.validation_fraction` the validation side; each side has two at least where there are enough for that.

    Raises:
      errors.UsageError: an identity that `study.group_pattern` does not find, or too few groups.
    """
    group_of = {identity: _group(identity, study.group_pattern) for identity in identities}
    ranked = sorted({(splits.unit_hash(data.seed, group), group) for group in group_of.values()})
    sides = 3 if study.validation_fraction else 2
    if len(ranked) < sides:
        raise errors.UsageError(
            f"--data: {len(ranked)} groups of identities, {sides} sides need {sides} or more: add others, or change "
            "study.group_pattern (and study.validation_fraction, 0 for two sides)"
        )
    least = 2 if len(ranked) >= 2 * sides else 1
    tested = _share(len(ranked), data.eval_fraction, least, left=(sides - 1) * least)
    validated = _share(len(ranked) - tested, study.validation_fraction, least, left=least) if sides == 3 else 0
    names = [TEST] * tested + [VALIDATION] * validated + [TRAINING] * (len(ranked) - tested - validated)
    side_of = {group: side for (_, group), side in zip(ranked, names, strict=True)}
    return {identity: side_of[group] for identity, group in group_of.items()}


def _group(identity: str, pattern: str) -> str:
    match = re.search(pattern, identity) if pattern else None
    if pattern and (match is None or match.group(1) is None):
        raise errors.UsageError(f"study.group_pattern: {pattern!r} finds no group in the identity {identity!r}")
    return match.group(1) if match else identity


def _share(groups: int, fraction: float, least: int, left: int) -> int:
    return min(max(round(groups * fraction), least), groups - left)


def check(
    items: Sequence[base.Item],
    side_of: Mapping[str, str],
    carves: Mapping[str, tuple[int, int, int | None]],
    cross_cameras: bool = False,
    tail_cameras: int = 0,
) -> None:
    """Refuses sides that cannot be trained on or scored by, before any image is read.

    Args:
      items: all images.
      side_of: as `divide` returns it.
      carves: setting -> (head identities, tail images, tail identities or None for all others).
      cross_cameras: an image by the query's own camera is no answer.
      tail_cameras: `rebalance.tail_cameras`.

    Raises:
      errors.UsageError: the side, and what it lacks.
    """
    for side in sorted({VALIDATION, TEST} & set(side_of.values())):
        seen = [(item.identity, item.camera) for item in items if side_of[item.identity] == side]
        require_matches(seen, f"--data: {side} side", cross_cameras)
    config.check_cameras(tail_cameras, (item.camera for item in items if side_of[item.identity] == TRAINING))
    trained = sum(side == TRAINING for side in side_of.values())
    for setting, (head, _, others) in carves.items():
        if trained < 2 or head > trained or (head == trained and others != 0):
            raise errors.UsageError(f"--settings: {setting} of {trained} training identities leaves no tail")
        asked = head + (others or 0)
        if asked > trained:
            raise errors.UsageError(f"--settings: {setting} asks for {asked} training identities of {trained}")


def require_matches(seen: Iterable[tuple[str, int]], where: str, cross_cameras: bool = False) -> None:
    """Refuses images to score by, (identity, camera) each, of whose identities fewer than two have two that match."""
    counted = collections.Counter(identity for identity, _ in (set(seen) if cross_cameras else seen))
    found = sum(images > 1 for images in counted.values())
    if found < 2:
        least = "images of two cameras" if cross_cameras else "two images or more"
        raise errors.UsageError(f"{where}: {found} identities with {least}, two are needed to score by")


def parse_score(texts: Iterable[str]) -> dict[str, str]:
    """Reads NAME=PATH, each name once.

    Raises:
      errors.UsageError: another form, a name twice, or no such path.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not name or not path or name in found:
            raise errors.UsageError(f"--score {text!r}: write NAME=PATH, each name once")
        found[name] = path
    return found


def unseen(
    items: Sequence[base.Item], known: Collection[str], where: str, cross_cameras: bool = False
) -> tuple[dict[str, str], int]:
    """The identities of further data that took no part, all of them to be tested, and how many others are left out.

    Raises:
      errors.UsageError: fewer than two of them have two images that match.
    """
    names = {item.identity for item in items}
    seen = [(item.identity, item.camera) for item in items if item.identity not in known]
    require_matches(seen, f"{where}, not in --data", cross_cameras)
    return dict.fromkeys(names - set(known), TEST), len(names & set(known))
