"""Gives two spans' statistics common buckets, where TFDV has ten equally wide ones that one odd image stretches."""

from collections.abc import Sequence

from tensorflow_metadata.proto.v0 import statistics_pb2

from longtail.components.drift import buckets


def align(
    current: statistics_pb2.DatasetFeatureStatistics,
    baseline: statistics_pb2.DatasetFeatureStatistics,
) -> None:
    """Gives the numbers that both sides have the same buckets, in place of equally wide ones.

    The buckets are numbered: their ends are 0, 1, 2 and so on, not the feature's values. A feature
    that one side lacks is left as it is.

    Args:
      current: statistics of the new span, changed in place.
      baseline: of the accepted span, changed in place.
    """
    others = {tuple(feature.path.step): feature for feature in baseline.features}
    for feature in current.features:
        other = others.get(tuple(feature.path.step))
        if other is None:
            continue
        sides = [_quantiles(feature), _quantiles(other)]
        if not all(sides):
            continue
        for side, shares in zip((feature, other), buckets.common_shares(*sides), strict=True):
            _replace(side, shares)


def _quantiles(feature: statistics_pb2.FeatureNameStatistics) -> list[tuple[float, float, float]]:
    """Returns a feature's quantiles; none where it is no number or has no value."""
    if not feature.HasField("num_stats"):
        return []
    for histogram in feature.num_stats.histograms:
        if histogram.type == statistics_pb2.Histogram.QUANTILES:
            return [
                (bucket.low_value, bucket.high_value, bucket.sample_count)
                for bucket in histogram.buckets
                if bucket.sample_count > 0
            ]
    return []


def _replace(feature: statistics_pb2.FeatureNameStatistics, shares: Sequence[float]) -> None:
    """Puts the common buckets where TFDV looks: into the equally wide histogram."""
    for histogram in feature.num_stats.histograms:
        if histogram.type != statistics_pb2.Histogram.STANDARD:
            continue
        del histogram.buckets[:]
        for index, share in enumerate(shares):
            histogram.buckets.add(
                low_value=index,
                high_value=index + 1,
                sample_count=share * feature.num_stats.common_stats.num_non_missing,
            )
