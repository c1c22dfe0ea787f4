"""Requests are put together and taken apart again; each gets its own answer, and none is run in vain."""

import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest

from longtail.serving.model_server.batching import scheduler as batching
from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import servable as servable_lib
from tests.serving.model_server import small_models

FOREVER = 3600 * 10**6  # microseconds


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return small_models.write(tmp_path_factory.mktemp("rows") / "1")


@pytest.fixture
def servable(path):
    loaded = servable_lib.Servable("rows", 1, path)
    yield loaded
    assert loaded.wait_idle(60)
    loaded.close()


class Run:
    """A scheduler whose runs of one signature wait until they may go."""

    def __init__(self, servable, signature="double", most_bytes=1 << 30, **options):
        self.servable = servable
        self.name = signature
        self.scheduler = batching.Scheduler(batching.Options(**{"num_batch_threads": 1, **options}), most_bytes)
        self._signature = servable.signatures[signature]
        self._run = self._signature.run_rows
        self.begun, self.may_go = threading.Semaphore(0), threading.Event()
        self.may_go.set()
        self._signature.run_rows = self._slow

    def _slow(self, *asked):
        self.begun.release()
        assert self.may_go.wait(60)
        return self._run(*asked)

    def submit(self, inputs, output_filter=(), deadline=None):
        """The future answer to a request, and its ticket."""
        answer = futures.Future()
        inputs = inputs if isinstance(inputs, dict) else {"x": np.array(inputs, np.float32)}
        assert self.servable.acquire()
        try:
            done = answer.set_result
            answer.ticket = self.scheduler.submit(self.servable, self.name, inputs, output_filter, deadline, done)
        finally:
            self.servable.release()
        return answer

    def hold(self):
        """Keeps the only thread busy with a request, so that those that follow wait; returns its answer."""
        self.may_go.clear()
        self.begun = threading.Semaphore(0)
        held = self.submit([[0.0]])
        assert self.begun.acquire(timeout=60)
        return held


@pytest.fixture
def start(servable):
    runs = []

    def started(**options):
        runs.append(Run(servable, **options))
        return runs[-1]

    yield started
    for run in runs:
        run.may_go.set()
        run.scheduler.stop()


def rows(answers):
    return [answer.result(60)["at_once"].tolist() for answer in answers]


def seen(run):
    """How many rows the model was given so far, this one among them."""
    return run.submit([[0.0]]).result(60)["in_all"][0]


def test_requests_that_wait_share_a_batch_and_each_gets_its_own_rows(start):
    run = start(batch_timeout_micros=0)
    run.hold()
    answers = [run.submit(np.full((count, 3), number)) for number, count in enumerate([1, 2, 3])]
    run.may_go.set()
    for number, answer in enumerate(answers):
        np.testing.assert_array_equal(answer.result(60)["y"], np.full((number + 1, 3), 2.0 * number))
    assert rows(answers) == [[6], [6, 6], [6, 6, 6]]


def test_a_batch_is_no_larger_than_it_may_be(start):
    run = start(max_batch_size=4, batch_timeout_micros=0)
    run.hold()
    answers = [run.submit([[1.0]] * 3), run.submit([[2.0]] * 2), run.submit([[3.0]] * 2)]
    run.may_go.set()
    assert rows(answers) == [[3] * 3, [4] * 2, [4] * 2]


@pytest.mark.parametrize(
    ("waiting", "sizes"),
    [(5, [4, 1]), (7, [6, 1]), (10, [8, 2]), (11, [8, 3]), (15, [12, 3]), (20, [16, 4]), (23, [16, 6, 1])],
)
def test_a_batch_of_many_small_requests_has_one_of_few_sizes(start, waiting, sizes):
    run = start(max_batch_size=32, batch_timeout_micros=0)
    run.hold()
    answers = [run.submit([[1.0]]) for _ in range(waiting)]
    run.may_go.set()
    assert rows(answers) == [[size] for size in sizes for _ in range(size)]


