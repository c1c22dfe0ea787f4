"""`longtail serve`, `embed` and `identify` as a person runs them."""

import json
import signal
import subprocess

import numpy as np
import pytest
from typer import testing

from longtail.models import errors
from longtail.pipeline.cli import app as cli
from longtail.pipeline.cli import serve
from longtail.serving import client
from longtail.serving.model_server import server as server_lib
from tests.serving import conftest


@pytest.fixture
def images(tmp_path):
    """Paths of four images, the last broken."""
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths[:3]):
        path.write_bytes(conftest.encode(number))
    paths[3].write_bytes(b"no image")
    return [str(path) for path in paths]


@pytest.fixture
def gallery_folder(tmp_path, in_process):
    folder = tmp_path / "gallery"
    conftest.write_gallery(folder, in_process([conftest.encode(seed) for seed in range(3)]))
    return str(folder)


@pytest.fixture
def longtail(server):
    """Runs a command against the running server; returns its result, raising what it raised."""

    def run(*arguments):
        address = ["--server", server.grpc_address]
        return testing.CliRunner().invoke(cli.app, [*arguments, *address], catch_exceptions=False)

    return run


def test_embed_json_has_an_embedding_or_a_status_for_every_image(longtail, images, in_process):
    printed = json.loads(longtail("embed", *images, "--model-name", "tiny", "--json").stdout)
    assert [row["path"] for row in printed["images"]] == images
    assert [row["status"] for row in printed["images"]] == [0, 0, 0, 1]
    found = [row["embedding"] for row in printed["images"][:3]]
    np.testing.assert_allclose(found, in_process([conftest.encode(seed) for seed in range(3)]), atol=1e-5)


def test_embed_output_is_an_array_with_a_row_for_every_image(longtail, images, in_process, tmp_path):
    longtail("embed", *images, "--model-name", "tiny", "--output", str(tmp_path / "e.npy"))
    written = np.load(tmp_path / "e.npy")
    assert written.shape == (4, 8) and not written[3].any()
    np.testing.assert_allclose(written[:1], in_process([conftest.encode(0)]), atol=1e-5)


def test_embed_names_the_image_it_could_not_decode(longtail, images):
    result = longtail("embed", *images, "--model-name", "tiny")
    assert f"image {images[3]}: not decodable" in " ".join(result.stderr.split("\n"))
    assert "3 of 4 images" in result.stdout


def test_embedding_nothing_but_broken_images_is_failed_work(longtail, images):
    with pytest.raises(errors.WorkError, match="none of the 1 images"):
        longtail("embed", images[3], "--model-name", "tiny")


def test_output_onto_a_folder_is_bad_usage(longtail, images, tmp_path):
    with pytest.raises(errors.UsageError, match="is a folder"):
        longtail("embed", *images, "--model-name", "tiny", "--output", str(tmp_path))


def test_output_into_a_missing_folder_is_bad_usage(longtail, images, tmp_path):
    with pytest.raises(errors.UsageError, match="folder does not exist"):
        longtail("embed", *images, "--model-name", "tiny", "--output", str(tmp_path / "nowhere" / "e.npy"))


def test_identify_finds_the_images_of_the_gallery(longtail, images, gallery_folder):
    printed = json.loads(longtail("identify", *images, "--gallery", gallery_folder, "--k", "2", "--json").stdout)
    best = [row["matches"][0]["identity"] for row in printed["images"][:3]]
    assert best == ["person 0", "person 1", "person 2"]
    assert printed["images"][3]["matches"] == [] and printed["note"] is None


def test_identify_with_a_gallery_of_another_version_is_failed_work_that_says_both_and_what_to_do(
    longtail, images, tmp_path
):
    conftest.write_gallery(tmp_path / "old", np.eye(8), model_version=6)
    with pytest.raises(errors.WorkError, match="tiny version 6, but .* with version 1; build the gallery") as raised:
        longtail("identify", images[0], "--gallery", str(tmp_path / "old"), "--json")
    assert "\n" not in str(raised.value)


