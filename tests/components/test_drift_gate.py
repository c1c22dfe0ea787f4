"""The gate lets clean spans through, stops drifted ones, and never compares with a refused one."""

import json
import os
import pathlib

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from longtail.components import artifacts
from longtail.components import drift_report
from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components.data import features
from longtail.components.data import identity_counts
from longtail.components.data import samples
from longtail.components.drift import rows as rows_lib
from longtail.components.drift_gate import executor as drift_gate
from longtail.models import errors
from tests.components import examples


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    """Statistics of clean spans, one of inverted images, and one that breaks the schema."""
    made = {
        "clean": examples.images(1),
        "clean too": examples.images(2),
        "clean again": examples.images(3),
        "drifted": examples.inverted(examples.images(4)),
        "broken": examples.images(5, **{features.CONTRAST: 2.0}),
    }
    return {name: examples.statistics(str(tmp_path_factory.mktemp("span")), images) for name, images in made.items()}


@pytest.fixture
def gate(tmp_path, spans):
    """Returns f(span, name) -> blessing; f.registry is the registry."""

    def send(span, name, **options):
        return examples.pass_gate(str(tmp_path), spans[name], span, send.registry, **options)

    send.registry = str(tmp_path / "registry")
    return send


def _report(gate, span):
    with open(registry_lib.report_path(gate.registry, span)) as file:
        return json.load(file)


def test_a_cold_start_is_accepted(gate):
    blessing = gate(1, "clean")
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_int_custom_property("baseline_span") == -1
    assert registry_lib.accepted_spans(gate.registry) == [1]


def test_a_clean_second_span_is_accepted_against_the_first(gate):
    gate(1, "clean")
    assert gate(2, "clean too").get_int_custom_property("baseline_span") == 1
    assert registry_lib.accepted_spans(gate.registry) == [1, 2]


def test_a_drifted_span_is_refused_with_its_features_in_one_line(gate):
    gate(1, "clean")
    with pytest.raises(errors.WorkError) as caught:
        gate(2, "drifted")
    message = str(caught.value)
    assert message.startswith("stopped by the drift gate: span 2 differs from accepted span 1 in ")
    assert "image/ink (Jensen-Shannon " in message and "image/brightness" in message
    assert "image/contrast" not in message
    assert registry_lib.report_path(gate.registry, 2) in message
    assert message.endswith("nothing was trained or pushed") and "\n" not in message


def test_a_refused_span_leaves_a_report_and_neither_baseline_nor_blessing(gate, tmp_path):
    gate(1, "clean")
    with pytest.raises(errors.WorkError):
        gate(2, "drifted")
    report = _report(gate, 2)
    drifted = {row["feature"] for row in report["features"] if row["verdict"] == "drifted"}
    assert (report["verdict"], report["baseline_span"]) == ("refused", 1)
    assert drifted == {features.INK, features.BRIGHTNESS}
    assert {row["kind"] for row in report["features"]} == {"drift", "data"}
    assert set(report["features"][0]) == {"kind", "feature", "split", "measure", "distance", "threshold", "verdict"}
    assert registry_lib.accepted_spans(gate.registry) == [1]
    assert not os.path.exists(tmp_path / "run-2" / "blessing")


def test_other_data_under_the_number_of_the_only_accepted_span_is_compared_and_refused(gate):
    gate(1, "clean")
    before = registry_lib.accepted_folder(gate.registry, 1)
    with pytest.raises(errors.WorkError, match="span 1 differs from the data accepted as span 1 before in "):
        gate(1, "drifted")
    assert registry_lib.accepted_folder(gate.registry, 1) == before


def test_other_clean_data_under_the_number_of_the_only_accepted_span_takes_its_place(gate, spans):
    gate(1, "clean")
    assert gate(1, "clean too").get_int_custom_property("baseline_span") == 1
    statistics = registry_lib.accepted_folder(gate.registry, 1)
    assert registry_lib.fingerprint(statistics, ["train", "eval"]) == registry_lib.fingerprint(
        spans["clean too"][0].uri, ["train", "eval"]
    )


def test_who_is_in_an_accepted_span_is_in_the_ledger_once_and_its_entry_says_where_the_images_lie(gate, spans):
    for _ in range(2):
        gate(1, "clean")
    found = ledger.read(gate.registry)
    names = [one.identity for one in found.met]
    assert len(names) == len(set(names)) > 0
    entry = registry_lib.accepted_entry(gate.registry, 1)
    assert set(identity_counts.read(entry["examples"])["train"]) <= set(names)


def test_nobody_of_a_refused_span_is_in_the_ledger(gate):
    gate(1, "clean")
    before = ledger.read(gate.registry)
    with pytest.raises(errors.WorkError):
        gate(2, "drifted")
    assert ledger.read(gate.registry) == before


def test_the_only_accepted_span_again_is_a_cold_start_again(gate):
    gate(1, "clean")
    assert gate(1, "clean").get_int_custom_property("baseline_span") == -1


