"""One importable root: whatever is installed, whatever lies in the working folder, `longtail` alone is imported."""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import signal
import socket
import subprocess

import grpc
import pytest
import tensorflow as tf
import yaml
from tfx.types import standard_artifacts

import longtail
from longtail.components import artifacts
from longtail.components import config
from longtail.components.data import features
from longtail.components.rebalancer import executor
from longtail.models.export import signatures
from longtail.pipeline import beam
from longtail.pipeline import recipe
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.rehearse import image
from tests import install
from tests.components import examples
from tests.components import ingestion
from tests.pipeline.kubeflow.compile import summary
from tests.serving import conftest as serving

SOURCE = "glyphs:identities=12,head=3,head_images=5,tail_images=2,size=16"
FUNCTIONS = ("run_fn", "preprocessing_fn")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The site-packages of a clean environment that the wheel is installed in."""
    folder = tmp_path_factory.mktemp("installed")
    return install.install(install.build_wheel(folder), folder / "environment")


@pytest.fixture(scope="module")
def executables(packages):
    """Where its commands are."""
    return packages.parents[2] / "bin"


def start(executables, folder, command, *words):
    """Runs a command of that environment in a folder; returns what it prints."""
    environment = image.environment(str(executables), str(folder))
    words = [executables / command, *map(str, words)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run(executables, tmp_path):
    """Runs a command of that environment in a folder with foreign `models.py` and the like; returns what it prints."""
    return functools.partial(start, executables, install.foreign_folder(tmp_path / "users"))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The glyphs recipe, compiled for Kubeflow."""
    return ir.load(str(summary.compile_glyphs(tmp_path_factory.mktemp("compiled") / "glyphs.yaml")))


def test_longtail_alone_appears_in_site_packages(packages):
    brought = {path.name for path in packages.iterdir()} - {"packages.pth"}
    assert brought == {"longtail", f"longtail-{longtail.__version__}.dist-info"}


def test_the_wheel_holds_every_file_of_every_room(packages):
    def files(folder):
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}

    checkout = {f"{room}/{name}" for room in install.ROOMS for name in files(install.TOP / room)}
    assert files(packages / "longtail") == checkout | {"__init__.py", "py.typed"}
    assert {f"pipeline/recipes/{name}.yaml" for name in recipe.names()} <= checkout


def test_the_console_command_says_its_version(run):
    assert run("longtail", "--version") == f"longtail {longtail.__version__}\n"


@pytest.mark.parametrize("command", [("longtail",), ("python", "-m", "longtail.pipeline.cli")])
def test_the_command_starts_beside_foreign_modules(run, command):
    assert "Kubeflow Pipelines" in run(*command, "--help")


@pytest.fixture(scope="module")
def named(compiled):
    """What a compiled pipeline and a TFJob name and someone else imports: classes, functions, modules' `main`."""
    executors = {task.args[task.args.index("--executor_class_path") + 1] for task in compiled.tasks}
    modules = {task.command[task.command.index("-m") + 1] for task in compiled.tasks}
    parameters = [task.parameters[key] for task in compiled.tasks for key in FUNCTIONS if key in task.parameters]
    types = {title for task in compiled.tasks for title in task.outputs.values() if not title.startswith("tfx.")}
    job = yaml.safe_load((install.TOP / "deploy/kubernetes/training/tfjob.yaml").read_text())
    pods = [replica["template"]["spec"] for replica in job["spec"]["tfReplicaSpecs"].values()]
    modules |= {pod["containers"][0]["command"][-1] for pod in pods}
    assert len(parameters) == len(FUNCTIONS) and types and modules
    return executors | types | {one.constant for one in parameters} | {f"{module}.main" for module in modules}


@pytest.fixture(scope="module")
def imported(executables, named, tmp_path_factory):
    """Where a process beside foreign modules found every module of longtail, and which of the names it did not find."""
    folder = install.foreign_folder(tmp_path_factory.mktemp("users"))
    script = (
        "import importlib, json, pkgutil, sys\n"
        "import longtail\n"
        "for found in pkgutil.walk_packages(longtail.__path__, 'longtail.'):\n"
        "    if not found.name.endswith('__main__'):\n"
        "        importlib.import_module(found.name)\n"
        "ours = [module.__file__ for name, module in sys.modules.items() if name.split('.')[0] == 'longtail']\n"
        "lost = []\n"
        "for name in sys.argv[1:]:\n"
        "    module, _, word = name.rpartition('.')\n"
        "    if not callable(getattr(importlib.import_module(module), word, None)):\n"
        "        lost.append(name)\n"
        "print(json.dumps([ours, lost]))\n"
    )
    return json.loads(start(executables, folder, "python", "-c", script, *sorted(named)))


def test_every_module_imports_beside_foreign_modules_and_from_the_wheel(imported, packages):
    modules = {str(path) for path in (packages / "longtail").rglob("*.py") if path.name != "__main__.py"}
    assert set(imported[0]) == modules


def test_what_a_compiled_pipeline_and_a_tfjob_name_is_found_from_another_folder(imported):
    assert imported[1] == []


