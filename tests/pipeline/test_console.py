"""What a command shows of longtail's own log, of how far it is, and of what went wrong."""

import io
import re
import signal

import pytest
import rich.console

from longtail.models import errors
from longtail.models.training import position
from longtail.pipeline import console


def fail():
    raise ValueError("of our own making")


def test_a_fault_of_ours_is_traced_where_no_log_file_has_it(capfd):
    with console.lines():
        try:
            fail()
        except ValueError:
            console.log.exception("it failed")
    shown = capfd.readouterr().err
    assert "  it failed\n" in shown and "in fail" in shown and "ValueError: of our own making" in shown


def test_names_of_files_in_a_log_line_cannot_move_the_cursor_or_begin_a_line(capfd):
    with console.lines():
        console.log.info("left out %s", "a\x1b[2J\nb.png")
    assert capfd.readouterr().err == "  left out a\\x1b[2J\\nb.png\n"


def test_an_error_that_nobody_foresaw_is_one_line_and_its_traceback_is_in_the_log_file(tmp_path, capfd):
    with pytest.raises(errors.WorkError) as found, console.quiet(str(tmp_path / "run.log")):
        fail()
    assert str(found.value) == f"ValueError: of our own making; {tmp_path / 'run.log'} has its traceback"
    assert "in fail" in (tmp_path / "run.log").read_text() and not capfd.readouterr().err


def test_an_error_that_tells_its_user_what_to_do_passes_as_it_is(tmp_path):
    with pytest.raises(errors.UsageError, match="^name another$"), console.quiet(str(tmp_path / "run.log")):
        raise errors.UsageError("name another")


def train(until, steps=10, epochs=4):
    """Tells what a training of so many epochs tells, up to (epochs done, steps of the next)."""
    for step in range(until[0] * steps + until[1] + 1):
        position.tell(position.Position(step // steps, epochs, step % steps, steps))


@pytest.fixture
def terminal():
    """A console that takes its file for a terminal."""
    return rich.console.Console(file=io.StringIO(), force_terminal=True, width=120)


def frames(terminal):
    """What was on the terminal each time it was drawn."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.file.getvalue()).split("Trainer")


def test_a_terminal_shows_how_far_an_epoch_and_all_epochs_are_and_the_time_they_take_yet(terminal):
    with console.Steps(terminal) as steps:
        steps.start("Trainer", 12, 16)
        train((1, 5))
    last = frames(terminal)[-1]
    assert re.search(r"epoch 2/4 .* 5/10 .* s left", last) and re.search(r"all epochs .* 15/40 .* s left", last)


def test_a_training_that_has_ended_leaves_no_bar(terminal):
    with console.Steps(terminal) as steps:
        steps.start("Trainer", 12, 16)
        train((4, 0))
    assert "epoch" not in frames(terminal)[-1] and "12/16" in frames(terminal)[-1]


def test_what_is_no_terminal_gets_no_bars():
    plain = rich.console.Console(file=io.StringIO())
    with console.Steps(plain) as steps:
        steps.start("Trainer", 12, 16)
        train((1, 5))
    assert plain.file.getvalue() == "Trainer ...\n"


@pytest.mark.parametrize(
    ("until", "where"),
    [(None, "in Trainer"), ((0, 9), "in Trainer"), ((3, 2), "after epoch 3 of 4"), ((4, 0), "after epoch 4 of 4")],
)
def test_a_run_that_is_stopped_says_how_far_it_came(terminal, until, where):
    with pytest.raises(errors.Stopped) as stopped, console.Steps(terminal) as steps:
        steps.start("Trainer", 12, 16)
        if until:
            train(until)
        raise errors.Stopped(signal.SIGTERM)
    assert str(stopped.value) == f"stopped {where}; the same command goes on"
