"""Compares the scalars of a request log's images with training's."""

import dataclasses
import json
import logging
from typing import Any

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from longtail.components import drift_report
from longtail.components.data import features
from longtail.components.data import images as images_lib
from longtail.components.data import samples
from longtail.components.data import tables
from longtail.components.drift import calibration
from longtail.components.drift import histograms
from longtail.components.drift import rows as rows_lib
from longtail.components.serving_skew import requests as requests_lib
from longtail.models import errors

SAMPLE_KEY = "sample"
REQUEST_LOG_KEY = "request_log"
LISTING_KEY = "listing"
IMAGES_KEY = "images"
MAX_PIXELS_KEY = "max_pixels"
THRESHOLDS_KEY = "thresholds"
REPORT_KEY = "report"

LEAST_IMAGES = 20
COMPARED = (*features.SCALARS, features.HEIGHT, features.WIDTH, features.FORMAT)  # requests name no camera

_SIDES = np.array([[False, True]])  # for calibration's functions: training, requests
log = logging.getLogger("longtail")


class Executor(base_executor.BaseExecutor):
    """See `component.ServingSkew`."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the report.

        Raises:
          errors.UsageError: there is no such folder, or nothing in it.
          errors.WorkError: nothing in it is an image that was asked about.
        """
        folder = exec_properties[REQUEST_LOG_KEY]
        report = artifact_utils.get_single_uri(output_dict[REPORT_KEY])
        if not folder:
            drift_report.write(report, [])
            return
        requests, remarks = _read(folder, int(exec_properties[IMAGES_KEY]), int(exec_properties[MAX_PIXELS_KEY]))
        rows = []
        if len(requests.digest) >= LEAST_IMAGES:
            training = samples.read_table(artifact_utils.get_single_uri(input_dict[SAMPLE_KEY]))
            rows = _compare(folder, _grouped(requests, training), training, json.loads(exec_properties[THRESHOLDS_KEY]))
        else:
            remarks.append(f"too few to be compared with training, {LEAST_IMAGES} are needed")
        note = f"request log {folder}: {len(requests.digest)} images; {'; '.join(remarks)}".rstrip("; ")
        log.info("%s", note)
        drift_report.write(report, rows, note)


def _read(folder: str, most: int, max_pixels: int) -> tuple[tables.Table, list[str]]:
    """The numbers of the newest `most` images, without identities; and what is to be said of the log."""
    values, digests, undecodable = [], [], 0
    remarks: list[str] = []
    for encoded in requests_lib.images(requests_lib.files(folder), remarks, most):
        try:
            found = requests_lib.numbers(encoded, max_pixels)
            values.append([found[name] for name in tables.COLUMNS])
            digests.append(samples.hash_of(encoded))
        except images_lib.BadImage:
            undecodable += 1
    if not values:
        why = "; ".join([*remarks, *([f"{undecodable} images cannot be decoded"] if undecodable else [])])
        raise errors.WorkError(
            f"request log {folder} holds no image that can be compared ({why}); mend it, or run without --request-log"
        )
    if undecodable:
        remarks.append(f"{undecodable} more cannot be decoded")
    digest = np.array(digests, np.uint64)
    unknown = np.zeros_like(digest)
    table = tables.Table(identity=unknown, folder=unknown, digest=digest, values=np.array(values, np.float32))
    return table, remarks


def _grouped(requests: tables.Table, training: tables.Table) -> tables.Table:
    """The requests with groups in place of identities, which nobody knows, so that chance is not thought too small.

    Images that follow one another are often of one person: as many as training has of an identity are a group. A file
    that is asked about again and again is one image to this.
    """
    each = max(1, round(len(training.identity) / max(1, len(np.unique(training.identity)))))
    _, first, which = np.unique(requests.digest, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[which]
    return dataclasses.replace(requests, identity=(place // each).astype(np.uint64))


def _compare(
    folder: str, requests: tables.Table, training: tables.Table, chosen: dict[str, float]
) -> list[dict[str, Any]]:
    """A row for each feature, by the gate's own measures and thresholds."""
    thresholds = {**calibration.thresholds(requests, training), **chosen}
    is_request = np.repeat([1, 0], [len(requests.digest), len(training.digest)])
    rows = []
    for name in COMPARED:
        column = tables.COLUMNS.index(name)
        sides = [table.values[:, column] for table in (requests, training)]
        values = np.concatenate(sides)
        if name == features.FORMAT:
            [distance] = calibration.share_changes(values, is_request, _SIDES)
            measure = "L-infinity"
        else:
            [distance] = calibration.divergences(values, is_request, _SIDES)
            measure = "Jensen-Shannon"
        row = rows_lib.row(rows_lib.SKEW, name, measure, round(float(distance), 6), thresholds.get(name))
        rows.append({**row, "histogram": histograms.common(*sides), "request_log": folder})
    return rows
