"""The server knows a stranger, and says whether two images are of one identity, from a threshold on."""

import base64

import httpx
import pytest

from longtail.serving import retrieval
from longtail.serving.model_server import server as server_lib
from longtail.serving.model_server.runtime import loader
from longtail.serving.model_server.runtime import request_errors
from tests.serving import conftest

BAR = {"fmr": 0.01, "threshold": 0.99, "interval": [0.98, 0.995], "fnmr": 0.0}


@pytest.fixture(scope="module")
def gallery_folder(tmp_path_factory, in_process):
    """Two images of ann and one of bob; a stranger's image is of another seed."""
    folder = tmp_path_factory.mktemp("calibrated") / "gallery"
    vectors = in_process([conftest.encode(seed) for seed in (0, 1, 2)])
    conftest.write_gallery(folder, vectors, identities=["ann", "ann", "bob"], thresholds=[BAR])
    return folder


@pytest.fixture(scope="module")
def served(tiny_saved_model, gallery_folder):
    source = loader.ModelSource("tiny", str(tiny_saved_model))
    source.poll()
    return retrieval.Retrieval(source, str(gallery_folder))


def instances(*images):
    return {"instances": [{"b64": base64.b64encode(image).decode()} for image in images]}


def test_identify_answers_by_identity_and_unknown_below_the_threshold(served):
    asked = instances(conftest.encode(0), conftest.encode(3), b"no image")
    told = served.identify({**asked, "k": 3, "fmr": 0.01})
    known, stranger, broken = (row["answer"] for row in told["predictions"])
    assert (known["identity"], known["second"]) == ("ann", "bob")
    bob = next(match for match in told["predictions"][0]["matches"] if match["identity"] == "bob")
    assert known["margin"] == pytest.approx(known["similarity"] - bob["similarity"])
    assert (stranger["identity"], broken) == (None, None)
    assert stranger["nearest"] in ("ann", "bob") and stranger["similarity"] < told["threshold"]["value"] == 0.99


def test_identify_without_a_threshold_has_no_answer(served):
    told = served.identify(instances(conftest.encode(0)))
    assert "threshold" not in told and "answer" not in told["predictions"][0]


@pytest.mark.parametrize(
    ("bar", "other", "verdict"), [({"fmr": 0.01}, 0, "same"), ({"threshold": 1}, 1, "different")]
)
def test_verify_judges_two_images_over_rest(tiny_saved_model, gallery_folder, bar, other, verdict):
    options = server_lib.Options(str(tiny_saved_model), gallery=str(gallery_folder), grpc_port=0, rest_port=0)
    with server_lib.ModelServer(options) as server:
        reply = httpx.post(
            f"http://{server.rest_address}/v1/gallery:verify",
            json={**instances(conftest.encode(0), conftest.encode(other)), **bar},
            trust_env=False,
        )
    told = reply.json()
    assert (reply.status_code, told["verdict"], told["model"]["version"]) == (200, verdict, 1)


def test_verify_is_undecided_within_the_thresholds_interval(served, in_process, tiny_saved_model, tmp_path):
    one, other = in_process([conftest.encode(0), conftest.encode(1)])
    near = float(one @ other)
    bar = {"fmr": 0.1, "threshold": near, "interval": [near - 0.01, near + 0.01], "fnmr": 0.0}
    conftest.write_gallery(tmp_path / "near", one[None], thresholds=[bar])
    source = loader.ModelSource("tiny", str(tiny_saved_model))
    source.poll()
    asked = {**instances(conftest.encode(0), conftest.encode(1)), "fmr": 0.1}
    assert retrieval.Retrieval(source, str(tmp_path / "near")).verify(asked)["verdict"] == "undecided"


def test_verify_of_a_broken_image_decides_nothing_and_has_its_status(served):
    told = served.verify({**instances(conftest.encode(0), b"no image"), "fmr": 0.01})
    assert (told["status"], told["verdict"], told["similarity"]) == ([0, 1], None, None)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"fmr": 0.5}, "false match rate 0.5: gallery .* is calibrated for 0.01; take one of them"),
        ({"threshold": 2}, "threshold 2: a similarity is a cosine"),
        ({"threshold": 0.5, "fmr": 0.01}, "give one of them"),
        ({"threshold": "high"}, "'threshold' must be a number. Received: .high"),
        ({"fmr": True}, "'fmr' must be a number"),
    ],
)
@pytest.mark.parametrize("method", ["identify", "verify"])
def test_a_threshold_that_cannot_be_is_refused_in_a_line(served, method, asked, line):
    with pytest.raises(request_errors.RequestError, match=line):
        getattr(served, method)({**instances(conftest.encode(0), conftest.encode(1)), **asked})


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (instances(conftest.encode(0), conftest.encode(1)), "'threshold' or 'fmr' must say"),
        ({**instances(conftest.encode(0)), "fmr": 0.01}, "'instances' must be two images"),
        ({"fmr": 0.01}, "'instances' must be two images"),
    ],
)
def test_a_verification_of_no_pair_or_no_threshold_is_refused_in_a_line(served, asked, line):
    with pytest.raises(request_errors.RequestError, match=line):
        served.verify(asked)


def test_a_gallery_of_before_there_were_thresholds_is_refused_by_rate_and_answers_by_threshold(
    tiny_saved_model, in_process, tmp_path
):
    conftest.write_gallery(tmp_path / "old", in_process([conftest.encode(0)]))
    source = loader.ModelSource("tiny", str(tiny_saved_model))
    source.poll()
    old = retrieval.Retrieval(source, str(tmp_path / "old"))
    with pytest.raises(request_errors.RequestError, match="gallery .*old/1 has no thresholds"):
        old.identify({**instances(conftest.encode(0)), "fmr": 0.01})
    told = old.identify({**instances(conftest.encode(0)), "threshold": 0.5})
    assert told["predictions"][0]["answer"] == {
        "identity": "person 0", "nearest": "person 0", "similarity": pytest.approx(1.0), "second": None, "margin": None
    }  # fmt: skip


@pytest.mark.parametrize(("scale", "similarity"), [(3.0, 1.0), (float("nan"), None)])
def test_verify_normalises_what_a_model_made_and_refuses_what_is_not_finite(served, monkeypatch, scale, similarity):
    embed = served._embed
    monkeypatch.setattr(served, "_embed", lambda *asked: (scale * embed(*asked)[0], embed(*asked)[1]))
    asked = {**instances(conftest.encode(0), conftest.encode(0)), "fmr": 0.01}
    if similarity is None:
        with pytest.raises(request_errors.RequestError, match="not finite"):
            served.verify(asked)
    else:
        assert served.verify(asked)["similarity"] == pytest.approx(similarity)
