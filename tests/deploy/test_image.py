"""The image: its Dockerfile is clean to hadolint, and what its builder installs works with no checkout in sight."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.deploy import dockerfile

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILDER, RUNTIME = dockerfile.read(TOP / "Dockerfile")
UNREACHABLE = re.compile(r"Failed to (fetch|download)|ConnectionError|NewConnectionError|dns error|No matching dist")


def test_hadolint_finds_nothing():
    hadolint = pathlib.Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, "--format", "json", TOP / "Dockerfile"], capture_output=True, text=True)
    assert json.loads(found.stdout) == []


def test_hadolint_would_find_something(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN pip install uv\n")
    hadolint = pathlib.Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, "--format", "json", bad], capture_output=True, text=True)
    assert {"DL3006", "DL3013"} <= {one["code"] for one in json.loads(found.stdout)}


def test_it_runs_as_a_numeric_user_that_is_not_root():
    assert RUNTIME.all("USER") == ["10001:10001"]
    assert RUNTIME.steps.index(dockerfile.Step("USER", "10001:10001")) > max(
        number for number, step in enumerate(RUNTIME.steps) if step.name in ("RUN", "COPY")
    )


def test_the_base_is_pinned_and_both_stages_share_it():
    assert BUILDER.base == RUNTIME.base == "${PYTHON}"
    base = re.search(r"^ARG PYTHON=(.*)$", (TOP / "Dockerfile").read_text(), re.M).group(1)
    assert re.fullmatch(r"python:3\.10\.\d+-slim-\w+", base)


def test_the_last_stage_takes_the_environment_alone_from_where_it_was_built():
    assert RUNTIME.all("COPY") == ["--from=builder /opt/longtail /opt/longtail"]
    assert not any("pip" in run or "apt" in run for run in RUNTIME.all("RUN"))


def test_packages_come_from_the_locks_with_hashes():
    syncs = [run for run in BUILDER.all("RUN") if "pip sync" in run]
    assert len(syncs) == 1 and "--require-hashes" in syncs[0]
    installs = [run for run in BUILDER.all("RUN") if "uv pip install" in run]
    assert all("--no-deps" in run for run in installs)
    assert dict(part.split("=") for part in BUILDER.all("ARG"))["UV_VERSION"] in (TOP / "Makefile").read_text()


def test_what_is_copied_is_not_ignored_and_nothing_else_is_sent():
    rules = (TOP / ".dockerignore").read_text().split("\n")
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert "*" in rules
    copied = {source for text in BUILDER.all("COPY") for source in text.split()[:-1]}
    assert copied == kept
    rooms = re.search(r"ROOMS = \((.*)\)", (TOP / "setup.py").read_text()).group(1)
    assert {"longtail", *re.findall(r'"(.*?)"', rooms)} <= copied


@pytest.mark.parametrize("variant", ["gpu", ""])
def test_an_unknown_variant_is_refused(tmp_path, variant):
    build = dockerfile.Build(TOP, tmp_path, {"VARIANT": variant})
    locks = [step for step in BUILDER.steps if step.name != "RUN" or "pip sync" in step.text]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        build.perform(dockerfile.Stage("", "", tuple(locks)))
    assert f"VARIANT must be cpu or cuda. Received: {variant}" in caught.value.stderr.decode()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of the builder's environment, installed by the Dockerfile's own steps."""
    build = dockerfile.Build(TOP, tmp_path_factory.mktemp("image"), {})
    try:
        build.perform(BUILDER, skip="compileall")  # makes it quicker, not other
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode()
        if UNREACHABLE.search(said):
            pytest.skip(f"packages cannot be had here: {said.strip().splitlines()[-1]}")
        raise AssertionError(f"{error.cmd[-1]}\n{said}") from error
    yield build.path("/opt/longtail")
    shutil.rmtree(build.path("/"))


@pytest.fixture
def run(installed, tmp_path):
    """Runs a command of the image, in an empty folder, with nothing else on its path."""

    def ran(*command):
        environment = {"PATH": f"{installed / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONNOUSERSITE": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ran


def test_the_command_starts(run):
    shown = run("longtail", "--help")
    assert "serve" in shown and "submit" in shown


def test_the_packages_are_the_images_own(run, installed):
    lines = run(
        "python", "-c",
        "import importlib.util as u, sys\n"
        "from longtail.pipeline import recipe\n"
        "from longtail.serving.model_server import server\n"
        "print(*recipe.names())\n"
        "rooms = [f'longtail.{room}' for room in ('models', 'components', 'pipeline', 'serving')]\n"
        "for name in (*rooms, 'tfx', 'apache_beam'):\n"
        "    print(u.find_spec(name).origin)\n"
        "print(*sys.path)\n",
    ).splitlines()  # fmt: skip
    recipes, *origins, path = lines
    assert "glyphs" in recipes.split()
    assert len(origins) == 6 and all(origin.startswith(str(installed)) for origin in origins)
    assert str(TOP) not in path