def test_a_batch_is_not_made_much_smaller_for_its_size(start):
    run = start(max_batch_size=32, batch_timeout_micros=0)
    run.hold()
    answers = [run.submit([[1.0]] * 5), run.submit([[2.0]] * 5), run.submit([[3.0]])]
    run.may_go.set()
    assert rows(answers) == [[11] * 5, [11] * 5, [11]]


def test_a_larger_request_runs_alone(start):
    run = start(max_batch_size=4, batch_timeout_micros=0)
    run.hold()
    answers = [run.submit([[1.0]]), run.submit([[2.0]] * 9), run.submit([[3.0]])]
    run.may_go.set()
    assert rows(answers) == [[2], [9] * 9, [2]]


def test_requests_of_other_shapes_do_not_meet(start):
    run = start(batch_timeout_micros=0)
    run.hold()
    answers = [run.submit([[1.0]]), run.submit([[1.0, 2.0]])]
    run.may_go.set()
    assert rows(answers) == [[1], [1]]


def test_requests_for_different_outputs_share_a_batch_and_get_what_they_asked_for(start):
    run = start(batch_timeout_micros=0)
    run.hold()
    answers = [run.submit([[1.0]], ["at_once"]), run.submit([[2.0]], ["y", "at_once"])]
    run.may_go.set()
    assert [sorted(answer.result(60)) for answer in answers] == [["at_once"], ["at_once", "y"]]
    assert rows(answers) == [[2], [2]]


def test_only_the_guilty_request_of_a_batch_fails(start):
    run = start(batch_timeout_micros=0)
    run.hold()
    answers = [run.submit([[1.0]]), run.submit([[-1.0]]), run.submit([[3.0]])]
    run.may_go.set()
    good, bad, fine = [answer.result(60) for answer in answers]
    assert (good["y"].item(), fine["y"].item()) == (2.0, 6.0)
    assert bad.code == grpc.StatusCode.INVALID_ARGUMENT and "minus one was asked" in bad.message
    assert "\n" not in bad.message


def test_an_error_of_the_servers_own_tells_nothing_of_the_code(start, servable):
    run = start()

    def fail(parts):
        raise ZeroDivisionError("secret of the code")

    run._run = fail
    found = run.submit([[1.0]]).result(60)
    assert found.code == grpc.StatusCode.INTERNAL and "secret" not in found.message


def test_a_lone_request_does_not_wait_for_others(start):
    run = start(batch_timeout_micros=FOREVER)
    assert run.submit([[1.0]]).result(60)["y"].item() == 2.0


def test_a_full_batch_does_not_wait_for_others(start):
    run = start(batch_timeout_micros=FOREVER, max_batch_size=2, num_batch_threads=2)
    run.hold()
    answers = [run.submit([[1.0]]), run.submit([[2.0]])]
    run.may_go.set()
    assert rows(answers) == [[2], [2]]


def test_requests_wait_no_longer_than_the_timeout_while_another_thread_is_busy(start):
    run = start(batch_timeout_micros=1000, num_batch_threads=2)
    run.hold()
    answer = run.submit([[1.0]])
    assert run.begun.acquire(timeout=60)
    run.may_go.set()
    assert answer.result(60)["y"].item() == 2.0


def test_a_full_queue_is_refused(start):
    run = start(max_batch_size=2, max_enqueued_batches=2)
    run.hold()
    answers = [run.submit([[1.0]]) for _ in range(4)]
    with pytest.raises(request_errors.RequestError) as raised:
        run.submit([[1.0]])
    assert raised.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED and "queue" in raised.value.message
    run.may_go.set()
    assert rows(answers) == [[2]] * 4


def test_what_is_refused_leaves_the_model_free(start, servable):
    run = start(max_batch_size=1, max_enqueued_batches=1)
    run.hold()
    waiting = run.submit([[1.0]])
    with pytest.raises(request_errors.RequestError):
        run.submit([[1.0]])
    run.may_go.set()
    waiting.result(60)
    assert servable.wait_idle(60)


