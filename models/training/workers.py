"""Who trains with whom: TF_CONFIG read into a strategy, and what the chief of several workers does alone."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from longtail.models import errors

VARIABLE = "TF_CONFIG"
_CHIEF, _WORKER = "chief", "worker"


class Cluster(NamedTuple):
    """The workers of a training, HOST:PORT by kind, and which of them this process is."""

    addresses: dict[str, list[str]]
    kind: str
    number: int

    @property
    def leads(self) -> bool:
        """Whether this process is the one whose files count: the chief, else the first worker."""
        return self.kind == _CHIEF or (_CHIEF not in self.addresses and self.number == 0)


def cluster(text: str) -> Cluster | None:
    """Reads TF_CONFIG; None where it is empty or names this process alone.

    Raises:
      errors.UsageError: it is no JSON of the known form, or names others than a chief and workers.
    """
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise errors.UsageError(f"{VARIABLE}: not JSON ({error}). Received: {text[:80]!r}") from error
    addresses = found.get("cluster", {}) if isinstance(found, dict) else None
    if not isinstance(addresses, dict) or not all(_is_address_list(one) for one in addresses.values()):
        raise errors.UsageError(f'{VARIABLE}: "cluster" must map chief and worker to lists of HOST:PORT')
    addresses = {kind: its for kind, its in addresses.items() if its}
    for kind in addresses:
        if kind not in (_CHIEF, _WORKER):
            raise errors.UsageError(f"{VARIABLE}: {kind!r} has no part in this training; give a chief and workers")
    everyone = [address for its in addresses.values() for address in its]
    if len(set(everyone)) < len(everyone) or len(addresses.get(_CHIEF, ())) > 1:
        raise errors.UsageError(f"{VARIABLE}: an address stands twice in it, or a second chief does")
    if len(everyone) < 2:
        return None
    task = found.get("task")
    kind, number = (task.get("type"), task.get("index")) if isinstance(task, dict) else (None, None)
    if not isinstance(kind, str) or type(number) is not int or not 0 <= number < len(addresses.get(kind, ())):
        raise errors.UsageError(f'{VARIABLE}: "task" must be one of the cluster. Received: {json.dumps(task)}')
    return Cluster(addresses, kind, number)


def _is_address_list(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, str) and one.rpartition(":")[0] and one.rpartition(":")[2].isdecimal() for one in value
    )


def strategy() -> tf.distribute.Strategy:
    """As TF_CONFIG asks; without it all GPUs of this machine, or its one device.

    Raises:
      errors.UsageError: TF_CONFIG is wrong.
      errors.WorkError: this process cannot take its place among the workers.
    """
    asked = cluster(os.environ.get(VARIABLE, ""))
    if asked is None:
        several = len(tf.config.list_physical_devices("GPU")) > 1
        return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
    own = f"{asked.kind} {asked.number} at {asked.addresses[asked.kind][asked.number]}"
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:  # TensorFlow was used before: collectives are set up with it or never
        raise errors.WorkError(
            f"{VARIABLE}: {own} must be a process of its own, in which nothing has used TensorFlow yet ({error})"
        ) from error
    except tf.errors.OpError as error:
        raise errors.WorkError(f"{VARIABLE}: {own} cannot take its place: {error.message.splitlines()[0]}") from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process leads those of a strategy, or is the only one."""
    resolver = strategy.cluster_resolver
    if resolver is None:
        return True
    return Cluster(resolver.cluster_spec().as_dict(), resolver.task_type, resolver.task_id).leads


@contextlib.contextmanager
def place(strategy: tf.distribute.Strategy, path: str) -> Iterator[str]:
    """Where to write what every worker must write and only the chief's is kept: `path`, or a folder that goes away.

    Writing reads variables that the workers hold together: who did not take part would leave the others waiting.
    """
    if is_chief(strategy):
        yield path
        return
    elsewhere = tempfile.mkdtemp(prefix="longtail-worker-")
    try:
        yield os.path.join(elsewhere, os.path.basename(path))
    finally:
        shutil.rmtree(elsewhere)


def whole_batch(*rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The rows of all replicas together, in the same order on each. Outside a strategy, or on one device: `rows`."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return rows
    # A function's own argument is on no device yet, and then gathering over workers fails.
    return tuple(replica.all_gather(tf.identity(one), axis=0) for one in rows)


def agreed(strategy: tf.distribute.Strategy, value: int) -> bool:
    """Whether all workers came here with the same value; none goes on before all did."""
    if strategy.cluster_resolver is None:
        return True
    own = strategy.experimental_distribute_values_from_function(lambda _: tf.constant([value], tf.int64))
    everyone = tf.function(lambda: strategy.run(whole_batch, (own,)))()[0]
    return bool((strategy.experimental_local_results(everyone)[0].numpy() == value).all())
