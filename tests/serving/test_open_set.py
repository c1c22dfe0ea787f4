"""People that calibration has not seen, half of them enrolled: who is known and who is not, through a real server."""

import json
import pathlib
import zipfile

import pytest
from typer import testing

from longtail.models import errors
from longtail.pipeline.cli import app as cli
from longtail.serving.model_server import server as server_lib
from tests.serving import conftest

ORL = pathlib.Path(__file__).parents[2].parent / "shared" / "data" / "orl_faces_s1-s20.zip"

pytestmark = pytest.mark.skipif(not ORL.exists(), reason="needs ORL's faces in ../shared/data")


def longtail(*words):
    """What a command prints as JSON; raises what it raises."""
    result = testing.CliRunner().invoke(cli.app, [*map(str, words), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """ORL's first ten people to calibrate on; of the others five to enrol by half of their images, and all to ask."""
    root = tmp_path_factory.mktemp("orl")
    with zipfile.ZipFile(ORL) as archive:
        for name in archive.namelist():
            person, _, image = name.rpartition("/")
            number = int(person.rpartition("/")[2].strip("s") or 0) if image else 0
            if not number:
                continue
            enrolled = number in range(11, 16) and int(image.partition(".")[0]) <= 5
            side = "seen" if number <= 10 else "known" if enrolled else "asked"
            (root / side / f"s{number}").mkdir(parents=True, exist_ok=True)
            (root / side / f"s{number}" / image).write_bytes(archive.read(name))
    return root


@pytest.fixture(scope="module")
def calibrated(faces, tiny_saved_model, tmp_path_factory):
    """A folder of the tiny model, calibrated on the people that are seen."""
    folder = tmp_path_factory.mktemp("calibrated") / "tiny"
    folder.mkdir()
    conftest.push(tiny_saved_model / "1", folder, 1)
    longtail("calibrate", "--model", folder, "--data", faces / "seen")
    return folder


@pytest.fixture(scope="module")
def evaluated(faces, calibrated):
    sides = ("--query", faces / "asked", "--gallery", faces / "known", "--protocol", "identification")
    return longtail("evaluate", "--model", calibrated, *sides, "--fmr", "0.1")


def test_who_is_unknown_over_a_server_is_who_the_evaluation_says(faces, calibrated, evaluated, tmp_path):
    options = server_lib.Options(str(calibrated), grpc_port=0, rest_port=0)
    asked = sorted((faces / "asked").glob("*/*"))
    with server_lib.ModelServer(options) as server:
        where = ("--gallery", tmp_path / "gallery", "--server", server.grpc_address)
        longtail("gallery", "build", faces / "known", *where, "--model", calibrated)
        told = longtail("identify", *asked, *where, "--fmr", "0.1")
    said = [image["answer"]["identity"] for image in told["images"]]
    is_known = [int(path.parent.name[1:]) <= 15 for path in asked]
    known = [who == path.parent.name for who, path, here in zip(said, asked, is_known, strict=True) if here]
    strangers = [who is not None for who, here in zip(said, is_known, strict=True) if not here]
    assert (len(known), len(strangers)) == (25, 50)
    assert sum(known) / 25 == pytest.approx(evaluated["at"][0]["dir"])
    assert sum(strangers) / 50 == pytest.approx(evaluated["at"][0]["far"])


def test_the_rate_among_people_not_seen_is_within_that_of_the_thresholds_interval(faces, calibrated):
    [bar] = [
        one for one in json.loads((calibrated / "1" / "assets.extra" / "thresholds.json").read_text())["thresholds"]
        if one["fmr"] == 0.1
    ]  # fmt: skip
    found = longtail("evaluate", "--model", calibrated, "--data", faces / "asked", "--protocol", "verification")
    [unseen] = [one["threshold"] for one in found["points"] if one["fpr"] == 0.1]
    assert bar["interval"][0] <= unseen <= bar["interval"][1]


def test_a_threshold_is_of_identification_alone(faces, calibrated):
    with pytest.raises(errors.UsageError, match="--threshold and --fmr are for --protocol identification"):
        longtail("evaluate", "--model", calibrated, "--data", faces / "asked", "--fmr", "0.1")
