"""`python -m tests.forked FOLDER MODULE WORDS`: what `python -m MODULE WORDS` does, by the fork server of a session.

For what starts a process by its command, where that would import TFX for each. It says the process's id first.
"""

import pathlib
import signal
import sys

from tests import processes


def main() -> None:
    """Runs the module; hands signals on, and ends as it does."""
    folder, *words = sys.argv[1:]
    started = processes.Processes(pathlib.Path(folder))
    with started.popen(*words) as process:
        print(f"process {process.pid}", file=sys.stderr, flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda got, frame: process.send_signal(got))
        status = process.wait()
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
