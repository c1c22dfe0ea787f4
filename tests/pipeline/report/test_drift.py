"""`longtail drift`: table, page and exit status, on what a real gate left in a registry."""

import html.parser
import json
import os
import pathlib
import re
import shutil

import pytest
import tensorflow as tf

from longtail.components import artifacts
from longtail.components import drift_report
from longtail.components.data import features
from longtail.components.drift import rows as rows_lib
from longtail.models import errors
from longtail.pipeline.report import drift_page
from longtail.pipeline.report import drift_view
from longtail.serving.model_server import request_log
from tests.components import examples
from tests.components import ingestion
from tests.e2e import runs

HOSTILE = "<script>alert('&\"')</script>"


def span(seed, **changed):
    return examples.images(seed, **{features.ENCODED: ingestion.png(200), **changed})


class Page(html.parser.HTMLParser):
    """What a page is made of: its tags and their attributes, its text, and whether every tag is closed."""

    VOID = {"meta", "img", "br"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, wanted):
        return [attributes for tag, attributes in self.tags if tag == wanted]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A root in which span 1 was accepted, span 2, inverted, refused, and then span 1 looked at no more."""
    root = tmp_path_factory.mktemp("judged")
    registry = root / "registry" / "small"
    extreme = {
        features.ENCODED: ingestion.png(9),
        features.BRIGHTNESS: 1.0,
        features.INK: 0.0,
        features.PATH: f"{HOSTILE}\xff".encode("latin-1"),
    }
    first = examples.statistics(str(root / "1"), [*span(1), examples.image(HOSTILE, 0, **extreme)])
    examples.pass_gate(str(root / "work"), first, 1, registry)
    second = examples.statistics(str(root / "2"), examples.inverted(span(2)))
    with pytest.raises(errors.WorkError):
        examples.pass_gate(str(root / "work"), second, 2, registry)
    return root


@pytest.fixture
def root(judged, tmp_path):
    """A copy of the root that the test may change."""
    shutil.copytree(judged / "registry", tmp_path / "root" / "registry", copy_function=shutil.copy2)
    return tmp_path / "root"


@pytest.fixture
def longtail(monkeypatch, capfd):
    """Returns f(words) -> exit status, standard output, standard error."""

    def run(*words):
        status = runs.longtail(monkeypatch, "drift", *words)
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def page_of(root, number, recipe=""):
    return Page(drift_page.render(drift_view.load(drift_view.find(str(root), recipe, number))))


def test_a_refused_span_is_shown_row_by_row_and_ends_with_status_1(root, longtail):
    status, said, _ = longtail(root)
    assert status == 1
    [ink] = [line for line in said.splitlines() if "image/ink" in line and "│" in line]
    assert re.search(r"drifted .*0\.[89]\d+ .*0\.\d+ .*drift .*span 1 .*Jensen-Shannon", ink)
    assert re.search(r"Span 2 was refused: it differs from span 1 in .*image/brightness", said)


def test_an_accepted_span_ends_with_status_0(root, longtail):
    status, said, _ = longtail(root, "--span", 1)
    assert status == 0 and "Span 1 was accepted: the first, with nothing to compare it with." in said


def test_json_is_the_report_with_where_the_page_lies(root, longtail):
    _, said, _ = longtail(root, "--json")
    printed = json.loads(said)
    report = json.loads(pathlib.Path(printed.pop("report")).read_text())
    page = printed.pop("html")
    assert printed == {"recipe": "small", **report} and page == str(root / "drift" / "small-span-2.html")
    assert pathlib.Path(page).read_text().startswith("<!doctype html>")


def test_the_page_goes_where_it_is_told(root, longtail, tmp_path):
    longtail(root, "--html", tmp_path / "new" / "page.html")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


def test_the_span_judged_last_is_shown_not_the_one_of_the_highest_number(root, longtail):
    report = root / "registry" / "small" / "drift" / "span-00000001.json"
    later = os.stat(root / "registry" / "small" / "drift" / "span-00000002.json").st_mtime + 10
    os.utime(report, (later, later))
    assert "Span 1" in longtail(root)[1]


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere(root):
    text = drift_page.render(drift_view.load(drift_view.find(str(root), span=2)))
    page = Page(text)
    assert page.open == [] and not page.all("script") and not page.all("link")
    assert not re.search(
        r"(src|href|url)\s*[=(]\s*[\"']?(?!data:image/png)\w", re.sub(r"base64,[^\"]*", "base64,", text)
    )
    assert {"name": "viewport", "content": "width=device-width,initial-scale=1"} in page.all("meta")


def test_every_chart_and_image_says_what_it_shows(root):
    page = page_of(root, 2)
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in page.all("svg"))
    assert page.all("img") and all(image["alt"] for image in page.all("img"))


def test_names_that_hold_html_are_shown_as_text(root):
    page = page_of(root, 2)
    assert not page.all("script")
    assert any(f"{HOSTILE}?" in image["alt"] for image in page.all("img"))


def test_both_distributions_of_a_feature_are_drawn_over_the_same_buckets(root):
    page = page_of(root, 2)
    charts = [chart["aria-label"] for chart in page.all("svg") if chart["aria-label"].startswith("image/ink")]
    assert [label.split(":")[0] for label in charts[:2]] == ["image/ink, span 1", "image/ink, span 2"]
    view = drift_view.load(drift_view.find(str(root), span=2))
    found = drift_view.histogram(view, {"feature": features.INK})
    assert sum(found["current"][:10]) == 0 and sum(found["baseline"][10:]) == 0
    assert sum(found["current"]) == pytest.approx(1) and sum(found["baseline"]) == pytest.approx(1)


def test_the_images_shown_are_those_at_the_extremes_of_the_largest_shift(root):
    view = drift_view.load(drift_view.find(str(root), span=2))
    row = drift_view.largest(view)
    assert row["feature"] in (features.INK, features.BRIGHTNESS)
    for side, (_, pictures) in zip((view.baseline, view.current), drift_view.sides(view, row), strict=True):
        values = sorted(picture.values[row["feature"]] for picture in side.pictures)
        shown = [picture.values[row["feature"]] for picture in pictures]
        assert shown[:3] == values[:3] and shown[-3:] == values[-3:] and len(shown) == 9


def test_the_history_has_every_judged_span_and_crosses_where_it_drifted(root):
    page = page_of(root, 1)
    text = page.text
    assert re.search(r"span 2: 0\.[89]\d*, threshold 0\.\d+, drifted", text) and "span 1: 0" not in text


@pytest.fixture(scope="module")
def skewed(tmp_path_factory):
    """Returns f(accept_drift) that takes a first span through the gate with skew; and the root of it."""
    root = tmp_path_factory.mktemp("skewed")
    log = request_log.RequestLog(request_log.Options(str(root / "log")))
    log.start()
    request = request_log.of_tensors("", {"image_bytes": tf.constant([ingestion.png(3), ingestion.png(90)])})
    log.offer(type("Answered", (), {"name": "small", "version": 1}), lambda: request)
    log.stop(60)
    found = rows_lib.row(rows_lib.SKEW, features.BRIGHTNESS, "Jensen-Shannon", 0.9, 0.1)
    shares = {"ends": [0, 0.5, 1], "current": [1.0, 0.0], "baseline": [0.0, 1.0]}
    report = examples.artifact(artifacts.DriftReport, root / "report")
    drift_report.write(report[0].uri, [{**found, "histogram": shares, "request_log": str(root / "log")}])
    first = examples.statistics(str(root / "1"), span(1))

    def judge(accept_drift=""):
        registry, reports = root / "registry" / "small", {"skew_report": report}
        return examples.pass_gate(str(root / "work"), first, 1, registry, accept_drift, reports=reports)

    return judge, root


def test_skew_alone_is_refused_and_named_as_skew(skewed):
    judge, _ = skewed
    with pytest.raises(
        errors.WorkError, match=r"span 1 shows skew to what serving .* in image/brightness .* 0.9 > 0.1"
    ):
        judge()


def test_skew_is_accepted_for_a_reason_that_is_recorded(skewed):
    blessing = skewed[0]("night cameras")
    assert blessing.get_string_custom_property("accept_drift") == "night cameras"
    assert blessing.get_string_custom_property("verdict") == "overridden"


def test_skew_is_shown_with_images_of_the_log_where_it_lies(skewed):
    judge, root = skewed
    with pytest.raises(errors.WorkError):
        judge()
    page = page_of(root, 1)
    assert "what serving is asked about differs from it in image/brightness" in page.text
    assert any(image["alt"].startswith("request 1, image/brightness") for image in page.all("img"))
    labels = [chart["aria-label"] for chart in page.all("svg")]
    assert "image/brightness, requests to serving: most images, 100%, at 0 to 0.5" in labels


def test_a_request_log_that_is_gone_leaves_the_distances_and_is_said(skewed, tmp_path):
    judge, root = skewed
    with pytest.raises(errors.WorkError):
        judge()
    shutil.copytree(root / "registry", tmp_path / "registry")
    report = tmp_path / "registry" / "small" / "drift" / "span-00000001.json"
    report.write_text(report.read_text().replace(str(root / "log"), str(tmp_path / "gone")))
    page = page_of(tmp_path, 1)
    assert "requests to serving" in page.text and "There is none any more." in page.text


def test_a_kept_sample_that_is_gone_leaves_the_distances_and_is_said(root, longtail):
    for folder in (root / "registry" / "small" / "drift" / "span-00000001").iterdir():
        (folder / "table.npz").write_bytes(b"damaged")
    status, said, _ = longtail(root)
    assert status == 1 and "what was kept of span 1 cannot be read" in said and "image/ink" in said


def test_an_accepted_drift_is_shown_with_its_reason(tmp_path):
    registry = tmp_path / "registry" / "small"
    for number, images in ((1, span(1)), (2, examples.inverted(span(2)))):
        statistics = examples.statistics(str(tmp_path / str(number)), images)
        examples.pass_gate(str(tmp_path / "work"), statistics, number, registry, accept_drift="a <new> scanner")
    text = page_of(tmp_path, 2).text
    assert "Span 2 was accepted although it differs from span 1" in text and "The reason given: a <new> scanner" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere: no such folder; give the --root of a run"),
        (["EMPTY"], "no span was judged there yet"),
        (["ROOT", "--span", "7"], "span 7 was not judged; judged were 1, 2"),
        (["ROOT", "--recipe", "other"], "no span of recipe 'other' was judged; there is small"),
        (["ROOT", "--html", "EMPTY"], "cannot be written"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(root, longtail, tmp_path, words, said):
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": tmp_path / "empty", "ROOT": root}
    status, out, err = longtail(*(places.get(word, word) for word in words))
    [line] = err.strip().splitlines()
    assert (status, out) == (2, "") and line.startswith("longtail: error: ") and said in line


def test_two_recipes_that_judged_a_span_of_one_number_have_to_be_told_apart(root, longtail):
    shutil.copytree(root / "registry" / "small", root / "registry" / "large")
    status, _, said = longtail(root, "--span", 1)
    assert status == 2 and "choose one with --recipe" in said
    assert longtail(root, "--span", 1, "--recipe", "large")[0] == 0
