"""The gRPC server of our own is one to stock clients, whatever becomes of them, and leaves nothing behind."""

import gzip
import threading
import time
import tracemalloc
import zlib
from concurrent import futures

import grpc
import pytest
import trustme
from google.protobuf import message as message_lib
from grpc._cython import cygrpc

from longtail.serving.model_server import auth
from longtail.serving.model_server import grpc_call
from longtail.serving.model_server import grpc_core
from longtail.serving.model_server import grpc_waiting
from longtail.serving.model_server import packed
from longtail.serving.model_server import request_errors
from longtail.serving.model_server import tls as tls_lib

LOCAL = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]


class Handlers:
    """Methods that reply at once, later, or not."""

    def __init__(self):
        self.pool = futures.ThreadPoolExecutor(4)
        self.calls, self.cancelled = [], threading.Semaphore(0)
        self.begun, self.may_go = threading.Semaphore(0), threading.Event()

    def methods(self):
        """By name."""
        heavy = {"Wait", "Never"}
        return {
            f"/test.Test/{name}": grpc_call.Method(getattr(self, name.lower()), is_light=name not in heavy)
            for name in ("Echo", "Later", "Wait", "Never", "Fail", "Bug", "Noise")
        }

    def echo(self, call, message):
        """Replies in the polling thread."""
        call.reply(message)

    def later(self, call, message):
        """Replies from another thread."""
        self.pool.submit(call.run_soon, lambda: call.reply(message))

    def wait(self, call, message):
        """Replies when it may."""
        self.begun.release()
        self.pool.submit(lambda: self.may_go.wait(60) and call.reply(message))

    def never(self, call, message):
        """Waits for the client to give up."""

        def cancel():
            self.cancelled.release()
            return True

        call.on_cancel = cancel
        self.calls.append(call)
        self.begun.release()

    def fail(self, call, message):
        """Fails with the request as its message."""
        raise request_errors.invalid(message.decode())

    def bug(self, call, message):
        """Has a fault."""
        raise ZeroDivisionError("secret of the code")

    def noise(self, call, message):
        """Cannot read what it got."""
        raise message_lib.DecodeError("of protobuf's own")


@pytest.fixture
def handlers():
    made = Handlers()
    yield made
    made.may_go.set()
    made.pool.shutdown()


@pytest.fixture
def serve(handlers):
    servers = []

    def start(options=(), limits=None, tokens=auth.ANYONE, credentials=None):
        options = [("grpc.so_reuseport", 0), *options]
        server = grpc_core.Server(handlers.methods(), options, limits or grpc_core.Limits(), tokens)
        address = f"127.0.0.1:{server.listen('127.0.0.1:0', credentials)}"
        server.start()
        servers.append(server)
        return server, address

    yield start
    handlers.may_go.set()
    for server in servers:
        assert server.stop(0.0)


@pytest.fixture
def channels():
    opened = []

    def connect(address):
        opened.append(grpc.insecure_channel(address, options=LOCAL))
        return opened[-1]

    yield connect
    for channel in opened:
        channel.close()


@pytest.fixture
def method(serve, channels):
    """A method of a running server, by name."""
    _, address = serve()
    channel = channels(address)
    return lambda name: channel.unary_unary(f"/test.Test/{name}")


def failure(call, message=b"", **options):
    with pytest.raises(grpc.RpcError) as raised:
        call(message, timeout=60, **options)
    return raised.value.code(), raised.value.details()


def wait_until_over(server):
    """Returns when the server has no call any more, or the test's time is over."""
    while server.in_flight():
        continue


