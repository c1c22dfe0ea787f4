"""Runs pytest as Bazel expects a test to run: a py_test starts one main file, ours are files that pytest collects."""

import os
import sys

import pytest


def main() -> int:
    """Passes the files named on the command line to pytest, and Bazel's wishes with them. Returns the exit status."""
    words = ["-p", "no:cacheprovider", f"--basetemp={os.environ['TEST_TMPDIR']}/pytest", *sys.argv[1:]]
    if report := os.environ.get("XML_OUTPUT_FILE"):
        words.append(f"--junitxml={report}")
    if chosen := os.environ.get("TESTBRIDGE_TEST_ONLY"):  # bazel test --test_filter
        words += ["-k", chosen]
    return pytest.main(words)


if __name__ == "__main__":
    sys.exit(main())
