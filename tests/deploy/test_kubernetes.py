"""The manifests: each fits Kubernetes' own schemas, hardened, and fits the others and the server it starts."""

import copy
import json
import pathlib
import re

import kubernetes_validate
import pytest
import typer.main
import yaml

from longtail.models.training import workers
from longtail.pipeline.cli import app as cli
from longtail.pipeline.kubeflow import step
from longtail.serving.model_server import metrics
from longtail.serving.model_server import server
from longtail.serving.model_server.rest import application as rest
from tests.pipeline.kubeflow.compile import summary

TOP = pathlib.Path(__file__).resolve().parents[2]
FOLDER = TOP / "deploy" / "kubernetes"
FILES = sorted(FOLDER.rglob("*.yaml"))
CUSTOM = {"TFJob": "kubeflow.org/v1", "FlinkDeployment": "flink.apache.org/v1beta1"}
NOT_SENT = {"Kustomization"}
VERSION = "1.31"


def documents():
    """Every document of every file but Kustomize's own."""
    for file in FILES:
        for document in yaml.safe_load_all(file.read_text()):
            if document["kind"] not in NOT_SENT:
                yield document


ALL = list(documents())


def named(document):
    """A test's name of a document."""
    metadata = document["metadata"]
    return f"{document['kind']}/{metadata.get('name', metadata.get('generateName'))}"


def of(kind):
    """The documents of one kind."""
    return [document for document in ALL if document["kind"] == kind]


def templates():
    """Every pod template, by where it stands; those of Flink's task managers as the operator joins them."""
    for document in ALL:
        spec = document.get("spec", {})
        if document["kind"] == "Deployment":
            yield named(document), spec["template"]
        if document["kind"] == "TFJob":
            for kind, replica in spec["tfReplicaSpecs"].items():
                yield f"{named(document)}/{kind}", replica["template"]
        if document["kind"] == "FlinkDeployment":
            yield f"{named(document)}/jobManager", flink_pod(spec["podTemplate"], {})
            yield f"{named(document)}/taskManager", flink_pod(spec["podTemplate"], spec["taskManager"]["podTemplate"])


def flink_pod(common, own):
    """Two pod templates of Flink's operator joined, containers by name; it adds the image of the main container."""
    joined = copy.deepcopy(common)
    for key, value in own.get("spec", {}).items():
        if key == "containers":
            ours = {container["name"]: container for container in joined["spec"]["containers"]}
            joined["spec"]["containers"] = [{**ours.get(one["name"], {}), **one} for one in value]
        else:
            joined["spec"][key] = value
    joined["metadata"]["labels"] |= own.get("metadata", {}).get("labels", {})
    for container in joined["spec"]["containers"]:
        container.setdefault("image", "flink")
    return {key: joined[key] for key in ("metadata", "spec")}


TEMPLATES = dict(templates())


def containers():
    """Every container, by where it stands."""
    return {
        f"{where}/{container['name']}": container
        for where, template in TEMPLATES.items()
        for container in template["spec"]["containers"]
    }


@pytest.mark.parametrize("document", [one for one in ALL if one["kind"] not in CUSTOM], ids=named)
def test_it_fits_kubernetes_own_schema(document):
    kubernetes_validate.validate(document, VERSION, strict=True)


@pytest.mark.parametrize("where", TEMPLATES)
def test_its_pods_fit_kubernetes_own_schema(where):
    wrapped = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": TEMPLATES[where]}
    kubernetes_validate.validate(wrapped, VERSION, strict=True)


