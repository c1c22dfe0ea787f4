"""What became of each version of a model, as GetModelStatus tells it."""

import dataclasses
import threading

from tensorflow_serving.apis import get_model_status_pb2

STATE = get_model_status_pb2.ModelVersionStatus
_REMEMBERED = 128  # a server that runs for years has seen more


@dataclasses.dataclass(frozen=True)
class VersionState:
    """A version's number, its State of ModelVersionStatus, and where it failed, a code of gRPC's and one line."""

    version: int
    state: int
    error_code: int = 0
    error_message: str = ""


class VersionStates:
    """The last state of each version; any thread may ask and wait. The oldest ends are forgotten in the end."""

    def __init__(self) -> None:
        self._states: dict[int, VersionState] = {}
        self._changed = threading.Condition()

    def set(self, state: VersionState) -> None:
        """Tells what a version is now."""
        with self._changed:
            self._states[state.version] = state
            ended = sorted(version for version, known in self._states.items() if known.state == STATE.END)
            for version in ended[: max(0, len(self._states) - _REMEMBERED)]:
                del self._states[version]
            self._changed.notify_all()

    def end(self, version: int) -> None:
        """Tells that a version is unloaded, unless it is being loaded anew."""
        with self._changed:
            if self.state(version) == STATE.UNLOADING:
                self.set(VersionState(version, STATE.END))

    def state(self, version: int) -> int | None:
        """The state of one version, None where it was never seen."""
        known = self._states.get(version)
        return known.state if known else None

    def all(self) -> list[VersionState]:
        """Every version's, latest first."""
        with self._changed:
            return sorted(self._states.values(), key=lambda state: -state.version)

    def wait_for(self, version: int, state: int, timeout_s: float) -> bool:
        """Blocks until `version` is in `state`; False where that takes longer than `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.state(version) == state, timeout_s)
