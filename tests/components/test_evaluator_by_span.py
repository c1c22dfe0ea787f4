"""RetrievalEvaluator on a window: good on the whole may be bad on one span, and an earlier span is sampled."""

import json
import os

import pytest
from tfx.types import standard_artifacts

from longtail.components import ledger
from longtail.components.data import features
from longtail.components.data import identity_counts
from longtail.components.retrieval_evaluator import by_span
from longtail.components.retrieval_evaluator import executor
from longtail.components.retrieval_evaluator import held_out
from longtail.components.retrieval_evaluator import judgement
from longtail.components.span_window import windows
from tests.components import examples

SETTINGS = {
    "protocol": "query_gallery", "head_threshold": 2, "floor_map": 0.0, "margin": 0.1, "margin_end": "middle",
    "max_undecodable": 0.05, "beat_pixels": 0, "earlier_images": 2000, "accept_scores": "",
}  # fmt: skip


def people(prefix, count, begin=0):
    """Identities of a query and a gallery image each, which the plain model tells apart."""
    rows = []
    for number in range(begin, begin + count):
        for side, offset in ((features.QUERY, 0.0), (features.GALLERY, 0.01)):
            vector = f"{number + 1 + offset},{10 - number}".encode()
            name = f"{prefix}{number}"
            row = examples.image(name, len(rows), content=f"{name}/{side}")
            rows.append({**row, features.ENCODED: vector, features.SPLIT: side})
    return rows


@pytest.fixture
def evaluate(tmp_path, vector_model):
    """Returns f(spans' held-out rows, ...) -> metrics.json of a real run."""

    def model(change):
        made = standard_artifacts.Model()
        made.uri = os.path.dirname(vector_model(change))
        return [made]

    def run(spans, candidate="", baseline=None, **changes):
        sources = [
            examples.ingested(tmp_path / f"examples-{number}", [], rows)[0] for number, rows in enumerate(spans, 1)
        ]
        evaluation = examples.artifact(standard_artifacts.ModelEvaluation, tmp_path / "evaluation")
        blessing = examples.artifact(standard_artifacts.ModelBlessing, tmp_path / "blessing")
        inputs = {"window": examples.window(tmp_path / "window", *sources), "model": model(candidate)}
        if baseline is not None:
            inputs["baseline_model"] = model(baseline)
        outputs = {"evaluation": evaluation, "blessing": blessing}
        executor.Executor().Do(inputs, outputs, {**SETTINGS, **changes})
        return json.loads((tmp_path / "evaluation" / "metrics.json").read_text())

    return run


def test_both_models_are_scored_on_each_span_and_on_all(evaluate):
    metrics = evaluate([people("a", 4), people("b", 3, 4)], baseline="")
    assert [(one["span"], one["images"], one["candidate"]["queries"]) for one in metrics["by_span"]] == [
        (1, 8, 4),
        (2, 6, 3),
    ]
    assert metrics["queries"] == 7
    for one in metrics["by_span"]:
        assert one["candidate"]["mAP"] == one["baseline"]["mAP"] == 1.0
        assert one["difference"]["mAP"] == 0.0


def test_of_one_span_alone_there_is_no_table_by_span(evaluate):
    assert evaluate([people("a", 4)])["by_span"] == []


def score(span, candidate, baseline):
    """Of a span whose mAP by both models is given."""
    figures = ({"mAP": value, "identities": 9} for value in (candidate, baseline))
    difference = candidate - baseline
    return by_span.SpanScore(span, 18, *figures, judgement.Difference(difference, (difference - 0.1, difference + 0.1)))


@pytest.mark.parametrize(
    ("margin", "end", "reasons"),
    [
        (0.05, "middle", ["span 1: mAP 0.7000 is more than 0.0500 below the last blessed model's 0.8000"]),
        (0.15, "middle", []),
        (0.15, "worst", ["span 1: mAP 0.7000"]),
        (0.05, "best", []),
    ],
)
def test_a_model_that_lost_more_than_the_margin_on_one_span_is_not_blessed(margin, end, reasons):
    rules = judgement.Rules(0.0, margin, end, 0.05, False)
    found = by_span.reasons_against([score(1, 0.7, 0.8), score(2, 0.9, 0.6)], rules)
    assert [one[: len(reason)] for one, reason in zip(found, reasons, strict=True)] == reasons


def test_floor_holds_on_each_span(evaluate):
    crossed = [
        {**row, features.ENCODED: vector}
        for row, vector in zip(people("a", 2), (b"1,0", b"0.1,0.9", b"0,1", b"0.9,0.1"), strict=True)
    ]
    metrics = evaluate([crossed, people("b", 8, 3)], floor_map=0.7)
    assert metrics["candidate"]["mAP"] > 0.7
    lacking = "span 1: mAP 0.5000 is below the floor of 0.7000"
    assert metrics["reason"] == f"{lacking}; --accept-scores REASON blesses it all the same"


def test_scores_that_are_too_low_are_accepted_for_a_reason_that_is_kept(evaluate, tmp_path):
    found = evaluate([people("a", 4), people("b", 3, 4)], floor_map=1.1, accept_scores=" the old spans are gone ")
    assert found["blessed"] and found["reason"] == "" and os.path.exists(tmp_path / "blessing" / "BLESSED")
    assert found["accept_scores"]["reason"] == "the old spans are gone"
    although = found["accept_scores"]["although"].split("; ")
    assert [one.partition("mAP")[0] for one in although] == ["", "span 1: ", "span 2: "]
    assert any("the old spans are gone" in line and "span 2" in line for line in found["warnings"])


@pytest.mark.parametrize(("count", "blessed"), [(4, True), (1, False)])
def test_a_reason_is_kept_only_where_it_was_needed_and_overrides_nothing_else(evaluate, count, blessed):
    found = evaluate([people("a", count)], accept_scores="why")
    assert found["blessed"] == blessed and found["accept_scores"] is None
    assert blessed or "identity can be scored" in found["reason"]


def test_an_earlier_span_is_sampled_to_whole_identities_and_the_new_one_is_not(evaluate):
    metrics = evaluate([people("a", 8), people("b", 6, 3)], earlier_images=7)
    assert [one["images"] for one in metrics["by_span"]] == [6, 12]


def test_nothing_of_a_withdrawn_identity_is_read(tmp_path):
    source = examples.ingested(tmp_path / "examples", [], people("a", 3))[0]
    gone = ledger.Withdrawals("salt", frozenset([ledger.digest("salt", "a1")]))
    [window] = examples.window(tmp_path / "window", source, withdrawals=gone)
    rows = held_out.HeldOut(windows.read(window.uri), 10).rows()
    assert set(rows.identity.tolist()) == {b"a0", b"a2"}


def test_counts_beside_the_examples_say_who_is_held_out(tmp_path):
    source = examples.ingested(tmp_path / "examples", [], people("a", 2))[0]
    assert identity_counts.read(source.uri)["eval"] == {"a0": 2, "a1": 2}