def test_grpcio_has_what_we_use_of_its_inside():
    used = {
        cygrpc.CompletionQueue: ["poll"],
        cygrpc.Server: [
            *("register_completion_queue", "add_http2_port", "start", "request_call"),
            *("shutdown", "cancel_all_calls", "destroy"),
        ],
        cygrpc.Call: ["start_server_batch", "cancel"],
        cygrpc.RequestCallEvent: ["call", "call_details", "invocation_metadata", "success", "tag"],
        cygrpc.CallDetails: ["method", "deadline"],
        cygrpc.BatchOperationEvent: ["batch_operations", "tag"],
        cygrpc.ReceiveMessageOperation: ["message"],
        cygrpc.CompletionType: ["queue_timeout"],
        cygrpc: [
            *("SendInitialMetadataOperation", "SendMessageOperation", "SendStatusFromServerOperation"),
            "ReceiveCloseOnServerOperation",
        ],
    }
    missing = [f"{owner}.{name}" for owner, names in used.items() for name in names if not hasattr(owner, name)]
    assert not missing
    for code in grpc.StatusCode:
        assert int(getattr(cygrpc.StatusCode, code.name.lower())) == code.value[0]


@pytest.mark.parametrize("name", ["Echo", "Later"])
@pytest.mark.parametrize("message", [b"", b"hello", b"x" * 3_000_000])
def test_a_reply_comes_from_whichever_thread(method, name, message):
    assert method(name)(message, timeout=60) == message


def test_many_calls_at_once_each_get_their_own_reply(method):
    call = method("Later")
    messages = [str(number).encode() for number in range(500)]
    assert [reply.result() for reply in [call.future(each, timeout=60) for each in messages]] == messages


def test_a_method_that_is_not_there_is_unimplemented(method):
    assert failure(method("Other"))[0] == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("said", ["plain", "ünïcødé 图 %41%", "100% \x07"])
def test_the_words_of_an_error_arrive_as_they_were_said(method, said):
    assert failure(method("Fail"), said.encode()) == (grpc.StatusCode.INVALID_ARGUMENT, said)


def test_an_error_is_one_line_and_not_too_long_for_the_client(method):
    code, details = failure(method("Fail"), b"first\nsecond" + "é".encode() * 50_000)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and details.startswith("first second")
    assert 900 < len(details) < 1100 and set(details[12:]) == {"é"}


def test_a_fault_of_ours_tells_the_client_nothing_of_the_code(method, caplog):
    code, details = failure(method("Bug"))
    assert code == grpc.StatusCode.INTERNAL and "secret" not in details
    assert "secret of the code" in caplog.text


def test_a_message_that_cannot_be_read_is_internal_as_grpc_says_it(method, caplog):
    code, details = failure(method("Noise"))
    assert code == grpc.StatusCode.INTERNAL and "protobuf" not in details and not caplog.records


def test_a_client_whose_deadline_comes_is_not_replied_to(serve, channels, handlers):
    server, address = serve()
    with pytest.raises(grpc.RpcError) as raised:
        channels(address).unary_unary("/test.Test/Never")(b"", timeout=0.05)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert handlers.cancelled.acquire(timeout=60)
    wait_until_over(server)


def test_a_deadline_is_known_and_none_is_none(method, handlers):
    calls = [method("Never").future(b"", timeout=seconds) for seconds in (1000, None)]
    for _ in calls:
        assert handlers.begun.acquire(timeout=60)
    deadlines = [call.deadline for call in handlers.calls]
    assert deadlines.count(None) == 1
    for call in calls:
        call.cancel()


def test_a_call_that_is_cancelled_is_over(serve, channels, handlers):
    server, address = serve()
    call = channels(address).unary_unary("/test.Test/Never").future(b"")
    assert handlers.begun.acquire(timeout=60)
    call.cancel()
    assert handlers.cancelled.acquire(timeout=60)
    wait_until_over(server)


