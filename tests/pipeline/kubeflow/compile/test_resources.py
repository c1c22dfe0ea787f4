"""The resources file: read over the house's defaults, and refused in one line where Kubernetes would refuse it."""

import pytest

from longtail.models import errors
from longtail.pipeline.kubeflow.compile import resources

FILE = """
default: {memory: 6Gi, tolerations: [{key: spot, effect: NoSchedule}]}
steps:
  Trainer:
    image: registry.example/longtail:1-cuda
    cpu: 8
    memory: 32Gi
    accelerators: 1
    node_selector: {accelerator: nvidia-t4, pool: 7}
    env: {TF_GPU_ALLOCATOR: cuda_malloc_async, N: 2}
"""


def load(tmp_path, text):
    path = tmp_path / "resources.yaml"
    path.write_text(text)
    return resources.load(str(path))


def test_a_step_has_its_own_word_then_the_files_default_then_the_houses(tmp_path):
    given = load(tmp_path, FILE)
    trainer, transform = given.of("Trainer"), given.of("Transform")
    assert (trainer.cpu, trainer.memory, trainer.retries) == ("8", "32Gi", 2)
    assert (transform.cpu, transform.memory, transform.image) == ("2", "6Gi", None)
    assert trainer.accelerator == "nvidia.com/gpu" and trainer.tolerations == transform.tolerations
    assert given.of("DriftGate").retries == 0


def test_numbers_become_the_texts_that_kubernetes_takes(tmp_path):
    trainer = load(tmp_path, FILE).of("Trainer")
    assert trainer.node_selector == {"accelerator": "nvidia-t4", "pool": "7"}
    assert trainer.env == {"TF_GPU_ALLOCATOR": "cuda_malloc_async", "N": "2"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("steps: {Trainer: {cpus: 1}}", "unknown key 'steps.Trainer.cpus'; did you mean 'steps.Trainer.cpu'?"),
        ("steps: {Trainer: {cpu: many}}", "steps.Trainer.cpu: 'many' is no quantity of Kubernetes"),
        ("default: {memory: 8GB}", "default.memory: '8GB' is no quantity"),
        ("default: {accelerators: -1}", "default.accelerators: must be 0 or more, not -1"),
        ("default: {retries: often}", "default.retries must be a whole number, not 'often'"),
        ("default: {node_selector: {a b: c}}", "a b=c is no label of a node"),
        ("default: {accelerator: two words}", "'two words' is no resource"),
        ("default: {image: a b}", "'a b' is no image"),
        ("default: {env: {a b: 1}}", "default.env: 'a b' is no name of a variable"),
        ("steps: {Trainer: {cpu: 1, cpu_request: 1500m}}", "Trainer.cpu_request: 1500m is more than the limit, cpu: 1"),
        ("default: {tolerations: [{key: a, effect: NoShedule}]}", "tolerations.effect: unknown 'NoShedule'"),
        ("default: {tolerations: [{key: a, operator: In}]}", "tolerations.operator: unknown 'In'"),
        ("default: {tolerations: [{key: a, operator: Exists, value: b}]}", "tolerations.value: Exists takes none"),
        ("default: {tolerations: [{value: b}]}", "tolerations.key: is missing"),
        ("default: {tolerations: {key: a}}", "must be a list, each item a mapping, not {'key': 'a'}"),
        ("steps: [Trainer]", "steps must be a mapping, each value a mapping, not ['Trainer']"),
        ("default: [", "not YAML"),
        ("- a", "must be a mapping"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_file_and_key(tmp_path, text, why):
    with pytest.raises(errors.UsageError) as caught:
        load(tmp_path, text)
    assert why in str(caught.value) and "resources.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_said():
    with pytest.raises(errors.UsageError, match="--resources nowhere.yaml: cannot be read"):
        resources.load("nowhere.yaml")


@pytest.mark.parametrize(
    ("quantity", "number"), [("500m", 0.5), ("2", 2.0), ("8Gi", 8 * 2.0**30), ("1.5G", 1.5e9), ("64Ki", 65536.0)]
)
def test_quantities_are_kubernetes_own(quantity, number):
    assert resources.amount(quantity) == pytest.approx(number)


def test_the_command_lines_word_on_the_trainer_is_over_the_files(tmp_path):
    given = resources.with_trainer(load(tmp_path, FILE), 4, ["pool=gpu"])
    assert (given.of("Trainer").accelerators, given.of("Trainer").cpu) == (4, "8")
    assert given.of("Trainer").node_selector == {"pool": "gpu"}
    with pytest.raises(errors.UsageError, match="a b=c is no label"):
        resources.with_trainer(given, None, ["a b=c"])
    with pytest.raises(errors.UsageError, match="--node-selector pool: write KEY=VALUE"):
        resources.with_trainer(given, None, ["pool"])


def test_a_limit_below_what_the_house_asks_for_is_asked_for(tmp_path):
    small = load(tmp_path, "steps: {Trainer: {cpu: 500m, memory: 1Gi}}").of("Trainer")
    assert (small.cpu_request, small.memory_request) == ("500m", "1Gi")


def test_a_toleration_is_of_any_value_or_of_the_one_it_names(tmp_path):
    text = "default: {tolerations: [{key: spot}, {key: pool, value: 7}, {operator: Exists}]}"
    assert resources.platform(load(tmp_path, text).of("Trainer"))["tolerations"] == [
        {"key": "spot", "operator": "Exists"},
        {"key": "pool", "operator": "Equal", "value": "7"},
        {"operator": "Exists"},
    ]
