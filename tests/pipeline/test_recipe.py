"""Recipes: those that come with longtail read and wire, and a mistake in one is a single clear line."""

import dataclasses
import pathlib
import re

import pytest
import yaml

from longtail.models import errors
from longtail.models import heads
from longtail.models.metrics import metric
from longtail.models.metrics import protocols
from longtail.pipeline import recipe


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_reads_and_wires_into_a_graph_that_compiles(name, tmp_path):
    from tfx import v1 as tfx
    from tfx.dsl.compiler import compiler

    from longtail.pipeline import graph
    from longtail.pipeline.local import run

    loaded = recipe.load(name)
    components = graph.build(loaded, run.places(str(tmp_path), name), graph.Span("data"), name)
    compiled = compiler.Compiler().compile(
        tfx.dsl.Pipeline(
            pipeline_name="p", pipeline_root=str(tmp_path), components=components, enable_cache=True
        )
    )
    assert len(compiled.nodes) == 16


def test_the_default_recipes_are_here():
    assert {"glyphs", "omniglot_lt", "market1501_h20s4", "face_h3k_t10k"} <= set(recipe.names())


def test_an_override_replaces_one_value():
    changed = recipe.load("glyphs", ["head.scale=16", "model.image=[64, 64, 1]"])
    assert changed.head.scale == 16.0 and changed.model.image == (64, 64, 1)
    assert changed.head.margin == recipe.load("glyphs").head.margin


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["head.scal=16"], "unknown key 'head.scal'; did you mean 'scale'?"),
        (["head.scale"], "write it as key.path=value"),
        (["head.scale.x=1"], "scale holds a value, not keys"),
        (["training.epochs=many"], "training.epochs must be int, not 'many'"),
        (["head.scale=[1"], "the value is not YAML"),
    ],
)
def test_a_wrong_override_is_named(overrides, message):
    with pytest.raises(errors.UsageError) as caught:
        recipe.load("glyphs", overrides)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bounds_of_the_schema_are_taken_as_they_are():
    changed = recipe.load("glyphs", ["drift.bounds={image/brightness: {min: 0.1}}"])
    assert changed.drift.bounds == {"image/brightness": {"min": 0.1}}


@pytest.mark.parametrize(
    "override", ["evaluation.protocol=nope", "rebalance.strategy=nope", "head.name=cosfase", "training.batch=1"]
)
def test_what_a_run_would_find_out_late_is_refused_early(override):
    with pytest.raises(errors.UsageError, match=override.split("=")[1]):
        recipe.check(recipe.load("glyphs", [override]))


def test_a_carve_whose_tail_would_be_head_by_the_runs_threshold_is_refused():
    carve = ["rebalance.strategy=carve", "rebalance.head=20", "leap.head_threshold=10"]
    recipe.check(recipe.load("glyphs", [*carve, "rebalance.tail_images=10"]))
    with pytest.raises(errors.UsageError, match="rebalance.tail_images: 11 is more than leap.head_threshold=10"):
        recipe.check(recipe.load("glyphs", [*carve, "rebalance.tail_images=11"]))


def test_the_former_name_of_a_protocol_is_refused_with_the_present_one():
    with pytest.raises(errors.UsageError, match="unknown 'leave_one_out'; did you mean 'retrieval'"):
        recipe.check(recipe.load("glyphs", ["evaluation.protocol=leave_one_out"]))


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_passes_its_own_check(name):
    recipe.check(recipe.load(name))


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(errors.UsageError, match="no recipe 'glyph'; one of .*glyphs"):
        recipe.load("glyph")


@pytest.mark.parametrize(
    ("text", "message"),
    [("name: [", "not YAML"), ("- a", "must be a mapping"), ("nam: x", "did you mean 'name'")],
)
def test_a_broken_recipe_file_is_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(errors.UsageError) as caught:
        recipe.load(str(path))
    assert message in str(caught.value) and "mine.yaml" in str(caught.value)


def test_every_key_of_a_recipe_is_explained_with_its_default():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    told = {key: yaml.safe_load(value) for key, value in re.findall(r"^\| `(\w+\.\w+)` \| `(.*?)` \|", text, re.M)}
    sections = {field.name: getattr(recipe.Recipe("x"), field.name) for field in dataclasses.fields(recipe.Recipe)}
    real = {
        f"{name}.{key}": list(value) if isinstance(value, tuple) else value
        for name, section in sections.items()
        if dataclasses.is_dataclass(section)
        for key, value in dataclasses.asdict(section).items()
    }
    assert told == real


def test_every_protocol_and_every_metric_is_explained():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", text, re.M))
    assert told == {name: each.meaning for name, each in protocols.PROTOCOLS.items()}
    section = text.split("| metric | in tables |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.M) == [(m.name, m.title) for m in metric.METRICS]


def test_every_head_is_explained_with_its_options():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.M))
    for name, head in heads.HEADS.items():
        assert (rows[name].split("|")[-1].strip() == "yes") == head.takes_cloud
        assert all(f"`{option}` ({number.default:g})" in rows[name] for option, number in head.OPTIONS.items())
