"""Which pushed models and galleries of a root stand on what was withdrawn, and the withdrawal in ML Metadata."""

import datetime
import json
import os
from collections.abc import Callable
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from longtail.models.export import signatures
from longtail.models.export import versions
from longtail.pipeline.local import root_folder

_EVENT = metadata_store_pb2.Event
_CONTEXT = "longtail.Withdrawal"
_CENSUS, _WINDOW = "longtail.ClassCensus", "longtail.SpanWindow"  # as `longtail.components.artifacts`, which loads TFX


def store(root: str) -> metadata_store.MetadataStore:
    """The metadata store of a root."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = os.path.join(root, root_folder.STORE)
    return metadata_store.MetadataStore(config)


def record(root: str, recipe: str, what: str, reason: str) -> None:
    """Writes a withdrawal into ML Metadata, as a context of its own; again, it changes the reason and the time.

    Args:
      root: whose store.
      recipe: whose spans.
      what: `span-N`, or the digest of an identity's name.
      reason: why.
    """
    opened = store(root)
    kind = metadata_store_pb2.ContextType(name=_CONTEXT)
    for name in ("recipe", "what", "reason", "when"):
        kind.properties[name] = metadata_store_pb2.STRING
    context = metadata_store_pb2.Context(type_id=opened.put_context_type(kind), name=f"{recipe}/{what}")
    told = {"recipe": recipe, "what": what, "reason": reason, "when": f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}"}
    for name, word in told.items():
        context.properties[name].string_value = word
    before = opened.get_context_by_type_and_name(_CONTEXT, context.name)
    if before is not None:
        context.id = before.id
    opened.put_contexts([context])


def models_of_identity(root: str, recipe: str, identity: str) -> tuple[list[int], list[int]]:
    """Versions of the pushed models that were trained on an identity; and of those of which nobody knows any more."""

    def holds(trained: Any) -> bool:
        classes = _read(trained[_CENSUS], "census.json")["classes"]
        return any(one["identity"] == identity for one in classes)

    return _models(root, recipe, holds)


def models_of_span(root: str, recipe: str, span: int) -> tuple[list[int], list[int]]:
    """Likewise of those whose window held a span."""

    def holds(trained: Any) -> bool:
        return any(one["span"] == span for one in _read(trained[_WINDOW], "window.json")["spans"])

    return _models(root, recipe, holds)


def _models(root: str, recipe: str, holds: Callable[[Any], bool]) -> tuple[list[int], list[int]]:
    opened, holding, unknown = store(root), [], []
    pushed = {
        one.custom_properties["pushed_version"].string_value: one
        for one in opened.get_artifacts_by_type("PushedModel")
        if os.path.basename(os.path.dirname(one.custom_properties["pushed_destination"].string_value)) == recipe
    }
    for version in sorted(versions.find_complete(_models_folder(root, recipe))):
        try:
            if holds(_made_from(opened, pushed[str(version)])):
                holding.append(version)
        except (KeyError, OSError):  # pushed by a release without windows, or what it was trained on is gone
            unknown.append(version)
    return holding, unknown


def _models_folder(root: str, recipe: str) -> str:
    return os.path.join(root, "models", recipe)


def _made_from(opened: metadata_store.MetadataStore, pushed: metadata_store_pb2.Artifact) -> dict[str, str]:
    """Folders of the census and of the window that a pushed model was trained by."""
    [model] = _inputs(opened, pushed, "Model")
    [census] = _inputs(opened, model, _CENSUS)
    [window] = _inputs(opened, census, _WINDOW)
    return {_CENSUS: census.uri, _WINDOW: window.uri}


def _inputs(
    opened: metadata_store.MetadataStore, made: metadata_store_pb2.Artifact, kind: str
) -> list[metadata_store_pb2.Artifact]:
    """What went into the step that made an artifact, of one type. Raises KeyError where nothing did."""
    events = opened.get_events_by_artifact_ids([made.id])
    step = next(one.execution_id for one in events if one.type == _EVENT.OUTPUT)
    read = {one.artifact_id for one in opened.get_events_by_execution_ids([step]) if one.type == _EVENT.INPUT}
    found = [one for one in opened.get_artifacts_by_id(sorted(read)) if one.type == kind]
    if not found:
        raise KeyError(kind)
    return found


def galleries_of_spans(root: str, recipe: str) -> set[int]:
    """Versions of the galleries that were made of spans, and not of a folder that a recipe names."""
    folder = os.path.join(root, "galleries", recipe)
    cards = {name: _read(os.path.join(folder, str(name)), signatures.GALLERY_CARD) for name in galleries(root, recipe)}
    return {version for version, card in cards.items() if card.get("of") != signatures.GALLERY_OF_FOLDER}


def galleries(root: str, recipe: str) -> dict[int, set[str]]:
    """Version of each gallery -> the names in it."""
    folder = os.path.join(root, "galleries", recipe)
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name, signatures.GALLERY_ITEMS)
        if name.isdecimal() and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found[int(name)] = {json.loads(line)["identity"] for line in file}
    return found


def _read(folder: str, name: str) -> Any:
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return json.load(file)
