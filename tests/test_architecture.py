"""The rules of the house: who may import whom, what names no package host, and what costs nothing to ask for help."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLOORS = {
    "models": {"models"},
    "components": {"models", "components"},
    "benchmarks": {"models", "components", "benchmarks"},
    "pipeline": {"models", "components", "pipeline", "serving", "benchmarks"},
    "serving": {"serving"},
}
# What whoever writes a model and whoever serves it share. Nothing of it imports TensorFlow.
SHARED_WITH_SERVING = ("longtail.models.export.signatures", "longtail.models.errors")


def imported(path):
    """Full names of all that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("floor", FLOORS)
def test_floors_import_downward_only(floor):
    files = sorted((ROOT / floor).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            top, _, rest = name.partition(".")
            room = rest.split(".")[0]
            if top == "longtail" and room in FLOORS and room not in FLOORS[floor]:
                shared = floor == "serving" and name.startswith(SHARED_WITH_SERVING)
                assert shared, f"{path.relative_to(ROOT)} imports {name}"


def test_rooms_are_imported_as_longtails_alone():
    for folder in (*FLOORS, "longtail", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not {name.split(".")[0] for name in imported(path)} & FLOORS.keys(), path


def test_models_know_neither_tfx_nor_beam():
    for path in (ROOT / "models").rglob("*.py"):
        houses = {name.split(".")[0] for name in imported(path)}
        assert not houses & {"tfx", "apache_beam", "ml_metadata", "tensorflow_data_validation"}, path


def test_signature_names_import_nothing():
    assert not list(imported(ROOT / "models" / "export" / "signatures.py"))


def test_help_loads_neither_tensorflow_nor_tfx():
    heavy = "('tensorflow', 'tfx', 'apache_beam')"
    script = f"import sys; import longtail.pipeline.cli.app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_locks_have_hashes_and_name_no_index(lock):
    text = (ROOT / lock).read_text()
    assert "index-url" not in text and "find-links" not in text and "://" not in text
    pins = [line for line in text.splitlines() if "==" in line]
    assert len(pins) > 100 and all(line.rstrip().endswith("\\") for line in pins)


def test_every_requirement_has_a_reason():
    for name in ("requirements.in", "requirements-dev.in"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                assert "#" in line, f"{name}: {line}"


def test_every_module_says_in_its_first_line_why_it_exists():
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not text or ast.get_docstring(ast.parse(text)), path
