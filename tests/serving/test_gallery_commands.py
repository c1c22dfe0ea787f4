"""`longtail gallery build`, `add`, `remove`, `merge` and `list`, as a person runs them, against a real server."""

import base64
import json

import httpx
import numpy as np
import pytest
from typer import testing

from longtail.models import errors
from longtail.models.export import signatures
from longtail.pipeline.cli import app as cli
from longtail.serving import gallery as gallery_lib
from longtail.serving.model_server import server as server_lib
from tests.serving import conftest

BAR = {"fmr": 0.01, "threshold": 0.9, "interval": [0.8, 0.95], "fnmr": 0.0}


def person(folder, name, *seeds):
    """Images of one person, a file for each seed."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / name / f"{seed}.png").write_bytes(conftest.encode(seed))
    return folder


def longtail(*words):
    """What a command prints as JSON; raises what it raises."""
    result = testing.CliRunner().invoke(cli.app, [*map(str, words), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def people(tmp_path):
    return person(person(tmp_path / "people", "ann", 0, 1), "bob", 2)


@pytest.fixture
def built(server, model_folder, people, tmp_path):
    """The folder of a gallery of ann, twice, and bob."""
    path = model_folder / "1" / signatures.THRESHOLDS_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"thresholds": [BAR]}))
    where = ("--gallery", tmp_path / "gallery", "--server", server.grpc_address)
    longtail("gallery", "build", people, *where, "--model", model_folder)
    return tmp_path / "gallery"


def identities(folder):
    return {item["identity"] for item in gallery_lib.load(str(folder)).items}


def test_people_are_enrolled_from_a_folder_with_the_embeddings_of_the_server(built, in_process):
    found = gallery_lib.load(str(built))
    assert (found.model_name, found.model_version, found.count) == ("tiny", 1, 3)
    np.testing.assert_allclose(
        found.index.reconstruct_n(0, 3), in_process([conftest.encode(seed) for seed in range(3)]), atol=1e-5
    )


def test_the_thresholds_of_the_model_go_with_the_gallery(built):
    assert list(gallery_lib.load(str(built)).thresholds) == [BAR]


def test_somebody_is_added_as_a_new_version_and_is_identified(server, built, tmp_path):
    more = person(tmp_path / "more", "eve", 7)
    told = longtail("gallery", "add", more, "--gallery", built, "--server", server.grpc_address)
    assert (told["path"], told["images"], told["identities"]) == (str(built / "2"), 4, 3)
    query = more / "eve" / "7.png"
    words = ("identify", query, "--gallery", built, "--server", server.grpc_address, "--fmr", "0.01")
    assert longtail(*words)["images"][0]["answer"]["identity"] == "eve"


def test_a_running_server_takes_up_who_was_added(model_folder, built, tmp_path):
    options = server_lib.Options(str(model_folder), gallery=str(built), grpc_port=0, rest_port=0)
    with server_lib.ModelServer(options) as server:
        more = person(tmp_path / "more", "eve", 7)
        longtail("gallery", "add", more, "--gallery", built, "--server", server.grpc_address)
        server.retrieval.poll()
        reply = httpx.post(
            f"http://{server.rest_address}/v1/gallery:identify",
            json={"instances": [{"b64": base64.b64encode(conftest.encode(7)).decode()}]},
            trust_env=False,
        ).json()
    assert reply["predictions"][0]["matches"][0]["identity"] == "eve"


def test_a_file_that_is_enrolled_already_counts_once(server, built, people):
    person(people, "bob", 5)
    told = longtail("gallery", "add", people, "--gallery", built, "--server", server.grpc_address)
    assert told["images"] == 4


def test_nothing_new_makes_no_version(server, built, people):
    with pytest.raises(errors.UsageError, match="all its images are in the gallery already"):
        longtail("gallery", "add", people, "--gallery", built, "--server", server.grpc_address)
    assert [path.name for path in built.iterdir()] == ["1"]


def test_an_image_that_cannot_be_embedded_is_named_and_the_others_are_enrolled(server, built, tmp_path):
    more = person(tmp_path / "more", "eve", 7)
    (more / "eve" / "broken.png").write_bytes(b"no image")
    words = ["gallery", "add", str(more), "--gallery", str(built), "--server", server.grpc_address]
    result = testing.CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert "left out: eve/broken.png: not an image by its content" in " ".join(result.stderr.split("\n"))
    assert "4 images of 3 identities, model tiny version 1" in result.stdout


def test_somebody_is_removed(built):
    longtail("gallery", "remove", "ann", "--gallery", built)
    assert identities(built) == {"bob"}


def test_removing_somebody_who_is_not_there_is_bad_usage(built):
    with pytest.raises(errors.UsageError, match="no identity 'eve'; longtail gallery list names"):
        longtail("gallery", "remove", "eve", "--gallery", built)


def test_removing_everybody_is_bad_usage(built):
    with pytest.raises(errors.UsageError, match="nobody would be left"):
        longtail("gallery", "remove", "ann", "bob", "--gallery", built)


def test_two_galleries_of_one_version_are_merged(built, tmp_path):
    conftest.write_gallery(tmp_path / "other", np.eye(8)[:2])
    assert longtail("gallery", "merge", tmp_path / "other", "--gallery", built)["images"] == 5
    assert identities(built) == {"ann", "bob", "person 0", "person 1"}


def test_galleries_of_two_versions_of_a_model_are_not_merged(built, tmp_path):
    conftest.write_gallery(tmp_path / "other", np.eye(8), model_version=2)
    with pytest.raises(errors.UsageError, match="model version 1, the other of 2: their embeddings cannot be compared"):
        longtail("gallery", "merge", tmp_path / "other", "--gallery", built)


def test_list_counts_the_images_of_each(built):
    assert longtail("gallery", "list", "--gallery", built)["identities"] == {"ann": 2, "bob": 1}


def test_building_where_there_is_a_gallery_is_bad_usage(server, built, people, model_folder):
    where = ("--gallery", built, "--model", model_folder, "--server", server.grpc_address)
    with pytest.raises(errors.UsageError, match="there is one; longtail gallery add"):
        longtail("gallery", "build", people, *where)