def test_the_mark_of_an_accepted_span_says_which_data_it_was(gate):
    gate(1, "clean", fingerprint="data")
    assert registry_lib.last_accepted(gate.registry, 1, "data") is None


def test_a_clean_span_after_a_refused_one_is_compared_with_the_last_accepted(gate):
    gate(1, "clean")
    with pytest.raises(errors.WorkError):
        gate(2, "drifted")
    assert gate(3, "clean too").get_int_custom_property("baseline_span") == 1


def test_a_refused_span_is_refused_again(gate):
    gate(1, "clean")
    for _ in range(2):
        with pytest.raises(errors.WorkError, match="span 2 differs from accepted span 1"):
            gate(2, "drifted")


def test_a_span_that_came_late_is_compared_with_the_nearest_accepted(gate):
    gate(5, "clean")
    assert gate(3, "clean too").get_int_custom_property("baseline_span") == 5
    assert gate(4, "clean again").get_int_custom_property("baseline_span") == 3


def test_a_late_drifted_span_is_refused(gate):
    gate(5, "clean")
    with pytest.raises(errors.WorkError, match="span 3 differs from accepted span 5"):
        gate(3, "drifted")


def test_an_accepted_span_that_comes_again_replaces_its_own_entry(gate, spans):
    gate(1, "clean")
    gate(2, "clean too")
    gate(2, "clean again")
    statistics = registry_lib.accepted_folder(gate.registry, 2)
    assert os.listdir(os.path.dirname(statistics)) == [os.path.basename(statistics)]
    assert registry_lib.fingerprint(statistics, ["train", "eval"]) == registry_lib.fingerprint(
        spans["clean again"][0].uri, ["train", "eval"]
    )


def test_the_mark_of_an_accepted_span_says_what_it_was_compared_with(gate):
    gate(1, "clean")
    gate(2, "clean too")
    path = os.path.join(registry_lib.baseline_folder(gate.registry, 2), "accepted.json")
    with open(path) as file:
        mark = json.load(file)
    assert (mark["span"], mark["baseline_span"]) == (2, 1)
    assert mark["fingerprint"] == _report(gate, 2)["fingerprint"]


def test_a_refused_retry_of_an_accepted_span_keeps_the_accepted_statistics(gate):
    gate(1, "clean")
    gate(2, "clean too")
    before = registry_lib.accepted_folder(gate.registry, 2)
    with pytest.raises(errors.WorkError):
        gate(2, "drifted")
    assert registry_lib.accepted_folder(gate.registry, 2) == before


def test_a_reason_lets_drift_through_and_is_kept(gate):
    gate(1, "clean")
    blessing = gate(2, "drifted", accept_drift="the scanner was replaced")
    assert blessing.get_string_custom_property("accept_drift") == "the scanner was replaced"
    assert _report(gate, 2)["verdict"] == "overridden"
    assert registry_lib.accepted_spans(gate.registry) == [1, 2]


def test_statistics_made_by_beam_pass_the_gate(gate, spans, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("beam"))
    spans["by beam"] = examples.generated_statistics(folder, examples.images(6))
    gate(1, "by beam")
    assert gate(2, "clean").get_string_custom_property("verdict") == "accepted"


def test_a_blank_reason_is_no_reason(gate):
    gate(1, "clean")
    with pytest.raises(errors.WorkError):
        gate(2, "drifted", accept_drift=" ")


def test_a_broken_schema_stops_a_cold_start(gate):
    with pytest.raises(errors.WorkError, match=r"span 1 breaks the schema in image/contrast \("):
        gate(1, "broken")
    assert registry_lib.accepted_spans(gate.registry) == []


@pytest.mark.parametrize(("split", "accepted"), [("train", []), ("eval", [1])])
def test_an_empty_train_split_stops_a_cold_start_and_an_empty_eval_split_does_not(
    gate, spans, tmp_path, split, accepted
):
    spans["hollow"] = examples.statistics(str(tmp_path / "hollow"), examples.images())
    nothing = statistics_pb2.DatasetFeatureStatisticsList()
    nothing.datasets.add(num_examples=0)
    path = pathlib.Path(registry_lib.statistics_path(spans["hollow"][0].uri, split))
    path.write_bytes(nothing.SerializeToString())
    if accepted:
        gate(1, "hollow")
    else:
        with pytest.raises(errors.WorkError, match="the data set .no examples."):
            gate(1, "hollow")
    assert registry_lib.accepted_spans(gate.registry) == accepted


def test_a_reason_does_not_excuse_a_broken_schema(gate):
    gate(1, "clean")
    with pytest.raises(errors.WorkError, match="breaks the schema in image/contrast"):
        gate(2, "broken", accept_drift="new scanner")


def test_an_accepted_span_also_leaves_its_distances(gate):
    gate(1, "clean")
    gate(2, "clean too")
    rows = _report(gate, 2)["features"]
    assert {row["feature"] for row in rows if row["kind"] == "drift"} == set(features.STATISTICS)
    assert {row["verdict"] for row in rows} == {"ok"}


