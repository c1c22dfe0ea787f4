"""What a finished run prints of itself."""

import pytest

from longtail.pipeline.local import run

SUMMARY = {
    "metrics": {"queries": 0, "head": None, "tail": None},
    "baseline": None,
    "span": 1,
    "blessed": False,
    "pushed_model": None,
    "version": None,
    "examples": {"trained_on": 40, "eval": 20, "quarantined": 0},
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


def row(lines, name):
    [line] = [line for line in lines if line.startswith(f"│ {name}")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_tail_health_of_head_and_tail_is_in_the_table(printed):
    lines = printed()
    assert any("weight norm" in line for line in lines)
    assert row(lines, "head") == ["head", "3", "0.2500", "0.01230", "-", "-", "0.500"]
    assert row(lines, "tail") == ["tail", "7", "-", "-", "1.000", "0.0400", "0.750"]
    assert any("62.5% of the last epoch's samples had a cloud" in line for line in lines)


def test_a_plain_heads_table_has_its_weights_alone(printed):
    health = {"tail": {"classes": 7, "weight_norm": 0.75}}
    lines = printed(tail_health=health)
    assert row(lines, "tail") == ["tail", "7", "0.750"]
    assert not any("cloud" in line for line in lines)


def test_a_model_trained_before_there_was_tail_health_has_no_table_of_it(printed):
    assert not any("weight norm" in line for line in printed(tail_health=None))


def test_an_old_span_that_is_run_again_names_its_version_and_the_one_that_is_served(printed):
    pushed = {"blessed": True, "pushed_model": "root/models/m/7", "gallery": "root/galleries/m", "version": 7}
    lines = printed(**pushed, served={"version": 9, "span": 2})
    assert "blessed; pushed root/models/m/7" in lines
    assert "this is version 7, of span 1; served is the highest, version 9, of span 2" in lines
    assert not any("served is" in line for line in printed(**pushed, served={"version": 7, "span": 1}))
