"""What stands in for a container image: an environment with this project installed and no checkout on its path."""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import urllib.parse
import venv

from longtail.models import errors

_DISTRIBUTION = "longtail"
_ROOMS = ("longtail", "models", "components", "pipeline", "serving", "benchmarks")
# What a container would be given too; of this machine it would know nothing else.
_KEPT = ("LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL")


def prepare(folder: str) -> str:
    """The folder of the executables of an environment without the checkout; builds it below `folder` if need be.

    Raises:
      errors.WorkError: this project cannot be installed from its checkout.
    """
    source = _checkout()
    if source is None:
        return this_environment()
    image = os.path.join(folder, _digest(source))
    if not os.path.isdir(image):
        shutil.rmtree(folder, ignore_errors=True)  # an older state of the checkout
        _build(source, image)
    return os.path.join(image, "bin")


def this_environment() -> str:
    """The folder of this process' own executables."""
    return os.path.dirname(sys.executable)


def environment(executables: str, home: str) -> dict[str, str]:
    """Variables of a process in that environment."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = os.pathsep.join((executables, "/usr/local/bin", "/usr/bin", "/bin"))
    return {**kept, "PATH": path, "HOME": home, "PYTHONNOUSERSITE": "1"}


def _checkout() -> pathlib.Path | None:
    """The folder this project is installed from in place; None where it is installed as anybody would."""
    text = importlib.metadata.distribution(_DISTRIBUTION).read_text("direct_url.json")
    described = json.loads(text) if text else {}
    if not described.get("dir_info", {}).get("editable"):
        return None
    return pathlib.Path(urllib.parse.unquote(urllib.parse.urlparse(described["url"]).path))


def _files(source: pathlib.Path) -> list[pathlib.Path]:
    files = [path for room in _ROOMS for path in (source / room).rglob("*") if path.is_file()]
    files = sorted(path for path in files if "__pycache__" not in path.parts)
    return [source / "pyproject.toml", source / "setup.py", *files]


def _digest(source: pathlib.Path) -> str:
    digest = hashlib.sha256(f"{sys.prefix}\0{sys.version}\0".encode())
    for path in _files(source):
        digest.update(f"{path.relative_to(source)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _build(source: pathlib.Path, image: str) -> None:
    """Installs a copy of the checkout, since building leaves files beside the sources."""
    os.makedirs(os.path.dirname(image), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(image)) as half:
        for path in _files(source):
            copy = pathlib.Path(half, "source", path.relative_to(source))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        venv.create(os.path.join(half, "image"), with_pip=False, symlinks=True)
        packages = sysconfig.get_path("purelib", vars={"base": os.path.join(half, "image")})
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        install += ["--no-index", "--no-build-isolation", "--target", packages, os.path.join(half, "source")]
        done = subprocess.run(install, capture_output=True, text=True, cwd=half, check=False)
        if done.returncode:
            line = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise errors.WorkError(f"{source}: cannot be installed as an image would hold it: {line}")
        # A folder named in a .pth file is searched, but its own .pth files are not read: the checkout's is one of them.
        pathlib.Path(packages, "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
        os.rename(os.path.join(half, "image"), image)
