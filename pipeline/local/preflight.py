"""What the recipe and a list of the images show to be impossible, said before a run makes or reads anything."""

import collections
import dataclasses
import difflib

from longtail.components import config
from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components.data import features
from longtail.components.data import identity_counts
from longtail.components.data import sources
from longtail.components.data import splits
from longtail.components.image_example_gen import division
from longtail.components.rebalancer import census
from longtail.components.span_window import windows
from longtail.models import errors
from longtail.models.feature_transfer import statistics
from longtail.models.metrics import protocols
from longtail.pipeline import recipe as recipe_lib


def check(recipe: recipe_lib.Recipe, source: str, span: int, registry: str) -> None:
    """Refuses images that cannot be trained on or scored as the recipe has it. O(files); reads no image.

    Files are taken for distinct images that all can be read: what only reading shows, the steps of the run refuse.

    Args:
      recipe: in effect.
      source: where the images are.
      span: the run's own.
      registry: folder of accepted spans, which need not be there: their identities keep their sides, and the recipe's
        window of them is trained on too.

    Raises:
      errors.UsageError: no images, too few identities, no query that has a match, no head class for a vanilla cloud
        or a transfer, no tail class for a transfer, or a span that is withdrawn.
      errors.WorkError: images of an earlier span of the window are gone.
    """
    registry_lib.check_not_withdrawn(registry, span)
    data, protocol = recipe.data, protocols.PROTOCOLS[recipe.evaluation.protocol]
    opened = sources.open_source(source, data.layout, data.camera_pattern, span)
    divided = division.divide(opened, registry, data.eval_fraction, data.seed)
    items, held_out = divided.listing.items, divided.held_out
    if lacking := splits.lacking(items, held_out, protocol):
        raise errors.UsageError(f"{source}: {lacking}")
    trained = [item for item in items if splits.output_split(item, held_out) == features.TRAIN_SPLIT]
    counts = collections.Counter(item.identity for item in trained) + _trained_before(registry, span, data.window)
    files = {identity: (count, count) for identity, count in counts.items()}
    if recipe.rebalance.strategy == census.CARVE:
        config.check_cameras(recipe.rebalance.tail_cameras, (item.camera for item in trained))
    # What is checked below are the head's images, and that there is a tail: its cameras are not needed for that.
    plan = census.plan(files, **dataclasses.asdict(dataclasses.replace(recipe.rebalance, tail_cameras=0)))
    census.check_cloud(plan, recipe.leap.variant, recipe.leap.head_threshold)
    _check_gallery(recipe.evaluation.gallery)
    if recipe.transfer.variant != "none":
        statistics.check_classes([one["images"] for one in plan["classes"]], recipe.leap.head_threshold)


def _check_gallery(asked: str) -> None:
    """Refuses a folder of whom the gallery is to be that is not there, or in which there is no image."""
    if asked in config.GALLERIES:
        return
    near = difflib.get_close_matches(asked.lower(), config.GALLERIES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"give {', '.join(config.GALLERIES)}, or where images are"
    try:
        sources.open_source(sources.absolute(asked)).listing(min_identities=1)
    except errors.UsageError as error:
        raise errors.UsageError(f"evaluation.gallery: {str(error).partition(';')[0]}; {hint}") from None


def _trained_before(registry: str, span: int, window: str) -> collections.Counter[str]:
    """Images of each identity that the earlier spans of a window train on."""
    spans, withdrawn = windows.earlier(registry, span, window), ledger.read(registry).withdrawals
    windows.check(spans)
    counts: collections.Counter[str] = collections.Counter()
    for one in spans:
        found = identity_counts.read(one.examples)[features.TRAIN_SPLIT]
        counts.update({identity: count for identity, count in found.items() if identity not in withdrawn})
    return counts
