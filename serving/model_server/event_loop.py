"""The event loop, in a thread of its own, in which gRPC and REST are answered; models run elsewhere.

There is one for all servers of a process, and it runs until the process ends. `grpc.aio` waits for the network in one
thread, and wakes every loop that it ever met whenever anything comes for one of them: with a loop for each server they
take each other's wake-ups, those of closed loops among them.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any
from typing import TypeVar

import grpc
import uvloop

_T = TypeVar("_T")

_lock = threading.Lock()
_running: asyncio.AbstractEventLoop | None = None


def _loop() -> asyncio.AbstractEventLoop:
    global _running
    with _lock:
        if _running is None:
            _running = uvloop.new_event_loop()
            # Else gRPC ends its thread when the last server is collected as garbage, and that in any thread.
            _running.call_soon(grpc.aio.init_grpc_aio)
            threading.Thread(target=_running.run_forever, name="event-loop", daemon=True).start()
        return _running


def call(work: Coroutine[Any, Any, _T]) -> _T:
    """What `work` returns, run in the loop; from any other thread."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()
