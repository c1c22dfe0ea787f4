"""`longtail report` and what a run leaves of itself: of one that finished, and of one that the gate stopped."""

import contextlib
import html.parser
import importlib.util
import json
import pathlib
import re
import shutil
import types

import pytest

from longtail.models import errors
from longtail.pipeline.local import tracking
from longtail.pipeline.report import run_page
from longtail.pipeline.report import run_view
from tests import browser
from tests.e2e import runs


@pytest.fixture(scope="module")
def root(finished, tmp_path_factory):
    """A copy of the root of a finished run; the page lies where the run wrote it."""
    return pathlib.Path(shutil.copytree(finished / "kept", tmp_path_factory.mktemp("finished") / "root"))


@pytest.fixture(scope="module")
def stopped(finished, tmp_path_factory):
    """A root in which other data were run under an accepted span's number; the status, and what was said."""
    folder = tmp_path_factory.mktemp("stopped")
    root = shutil.copytree(finished / "kept", folder / "root")
    words = ("--recipe", runs.RECIPE, "--root", root, "--span", 1, "--data", finished / "data" / "span-2")
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        open(folder / "said", "w") as said,
        contextlib.redirect_stderr(said),
    ):
        status = runs.longtail(monkeypatch, "run", *words)
    return types.SimpleNamespace(root=root, status=status, said=(folder / "said").read_text())


class Page(html.parser.HTMLParser):
    """The text of a page below each of its second headings, and its tags."""

    def __init__(self, path):
        super().__init__()
        self.sections, self.tags = {"": ""}, []
        self._name = ""
        self._in_heading = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_heading = tag == "h2"

    def handle_data(self, data):
        if self._in_heading:
            self._name, self._in_heading = data, False
            self.sections[data] = ""
        self.sections[self._name] += data

    def all(self, wanted):
        return [attributes for tag, attributes in self.tags if tag == wanted]


def test_a_finished_run_names_its_report_in_its_last_lines(finished, capfd):
    from longtail.pipeline.local import run

    run.print_table(json.loads((finished / "kept" / "summary.json").read_text()), str(finished / "kept"))
    assert f"report {finished / 'kept' / 'report.html'}" in capfd.readouterr().out.splitlines()[-3:]


def test_the_report_of_a_finished_run_has_the_figures_of_its_summary(root):
    summary, page = json.loads((root / "summary.json").read_text()), Page(root / "report.html")
    assert f"blessed and pushed as version {summary['version']}" in page.sections[""]
    table = page.sections["How good it is"]
    assert f"{100 * summary['metrics']['mAP']:.2f}" in table and summary["metrics"]["pixels"]["embedding"] in table
    low, high = summary["metrics"]["mAP_interval"]
    assert low <= summary["metrics"]["mAP"] <= high and f"{100 * low:.2f} to {100 * high:.2f}" in table
    assert str(summary["examples"]["train"]) in page.sections["Data"]
    assert "training.epochs" in page.sections["Lineage"] and "tensorflow 2.15" in page.sections["Lineage"]


def test_every_component_has_its_seconds(root):
    run, cost = run_view.load(str(root)), Page(root / "report.html").sections["What it cost"]
    assert len(run.steps) == 17 and all(name in cost for name in run.steps)
    assert run.steps["Trainer"].seconds > 1 and f"{run.steps['Trainer'].seconds:.1f}" in cost


def test_the_report_loads_nothing_and_shows_every_kind_of_picture(root):
    text, page = (root / "report.html").read_text(), Page(root / "report.html")
    assert not page.all("script") and not page.all("link")
    assert all(image["src"].startswith("data:image/png;base64,") and "alt" in image for image in page.all("img"))
    for label in ("ROC: area", "Similarities: ", "Images of each of ", "loss over epochs", "mean angle to the centre"):
        assert f'aria-label="{label}' in text
    assert "✗ wrong" in text
    dots = [one for one in page.all("div") if "dot" in one.get("class", "")]
    assert len(dots) > 50 and all(one["tabindex"] == "0" and one["aria-label"] for one in dots)


def test_the_report_links_the_page_of_the_gate_beside_it(root, monkeypatch, tmp_path):
    assert runs.longtail(monkeypatch, "report", root, "--output", tmp_path / "page.html") == 0
    links = [one["href"] for one in Page(tmp_path / "page.html").all("a") if "drift" in one["href"]]
    assert links == ["drift/small-span-1.html"]
    assert "Span 1 was accepted" in (tmp_path / links[0]).read_text()


