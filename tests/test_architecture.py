"""The rules of the house: who may import whom, what names no package host, and what costs nothing to ask for help."""

import ast
import functools
import graphlib
import pathlib
import re
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
# What whoever writes a model and whoever serves it share, so that both mean the same: names of signatures and files,
# how work fails, which folder is which version, and what a picture is. Nothing of it loads TensorFlow when imported.
_SHARED = ("export.signatures", "export.versions", "errors", "pictures", "config")
SHARED_WITH_SERVING = tuple(f"longtail.models.{name}" for name in _SHARED)


@functools.cache
def parsed(path):
    """A file's tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def nodes(tree, type_checking):
    """Every node of a file's tree; those that only a type checker looks at where `type_checking` is set."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test).endswith("TYPE_CHECKING") and not type_checking:
        return
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from nodes(child, type_checking)


def imported(path, type_checking=True):
    """Full names of all that a file imports, wherever in it."""
    for node in nodes(parsed(path), type_checking):
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


def module(path):
    """The name a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in ("longtail", *parts) if part != "__init__")


def imports_of_files():
    """File's module -> modules of the house that it imports, at the top or in a function."""
    files = {module(path): path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")}
    found = {}
    for name, path in files.items():
        wanted = (one if one in files else one.rpartition(".")[0] for one in imported(path, type_checking=False))
        found[name] = files.keys() & set(wanted) - {name}
    return found


def test_no_files_import_one_another_in_a_circle():
    graphlib.TopologicalSorter(imports_of_files()).prepare()  # raises CycleError, which names the files


def test_no_folders_of_components_import_one_another_in_a_circle():
    folders = {}
    for name, wanted in imports_of_files().items():
        if name.startswith("longtail.components."):
            folder = ".".join(name.split(".")[:3])
            theirs = {".".join(one.split(".")[:3]) for one in wanted if one.startswith("longtail.components.")}
            folders.setdefault(folder, set()).update(theirs - {folder})
    graphlib.TopologicalSorter(folders).prepare()


def test_the_mathematics_of_drift_loads_neither_tensorflow_nor_tfx():
    names = [module(path) for path in sorted((ROOT / "components" / "drift").glob("*.py"))]
    assert len(names) > 5
    assert not loaded(names) & {"tensorflow", "tfx", "tensorflow_metadata", "apache_beam", "ml_metadata"}


def loaded(names):
    """The packages that are there after a process has imported the modules `names`."""
    script = f"import {', '.join(names)}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_rooms_are_imported_as_longtails_alone():
    for folder in (*FLOORS, "longtail", "examples", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not {name.split(".")[0] for name in imported(path)} & FLOORS.keys(), path


def test_models_know_neither_tfx_nor_beam():
    for path in (ROOT / "models").rglob("*.py"):
        houses = {name.split(".")[0] for name in imported(path)}
        assert not houses & {"tfx", "apache_beam", "ml_metadata", "tensorflow_data_validation"}, path


def test_what_serving_shares_loads_no_tensorflow():
    assert "tensorflow" not in loaded(SHARED_WITH_SERVING)


def test_help_loads_neither_tensorflow_nor_tfx():
    assert not loaded(["longtail.pipeline.cli.app"]) & {"tensorflow", "tfx", "apache_beam"}


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


def test_keys_of_channels_and_parameters_are_named_alike():
    for path in (ROOT / "components").glob("*/component.py"):
        names = re.findall(r"executor\.([A-Z_]+): ", path.read_text(encoding="utf-8"))
        assert all(name.endswith("_KEY") for name in names), path


def test_there_is_one_logger_of_one_name():
    for path in python_files():
        made = [line for line in path.read_text(encoding="utf-8").splitlines() if 'getLogger("' in line]
        assert made in ([], ['log = logging.getLogger("longtail")']), path


# What is not documented by its maker; the rest of a dependency is what its documentation is about.
UNDOCUMENTED = ("tfx", "tensorflow.core", "tensorflow.python", "keras.src", "tensorboard", "uvicorn.protocols")
DOCUMENTED = ("tfx.v1",)
LISTED = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("nobody promises it\n")[2]


def python_files():
    return sorted(path for folder in (*FLOORS, "longtail", "examples") for path in (ROOT / folder).rglob("*.py"))


def is_below(name, packages):
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def foreign_attributes(path, tree, defined):
    """Attributes with an underscore that somebody else's code defines; `defined` says which files define a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr):
            of_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            overridden = {path} if ast.unparse(node.value) == "super()" else set()
            if not of_itself and not defined.get(node.attr, set()) - overridden:
                yield node.attr


def test_every_file_that_reaches_below_a_public_interface_is_named_with_a_reason():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in python_files()}
    defined = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                defined.setdefault(node.name, set()).add(path)
    reaching = {
        str(path.relative_to(ROOT)): [
            *(name for name in imported(path) if name.startswith(("ctypes", "tensorflow.python")) or "._" in name),
            *foreign_attributes(path, tree, defined),
        ]
        for path, tree in trees.items()
    }
    table = [line.split("|") for line in LISTED.partition("**Modules")[0].splitlines() if line.startswith("| ")]
    assert {path for path, names in reaching.items() if names} == {
        path for row in table for path in re.findall(r"`([a-z_/]+\.py)`", row[2])
    }
    for path, names in reaching.items():
        for name in names:
            assert name.rpartition(".")[2] in LISTED, f"ARCHITECTURE.md does not say why {path} uses {name}"


def test_every_undocumented_module_is_listed_and_every_listed_one_is_used():
    named = set(re.findall(r"`([a-z0-9_.]+)`", LISTED))
    everything = {name for path in python_files() for name in imported(path)}
    used, listed = (
        {name for name in names if is_below(name, UNDOCUMENTED) and not is_below(name, DOCUMENTED)}
        for names in (everything, named)
    )
    assert not {name for name in used if not is_below(name, listed)}
    assert not {package for package in listed if not any(is_below(name, [package]) for name in used)}
