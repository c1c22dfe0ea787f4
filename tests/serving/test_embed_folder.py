"""`longtail embed FOLDER` as a person runs it, against a real server: one table of everything, resumed, exit status."""

import fcntl
import hashlib
import json
import struct
import zlib

import numpy as np
import pytest
from pyarrow import parquet
from typer import testing

from longtail.models import errors
from longtail.pipeline.cli import app as cli
from longtail.pipeline.cli import embed_folder
from longtail.serving import client
from longtail.serving.model_server import server as server_lib
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


@pytest.fixture
def begun(longtail, people, tmp_path, monkeypatch):
    """The folder of a table of which two parts of three are done."""
    parts, embed = tmp_path / "all.npz.parts", client.Client.embed

    def cut_off(connection, images, version=None):
        if len(list(parts.glob("*.npz"))) == 2:
            raise errors.WorkError("the power went")
        return embed(connection, images, version)

    with monkeypatch.context() as patch, pytest.raises(errors.WorkError, match="the power went"):
        patch.setattr(client.Client, "embed", cut_off)
        longtail(people, "--output", tmp_path / "all.npz")
    return parts


def test_what_was_interrupted_goes_on_and_ends_as_if_it_had_not_been(longtail, people, tmp_path, begun):
    whole, output = tmp_path / "whole.npz", tmp_path / "all.npz"
    longtail(people, "--output", whole)
    assert not output.exists()
    assert longtail(people, "--output", output)[1]["resumed"] == 4
    for column, values in np.load(whole).items():
        np.testing.assert_array_equal(np.load(output)[column], values)
    assert not begun.exists()


@pytest.mark.parametrize("key", ["data", "layout", "fingerprint", "chunk", "model_name"])
def test_parts_of_other_images_or_another_model_are_not_gone_on_with(longtail, people, tmp_path, begun, key):
    about = json.loads((begun / "about.json").read_text())
    (begun / "about.json").write_text(json.dumps({**about, key: "another"}))
    with pytest.raises(errors.UsageError, match="begun with other images or another model; remove it"):
        longtail(people, "--output", tmp_path / "all.npz")


def test_a_file_that_was_rewritten_since_is_not_mixed_with_the_old_ones(longtail, people, tmp_path, begun):
    (people / "a" / "0.png").write_bytes(conftest.encode(77) + b" ")
    with pytest.raises(errors.UsageError, match="begun with other images"):
        longtail(people, "--output", tmp_path / "all.npz")


def test_another_model_of_the_same_name_and_version_is_not_gone_on_with(
    people, tmp_path, begun, retrained_saved_model
):
    folder = tmp_path / "other" / "tiny"
    folder.mkdir(parents=True)
    conftest.push(retrained_saved_model / "2", folder, 1)
    with (
        server_lib.ModelServer(server_lib.Options(str(folder), grpc_port=0, rest_port=0)) as other,
        client.Client(other.grpc_address, "tiny") as connection,
        pytest.raises(errors.UsageError, match=r"begun with another model than tiny version 1 .* to begin anew"),
    ):
        embed_folder.embed(connection, str(people), "folder", str(tmp_path / "all.npz"))


def test_a_version_that_is_gone_is_told_with_what_to_do(longtail, people, tmp_path, begun):
    about = json.loads((begun / "about.json").read_text())
    (begun / "about.json").write_text(json.dumps({**about, "model_version": 9}))
    said = r"version 9, but the server at .* answers with version 1; serve version 9 again, or remove .*\.parts to"
    with pytest.raises(errors.WorkError, match=said):
        longtail(people, "--output", tmp_path / "all.npz")


def test_a_folder_of_somebody_elses_is_left_alone(longtail, people, tmp_path):
    other = tmp_path / "all.npz.parts" / "mine.txt"
    other.parent.mkdir()
    other.write_text("mine")
    with pytest.raises(errors.UsageError, match=r"not made by this command \(mine.txt is in it"):
        longtail(people, "--output", tmp_path / "all.npz")
    assert other.read_text() == "mine"


def test_a_second_process_at_the_same_output_is_refused(longtail, people, tmp_path, begun):
    with open(begun / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(errors.UsageError, match="another process is at work there"):
            longtail(people, "--output", tmp_path / "all.npz")


def test_a_part_is_closed_by_its_bytes_too(longtail, people, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_folder, "_CHUNK", 1000)
    monkeypatch.setattr(embed_folder, "_CHUNK_BYTES", 1)
    sent, embed = [], client.Client.embed

    def noted(connection, images, version=None):
        sent.append(len(images))
        return embed(connection, images, version)

    monkeypatch.setattr(client.Client, "embed", noted)
    longtail(people, "--output", tmp_path / "other.npz")
    assert sent == [1] * 6


def test_a_table_in_the_folder_that_it_is_of_is_refused(longtail, people):
    with pytest.raises(errors.UsageError, match="lies in the folder that is embedded"):
        longtail(people, "--output", people / "all.npz")


def test_an_oversized_image_has_the_status_of_one_and_every_file_that_was_read_its_digest(longtail, people, tmp_path):
    header = b"IHDR" + struct.pack(">II", 9_000, 9_000) + b"\x08\0\0\0\0"
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    files = {"7.png": huge + struct.pack(">I", 500) + b"IDAT" + bytes(500), "8.png": b"no image", "9.png": b""}
    for name, content in files.items():
        (people / "b" / name).write_bytes(content)
    longtail(people, "--output", tmp_path / "all.npz")
    arrays = np.load(tmp_path / "all.npz")
    assert arrays["status"].tolist() == [0] * 6 + [2, 1, 1]
    assert arrays["sha256"].tolist()[6:] == [hashlib.sha256(content).hexdigest() for content in files.values()]


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
