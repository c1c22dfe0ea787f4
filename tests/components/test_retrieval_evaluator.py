"""RetrievalEvaluator: figures worked out by hand, and when a model is blessed."""

import json
import logging
import os

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.util import model_utils
from tfx.types import standard_artifacts

from longtail.components.retrieval_evaluator import executor
from longtail.components.retrieval_evaluator import held_out
from longtail.components.retrieval_evaluator import judgement
from longtail.components.span_window import windows
from longtail.models import errors
from longtail.models.metrics import metric
from tests.components import examples

# Two identities of two images; each query's right answer is the nearest in the gallery.
SEPARATED = [
    (b"1,0", "a", "query"),
    (b"0.9,0.1", "a", "gallery"),
    (b"0,1", "b", "query"),
    (b"0.1,0.9", "b", "gallery"),
]
# The gallery of each lies nearer the other's query.
CROSSED = [
    (b"1,0", "a", "query"),
    (b"0.1,0.9", "a", "gallery"),
    (b"0,1", "b", "query"),
    (b"0.9,0.1", "b", "gallery"),
]


@pytest.fixture
def evaluate(tmp_path, eval_examples, vector_model):
    """Returns f(rows, ...) -> (metrics.json, blessing) of a real run."""

    def model_artifact(change):
        model = standard_artifacts.Model()
        model.uri = os.path.dirname(vector_model(change))
        return model

    def run(rows, model="", baseline=None, **properties):
        evaluation, blessing = (
            standard_artifacts.ModelEvaluation(),
            standard_artifacts.ModelBlessing(),
        )
        evaluation.uri, blessing.uri = str(tmp_path / "evaluation"), str(tmp_path / "blessing")
        inputs = {"window": examples.window(tmp_path / "window", eval_examples(rows)), "model": [model_artifact(model)]}
        if baseline is not None:
            inputs["baseline_model"] = [baseline]
        settings = {
            "protocol": "query_gallery",
            "head_threshold": 2,
            "floor_map": 0.0,
            "margin": 0.1,
            "margin_end": "middle",
            "max_undecodable": 0.05,
            "beat_pixels": 1,
            "earlier_images": 2000,
            "accept_scores": "",
        }
        executor.Executor().Do(
            inputs,
            {"evaluation": [evaluation], "blessing": [blessing]},
            {**settings, **properties},
        )
        with open(os.path.join(evaluation.uri, "metrics.json")) as file:
            return json.load(file), blessing

    run.model_artifact = model_artifact
    return run


def test_each_query_is_ranked_against_the_gallery(evaluate):
    metrics, _ = evaluate(CROSSED)
    assert (metrics["queries"], metrics["gallery"]) == (2, 2)
    assert (metrics["candidate"]["mAP"], metrics["candidate"]["rank1"]) == (0.5, 0.0)
    assert metrics["baseline"] is None


def test_retrieval_ranks_every_image_against_all_others(evaluate):
    metrics, _ = evaluate(SEPARATED, protocol="retrieval")
    assert (metrics["queries"], metrics["gallery"]) == (4, 4)
    assert metrics["candidate"]["mAP"] == 1.0


def test_reid_leaves_the_querys_own_camera_out(evaluate):
    rows = [
        (b"1,0", "a", "query", 1),
        (b"1,0", "a", "gallery", 1),
        (b"0.9,0.1", "b", "gallery", 1),
        (b"0.8,0.2", "a", "gallery", 2),
    ]
    metrics, _ = evaluate(rows, protocol="reid")
    assert metrics["candidate"]["mAP"] == 0.5


def test_identities_of_more_images_than_the_runs_threshold_are_head(evaluate):
    rows = [*SEPARATED, (b"0.8,0.2", "a", "gallery")]
    metrics, _ = evaluate(rows)
    counts = {name: metrics["candidate"][name]["identities"] for name in ("head", "tail")}
    assert counts == {"head": 1, "tail": 1} and metrics["head_threshold"] == 2


