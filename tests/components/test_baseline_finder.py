"""BaselineFinder finds the right accepted span and the last whole model, or says what is wrong."""

import os

import pytest

from longtail.components import registry as registry_lib
from longtail.components.baseline_finder import component
from longtail.components.data import samples
from longtail.models import errors
from tests.components import examples


@pytest.fixture(scope="module")
def current(tmp_path_factory):
    return examples.statistics(str(tmp_path_factory.mktemp("current")), examples.images())


@pytest.fixture
def registry(tmp_path, current):
    """A registry with the accepted spans 2 and 5."""
    folder = str(tmp_path / "registry")
    for span in (2, 5):
        examples.accept(folder, span, current)
    return folder


def _model(folder, *versions):
    for version in versions:
        path = folder / str(version)
        path.mkdir(parents=True)
        (path / "saved_model.pb").write_bytes(f"model {version}".encode())
        (path / "variables").mkdir()
        (path / "variables" / "variables.index").write_bytes(b"v")
    return folder


def _baseline_span(statistics):
    return statistics[0].get_int_custom_property("baseline_span")


@pytest.mark.parametrize(("span", "expected"), [(1, 2), (2, 5), (3, 2), (5, 2), (9, 5)], ids=lambda value: f"{value}")
def test_the_baseline_is_the_nearest_other_accepted_span(registry, span, expected):
    assert component.last_accepted(registry, span) == expected


@pytest.fixture
def lone(tmp_path, current):
    """A registry where only span 1 is accepted, its data known by the fingerprint `data`."""
    folder = str(tmp_path / "lone")
    examples.accept(folder, 1, current, data="data")
    return folder


@pytest.mark.parametrize("fingerprint", ["other data", ""])
def test_where_only_the_span_itself_is_accepted_other_data_is_compared_with_it(lone, fingerprint):
    assert component.last_accepted(lone, 1, fingerprint) == 1


def test_where_only_the_span_itself_is_accepted_the_same_data_is_a_cold_start(lone):
    assert component.last_accepted(lone, 1, "data") is None


def test_where_only_the_span_itself_is_accepted_the_same_statistics_are_a_cold_start(tmp_path, current, lone):
    found = examples.find_baseline(str(tmp_path), current, 1, lone)["baseline_statistics"]
    assert found[0].get_int_custom_property("cold_start") == 1


@pytest.mark.parametrize(("fingerprint", "cold"), [("data", 1), ("other data", 0)])
def test_a_span_that_comes_again_is_known_by_its_data_whatever_its_statistics(tmp_path, lone, fingerprint, cold):
    other = examples.statistics(str(tmp_path / "other"), examples.images(1))
    found = examples.find_baseline(str(tmp_path), other, 1, lone, fingerprint=fingerprint)["baseline_statistics"]
    assert found[0].get_int_custom_property("cold_start") == cold


def test_the_models_name_stands_in_registry_and_models(tmp_path, current, lone):
    _model(tmp_path / "models" / "lone", 3)
    places = {"registry": str(tmp_path / "{MODEL}"), "models": str(tmp_path / "models" / "{MODEL}")}
    found = examples.find_baseline(str(tmp_path), current, 4, model_name="lone", **places)
    assert _baseline_span(found["baseline_statistics"]) == 1
    assert os.path.exists(os.path.join(found["baseline_model"][0].uri, "Format-Serving", "saved_model.pb"))


def test_an_entry_whose_data_is_unknown_is_compared_with(tmp_path, current):
    examples.accept(tmp_path, 1, current)
    assert component.last_accepted(str(tmp_path), 1, "") == 1


def test_an_empty_registry_has_no_accepted_span(tmp_path):
    assert component.last_accepted(str(tmp_path / "none"), 3) is None


def test_an_entry_without_its_mark_is_not_accepted(registry):
    os.remove(os.path.join(registry_lib.baseline_folder(registry, 5), "accepted.json"))
    assert component.last_accepted(registry, 9) == 2


def test_the_accepted_statistics_are_copied(tmp_path, current, registry):
    found = examples.find_baseline(str(tmp_path), current, 3, registry)["baseline_statistics"]
    assert _baseline_span(found) == 2
    assert found[0].splits == ["train", "eval"]
    assert registry_lib.fingerprint(found[0].uri, found[0].splits) == registry_lib.fingerprint(
        current[0].uri, current[0].splits
    )


def test_a_cold_start_emits_the_spans_own_statistics(tmp_path, current):
    found = examples.find_baseline(str(tmp_path), current, 3, tmp_path / "registry")["baseline_statistics"]
    assert (_baseline_span(found), found[0].get_int_custom_property("cold_start")) == (-1, 1)
    assert os.path.exists(registry_lib.statistics_path(found[0].uri, "train"))


def test_a_pinned_span_is_taken(tmp_path, current, registry):
    found = examples.find_baseline(str(tmp_path), current, 9, registry, pinned_span="2")["baseline_statistics"]
    assert _baseline_span(found) == 2