def test_what_was_judged_is_kept_of_a_refused_span_too(gate, spans):
    gate(1, "clean")
    with pytest.raises(errors.WorkError):
        gate(2, "drifted")
    kept = registry_lib.kept_folder(gate.registry, 2, _report(gate, 2)["kept"])
    mark = registry_lib.fingerprint(spans["drifted"][0].uri, ["train", "eval"])
    assert registry_lib.fingerprint(kept, ["train", "eval"]) == mark
    assert len(samples.read_images(kept)[0]) == 110 and len(samples.read_table(kept).digest) == 100


def test_a_refused_retry_of_an_accepted_span_leaves_both_what_was_accepted_and_what_was_judged(gate):
    gate(1, "clean")
    gate(2, "clean too")
    for _ in range(2):
        with pytest.raises(errors.WorkError):
            gate(2, "drifted")
    accepted = registry_lib.accepted_folder(gate.registry, 2)
    judged = registry_lib.kept_folder(gate.registry, 2, _report(gate, 2)["kept"])
    assert set(os.listdir(os.path.dirname(judged))) == {os.path.basename(accepted), os.path.basename(judged)}
    assert accepted != judged


@pytest.mark.parametrize("key", drift_gate.REPORT_KEYS[1:])
def test_a_row_of_any_report_stops_a_span(gate, tmp_path, key):
    rows = [rows_lib.row("skew", "image/contrast", "Jensen-Shannon", 0.4, 0.1)]
    drift_report.write(str(tmp_path / "more"), rows)
    reports = {key: examples.artifact(artifacts.DriftReport, tmp_path / "more")}
    with pytest.raises(errors.WorkError, match=r"image/contrast \(Jensen-Shannon 0.4 > 0.1\)"):
        gate(1, "clean", reports=reports)


def test_a_note_of_a_report_is_in_the_gates(gate, tmp_path):
    drift_report.write(str(tmp_path / "more"), [], "no model yet")
    gate(1, "clean", reports={"embedding_report": examples.artifact(artifacts.DriftReport, tmp_path / "more")})
    assert _report(gate, 1)["notes"] == ["no model yet"]


def test_a_span_delivered_again_under_another_number_is_refused(gate):
    gate(1, "clean")
    with pytest.raises(errors.WorkError, match="data/repeated_images"):
        gate(2, "clean")


def test_what_another_run_has_kept_and_not_yet_named_is_left_alone(gate, tmp_path):
    gate(1, "clean")
    unnamed = pathlib.Path(registry_lib.kept_folder(gate.registry, 1, "0123456789abcdef-01234567"))
    unnamed.mkdir()
    gate(1, "clean")
    assert unnamed.is_dir()


def test_an_entry_of_an_earlier_release_says_how_to_begin_anew(gate):
    path = pathlib.Path(registry_lib.baseline_folder(gate.registry, 1)) / registry_lib.ACCEPTED_FILE
    path.parent.mkdir(parents=True)
    path.write_text('{"span": 1, "statistics": "0123", "fingerprint": "0123"}')
    with pytest.raises(errors.WorkError, match="earlier release's.*delete .*baselines: the next span") as raised:
        registry_lib.accepted_folder(gate.registry, 1)
    assert "\n" not in str(raised.value)


def test_a_distance_that_is_no_number_is_not_ok():
    assert rows_lib.row(rows_lib.EMBEDDING, "x", "m", float("nan"), 0.3)["verdict"] == rows_lib.NOT_COMPARED


def test_the_very_data_that_was_accepted_for_a_reason_stays_accepted_for_it(gate):
    gate(1, "clean")
    gate(2, "drifted", accept_drift="new cameras", fingerprint="d2")
    gate(2, "drifted", fingerprint="d2")
    assert (_report(gate, 2)["verdict"], _report(gate, 2)["accept_drift"]) == ("overridden", "new cameras")
    with pytest.raises(errors.WorkError, match="stopped by the drift gate"):
        gate(2, "drifted", fingerprint="other")


def test_a_reason_for_drift_is_none_for_skew_that_came_later(gate, tmp_path):
    gate(1, "clean")
    gate(2, "drifted", accept_drift="new cameras", fingerprint="d2")
    drift_report.write(str(tmp_path / "more"), [rows_lib.row(rows_lib.SKEW, "image/ink", "m", 0.9, 0.1)])
    with pytest.raises(errors.WorkError, match="shows skew"):
        more = {"skew_report": examples.artifact(artifacts.DriftReport, tmp_path / "more")}
        gate(2, "drifted", fingerprint="d2", reports=more)


def test_a_first_span_has_no_distances(gate):
    gate(1, "clean")
    rows = _report(gate, 1)["features"]
    assert rows and {(row["distance"], row["verdict"]) for row in rows} == {(None, "ok")}
