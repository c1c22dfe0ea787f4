"""Reads bearer tokens from a file, for the server that asks for one and the client that brings one."""

import os
import stat

from longtail.models import errors


def read(path: str) -> list[str]:
    """The tokens in a file, one a line; blank lines and those that begin with # are none.

    Raises:
      UsageError: it cannot be read, or others than its owner and group can read it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            lines = [line.strip() for line in file]
    except OSError as error:
        raise errors.UsageError(f"token file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise errors.UsageError(f"token file {path} is not text") from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise errors.UsageError(f"token file {path} is open to others (mode {mode:04o}); run `chmod 600 {path}`")
    return [line for line in lines if line and not line.startswith("#")]
