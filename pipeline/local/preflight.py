"""What the recipe and a list of the images show to be impossible, said before a run makes or reads anything."""

import collections
import dataclasses

from longtail.components.data import features
from longtail.components.data import sources
from longtail.components.data import splits
from longtail.components.rebalancer import census
from longtail.models import errors
from longtail.models.feature_transfer import statistics
from longtail.models.metrics import protocols
from longtail.pipeline import recipe as recipe_lib


def check(recipe: recipe_lib.Recipe, source: str, span: int) -> None:
    """Refuses images that cannot be trained on or scored as the recipe has it. O(files); reads no image.

    Files are taken for distinct images that all can be read: what only reading shows, the steps of the run refuse.

    Raises:
      errors.UsageError: no images, too few identities, no query that has a match, no head class for a vanilla cloud
        or a transfer, no tail class for a transfer.
    """
    data, protocol = recipe.data, protocols.PROTOCOLS[recipe.evaluation.protocol]
    items = sources.open_source(source, data.layout, data.camera_pattern, span).items()
    held_out = splits.held_out_of(items, data.eval_fraction, data.seed)
    if lacking := splits.lacking(items, held_out, protocol):
        raise errors.UsageError(f"{source}: {lacking}")
    trained = (item.identity for item in items if splits.output_split(item, held_out) == features.TRAIN_SPLIT)
    files = {identity: (count, count) for identity, count in collections.Counter(trained).items()}
    plan = census.plan(files, **dataclasses.asdict(recipe.rebalance))
    census.check_cloud(plan, recipe.leap.variant, recipe.leap.head_threshold)
    if recipe.transfer.variant != "none":
        statistics.check_classes([one["images"] for one in plan["classes"]], recipe.leap.head_threshold)
