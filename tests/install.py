"""What tests of an installation share: this project as its wheel installs it, in an environment of its own."""

import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv

TOP = pathlib.Path(__file__).resolve().parents[1]
ROOMS = ("models", "components", "pipeline", "serving", "benchmarks")
# Files of a user's own, named as the rooms are.
FOREIGN = ("models.py", "components/__init__.py", "pipeline.py", "serving.py", "benchmarks.py")


def build_wheel(folder: pathlib.Path) -> pathlib.Path:
    """The wheel, built from a copy of the sources, since building leaves files beside them; asks no package index."""
    source = folder / "source"
    for name in ("longtail", *ROOMS):
        shutil.copytree(TOP / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(TOP / name, source / name)
    _pip("wheel", "--no-build-isolation", "--wheel-dir", folder, source)
    [wheel] = folder.glob("*.whl")
    return wheel


def install(wheel: pathlib.Path, environment: pathlib.Path) -> pathlib.Path:
    """Installs the wheel into a new environment that borrows the locked packages of this one; returns site-packages."""
    venv.create(environment, with_pip=False, symlinks=True)
    _pip("--python", environment / "bin" / "python", "install", wheel)
    packages = pathlib.Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    # A folder named in a .pth file is searched, but its own .pth files, such as the checkout's, are not read.
    (packages / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return packages


def foreign_folder(folder: pathlib.Path) -> pathlib.Path:
    """A folder with modules of a user's own that bear the names of our rooms; each raises when it is imported."""
    for name in FOREIGN:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise RuntimeError('a module of the user was taken for one of longtail')\n")
    return folder


def _pip(command, *words) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if command == "--python":
        pip += ["--python", words[0]]
        command, *words = words[1:]
    done = subprocess.run(
        [*pip, command, "--quiet", "--no-deps", "--no-index", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
