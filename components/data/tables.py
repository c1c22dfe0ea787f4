"""Numbers of a span's images as NumPy columns. Loads no TensorFlow, so that what compares spans loads none."""

import dataclasses

import numpy as np

from longtail.components.data import features

COLUMNS = (*features.NUMBERS, features.FORMAT)  # of `Table.values`; a format is 1 for JPEG, 0 for PNG

_EVERYTHING = np.uint64(2**64 - 1)
_NOT_GIVEN = np.zeros(0)


@dataclasses.dataclass(frozen=True)
class Table:
    """Numbers of a span's images, of all or of those whose digest is at most `limit`; and all its identities.

    Attributes:
      identity: uint64 [N], hash of the identity.
      folder: uint64 [N], hash of the identity's top folder: of `alphabet` for `alphabet/character`; 0 without one.
      digest: uint64 [N], of the file's content; equal files have equal ones.
      values: float32 [N, len(COLUMNS)], NaN where a feature is missing.
      limit: the largest digest that would have been taken.
      names: uint64 [M], hashes of all identities of the span, ascending; of the rows where not given.
      counts: int32 [M], how many images each has, those beyond the limit with them.
      folders: uint64 [M], as `folder`, of each.
    """

    identity: np.ndarray
    folder: np.ndarray
    digest: np.ndarray
    values: np.ndarray
    limit: np.uint64 = _EVERYTHING
    names: np.ndarray = dataclasses.field(default_factory=lambda: _NOT_GIVEN)
    counts: np.ndarray = dataclasses.field(default_factory=lambda: _NOT_GIVEN)
    folders: np.ndarray = dataclasses.field(default_factory=lambda: _NOT_GIVEN)

    def __post_init__(self):
        """Counts the identities of the rows."""
        if self.names is _NOT_GIVEN:
            names, first, counts = np.unique(self.identity, return_index=True, return_counts=True)
            found = {"names": names, "counts": counts.astype(np.int32), "folders": self.folder[first]}
            for name, value in found.items():
                object.__setattr__(self, name, value)  # the one way into a frozen dataclass

    def below(self, limit: np.uint64) -> "Table":
        """The part with digests up to `limit`, so that two spans' tables are of the same range."""
        kept = self.digest <= limit
        columns = {name: getattr(self, name)[kept] for name in ("identity", "folder", "digest", "values")}
        return dataclasses.replace(self, **columns, limit=min(self.limit, limit))

    def without(self, identity: np.uint64) -> "Table":
        """All but the rows, and the count, of one identity, given by its hash."""
        rows, names = self.identity != identity, self.names != identity
        columns = {name: getattr(self, name)[rows] for name in ("identity", "folder", "digest", "values")}
        return dataclasses.replace(
            self, **columns, names=self.names[names], counts=self.counts[names], folders=self.folders[names]
        )
