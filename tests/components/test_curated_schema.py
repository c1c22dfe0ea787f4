"""The curated schema serves Transform and ExampleValidator alike, and can only be tightened."""

import json

import pytest
from tensorflow_data_validation.utils import schema_util
from tensorflow_transform.tf_metadata import schema_utils
from tfx.utils import io_utils

from longtail.components.curated_schema import component
from longtail.components.curated_schema import content
from longtail.components.data import features
from longtail.components.drift_gate import anomalies
from longtail.models import errors
from tests.components import examples


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return examples.generated_statistics(str(tmp_path_factory.mktemp("clean")), examples.images())


def _problems(folder, statistics, bounds="{}"):
    schema = examples.schemas(str(folder), bounds)[1]
    return anomalies.violations(examples.validate_schema(str(folder), statistics, schema)[0].uri)


def test_transform_reads_every_feature_at_a_fixed_length(tmp_path):
    schema, _ = examples.schemas(str(tmp_path))
    read = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema[0].uri))
    spec = schema_utils.schema_as_feature_spec(read).feature_spec
    assert {name: feature.shape for name, feature in spec.items()} == dict.fromkeys(
        [*examples.image("a", 0), features.CLASS_ID], [1]
    )


def test_clean_statistics_have_no_anomaly(tmp_path, clean):
    assert _problems(tmp_path, clean) == []


def test_a_value_out_of_range_is_named_with_its_feature(tmp_path):
    span = examples.images(**{features.BRIGHTNESS: 1.5})
    found = _problems(tmp_path, examples.statistics(str(tmp_path), span))
    assert {row["feature"] for row in found} == {features.BRIGHTNESS}


def test_a_number_that_is_none_is_an_anomaly(tmp_path):
    span = [*examples.images(), examples.image("odd", 0, **{features.SHARPNESS: float("nan")})]
    found = _problems(tmp_path, examples.generated_statistics(str(tmp_path), span))
    assert {row["feature"] for row in found} == {features.SHARPNESS}


def test_a_missing_feature_is_an_anomaly(tmp_path):
    span = [{k: v for k, v in one.items() if k != features.INK} for one in examples.images()]
    found = _problems(tmp_path, examples.statistics(str(tmp_path), span))
    assert {row["feature"] for row in found} == {features.INK}


def test_tightened_bounds_are_held(tmp_path, clean):
    bounds = json.dumps({features.HEIGHT: {"max": 100}, features.FORMAT: ["jpeg"]})
    found = _problems(tmp_path, clean, bounds)
    assert {row["feature"] for row in found} == {features.HEIGHT, features.FORMAT}


def test_tightening_keeps_the_other_bound():
    domain = schema_util.get_feature(
        content.schema(json.dumps({features.INK: {"max": 0.5}})), features.INK
    ).float_domain
    assert (domain.min, domain.max) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ("{", "must be JSON"),
        ("[1]", "JSON object"),
        ('{"image/brightnes": {"min": 0.1}}', "did you mean 'image/brightness'"),
        ('{"image/encoded": {"min": 1}}', "no 'image/encoded'"),
        ('{"image/brightness": {"max": 2}}', "may only be tightened"),
        ('{"image/brightness": {"min": 0.8, "max": 0.2}}', "may only be tightened"),
        ('{"image/brightness": {"least": 0.8}}', '"min": number'),
        ('{"image/height": {"min": 1.5}}', "of finite ints"),
        ('{"image/brightness": {"min": NaN}}', "of finite floats, not nan"),
        ('{"image/format": ["gif"]}', "list of some of"),
    ],
)
def test_bounds_that_cannot_be_are_refused_when_the_component_is_made(bounds, words):
    with pytest.raises(errors.UsageError, match=words):
        component.CuratedSchema(bounds=bounds)


def test_the_version_changes_with_the_curated_content(monkeypatch):
    before = content.version()
    monkeypatch.setitem(content._CURATED, features.INK, (content._FLOAT, (0.0, 0.9)))
    assert content.version() != before


def test_the_version_is_part_of_the_cache_key():
    assert component.CuratedSchema("{}").exec_properties["version"] == content.version()