def test_a_misspelt_key_would_be_found():
    wrong = copy.deepcopy(of("Deployment")[0])
    wrong["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_every_file_is_read_and_every_kind_is_known():
    assert len(FILES) == 7
    assert {one["kind"]: one["apiVersion"] for one in ALL if one["kind"] in CUSTOM} == CUSTOM
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert sorted(kustomization["resources"]) == sorted(
        file.name for file in FILES if file.parent == FOLDER and file.name != "kustomization.yaml"
    )
    assert {one["metadata"].get("namespace", "longtail") for one in ALL} == {kustomization["namespace"]}


@pytest.mark.parametrize("where", TEMPLATES)
def test_a_pod_never_runs_as_root(where):
    security = TEMPLATES[where]["spec"]["securityContext"]
    assert security["runAsNonRoot"] is True and security["runAsUser"] >= 1000
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("where", containers())
def test_a_container_has_no_rights_and_writes_to_volumes_alone(where):
    container = containers()[where]
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False and security["capabilities"] == {"drop": ["ALL"]}
    if container["name"] == "flink-main-container":
        return  # Flink writes its configuration into its own folder, and the operator gives it its resources
    assert security["readOnlyRootFilesystem"] is True
    assert "memory" in container["resources"]["limits"] and "cpu" in container["resources"]["requests"]
    assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]


@pytest.mark.parametrize("where", TEMPLATES)
def test_every_mount_has_its_volume_and_every_volume_a_mount(where):
    spec = TEMPLATES[where]["spec"]
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    assert volumes == {mount["name"] for one in spec["containers"] for mount in one.get("volumeMounts", ())}


