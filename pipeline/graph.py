"""The one graph: every component and every edge. The local runner and the Kubeflow compiler both take it from here."""

import dataclasses
import json

import tensorflow_data_validation as tfdv
from tfx import v1 as tfx
from tfx.dsl.components.base import base_node

from longtail.components.baseline_finder import component as baseline_finder
from longtail.components.curated_schema import component as curated_schema
from longtail.components.data import features
from longtail.components.distribution_validator import component as distribution_validator
from longtail.components.drift_gate import component as drift_gate
from longtail.components.embedding_drift import component as embedding_drift
from longtail.components.gallery_builder import component as gallery_builder
from longtail.components.image_example_gen import component as image_example_gen
from longtail.components.image_example_gen import division
from longtail.components.pusher import component as pusher_lib
from longtail.components.rebalancer import component as rebalancer
from longtail.components.retrieval_evaluator import component as retrieval_evaluator
from longtail.components.serving_skew import component as serving_skew
from longtail.components.span_sampler import component as span_sampler
from longtail.components.span_window import component as span_window
from longtail.components.trainer import component as trainer
from longtail.models import config
from longtail.pipeline import recipe as recipe_lib

# Steps that read or write folders which are no inputs of theirs: no cache but one that pins those may answer for them.
LOOK_OUTSIDE = (
    "ImageExampleGen", "BaselineFinder", "ServingSkew", "DriftGate", "SpanWindow", "Pusher", "GalleryBuilder",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Places:
    """Folders that outlive a run. Any `tf.io.gfile` path.

    Attributes:
      registry: accepted spans, who was in them, and what the gate saw.
      models: the pushed model; its versions are what is served.
      galleries: the pushed gallery, by model version.
      checkpoints: where a killed training finds its last epoch.
    """

    registry: str
    models: str
    galleries: str
    checkpoints: str


@dataclasses.dataclass(frozen=True)
class Span:
    """What one run is about.

    Attributes:
      source: where the images are.
      number: the span.
      fingerprint: of the images, part of the cache key; "" lets the executor find it.
      pinned_span: accepted span to compare with: "auto", "none" or a number.
      pinned_version: model version to compare with: "auto", "none" or a number.
      pinned_sides: what the registry changes of the data: "auto", "none" or a mark.
      pinned_window: earlier spans to train on: "auto", "none" or their numbers.
      accept_drift: a reason to accept the span although it has drifted; "" for none.
      accept_scores: a reason to bless the model although its scores are too low; "" for none.
      delivery: another number pushes the same model again.
      request_log: folder of what serving was asked about, to be compared with what is trained on; "" for none.
      request_listing: of its files, part of the cache key.
      gallery: where the images of those are whom the pushed gallery is of, if that is no word of
        `evaluation.gallery`; "" for what the recipe says.
      gallery_listing: of its files, part of the cache key.
      start: digest of the model whose folder `training.start_from` names, part of the cache key; "" for none.
    """

    source: str
    number: int = 1
    fingerprint: str = ""
    pinned_span: str = "auto"
    pinned_version: str = "auto"
    pinned_sides: str = "auto"
    pinned_window: str = "auto"
    accept_drift: str = ""
    accept_scores: str = ""
    delivery: int = 0
    request_log: str = ""
    request_listing: str = ""
    gallery: str = ""
    gallery_listing: str = ""
    start: str = ""


def pipeline_name(recipe_name: str) -> str:
    """Name of the pipeline of a recipe; Kubeflow takes no underscore in it."""
    return recipe_lib.PIPELINE_PREFIX + recipe_name.replace("_", "-")


def build(recipe: recipe_lib.Recipe, places: Places, span: Span, model_name: str) -> list[base_node.BaseNode]:
    """Wires the components of a run, in the order an image meets them."""
    reading = {**recipe.data.reading(), "source": span.source}
    ingested = image_example_gen.ImageExampleGen(
        span=span.number,
        fingerprint=span.fingerprint,
        # Data of which the registry changes nothing is the same data in every root.
        registry="" if span.pinned_sides == division.NONE else places.registry,
        model_name=model_name,
        pinned_sides=span.pinned_sides,
        **reading,
    )
    examples = ingested.outputs["examples"]
    checked = _checks(recipe, places, span, examples, model_name)
    *_, schema, baseline, gate = checked
    chosen = span_window.SpanWindow(
        examples=examples,
        blessing=gate.outputs["blessing"],
        span=span.number,
        registry=places.registry,
        window=recipe.data.window,
        pinned_window=span.pinned_window,
        model_name=model_name,
    )
    window = chosen.outputs["window"]
    rebalanced = rebalancer.Rebalancer(
        window=window,
        leap_variant=recipe.leap.variant,
        head_threshold=recipe.leap.head_threshold,
        **dataclasses.asdict(recipe.rebalance),
    )
    transform = tfx.components.Transform(
        examples=rebalanced.outputs["rebalanced_examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="longtail.components.transform.preprocessing.preprocessing_fn",
        splits_config=tfx.proto.SplitsConfig(analyze=[features.TRAIN_SPLIT], transform=[]),
        custom_config={"image": list(recipe.model.image), "max_pixels": recipe.data.max_pixels},
        materialize=False,
        disable_statistics=True,
    )
    starts_blessed = recipe.training.start_from == config.BLESSED
    trained = trainer.Trainer(
        examples=rebalanced.outputs["rebalanced_examples"],
        census=rebalanced.outputs["census"],
        transform_graph=transform.outputs["transform_graph"],
        config=recipe.train_config(),
        checkpoints=places.checkpoints,
        card=json.dumps({"recipe": recipe.name, **({"start_digest": span.start} if span.start else {})}),
        base_model=baseline.outputs["baseline_model"] if starts_blessed else None,
    )
    model = trained.outputs["model"]
    delivered = _delivery(recipe, places, span, window, model, baseline.outputs["baseline_model"], model_name)
    return [ingested, *checked, chosen, rebalanced, transform, trained, *delivered]


def _checks(recipe, places, span, examples, model_name) -> list[base_node.BaseNode]:
    """From examples to the gate's blessing: statistics, schema, anomalies, drift."""
    options = tfdv.StatsOptions(feature_allowlist=list(features.STATISTICS))
    statistics_gen = tfx.components.StatisticsGen(examples=examples, stats_options=options)
    statistics = statistics_gen.outputs["statistics"]
    schema = curated_schema.CuratedSchema(bounds=json.dumps(recipe.drift.bounds, sort_keys=True))
    validator = tfx.components.ExampleValidator(statistics=statistics, schema=schema.outputs["statistics_schema"])
    sampler = span_sampler.SpanSampler(examples, recipe.drift.sample)
    sample = sampler.outputs["sample"]
    baseline = baseline_finder.BaselineFinder(
        statistics=statistics,
        sample=sample,
        span=span.number,
        registry=places.registry,
        models=places.models,
        pinned_span=span.pinned_span,
        pinned_version=span.pinned_version,
        model_name=model_name,
    )
    drift = distribution_validator.DistributionValidator(
        statistics=statistics,
        baseline_statistics=baseline.outputs["baseline_statistics"],
        sample=sample,
        baseline_sample=baseline.outputs["baseline_sample"],
        thresholds=recipe.drift.thresholds,
    )
    embeddings = embedding_drift.EmbeddingDrift(
        sample=sample,
        baseline_sample=baseline.outputs["baseline_sample"],
        baseline_model=baseline.outputs["baseline_model"],
        thresholds=recipe.drift.thresholds,
    )
    skew = serving_skew.ServingSkew(
        sample=sample,
        request_log=span.request_log,
        listing=span.request_listing,
        max_pixels=recipe.data.max_pixels,
        thresholds=json.dumps(recipe.drift.thresholds, sort_keys=True),
    )
    # Whatever else measures drift hands its DriftReport to the gate.
    reports = {
        "data_report": drift.outputs["report"],
        "embedding_report": embeddings.outputs["report"],
        "skew_report": skew.outputs["report"],
    }
    gate = drift_gate.DriftGate(
        examples=examples,
        statistics=statistics,
        baseline_statistics=baseline.outputs["baseline_statistics"],
        schema_anomalies=validator.outputs["anomalies"],
        drift_anomalies=drift.outputs["anomalies"],
        sample=sample,
        span=span.number,
        registry=places.registry,
        accept_drift=span.accept_drift,
        model_name=model_name,
        **reports,
    )
    return [statistics_gen, sampler, validator, drift, embeddings, skew, schema, baseline, gate]


def _delivery(recipe, places, span, window, model, baseline_model, model_name) -> list[base_node.BaseNode]:
    """From a trained model to a served one: score, bless, push, build its gallery."""
    settings = recipe.evaluation
    evaluator = retrieval_evaluator.RetrievalEvaluator(
        window=window,
        model=model,
        baseline_model=baseline_model,
        protocol=settings.protocol,
        head_threshold=recipe.leap.head_threshold,
        floor_map=settings.floor_map,
        margin=settings.margin,
        margin_end=settings.margin_end,
        max_undecodable=settings.max_undecodable,
        beat_pixels=settings.beat_pixels,
        earlier_images=settings.earlier_images,
        accept_scores=span.accept_scores,
    )
    pusher = pusher_lib.Pusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=places.models)
        ),
        model_name=model_name,
        delivery=span.delivery,
        evaluation=evaluator.outputs["evaluation"],
    )
    gallery = gallery_builder.GalleryBuilder(
        window=window,
        pushed_model=pusher.outputs["pushed_model"],
        destination=places.galleries,
        model_name=model_name,
        whose=span.gallery or settings.gallery,
        listing=span.gallery_listing,
    )
    return [evaluator, pusher, gallery]