def test_the_same_file_twice_makes_no_identity_head(evaluate):
    metrics, _ = evaluate([*SEPARATED, SEPARATED[1]])
    assert (metrics["candidate"]["head"]["identities"], metrics["candidate"]["tail"]["identities"]) == (0, 2)


def test_a_metric_that_is_added_is_told_of_both_models_and_of_every_slice(evaluate, monkeypatch):
    extra = metric.Metric("late", "Late", lambda scores: scores.first > 1)
    monkeypatch.setattr(metric, "METRICS", (*metric.METRICS, extra))
    metrics, _ = evaluate(CROSSED, baseline=evaluate.model_artifact(""))
    candidate = metrics["candidate"]
    assert (candidate["late"], candidate["tail"]["late"], metrics["baseline"]["late"]) == (1.0, 1.0, 1.0)


def test_a_slice_without_identities_is_null(evaluate):
    metrics, _ = evaluate(SEPARATED)
    assert metrics["candidate"]["head"]["mAP"] is None


def test_images_the_model_refuses_are_left_out_and_counted(evaluate):
    metrics, _ = evaluate([*SEPARATED, (b"broken", "a", "gallery"), (b"broken", "b", "query")])
    assert (metrics["queries"], metrics["gallery"], metrics["undecodable"]) == (2, 2, 2)


def test_a_first_model_above_the_floor_is_blessed(evaluate):
    metrics, blessing = evaluate(SEPARATED, floor_map=0.9)
    assert metrics["blessed"]
    assert model_utils.is_model_blessed(blessing)
    assert os.listdir(blessing.uri) == ["BLESSED"]


def test_a_model_below_the_floor_is_not_blessed_and_the_reason_is_kept(evaluate, caplog):
    with caplog.at_level(logging.INFO, "longtail"):
        _, blessing = evaluate(CROSSED, floor_map=0.9)
    reason = "mAP 0.5000 is below the floor of 0.9000" + judgement.ANYWAY
    assert not model_utils.is_model_blessed(blessing)
    assert blessing.get_string_custom_property("reason") == reason
    assert os.listdir(blessing.uri) == ["NOT_BLESSED"]
    assert caplog.messages[-1].endswith(f"not blessed: {reason}")


def test_a_model_worse_than_the_last_blessed_one_by_more_than_the_margin_is_not_blessed(evaluate):
    metrics, blessing = evaluate(SEPARATED, "collapsed", evaluate.model_artifact(""))
    assert (metrics["candidate"]["mAP"], metrics["baseline"]["mAP"]) == (0.5, 1.0)
    assert "more than 0.1000 below the last blessed model's" in metrics["reason"]
    assert not model_utils.is_model_blessed(blessing)


def test_a_model_within_the_margin_is_blessed(evaluate):
    _, blessing = evaluate(SEPARATED, "collapsed", evaluate.model_artifact(""), margin=0.5)
    assert model_utils.is_model_blessed(blessing)


def test_a_first_model_that_refuses_too_many_images_is_not_blessed(evaluate):
    metrics, blessing = evaluate([*SEPARATED, (b"broken", "a", "query")])
    assert metrics["candidate"]["mAP"] == 1.0
    assert metrics["reason"] == "1 of 5 images cannot be embedded, more than max_undecodable=0.05 allows"
    assert not model_utils.is_model_blessed(blessing)


def test_a_first_model_that_refuses_few_images_is_blessed(evaluate):
    _, blessing = evaluate([*SEPARATED, (b"broken", "a", "query")], max_undecodable=0.2)
    assert model_utils.is_model_blessed(blessing)


def test_a_model_that_refuses_every_image_is_an_error(evaluate):
    with pytest.raises(errors.WorkError, match="cannot embed any of 2 eval images"):
        evaluate([(b"broken", "a", "query"), (b"broken", "a", "gallery")])


