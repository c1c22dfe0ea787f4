"""What the end-to-end tests share: one finished root, made once for all workers of a run of pytest."""

import contextlib
import fcntl
import pathlib
import shutil

import pytest

from tests.e2e import runs


@pytest.fixture(scope="session")
def finished(session_folder):
    """A folder of three spans in `data`, the second inverted, and `kept`, the root of a finished run on the first.

    Whoever goes on with `kept` takes a copy: what a step made of the data alone is then in the cache, what depends on
    the root is not. The run itself was in `root`, where test_spans.py alone goes on: paths that the run wrote down lead
    there. What it printed is in `summary.json`, what it said on standard error in `said`.
    """
    folder = session_folder / "finished"
    with open(session_folder / "finished.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "kept").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _finish(folder)
    return folder


def _finish(folder: pathlib.Path) -> None:
    for number in (1, 2, 3):
        runs.write_span(folder / "data", number, inverted=number == 2)
    words = ["run", "--recipe", runs.RECIPE, "--data", folder / "data" / "span-{SPAN}", "--root", folder / "root"]
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        open(folder / "summary.json", "w") as printed,
        open(folder / "said", "w") as said,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
    ):
        status = runs.longtail(monkeypatch, *words, "--json")
    assert status == 0, (folder / "said").read_text()
    shutil.copytree(folder / "root", folder / "half")
    (folder / "half").rename(folder / "kept")
