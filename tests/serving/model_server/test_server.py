"""The server starts, takes up new versions without failing a request, drains, and says why where it cannot start."""

import base64
import contextlib
import dataclasses
import re
import socket
import threading
from concurrent import futures

import grpc
import httpx
import pytest
from tensorflow_serving.apis import get_model_status_pb2

from longtail.models import errors
from longtail.models.export import signatures
from longtail.serving import client
from longtail.serving.model_server import server as server_lib
from tests.serving import conftest

STATE = get_model_status_pb2.ModelVersionStatus


def options(model_folder, **changes):
    free = server_lib.Options(str(model_folder), grpc_port=0, rest_port=0, poll_s=0.05)
    return dataclasses.replace(free, **changes)


def test_requests_never_fail_while_a_new_version_takes_over(model_folder):
    seen, failures, done = set(), [], threading.Event()
    answered = {1: threading.Event(), 2: threading.Event()}

    def ask(address):
        try:
            with client.Client(address, "tiny") as opened:
                while not done.is_set():
                    version = opened.embed([conftest.encode(0)]).model_version
                    seen.add(version)
                    answered[version].set()
        except Exception as error:  # a gap may show in any way; whichever, it is one
            failures.append(error)
            for event in answered.values():
                event.set()

    with server_lib.ModelServer(options(model_folder)) as server:
        asking = threading.Thread(target=ask, args=[server.grpc_address])
        asking.start()
        assert answered[1].wait(timeout=120)
        conftest.push(model_folder / "1", model_folder, 2)
        assert server.source.wait_for(2, STATE.AVAILABLE, timeout_s=120)
        assert answered[2].wait(timeout=120)
        done.set()
        asking.join()
    assert not failures and seen == {1, 2}


def test_from_the_moment_a_version_is_available_it_answers(model_folder):
    with server_lib.ModelServer(options(model_folder)) as server, client.Client(server.grpc_address, "tiny") as opened:
        conftest.push(model_folder / "1", model_folder, 2)
        assert server.source.wait_for(2, STATE.AVAILABLE, timeout_s=120)
        assert opened.embed([conftest.encode(0)]).model_version == 2


def test_a_broken_version_is_told_by_the_running_server_which_serves_on(model_folder):
    with server_lib.ModelServer(options(model_folder)) as server, client.Client(server.grpc_address, "tiny") as opened:
        conftest.push_broken(model_folder, 2)
        assert server.source.wait_for(2, STATE.END, timeout_s=120)
        broken, serving = opened.status()
        assert (broken.version, broken.state, serving.state) == (2, "END", "AVAILABLE")
        assert broken.error
        assert opened.embed([conftest.encode(0)]).model_version == 1


def test_both_ports_are_free_again_after_stopping(model_folder):
    with server_lib.ModelServer(options(model_folder)) as server:
        ports = [int(address.rpartition(":")[2]) for address in (server.grpc_address, server.rest_address)]
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def ask_over_grpc(server):
    with client.Client(server.grpc_address, "tiny") as opened:
        return opened.embed([conftest.encode(0)]).status.tolist()


def ask_over_rest(server):
    body = {"instances": [{"b64": base64.b64encode(conftest.encode(0)).decode()}]}
    url = f"http://{server.rest_address}/v1/models/tiny:predict"
    rows = httpx.post(url, json=body, trust_env=False, timeout=60).json()["predictions"]
    return [row["status"] for row in rows]


@pytest.mark.parametrize(("ask", "wait"), [(ask_over_grpc, "grpc"), (ask_over_rest, "rest")])
def test_a_request_under_way_is_answered_before_the_server_stops(model_folder, ask, wait):
    server = server_lib.ModelServer(options(model_folder))
    server.start()
    begun, may_go = threading.Event(), threading.Event()
    signature = server.source.get().signatures[signatures.SERVING]
    run = signature.run_rows

    def slow_run(*asked):
        begun.set()
        may_go.wait()
        return run(*asked)

    signature.run_rows = slow_run
    with futures.ThreadPoolExecutor() as pool:
        asking = pool.submit(ask, server)
        assert begun.wait(timeout=60)
        stopping = pool.submit(server.stop)
        wait_until_stopping(server.grpc_address) if wait == "grpc" else wait_until_refused(server.rest_address)
        may_go.set()
        stopping.result()
        assert asking.result() == [0]


def wait_until_stopping(address):
    """Returns when the gRPC side at `address` takes no more calls."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")
        while code_of(call) != grpc.StatusCode.UNAVAILABLE:
            continue


def code_of(call):
    with pytest.raises(grpc.RpcError) as raised:
        call(b"", timeout=60)
    return raised.value.code()


def wait_until_refused(address):
    """Returns when nobody listens at `address` any more, or the test's time is over."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
        while True:
            socket.create_connection((host, int(port))).close()