def test_clients_that_hang_up_leave_nothing_behind(serve, channels, handlers):
    server, address = serve()
    calls = [channels(address).unary_unary(f"/test.Test/{name}").future(b"") for name in ("Never", "Wait")]
    for _ in calls:
        assert handlers.begun.acquire(timeout=60)
    channel = channels(address)
    for each in calls:
        each.cancel()
    channel.close()
    handlers.may_go.set()  # whose reply meets nobody
    wait_until_over(server)


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_messages_than_one_is_no_crash(serve, channels, count):
    server, address = serve()
    call = channels(address).stream_unary("/test.Test/Echo")
    if count:
        assert call(iter([b"one", b"two"]), timeout=60) == b"one"
    else:
        with pytest.raises(grpc.RpcError) as raised:
            call(iter([]), timeout=60)
        assert raised.value.code() == grpc.StatusCode.INTERNAL
    wait_until_over(server)


def test_a_request_beyond_the_limit_is_refused(serve, channels):
    _, address = serve(limits=grpc_core.Limits(request_bytes=1000))
    call = channels(address).unary_unary("/test.Test/Echo")
    assert failure(call, b"x" * 1001)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(b"x" * 1000, timeout=60)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_packed_request_is_unpacked_and_refused_beyond_the_limit_too(serve, channels, compression):
    server, address = serve(limits=grpc_core.Limits(request_bytes=10_000))
    call = channels(address).unary_unary("/test.Test/Echo")
    assert call(b"y" * 10_000, timeout=60, compression=compression) == b"y" * 10_000
    code, said = failure(call, b"y" * 10_001, compression=compression)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "unpacked" in said  # by us: the core would do it without end
    wait_until_over(server)


@pytest.mark.parametrize("most", [100, 100_000])
def test_the_cores_own_limit_counts_for_what_is_packed_too(serve, channels, most):
    _, address = serve([("grpc.max_receive_message_length", most)], limits=grpc_core.Limits(request_bytes=1000))
    call = channels(address).unary_unary("/test.Test/Echo")
    assert call(gzip.compress(bytes(most)), timeout=60) == bytes(most)
    assert failure(call, gzip.compress(bytes(most + 1)))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_what_is_given_up_while_it_is_unpacked_is_not_handled(serve, channels, handlers, monkeypatch):
    server, address = serve()
    call = channels(address).unary_unary("/test.Test/Wait")
    begun, may_go = threading.Semaphore(0), threading.Event()
    unpack = packed.unpack_message

    def slow(message, most):
        begun.release()
        assert may_go.wait(60)
        return unpack(message, most)

    monkeypatch.setattr(packed, "unpack_message", slow)
    asked = call.future(gzip.compress(b"given up"))
    assert begun.acquire(timeout=60)
    asked.cancel()
    [under_way] = server._under_way()
    while not under_way._is_closed:
        time.sleep(0.001)
    may_go.set()
    wait_until_over(server)
    assert not handlers.begun.acquire(blocking=False)


def test_what_is_packed_and_given_up_is_not_unpacked(serve, channels, monkeypatch):
    server, address = serve()
    call = channels(address).unary_unary("/test.Test/Echo")
    begun, may_go, unpacked = threading.Semaphore(0), threading.Event(), []
    unpack = packed.unpack_message

    def slow(message, most):
        unpacked.append(message)
        begun.release()
        assert may_go.wait(60)
        return unpack(message, most)

    monkeypatch.setattr(packed, "unpack_message", slow)
    first, given_up, other = gzip.compress(b"first"), gzip.compress(b"given up"), gzip.compress(b"other")
    held = call.future(first)
    assert begun.acquire(timeout=60)
    with pytest.raises(grpc.RpcError):
        call(given_up, timeout=0.05)
    last = call.future(other)
    may_go.set()
    assert (held.result(60), last.result(60)) == (b"first", b"other")
    assert unpacked == [first, other]
    wait_until_over(server)


def test_a_packed_request_that_asks_no_model_is_unpacked_to_a_megabyte(serve, channels, handlers):
    _, address = serve()
    light, heavy = (channels(address).unary_unary(f"/test.Test/{name}") for name in ("Echo", "Wait"))
    assert failure(light, gzip.compress(bytes(2 << 20)))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert light(gzip.compress(bytes(1 << 20)), timeout=60) == bytes(1 << 20)
    asked = heavy.future(gzip.compress(bytes(2 << 20)))
    assert handlers.begun.acquire(timeout=60)
    asked.cancel()


