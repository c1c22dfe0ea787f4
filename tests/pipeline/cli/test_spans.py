"""`longtail spans`: what it lists, and what it refuses to withdraw, each in one line."""

import json

import pytest

from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.models import files
from tests.e2e import runs


@pytest.fixture
def root(tmp_path):
    """A root whose recipe `small` has two accepted spans."""
    registry = str(tmp_path / "registry" / "small")
    for span, reason in ((1, ""), (2, "a new scanner")):
        ledger.append(registry, span, {"train": {"anna": 2, f"bert-{span}": 1}, "eval": {"carl": 2}})
        about = {"examples": str(tmp_path / f"examples-{span}"), "images": 5, "identities": 3, "when": "2026-01-01"}
        registry_lib.accept(registry, span, "kept", -1, "", reason, about)
    return tmp_path


@pytest.fixture
def longtail(monkeypatch, capfd, root):
    """Returns f(words) -> exit status, JSON or None, and what was said on standard error."""

    def run(*words):
        status = runs.longtail(monkeypatch, "spans", *words, "--root", root, "--json")
        said = capfd.readouterr()
        return status, json.loads(said.out) if said.out else None, said.err

    return run


def test_list_says_when_and_why_each_span_was_accepted_and_what_is_withdrawn(longtail):
    assert longtail("withdraw", "1", "blurred")[0] == 0
    status, found, _ = longtail("list")
    assert status == 0 and found["identities"] == {"trained": 3, "held_out": 1, "withdrawn": 0}
    first, second = found["spans"]
    assert (first["withdrawn"], second["withdrawn"]) == ("blurred", None)
    assert (second["reason"], second["accepted"], second["images"]) == ("a new scanner", "2026-01-01", 5)


def test_the_table_has_a_row_for_each_span(monkeypatch, capfd, root):
    assert runs.longtail(monkeypatch, "spans", "list", "--root", root) == 0
    said = capfd.readouterr().out
    assert "a new scanner" in said and "3 identities are trained on, 1 held out; 0 withdrawn" in said


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("3", "blurred"), "span 3 is not an accepted one of recipe small; accepted are 1, 2"),
        (("x", "blurred"), "span x is not an accepted one"),
        (("1",), "give SPAN and REASON, or --identity NAME and REASON"),
        (("1", " "), "the reason is empty"),
        (("--identity", "dora", "asked us to"), "--identity dora: nobody of that name is in an accepted span"),
        (("--identity", "anna", "anna asked us to"), "the reason holds the identity's name"),
        (("--identity", "anna", "1", "why"), "give SPAN and REASON, or --identity NAME and REASON"),
        (("1", "blurred", "--recipe", "other"), "no span of recipe 'other' was judged; there is small"),
    ],
)
def test_what_cannot_be_withdrawn_is_told_in_one_line(longtail, words, line):
    status, found, said = longtail("withdraw", *words)
    assert status == 2 and found is None
    assert line in said and len(said.splitlines()) == 1


def test_the_only_span_cannot_be_withdrawn(longtail):
    longtail("withdraw", "2", "blurred")
    status, _, said = longtail("withdraw", "1", "blurred too")
    assert status == 2 and "span 1 is the only accepted one" in said


def test_a_span_is_withdrawn_once_more_without_harm(longtail):
    for reason in ("one", "two"):
        status, found, said = longtail("withdraw", "2", reason)
        assert (status, found["withdrawn"], found["again"]) == (0, "span 2", reason == "two"), said
    assert [one["withdrawn"] for one in longtail("list")[1]["spans"]] == [None, "two"]


def test_a_root_without_spans_is_told(monkeypatch, capfd, tmp_path):
    assert runs.longtail(monkeypatch, "spans", "list", "--root", tmp_path / "none") == 2
    assert "no span was judged there yet" in capfd.readouterr().err


def test_an_identity_is_withdrawn_once_more_without_harm(longtail, root):
    for reason in ("one", "two"):
        status, found, said = longtail("withdraw", "--identity", "anna", reason)
        assert status == 0 and found["models"] == [], said
    for path in (root / "registry").rglob("*.json"):
        assert "anna" not in path.read_text()


def test_a_model_of_which_nobody_knows_what_it_was_trained_on_is_told(longtail, root):
    version = root / "models" / "small" / "17"
    files.write(str(version / "saved_model.pb"), b"")
    _, found, _ = longtail("withdraw", "1", "blurred")
    assert (found["models"], found["unknown"]) == ([], [17])