def test_stopping_drains_while_a_version_is_being_loaded_and_does_not_wait_for_it_beyond_the_grace(model_folder):
    server = server_lib.ModelServer(options(model_folder, grace_s=0.1))
    loading, may_end = threading.Event(), threading.Event()
    poll = server.models.poll

    def slow_poll():
        if threading.current_thread().name != "watcher":
            return poll()
        loading.set()
        may_end.wait()

    server.models.poll = slow_poll
    server.start()
    assert loading.wait(timeout=60)
    address = server.grpc_address
    server.stop()
    wait_until_refused(address)
    may_end.set()


def test_an_error_of_the_servers_own_tells_the_client_nothing_of_the_code(model_folder):
    with server_lib.ModelServer(options(model_folder)) as server:

        def fail(*asked):
            raise ZeroDivisionError("secret of the code")

        server.source.get = fail
        reply = httpx.post(
            f"http://{server.rest_address}/v1/models/tiny:predict", json={"instances": ["a"]}, trust_env=False
        )
        with client.Client(server.grpc_address, "tiny") as opened, pytest.raises(errors.WorkError) as raised:
            opened.embed([b"a"])
    assert reply.status_code == 500 and "secret" not in reply.text
    assert "INTERNAL" in str(raised.value) and "secret" not in str(raised.value)


@pytest.mark.parametrize(("key", "option"), [("grpc_port", "--grpc-port"), ("rest_port", "--rest-port")])
def test_a_taken_port_is_named_with_the_option_to_change(model_folder, key, option):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(errors.UsageError, match=f"port {port} on 127.0.0.1 is taken; .*{option}"):
            server_lib.ModelServer(options(model_folder, **{key: port})).start()


def test_one_port_for_both_sides_is_taken_by_the_first(model_folder):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    with pytest.raises(errors.UsageError, match=f"port {port} .*--rest-port"):
        server_lib.ModelServer(options(model_folder, grpc_port=port, rest_port=port)).start()


def test_a_port_that_is_none_is_bad_usage(model_folder):
    with pytest.raises(errors.UsageError, match="from 0 to 65535. Received: 70000"):
        server_lib.ModelServer(options(model_folder, grpc_port=70000)).start()


def test_an_address_of_another_machine_is_bad_usage(model_folder):
    with pytest.raises(errors.UsageError, match="cannot listen on 192.0.2.1"):
        server_lib.ModelServer(options(model_folder, host="192.0.2.1")).start()


def test_a_model_folder_without_a_version_does_not_start(tmp_path):
    with pytest.raises(errors.UsageError, match="no version folder"):
        server_lib.ModelServer(options(tmp_path)).start()


def test_a_model_of_which_no_version_loads_is_failed_work(tmp_path):
    conftest.push_broken(tmp_path, 1)
    with pytest.raises(errors.WorkError, match="no version loads .version 1: .*; export it again") as raised:
        server_lib.ModelServer(options(tmp_path)).start()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("folder", "name"), [("a/tiny", "tiny"), ("a/tiny/", "tiny"), ("a/b/../tiny", "tiny")])
def test_a_model_is_called_as_its_folder(folder, name):
    assert server_lib.Options(folder).model_name == name


def test_the_server_listens_on_loopback_by_default(server):
    assert re.fullmatch(r"127\.0\.0\.1:\d+", server.grpc_address)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", server.rest_address)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_all_addresses_of_ipv6_are_those_of_ipv4_too_on_both_ports(model_folder):
    with server_lib.ModelServer(options(model_folder, host="::")) as server:
        ports = [int(address.rpartition(":")[2]) for address in (server.grpc_address, server.rest_address)]
        for host in ("127.0.0.1", "::1"):
            for port in ports:
                socket.create_connection((host, port), timeout=60).close()


def test_servers_at_once_and_one_after_another_share_one_event_loop(model_folder, caplog):
    with server_lib.ModelServer(options(model_folder)) as first:
        for _ in range(3):
            with server_lib.ModelServer(options(model_folder)) as other:
                assert [ask_over_grpc(other), ask_over_rest(other)] == [[0], [0]]
                assert [ask_over_grpc(first), ask_over_rest(first)] == [[0], [0]]
    assert [thread.name for thread in threading.enumerate()].count("event-loop") == 1
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_a_stopped_server_is_out_of_reach(model_folder):
    with server_lib.ModelServer(options(model_folder)) as server:
        address = server.grpc_address
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")
        with pytest.raises(grpc.RpcError) as raised:
            call(b"")
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
