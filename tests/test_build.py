"""BUILD and the tree in step: every file has its target, every dependency its import, and Bazel reads it as we do.

BUILD is Starlark, a subset of Python but for its built-in functions, so Python reads it where there is no Bazel.
"""

import ast
import dataclasses
import functools
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOUSE = ("benchmarks", "components", "models", "pipeline", "serving", "tests")
BELOW = {
    "models": {"signatures", "models"},
    "signatures": {"signatures"},
    "serving": {"signatures", "serving"},
    "components": {"signatures", "models", "components"},
    "benchmarks": {"signatures", "models", "components", "benchmarks"},
    "pipeline": {"signatures", "models", "components", "serving", "benchmarks", "pipeline"},
}


@dataclasses.dataclass(frozen=True)
class Target:
    """A rule of BUILD; file names are relative to the top."""

    rule: str
    name: str
    srcs: tuple[str, ...]
    deps: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    main: str | None = None
    size: str | None = None
    testonly: bool = False

    @property
    def owned(self) -> set[str]:
        """Its sources, but for the file a binary or test is started by."""
        return set(self.srcs) - {self.main}

    @property
    def floor(self) -> str:
        """The top folder of a library's name; `signatures`, which is below all, is a floor of its own."""
        return self.name.split("/")[0]


@functools.cache
def tree():
    """Every file, leaving out hidden folders and what Bazel is told to ignore."""
    ignored = set((ROOT / ".bazelignore").read_text().split())
    found = []
    for folder, folders, files in os.walk(ROOT):
        top = pathlib.Path(folder) == ROOT
        folders[:] = [name for name in folders if not name.startswith(".") and not (top and name in ignored)]
        found += [str((pathlib.Path(folder) / name).relative_to(ROOT)) for name in files]
    return sorted(found)


def glob(include, exclude=()):
    """Bazel's glob: `*` stays within a folder, `**` is any number of folders or, at the end, all below."""

    def matches(patterns, path):
        return any(re.fullmatch(expression(pattern), path) for pattern in patterns)

    def expression(pattern):
        words = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*"}
        return "".join(words.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*)", pattern))

    return [path for path in tree() if matches(include, path) and not matches(exclude, path)]


@functools.cache
def build():
    """What BUILD says: its targets by name, and its variables."""
    found = {}

    def rule(kind, **attributes):
        lists = {key: tuple(value) if isinstance(value, list) else value for key, value in attributes.items()}
        target = Target(kind, **lists)
        assert target.name not in found, f"BUILD: {target.name} stands twice"
        found[target.name] = target

    scope = {kind: functools.partial(rule, kind) for kind in ("py_binary", "py_library", "py_test")}
    scope["glob"] = glob
    exec(compile((ROOT / "BUILD").read_text(), "BUILD", "exec"), scope)
    return found, scope


def targets():
    return build()[0]


@functools.cache
def libraries():
    """The libraries of the house itself: not for tests nor benchmarks, which may reach for anything."""
    return {name: target for name, target in targets().items() if target.rule == "py_library" and not target.testonly}


@functools.cache
def owners(path):
    return [target.name for target in targets().values() if path in target.owned]


def python_files():
    return [path for path in tree() if path.endswith(".py")]


def file_of(name):
    """The file that holds what a full dotted name names, or None: "models.errors.UsageError" -> "models/errors.py"."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        stem = "/".join(parts[:length])
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if (ROOT / path).is_file():
                return path
    return None


@functools.cache
def imports(path):
    """Files of the house that a file imports, or names in a string as TFX and `python -m` want it."""
    names = []
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and re.fullmatch(r"[a-z_]+(\.\w+)+", str(node.value)):
            names.append(node.value)
    return {file_of(name) for name in names if name.split(".")[0] in HOUSE} - {None}


def packages(path):
    """The __init__.py files that importing a file runs first."""
    folders = [str(folder) for folder in pathlib.PurePath(path).parents][:-1]
    return {f"{folder}/__init__.py" for folder in folders if (ROOT / folder / "__init__.py").is_file()}


def reach(name):
    """Names of a target and all that it depends on."""
    found, ahead = set(), [name]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += [label.removeprefix(":") for label in targets()[name].deps]
    return found


def owners_of(paths):
    return {name for path in paths for name in owners(path)}


def test_every_python_file_belongs_to_exactly_one_target():
    mains = {target.main for target in targets().values()}
    for path in python_files():
        if owners(path) or path not in mains:
            assert len(owners(path)) == 1, f"{path} is in {owners(path)}; BUILD must have it in one target"


def test_every_named_file_and_target_exists():
    for target in targets().values():
        for path in (*target.srcs, *target.data, *target.args):
            assert (ROOT / path).is_file(), f"{target.name} names {path}"
        for label in target.deps:
            assert label.startswith(":") and label[1:] in targets(), f"{target.name} depends on {label}"


def test_every_test_file_has_a_target_of_its_name_that_runs_it():
    files = {path for path in python_files() if pathlib.PurePath(path).name.startswith("test_")}
    tests = {target for target in targets().values() if target.rule == "py_test"}
    named = {f"{target.name}.py" for target in tests}
    assert named == files, f"no test target, or no such file: {sorted(named ^ files)}"
    for target in tests:
        assert target.args == (f"{target.name}.py",) and target.args[0] in target.srcs


def test_exceptions_name_tests_that_exist():
    assert set(build()[1]["EXTRA_DEPS"]) <= set(python_files())


def test_libraries_name_exactly_what_they_import():
    for name, target in libraries().items():
        imported = set().union(*(imports(path) for path in target.srcs))
        needed = owners_of(imported) - {name}
        runs_first = owners_of(set().union(*(packages(path) for path in imported | set(target.srcs))))
        named = {label[1:] for label in target.deps}
        assert needed <= named, f"{name} imports, and does not name, {sorted(needed - named)}"
        assert named <= needed | runs_first, f"{name} names, and does not import, {sorted(named - needed - runs_first)}"


def test_every_target_reaches_all_it_imports():
    for name, target in targets().items():
        imported = set().union(*(imports(path) for path in target.srcs))
        needed = imported.union(*(packages(path) for path in imported | target.owned)) - set(target.srcs)
        for path in sorted(needed):
            assert reach(name) & set(owners(path)), (
                f"{name} imports {path}, which none of its deps holds (a test's own are in EXTRA_DEPS)"
            )


def test_libraries_depend_downward_only():
    for name in libraries():
        floors = {targets()[other].floor for other in reach(name)}
        assert floors <= BELOW[targets()[name].floor], f"{name} reaches {sorted(floors)}"


def test_serving_is_built_from_signatures_alone():
    assert reach("serving") == {"serving", "signatures"}
    assert targets()["signatures"].srcs == ("models/__init__.py", "models/signatures.py")
    assert not (ROOT / "models/__init__.py").read_text()


def test_the_binary_is_the_console_command():
    (binary,) = (target for target in targets().values() if target.rule == "py_binary")
    module = binary.main.removesuffix(".py").replace("/", ".")
    assert f'{binary.name} = "{module}:main"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.skipif(not shutil.which("bazel"), reason="bazel is not installed (Debian: bazel-bootstrap)")
def test_bazel_lists_these_targets(tmp_path):
    # A home of its own: a Bazel server that runs for this tree is neither needed nor disturbed.
    command = ["bazel", f"--output_user_root={tmp_path}", "--batch", "query", "//..."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {f"//:{name}" for name in targets()}
