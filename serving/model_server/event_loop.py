"""An event loop in a thread of its own: gRPC and REST are answered there, models run elsewhere."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any
from typing import TypeVar

import uvloop

_T = TypeVar("_T")


class EventLoop:
    """The loop, which runs from now on until `close`."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="event-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What `work` returns, run in the loop; from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Ends the loop and its thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
