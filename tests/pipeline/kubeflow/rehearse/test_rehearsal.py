"""A compiled pipeline is run to its end, stops where a step fails, and goes on where it stopped."""

import json
import os
import pathlib
import re
import signal

import pytest

from longtail.pipeline.kubeflow.rehearse import image
from longtail.pipeline.local import root_folder
from tests.e2e import runs
from tests.pipeline.kubeflow import specs

URI = "{{$.outputs.artifacts['made'].uri}}"
CACHE = {"enableCache": True}


class Rehearsal:
    """A root, and the command in it."""

    def __init__(self, folder, monkeypatch, capfd):
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, steps, *words, parameters=None, **fields):
        """Exit status, the run's record and what was said."""
        path = specs.write(self.folder / "p.yaml", specs.document(steps, parameters, **fields))
        command = ("rehearse", path, "--root", self.folder / "root", "--json", *words)
        status = runs.longtail(self._monkeypatch, *command)
        said = self._capfd.readouterr()
        return status, json.loads(said.out) if said.out else None, said.err

    def store(self):
        """Contents of every file in the store, by task."""
        store = self.folder / "root" / "store" / "small"
        return sorted((path.parts[-3], path.read_text().strip()) for path in store.glob("*/*/*/made"))


@pytest.fixture
def rehearse(tmp_path, monkeypatch, capfd):
    return Rehearsal(tmp_path, monkeypatch, capfd)


def states(record):
    return {name: step["state"] for name, step in record["steps"].items()}


def chain(second=f"cat {{{{$.inputs.artifacts['given'].uri}}}} > {URI}", **fields):
    first = specs.step(f"echo one > {URI}", cachingOptions=CACHE, parameters={"text": ("STRING", "{{text}}")})
    return {"A": first, "B": specs.step(second, inputs={"given": ("A", "made")}, cachingOptions=CACHE, **fields)}


TEXT = {"text": {"parameterType": "STRING", "defaultValue": "t"}}


def test_artifacts_pass_from_step_to_step_and_the_record_says_how(rehearse):
    status, record, said = rehearse(chain(), parameters=TEXT)
    assert status == 0 and record["state"] == "SUCCEEDED" and states(record) == {"A": "COMPLETE", "B": "COMPLETE"}
    assert rehearse.store() == [("A", "one"), ("B", "one")]
    [given] = record["steps"]["B"]["executor_input"]["inputs"]["artifacts"]["given"]["artifacts"]
    [made] = record["steps"]["A"]["outputs"]["artifacts"]["made"]
    assert given == made and made["metadata"]["display_name"] == "made"
    written = root_folder.read_json(os.path.join(rehearse.folder, "root", "rehearsals", record["run_id"], "run.json"))
    assert written == record and os.path.exists(record["steps"]["A"]["log"])


def test_a_second_run_is_answered_from_the_cache_until_a_parameter_changes(rehearse):
    rehearse(chain(), parameters=TEXT)
    _, again, said = rehearse(chain(), parameters=TEXT)
    assert states(again) == {"A": "CACHED", "B": "CACHED"} and "cached" in said
    _, changed, _ = rehearse(chain(), "--param", "text=other", parameters=TEXT)
    assert states(changed) == {"A": "COMPLETE", "B": "COMPLETE"}  # B: its input is another artifact now
    assert len(rehearse.store()) == 4


def test_it_stops_at_the_first_step_that_fails_and_goes_on_from_there(rehearse):
    switch = rehearse.folder / "switch"
    steps = chain(f"echo half > {URI}; test -e {switch} || (echo 'OSError: no switch'; exit 3)")
    steps["C"] = specs.step("true", inputs={"given": ("B", "made")})
    status, record, said = rehearse(steps, parameters=TEXT)
    assert status == 1 and states(record) == {"A": "COMPLETE", "B": "FAILED"} and record["failed"] == "B"
    [line] = [line for line in said.splitlines() if line.startswith("longtail: error")]
    assert "B: exit status 3: OSError: no switch; log " in line and record["steps"]["B"]["log"] in line
    switch.touch()
    status, resumed, said = rehearse(steps, parameters=TEXT)
    assert status == 0 and resumed["run_id"] == record["run_id"] and "failed" not in resumed
    assert set(states(resumed).values()) == {"COMPLETE"} and "error" not in resumed["steps"]["B"]
    assert resumed["steps"]["A"] == record["steps"]["A"] and re.search(r"^A +kept$", said, re.MULTILINE)
    assert rehearse.store() == [("A", "one"), ("B", "half")]  # what the failed execution left is gone


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parameters": {"x": ("STRING", "{{other}}")}}, "A: parent DAG does not have input parameter other"),
        ({"triggerPolicy": {"condition": "'it's' == ''"}}, "A: condition 'it's' == '': \"'\" at 11 cannot be read"),
    ],
)
def test_what_stops_a_step_before_its_command_is_one_line(rehearse, fields, message):
    status, record, said = rehearse({"A": specs.step("true", **fields)})
    assert status == 1 and states(record) == {"A": "FAILED"} and "Traceback" not in said
    assert f"longtail: error: {message}" in said


