"""Writes down which accepted spans a run trains on, since no Resolver runs on Kubeflow v2."""

import logging
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from longtail.components import config
from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components import runtime
from longtail.components.data import features
from longtail.components.data import identity_counts
from longtail.components.data import samples
from longtail.components.span_window import windows
from longtail.models import settings

EXAMPLES_KEY = "examples"
BLESSING_KEY = "blessing"
SPAN_KEY = "span"
REGISTRY_KEY = "registry"
MODEL_NAME_KEY = "model_name"
WINDOW_KEY = "window"
DATA_WINDOW_KEY = "data_window"
PINNED_WINDOW_KEY = "pinned_window"

SPANS_PROPERTY = "spans"  # of the window: how many it holds

log = logging.getLogger("longtail")


class Executor(base_executor.BaseExecutor):
    """See `component.SpanWindow`."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the window.

        Raises:
          errors.UsageError: no such window, or the run's own span is withdrawn.
          errors.WorkError: a span of it, or its images, are gone.
        """
        settings.check_values(config.Data, "data.", window=exec_properties[DATA_WINDOW_KEY])
        registry = runtime.folder(exec_properties[REGISTRY_KEY], exec_properties[MODEL_NAME_KEY])
        examples = artifact_utils.get_single_instance(input_dict[EXAMPLES_KEY])
        span = int(exec_properties[SPAN_KEY])
        registry_lib.check_not_withdrawn(registry, span)
        text = exec_properties[PINNED_WINDOW_KEY]
        if text == windows.AUTO:
            earlier = windows.earlier(registry, span, exec_properties[DATA_WINDOW_KEY])
        else:
            earlier = windows.pinned(registry, text)
        counts, known = identity_counts.read(examples.uri), ledger.read(registry)
        spans = (*earlier, _new(examples, span, counts))
        windows.check(spans)
        window = windows.Window(span, spans, known.withdrawals, _numbers(known, counts))
        output = artifact_utils.get_single_instance(output_dict[WINDOW_KEY])
        windows.write(output.uri, window)
        output.set_int_custom_property(SPAN_KEY, span)
        output.set_int_custom_property(SPANS_PROPERTY, len(window.spans))
        if earlier:
            log.info("training on spans %s", ", ".join(str(one.span) for one in window.spans))
        if exec_properties[DATA_WINDOW_KEY] != windows.ONE:
            _warn(windows.unplaced(registry, span))


def _warn(unplaced: list[int]) -> None:
    """Says in one line which spans cannot be in any window."""
    if unplaced:
        log.warning(
            "left out of the window: span %s, accepted by an earlier release, which did not keep where images lie; run "
            "it again to have it in",
            ", ".join(map(str, unplaced)),
        )


def _new(examples: types.Artifact, span: int, counts: identity_counts.Counts) -> windows.Span:
    """The run's own span."""
    images = sum(sum(of_split.values()) for of_split in counts.values())
    fingerprint = examples.get_string_custom_property(samples.FINGERPRINT_PROPERTY)
    return windows.Span(span, examples.uri, fingerprint, images, len(set().union(*counts.values())))


def _numbers(known: ledger.Ledger, counts: identity_counts.Counts) -> dict[str, int]:
    """Number of each trained identity: the ledger's; whoever is missing there, by name, after them."""
    order = known.trained()
    numbers = {name: number for number, name in enumerate(order) if name is not None}
    missing = sorted(set(counts[features.TRAIN_SPLIT]).difference(numbers))
    return numbers | {name: len(order) + place for place, name in enumerate(missing)}
