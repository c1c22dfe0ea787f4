"""TFX's Pusher, with an executor whose version folders appear complete, and a folder named after the model."""

import json

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import channel
from tfx.types import standard_artifacts
from tfx.types import standard_component_specs

from longtail.components import specs
from longtail.components.pusher import executor


class Pusher(base_component.BaseComponent):
    """Pushes a blessed model to `<base_directory>/<version>/`.

    The model is copied beside its destination under a name no server reads and then renamed, so
    that a server which watches the folder never sees half a model. Versions are ascending integers.

    Outputs:
      pushed_model: a copy of the model, marked as TFX's Pusher marks it.
    """

    SPEC_CLASS = specs.declare(
        stock=standard_component_specs.PusherSpec,
        parameters={executor.MODEL_NAME_KEY: str},
        optional_inputs={executor.EVALUATION_KEY: standard_artifacts.ModelEvaluation},
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: channel.BaseChannel,
        model_blessing: channel.BaseChannel,
        push_destination: pusher_pb2.PushDestination,
        model_name: str = "",
        delivery: int = 0,
        evaluation: channel.BaseChannel | None = None,
    ):
        """Makes the component.

        Args:
          model: the Model.
          model_blessing: the evaluator's.
          push_destination: a `filesystem.base_directory`.
          model_name: stands where `{MODEL}` is in the base directory.
          delivery: another number pushes the same model again, whatever the cache knows.
          evaluation: the evaluator's, whose thresholds are written beside the model.
        """
        spec = self.SPEC_CLASS(
            model=model,
            model_blessing=model_blessing,
            push_destination=push_destination,
            custom_config=json.dumps({"delivery": delivery}),
            model_name=model_name,
            evaluation=evaluation,
        )
        super().__init__(spec=spec)
