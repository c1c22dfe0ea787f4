"""`longtail compile`: what is in the file, that today's kfp SDK reads it, and that one graph is compiled."""

import difflib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import typer.testing
import yaml
from tfx.orchestration import data_types

from longtail.models import errors
from longtail.pipeline import beam
from longtail.pipeline import graph
from longtail.pipeline import recipe
from longtail.pipeline.cli import app as cli
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.compile import compiler as compile_lib
from longtail.pipeline.kubeflow.compile import exposed
from longtail.pipeline.kubeflow.compile import lint
from longtail.pipeline.kubeflow.compile import resources
from longtail.pipeline.local import run
from tests.pipeline.kubeflow.compile import summary

KUBEFLOW = pathlib.Path(__file__).parents[1]
TOP = KUBEFLOW.parents[2]


def call(*words):
    """The command's result, in this process."""
    return typer.testing.CliRunner().invoke(cli.app, ["compile", *words])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The pipeline that the kept summary is of."""
    return summary.compile_glyphs(tmp_path_factory.mktemp("compiled") / "deep" / "glyphs.yaml")


@pytest.fixture(scope="module")
def read(compiled):
    return ir.load(str(compiled))


def build(name="glyphs"):
    """The graph of a recipe, as a local run has it."""
    return graph.build(recipe.load(name), run.places("root", "m"), graph.Span("data"), "m")


def names(name="glyphs"):
    """The names of its components."""
    return {component.id for component in build(name)}


def target(**changes):
    return compile_lib.Target(**{"image": "img", "root": "gs://bucket/root", "data": "gs://bucket/data", **changes})


def tasks(text):
    return {task.name: task for task in ir.read(list(yaml.safe_load_all(text)), "compiled").tasks}


def test_glyphs_compile_to_what_the_summary_says(read):
    new, old = summary.summarise(read), summary.GOLDEN.read_text()
    difference = "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1))
    assert new == old, f"where that is meant, write it anew: python -m {summary.__name__}\n{difference}"


@pytest.fixture(scope="module")
def kfp_python(tmp_path_factory):
    """A Python with the newest kfp SDK in an environment of its own, kept in `.tools/` from one session to the next."""
    lock = KUBEFLOW / "requirements-kfp.txt"
    kept = TOP / ".tools" / "kfp"
    python, mark = kept / "bin" / "python", kept / "lock.txt"
    if mark.exists() and mark.read_text() == lock.read_text():
        return python
    uv = shutil.which("uv") or TOP / ".tools" / "bin" / "uv"
    if not os.access(uv, os.X_OK):
        pytest.skip("needs uv for an environment with the kfp SDK: run make setup")
    new = pathlib.Path(f"{kept}.{os.getpid()}")
    subprocess.run([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, new], check=True)
    command = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", new / "bin" / "python", lock]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(new)
        if any(word in done.stderr for word in ("Failed to fetch", "connect", "dns error", "timed out")):
            pytest.skip(f"the package index cannot be reached: {done.stderr.splitlines()[0]}")
        raise AssertionError(done.stderr)
    (new / mark.name).write_text(lock.read_text())
    shutil.rmtree(kept, ignore_errors=True)
    new.rename(kept)
    return python


def test_the_newest_kfp_sdk_reads_every_field(kfp_python, compiled):
    done = subprocess.run([kfp_python, KUBEFLOW / "read_with_kfp.py", compiled], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["name"] == "longtail-glyphs" and set(found["tasks"]) == names()
    assert found["inputs"]["head_scale"] == ["Float", 8.0] and found["inputs"]["span"] == ["Integer", 1]
    assert found["limits"]["Trainer_executor"] == ["4", "8Gi", "nvidia.com/gpu", "1"]
    assert found["nodes"] == {"Trainer_executor": {"labels": {"accelerator": "nvidia-t4"}, "tolerations": 0}}
    assert found["retries"]["Trainer"] == 2 and found["retries"]["DriftGate"] == 0
    assert set(found["tasks"]) - set(found["cached"]) == set(graph.LOOK_OUTSIDE)


def test_the_lock_of_the_kfp_sdk_has_hashes_and_names_no_index():
    text = (KUBEFLOW / "requirements-kfp.txt").read_text()
    pins = [line for line in text.splitlines() if "==" in line]
    assert "://" not in text and "index-url" not in text
    assert len(pins) > 30 and all(line.endswith("\\") for line in pins)


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_compiles(name):
    found = tasks(compile_lib.compile_recipe(recipe.load(name), target()))
    assert set(found) == names(name) and {task.kind for task in found.values()} == {ir.CONTAINER}


def test_what_is_compiled_is_the_graph_that_runs_locally(read):
    components = build()
    assert {component.id for component in components} == {task.name for task in read.tasks}
    edges = {(task.name, key, one.producer) for task in read.tasks for key, one in task.artifacts.items()}
    local = {
        (component.id, key, channel.producer_component_id)
        for component in components
        for key, channel in component.inputs.items()
    }
    assert edges == local


def test_what_a_run_can_be_told_has_the_recipes_value_as_default(read):
    glyphs = recipe.load("glyphs")
    known = {name: parameter.default for name, parameter in read.parameters.items()}
    others = {"data": glyphs.data.source, "span": 1, "model_name": "glyphs"}
    others |= dict.fromkeys(("accept_drift", "accept_scores", "request_log"), "")
    assert known == others | {
        exposed.parameter_name(key): getattr(getattr(glyphs, key.split(".")[0]), key.split(".")[1])
        for key in (*exposed.DEFAULT, "leap.start_epoch")
    }


def test_each_parameter_reaches_the_steps_it_is_for(read):
    reached = {}
    for task in read.tasks:
        for key, source in task.parameters.items():
            if source.key:
                reached.setdefault(source.key, set()).add(f"{task.name}.{key}")
    assert set(reached) == set(read.parameters)
    assert reached["data"] == {"ImageExampleGen.source"}
    steps = ("ImageExampleGen", "BaselineFinder", "DriftGate", "SpanWindow")
    assert reached["span"] == {f"{step}.span" for step in steps}
    named = (*steps, "Pusher", "GalleryBuilder")
    assert reached["model_name"] == {f"{name}.model_name" for name in named}
    assert reached["head_scale"] == {"Trainer.head_scale"}
    assert reached["rebalance_cap"] == {"Rebalancer.cap"}
    assert reached["evaluation_floor_map"] == {"RetrievalEvaluator.floor_map"}


def test_nothing_is_looked_up_when_it_is_compiled(read):
    [finder] = [task for task in read.tasks if task.name == "BaselineFinder"]
    assert (finder.parameters["pinned_span"].constant, finder.parameters["pinned_version"].constant) == ("auto", "auto")
    assert finder.parameters["models"].constant == "gs://bucket/longtail/models/{MODEL}"


def test_data_of_nobodys_is_a_parameter_that_each_run_must_give():
    text = compile_lib.compile_recipe(recipe.load("omniglot_lt"), target(data=""))
    assert ir.read(list(yaml.safe_load_all(text)), "x").parameters["data"].default is None
    assert "#   data: STRING [default: none, each run says]" in text


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("head.scal", "no such key; did you mean 'head.scale'?"),
        ("model.image", "holds more than one value"),
        ("data.max_pixels", "is compiled into several steps"),
        ("drift.thresholds", "holds more than one value"),
        ("zzz", "no such key; one of"),
    ],
)
def test_a_key_that_cannot_be_left_open_is_refused(key, why):
    with pytest.raises(errors.UsageError) as caught:
        exposed.leave_open(recipe.load("glyphs"), [key])
    assert str(caught.value).startswith(f"--parameter {key}: ") and why in str(caught.value)


def test_every_key_that_can_be_left_open_compiles():
    everything = target(parameters=tuple(exposed.choices()))
    found = tasks(compile_lib.compile_recipe(recipe.load("glyphs"), everything))
    open_keys = {source.key for task in found.values() for source in task.parameters.values() if source.key}
    assert {exposed.parameter_name(key) for key in exposed.choices()} < open_keys


def test_a_flag_is_left_open_as_a_number():
    flip = exposed.leave_open(recipe.load("glyphs"), ["augment.flip"]).augment.flip
    assert isinstance(flip, data_types.RuntimeParameter) and (flip.ptype, flip.default) == (int, 0)


def test_beam_arguments_are_in_the_environment_of_every_beam_step_and_in_no_command():
    default, asked = (
        tasks(compile_lib.compile_recipe(recipe.load("glyphs"), target(beam_args=args)))
        for args in ((), ["--runner=FlinkRunner", "--flink_master=flink:8081"])
    )
    on_beam = {"ImageExampleGen", "StatisticsGen", "Rebalancer", "Transform", "GalleryBuilder"}
    assert {name for name, task in asked.items() if beam.ENVIRONMENT in task.env} == on_beam
    assert json.loads(asked["Transform"].env[beam.ENVIRONMENT]) == ["--runner=FlinkRunner", "--flink_master=flink:8081"]
    # What Kubeflow makes its cache key of, and what may differ.
    assert all((a.image, a.command, a.args) == (b.image, b.command, b.args) for a, b in zip(
        default.values(), asked.values(), strict=True
    ))  # fmt: skip


def test_a_step_has_its_own_image_resources_nodes_and_cache():
    own = resources.Step(
        image="other:2", cpu="8", memory="32Gi", accelerators=2, cache=False, retries=0, env={"A": "b"},
        tolerations=(resources.Toleration("nvidia.com/gpu", effect="NoSchedule"),), node_selector={"gpu": "yes"},
    )  # fmt: skip
    given = resources.Resources(resources.Step(memory="6Gi"), {"Transform": own})
    found = tasks(compile_lib.compile_recipe(recipe.load("glyphs"), target(resources=given)))
    transform, other = found["Transform"], found["Trainer"]
    assert (transform.image, other.image) == ("other:2", "img")
    assert transform.resources["resourceCpuLimit"] == "8" and transform.resources["cpuLimit"] == 8.0
    assert transform.resources["accelerator"]["resourceCount"] == "2"
    assert other.resources["resourceMemoryLimit"] == "6Gi" and other.resources["memoryLimit"] == 6.442450944
    assert transform.platform == {
        "nodeSelector": {"labels": {"gpu": "yes"}},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    assert not transform.caching and other.caching and transform.env["A"] == "b"
    assert not transform.spec.HasField("retry_policy") and other.spec.retry_policy.max_retry_count == 2


def test_resources_of_a_step_that_does_not_exist_are_refused():
    given = resources.Resources(steps={"Trainr": resources.Step(cpu="1")})
    with pytest.raises(errors.UsageError, match="steps.Trainr: no such step; did you mean 'Trainer'"):
        compile_lib.compile_recipe(recipe.load("glyphs"), target(resources=given))


def test_the_command_tells_every_finding_and_writes_nothing(tmp_path):
    path = tmp_path / "p.yaml"
    result = call(
        *("--recipe", "omniglot_lt", "--data", "/data/omniglot.zip", "--image", " ", "--pipeline-root", "/folder/here"),
        *("--output", str(path)),
    )
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and not path.exists()
    assert all(line.startswith("longtail: error: ") for line in lines)
    assert sum("image: has none" in line for line in lines) == len(names())
    assert any("pipeline: root: '/folder/here' is no object store" in line for line in lines)
    assert any("pipeline: data: /data/omniglot.zip is a path of this machine" in line for line in lines)


def test_a_relative_path_is_a_path_of_this_machine_too(tmp_path):
    words = ("--recipe", "omniglot_lt", "--image", "i", "--pipeline-root", "gs://b", "--data", "data/omniglot.zip")
    result = call(*words, "--output", str(tmp_path / "p.yaml"))
    assert result.exit_code == 2 and "data/omniglot.zip is a path of this machine" in result.stderr


def test_a_training_of_hours_is_tried_again_and_has_time_to_end(compiled):
    document, _ = yaml.safe_load_all(compiled.read_text())
    policy = document["root"]["dag"]["tasks"]["Trainer"]["retryPolicy"]
    assert int(policy["backoffMaxDuration"].rstrip("s")) >= 7 * 86400  # Argo's deadline, from the first attempt on


def test_a_rehearsal_may_be_compiled_for_local_folders(tmp_path):
    path = tmp_path / "p.yaml"
    words = ("--recipe", "omniglot_lt", "--data", str(tmp_path), "--image", "i", "--pipeline-root", str(tmp_path))
    result = call(*words, "--local", "--output", str(path))
    assert result.exit_code == 0, result.output
    assert ir.load(str(path)).root == str(tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    result = call(*summary.WORDS, "--output", str(tmp_path / "p.json"))
    assert isinstance(result.exception, errors.UsageError) and "name the file so" in str(result.exception)


def test_refused_is_bad_usage():
    with pytest.raises(lint.Refused) as refused:
        compile_lib.compile_recipe(recipe.load("glyphs"), target(root="/tmp/x"))
    assert refused.value.exit_status == 2


def test_the_trainer_is_given_the_blessed_model_only_where_it_is_to_start_from_it(tmp_path, read):
    def trainers_inputs(pipeline):
        [task] = [task for task in pipeline.tasks if task.name == "Trainer"]
        return {key: f"{source.producer}.{source.key}" for key, source in task.artifacts.items()}

    output = tmp_path / "warm.yaml"
    words = ("--recipe", "glyphs", "--image", "img", "--pipeline-root", "gs://bucket/root", "--output", str(output))
    done = call(*words, "--set", "training.start_from=blessed")
    assert done.exit_code == 0, done.output
    warm, cold = trainers_inputs(ir.load(str(output))), trainers_inputs(read)
    assert dict(warm.items() - cold.items()) == {"base_model": "BaselineFinder.baseline_model"}