def test_identify_asks_for_the_version_that_built_the_gallery(
    model_folder, retrained_saved_model, gallery_folder, images
):
    conftest.push(retrained_saved_model / "2", model_folder, 2)
    options = server_lib.Options(str(model_folder), gallery=gallery_folder, grpc_port=0, rest_port=0)
    with server_lib.ModelServer(options) as server:
        command = ["identify", images[0], "--gallery", gallery_folder, "--server", server.grpc_address, "--json"]
        printed = json.loads(testing.CliRunner().invoke(cli.app, command, catch_exceptions=False).stdout)
        latest = server.source.get().version
    [best, *_] = printed["images"][0]["matches"]
    assert (latest, printed["model_version"]) == (2, 1)
    assert (best["identity"], round(best["similarity"], 4)) == ("person 0", 1.0)


def test_identify_notes_that_the_model_asked_has_another_name(longtail, images, tmp_path):
    conftest.write_gallery(tmp_path / "cats", np.eye(8), model_name="cats")
    command = ["identify", images[0], "--gallery", str(tmp_path / "cats"), "--model-name", "tiny", "--json"]
    assert "built by model cats, but tiny answered" in json.loads(longtail(*command).stdout)["note"]


def test_identify_prints_the_matches_below_each_image(longtail, images, gallery_folder):
    lines = longtail("identify", images[0], "--gallery", gallery_folder, "--k", "1").stdout.splitlines()
    assert lines[0] == images[0] and lines[1].split() == ["1.0000", "person", "0", "0.png"]


def test_serve_says_where_it_serves_and_ends_well_on_sigterm(processes, tiny_saved_model, gallery_folder):
    words = ["serve", "--model", tiny_saved_model, "--gallery", gallery_folder, "--grpc-port", "0", "--rest-port", "0"]
    with processes.popen("longtail.pipeline.cli", *words, stdout=subprocess.PIPE) as process:
        ready = process.stdout.readline()
        address = ready.partition("gRPC ")[2].partition(",")[0]
        with client.Client(address, "tiny") as opened:
            version = opened.embed([conftest.encode(0)]).model_version
        process.send_signal(signal.SIGTERM)
        assert (process.stdout.read(), process.wait()) == ("", 0)
    assert "model tiny version 1" in ready and version == 1


@pytest.fixture
def serve_then(processes):
    """Serves in a process of its own, and does a deed of `tests.serving.serve_then`; what it printed."""

    def run(deed, **options):
        with processes.popen("tests.serving.serve_then", deed, json.dumps(options), stdout=subprocess.PIPE) as process:
            said = process.stdout.read()
            assert process.wait() == 0
        return json.loads(said)

    return run


@pytest.mark.parametrize("deed", ["terminate", "interrupt"])
def test_serve_returns_on_a_signal_and_leaves_the_handlers_as_they_were(serve_then, tiny_saved_model, deed):
    assert serve_then(deed, model=str(tiny_saved_model))["as_before"]


def test_serve_keeps_what_is_asked_and_finishes_its_file_on_a_signal(serve_then, tiny_saved_model, tmp_path):
    folder = tmp_path / "log"
    serve_then("ask", model=str(tiny_saved_model), request_log=str(folder), request_log_rate=1.0)
    [path] = folder.iterdir()
    assert path.suffix == ".tfrecord" and path.stat().st_size > len(conftest.encode(0))


def test_serve_does_not_say_with_gallery_where_the_gallery_is_refused(serve_then, tiny_saved_model, tmp_path):
    conftest.write_gallery(tmp_path / "old", np.eye(8), model_version=6)
    said = serve_then("terminate", model=str(tiny_saved_model), gallery=str(tmp_path / "old"))["said"]
    assert "serving model tiny version 1: gRPC" in said[0]


def test_serve_without_a_version_is_bad_usage(tmp_path):
    with pytest.raises(errors.UsageError, match="no version folder"):
        serve.serve(model=str(tmp_path), grpc_port=0, rest_port=0)


@pytest.mark.parametrize("command", ["serve", "embed", "identify", "verify"])
def test_help_describes_every_option(command):
    text = testing.CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"}).stdout
    options = [line for line in text.splitlines() if "--" in line]
    assert len(options) > 5 and all(len(line.split()) > 4 for line in options)
