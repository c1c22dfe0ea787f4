"""The linter: what TFX's compiler lets pass, and what it stops at with many words, is refused in one line each."""

import sys

import pytest
import tensorflow as tf
import yaml
from tfx import types
from tfx import v1 as tfx
from tfx.dsl.component.experimental import container_component
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import base_executor
from tfx.dsl.components.base import executor_spec
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner
from tfx.types import component_spec
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.pipeline.kubeflow.compile import compiler as compile_lib
from longtail.pipeline.kubeflow.compile import lint

ROOT = "gs://bucket/root"


class TwoDots(types.Artifact):
    TYPE_NAME = "tests.pipeline.TwoDots"


class Nowhere(types.Artifact):
    TYPE_NAME = "longtail.Nowhere"


class MyStrategy(tfx.dsl.experimental.LatestArtifactStrategy):
    """A resolver of one's own."""


class Executor(base_executor.BaseExecutor):
    """Does nothing."""

    def Do(self, input_dict, output_dict, exec_properties):  # noqa: N802 - TFX's name
        """Nothing."""


def step(outputs=(), inputs=(), properties=None, name="Step", executor=Executor):
    """A component; `outputs` key -> type, `inputs` key -> channel."""
    outputs, inputs, properties = dict(outputs), dict(inputs), properties or {}

    class Spec(component_spec.ComponentSpec):
        PARAMETERS = {key: component_spec.ExecutionParameter(type=str) for key in properties}
        INPUTS = {key: component_spec.ChannelParameter(type=value.type) for key, value in inputs.items()}
        OUTPUTS = {key: component_spec.ChannelParameter(type=value) for key, value in outputs.items()}

    class Component(base_component.BaseComponent):
        SPEC_CLASS = Spec
        EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor)

    channels = {key: types.Channel(type=value) for key, value in outputs.items()}
    return Component(spec=Spec(**properties, **inputs, **channels)).with_id(name)


def infra_validator():
    """TFX's, on a model that a step makes."""
    first = step({"model": standard_artifacts.Model}, name="First")
    kubernetes = tfx.proto.KubernetesConfig()
    serving = tfx.proto.ServingSpec(tensorflow_serving={"tags": ["latest"]}, kubernetes=kubernetes)
    return [first, tfx.components.InfraValidator(model=first.outputs["model"], serving_spec=serving)]


def pipeline(*components, name="p", root=ROOT):
    return tfx.dsl.Pipeline(name, root, components=list(components))


def by_tfx(made, image="registry.example/longtail:1"):
    """The compiled pipeline, by TFX's compiler alone."""
    config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(default_image=image, use_pipeline_spec_2_1=True)
    spec = kubeflow_v2_dag_runner.KubeflowV2DagRunner(config).run(made, write_out=False)["pipelineSpec"]
    return [spec | {"defaultPipelineRoot": made.pipeline_info.pipeline_root}]


def said(findings):
    """Findings as lines."""
    lines = [str(finding) for finding in findings]
    assert not any("\n" in line for line in lines)
    return lines


def test_a_pipeline_with_nothing_wrong_has_no_findings():
    made = pipeline(step({"gallery": artifacts.Gallery}))
    assert said(lint.pipeline(made)) + said(lint.document(by_tfx(made))) == []


# -- what TFX's compiler lets pass


def test_a_resolver_that_compiles_is_refused():
    make = lambda: pipeline(  # noqa: E731 - a pipeline compiles once
        tfx.dsl.Resolver(
            strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
            model=tfx.dsl.Channel(type=standard_artifacts.Model),
            model_blessing=tfx.dsl.Channel(type=standard_artifacts.ModelBlessing),
        ).with_id("blessed")
    )
    documents = by_tfx(make())
    assert any("resolver" in one for one in documents[0]["deploymentSpec"]["executors"].values())
    assert said(lint.pipeline(make())) == [
        "blessed: strategy: Kubeflow Pipelines runs no resolver; let a component of yours look it up"
    ]
    assert any("runs no resolver" in line for line in said(lint.document(documents)))


def test_a_value_taken_from_another_task_is_refused_and_so_is_what_it_compiles_to():
    def make():
        first = step({"value": standard_artifacts.String}, name="First")
        second = step(properties={"text": first.outputs["value"].future()[0].value}, name="Second")
        return pipeline(first, second)

    documents = by_tfx(make())
    [line] = said(lint.pipeline(make()))
    assert line.startswith("Second: text: takes its value from another task")
    assert said(lint.document(documents)) == ["Second: text: comes from task 'First_task', which does not exist"]


