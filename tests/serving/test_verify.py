"""`longtail calibrate`, `verify` and `identify` with a threshold, as a person runs them, against a real server."""

import json

import numpy as np
import pytest
import tensorflow as tf
from typer import testing

from longtail.models import errors
from longtail.models.export import signatures
from longtail.pipeline.cli import app as cli
from longtail.serving.model_server import server as server_lib
from tests.serving import conftest

PEOPLE, IMAGES = 12, 4


@pytest.fixture
def longtail(server):
    """Runs a command against the running server; returns its result, raising what it raised."""

    def run(*arguments):
        words = [*map(str, arguments), "--server", server.grpc_address]
        return testing.CliRunner().invoke(cli.app, words, catch_exceptions=False)

    return run


@pytest.fixture
def images(tmp_path):
    """Paths of three images, and of one that is broken."""
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths[:3]):
        path.write_bytes(conftest.encode(number))
    paths[3].write_bytes(b"no image")
    return [str(path) for path in paths]


@pytest.fixture
def gallery(tmp_path, in_process):
    """A gallery of persons 0 and 1, calibrated for one rate."""
    bar = {"fmr": 0.01, "threshold": 0.99, "interval": [0.98, 0.995], "fnmr": 0.0}
    vectors = in_process([conftest.encode(seed) for seed in range(2)])
    conftest.write_gallery(tmp_path / "gallery", vectors, thresholds=[bar])
    return str(tmp_path / "gallery")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Twelve people of four images each, which differ a little from another."""
    random, root = np.random.default_rng(0), tmp_path_factory.mktemp("people")
    for person in range(PEOPLE):
        folder = root / f"person {person}"
        folder.mkdir()
        base = random.integers(0, 156, (16, 16))
        for number in range(IMAGES):
            pixels = (base + random.integers(0, 100, (16, 16))).astype(np.uint8)
            (folder / f"{number}.png").write_bytes(tf.io.encode_png(pixels[..., None]).numpy())
    return root


def test_verify_says_same_with_status_0(longtail, images, gallery):
    result = longtail("verify", images[0], images[0], "--gallery", gallery, "--fmr", "0.01")
    assert (result.exit_code, result.stdout.split()[:2]) == (0, ["same", "1.0000"])
    assert "threshold 0.9900 (0.9800 to 0.9950) at a false match rate of 0.01" in result.stdout


def test_verify_says_different_with_status_3(longtail, images):
    result = longtail("verify", images[0], images[1], "--model-name", "tiny", "--threshold", "1", "--json")
    printed = json.loads(result.stdout)
    assert (result.exit_code, printed["verdict"]) == (3, "different")


def test_verify_says_undecided_with_status_3_near_the_threshold(longtail, images, tmp_path, in_process):
    one, other = in_process([conftest.encode(0), conftest.encode(1)])
    near = float(one @ other)
    bar = {"fmr": 0.001, "threshold": near - 0.01, "interval": [near - 0.05, near + 0.05], "fnmr": 0.0}
    conftest.write_gallery(tmp_path / "near", one[None], thresholds=[bar])
    result = longtail("verify", images[0], images[1], "--gallery", tmp_path / "near")
    assert (result.exit_code, result.stdout.split()[0]) == (3, "undecided")


@pytest.mark.parametrize(("rates", "chosen"), [((0.1, 0.01, 0.001), 0.001), ((0.1, 0.01), 0.01), ((0.0001,), 0.0001)])
def test_without_a_rate_it_is_0_001_or_the_smallest_that_was_measured(
    longtail, images, tmp_path, in_process, rates, chosen
):
    bars = [{"fmr": rate, "threshold": 0.5, "interval": [0.4, 0.6], "fnmr": 0.0} for rate in rates]
    conftest.write_gallery(tmp_path / "measured", in_process([conftest.encode(0)]), thresholds=bars)
    result = longtail("verify", images[0], images[0], "--gallery", tmp_path / "measured", "--json")
    assert json.loads(result.stdout)["threshold"]["fmr"] == chosen


def test_what_calibrate_writes_beside_a_model_is_what_verify_decides_by(model_folder, people):
    words = ["calibrate", "--model", model_folder, "--data", people, "--json"]
    written = json.loads(testing.CliRunner().invoke(cli.app, list(map(str, words)), catch_exceptions=False).stdout)
    assert written == json.loads((model_folder / "1" / signatures.THRESHOLDS_FILE).read_text())
    options = server_lib.Options(str(model_folder), grpc_port=0, rest_port=0)
    image = str(people / "person 0" / "0.png")
    with server_lib.ModelServer(options) as server:
        words = ["verify", image, image, "--model", str(model_folder), "--server", server.grpc_address]
        result = testing.CliRunner().invoke(cli.app, [*words, "--fmr", "0.1", "--json"], catch_exceptions=False)
    [bar] = [one for one in written["thresholds"] if one["fmr"] == 0.1]
    printed = json.loads(result.stdout)
    assert (printed["verdict"], printed["threshold"]["value"]) == ("same", bar["threshold"])


def test_calibrate_without_write_writes_nothing(model_folder, people):
    words = ["calibrate", "--model", str(model_folder), "--data", str(people), "--no-write"]
    shown = testing.CliRunner().invoke(cli.app, words, catch_exceptions=False, env={"COLUMNS": "150"}).stdout
    assert "48 images of 12 identities: 72 pairs of the same, 1056 of different ones" in shown
    assert not (model_folder / "1" / signatures.THRESHOLDS_FILE).exists()


def test_calibrating_for_a_rate_that_the_data_cannot_support_is_failed_work(model_folder, people):
    words = ["calibrate", "--model", str(model_folder), "--data", str(people), "--fmr", "0.001"]
    with pytest.raises(errors.WorkError, match="--fmr 0.001 is not supported by .*: its 1056 pairs .* carry 0.028"):
        testing.CliRunner().invoke(cli.app, words, catch_exceptions=False)


def test_calibrating_on_one_identity_is_bad_usage(model_folder, people, tmp_path):
    (tmp_path / "alone" / "a").mkdir(parents=True)
    (tmp_path / "alone" / "a" / "0.png").write_bytes(conftest.encode(0))
    words = ["calibrate", "--model", str(model_folder), "--data", str(tmp_path / "alone")]
    with pytest.raises(errors.UsageError, match=r"1 identity \(a\): at least two"):
        testing.CliRunner().invoke(cli.app, words, catch_exceptions=False)


def test_a_model_without_thresholds_is_bad_usage(longtail, images, tiny_saved_model):
    with pytest.raises(errors.UsageError, match="has no thresholds .*; make them with longtail calibrate"):
        longtail("verify", images[0], images[1], "--model", tiny_saved_model, "--model-name", "tiny")


def test_a_gallery_without_thresholds_is_bad_usage(longtail, images, tmp_path):
    conftest.write_gallery(tmp_path / "old", np.eye(8))
    with pytest.raises(errors.UsageError, match="gallery .*old/1 has no thresholds"):
        longtail("identify", images[0], "--gallery", tmp_path / "old", "--fmr", "0.01")


def test_verifying_a_broken_image_is_failed_work_that_names_it(longtail, images):
    with pytest.raises(errors.WorkError, match="image .*3.png: not decodable"):
        longtail("verify", images[0], images[3], "--model-name", "tiny", "--threshold", "0.5")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no threshold: give --model or --gallery"),
        (("--threshold", "0.5"), "does not say which model"),
        (("--model", "x", "--gallery", "y"), "give one of them"),
        (("--model-name", "tiny", "--threshold", "0.5", "--fmr", "0.1"), "give one of them"),
    ],
)
def test_what_does_not_decide_is_bad_usage(longtail, images, words, message):
    with pytest.raises(errors.UsageError, match=message):
        longtail("verify", images[0], images[1], *words)


def test_identify_answers_unknown_below_the_threshold(longtail, images, gallery):
    result = longtail("identify", images[0], images[2], images[3], "--gallery", gallery, "--fmr", "0.01", "--json")
    printed = json.loads(result.stdout)
    known, stranger, broken = (image["answer"] for image in printed["images"])
    assert (known["identity"], known["second"]) == ("person 0", "person 1")
    assert known["margin"] == pytest.approx(known["similarity"] - printed["images"][0]["matches"][1]["similarity"])
    assert (stranger["identity"], broken) == (None, None)
    assert stranger["similarity"] < printed["threshold"]["value"] == 0.99


def test_identify_prints_the_answer_beside_the_image(longtail, images, gallery):
    known, *_ = longtail("identify", images[0], "--gallery", gallery, "--threshold", "0.999").stdout.splitlines()
    stranger, *_ = longtail("identify", images[2], "--gallery", gallery, "--threshold", "0.999").stdout.splitlines()
    assert known.startswith(f"{images[0]}: person 0 (1.0000, ") and known.endswith(" ahead of person 1)")
    assert stranger.startswith(f"{images[2]}: unknown (nearest is person ")
