"""SpanWindow: which accepted spans a run trains on, pinned, and what is said where one is missing."""

import logging
import os
import shutil

import pytest
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components.data import identity_counts
from longtail.components.span_window import executor
from longtail.components.span_window import windows
from longtail.models import errors
from longtail.models import files
from tests.components import examples


@pytest.fixture
def registry(tmp_path):
    """A registry whose spans 1, 2, 3 and 5 are accepted, each with an identity of its own and one that all have."""
    for span in (1, 2, 3, 5):
        accept(tmp_path, span)
    return str(tmp_path / "registry")


def span_examples(folder, span):
    rows = [examples.image(name, 0, seed=span) for name in (f"new-{span}", "always")]
    return examples.ingested(folder / f"examples-{span}", rows, [examples.image("unseen", 0)])[0]


def accept(folder, span, **changes):
    made, registry = span_examples(folder, span), str(folder / "registry")
    counts = identity_counts.read(made.uri)
    ledger.append(registry, span, counts)
    about = {"examples": made.uri, "images": 3, "identities": 3, **changes}
    registry_lib.accept(registry, span, "kept", -1, f"data {span}", "", about)


def choose(folder, span=6, window="all", pinned=windows.AUTO):
    """The window of a real run of the step, whose own span need not be accepted."""
    made = folder / f"examples-{span}"
    source = examples.artifact(standard_artifacts.Examples, made)[0] if made.exists() else span_examples(folder, span)
    output = examples.artifact(artifacts.SpanWindow, folder / "window")
    properties = {
        "span": span, "registry": str(folder / "registry"), "model_name": "", "data_window": window,
        "pinned_window": pinned,
    }  # fmt: skip
    executor.Executor().Do({"examples": [source], "blessing": []}, {"window": output}, properties)
    return windows.read(output[0].uri)


@pytest.mark.parametrize(
    ("window", "spans"), [("all", [1, 2, 3, 5, 6]), ("one", [6]), ("last 1", [6]), ("last 3", [3, 5, 6])]
)
def test_a_window_holds_the_accepted_spans_up_to_the_runs_own(tmp_path, registry, window, spans):
    assert [one.span for one in choose(tmp_path, window=window).spans] == spans


def test_a_late_span_is_trained_on_with_those_below_it_alone(tmp_path, registry):
    assert [one.span for one in choose(tmp_path, span=4).spans] == [1, 2, 3, 4]


def test_spans_are_named_by_where_they_lie_and_not_copied(tmp_path, registry):
    found = choose(tmp_path)
    assert [one.examples for one in found.spans] == [str(tmp_path / f"examples-{span}") for span in (1, 2, 3, 5, 6)]
    assert sorted(os.listdir(tmp_path / "window")) == ["numbers.json", "window.json"]


def test_numbers_are_the_ledgers_and_who_is_new_comes_after(tmp_path, registry):
    assert choose(tmp_path).numbers == {
        name: number for number, name in enumerate(("always", "new-1", "new-2", "new-3", "new-5", "new-6"))
    }


def test_a_withdrawn_span_is_in_no_window(tmp_path, registry):
    registry_lib.withdraw(registry, 2, "blurred")
    assert [one.span for one in choose(tmp_path).spans] == [1, 3, 5, 6]


def test_a_withdrawn_span_is_not_run_again(tmp_path, registry):
    registry_lib.withdraw(registry, 2, "blurred")
    with pytest.raises(errors.UsageError, match=r"span 2 is withdrawn \(blurred\)"):
        choose(tmp_path, span=2)


def test_a_pinned_window_stays_whatever_is_accepted_later(tmp_path, registry):
    pin = windows.pin(windows.earlier(registry, 4, "all"), ledger.Withdrawals())
    accept(tmp_path, 4)
    assert [one.span for one in choose(tmp_path, span=6, pinned=pin).spans] == [1, 2, 3, 6]


def test_a_pin_tells_other_data_under_a_number_apart(tmp_path, registry):
    def pin():
        return windows.pin(windows.earlier(registry, 6, "all"), ledger.Withdrawals())

    before = pin()
    assert pin() == before
    registry_lib.accept(registry, 3, "kept", -1, "other data", "", {"examples": "there", "images": 1, "identities": 1})
    assert pin() != before


def test_a_pinned_span_that_was_withdrawn_is_named(tmp_path, registry):
    pin = windows.pin(windows.earlier(registry, 6, "all"), ledger.Withdrawals())
    registry_lib.withdraw(registry, 3, "blurred")
    with pytest.raises(errors.WorkError, match="span 3, of this run's window, is no accepted span any more"):
        choose(tmp_path, pinned=pin)


def test_a_span_whose_images_are_gone_is_named_with_its_folder_and_what_to_do(tmp_path, registry):
    shutil.rmtree(tmp_path / "examples-3")
    with pytest.raises(errors.WorkError) as raised:
        choose(tmp_path)
    said = str(raised.value)
    assert "span 3" in said and str(tmp_path / "examples-3") in said and "longtail spans withdraw 3" in said
    assert "\n" not in said


def test_a_span_that_an_earlier_release_accepted_is_left_out_with_one_line(tmp_path, registry, caplog):
    entry = registry_lib.accepted_entry(registry, 2)
    path = os.path.join(registry_lib.baseline_folder(registry, 2), registry_lib.ACCEPTED_FILE)
    files.write_json(path, {key: value for key, value in entry.items() if key != "examples"})
    with caplog.at_level(logging.WARNING, "longtail"):
        found = choose(tmp_path)
    assert [one.span for one in found.spans] == [1, 3, 5, 6]
    [line] = [record.getMessage() for record in caplog.records if record.name == "longtail"]
    assert "left out of the window: span 2" in line


@pytest.mark.parametrize("window", ["last 0", "none", "last x", "last", ""])
def test_no_other_window_is_known(tmp_path, registry, window):
    with pytest.raises(errors.UsageError, match="data.window must be all, one or last N, with N from 1, not"):
        choose(tmp_path, window=window)
