"""Artifact types of longtail's own components. A type's name is where Kubeflow's launcher imports it from."""

from tfx import types


class Quarantine(types.Artifact):
    """Files that were set aside at ingestion: `quarantine.jsonl`, one {"path", "reason", "bytes"} a row."""

    TYPE_NAME = "longtail.Quarantine"


class ClassCensus(types.Artifact):
    """Dense class ids and image counts K_i of the training identities: `census.json`."""

    TYPE_NAME = "longtail.ClassCensus"


class DataBlessing(types.Artifact):
    """The drift gate's leave to train on a span. It exists only where the gate accepted."""

    TYPE_NAME = "longtail.DataBlessing"


class SpanWindow(types.Artifact):
    """Which accepted spans a run trains on, by reference: `window.json`; and their identities: `numbers.json`."""

    TYPE_NAME = "longtail.SpanWindow"


class DriftReport(types.Artifact):
    """Distances that a component measured for the drift gate to judge: `drift.json`, {"features": [rows], "note"}."""

    TYPE_NAME = "longtail.DriftReport"


class SpanSample(types.Artifact):
    """A bounded part of a span's train images, and numbers of more of them: see `longtail.components.data.samples`."""

    TYPE_NAME = "longtail.SpanSample"


class Gallery(types.Artifact):
    """Embedded gallery images with their exact index."""

    TYPE_NAME = "longtail.Gallery"