def test_a_driver_hook_is_refused():
    documents = by_tfx(pipeline(tfx.components.CsvExampleGen(input_base="gs://bucket/data")))
    [line] = said(lint.document(documents))
    assert line.startswith("CsvExampleGen: lifecycle.preCacheCheck: Kubeflow Pipelines runs no driver hook")


def test_a_path_of_this_machine_is_refused_wherever_it_hides():
    made = pipeline(step(properties={"plain": "/data/x", "hidden": '{"a": [{"b": "/data/y"}]}', "uri": "gs://b/x"}))
    documents = by_tfx(made)
    assert said(lint.document(documents)) == [
        "Step: hidden: /data/y is a path of this machine; give an object store's, or --local for a rehearsal",
        "Step: plain: /data/x is a path of this machine; give an object store's, or --local for a rehearsal",
    ]
    assert said(lint.document(documents, local=True)) == []


@pytest.mark.parametrize(
    ("root", "why"),
    [
        ("/home/me/root", "is no object store"),
        ("gs://", "is no object store"),
        ("minio://b/root", "TensorFlow has no file system for minio://"),
    ],
)
def test_a_root_that_steps_cannot_write_to_is_refused(root, why):
    [line] = said(lint.document(by_tfx(pipeline(step(), root=root))))
    assert line.startswith("pipeline: root: ") and why in line


def test_a_local_root_is_fine_for_a_rehearsal():
    assert said(lint.document(by_tfx(pipeline(step(), root="/home/me/root")), local=True)) == []


def test_a_value_whose_parent_folder_nobody_makes_is_refused(tmp_path):
    def make(root):
        return pipeline(step({"value": standard_artifacts.String}), root=root)

    missing = tmp_path / "Step" / "1"
    by_tfx(make(str(tmp_path)))
    [line] = said(lint.pipeline(make(str(tmp_path))))
    assert line == f"Step: value: a value's parent folder is missing below {tmp_path}; take an object store as the root"
    assert said(lint.pipeline(make(ROOT))) == []
    value = standard_artifacts.String()  # and this is what happens where nobody makes it
    value.uri = str(missing / "value")
    with pytest.raises(tf.errors.NotFoundError):
        value.write("text")


def test_a_component_without_an_image_is_refused():
    made = container_component.create_container_component("Bare", image="", command=["true"])()
    assert said(lint.document(by_tfx(pipeline(made)))) == [
        "Bare: image: has none; give --image, or the step's own in the resources file"
    ]


def test_an_image_that_is_none_is_refused():
    [line] = said(lint.document(by_tfx(pipeline(step()), image="registry.example/long tail:1")))
    assert line == "Step: image: 'registry.example/long tail:1' is no image; write registry/name:tag"


def test_an_importer_under_a_condition_is_refused():
    first = step({"model": standard_artifacts.Model}, name="First")
    with tfx.dsl.Cond(first.outputs["model"].future()[0].custom_property("ok") == 1):
        importer = tfx.dsl.Importer("gs://bucket/model", artifact_type=standard_artifacts.Model).with_id("Found")
    assert said(lint.document(by_tfx(pipeline(first, importer)))) == [
        "Found: condition: Kubeflow Pipelines takes none of an importer; put it on what reads it"
    ]


def test_tfx_own_image_is_refused_where_it_does_not_hold_the_executor():
    documents = by_tfx(pipeline(step()), image=None)
    [line] = said(lint.document(documents))
    assert line.startswith("Step: image: gcr.io/tfx-oss-public/tfx") and "does not hold tests.pipeline" in line


def test_an_artifact_type_that_cannot_be_imported_is_refused():
    make = lambda: pipeline(step({"out": Nowhere}))  # noqa: E731 - a pipeline compiles once
    by_tfx(make())
    assert said(lint.pipeline(make())) == [
        "Step: out: artifact type 'longtail.Nowhere' is not where its class can be imported from"
    ]


