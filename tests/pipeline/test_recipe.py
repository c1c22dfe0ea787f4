"""Recipes: those that come with longtail read and wire, and a mistake in one is a single clear line."""

import dataclasses
import math
import pathlib
import re

import pytest
import yaml

from longtail.models import check
from longtail.models import errors
from longtail.models import heads
from longtail.models import settings
from longtail.models.metrics import metric
from longtail.models.metrics import protocols
from longtail.pipeline import recipe

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "recipes.md"


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
    assert len(compiled.nodes) == len(components)


def test_the_recipes_are_those_that_the_docs_list():
    table = DOCS.read_text(encoding="utf-8").partition("| recipe | data | model |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == recipe.names()


def test_an_override_replaces_one_value():
    changed = recipe.load("glyphs", ["head.scale=16", "model.image=[64, 64, 1]"])
    assert changed.head.scale == 16.0 and changed.model.image == (64, 64, 1)
    assert changed.head.margin == recipe.load("glyphs").head.margin


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["head.scal=16"], "unknown key 'head.scal'; did you mean 'head.scale'?"),
        (["head.scale"], "write it as key.path=value"),
        (["head.scale.x=1"], "scale holds a value, not keys"),
        (["training.epochs=many"], "training.epochs must be a whole number from 1 to 1000000000, not 'many'"),
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


def beyond(allowed):
    """Values that a setting may not hold: just outside its range, and of other types."""
    never = [None, {"nosuch": 1}, [[]], float("nan"), float("inf"), -float("inf")]
    if isinstance(allowed, settings.Number):
        below, above = math.nextafter(allowed.least, -math.inf), math.nextafter(allowed.most, math.inf)
        if allowed.whole:
            below, above = allowed.least - 1, allowed.most + 1
            never.append(allowed.least + 0.5)
        return [*never, below, above, *allowed.without, True, "text", str(allowed.most)]
    if isinstance(allowed, settings.Choice):
        return [*never, "", f"{allowed.names[0]}x", 0, True]
    if isinstance(allowed, settings.Flag):
        return [*never, "text", 0, 1]
    if isinstance(allowed, settings.Table):
        one_of_each = {inner: key for key, inner in allowed.entries.items()}
        entries = [{key: value} for inner, key in one_of_each.items() for value in beyond(inner)]
        return [*entries, *never, "text", 3, ["image/ink"]]
    if isinstance(allowed, settings.Text):
        return [*never, 3, True]
    if allowed is None:  # drift.bounds
        loose = [{"min": 2}, {"min": float("nan")}, {"min": True}, {"min": "0"}, {"least": 0}, [0, 1]]
        return [*never, "text", 3, *({"image/ink": bounds} for bounds in loose)]
    return [*never, [28, 28], [28, 28, 2], [7, 28, 1], [28, 4097, 1], [28.5, 28, 1], [True, 28, 1], "text", 3]


def override(key, value):
    return f"{key}={yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix(chr(10))}".split("\n...")[0]


EVERY = list(settings.walk(recipe.load("glyphs"), check.RULES))


@pytest.mark.parametrize("one", EVERY, ids=[one.key for one in EVERY])
def test_a_value_just_outside_a_range_or_of_another_type_is_refused_in_one_line(one):
    for value in beyond(one.allowed):
        with pytest.raises(errors.UsageError) as caught:
            recipe.load("glyphs", [override(one.key, value)])
        assert re.fullmatch(rf"glyphs.yaml with --set: (unknown key ')?{one.key}\b.*", str(caught.value)), value


# What a value needs beside it.
BESIDE = {
    "loss.metric_weight": ["head.name=softmax", "leap.variant=none"],
    "loss.reconstruction_weight": ["model.filter=true"],
    "training.gallery_momentum": ["training.images_per_class=2", "leap.variant=none"],
}
NUMBERS = [one for one in EVERY if isinstance(one.allowed, settings.Number)]


