"""A watch outlives what is out of reach for a while, and tells of it once."""

import threading

from longtail.models import errors
from longtail.serving.model_server.config import watcher


def test_a_poll_that_fails_is_polled_again():
    calls, again = [], threading.Event()

    def poll():
        calls.append(None)
        if len(calls) == 1:
            raise OSError("out of reach")
        again.set()

    watching = watcher.Watcher([poll], seconds=0.001)
    watching.start()
    assert again.wait(timeout=60)
    watching.stop()


def test_what_fails_in_the_same_way_round_after_round_is_told_once(caplog):
    def poll():
        raise errors.UsageError(words[0])

    words = ["first"]
    watching = watcher.Watcher([poll], seconds=1.0)
    watching.look()
    watching.look()
    words[0] = "second"
    watching.look()
    assert [record.message.partition(";")[0] for record in caplog.records] == ["first", "second"]
    assert not caplog.records[0].exc_info


def test_a_watcher_never_started_stops_at_once():
    watcher.Watcher([], seconds=1.0).stop()
