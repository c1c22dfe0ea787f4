"""What a client of the REST side may do to the server's memory, time and connections is bounded."""

import contextlib
import gzip
import json
import socket
import threading

import httpx
import numpy as np
import pytest

from longtail.models.export import signatures
from longtail.serving.model_server import event_loop
from longtail.serving.model_server.batching import asking
from longtail.serving.model_server.batching import scheduler as batching
from longtail.serving.model_server.rest import api
from longtail.serving.model_server.rest import application as rest
from longtail.serving.model_server.rest import bodies as rest_bodies
from longtail.serving.model_server.rest import server as rest_server
from longtail.serving.model_server.runtime import models as models_lib

PREDICT = "/v1/models/tiny:predict"
BODY = json.dumps({"signature_name": "pixels", "instances": [[[[0]] * 16] * 16]}).encode()


@pytest.fixture(scope="module")
def models(tiny_saved_model):
    """The tiny model, loaded."""
    served = models_lib.Models()
    served.reload(models_lib.one("tiny", str(tiny_saved_model)))
    yield served
    served.close(10.0)


@pytest.fixture
def serve(models):
    """Starts a REST server with limits of the test's own; returns its port."""
    servers = []
    with contextlib.ExitStack() as started:

        def start(scheduler=None, served=models, **limits):
            bounds = rest_bodies.Limits(**limits)
            listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
            server = rest_server.RestServer(listener, bounds)
            scheduler = scheduler or started.enter_context(stopped(batching.Scheduler()))
            answers = api.Api(served, asking.Asker(scheduler), bounds.timeout_s)
            event_loop.call(server.start(rest.Application(answers, bounds), grace_s=1.0))
            servers.append(server)
            started.callback(lambda: event_loop.call(server.stop()))
            return server.port

        start.servers = servers
        yield start


@contextlib.contextmanager
def stopped(scheduler):
    yield scheduler
    scheduler.stop()


@contextlib.contextmanager
def busy(models):
    """A scheduler whose only thread has a request under way, so that others wait; and what ends that request."""
    servable = models.get("tiny")
    signature = servable.signatures[signatures.SERVING]
    begun, may_end, run = threading.Event(), threading.Event(), signature.run_rows

    def slow_run(*asked):
        begun.set()
        may_end.wait()
        return run(*asked)

    one = batching.Options(num_batch_threads=1)
    with stopped(batching.Scheduler(one)) as scheduler, pytest.MonkeyPatch.context() as patch:
        patch.setattr(signature, "run_rows", slow_run)
        servable.acquire()
        scheduler.submit(servable, "", {"image_bytes": np.array([b"a"], object)}, (), None, lambda result: None)
        assert begun.wait(60)
        try:
            yield scheduler, may_end
        finally:
            may_end.set()
            servable.release()