def test_a_request_that_only_looks_packed_is_taken_as_it_is(serve, channels):
    _, address = serve()
    call = channels(address).unary_unary("/test.Test/Echo")
    for message in (b"\x78\x01\x0a\x00", b"\x1f\x8b\x08", zlib.compress(bytes(1000))[:-5]):
        assert call(message, timeout=60) == message


def test_a_packed_request_takes_no_more_memory_than_it_may(serve, channels):
    _, address = serve(limits=grpc_core.Limits(request_bytes=1 << 20))
    call = channels(address).unary_unary("/test.Test/Echo")
    bomb = gzip.compress(bytes(1 << 28))
    tracemalloc.start()
    try:
        code, _ = failure(call, bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert most < 1 << 24  # of Python's memory, in which it is unpacked


def test_calls_beyond_the_limit_are_refused_but_for_light_ones(serve, channels, handlers):
    server, address = serve(limits=grpc_core.Limits(calls=2))
    channel = channels(address)
    held = [channel.unary_unary("/test.Test/Wait").future(b"") for _ in range(2)]
    for _ in held:
        assert handlers.begun.acquire(timeout=60)
    assert failure(channel.unary_unary("/test.Test/Wait"))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert channel.unary_unary("/test.Test/Echo")(b"light", timeout=60) == b"light"
    handlers.may_go.set()
    assert [call.result(60) for call in held] == [b"", b""]
    wait_until_over(server)
    assert channel.unary_unary("/test.Test/Wait")(b"again", timeout=60) == b"again"


def test_a_client_too_slow_to_send_its_request_is_cut_off(serve, channels):
    server, address = serve(limits=grpc_core.Limits(stall_s=0.1))
    may_end = threading.Event()

    def requests():
        may_end.wait(60)
        yield b""

    call = channels(address).stream_unary("/test.Test/Echo").future(requests())
    assert call.exception(60).code() == grpc.StatusCode.CANCELLED
    may_end.set()
    wait_until_over(server)


class Slow:
    """A call whose client has not taken its reply."""

    def __init__(self, is_stalled):
        self._is_stalled = is_stalled
        self.is_cancelled = False

    def is_stalled(self, before):
        """Whether it has had its time."""
        return self._is_stalled

    def cancel(self):
        """Takes note."""
        self.is_cancelled = True


@pytest.mark.parametrize("is_stalled", [True, False])
def test_replies_nobody_takes_are_bounded_and_the_stalest_are_cancelled(is_stalled):
    replies, old, new = grpc_waiting.Replies(100), Slow(is_stalled), Slow(False)
    assert replies.add(old, 90)
    assert not replies.add(new, 20) and old.is_cancelled is is_stalled  # it counts until the core lets go of it
    replies.remove(old)
    assert replies.add(new, 20) and replies.add(new, 20)  # once
    replies.remove(new)
    assert replies.add(Slow(False), 100)


def test_a_reply_waits_for_room():
    replies, old, new = grpc_waiting.Replies(100), Slow(False), Slow(False)
    assert replies.add(old, 90)
    threading.Thread(target=replies.remove, args=[old]).start()
    assert replies.add(new, 20, wait_s=60)


def test_a_reply_larger_than_the_bound_goes_where_no_other_waits(serve, channels):
    server, address = serve(limits=grpc_core.Limits(reply_bytes=0))
    echo, large = channels(address).unary_unary("/test.Test/Echo"), b"x" * (1 << 20)
    for _ in range(2):
        assert echo(large, timeout=60) == large
        wait_until_over(server)


def test_a_reply_for_which_there_is_no_room_is_an_error(serve, channels):
    server, address = serve()
    server.may_send = lambda call, size: False
    assert failure(channels(address).unary_unary("/test.Test/Later"))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    wait_until_over(server)


def tokens(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("0123456789abcdef0123\n")
    file.chmod(0o600)
    return auth.Tokens(str(file), {})


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer wrong"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer 0123456789abcdef0123"),), None),
    ],
)
@pytest.mark.parametrize("name", ["Echo", "Other"])
def test_without_a_token_nothing_is_answered(serve, channels, tmp_path, headers, code, name):
    _, address = serve(tokens=tokens(tmp_path))
    call = channels(address).unary_unary(f"/test.Test/{name}")
    if code is None and name == "Echo":
        assert call(b"in", metadata=headers, timeout=60) == b"in"
    else:
        assert failure(call, metadata=headers)[0] == (code or grpc.StatusCode.UNIMPLEMENTED)