def test_an_executor_that_no_container_can_import_is_refused(monkeypatch):
    of_a_script = type("OfAScript", (Executor,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "OfAScript", of_a_script, raising=False)
    make = lambda: pipeline(step(executor=of_a_script))  # noqa: E731 - a pipeline compiles once
    by_tfx(make())
    assert said(lint.pipeline(make())) == [
        "Step: executor: __main__.OfAScript is not there in a container; put it into a module"
    ]


@pytest.mark.parametrize("name", ["first_step", "Step.two"])
def test_a_step_whose_name_argo_does_not_take_is_refused(name):
    assert said(lint.document(by_tfx(pipeline(step(name=name))))) == [
        f"{name}: id: Argo takes letters, digits and '-' in the name of a step; give it with_id(...)"
    ]


def test_a_name_that_ends_in_a_hyphen_is_refused():
    made = pipeline(step(), name="glyphs-")
    by_tfx(made)
    [line] = said(lint.pipeline(made))
    assert line.startswith("pipeline: name: 'glyphs-' must begin and end with a letter or digit")


def test_a_parameter_that_nobody_declares_is_refused():
    [spec] = by_tfx(pipeline(step(properties={"text": "t"})))
    spec["root"]["dag"]["tasks"]["Step"]["inputs"]["parameters"]["text"] = {"componentInputParameter": "gone"}
    assert said(lint.document([spec])) == ["Step: text: there is no runtime parameter 'gone'; declare it"]


def test_an_output_that_its_producer_does_not_have_is_refused():
    first = step({"gallery": artifacts.Gallery}, name="First")
    [spec] = by_tfx(pipeline(first, step(inputs={"gallery": first.outputs["gallery"]}, name="Second")))
    text = yaml.safe_dump(spec).replace("outputArtifactKey: gallery", "outputArtifactKey: galery")
    assert said(lint.document([yaml.safe_load(text)])) == [
        "Second: gallery: comes from First.galery, which it does not have"
    ]


# -- what TFX's compiler stops at


@pytest.mark.parametrize(
    ("make", "error", "line"),
    [
        (
            lambda: pipeline(
                tfx.dsl.Resolver(strategy_class=MyStrategy, model=tfx.dsl.Channel(type=standard_artifacts.Model))
            ),
            TypeError,
            "Resolver: strategy: Kubeflow Pipelines has no MyStrategy, and runs no resolver at all; let a component of "
            "yours look it up",
        ),
        (
            lambda: pipeline(step(), name="my_pipeline"),
            ValueError,
            "pipeline: name: 'my_pipeline' may not hold _; use lower-case letters, digits and '-'",
        ),
        (
            lambda: pipeline(step({"out": TwoDots})),
            ValueError,
            "Step: out: artifact type 'tests.pipeline.TwoDots' must be 'package.Class' with one dot",
        ),
        (
            lambda: pipeline(*infra_validator()),
            NotImplementedError,
            "InfraValidator: component: there is no InfraValidator on Kubeflow; load the model in a step",
        ),
    ],
    ids=["custom resolver", "underscore", "two dots", "InfraValidator"],
)
def test_what_tfx_compiler_raises_is_one_line_too(make, error, line):
    with pytest.raises(error):
        by_tfx(make())
    with pytest.raises(lint.Refused) as refused:
        compile_lib.compile_pipeline(make(), compile_lib.Target("img", ROOT))
    assert said(refused.value.findings) == [line]


def test_any_other_refusal_of_tfx_compiler_is_one_line():
    made = pipeline(step(properties={"text": tfx.dsl.placeholders.output("x").uri}))
    with pytest.raises(lint.Refused) as refused, lint.tfx_errors():
        by_tfx(made)
    [line] = said(refused.value.findings)
    assert line.startswith("pipeline: compiler: TFX's compiler refuses it: ")


def test_all_findings_are_told_at_once():
    made = pipeline(step({"out": TwoDots}, name="A"), step({"out": Nowhere}, name="B"), name="a_b")
    with pytest.raises(lint.Refused) as refused:
        lint.check(lint.pipeline(made))
    assert [finding.component for finding in refused.value.findings] == ["pipeline", "A", "B"]


def test_what_is_wrong_with_the_pipeline_and_with_its_file_is_told_together_and_once():
    first = step({"value": standard_artifacts.String}, name="First")
    properties = {"text": first.outputs["value"].future()[0].value, "path": "/data/x"}
    made = pipeline(first, step(properties=properties, name="Second"))
    with pytest.raises(lint.Refused) as refused:
        compile_lib.compile_pipeline(made, compile_lib.Target("img", ROOT))
    assert [(one.component, one.key) for one in refused.value.findings] == [("Second", "text"), ("Second", "path")]


def test_a_file_that_is_no_pipeline_is_one_finding():
    [line] = said(lint.document([{"pipelineInfo": {"name": "p"}, "root": {}, "schemaVersion": "2.0.0"}]))
    assert "schemaVersion is 2.0.0" in line
