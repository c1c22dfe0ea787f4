"""One importable root: whatever is installed, whatever lies in the working folder, `longtail` alone is imported."""

import functools
import json
import shutil
import subprocess

import pytest
import tensorflow as tf
import yaml

import longtail
from longtail.components.data import features
from longtail.models.export import signatures
from longtail.pipeline import recipe
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.rehearse import image
from tests import install
from tests.components import ingestion
from tests.pipeline.kubeflow.compile import summary
from tests.serving import conftest as serving

SOURCE = "glyphs:identities=12,head=3,head_images=5,tail_images=2,size=16"
FUNCTIONS = ("run_fn", "preprocessing_fn")
MULTI_PROCESSING = ["--direct_running_mode=multi_processing", "--direct_num_workers=2", "--sdk_container_image=none"]


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


def test_beam_workers_in_other_processes_find_it_and_make_the_same_examples(run, tmp_path):
    script = (
        "import dataclasses, json, sys\n"
        "from tfx.types import standard_artifacts\n"
        "from longtail.components import artifacts, config\n"
        "from longtail.components.image_example_gen import component, executor\n"
        "root, source, beam = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])\n"
        "outputs = {'examples': standard_artifacts.Examples(), 'quarantine': artifacts.Quarantine()}\n"
        "for name, artifact in outputs.items(): artifact.uri = f'{root}/{name}'\n"
        "context = executor.Executor.Context(beam_pipeline_args=beam, tmp_dir=f'{root}/tmp')\n"
        "settings = dataclasses.asdict(config.Data(source=source))\n"
        "given = component.ImageExampleGen(**settings, span=1, fingerprint='').exec_properties\n"
        "executor.Executor(context).Do({}, {name: [one] for name, one in outputs.items()}, given)\n"
    )
    (tmp_path / "ingest.py").write_text(script)
    run("python", tmp_path / "ingest.py", tmp_path / "apart", SOURCE, json.dumps(MULTI_PROCESSING))
    assert ingestion.Ingested(tmp_path / "apart").files() == ingestion.ingest(tmp_path / "here", SOURCE).files()


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
