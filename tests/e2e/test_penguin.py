"""TFX's own penguin example, as it is installed, compiled by TFX: finished for Vertex AI, refused by Kubeflow."""

import json
import os
import random

import pytest

FEATURES = ("culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g")


def write_data(folder):
    """Three kinds of penguins and their schema, in the form the example reads; its own data is not in the package."""
    (folder / "data" / "labelled").mkdir(parents=True)
    draw = random.Random(0)
    kinds = [number % 3 for number in range(180)]
    rows = [(kind, *(f"{draw.gauss(0.2 + 0.3 * kind, 0.05):.4f}" for _ in FEATURES)) for kind in kinds]
    lines = [",".join(("species", *FEATURES)), *(",".join(map(str, row)) for row in rows)]
    (folder / "data" / "labelled" / "penguins.csv").write_text("\n".join(lines))
    always = "presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } }"
    types = {"species": "INT", **dict.fromkeys(FEATURES, "FLOAT")}
    schema = "\n".join(f'feature {{ name: "{name}" type: {kind} {always} }}' for name, kind in types.items())
    (folder / "schema.pbtxt").write_text(schema)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    from tfx import v1 as tfx
    from tfx.examples.penguin import penguin_pipeline_kubeflow as example

    folder = tmp_path_factory.mktemp("penguin")
    write_data(folder)
    pipeline = example.create_pipeline(
        pipeline_name="penguin-kubeflow",
        pipeline_root=str(folder / "root"),
        data_root=str(folder / "data"),
        module_file=os.path.join(os.path.dirname(example.__file__), "penguin_utils_keras.py"),
        ai_platform_training_args={},
        ai_platform_serving_args={},
        enable_tuning=False,
        enable_cache=True,
        user_provided_schema_path=str(folder / "schema.pbtxt"),
        beam_pipeline_args=["--sdk_container_image=none"],
        use_cloud_component=False,
        use_aip=False,
        use_vertex=False,
        serving_model_dir=str(folder / "serving"),
    )
    lib = tfx.orchestration.experimental
    config = lib.KubeflowV2DagRunnerConfig(use_pipeline_spec_2_1=True)
    lib.KubeflowV2DagRunner(config, output_filename=str(folder / "penguin.yaml")).run(pipeline)
    return folder


@pytest.fixture
def rehearse(compiled, processes):
    """Rehearses it in a process of its own: the example trains with a MirroredStrategy, of which a process has one."""

    def run(profile):
        words = ["rehearse", compiled / "penguin.yaml", "--root", compiled / "rehearsed", "--profile", profile]
        words += ["--json", "--param", 'train-args={"num_steps": 60}', "--param", 'eval-args={"num_steps": 3}']
        done = processes.run("longtail.pipeline.cli", *words)
        return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr

    return run


def test_kubeflow_refuses_it_for_its_resolver_before_anything_runs(rehearse, compiled):
    status, record, said = rehearse("kfp")
    assert status == 1 and record is None
    assert "latest_blessed_model_resolver-model-blessing-resolver: resolver executors not implemented" in said
    assert not (compiled / "rehearsed").exists()


def test_vertex_runs_it_to_a_pushed_model(rehearse, compiled):
    status, record, said = rehearse("vertex")
    assert status == 0, said
    assert {step["state"] for step in record["steps"].values()} == {"COMPLETE"} and len(record["steps"]) == 10
    assert "CsvExampleGen: its driver hook runs first; Kubeflow would not run it" in said
    [examples] = record["steps"]["CsvExampleGen"]["outputs"]["artifacts"]["examples"]
    assert examples["metadata"]["input_fingerprint"].startswith("split:single_split,num_files:1")
    [blessing] = record["steps"]["Evaluator"]["outputs"]["artifacts"]["blessing"]
    [model] = record["steps"]["Trainer"]["outputs"]["artifacts"]["model"]
    assert blessing["metadata"]["blessed"] == 1.0 and blessing["metadata"]["current_model_id"] == model["name"]
    assert len(os.listdir(compiled / "serving")) == 1
