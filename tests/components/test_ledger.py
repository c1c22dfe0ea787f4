"""Whatever comes, in any order: an identity keeps its side and number, and a name that is withdrawn is gone."""

import json
import random

import hypothesis
import pytest
from hypothesis import strategies

from longtail.components import ledger
from longtail.components.data import base
from longtail.components.data import splits
from longtail.models import errors

NAMES = [f"person-{number:02d}" for number in range(30)]


def counts(train, held_out):
    return {"train": dict.fromkeys(train, 1), "eval": dict.fromkeys(held_out, 1)}


def deliveries(seed):
    """Spans as lists of images, each with an identity and, now and then, a split that the layout states."""
    draw = random.Random(seed)
    for _ in range(draw.randint(2, 6)):
        people = draw.sample(NAMES, draw.randint(4, len(NAMES)))
        stated = {name: draw.choice((None, None, "train", "query")) for name in people}
        yield [
            base.Item(f"{name}/{number}.png", name, split=stated[name])
            for name in people
            for number in range(draw.randint(1, 4))
        ]


def sides(items, held_out):
    """By split, the identities of images whose sides are settled."""
    found = {"train": set(), "eval": set()}
    for item in items:
        found[splits.output_split(item, held_out)].add(item.identity)
    return found


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(strategies.integers(0, 10**9))
def test_over_any_deliveries_sides_are_kept_and_numbers_only_appended(tmp_path_factory, seed):
    registry, draw = str(tmp_path_factory.mktemp("registry")), random.Random(seed)
    sides_before, numbers_before = {}, []
    for span, items in enumerate(deliveries(seed), 1):
        fraction, division_seed = draw.choice((0.1, 0.25, 0.6)), draw.randint(0, 3)
        division = splits.divide(items, fraction, division_seed, ledger.read(registry).held_out())
        found = sides(division.items, division.held_out)
        assert not found["train"] & found["eval"]
        for split in found:
            for name in found[split]:
                assert sides_before.setdefault(name, split) == split
        ledger.append(registry, span, {split: dict.fromkeys(names, 1) for split, names in found.items()})
        numbers = ledger.read(registry).trained()
        assert numbers[: len(numbers_before)] == numbers_before
        assert set(numbers) == {name for name, split in sides_before.items() if split == "train"}
        assert len(numbers) == len(set(numbers))
        numbers_before = numbers


def test_a_span_that_is_accepted_again_adds_nobody_twice(tmp_path):
    for _ in range(2):
        ledger.append(str(tmp_path), 1, counts(["b", "a"], ["c"]))
    ledger.append(str(tmp_path), 2, counts(["a", "0"], []))
    assert ledger.read(str(tmp_path)).trained() == ["a", "b", "0"]


def test_a_layout_is_overruled_where_an_earlier_span_had_the_identity_on_the_other_side():
    items = [base.Item("a/1.png", "a", split="train"), base.Item("b/1.png", "b", split="query")]
    division = splits.divide(items, 0.5, 0, {"a": True, "b": False})
    assert sides(division.items, division.held_out) == {"train": {"b"}, "eval": {"a"}}
    assert [item.identity for item in division.overruled] == ["a", "b"]


def test_an_identity_on_both_sides_of_a_span_counts_as_trained(tmp_path):
    ledger.append(str(tmp_path), 1, counts(["a"], ["a", "b"]))
    assert ledger.read(str(tmp_path)).held_out() == {"a": False, "b": True}


def test_of_a_withdrawn_identity_the_number_stays_and_the_name_is_nowhere(tmp_path):
    ledger.append(str(tmp_path), 1, counts(["anna", "bert", "carl"], []))
    ledger.withdraw(str(tmp_path), "bert", "asked us to")
    ledger.append(str(tmp_path), 2, counts(["bert", "dora"], []))
    found = ledger.read(str(tmp_path))
    assert found.trained() == ["anna", None, "carl", "dora"]
    assert "bert" in found.withdrawals and "anna" not in found.withdrawals
    assert "bert" not in (tmp_path / ledger.FILE).read_text()


def test_withdrawing_again_changes_the_reason_alone(tmp_path):
    ledger.append(str(tmp_path), 1, counts(["anna"], []))
    first = ledger.withdraw(str(tmp_path), "anna", "one")
    assert ledger.withdraw(str(tmp_path), "anna", "two") == first
    assert ledger.read(str(tmp_path)).reasons == {first: "two"}


def test_a_name_that_nobody_has_cannot_be_withdrawn(tmp_path):
    ledger.append(str(tmp_path), 1, counts(["anna"], []))
    with pytest.raises(errors.UsageError, match="--identity ana: nobody of that name"):
        ledger.withdraw(str(tmp_path), "ana", "why")


def test_two_registries_keep_other_digests_of_one_name(tmp_path):
    marks = []
    for name in ("one", "two"):
        ledger.append(str(tmp_path / name), 1, counts(["anna"], []))
        marks.append(ledger.withdraw(str(tmp_path / name), "anna", "why"))
    assert marks[0] != marks[1]


def test_a_damaged_ledger_is_named(tmp_path):
    (tmp_path / ledger.FILE).write_text(json.dumps({"salt": "s"}))
    with pytest.raises(errors.WorkError, match="identities.json: damaged"):
        ledger.read(str(tmp_path))
