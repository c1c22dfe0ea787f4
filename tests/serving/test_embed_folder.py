"""`longtail embed FOLDER` as a person runs it, against a real server: one table of everything, resumed, exit status."""

import json

import numpy as np
import pytest
from pyarrow import parquet
from typer import testing

from longtail.models import errors
from longtail.pipeline.cli import app as cli
from longtail.pipeline.cli import embed_folder
from longtail.serving import client
from tests.serving import conftest


@pytest.fixture
def people(tmp_path):
    """Two people of three images each, and a file that is none."""
    for seed in range(6):
        path = tmp_path / "people" / "ab"[seed // 3] / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(conftest.encode(seed))
    return tmp_path / "people"


@pytest.fixture
def longtail(server):
    """Runs `embed` with two images a chunk; returns its exit status and what it prints as JSON."""

    def run(*arguments):
        words = ["embed", *map(str, arguments), "--model-name", "tiny", "--server", server.grpc_address, "--json"]
        result = testing.CliRunner().invoke(cli.app, words, catch_exceptions=False)
        return result.exit_code, json.loads(result.stdout)

    return run


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(embed_folder, "_CHUNK", 2)


def test_a_folder_becomes_a_parquet_of_paths_identities_and_embeddings(longtail, people, tmp_path, in_process):
    status, told = longtail(people, "--output", tmp_path / "all.parquet")
    table = parquet.read_table(tmp_path / "all.parquet").to_pydict()
    assert (status, told["images"], told["failed"], told["model_version"]) == (0, 6, 0, 1)
    assert table["path"] == [f"{'ab'[seed // 3]}/{seed}.png" for seed in range(6)]
    assert table["identity"] == list("aaabbb")
    expected = in_process([conftest.encode(seed) for seed in range(6)])
    np.testing.assert_allclose(table["embedding"], expected, atol=1e-6)


def test_npz_and_parquet_hold_the_same(longtail, people, tmp_path):
    for kind in ("npz", "parquet"):
        longtail(people, "--output", tmp_path / f"all.{kind}")
    arrays, table = np.load(tmp_path / "all.npz"), parquet.read_table(tmp_path / "all.parquet").to_pydict()
    assert set(arrays) == set(table)
    for column, values in table.items():
        np.testing.assert_array_equal(arrays[column], np.array(values, arrays[column].dtype))


def test_what_was_interrupted_goes_on_and_ends_as_if_it_had_not_been(longtail, people, tmp_path, monkeypatch):
    whole, output = tmp_path / "whole.npz", tmp_path / "all.npz"
    longtail(people, "--output", whole)
    with monkeypatch.context() as patch, pytest.raises(errors.WorkError, match="the power went"):
        embed = client.Client.embed

        def cut_off(connection, images, version=None):
            if len(list((tmp_path / "all.npz.parts").glob("*.npz"))) == 2:
                raise errors.WorkError("the power went")
            return embed(connection, images, version)

        patch.setattr(client.Client, "embed", cut_off)
        longtail(people, "--output", output)
    assert not output.exists()
    assert longtail(people, "--output", output)[1]["resumed"] == 4
    for column, values in np.load(whole).items():
        np.testing.assert_array_equal(np.load(output)[column], values)
    assert not (tmp_path / "all.npz.parts").exists()


def test_parts_of_other_images_are_not_gone_on_with(longtail, people, tmp_path):
    parts = tmp_path / "all.npz.parts"
    parts.mkdir()
    (parts / "about.json").write_text(json.dumps({"listing": "another", "model_version": 1}))
    with pytest.raises(errors.UsageError, match="begun with other images or another model; remove it"):
        longtail(people, "--output", tmp_path / "all.npz")


def test_an_image_that_fails_has_a_row_of_zeros_and_the_exit_status_tells(longtail, people, tmp_path):
    (people / "b" / "9.png").write_bytes(conftest.encode(9)[:60])
    status, told = longtail(people, "--output", tmp_path / "all.npz")
    arrays = np.load(tmp_path / "all.npz")
    assert (status, told["failed"], arrays["status"].tolist()) == (4, 1, [0] * 6 + [1])
    assert not arrays["embedding"][-1].any()


def test_a_folder_of_which_nothing_can_be_embedded_is_failed_work(longtail, tmp_path):
    (tmp_path / "none" / "a").mkdir(parents=True)
    (tmp_path / "none" / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(errors.WorkError, match="none of 1 images .* could be embedded"):
        longtail(tmp_path / "none", "--output", tmp_path / "all.npz")
    assert not (tmp_path / "all.npz").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{people}",), "give --output FILE.parquet or FILE.npz"),
        (("{people}", "{people}", "--output", "x.npz"), "embed it by itself"),
        (("{people}/a/0.png", "--output", "x.npz"), "a table is made of a folder or an archive"),
    ],
)
def test_what_does_not_go_together_is_bad_usage(longtail, people, words, message):
    with pytest.raises(errors.UsageError, match=message):
        longtail(*(word.format(people=people) for word in words))
