"""Reads a Dockerfile, and performs a stage's COPY and RUN in a folder that stands for the image's root."""

import dataclasses
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys


@dataclasses.dataclass(frozen=True)
class Step:
    """An instruction and the rest of its line."""

    name: str
    text: str


@dataclasses.dataclass(frozen=True)
class Stage:
    """From one FROM to the next."""

    name: str
    base: str
    steps: tuple[Step, ...]

    def all(self, name: str) -> list[str]:
        """What stands behind each instruction of that name."""
        return [step.text for step in self.steps if step.name == name]


def read(path: pathlib.Path) -> list[Stage]:
    """The stages of a Dockerfile."""
    text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text())
    lines = re.sub(r"\\\n\s*", " ", text).split("\n")
    steps = [Step(*line.split(None, 1)) for line in lines if line.strip()]
    starts = [number for number, step in enumerate(steps) if step.name == "FROM"]
    stages = []
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        base, *named = steps[start].text.split(" AS ")
        stages.append(Stage(named[0] if named else "", base, tuple(steps[start + 1 : end])))
    return stages


class Build:
    """Performs a stage: absolute paths lie below `root`, and `python` is the one these tests run on."""

    def __init__(self, context: pathlib.Path, root: pathlib.Path, arguments: dict[str, str]):
        self._context, self._root, self._arguments = context, root, arguments
        self._folder = root
        tools = root / "tools"
        tools.mkdir(parents=True)
        (tools / "python").symlink_to(pathlib.Path(sys.base_prefix, "bin", "python3.10"))
        own = {"PATH": f"{tools}:/usr/bin:/bin", "PYTHONNOUSERSITE": "1"}
        left_out = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
        self._environment = {key: value for key, value in os.environ.items() if key not in left_out} | own

    def perform(self, stage: Stage, skip: str = "") -> None:
        """Performs all steps; a RUN that contains `skip` is left out."""
        for step in stage.steps:
            if not (step.name == "RUN" and skip and skip in step.text):
                getattr(self, f"_{step.name.lower()}")(step.text)

    def path(self, absolute: str) -> pathlib.Path:
        """Where a path of the image lies."""
        return self._root / absolute.lstrip("/")

    def _arg(self, text):
        name, _, default = text.partition("=")
        self._environment[name] = self._arguments.get(name, default)

    def _env(self, text):
        for pair in shlex.split(text):
            name, _, value = pair.partition("=")
            self._environment[name] = self._mapped(value)

    def _workdir(self, text):
        self._folder = self.path(text)
        self._folder.mkdir(parents=True, exist_ok=True)

    def _copy(self, text):
        *sources, target = text.split()
        for source in sources:
            there, here = self._context / source, self._folder / target
            if there.is_dir():
                shutil.copytree(there, here, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(there, here if here.name == there.name else here / there.name)

    def _run(self, text):
        command = self._mapped(text)
        subprocess.run(
            ["/bin/sh", "-ec", command], cwd=self._folder, env=self._environment, check=True, capture_output=True
        )

    def _mapped(self, text):
        """The very words, with the image's own folders in this root; /dev and the like stay."""
        return re.sub(r"(?<![\w./])/(opt|build)\b", rf"{self._root}/\1", text)
