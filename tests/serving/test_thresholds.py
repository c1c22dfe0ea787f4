"""What a threshold decides, and what is said where there is none."""

import pytest

from longtail.models import errors
from longtail.serving import thresholds

CALIBRATED = [
    {"fmr": 0.1, "threshold": 0.5, "interval": [0.4, 0.6], "fnmr": 0.2},
    {"fmr": 0.01, "threshold": 0.7, "interval": None, "fnmr": 0.4},
]


@pytest.mark.parametrize(
    ("similarity", "verdict"),
    [(0.39, "different"), (0.4, "undecided"), (0.55, "undecided"), (0.6, "same"), (1.0, "same")],
)
def test_within_the_interval_nothing_is_decided(similarity, verdict):
    assert thresholds.choose(CALIBRATED, 0.1, "model").judge(similarity) == verdict


def test_a_threshold_without_an_interval_always_decides():
    bar = thresholds.choose(CALIBRATED, 0.01, "model")
    assert (bar.judge(0.7), bar.judge(0.6999)) == ("same", "different")


def test_a_rate_that_is_not_calibrated_for_is_bad_usage_that_names_those_that_are():
    with pytest.raises(errors.UsageError, match="false match rate 0.001: model 3 is calibrated for 0.1, 0.01; take"):
        thresholds.choose(CALIBRATED, 0.001, "model 3")


def test_no_thresholds_at_all_are_bad_usage():
    with pytest.raises(errors.UsageError, match="gallery g has no thresholds: .*; give a threshold"):
        thresholds.choose([], 0.1, "gallery g")


def test_a_broken_threshold_is_bad_usage():
    with pytest.raises(errors.UsageError, match="model has a threshold that cannot be read"):
        thresholds.choose([{"fmr": 0.1}], 0.1, "model")


def test_a_model_without_thresholds_is_bad_usage_that_says_how_to_make_them(tmp_path):
    with pytest.raises(errors.UsageError, match="has no thresholds .*; make them with longtail calibrate"):
        thresholds.of_model(str(tmp_path))


def test_a_file_that_holds_none_is_bad_usage(tmp_path):
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "thresholds.json").write_text("{}")
    with pytest.raises(errors.UsageError, match="thresholds.json: no thresholds can be read"):
        thresholds.of_model(str(tmp_path))


def test_a_threshold_that_is_no_cosine_is_bad_usage():
    with pytest.raises(errors.UsageError, match="threshold 1.5: a similarity is a cosine"):
        thresholds.given(1.5)
