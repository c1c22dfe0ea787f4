"""Apache Beam's arguments: how they are given, and what a step gets."""

import pytest
import typer.testing

from longtail.models import errors
from longtail.pipeline import beam
from longtail.pipeline.cli import app as cli


def test_arguments_are_taken_apart_as_a_shell_would():
    given = beam.split(["--runner=FlinkRunner --flink_master=f:8081", "--labels='a b'"])
    assert given == ["--runner=FlinkRunner", "--flink_master=f:8081", "--labels=a b"]


@pytest.mark.parametrize(
    ("given", "why"), [("--runner Flink", "'Flink' is no argument of Beam"), ("--a='", "No closing quotation")]
)
def test_what_is_no_argument_is_refused(given, why):
    with pytest.raises(errors.UsageError, match=why) as caught:
        beam.split([given])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["run", "compile"])
@pytest.mark.parametrize(("arguments", "named"), [("workers=2", "'workers=2'"), ("--runner=Nope", "--runner=Nope: ")])
def test_both_commands_refuse_them_before_they_make_anything(command, arguments, named, tmp_path):
    given = {
        "run": ["--root", str(tmp_path / "root")],
        "compile": ["--image", "i", "--pipeline-root", "gs://b", "--output", str(tmp_path / "p.yaml")],
    }
    words = [command, "--recipe", "glyphs", *given[command], "--beam-pipeline-args", arguments]
    result = typer.testing.CliRunner().invoke(cli.app, words)
    assert isinstance(result.exception, errors.UsageError)
    assert named in str(result.exception) and "\n" not in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_without_arguments_beam_works_within_the_steps_own_process():
    assert beam.arguments([])[:2] == ["--direct_running_mode=in_memory", "--direct_num_workers=1"]


def test_what_is_given_counts_over_what_is_there_without():
    from apache_beam.options import pipeline_options

    words = beam.arguments(["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
    direct = pipeline_options.PipelineOptions(words).view_as(pipeline_options.DirectOptions)
    assert (direct.direct_running_mode, direct.direct_num_workers) == ("multi_processing", 2)


def test_workers_that_are_there_are_sent_no_package_of_tfx():
    given = ["--runner=PortableRunner", "--environment_type=EXTERNAL"]
    assert beam.arguments(given) == ["--sdk_container_image=none", "--job_server_timeout=400", *given]


def test_another_runner_gets_nothing_but_what_is_given():
    assert beam.arguments(["--runner=FlinkRunner"]) == ["--runner=FlinkRunner"]
    assert all(len(beam.arguments([f"--runner={name}"])) == 4 for name in ("DirectRunner", "direct"))
