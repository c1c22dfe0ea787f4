"""Feature transfer through the whole pipeline, and `longtail transfer` on the root that it leaves."""

import json
import shutil

import pytest

from tests.e2e import runs

TRANSFER = (
    *("model.filter=true", "model.width=0.05", "head={name: softmax, margin: 0.0, options: {bias: 0}}"),
    *("loss.metric_weight=0.003", "loss.reconstruction_weight=1.0", "leap.variant=none", "training.epochs=4"),
    *("transfer={variant: transfer, alternations: 1, steps: 5}", "evaluation.floor_map=0.0", "evaluation.margin=1.0"),
)


@pytest.fixture(scope="module")
def root(finished, tmp_path_factory):
    """A root whose second model was trained with feature transfer."""
    root = shutil.copytree(finished / "kept", tmp_path_factory.mktemp("transfer") / "root")
    sets = [word for value in TRANSFER for word in ("--set", value)]
    data = finished / "data" / "span-{SPAN}"
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert runs.longtail(monkeypatch, "run", "--recipe", runs.RECIPE, "--data", data, "--root", root, *sets) == 0
    return root


def test_a_run_with_feature_transfer_is_blessed_and_pushed(root):
    summary = json.loads((root / "summary.json").read_text())
    assert summary["blessed"] and summary["pushed_model"]


@pytest.mark.parametrize("name", ["norms", "closed", "centres", "show"])
def test_each_analysis_reads_what_the_run_left(root, name, tmp_path, monkeypatch, capsys):
    png = tmp_path / "x.png"
    assert runs.longtail(monkeypatch, "transfer", name, "--root", root, "--json", "--png", png) == 0
    assert json.loads(capsys.readouterr().out) and png.stat().st_size > 1000