def test_killed_in_the_middle_of_a_step_it_goes_on_and_nothing_is_doubled(rehearse, processes):
    pipe, switch = rehearse.folder / "pipe", rehearse.folder / "switch"
    os.mkfifo(pipe)
    at_work = f"echo half > {URI}; exec 3> {pipe}; echo at work >&3; exec sleep 1000"
    steps = chain(f"if test -e {switch}; then echo whole > {URI}; else {at_work}; fi")
    path = specs.write(rehearse.folder / "p.yaml", specs.document(steps, TEXT))
    words = ["rehearse", path, "--root", rehearse.folder / "root"]
    with processes.popen("longtail.pipeline.cli", *words) as process, open(pipe, encoding="utf-8") as container:
        assert container.readline() == "at work\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert container.read() == ""  # ends with the container: it went with the rehearsal
    assert rehearse.store() == [("A", "one"), ("B", "half")]
    switch.touch()
    status, record, _ = rehearse(steps, parameters=TEXT)
    assert status == 0 and states(record) == {"A": "COMPLETE", "B": "COMPLETE"}
    assert rehearse.store() == [("A", "one"), ("B", "whole")]
    assert len(os.listdir(rehearse.folder / "root" / "rehearsals")) == 1


def test_a_condition_that_does_not_hold_skips_a_step_and_what_waits_for_it(rehearse):
    condition = {"condition": "inputs.artifacts['given'].artifacts[0].metadata['display_name'] == 'other'"}
    steps = chain(triggerPolicy=condition)
    steps["C"] = specs.step("true", inputs={"given": ("B", "made")})
    steps["D"] = specs.step("true", dependentTasks=["C"])
    status, record, said = rehearse(steps, parameters=TEXT)
    assert status == 0
    assert states(record) == {"A": "COMPLETE", "B": "SKIPPED", "C": "OMITTED", "D": "OMITTED"}
    assert "does not hold" in said and "omitted: B did not run" in said


def test_a_step_is_retried_as_its_policy_says_in_the_same_folders(rehearse):
    command = f"echo x >> {URI}; test $(wc -l < {URI}) = 3"
    status, _, said = rehearse({"A": specs.step(command, retryPolicy={"maxRetryCount": 2})})
    assert status == 0 and "retry 2 of 2" in said
    assert rehearse.store() == [("A", "x\nx\nx")]
    status, _, _ = rehearse({"A": specs.step("false", retryPolicy={"maxRetryCount": 2})})
    assert status == 1


def test_the_bucket_of_the_pipeline_root_is_a_folder_here(rehearse):
    command = "echo {{$.inputs.parameters['place']}} {{$.inputs.parameters['other']}} {{$.inputs.parameters['text']}}"
    parameters = {"place": ("STRING", "gs://bucket/root/registry"), "other": ("STRING", "gs://bucket/roots")}
    steps = {"A": specs.step(command, parameters=parameters | {"text": ("STRING", "{{text}}")})}
    given = ("--param", "text=gs://bucket/root/x")
    _, record, said = rehearse(steps, *given, parameters=TEXT, defaultPipelineRoot="gs://bucket/root")
    store = os.path.join(rehearse.folder, "root", "store")
    assert f"gs://bucket/root is {store} here" in said
    assert pathlib.Path(record["steps"]["A"]["log"]).read_text() == f"{store}/registry gs://bucket/roots {store}/x\n"


def test_an_importer_finds_the_artifact_it_imported_before(rehearse):
    imported = specs.step("")
    spec = {"artifactUri": {"constant": "/data"}, "typeSchema": {"instanceSchema": specs.TYPE}, "metadata": {"n": 1}}
    imported["executor"] = {"importer": spec}
    names = []
    for _ in range(2):
        status, record, _ = rehearse({"A": imported})
        assert status == 0
        [artifact] = record["steps"]["A"]["outputs"]["artifacts"]["made"]
        names.append((artifact["name"], artifact["uri"], artifact["metadata"]))
    assert names == [("1", "/data", {"n": 1.0})] * 2
    imported["executor"]["importer"]["reimport"] = True
    _, record, _ = rehearse({"A": imported})
    assert record["steps"]["A"]["outputs"]["artifacts"]["made"][0]["name"] == "2"


@pytest.mark.parametrize(
    ("outputs", "metadata", "message"),
    [((), {}, "an importer has one output artifact; this has 0"), (("made",), {"n": None}, "A: null in an artifact's")],
)
def test_an_importer_that_imports_nothing_fails_in_one_line(rehearse, outputs, metadata, message):
    imported = specs.step("", outputs)
    imported["executor"] = {"importer": {"artifactUri": {"constant": "/data"}, "metadata": metadata}}
    status, record, said = rehearse({"A": imported})
    assert status == 1 and message in said and "Traceback" not in said and states(record) == {"A": "FAILED"}