def test_in_a_checkout_too_the_rooms_are_not_taken_from_the_working_folder(tmp_path):
    script = "import longtail.models.errors, longtail.serving.client, longtail.components.data, longtail.pipeline"
    done = subprocess.run(
        [shutil.which("python", path=image.this_environment()), "-c", script],
        cwd=install.foreign_folder(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_step_of_a_tfjob_runs_beside_foreign_modules(run, compiled, tmp_path):
    [task] = [task for task in compiled.tasks if task.name == "CuratedSchema"]
    schema = {"instanceSchema": "title: tfx.Schema\ntype: object\n"}
    outputs = {
        key: {"artifacts": [{"name": key, "uri": str(tmp_path / "made" / key), "type": schema}]} for key in task.outputs
    }
    given = {
        "inputs": {"parameterValues": {key: source.constant for key, source in task.parameters.items()}},
        "outputs": {"outputFile": str(tmp_path / "made" / "output.json"), "artifacts": outputs},
    }
    (tmp_path / "input.json").write_text(json.dumps(given))
    run("python", "-m", "longtail.pipeline.kubeflow.step", compiled.path, task.name, tmp_path / "input.json")
    assert (tmp_path / "made" / "schema" / "schema.pbtxt").read_text()


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.fixture
def engine(executables, tmp_path):
    """Arguments for Beam's portable job service and a pool of workers: processes of that environment, beside foreign
    modules, whose workers are processes in turn.
    """
    folder = install.foreign_folder(tmp_path / "engine")
    environment = image.environment(str(executables), str(folder))
    job_port, pool_port = free_port(), free_port()
    commands = {
        job_port: ["portability.local_job_service_main", f"--job_port={job_port}"],
        pool_port: ["worker.worker_pool_main", f"--service_port={pool_port}"],
    }
    with contextlib.ExitStack() as ended:
        for name, words in commands.items():
            log = ended.enter_context(open(tmp_path / f"{name}.log", "w"))
            words = [executables / "python", "-m", f"apache_beam.runners.{words[0]}", words[1]]
            process = subprocess.Popen(
                words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
            ended.callback(process.wait)
            ended.callback(os.killpg, process.pid, signal.SIGKILL)  # its workers too
        for port in commands:
            with grpc.insecure_channel(f"localhost:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=120)
        given = [f"--job_endpoint=localhost:{job_port}", f"--environment_config=localhost:{pool_port}"]
        yield beam.arguments(["--runner=PortableRunner", "--environment_type=EXTERNAL", *given])


def rebalanced(folder, ingested, beam_args):
    """Every file that a rebalancing of ingested examples makes."""
    outputs = {
        executor.REBALANCED_EXAMPLES_KEY: examples.artifact(standard_artifacts.Examples, folder / "rebalanced"),
        executor.CENSUS_KEY: examples.artifact(artifacts.ClassCensus, folder / "census"),
    }
    settings = {**dataclasses.asdict(config.Rebalance(strategy="repeat", repeat_to=4)), "leap_variant": "none"}
    context = executor.Executor.Context(beam_pipeline_args=list(beam_args), tmp_dir=str(folder / "tmp"))
    given = {executor.WINDOW_KEY: examples.window(folder / "window", ingested.examples)}
    executor.Executor(context).Do(given, outputs, {**settings, "head_threshold": 10})
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for output in ("rebalanced", "census")
        for path in (folder / output).rglob("*")
        if path.is_file()
    }


def test_another_engine_with_workers_in_other_processes_makes_the_same_examples(engine, tmp_path):
    apart = ingestion.ingest(tmp_path / "apart", SOURCE, engine)
    here = ingestion.ingest(tmp_path / "here", SOURCE)
    assert apart.files() == here.files()
    assert rebalanced(tmp_path / "apart", apart, engine) == rebalanced(tmp_path / "here", here, ingestion.BEAM)


@pytest.fixture
def root(tiny_saved_model, tmp_path):
    """A root as a finished run leaves it, as far as `longtail try` reads it: four people of one image each."""
    model = tmp_path / "root" / "models" / "tiny" / "1"
    shutil.copytree(tiny_saved_model / "1", model)
    encoded = [serving.encode(seed) for seed in range(4)]
    embed = tf.saved_model.load(str(model)).signatures[signatures.SERVING]
    embedded = embed(image_bytes=tf.constant(encoded))[signatures.EMBEDDING].numpy()
    (tmp_path / "root" / "galleries").mkdir()
    serving.write_gallery(tmp_path / "root" / "galleries", embedded)
    split = tmp_path / "root" / "examples" / f"Split-{features.EVAL_SPLIT}"
    split.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(split / "data.gz"), "GZIP") as writer:
        for number, content in enumerate(encoded):
            words = {
                features.ENCODED: content,
                features.IDENTITY: f"person {number}".encode(),
                features.SPLIT: features.QUERY,
            }
            example = tf.train.Example()
            for key, word in words.items():
                example.features.feature[key].bytes_list.value.append(word)
            writer.write(example.SerializeToString())
    done = {"pushed_model": str(model), "gallery": str(tmp_path / "root" / "galleries"), "reason": ""}
    (tmp_path / "root" / "summary.json").write_text(json.dumps(done | {"artifacts": {"examples": str(split.parent)}}))
    return tmp_path / "root"


def test_try_starts_a_server_beside_foreign_modules_and_is_answered(run, root):
    tried = json.loads(run("longtail", "try", "--root", root, "--json"))
    assert tried["images"] == 4 and tried["rank1"] == 1.0