@pytest.mark.parametrize("one", NUMBERS, ids=[one.key for one in NUMBERS])
def test_both_ends_of_a_range_belong_to_it(one):
    for value in {one.allowed.least, one.allowed.most} - set(one.allowed.without):
        recipe.load("glyphs", [*BESIDE.get(one.key, ()), override(one.key, value)])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("leap.head_threshold=-5", "must be a whole number from 0 to 1000000000, not -5"),
        ("evaluation.floor_map=7", "must be a number from 0 to 1, not 7.0"),
        ("evaluation.margin=-3", "must be a number from 0 to 1, not -3.0"),
        ("evaluation.tail_max_images=-1", "unknown key 'evaluation.tail_max_images'"),
        ("evaluation.max_undecodable=-1", "must be a number from 0 to 1, not -1.0"),
        ("evaluation.protocol=nope", "must be one of retrieval, query_gallery, reid, not 'nope'"),
        ("data.eval_fraction=3", "must be a number from 0 to 1 other than 0 and 1, not 3.0"),
        ("data.query_fraction=0", "must be a number from 0 to 1 other than 0 and 1, not 0.0"),
        ("data.max_pixels=0", "must be a whole number from 1 to 1000000000, not 0"),
        ("data.camera_pattern=(", ": missing ), unterminated subpattern at position 0"),
        ("drift.sample=1", "must be a whole number from 40 to 1000000000, not 1"),
        ("drift.thresholds={nosuch: .1}", " has no 'nosuch'; it has image/brightness, "),
        ("drift.thresholds={image/inc: .1}", " has no 'image/inc'; did you mean 'image/ink'?"),
        ("drift.thresholds={image/ink: 2}", ".image/ink must be a number from 0 to 1, not 2.0"),
        ("drift.bounds={image/brightness: {min: 2026-01-01}}", ".image/brightness is of finite floats, not datetime"),
        ("rebalance.strategy=carve", "rebalance.tail_images must be 1 or more with the strategy carve, not 0"),
        ("model.weights=none.h5", ": backbone 'conv4' takes none; leave it empty"),
        ("model.image=[28, 28]", "must be [height, width, channels] of 8 to 4096 pixels a side"),
        ("model={backbone: resnet50, image: [32, 32, 3], weights: none.h5}", "model.weights: no file none.h5"),
        ("model={backbone: resnet50}", "model.image must be [height, width, channels] of 32 to 4096 pixels a side"),
        ("training.start_from=nosuch", "training.start_from: nosuch is no model that longtail exported (it has"),
        ("study.group_pattern=", "must be a text, not nothing; write '' in quotes for an empty one"),
        ("training.start_from=", "must be scratch, blessed or the folder of a model, not nothing"),
        (
            "training={start_from: blessed, warm_epochs: 2, warmup_epochs: 2}",
            "training.warmup_epochs must be a number from 0 to 2 other than 2, not 2.0",
        ),
        ("head={name: sphereface}", "head.margin must be a number from 1 to 4, not 0.2"),
        ("head={name: adaface, options: {h: .3}}", "head.options has no 'h'; it has concentration, momentum"),
        ("head={name: softmax}", "leap.variant: head 'softmax' has no angles for a cloud"),
        ("leap={variant: directional, form: closed}", "leap.form: a directional cloud is in closed form anyway"),
        ("leap={variant: full, statistics: corrected, images_kept: 99}", "leap.images_kept: at most 30 with leap"),
        ("training.images_per_class=3", "training.batch: 128 is not a multiple of images_per_class=3"),
        ("training={schedule: step, warmup_epochs: 1}", "training.warmup_epochs: the 'step' schedule has no warm-up"),
        ("name=../../../evil", "must be letters, digits, '.', '_' and '-', the first a letter or digit, at most 100"),
        ("name=x/y", "not 'x/y'"),
        ("name=.hidden", "not '.hidden'"),
        ('name="a\\nb"', "not 'a\\nb'"),
    ],
)
def test_what_a_run_would_find_out_late_is_refused_early(override, said):
    with pytest.raises(errors.UsageError) as caught:
        recipe.load("glyphs", [override])
    text = str(caught.value)
    assert said in text and "\n" not in text and override.split("=")[0].split(".")[0] in text


def test_a_file_that_other_machines_read_need_not_be_here():
    given = ["model={backbone: resnet50, image: [32, 32, 3], weights: /mnt/none.h5}"]
    assert recipe.load("glyphs", given, files=False).model.weights == "/mnt/none.h5"


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "+1e-3", ".1e-2", "0.1e-02", "1.e-3", "0.001"])
def test_floats_are_written_as_anyone_would(tmp_path, number):
    assert recipe.load("glyphs", [f"training.rate={number}"]).training.rate == 0.001
    path = tmp_path / "mine.yaml"
    path.write_text(f"training: {{rate: {number}, batch: 1e2}}")
    assert recipe.load(str(path)).training == dataclasses.replace(recipe.Recipe("x").training, rate=0.001, batch=100)


def test_a_carve_whose_tail_would_be_head_by_the_runs_threshold_is_refused():
    carve = ["rebalance.strategy=carve", "rebalance.head=20", "leap.head_threshold=10"]
    recipe.load("glyphs", [*carve, "rebalance.tail_images=10"])
    with pytest.raises(errors.UsageError, match="rebalance.tail_images: 11 is more than leap.head_threshold=10"):
        recipe.load("glyphs", [*carve, "rebalance.tail_images=11"])


def test_images_held_out_are_refused_where_their_copies_are_trained_on():
    with pytest.raises(errors.UsageError, match="training.held_out: with rebalance.strategy repeat, copies"):
        repeated = ["rebalance.strategy=repeat", "rebalance.repeat_to=8"]
        recipe.check(recipe.load("glyphs", ["training.held_out=2", *repeated]))


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_passes_its_own_check(name):
    recipe.check(recipe.load(name))


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(errors.UsageError, match="no recipe 'glyph'; one of .*glyphs"):
        recipe.load("glyph")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not YAML"),
        ("- a", "must be a mapping"),
        ("nam: x", "did you mean 'name'"),
        ("head: {scale: 3, scale: 4}", "key 'scale' stands twice"),
        ("summary: 2026-99-99", "not YAML"),
    ],
)
def test_a_broken_recipe_file_is_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(errors.UsageError) as caught:
        recipe.load(str(path))
    assert message in str(caught.value) and "mine.yaml" in str(caught.value)


def test_every_key_of_a_recipe_is_explained_with_its_default():
    text = DOCS.read_text(encoding="utf-8")
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
    text = DOCS.read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", text, re.M))
    assert told == {name: each.meaning for name, each in protocols.PROTOCOLS.items()}
    section = text.split("| metric | in tables |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.M) == [(m.name, m.title) for m in metric.METRICS]


def test_every_head_is_explained_with_its_options():
    text = DOCS.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.M))
    for name, head in heads.HEADS.items():
        assert (rows[name].split("|")[-1].strip() == "yes") == bool(head.CLOUD_FORMS)
        assert all(f"`{option}` ({number.default:g})" in rows[name] for option, number in head.OPTIONS.items())


@pytest.mark.parametrize("window", ["last 0", "none", "last x"])
def test_a_window_of_no_span_is_refused_in_one_line(window):
    with pytest.raises(errors.UsageError, match="data.window must be all, one or last N, with N from 1, not") as raised:
        recipe.load("glyphs", (f"data.window={window}",))
    assert "\n" not in str(raised.value)
