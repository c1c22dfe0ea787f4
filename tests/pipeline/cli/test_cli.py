"""What a user gets wrong: one line that names it, status 2, and nothing made."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from longtail.models import errors
from longtail.pipeline.cli import signals
from tests.e2e import runs


def images(folder, identities=2, per_identity=2):
    """A folder of tiny real PNGs."""
    import numpy as np
    from PIL import Image

    for identity in range(identities):
        (folder / f"id{identity}").mkdir(parents=True)
        for number in range(per_identity):
            pixels = np.random.default_rng([identity, number]).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / f"id{identity}" / f"{number}.png")
    return folder


def fails(monkeypatch, capfd, *words):
    """The one line of an error that ends with status 2."""
    assert runs.longtail(monkeypatch, *words) == 2
    [line] = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("longtail: error: ")
    return line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("identify",), "Missing argument 'IMAGES'; longtail identify --help"),
        (("gallery", "build", "people"), "Missing option '--gallery'; longtail gallery build --help"),
        (("run", "--recpe", "glyphs"), "No such option: --recpe"),
        (("rum",), "No such command 'rum'"),
        (("run", "--recipe", "glyphs", "--root", "root", "--span", "first"), "Invalid value for '--span'"),
        (("run", "--recipe", "glyphs", "--root", "root", "--set", "evaluation.gallery="), "images, not nothing"),
        (
            ("export", "--model", "m", "--data", "d", "--output", "o", "--format", "onx"),
            "Invalid value for '--format': 'onx' is not one of 'onnx', 'tflite'; longtail export --help",
        ),
    ],
)
def test_a_command_that_is_not_given_what_it_takes(monkeypatch, capfd, words, said):
    assert said in fails(monkeypatch, capfd, *words)


def test_a_command_that_is_given_nothing_shows_its_help(monkeypatch, capfd):
    assert runs.longtail(monkeypatch, "gallery") == 2
    assert "Usage: longtail gallery" in "".join(capfd.readouterr())


def test_missing_data_folder(monkeypatch, capfd, tmp_path):
    words = ("run", "--recipe", "omniglot_lt", "--data", tmp_path / "none", "--root", tmp_path / "root")
    assert str(tmp_path / "none") in fails(monkeypatch, capfd, *words)
    assert not (tmp_path / "root").exists()


def test_empty_data_folder(monkeypatch, capfd, tmp_path):
    (tmp_path / "empty").mkdir()
    words = ("run", "--recipe", "glyphs", "--data", tmp_path / "empty", "--root", tmp_path / "root")
    assert "empty" in fails(monkeypatch, capfd, *words)
    assert not (tmp_path / "root").exists()


def test_one_identity_only(monkeypatch, capfd, tmp_path):
    words = ("run", "--recipe", "glyphs", "--data", images(tmp_path / "d", 1), "--root", tmp_path / "root")
    assert "identit" in fails(monkeypatch, capfd, *words)


def test_a_recipe_without_data_asks_for_it(monkeypatch, capfd, tmp_path):
    assert "--data" in fails(monkeypatch, capfd, "run", "--recipe", "omniglot_lt", "--root", tmp_path / "root")


def test_unknown_recipe_key(monkeypatch, capfd, tmp_path):
    (tmp_path / "r.yaml").write_text("head: {skale: 3}")
    line = fails(monkeypatch, capfd, "run", "--recipe", tmp_path / "r.yaml", "--root", tmp_path / "root")
    assert "r.yaml" in line and "did you mean 'head.scale'" in line


def test_root_that_cannot_be_written(monkeypatch, capfd, tmp_path):
    (tmp_path / "file").write_text("")
    line = fails(monkeypatch, capfd, "run", "--recipe", "glyphs", "--root", tmp_path / "file" / "root")
    assert "cannot be written" in line and str(tmp_path / "file" / "root") in line


def test_root_that_another_run_holds(monkeypatch, capfd, tmp_path):
    from longtail.pipeline.local import root_folder

    with root_folder.hold(str(tmp_path)):
        assert "another run" in fails(monkeypatch, capfd, "run", "--recipe", "glyphs", "--root", tmp_path)


def test_span_zero(monkeypatch, capfd, tmp_path):
    line = fails(monkeypatch, capfd, "run", "--recipe", "glyphs", "--root", tmp_path / "r", "--span", 0)
    assert "--span must be a whole number from 1 to" in line and line.endswith("not 0")


def test_a_recipe_is_checked_whole_before_data_are_looked_for(monkeypatch, capfd, tmp_path):
    words = ("--recipe", "glyphs", "--data", tmp_path / "none", "--set", "evaluation.floor_map=7")
    for command in (("run", "--root", tmp_path / "root"), ("study", "--json", tmp_path / "study.json")):
        line = fails(monkeypatch, capfd, *command, *words)
        assert line.endswith("glyphs.yaml with --set: evaluation.floor_map must be a number from 0 to 1, not 7.0")
    assert not any(tmp_path.iterdir())


def test_recipe_shows_each_value_with_where_it_is_from_and_what_it_may_be(monkeypatch, capfd):
    words = ("recipe", "glyphs", "--set", "training.rate=1e-3", "--set", "head={name: arcface}", "--json")
    assert runs.longtail(monkeypatch, *words) == 0
    shown = {row.pop("key"): row for row in json.loads(capfd.readouterr().out)["settings"]}
    assert shown["training.rate"] == {
        "value": 0.001,
        "from": "--set",
        "allowed": "a number from 1e-12 to 1000",
        "meaning": "the highest learning rate",
    }
    assert (shown["head.name"]["value"], shown["head.name"]["from"]) == ("arcface", "--set")
    assert (shown["head.scale"]["value"], shown["head.scale"]["from"]) == (24.0, "default")
    assert (shown["model.image"]["value"], shown["model.image"]["from"]) == ([32, 32, 1], "file")


def test_recipe_prints_every_key(monkeypatch, capfd):
    from longtail.models import settings
    from longtail.pipeline import recipe

    assert runs.longtail(monkeypatch, "recipe", "omniglot_lt") == 0
    printed = capfd.readouterr().out
    assert all(f" {one.key} " in printed for one in settings.walk(recipe.load("omniglot_lt")))


@pytest.mark.parametrize("words", [("try", "--root", "none"), ("serve", "--model", "none")])
def test_nothing_to_serve(monkeypatch, capfd, words):
    assert "none" in fails(monkeypatch, capfd, *words)


def test_try_of_no_folder_and_of_a_root_without_a_finished_run(monkeypatch, capfd, tmp_path):
    assert "no such folder" in fails(monkeypatch, capfd, "try", "--root", tmp_path / "none")
    assert "no summary.json there" in fails(monkeypatch, capfd, "try", "--root", tmp_path)


def test_a_root_with_a_pattern_in_its_path(monkeypatch, capfd, tmp_path):
    line = fails(monkeypatch, capfd, "run", "--recipe", "glyphs", "--root", tmp_path / "r[1]")
    assert "r[1]" in line and "choose another folder" in line


def test_a_name_with_an_escape_sequence_and_a_line_break_is_printed_without_them(monkeypatch, capfd, tmp_path):
    words = ("run", "--recipe", "glyphs", "--data", f"{tmp_path}/\x1b[31m\nx", "--root", tmp_path)
    line = fails(monkeypatch, capfd, *words)
    assert r"\x1b[31m\nx" in line


@pytest.mark.parametrize(("identities", "per_identity", "said"), [(2, 3, "to train on"), (8, 1, "can be scored")])
def test_images_that_cannot_be_trained_on_or_scored(monkeypatch, capfd, tmp_path, identities, per_identity, said):
    data = images(tmp_path / "d", identities, per_identity)
    words = ("run", "--recipe", "glyphs", "--data", data, "--root", tmp_path / "root")
    assert said in fails(monkeypatch, capfd, *words)
    assert not (tmp_path / "root").exists()


def test_a_vanilla_cloud_without_a_head_class(monkeypatch, capfd, tmp_path):
    words = ("run", "--recipe", "glyphs", "--root", tmp_path / "root", "--set", "rebalance.strategy=cap")
    settings = ("--set", "rebalance.cap=5", "--set", "leap.variant=vanilla", "--set", "leap.head_threshold=5")
    assert "leap.head_threshold: 5 leaves" in fails(monkeypatch, capfd, *words, *settings)
    assert not (tmp_path / "root").exists()


def test_a_signal_is_raised_where_the_run_is_and_a_second_one_would_end_the_process():
    with pytest.raises(errors.Stopped) as stopped, signals.stops():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.exit_status == 143 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def comes_at_a_line(number, line):
    """Waits for a signal, which comes when so many lines of Python ran; False where fewer ran and it came later."""
    came_at: list[int] = []
    lines = itertools.count()

    def come(where: int) -> None:
        came_at.append(where)
        os.kill(os.getpid(), number)

    def trace(frame, event, argument):
        if event == "line" and not came_at and next(lines) == line:
            come(line)
        return trace

    later = threading.Timer(0.3, lambda: came_at or come(-1))
    with signals.asked_to_stop() as stop:
        later.start()
        sys.settrace(trace)
        try:
            stop.wait()
        finally:
            sys.settrace(None)
            later.cancel()
    return came_at == [line]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_at_whichever_line_of_the_wait_it_comes(number, capfd):
    """At each in turn, and at last where none runs; a lock that is taken in Python would be held at some of them."""
    waits = next(line + 1 for line in itertools.count() if not comes_at_a_line(number, line))
    assert waits > 1
    said = f"  {number.name}: finishing the requests under way; once more ends at once\n"
    assert capfd.readouterr().err == said * waits


@pytest.mark.timeout(20)
def test_a_signal_that_wakes_another_thread_is_heard():
    """As one does not wake this thread that comes on its last step before it sleeps."""
    with signals.asked_to_stop() as stop:
        threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
        stop.wait()


def test_signals_of_both_kinds_are_one_wait(capfd):
    with signals.asked_to_stop() as stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert stop.is_asked()
        stop.wait()
    assert [line.split(":")[0].strip() for line in capfd.readouterr().err.splitlines()] == ["SIGTERM", "SIGINT"]


def test_a_study_that_is_stopped_says_what_is_kept(processes, tmp_path):
    glyphs = "glyphs:identities=40,head=5,head_images=8,tail_images=4,size=20"
    words = ["study", "--recipe", runs.RECIPE, "--data", glyphs, "--settings", "H5S3", "--methods", "cosface"]
    words += ["--set", "training.epochs=400", "--json", tmp_path / "s.json"]
    with processes.popen("longtail.pipeline.cli", *words, stderr=subprocess.PIPE) as process:
        for line in process.stderr:
            if "epoch 2/400" in line:
                break
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait() == 130
    assert said.endswith("longtail: stopped after 0 finished trainings; the same command goes on\n")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--methods", "leap-xy", "unknown 'leap-xy'"),
        ("--methods", "cosface:z=3", "unknown 'z'; write KEY=VALUE with s, m,"),
        ("--settings", "100", "is not H<head identities>S<tail images>"),
        ("--settings", "H100S4,H100S0", "H100S0: rebalance.tail_images must be 1 or more"),
        ("--methods", "cosface,arcface:m=2", "arcface:m=2: head.margin must be a number from 0 to 1.6, not 2.0"),
        ("--seeds", 0, "at least 1"),
    ],
)
def test_study_that_cannot_be(monkeypatch, capfd, tmp_path, option, value, said):
    words = ("study", "--recipe", "omniglot_lt", "--data", images(tmp_path / "d"), option, value)
    assert said in fails(monkeypatch, capfd, *words)


def test_study_that_would_write_over_another(monkeypatch, capfd, tmp_path):
    data = images(tmp_path / "d", identities=6)
    words = ("study", "--recipe", "omniglot_lt", "--data", data, "--settings", "H1S1", "--methods", "cosface", "--json")
    (tmp_path / "list.json").write_text("[]")
    assert "holds something else than a study" in fails(monkeypatch, capfd, *words, tmp_path / "list.json")
    assert "is a folder" in fails(monkeypatch, capfd, *words, tmp_path)
    assert "cannot be written" in fails(monkeypatch, capfd, *words, tmp_path / "list.json" / "x.json")


def test_data_that_is_an_empty_word(monkeypatch, capfd):
    assert "--data" in fails(monkeypatch, capfd, "study", "--recipe", "omniglot_lt", "--data", "")


def test_root_in_a_bucket(monkeypatch, capfd):
    assert "local folder" in fails(monkeypatch, capfd, "run", "--recipe", "glyphs", "--root", "gs://b/root")


def test_unknown_command_is_bad_usage(monkeypatch, capfd):
    assert runs.longtail(monkeypatch, "trian") == 2


def test_an_error_that_nobody_foresaw_is_one_line_and_traced_where_that_is_asked_for(monkeypatch, capfd, tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    assert runs.longtail(monkeypatch, "try", "--root", tmp_path) == 1
    line = "longtail: error: KeyError: 'pushed_model'; LONGTAIL_DEBUG=1 shows where\n"
    assert capfd.readouterr().err == line
    monkeypatch.setenv("LONGTAIL_DEBUG", "1")
    assert runs.longtail(monkeypatch, "try", "--root", tmp_path) == 1
    said = capfd.readouterr().err
    assert said.startswith("Traceback") and said.endswith(line)
