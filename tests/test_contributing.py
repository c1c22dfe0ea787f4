"""What CONTRIBUTING.md says of where a change goes is so: every list is held against what is there today."""

import ast
import dataclasses
import functools
import inspect
import pathlib
import re

import pytest

from longtail.components.data import layouts
from longtail.models import config
from longtail.models import heads
from longtail.models.metrics import metric
from longtail.pipeline import recipe

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def places(title):
    """The files and folders that a section names."""
    section = re.search(rf"^### {title}\n(.*?)(?=^##)", TEXT, re.M | re.S).group(1)
    return set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", section))


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def sources(*folders):
    return {path: read(path) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))}


def test_every_place_that_is_named_exists():
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", TEXT))
    assert len(named) > 20
    assert not {path for path in named if not (ROOT / path).exists()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("name", heads.HEADS)
def test_a_head_is_where_the_list_says(name):
    kind = heads.HEADS[name]
    assert str(pathlib.Path(inspect.getfile(kind)).resolve().relative_to(ROOT)) in places("A head")
    assert issubclass(kind, heads.base.Head)
    assert re.search(rf"^\| `{name}` \|", read("docs/recipes.md"), re.M)
    assert any(kind.__name__ in text or f'"{name}"' in text for text in sources("tests/models/heads").values())


@pytest.mark.parametrize("each", metric.METRICS, ids=lambda each: each.name)
def test_a_metric_is_where_the_list_says(each):
    assert str(pathlib.Path(inspect.getfile(metric)).resolve().relative_to(ROOT)) in places("A metric")
    assert f"| `{each.name}` | {each.title} |" in read("docs/recipes.md")
    assert each.caption in read("tests/models/metrics/test_metric.py")


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_a_layout_is_where_the_list_says(name):
    defined_in = pathlib.Path(inspect.getfile(layouts.LAYOUTS[name])).resolve()
    assert str(defined_in.relative_to(ROOT)) in places("A layout of image folders")
    assert re.search(rf"^\| `{name}` \|", read("docs/data.md"), re.M)
    tests = (read(f"tests/components/data/test_{which}.py") for which in ("sources", "layouts"))
    assert any(f'"{name}"' in text for text in tests)


def options():
    sections = {field.name: field.default_factory for field in dataclasses.fields(recipe.Recipe)}
    known = {name: kind for name, kind in sections.items() if dataclasses.is_dataclass(kind)}
    return [(kind, field.name) for kind in known.values() for field in dataclasses.fields(kind)]


@pytest.mark.parametrize("kind, name", options(), ids=lambda value: getattr(value, "__name__", value))
def test_an_option_is_where_the_list_says_and_something_reads_it(kind, name):
    own = pathlib.Path(inspect.getfile(kind)).resolve()
    assert str(own.relative_to(ROOT)) in places("An option that reaches a step")
    assert f"| `{section_of(kind)}.{name}` |" in read("docs/recipes.md")
    assert reads(name) - {own}


def section_of(kind):
    return next(field.name for field in dataclasses.fields(recipe.Recipe) if field.default_factory is kind)


def reads(name):
    """Files in which it is an attribute, an argument or a key."""
    return {path for path, words in words_of_files().items() if name in words}


@functools.cache
def words_of_files():
    found = {}
    for path, text in sources("models", "components", "pipeline").items():
        nodes = list(ast.walk(ast.parse(text)))
        found[path] = {
            *(node.attr for node in nodes if isinstance(node, ast.Attribute)),
            *(node.arg for node in nodes if isinstance(node, (ast.arg, ast.keyword))),
            *(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)),
        }
    return found


def test_options_of_a_training_stand_in_one_file():
    assert {inspect.getfile(field.default_factory) for field in dataclasses.fields(config.TrainConfig)} == {
        inspect.getfile(config)
    }


COMPONENTS = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_is_where_the_list_says(name):
    assert "class Executor(" in read(f"components/{name}/executor.py")
    assert f"from longtail.components.{name} import component" in read("pipeline/graph.py")
    assert any(f"longtail.components.{name} " in text for text in sources("tests/components").values())
    assert f"`components/{name}/`" in read("ARCHITECTURE.md")


def test_steps_that_look_outside_are_steps_of_the_graph():
    named = ast.literal_eval(re.search(r"^LOOK_OUTSIDE = (\(.*?\))", read("pipeline/graph.py"), re.M | re.S).group(1))
    assert named and all(any(f"class {name}(" in text for text in sources("components").values()) for name in named)