def test_claims_and_maps_that_are_mounted_are_there():
    volumes = [volume for one in of("Deployment") for volume in one["spec"]["template"]["spec"]["volumes"]]
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume}
    maps = {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    assert claims == {one["metadata"]["name"] for one in of("PersistentVolumeClaim")}
    assert maps == {one["metadata"]["name"] for one in of("ConfigMap")}


SERVERS = ["longtail-tf-serving", "longtail-retrieval"]


def one(kind, name):
    """The document of that kind and name."""
    (found,) = (document for document in of(kind) if document["metadata"]["name"] == name)
    return found


@pytest.mark.parametrize("name", [*SERVERS, "longtail-beam"])
def test_selectors_find_the_pods_and_ports_are_theirs(name):
    deployment = one("Deployment", name)["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    service = one("Service", name)["spec"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert service["selector"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in deployment["template"]["spec"]["containers"][0]["ports"]}
    for port in service["ports"]:
        assert ports[port["targetPort"]] == port["port"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_scaled_and_never_disturbed_as_a_whole(name):
    scaler = one("HorizontalPodAutoscaler", name)["spec"]
    deployment = one("Deployment", name)["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"] and "replicas" not in deployment
    budget = one("PodDisruptionBudget", name)["spec"]
    assert budget["maxUnavailable"] < scaler["minReplicas"]
    labels = deployment["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_asked_where_it_answers(name):
    (container,) = one("Deployment", name)["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": server.DEFAULT_GRPC_PORT, "rest": server.DEFAULT_REST_PORT}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]
        if "grpc" in asked:
            assert asked["grpc"]["port"] == ports["grpc"]
            assert "--enable_grpc_healthcheck_service=true" in container["args"]
        else:
            assert asked["httpGet"]["port"] in ports
    annotations = one("Deployment", name)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == metrics.PATH and annotations["prometheus.io/port"] == str(ports["rest"])


def options_of(command):
    """Every option of a command of ours."""
    found = typer.main.get_command(cli.app).commands[command]
    return {option for parameter in found.params for option in parameter.opts}


def test_the_retrieval_service_is_started_with_options_it_has():
    (container,) = one("Deployment", "longtail-retrieval")["spec"]["template"]["spec"]["containers"]
    command, *given = container["args"]
    assert command == "serve"
    flags = dict(flag.split("=", 1) for flag in given)
    assert set(flags) <= options_of("serve")
    assert {flags["--grpc-port"], flags["--rest-port"]} == {
        str(port["containerPort"]) for port in container["ports"]
    } and flags["--host"] == "0.0.0.0"
    assert container["livenessProbe"]["httpGet"]["path"] == rest.LIVE
    assert container["startupProbe"]["httpGet"]["path"] == container["readinessProbe"]["httpGet"]["path"] == rest.READY
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "pushed")
    assert all(flags[flag].startswith(f"{mount['mountPath']}/") for flag in ("--model", "--gallery"))
    stays = one("Deployment", "longtail-retrieval")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert stays > float(flags["--grace"]) + float(container["lifecycle"]["preStop"]["exec"]["command"][1])


def test_tensorflow_serving_gets_the_files_that_are_tried_beside_it():
    data = one("ConfigMap", "longtail-tf-serving")["data"]
    (container,) = one("Deployment", "longtail-tf-serving")["spec"]["template"]["spec"]["containers"]
    for name, content in data.items():
        assert content == (TOP / "deploy" / "tf_serving" / name).read_text()
    for flag in container["args"]:
        path = flag.partition("=")[2]
        if path.startswith("/config/"):
            assert path.removeprefix("/config/") in data
    name = re.search(r'name: "(.*)"', data["models.config"]).group(1)
    assert container["readinessProbe"]["httpGet"]["path"] == f"/v1/models/{name}/metadata"
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "pushed")
    assert f'base_path: "{mount["mountPath"]}/{name}"' in data["models.config"]
    compose = yaml.safe_load((TOP / "deploy" / "tf_serving" / "compose.yaml").read_text())["services"]["tf_serving"]
    asked = {re.sub(r"\$\{\w+:-(.*?)\}", r"\1", flag) for flag in compose["command"]}  # of a shell's default values
    assert asked <= set(container["args"]) and compose["image"] == container["image"]


def test_the_training_is_a_chief_and_workers_whom_the_operator_tells_of_each_other():
    (job,) = of("TFJob")
    replicas = job["spec"]["tfReplicaSpecs"]
    assert set(replicas) == {"Chief", "Worker"} and replicas["Chief"]["replicas"] == 1
    assert job["spec"]["runPolicy"]["backoffLimit"] > 0
    for replica in replicas.values():
        (container,) = replica["template"]["spec"]["containers"]
        assert container["name"] == "tensorflow" and container["ports"][0]["name"] == "tfjob-port"
        assert workers.VARIABLE not in {variable["name"] for variable in container.get("env", ())}
    addresses = {
        kind.lower(): [f"x-{kind.lower()}-{index}.longtail.svc:2222" for index in range(replica["replicas"])]
        for kind, replica in replicas.items()
    }
    told = {"cluster": addresses, "task": {"type": "worker", "index": 0}, "environment": "cloud"}
    assert workers.cluster(json.dumps(told)) == workers.Cluster(addresses, "worker", 0)


def test_the_training_runs_the_trainers_own_command(tmp_path):
    given = tmp_path / "executor_input.json"
    given.write_text(json.dumps({"inputs": {"parameterValues": {}}}))
    (job,) = of("TFJob")
    (container,) = job["spec"]["tfReplicaSpecs"]["Chief"]["template"]["spec"]["containers"]
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "step")
    assert container["command"] == ["python", "-m", step.__name__]
    pipeline, name, executor_input = container["args"]
    assert {pathlib.PurePath(path).parent for path in (pipeline, executor_input)} == {pathlib.Path(mount["mountPath"])}
    compiled = summary.compile_glyphs(tmp_path / "pipeline.yaml")
    words, _, _ = step.command(str(compiled), name, str(given))
    assert "longtail.components.trainer.executor.Executor" in words


def test_beams_workers_and_job_server_are_those_of_the_lock():
    (flink,) = of("FlinkDeployment")
    (worker,) = (
        one for one in flink["spec"]["taskManager"]["podTemplate"]["spec"]["containers"] if one["name"] == "beam-worker"
    )
    (image,) = {one["image"] for one in one_pod("longtail-beam")}
    beam = re.search(r"^apache-beam==(\S+)", (TOP / "requirements.txt").read_text(), re.M).group(1)
    flink_release = flink["spec"]["flinkVersion"].removeprefix("v").replace("_", ".")
    assert image == f"apache/beam_flink{flink_release}_job_server:{beam}"
    assert flink["spec"]["image"].startswith(f"flink:{flink_release}-")
    assert worker["args"] == [f"--service_port={worker['ports'][0]['containerPort']}"]
    told = (FOLDER / "beam" / "flink.yaml").read_text()
    assert f"environment_config=localhost:{worker['ports'][0]['containerPort']}" in told


def one_pod(name):
    """The containers of a Deployment."""
    return one("Deployment", name)["spec"]["template"]["spec"]["containers"]