def test_both_models_are_scored_on_the_images_both_embed(evaluate):
    hard = (b"-0.1,0.9", "a", "query")  # the last blessed model does not even try
    metrics, blessing = evaluate([*SEPARATED, hard], baseline=evaluate.model_artifact("picky"))
    assert metrics["candidate"]["mAP"] == metrics["baseline"]["mAP"] == 1.0
    assert (metrics["candidate"]["undecodable"], metrics["baseline"]["undecodable"]) == (0, 1)
    assert model_utils.is_model_blessed(blessing)


def test_a_model_that_refuses_more_images_than_the_last_blessed_one_is_not_blessed(evaluate):
    rows = [*SEPARATED, (b"-0.1,0.9", "a", "query")]
    metrics, _ = evaluate(rows, "picky", evaluate.model_artifact(""), max_undecodable=0.5)
    assert metrics["reason"] == "1 images cannot be embedded, where the last blessed model leaves out 0"


def test_a_baseline_that_was_not_found_is_a_cold_start(evaluate):
    nothing = standard_artifacts.Model()
    nothing.set_int_custom_property("found", 0)
    metrics, blessing = evaluate(SEPARATED, baseline=nothing)
    assert metrics["baseline"] is None
    assert model_utils.is_model_blessed(blessing)


def test_a_baseline_that_was_found_is_compared_with(evaluate):
    baseline = evaluate.model_artifact("")
    baseline.set_int_custom_property("found", 1)
    metrics, _ = evaluate(SEPARATED, baseline=baseline)
    assert metrics["baseline"]["mAP"] == 1.0


def test_a_baseline_that_cannot_be_scored_is_told_from_the_candidate(evaluate):
    with pytest.raises(
        errors.WorkError, match="the last blessed model cannot be scored: .*not finite"
    ):
        evaluate(SEPARATED, baseline=evaluate.model_artifact("diverged"))


def test_a_diverged_model_is_an_error(evaluate):
    with pytest.raises(errors.WorkError, match="embeddings of 4 of 4 images .* are not finite"):
        evaluate(SEPARATED, "diverged")


def test_crossing_unknown_cameras_is_an_error(evaluate):
    with pytest.raises(errors.WorkError, match="crosses cameras, but 4 of 4 eval images have none"):
        evaluate(SEPARATED, protocol="reid")


def test_an_empty_eval_split_is_an_error(evaluate):
    with pytest.raises(errors.WorkError, match="the eval split is empty"):
        evaluate([])


def test_a_shard_that_was_cut_short_is_named(evaluate, tmp_path):
    evaluate(SEPARATED)
    [shard] = tmp_path.glob("examples/*/*.gz")
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(errors.WorkError, match=r"00000-of-00001\.gz: damaged or cut short"):
        held_out.HeldOut(windows.read(str(tmp_path / "window")), 1).rows()


def test_queries_without_any_match_are_an_error(evaluate):
    with pytest.raises(errors.WorkError, match="none of 1 queries has a match"):
        evaluate([(b"1,0", "a", "query"), (b"0,1", "b", "gallery")])


def test_an_unknown_protocol_is_named(evaluate):
    with pytest.raises(errors.UsageError, match="evaluation.protocol: unknown 'gallery'; did you mean 'query_gallery'"):
        evaluate(SEPARATED, protocol="gallery")


def test_one_scorable_identity_is_never_blessed(evaluate):
    alone = (b"0,1", "b", "gallery")
    metrics, blessing = evaluate([*SEPARATED[:2], alone])
    assert metrics["candidate"]["mAP"] == 1.0
    assert metrics["reason"].startswith("1 identity can be scored, and at least 2 must be")
    assert not model_utils.is_model_blessed(blessing)


def test_few_identities_are_warned_of(evaluate, caplog):
    metrics, _ = evaluate(SEPARATED)
    assert metrics["warnings"][0].startswith("only 2 identities are scored")
    assert metrics["warnings"][0] in caplog.messages


