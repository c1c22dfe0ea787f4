"""A container's command is filled in, run and listened to as Kubeflow's launcher does, here or in a fresh process."""

import json
import logging
import os
import random
import sys

import pytest

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.rehearse import driver
from longtail.pipeline.kubeflow.rehearse import image
from longtail.pipeline.kubeflow.rehearse import in_process
from longtail.pipeline.kubeflow.rehearse import launcher
from tests.pipeline.kubeflow import specs

METADATA = {"ok": True, "rows": 3, "list": [1]}
URI = "{{$.outputs.artifacts['made'].uri}}"


@pytest.fixture
def launch(tmp_path):
    """Launches a step; gives its outputs, and keeps its executor input and log."""

    class Launch:
        log = str(tmp_path / "log")
        executables = image.this_environment()

        def __call__(self, command, **fields):
            self.task = ir.read([specs.document({"One": self.step(command, **fields)})], "p.yaml").tasks[0]
            run = driver.Run("r1", "small", driver.KFP, str(tmp_path / "store"), {}, "")
            inputs = driver.resolve(self.task, run, {})
            outputs = driver.provision(self.task, run, "salt", str(tmp_path / "private"))
            self.input = {"inputs": inputs, "outputs": outputs}
            runner = launcher.Runner(self.executables, str(tmp_path / "home"))
            os.makedirs(runner.folder, exist_ok=True)
            return launcher.launch(self.task, self.input, runner, self.log)

        def step(self, command, output_parameters=None, env=(), **fields):
            step = specs.step(command, **fields)
            step["component"]["outputDefinitions"]["parameters"] = {
                name: {"parameterType": kind} for name, kind in (output_parameters or {}).items()
            }
            step["executor"]["container"]["env"] = [{"name": name, "value": value} for name, value in env]
            return step

        @property
        def said(self):
            with open(self.log, encoding="utf-8") as file:
                return file.read()

    return Launch()


def test_placeholders_become_values_uris_and_the_whole_executor_input(launch):
    parameters = {"a": ("STRING", "x y"), "b": ("NUMBER_DOUBLE", 2)}
    words = ["{{$.inputs.parameters['a']}}-{{$.inputs.parameters['b']}}", URI, "{{$}}"]
    launch(["printf", "%s\\n", *words], parameters=parameters)
    first, uri, whole = launch.said.splitlines()
    assert first == "x y-2" and uri == launch.input["outputs"]["artifacts"]["made"]["artifacts"][0]["uri"]
    assert json.loads(whole) == launch.input


def test_a_placeholder_without_a_value_stops_the_step(launch):
    with pytest.raises(errors.WorkError, match="parameter 'other' not found in executor input"):
        launch(["echo", "{{$.inputs.parameters['other']}}"])


def test_folders_are_made_for_outputs_but_no_output_is(launch):
    launch(f"test -d $(dirname {URI}); test ! -e {URI}")


def test_what_a_container_says_of_its_artifacts_is_kept_as_the_metadata_store_would(launch):
    said = json.dumps({"artifacts": {"made": {"artifacts": [{"metadata": METADATA}]}}})
    made = launch(f"printf '%s' '{said}' > $(dirname {URI})/output_metadata.json")
    [artifact] = made["artifacts"]["made"]
    assert artifact["metadata"] == {"ok": 1.0, "rows": 3.0, "list": {"list": [1.0]}}
    assert artifact["type"] == {"instanceSchema": specs.TYPE}


def test_output_parameters_are_read_from_their_files_by_type(launch):
    kinds = {"text": "STRING", "count": "NUMBER_INTEGER", "good": "BOOLEAN", "rows": "LIST"}
    write = "".join(
        f"echo '{text}' > {{{{$.outputs.parameters['{name}'].output_file}}}}; "
        for name, text in {"text": "a", "count": "3", "good": "true", "rows": "[1]"}.items()
    )
    made = launch(write, output_parameters=kinds)
    assert made["parameters"] == {"text": "a\n", "count": 3.0, "good": True, "rows": [1.0]}


@pytest.mark.parametrize(
    ("command", "kinds", "message"),
    [
        ("echo a; echo 'ValueError: no rows' >&2; echo b; exit 3", {}, "exit status 3: ValueError: no rows; log "),
        ("echo 'the last line'; exit 1", {}, "exit status 1: the last line; log "),
        ("exit 7", {}, "exit status 7: it said nothing; log "),
        ("true", {"count": "NUMBER_INTEGER"}, "its outputs cannot be read: .*No such file"),
        ("echo x > {{$.outputs.parameters['n'].output_file}}", {"n": "NUMBER_INTEGER"}, "cannot be read: invalid"),
        (["echo", "a\0b"], {}, "echo cannot be run: embedded null byte"),
        (["no-such-command"], {}, "no-such-command cannot be run: No such file or directory"),
        ([], {}, "it has no command"),
    ],
)
def test_a_failed_container_leaves_its_last_words(launch, command, kinds, message):
    with pytest.raises(errors.WorkError, match=message):
        launch(command, output_parameters=kinds)


