"""A second span that goes on from the model of the first: through the whole pipeline, and killed on the way."""

import json
import shutil

import pytest

from longtail.models.export import signatures
from tests.e2e import runs

WARM = ("--set", "training.start_from=blessed", "--set", "training.warm_epochs=2")


@pytest.fixture
def run(finished, tmp_path, monkeypatch, capfd):
    """Runs a span in a copy of the finished root; gives exit status, summary and what was said on standard error."""
    shutil.copytree(finished / "kept", tmp_path / "root")

    def run_span(number, *more):
        data = f"{finished}/data/span-{{SPAN}}"
        words = ("--recipe", runs.RECIPE, "--data", data, "--root", tmp_path / "root", "--span", number, "--json")
        status = runs.longtail(monkeypatch, "run", *words, *more)
        said = capfd.readouterr()
        return status, json.loads(said.out) if said.out else None, said.err

    return run_span


def test_a_second_span_goes_on_from_the_blessed_model_and_says_so(run, finished, tmp_path):
    [first] = (path.name for path in (finished / "kept" / "models" / "small").iterdir())
    status, summary, said = run(3, *WARM)
    assert status == 0, said
    start = summary["start"]
    assert start["from"] == "blessed" and start["version"] == int(first) and start["epochs"] == 2
    assert start["known_identities"] == summary["classes"]["train"] and start["new_identities"] == 0
    assert "epoch 2/2" in said and "cloud vanilla on" in said.partition("epoch 2/2")[0]
    pushed = tmp_path / "root" / "models" / "small" / str(summary["version"])
    card = json.loads((pushed / signatures.MODEL_CARD_FILE).read_text())
    assert card["start"]["digest"] == start["digest"] and card["start_version"] == int(first)
    assert (pushed / signatures.CLASSES_FILE).exists()


def test_a_blessed_model_of_another_embedder_stops_the_run_in_one_line_before_training(run):
    status, summary, said = run(3, *WARM, "--set", "model.dimension=16")
    assert status != 0 and summary is None
    [line] = [line for line in said.splitlines() if line.startswith("longtail: error:")]
    assert "has model.dimension 32 and this training 16" in line and "epoch 1/" not in said