def test_requests_that_hold_too_much_memory_are_refused_until_others_are_over(start):
    run = start(max_batch_size=1, most_bytes=100)
    held = run.hold()
    waiting = run.submit([[1.0] * 24])
    with pytest.raises(request_errors.RequestError, match="memory") as raised:
        run.submit([[1.0]])
    assert raised.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert waiting.ticket.cancel()
    again = run.submit([[1.0] * 24])
    run.may_go.set()
    assert held.result(60) and again.result(60)["y"].size == 24


def test_a_request_larger_than_all_may_be_together_is_run_where_it_is_the_only_one(start):
    assert start(most_bytes=1).submit([[1.0, 2.0]]).result(60)["y"].tolist() == [[2.0, 4.0]]


def test_models_take_turns_however_many_requests_one_of_them_has(start, path):
    run = start(max_batch_size=1)
    other = servable_lib.Servable("other", 1, path)
    order = []
    run.hold()
    for number in range(3):
        run.submit([[1.0]]).add_done_callback(lambda _, number=number: order.append(number))
    answer = futures.Future()
    answer.add_done_callback(lambda _: order.append("other"))
    run.scheduler.submit(other, "double", {"x": np.zeros((1, 1), np.float32)}, (), None, answer.set_result)
    run.may_go.set()
    run.submit([[1.0]]).result(60)
    assert order == ["other", 0, 1, 2]
    other.close()


def test_an_expired_request_is_told_so_and_never_computed(start):
    run = start(batch_timeout_micros=0)
    before = seen(run)
    held = run.hold()
    late = run.submit([[1.0]] * 100, deadline=time.monotonic() - 1.0)
    in_time = run.submit([[1.0]], deadline=time.monotonic() + 3600.0)
    run.may_go.set()
    assert late.result(60).code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert in_time.result(60)["y"].item() == 2.0 and held.result(60)
    assert seen(run) == before + 3


def test_a_cancelled_request_is_never_computed_nor_answered(start):
    run = start(batch_timeout_micros=0)
    before = seen(run)
    run.hold()
    cancelled, other = run.submit([[1.0]] * 100), run.submit([[1.0]])
    assert cancelled.ticket.cancel()
    run.may_go.set()
    assert rows([other]) == [[1]]
    assert seen(run) == before + 3
    assert not cancelled.done() and not cancelled.ticket.cancel()


def test_a_request_that_is_run_cannot_be_cancelled(start):
    run = start()
    held = run.hold()
    assert not held.ticket.cancel()
    run.may_go.set()
    assert held.result(60)["y"].item() == 0.0


def test_a_retired_model_is_held_until_its_requests_are_over(start, servable):
    run = start()
    assert servable.acquire()
    held = run.hold()
    servable.retire()
    waiting = futures.Future()
    # The front end holds the model; that it is retired since is no reason to refuse the request.
    inputs = {"x": np.array([[1.0]], np.float32)}
    run.scheduler.submit(servable, "double", inputs, (), None, waiting.set_result)
    servable.release()
    assert not servable.wait_idle(0.0)
    run.may_go.set()
    assert held.result(60) and waiting.result(60)["y"].item() == 2.0
    assert servable.wait_idle(60)


def test_a_signature_whose_output_has_no_rows_runs_each_request_alone(start):
    run = start(signature="total", batch_timeout_micros=0)
    run.may_go.clear()
    answers = [run.submit([1.0, number]) for number in range(3)]
    run.may_go.set()
    assert [answer.result(60)["total"].item() for answer in answers] == [1.0, 2.0, 3.0]