def test_other_data_under_an_accepted_spans_number_is_compared_with_it_and_stopped(stopped):
    assert stopped.status == 1 and "stopped by the drift gate" in stopped.said


def test_a_stopped_run_is_reported_on_and_says_so_at_the_top(stopped):
    page = Page(stopped.root / "report.html")
    assert f"report on how far it came: {stopped.root / 'report.html'}" in stopped.said
    assert "This run stopped in DriftGate" in page.sections[""] and "image/ink" in page.sections[""]
    assert "was refused" in page.sections["What the gate saw"]
    assert "Nothing was trained" in page.sections["How the training went"]
    assert "No model was evaluated." in page.sections["How good it is"]
    assert "failed" in page.sections["What it cost"]


def test_a_model_that_was_not_blessed_is_told_with_the_reason(root, tmp_path):
    other = shutil.copytree(root, tmp_path / "root")
    summary = json.loads((other / "summary.json").read_text())
    changed = {"blessed": False, "reason": "mAP 0.1 is below the floor", "pushed_model": None, "version": None}
    (other / "summary.json").write_text(json.dumps(summary | changed))
    run_page.write(str(other), str(tmp_path / "page.html"))
    assert "not blessed, and nothing was pushed: mAP 0.1 is below the floor" in " ".join(
        Page(tmp_path / "page.html").sections[""].split()
    )


def test_names_that_hold_html_are_shown_as_text(root, tmp_path):
    other = shutil.copytree(root, tmp_path / "root")
    about = json.loads((other / "run.json").read_text())
    about["recipe"]["card"]["use"] = "<script>alert(1)</script>"
    (other / "run.json").write_text(json.dumps(about))
    run_page.write(str(other), str(tmp_path / "page.html"))
    page = Page(tmp_path / "page.html")
    assert not page.all("script") and "<script>alert(1)</script>" in page.sections["Model card"]


@browser.needed
@pytest.mark.parametrize("which", ["root", "stopped"])
def test_a_browser_has_nothing_against_the_report_and_it_is_no_wider_than_a_phone(which, root, stopped, tmp_path):
    page = pathlib.Path(shutil.copy((root if which == "root" else stopped.root) / "report.html", tmp_path))
    assert browser.console(page) == []
    assert browser.overflow(page, 400) == 0


@browser.needed
@browser.axe_needed
@pytest.mark.parametrize("which", ["root", "stopped"])
def test_axe_finds_nothing_in_the_report(which, root, stopped, tmp_path):
    page = pathlib.Path(shutil.copy((root if which == "root" else stopped.root) / "report.html", tmp_path))
    assert browser.violations(page) == []


