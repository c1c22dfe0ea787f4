"""A command line of tensorflow_model_server starts `longtail serve`, or is told in one line why it does not."""

import logging
import re

import pytest
import typer
from typer import testing

from longtail.pipeline.cli import app as cli
from longtail.pipeline.cli import tf_serving_flags


@pytest.fixture(autouse=True)
def _log_reaches_caplog(monkeypatch):
    """A command run earlier in this process may have kept longtail's lines to the terminal."""
    monkeypatch.setattr(logging.getLogger("longtail"), "propagate", True)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["--model_base_path=/m/x_y"], ["--model-base-path=/m/x_y"]),
        (["--model-base-path", "/m_n"], ["--model-base-path", "/m_n"]),
        (["--enable_batching"], []),
        (["--enable_batching=true"], []),
        (["--enable_batching=false"], ["--no-batching"]),
        (["--enable_model_warmup=False"], ["--no-warm-up"]),
        (
            ["--allow_version_labels_for_unavailable_models=1"],
            ["--allow-version-labels-for-unavailable-models"],
        ),
        (["--allow_version_labels_for_unavailable_models=0"], []),
        (["--use_alts_credentials=false", "--port=1"], ["--port=1"]),
        (["--saved_model_tags=serve"], []),
    ],
)
def test_underscores_and_true_and_false_become_our_own_spelling(given, taken):
    assert tf_serving_flags.translated(given) == taken


@pytest.mark.parametrize("given", [["--num_load_threads=4"], ["--num-load-threads", "4"], ["--enable_profiler"]])
def test_a_flag_that_makes_no_difference_is_noted_and_left_out(given, caplog):
    assert tf_serving_flags.translated([*given, "--port=1"]) == ["--port=1"]
    assert f"{given[0].partition('=')[0]} makes no difference here: " in caplog.text


@pytest.mark.parametrize(
    "given",
    [
        "--platform_config_file=x",
        "--use_alts_credentials",
        "--prefer_tflite_model=true",
        "--saved_model_tags=serve,gpu",
        "--rest_api_enable_cors_support=true",
        "--grpc_socket_path=/tmp/x",
    ],
)
def test_a_flag_that_asks_for_another_server_is_refused_and_says_why(given):
    with pytest.raises(typer.BadParameter, match=f"{given.partition('=')[0]} is not supported: "):
        tf_serving_flags.translated([given])


def test_a_switch_that_is_neither_true_nor_false_is_refused():
    with pytest.raises(typer.BadParameter, match="--enable-batching is true or false. Received: perhaps"):
        tf_serving_flags.translated(["--enable_batching=perhaps"])


def test_arguments_of_grpc_are_whole_numbers_or_words():
    found = tf_serving_flags.channel_arguments("grpc.max_connection_age_ms=2000,grpc.lb_policy_name=x,grpc.y=-1")
    assert found == (("grpc.max_connection_age_ms", 2000), ("grpc.lb_policy_name", "x"), ("grpc.y", -1))
    with pytest.raises(typer.BadParameter, match="Received: alone"):
        tf_serving_flags.channel_arguments("alone")


def run(*arguments):
    return testing.CliRunner().invoke(cli.app, ["serve", *arguments], env={"COLUMNS": "200"})


def test_a_refused_flag_is_bad_usage():
    result = run("--model=x", "--platform_config_file=y")
    assert result.exit_code == 2 and "--platform_config_file is not supported: the platform is" in result.output


def test_a_flag_of_neither_is_bad_usage():
    result = run("--model=x", "--modl_name=y")
    assert result.exit_code == 2 and "No such option: --modl-name" in result.output


def test_the_versions_are_printed_and_nothing_is_served():
    result = run("--version")
    assert result.exit_code == 0 and re.fullmatch(r"longtail \d+\.\S+, tensorflow 2\.\S+\n", result.output)


# Of tensorflow_model_server 2.15.1, and those that later ones have.
FLAGS = """
port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms rest_api_enable_cors_support
enable_batching allow_version_labels_for_unavailable_models batching_parameters_file
enable_per_model_batching_parameters model_config_file model_config_file_poll_wait_seconds model_name model_base_path
num_load_threads num_unload_threads max_num_load_retries load_retry_interval_micros file_system_poll_wait_seconds
flush_filesystem_caches tensorflow_session_parallelism tensorflow_session_config_file tensorflow_intra_op_parallelism
tensorflow_inter_op_parallelism use_alts_credentials ssl_config_file platform_config_file
per_process_gpu_memory_fraction saved_model_tags grpc_channel_arguments grpc_max_threads enable_model_warmup
num_request_iterations_for_warmup version monitoring_config_file remove_unused_fields_from_bundle_metagraph
prefer_tflite_model num_tflite_pools num_tflite_interpreters_per_pool enable_signature_method_name_check
xla_cpu_compilation_enabled xla_gpu_compilation_enabled enable_profiler thread_pool_factory_config_file mixed_precision
skip_initialize_tpu enable_grpc_healthcheck_service enable_serialization_as_tensor_content
"""


@pytest.mark.parametrize("flag", FLAGS.split())
def test_every_flag_of_tf_servings_is_known(flag):
    # --help ends the command before anything is served, and after every flag was read.
    try:
        words = tf_serving_flags.translated([f"--{flag}=1"])
    except typer.BadParameter as error:
        assert "is not supported" in str(error)
    else:
        assert "No such option" not in run(*words, "--help").output
