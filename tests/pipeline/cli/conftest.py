"""What tests of several commands share: `longtail evaluate` of the tiny model, through its own parser."""

import json

import pytest
import typer
from typer import testing

from longtail.pipeline.cli import evaluate


@pytest.fixture
def run(tiny_saved_model):
    """Returns f(*arguments) -> the figures; raises what the command raises."""
    app = typer.Typer()
    app.command()(evaluate.evaluate)

    def invoke(*arguments, as_json=True):
        line = ["--model", str(tiny_saved_model), *map(str, arguments), *(["--json"] if as_json else [])]
        result = testing.CliRunner().invoke(app, line, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout) if as_json else result.stdout

    return invoke
