"""Takes deliveries as they come: runs each span once it is whole, in order, and goes on whatever came of it."""

import dataclasses
import datetime
import os
import time
from collections.abc import Callable

from longtail.models import errors
from longtail.pipeline.local import root_folder
from longtail.pipeline.watch import child
from longtail.pipeline.watch import deliveries as deliveries_lib
from longtail.pipeline.watch import journal as journal_lib


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to watch.

    Attributes:
      root: folder of the runs.
      first: the first span's number.
      interval_s: pause between two looks; without a marker also how long a delivery must stay as it is, seconds.
      skip_gaps: whether a span is taken though the one before it is not there.
      once: whether to end when what is there is done.
    """

    root: str
    first: int = 1
    interval_s: float = 10.0
    skip_gaps: bool = False
    once: bool = False


class Watcher:
    """Runs deliveries.

    A span whose data was accepted is done for good. One that was rejected is run again when its delivery has changed;
    one whose run failed, also when another watch begins.

    Args:
      plan: how to watch.
      deliveries: what to watch.
      journal: what was run before; a run is added when it has ended.
      command: the command that runs a span.
      say: called with a line whenever the watch turns to something else.
    """

    def __init__(
        self,
        plan: Plan,
        deliveries: deliveries_lib.Deliveries,
        journal: journal_lib.Journal,
        command: Callable[[int], list[str]],
        say: Callable[[str], None],
    ):
        self._plan = plan
        self._deliveries = deliveries
        self._journal = journal
        self._command = command
        self._say = say
        self._state = ""
        self._running = 0  # the span at work; 0 between two
        self._seen: dict[int, tuple[str, float]] = {}  # what was last seen of a delivery, and since when
        # What was run of each span; of one that failed before this watch, nothing.
        last = journal.last().items()
        self._ran = {span: "" if one.outcome == journal_lib.FAILED else one.data for span, one in last}

    def watch(self, tell: Callable[[journal_lib.Entry], None]) -> None:
        """Runs what comes until it is stopped, or, with `once`, what is there.

        Args:
          tell: called with each run that has ended.

        Raises:
          errors.Stopped: by a signal; a run that was at work has been stopped, and goes on at the next watch.
          errors.UsageError: a run was refused for what every other would be refused for.
          errors.WorkError: with `once`, where a run pushed nothing.
        """
        try:
            came = self._take(tell)
        except errors.Stopped as stop:
            stop.where = f"in span {self._running}, {stop.where}" if self._running else "between two runs"
            raise
        self._turn("ended: all that was there is done")
        if short := [f"{one.span} ({one.outcome})" for one in came if one.outcome != journal_lib.PUSHED]:
            raise errors.WorkError(
                f"{len(short)} of {len(came)} runs pushed nothing: span {', '.join(short)}; "
                f"{journal_lib.JOURNAL_FILE} in {self._plan.root} says why"
            )

    def _take(self, tell: Callable[[journal_lib.Entry], None]) -> list[journal_lib.Entry]:
        """Runs what is ready as long as the watch goes on; what came of it."""
        came, waited = [], False
        while True:
            ready = self._next()
            if ready is not None:
                came.append(self._run(*ready))
                tell(came[-1])
            elif self._plan.once and (waited or self._deliveries.marker):
                return came
            else:
                time.sleep(self._plan.interval_s)
                waited = True

    def _turn(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._say(state)

    def _next(self) -> tuple[int, str] | None:
        """The next span to run and what is delivered of it; None where none is ready."""
        last = self._journal.last()
        there = [span for span in self._deliveries.spans() if span >= self._plan.first]
        awaited = self._plan.first
        while awaited in self._ran:
            awaited += 1
        fresh = [span for span in there if span not in self._ran]
        if self._plan.skip_gaps:
            awaited = fresh[0] if fresh else awaited
        ready = {span: data for span in there if (data := self._whole(span, last.get(span)))}
        again = [span for span in ready if span in self._ran]
        in_turn = [awaited] if awaited in ready else []
        if again or in_turn:
            span = min(again + in_turn)
            return span, ready[span]
        if fresh or not self._plan.once:
            self._turn(self._waiting(awaited, fresh))
        return None

    def _waiting(self, awaited: int, fresh: list[int]) -> str:
        if awaited in fresh:
            lacking = f"has no {self._deliveries.marker} yet" if self._deliveries.marker else "may still be growing"
            return f"span {awaited} is there and {lacking}"
        if fresh:
            return (
                f"span {fresh[0]} is there and waits for span {awaited}, which is not; --skip-gaps goes on without it, "
                "--first begins later"
            )
        return f"waiting for span {awaited}"

    def _whole(self, span: int, before: journal_lib.Entry | None) -> str:
        """What is delivered of a span that is to be run; "" where it is not to be, or is not known to be whole."""
        if before is not None and before.outcome in journal_lib.DONE:
            return ""
        data = self._deliveries.look(span)
        if not data or data == self._ran.get(span):
            return ""
        if self._deliveries.marker:
            return data
        now = time.monotonic()
        seen, since = self._seen.get(span, ("", now))
        if seen != data:
            self._seen[span] = seen, since = data, now
        return data if now - since >= self._plan.interval_s else ""

    def _run(self, span: int, data: str) -> journal_lib.Entry:
        result = None
        while result is None or root_folder.BUSY in result.error:  # somebody took the root before the run did
            root_folder.wait_for(
                self._plan.root, lambda: self._turn(f"span {span} waits for the run that is at work in the root")
            )
            began, now = time.monotonic(), datetime.datetime.now(datetime.timezone.utc)
            log = os.path.join(self._plan.root, "logs", f"watch-{now:%Y%m%d-%H%M%S}-span-{span}.log")
            self._turn(f"span {span} is running; what it says is in {log}")
            self._running = span
            result = child.run(self._command(span), log)
            self._running = 0
        if result.exit_status == errors.UsageError.exit_status and not self._is_about(span, result.error):
            raise errors.UsageError(result.error)
        started = now.isoformat(timespec="seconds")
        one = journal_lib.entry(span, started, time.monotonic() - began, data, log, result)
        self._ran[span] = data
        self._journal.add(one)
        return one

    def _is_about(self, span: int, error: str) -> bool:
        """Whether an error is a delivery's own, such as an archive that cannot be opened: the next may be sound."""
        return error.startswith(tuple(map(errors.shown, (self._deliveries.path(span), self._deliveries.pattern))))
