"""The benchmark of a warm start answers in the common form, at sizes where no figure means anything."""

import json

import typer.testing

from longtail.components.data import glyph_source
from longtail.components.data import glyphs
from longtail.pipeline.cli import bench


def test_json_is_one_object_with_score_and_time_of_every_way(tmp_path):
    glyph_source.write_folder(glyphs.GlyphSet(24, 24, 6, 4, 28, 0), 1, str(tmp_path / "glyphs"))
    words = ["--data", str(tmp_path / "glyphs"), "--epochs", "1", "--fewer", "1", "--seeds", "1", "--json"]
    result = typer.testing.CliRunner().invoke(bench.app, ["warm-start", *words], catch_exceptions=False)
    report = json.loads(result.stdout)
    *each, least = report["results"]
    assert report["bench"] == "warm_start" and least["target"] == 0.5
    of = [row["name"] for row in each]
    starts = ("from scratch", "from the first model")
    assert of == [f"{what} {start}, 1 epochs" for start in starts for what in ("mAP", "time")]
    assert all(row["value"] > 0 for row in each)
