"""Tables of spans made by number: which identities, how many images of each, which of them new."""

import numpy as np

from longtail.components.data import tables


def table(identities, each, start=0, folder=0):
    """A Table of `each` images of the identities that are numbered, all images different from `start` on."""
    identity = np.repeat(np.array(identities, np.uint64), each)
    folders = np.full(len(identity), folder, np.uint64)
    digest = np.arange(start, start + len(identity)).astype(np.uint64)
    return tables.Table(identity, folders, digest, np.zeros((len(identity), len(tables.COLUMNS)), np.float32))


def joined(*parts):
    columns = ("identity", "folder", "digest", "values")
    return tables.Table(*(np.concatenate([getattr(one, name) for one in parts]) for name in columns))