@contextlib.contextmanager
def connected(port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        yield connection


def head(length, path=PREDICT):
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode()


def status(connection):
    """The status of the answer that comes first; 0 where the connection is closed without one."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while b"\r\n" not in received and (part := connection.recv(4096)):
            received += part
    return int(received.split()[1]) if received else 0


def post(port, **content):
    return httpx.post(f"http://127.0.0.1:{port}{PREDICT}", trust_env=False, timeout=60, **content)


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(serve):
    with connected(serve(max_body_bytes=100)) as connection:
        connection.sendall(head(101))
        assert status(connection) == 413


def test_a_body_that_does_not_say_its_size_is_refused_while_it_comes(serve):
    with connected(serve(max_body_bytes=100)) as connection:
        connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        connection.sendall(b"65\r\n" + b" " * 101 + b"\r\n")  # and never ends
        assert status(connection) == 413


def test_who_is_refused_and_sends_on_for_ever_is_cut_off(serve):
    with connected(serve(max_body_bytes=100_000)) as connection:
        connection.sendall(head(10**12))
        assert status(connection) == 413
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                connection.sendall(bytes(100_000))


def test_a_packed_body_is_read(serve):
    reply = post(serve(), content=gzip.compress(BODY), headers={"content-encoding": "gzip"})
    assert [row["status"] for row in reply.json()["predictions"]] == [0]


@pytest.mark.parametrize(
    ("body", "code"),
    [(gzip.compress(bytes(10**6)), 413), (gzip.compress(BODY)[:-9], 400), (b"no gzip", 400), (b"", 400)],
    ids=["too large", "cut", "no gzip", "empty"],  # gzip's words tell the time, so they name no test
)
def test_a_packed_body_that_is_too_large_or_broken_is_refused(serve, body, code):
    reply = post(serve(max_body_bytes=10**5), content=body, headers={"content-encoding": "gzip"})
    assert reply.status_code == code and "\n" not in reply.json()["error"]


def wait_until(holds):
    """Asks again and again; the test's time ends it where that never holds."""
    while not holds():
        continue


def test_more_requests_at_once_than_allowed_are_refused(serve):
    port = serve(max_in_flight=1)
    with connected(port) as connection:
        connection.sendall(head(100))
        wait_until(lambda: post(port, content=BODY).status_code == 429)
        assert httpx.get(f"http://127.0.0.1:{port}{rest.LIVE}", trust_env=False).status_code == 200
    wait_until(lambda: post(port, content=BODY).status_code == 200)


def test_more_connections_than_allowed_are_refused(serve):
    port = serve(max_connections=1)
    with connected(port) as kept:
        kept.sendall(head(len(BODY)) + BODY)
        assert status(kept) == 200
        with connected(port) as refused:
            refused.sendall(head(len(BODY)) + BODY)
            assert status(refused) == 503


def test_a_connection_without_requests_is_closed(serve):
    with connected(serve(keep_alive_s=1)) as connection:
        connection.sendall(head(len(BODY)) + BODY)
        assert status(connection) == 200
        while connection.recv(4096):
            continue


def test_bodies_that_are_too_large_together_are_refused(serve):
    port, part = serve(max_body_bytes=1000), head(1000) + b" " * 900
    with contextlib.ExitStack() as waiting:
        for _ in range(9):
            waiting.enter_context(connected(port)).sendall(part)
        wait_until(lambda: post(port, content=b" " * 900).status_code == 429)
    wait_until(lambda: post(port, content=b" " * 900).status_code == 400)


@pytest.mark.parametrize("sent", [head(100), head(100) + b"{"], ids=["no body", "half a body"])
def test_who_does_not_finish_a_body_is_told_so_and_cut_off(serve, sent):
    with connected(serve(timeout_s=0.1)) as connection:
        connection.sendall(sent)
        assert status(connection) == 408
        while connection.recv(4096):
            continue


def test_requests_on_one_connection_are_answered_in_turn(serve):
    with connected(serve()) as connection:
        connection.sendall(head(len(BODY)) + BODY + head(1) + b"{")
        received = b""
        while b"JSON Parse error" not in received:
            received += connection.recv(4096)
        assert received.index(b"HTTP/1.1 200") < received.index(b"HTTP/1.1 400")


def test_a_request_whose_client_hung_up_is_not_run(serve, models):
    with busy(models) as (scheduler, _):
        port = serve(scheduler=scheduler)
        with connected(port) as connection:
            connection.sendall(head(len(BODY)) + BODY)
            wait_until(scheduler.waiting)
        wait_until(lambda: not scheduler.waiting())


def test_a_request_that_takes_too_long_is_answered_and_not_run(serve, models):
    with busy(models) as (scheduler, _):
        reply = post(serve(scheduler=scheduler, timeout_s=0.1), content=BODY)
        assert reply.status_code == 504 and "0.1 s" in reply.json()["error"]
        wait_until(lambda: not scheduler.waiting())


def test_a_request_that_outlasts_the_grace_is_told_so(serve, models):
    with busy(models) as (scheduler, _), connected(serve(scheduler=scheduler)) as connection:
        connection.sendall(head(len(BODY)) + BODY)
        wait_until(scheduler.waiting)
        [server] = serve.servers
        event_loop.call(server.stop())
        assert (status(connection), scheduler.waiting()) == (503, 0)


def test_requests_over_rest_share_a_batch(serve, models, monkeypatch):
    pixels, batches = models.get("tiny").signatures[signatures.PIXELS], []
    run = pixels.run_rows
    monkeypatch.setattr(pixels, "run_rows", lambda parts, *asked: batches.append(len(parts)) or run(parts, *asked))
    with busy(models) as (scheduler, may_end):
        port = serve(scheduler=scheduler)
        with connected(port) as first, connected(port) as second:
            for connection in (first, second):
                connection.sendall(head(len(BODY)) + BODY)
            wait_until(lambda: scheduler.waiting() == 2)
            may_end.set()
            assert [status(first), status(second)] == [200, 200]
    assert batches == [2]


def test_an_offer_to_upgrade_is_told_how_to_ask(serve):
    upgrade = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABk"}
    reply = post(serve(), content=BODY, headers=upgrade)
    assert reply.status_code == 400 and "ask in HTTP/1.1 alone" in reply.json()["error"]


@pytest.mark.parametrize("sent", [b"\0\0\0\0", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\0"])
def test_what_is_no_http_is_a_bad_request(serve, sent):
    with connected(serve()) as connection:
        connection.sendall(sent)
        assert status(connection) == 400


def test_large_json_is_read_and_answered_as_small_is(serve):
    pixels = [[[[0]] * 16] * 16] * 300
    rows = post(serve(), json={"signature_name": "pixels", "instances": pixels}).json()["predictions"]
    assert [row["status"] for row in rows] == [0] * 300


def test_an_image_is_not_kept_waiting_by_an_idle_client(serve):
    port = serve()
    with contextlib.ExitStack() as idle:
        for _ in range(100):
            idle.enter_context(connected(port)).sendall(b"POST /v1/mod")
        body = json.dumps({"instances": ["not an image"]}).encode()
        assert post(port, content=body).json()["predictions"][0]["status"] == 1


def test_health_is_told_while_nothing_serves(serve, models):
    port = serve()
    assert httpx.get(f"http://127.0.0.1:{port}{rest.READY}", trust_env=False).status_code == 200
    empty = models_lib.Models()
    empty.begin_stop()
    with stopped(batching.Scheduler()) as scheduler:
        port = serve(scheduler, empty)
        assert httpx.get(f"http://127.0.0.1:{port}{rest.READY}", trust_env=False).status_code == 503
        assert httpx.get(f"http://127.0.0.1:{port}{rest.LIVE}", trust_env=False).status_code == 200
