"""What a run writes down of itself, so that running it again is the same run."""

from longtail.models.training import position
from longtail.pipeline.local import record
from longtail.pipeline.local import run


def log_into(folder, name):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"requests")


def test_a_request_log_that_grew_is_read_anew_but_by_a_run_that_was_cut_after_the_gate_passed_it(tmp_path):
    log, where = tmp_path / "log", run.places(str(tmp_path), "small")
    log_into(log, "1.tfrecord")
    before = record.Record(str(tmp_path), "id", where, 1, "f").pins(str(log))
    log_into(log, "2.tfrecord")
    one = record.Record(str(tmp_path), "id", where, 1, "f")
    passed = one.pins(str(log))
    assert passed["request_log"] == str(log) and passed != before
    one.accept(str(log), passed["request_listing"])
    log_into(log, "3.tfrecord")
    cut = record.Record(str(tmp_path), "id", where, 1, "f")
    assert cut.pins(str(log)) == passed
    cut.finish([str(log)])
    assert cut.pins(str(log))["request_listing"] != passed["request_listing"]  # a finished run looks again


def test_another_request_log_than_the_gate_passed_is_read(tmp_path):
    where = run.places(str(tmp_path), "small")
    one = record.Record(str(tmp_path), "id", where, 1, "f")
    assert one.pins("")["request_listing"] == ""
    one.accept("", "")
    log_into(tmp_path / "log", "1.tfrecord")
    assert one.pins(str(tmp_path / "log"))["request_listing"]


def account(root):
    """A session's, of the same run each time."""
    return record.Account(record.Record(str(root), "id", run.places(str(root), "small"), 1, "f"))


def test_seconds_of_sessions_that_did_not_finish_count(tmp_path):
    cut = account(tmp_path)
    cut.end("ImageExampleGen", 5.0)
    cut.end("Trainer", 3.0)
    resumed = account(tmp_path)
    resumed.end("ImageExampleGen", 0.0)  # the cache's answer
    resumed.end("Trainer", 4.0)
    assert resumed.total() == {"ImageExampleGen": 5.0, "Trainer": 7.0}


def test_what_a_component_has_spent_is_written_while_it_is_at_work(tmp_path):
    killed = account(tmp_path)
    killed.start("Trainer")
    killed.watch(position.Position(done=2, epochs=4, step=0, steps=10))
    assert account(tmp_path).total()["Trainer"] >= 0.0


def test_a_finished_run_that_is_run_again_starts_a_new_account(tmp_path):
    one = record.Record(str(tmp_path), "id", run.places(str(tmp_path), "small"), 1, "f")
    record.Account(one).end("Trainer", 3.0)
    one.finish([str(tmp_path)])
    assert account(tmp_path).total() == {}