@pytest.mark.parametrize("mutual", [False, True])
def test_tls_lets_in_who_trusts_it_and_mutual_tls_whom_it_trusts(serve, mutual):
    ca = trustme.CA()
    own, theirs = ca.issue_cert("localhost"), ca.issue_cert("client")
    anchor = ca.cert_pem.bytes()
    chain = b"".join(pem.bytes() for pem in own.cert_chain_pems)
    server = tls_lib.Server(chain, own.private_key_pem.bytes(), anchor if mutual else None)
    _, address = serve(credentials=server.grpc_credentials())
    address = address.replace("127.0.0.1", "localhost")
    known = grpc.ssl_channel_credentials(
        anchor, theirs.private_key_pem.bytes(), b"".join(pem.bytes() for pem in theirs.cert_chain_pems)
    )
    with grpc.secure_channel(address, known, LOCAL) as channel:
        assert channel.unary_unary("/test.Test/Later")(b"secret", timeout=60) == b"secret"
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(anchor), LOCAL) as channel:
        call = channel.unary_unary("/test.Test/Echo")
        if mutual:
            assert failure(call)[0] == grpc.StatusCode.UNAVAILABLE
        else:
            assert call(b"public", timeout=60) == b"public"


def test_stopping_answers_what_is_under_way_and_refuses_the_rest(serve, channels, handlers):
    server, address = serve()
    channel = channels(address)
    held = channel.unary_unary("/test.Test/Wait").future(b"held", timeout=60)
    assert handlers.begun.acquire(timeout=60)
    stopping = handlers.pool.submit(server.stop, 60.0)
    echo, code = channel.unary_unary("/test.Test/Echo"), None
    while code is None:
        try:
            echo(b"", timeout=60)
        except grpc.RpcError as error:
            code = error.code()
    assert code == grpc.StatusCode.UNAVAILABLE and not stopping.done()
    handlers.may_go.set()
    assert held.result() == b"held"
    assert stopping.result(60)


def test_stopping_cancels_what_is_under_way_when_the_grace_is_over(serve, channels, handlers):
    server, address = serve()
    held = channels(address).unary_unary("/test.Test/Never").future(b"")
    assert handlers.begun.acquire(timeout=60)
    assert server.stop(0.0)
    assert held.exception(60).code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    assert handlers.cancelled.acquire(timeout=60)


def test_a_server_stops_once_however_often_it_is_told(serve):
    server, _ = serve()
    assert server.stop(0.0) and server.stop(0.0)


def test_a_server_that_never_started_lets_its_port_go(handlers):
    server = grpc_core.Server(handlers.methods(), [("grpc.so_reuseport", 0)])
    address = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
    assert server.stop(0.0)
    other = grpc_core.Server(handlers.methods(), [("grpc.so_reuseport", 0)])
    assert other.listen(address)
    assert other.stop(0.0)


def test_a_taken_port_cannot_be_bound(serve, handlers):
    _, address = serve()
    other = grpc_core.Server(handlers.methods(), [("grpc.so_reuseport", 0)])
    with pytest.raises(RuntimeError):
        other.listen(address)
    assert other.stop(0.0)
