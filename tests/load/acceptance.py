"""All that is asked of the model server, one line a figure: throughput, changes under load, a soak, hostile requests.

    python -m tests.load.acceptance --json acceptance.json

takes twenty minutes, and the machine for itself; `--share 0.05` tries every part for a moment.
"""

import argparse
import json
import sys
from collections.abc import Callable

from longtail.benchmarks import serve
from tests.load import hostile
from tests.load import soak

_TOLD = ("raw limit", "until it is ready", "memory")  # told as well, though nothing is asked of them


def parts(share: float) -> dict[str, Callable[[], dict]]:
    """What is run, in this order; a `share` below 1 makes each part shorter."""
    rounds, count = max(1, round(4 * share)), max(100, round(10_000 * share))
    changes, soaked = max(32.0, 200.0 * share), max(32.0, 600.0 * share)
    return {
        "throughput": lambda: serve.run(rounds, max(0.5, 2.0 * share), kinds=["mobilenet"]),
        "changes": lambda: soak.run(changes, max(8.0, 10.0 * share)),
        "soak": lambda: soak.run(soaked, min(20.0, soaked / 4.0)),
        "hostile": lambda: hostile.run(count),
    }


def line(part: str, row: dict) -> str:
    """One line of a figure."""
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
    wanted = "" if row["target"] is None else f"{row['target']:g}"
    verdict = {True: "met", False: "NOT MET", None: ""}[row["ok"]]
    value = "-" if row["value"] is None else f"{row['value']:.4g}"
    what = f"{part:10}  {row['name'][:84]:84}  {value:>12} {row['unit']:12}"
    return f"{what}  {ratio:>7}  {wanted:>6}  {verdict}".rstrip()


def main() -> int:
    """Runs every part, prints its figures, and returns 1 where one that is asked for was not met."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--share", type=float, default=1.0)
    words.add_argument("--json", default="", help="file for the whole reports")
    options = words.parse_args()
    reports = {}
    print(f"{'part':10}  {'what':84}  {'value':>12} {'':12}  {'ratio':>7}  {'wanted':>6}")
    for part, run in parts(options.share).items():
        reports[part] = run()
        for row in reports[part]["results"]:
            if row["target"] is not None or any(word in row["name"] for word in _TOLD):
                print(line(part, row), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(reports, file)
    return int(any(row["ok"] is False for report in reports.values() for row in report["results"]))


if __name__ == "__main__":
    sys.exit(main())
