"""What a command shows of longtail's own log."""

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