def test_a_signature_whose_outputs_turn_out_to_have_other_rows_runs_each_request_alone(start, servable):
    run = start(signature="distinct", batch_timeout_micros=0)
    run.may_go.clear()
    first = run.submit([1.0])
    assert run.begun.acquire(timeout=60)
    answers = [run.submit([2.0, 2.0]), run.submit([2.0, 3.0])]
    run.may_go.set()
    assert first.result(60)["distinct"].tolist() == [1.0]
    assert [answer.result(60)["distinct"].tolist() for answer in answers] == [[2.0], [2.0, 3.0]]
    assert not servable.signatures["distinct"].has_rows


def test_inputs_of_different_rows_run_alone(start):
    run = start(signature="outer")
    inputs = {"x": np.array([1.0, 2.0], np.float32), "y": np.array([3.0], np.float32)}
    assert run.submit(inputs).result(60)["outer"].tolist() == [[3.0], [6.0]]


def test_an_empty_request_is_run(start):
    assert start().submit(np.zeros((0, 3))).result(60)["y"].shape == (0, 3)


def test_strings_share_a_batch_whichever_input_is_sent_first(start):
    run = start(signature="join", batch_timeout_micros=0)
    run.may_go.clear()
    a, b = np.array([b"a"], object), np.array([b"\x00" * 30], object)
    answers = [run.submit(inputs) for inputs in ({"a": a, "b": b}, {"b": b, "a": a}, {"a": b, "b": a})]
    run.may_go.set()
    found = [answer.result(60)["joined"].tolist() for answer in answers]
    assert found == [[b"a" + b"\x00" * 30], [b"a" + b"\x00" * 30], [b"\x00" * 30 + b"a"]]


@pytest.mark.parametrize(
    ("inputs", "output_filter", "said"),
    [
        ({}, (), "Missing but required: {x}"),
        ({"x": np.zeros((1, 1), np.float64)}, (), "DT_DOUBLE"),
        ({"x": np.zeros(1, np.float32)}, (), "shape"),
        ({"x": np.zeros((1, 1), np.float32)}, ("z",), "output tensor alias not found"),
    ],
)
def test_what_does_not_fit_the_signature_is_refused_at_once(start, servable, inputs, output_filter, said):
    run = start()
    with pytest.raises(request_errors.RequestError, match=said) as raised:
        run.submit(inputs, output_filter)
    assert raised.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert servable.wait_idle(0.0)


def test_stopping_runs_what_waits_and_refuses_the_rest(start):
    run = start(batch_timeout_micros=FOREVER)
    held = run.hold()
    waiting = run.submit([[1.0]])
    run.scheduler.stop()
    with pytest.raises(request_errors.RequestError) as raised:
        run.submit([[2.0]])
    assert raised.value.code == grpc.StatusCode.UNAVAILABLE
    run.may_go.set()
    assert held.result(60) and waiting.result(60)["y"].item() == 2.0


def test_an_answer_that_cannot_be_given_leaves_the_others(start):
    run = start(batch_timeout_micros=0)
    run.hold()
    broken, other = run.submit([[1.0]]), run.submit([[2.0]])
    broken.ticket.done = lambda result: 1 / 0
    run.may_go.set()
    assert other.result(60)["y"].item() == 4.0


def test_many_clients_at_once_each_get_their_own_answers(start):
    run = start(num_batch_threads=3, max_batch_size=16, batch_timeout_micros=500)

    def ask(seed):
        random = np.random.default_rng(seed)
        for _ in range(20):
            x = random.normal(size=(random.integers(1, 20), random.integers(1, 3))).astype(np.float32)
            np.testing.assert_array_equal(run.submit(x).result(60)["y"], x * 2)

    with futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert run.scheduler.waiting() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_batch_size": 0}, "max_batch_size must be at least 1"),
        ({"num_batch_threads": 0}, "num_batch_threads must be at least 1"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must not be below 0"),
    ],
)
def test_options_that_cannot_be_are_bad(options, said):
    with pytest.raises(ValueError, match=said):
        batching.Options(**options)
