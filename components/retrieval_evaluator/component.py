"""Scores a new model at finding identities again, and decides whether it may be pushed."""

from tfx import types
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import component_spec
from tfx.types import standard_artifacts

from longtail.components import runtime
from longtail.components.retrieval_evaluator import executor


class RetrievalEvaluatorSpec(component_spec.ComponentSpec):
    """Channels and parameters of RetrievalEvaluator."""

    PARAMETERS = {
        executor.PROTOCOL_KEY: component_spec.ExecutionParameter(type=str),
        executor.HEAD_THRESHOLD_KEY: component_spec.ExecutionParameter(type=int),
        executor.FLOOR_MAP_KEY: component_spec.ExecutionParameter(type=float),
        executor.MARGIN_KEY: component_spec.ExecutionParameter(type=float),
        executor.MAX_UNDECODABLE_KEY: component_spec.ExecutionParameter(type=float),
    }
    INPUTS = {
        executor.EXAMPLES_KEY: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        executor.MODEL_KEY: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.BASELINE_MODEL_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.Model, optional=True
        ),
    }
    OUTPUTS = {
        executor.EVALUATION_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ModelEvaluation
        ),
        executor.BLESSING_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing
        ),
    }


class RetrievalEvaluator(base_component.BaseComponent):
    """Scores the candidate, and the last blessed model beside it, on the same eval images.

    Blessed is a candidate whose mAP reaches the floor and is at most `margin` below the last blessed
    model's, and which leaves out at most `max_undecodable` of the images and no more than that model
    does. Both are scored on the images that both can embed. A refusal is no failure: the blessing
    says so, with its `reason`, and Pusher pushes nothing.

    Component `outputs` contains:
     - `evaluation`: `metrics.json`, the figures of both models over all, head and tail identities.
     - `blessing`: as TFX's own Evaluator writes it, with a custom property `reason`.
    """

    SPEC_CLASS = RetrievalEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel | None,
        protocol: str,
        head_threshold: int,
        floor_map: float,
        margin: float,
        max_undecodable: float,
    ):
        """Names what flows in.

        Args:
            examples: Examples with a split `eval`, its rows marked query or gallery.
            model: the candidate, a Model.
            protocol: a name of `longtail.models.metrics.protocols.PROTOCOLS`.
            head_threshold: T, the run's `leap.head_threshold`: an eval identity with more distinct
                images is head, the others are tail.
            baseline_model: the last blessed Model; custom property `found` 0 says there is none.
            floor_map: least mAP to be blessed, a fraction of 1.
            margin: how far mAP may lie below the last blessed model's, a fraction of 1.
            max_undecodable: largest share of the eval images that the candidate may fail to embed.
        """
        super().__init__(
            RetrievalEvaluatorSpec(
                examples=examples,
                model=model,
                baseline_model=baseline_model,
                protocol=protocol,
                head_threshold=head_threshold,
                floor_map=runtime.number(float, floor_map),
                margin=runtime.number(float, margin),
                max_undecodable=runtime.number(float, max_undecodable),
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )
