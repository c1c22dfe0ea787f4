"""TFX's Pusher, with an executor whose version folders appear complete."""

from tfx.components.pusher import component
from tfx.dsl.components.base import executor_spec

from components.pusher import executor


class Pusher(component.Pusher):
    """Pushes a blessed model to `<base_directory>/<version>/`; see TFX's Pusher for its arguments.

    The model is copied beside its destination under a name no server reads and then renamed, so
    that a server which watches the folder never sees half a model. Versions are ascending integers.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
