"""Apache Beam's arguments: how they are given, and what a step gets without them. Only `check` imports Beam."""

import shlex
from collections.abc import Sequence

from longtail.models import errors

# Where a container reads them, as a JSON list: Kubeflow's cache looks at its command but not at its environment.
ENVIRONMENT = "LONGTAIL_BEAM_PIPELINE_ARGS"

# The last one keeps TFX from packing itself up for workers that are this very process.
_IN_THIS_PROCESS = ("--direct_running_mode=in_memory", "--direct_num_workers=1", "--sdk_container_image=none")
# Workers that are there already, with this project installed, need no package of TFX sent to them, which building takes
# seconds a step. The job server is waited for while other steps' jobs keep it busy.
_INSTALLED = ("EXTERNAL", "LOOPBACK", "PROCESS")
_AT_HAND = ("--sdk_container_image=none", "--job_server_timeout=400")


def split(given: Sequence[str]) -> list[str]:
    """Takes apart what was given on the command line, one argument or several a string.

    Raises:
      errors.UsageError: an open quote, or a word that is no option.
    """
    arguments = []
    for text in given:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise errors.UsageError(f"--beam-pipeline-args {text!r}: {error}") from error
        arguments += words
    for word in arguments:
        if not word.startswith("--") or word == "--":
            raise errors.UsageError(f"--beam-pipeline-args: {word!r} is no argument of Beam; write --name=value")
    return arguments


def check(given: Sequence[str]) -> None:
    """Refuses a runner that Beam does not have. Imports Beam.

    Raises:
      errors.UsageError: the runner, and which there are.
    """
    for name in _runners(given):
        from apache_beam.runners import runner

        try:
            runner.create_runner(name)
        except (ValueError, ImportError, AttributeError) as error:
            line = " ".join(str(error).split())
            raise errors.UsageError(f"--beam-pipeline-args --runner={name}: {line}") from error


def arguments(given: Sequence[str]) -> list[str]:
    """What a step gets: Beam within its own process, unless `given` says otherwise; the last word counts."""
    runners = _runners(given)
    if not runners or runners[-1].lower() in ("direct", "directrunner"):
        return [*_IN_THIS_PROCESS, *given]
    environments = _values("--environment_type", given)
    return [*(_AT_HAND if environments and environments[-1] in _INSTALLED else ()), *given]


def _runners(given: Sequence[str]) -> list[str]:
    return _values("--runner", given)


def _values(option: str, given: Sequence[str]) -> list[str]:
    return [word.partition("=")[2] for word in given if word.startswith(f"{option}=")]