def test_nearly_parallel_embeddings_are_said(evaluate):
    metrics, _ = evaluate(SEPARATED, "collapsed", floor_map=0.1)
    assert "embeddings are nearly parallel: the mean cosine of two images is 1.0000" in metrics["warnings"]


def picture(seed, noise):
    """A PNG of 20 x 20 random pixels, of which each noise is another variant."""
    pixels = np.random.default_rng(seed).integers(0, 200, (20, 20))
    pixels += np.random.default_rng(noise).integers(0, 20, (20, 20))
    return tf.io.encode_png(pixels[..., None].astype(np.uint8)).numpy()


PICTURES = [
    (picture(seed, 10 * seed + place), name, split)
    for seed, name in enumerate("abc", start=1)
    for place, split in enumerate(("query", "gallery"))
]


def test_a_model_no_better_than_pixels_is_not_blessed(evaluate):
    metrics, blessing = evaluate(PICTURES, "blind")
    assert metrics["candidate"]["pixels"]["mAP"] == 1.0
    assert metrics["reason"].startswith("mAP 0.3333 is not above the 1.0000 of centred pixels, which nobody trained")
    assert not model_utils.is_model_blessed(blessing)


def test_a_recipe_may_bless_a_model_no_better_than_pixels_and_is_warned(evaluate):
    metrics, blessing = evaluate(PICTURES, "blind", beat_pixels=0)
    assert "no better than centred pixels, which nobody trained: mAP 1.0000" in metrics["warnings"]
    assert model_utils.is_model_blessed(blessing)


def test_files_that_are_no_pictures_have_no_pixels_to_compare_with(evaluate):
    assert evaluate(SEPARATED)[0]["candidate"]["pixels"] is None


# The collapsed model loses all eight identities alike, so the interval has no width.
EIGHT = [
    (f"{np.cos(angle + shift):.4f},{np.sin(angle + shift):.4f}".encode(), name, split)
    for name, angle in zip("abcdefgh", np.linspace(0, 3, 8), strict=True)
    for shift, split in ((0.0, "query"), (0.01, "gallery"))
]


def test_the_difference_to_the_last_blessed_model_has_an_interval_over_identities(evaluate):
    metrics, _ = evaluate(EIGHT, "collapsed", evaluate.model_artifact(""))
    found = metrics["difference"]
    assert found["mAP"] == pytest.approx(metrics["candidate"]["mAP"] - metrics["baseline"]["mAP"])
    assert found["interval"][0] <= found["mAP"] <= found["interval"][1]
    assert "worse by 87.50 points of mAP (95 % interval 87.50 to 87.50)" in metrics["reason"]


def test_the_end_of_the_interval_that_the_rule_names_is_held_to_the_margin():
    found = judgement.Difference(-0.01, (-0.05, 0.03))
    figures = {"mAP": 0.9, "identities": 9, "images": 9, "undecodable": 0}
    refused = {
        end: bool(judgement.reason_against(figures, figures, found, None, judgement.Rules(0.0, 0.02, end, 0.05, True)))
        for end in ("worst", "middle", "best")
    }
    assert refused == {"worst": True, "middle": False, "best": False}


def test_a_better_model_is_told_as_better():
    assert str(judgement.Difference(0.004, (-0.001, 0.009))) == (
        "better by 0.40 points of mAP (95 % interval -0.10 to 0.90)"
    )


def test_many_medium_and_few_are_slices_by_the_images_of_an_identity(evaluate):
    metrics, _ = evaluate(SEPARATED)
    assert [metrics["candidate"][name]["identities"] for name in ("many", "medium", "few")] == [0, 0, 2]


def test_where_the_data_support_no_threshold_the_run_says_so(evaluate):
    metrics, _ = evaluate(SEPARATED)
    assert "no thresholds for verifying: 4 pairs of different identities support no rate" in metrics["warnings"]
