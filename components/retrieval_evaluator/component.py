"""Scores a new model at finding identities again, and decides whether it may be pushed."""

from tfx import types
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import runtime
from longtail.components import specs
from longtail.components.retrieval_evaluator import executor


class RetrievalEvaluator(base_component.BaseComponent):
    """Scores the candidate, and beside it the last blessed model and pixels that nobody trained, on the same images.

    Blessed is a candidate that is scored on two identities at least, whose mAP reaches the floor, is above that of the
    pixels and at most `margin` below the last blessed model's, and which leaves out at most `max_undecodable` of the
    images and no more than that model does. Both are scored on the images that both can embed, and compared identity by
    identity. Where a window holds several spans, floor and margin hold on each of them too. A refusal is no failure:
    the blessing says so, with its `reason`, and Pusher pushes nothing.

    Outputs:
      evaluation: `metrics.json`, the figures of both models and of pixels over all, head and tail identities, the
        difference of the two models with its interval, and warnings; `thresholds.json`, the similarities for false
        match rates, see `longtail.models.metrics.calibration`; `details.json`, what a report shows of them, with some
        images in small.
      blessing: as TFX's own Evaluator writes it, with a custom property `reason`, and `accept_scores` where that was
        needed.
    """

    SPEC_CLASS = specs.declare(
        parameters={
            executor.PROTOCOL_KEY: str,
            executor.HEAD_THRESHOLD_KEY: int,
            executor.FLOOR_MAP_KEY: float,
            executor.MARGIN_KEY: float,
            executor.MARGIN_END_KEY: str,
            executor.MAX_UNDECODABLE_KEY: float,
            executor.BEAT_PIXELS_KEY: int,
            executor.EARLIER_IMAGES_KEY: int,
            executor.ACCEPT_SCORES_KEY: str,
        },
        inputs={executor.WINDOW_KEY: artifacts.SpanWindow, executor.MODEL_KEY: standard_artifacts.Model},
        optional_inputs={executor.BASELINE_MODEL_KEY: standard_artifacts.Model},
        outputs={
            executor.EVALUATION_KEY: standard_artifacts.ModelEvaluation,
            executor.BLESSING_KEY: standard_artifacts.ModelBlessing,
        },
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        window: types.BaseChannel,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel | None,
        protocol: str,
        head_threshold: int,
        floor_map: float,
        margin: float,
        margin_end: str,
        max_undecodable: float,
        beat_pixels: bool,
        earlier_images: int,
        accept_scores: str = "",
    ):
        """Names what flows in.

        Args:
          window: SpanWindow's, of spans with a split `eval`, its rows marked query or gallery.
          model: the candidate, a Model.
          protocol: a name of `longtail.models.metrics.protocols.PROTOCOLS`.
          head_threshold: T, the run's `leap.head_threshold`: an eval identity with more distinct
            images is head, the others are tail.
          baseline_model: the last blessed Model; custom property `found` 0 says there is none.
          floor_map: least mAP to be blessed, a fraction of 1.
          margin: how far mAP may lie below the last blessed model's, a fraction of 1.
          margin_end: which end of the interval of the difference must lie within the margin: worst or best, or
            middle, the difference itself.
          max_undecodable: largest share of the eval images that the candidate may fail to embed.
          beat_pixels: whether a candidate must be better than pixels.
          earlier_images: images of each earlier span that are scored by, about: whole identities.
          accept_scores: why the candidate is blessed this once although its mAP, on all images or on those of a
            span, is below the floor or the margin; kept in the metadata store. Nothing else is overridden by it.
        """
        super().__init__(
            self.SPEC_CLASS(
                window=window,
                model=model,
                baseline_model=baseline_model,
                protocol=protocol,
                head_threshold=head_threshold,
                floor_map=runtime.number(float, floor_map),
                margin=runtime.number(float, margin),
                margin_end=margin_end,
                max_undecodable=runtime.number(float, max_undecodable),
                beat_pixels=runtime.number(int, beat_pixels),
                earlier_images=earlier_images,
                accept_scores=accept_scores,
            )
        )