def test_a_store_that_cannot_be_written_fails_the_step(rehearse):
    (rehearse.folder / "root").mkdir()
    (rehearse.folder / "root" / "store").write_text("no folder")
    status, record, said = rehearse({"A": specs.step("true")})
    assert status == 1 and states(record) == {"A": "FAILED"} and "Traceback" not in said
    assert "longtail: error: A: [Errno 20] Not a directory" in said


def test_a_record_that_is_none_is_named(rehearse):
    folder = rehearse.folder / "root" / "rehearsals" / "mine"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("[]")
    status, record, said = rehearse({"A": specs.step("true")})
    assert status == 1 and record is None and f"{folder}/run.json: no record of a rehearsal; remove it" in said


def resolver():
    found = specs.step("", outputs=("model",))
    query = 'schema_title="tests.Made" AND state=LIVE AND metadata.display_name.string_value="made"'
    found["executor"] = {"resolver": {"outputArtifactQueries": {"model": {"filter": query}}}}
    return found


def test_kubeflow_refuses_a_resolver_before_anything_runs(rehearse):
    status, record, said = rehearse({"A": specs.step("true"), "B": resolver()})
    assert status == 1 and record is None
    assert "B: resolver executors not implemented (Kubeflow Pipelines 2.17, backend" in said
    assert not (rehearse.folder / "root").exists()


def test_vertex_runs_the_driver_hook_before_the_cache_and_kubeflow_says_it_does_not(rehearse):
    delivered = rehearse.folder / "delivered"
    delivered.write_text("one")
    command = "echo {{$.inputs.parameters['fingerprint']}}"
    step = specs.step(command, parameters={"fingerprint": ("STRING", "unset")}, cachingOptions=CACHE)
    said = '{"parameterValues": {"fingerprint": "%s"}}'
    hook = f"""printf '{said}' $(cat {delivered}) > $(dirname {URI})/executor_output.json"""
    step["executor"]["container"]["lifecycle"] = {"preCacheCheck": {"command": ["sh", "-ec", hook]}}

    def run(profile):
        _, record, said = rehearse({"A": step}, "--profile", profile)
        return record["steps"]["A"]["state"], pathlib.Path(record["steps"]["A"]["log"]).read_text(), said

    state, log, said_ = run("kfp")
    assert (state, log) == ("COMPLETE", "unset\n") and "A: Vertex AI would run its driver hook first" in said_
    assert run("vertex")[:2] == ("COMPLETE", "one\n")
    assert run("vertex")[:2] == ("CACHED", "")
    delivered.write_text("two")
    assert run("vertex")[:2] == ("COMPLETE", "two\n")


def test_vertex_resolves_the_newest_artifact_of_earlier_runs(rehearse):
    status, first, _ = rehearse({"A": specs.step("true"), "B": resolver()}, "--profile", "vertex")
    assert status == 0 and first["steps"]["B"]["outputs"]["artifacts"] == {"model": []}
    query = resolver()["executor"]["resolver"]["outputArtifactQueries"]["model"]
    query["filter"] = 'schema_title="tests.Made" AND state=LIVE'
    found = resolver()
    found["executor"]["resolver"]["outputArtifactQueries"]["model"] = query
    _, second, _ = rehearse({"A": specs.step("true"), "B": found}, "--profile", "vertex")
    [made] = first["steps"]["A"]["outputs"]["artifacts"]["made"]
    assert second["steps"]["B"]["outputs"]["artifacts"] == {"model": [made]}


def test_two_rehearsals_in_one_root_are_refused(rehearse):
    with root_folder.hold(str(rehearse.folder / "root")):
        status, record, said = rehearse(chain(), parameters=TEXT)
    assert status == 2 and record is None and "another run is at work there" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--param", "text"], "--param text: give KEY=VALUE"),
        (["--param", "txt=1"], "no parameter 'txt'; did you mean text?"),
        (["--profile", "argo"], "argo"),
    ],
)
def test_a_wrong_option_is_bad_usage(rehearse, words, message):
    status, record, said = rehearse(chain(), *words, parameters=TEXT)
    assert status == 2 and record is None and message in said and not (rehearse.folder / "root").exists()


def test_a_module_that_works_when_it_is_imported_runs_once(rehearse, monkeypatch):
    ran = rehearse.folder / "ran"
    text = f"import sys\nopen({str(ran)!r}, 'a').write(sys.argv[1])\nsys.exit(0)"
    (rehearse.folder / "unguarded.py").write_text(text)
    monkeypatch.syspath_prepend(str(rehearse.folder))
    status, record, _ = rehearse({"A": specs.step(["python", "-m", "unguarded", "once"])})
    assert status == 0 and states(record) == {"A": "COMPLETE"} and ran.read_text() == "once"


def test_fresh_processes_are_started_from_the_image(rehearse, monkeypatch):
    monkeypatch.setattr(image, "prepare", lambda folder: "/image/bin")
    _, record, _ = rehearse({"A": specs.step("echo $PATH")}, "--subprocess")
    assert pathlib.Path(record["steps"]["A"]["log"]).read_text().startswith("/image/bin:")
    assert record["subprocess"]
