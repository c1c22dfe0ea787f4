"""`longtail gallery map`: a gallery follows its model to a new version without its images, or says why not."""

import json

import numpy as np
import pytest

from longtail.models import errors
from longtail.models.export import signatures
from longtail.serving import gallery as gallery_lib
from longtail.serving.model_server import server as server_lib
from tests.serving import conftest
from tests.serving import test_gallery_commands as commands

RATE = ("--fmr", "0.1")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """24 people, of four images each, to fit and measure a map on."""
    folder = tmp_path_factory.mktemp("others")
    for number in range(24):
        commands.person(folder, f"other {number:02d}", *range(1000 + 4 * number, 1004 + 4 * number))
    return folder


@pytest.fixture
def gallery(in_process, tmp_path):
    """The folder of a gallery of three people by version 1."""
    conftest.write_gallery(tmp_path / "gallery", in_process([conftest.encode(seed) for seed in range(3)]))
    return tmp_path / "gallery"


@pytest.fixture
def same_again(model_folder):
    """The model's folder, with version 2 that embeds as version 1 does."""
    conftest.push(model_folder / "1", model_folder, 2)
    return model_folder


def test_a_version_that_embeds_alike_takes_the_gallery_at_no_loss(gallery, same_again, others):
    bars = same_again / "2" / signatures.THRESHOLDS_FILE
    bars.parent.mkdir(exist_ok=True)
    bars.write_text(json.dumps({"thresholds": [commands.BAR]}))
    told = commands.longtail("gallery", "map", others, "--gallery", gallery, "--model", same_again, *RATE)
    assert told["from"] == 1 and told["tpr_mapped"] == pytest.approx(told["tpr"], abs=0.02)
    now = gallery_lib.load(str(gallery))
    assert (now.version, now.model_version, now.count) == (2, 2, 3)
    assert list(now.thresholds) == [commands.BAR]
    assert now.mapped and now.mapped["tpr_mapped"] == told["tpr_mapped"]
    assert {item["mapped_from"] for item in now.items} == {1}


def test_a_version_of_another_space_is_refused_with_the_loss_and_nothing_is_written(
    gallery, model_folder, retrained_saved_model, others
):
    conftest.push(retrained_saved_model / "2", model_folder, 2)
    words = ("gallery", "map", others, "--gallery", gallery, "--model", model_folder, *RATE, "--most-loss", "0")
    with pytest.raises(errors.WorkError, match=r"not mapped: at the new version's threshold .* people .* --most-loss"):
        commands.longtail(*words)
    assert [path.name for path in gallery.iterdir()] == ["1"]


def test_adding_the_images_replaces_what_is_mapped_by_the_models_own(server, model_folder, others, tmp_path):
    gallery, people = tmp_path / "gallery", commands.person(tmp_path / "people", "ann", 0)
    whole = commands.person(commands.person(tmp_path / "whole", "ann", 0, 1), "bob", 2)
    words = ("gallery", "build", whole, "--gallery", gallery, "--model", model_folder)
    commands.longtail(*words, "--server", server.grpc_address)
    conftest.push(model_folder / "1", model_folder, 2)
    commands.longtail("gallery", "map", others, "--gallery", gallery, "--model", model_folder, *RATE)
    with server_lib.ModelServer(server_lib.Options(str(model_folder), grpc_port=0, rest_port=0)) as newer:
        commands.longtail("gallery", "add", people, "--gallery", gallery, "--server", newer.grpc_address)
        found = gallery_lib.load(str(gallery))
        assert sorted((item["path"], item.get("mapped_from")) for item in found.items) == [
            ("ann/0.png", None),
            ("ann/1.png", 1),
            ("bob/2.png", 1),
        ]
        commands.longtail("gallery", "add", whole, "--gallery", gallery, "--server", newer.grpc_address)
    assert gallery_lib.load(str(gallery)).mapped is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--to", "7"], "no version 7 of a model in it; it has 1, 2"),
        (["--to", "1"], "is of version 1 already; nothing to map"),
        (["--fmr", "0"], "--fmr 0 .*: both are shares"),
        (["--fmr", "0.0001"], "a false match rate of 0.0001 is not carried by"),
    ],
)
def test_what_cannot_be_mapped_is_said_in_one_line(gallery, same_again, others, words, line):
    with pytest.raises((errors.UsageError, errors.WorkError), match=line):
        commands.longtail("gallery", "map", others, "--gallery", gallery, "--model", same_again, *words)
    assert [path.name for path in gallery.iterdir()] == ["1"]


def test_what_is_mapped_is_not_mapped_again(gallery, same_again, others):
    words = ("gallery", "map", others, "--gallery", gallery, "--model", same_again, *RATE)
    commands.longtail(*words)
    conftest.push(same_again / "1", same_again, 3)
    with pytest.raises(errors.UsageError, match="mapped already, and losses add up"):
        commands.longtail(*words)


def test_a_running_server_identifies_by_a_mapped_gallery(gallery, same_again, others):
    commands.longtail("gallery", "map", others, "--gallery", gallery, "--model", same_again, *RATE)
    found = gallery_lib.load(str(gallery))
    vectors = found.index.reconstruct_n(0, 3)
    assert [match[0].identity for match in found.identify(vectors, 1)] == ["person 0", "person 1", "person 2"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