def test_a_null_in_metadata_is_refused_as_the_metadata_store_does():
    with pytest.raises(ValueError, match="the metadata store takes none"):
        launcher.stored(None)


def test_a_fresh_process_sees_its_own_folder_and_nothing_of_this_ones_environment(launch, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("MINE", "1")
    launch("pwd; env", env=[("TOLD", "yes")])
    lines = launch.said.splitlines()
    assert lines[0] == str(tmp_path / "home") and "TOLD=yes" in lines
    assert not [line for line in lines if line.startswith(("PYTHONPATH", "MINE"))]


def test_what_a_container_started_ends_with_its_command(launch, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    launch(f"(exec 3> {pipe}; echo at work >&3; exec sleep 1000) & read line < {pipe}; echo $line")
    assert launch.said == "at work\n"
    os.set_blocking(reader, True)
    assert os.read(reader, 100) == b""  # the end: nobody holds the pipe any more
    os.close(reader)


MODULE = """
import logging, os, random, sys
import brought_along
random.seed(1)
os.environ["LEFT"] = "1"
logging.getLogger().setLevel(1)
logging.getLogger("tests").warning("logged")
logging.getLogger("tests").setLevel(50)
for name in "tests", "tests.new":
    logging.getLogger(name).addHandler(logging.StreamHandler())
logging.disable(50)
os.write(1, b"written\\n")
print("printed", sys.argv[1:], os.getcwd(), os.environ["TOLD"])
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "container_command.py").write_text(MODULE)
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "brought_along.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    first = f"import sys; sys.path.append({str(extra)!r})"
    (tmp_path / "container_command.py").write_text(f"{first}\n{MODULE}")
    return ["python", "-m", "container_command"]


def test_a_module_runs_in_this_process_and_leaves_nothing_behind(launch, module):
    launch.executables = ""
    loggers = [logging.getLogger("tests")]
    before = os.getcwd(), dict(os.environ), sys.argv, sys.path[:], logging.getLogger().level, sys.stdout, sys.stderr
    launch([*module, "0", "two"], env=[("TOLD", "yes")])
    after = os.getcwd(), dict(os.environ), sys.argv, sys.path[:], logging.getLogger().level, sys.stdout, sys.stderr
    assert after == before
    loggers.append(logging.getLogger("tests.new"))
    assert loggers[0].level == 0 and not any(logger.handlers for logger in loggers) and loggers[0].isEnabledFor(40)
    assert "brought_along" not in sys.modules and random.getstate() != random.Random(1).getstate()
    home = os.path.join(os.path.dirname(launch.log), "home")
    assert f"printed ['0', 'two'] {home} yes" in launch.said
    assert "written" in launch.said and "logged" in launch.said


def test_a_module_that_fails_in_this_process_is_a_failed_container(launch, module):
    launch.executables = ""
    with pytest.raises(errors.WorkError, match="exit status 4"):
        launch([*module, "4"], env=[("TOLD", "yes")])
    with pytest.raises(errors.WorkError, match="exit status 1: KeyError: 'TOLD'"):
        launch([*module, "0"])


def test_tensorflow_forgets_a_steps_seeds_and_precision(launch, tmp_path, monkeypatch):
    import tensorflow as tf

    lines = ("import tensorflow as tf", "tf.keras.utils.set_random_seed(1)")
    lines += ("tf.keras.mixed_precision.set_global_policy('mixed_float16')", "tf.keras.layers.Dense(1)")
    (tmp_path / "trains_here.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    launch.executables = ""
    launch(["python", "-m", "trains_here"])
    assert tf.keras.mixed_precision.global_policy().name == "float32"
    assert tf.keras.layers.Dense(1).name == "dense"
    drawn = tf.random.normal([4]).numpy().tolist()
    tf.keras.utils.set_random_seed(1)  # had the step's been left, these would be the same draws
    assert drawn != tf.random.normal([4]).numpy().tolist()


def test_only_python_modules_run_in_this_process():
    assert in_process.can_run(["python", "-m", "x"]) and in_process.can_run(["/usr/bin/python3.10", "-m", "x", "y"])
    assert not in_process.can_run(["python", "-c", "x"]) and not in_process.can_run(["sh", "-m", "x"])
