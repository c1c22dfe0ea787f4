"""Two spans of Omniglot, the second of other alphabets, through the whole pipeline: it ends at the gate."""

import pathlib
import zipfile

import pytest

from tests.e2e import runs

DATA = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "omniglot_background.zip"
SPANS = {1: ("Latin", "Greek", "Cyrillic"), 2: ("Braille", "Tifinagh", "Korean")}
DRAWERS = range(1, 7)


@pytest.mark.skipif(not DATA.exists(), reason=f"Omniglot's background set is not at {DATA}")
def test_a_span_of_other_alphabets_is_stopped_by_name_and_nothing_is_trained_or_pushed(tmp_path, monkeypatch, capfd):
    with zipfile.ZipFile(DATA) as archive:
        for span, alphabets in SPANS.items():
            for name in archive.namelist():
                _, alphabet, *rest = name.split("/")
                if alphabet in alphabets and rest[-1].endswith(".png") and int(rest[-1][:-4]) in DRAWERS:
                    path = tmp_path / f"span-{span}" / alphabet / rest[0] / rest[1]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.read(name))
    words = ["run", "--recipe", runs.RECIPE, "--data", f"{tmp_path}/span-{{SPAN}}", "--root", tmp_path / "root"]
    words += ["--set", "training.epochs=1", "--set", "evaluation.floor_map=0.0"]
    assert runs.longtail(monkeypatch, *words, "--span", 1) == 0, capfd.readouterr().err
    pushed = sorted((tmp_path / "root" / "models" / "small").iterdir())
    capfd.readouterr()
    assert runs.longtail(monkeypatch, *words, "--span", 2) == 1
    said = capfd.readouterr().err
    [error] = [line for line in said.splitlines() if line.startswith("longtail: error:")]
    assert "span 2 differs from accepted span 1 in " in error and "data/new_folders (share of images 1 > 0.1)" in error
    assert "Rebalancer ..." not in said and "Trainer ..." not in said
    assert sorted((tmp_path / "root" / "models" / "small").iterdir()) == pushed
