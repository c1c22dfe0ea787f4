"""The watch for new versions outlives a folder that is out of reach for a while."""

import threading

from longtail.serving.model_server.config import watcher


def test_a_poll_that_fails_is_told_and_polled_again(caplog):
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
    assert "trying again" in caplog.text


def test_a_watcher_never_started_stops_at_once():
    watcher.Watcher([], seconds=1.0).stop()
