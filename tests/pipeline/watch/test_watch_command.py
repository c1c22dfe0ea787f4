"""What `longtail watch` prints, the page and the metrics that it writes, and what it refuses."""

import json

import pytest
from prometheus_client import parser

from longtail.models import errors
from longtail.pipeline.report import watch_page
from longtail.pipeline.watch import child
from longtail.pipeline.watch import metrics
from tests import browser
from tests.e2e import runs
from tests.pipeline.watch import conftest


@pytest.fixture
def command(place, monkeypatch, capfd):
    """Returns f(*words) -> (exit status, standard output, standard error); runs are real processes of the script."""
    monkeypatch.setattr(child, "LONGTAIL", place.longtail)

    def watch(*words, recipe="glyphs", marker="_COMPLETE"):
        asked = ("--recipe", recipe, "--data", place.pattern, "--root", place.root, "--marker", marker)
        status = runs.longtail(monkeypatch, "watch", *asked, *words)
        said = capfd.readouterr()
        return status, said.out, said.err

    return watch


@pytest.fixture
def delivered(place):
    place.deliver(1)
    place.deliver(2, conftest.REFUSED)
    place.deliver(3, {"status": 1, "error": "Trainer: <b>no</b> space"})


def test_a_line_a_run_is_printed_and_once_waits_for_no_more(place, delivered, command):
    status, out, err = command("--once")
    lines = out.splitlines()
    assert status == 1 and len(lines) == 3
    assert lines[0].startswith("span 1: pushed version 101, mAP 0.5000, in ")
    assert lines[1].startswith("span 2: rejected after ") and lines[1].endswith(conftest.REFUSED["error"])
    assert "waiting for" not in err  # it ends
    last = err.splitlines()[-1]
    assert last.startswith("longtail: error: 2 of 3 runs pushed nothing: span 2 (rejected), 3 (failed); watch.jsonl in")


def test_as_json_it_prints_the_lines_of_the_journal(place, delivered, command):
    _, out, _ = command("--once", "--json")
    assert out == (place.root / "watch.jsonl").read_text()
    assert [json.loads(line)["span"] for line in out.splitlines()] == [1, 2, 3]


def test_all_pushed_ends_with_status_0(place, command):
    place.deliver(1)
    assert command("--once")[0] == 0
    assert command("--once")[:2] == (0, "")


def test_what_is_set_reaches_the_recipe_and_every_run(place, command):
    place.deliver(1)
    script = place.script.read_text()
    place.script.write_text("import sys\nopen(__file__ + '.words', 'a').write(repr(sys.argv[1:]) + '\\n')\n" + script)
    assert command("--once", "--set", "training.epochs=2", "--set", "seed=1")[0] == 0
    recipe, run = map(eval, (place.script.parent / "longtail.py.words").read_text().splitlines())
    sets = ["--set", "training.epochs=2", "--set", "seed=1"]
    assert recipe == ["recipe", "glyphs", *sets, "--json"]
    where = ["--data", place.pattern, "--root", str(place.root), "--span", "1", "--json"]
    assert run == ["run", "--recipe", "glyphs", *sets, *where]


def test_the_page_names_every_run_and_what_the_watch_is_about(place, delivered, command):
    command("--once")
    page = (place.root / watch_page.WATCH_FILE).read_text()
    told = ("2 of 3 runs pushed nothing: span 2", "version 101", "mAP 50.00", "rejected", "image/ink", place.pattern)
    for text in told:
        assert text in page
    assert "&lt;b&gt;no&lt;/b&gt; space" in page and "<b>no</b>" not in page
    assert "pushed: 1; accepted: 0; not blessed: 0; rejected: 1; failed: 1" in page


def test_the_page_links_what_the_gate_saw_of_a_span(place, delivered, command):
    page = place.root / "drift" / "small recipe-span-2.html"
    page.parent.mkdir(parents=True)
    page.write_text("seen")
    command("--once")
    assert (place.root / watch_page.WATCH_FILE).read_text().count('href="drift/small%20recipe-span-2.html"') == 1


@browser.needed
def test_a_browser_shows_the_page_and_it_fits_a_telephone(place, delivered, command):
    command("--once")
    assert browser.console(place.root / watch_page.WATCH_FILE) == []
    assert browser.overflow(place.root / watch_page.WATCH_FILE, 400) == 0


@browser.needed
@browser.axe_needed
def test_axe_finds_nothing_in_the_page(place, delivered, command):
    command("--once")
    assert browser.violations(place.root / watch_page.WATCH_FILE) == []


def values(path):
    families = parser.text_string_to_metric_families(path.read_text())
    return {
        (sample.name.removeprefix("longtail_watch_"), sample.labels.get("outcome")): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_metrics_are_those_of_the_last_run_and_the_model_that_is_served(place, delivered, command):
    file = place.root / "collected" / "longtail.prom"
    command("--once", "--metrics", file)
    found = values(file)
    assert found["spans", "pushed"] == found["spans", "rejected"] == found["spans", "failed"] == 1
    assert found["spans", "accepted"] == found["spans", "not blessed"] == 0
    assert found["last_run_span", None] == 3
    assert found["last_run_outcome", "failed"] == 1 and found["last_run_outcome", "pushed"] == 0
    assert found["served_version", None] == 101 and found["served_map", None] == 0.5
    [*_, last] = place.journal().entries
    assert found["last_run_duration_seconds", None] == last.seconds
    assert found["last_run_timestamp_seconds", None] > 1.7e9
    assert [path.name for path in file.parent.iterdir()] == ["longtail.prom"]


def test_before_the_first_run_there_are_metrics_and_no_model(place, command):
    command("--once", "--metrics", place.root / "longtail.prom")
    assert set(values(place.root / "longtail.prom").values()) == {0.0}


@pytest.mark.parametrize(
    "path, message",
    [
        ("longtail.txt", "node_exporter reads files that end in .prom; name it so"),
        ("/proc/longtail.prom", "--metrics /proc/longtail.prom: cannot be written"),
    ],
)
def test_metrics_that_nobody_would_read_or_write_are_refused(place, path, message):
    with pytest.raises(errors.UsageError) as refused:
        metrics.check(path)
        metrics.write(path, place.journal(), "root")
    assert message in str(refused.value)


def test_a_recipe_that_is_none_is_refused_before_anything_is_waited_for(place, command):
    place.deliver(1)
    status, _, err = command(recipe="nonsense")
    assert (status, err) == (2, "longtail: error: no such recipe\n") and not list(place.root.iterdir())


def test_a_place_without_a_span_is_one_line(place, command):
    status, _, err = command("--data", "in")
    assert (status, err) == (2, "longtail: error: --data in: write {SPAN} where a delivery's number stands\n")


def test_a_served_model_that_no_watch_ran_is_told_by_its_version_alone(place, command):
    place.deliver(1, {"summary": {"served": {"version": 7}}})
    command("--once", "--metrics", place.root / "longtail.prom")
    found = values(place.root / "longtail.prom")
    assert found["served_version", None] == 7 and ("served_map", None) not in found
    assert "was not run by a watch here" in (place.root / watch_page.WATCH_FILE).read_text()


def test_what_stops_a_watch_is_said_in_one_line_and_on_its_page(place, command):
    place.deliver(1, {"status": 2, "error": "--set head.skale: no such key"})
    status, out, err = command()
    assert (status, out) == (2, "")
    said = [line for line in err.splitlines() if "skale" in line]
    assert said == ["longtail: error: --set head.skale: no such key"]
    assert "--set head.skale: no such key" in (place.root / watch_page.WATCH_FILE).read_text()
