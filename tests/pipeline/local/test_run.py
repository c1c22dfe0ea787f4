"""What a finished run prints of itself."""

import pytest

from longtail.models.metrics import metric
from longtail.pipeline.local import run

FIGURES = {each.name: 0.5 for each in metric.METRICS}
SUMMARY = {
    "protocol": "query_gallery",
    "head_threshold": 10,
    "metrics": {
        **FIGURES,
        "queries": 9,
        "head": {**FIGURES, "queries": 4},
        "tail": {**FIGURES, "queries": 5},
        "pixels": None,
    },
    "baseline": None,
    "difference": None,
    "by_span": [],
    "warnings": [],
    "span": 1,
    "window": [1],
    "start": None,
    "blessed": False,
    "pushed_model": None,
    "version": None,
    "examples": {"trained_on": 40, "eval": 20, "quarantined": 0, "ignored": 0},
    "classes": {"train": 10, "eval": 4},
    "seconds": {},
    "tail_health": {
        "head": {"classes": 3, "angular_mean": 0.25, "angular_variance": 0.0123, "weight_norm": 0.5},
        "tail": {"classes": 7, "classes_with_cloud": 1.0, "cloud_width": 0.04, "weight_norm": 0.75},
        "samples_with_cloud": 0.625,
    },
}


@pytest.fixture
def printed(monkeypatch, capsys):
    """Returns f(**changes of the summary) -> lines of the table."""
    monkeypatch.setenv("COLUMNS", "150")

    def show(**changes):
        run.print_table(SUMMARY | changes, "root")
        return capsys.readouterr().out.splitlines()

    return show


def rows(lines, name):
    found = [line for line in lines if line.startswith(f"│ {name}")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in found]


def test_scores_are_those_of_every_metric_by_slice(printed):
    lines = printed(baseline={**FIGURES, "queries": 9}, tail_health=None)
    titles = [cell.strip() for cell in lines[1].strip("┃").split("┃")]
    assert titles == ["", *(each.title for each in metric.METRICS), "queries"]
    shown = ["50.00"] * len(metric.METRICS)
    for name, queries in (("all", "9"), ("head", "4"), ("tail", "5"), ("baseline", "9")):
        assert rows(lines, name) == [[name, *shown, queries]]


def test_both_tables_say_by_one_rule_who_is_head(printed):
    lines = printed(head_threshold=12)
    said = "head: {} identities with more than 12 images; tail: all others"
    assert f"protocol query_gallery; {said.format('held-out')}" in lines
    assert said.format("trained") in lines


def test_where_all_are_tail_the_table_says_so_instead_of_printing_them_twice(printed):
    everyone, nobody = {**FIGURES, "queries": 9}, {**dict.fromkeys(FIGURES), "queries": 0}
    lines = printed(metrics={**everyone, "pixels": None, "head": nobody, "tail": everyone}, tail_health=None)
    assert len(rows(lines, "all")) == 1 and not rows(lines, "tail") and not rows(lines, "head")
    assert any(line.endswith("all that are scored are tail by this rule") for line in lines)


def test_pixels_stand_beside_the_model_with_their_name(printed):
    pixels = {**FIGURES, "mAP": 0.25, "embedding": "centred pixels", "queries": 9}
    lines = printed(metrics={**SUMMARY["metrics"], "pixels": pixels})
    assert rows(lines, "pixels")[0][1] == "25.00"
    assert "pixels: centred pixels, an embedding that nobody trained" in lines


def test_what_casts_doubt_on_the_figures_is_told(printed):
    assert "warning: only 4 identities are scored" in printed(warnings=["only 4 identities are scored"])


def test_tail_health_of_head_and_tail_is_in_the_table(printed):
    lines = printed()
    assert any("weight norm" in line for line in lines)
    assert rows(lines, "head")[1] == ["head", "3", "0.2500", "0.01230", "-", "-", "0.500"]
    assert rows(lines, "tail")[1] == ["tail", "7", "-", "-", "1.000", "0.0400", "0.750"]
    assert any("62.5% of the last epoch's samples had a cloud" in line for line in lines)


def test_a_plain_heads_table_has_its_weights_alone(printed):
    health = {"tail": {"classes": 7, "weight_norm": 0.75}}
    lines = printed(tail_health=health)
    assert rows(lines, "tail")[1] == ["tail", "7", "0.750"]
    assert not any("cloud" in line for line in lines)


def test_a_model_trained_before_there_was_tail_health_has_no_table_of_it(printed):
    assert not any("weight norm" in line for line in printed(tail_health=None))


def test_an_old_span_that_is_run_again_names_its_version_and_the_one_that_is_served(printed):
    pushed = {"blessed": True, "pushed_model": "root/models/m/7", "gallery": "root/galleries/m", "version": 7}
    lines = printed(**pushed, served={"version": 9, "span": 2})
    assert "blessed; pushed root/models/m/7" in lines
    assert "this is version 7, of span 1; served is the highest, version 9, of span 2" in lines
    assert not any("served is" in line for line in printed(**pushed, served={"version": 7, "span": 1}))


def test_a_window_of_several_spans_has_a_row_for_each(printed):
    spans = [{"span": span, "candidate": {**FIGURES, "queries": queries}} for span, queries in ((1, 4), (3, 5))]
    lines = printed(by_span=[*spans, {"span": 4, "candidate": None}], window=[1, 3, 4])
    shown = ["50.00"] * len(metric.METRICS)
    assert rows(lines, "span") == [["span 1", *shown, "4"], ["span 3", *shown, "5"]]
    assert any("trained on 40 images of 10 identities (spans 1, 3, 4), scored on" in line for line in lines)