def test_json_says_what_became_of_the_run(stopped, monkeypatch, capfd, tmp_path):
    words = ("report", stopped.root, "--output", tmp_path / "page.html", "--json")
    assert runs.longtail(monkeypatch, *words) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["kind"] == "refused" and told["report"] == str(tmp_path / "page.html")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere: no such folder; give the --root of a run"),
        (["EMPTY"], "no run there (metadata.sqlite is missing)"),
        (["ROOT", "--output", "EMPTY/none/page.html"], "there is no folder"),
        (["ROOT", "--output", "EMPTY"], "cannot be written"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(words, said, root, monkeypatch, capfd, tmp_path):
    (tmp_path / "empty").mkdir()
    words = [word.replace("EMPTY", str(tmp_path / "empty")).replace("ROOT", str(root)) for word in words]
    assert runs.longtail(monkeypatch, "report", *words) == 2
    [line] = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("longtail: error: ") and said in line


def test_a_damaged_store_is_one_line(root, monkeypatch, capfd, tmp_path):
    other = shutil.copytree(root, tmp_path / "root")
    (other / "metadata.sqlite").write_bytes(b"damaged" * 1000)
    assert runs.longtail(monkeypatch, "report", other) == 1
    [line] = capfd.readouterr().err.strip().splitlines()
    assert "metadata.sqlite is damaged" in line


def test_mlflow_has_parameters_metrics_report_and_model_of_a_run(root, monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv(tracking.VARIABLE, (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # it warns of its own file store, which a test may use
    tracking.track(str(root), str(root / "report.html"))
    summary, client = json.loads((root / "summary.json").read_text()), mlflow.MlflowClient()
    [experiment] = client.search_experiments(filter_string="name = 'longtail-small'")
    [logged] = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED" and logged.data.params["training.epochs"] == "6"
    assert logged.data.metrics["mAP"] == summary["metrics"]["mAP"] and "tail/rank1" in logged.data.metrics
    artifacts = pathlib.Path(logged.info.artifact_uri.removeprefix("file://"))
    assert (artifacts / "report.html").read_bytes() == (root / "report.html").read_bytes()
    assert (artifacts / "model" / "saved_model.pb").exists()


def test_without_its_variable_nothing_is_told_to_mlflow(root, monkeypatch):
    monkeypatch.delenv(tracking.VARIABLE, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)  # importing it would fail
    tracking.check()
    tracking.track(str(root), str(root / "report.html"))


def test_a_run_that_could_not_be_logged_does_not_begin(monkeypatch):
    monkeypatch.setenv(tracking.VARIABLE, "file:///nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.UsageError, match="there is no MLflow to log with; install mlflow-skinny") as caught:
        tracking.check()
    assert not re.search("\n", str(caught.value))


HOSTILE = "<script>alert('&')</script>\x1b[31m\x00"


def test_hostile_names_and_reasons_are_shown_as_text_without_control_characters(root, tmp_path):
    other = shutil.copytree(root, tmp_path / "root")
    run = run_view.load(str(other))
    quarantine = pathlib.Path(run.output("ImageExampleGen", "quarantine").folder) / "quarantine.jsonl"
    quarantine.write_text(json.dumps({"path": "a.png", "reason": HOSTILE, "identity": HOSTILE}) + "\n")
    details = pathlib.Path(run.output("RetrievalEvaluator", "evaluation").folder) / "details.json"
    content = json.loads(details.read_text())
    for image in content["images"].values():
        image["identity"] = HOSTILE
    details.write_text(json.dumps(content))
    run_page.write(str(other), str(tmp_path / "page.html"))
    page, text = Page(tmp_path / "page.html"), (tmp_path / "page.html").read_text()
    assert other in quarantine.parents and other in details.parents
    assert not page.all("script") and "\x1b" not in text and "\x00" not in text
    assert "<script>alert" in page.sections["Data"] and "<script>alert" in page.sections["How good it is"]


def test_a_judgement_of_another_run_is_not_shown_as_this_ones(root, stopped, tmp_path):
    other = shutil.copytree(root, tmp_path / "root")
    judged = pathlib.Path("registry", "small", "drift", "span-00000001.json")
    shutil.copy(stopped.root / judged, other / judged)
    run_page.write(str(other), str(tmp_path / "page.html"))
    section = Page(tmp_path / "page.html").sections["What the gate saw"]
    assert "was refused" not in section and "another run has been judged" in section


def test_seconds_are_those_that_the_run_printed(root):
    summary, run = json.loads((root / "summary.json").read_text()), run_view.load(str(root))
    assert {name: step.seconds for name, step in run.steps.items()} == summary["seconds"]


def test_a_run_that_could_not_be_logged_leaves_the_one_before_it_as_it_was(root, finished, monkeypatch, tmp_path):
    other = shutil.copytree(root, tmp_path / "root")
    told = [other / "summary.json", other / "run.json", other / "report.html", *(other / "records").iterdir()]
    before = [path.read_bytes() for path in told]
    find = importlib.util.find_spec
    monkeypatch.setenv(tracking.VARIABLE, "file:///nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "mlflow" else find(name, *more))
    words = ("--recipe", runs.RECIPE, "--root", other, "--span", 1, "--data", finished / "data" / "span-3")
    assert runs.longtail(monkeypatch, "run", *words) == 2
    assert [path.read_bytes() for path in told] == before
    assert sorted((other / "records").iterdir()) == sorted(told[3:])


def test_mlflow_has_a_stopped_run_as_failed_with_its_reason(stopped, monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv(tracking.VARIABLE, (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # it warns of its own file store, which a test may use
    tracking.track(str(stopped.root), str(stopped.root / "report.html"))
    client = mlflow.MlflowClient()
    [experiment] = client.search_experiments(filter_string="name = 'longtail-small'")
    [logged] = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FAILED" and "stopped by the drift gate" in logged.data.tags["stopped"]
