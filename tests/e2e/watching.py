"""`python -m tests.e2e.watching FOLDER WORDS`: `longtail WORDS`, whose own runs the fork server of a session starts."""

import sys

from longtail.pipeline.cli import app
from longtail.pipeline.watch import child

if __name__ == "__main__":
    folder = sys.argv.pop(1)
    child.LONGTAIL = (sys.executable, "-m", "tests.forked", folder, "longtail.pipeline.cli")
    app.main()
