"""One step of a compiled pipeline on machines that Kubeflow Pipelines does not start, such as those of a TFJob.

    python -m longtail.pipeline.kubeflow.step PIPELINE.yaml STEP EXECUTOR_INPUT.json

fills the executor input into the step's own command, as the launcher does, and becomes that command.
"""

import os
import sys

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.rehearse import launcher


def command(path: str, name: str, input_file: str) -> tuple[list[str], dict[str, str], str]:
    """What a step runs.

    Args:
      path: the compiled pipeline.
      name: of the step.
      input_file: an `ml_pipelines.ExecutorInput` as JSON.

    Returns:
      The words of the command, its environment variables, and the file it will tell its outputs in.

    Raises:
      errors.UsageError: a file cannot be read, or there is no such step, or it has no command.
    """
    tasks = {task.name: task for task in ir.load(path).tasks}
    if name not in tasks or not tasks[name].command:
        raise errors.UsageError(f"{path}: no step {name!r} with a command; it has {', '.join(tasks)}")
    try:
        with open(input_file, encoding="utf-8") as file:
            parsed = json_format.Parse(file.read(), pipeline_spec_pb2.ExecutorInput(), ignore_unknown_fields=True)
    except OSError as error:
        raise errors.UsageError(f"{input_file}: cannot be read ({error.strerror})") from error
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"{input_file}: no executor input ({' '.join(str(error).split())})") from error
    parsed.inputs.SetInParent()
    parsed.outputs.SetInParent()
    task, given = tasks[name], json_format.MessageToDict(parsed, including_default_value_fields=True)
    words = launcher.fill_in(task, [*task.command, *task.args], given)
    return words, task.env, parsed.outputs.output_file


def main(arguments: list[str]) -> int:
    """Becomes the step's command; comes back only where it cannot."""
    try:
        if len(arguments) != 3:
            raise errors.UsageError("give PIPELINE.yaml STEP EXECUTOR_INPUT.json")
        words, variables, output_file = command(*arguments)
        if output_file and "://" not in output_file:
            os.makedirs(os.path.dirname(output_file), exist_ok=True)
        os.execvpe(words[0], words, os.environ | variables)
    except (errors.UsageError, errors.WorkError) as error:
        print(f"longtail: error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"longtail: error: {words[0]} cannot be run: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
