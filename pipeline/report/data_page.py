"""One HTML page of what is in a source of images: what `templates/data.html` is filled in with."""

import collections
from typing import Any

from longtail.components.data import base
from longtail.components.data import images
from longtail.components.data import inspection
from longtail.models import errors
from longtail.models import pictures
from longtail.pipeline.report import pages

_IDENTITIES, _GROUPS, _ROWS = 24, 12, 200  # that are shown


def render(found: inspection.Inspection, warnings: list[str], source: base.Source, where: str) -> str:
    """The page."""
    census = found.census()
    first: dict[str, inspection.Seen] = {}
    for one in found.seen:
        first.setdefault(one.item.identity, one)
    most, least = list(census)[: _IDENTITIES // 2], list(census)[_IDENTITIES // 2 :][-_IDENTITIES // 2 :]
    return pages.render(
        "data.html",
        title=f"What is in {where}",
        counts=counts(found),
        warnings=[errors.shown(line) for line in warnings],
        histogram=sorted(collections.Counter(census.values()).items()),
        sides=[
            (name, [_figure(first[identity], source, f"{identity} ({census[identity]})") for identity in identities])
            for name, identities in (("Most images", most), ("Fewest images", least))
            if identities
        ],
        repeated=[
            (name, len(groups), [_group(group, source) for group in groups[:_GROUPS]])
            for name, groups in (("under more than one identity", found.contradictions()), ("copied", found.copies()))
            if groups
        ],
        lists=[
            (name, len(rows), [(errors.shown(path), reason) for path, reason in rows[:_ROWS]])
            for name, rows in (
                ("Set aside", found.quarantined), ("Left out by the layout", found.dropped), ("Ignored", found.ignored)
            )
            if rows
        ],
    )  # fmt: skip


def counts(found: inspection.Inspection) -> dict[str, int]:
    """How many of everything."""
    return {
        "images": len(found.seen),
        "identities": len(found.census()),
        "quarantined": len(found.quarantined),
        "dropped": len(found.dropped),
        "ignored": len(found.ignored),
        "copies": sum(len(group) - 1 for group in found.copies()),
        "contradictions": len(found.contradictions()),
        "pairs": found.pairs,
    }


def _figure(one: inspection.Seen, source: base.Source, said: str) -> dict[str, Any]:
    encoded = pictures.read(source.read(one.item)).encoded
    return {"png": images.thumbnail(encoded), "said": said, "path": one.item.path}


def _group(group: list[inspection.Seen], source: base.Source) -> dict[str, Any]:
    """The picture of a group of equal files, and their paths."""
    return _figure(group[0], source, " = ".join(one.item.path for one in group))
