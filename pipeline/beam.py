"""Apache Beam's arguments: how a user gives them, and what a step gets where none are given. Imports no Beam."""

import shlex
from collections.abc import Sequence

from models import errors

# Where a container reads them, as a JSON list: Kubeflow's cache looks at its command but not at its environment.
ENVIRONMENT = "LONGTAIL_BEAM_PIPELINE_ARGS"

# The last one keeps TFX from packing itself up for workers that are this very process.
_IN_THIS_PROCESS = ("--direct_running_mode=in_memory", "--direct_num_workers=1", "--sdk_container_image=none")


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


def arguments(given: Sequence[str]) -> list[str]:
    """What a step gets: Beam within its own process, unless `given` says otherwise; the last word counts."""
    runners = [word.partition("=")[2] for word in given if word.startswith("--runner=")]
    direct = not runners or runners[-1] == "DirectRunner"
    return [*(_IN_THIS_PROCESS if direct else ()), *given]
