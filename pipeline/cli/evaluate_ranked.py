"""`longtail evaluate` where images are ranked: who is found among all, or in a gallery."""

import numpy as np

from longtail.models.metrics import metric
from longtail.models.metrics import retrieval
from longtail.pipeline.cli import evaluate_images
from longtail.pipeline.cli import evaluate_task


def figures(task: evaluate_task.Task, found: evaluate_images.Answers) -> dict:
    """Scores what could be embedded; copies of a file count once. `found` follows `task.images`."""
    identity = np.array([image.item.identity for image in task.images])
    camera = np.array([image.item.camera for image in task.images]) if task.protocol.cross_camera else None
    is_query, digests = np.arange(len(task.images)) < len(task.queries), np.array(found.digests)
    query = found.usable & is_query
    gallery = query if task.gallery is None else found.usable & ~is_query
    images_found = int((query | gallery).sum())
    for images in (query, gallery):  # copies of a file count once
        images[images] = retrieval.distinct(identity[images], digests[images])
    scores = retrieval.evaluate_retrieval(
        found.vectors[query],
        identity[query],
        found.vectors[gallery],
        identity[gallery],
        query_cameras=None if camera is None else camera[query],
        gallery_cameras=None if camera is None else camera[gallery],
        query_files=digests[query],
        gallery_files=digests[gallery],
        exclude_self=task.gallery is None,
    )
    copies = images_found - int((query | gallery).sum())
    kept = (*(each.name for each in metric.METRICS), "queries", "gallery", "unmatched")
    return {**{name: scores[name] for name in kept}, "copies": copies}
