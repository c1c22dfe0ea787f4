"""A compiled pipeline as a page that a person reviews: what each task runs, where its inputs come from, on what.

Written anew, where a change of it is meant, with `python -m tests.pipeline.kubeflow.compile.summary`.
"""

import contextlib
import json
import pathlib
import tempfile
from typing import Any

import typer.testing
import yaml

from longtail.pipeline.cli import app as cli
from longtail.pipeline.kubeflow import ir

GOLDEN = pathlib.Path(__file__).with_name("glyphs_summary.yaml")
WORDS = (
    *("--recipe", "glyphs", "--image", "registry.example/longtail:1.0", "--pipeline-root", "gs://bucket/longtail"),
    *("--gpus", "1", "--node-selector", "accelerator=nvidia-t4", "--parameter", "leap.start_epoch"),
    "--beam-pipeline-args=--direct_running_mode=multi_processing --direct_num_workers=2",
)
_HEADER = """\
# What `longtail compile` makes of the recipe glyphs: $NAME is a parameter of the pipeline, TASK.OUTPUT an input.
# `python -m tests.pipeline.kubeflow.compile.summary` writes this file anew.
"""
# Of a task: what most of them share is written once.
_SHARED = ("image", "command", "env", "resources", "retries", "cached", "platform")


def compile_glyphs(path: pathlib.Path) -> pathlib.Path:
    """Compiles the recipe that the summary is of, by the command; returns the file."""
    done = typer.testing.CliRunner().invoke(cli.app, ["compile", *WORDS, "--output", str(path)])
    assert done.exit_code == 0, done.output
    return path


def summarise(pipeline: ir.Pipeline) -> str:
    """The summary as YAML."""
    tasks = {task.name: _task(task) for task in pipeline.tasks}
    shared = {key: _most_common([task[key] for task in tasks.values()]) for key in _SHARED}
    for task in tasks.values():
        for key in [key for key in _SHARED if task[key] == shared[key]]:
            del task[key]
    content = {
        "pipeline": pipeline.name,
        "root": pipeline.root,
        "parameters": {one.name: [one.type, _plain(one.default)] for one in pipeline.parameters.values()},
        "shared": shared,
        "tasks": tasks,
    }
    return _HEADER + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=118, default_flow_style=None)


def _task(task: ir.Task) -> dict[str, Any]:
    arguments = dict(zip(task.args[::2], task.args[1::2], strict=True))
    described = {
        "executor": arguments["--executor_class_path"],
        "inputs": {key: f"{source.producer}.{source.key}" for key, source in task.artifacts.items()},
        "parameters": {key: _value(source) for key, source in task.parameters.items()},
        "outputs": task.outputs,
    }
    return {key: value for key, value in described.items() if value} | {
        "image": task.image,
        "command": " ".join(task.command),
        "env": _plain(task.env),
        "resources": _plain(task.resources),
        "retries": task.spec.retry_policy.max_retry_count,
        "cached": task.caching,
        "platform": _plain(task.platform),
    }


def _value(source: ir.Input) -> Any:
    return f"${source.key}" if source.key else _plain(source.constant)


def _plain(value: Any) -> Any:
    """A value as a reader wants it: JSON within a text taken apart, without what is null; whole numbers whole."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(json.JSONDecodeError):
            return _plain(json.loads(value))
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return _OneLine({key: _plain(one) for key, one in value.items() if one is not None})
    return [_plain(one) for one in value] if isinstance(value, list) else value


class _OneLine(dict):
    """A mapping that is written in one line, if it fits in one."""


class _Dumper(yaml.SafeDumper):
    """Writes equal values out, each time."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True


_Dumper.add_representer(
    _OneLine, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=True)
)


def _most_common(values: list[Any]) -> Any:
    return max(values, key=values.count)


def main() -> None:
    """Writes the summary anew."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = compile_glyphs(pathlib.Path(folder, "glyphs.yaml"))
        GOLDEN.write_text(summarise(ir.load(str(compiled))), encoding="utf-8")


if __name__ == "__main__":
    main()
