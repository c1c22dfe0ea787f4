"""BUILD and the tree in step: every file has its target, and Bazel reads it as we do.

BUILD is Starlark, a subset of Python but for its built-in functions, so Python reads it where there is no Bazel.
"""

import dataclasses
import functools
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

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


def python_files():
    return {path for path in tree() if path.endswith(".py")}


def test_every_python_file_of_a_room_belongs_to_exactly_one_library():
    owned = [path for target in targets().values() if target.rule == "py_library" for path in target.srcs]
    tests = {path for path in python_files() if pathlib.PurePath(path).name.startswith("test_")}
    assert len(owned) == len(set(owned))
    assert python_files() - set(owned) - tests == {"bazel/pytest_main.py", "setup.py"}


def test_every_named_target_exists():
    for target in targets().values():
        for label in target.deps:
            assert label.startswith(":") and label[1:] in targets(), f"{target.name} depends on {label}"


def test_every_test_file_has_a_target_of_its_name_that_runs_it():
    files = {path for path in python_files() if pathlib.PurePath(path).name.startswith("test_")}
    tests = {target for target in targets().values() if target.rule == "py_test"}
    assert {f"{target.name}.py" for target in tests} == files
    for target in tests:
        assert target.args == (f"{target.name}.py",) and target.args[0] in target.srcs


def test_the_binary_is_the_console_command():
    (binary,) = (target for target in targets().values() if target.rule == "py_binary")
    assert (ROOT / binary.main).is_file() and binary.main == "pipeline/cli/__main__.py"


@pytest.mark.skipif(not shutil.which("bazel"), reason="bazel is not installed (Debian: bazel-bootstrap)")
def test_bazel_lists_these_targets(tmp_path):
    # A home of its own: a Bazel server that runs for this tree is neither needed nor disturbed.
    command = ["bazel", f"--output_user_root={tmp_path}", "--batch", "query", "//..."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {f"//:{name}" for name in targets()}
