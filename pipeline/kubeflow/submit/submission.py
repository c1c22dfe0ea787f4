"""Sends a compiled pipeline to Kubeflow Pipelines and starts a run of it; sent twice, it is there once."""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow import parameters as parameters_lib
from longtail.pipeline.kubeflow.submit import kfp_api

GOOD_ENDS = ("SUCCEEDED", "SKIPPED")
BAD_ENDS = ("FAILED", "CANCELED")
_NONE = object()

# As KFP's own columns are, and 13 letters of a version's name are ours.
_LONGEST = {"--experiment": 128, "--run": 255, "pipelineInfo.name": 114}


@dataclasses.dataclass(frozen=True)
class Submission:
    """What is to run.

    Attributes:
      path: the compiled pipeline.
      name: the pipeline's, from the file.
      version: the name of this very file among the pipeline's versions: made of its content.
      root: where the run writes. KFP takes it from the run, not from the file; empty leaves it the namespace's.
      experiment: what the run is listed under.
      run: the run's name; there is one of it in an experiment.
      parameters: values that are not the file's defaults.
      namespace: of a multi-user installation; empty elsewhere.
    """

    path: str
    name: str
    version: str
    root: str
    experiment: str
    run: str
    parameters: Mapping[str, Any]
    namespace: str = ""


def prepare(path: str, experiment: str, run: str, given: Mapping[str, str], namespace: str = "") -> Submission:
    """Reads the file and checks all that can be checked before anything is sent.

    Args:
      path: the compiled pipeline.
      experiment: what the run is listed under.
      run: the run's name; where empty it is made of the file's content and the parameters.
      given: parameters as text.
      namespace: of a multi-user installation.

    Raises:
      errors.UsageError: no such file, not a pipeline, an unknown or ill-typed parameter, a name KFP would refuse.
    """
    pipeline = ir.load(path)
    parameters = parameters_lib.typed(pipeline, given)
    with open(path, "rb") as file:
        content = hashlib.sha256(file.read()).hexdigest()
    told = hashlib.sha256((content + json.dumps(parameters, sort_keys=True)).encode()).hexdigest()
    run = run or f"{pipeline.name}-{told[:8]}"
    for what, name in (("--experiment", experiment), ("--run", run), ("pipelineInfo.name", pipeline.name)):
        if not name.strip() or len(name) > _LONGEST[what]:
            raise errors.UsageError(f"{what} {name!r} must be 1 to {_LONGEST[what]} letters; it has {len(name)}")
    version = f"{pipeline.name}-{content[:12]}"
    return Submission(path, pipeline.name, version, pipeline.root, experiment, run, parameters, namespace)


def submit(api: kfp_api.Api, asked: Submission) -> tuple[dict[str, Any], bool]:
    """Starts the run, or finds it; whether it was started here.

    Raises:
      errors.WorkError: the server refuses or cannot be reached, or has another run of that name.
    """
    listed = experiment(api, asked)

    def look() -> dict[str, Any] | None:
        found = api.find("/runs", "runs", "display_name", asked.run, experiment_id=listed)
        return found[0] if found else None

    found, made = look(), False
    if found is None:
        found, made = api.create(look, "/runs", json=described(api, asked, listed))
    if not made:
        check_same(api, asked, found)
    return found, made


def described(api: kfp_api.Api, asked: Submission, listed: str) -> dict[str, Any]:
    """A run as the API takes it; its file is sent where it is not there.

    Args:
      api: the server.
      asked: what is to run.
      listed: id of the experiment.
    """
    pipeline = _pipeline(api, asked)
    return {
        "display_name": asked.run,
        "experiment_id": listed,
        "pipeline_version_reference": {"pipeline_id": pipeline, "pipeline_version_id": _version(api, asked, pipeline)},
        "runtime_config": {"parameters": asked.parameters, **_only({"pipeline_root": asked.root})},
    }


def experiment(api: kfp_api.Api, asked: Submission) -> str:
    """The id of what a run is listed under, made where there is none."""
    where = _only({"namespace": asked.namespace})

    def look() -> dict[str, Any] | None:
        found = api.find("/experiments", "experiments", "display_name", asked.experiment, **where)
        return found[0] if found else None

    made, _ = api.create(look, "/experiments", json={"display_name": asked.experiment, **where})
    return made["experiment_id"]


def _pipeline(api: kfp_api.Api, asked: Submission) -> str:
    """The pipeline itself, empty: uploaded with its first file, that one would not be named by its content."""
    where = _only({"namespace": asked.namespace})

    def look() -> dict[str, Any] | None:
        found = api.find("/pipelines", "pipelines", "name", asked.name, **where)
        return found[0] if found else None

    made, _ = api.create(look, "/pipelines", json={"display_name": asked.name, **where})
    return made["pipeline_id"]


def _version(api: kfp_api.Api, asked: Submission, pipeline: str) -> str:
    def look() -> dict[str, Any] | None:
        found = api.find(f"/pipelines/{pipeline}/versions", "pipeline_versions", "name", asked.version)
        return found[0] if found else None

    with open(asked.path, "rb") as file:
        content = file.read()
    query = {"name": asked.version, "pipelineid": pipeline}
    files = {"uploadfile": (os.path.basename(asked.path), content, "application/yaml")}
    made, _ = api.create(look, "/pipelines/upload_version", query=query, files=files)
    return made["pipeline_version_id"]


def check_same(
    api: kfp_api.Api, asked: Submission, run: dict[str, Any], kind: str = "run", other: Sequence[str] = ()
) -> None:
    """A run of the same name must be the same run: the same file with the same parameters.

    Args:
      api: the server.
      asked: what is to run.
      run: what is there.
      kind: what it is called.
      other: what else differs.

    Raises:
      errors.WorkError: anything differs.
    """
    there = run.get("runtime_config", {}).get("parameters", {})
    differ = sorted(
        key for key in {*there, *asked.parameters} if there.get(key, _NONE) != asked.parameters.get(key, _NONE)
    )
    what = [*other, f"other parameters ({', '.join(differ)})"] if differ else list(other)
    reference = run.get("pipeline_version_reference", {})
    ids = reference.get("pipeline_id"), reference.get("pipeline_version_id")
    if not all(ids) or _name(api.get("/pipelines/{}/versions/{}".format(*ids))) != asked.version:
        what.insert(0, "another pipeline file")
    if what:
        raise errors.WorkError(
            f"experiment {asked.experiment} has a {kind} named {asked.run} already, with {' and '.join(what)}; "
            "name this one with --run"
        )


def _name(version: dict[str, Any]) -> str:
    return version.get("name", version.get("display_name", ""))


def _only(mapping: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in mapping.items() if value}


def wait(api: kfp_api.Api, run_id: str, pause_s: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Waits for a run's end, and tells every change of its state."""
    state = ""
    while True:
        run = api.get(f"/runs/{run_id}")
        if run.get("state", "") != state:
            state = run.get("state", "")
            say(state)
        if state in GOOD_ENDS + BAD_ENDS:
            return run
        time.sleep(pause_s)


def failures(run: dict[str, Any]) -> list[str]:
    """One line for each task that failed, and for the run itself where it says why."""
    tasks = [task for task in run.get("run_details", {}).get("task_details", ()) if task.get("state") == "FAILED"]
    failed = [(task.get("display_name", "a task"), task.get("error", {})) for task in tasks]
    if run.get("error"):
        failed.append(("the run", run["error"]))
    return [f"{name}: {' '.join(str(error.get('message', 'failed')).split())}" for name, error in failed]