def test_a_pin_changes_when_the_entry_of_its_span_is_replaced(tmp_path, registry):
    before = component.pin_span(registry, 9)
    other = examples.statistics(str(tmp_path / "other"), examples.images(1))
    examples.accept(registry, 5, other, 2)
    after = component.pin_span(registry, 9)
    assert before != after and before.startswith("5@") and after.startswith("5@")


def test_what_was_pinned_is_found(tmp_path, current, registry):
    pinned = component.pin_span(registry, 3)
    found = examples.find_baseline(str(tmp_path), current, 9, registry, pinned_span=pinned)["baseline_statistics"]
    assert _baseline_span(found) == 2


def test_a_cold_start_is_pinned_as_none(lone):
    assert component.pin_span(lone, 1, "data") == "none"


def test_a_span_pinned_to_none_is_a_cold_start(tmp_path, current, registry):
    found = examples.find_baseline(str(tmp_path), current, 9, registry, pinned_span="none")["baseline_statistics"]
    assert found[0].get_int_custom_property("cold_start") == 1


def test_a_pinned_span_that_is_not_accepted_is_an_error(tmp_path, current, registry):
    with pytest.raises(errors.WorkError, match=r"span 4 is no accepted baseline.*\[2, 5\]; run again"):
        examples.find_baseline(str(tmp_path), current, 9, registry, pinned_span="4")


def test_a_pin_that_is_no_number_is_an_error(tmp_path, current, registry):
    with pytest.raises(errors.UsageError, match="pinned_span"):
        examples.find_baseline(str(tmp_path), current, 9, registry, pinned_span="last")


@pytest.mark.parametrize("content", [b"\xff\xff no statistics", b"", None])
@pytest.mark.parametrize("name", ["Split-train/FeatureStats.pb", samples.SAMPLE_FILE, samples.TABLE_FILE])
def test_an_unreadable_baseline_is_named_with_what_to_do(tmp_path, current, registry, name, content):
    path = os.path.join(registry_lib.accepted_folder(registry, 5), name)
    os.remove(path)
    if content is not None:
        with open(path, "wb") as file:
            file.write(content)
    with pytest.raises(errors.WorkError) as caught:
        examples.find_baseline(str(tmp_path), current, 9, registry)
    message = str(caught.value)
    assert path in message and "restore" in message and "\n" not in message


def test_the_sample_comes_from_the_span_the_statistics_come_from(tmp_path, current, registry):
    found = examples.find_baseline(str(tmp_path), current, 9, registry)["baseline_sample"]
    assert _baseline_span(found) == 5
    assert len(samples.read_images(found[0].uri)[0]) == 110


def test_an_unreadable_mark_is_named_with_what_to_do(tmp_path, current, registry):
    path = os.path.join(registry_lib.baseline_folder(registry, 5), "accepted.json")
    with open(path, "w") as file:
        file.write("{half")
    with pytest.raises(errors.WorkError, match="accepted.json: restore"):
        examples.find_baseline(str(tmp_path), current, 9, registry)


def test_the_last_version_is_the_highest_number(tmp_path):
    assert component.last_version(str(_model(tmp_path, 9, 10))) == 10


def test_a_version_with_leading_zeros_is_copied(tmp_path, current):
    models = _model(tmp_path / "models", "0001")
    found = examples.find_baseline(str(tmp_path), current, 1, tmp_path / "r", models)["baseline_model"]
    assert found[0].get_int_custom_property("version") == 1
    assert os.path.exists(os.path.join(found[0].uri, "Format-Serving", "saved_model.pb"))


def test_the_last_model_is_copied_whole(tmp_path, current):
    models = _model(tmp_path / "models", 1, 2)
    found = examples.find_baseline(str(tmp_path), current, 1, tmp_path / "r", models)["baseline_model"]
    serving = os.path.join(found[0].uri, "Format-Serving")
    assert (found[0].get_int_custom_property("found")) == 1
    assert (found[0].get_int_custom_property("version")) == 2
    with open(os.path.join(serving, "saved_model.pb"), "rb") as file:
        assert file.read() == b"model 2"
    assert os.listdir(os.path.join(serving, "variables")) == ["variables.index"]


def test_no_model_is_said_and_not_an_error(tmp_path, current):
    found = examples.find_baseline(str(tmp_path), current, 1, tmp_path / "r", tmp_path / "none")["baseline_model"]
    assert found[0].get_int_custom_property("found") == 0
    assert os.path.isdir(found[0].uri)


def test_a_pinned_version_that_is_missing_is_an_error(tmp_path, current):
    models = _model(tmp_path / "models", 1)
    with pytest.raises(errors.WorkError, match="no complete model version 7.*last one is 1; run again"):
        examples.find_baseline(str(tmp_path), current, 1, tmp_path / "r", models, pinned_version="7")


@pytest.mark.parametrize(("found", "pinned"), [(None, "none"), (0, "0"), (12, "12")])
def test_what_was_found_can_be_pinned(found, pinned):
    assert component.pin(found) == pinned
